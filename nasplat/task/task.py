"""`Task`: data in three splits, a loss and a metric; a search sees the splits train and decide, never test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from html import escape
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.errors import TaskError
from nasplat.task import judging
from nasplat.task.arrays import array_of, inputs_of, joined
from nasplat.task.bundle import Bundle, check_edges, graph_sizes, sample_shape
from nasplat.task.judging import Loss, accuracy, token_loss
from nasplat.task.settings import unknown
from nasplat.task.targets import IGNORED, class_numbers, free_numbers

ELEMENTS = 2**22
"""Largest number of elements in a batch that is evaluated, so that large images fit into memory."""
ANSWERS = 2**28
"""Largest number of elements that the answers to a whole split may have, for a metric that is no mean of examples."""


@dataclass(frozen=True)
class Split:
    """Inputs and targets of one part of a task's data.

    Example:
        >>> import torch
        >>> len(Split(torch.zeros(5, 3, 8, 8), torch.zeros(5, dtype=torch.int64)))
        5
    """

    x: Any
    """Inputs of shape (n, …), floating-point; int64 where they are tokens. A `Bundle` where networks take several."""
    y: Tensor
    """Targets of shape (n, …); class numbers are int64, and -100 at places that do not count."""

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
    """What was left out of the data, and how they were read where that was not plain, a sentence each."""
    show: Callable[[Tensor, Tensor, Tensor], list[Picture]] | None = None
    """Makes a report's pictures from one input, its target and what a network answers."""
    class_names: tuple[str, ...] = ()
    """Name of each class, or the number that it had, in the order of class numbers; empty where these say it all."""

    def __post_init__(self) -> None:
        """Refuse splits whose lengths or shapes do not fit together."""
        for name in ("train", "decide", "test"):
            split = getattr(self, name)
            _check_lengths(name, self.name, len(split.x), len(split.y))
            if sample_shape(split.x) != self.input_shape:
                raise TaskError(
                    f"split {name!r} of task {self.name!r} expected inputs of shape {self.input_shape}, "
                    f"got {sample_shape(split.x)}.\n  Resize them."
                )
            if isinstance(split.x, Bundle):
                check_edges(split.x, f"split {name!r} of task {self.name!r}")

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
        target, is_class = tuple(self.train.y.shape[1:]), not self.train.y.is_floating_point()
        rows = {
            "examples": f"{len(self.train):,} train, {len(self.decide):,} decide, {len(self.test):,} test",
            "input": " × ".join(map(str, self.input_shape)),
            "target": " × ".join(map(str, target)) or (f"one of {self.classes} classes" if is_class else "a number"),
            "metric": f"{self.metric_name}, {'larger' if self.larger_is_better else 'smaller'} is better",
        }
        if self.notes:
            rows["notes"] = "; ".join(self.notes)
        cells = "".join(f"<tr><th>{k}</th><td>{escape(v)}</td></tr>" for k, v in rows.items())
        return f"<table><caption>{escape(self.name)}</caption>{cells}</table>"

    @property
    def input_shape(self) -> tuple[Any, ...]:
        """Shape of one example, without the batch axis, such as (1, 16, 16); of a `Bundle`, that of each part."""
        return sample_shape(self.train.x)

    @property
    def chance(self) -> float | None:
        """Accuracy, in percent, of always naming the commonest class of the decide split; None for other metrics."""
        if self.metric is not accuracy:
            return None
        y = self.decide.y.argmax(1) if self.decide.y.is_floating_point() else self.decide.y
        counted = y[y != IGNORED]
        return float(counted.bincount().max()) / counted.numel() * 100.0

    @cached_property
    def classes(self) -> int:
        """Number of classes, where targets are class numbers: one more than the largest of any split."""
        if self.class_names:
            return len(self.class_names)
        if self.train.y.is_floating_point():  # of quantities, such as disparities, the whole numbers up to the largest
            return int(self.train.y.max()) + 1
        return max(int(split.y.max()) for split in (self.train, self.decide, self.test)) + 1

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
        features; tokens, which are whole numbers, length and vocabulary; graphs, which are bundles of node features
        (n, N, F) and edges (n, 2, E), nodes, features and edges. All but maps of numbers state classes.

        Example:
            >>> import numpy as np
            >>> x, y = np.zeros((6, 3, 8, 8)), np.arange(6) % 2
            >>> Task.from_arrays((x, y), (x, y)).shapes
            {'channels': 3, 'height': 8, 'width': 8, 'image': 8, 'classes': 2}
        """
        shape = self.input_shape
        names = {1: ("features",), 2: ("channels", "length"), 3: ("channels", "height", "width")}.get(len(shape), ())
        found: dict[str, int] = dict(zip(names, shape, strict=True)) if names else {}
        if isinstance(self.train.x, Bundle):
            found = graph_sizes(self.train.x)
        elif len(shape) == 1 and not self.train.x.is_floating_point():
            largest = max(int(split.x.max()) for split in (self.train, self.decide, self.test)) + 1
            is_next = self.loss is token_loss  # the last token of all may be a target only
            found = {"length": shape[0], "vocabulary": max(largest, self.classes) if is_next else largest}
        if len(shape) == 3 and "height" in found and shape[1] == shape[2]:
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
        try:
            return self._mean(module, data, max(1, min(batch_size, ELEMENTS // max(1, data.x[0].numel()))))
        finally:
            module.train(was_training)

    def _mean(self, module: nn.Module, data: Split, batch_size: int) -> float:
        """Metric over a split: the mean of its examples; of a metric that gives one number, that of all at once."""
        total = torch.zeros((), dtype=torch.float64, device=data.x.device)
        answers, elements = list[Tensor](), 0
        for start in range(0, len(data), batch_size):
            y = data.y[start : start + batch_size]
            output = self.answer(module, data.x[start : start + batch_size])
            values = None if answers else self.values(output, y)
            if values is not None and len(y) == len(data) and not values.dim():
                return float(values)
            if values is not None and values.dim():
                total += values.sum(dtype=torch.float64)
                continue
            if not isinstance(output, Tensor) or (elements := elements + output.numel()) > ANSWERS:
                raise TaskError(
                    f"metric {self.metric_name!r} of task {self.name!r} expected one value of each example, got one of "
                    f"a batch, and the answers to {len(data)} examples are too many to be judged at once.\n"
                    "  Return a tensor of shape (n,), such as (output.argmax(1) == target) * 100.0."
                )
            answers.append(output)
        return float(self.values(torch.cat(answers), data.y)) if answers else float(total) / len(data)

    def answer(self, module: nn.Module, x: Tensor) -> Any:
        """Run a network on inputs of this task.

        Args:
            module: Network, in the mode that is wanted.
            x: Inputs of shape (n, …).

        Returns:
            What the network answers.

        Raises:
            TaskError: the network cannot take these inputs; the message says what they are.
        """
        return judging.answer(module, x, self.name)

    def objective(self, output: Any, y: Tensor) -> Tensor:
        """Compute the loss, which training makes small.

        Args:
            output: What a network answers to a batch.
            y: Targets of the batch.

        Returns:
            The loss, a scalar.

        Raises:
            TaskError: the network answers too few classes, or the loss cannot compare its answers with the targets, or
                is no scalar.

        Example:
            >>> x, y = torch.zeros(4, 2), torch.tensor([0, 1, 2, 1])
            >>> round(float(Task.from_arrays((x, y), (x, y)).objective(torch.zeros(4, 3), y)), 4)
            1.0986
        """
        self._check_scores(output)
        return judging.objective(self.loss, output, y, self.name)

    def values(self, output: Any, y: Tensor) -> Tensor:
        """Compute the metric.

        Args:
            output: What a network answers to a batch.
            y: Targets of the batch.

        Returns:
            Value of each example, shape (n,); of a metric that gives one number for the batch, this number.

        Raises:
            TaskError: the metric cannot compare the answers with the targets, or gives neither.

        Example:
            >>> x, y = torch.eye(2), torch.tensor([0, 0])
            >>> Task.from_arrays((x, y), (x, y)).values(torch.eye(2), y).tolist()
            [100.0, 0.0]
        """
        self._check_scores(output)
        return judging.values(self.metric, output, y, f"{self.metric_name!r} of task {self.name!r}")

    def _check_scores(self, output: Any) -> None:
        """Refuse scores of fewer classes than the task has: on a GPU torch would end the process.

        Raises:
            TaskError: the network answers too few.
        """
        axis = 1 if self.loss is F.cross_entropy else -1
        if self.loss not in (F.cross_entropy, token_loss) or not isinstance(output, Tensor) or output.dim() < 2:
            return
        if output.shape[axis] < self.classes:
            raise TaskError(
                f"task {self.name!r} expected scores of {self.classes} classes, got {output.shape[axis]} of a network."
                "\n"
                f"  Give the space its number of classes, such as classes={self.classes}, or check the labels."
            )

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
        classes: int | None = None,
        **options: Any,
    ) -> Task:
        """Make a task of your own arrays.

        Targets are classes unless both a loss and a metric are passed: names, whole numbers, columns (n, 1), or rows
        with a one for the class. Numbers 1 … K, and -1 and 1, become numbers from 0, and 255 behind these means no
        class. What was decided stands in `notes` and `class_names`. A `Task` of `Split` objects takes tensors as they
        are.

        Args:
            train: Inputs of shape (n, …) and their targets, as arrays, tensors or lists. Inputs of bytes are divided by
                255; whole numbers of shape (n, length) are tokens and stay whole. Several inputs are one `Bundle`, of
                which whole numbers stay whole.
            decide: Inputs and targets that decisions rest on.
            test: Inputs and targets for the final report; None lets those of decide stand in.
            name: Name of the task in reports.
            classes: Number of classes, where labels do not show all: class numbers are kept then. None reads it off.
            options: Further fields of `Task`, such as loss, metric, metric_name, larger_is_better and augment.

        Returns:
            The task, by default with cross-entropy as loss and accuracy in percent as metric.

        Raises:
            TaskError: lengths or shapes do not fit together, values are missing, labels can mean two things, or an
                option is no field.

        Example:
            >>> import numpy as np
            >>> x, y = np.zeros((6, 3, 8, 8)), np.array(["cat", "dog"] * 3)
            >>> task = Task.from_arrays((x[:4], y[:4]), (x[4:], y[4:]))
            >>> task.input_shape, task.class_names
            ((3, 8, 8), ('cat', 'dog'))
        """
        known = [f.name for f in fields(Task) if f.name not in {"name", "train", "decide", "test"}]
        for key in options:
            if key not in known:
                raise TaskError(unknown(key, known, "", repr(key)))
        given = {"train": train, "decide": decide} | ({} if test is None else {"test": test})
        pairs = {part: _pair(value, part, name) for part, value in given.items()}
        x, notes = inputs_of({part: pair[0] for part, pair in pairs.items()}, name)
        answers = {p: array_of(pair[1], f"targets of split {p!r} of task {name!r}") for p, pair in pairs.items()}
        for part, targets in answers.items():
            _check_lengths(part, name, len(x[part]), len(targets))
        if _are_classes(options):
            labels = class_numbers(answers, {part: tuple(v.shape[1:]) for part, v in x.items()}, name, classes)
            y = {part: torch.from_numpy(values) for part, values in labels.values.items()}
            for part, empty in labels.unlabelled().items():
                kept = torch.from_numpy(~empty)
                x[part], y[part] = x[part][kept.to(x[part].device)], y[part][kept]
            y = {p: v.to(torch.get_default_dtype()) if v.is_floating_point() else v for p, v in y.items()}
            options = {"class_names": labels.names} | options
            notes += labels.notes
        else:
            y, more = free_numbers(answers, name)
            notes += more
        made = {part: Split(x[part], y[part].to(x[part].device)) for part in x}
        options["notes"] = (*options.get("notes", ()), *notes)
        return Task(name, made["train"], made["decide"], made.get("test", made["decide"]), **options)

    @staticmethod
    def from_loader(
        train: Iterable[Any], decide: Iterable[Any], test: Iterable[Any] | None = None, **options: Any
    ) -> Task:
        """Make a task from iterables of batches, such as torch DataLoaders; each is read once into memory.

        Args:
            train: Batches of inputs and targets to train on.
            decide: Batches of inputs and targets that decisions rest on.
            test: Batches for the final report; None lets those of decide stand in.
            options: Name, classes and further fields, as for `from_arrays`.

        Returns:
            The task with all its data in memory.

        Raises:
            TaskError: a loader yields nothing, or something else than pairs of inputs and targets; or the data are
                refused, as by `from_arrays`.

        Example:
            >>> import torch
            >>> batches = [(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))]
            >>> len(Task.from_loader(batches, batches).train)
            4
        """

        def read(loader: Iterable[Any], part: str) -> tuple[Any, Any]:
            batches = list(loader)
            if not batches or not all(isinstance(b, tuple | list) and len(b) == 2 for b in batches):
                raise TaskError("expected a loader of (x, y) batches, at least one.\n  Check what the loader yields.")
            return joined([b[0] for b in batches], f"inputs of loader {part!r}"), joined(
                [b[1] for b in batches], f"targets of loader {part!r}"
            )

        last = None if test is None else read(test, "test")
        return Task.from_arrays(read(train, "train"), read(decide, "decide"), last, **options)


def _pair(value: Any, part: str, task: str) -> tuple[Any, Any]:
    """Inputs and targets, also those of a `Split`."""
    if isinstance(value, Split):
        return value.x, value.y
    if isinstance(value, tuple | list) and len(value) == 2:
        return value[0], value[1]
    raise TaskError(
        f"split {part!r} of task {task!r} expected a pair of inputs and targets, got {type(value).__name__}"
        f"{f' of {len(value)}' if isinstance(value, tuple | list) else ''}.\n"
        "  Pass (x, y); a torch Dataset goes through a DataLoader to Task.from_loader."
    )


def _are_classes(options: dict[str, Any]) -> bool:
    """Whether targets are classes: not where both the loss and the metric are the caller's own."""
    loss = options.get("loss", F.cross_entropy)
    named = loss is F.cross_entropy or isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss)
    return named or options.get("metric", accuracy) is accuracy


def _check_lengths(part: str, task: str, inputs: int, targets: int) -> None:
    if inputs != targets or not inputs:
        raise TaskError(
            f"split {part!r} of task {task!r} expected as many targets as inputs, at least one; got "
            f"{inputs} inputs and {targets} targets.\n  Check the arrays."
        )
