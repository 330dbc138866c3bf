"""A trained predictor plus what a few labels of the target family say.

What the base says of a network (its rank score, log counts, graph statistics, its embedding where it has one) enters a ridge
regression on the new labels. Intervals come from leave-one-out residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import PredictorError
from nasplat.predict.conformal import half_width
from nasplat.predict.prediction import Prediction
from nasplat.predict.predictor import AbstractPredictor
from nasplat.predict.support import Support
from nasplat.predict.view import View

PENALTIES = (0.1, 1.0, 10.0, 100.0)


class Finetuned(AbstractPredictor):
    """Ridge regression on what a base predictor sees."""

    family: ClassVar[str] = "finetuned"

    def __init__(self, base: AbstractPredictor, level: float = 0.9, seed: int = 0) -> None:
        """Args:
        base: A fitted predictor.
        level: Of the interval.
        seed: Decides the reference sample.
        """
        self.base, self.level, self.seed = base, level, seed
        self.metric, self.to_graph = "label", base.to_graph

    def fit(self, items: Sequence[Any], labels: Sequence[float]) -> Self:
        """Choose the penalty by leave-one-out error.

        Raises:
            PredictorError: fewer than 10 labels.
        """
        if len(items) != len(labels) or len(items) < 10:
            raise PredictorError(
                f"expected one label per network, at least 10, got {len(items)} and {len(labels)}.\n  Label more."
            )
        views = self.views(items)
        x = self.base.describe(views)
        y = np.asarray(labels, np.float64)
        self.mean_, self.scale_ = x.mean(0), x.std(0)
        self.scale_[self.scale_ < 1e-9] = np.inf  # what never varied says nothing
        design = np.hstack([np.ones((len(x), 1)), (x - self.mean_) / self.scale_])
        best = None
        for penalty in PENALTIES:
            ridge = penalty * np.eye(design.shape[1])
            ridge[0, 0] = 0.0
            inverse = np.linalg.pinv(design.T @ design + ridge)
            weights = inverse @ design.T @ y
            leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
            left_out = (y - design @ weights) / np.maximum(1e-6, 1 - leverage)
            error = float(np.abs(left_out).mean())
            if best is None or error < best[0]:
                best = (error, weights, left_out)
        assert best is not None
        self.weights_ = best[1]
        enough = len(y) + 1 > 1 / (1 - self.level)
        self.width_ = half_width(best[2], self.level) if enough else float(np.abs(best[2]).max())
        self.support_ = Support.learn(np.array([list(v.statistics.values()) for v in views]), self.seed)
        self.reference_ = np.quantile(y, np.linspace(0, 1, 101))
        self.fitted_ = True
        return self

    def _scores(self, seen: Sequence[View]) -> list[float]:
        rows = (self.base.describe(seen) - self.mean_) / self.scale_
        return (self.weights_[0] + rows @ self.weights_[1:]).tolist()

    def _answer(self, seen: View) -> Prediction:
        (mean,) = self._scores([seen])
        reason = self.support_.reason_of(seen, list(seen.statistics))
        counts = (seen.macs, seen.params, self.metric, bool(seen.unknown_ops))
        if reason:
            return Prediction(None, None, None, self.level, False, reason, None, *counts)
        percentile = float(np.searchsorted(self.reference_, mean) / 1.01)
        return Prediction(mean, mean - self.width_, mean + self.width_, self.level, True, "", percentile, *counts)

    def _settings(self) -> dict[str, Any]:
        return {"level": self.level, "seed": self.seed, "base_family": self.base.family} | {
            f"base_{k}": v for k, v in self.base._settings().items()
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        own = {
            "weights": self.weights_,
            "mean": self.mean_,
            "scale": self.scale_,
            "width": np.array([self.width_]),
            "reference": self.reference_,
        }
        return own | self.support_.arrays() | {f"base/{k}": v for k, v in self.base._arrays().items()}

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        base = {k.removeprefix("base/"): v for k, v in arrays.items() if k.startswith("base/")}
        self.base._restore(base, recipe)
        self.weights_, self.mean_, self.scale_ = arrays["weights"], arrays["mean"], arrays["scale"]
        self.width_, self.reference_ = float(arrays["width"][0]), arrays["reference"]
        self.support_ = Support.of(arrays)
        self.fitted_ = True
