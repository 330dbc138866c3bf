"""Short training of one network from its initial values: the label of an architecture that nothing is estimated in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import cos, pi
from typing import Protocol

import torch
from torch import Tensor, nn

from nasplat.errors import TaskError
from nasplat.task.settings import Check
from nasplat.task.task import Task


class _Buildable(Protocol):
    """Describes a network that has not been built yet, as an architecture does."""

    def build(self) -> nn.Module:
        """Make the network with initial values of torch's random state."""
        ...


@dataclass(frozen=True)
class Budget:
    """How long and how a network is trained.

    Example:
        >>> Budget(epochs=3)
        Budget(epochs=3, batch_size=64, lr=0.003, weight_decay=0.01, steps=0)
    """

    epochs: int = 6
    """Passes over the training split, or over as many fresh examples where the task makes them."""
    batch_size: int = 64
    """Examples in each step of the optimiser."""
    lr: float = 3e-3
    """Peak learning rate of AdamW; linear warm-up over the first tenth, then cosine to zero."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW."""
    steps: int = 0
    """Steps of the optimiser in the place of `epochs`, so that tasks with little and with much data get the same; 0
    counts epochs."""

    def __post_init__(self) -> None:
        """Refuse values of the wrong type or outside their range, by name."""
        check = Check(self, TaskError, "budget").types()
        check.within("epochs", "batch_size", least=1, advice="A budget of nothing trains nothing.")
        check.within("lr", above=0, advice="A budget of nothing trains nothing.").within("weight_decay", least=0)
        check.within("steps", least=0)

    def marks(self, per_epoch: int) -> tuple[int, ...]:
        """Say after which steps a network is evaluated for its learning curve.

        Args:
            per_epoch: Batches of an epoch of the task.

        Returns:
            Number of steps at the end of each epoch; where the budget counts steps, at the shares `CURVE` of them.

        Example:
            >>> Budget(epochs=2).marks(5), Budget(steps=200).marks(5)[:4]
            ((5, 10), (2, 3, 4, 6))
        """
        if not self.steps:
            return tuple(per_epoch * (i + 1) for i in range(self.epochs))
        return tuple(sorted({max(1, round(share * self.steps)) for share in CURVE}))


CURVE = (0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.25, 0.35, 0.5, 0.7, 1.0)
"""Shares of a budget of steps after which a learning curve has its points, about geometric from 1 %."""


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Follow a linear warm-up over the first tenth of the steps, then a cosine to zero.

    Args:
        step: Number of the step, from 0.
        steps: Number of steps of the whole training.
        peak: Largest learning rate, reached at the end of the warm-up.

    Returns:
        Learning rate of that step.
    """
    warm = max(1, steps // 10)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + cos(pi * (step - warm) / max(1, steps - warm)))


@dataclass(frozen=True)
class Training:
    """A training that has ended: the network and what it reached."""

    module: nn.Module
    """The trained network, in eval mode."""
    decide: float
    """Metric on the decide split, in the task's unit."""
    test: float
    """Metric on the test split, in the task's unit."""
    seconds: float
    """Seconds of the training by its clock, without evaluations where it counts steps, and without the last ones."""
    curve: tuple[Point, ...] = ()
    """What it reached on the way, where that was asked for."""


@dataclass(frozen=True)
class Point:
    """A point of a learning curve."""

    step: int
    """Steps that were done."""
    seconds: float
    """Seconds of these steps, without evaluations."""
    decide: float
    """Metric on the decide split, in the task's unit."""


AfterEpoch = Callable[[int, float], None]
"""Called with the number of epochs done, or of points of the curve where the budget counts steps, and the metric on the
decide split; an exception it raises ends the training."""


def train(
    module: nn.Module,
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    after: AfterEpoch | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Training:
    """Train a module in place with AdamW.

    Args:
        module: Network that takes the task's inputs, on the device of the data; training starts from its values.
        task: Data, loss and metric of the training.
        budget: How long and how it is trained; the default takes seconds on `digits-clutter`.
        seed: Seed of the order of the data, and of what layers such as dropout draw.
        after: Called after each epoch, which is then evaluated on the decide split; this makes a learning curve.
        clock: What the seconds are read from; `time.process_time` counts those of this process alone, whatever else the
            machine does.

    Returns:
        The module in eval mode with its metrics.

    Raises:
        TaskError: the loss became infinite or NaN, or the network does not fit the task's inputs or targets.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x, y = torch.eye(2).repeat(32, 1), torch.arange(64) % 2
        >>> train(nn.Linear(2, 2), Task.from_arrays((x, y), (x, y)), Budget(epochs=5, lr=0.1)).test
        100.0
    """
    budget = budget or Budget()
    started = clock()
    per_epoch = task.batches_per_epoch(budget.batch_size)
    marks = budget.marks(per_epoch)
    optimiser = torch.optim.AdamW(module.parameters(), lr=budget.lr, weight_decay=budget.weight_decay)
    module.train()
    curve, evaluating = list[Point](), 0.0
    with _drawing(seed, task.train.x.device):
        for step, (x, y) in enumerate(_batches(task, budget, seed, marks[-1])):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, marks[-1], budget.lr)
            optimiser.zero_grad(set_to_none=True)
            loss = task.objective(task.answer(module, x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            if step + 1 not in marks:
                continue
            if not torch.isfinite(loss):
                raise TaskError(
                    f"the loss became {loss.item()} in epoch {step // per_epoch + 1}.\n"
                    f"  Lower the learning rate ({budget.lr})."
                )
            if after is not None:
                paused = clock()
                curve.append(Point(step + 1, paused - started - evaluating, task.evaluate(module, "decide")))
                after(len(curve), curve[-1].decide)
                evaluating += clock() - paused
    module.eval()
    seconds = clock() - started - (evaluating if budget.steps else 0.0)
    decide = curve[-1].decide if curve else task.evaluate(module, "decide")
    return Training(module, decide, task.evaluate(module, "test"), seconds, tuple(curve))


@contextmanager
def _drawing(seed: int, device: torch.device) -> Iterator[None]:
    """Let a seed decide what layers such as dropout draw; torch's generators go on where they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _batches(task: Task, budget: Budget, seed: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of one epoch after the other, until there are so many."""
    epoch = 0
    while steps > 0:
        for batch in task.epoch(seed * 100_003 + epoch + 1, budget.batch_size):
            yield batch
            steps -= 1
            if not steps:
                return
        epoch += 1


def train_architecture(
    architecture: _Buildable, task: Task, budget: Budget | None = None, seed: int = 0, after: AfterEpoch | None = None
) -> Training:
    """Build an architecture with initial values of the seed and train it.

    Args:
        architecture: Architecture of a space, or anything else with a method `build` that gives a module.
        task: Data, loss and metric of the training.
        budget: How long and how it is trained; None for the default budget.
        seed: Seed of the initial values and of the order of the data.
        after: Called after each epoch, which is then evaluated on the decide split; this makes a learning curve.

    Returns:
        The module in eval mode with its metrics.

    Raises:
        TaskError: the loss became infinite or NaN.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = architecture.build()
    return train(module.to(task.train.x.device), task, budget, seed, after)
