"""Which networks to label first: one from each region of what a predictor sees, so that few labels cover the family.

Source: k-means as a cover, as in Sener & Savarese 2018, arXiv:1708.00489, here with medoids of clusters instead of the
farthest points, which are outliers (measured, see benchmarks).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
CUT = 3.0
"""Standard deviations beyond which a feature says no more."""


def standard(x: Matrix, mean: Matrix, scale: Matrix) -> Matrix:
    """Express features in standard deviations, cut off at `CUT`.

    Args:
        x: Features of shape (n, f).
        mean: Mean of each feature, shape (f,).
        scale: Standard deviation of each feature, shape (f,); infinite where it never varied, so that it says nothing.

    Returns:
        Features of shape (n, f) between -CUT and CUT.
    """
    return np.clip((x - mean) / scale, -CUT, CUT)


def moments(x: Matrix) -> tuple[Matrix, Matrix]:
    """Measure mean and standard deviation of each feature, as `standard` takes them.

    Args:
        x: Features of shape (n, f).

    Returns:
        Mean and standard deviation, each of shape (f,); the latter is infinite where a feature never varies.
    """
    scale = x.std(0)
    return x.mean(0), np.where(scale < 1e-9, np.inf, scale)


def spread(x: Matrix, n: int, seed: int = 0) -> list[int]:
    """Choose rows that lie apart: the nearest to the centre of each of n clusters.

    Args:
        x: Features of shape (rows, f), at least n rows.
        n: Number of rows to choose.
        seed: Number that decides the clusters' first centres.

    Returns:
        n distinct rows, ascending.

    Example:
        >>> spread(np.array([[0.0], [0.1], [5.0], [5.1]]), 2)
        [0, 2]
    """
    from sklearn.cluster import KMeans

    features = standard(x, *moments(x))
    different = np.unique(features, axis=0)
    once: Any = 1  # scikit-learn's stubs know "auto" alone
    centres = (
        KMeans(n, n_init=once, random_state=seed).fit(features).cluster_centers_ if len(different) > n else different
    )
    free = np.ones(len(x), bool)
    for centre in centres:
        distance = np.where(free, ((features - centre) ** 2).sum(1), np.inf)
        free[int(distance.argmin())] = False
    rest = np.flatnonzero(free)[: n - int((~free).sum())]  # equal rows count once above
    return sorted([*np.flatnonzero(~free).tolist(), *rest.tolist()])
