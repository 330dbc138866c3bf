"""A trained predictor plus what a few labels of the target family say.

What the base sees of a network (graph statistics, its rank score, its embedding where it has one) enters kernel ridge
regressions on the new labels, every feature set with every kernel, penalties by leave-one-out error; on wish also
kernel machines that learn which of two networks is better; and forests, which know nothing of the base on the first set
and all of it on the last. Labels are learnt as normal scores. Answers are averaged with weights softmax(τ / T), τ each
member's rank agreement with the labels that it was not shown: so a base that does not help is outvoted by the members
that never asked it.
Sources: Rasmussen & Williams 2006, eq. 2.25 and 5.12; Burges et al. 2005 (RankNet's loss); GENNAPE, Mills et al., AAAI
2023, arXiv:2211.17226 (weights by τ, there with T = 1 and on the labels that were learnt).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import PredictorError
from nasplat.features.view import View
from nasplat.learners.conformal import fewest, half_width
from nasplat.learners.flat_trees import FlatTrees
from nasplat.learners.forest import grow_forest
from nasplat.learners.lessons import left_out
from nasplat.learners.normal_scores import NormalScores
from nasplat.learners.spread import moments, standard
from nasplat.learners.support import Support
from nasplat.predict.contract import AbstractPredictor
from nasplat.tables.metrics import kendall_tau
from nasplat.tables.splits import fold_numbers

Matrix = NDArray[np.float64]
KERNELS = (0.0, 0.7, 1.5)
"""Widths of the Gaussian kernels, in standard deviations per feature; 0 is the linear kernel."""
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Ridge penalties among which leave-one-out error chooses."""
RANKING_PENALTIES = (1e-4, 1e-3, 1e-2)
"""Penalties of ranking members, among which rank agreement on held-out folds chooses."""
LOSSES = {"regression": (False,), "ranking": (True,), "both": (False, True)}
"""Whether kernel machines learn the label (least squares), which of two networks is better, or one after the other."""
FOLDS = 5
"""Parts into which labels fall; ranking members answer each part by a fit on the others."""
PAIRS = 60_000
"""Largest number of pairs of networks that a ranking member learns from."""
TREES = 150
"""Trees of a forest."""
MOST = 3_000
"""Kernel regressions learn from at most so many labels; more belong into a new fit."""


class AbstractTunable(AbstractPredictor):
    """A predictor that can be fine-tuned; every family of nasplat is one."""

    def finetune(
        self,
        items: Sequence[Any],
        labels: Sequence[float],
        seed: int = 0,
        loss: str = "regression",
        groups: Sequence[str] | None = None,
    ) -> Finetuned:
        """Make a new predictor that also knows a few labels of another family; this one stays as it is.

        Args:
            items: Networks of the target family, see `choose`; rows of one network are one network with the mean of
                their labels.
            labels: Their labels, in any unit; larger means better. Those that are not finite are left out.
            seed: Number that decides everything random.
            loss: What its kernel machines learn: 'regression' (the label), 'ranking' (which of two networks is better)
                or 'both', one after the other.
            groups: Name of each item's function, such as its `network_key`: networks of one function are left out
                together. By default what the items themselves say.

        Returns:
            The fine-tuned predictor.

        Raises:
            PredictorError: fewer than 10 distinct networks with a finite label, more than 3,000, labels not one per
                item or all equal; an unknown loss.

        Example:
            >>> import nasplat
            >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=8, channels=1)
            >>> members = [space.sample(seed=i) for i in range(12)]
            >>> tuned = nasplat.load_predictor("trees-nb201").finetune(members, [a.graph().macs for a in members])
            >>> len(tuned.rank_scores(members))
            12
        """
        return Finetuned(deepcopy(self), loss=loss, seed=seed).fit(items, labels, groups)


