"""Fuzzy C-means: every embedding belongs to every cluster to a degree.

Sources: Bezdek 1981; GENNAPE, Mills et al., AAAI 2023, arXiv:2211.17226, equations of section 3 (memberships, centroids).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
TOLERANCE = 1e-9


def memberships(x: Matrix, centroids: Matrix, fuzziness: float = 2.0) -> Matrix:
    """Degrees of membership.

    Args:
        x: Shape (n, e).
        centroids: Shape (C, e).
        fuzziness: m > 1; near 1 the clusters are crisp.

    Returns:
        Shape (n, C), rows sum to 1; a point on a centroid belongs to it alone.
    """
    squared = np.maximum(((x[:, None] - centroids) ** 2).sum(2), 1e-18)
    logs = -np.log(squared) / (fuzziness - 1)
    weights = np.exp(logs - logs.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def fit(x: Matrix, clusters: int, fuzziness: float = 2.0, seed: int = 0, iterations: int = 300) -> Matrix:
    """Centroids of the clusters.

    Args:
        x: Shape (n, e), n >= clusters.
        clusters: C.
        fuzziness: m > 1.
        seed: Of the first centroids (k-means++ draws).
        iterations: At most so many.

    Returns:
        Shape (C, e).
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
