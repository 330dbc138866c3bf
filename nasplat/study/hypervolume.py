"""How much of the space of objectives a front dominates, and what a candidate would add.

Source: hypervolume by slicing objectives, While et al. 2006, doi:10.1109/TEVC.2005.851275.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def front_of(points: Matrix) -> Matrix:
    """Keep the points that no other point dominates, each once.

    Args:
        points: Values of shape (n, m), larger is better in each of the m objectives.

    Returns:
        The front of shape (k, m), in ascending order of its rows.

    Example:
        >>> front_of(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])).tolist()
        [[1.0, 1.0], [2.0, 0.0]]
    """
    points = np.unique(points, axis=0)
    kept = [not ((points >= p).all(1) & (points > p).any(1)).any() for p in points]
    return points[kept]


def hypervolume(points: Matrix, reference: Matrix) -> float:
    """Measure the volume that points dominate.

    Args:
        points: Values of shape (n, m), larger is better.
        reference: Corner of shape (m,); what is not above it in every objective counts for nothing.

    Returns:
        Volume between the front and the corner, in the product of the objectives' units.

    Example:
        >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.zeros(2))
        3.0
    """
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
    return float(volume)


def contributions(candidates: Matrix, front: Matrix, reference: Matrix) -> Matrix:
    """Measure the volume that each candidate would add to a front on its own.

    Args:
        candidates: Values of shape (n, m), larger is better.
        front: Values of shape (k, m) that are there; k may be 0.
        reference: Corner of shape (m,) from which volumes count.

    Returns:
        Volumes of shape (n,), in the product of the objectives' units; 0.0 for what is dominated.

    Example:
        >>> contributions(np.array([[2.0, 2.0], [0.5, 0.5]]), np.array([[1.0, 1.0]]), np.zeros(2)).tolist()
        [3.0, 0.0]
    """
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
    """Add up, over the steps of a front of two objectives, the areas by which candidates reach above it."""
    front = front[np.argsort(front[:, 0])]
    edges = np.concatenate([[reference[0]], front[:, 0], [np.inf]])
    heights = np.concatenate([front[:, 1], [reference[1]]])  # of the front between two edges
    low, high = edges[:-1], edges[1:]
    width = np.clip(np.minimum(candidates[:, :1], high) - low, 0.0, None)
    above = np.clip(candidates[:, 1:] - heights, 0.0, None)
    return (width * above).sum(1)
