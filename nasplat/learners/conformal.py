"""Intervals that hold their level without assumptions on the errors.

Source: Vovk, Gammerman, Shafer 2005, split conformal prediction; scaled residuals as in Lei et al. 2018, arXiv:1604.04173.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasplat.errors import PredictorError


def fewest(level: float) -> int:
    """Fewest calibration labels for an interval of a level."""
    return int(np.ceil(level / (1 - level) - 1e-9))


def half_width(residuals: ArrayLike, level: float) -> float:
    """The factor that makes a share `level` of fresh |residuals| fall inside.

    Args:
        residuals: Shape (n,), held-out |label - prediction|, divided by a difficulty where there is one.
        level: Between 0 and 1.

    Returns:
        The ceil((n + 1) · level)-th smallest residual.

    Raises:
        PredictorError: too few residuals for the level.
    """
    values: NDArray[np.float64] = np.sort(np.abs(np.asarray(residuals, np.float64)))
    rank = int(np.ceil((len(values) + 1) * level - 1e-9))
    if rank > len(values):
        raise PredictorError(
            f"expected at least {fewest(level)} calibration labels for a {level:.0%} interval, got "
            f"{len(values)}.\n  Label more networks."
        )
    return float(values[rank - 1])
