"""How much of the space of objectives a front dominates, and what a candidate would add.

Source: hypervolume by slicing objectives, While et al. 2006, doi:10.1109/TEVC.2005.851275.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def front_of(points: Matrix) -> Matrix:
    """Points that no other point dominates, each once; larger is better. Shapes (n, m) and (k, m)."""
    points = np.unique(points, axis=0)
    kept = [not ((points >= p).all(1) & (points > p).any(1)).any() for p in points]
    return points[kept]


def hypervolume(points: Matrix, reference: Matrix) -> float:
    """Volume between the points (n, m) and the reference (m,), larger being better."""
    points = points[(points > reference).all(1)]
    if not len(points):
        return 0.0
    front = front_of(points)
    if front.shape[1] == 1:
        return float(front[:, 0].max() - reference[0])
    front = front[np.argsort(-front[:, 0])]
    volume = 0.0
    for i in range(len(front)):
        depth = front[i, 0] - (front[i + 1, 0] if i + 1 < len(front) else reference[0])
        if depth > 0:
            volume += depth * hypervolume(front[: i + 1, 1:], reference[1:])
    return volume


def contributions(candidates: Matrix, front: Matrix, reference: Matrix) -> Matrix:
    """Volume that each candidate (n, m) would add to the front (k, m) on its own; shape (n,)."""
    front = front_of(front[(front > reference).all(1)]) if len(front) else front.reshape(0, candidates.shape[1])
    if candidates.shape[1] == 1:
        return np.clip(candidates[:, 0] - max([reference[0], *front[:, 0]]), 0.0, None)
    if candidates.shape[1] == 2:
        return _contributions_of_two(candidates, front, reference)
    # slabs between two heights of the front in the last objective: within one the front is that of the points above it
    edges = [reference[-1], *np.unique(front[:, -1]), np.inf]
    total = np.zeros(len(candidates))
    for low, high in pairwise(edges):
        reaching = candidates[:, -1] > low
        if not reaching.any():
            break
        above = front[front[:, -1] >= high][:, :-1]
        share = contributions(candidates[reaching, :-1], above, reference[:-1])
        total[reaching] += (np.minimum(candidates[reaching, -1], high) - low) * share
    return total


def _contributions_of_two(candidates: Matrix, front: Matrix, reference: Matrix) -> Matrix:
    """A staircase: integrate, over the first objective, how far the candidate reaches above the front."""
    front = front[np.argsort(front[:, 0])]
    edges = np.concatenate([[reference[0]], front[:, 0], [np.inf]])
    heights = np.concatenate([front[:, 1], [reference[1]]])  # of the front between two edges
    low, high = edges[:-1], edges[1:]
    width = np.clip(np.minimum(candidates[:, :1], high) - low, 0.0, None)
    above = np.clip(candidates[:, 1:] - heights, 0.0, None)
    return (width * above).sum(1)
