"""Which subnets one training step samples, what each learns from, and the phases a training goes through."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import cos, pi

from nasplat.errors import SpaceError, SupernetError
from nasplat.searchspace import Architecture, Space
from nasplat.searchspace.pick import Decide, Option
from nasplat.supernet.extremes import DEPTH, KERNEL, OTHER, SCALE, WIDTH, end, kinds, outermost
from nasplat.task.training import learning_rate

LARGEST = "largest"
"""The phase in which nothing is chosen."""


@dataclass(frozen=True)
class Lesson:
    """One subnet of a step, and what it learns from."""

    architecture: Architecture
    """Subnet that is trained."""
    from_teacher: bool = False
    """True lets it learn the outputs of the step's first subnet on the same batch (beside the targets, where a network
    answers maps); False lets it learn the targets."""
    is_taught: bool = False
    """True lets it learn from the targets and from the training's teacher, where there is one."""


@dataclass(frozen=True)
class Phase:
    """A part of a training."""

    name: str = "all"
    """Word by which every epoch's report names the phase."""
    sorts_channels: bool = False
    """True puts channels in the order of their importance before the phase begins."""
    keeps_weights: bool = False
    """True keeps the weights for the teacher before the phase begins."""


class Strategy(ABC):
    """A training strategy: pure functions of the step's seed and of how far the training is.

    Subclasses name the subnets of a step, and may divide the training into phases or set the learning rate.

    Example:
        >>> class Largest(Strategy):
        ...     name = "largest"
        ...
        ...     def lessons(self, space, seed, progress):
        ...         yield Lesson(space.extreme())
        >>> Largest().phase(None, 0.5).name
        'all'
    """

    name: str
    """Word by which checkpoints and reports name the strategy."""
    remembers: bool = False
    """True lets the largest subnet teach, as it was when a phase kept the weights. Off, since most strategies have no
    phase that keeps them."""
    distils: bool = False
    """True lets the teacher that `TrainConfig.teacher` names teach. Off, since a teacher makes every step dearer."""

    @abstractmethod
    def lessons(self, space: Space, seed: int, progress: float) -> Iterator[Lesson]:
        """Name the subnets of one step, in order.

        Args:
            space: Space of the supernet.
            seed: Seed of the step; equal seeds must give equal lessons, in every process and after a resume.
            progress: Share of the training's steps that are done, from 0 to below 1.

        Yields:
            Lessons; every one is a forward and a backward pass.
        """

    def phase(self, space: Space, progress: float) -> Phase:
        """Name the phase of a step; by default the training has one.

        Args:
            space: Space of the supernet.
            progress: Share of the training's steps that are done, from 0 to below 1.

        Returns:
            The phase; what it asks for is done before its first step.
        """
        return Phase()

    def rate(self, space: Space, step: int, steps: int, peak: float) -> float:
        """Set the learning rate of a step; by default one warm-up and one cosine over the whole training.

        Args:
            space: Space of the supernet.
            step: Number of the step, from 0.
            steps: Number of steps of the training.
            peak: Largest learning rate, as configured.

        Returns:
            Learning rate of the step, from 0 to `peak`.
        """
        return learning_rate(step, steps, peak)


@dataclass(frozen=True)
class SinglePath(Strategy):
    """One random subnet a step, trained on targets: the most steps for the compute, and best for short trainings.

    Source: Guo et al. 2020, arXiv:1904.00420.
    """

    name: str = "single-path"

    def lessons(self, space: Space, seed: int, progress: float) -> Iterator[Lesson]:
        """Draw one subnet, uniformly per choice."""
        yield Lesson(space.sample(seed=seed))


