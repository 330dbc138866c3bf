"""`Task`: three splits (train, decide, test), a loss and a metric. Search sees train and decide, never test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplat.errors import TaskError

Loss = Callable[[Any, Tensor], Tensor]
ELEMENTS = 2**22
"""Numbers in a batch that is evaluated, at most."""


@dataclass(frozen=True)
class Split:
    """Inputs and targets of one split."""

    x: Tensor
    """Shape (n, …), float."""
    y: Tensor
    """Shape (n, …); class numbers are int64."""

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device | str) -> Split:
        """The same split on a device."""
        return Split(self.x.to(device), self.y.to(device))


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Correctness in percent of each example, shape (n,); output (n, classes, …), target (n, …): over places, where there are any."""
    return (
        (output.argmax(1) == target).float().flatten(1).mean(1) * 100.0
        if target.dim() > 1
        else (output.argmax(1) == target) * 100.0
    )


def distance(output: Tensor, target: Tensor) -> Tensor:
    """Euclidean distance of each example, shape (n,), in the targets' unit; output and target (n, …)."""
    return (output - target).flatten(1).norm(dim=1)


@dataclass(frozen=True)
class Picture:
    """Something to look at."""

    caption: str
    pixels: Any
    """Shape (H, W, 3), uint8 array."""


@dataclass(frozen=True)
class Task:
    """Data, loss and metric; immutable and free of randomness except through seeds."""

    name: str
    train: Split
    decide: Split
    """What searches and early stopping look at."""
    test: Split
    """What is reported, once."""
    loss: Loss = F.cross_entropy
    """(output, target) -> scalar."""
    metric: Callable[[Any, Tensor], Tensor] = accuracy
    """(output, target) -> value of each example, shape (n,)."""
    metric_name: str = "accuracy_percent"
    larger_is_better: bool = True
    renew: Callable[[int], Split] | None = None
    """Fresh training data for an epoch's seed, where the task can make it."""
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    """Random changes of a training batch; the generator is on the batch's device."""
    notes: tuple[str, ...] = ()
    """What was left out of the data, and why."""
    show: Callable[[Tensor, Tensor, Tensor], list[Picture]] | None = None
    """(one input, its target, what a network answers) -> pictures for the report."""

    def __post_init__(self) -> None:
        """Check the splits."""
        for name in ("train", "decide", "test"):
            split = getattr(self, name)
            if len(split.x) != len(split.y) or not len(split.x):
                raise TaskError(
                    f"split {name!r} of task {self.name!r} expected as many targets as inputs, at least one; got "
                    f"{len(split.x)} inputs and {len(split.y)} targets.\n  Check the arrays."
                )
            if split.x.shape[1:] != self.train.x.shape[1:]:
                raise TaskError(
                    f"split {name!r} of task {self.name!r} expected inputs of shape {tuple(self.train.x.shape[1:])}, got "
                    f"{tuple(split.x.shape[1:])}.\n  Resize them."
                )

    @property
    def sign(self) -> float:
        """Factor, 1.0 or -1.0, that turns a value of the metric into one that is better when larger."""
        return 1.0 if self.larger_is_better else -1.0

    def __repr__(self) -> str:
        return (
            f"Task({self.name}: {len(self.train)} train, {len(self.decide)} decide, {len(self.test)} test of shape "
            f"{self.input_shape}, {self.metric_name})"
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.train.x.shape[1:])

    @property
    def chance(self) -> float | None:
        """Accuracy in percent of always naming the commonest class of the decide split; None for other metrics."""
        if self.metric is not accuracy:
            return None
        return float(self.decide.y.flatten().bincount().max()) / self.decide.y.numel() * 100.0

    @property
    def classes(self) -> int:
        """Number of classes, for class targets."""
        return int(self.train.y.max()) + 1

    def split(self, name: str) -> Split:
        """A split by name.

        Raises:
            TaskError: not train, decide or test.
        """
        if name not in {"train", "decide", "test"}:
            raise TaskError(f"expected split 'train', 'decide' or 'test', got {name!r}.\n  Use one of these.")
        return getattr(self, name)

    def epoch(self, seed: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled training batches of one epoch; the same seed gives the same batches.

        Args:
            seed: Decides order, fresh data and augmentation.
            batch_size: Examples per batch; a last incomplete batch is dropped unless it is the only one.
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
        """Number of batches `epoch` yields."""
        return max(1, len(self.train) // batch_size)

    @torch.inference_mode()
    def evaluate(
        self, module: torch.nn.Module, split: str = "decide", batch_size: int = 512, limit: int | None = None
    ) -> float:
        """Mean metric of a module in eval mode over a split, or over `limit` examples spread over it, in the metric's unit."""
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
        """The same task with its data on a device."""
        from dataclasses import replace

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
        """A task of your own.

        Args:
            train: (x, y) arrays or tensors; x of shape (n, …), y class numbers of shape (n,) or any target.
            decide: The same, for decisions.
            test: The same, for the report; decide stands in when it is missing.
            name: Shown in reports.
            options: Fields of `Task`: loss, metric, metric_name, larger_is_better, augment.

        Raises:
            TaskError: lengths or shapes disagree.
        """
        made = [Split(*_tensors(pair)) for pair in (train, decide, test or decide)]
        return Task(name, made[0], made[1], made[2], **options)

    @staticmethod
    def from_loader(
        train: Iterable[Any], decide: Iterable[Any], test: Iterable[Any] | None = None, **options: Any
    ) -> Task:
        """A task from iterables of (x, y) batches, such as torch DataLoaders; each is read once into memory.

        Raises:
            TaskError: a loader yields nothing or something else.
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
