"""What can be said of a task in seconds, from its data alone: size, balance, noise, and what simple methods reach.

A predictor of networks that is to work on many tasks needs to know the task. Four methods without a network place it:
the best constant answer, the nearest training example, a linear map, and a linear map of random Fourier features.
Sources: Cover & Hart 1967 (nearest neighbour); Rahimi & Recht, NeurIPS 2007 (random features).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplat.errors import TaskError
from nasplat.task.bundle import Bundle
from nasplat.task.task import Split, Task

TRAIN, JUDGED = 2000, 500
"""Training examples that are learnt from, and examples of the decide split that are judged, at most."""
FEATURES = 1000
"""Random features of the kernel machine."""
RIDGES = (1e-3, 1e-1, 1e1, 1e3)
"""Penalties of the linear maps, of which a fifth of the training examples chooses one."""
LARGEST = 2**23
"""Numbers of a matrix of token counts, at most; more are counted without their places."""


@dataclass(frozen=True)
class Descriptor:
    """A task in numbers; what methods reach is in the unit of the task's metric, on the decide split."""

    examples: int
    """Examples of the training split."""
    classes: int
    """Number of classes; of other targets, of the values that a network answers."""
    shape: tuple[int, ...]
    """Shape of one input."""
    balance: float
    """Entropy of the classes over that of equal classes, from 0 to 1; nan where targets are no classes."""
    majority: float
    """What the best constant answer reaches: the commonest class, or the mean."""
    nearest: float
    """What the nearest training example reaches."""
    linear: float
    """What a linear map of the standardised inputs reaches."""
    kernel: float
    """What a linear map of random Fourier features reaches."""
    noise: float
    """Share of the training examples whose very input occurs with another target too."""

    def to_dict(self) -> dict[str, object]:
        """Return plain data.

        Returns:
            The fields by name.
        """
        return asdict(self)


def describe(task: Task, seed: int = 0) -> Descriptor:
    """Describe a task by its data alone.

    Args:
        task: Task with any inputs and targets; at most 2,000 of its training examples are learnt from.
        seed: Seed of the examples that are taken and of the random features.

    Returns:
        The description; it takes a second or two.

    Raises:
        TaskError: the task has several inputs, as tasks of graphs have.

    Example:
        >>> import nasplat
        >>> found = describe(nasplat.load_task("digits-clutter", train=512, decide=256, test=64))
        >>> found.classes, found.majority < found.kernel
        (10, True)
    """
    if isinstance(task.train.x, Bundle):
        raise TaskError(
            f"task {task.name!r} has several inputs, {task.train.x[:1]}, which no simple method reads.\n"
            "  Describe a task of one input, or train a network on this one."
        )
    generator = torch.Generator().manual_seed(seed)
    train, decide = _some(task.train, TRAIN, generator), _some(task.decide, JUDGED, generator)
    x, z = _numbers(train.x, decide.x)
    wanted = _wanted(train.y, task.classes)

    def judged(answers: Tensor) -> float:
        """What flat answers to the decide split reach."""
        shape = (task.classes, *decide.y.shape[1:]) if _is_classes(decide.y) else decide.y.shape[1:]
        return float(task.metric(answers.float().reshape(len(z), *shape), decide.y).double().mean())

    mean = wanted.mean(0, keepdim=True).expand(len(z), -1)
    nearest = torch.cat([torch.cdist(part, x).argmin(1) for part in z.split(256)])
    return Descriptor(
        examples=len(task.train),
        classes=task.classes,
        shape=task.input_shape,
        balance=_balance(task.train.y, task.classes),
        majority=judged(mean),
        nearest=judged(wanted[nearest]),
        linear=judged(_ridge(x, wanted, z)),
        kernel=judged(_ridge(*_fourier(x, wanted, z, generator))),
        noise=_noise(task.train),
    )


def _some(split: Split, most: int, generator: torch.Generator) -> Split:
    """At most so many examples, drawn at random, on the CPU."""
    rows = torch.randperm(len(split), generator=generator)[:most]
    return Split(split.x[rows.to(split.x.device)].cpu(), split.y[rows.to(split.y.device)].cpu())


def _is_classes(y: Tensor) -> bool:
    return not y.is_floating_point()


def _numbers(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs of both splits as standardised vectors; tokens are counted, at their places where that is small."""
    if not x.is_floating_point():
        tokens = int(max(x.max(), z.max())) + 1
        x, z = x.flatten(1), z.flatten(1)
        if len(x) * x.shape[1] * tokens <= LARGEST:
            x, z = (F.one_hot(t, tokens).flatten(1) for t in (x, z))
        else:
            x, z = (torch.zeros(len(t), tokens).scatter_add_(1, t, torch.ones(t.shape)) for t in (x, z))
    x, z = x.flatten(1).double(), z.flatten(1).double()
    centre, spread = x.mean(0), x.std(0, correction=0)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    return (x - centre) / spread, (z - centre) / spread


def _wanted(y: Tensor, classes: int) -> Tensor:
    """Targets as vectors: one number for each class and place, or the values; 0 and 1 become -1 and 1, as of masks."""
    if _is_classes(y):
        return F.one_hot(y, classes).movedim(-1, 1).flatten(1).double()
    flat = y.reshape(len(y), -1).double()
    return 2 * flat - 1 if bool(((flat == 0) | (flat == 1)).all()) else flat


def _ridge(x: Tensor, wanted: Tensor, z: Tensor) -> Tensor:
    """Answers to z of the best linear map from x to what is wanted; a fifth of the examples chooses the penalty."""
    held = max(1, len(x) // 5)

    def answers(a: Tensor, b: Tensor, c: Tensor, penalty: float) -> Tensor:
        mean = b.mean(0)
        gram = a @ a.T  # examples are fewer than numbers, or few
        scale = penalty * float(gram.diagonal().mean()) + 1e-12
        return c @ (a.T @ torch.linalg.solve(gram + scale * torch.eye(len(a), dtype=a.dtype), b - mean)) + mean

    if len(x) < 5:
        return answers(x, wanted, z, RIDGES[-1])
    errors = [float((answers(x[held:], wanted[held:], x[:held], p) - wanted[:held]).square().mean()) for p in RIDGES]
    return answers(x, wanted, z, RIDGES[errors.index(min(errors))])


def _fourier(x: Tensor, wanted: Tensor, z: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The same in random Fourier features; the width of their kernel is the median distance of two examples."""
    few = x[:200]
    width = float(torch.pdist(few).median()) if len(few) > 2 else 1.0
    weights = torch.randn(x.shape[1], FEATURES, generator=generator, dtype=x.dtype) / (width or 1.0)
    phases = 2 * torch.pi * torch.rand(FEATURES, generator=generator, dtype=x.dtype)
    return (x @ weights + phases).cos(), wanted, (z @ weights + phases).cos()


def _balance(y: Tensor, classes: int) -> float:
    if not _is_classes(y):
        return float("nan")
    shares = torch.bincount(y.flatten().cpu(), minlength=classes).double()
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * shares.log()).sum() / torch.tensor(float(max(2, classes))).log())


def _noise(split: Split) -> float:
    """Share of the examples whose input occurs with more than one target."""
    found: dict[bytes, set[bytes]] = {}
    rows = [(x.numpy().tobytes(), y.numpy().tobytes()) for x, y in zip(split.x.cpu(), split.y.cpu(), strict=True)]
    for x, y in rows:
        found.setdefault(x, set()).add(y)
    return sum(len(found[x]) > 1 for x, _ in rows) / len(rows)
