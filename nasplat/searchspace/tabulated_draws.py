"""Draws within limits, each member equally likely, where costs add up over the choices and are tabulated.

Dynamic programming over the states counts the members whose cost stays below a limit, as for a knapsack, and draws
follow those counts: no draw is wasted but for rounding, and for a limit on a quantity that does not add up.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from math import gcd, inf

import numpy as np

from nasplat.errors import SpaceError
from nasplat.graph.quantities import count
from nasplat.searchspace.architecture import AbstractSpace, Architecture
from nasplat.searchspace.costs import ADDED, Cost, Costs
from nasplat.searchspace.rules import END, Prefix
from nasplat.searchspace.structure import Structure

CELLS = 16_000_000
"""Numbers that the tables of all states may hold together."""


def named(space: AbstractSpace) -> str:
    """Name a space with its presets for an error message.

    Args:
        space: Space that may have any presets.

    Returns:
        Words such as `Space(nasbench201, width=8)`.
    """
    return f"Space({', '.join([space.name, *[f'{k}={v!r}' for k, v in space.presets.items()]])})"


def in_words(limits: Mapping[str, float]) -> str:
    """State limits in one line.

    Args:
        limits: Largest allowed value of each quantity.

    Returns:
        Words such as `macs <= 2,000,000, params <= 50,000`.
    """
    return ", ".join(f"{q} <= {v:,.0f}" for q, v in limits.items())


def is_broken(member: Architecture, limits: Mapping[str, float]) -> bool:
    """Capture a member and check it against limits.

    Args:
        member: Architecture to capture.
        limits: Largest allowed value of each quantity.

    Returns:
        Whether any limit is exceeded.
    """
    graph = member.graph()
    return any(count(graph, q) > limit for q, limit in limits.items())


@dataclass
class _Step:
    """One state, as a draw passes it."""

    name: str
    """Name of the choice."""
    shares: list[float]
    """Share of the state's encodings that go on with each option."""
    bins: list[int]
    """Bins of the room that each option takes."""
    more: list[Cost]
    """What each option adds."""
    following: list[int]
    """Number of the state after each option; -1 stands for the end, -2 for a refusal."""


