"""Agreement between predicted and measured values: rank correlation, error, coverage.

Ranks and rank correlations are scipy's; what it does not have, such as gain and coverage, is computed here.
"""

from __future__ import annotations

from typing import Any

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
    """Give both vectors as arrays of equal length.

    Raises:
        ShapeError: lengths differ, or n is below 2.
    """
    a, b = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ShapeError(
            f"expected two vectors of one length, at least 2, got shapes {a.shape} and {b.shape}.\n"
            "  Pass one value per architecture, in the same order."
        )
    return a, b


def kendall_tau(predicted: ArrayLike, measured: ArrayLike) -> float:
    """Measure how well one score vector ranks another; ties share their rank (tau-b).

    Takes about 1 ms for 5,000 pairs of values, where a loop over rows of the pair matrix takes 50 ms.

    Args:
        predicted: Scores of shape (n,), in any unit; larger means better.
        measured: True values of shape (n,) for the same architectures in the same order.

    Returns:
        Agreement in [-1, 1]; nan where either vector is constant or holds a nan.

    Raises:
        ShapeError: the lengths differ, or n is below 2.

    Example:
        >>> kendall_tau([1, 2, 3], [10, 20, 30])
        1.0

    Source: Kendall 1945, Biometrika 33.
    """
    a, b = _pair(predicted, measured)
    untied = float(_untied(a)) * float(_untied(b))
    from scipy.stats import kendalltau

    result: Any = kendalltau(a, b)
    found = float(result.statistic)
    if untied == 0 or np.isnan(found):
        return float("nan")
    # scipy divides by two roots one after another, which may differ in the last bit: ensembles are weighted by this
    # number, and their answers should have equal bits wherever and whenever they are fitted
    return float(round(found * np.sqrt(untied)) / np.sqrt(untied))


def _untied(values: NDArray[np.float64]) -> int:
    """Number of pairs whose values differ."""
    counts = np.unique(values, return_counts=True)[1].astype(np.int64)
    return int(len(values) * (len(values) - 1) - (counts * (counts - 1)).sum()) // 2


def mean_rank(*scores: ArrayLike) -> NDArray[np.float64]:
    """Make one score of several that share no unit: the mean of their ranks among these networks.

    Args:
        scores: Score vectors of shape (n,), larger means better; such as rank scores of predictors and zero-cost
            proxies.

    Returns:
        Mean ranks of shape (n,), between 0 and 1; they mean nothing beside another set of networks.

    Raises:
        ShapeError: lengths differ, n < 2, or a score is not finite.

    Example:
        >>> mean_rank([1, 2, 3], [0.1, 0.3, 0.2]).round(2).tolist()
        [0.33, 0.83, 0.83]
    """
    columns = [_pair(s, scores[0])[0] for s in scores]
    if not columns or not all(np.isfinite(c).all() for c in columns):
        raise ShapeError(
            "expected one or more vectors of finite scores, got none or nan.\n"
            "  Give what is not finite the worst score."
        )
    from scipy.stats import rankdata

    return np.mean([rankdata(c) / len(c) for c in columns], 0)


def spearman_rho(predicted: ArrayLike, measured: ArrayLike) -> float:
    """Correlate the ranks of two vectors (Pearson); ties share their mean rank.

    Args:
        predicted: Scores of shape (n,), in any unit; larger means better.
        measured: True values of shape (n,) for the same architectures in the same order.

    Returns:
        Agreement in [-1, 1]; nan where either vector is constant or holds a nan.

    Raises:
        ShapeError: lengths differ, or n < 2.

    Example:
        >>> round(spearman_rho([1, 2, 3], [3, 2, 1]), 3)
        -1.0

    Source: Spearman 1904, doi:10.2307/1412159.
    """
    a, b = _pair(predicted, measured)
    if _untied(a) == 0 or _untied(b) == 0:  # scipy would say so in a warning
        return float("nan")
    from scipy.stats import spearmanr

    result: Any = spearmanr(a, b)
    return float(result.statistic)


def ndcg_at(k: int, predicted: ArrayLike, measured: ArrayLike) -> float:
    """Compare the discounted gain of the k networks ranked first with that of the best possible order.

    Relevance is 20 · (measured − min) / (max − min), as predictor papers of this field use it.

    Args:
        k: How many of the first count, at least 1.
        predicted: Scores of shape (n,), in any unit, larger means better; ties keep their order.
        measured: True values of shape (n,) for the same architectures in the same order.

    Returns:
        Share of the best possible gain, in [0, 1]; nan if `measured` is constant.

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
    """Average the distances between predicted and measured values.

    Args:
        predicted: Predictions of shape (n,), in the unit of the measured values.
        measured: True values of shape (n,) for the same architectures in the same order.

    Returns:
        Mean of |predicted - measured|, in the unit of the inputs.

    Raises:
        ShapeError: lengths differ, or n < 2.

    Example:
        >>> mean_absolute_error([1.0, 2.0], [1.0, 4.0])
        1.0
    """
    a, b = _pair(predicted, measured)
    return float(np.abs(a - b).mean())


def interval_coverage(low: ArrayLike, high: ArrayLike, measured: ArrayLike) -> float:
    """Count how often intervals hold what was measured.

    Args:
        low: Lower ends of shape (n,), in the unit of the measured values.
        high: Upper ends of shape (n,), in the same unit.
        measured: True values of shape (n,) for the same architectures in the same order.

    Returns:
        Share of measured values inside [low, high], in [0, 1].

    Raises:
        ShapeError: lengths differ, or n < 2.

    Example:
        >>> interval_coverage([0, 0], [1, 1], [0.5, 2.0])
        0.5
    """
    lo, y = _pair(low, measured)
    hi, _ = _pair(high, measured)
    return float(((lo <= y) & (y <= hi)).mean())
