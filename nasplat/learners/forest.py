"""Extremely randomised trees as plain arrays: scikit-learn grows them, numpy answers, and answers the same.

Their thresholds are drawn, not fitted, over the whole range of a feature; so they carry over to families that lie partly beside the one they
learnt from better than boosted trees do (measured, see benchmarks). Source: Geurts et al. 2006, Machine Learning 63.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Forest = dict[str, NDArray[Any]]
ARRAYS = ("starts", "feature", "threshold", "left", "right", "value")
"""Of a forest: the first node of each tree, shape (trees,); of each node what it asks, where it leads, what it answers, shape (nodes,)."""
LEAF = -1
ROWS = 2048
"""Rows that are answered at once."""


def grow(
    x: Matrix,
    y: Matrix,
    trees: int = 200,
    leaf: int = 1,
    share: float = 0.4,
    seed: int = 0,
    weights: Matrix | None = None,
) -> tuple[Forest, Matrix]:
    """Grow a forest.

    Args:
        x: Shape (n, f).
        y: Shape (n,).
        trees: How many.
        leaf: Fewest rows of a leaf.
        share: Of the features that each split may choose from.
        seed: Of everything random.
        weights: Of the rows, shape (n,); default equal.

    Returns:
        See `ARRAYS`; and the out-of-bag answers, shape (n,), nan for rows that every tree has seen.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    settings: dict[str, Any] = {"min_samples_leaf": leaf, "max_features": share, "random_state": seed}
    model = ExtraTreesRegressor(trees, bootstrap=True, **settings).fit(x, y, sample_weight=weights)
    out: Forest = {}
    found = [e.tree_ for e in model.estimators_]
    sizes = [t.node_count for t in found]
    out["starts"] = np.cumsum([0, *sizes[:-1]]).astype(np.int32)
    out["feature"] = np.concatenate([np.maximum(t.feature, 0) for t in found]).astype(np.int16)
    thresholds = np.concatenate([t.threshold for t in found])
    rounded = thresholds.astype(
        np.float32
    )  # towards -inf: keeps every comparison with float32 features as scikit-learn makes it
    out["threshold"] = np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    for side in ("left", "right"):
        children = [getattr(t, f"children_{side}") for t in found]
        moved = [np.where(c < 0, LEAF, c + start) for c, start in zip(children, out["starts"], strict=True)]
        out[side] = np.concatenate(moved).astype(np.int32)
    out["value"] = np.concatenate([t.value[:, 0, 0] for t in found]).astype(np.float32)
    answers = each(out, x)
    unseen = np.stack([~np.isin(np.arange(len(x)), s) for s in model.estimators_samples_], 1)
    counts = unseen.sum(1)
    left_out = np.where(counts > 0, (answers * unseen).sum(1) / np.maximum(1, counts), np.nan)
    return out, left_out


def each(forest: Forest, x: Matrix) -> Matrix:
    """Every tree's answer, shape (n, trees)."""
    cells = np.ascontiguousarray(x, np.float32)
    feature, threshold, left, right = (forest[k] for k in ("feature", "threshold", "left", "right"))
    out = np.empty((len(cells), len(forest["starts"])))
    for start in range(0, len(cells), ROWS):
        rows = cells[start : start + ROWS]
        node = np.broadcast_to(forest["starts"], (len(rows), len(forest["starts"]))).ravel().copy()
        row = np.repeat(np.arange(len(rows)), len(forest["starts"]))
        going = np.arange(len(node))
        while len(going):
            at = node[going]
            inner = left[at] != LEAF
            going, at = going[inner], at[inner]
            node[going] = np.where(rows[row[going], feature[at]] <= threshold[at], left[at], right[at])
        out[start : start + ROWS] = forest["value"][node].reshape(len(rows), -1)
    return out
