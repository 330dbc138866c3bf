"""Agreement between predicted and measured values: rank correlation, error, coverage. Numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasplat.errors import ShapeError


def sign(larger_is_better: bool) -> float:
    """Give the factor that turns a value into one that is better when larger.

    Args:
        larger_is_better: Whether larger values are the better ones, as for an accuracy but not for an error.

    Returns:
        1.0 or -1.0.

    Example:
        >>> max([0.3, 0.1], key=lambda error: sign(larger_is_better=False) * error)
        0.1
    """
    return 1.0 if larger_is_better else -1.0


def _pair(predicted: ArrayLike, measured: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ShapeError(
            f"expected two vectors of one length, at least 2, got shapes {a.shape} and {b.shape}.\n"
            "  Pass one value per architecture, in the same order."
        )
    return a, b


def kendall_tau(predicted: ArrayLike, measured: ArrayLike) -> float:
    """Rank agreement of two score vectors; ties share their rank (tau-b).

    Args:
        predicted: Shape (n,), any unit, larger means better.
        measured: Shape (n,), same architectures in the same order.

    Returns:
        Value in [-1, 1]; nan if either vector is constant.

    Raises:
        ShapeError: lengths differ, or n < 2.

    Example:
        >>> round(kendall_tau([1, 2, 3], [10, 20, 30]), 3)
        1.0
    Source: Kendall 1945, Biometrika 33.
    """
    a, b = _pair(predicted, measured)
    agree, untied_a, untied_b = 0.0, 0.0, 0.0
    for i in range(len(a) - 1):  # rows of the pair matrix: O(n) memory, so that 15k labels fit
        da, db = np.sign(a[i + 1 :] - a[i]), np.sign(b[i + 1 :] - b[i])
        agree += float(da @ db)
        untied_a += float(np.abs(da).sum())
        untied_b += float(np.abs(db).sum())
    if untied_a == 0 or untied_b == 0:
        return float("nan")
    return agree / np.sqrt(untied_a * untied_b)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2.0)[inverse]


def mean_rank(*scores: ArrayLike) -> NDArray[np.float64]:
    """One score from several that share no unit: the mean of their ranks among these networks.

    Args:
        scores: Each of shape (n,), larger means better; such as a predictor's rank scores and zero-cost proxies.

    Returns:
        Shape (n,), between 0 and 1; means nothing beside another set of networks.

    Raises:
        ShapeError: lengths differ, n < 2, or a score is not finite.

    Example:
        >>> mean_rank([1, 2, 3], [0.1, 0.3, 0.2]).round(2).tolist()
        [0.33, 0.83, 0.83]
    """
    columns = [_pair(s, scores[0])[0] for s in scores]
    if not columns or not all(np.isfinite(c).all() for c in columns):
        raise ShapeError(
            "expected one or more vectors of finite scores, got none or nan.\n  Give what is not finite the worst score."
        )
    return np.mean([_ranks(c) / len(c) for c in columns], 0)


def spearman_rho(predicted: ArrayLike, measured: ArrayLike) -> float:
    """Pearson correlation of the ranks; ties share their mean rank.

    Returns:
        Value in [-1, 1]; nan if either vector is constant.

    Raises:
        ShapeError: lengths differ, or n < 2.

    Example:
        >>> round(spearman_rho([1, 2, 3], [3, 2, 1]), 3)
        -1.0
    Source: Spearman 1904.
    """
    a, b = _pair(predicted, measured)
    ra, rb = _ranks(a), _ranks(b)
    ra, rb = ra - ra.mean(), rb - rb.mean()
    norm = np.sqrt((ra @ ra) * (rb @ rb))
    return float(ra @ rb / norm) if norm > 0 else float("nan")


def ndcg_at(k: int, predicted: ArrayLike, measured: ArrayLike) -> float:
    """Discounted gain of the k networks ranked first, relative to the best possible order.

    Relevance is 20 · (measured − min) / (max − min), as predictor papers of this field use it.

    Args:
        k: How many of the first count, at least 1.
        predicted: Shape (n,), any unit, larger means better; ties keep their order.
        measured: Shape (n,), same architectures in the same order.

    Returns:
        Value in [0, 1]; nan if `measured` is constant.

    Raises:
        ShapeError: lengths differ, or n < 2.

    Example:
        >>> ndcg_at(2, [3, 2, 1], [30, 20, 10])
        1.0
    Source: Järvelin & Kekäläinen 2002, doi:10.1145/582415.582418; relevance as in AceNAS, arXiv:2108.03001.
    """
    a, b = _pair(predicted, measured)
    if b.max() == b.min():
        return float("nan")
    relevance = 20.0 * (b - b.min()) / (b.max() - b.min())
    discount = 1.0 / np.log2(np.arange(2, min(k, len(b)) + 2))
    ranked = relevance[np.argsort(-a, kind="stable")][:k]
    return float(ranked @ discount / (np.sort(relevance)[::-1][:k] @ discount))


def mean_absolute_error(predicted: ArrayLike, measured: ArrayLike) -> float:
    """Mean of |predicted - measured|, in the unit of the inputs.

    Raises:
        ShapeError: lengths differ, or n < 2.
    """
    a, b = _pair(predicted, measured)
    return float(np.abs(a - b).mean())


def interval_coverage(low: ArrayLike, high: ArrayLike, measured: ArrayLike) -> float:
    """Share of measured values inside [low, high].

    Raises:
        ShapeError: lengths differ, or n < 2.
    """
    lo, y = _pair(low, measured)
    hi, _ = _pair(high, measured)
    return float(((lo <= y) & (y <= hi)).mean())
