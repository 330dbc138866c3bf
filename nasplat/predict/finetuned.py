"""A trained predictor plus what a few labels of the target family say.

What the base sees of a network (graph statistics, its rank score, its embedding where it has one) enters kernel ridge
regressions on the new labels: every feature set with every kernel, penalties by leave-one-out error, answers averaged.
Intervals come from the averaged leave-one-out residuals. Source: Rasmussen & Williams 2006, eq. 2.25 and 5.12.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import PredictorError
from nasplat.predict.conformal import fewest, half_width
from nasplat.predict.predictor import AbstractPredictor
from nasplat.predict.support import Support
from nasplat.predict.view import View

Matrix = NDArray[np.float64]
KERNELS = (0.0, 0.7, 1.5)
"""Widths of the Gaussian kernels, in standard deviations per feature; 0 is the linear kernel."""
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
CUT = 3.0
"""Standard deviations beyond which a feature says no more: what hardly varied among few labels must not run away."""


class Finetuned(AbstractPredictor):
    """An average of kernel ridge regressions on what a base predictor sees."""

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
        """Learn from a few labels.

        Args:
            items: As for `predict`.
            labels: One each, at least 10.

        Raises:
            PredictorError: fewer than 10 labels, or not one per item.
        """
        if len(items) != len(labels) or len(items) < 10:
            raise PredictorError(
                f"expected one label per network, at least 10, got {len(items)} and {len(labels)}.\n  Label more."
            )
        views = self.views(items)
        y = np.asarray(labels, np.float64)
        self.centre_, self.spread_ = float(y.mean()), float(y.std()) + 1e-9
        target = (y - self.centre_) / self.spread_
        self.sets_: list[tuple[Matrix, Matrix, Matrix]] = []
        weights, left_out = [], []
        for features in self.base.describe(views):
            mean, scale = features.mean(0), features.std(0)
            scale = np.where(scale < 1e-9, np.inf, scale)  # what never varied says nothing
            x = _standard(features, mean, scale)
            self.sets_.append((x, mean, scale))
            for width in KERNELS:
                found = [_ridge(_kernel(x, x, width), target, penalty) for penalty in PENALTIES]
                best = min(found, key=lambda f: float(np.abs(f[1]).mean()))
                weights.append(best[0])
                left_out.append(best[1])
        self.weights_ = np.array(weights)
        residuals = np.mean(left_out, 0) * self.spread_
        enough = len(y) >= fewest(self.level)
        self.width_ = half_width(residuals, self.level) if enough else float(np.abs(residuals).max())
        self.support_ = Support.learn(np.array([list(v.statistics.values()) for v in views]), self.seed)
        self.reference_ = np.quantile(y, np.linspace(0, 1, 101))
        self.fitted_ = True
        return self

    def _scores(self, seen: Sequence[View]) -> list[float]:
        answers = []
        for number, (features, (x, mean, scale)) in enumerate(zip(self.base.describe(seen), self.sets_, strict=True)):
            new = _standard(features, mean, scale)
            for k, width in enumerate(KERNELS):
                answers.append(_kernel(new, x, width) @ self.weights_[number * len(KERNELS) + k])
        return (self.centre_ + self.spread_ * np.mean(answers, 0)).tolist()

    def _reason(self, seen: View) -> str:
        return self.support_.reason_of(seen, list(seen.statistics))

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        return [(mean, mean - self.width_, mean + self.width_) for mean in self._scores(seen)]

    def _settings(self) -> dict[str, Any]:
        return {"level": self.level, "seed": self.seed, "base_family": self.base.family} | {
            f"base_{k}": v for k, v in self.base._settings().items()
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        own: dict[str, NDArray[Any]] = {
            "weights": self.weights_,
            "target": np.array([self.centre_, self.spread_, self.width_]),
            "reference": self.reference_,
        }
        for i, arrays in enumerate(self.sets_):
            own |= {f"set{i}_{name}": a for name, a in zip(("x", "mean", "scale"), arrays, strict=True)}
        return own | self.support_.arrays() | {f"base/{k}": v for k, v in self.base._arrays().items()}

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.base._restore({k.removeprefix("base/"): v for k, v in arrays.items() if k.startswith("base/")}, recipe)
        self.weights_, self.reference_ = arrays["weights"], arrays["reference"]
        self.centre_, self.spread_, self.width_ = (float(v) for v in arrays["target"])
        count = len(self.weights_) // len(KERNELS)
        self.sets_ = [(arrays[f"set{i}_x"], arrays[f"set{i}_mean"], arrays[f"set{i}_scale"]) for i in range(count)]
        self.support_ = Support.of(arrays)
        self.fitted_ = True


def _standard(x: Matrix, mean: Matrix, scale: Matrix) -> Matrix:
    return np.clip((x - mean) / scale, -CUT, CUT)


def _kernel(a: Matrix, b: Matrix, width: float) -> Matrix:
    """Shape (len(a), len(b)); features count equally, whatever their number."""
    if width == 0.0:
        return 1.0 + a @ b.T / a.shape[1]
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2.0 * a @ b.T
    return np.exp(-np.maximum(squared, 0.0) / a.shape[1] / (2.0 * width**2))


def _ridge(kernel: Matrix, target: Matrix, penalty: float) -> tuple[Matrix, Matrix]:
    """Dual weights and leave-one-out residuals."""
    inverse = np.linalg.inv(kernel + penalty * np.eye(len(kernel)))
    weights = inverse @ target
    return weights, weights / np.diag(inverse)
