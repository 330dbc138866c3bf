"""Extremely randomised trees: scikit-learn grows them, flat arrays answer, and answer the same.

Their thresholds are drawn, not fitted, over the whole range of a feature; so they carry over to families that lie
partly beside the one they learnt from better than boosted trees do (measured, see benchmarks).
Source: Geurts et al. 2006, Machine Learning 63.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nasplat.learners.flat_trees import FlatTrees

Matrix = NDArray[np.float64]


def grow_forest(
    x: Matrix,
    y: Matrix,
    trees: int = 200,
    leaf: int = 1,
    share: float = 0.4,
    seed: int = 0,
    weights: Matrix | None = None,
    groups: Sequence[str] | None = None,
) -> tuple[FlatTrees, Matrix]:
    """Grow a forest of extremely randomised trees, each on its own resampling of the rows.

    Args:
        x: Features of shape (n, f).
        y: Targets of shape (n,).
        trees: Number of trees; the forest's answer is their mean.
        leaf: Fewest rows that a leaf must hold; more make a smoother forest.
        share: Share of the features among which each split is chosen.
        seed: Number that decides the resampling and every split.
        weights: Weights of the rows, shape (n,); by default all count equally.
        groups: Group of each row: a tree that was grown on one of a group has seen them all. By default rows stand
            alone.

    Returns:
        The trees; and the mean answer to every row of the trees that were not grown on it, shape (n,), nan for rows
        that every tree has seen.

    Example:
        >>> x = np.arange(40.0)[:, None]
        >>> forest, unseen = grow_forest(x, x[:, 0], trees=30)
        >>> forest.answers(x[:2]).shape, unseen.shape
        ((2, 30), (40,))
    """
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(
        trees, bootstrap=True, min_samples_leaf=leaf, max_features=share, random_state=seed
    ).fit(x, y, sample_weight=weights)
    grown = FlatTrees.from_sklearn(model.estimators_)
    answers = grown.answers(x)
    of = np.arange(len(x)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    unseen = np.stack([~np.isin(of, of[s]) for s in model.estimators_samples_], 1)
    counts = unseen.sum(1)
    return grown, np.where(counts > 0, (answers * unseen).sum(1) / np.maximum(1, counts), np.nan)
