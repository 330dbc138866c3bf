"""`Task`: data in three splits, a loss and a metric; a search sees the splits train and decide, never test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplat.errors import TaskError

Loss = Callable[[Any, Tensor], Tensor]
"""Maps a network's output and the targets of a batch to a scalar that training makes small."""
ELEMENTS = 2**22
"""Largest number of elements in a batch that is evaluated, so that large images fit into memory."""


@dataclass(frozen=True)
class Split:
    """Inputs and targets of one part of a task's data.

    Example:
        >>> import torch
        >>> len(Split(torch.zeros(5, 3, 8, 8), torch.zeros(5, dtype=torch.int64)))
        5
    """

    x: Tensor
    """Inputs of shape (n, …), floating-point."""
    y: Tensor
    """Targets of shape (n, …); class numbers are int64."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.x)

    def to(self, device: torch.device | str) -> Split:
        """Copy the split to a device.

        Args:
            device: Torch device that the tensors go to, such as 'cuda:0'.

        Returns:
            A split with its tensors there; this one where they are there already.
        """
        return Split(self.x.to(device), self.y.to(device))


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Measure how often the largest of a network's class scores names the right class.

    Args:
        output: Class scores of shape (n, classes, …); further axes are places, such as pixels.
        target: Class numbers of shape (n, …).

    Returns:
        Accuracy of each example in percent, shape (n,): 0 or 100, or the share of its places.
    """
    return (
        (output.argmax(1) == target).float().flatten(1).mean(1) * 100.0
        if target.dim() > 1
        else (output.argmax(1) == target) * 100.0
    )


def distance(output: Tensor, target: Tensor) -> Tensor:
    """Measure how far each output lies from its target.

    Args:
        output: Predicted values of shape (n, …).
        target: True values of the same shape.

    Returns:
        Euclidean distance of each example in the targets' unit, shape (n,).
    """
    return (output - target).flatten(1).norm(dim=1)


@dataclass(frozen=True)
class Picture:
    """A picture of an example or of what a network answers, for a report."""

    caption: str
    """Sentence that stands below the picture."""
    pixels: Any
    """Array of colours of shape (H, W, 3), uint8."""


