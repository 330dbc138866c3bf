"""Latency on a device that is not at hand, learnt from a published table of timings of networks on it.

The same sum over operations and correction as `LatencyPredictor`, with two errors: on networks left out of the families
that were timed, and on whole families left out. The interval is that of families left out where there are enough to
tell, since networks that people ask about are rarely of a timed family. A network unlike the timed ones is refused:
intervals of families left out held 34 % of such networks on a VIM3, and 66 % on a Jetson Nano.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nasplat import content
from nasplat.features.view import View
from nasplat.learners.boosted import Boosted, BoostedSettings, grow_boosted
from nasplat.learners.conformal import half_width
from nasplat.learners.support import FEW, MARGIN, Support
from nasplat.predict.contract import counted
from nasplat.predict.latency import LatencyPredictor, summed
from nasplat.tables.metrics import kendall_tau
from nasplat.tables.splits import fold_numbers

Matrix = NDArray[np.float64]

DEVICES = "predictors/devices"
"""Kind of content that holds predictors of latency on devices that are not at hand."""
FAMILIES, FOLDS = 4, 8
"""Fewest families of which whole ones can be left out, and parts into which they fall then."""
SMALL = BoostedSettings(members=1, trees=80, depth=3, lr=0.1)
"""Size of the boosted trees: some fifty devices are shipped together."""
WIDER = 2.0
"""Times as far beyond the range of a statistic as elsewhere a network may be: sums over operations go on there, and the
smallest and the largest of a family, which people ask about, are those that a table may lack."""
REFERENCES = 96
"""Timed networks that are kept to tell whether another one is near them."""


def list_devices() -> list[str]:
    """List the devices whose latency is predicted without having them.

    Returns:
        Sorted names for `load_device`.

    Example:
        >>> "pixel2" in list_devices()
        True
    """
    return content.names(DEVICES)


def device_folder(name: str | Path) -> Path:
    """Find the folder of a predictor of latency that is named by a device or by a path.

    Args:
        name: Name among `list_devices()`, or any path; a folder that exists goes before a device of that name.

    Returns:
        The folder of the shipped device, or the path as it is, which need not exist.

    Example:
        >>> device_folder("run/latency").name, device_folder("pixel2").parent.name
        ('latency', 'devices')
    """
    path = Path(name)
    return content.folder(DEVICES) / path if str(path) in list_devices() and not path.exists() else path


@dataclass(eq=False, repr=False)
class DevicePredictor(LatencyPredictor):
    """A predictor of the milliseconds of a forward pass on a device that others timed; smaller ranks first.

    Example:
        >>> DevicePredictor(device="pixel2").get_params()
        {'device': 'pixel2', 'level': 0.9, 'metric': 'latency_ms', 'seed': 0}
    """

    family: ClassVar[str] = "device"

    device: str = ""
    """Name of the device that was timed, with its runtime where several are told apart."""

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
                their labels. The batch is that which was timed.
            labels: Milliseconds of each, positive; those that are not finite are left out.
            families: Name of each network's family; where there are four or more, it is learnt how wrong the answers
                are for a family that was never timed. By default all are of one family.
            groups: Name of each item's function, such as its `network_key` or the network whose image sides the items
                are, which no random fold parts. By default what the items themselves say.

        Returns:
            The predictor itself.

        Raises:
            PredictorError: fewer than 20 distinct networks with a finite label, labels not one per item or all equal,
                or one that is not positive.
        """
        learnt = self._timed(items, labels, groups)
        self._learn(learnt, None)
        seen, y = learnt.views, learnt.labels
        errors = np.abs(self.left_out_ / y - 1) * 100
        self.validation_ |= {"level": self.level, "median_percent": float(np.median(errors))}
        self.support_ = _support(counted(seen), learnt.groups, self.seed)
        names = [families[mine[0]] for mine in learnt.rows] if families is not None else [""] * len(y)
        if len(set(names)) >= FAMILIES:
            s = np.array([list(v.statistics.values()) for v in seen])
            folds = fold_numbers(len(y), FOLDS, self.seed, names)
            _, share, answers = self._validate(self._terms(seen, self.prunes_), s, y, folds)
            self.share_, self.width_ = share, max(self.width_, half_width(np.log(y / answers), self.level))
            self.validation_ |= {
                "families": len(set(names)),
                "families_median_percent": float(np.median(np.abs(answers / y - 1)) * 100),
                "families_tau": float(kendall_tau(answers.tolist(), y.tolist())),
            }
        self.errors_ = np.array([v for k, v in self.validation_.items() if k.endswith("median_percent")])
        return self

    @property
    def error_percent(self) -> dict[str, float]:
        """Median error on what was left out: 'networks' of the families that were timed, whole 'families' if known."""
        return dict(zip(("networks", "families"), self.errors_.tolist(), strict=False))

    def _correction(self, x: Matrix, s: Matrix, y: Matrix, coefficients: Matrix) -> Boosted:
        return grow_boosted(s, np.log(y / summed(x, coefficients)), SMALL, self.seed)

    def _reason(self, seen: View) -> str:
        names = ["log10 MACs", "log10 parameters", *self.names_]
        return super()._reason(seen) or self.support_.reason(counted([seen], self.names_)[0], names)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return super()._arrays() | self.support_.arrays() | {"errors": self.errors_}

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.support_, self.errors_ = Support.of(arrays), arrays["errors"]
        super()._restore(arrays, recipe)


def _support(features: Matrix, groups: Sequence[str], seed: int) -> Support:
    """Describe timed networks so that one at several image sides counts once: it is no neighbour of its own."""
    order = np.random.default_rng(seed).permutation(len(groups))
    first = {groups[i]: i for i in order.tolist()}
    found = Support.learn(features[sorted(first.values())], seed, REFERENCES)
    low, high = features.min(0), features.max(0)
    margin = (MARGIN + WIDER * FEW / len(first)) * (high - low)
    return replace(found, low=low - margin, high=high + margin)
