"""Pictures of what a stereo network answers: the left view, both disparities on one scale of colours, and the error."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasplat.task.task import Picture

FAR_TO_NEAR = (
    (26, 20, 60),
    (44, 76, 148),
    (30, 140, 150),
    (98, 190, 92),
    (236, 205, 62),
    (238, 120, 48),
    (160, 24, 34),
)
"""Colours for disparities, from 0 to the largest."""
ERRORS = ((244, 246, 250), (255, 214, 120), (240, 110, 50), (120, 10, 30))
"""Colours for errors, from 0 to `WORST`."""
WORST = 6.0
"""Error, in pixels, from which on the colour no longer changes."""
UNKNOWN = (96, 100, 106)
"""Colour of pixels whose true disparity is not known."""


def stereo_pictures(x: Tensor, y: Tensor, output: Tensor) -> list[Picture]:
    """Show what a stereo network answers on one pair.

    Args:
        x: Both views, left first, of shape (6, H, W), 0 to 1.
        y: True disparities of shape (H, W), in pixels; 0 where unknown.
        output: Predicted disparities of shape (H, W), in pixels.

    Returns:
        Four pictures: the left view, the true disparities, the predicted ones, and the error.
    """
    known = y > 0
    largest = float(torch.cat([y[known], output.flatten()]).quantile(0.995)) if known.any() else float(output.max())
    error = (output - y).abs()
    mean = float(error[known].mean()) if known.any() else float("nan")
    off = 100 * float((error[known] > 3).double().mean()) if known.any() else float("nan")
    left = (x[:3].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    truth = coloured(y / largest, FAR_TO_NEAR)
    truth[~known.numpy()] = UNKNOWN
    errors = coloured(error / WORST, ERRORS)
    errors[~known.numpy()] = UNKNOWN
    return [
        Picture("left view", left),
        Picture(f"ground truth, 0 to {largest:.0f} px; grey: unknown", truth),
        Picture("prediction, the same colours", coloured(output / largest, FAR_TO_NEAR)),
        Picture(f"error, 0 to {WORST:.0f} px: mean {mean:.2f} px, {off:.1f} % off by more than 3 px", errors),
    ]


def coloured(values: Tensor, ramp: tuple[tuple[int, int, int], ...]) -> NDArray[np.uint8]:
    """Show values as colours.

    Args:
        values: Values of shape (H, W); those outside 0 to 1 get the first or the last colour.
        ramp: Colours at evenly spaced values from 0 to 1; what lies between is mixed.

    Returns:
        Colours of shape (H, W, 3), uint8.
    """
    at = values.clamp(0, 1).numpy() * (len(ramp) - 1)
    places = np.arange(len(ramp))
    return np.stack([np.interp(at, places, [c[k] for c in ramp]) for k in range(3)], -1).round().astype(np.uint8)
