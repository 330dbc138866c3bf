from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nasplat.errors import ShapeError
from nasplat.tables.metrics import interval_coverage, kendall_tau, mean_absolute_error, mean_rank, ndcg_at, spearman_rho

pytestmark = pytest.mark.fast


def test_kendall_tau_agrees_with_scipy_on_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, 40), rng.integers(0, 6, 40)
        assert kendall_tau(a, b) == pytest.approx(stats.kendalltau(a, b).statistic)
        assert spearman_rho(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_constant_vector_has_no_rank_agreement() -> None:
    assert np.isnan(kendall_tau([1, 1, 1], [1, 2, 3]))
    assert np.isnan(spearman_rho([1, 1, 1], [1, 2, 3]))


def test_rank_agreement_with_a_nan_is_nan() -> None:
    assert np.isnan(kendall_tau([1, np.nan, 3], [1, 2, 3]))
    assert np.isnan(spearman_rho([1, np.nan, 3], [1, 2, 3]))


def test_kendall_tau_is_the_ratio_of_counted_pairs_to_the_last_bit() -> None:
    rng = np.random.default_rng(1)
    for n in (2, 3, 40, 150):
        a, b = rng.integers(0, n, n), rng.normal(size=n)
        signs = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
        agree, untied = (signs[0] * signs[1]).sum() / 2, [np.abs(s).sum() / 2 for s in signs]
        expected = agree / np.sqrt(untied[0] * untied[1]) if all(untied) else np.nan
        assert kendall_tau(a, b) == expected or (np.isnan(expected) and np.isnan(kendall_tau(a, b)))


def test_error_and_coverage_by_hand() -> None:
    assert mean_absolute_error([1, 2], [2, 4]) == 1.5
    assert interval_coverage([0, 0, 0, 0], [1, 1, 1, 1], [0.5, 2, 1, -1]) == 0.5


def test_gain_of_the_first_k_by_hand() -> None:
    # relevance 20, 10, 0 in the order 10, 20, 0: (10 + 20/log2(3)) / (20 + 10/log2(3))
    assert ndcg_at(2, [2, 3, 1], [30, 20, 10]) == pytest.approx((10 + 20 / np.log2(3)) / (20 + 10 / np.log2(3)))
    assert np.isnan(ndcg_at(2, [1, 2], [5, 5]))


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"shapes \(2,\) and \(3,\)"):
        kendall_tau([1, 2], [1, 2, 3])


def test_mean_rank_joins_scores_without_a_common_unit() -> None:
    assert mean_rank([1, 2, 3], [0.1, 0.3, 0.2]) == pytest.approx([1 / 3, 2.5 / 3, 2.5 / 3])
    assert mean_rank([5.0, 5.0, 9.0]) == pytest.approx([0.5, 0.5, 1.0])
    a, b = np.random.default_rng(0).normal(size=(2, 30))
    assert mean_rank(np.exp(a), b * 7 - 3) == pytest.approx(mean_rank(a, b))
    for wrong in (([1.0, float("nan")],), ([1.0, 2.0], [1.0, 2.0, 3.0]), ()):
        with pytest.raises(ShapeError, match="expected"):
            mean_rank(*wrong)