@dataclass(frozen=True)
class Sandwich(Strategy):
    """Largest, smallest and random subnets a step; all but the largest learn from the largest.

    Source: Yu et al. 2020 (BigNAS), arXiv:2003.11142. "Largest" takes string choices at random, so that every operation
    has its turn.
    """

    middles: int = 2
    """Random subnets of a step, beside the largest and the smallest; 2 as in BigNAS."""
    alone: float = 0.0
    """Share of the training, at its beginning, for the largest subnet alone; from 0 to 1."""
    name: str = "sandwich"

    def lessons(self, space: Space, seed: int, progress: float) -> Iterator[Lesson]:
        """Draw the largest, the smallest, then random subnets."""
        yield Lesson(end(space, True, seed))
        if progress < self.alone:
            return
        yield Lesson(end(space, False, seed), from_teacher=True)
        for i in range(self.middles):
            yield Lesson(space.sample(seed=(seed * 31 + i + 1) % 2**62), from_teacher=True)

    def phase(self, space: Space, progress: float) -> Phase:
        """Name the phase largest while the largest subnet is alone, then all."""
        return Phase("largest" if progress < self.alone else "all")


@dataclass(frozen=True)
class Online(Strategy):
    """One random subnet a step (OVO), which learns from the targets and from a teacher that is sampled with it.

    Source: Wei et al. 2022, arXiv:2212.13766; who teaches and how is set by `TrainConfig`.
    """

    name: str = "ovo"
    distils: bool = True

    def lessons(self, space: Space, seed: int, progress: float) -> Iterator[Lesson]:
        """Draw one subnet, uniformly per choice, to be taught."""
        yield Lesson(space.sample(seed=seed), is_taught=True)


@dataclass(frozen=True)
class Opening:
    """A phase of progressive shrinking."""

    kind: str
    """Kind of the choices that open in it (see `nasplat.supernet.extremes.kinds`); 'largest' opens none."""
    draws: int = 1
    """Number of random subnets of a step."""
    share: float = 1.0
    """Length of the phase, relative to the other phases."""
    peak: float = 1.0
    """Largest learning rate of the phase, relative to the configured one."""
    warm: float = 0.0
    """Share of the phase over which the learning rate rises, from 0 to 1."""
    halves: bool = False
    """True opens only the two largest options in the first half of the phase."""


