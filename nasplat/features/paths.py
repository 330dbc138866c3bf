"""What the ways through graphs add up to, for many graphs at once: longest, average, and the number of ways.

Between nodes that read several others, ways are chains, along which everything simply adds up. So chains are summed in
as many rounds as their length has binary digits, and only nodes with several sources are gone through level by level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
ENDLESS = 1e30
"""Sums end here: there may be more ways through a network than numbers can tell."""


@dataclass(frozen=True)
class Paths:
    """The edges of acyclic graphs, each pair of nodes once."""

    size: int
    """Number N of nodes; they stand in execution order."""
    source: Ints
    """Source of each edge, shape (M,)."""
    target: Ints
    """Target of each edge, ascending, shape (M,)."""
    times: Ints
    """How often the edge stands in the graph, shape (M,)."""

    @staticmethod
    def of(size: int, source: Ints, target: Ints) -> Paths:
        """Take edges in any order, some of them perhaps several times.

        Args:
            size: Number of nodes.
            source: Source of each edge.
            target: Target of each edge.

        Returns:
            The distinct ones.
        """
        keys, times = np.unique(target * size + source, return_counts=True)
        return Paths(size, keys % max(1, size), keys // max(1, size), times)

    def totals(self, most: Floats, even: Floats, at: Ints | None = None) -> tuple[Floats, Floats]:
        """Add up what nodes hold along the ways that lead to them.

        Args:
            most: What each node adds to the largest total among its sources, shape (N, a).
            even: What each node adds to a weighted sum over its sources, shape (N, b): of the last column to the sum
                over all edges, of the others to the mean over distinct sources.
            at: Nodes whose totals are wanted; None for all.

        Returns:
            Totals of shape (len(at), a) and (len(at), b).
        """
        many = np.bincount(self.target, minlength=self.size)
        begin = np.cumsum(many) - many
        is_chain = many == 1
        is_chain[self.target[self.times > 1]] = False
        root = np.arange(self.size)
        root[is_chain] = self.source[begin[is_chain]]
        own = np.hstack([most, even])
        along = np.where(is_chain[:, None], own, 0.0)
        while True:
            further = root[root]
            moved = np.flatnonzero(further != root)
            if not len(moved):
                break
            along[moved] += along[root[moved]]
            root = further
        total = own  # of nodes that are no part of a chain; the others' is read at their root
        edges = np.flatnonzero(~is_chain[self.target])
        source, target = root[self.source[edges]], self.target[edges]
        before = along[self.source[edges]]
        share = np.ones((len(edges), even.shape[1]))
        share[:, :-1] /= many[target][:, None]
        share[:, -1:] = self.times[edges][:, None]
        level = depths(self.size, np.stack([source, target]))
        order = np.argsort(level[target], kind="stable")
        bounds = np.cumsum(np.bincount(level[target], minlength=1))
        source, target, before, share = source[order], target[order], before[order], share[order]
        first = np.flatnonzero(np.diff(target, prepend=-1) != 0)
        cuts = np.searchsorted(first, bounds)
        a = most.shape[1]
        for k in range(1, len(bounds)):
            low, high = bounds[k - 1], bounds[k]
            starts = first[cuts[k - 1] : cuts[k]]
            found = total[source[low:high]] + before[low:high]
            here = target[starts]
            starts = starts - low
            total[here, :a] += np.maximum.reduceat(found[:, :a], starts)
            total[here, a:] += np.add.reduceat(found[:, a:] * share[low:high], starts)
            total[here, -1] = np.minimum(total[here, -1], ENDLESS)
        at = np.arange(self.size) if at is None else at
        found = total[root[at]] + along[at]
        return found[:, :a], np.minimum(found[:, a:], ENDLESS)


def depths(n: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the longest way from a source to each node.

    Args:
        n: Number of nodes; they stand in execution order.
        edges: Source and target of each edge, shape (2, M).

    Returns:
        Shape (n,): number of edges on the way; 0 for sources.

    Example:
        >>> depths(3, np.array([[0, 0, 1], [1, 2, 2]])).tolist()
        [0, 1, 2]
    """
    depth = [0] * n
    order = np.argsort(edges[1], kind="stable")
    for s, t in edges[:, order].T.tolist():
        if depth[s] >= depth[t]:
            depth[t] = depth[s] + 1
    return np.array(depth, np.int64)
