"""Gradient-boosted trees on graph statistics: a small ensemble, stored as arrays, with calibrated intervals.

scikit-learn grows the trees; what is kept are plain arrays that answer alone (and equal scikit-learn to the last digits,
see tests). Source: Friedman 2001, Annals of Statistics 29.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import PredictorError
from nasplat.features.view import View
from nasplat.learners.conformal import fewest, half_width
from nasplat.learners.support import Support
from nasplat.predict.contract import AbstractPredictor

Matrix = NDArray[np.float64]
LEAF = -1


class Trees(AbstractPredictor):
    """An ensemble of boosted trees, each grown on another resampling."""

    family: ClassVar[str] = "trees"

    def __init__(
        self,
        members: int = 5,
        trees: int = 300,
        depth: int = 5,
        lr: float = 0.06,
        level: float = 0.9,
        metric: str = "value",
        seed: int = 0,
    ) -> None:
        """Args:
        members: Boosted models, averaged; their spread says how hard a network is.
        trees: Trees per model.
        depth: Of a tree.
        lr: Shrinkage.
        level: Of the interval.
        metric: Name and unit of the label.
        seed: Decides resampling and the calibration split.
        """
        self.members, self.trees, self.depth, self.lr = members, trees, depth, lr
        self.level, self.metric, self.seed = level, metric, seed

    def fit(self, items: Sequence[Any], labels: Sequence[float]) -> Self:
        """Grow on 80 %, calibrate the interval on the rest.

        Raises:
            PredictorError: fewer than 20 labels, or not one per item.
        """
        rows = [v.statistics for v in self.views(items)]
        y = np.asarray(labels, np.float64)
        if len(rows) != len(y) or len(y) < 20:
            raise PredictorError(
                f"expected one label per network, at least 20, got {len(rows)} and {len(y)}.\n  Label more."
            )
        self.names_ = list(rows[0])
        x = np.array([list(r.values()) for r in rows])
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(len(y))
        held = order[: max(len(y) // 5, fewest(self.level))]
        grown = order[len(held) :]
        self.model_ = grow(x[grown], y[grown], self.members, self.trees, self.depth, self.lr, self.seed)
        means = evaluate(self.model_, x[held])
        self.floor_ = max(1e-6, float(np.median(means.std(0))))
        difficulty = means.std(0) + self.floor_
        self.factor_ = half_width((y[held] - means.mean(0)) / difficulty, self.level)
        self.support_ = Support.learn(x, self.seed)
        self.reference_ = np.quantile(y, np.linspace(0, 1, 101))
        self.fitted_ = True
        return self

    def _reason(self, seen: View) -> str:
        return self.support_.reason_of(seen, self.names_)

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        values = self._values(seen)
        mean, half = values.mean(0), self.factor_ * (values.std(0) + self.floor_)
        return [tuple(row) for row in np.stack([mean, mean - half, mean + half], 1).tolist()]

    def _values(self, seen: Sequence[View]) -> Matrix:
        return evaluate(self.model_, np.array([[v.statistics[n] for n in self.names_] for v in seen]))

    def _scores(self, seen: Sequence[View]) -> list[float]:
        return self._values(seen).mean(0).tolist()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            **self.model_,
            "factor": np.array([self.factor_, self.floor_]),
            **self.support_.arrays(),
            "reference": self.reference_,
            "names": np.frombuffer("\n".join(self.names_).encode(), np.uint8),
        }

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.model_ = {k: arrays[k] for k in ("feature", "threshold", "left", "right", "value", "start")}
        self.factor_, self.floor_ = (float(v) for v in arrays["factor"])
        self.support_ = Support.of(arrays)
        self.reference_ = arrays["reference"]
        self.names_ = arrays["names"].tobytes().decode().split("\n")
        self.fitted_ = True


def grow(x: Matrix, y: Matrix, members: int, trees: int, depth: int, lr: float, seed: int) -> dict[str, NDArray[Any]]:
    """Grow boosted models with scikit-learn and keep them as arrays.

    Returns:
        feature, threshold, left, right, value of shape (members, trees, nodes), leaves have left = -1; start (members,).
    """
    from sklearn.ensemble import GradientBoostingRegressor

    fitted = []
    for member in range(members):
        model = GradientBoostingRegressor(
            n_estimators=trees,
            max_depth=depth,
            learning_rate=lr,
            subsample=0.6,
            max_features=0.5,
            min_samples_leaf=3,
            random_state=seed * 1000 + member,
        )
        fitted.append(model.fit(x, y))
    return as_arrays(fitted, lr)


def as_arrays(models: Sequence[Any], lr: float) -> dict[str, NDArray[Any]]:
    """Fitted `GradientBoostingRegressor`s as padded arrays."""
    size = max(t.tree_.node_count for m in models for t in m.estimators_[:, 0])
    shape = (len(models), len(models[0].estimators_), size)
    out: dict[str, NDArray[Any]] = {
        "feature": np.zeros(shape, np.int16),
        "threshold": np.zeros(shape, np.float32),
        "left": np.full(shape, LEAF, np.int16),
        "right": np.full(shape, LEAF, np.int16),
        "value": np.zeros(shape, np.float32),
        "start": np.array([float(m.init_.constant_[0, 0]) for m in models]),
    }
    for i, model in enumerate(models):
        for j, estimator in enumerate(model.estimators_[:, 0]):
            tree, n = estimator.tree_, estimator.tree_.node_count
            out["feature"][i, j, :n] = np.maximum(tree.feature, 0)
            # float32 towards -inf keeps every comparison with float32 features as scikit-learn makes it
            rounded = tree.threshold.astype(np.float32)
            out["threshold"][i, j, :n] = np.where(
                rounded > tree.threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded
            )
            out["left"][i, j, :n] = tree.children_left
            out["right"][i, j, :n] = tree.children_right
            out["value"][i, j, :n] = tree.value[:, 0, 0] * lr
    return out


def evaluate(model: dict[str, NDArray[Any]], x: Matrix) -> Matrix:
    """Answers of shape (members, n) for features of shape (n, f)."""
    features32 = x.astype(np.float32)
    members, trees, _ = model["feature"].shape
    out = np.empty((members, len(x)))
    for i, row in enumerate(features32):
        node = np.zeros((members, trees, 1), np.int64)
        while True:
            left = np.take_along_axis(model["left"], node, 2)
            if (left == LEAF).all():
                break
            goes_left = row[np.take_along_axis(model["feature"], node, 2)] <= np.take_along_axis(
                model["threshold"], node, 2
            )
            child = np.where(goes_left, left, np.take_along_axis(model["right"], node, 2))
            node = np.where(left == LEAF, node, child)
        leaves = np.take_along_axis(model["value"], node, 2)[:, :, 0].astype(np.float64)
        out[:, i] = model["start"] + leaves.sum(1)
    return out
