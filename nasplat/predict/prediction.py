"""`Prediction`: what a predictor says of one network, with its interval and the yardsticks beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from nasplat.graph import bounds


@dataclass(frozen=True)
class OnDevice:
    """What is said of one network's latency on a device that others timed."""

    device: str
    """Name of the device."""
    latency_ms: float | None
    """Predicted milliseconds of a forward pass; None outside the support."""
    low_ms: float | None
    """Lower end of the interval."""
    high_ms: float | None
    """Upper end of the interval."""
    level: float
    """Share of networks whose latency the interval is to hold, between 0 and 1."""
    error_percent: float | None
    """Median error on networks that were left out; None where it is not known."""
    families_error_percent: float | None
    """Median error on whole families that were left out; None where fewer than four were timed."""
    reason: str
    """Why nothing is said, in words; empty inside the support."""


@dataclass(frozen=True)
class Prediction:
    """What a predictor says of one network.

    Outside the predictor's support mean and interval are None, and `reason` says why; MACs and parameters are always
    there.

    Example:
        >>> import nasplat
        >>> space = nasplat.load_space("nasbench201")
        >>> broken = space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
        >>> (p,) = nasplat.load_predictor("trees-nb201").predict([broken])
        >>> p.in_support, p.mean is None, p.macs > 0
        (False, True, True)
    """

    mean: float | None
    """Predicted label, in the predictor's unit."""
    low: float | None
    """Lower end of the interval, in the same unit."""
    high: float | None
    """Upper end of the interval, in the same unit."""
    level: float
    """Share of networks of the training family whose label lies inside the interval, between 0 and 1."""
    in_support: bool
    """True where the network is like those that the predictor learnt from, so that it answers."""
    reason: str
    """Why the network is outside the support, in words; empty inside."""
    percentile: float | None
    """Share of the reference family with a smaller label, in percent."""
    macs: int
    """Multiply-accumulates of a forward pass (1 MAC = 2 FLOP)."""
    params: int
    """Number of parameters."""
    metric: str
    """Name and unit of what is predicted."""
    reference: str = ""
    """Family within which a percentile was predicted; empty for predictors of a label."""
    bound: str = ""
    """What MACs are: '' exact, '≥' a lower bound, '≤' an upper bound, '≈' neither of the two."""
    params_bound: str = ""
    """The same of parameters."""
    latency_ms: float | None = None
    """Predicted milliseconds of a forward pass on this device; None until it is calibrated, or outside the support of
    its calibration."""
    latency_low_ms: float | None = None
    """Lower end of the latency's interval, at the calibration's level, 90 % by default."""
    latency_high_ms: float | None = None
    """Upper end of the latency's interval."""
    top1: float | None = None
    """Predicted top-1 in percent on the data set that has the network's sizes of input and output, under the plain
    recipe or the one asked for; None for other networks, and from predictors other than `base`."""
    top1_low: float | None = None
    """Lower end of the top-1's interval, at 90 %."""
    top1_high: float | None = None
    """Upper end of the top-1's interval."""
    top1_data: str = ""
    """Data set of the top-1, such as 'ImageNet-1k' or 'CIFAR-10'; empty where none fits."""
    top1_reason: str = ""
    """Why there is no top-1, in words; empty where there is one, and from predictors other than `base`."""
    devices: tuple[OnDevice, ...] = ()
    """Latency on each device that was asked for by name."""

    @property
    def is_lower_bound(self) -> bool:
        """True where MACs are surely no more than a run makes, and may be fewer: something is not counted."""
        return self.bound == bounds.AT_LEAST

    @property
    def is_upper_bound(self) -> bool:
        """True where MACs are surely no fewer than a run makes, and may be more: sizes are taken at their most."""
        return self.bound == bounds.AT_MOST

    def to_dict(self) -> dict[str, Any]:
        """Turn the prediction into plain values, for JSON.

        Returns:
            Every field by name, `is_lower_bound` and `is_upper_bound` among them.
        """
        return asdict(self) | {"is_lower_bound": self.is_lower_bound, "is_upper_bound": self.is_upper_bound}
