"""What a run will take, before anything long starts: a few real steps are timed, and multiplied.

Nothing is written. Networks, steps and passes are those the run itself would meet, so that the mean carries over; its standard error gives the
range. Memory is the peak of this process after a step with the largest network.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import optuna
import torch

from nasplat.searchspace import Architecture, Space
from nasplat.study import AbstractObjective, Limits, OutsideSupport, Trained
from nasplat.study.search import named, search
from nasplat.supernet import Supernet, TrainConfig
from nasplat.supernet.extremes import end
from nasplat.task import Split, Task
from nasplat.task.training import train_architecture

SECONDS = 8.0
"""Spent on a part, about; at least `LEAST` measurements are made."""
LEAST, MOST = 3, 24
"""Measurements of a part."""
STEPS = 8
"""Training steps of one measurement."""


@dataclass(frozen=True)
class Part:
    """One kind of work of a run."""

    name: str
    count: int
    """How many are left to do."""
    each: float
    """Seconds of one, mean."""
    error: float
    """Standard error of that."""
    measured: int
    """How many were timed."""

    @property
    def seconds(self) -> float:
        """Of all."""
        return self.count * self.each


@dataclass(frozen=True)
class Forecast:
    """What a run will take."""

    parts: tuple[Part, ...]
    workers: int
    """Processes that share the evaluations, one thread each; one supernet is trained before."""
    peak_bytes: int | None
    """Memory of one process on the device, weights, activations and libraries included; None where the system does not tell."""
    device: str

    @property
    def seconds(self) -> float:
        """Wall time in all."""
        return sum(p.seconds / (1 if p.name.startswith("supernet") else self.workers) for p in self.parts)

    @property
    def interval(self) -> tuple[float, float]:
        """Wall time within two standard errors of every part."""
        off = 2 * sum(p.count * p.error / (1 if p.name.startswith("supernet") else self.workers) for p in self.parts)
        return max(0.0, self.seconds - off), self.seconds + off

    def to_dict(self) -> dict[str, Any]:
        """As plain data; seconds and bytes."""
        low, high = self.interval
        rows = [asdict(p) | {"seconds": p.seconds} for p in self.parts]
        about = {"workers": self.workers, "peak_bytes": self.peak_bytes, "device": self.device}
        return {"parts": rows, "seconds": self.seconds, "low": low, "high": high} | about


def supernet_epochs(supernet: Supernet, config: TrainConfig, left: int) -> Part:
    """Epochs of a supernet's training.

    Args:
        supernet: A fresh one, whose weights are changed.
        config: How it will be trained.
        left: Epochs that are not done.
    """
    times: list[float] = []

    def report(epoch: Any, total: int) -> None:
        times.append(epoch.seconds / STEPS)
        if len(times) > LEAST and sum(times) * STEPS > SECONDS:
            raise _Enough

    task = supernet.task
    batches = task.batches_per_epoch(config.batch_size)
    supernet.task = _short(task, STEPS * config.batch_size)
    try:
        _step_of_largest(supernet, config)
        supernet.train(config=replace(config, epochs=MOST), report=report)
    except _Enough:
        pass
    finally:
        supernet.task = task
    first = _seconds(lambda: next(iter(task.epoch(1, config.batch_size))))
    return _part("supernet epochs", left, [first + batches * t for t in times[1:]])


def evaluations(
    objective: AbstractObjective, architectures: Sequence[Architecture], count: int, pruned: bool = False
) -> Part:
    """Evaluations of an objective.

    Args:
        objective: Of the search.
        architectures: Networks such as the search will propose.
        count: Evaluations that are left.
        pruned: The training is evaluated after every epoch.
    """
    if isinstance(objective, Trained):
        return _trainings(objective, architectures, count, pruned)
    times: list[float] = []
    for architecture in architectures:
        try:
            times.append(_seconds(lambda a=architecture: objective(a)))
        except OutsideSupport:
            continue
        if len(times) >= LEAST and sum(times) > SECONDS:
            break
    return _part(objective.name, count, times)


def _trainings(objective: Trained, architectures: Sequence[Architecture], count: int, pruned: bool) -> Part:
    """A training is its construction, its steps and its evaluations; a few steps of it stand for all."""
    task, budget, times = objective.task, objective.budget, list[float]()
    batches = task.batches_per_epoch(budget.batch_size)
    steps = min(STEPS, batches)
    first = _seconds(lambda: next(iter(task.epoch(1, budget.batch_size)))) if batches > steps else 0.0
    started = time.perf_counter()
    for architecture in architectures:

        def trained(n: int, architecture: Architecture = architecture) -> float:
            short = _short(task, n * budget.batch_size)
            return _seconds(lambda: train_architecture(architecture, short, replace(budget, epochs=1)))

        few, more = trained(1), trained(1 + steps)
        step = max(0.0, more - few) / steps
        module = architecture.build().to(task.train.x.device)
        decide, test = (_seconds(partial(task.evaluate, module, split)) for split in ("decide", "test"))
        around = max(0.0, few - step)  # construction, and evaluation of the few examples
        whole = budget.epochs * (first + batches * step) + around + test + decide * (budget.epochs if pruned else 1)
        times.append(whole)
        if len(times) >= LEAST and time.perf_counter() - started > 2 * SECONDS:
            break
    return _part(objective.name, count, times)


def proposals(
    space: Space,
    n_objectives: int,
    minimize: Sequence[Any],
    limits: Any,
    sampler: optuna.samplers.BaseSampler,
    count: int,
    seed: int,
) -> Part:
    """Proposals of a sampler and what is counted of them; expensive objectives answer at random.

    Args:
        space: What is searched.
        n_objectives: Expensive ones.
        minimize: Counted ones.
        limits: Of the search.
        sampler: Fresh, as the search will have it.
        count: Trials that are left.
        seed: Of the search.
    """
    times: list[float] = []
    last = time.perf_counter()

    def report(_: Any) -> None:
        nonlocal last
        now = time.perf_counter()
        times.append(now - last)
        last = now
        if len(times) > LEAST and sum(times) > SECONDS:
            raise _Enough

    made = [_random_answer(f"answer {i}", seed + i) for i in range(n_objectives)]
    try:
        search(space, made, minimize, limits=limits, n_trials=MOST, sampler=sampler, seed=seed, report=report)
    except _Enough:
        pass
    return _part("proposals", count, times[1:])


def _random_answer(name: str, seed: int) -> Callable[[Architecture], float]:
    rng = random.Random(seed)

    def answer(_: Architecture) -> float:
        return rng.random()

    answer.__name__ = name
    return answer


def draws(space: Space, limits: Any, seed: int) -> list[Architecture]:
    """Feasible networks to time; the one with most MACs first, so that the peak of the memory is met."""
    bounds, rng = Limits.of(limits), random.Random(f"{seed} forecast")
    found = [bounds.draw(space, rng) for _ in range(MOST)]
    largest = max(found, key=named("macs"))
    return [largest, *(a for a in found if a is not largest)]


def forecast(parts: Sequence[Part], workers: int = 1, device: str = "cpu") -> Forecast:
    """Parts that were measured in this process, put together."""
    return Forecast(tuple(p for p in parts if p.count), workers, _peak_bytes(device), device)


class _Enough(Exception):
    """Time for the measurement is up."""


def _part(name: str, count: int, times: Sequence[float]) -> Part:
    if not times:
        return Part(name, count, 0.0, 0.0, 0)
    error = float(np.std(times, ddof=1) / len(times) ** 0.5) if len(times) > 1 else float(times[0])
    return Part(name, count, float(np.mean(times)), error, len(times))


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _short(task: Task, examples: int) -> Task:
    """The same task with so many training examples, and few others; one draw of fresh data serves every epoch."""

    def few(split: Split, n: int) -> Split:
        return Split(split.x[:n], split.y[:n])

    train = few(task.train, examples)
    return replace(task, train=train, decide=few(task.decide, 2), test=few(task.test, 2), renew=None)


def _step_of_largest(supernet: Supernet, config: TrainConfig) -> None:
    bound = supernet.subnets.bind(end(supernet.space, True, 0))
    x, y = next(_batches(supernet.task, config.batch_size))
    bound.module.train()
    supernet.task.loss(bound.module(x), y).backward()


def _batches(task: Task, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return iter(task.epoch(1, size))


def _peak_bytes(device: str) -> int | None:
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_reserved(device))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024
