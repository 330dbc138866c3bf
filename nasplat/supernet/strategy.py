"""Which subnets one training step samples, and what each learns from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from nasplat.errors import SupernetError
from nasplat.searchspace import Architecture, Space


@dataclass(frozen=True)
class Lesson:
    """One subnet of a step."""

    architecture: Architecture
    from_teacher: bool = False
    """True: learns the soft outputs of the step's first subnet on the same batch; False: learns the targets."""
    is_taught: bool = False
    """True: learns from the targets and from the run's teacher, where there is one."""


class Strategy(Protocol):
    """A training strategy: a pure function of the step's seed."""

    @property
    def name(self) -> str:
        """What it is called in a configuration."""
        ...

    def lessons(self, space: Space, seed: int) -> Iterator[Lesson]:
        """The subnets of one step, in order."""
        ...


@dataclass(frozen=True)
class SinglePath:
    """One random subnet a step, trained on targets. The most steps for the compute; best for short runs.

    Source: Guo et al. 2020, arXiv:1904.00420.
    """

    name: str = "single-path"

    def lessons(self, space: Space, seed: int) -> Iterator[Lesson]:
        """One draw, uniform per choice."""
        yield Lesson(space.sample(seed=seed))


@dataclass(frozen=True)
class Sandwich:
    """Largest, smallest and random subnets a step; all but the largest learn from the largest.

    Source: Yu et al. 2020 (BigNAS), arXiv:2003.11142. "Largest" takes string choices at random, so that every operation
    has its turn.
    """

    middles: int = 2
    name: str = "sandwich"

    def lessons(self, space: Space, seed: int) -> Iterator[Lesson]:
        """Largest, smallest, then random ones."""
        yield Lesson(end(space, True, seed))
        yield Lesson(end(space, False, seed), from_teacher=True)
        for i in range(self.middles):
            yield Lesson(space.sample(seed=(seed * 31 + i + 1) % 2**62), from_teacher=True)


@dataclass(frozen=True)
class Online:
    """OVO: one random subnet a step, which learns from the targets and from a teacher that is sampled at the same step.

    Source: Wei et al. 2022, arXiv:2212.13766; who teaches and how is set by `TrainConfig`.
    """

    name: str = "ovo"

    def lessons(self, space: Space, seed: int) -> Iterator[Lesson]:
        """One draw, uniform per choice."""
        yield Lesson(space.sample(seed=seed), is_taught=True)


def end(space: Space, largest: bool, seed: int) -> Architecture:
    """The largest or smallest subnet; choices among strings are drawn, numbers are at their end."""
    choices = dict(space.extreme(largest).choices)
    rng = random.Random(f"end {seed}")
    for name, value in choices.items():
        if isinstance(value, str):
            choices[name] = rng.choice(space.known[name])
    return space.project(choices, seed)


STRATEGIES: dict[str, Strategy] = {s.name: s for s in (SinglePath(), Sandwich(), Online())}


def strategy_named(name: str) -> Strategy:
    """A strategy by name.

    Raises:
        SupernetError: there is none; the message lists those there are.
    """
    if name not in STRATEGIES:
        raise SupernetError(f"expected a strategy among {', '.join(STRATEGIES)}, got {name!r}.\n  Use one of these.")
    return STRATEGIES[name]
