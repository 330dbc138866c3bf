"""Little pieces of a run's work, timed on small batches of a few networks, and what the whole of it would take.

The weights that a supernet would share are held for these few networks alone: a walk through the space, which building
a supernet is, takes longer than all of this. Seconds follow the examples in a batch and the MACs of the networks.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from nasplat.errors import CaptureError
from nasplat.runs import stopwatch
from nasplat.runs.stopwatch import LEAST, MOST, Guess, Stopwatch, batch_sizes, seconds_of, spread
from nasplat.searchspace import Architecture, Space
from nasplat.study import AbstractObjective, OutsideSupport, PredictorSampler, Trained
from nasplat.study.predictor_sampler import AT_ONCE
from nasplat.study.search import search
from nasplat.supernet import TrainConfig
from nasplat.supernet import recalibrate as recalibration
from nasplat.supernet.appointment import appointed_teacher
from nasplat.supernet.extremes import RANDOM_ARCHITECTURES, outermost
from nasplat.supernet.health import Checkup
from nasplat.supernet.recalibrate import ELEMENTS, recalibrate
from nasplat.supernet.slicing import slots, take
from nasplat.supernet.store import Store
from nasplat.supernet.strategy import Lesson, strategy_named
from nasplat.supernet.subnet import Subnets
from nasplat.supernet.subnet_teachers import FormerSelf
from nasplat.supernet.supernet import images_for
from nasplat.supernet.training import Trainer
from nasplat.task import Split, Task
from nasplat.task.bundle import feed
from nasplat.task.training import train_architecture

JUDGED = 512
"""Images that `Task.evaluate` computes at once, at most."""
POOL = 16
"""Candidates of a proposal that is timed; a sampler's own pool takes longer in proportion."""
LATER = 2.0
"""How much longer a proposal takes once a model has learnt from trials, where that was not reached."""
STRIDES = (1, 4)
"""Steps of the short trainings that are timed."""


@dataclass
class FewMembers:
    """A few members of a space with weights that they share, to time what a supernet of the space would do."""

    space: Space
    """Space of the members."""
    task: Task
    """Task with its data on the device of the weights."""
    seed: int
    """Number that decides initial values."""
    device: torch.device
    """Torch device of the work."""
    macs: dict[Architecture, float] = field(default_factory=dict)
    """Multiply-accumulate operations of the members that were counted."""
    looked: Looks | None = None
    """Evaluations that were timed; None before any were."""
    first: float = 0.0
    """Seconds until the first network was built, with what a process loads for that."""

    def __post_init__(self) -> None:
        """Begin with the largest member, so that the others are slices of its weights as in a supernet."""
        self.store = Store(self.space, {}, {}, {}, {}, self.seed)
        self.subnets = Subnets(self.store, self.device)
        self.hold(outermost(self.space, True))

    def hold(self, architecture: Architecture) -> None:
        """Make weights for a member, unless it has its place in those that are there.

        Options among strings have weights of their own, whatever they change.

        Args:
            architecture: Member of the space.
        """
        strings = tuple(sorted(name for name, option in architecture.choices.items() if isinstance(option, str)))
        module, _ = self.space.construct(architecture, initialised=False)
        found = slots(module)
        addresses = {}
        for name in found:
            self.store.qualifiers.setdefault(name, strings)
            addresses[name] = self.store.address(name, architecture.choices)
        lacking = [n for n, slot in found.items() if self.store.lacks(addresses[n], slot.shape, slot.rule)]
        if not lacking:
            return
        values = self.store.initial(architecture)
        if any(addresses[n] in self.store.weights for n in lacking):
            self.subnets.forget()  # the tensors that others view are replaced
        for name in lacking:
            self.store.grow(
                addresses[name], values[name].to(self.device).clone(), found[name].rule, (architecture, name)
            )

    def count(self, architecture: Architecture) -> float:
        """Count the MACs of a member, once.

        Args:
            architecture: Member of the space.

        Returns:
            Multiply-accumulate operations of one example; 1.0 where the network cannot be captured.
        """
        if architecture not in self.macs:
            try:
                self.macs[architecture] = float(max(1, architecture.graph().macs))
            except CaptureError:
                self.macs[architecture] = 1.0
        return self.macs[architecture]

    def looks(self, members: Sequence[Architecture]) -> Looks:
        """Time how subnets are evaluated, once.

        Args:
            members: Networks to time, where none were before.

        Returns:
            What was timed.
        """
        if self.looked is None:
            self.looked = Looks(self).time(members)
        return self.looked

    def by_size(self, architectures: Iterable[Architecture]) -> list[Architecture]:
        """Sort members by their MACs.

        Args:
            architectures: Members of the space.

        Returns:
            The same members, smallest first.
        """
        return sorted(architectures, key=self.count)


