"""A trained predictor plus what a few labels of the target family say.

What the base sees of a network (graph statistics, its rank score, its embedding where it has one) enters kernel ridge regressions on the new
labels, every feature set with every kernel, penalties by leave-one-out error; and forests, which know nothing of the base on the first set and
all of it on the last. Labels are learnt as normal scores. Answers are averaged with weights softmax(τ / T), τ each member's rank agreement with
the labels that it was not shown: so a base that does not help is outvoted by the members that never asked it.
Sources: Rasmussen & Williams 2006, eq. 2.25 and 5.12; GENNAPE, Mills et al., AAAI 2023, arXiv:2211.17226 (weights by τ, there with T = 1 and on
the labels that were learnt).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import PredictorError
from nasplat.metrics import kendall_tau
from nasplat.predict import forest
from nasplat.predict.conformal import fewest, half_width
from nasplat.predict.predictor import AbstractPredictor
from nasplat.predict.support import Support
from nasplat.predict.target import NormalScores
from nasplat.predict.view import View

Matrix = NDArray[np.float64]
KERNELS = (0.0, 0.7, 1.5)
"""Widths of the Gaussian kernels, in standard deviations per feature; 0 is the linear kernel."""
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
CUT = 3.0
"""Standard deviations beyond which a feature says no more: what hardly varied among few labels must not run away."""
TREES = 150
"""Of a forest."""
MOST = 3_000
"""Kernel regressions learn from at most so many labels; more belong into a new fit."""


class Finetuned(AbstractPredictor):
    """Kernel ridge regressions and forests on what a base predictor sees, weighted by how well they rank labels they were not shown."""

    family: ClassVar[str] = "finetuned"

    def __init__(self, base: AbstractPredictor, level: float = 0.9, temperature: float = 0.03, seed: int = 0) -> None:
        """Args:
        base: A fitted predictor.
        level: Of the interval.
        temperature: T of the members' weights; large means equal weights.
        seed: Of the forests and the reference sample.
        """
        self.base, self.level, self.temperature, self.seed = base, level, temperature, seed
        self.metric, self.to_graph = "label", base.to_graph

    def __sklearn_clone__(self) -> Finetuned:
        """Without what was fitted here; the base stays fitted, it is what fine-tuning starts from."""
        return Finetuned(self.base, self.level, self.temperature, self.seed)

    def fit(self, items: Sequence[Any], labels: Sequence[float]) -> Self:
        """Learn from a few labels.

        Args:
            items: As for `predict`.
            labels: One each, at least 10.

        Raises:
            PredictorError: fewer than 10 labels, more than 3,000, or not one per item.
        """
        if len(items) != len(labels) or not 10 <= len(items) <= MOST:
            raise PredictorError(
                f"expected one label per network, at least 10 and at most {MOST}, got {len(items)} and {len(labels)}.\n"
                "  Label more, or fit a new predictor."
            )
        views = self.views(items)
        y = np.asarray(labels, np.float64)
        self.normal_ = NormalScores.learn(y)
        target = self.normal_.forward(y)
        self.sets_: list[tuple[Matrix, Matrix, Matrix]] = []
        duals, left_out, self.forests_ = [], [], []
        described = self.base.describe(views)
        for features in described:
            mean, scale = features.mean(0), features.std(0)
            scale = np.where(scale < 1e-9, np.inf, scale)  # what never varied says nothing
            x = _standard(features, mean, scale)
            self.sets_.append((x, mean, scale))
            for width in KERNELS:
                found = [_ridge(_kernel(x, x, width), target, penalty) for penalty in PENALTIES]
                best = min(found, key=lambda f: float(np.abs(f[1]).mean()))
                duals.append(best[0])
                left_out.append(target - best[1])
        for features in (described[0], described[-1]):
            grown, unseen = forest.grow(features, target, TREES, seed=self.seed)
            self.forests_.append(grown)
            left_out.append(np.nan_to_num(unseen))
        self.duals_ = np.array(duals)
        agreement = np.nan_to_num([kendall_tau(answers, target) for answers in left_out], nan=-1.0)
        weights = np.exp((agreement - agreement.max()) / self.temperature)
        self.weights_ = weights / weights.sum()
        residuals = target - self.weights_ @ np.array(left_out)
        enough = len(y) >= fewest(self.level)
        self.width_ = half_width(residuals, self.level) if enough else float(np.abs(residuals).max())
        self.support_ = Support.learn(np.array([list(v.statistics.values()) for v in views]), self.seed)
        self.reference_ = np.quantile(y, np.linspace(0, 1, 101))
        self.fitted_ = True
        return self

    def _normal(self, seen: Sequence[View]) -> Matrix:
        """Answers as normal scores."""
        described = self.base.describe(seen)
        answers = []
        for number, (features, (x, mean, scale)) in enumerate(zip(described, self.sets_, strict=True)):
            new = _standard(features, mean, scale)
            for k, width in enumerate(KERNELS):
                answers.append(_kernel(new, x, width) @ self.duals_[number * len(KERNELS) + k])
        for grown, features in zip(self.forests_, (described[0], described[-1]), strict=True):
            answers.append(forest.each(grown, features).mean(1))
        return self.weights_ @ np.array(answers)

    def _scores(self, seen: Sequence[View]) -> list[float]:
        return self.normal_.back(self._normal(seen)).tolist()

    def _reason(self, seen: View) -> str:
        return self.support_.reason_of(seen, list(seen.statistics))

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        z = self._normal(seen)
        values = self.normal_.back(np.stack([z, z - self.width_, z + self.width_], 1))
        return [tuple(row) for row in values.tolist()]

    def _settings(self) -> dict[str, Any]:
        own = {"level": self.level, "temperature": self.temperature, "seed": self.seed, "base_family": self.base.family}
        return own | {f"base_{k}": v for k, v in self.base._settings().items()}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        own: dict[str, NDArray[Any]] = {
            "duals": self.duals_,
            "weights": self.weights_,
            "width": np.array([self.width_]),
            "reference": self.reference_,
        }
        for i, arrays in enumerate(self.sets_):
            own |= {f"set{i}_{name}": a for name, a in zip(("x", "mean", "scale"), arrays, strict=True)}
        for i, grown in enumerate(self.forests_):
            own |= {f"forest{i}_{name}": a for name, a in grown.items()}
        own |= self.normal_.arrays() | self.support_.arrays()
        return own | {f"base/{k}": v for k, v in self.base._arrays().items()}

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.base._restore({k.removeprefix("base/"): v for k, v in arrays.items() if k.startswith("base/")}, recipe)
        self.duals_, self.weights_, self.reference_ = arrays["duals"], arrays["weights"], arrays["reference"]
        self.width_ = float(arrays["width"][0])
        count = len(self.duals_) // len(KERNELS)
        self.sets_ = [(arrays[f"set{i}_x"], arrays[f"set{i}_mean"], arrays[f"set{i}_scale"]) for i in range(count)]
        self.forests_ = [{k: arrays[f"forest{i}_{k}"] for k in forest.ARRAYS} for i in range(2)]
        self.normal_, self.support_ = NormalScores.of(arrays), Support.of(arrays)
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
