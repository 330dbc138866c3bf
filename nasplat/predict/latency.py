"""Latency of a network from a sample of networks timed on one device.

Two parts. A sum over operations, each linear in its multiply-accumulates, its memory traffic and its mere existence,
with coefficients that are never negative: it says what another family of networks costs. Boosted trees on graph
statistics correct what that sum misses, as far as cross-validation says that they help. Folds leave whole families out
where families are told.
Sources: roofline of operations, Williams et al. 2009, doi:10.1145/1498765.1498785; prediction by kernels, Zhang et al.
2021 (nn-Meter), doi:10.1145/3458864.3467882.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import PredictorError
from nasplat.features.view import View
from nasplat.features.work import KINDS, TERMS
from nasplat.learners.boosted import Boosted, BoostedSettings, grow_boosted
from nasplat.learners.conformal import fewest, half_width
from nasplat.learners.lessons import Lessons, numbers
from nasplat.learners.packing import pack_lines, unpack_lines
from nasplat.learners.support import table
from nasplat.predict.finetuned import AbstractTunable
from nasplat.tables.metrics import kendall_tau
from nasplat.tables.splits import fold_numbers

Matrix = NDArray[np.float64]

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the trees' correction among which cross-validation chooses."""
FOLDS = 5
"""Random parts of the networks, each of which is answered by a fit on the others, where no families are told."""
RIDGE = 1e-3
"""Penalty on the squares of the coefficients, each scaled by what its term contributes."""
CORRECTION = BoostedSettings(members=3, trees=100, depth=3)
"""Size of the boosted trees, which learn the logarithm of measured over summed milliseconds."""
BEYOND = 4.0
"""How many times more or fewer MACs than any timed network are still inside the support."""
FOREIGN = 0.1
"""Share of work, or of calls, that operations of a kind never timed may have."""


