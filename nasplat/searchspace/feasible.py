"""`Feasible`: draws within limits, exact where costs add up over the choices, by guided rejection elsewhere."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Mapping

from nasplat.errors import SpaceError
from nasplat.graph.quantities import PLAIN, refusal
from nasplat.searchspace.architecture import AbstractSpace, Architecture
from nasplat.searchspace.costs import QUANTITIES, costs_of
from nasplat.searchspace.fitted_draws import FittedDraws
from nasplat.searchspace.rules import Intractable
from nasplat.searchspace.structure import structure_of
from nasplat.searchspace.tabulated_draws import TabulatedDraws, in_words, named

DRAWS = 100_000
"""Draws in vain before a limit counts as unreachable."""


class Feasible:
    """The part of a space within limits, from which members can be drawn; `Space.feasible` makes and keeps it.

    Example:
        >>> import random
        >>> import nasplat
        >>> small = nasplat.load_space("nasbench201", width=8, cells=1, image=16).feasible({"params": 25_000})
        >>> small.method, small.draw(random.Random(0)).graph().params <= 25_000
        ('exact', True)
    """

    def __init__(self, space: AbstractSpace, limits: Mapping[str, float]) -> None:
        """Prepare draws.

        Args:
            space: Space to draw from.
            limits: Largest allowed value of each quantity, by the names of `nasplat.graph.quantities`.

        Raises:
            SpaceError: a limit names another quantity, is no positive number, or is one that no member meets.
            GraphError: a limit is one of decoders, and the members are none.
        """
        for name, value in limits.items():
            if refusal(name) or not isinstance(value, int | float) or not value > 0:
                raise SpaceError(
                    f"expected positive limits on {', '.join(QUANTITIES)}, got {name!r}: {value!r}.\n"
                    "  State the largest allowed value."
                )
        started = time.perf_counter()
        self.space, self.limits = space, dict(limits)
        self.drawn = self.kept = 0
        """Draws so far, and how many of them were within the limits."""
        self.method = "exact"
        """'exact' where draws come from tabulated costs, 'guided' where a fitted sum proposes what is then checked."""
        self.reason = ""
        """Why the method is not exact; empty where it is."""
        self.draws: TabulatedDraws | FittedDraws
        """What draws by that method."""
        others = sorted(limits.keys() - {*PLAIN})
        structure = structure_of(space)
        costs = Intractable(f"{others[0]} is not tabulated over the choices") if others else costs_of(space)
        if isinstance(costs, Intractable):
            self.method, self.reason = "guided", str(costs)
            self.draws = FittedDraws(space, None if isinstance(structure, Intractable) else structure, self.limits)
            doubt = self.draws.doubt
        else:
            self.draws = TabulatedDraws(costs, self.limits)
            doubt = next((c.doubt for c in costs if c.doubt), "")
        if doubt:
            warnings.warn(
                f"members of {named(space)} may exceed {in_words(self.limits)} unseen, for their counts are not exact "
                f"({doubt}).",
                stacklevel=2,
            )
        self.setup_seconds = time.perf_counter() - started
        """Seconds that the preparations took; structure and costs are learned once for all limits on a space."""

    def __repr__(self) -> str:
        """One line with the space, the limits and the method."""
        return f"Feasible({named(self.space)}, {self.limits}, {self.method})"

    @property
    def is_uniform(self) -> bool:
        """Whether every member within the limits is equally likely to be drawn."""
        return self.method == "exact"

    @property
    def acceptance(self) -> float:
        """Share of the members drawn so far that were within the limits; nan before the first draw."""
        drawn = self.draws.captured if isinstance(self.draws, FittedDraws) else self.drawn
        return self.kept / drawn if drawn else float("nan")

    def draw(self, rng: random.Random) -> Architecture:
        """Draw a member within the limits.

        Args:
            rng: Generator of random numbers; the same state gives the same member.

        Returns:
            The member.

        Raises:
            SpaceError: `DRAWS` draws gave no member.
        """
        for _ in range(DRAWS):
            self.drawn += 1
            found = self.draws.draw(rng)
            if found is not None:
                self.kept += 1
                return found
        raise SpaceError(
            f"{self.drawn:,} draws from {named(self.space)} gave no member within {in_words(self.limits)}.\n"
            "  Raise a limit."
        )
