"""`Prediction`: a value with its interval and the yardsticks beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """What a predictor says of one network. Outside its support mean and interval are None, and `reason` says why."""

    mean: float | None
    """Predicted metric, in the predictor's unit."""
    low: float | None
    """Lower end of the interval."""
    high: float | None
    """Upper end of the interval."""
    level: float
    """Share of networks of the training family whose label lies inside the interval."""
    in_support: bool
    reason: str
    """Why the network is outside the support; empty inside."""
    percentile: float | None
    """Share (in percent) of the reference family with a smaller label."""
    macs: int
    """Multiply-accumulates (1 MAC = 2 FLOP)."""
    params: int
    metric: str
    """Name and unit of what is predicted."""
    reference: str = ""
    """Family within which a percentile was predicted; empty for predictors of a label."""
    is_lower_bound: bool = False
    """True when MACs are a lower bound, because an op is unknown."""
    latency_ms: float | None = None
    """Predicted latency; None until this device is calibrated, or outside the support of its calibration."""
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None
    """Interval of the latency, at the calibration's level, 90 % by default."""

    top1: float | None = None
    """Predicted ImageNet-1k top-1, percent, under the plain recipe or the one asked for; None for other networks, or without a zoo."""
    top1_low: float | None = None
    top1_high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)