@dataclass(frozen=True)
class Task:
    """What a network is trained and judged on: data in three splits, a loss and a metric.

    A task is immutable, and random only through the seeds that are passed in. `Task.from_arrays` and
    `Task.from_loader` make one of your own data, `nasplat.load_task` one by name or from a folder.

    Example:
        >>> import numpy as np
        >>> x, y = np.random.default_rng(0).random((30, 1, 4, 4)), np.arange(30) % 3
        >>> Task.from_arrays((x[:20], y[:20]), (x[20:], y[20:]), name="noise")
        Task(noise: 20 train, 10 decide, 10 test of shape (1, 4, 4), accuracy_percent)
    """

    name: str
    """Name of the task, as it stands in reports."""
    train: Split
    """Examples that networks are trained on."""
    decide: Split
    """Examples that searches and early stopping look at."""
    test: Split
    """Examples that only the final report looks at."""
    loss: Loss = F.cross_entropy
    """Maps a network's output and the targets of a batch to a scalar."""
    metric: Callable[[Any, Tensor], Tensor] = accuracy
    """Maps a network's output and the targets of a batch to the value of each example, shape (n,)."""
    metric_name: str = "accuracy_percent"
    """Name of the metric with its unit, as columns of tables are called."""
    larger_is_better: bool = True
    """Whether larger values of the metric are better."""
    renew: Callable[[int], Split] | None = None
    """Makes fresh training data from an epoch's seed; None where every epoch shows the same."""
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    """Changes a training batch at random; the generator is on the batch's device."""
    notes: tuple[str, ...] = ()
    """What was left out of the data and why, a sentence each."""
    show: Callable[[Tensor, Tensor, Tensor], list[Picture]] | None = None
    """Makes a report's pictures from one input, its target and what a network answers."""

    def __post_init__(self) -> None:
        """Refuse splits whose lengths or shapes do not fit together."""
        for name in ("train", "decide", "test"):
            split = getattr(self, name)
            if len(split.x) != len(split.y) or not len(split.x):
                raise TaskError(
                    f"split {name!r} of task {self.name!r} expected as many targets as inputs, at least one; got "
                    f"{len(split.x)} inputs and {len(split.y)} targets.\n  Check the arrays."
                )
            if split.x.shape[1:] != self.train.x.shape[1:]:
                raise TaskError(
                    f"split {name!r} of task {self.name!r} expected inputs of shape {tuple(self.train.x.shape[1:])}, "
                    f"got {tuple(split.x.shape[1:])}.\n  Resize them."
                )

    @property
    def sign(self) -> float:
        """Factor, 1.0 or -1.0, that turns a value of the metric into one that is better when larger."""
        return 1.0 if self.larger_is_better else -1.0

    def __repr__(self) -> str:
        """Describe the task in one line; stored studies are told apart by it, so its form is fixed."""
        return (
            f"Task({self.name}: {len(self.train)} train, {len(self.decide)} decide, {len(self.test)} test of shape "
            f"{self.input_shape}, {self.metric_name})"
        )

    def _repr_html_(self) -> str:
        """Describe the task in a small table, for notebooks."""
        target = tuple(self.train.y.shape[1:])
        rows = {
            "examples": f"{len(self.train):,} train, {len(self.decide):,} decide, {len(self.test):,} test",
            "input": " × ".join(map(str, self.input_shape)),
            "target": " × ".join(map(str, target)) or f"one of {self.classes} classes",
            "metric": f"{self.metric_name}, {'larger' if self.larger_is_better else 'smaller'} is better",
        }
        if target == () and self.train.y.is_floating_point():
            rows["target"] = "a number"
        cells = "".join(f"<tr><th>{k}</th><td>{escape(v)}</td></tr>" for k, v in rows.items())
        return f"<table><caption>{escape(self.name)}</caption>{cells}</table>"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, without the batch axis, such as (1, 16, 16)."""
        return tuple(self.train.x.shape[1:])

    @property
    def chance(self) -> float | None:
        """Accuracy, in percent, of always naming the commonest class of the decide split; None for other metrics."""
        if self.metric is not accuracy:
            return None
        return float(self.decide.y.flatten().bincount().max()) / self.decide.y.numel() * 100.0

    @property
    def classes(self) -> int:
        """Number of classes, where targets are class numbers."""
        return int(self.train.y.max()) + 1

    @property
    def outputs(self) -> int | None:
        """Number of values that a network answers: classes, or numbers of a target; None where targets are maps."""
        if not self.train.y.is_floating_point():
            return self.classes
        return {1: 1, 2: self.train.y.shape[-1]}.get(self.train.y.dim())

    @property
    def channels(self) -> int | None:
        """Channels of images or of sequences; None for inputs of other kinds."""
        return self.shapes.get("channels")

    @property
    def image(self) -> int | None:
        """Side of the square input images in pixels; None where inputs are no images, or none that are square."""
        return self.shapes.get("image")

    @property
    def shapes(self) -> dict[str, int]:
        """What a space can take from the task, as plain numbers by their words.

        Images state channels, height, width, and image where they are square; sequences channels and length; vectors
        features; tokens, which are whole numbers, length and vocabulary. All but maps of numbers state classes.

        Example:
            >>> import numpy as np
            >>> x, y = np.zeros((6, 3, 8, 8)), np.arange(6) % 2
            >>> Task.from_arrays((x, y), (x, y)).shapes
            {'channels': 3, 'height': 8, 'width': 8, 'image': 8, 'classes': 2}
        """
        shape = self.input_shape
        names = {1: ("features",), 2: ("channels", "length"), 3: ("channels", "height", "width")}.get(len(shape), ())
        found = dict(zip(names, shape, strict=True)) if names else {}
        if len(shape) == 1 and not self.train.x.is_floating_point():
            largest = max(int(split.x.max()) for split in (self.train, self.decide, self.test))
            found = {"length": shape[0], "vocabulary": largest + 1}
        if len(shape) == 3 and shape[1] == shape[2]:
            found["image"] = shape[1]
        if self.outputs is not None:
            found["classes"] = self.outputs
        return found

    def split(self, name: str) -> Split:
        """Find a split by its name.

        Args:
            name: Name of the split: 'train', 'decide' or 'test'.

        Returns:
            The split, with its tensors where they are.

        Raises:
            TaskError: the name is none of the three.
        """
        if name not in {"train", "decide", "test"}:
            raise TaskError(f"expected split 'train', 'decide' or 'test', got {name!r}.\n  Use one of these.")
        return getattr(self, name)

    def epoch(self, seed: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the shuffled training batches of one epoch; equal seeds give equal batches.

        Args:
            seed: Seed of the order, of fresh data where the task makes it, and of the augmentation.
            batch_size: Examples per batch; a last incomplete batch is dropped unless it is the only one.

        Yields:
            Inputs of shape (batch_size, …) and their targets.

        Example:
            >>> import torch
            >>> x, y = torch.zeros(7, 3, 8, 8), torch.arange(7) % 2
            >>> [len(batch) for batch, _ in Task.from_arrays((x, y), (x, y)).epoch(seed=0, batch_size=3)]
            [3, 3]
        """
        device = self.train.x.device
        data = self.renew(seed).to(device) if self.renew else self.train
        generator = torch.Generator(device).manual_seed(seed % 2**63)  # on the device: no batch waits for the host
        order = torch.randperm(len(data), generator=generator, device=device)
        stop = max(len(data) // batch_size * batch_size, min(batch_size, len(data)))
        for start in range(0, stop, batch_size):
            rows = order[start : start + batch_size]
            x = data.x[rows]
            yield (self.augment(x, generator) if self.augment else x), data.y[rows]

    def batches_per_epoch(self, batch_size: int) -> int:
        """Count the batches that `epoch` yields.

        Args:
            batch_size: Examples per batch, as for `epoch`.

        Returns:
            Number of batches, at least 1.
        """
        return max(1, len(self.train) // batch_size)

    @torch.inference_mode()
    def evaluate(
        self, module: torch.nn.Module, split: str = "decide", batch_size: int = 512, limit: int | None = None
    ) -> float:
        """Average the metric of a module, in eval mode, over a split.

        Args:
            module: Network that takes the task's inputs, on the device of the data; its mode is put back afterwards.
            split: Name of the split; decisions rest on 'decide'.
            batch_size: Examples at once at most; fewer where they are large.
            limit: Number of examples to look at, spread over the split; None for all.

        Returns:
            Mean metric in its own unit.

        Raises:
            TaskError: there is no split of that name.

        Example:
            >>> import torch
            >>> x, y = torch.zeros(4, 2), torch.tensor([0, 0, 0, 1])
            >>> Task.from_arrays((x, y), (x, y)).evaluate(torch.nn.Identity())
            75.0
        """
        data = self.split(split)
        if limit is not None and limit < len(data):
            rows = torch.arange(limit, device=data.x.device) * len(data) // limit
            data = Split(data.x[rows], data.y[rows])
        was_training = module.training
        module.eval()
        batch_size = max(1, min(batch_size, ELEMENTS // data.x[0].numel()))
        total = torch.zeros((), dtype=torch.float64, device=data.x.device)
        for start in range(0, len(data), batch_size):
            output = module(data.x[start : start + batch_size])
            total += self.metric(output, data.y[start : start + batch_size]).sum(dtype=torch.float64)
        module.train(was_training)
        return float(total) / len(data)

    def to(self, device: torch.device | str) -> Task:
        """Copy the task's data to a device.

        Args:
            device: Torch device that the data go to, such as 'cuda:0'; training runs where the data lie.

        Returns:
            The same task with its three splits there.
        """
        return replace(self, train=self.train.to(device), decide=self.decide.to(device), test=self.test.to(device))

    @staticmethod
    def from_arrays(
        train: tuple[Any, Any],
        decide: tuple[Any, Any],
        test: tuple[Any, Any] | None = None,
        *,
        name: str = "arrays",
        **options: Any,
    ) -> Task:
        """Make a task of your own arrays.

        Args:
            train: Inputs of shape (n, …) and their targets, as arrays or tensors. Inputs of bytes are divided by 255;
                whole numbers as targets are class numbers.
            decide: Inputs and targets that decisions rest on.
            test: Inputs and targets for the final report; None lets those of decide stand in.
            name: Name of the task in reports.
            options: Further fields of `Task`, such as loss, metric, metric_name, larger_is_better and augment.

        Returns:
            The task, by default with cross-entropy as loss and accuracy in percent as metric.

        Raises:
            TaskError: lengths or shapes do not fit together.

        Example:
            >>> import numpy as np
            >>> x, y = np.zeros((6, 3, 8, 8)), np.arange(6) % 2
            >>> Task.from_arrays((x[:4], y[:4]), (x[4:], y[4:])).input_shape
            (3, 8, 8)
        """
        made = [Split(*_tensors(pair)) for pair in (train, decide, test or decide)]
        return Task(name, made[0], made[1], made[2], **options)

    @staticmethod
    def from_loader(
        train: Iterable[Any], decide: Iterable[Any], test: Iterable[Any] | None = None, **options: Any
    ) -> Task:
        """Make a task from iterables of batches, such as torch DataLoaders; each is read once into memory.

        Args:
            train: Batches of inputs and targets to train on.
            decide: Batches of inputs and targets that decisions rest on.
            test: Batches for the final report; None lets those of decide stand in.
            options: Name and further fields, as for `from_arrays`.

        Returns:
            The task with all its data in memory.

        Raises:
            TaskError: a loader yields nothing, or something else than pairs of inputs and targets.

        Example:
            >>> import torch
            >>> batches = [(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))]
            >>> len(Task.from_loader(batches, batches).train)
            4
        """

        def read(loader: Iterable[Any]) -> tuple[Tensor, Tensor]:
            batches = list(loader)
            if not batches or not all(isinstance(b, tuple | list) and len(b) == 2 for b in batches):
                raise TaskError("expected a loader of (x, y) batches, at least one.\n  Check what the loader yields.")
            return torch.cat([torch.as_tensor(b[0]) for b in batches]), torch.cat(
                [torch.as_tensor(b[1]) for b in batches]
            )

        return Task.from_arrays(read(train), read(decide), read(test) if test is not None else None, **options)


def _tensors(pair: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
    x, y = (torch.as_tensor(v) for v in pair)
    if x.dtype == torch.uint8:
        x = x.float() / 255.0
    return x.float() if not x.is_floating_point() else x, y.long() if not y.is_floating_point() else y
