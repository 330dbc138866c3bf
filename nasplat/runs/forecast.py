"""What a run will take, before anything long starts: little pieces of its work are timed, and scaled to all of it.

Nothing is written, no supernet is built, and no large batch is computed. Networks and steps are those that the run
itself would meet, so that their mean carries over; its standard error gives the range. Memory is counted.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import optuna
import torch

from nasplat.predict.device import device_folder
from nasplat.probes.conditions import Conditions
from nasplat.runs import stopwatch
from nasplat.runs.folder import RunFolder
from nasplat.runs.kinds import FITTED, LabelRun, SearchRun, TrainRun
from nasplat.runs.labelling import label_pairs, labelled
from nasplat.runs.objectives import INHERITED, LATENCY, costs_named, quality_named
from nasplat.runs.preparation import choose_guide
from nasplat.runs.stopwatch import MOST, Guess
from nasplat.runs.timed_work import (
    FewMembers,
    activation_bytes,
    seconds_asked,
    seconds_inherited,
    seconds_of_epoch,
    seconds_of_proposals,
    seconds_to_build,
    seconds_trained,
)
from nasplat.runs.training import epochs_left, loaded, subnet_of
from nasplat.runs.trials import finished
from nasplat.searchspace import Architecture, Space
from nasplat.study import AbstractObjective, Limits, Trained
from nasplat.study.limits import draw_distinct
from nasplat.study.stages import PILOTS
from nasplat.supernet import TrainConfig
from nasplat.supernet.supernet import check_input
from nasplat.task import Task
from nasplat.workflows.calibrate import time_architecture

COPIES = 5
"""Tensors of the size of the weights in a training: weights, gradients, two moments, and the copy of an epoch's
start."""


MOST_PAIRS = 4
"""Pairs of a space and a task of which trainings are timed."""


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

    @staticmethod
    def of(name: str, count: int, guess: Guess) -> Part:
        """Make a part of the seconds of one piece.

        Args:
            name: Name of the work.
            count: Number of pieces that are left to do.
            guess: Seconds of a piece.

        Returns:
            The part.
        """
        return Part(name, count, guess.each, guess.error, guess.measured)

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

    Raises:
        SupernetError: the space does not fit the task.
    """
    space, task = loaded(run, folder)
    architecture = subnet_of(run, space)
    trained = space if architecture is None else space.only(architecture)
    before, left = resident_bytes(run.device), epochs_left(folder.checkpoint, run.train)
    few = few_members(trained, task, run.seed, run.device)
    parts = supernet_parts(few, run.train, left)
    held = before + working_bytes(few, run.train.batch_size, run.train.bf16)
    return together(parts, device=run.device, peak_bytes=held if left else before)


def forecast_search(run: SearchRun, folder: RunFolder) -> Forecast:
    """Forecast a search.

    Args:
        run: Settings of the search.
        folder: Folder of the run; trials that it or the storage has are not counted.

    Returns:
        Time and memory of everything that is left, export and report aside.

    Raises:
        SupernetError: quality is inherited and the space does not fit the task.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if run.workers > 1:
        torch.set_num_threads(1)
    space, task = loaded(run, folder)
    guide = choose_guide(run, space, folder).objective
    peak = before = resident_bytes(run.device)
    is_inherited = INHERITED in run.qualities
    few = few_members(space, task, run.seed, run.device, is_inherited)
    parts = list[Part]()
    if is_inherited:
        left = 0 if run.supernet else epochs_left(folder.checkpoint, run.train)
        parts += supernet_parts(few, run.train, left)
        if left:
            peak = max(peak, before + working_bytes(few, run.train.batch_size, run.train.bf16))
    # what a predictor would say of latency_ms is not known before networks were timed
    limits = {k: v for k, v in run.limits.items() if k != LATENCY}
    members, costs = draws(space, limits, run.seed), [] if run.minimize == LATENCY else costs_named(run.minimize)
    done = finished(folder, run.storage)
    left = PILOTS if run.stages else max(0, run.trials - done)
    if run.is_timed and not (device_folder(run.latency or folder.latency) / "recipe.toml").exists():
        timing = _Timing(Conditions(runtime=run.runtime), run.seed)
        parts.append(Part.of(timing.name, run.timed, seconds_asked(few, timing, members)))
    asked = []
    extra = run.pilots if run.guide == FITTED and not run.stages and not done else 0
    for word in run.qualities:
        if word == INHERITED:
            asked.append(Part.of(f"inherited {task.metric_name}", left + extra, seconds_inherited(few, members)))
            continue
        objective = quality_named(word, task, None, guide, run.seed)
        asked.append(evaluations(few, objective, members, left + extra, run.prune))
        if isinstance(objective, Trained):
            peak = max(peak, before + working_bytes(few, objective.budget.batch_size))
    asked += [evaluations(few, c, members, left) for c in costs if not c.is_cheap]
    parts += asked
    if run.budget is not None:
        parts.append(Part("the rest of --budget", 1, max(0.0, run.budget - sum(p.seconds for p in asked)), 0.0, 0))
    elif left:
        counted = [c for c in costs if c.is_cheap]
        expensive = 1 + len(costs) - len(counted)
        seconds = seconds_of_proposals(space, expensive, counted, limits, guide, done, left, run.seed)
        parts.append(Part.of("proposals", left, seconds))
    return together(parts, run.workers, run.device, peak)


def forecast_labelling(run: LabelRun, folder: RunFolder) -> Forecast:
    """Forecast a labelling.

    Args:
        run: Settings of the labelling.
        folder: Path of its table; trainings that its journal or storage has are not counted.

    Returns:
        Time and memory of the trainings that are left. Of several spaces on several tasks some pairs are timed, and
        networks are counted as if each space had as many inside the limits as are asked for.

    Raises:
        SpaceError: no space fits a task.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    peak = before = resident_bytes(run.device)
    pairs, count, budget = label_pairs(run, folder)
    asked, guesses = random.Random(f"{run.seed} forecast").sample(pairs, min(len(pairs), MOST_PAIRS)), list[Guess]()
    for space, task in asked:
        few = few_members(space, task, run.seed, run.device, False)
        members = draws(space, run.limits, run.seed)
        guesses.append(seconds_trained(few, Trained(task, budget, run.seed), members, True))
        peak = max(peak, before + working_bytes(few, budget.batch_size))
    means = [g.each for g in guesses]
    spread = stdev(means) if len(means) > 1 else 0.0
    error = float(np.hypot(fmean(g.error for g in guesses), spread)) / sqrt(len(guesses))
    guess = Guess(fmean(means), error, sum(g.measured for g in guesses))
    left = max(0, count - labelled(run, folder))
    return together([Part.of("trainings", left, guess)], run.workers, run.device, peak)