@dataclass(eq=False, repr=False)
class Finetuned(AbstractTunable):
    """Kernel machines and forests on what a base predictor sees, weighted by how they rank labels left out."""

    family: ClassVar[str] = "finetuned"

    base: AbstractPredictor
    """Fitted predictor that fine-tuning starts from."""
    level: float = 0.9
    """Share of labels that the interval is to hold, between 0 and 1."""
    temperature: float = 0.03
    """T of the members' weights; a large one means equal weights."""
    loss: str = "regression"
    """What the kernel machines learn: 'regression' (the label), 'ranking' (which of two networks is better) or
    'both'."""
    seed: int = 0
    """Number that decides the forests, the ranking members' folds and pairs, and the reference sample."""

    def __post_init__(self) -> None:
        """Name the label, and read networks as the base does."""
        self.metric, self.to_graph = "label", self.base.to_graph

    def __sklearn_clone__(self) -> Finetuned:
        """Copy the settings without what was fitted here; the base stays fitted, it is what fine-tuning starts from."""
        return Finetuned(self.base, self.level, self.temperature, self.loss, self.seed)

    def fit(self, items: Sequence[Any], labels: Sequence[float], groups: Sequence[str] | None = None) -> Self:
        """Learn from a few labels.

        Args:
            items: As for `predict`; rows of one network are one network with the mean of their labels.
            labels: One value per item, at least 10; larger means better. Those that are not finite are left out.
            groups: Name of each item's function, such as its `network_key`: networks of one function are left out
                together. By default what the items themselves say.

        Returns:
            The predictor itself.

        Raises:
            PredictorError: fewer than 10 distinct networks with a finite label, more than 3,000, labels not one per
                item or all equal; an unknown loss.
        """
        if self.loss not in LOSSES:
            raise PredictorError(f"expected a loss among {', '.join(LOSSES)}, got {self.loss!r}.\n  Name one of them.")
        learnt = self._lessons(items, labels, 10, MOST, groups)
        views, y = learnt.views, learnt.labels
        self.normal_ = NormalScores.learn(y)
        target = self.normal_.forward(y)
        described = self.base.describe(views)
        self.sets_: list[tuple[Matrix, Matrix, Matrix]] = []
        for features in described:
            mean, scale = moments(features)
            self.sets_.append((standard(features, mean, scale), mean, scale))
        found = [
            _ranked(kernel, target, self.seed, learnt.groups) if ranks else _regressed(kernel, target, learnt.groups)
            for ranks in LOSSES[self.loss]
            for kernel in self._kernels([x for x, _, _ in self.sets_])
        ]
        self.duals_, self.offsets_ = np.array([f[0] for f in found]), np.array([f[1] for f in found])
        unshown, self.forests_ = [f[2] for f in found], []
        for features in (described[0], described[-1]):
            grown, unseen = grow_forest(features, target, TREES, seed=self.seed, groups=learnt.groups)
            self.forests_.append(grown)
            unshown.append(np.nan_to_num(unseen))
        agreement = np.nan_to_num([kendall_tau(answers, target) for answers in unshown], nan=-1.0)
        weights = np.exp((agreement - agreement.max()) / self.temperature)
        self.weights_ = weights / weights.sum()
        residuals = target - self.weights_ @ np.array(unshown)
        enough = len(y) >= fewest(self.level)
        self.width_ = half_width(residuals, self.level) if enough else float(np.abs(residuals).max())
        self.support_ = Support.learn(np.array([list(v.statistics.values()) for v in views]), self.seed)
        self.reference_ = np.quantile(y, np.linspace(0, 1, 101))
        self.fitted_ = True
        return self

    def _kernels(self, new: Sequence[Matrix]) -> list[Matrix]:
        """Kernel between new networks and the labelled ones for each set and width, each of shape (new, labels)."""
        return [
            _kernel(features, x, width)
            for features, (x, _, _) in zip(new, self.sets_, strict=True)
            for width in KERNELS
        ]

    def _normal(self, seen: Sequence[View]) -> Matrix:
        """Answers as normal scores, shape (n,)."""
        described = self.base.describe(seen)
        kernels = self._kernels([standard(f, *s[1:]) for f, s in zip(described, self.sets_, strict=True)])
        answers = [
            kernels[i % len(kernels)] @ dual + offset
            for i, (dual, offset) in enumerate(zip(self.duals_, self.offsets_, strict=True))
        ]
        for grown, features in zip(self.forests_, (described[0], described[-1]), strict=True):
            answers.append(grown.answers(features).mean(1))
        return self.weights_ @ np.array(answers)

    def _scores(self, seen: Sequence[View]) -> list[float]:
        return self.normal_.back(self._normal(seen)).tolist()

    def _reason(self, seen: View) -> str:
        return self._reasons([seen])[0]

    def _reasons(self, seen: Sequence[View]) -> list[str]:
        return self.support_.reasons_of(seen, list(seen[0].statistics))

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        z = self._normal(seen)
        values = self.normal_.back(np.stack([z, z - self.width_, z + self.width_], 1))
        return [tuple(row) for row in values.tolist()]

    def _settings(self) -> dict[str, Any]:
        own = {"level": self.level, "temperature": self.temperature, "loss": self.loss, "seed": self.seed}
        own |= {"base_family": self.base.family}
        return own | {f"base_{k}": v for k, v in self.base._settings().items()}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        own: dict[str, NDArray[Any]] = {
            "duals": self.duals_,
            "offsets": self.offsets_,
            "weights": self.weights_,
            "width": np.array([self.width_]),
            "reference": self.reference_,
        }
        for i, arrays in enumerate(self.sets_):
            own |= {f"set{i}_{name}": a for name, a in zip(("x", "mean", "scale"), arrays, strict=True)}
        for i, grown in enumerate(self.forests_):
            own |= grown.arrays(f"forest{i}_")
        own |= self.normal_.arrays() | self.support_.arrays()
        return own | {f"base/{k}": v for k, v in self.base._arrays().items()}

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.base._restore({k.removeprefix("base/"): v for k, v in arrays.items() if k.startswith("base/")}, recipe)
        self.duals_, self.weights_, self.reference_ = arrays["duals"], arrays["weights"], arrays["reference"]
        self.width_ = float(arrays["width"][0])
        self.offsets_ = arrays.get("offsets", np.zeros(len(self.duals_)))
        count = len([k for k in arrays if k.startswith("set") and k.endswith("_x")])
        self.sets_ = [(arrays[f"set{i}_x"], arrays[f"set{i}_mean"], arrays[f"set{i}_scale"]) for i in range(count)]
        self.forests_ = [FlatTrees.from_arrays(arrays, f"forest{i}_") for i in range(2)]
        self.normal_, self.support_ = NormalScores.of(arrays), Support.of(arrays)
        self.fitted_ = True


