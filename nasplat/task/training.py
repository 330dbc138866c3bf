"""Short training of one network from its initial values: the label of an architecture that nothing is estimated in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
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
    started = clock()
    trainee = Trainee(module, task, budget, seed)
    curve, evaluating = list[Point](), 0.0
    for mark in trainee.marks:
        trainee.advance(mark)
        if after is not None:
            paused = clock()
            curve.append(Point(mark, paused - started - evaluating, task.evaluate(module, "decide")))
            after(len(curve), curve[-1].decide)
            evaluating += clock() - paused
    module.eval()
    seconds = clock() - started - (evaluating if trainee.budget.steps else 0.0)
    decide = curve[-1].decide if curve else task.evaluate(module, "decide")
    return Training(module, decide, task.evaluate(module, "test"), seconds, tuple(curve))


class Trainee:
    """A training that can be left at any step and taken up again: it ends as one that was never left.

    Example:
        >>> x, y = torch.eye(2).repeat(32, 1), torch.arange(64) % 2
        >>> task, module = Task.from_arrays((x, y), (x, y)), nn.Linear(2, 2)
        >>> trainee = Trainee(module, task, Budget(steps=40, lr=0.1))
        >>> trainee.advance(10)
        >>> trainee.step, trainee.steps
        (10, 40)
    """

    def __init__(self, module: nn.Module, task: Task, budget: Budget | None = None, seed: int = 0) -> None:
        """Begin a training; nothing is computed yet.

        Args:
            module: Network on the device of the data, which is trained in place from its values.
            task: Data, loss and metric of the training.
            budget: How long and how it is trained; None for the default budget.
            seed: Seed of the order of the data, and of what layers such as dropout draw.
        """
        self.module, self.task, self.budget, self.seed = module, task, budget or Budget(), seed
        self.step = 0
        """Steps that were done."""
        self.per_epoch = task.batches_per_epoch(self.budget.batch_size)
        self.marks = self.budget.marks(self.per_epoch)
        """Steps after which a learning curve has its points; the last one is the end."""
        self.optimiser = torch.optim.AdamW(
            module.parameters(), lr=self.budget.lr, weight_decay=self.budget.weight_decay
        )
        self._batches = _batches(task, self.budget, seed, self.steps)
        self._drawn: dict[str, Tensor] | None = None

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.marks[-1]

    def advance(self, to: int) -> None:
        """Train on, until so many steps are done; torch's generators go on where they were.

        Args:
            to: Number of steps, at most `steps`; nothing happens where they are done already.

        Raises:
            TaskError: the loss became infinite or NaN, or the network does not fit the task's inputs or targets.
        """
        loss: Tensor | None = None
        self.module.train()
        with self._drawing():
            while self.step < min(to, self.steps):
                x, y = next(self._batches)
                for group in self.optimiser.param_groups:
                    group["lr"] = learning_rate(self.step, self.steps, self.budget.lr)
                self.optimiser.zero_grad(set_to_none=True)
                loss = self.task.objective(self.task.answer(self.module, x), y)
                loss.backward()
                nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
                self.optimiser.step()
                self.step += 1
        if loss is not None and not torch.isfinite(loss):
            raise TaskError(
                f"the loss became {loss.item()} in epoch {(self.step - 1) // self.per_epoch + 1}.\n"
                f"  Lower the learning rate ({self.budget.lr})."
            )

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Let the seed decide what layers draw, on from where they were left."""
        device = self.task.train.x.device
        is_cuda = device.type == "cuda"
        with torch.random.fork_rng([device] if is_cuda else []):
            if self._drawn is None:
                torch.manual_seed(self.seed)
            else:
                torch.set_rng_state(self._drawn["cpu"])
                if is_cuda:
                    torch.cuda.set_rng_state(self._drawn["cuda"], device)
            yield
            self._drawn = {"cpu": torch.get_rng_state()}
            if is_cuda:
                self._drawn["cuda"] = torch.cuda.get_rng_state(device)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a file has to keep so that the training can be taken up by another process.

        Returns:
            Weights and buffers, moments of the optimiser, states of generators and the step, by name.
        """
        found = {f"module/{k}": v for k, v in self.module.state_dict().items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            found |= {f"optimiser/{number}/{k}": v for k, v in state.items()}
        found |= {f"drawn/{k}": v for k, v in (self._drawn or {}).items()}
        return {k: v.detach().cpu() for k, v in found.items()} | {"step": torch.tensor(self.step)}

    def take_up(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where another process left the training.

        Args:
            tensors: What `tensors` gave there, for a module of the same architecture, the same budget and seed.

        Raises:
            TaskError: the tensors are of another network.
        """
        try:
            weights = {k.removeprefix("module/"): v for k, v in tensors.items() if k.startswith("module/")}
            self.module.load_state_dict(weights)
            states: dict[int, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                if name.startswith("optimiser/"):
                    _, number, key = name.split("/", 2)
                    states.setdefault(int(number), {})[key] = value
            self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": states})
            step = int(tensors["step"])
        except (RuntimeError, KeyError, ValueError) as err:
            raise TaskError(
                f"expected the training of such a network, got that of another one ({str(err)[:200]}).\n"
                "  Begin it anew."
            ) from err
        self._drawn = {k.removeprefix("drawn/"): v for k, v in tensors.items() if k.startswith("drawn/")} or None
        self._batches = _batches(self.task, self.budget, self.seed, self.steps)
        for _ in range(step):
            next(self._batches)
        self.step = step


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
