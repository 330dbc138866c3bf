"""Intervals that hold their level without assumptions on the errors.

Source: Vovk, Gammerman, Shafer 2005, split conformal prediction; scaled residuals as in Lei et al. 2018,
arXiv:1604.04173.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasplat.errors import PredictorError


def fewest(level: float) -> int:
    """Count the calibration labels that an interval needs at least.

    Args:
        level: Share of labels that the interval is to hold, between 0 and 1.

    Returns:
        Smallest number of labels for which `half_width` has an answer.

    Example:
        >>> fewest(0.9)
        9
    """
    return int(np.ceil(level / (1 - level) - 1e-9))


def half_width(residuals: ArrayLike, level: float) -> float:
    """Find the half-width inside which a share `level` of fresh residuals falls.

    Args:
        residuals: Held-out |label - prediction| of shape (n,), divided by a difficulty where there is one.
        level: Share of fresh labels that the interval is to hold, between 0 and 1.

    Returns:
        The ceil((n + 1) · level)-th smallest residual, in the unit of the residuals.

    Raises:
        PredictorError: there are too few residuals for the level.

    Example:
        >>> half_width(range(1, 20), 0.9)
        18.0
    """
    values: NDArray[np.float64] = np.sort(np.abs(np.asarray(residuals, np.float64)))
    rank = int(np.ceil((len(values) + 1) * level - 1e-9))
    if rank > len(values):
        raise PredictorError(
            f"expected at least {fewest(level)} calibration labels for a {level:.0%} interval, got "
            f"{len(values)}.\n  Label more networks."
        )
    return float(values[rank - 1])
