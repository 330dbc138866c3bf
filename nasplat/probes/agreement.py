"""What a file answers is compared with what its module answers, output by output.

Floating-point outputs agree where no difference is larger than a share of the output's own spread, which is the
distance from its smallest to its largest finite number over all inputs that were tried. Infinities and NaN must stand
in the same places. Integers and booleans must be equal, also where a tie is decided by rounding: a network that ends in
argmax, a threshold or rounding is compared better without that last step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nasplat.errors import ExportError

TOLERANCE, TOLERANCE_OF_MAPS = 1e-4, 1e-3
"""Allowed ratio of the largest difference to the spread of an output; the second for maps, which have more than two
axes: one of their many pixels may round to another sampling place."""
TOLERANCE_OF_HALVES = {"float16": 1e-2, "bfloat16": 8e-2}
"""The same ratio for networks that compute in half precision: about ten steps of its rounding."""
STEPS = 8
"""Steps of rounding at the output's largest number that are always allowed: all that is left where an output hardly
varies."""
FILLED, GAP = 1e4, 1e3
"""Numbers as large as the first, and as many times larger than all others as the second says, are fillings such as
-1e9: they do not count for the spread, and are compared with their own size."""
_EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""Step of rounding at 1 in each number format."""


@dataclass(frozen=True)
class Difference:
    """One output on one batch, compared."""

    low: float
    """Smallest finite number that the module answers, fillings aside; inf where there is none."""
    high: float
    """Largest such number; -inf where there is none."""
    largest: float
    """Largest absolute value of such a number."""
    difference: float
    """Largest difference between two such numbers."""
    of_fillings: float = 0.0
    """Largest difference between fillings, as a share of their size."""


def difference(wanted: np.ndarray, got: np.ndarray, where: str) -> Difference:
    """Compare one output on one batch.

    Args:
        wanted: What the module answers.
        got: What the file answers.
        where: Words that name batch and output.

    Returns:
        Range of the output and the largest difference.

    Raises:
        ExportError: shapes or types differ, integers or booleans are not equal, or NaN and infinities stand in other
            places.

    Example:
        >>> difference(np.array([1.0, 3.0]), np.array([1.0, 3.5]), "output").difference
        0.5
    """
    if wanted.shape != got.shape:
        raise _disagrees(where, f"expected shape {wanted.shape}, the file gives {got.shape}")
    if wanted.dtype != got.dtype:
        raise _disagrees(where, f"expected numbers of type {wanted.dtype}, the file gives {got.dtype}")
    if wanted.dtype.kind not in "f":
        if not np.array_equal(wanted, got):
            far = np.abs(wanted.astype(np.float64) - got.astype(np.float64))
            raise _disagrees(
                where,
                f"expected equal values of type {wanted.dtype}, {np.count_nonzero(wanted != got)} of {far.size} "
                f"differ, by at most {far.max():g}; a rounded tie differs too, so leave a last argmax, rounding or "
                "threshold out",
            )
        numbers = wanted.astype(np.float64)
        return _range(numbers, np.zeros_like(numbers))
    finite = np.isfinite(wanted)
    odd = ~finite
    if not np.array_equal(wanted[odd], got[odd], equal_nan=True) or not np.isfinite(got[finite]).all():
        raise _disagrees(where, "expected NaN and infinities in the same places, the file has them elsewhere")
    ours, theirs = wanted[finite].astype(np.float64), got[finite].astype(np.float64)
    size, far = np.abs(ours), np.abs(ours - theirs)
    small = size < FILLED
    if not small.any() or small.all() or size[~small].min() < GAP * size[small].max():
        return _range(ours, far)
    return replace(_range(ours[small], far[small]), of_fillings=float((far[~small] / size[~small]).max()))


def _range(values: np.ndarray, far: np.ndarray) -> Difference:
    """The range of values, and the largest of their differences."""
    if not values.size:
        return Difference(np.inf, -np.inf, 0.0, 0.0)
    return Difference(float(values.min()), float(values.max()), float(np.abs(values).max()), float(far.max()))


def scale(found: Sequence[Difference], tolerance: float, precision: str) -> float:
    """Say what the differences of an output are measured by.

    Args:
        found: The output on every batch that was tried.
        tolerance: Allowed ratio of the largest difference to this scale.
        precision: Coarsest number format that the network computes in.

    Returns:
        The output's spread; where the output hardly varies, so much that `STEPS` of rounding are allowed.

    Example:
        >>> scale([Difference(0.0, 2.0, 2.0, 0.0), Difference(-1.0, 1.0, 1.0, 0.0)], 1e-4, "float32")
        3.0
    """
    spread = max(max(d.high for d in found) - min(d.low for d in found), 0.0)
    rounding = STEPS * _EPS[precision] * max(d.largest for d in found)
    return max(spread, rounding / tolerance) if tolerance > 0 else spread


def ratio(found: Difference, measure: float) -> float:
    """Say how large a difference is.

    Args:
        found: One output on one batch.
        measure: Scale of the output, see `scale`.

    Returns:
        The largest difference as a share of the scale, or of the size of a filling; inf for a difference where the
        scale is 0.

    Example:
        >>> ratio(Difference(0.0, 2.0, 2.0, 0.5), 2.0)
        0.25
    """
    of_range = found.difference / measure if measure > 0 else np.inf if found.difference > 0 else 0.0
    return float(max(of_range, found.of_fillings))


def tolerance_of(axes: int, precision: str) -> float:
    """Choose the tolerance of an output.

    Args:
        axes: Number of its axes.
        precision: Coarsest number format that the network computes in.

    Returns:
        Allowed ratio of the largest difference to the output's spread.

    Example:
        >>> tolerance_of(2, "float32"), tolerance_of(4, "float32"), tolerance_of(2, "float16")
        (0.0001, 0.001, 0.01)
    """
    return max(TOLERANCE_OF_HALVES.get(precision, 0.0), TOLERANCE_OF_MAPS if axes > 2 else TOLERANCE)


def _disagrees(where: str, what: str) -> ExportError:
    """The error of a file that does not agree."""
    return ExportError(f"{where}: {what}.\n  Nothing was written: the file would not compute what the module computes.")