class Knapsack:
    """Members whose cost stays below one limit, counted by dynamic programming over the states of a space."""

    def __init__(self, structure: Structure, more: list[list[Cost]], base: Cost, quantity: str, limit: float) -> None:
        """Count the members within the limit.

        Args:
            structure: Structure whose states are ordered so that what follows a state stands before it.
            more: What each option of each state adds.
            base: Cost where nothing is added.
            quantity: Quantity that the limit bounds, one of `ADDED`.
            limit: Largest allowed cost, in the unit of the quantity.
        """
        self.quantity = quantity
        which, states = ADDED.index(quantity), structure.states
        least: list[int] = []  # that must still be added from a state on
        for state, costs in zip(states, more, strict=True):
            ends = [
                c[which] + (least[f] if f >= 0 else 0) for f, c in zip(state.following, costs, strict=True) if f != -2
            ]
            least.append(min(ends, default=0))
        self.smallest = base[which] + (least[-1] if states else 0)
        self.steps: list[_Step] = []
        self.within: list[np.ndarray] = []
        """For each state: share of its encodings that take at most 0, 1, … `room` bins."""
        self.room, self.share = 0, 0.0
        left = int(min(limit, 2**62)) - self.smallest
        if left < 0:
            return
        excess = [
            [c[which] + (least[f] if f >= 0 else 0) - least[at] for f, c in zip(state.following, costs, strict=True)]
            for at, (state, costs) in enumerate(zip(states, more, strict=True))
        ]
        unit = reduce(gcd, (e for row in excess for e in row), 0) or 1
        most = max(200, min(4000, CELLS // max(1, len(states))))
        if left // unit > most:
            # rounded down: a draw may exceed the limit by less than one bin a choice, and is drawn again
            unit = -(-left // most)
        self.room = left // unit
        for state, costs, row in zip(states, more, excess, strict=True):
            ways = [1 if f == -1 else 0 if f == -2 else states[f].count for f in state.following]
            step = _Step(
                state.name,
                [w / state.count if w else 0.0 for w in ways],
                [e // unit for e in row],
                costs,
                state.following,
            )
            total = np.zeros(self.room + 1)
            for share, taken, following in zip(step.shares, step.bins, step.following, strict=True):
                if share and taken <= self.room:
                    total[taken:] += share * (1.0 if following < 0 else self.within[following][: self.room + 1 - taken])
            self.steps.append(step)
            self.within.append(total)

        self.share = float(self.within[-1][self.room]) if states else 1.0
        """Share of the space's encodings that draws come from."""

    def draw(self, rng: random.Random) -> tuple[Prefix, Cost]:
        """Draw a member within the limit, each equally likely.

        Args:
            rng: Generator of random numbers.

        Returns:
            Numbers of the options by name, and what they add to the base.
        """
        made: Prefix = {}
        at, left, macs, params = len(self.steps) - 1, self.room, 0, 0
        while at >= 0:
            step, weights, total = self.steps[at], [], 0.0
            for share, taken, following in zip(step.shares, step.bins, step.following, strict=True):
                if share and taken <= left:
                    total += share if following < 0 else share * self.within[following][left - taken]
                weights.append(total)
            ticket = rng.random() * total
            number = next((i for i, w in enumerate(weights) if ticket < w), len(weights) - 1)
            made[step.name] = number
            left -= step.bins[number]
            macs, params = macs + step.more[number][0], params + step.more[number][1]
            at = step.following[number]
        return made, (macs, params)


class TabulatedDraws:
    """Draws within limits where costs are tabulated: every member within the limits is equally likely."""

    def __init__(self, parts: list[Costs], limits: Mapping[str, float]) -> None:
        """Count the members within the limits.

        Args:
            parts: Tabulated costs of each part of the space.
            limits: Largest allowed value of each quantity.

        Raises:
            SpaceError: no member is within the limits.
        """
        self.parts, self.limits = parts, limits
        self.knapsacks = [self._knapsack(costs) for costs in parts]
        for quantity, limit in limits.items():
            smallest = [k.smallest for k in self.knapsacks if k.quantity == quantity]
            if len(smallest) == len(parts) and min(smallest) > limit:
                raise SpaceError(
                    f"no architecture of {named(parts[0].space)} has {quantity} <= {limit:,.0f}; "
                    f"the smallest has {min(smallest):,}.\n"
                    "  Raise the limit."
                )
        if not any(k.share for k in self.knapsacks):
            raise SpaceError(
                f"no architecture of {named(parts[0].space)} is within {in_words(limits)} at once.\n"
                "  Raise one of the limits."
            )
        self.weights = [k.share * c.structure.count for k, c in zip(self.knapsacks, parts, strict=True)]
        self.share = sum(self.weights) / sum(c.structure.count for c in parts)
        """Share of the space's encodings that draws come from."""

    def _knapsack(self, costs: Costs) -> Knapsack:
        """Return the knapsack of the limit that leaves the fewest members."""
        structure = costs.structure
        more = [[costs.more(s, i) for i in range(len(s.following))] for s in structure.states]
        bounded = [Knapsack(structure, more, costs.base, q, limit) for q, limit in self.limits.items() if q in ADDED]
        return min(bounded or [Knapsack(structure, more, costs.base, "macs", inf)], key=lambda k: k.share)

    def draw(self, rng: random.Random) -> Architecture | None:
        """Draw a member.

        Args:
            rng: Generator of random numbers.

        Returns:
            A member within the limits; None where rounding, a refusal, or a limit that does not add up was broken.
        """
        (at,) = rng.choices(range(len(self.parts)), self.weights)
        costs, (made, more) = self.parts[at], self.knapsacks[at].draw(rng)
        structure = costs.structure
        for base, added, quantity in zip(costs.base, more, ADDED, strict=True):
            if quantity in self.limits and base + added > self.limits[quantity]:
                return None
        if structure.refuses_late and structure.walker.run(made)[1] != END:
            return None
        found = Architecture(costs.space, structure.choices(made))
        return None if not self.limits.keys() <= {*ADDED} and is_broken(found, self.limits) else found
