"""Where a subnet's multiply-accumulates stand among those of its space, so that teachers can be matched to students."""

from __future__ import annotations

import bisect
import random
from functools import cached_property

from nasplat.searchspace import Architecture, Space

POOL = 256
"""Random architectures whose MACs tell the rank of a subnet in its space."""
NEAR = 0.05
"""Largest difference of ranks, as a share of the pool, at which a teacher matches a student."""


class Ranks:
    """Ranks of a space's subnets by their MACs, against a pool of random ones."""

    def __init__(self, space: Space) -> None:
        """Note the space; its pool is drawn when it is first needed.

        Args:
            space: Space that the subnets belong to.
        """
        self.space = space
        self._known: dict[Architecture, float] = {}

    @cached_property
    def pool(self) -> list[tuple[float, Architecture]]:
        """Random architectures with their MACs, from few to many."""
        drawn = [self.space.sample(seed=i) for i in range(POOL)]
        return sorted(((float(a.graph().macs), a) for a in drawn), key=lambda row: row[0])

    def of(self, architecture: Architecture) -> float:
        """Rank an architecture.

        Args:
            architecture: Member of the space.

        Returns:
            Share of the pool with fewer MACs, from 0 to 1.
        """
        if architecture not in self._known:
            macs = [m for m, _ in self.pool]
            self._known[architecture] = bisect.bisect_left(macs, float(architecture.graph().macs)) / len(macs)
        return self._known[architecture]

    def near(self, rank: float, rng: random.Random) -> Architecture:
        """Draw a member of the pool whose rank is near a given one.

        Args:
            rank: Wanted rank, from 0 to 1.
            rng: Generator that decides the draw.

        Returns:
            An architecture whose rank differs by at most `NEAR`.
        """
        at = (rank + rng.uniform(-NEAR, NEAR)) * len(self.pool)
        return self.pool[min(len(self.pool) - 1, max(0, int(at)))][1]
