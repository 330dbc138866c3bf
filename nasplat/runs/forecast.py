"""What a run will take, before anything long starts: a few real steps are timed, and multiplied.

Nothing is written. Networks, steps and passes are those the run itself would meet, so that the mean carries over; its
standard error gives the range. Memory is the peak of this process after a step with the largest network.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import optuna
import torch

from nasplat.probes.conditions import Conditions
from nasplat.runs.folder import RunFolder
from nasplat.runs.kinds import FITTED, SearchRun, TrainRun
from nasplat.runs.objectives import INHERITED, LATENCY, costs_named, quality_named
from nasplat.runs.preparation import choose_guide
from nasplat.runs.training import epochs_left, loaded, subnet_of
from nasplat.runs.trials import finished
from nasplat.searchspace import Architecture, Space
from nasplat.study import AbstractObjective, Limits, OutsideSupport, PredictorSampler, Trained
from nasplat.study.limits import draw_distinct
from nasplat.study.objectives import named
from nasplat.study.search import search
from nasplat.study.stages import PILOTS
from nasplat.supernet import Supernet, TrainConfig
from nasplat.supernet.extremes import end
from nasplat.task import Split, Task
from nasplat.task.training import train_architecture
from nasplat.workflows.calibrate import time_architecture

SECONDS = 8.0
"""Seconds that are spent on a part, about; at least `LEAST` measurements are made."""
LEAST, MOST = 3, 24
"""Numbers of measurements of a part, at least and at most."""
STEPS = 8
"""Number of training steps of one measurement."""


@dataclass(frozen=True)
class Part:
    """One kind of work of a run."""

    name: str
    """Name of the work, such as 'supernet epochs'."""
    count: int
    """Number of pieces of it that are left to do."""
    each: float
    """Mean seconds of one piece."""
    error: float
    """Standard error of that mean, in seconds."""
    measured: int
    """Number of pieces that were timed."""

    @property
    def seconds(self) -> float:
        """Seconds of all pieces together, by one process."""
        return self.count * self.each


@dataclass(frozen=True)
class Forecast:
    """What a run will take in time and memory."""

    parts: tuple[Part, ...]
    """Kinds of work that are left to do."""
    workers: int
    """Number of processes that share the evaluations, one thread each; one supernet is trained before."""
    peak_bytes: int | None
    """Bytes of memory of one process on the device: weights, activations and libraries; None where the system does
    not tell."""
    device: str
    """Torch device of the work, such as 'cpu'."""

    @property
    def seconds(self) -> float:
        """Wall time of everything, in seconds."""
        return sum(p.seconds / self._share(p) for p in self.parts)

    @property
    def interval(self) -> tuple[float, float]:
        """Shortest and longest wall time within two standard errors of every part, in seconds."""
        off = 2 * sum(p.count * p.error / self._share(p) for p in self.parts)
        return max(0.0, self.seconds - off), self.seconds + off

    def _share(self, part: Part) -> int:
        """Number of processes that share a part."""
        return 1 if part.name.startswith("supernet") else self.workers

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: the parts, and time in seconds and memory in bytes.

        Returns:
            Keys 'parts', 'seconds', 'low', 'high', 'workers', 'peak_bytes' and 'device'.
        """
        low, high = self.interval
        rows = [asdict(p) | {"seconds": p.seconds} for p in self.parts]
        about = {"workers": self.workers, "peak_bytes": self.peak_bytes, "device": self.device}
        return {"parts": rows, "seconds": self.seconds, "low": low, "high": high} | about


def forecast_training(run: TrainRun, folder: RunFolder) -> Forecast:
    """Forecast the training of a supernet, or of one subnet of an earlier run.

    Args:
        run: Settings of the training.
        folder: Folder of the run; epochs that its checkpoint has are not counted.

    Returns:
        Time and memory of the epochs that are left.
    """
    space, task = loaded(run, folder)
    architecture = subnet_of(run, space)
    trained = space if architecture is None else space.only(architecture)
    supernet, left = Supernet(trained, task, run.seed, run.device), epochs_left(folder.checkpoint, run.train)
    return together([supernet_epochs(supernet, run.train, left)], device=run.device)


