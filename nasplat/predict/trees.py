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
from nasplat.learners.boosted import Boosted, BoostedSettings, grow_boosted
from nasplat.learners.conformal import fewest, half_width
from nasplat.learners.support import Support
from nasplat.predict.finetuned import AbstractTunable

Matrix = NDArray[np.float64]


class Trees(AbstractTunable):
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
        settings = BoostedSettings(self.members, self.trees, self.depth, self.lr)
        self.model_ = grow_boosted(x[grown], y[grown], settings, self.seed)
        means = self.model_.answers(x[held])
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
        return self.model_.answers(np.array([[v.statistics[n] for n in self.names_] for v in seen]))

    def _scores(self, seen: Sequence[View]) -> list[float]:
        return self._values(seen).mean(0).tolist()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            **self.model_.arrays(),
            "factor": np.array([self.factor_, self.floor_]),
            **self.support_.arrays(),
            "reference": self.reference_,
            "names": np.frombuffer("\n".join(self.names_).encode(), np.uint8),
        }

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.model_ = Boosted.from_arrays(arrays)
        self.factor_, self.floor_ = (float(v) for v in arrays["factor"])
        self.support_ = Support.of(arrays)
        self.reference_ = arrays["reference"]
        self.names_ = arrays["names"].tobytes().decode().split("\n")
        self.fitted_ = True
