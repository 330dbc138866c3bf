"""Fuzzy C-means: every embedding belongs to every cluster to a degree.

Sources: Bezdek 1981; GENNAPE, Mills et al., AAAI 2023, arXiv:2211.17226, equations of section 3 (memberships,
centroids).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
TOLERANCE = 1e-9
"""Iterations end when no membership changes by more than this."""


def memberships(x: Matrix, centroids: Matrix, fuzziness: float = 2.0) -> Matrix:
    """Tell to which degree points belong to clusters.

    Args:
        x: Points of shape (n, e).
        centroids: Centres of C clusters, shape (C, e).
        fuzziness: The paper's m, above 1; near 1 every point belongs to one cluster alone.

    Returns:
        Degrees of shape (n, C) whose rows sum to 1; a point on a centroid belongs to it alone.

    Example:
        >>> memberships(np.array([[0.5]]), np.array([[0.0], [1.0]])).tolist()
        [[0.5, 0.5]]
    """
    squared = np.maximum(((x[:, None] - centroids) ** 2).sum(2), 1e-18)
    logs = -np.log(squared) / (fuzziness - 1)
    weights = np.exp(logs - logs.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def fuzzy_centroids(x: Matrix, clusters: int, fuzziness: float = 2.0, seed: int = 0, iterations: int = 300) -> Matrix:
    """Find the centres of fuzzy clusters.

    Args:
        x: Points of shape (n, e), at least as many as clusters.
        clusters: Number C of clusters.
        fuzziness: The paper's m, above 1.
        seed: Number that decides the first centres, which are drawn as k-means++ draws them.
        iterations: Largest number of updates; most data need fewer.

    Returns:
        Centres of shape (C, e).
    """
    rng = np.random.default_rng(seed)
    centroids = x[[int(rng.integers(len(x)))]]
    while len(centroids) < clusters:
        nearest = ((x[:, None] - centroids) ** 2).sum(2).min(1)
        total = nearest.sum()
        chosen = rng.choice(len(x), p=nearest / total) if total > 0 else rng.integers(len(x))
        centroids = np.vstack([centroids, x[[int(chosen)]]])
    before = memberships(x, centroids, fuzziness)
    for _ in range(iterations):
        weights = before**fuzziness
        centroids = weights.T @ x / weights.sum(0)[:, None]
        now = memberships(x, centroids, fuzziness)
        if np.abs(now - before).max() <= TOLERANCE:
            break
        before = now
    return centroids