def seconds_to_build(few: FewMembers) -> Guess:
    """Time what a walk through the space does, which finds the shapes of a supernet.

    Args:
        few: Members of the space.

    Returns:
        Seconds of the whole walk.
    """
    watch = Stopwatch()

    def look(seed: int) -> None:
        member = few.space.sample(seed=seed)
        for name, slot in slots(few.space.construct(member, initialised=False)[0]).items():
            key, whole = few.store.address(name, member.choices), torch.empty(slot.shape, device="meta")
            if slot.rule is not None:
                take(whole, slot.shape, slot.rule, key)

    for i in range(LEAST):
        watch.time((1.0,), partial(look, i))
    strings = [options for options in few.space.known.values() if any(isinstance(o, str) for o in options)]
    first = Guess(few.first, stopwatch.DRIFT * few.first, 1)
    return watch.guess([(1.0,)]) * (RANDOM_ARCHITECTURES + sum(map(len, strings))) + first


@dataclass(frozen=True)
class _Step:
    """A step of a training, as far as its seconds depend on it."""

    number: int
    """Number of the step, from 0."""
    lessons: tuple[Lesson, ...]
    """Subnets that it trains."""
    macs: float
    """Multiply-accumulate operations of all its subnets for one example."""

    def row(self, examples: int) -> tuple[float, ...]:
        """Describe the step with so many examples."""
        n = len(self.lessons)
        return (n, n * examples, self.macs * examples)


