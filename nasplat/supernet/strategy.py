"""Which subnets one training step samples, what each learns from, and the phases a training goes through."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nasplat.errors import SpaceError, SupernetError
from nasplat.searchspace import Architecture, Space
from nasplat.searchspace.pick import Decide, Option
from nasplat.supernet.store import DEPTH, KERNEL, OTHER, WIDTH, kinds, outermost


@dataclass(frozen=True)
class Lesson:
    """One subnet of a step."""

    architecture: Architecture
    from_teacher: bool = False
    """True: learns the soft outputs of the step's first subnet on the same batch; False: learns the targets."""
    is_taught: bool = False
    """True: learns from the targets and from the run's teacher, where there is one."""


@dataclass(frozen=True)
class Phase:
    """A part of a training."""

    name: str = "all"
    sorts_channels: bool = False
    """Before it begins, channels are put in the order of their importance."""
    keeps_weights: bool = False
    """Before it begins, the weights are kept for the teacher."""


class Strategy(ABC):
    """A training strategy: pure functions of the step's seed and of how far the training is."""

    name: str
    """What it is called in a configuration."""

    @abstractmethod
    def lessons(self, space: Space, seed: int, progress: float) -> Iterator[Lesson]:
        """The subnets of one step, in order.

        Args:
            space: Of the supernet.
            seed: Of the step.
            progress: Share of the training's steps that are done, from 0 to below 1.
        """

    def phase(self, space: Space, progress: float) -> Phase:
        """The phase of a step."""
        return Phase()


@dataclass(frozen=True)
class SinglePath(Strategy):
    """One random subnet a step, trained on targets. The most steps for the compute; best for short runs.

    Source: Guo et al. 2020, arXiv:1904.00420.
    """

    name: str = "single-path"

    def lessons(self, space: Space, seed: int, progress: float) -> Iterator[Lesson]:
        """One draw, uniform per choice."""
        yield Lesson(space.sample(seed=seed))


@dataclass(frozen=True)
class Sandwich(Strategy):
    """Largest, smallest and random subnets a step; all but the largest learn from the largest.

    Source: Yu et al. 2020 (BigNAS), arXiv:2003.11142. "Largest" takes string choices at random, so that every operation
    has its turn.
    """

    middles: int = 2
    name: str = "sandwich"

    def lessons(self, space: Space, seed: int, progress: float) -> Iterator[Lesson]:
        """Largest, smallest, then random ones."""
        yield Lesson(end(space, True, seed))
        yield Lesson(end(space, False, seed), from_teacher=True)
        for i in range(self.middles):
            yield Lesson(space.sample(seed=(seed * 31 + i + 1) % 2**62), from_teacher=True)


@dataclass(frozen=True)
class Online(Strategy):
    """OVO: one random subnet a step, which learns from the targets and from a teacher that is sampled at the same step.

    Source: Wei et al. 2022, arXiv:2212.13766; who teaches and how is set by `TrainConfig`.
    """

    name: str = "ovo"

    def lessons(self, space: Space, seed: int, progress: float) -> Iterator[Lesson]:
        """One draw, uniform per choice."""
        yield Lesson(space.sample(seed=seed), is_taught=True)


@dataclass(frozen=True)
class Progressive(Strategy):
    """Progressive shrinking: first the largest subnet, then smaller kernels, then less depth, then less width.

    What a choice is follows from what it changes in the largest network (`nasplat.supernet.store.kinds`), not from its name. Within the phases
    of depth and width the two largest options come first. From the second phase on, subnets also learn from the largest as it was at
    the end of the first; before width opens, channels are sorted. All phases share one learning rate schedule; Once-for-All restarts it.
    Source: Cai et al. 2020 (Once-for-All), arXiv:1908.09791.
    """

    name: str = "progressive"
    largest: float = 0.3
    """Share of the training for the largest subnet alone; the other phases share the rest."""
    draws: dict[str, int] = field(default_factory=lambda: {KERNEL: 1, DEPTH: 2, WIDTH: 4}, hash=False)
    """Subnets of a step, by phase."""

    def lessons(self, space: Space, seed: int, progress: float) -> Iterator[Lesson]:
        """Random subnets of what is open by now."""
        phases, at, within = self._at(space, progress)
        if at == 0:
            yield Lesson(end(space, True, seed))
            return
        known, base = kinds(space), outermost(space, True).choices
        closed = {name for name, kind in known.items() if (WIDTH if kind == OTHER else kind) in phases[at + 1 :]}
        partly = {name for name, kind in known.items() if kind == phases[at] and kind != KERNEL} if within < 0.5 else set[str]()
        for i in range(self.draws[phases[at]]):
            rng = random.Random(f"progressive {seed} {i}")
            try:
                drawn = space.draw(lambda rng=rng: _shrunk(rng, closed, partly, base))
            except SpaceError:  # nothing but the largest is allowed beside what is closed
                drawn = outermost(space, True)
            yield Lesson(drawn, is_taught=True)

    def phase(self, space: Space, progress: float) -> Phase:
        """largest, kernel, depth or width; those that the space has no choices for are left out."""
        phases, at, _ = self._at(space, progress)
        return Phase(phases[at], sorts_channels=phases[at] == WIDTH, keeps_weights=at == 1)

    def _at(self, space: Space, progress: float) -> tuple[list[str], int, float]:
        """All phases, which one it is, and how far within it."""
        met = {WIDTH if kind == OTHER else kind for kind in kinds(space).values()}
        phases = ["largest", *(kind for kind in (KERNEL, DEPTH, WIDTH) if kind in met)]
        if len(phases) == 1 or progress < self.largest:
            return phases, 0, progress
        each = (1 - self.largest) / (len(phases) - 1)
        number = min(int((progress - self.largest) / each), len(phases) - 2)
        return phases, number + 1, (progress - self.largest) / each - number


def _shrunk(rng: random.Random, closed: set[str], partly: set[str], base: Mapping[str, Option]) -> Decide:
    def decide(name: str, options: tuple[Option, ...]) -> Option:
        if any(isinstance(o, str) for o in options):
            return options[int(rng.random() * len(options))]
        ordered = sorted(options, reverse=True)  # type: ignore[type-var]
        if name in closed:
            return base.get(name, ordered[0])
        allowed = ordered[:2] if name in partly else ordered
        return allowed[int(rng.random() * len(allowed))]

    return decide


def end(space: Space, largest: bool, seed: int) -> Architecture:
    """The largest or smallest subnet; choices among strings are drawn, numbers are at their end."""
    base = outermost(space, largest)
    choices = dict(base.choices)
    rng = random.Random(f"end {seed}")
    for name, value in choices.items():
        if isinstance(value, str):
            choices[name] = rng.choice(space.known[name])
    try:
        return space.project(choices, seed)
    except SpaceError:  # refused with these strings
        return base


STRATEGIES: dict[str, Strategy] = {s.name: s for s in (SinglePath(), Sandwich(), Online(), Progressive())}


def strategy_named(name: str) -> Strategy:
    """A strategy by name.

    Raises:
        SupernetError: there is none; the message lists those there are.
    """
    if name not in STRATEGIES:
        raise SupernetError(f"expected a strategy among {', '.join(STRATEGIES)}, got {name!r}.\n  Use one of these.")
    return STRATEGIES[name]