@dataclass(eq=False, repr=False)
class LatencyPredictor(AbstractTunable):
    """A predictor of the milliseconds of a forward pass on the device that was timed; smaller ranks first.

    Example:
        >>> LatencyPredictor(level=0.8).get_params()
        {'level': 0.8, 'metric': 'latency_ms', 'seed': 0}
    """

    family: ClassVar[str] = "latency"

    level: float = 0.9
    """Share of labels that the interval is to hold, between 0 and 1."""
    metric: str = "latency_ms"
    """Name and unit of the label."""
    seed: int = 0
    """Number that decides folds and trees."""

    def fit(
        self,
        items: Sequence[Any],
        labels: Sequence[float],
        families: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
    ) -> Self:
        """Learn from timed networks.

        Args:
            items: Graphs, views, or what has a `graph()` method; rows of one network are one network with the mean of
                their labels.
            labels: Milliseconds of each, positive; those that are not finite are left out.
            families: Name of each network's family; folds leave whole families out, so that the interval holds for
                another family. By default folds are random.
            groups: Name of each item's function, such as its `network_key`, which no random fold parts. By default what
                the items themselves say.

        Returns:
            The predictor itself.

        Raises:
            PredictorError: fewer than 20 distinct networks with a finite label, labels not one per item or all equal,
                or one that is not positive.
        """
        learnt = self._timed(items, labels, groups)
        self._learn(learnt, None if families is None else [families[mine[0]] for mine in learnt.rows])
        return self

    def _timed(self, items: Sequence[Any], labels: Sequence[float], groups: Sequence[str] | None) -> Lessons:
        """Distinct networks with the mean of their milliseconds."""
        given = numbers(labels)
        if (given <= 0).any():
            raise PredictorError(
                f"expected a positive latency per network, got {np.nanmin(given):g} ms.\n  Time it again."
            )
        return self._lessons(items, labels, max(20, fewest(self.level)), groups=groups)

    def _learn(self, learnt: Lessons, families: Sequence[str] | None) -> None:
        """Fit coefficients, trees and interval; `families` are those of the distinct networks."""
        seen, y = learnt.views, learnt.labels
        self.names_ = list(seen[0].statistics)
        s = np.array([list(v.statistics.values()) for v in seen])
        folds = self._folds(learnt, families)
        trials = [self._validate(self._terms(seen, prunes), s, y, folds) for prunes in (False, True)]
        best = min(trials, key=lambda t: t[0])
        self.prunes_ = best is trials[1]
        """Whether the device follows what a compiler keeps, instead of everything that is written down."""
        self.share_, answers = best[1:]
        self.left_out_ = answers
        """Milliseconds of each distinct network by a fit without its fold, shape (n,)."""
        x = self._terms(seen, self.prunes_)
        self.validation_ = {
            "networks": len(y),
            "folds": "families left out" if families is not None and len(set(families)) > 1 else "random",
            "mape_percent": float(np.mean(np.abs(answers / y - 1)) * 100),
            "tau": float(kendall_tau(answers.tolist(), y.tolist())),
            "correction": self.share_,
            "prunes_dead_code": self.prunes_,
        }
        """How well networks are predicted that were left out."""
        self.width_ = half_width(np.log(y / answers), self.level)
        self.coefficients_ = _solve(x, y)
        self.model_ = self._correction(x, s, y, self.coefficients_)
        macs = np.array([v.macs for v in seen], np.float64)
        self.range_ = np.array([max(1.0, macs.min()), macs.max()])
        self.kinds_: NDArray[np.bool_] = np.any(x.reshape(-1, len(KINDS), len(TERMS))[:, :, 0] > 0, axis=0)
        self.reference_ = np.quantile(y, np.linspace(0, 1, 101))
        self.fitted_ = True

    def _terms(self, seen: Sequence[View], prunes: bool) -> Matrix:
        """Sums over each network's operations by kind and term, of what is written down or of what a compiler keeps."""
        return np.array([v.executed[int(prunes)].ravel() for v in seen])

    def _validate(self, x: Matrix, s: Matrix, y: Matrix, folds: NDArray[np.int64]) -> tuple[float, float, Matrix]:
        """Mean error of networks left out, the best share of the correction, and the answers."""
        sums, ratios = np.empty(len(y)), np.empty(len(y))
        for fold in np.unique(folds):
            held = folds == fold
            coefficients = _solve(x[~held], y[~held])
            sums[held] = summed(x[held], coefficients)
            ratios[held] = self._correction(x[~held], s[~held], y[~held], coefficients).answers(s[held]).mean(0)
        errors = [float(np.mean(np.abs(np.log(y / sums) - share * ratios))) for share in SHARES]
        best = int(np.argmin(errors))
        return errors[best], SHARES[best], sums * np.exp(SHARES[best] * ratios)

    def _folds(self, learnt: Lessons, families: Sequence[str] | None) -> NDArray[np.int64]:
        """Number of each network's fold."""
        if families is not None and len(set(families)) > 1:
            return np.unique(np.asarray(families), return_inverse=True)[1]
        if len(set(learnt.groups)) < 2:
            raise PredictorError(
                f"expected networks of at least two functions, got one in {len(learnt.groups)} networks.\n"
                "  Time others."
            )
        return fold_numbers(len(learnt.labels), FOLDS, self.seed, learnt.groups)

    def _correction(self, x: Matrix, s: Matrix, y: Matrix, coefficients: Matrix) -> Boosted:
        """Boosted trees that learn what the sum over operations misses."""
        return grow_boosted(s, np.log(y / summed(x, coefficients)), CORRECTION, self.seed)

    def _reason(self, seen: View) -> str:
        if seen.unknown_ops:
            return f"it uses operations that were never timed: {', '.join(seen.unknown_ops)}"
        calls, work = seen.executed[int(self.prunes_)][:, :2].T
        for k, was_timed in enumerate(self.kinds_.tolist()):
            if not was_timed and work[k] > FOREIGN * work.sum():
                return f"{work[k] / work.sum():.0%} of its work is of kind {KINDS[k]}, none of which was timed"
            if not was_timed and calls[k] > FOREIGN * calls.sum():
                return f"{calls[k]:.0f} of its operations are of kind {KINDS[k]}, none of which was timed"
        if not self.range_[0] / BEYOND <= seen.macs <= self.range_[1] * BEYOND:
            return f"it has {seen.macs:,} MACs, the timed networks {self.range_[0]:,.0f} to {self.range_[1]:,.0f}"
        return ""

    def _answers(self, seen: Sequence[View]) -> Matrix:
        """Milliseconds of networks, shape (n,)."""
        sums = summed(self._terms(seen, self.prunes_), self.coefficients_)
        s = table(seen, self.names_)
        return sums * np.exp(self.share_ * self.model_.answers(s).mean(0))

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        factor = float(np.exp(self.width_))
        return [(ms, ms / factor, ms * factor) for ms in self._answers(seen).tolist()]

    def _scores(self, seen: Sequence[View]) -> list[float]:
        return (-self._answers(seen)).tolist()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            **self.model_.arrays(),
            "coefficients": self.coefficients_,
            "spread": np.array([self.width_, self.share_, float(self.prunes_)]),
            "range": self.range_,
            "kinds": np.asarray(self.kinds_, np.uint8),
            "reference": self.reference_,
            "names": pack_lines(self.names_),
        }

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.model_ = Boosted.from_arrays(arrays)
        self.coefficients_, self.range_, self.reference_ = arrays["coefficients"], arrays["range"], arrays["reference"]
        self.width_, self.share_, prunes = (float(v) for v in arrays["spread"])
        self.prunes_ = bool(prunes)
        self.kinds_ = arrays["kinds"].astype(bool)
        self.names_ = unpack_lines(arrays["names"])
        self.fitted_ = True


def _solve(x: Matrix, y: Matrix) -> Matrix:
    """Coefficients that are never negative, by least squares of relative errors."""
    from sklearn.linear_model import LinearRegression

    relative = x / y[:, None]
    scale = np.sqrt((relative**2).mean(0))
    scale = np.where(scale > 0, scale, 1.0)
    design = np.vstack([relative / scale, np.sqrt(RIDGE) * np.eye(x.shape[1])])
    target = np.concatenate([np.ones(len(y)), np.zeros(x.shape[1])])
    return LinearRegression(positive=True, fit_intercept=False).fit(design, target).coef_ / scale


def summed(x: Matrix, coefficients: Matrix) -> Matrix:
    """Sum up what operations cost.

    Args:
        x: Sums over each network's operations by kind and term, shape (n, t).
        coefficients: Milliseconds per unit of each, shape (t,).

    Returns:
        Milliseconds of each network, shape (n,).
    """
    return np.maximum(x @ coefficients, 1e-9)