@dataclass(frozen=True)
class Progressive(Strategy):
    """Progressive shrinking: first the largest subnet, then phases with ever more subnets.

    What a choice is follows from what it changes in the largest network (`nasplat.supernet.extremes.kinds`), not from
    its name. Before widths open, channels are sorted. Phases whose kind of choice a space lacks are left out; their
    share goes to the others. `progressive` follows Once-for-All: smaller kernels, then less depth, then less width, of
    both first the two largest options; from the second phase on, subnets also learn from the largest as it was at the
    end of the first; one learning rate schedule covers all phases, which Once-for-All restarts. `shrinking` is the
    schedule of EASNet as published: 64 epochs of the largest and 27 of each other phase, scaled to the epochs of the
    run, the learning rate restarted at half its value, no teacher. Sources: Cai et al. 2020, arXiv:1908.09791; Wang et
    al. 2022, arXiv:2207.09796.
    """

    name: str = "progressive"
    openings: tuple[Opening, ...] = (
        Opening(LARGEST),
        Opening(KERNEL),
        Opening(DEPTH, 2, halves=True),
        Opening(WIDTH, 4, halves=True),
        Opening(SCALE, 4),
    )
    """Phases in order; the first trains the largest subnet alone."""
    remembers: bool = True
    restarts: bool = False
    """True gives every phase a learning rate schedule of its own."""
    largest: float | None = 0.3
    """Share of the training for the largest subnet alone, whatever phases there are; None for its opening's share."""

    def lessons(self, space: Space, seed: int, progress: float) -> Iterator[Lesson]:
        """Draw random subnets of what is open by now."""
        phases, at, within = self._at(space, progress)
        now = phases[at]
        if now.kind == LARGEST:
            yield Lesson(end(space, True, seed))
            return
        known, base = {n: WIDTH if k == OTHER else k for n, k in kinds(space).items()}, outermost(space, True).choices
        closed = {name for name, kind in known.items() if kind in {o.kind for o in phases[at + 1 :]}}
        partly = (
            {name for name, kind in known.items() if kind == now.kind} if now.halves and within < 0.5 else set[str]()
        )
        for i in range(now.draws):
            rng = random.Random(f"progressive {seed} {i}")
            try:
                drawn = space.draw(lambda rng=rng: _shrunk(rng, closed, partly, base))
            except SpaceError:  # nothing but the largest is allowed beside what is closed
                drawn = outermost(space, True)
            yield Lesson(drawn, is_taught=self.remembers)

    def phase(self, space: Space, progress: float) -> Phase:
        """Name the phase by what opens in it: largest, kernel, depth, width or scale."""
        phases, at, _ = self._at(space, progress)
        kind = phases[at].kind
        return Phase(kind, sorts_channels=kind == WIDTH, keeps_weights=at == 1)

    def rate(self, space: Space, step: int, steps: int, peak: float) -> float:
        """Rise linearly over the warm-up of the training, or of the phase, then fall to zero as a cosine."""
        if not self.restarts:
            return learning_rate(step, steps, peak)
        phases, at, within = self._at(space, step / steps)
        opening = phases[at]
        if within < opening.warm:
            return peak * opening.peak * max(within, 1 / steps) / opening.warm
        return peak * opening.peak * 0.5 * (1 + cos(pi * (within - opening.warm) / (1 - opening.warm)))

    def _at(self, space: Space, progress: float) -> tuple[list[Opening], int, float]:
        """All phases of the space, the number of the present one, and how far the training is within it, below 1."""
        met = {WIDTH if kind == OTHER else kind for kind in kinds(space).values()}
        phases = [o for o in self.openings if o.kind == LARGEST or o.kind in met]
        shares = [o.share for o in phases]
        if self.largest is not None and len(phases) > 1:
            rest = sum(shares[1:])
            shares = [self.largest, *(s / rest * (1 - self.largest) for s in shares[1:])]
        total, begun = sum(shares), 0.0
        for at, share in enumerate(shares):
            if progress < begun + share / total - 1e-12 or at == len(shares) - 1:
                return phases, at, min(max(0.0, (progress - begun) / (share / total)), 1 - 1e-9)
            begun += share / total
        raise AssertionError


def _shrunk(rng: random.Random, closed: set[str], partly: set[str], base: Mapping[str, Option]) -> Decide:
    """Decide at random, but keep closed choices at their largest, and partly open ones at their two largest options."""

    def decide(name: str, options: tuple[Option, ...]) -> Option:
        if any(isinstance(o, str) for o in options):
            return options[int(rng.random() * len(options))]
        ordered = sorted(options, reverse=True)  # type: ignore[type-var]
        if name in closed:
            return base.get(name, ordered[0])
        allowed = ordered[:2] if name in partly else ordered
        return allowed[int(rng.random() * len(allowed))]

    return decide


EASNET = Progressive(
    "shrinking",
    (
        Opening(LARGEST, share=64),
        Opening(KERNEL, 1, 27, 0.5, 2 / 27),
        Opening(DEPTH, 2, 27, 0.5, 2 / 27),
        Opening(WIDTH, 4, 27, 0.5, 2 / 27),
        Opening(SCALE, 6, 27, 0.5, 2 / 27),
    ),
    remembers=False,
    restarts=True,
    largest=None,
)
"""Progressive shrinking as EASNet published it; clipping and weight decay are set by `TrainConfig`."""
STRATEGIES: dict[str, Strategy] = {
    s.name: s for s in (SinglePath(), Sandwich(), Sandwich(1, 0.4, "warm-sandwich"), Progressive(), EASNET, Online())
}


def strategy_named(name: str) -> Strategy:
    """Find a strategy by name.

    Args:
        name: Name of the strategy, such as 'single-path'.

    Returns:
        The strategy.

    Raises:
        SupernetError: there is none; the message lists those there are.
    """
    if name not in STRATEGIES:
        raise SupernetError(f"expected a strategy among {', '.join(STRATEGIES)}, got {name!r}.\n  Use one of these.")
    return STRATEGIES[name]
