"""Gradient-boosted trees on graph statistics: a small ensemble, stored as arrays, with calibrated intervals.

scikit-learn grows the trees; what is kept are plain arrays that answer alone (and equal scikit-learn to the last
digits, see tests). Source: Friedman 2001, Annals of Statistics 29.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nasplat.features.view import View
from nasplat.learners.boosted import Boosted, BoostedSettings, grow_boosted
from nasplat.learners.conformal import fewest, half_width
from nasplat.learners.packing import pack_lines, unpack_lines
from nasplat.learners.support import Support, table
from nasplat.predict.finetuned import AbstractTunable

Matrix = NDArray[np.float64]


@dataclass(eq=False, repr=False)
class Trees(AbstractTunable):
    """Boosted trees on graph statistics, several models of them, each grown on another resampling.

    Example:
        >>> import nasplat
        >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=8, channels=1)
        >>> members = [space.sample(seed=i) for i in range(30)]
        >>> trees = Trees(members=1, trees=20).fit(members, [a.graph().macs for a in members])
        >>> trees.predict(members[:1])[0].in_support
        True
    """

    family: ClassVar[str] = "trees"

    members: int = 5
    """Number of boosted models, whose answers are averaged; their spread says how hard a network is."""
    trees: int = 300
    """Trees of each model."""
    depth: int = 5
    """Largest number of splits between the root of a tree and a leaf."""
    lr: float = 0.06
    """Learning rate: share of each tree's correction that is kept."""
    level: float = 0.9
    """Share of labels that the interval is to hold, between 0 and 1."""
    metric: str = "value"
    """Name and unit of the label."""
    seed: int = 0
    """Number that decides resampling and the calibration split."""

    def fit(self, items: Sequence[Any], labels: Sequence[float], groups: Sequence[str] | None = None) -> Self:
        """Grow trees on 80 % of the networks, and calibrate the interval on the rest.

        Args:
            items: As for `predict`; rows of one network are one network with the mean of their labels.
            labels: One value per item; larger means better. Those that are not finite are left out.
            groups: Name of each item's function, such as its `network_key`: what interval and weights are measured on
                holds no function that was learnt. By default what the items themselves say.

        Returns:
            The predictor itself.

        Raises:
            PredictorError: fewer than 20 distinct networks with a finite label, labels not one per item, or all equal.
        """
        learnt = self._lessons(items, labels, 20, groups=groups)
        rows, y = [v.statistics for v in learnt.views], learnt.labels
        self.names_ = list(rows[0])
        x = np.array([list(r.values()) for r in rows])
        held, grown = learnt.hold_out(max(len(y) // 5, fewest(self.level)), np.random.default_rng(self.seed))
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
        return self._reasons([seen])[0]

    def _reasons(self, seen: Sequence[View]) -> list[str]:
        return self.support_.reasons_of(seen, self.names_)

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        values = self._values(seen)
        mean, half = values.mean(0), self.factor_ * (values.std(0) + self.floor_)
        return [tuple(row) for row in np.stack([mean, mean - half, mean + half], 1).tolist()]

    def _values(self, seen: Sequence[View]) -> Matrix:
        """Answers of every member, shape (members, n)."""
        return self.model_.answers(table(seen, self.names_))

    def _scores(self, seen: Sequence[View]) -> list[float]:
        return self._values(seen).mean(0).tolist()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            **self.model_.arrays(),
            "factor": np.array([self.factor_, self.floor_]),
            **self.support_.arrays(),
            "reference": self.reference_,
            "names": pack_lines(self.names_),
        }

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.model_ = Boosted.from_arrays(arrays)
        self.factor_, self.floor_ = (float(v) for v in arrays["factor"])
        self.support_ = Support.of(arrays)
        self.reference_ = arrays["reference"]
        self.names_ = unpack_lines(arrays["names"])
        self.fitted_ = True