def forecast_search(run: SearchRun, folder: RunFolder) -> Forecast:
    """Forecast a search.

    Args:
        run: Settings of the search.
        folder: Folder of the run; trials that it or the storage has are not counted.

    Returns:
        Time and memory of everything that is left, export and report aside.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if run.workers > 1:
        torch.set_num_threads(1)
    (space, task), parts, supernet = loaded(run, folder), list[Part](), None
    if INHERITED in run.qualities:
        supernet = Supernet(space, task, run.seed, run.device)
        left = 0 if run.supernet else epochs_left(folder.checkpoint, run.train)
        parts.append(supernet_epochs(supernet, run.train, left))
    guide = choose_guide(run, space, folder).objective
    # what a predictor would say of latency_ms is not known before networks were timed
    limits = {k: v for k, v in run.limits.items() if k != LATENCY}
    members, costs = draws(space, limits, run.seed), [] if run.minimize == LATENCY else costs_named(run.minimize)
    done = finished(folder, run.storage)
    left = PILOTS if run.stages else max(0, run.trials - done)
    if run.is_timed and not ((run.latency or folder.latency) / "recipe.toml").exists():
        parts.append(evaluations(_Timing(Conditions(runtime=run.runtime), run.seed), members, run.timed))
    asked = []
    for word in run.qualities:
        extra = run.pilots if run.guide == FITTED and not run.stages and not done else 0
        objective = quality_named(word, task, supernet, guide, run.seed)
        asked.append(evaluations(objective, members, left + extra, run.prune))
    asked += [evaluations(c, members, left) for c in costs if not c.is_cheap]
    parts += asked
    if run.budget is not None:
        parts.append(Part("the rest of --budget", 1, max(0.0, run.budget - sum(p.seconds for p in asked)), 0.0, 0))
    else:
        counted, sampler = [c for c in costs if c.is_cheap], PredictorSampler(guide, seed=run.seed)
        parts.append(proposals(space, 1 + len(costs) - len(counted), counted, limits, sampler, left, run.seed))
    return together(parts, run.workers, run.device)


class _Timing(AbstractObjective):
    """A network timed as for a calibration; its value says nothing about quality."""

    name = "networks timed"

    def __init__(self, conditions: Conditions, seed: int) -> None:
        self.conditions, self.seed = conditions, seed

    def __call__(self, architecture: Architecture) -> float:
        return time_architecture(architecture, self.conditions, self.seed).median_ms


def supernet_epochs(supernet: Supernet, config: TrainConfig, left: int) -> Part:
    """Time epochs of a supernet's training.

    Args:
        supernet: Fresh supernet, whose weights are changed.
        config: Settings of its training.
        left: Number of epochs that are not done.

    Returns:
        Mean seconds of an epoch, and how many are left.
    """
    times: list[float] = []

    def report(epoch: Any, total: int) -> None:
        times.append(epoch.seconds / STEPS)
        _stop_when_enough(times, sum(times) * STEPS)

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
    """Time evaluations of an objective.

    Args:
        objective: Objective of the search.
        architectures: Networks such as the search will propose.
        count: Number of evaluations that are left.
        pruned: Whether a training is evaluated after every epoch.

    Returns:
        Mean seconds of an evaluation, and how many are left.
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
    """Time trainings: construction, steps and evaluations of each; a few steps stand for all of them."""
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
    """Time proposals of a sampler and what is counted of them; expensive objectives answer at random.

    Args:
        space: Space that is searched.
        n_objectives: Number of expensive objectives.
        minimize: Objectives that are counted.
        limits: Largest allowed costs by name, as in the search.
        sampler: Fresh sampler, as the search will have it.
        count: Number of trials that are left.
        seed: Number that decides the search.

    Returns:
        Mean seconds of a proposal, and how many are left.
    """
    times: list[float] = []
    last = time.perf_counter()

    def report(_: Any) -> None:
        nonlocal last
        now = time.perf_counter()
        times.append(now - last)
        last = now
        _stop_when_enough(times, sum(times))

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


def draws(space: Space, limits: Mapping[Any, float] | None, seed: int) -> list[Architecture]:
    """Draw feasible networks to time; the one with most MACs comes first, so that the peak of the memory is met.

    Args:
        space: Space that is searched.
        limits: Largest allowed costs by name; None for none.
        seed: Number that decides the draws.

    Returns:
        At most `MOST` architectures that compute different things.
    """
    found = list(draw_distinct(space, MOST, random.Random(f"{seed} forecast"), Limits.of(limits)).values())
    largest = max(found, key=named("macs"))
    return [largest, *(a for a in found if a is not largest)]


def together(parts: Sequence[Part], workers: int = 1, device: str = "cpu") -> Forecast:
    """Put parts that were measured in this process together.

    Args:
        parts: Kinds of work; those with nothing left to do are left out.
        workers: Number of processes that share the evaluations.
        device: Torch device of the work, such as 'cuda:0'.

    Returns:
        Forecast of all parts, with the peak memory of this process.
    """
    return Forecast(tuple(p for p in parts if p.count), workers, _peak_bytes(device), device)


class _Enough(Exception):
    """Raised when enough was measured."""


def _stop_when_enough(times: Sequence[float], spent: float) -> None:
    """End a measurement that has its fewest pieces and has taken its seconds; the first piece does not count."""
    if len(times) > LEAST and spent > SECONDS:
        raise _Enough


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