def seconds_of_epoch(few: FewMembers, config: TrainConfig, left: int) -> Guess:
    """Time some steps of a supernet's training, spread over what is left of it.

    Args:
        few: Members of the space, whose weights are changed.
        config: Settings of the training.
        left: Number of epochs that are not done, at least 1.

    Returns:
        Seconds of an epoch, with the evaluation that follows it.
    """
    task, strategy = few.task, strategy_named(config.strategy)
    batches, batch = task.batches_per_epoch(config.batch_size), min(config.batch_size, len(task.train))
    teacher = appointed_teacher(config, strategy, few.subnets, task)
    if isinstance(teacher, FormerSelf):
        teacher.keep(few.store)
    updates = Trainer(few.subnets, task, few.seed, config, teacher, None, strategy).updates
    steps = _steps(few, config, (config.epochs - left) * batches, updates.steps)

    def step(it: _Step, examples: int) -> Callable[[], Any]:
        for lesson in it.lessons:
            few.hold(lesson.architecture)

        def work() -> None:
            x, y = next(short(task, examples).epoch(it.number, examples))
            updates.step(x, y, it.number, 1e-3 * config.lr)

        return work

    order = list(spread(steps))
    sizes = batch_sizes(batch, lambda n: step(order[0], n))
    seconds_of(step(order[0], sizes[1]))  # memory of the largest batch is claimed once
    watch = Stopwatch()
    for i, it in stopwatch.rounds([*order[1:], order[0]], stopwatch.SECONDS):
        if i and i % len(order) == 0:
            few.subnets.forget()  # a run seldom meets the same subnets again
        examples = sizes[(i + i // 2 + i // len(order)) % 2]
        watch.time(it.row(examples), step(it, examples))
    watch.reached = sizes[1]
    watch.reach(batch, steps[0].row, lambda n: step(steps[0], n))
    each = watch.guess([it.row(batch) for it in steps], batch)
    first = _first_batch(task, config.batch_size)
    if not config.watch:
        return each * batches + first
    look = Checkup(few.space, task, lambda *_: 0.0)
    looked = list(dict.fromkeys([*look.ends, *look.random]))
    return each * batches + first + few.looks(looked).guess(looked, look.examples, look.examples) * len(looked)


def _steps(few: FewMembers, config: TrainConfig, start: int, stop: int) -> list[_Step]:
    """Steps spread over what is left of a training, by the MACs that they compute; some two dozen networks in all."""
    strategy = strategy_named(config.strategy)

    def at(number: int) -> _Step:
        seed = few.seed * 1_000_003 + number
        lessons = tuple(strategy.lessons(few.space, seed, number / stop))
        return _Step(number, lessons, sum(few.count(lesson.architecture) for lesson in lessons))

    most = max(LEAST, MOST // len(at(start).lessons))
    numbers = sorted({start + int((i + 0.5) / most * (stop - start)) for i in range(most)})
    return sorted((at(n) for n in numbers), key=lambda s: s.macs)


@dataclass
class Looks:
    """Subnets that were built, calibrated and judged, on a few images each."""

    few: FewMembers
    """Members of the space, evaluated with their shared weights."""
    build: Stopwatch = field(default_factory=Stopwatch)
    """Seconds in which subnets were built."""
    calibrate: Stopwatch = field(default_factory=Stopwatch)
    """Seconds in which their BatchNorm statistics were set."""
    judge: Stopwatch = field(default_factory=Stopwatch)
    """Seconds in which they were judged."""

    def time(self, members: Sequence[Architecture]) -> Looks:
        """Time some of these networks.

        Args:
            members: Networks such as the run will evaluate.

        Returns:
            The object itself.
        """
        few, task = self.few, self.few.task
        images, order = task.train.x, list(spread(few.by_size(members)))
        few.hold(order[0])
        most = min(len(images), len(task.decide), self._batch(recalibration.BATCH))
        sizes = batch_sizes(most, lambda n: partial(_look, few, order[0], images[:n]))
        self.calibrate.reached = self.judge.reached = sizes[1]
        for i, member in stopwatch.rounds(order, stopwatch.SECONDS):
            few.hold(member)
            n, macs = sizes[(i + i // 2 + i // len(order)) % 2], few.count(member)
            made: list[Any] = []
            self.build.time((1.0,), lambda m=member, made=made: made.append(few.subnets.build(m).module))
            self.calibrate.time((1.0, n, n * macs), partial(recalibrate, made[0], images[:n]))
            self.judge.time((1.0, n, n * macs), partial(task.evaluate, made[0], "decide", limit=n))
        few.hold(order[1 % len(order)])
        least, macs = few.subnets.build(order[1 % len(order)]).module, few.count(order[1 % len(order)])

        def row(n: int) -> tuple[float, ...]:
            return (1.0, n, n * macs)

        batch = min(len(images), self._batch(recalibration.BATCH))
        self.calibrate.reach(batch, row, lambda n: partial(recalibrate, least, images[:n]))
        batch = min(len(task.decide), self._batch(JUDGED))
        self.judge.reach(batch, row, lambda n: partial(task.evaluate, least, "decide", limit=n))
        return self

    def guess(self, members: Sequence[Architecture], calibrated: int, judged: int, is_picked: bool = False) -> Guess:
        """Say what a look at one subnet takes.

        Args:
            members: Networks such as the run will evaluate.
            calibrated: Training examples behind a subnet's BatchNorm statistics.
            judged: Examples of the decide split on which it is judged.
            is_picked: Whether a search prefers some of the networks.

        Returns:
            Seconds of one subnet.
        """
        n = min(calibrated, self._batch(recalibration.BATCH))
        found = self.build.guess([(1.0,)]) + self.calibrate.guess(self._rows(members, calibrated), n, is_picked)
        return found + self.judge.guess(self._rows(members, judged), min(judged, self._batch(JUDGED)), is_picked)

    def _batch(self, most: int) -> int:
        """Images that are computed at once, at most."""
        return max(1, min(most, ELEMENTS // self.few.task.train.x[0].numel()))

    def _rows(self, members: Sequence[Architecture], n: int) -> list[tuple[float, ...]]:
        return [(1.0, n, n * self.few.count(m)) for m in members]


def _look(few: FewMembers, member: Architecture, images: torch.Tensor) -> None:
    """Do what an evaluation with inherited weights does, on as many images to judge as to calibrate."""
    module = few.subnets.build(member).module
    recalibrate(module, images)
    few.task.evaluate(module, "decide", limit=len(images))


def seconds_inherited(few: FewMembers, members: Sequence[Architecture]) -> Guess:
    """Time evaluations with inherited weights.

    Args:
        few: Members of the space.
        members: Networks such as the search will propose.

    Returns:
        Seconds of one evaluation.
    """
    task = few.task
    calibrated = min(images_for(len(task.decide)), len(task.train))
    return few.looks(members).guess(members, calibrated, len(task.decide), is_picked=True)


def seconds_trained(few: FewMembers, objective: Trained, members: Sequence[Architecture], pruned: bool) -> Guess:
    """Time trainings from scratch: a few steps stand for all of them.

    Args:
        few: Members of the space; none of their shared weights is used.
        objective: Objective that trains.
        members: Networks such as the search will propose.
        pruned: Whether a training is evaluated after every epoch.

    Returns:
        Seconds of one training.
    """
    task, budget, order = few.task, objective.budget, list(spread(few.by_size(members)))
    batches, batch = task.batches_per_epoch(budget.batch_size), min(budget.batch_size, len(task.train))

    def train(member: Architecture, steps: int, n: int) -> Callable[[], Any]:
        few_steps = replace(budget, epochs=1, steps=0, batch_size=n)
        return partial(train_architecture, member, short(task, steps * n), few_steps, objective.seed)

    sizes = batch_sizes(batch, lambda n: train(order[0], 1, n))
    watch, judge = Stopwatch(), Stopwatch()
    for i, member in stopwatch.rounds(order, 1.5 * stopwatch.SECONDS):
        n, steps, macs = sizes[(i + i // 2 + i // len(order)) % 2], STRIDES[i // 2 % 2], few.count(member)
        steps = min(steps, max(1, len(task.train) // n))
        watch.time((1.0, steps, steps * n, steps * n * macs), train(member, steps, n))
        module = member.build().to(few.device)
        judge.time((1.0, n, n * macs), partial(task.evaluate, module, "decide", limit=n))
    marks = budget.marks(batches)
    all_steps, epochs = marks[-1], -(-marks[-1] // batches)
    macs = [few.count(m) for m in members]
    watch.reached = judge.reached = sizes[1]
    least = order[1 % len(order)]
    watch.reach(batch, lambda n: (1.0, 1, n, n * few.count(least)), lambda n: train(least, 1, n))
    judge.stretch = watch.stretch
    each = watch.guess([(1.0, all_steps, all_steps * batch, all_steps * batch * m) for m in macs], batch, True)
    first = _first_batch(task, budget.batch_size) * epochs
    judged = len(marks) * len(task.decide) if pruned else len(task.decide)
    judged += len(task.test)
    return each + first + judge.guess([(1.0, judged, judged * m) for m in macs], batch, True)


def seconds_asked(few: FewMembers, objective: AbstractObjective, members: Sequence[Architecture]) -> Guess:
    """Time an objective as it is, on networks that it answers for.

    Args:
        few: Members of the space, which counts their MACs.
        objective: Objective of the search.
        members: Networks such as the search will propose.

    Returns:
        Seconds of one evaluation.
    """
    watch, until = Stopwatch(), stopwatch.clock() + stopwatch.SECONDS
    answered = list(members)
    for member in spread(few.by_size(members)):
        started = stopwatch.wall()
        try:
            objective(member)
        except OutsideSupport:
            answered.remove(member)
            continue
        watch.rows.append((1.0, few.count(member)))
        watch.seconds.append(stopwatch.wall() - started)
        if len(watch.seconds) >= LEAST and stopwatch.clock() > until:
            break
    return watch.guess([(1.0, few.count(m)) for m in answered], is_picked=True)


def seconds_of_proposals(
    space: Space,
    objectives: int,
    minimize: Sequence[Any],
    limits: Any,
    guide: Any,
    done: int,
    left: int,
    seed: int,
) -> Guess:
    """Time proposals of a sampler with a small pool and what is counted of them; expensive objectives answer at random.

    Args:
        space: Space that is searched.
        objectives: Number of expensive objectives.
        minimize: Objectives that are counted.
        limits: Largest allowed costs by name, as in the search.
        guide: Guide of the sampler, or None.
        done: Number of trials that are done.
        left: Number of trials that are left, at least 1.
        seed: Number that decides the search.

    Returns:
        Mean seconds of a proposal.
    """
    whole = PredictorSampler(seed=seed)
    made = [_random_answer(f"answer {i}", seed + i) for i in range(objectives)]
    asked: dict[str, Any] = {"maximize": made, "minimize": minimize, "limits": limits, "seed": seed}
    asked |= {"sampler": PredictorSampler(guide, pool=POOL, seed=seed), "n_trials": whole.startup + LEAST}
    times = np.array(_between_trials(space, asked)) * whole.pool / POOL
    if not len(times):
        return Guess()
    early, late = times[1 : whole.startup], times[whole.startup :]
    early = early if len(early) else times
    late = late if len(late) else early * LATER
    first = max(0, min(left, whole.startup - done))
    ranked = sum(1 / (1 << max(0, (n // AT_ONCE).bit_length() - 1)) for n in range(done + first, done + left))
    error = [t.std(ddof=1) / len(t) ** 0.5 if len(t) > 1 else t.mean() / 2 for t in (early, late)]
    each = (first * early.mean() + ranked * late.mean()) / left
    off = np.hypot(first * error[0], ranked * error[1]) / left
    return Guess(float(each), float(np.hypot(off, np.hypot(stopwatch.DRIFT, stopwatch.BEYOND) * each)), len(times))


def _between_trials(space: Space, asked: dict[str, Any]) -> list[float]:
    """Seconds from trial to trial of a search, which is ended when it has taken its time."""
    times: list[float] = []
    last, until = stopwatch.wall(), stopwatch.clock() + stopwatch.SECONDS

    def report(_: Any) -> None:
        nonlocal last
        now = stopwatch.wall()
        times.append(now - last)
        last = now
        if len(times) > 2 and stopwatch.clock() > until:
            raise _Enough

    with contextlib.suppress(_Enough):
        search(space, report=report, **asked)
    return times


class _Enough(Exception):
    """Raised when enough proposals were timed."""


def _random_answer(name: str, seed: int) -> Callable[[Architecture], float]:
    rng = random.Random(seed)

    def answer(_: Architecture) -> float:
        return rng.random()

    answer.__name__ = name
    return answer


def activation_bytes(few: FewMembers, batch: int, bf16: bool = False) -> int:
    """Count what a training step of the largest network holds on to until its gradients are computed.

    Args:
        few: Members of the space.
        batch: Examples of a step.
        bf16: Whether forward passes are computed under bfloat16.

    Returns:
        Bytes of activations for the whole batch, from those of two examples.
    """
    module = few.subnets.build(outermost(few.space, True)).module.train()
    owned = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, Any] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage  # held, so that no other takes its place
        return tensor

    n = min(2, len(few.task.train))
    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda t: t),
        torch.autocast(few.device.type, torch.bfloat16, enabled=bf16),
    ):
        feed(module, few.task.train.x[:n].clone())
    sizes = [storage.nbytes() for storage in kept.values()]
    return int((sum(sizes) + 2 * max(sizes, default=0)) / n * batch)


def short(task: Task, examples: int) -> Task:
    """Cut a task down to so many training examples and two of each other kind.

    Args:
        task: Task of the run.
        examples: Number of training examples.

    Returns:
        The same task with little data, none of it fresh in any epoch.
    """

    def few(split: Split, n: int) -> Split:
        return Split(split.x[:n], split.y[:n])

    return replace(
        task, train=few(task.train, examples), decide=few(task.decide, 2), test=few(task.test, 2), renew=None
    )


def _first_batch(task: Task, size: int) -> Guess:
    """Seconds that an epoch takes before its first step, as where fresh data are made."""
    watch = Stopwatch()
    for seed in range(1, LEAST if task.renew else 3):
        watch.time((1.0,), lambda seed=seed: next(iter(task.epoch(seed, size))))
        if sum(watch.seconds) > stopwatch.SECONDS:
            break
    return watch.guess([(1.0,)])