class _Timing(AbstractObjective):
    """A network timed as for a calibration; its value says nothing about quality."""

    name = "networks timed"

    def __init__(self, conditions: Conditions, seed: int) -> None:
        self.conditions, self.seed = conditions, seed

    def __call__(self, architecture: Architecture) -> float:
        return time_architecture(architecture, self.conditions, self.seed).median_ms


def few_members(space: Space, task: Task, seed: int, device: str, is_shared: bool = True) -> FewMembers:
    """Take the largest member of a space to begin timing with.

    Args:
        space: Space of the run.
        task: Task of the run.
        seed: Number that decides initial values.
        device: Torch device of the work, such as 'cuda:0'.
        is_shared: Whether the run trains a supernet, whose space must fit the task.

    Returns:
        Members with weights that they share.

    Raises:
        SupernetError: a supernet of the space could not read the task's inputs.
    """
    task, started = task.to(device), stopwatch.wall()
    if is_shared:
        check_input(space, task)
    few = FewMembers(space, task, seed, torch.device(device))
    few.first = stopwatch.wall() - started
    return few


def supernet_parts(few: FewMembers, config: TrainConfig, left: int) -> list[Part]:
    """Time what makes a supernet: the walk through its space, and epochs of its training.

    Args:
        few: Members of its space, whose weights are changed.
        config: Settings of its training.
        left: Number of epochs that are not done.

    Returns:
        The walk and the epochs; the walk alone where all epochs are done.
    """
    walk = Part.of("supernet built", 1, seconds_to_build(few))
    return [walk, Part.of("supernet epochs", left, seconds_of_epoch(few, config, left))] if left else [walk]


def evaluations(
    few: FewMembers,
    objective: AbstractObjective,
    members: Sequence[Architecture],
    count: int,
    pruned: bool = False,
) -> Part:
    """Time evaluations of an objective.

    Args:
        few: Members of the space, which counts their MACs.
        objective: Objective of the search, but inherited quality.
        members: Networks such as the search will propose.
        count: Number of evaluations that are left.
        pruned: Whether a training is evaluated after every epoch.

    Returns:
        Mean seconds of an evaluation, and how many are left.
    """
    if isinstance(objective, Trained):
        return Part.of(objective.name, count, seconds_trained(few, objective, members, pruned))
    return Part.of(objective.name, count, seconds_asked(few, objective, members))


def draws(space: Space, limits: Mapping[Any, float] | None, seed: int) -> list[Architecture]:
    """Draw feasible networks such as a search evaluates.

    Args:
        space: Space that is searched.
        limits: Largest allowed costs by name; None for none.
        seed: Number that decides the draws.

    Returns:
        At most `MOST` architectures that compute different things.
    """
    return list(draw_distinct(space, MOST, random.Random(f"{seed} forecast"), Limits.of(limits)).values())


def together(parts: Sequence[Part], workers: int = 1, device: str = "cpu", peak_bytes: int | None = None) -> Forecast:
    """Put parts that were measured in this process together.

    Args:
        parts: Kinds of work; those with nothing left to do are left out.
        workers: Number of processes that share the evaluations.
        device: Torch device of the work, such as 'cuda:0'.
        peak_bytes: Bytes that the work needs at once, as far as that was counted; None counts nothing.

    Returns:
        Forecast of all parts; on a CPU its memory is at least the peak of this process so far.
    """
    return Forecast(
        tuple(p for p in parts if p.count), workers, max(peak_so_far(device), peak_bytes or 0) or None, device
    )


def working_bytes(few: FewMembers, batch: int, bf16: bool = False) -> int:
    """Count the memory of a training step of the largest network.

    Args:
        few: Members of the space.
        batch: Examples of a step.
        bf16: Whether forward passes are computed under bfloat16.

    Returns:
        Bytes of activations, weights, gradients and moments.
    """
    batch = min(batch, len(few.task.train))
    weights = sum(w.numel() * w.element_size() for w in few.store.weights.values())
    return COPIES * weights + activation_bytes(few, batch, bf16)


def resident_bytes(device: str) -> int:
    """Measure the memory that this process holds now, libraries and data included.

    Args:
        device: Torch device whose memory is asked about.

    Returns:
        Bytes; the peak so far where the system tells no more.
    """
    if device.startswith("cuda"):
        return int(torch.cuda.memory_allocated(device))
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):  # not Linux
        return peak_so_far(device)


def peak_so_far(device: str) -> int:
    """Measure the largest memory that this process has held.

    Args:
        device: Torch device whose memory is asked about.

    Returns:
        Bytes; 0 where the system does not tell.
    """
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_reserved(device))
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024
