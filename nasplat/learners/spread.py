"""Which networks to label first: one from each region of what a predictor sees, so that few labels cover the family.

Source: k-means as a cover, as in Sener & Savarese 2018, arXiv:1708.00489, here with medoids of clusters instead of the farthest points, which
are outliers (measured, see benchmarks).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
CUT = 3.0
"""Standard deviations beyond which a feature says no more."""


def standard(x: Matrix, mean: Matrix, scale: Matrix) -> Matrix:
    """Features in standard deviations, cut off at `CUT`; scale is infinite where a feature never varied."""
    return np.clip((x - mean) / scale, -CUT, CUT)


def moments(x: Matrix) -> tuple[Matrix, Matrix]:
    """Mean and standard deviation of each feature of x, shape (n, f); infinite where it never varies, so that it says nothing."""
    scale = x.std(0)
    return x.mean(0), np.where(scale < 1e-9, np.inf, scale)


def spread(x: Matrix, n: int, seed: int = 0) -> list[int]:
    """Rows nearest to the centres of n clusters.

    Args:
        x: Shape (rows, f), rows >= n.
        n: How many.
        seed: Of the clusters' first centres.

    Returns:
        n distinct rows, ascending.
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
