"""Draws within limits where costs cannot be tabulated: a fitted sum proposes, and every draw is captured and checked.

The sum has one number for each option, fitted to captured members near the limits. Where the space's structure is
known, members with a small sum are drawn as for a knapsack; else by walks that prefer cheap options.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from nasplat.errors import SpaceError
from nasplat.graph.quantities import count
from nasplat.searchspace.architecture import AbstractSpace, Architecture
from nasplat.searchspace.costs import doubt_of
from nasplat.searchspace.rules import END
from nasplat.searchspace.structure import Structure
from nasplat.searchspace.tabulated_draws import Knapsack, in_words, named

FITTED = 300
"""Members that one round of fitting captures."""
LEVELS = 12
"""Rounds of fitting at most."""
REFUSALS = 1000
"""Draws that the space refuses before a proposal counts as made in vain."""
KEPT = 0.9
"""Share of the proposals that should be within the limits: a capture costs far more than a draw."""
TRUSTED = 0.8
"""Share below which draws are mutations of members found within the limits while preparing."""
MUTATIONS = 3
"""Mutations of such a member at most."""
PROPOSALS, NEIGHBOURS = 4, 12
"""Proposals and mutations that a draw captures at most, before a member found earlier is given again."""


class FittedDraws:
    """Draws by a fitted sum of one number a choice; each is captured and checked, and not all are equally likely."""

    def __init__(self, space: AbstractSpace, structure: Structure | None, limits: Mapping[str, float]) -> None:
        """Capture members nearer and nearer to the limits, and fit the sum to them.

        Args:
            space: Space to draw from.
            structure: Structure of the space, where it can be tabulated.
            limits: Largest allowed value of each quantity.

        Raises:
            SpaceError: no member within the limits was found.
        """
        self.space, self.structure, self.limits = space, structure, limits
        self.doubt = ""
        """Why some counts may be too small; empty where none is."""
        self.captured = 0
        """Members captured since the preparations ended."""
        rng = random.Random("guide")
        members = [space.sample(seed=rng.getrandbits(48)) for _ in range(FITTED)]
        ratios = [self._ratio(m) for m in members]
        for _ in range(LEVELS):
            self._fit(members, ratios)
            best = [members[i] for i in np.argsort(ratios, kind="stable")[: FITTED // 10]]
            tried = (
                self._neighbour(rng.choice(best), rng) if i % 3 == 0 else self._propose(rng) for i in range(FITTED)
            )
            fresh = [m for m in tried if m]
            members += fresh
            found = [self._ratio(m) for m in fresh]
            ratios += found
            if self.level == 1.0 and sum(r <= 1 for r in found) > FITTED / 4:
                break
        self._fit(members, ratios)
        self.is_trusted = True
        """Whether the fitted sum tells well enough which proposals are within the limits."""
        self._tighten(rng)
        self.captured = 0
        self.within = [m for m, ratio in zip(members, ratios, strict=True) if ratio <= 1]
        """Members within the limits found by the preparations; no draw changes them, so that a seed fixes its draw."""
        if min(ratios) > 1:
            raise SpaceError(
                f"no architecture of {named(space)} was found within {in_words(limits)} among {len(members):,}; "
                f"the best exceeds a limit by {min(ratios) - 1:.1%}.\n  Raise the limit."
            )

    def _tighten(self, rng: random.Random) -> None:
        """Aim a little below the limit, so that most proposals are within it."""
        step = max(self.margin, 1e-3)
        for _ in range(LEVELS):
            tried = [m for m in (self._propose(rng) for _ in range(FITTED // 8)) if m is not None]
            kept = sum(self._ratio(m) <= 1 for m in tried) / max(1, len(tried))
            self.is_trusted = kept >= TRUSTED
            if kept >= KEPT:
                return
            self.margin -= step
            self.knapsack = None if self.structure is None else self._knapsack(self.structure)

    def draw(self, rng: random.Random) -> Architecture | None:
        """Draw a member within the limits.

        A proposal of the fitted sum is taken if it is within them; after some in vain, or where the fit tells too
        little, a neighbour of a member that is.

        Args:
            rng: Generator of random numbers.

        Returns:
            A member within the limits.
        """
        for attempt in range(PROPOSALS + NEIGHBOURS):
            if attempt < PROPOSALS and self.is_trusted:
                found = self._propose(rng)
            else:
                found = rng.choice(self.within)
                for _ in range(rng.randint(1, MUTATIONS)):
                    found = self._neighbour(found, rng) or found
            if found is not None and self._ratio(found) <= 1:
                return found
        return rng.choice(self.within)

    @staticmethod
    def _neighbour(member: Architecture, rng: random.Random) -> Architecture | None:
        """Mutate a member; None where it has no neighbour."""
        try:
            return member.space.mutate(member, seed=rng.getrandbits(48))
        except SpaceError:
            return None

    def _ratio(self, member: Architecture) -> float:
        """Capture a member and return the largest of its costs over their limits."""
        self.captured += 1
        graph = member.graph()
        self.doubt = self.doubt or doubt_of(graph)
        return max(count(graph, q) / limit for q, limit in self.limits.items())

    def _fit(self, members: list[Architecture], ratios: list[float]) -> None:
        """Fit the ratio or its logarithm by least squares, weighted towards the level aimed at.

        The level is the limit, or what the best members so far come near to.
        """
        columns: dict[tuple[str, Any], int] = {}
        rows = [[columns.setdefault((n, repr(v)), len(columns)) for n, v in m.choices.items()] for m in members]
        matrix = np.zeros((len(rows), len(columns) + 1))
        for at, row in enumerate(rows):
            matrix[at, row] = 1.0
        matrix[:, -1] = 1.0
        self.level = max(1.0, float(np.quantile(ratios[-FITTED:], 0.1)))
        over = np.array(ratios) / self.level
        fits = [self._solve(matrix, over - 1), self._solve(matrix, np.log(over))]
        solution, self.margin = min(fits, key=lambda fit: fit[1])
        self.parts = {key: float(solution[i]) for key, i in columns.items()}
        self.constant = float(solution[-1])
        self.knapsack = None if self.structure is None else self._knapsack(self.structure)

    @staticmethod
    def _solve(matrix: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the coefficients and half of their typical error near zero."""
        weight = 1.0 / (0.1 + np.abs(target))  # what is far from the level need not be told exactly
        penalty = np.sqrt(1e-3) * np.eye(matrix.shape[1])
        solution = np.linalg.lstsq(
            np.vstack([matrix * weight[:, None], penalty]),
            np.concatenate([target * weight, np.zeros(matrix.shape[1])]),
            rcond=None,
        )[0]
        near = np.abs(target) < 0.5
        errors = (matrix @ solution - target)[near if near.sum() > 20 else slice(None)]
        return solution, float(np.sqrt(np.mean(errors**2))) / 2

    def _knapsack(self, structure: Structure) -> Knapsack:
        """Count the members whose fitted sum is below the margin, or below a little more than the smallest sum."""
        scale = 1e6
        more = [[(round(scale * self._part(s.name, i)), 0) for i in range(len(s.following))] for s in structure.states]
        base = (round(scale * self.constant), 0)
        found = Knapsack(structure, more, base, "macs", scale * self.margin)
        return found if found.share else Knapsack(structure, more, base, "macs", found.smallest + scale * 0.02)

    def _part(self, name: str, number: int) -> float:
        """Return what an option adds to the fitted sum; 0 for one that was never fitted."""
        return self.parts.get((name, repr(self.space.known[name][number])), 0.0)

    def _propose(self, rng: random.Random) -> Architecture | None:
        """Draw a member whose fitted sum is below the margin; None where the space refuses all that are drawn."""
        if self.knapsack is None or self.structure is None:
            return self._tilted(rng)
        for _ in range(REFUSALS):
            made = self.knapsack.draw(rng)[0]
            if not self.structure.refuses_late or self.structure.walker.run(made)[1] == END:
                return Architecture(self.space, self.structure.choices(made))
        return None

    def _tilted(self, rng: random.Random) -> Architecture | None:
        """Walk with a preference for cheap options, the stronger the dearer the last attempt was."""
        found = None
        for tilt in (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0):

            def decide(name: str, options: tuple[Any, ...], tilt: float = tilt) -> Any:
                weights = [np.exp(-tilt * self.parts.get((name, repr(o)), 0.0)) for o in options]
                return rng.choices(options, weights)[0]

            found = self.space.walk(decide)
            if found is not None:
                total = self.constant + sum(self.parts.get((n, repr(v)), 0.0) for n, v in found.choices.items())
                if total <= self.margin:
                    return found
        return found
