"""The yardsticks: MACs alone, parameters alone, or any one statistic, such as a zero-cost proxy, rank networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import PredictorError
from nasplat.features.view import View
from nasplat.learners.conformal import half_width
from nasplat.learners.lessons import left_out
from nasplat.predict.finetuned import AbstractTunable


@dataclass(eq=False, repr=False)
class CountBaseline(AbstractTunable):
    """A straight line from one quantity to the label, label = a + b · quantity, with a conformal interval.

    Example:
        >>> import nasplat
        >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=8, channels=1)
        >>> members = [space.sample(seed=i) for i in range(20)]
        >>> CountBaseline("params").fit(members, [a.graph().params for a in members]).score(members, range(20)) < 1
        True
    """

    family: ClassVar[str] = "count"

    quantity: str = "macs"
    """'macs' or 'params', whose logarithms are used; or a statistic of views, such as 'nodes' or 'proxy.nwot'."""
    level: float = 0.9
    """Share of labels that the interval is to hold, between 0 and 1."""
    metric: str = "value"
    """Name and unit of the label."""

    def _x(self, seen: View) -> float:
        """The quantity of a network."""
        if self.quantity in {"macs", "params"}:
            return log10(max(1, getattr(seen, self.quantity)))
        try:
            return seen.statistics[self.quantity]
        except KeyError:
            raise PredictorError(
                f"expected quantity macs, params or a statistic, got {self.quantity!r}.\n"
                f"  Statistics here: {', '.join(seen.statistics)}."
            ) from None

    def fit(self, items: Sequence[Any], labels: Sequence[float], groups: Sequence[str] | None = None) -> Self:
        """Fit the line by least squares; residuals of networks left out one by one calibrate the interval.

        Args:
            items: As for `predict`; rows of one network are one network with the mean of their labels.
            labels: One value per item; larger means better. Those that are not finite are left out.
            groups: Name of each item's function, such as its `network_key`: networks of one function are left out
                together. By default what the items themselves say.

        Returns:
            The predictor itself.

        Raises:
            PredictorError: labels not one per item or all equal, too few of them for the interval's level, or a
                quantity that the networks do not have.
        """
        learnt = self._lessons(items, labels, 2, groups=groups)
        x, y = np.array([self._x(v) for v in learnt.views]), learnt.labels
        design = np.stack([np.ones_like(x), x], 1)
        self.line_ = np.linalg.lstsq(design, y, rcond=None)[0]
        inverse = np.linalg.pinv(design.T @ design)

        def beside(rows: list[int]) -> NDArray[np.float64]:
            return np.eye(len(rows)) - design[rows] @ inverse @ design[rows].T

        self.width_ = half_width(left_out(beside, y - design @ self.line_, learnt.groups), self.level)
        self.reference_ = np.quantile(y, np.linspace(0, 1, 101))
        self.fitted_ = True
        return self

    def _reason(self, seen: View) -> str:
        return ""

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        return [(mean, mean - self.width_, mean + self.width_) for mean in self._scores(seen)]

    def _scores(self, seen: Sequence[View]) -> list[float]:
        return [float(self.line_[0] + self.line_[1] * self._x(v)) for v in seen]

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"line": self.line_, "width": np.array([self.width_]), "reference": self.reference_}

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.line_, self.width_, self.reference_ = arrays["line"], float(arrays["width"][0]), arrays["reference"]
        self.fitted_ = True