def _kernel(a: Matrix, b: Matrix, width: float) -> Matrix:
    """Kernel of shape (len(a), len(b)); features count equally, whatever their number."""
    if width == 0.0:
        return 1.0 + a @ b.T / a.shape[1]
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2.0 * a @ b.T
    return np.exp(-np.maximum(squared, 0.0) / a.shape[1] / (2.0 * width**2))


def _ridge(kernel: Matrix, target: Matrix, penalty: float, groups: Sequence[str]) -> tuple[Matrix, Matrix]:
    """Dual weights, and residuals of groups left out."""
    inverse = np.linalg.inv(kernel + penalty * np.eye(len(kernel)))
    weights = inverse @ target
    return weights, left_out(lambda rows: inverse[np.ix_(rows, rows)], weights, groups)


def _regressed(kernel: Matrix, target: Matrix, groups: Sequence[str]) -> tuple[Matrix, float, Matrix]:
    """The ridge regression of least left-out error: dual weights, offset, answers to labels it was not shown."""
    tried = (_ridge(kernel, target, p, groups) for p in PENALTIES)
    dual, residuals = min(tried, key=lambda f: float(np.abs(f[1]).mean()))
    return dual, 0.0, target - residuals


def _ranked(kernel: Matrix, target: Matrix, seed: int, groups: Sequence[str]) -> tuple[Matrix, float, Matrix]:
    """The same of a kernel machine that learns which of two networks is better, brought to the target's scale."""
    folds = fold_numbers(len(target), FOLDS, seed, groups)
    best, kept, unseen = -2.0, RANKING_PENALTIES[0], np.zeros(len(target))
    for penalty in RANKING_PENALTIES:
        answers = np.zeros(len(target))
        for fold in range(FOLDS):
            shown, held = folds != fold, folds == fold
            answers[held] = kernel[np.ix_(held, shown)] @ _pairwise(
                kernel[np.ix_(shown, shown)], target[shown], penalty, seed
            )
        agreement = kendall_tau(answers, target)
        if agreement > best:
            best, kept, unseen = agreement, penalty, answers
    slope, offset = np.polyfit(unseen, target, 1) if unseen.std() > 0 else (0.0, float(target.mean()))
    slope = max(0.0, float(slope))  # a member that ranks the wrong way round says nothing
    return slope * _pairwise(kernel, target, kept, seed), float(offset), slope * unseen + offset


def _pairwise(kernel: Matrix, target: Matrix, penalty: float, seed: int) -> Matrix:
    """Dual weights that minimise the mean logistic loss over pairs plus penalty × the squared norm of the function."""
    from scipy.optimize import minimize

    first, second = np.triu_indices(len(target), 1)
    sign = np.sign(target[first] - target[second])
    chosen = np.flatnonzero(sign)
    if len(chosen) > PAIRS:
        chosen = np.random.default_rng(seed).choice(chosen, PAIRS, replace=False)
    first, second, sign, share = first[chosen], second[chosen], sign[chosen], 1 / max(1, len(chosen))

    def loss(dual: Matrix) -> tuple[float, Matrix]:
        answers = kernel @ dual
        margins = sign * (answers[first] - answers[second])
        pull = -sign * share / (1 + np.exp(np.minimum(margins, 500.0)))
        gradient = np.bincount(first, pull, len(target)) - np.bincount(second, pull, len(target))
        value = np.logaddexp(0, -margins).sum() * share + penalty * dual @ answers
        return float(value), kernel @ gradient + 2 * penalty * answers

    return minimize(loss, np.zeros(len(target)), jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
