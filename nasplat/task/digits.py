"""`digits-clutter`: real handwritten digits among clutter, made on the spot from scikit-learn's embedded scans.

A 16x16 canvas holds one upright digit (the label), two distractors (other digits flipped upside down or mirrored,
fainter), a random contrast and pixel noise. Train, decide and test are composed from disjoint source scans; training
composites are fresh each epoch. `digits-mask` and `digits-place` ask other questions about the same images. Plain 8x8
digits are at their ceiling and cannot tell networks apart; this task can.
Source of the scans: Alpaydin & Kaynak 1998, UCI Optical Recognition of Handwritten Digits, CC BY 4.0, via scikit-learn.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from nasplat.errors import TaskError
from nasplat.task.judging import distance
from nasplat.task.task import Split, Task

SIDE = 16
"""Height and width of a composite, in pixels."""
STROKE = 0.2
"""Brightness above which a pixel belongs to the digit that was drawn there, for the mask."""
MARGIN = 3
"""Distance that the digit keeps from the border, in pixels."""
SOURCES = {"train": (0, 1000), "decide": (1000, 1400), "test": (1400, 1797)}
"""First row of the shuffled scans that a split uses, and the row after its last."""


@cache
def _scans() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return (data.images[order] / 16.0).astype(np.float32), data.target[order].astype(np.int64)


def compose(split: str, n: int, seed: int, noise: float = 0.1, clutter: float = 0.7, target: str = "digit") -> Split:
    """Make images of one upright digit among clutter, from the scans of one split.

    Args:
        split: Split whose scans are used: 'train', 'decide' or 'test'.
        n: Number of composites to make.
        seed: Seed of the composites; equal seeds give equal ones.
        noise: Standard deviation of the pixel noise; strokes are at most 1.
        clutter: Largest brightness of distractors, relative to the digit.
        target: What is asked: 'digit' for its class; 'mask' for 0, 1 or 2 at each pixel of background, digit and
            distractor; 'place' for row and column of its centre, in pixels.

    Returns:
        Images of shape (n, 1, 16, 16), roughly standardised; targets of shape (n,), (n, 16, 16) or (n, 2).
    """
    images, labels = _scans()
    low, high = SOURCES[split]
    rng = np.random.default_rng([seed, low])
    picked = rng.integers(low, high, n)
    canvas = np.zeros((n, SIDE, SIDE), np.float32)
    mask, place = np.zeros((n, SIDE, SIDE), np.int64), np.zeros((n, 2), np.float32)
    rows = np.arange(8)
    for flip in (False, True, True):
        which = rng.integers(low, high, n) if flip else picked
        patch = images[which]
        if flip:
            upside = rng.random(n) < 0.5
            patch = np.where(upside[:, None, None], patch[:, ::-1], patch[:, :, ::-1])
            patch = patch * rng.uniform(0.3, clutter, (n, 1, 1)).astype(np.float32)
        margin = 0 if flip else MARGIN  # the digit stays near the middle, distractors go anywhere
        top, left = rng.integers(margin, SIDE - 7 - margin, (2, n))
        where = (np.arange(n)[:, None, None], (top[:, None] + rows)[:, :, None], (left[:, None] + rows)[:, None, :])
        mask[where] = np.where((patch > canvas[where]) & (patch > STROKE), 2 if flip else 1, mask[where])
        canvas[where] = np.maximum(canvas[where], patch)
        if not flip:
            place[:] = np.stack([top, left], 1) + 3.5
    canvas *= rng.uniform(0.6, 1.0, (n, 1, 1)).astype(np.float32)
    canvas += noise * rng.standard_normal(canvas.shape).astype(np.float32)
    x = (canvas - 0.25) / 0.4
    y = {"digit": labels[picked], "mask": mask, "place": place}[target]
    return Split(torch.from_numpy(x[:, None]), torch.from_numpy(y))


QUESTIONS: dict[str, dict[str, Any]] = {
    "digit": {},
    "mask": {"metric_name": "pixel_accuracy_percent"},
    "place": {"loss": F.smooth_l1_loss, "metric": distance, "metric_name": "distance_px", "larger_is_better": False},
}
"""Fields that a task needs beside the targets, for everything that `compose` can ask."""


def digits(target: str = "digit", train: int = 4096, decide: int = 2048, test: int = 4096, seed: int = 0) -> Task:
    """Make an embedded task about digits among clutter, which needs no download.

    Args:
        target: What is asked: 'digit' for classification, 'mask' for segmentation (the network answers (n, 3, 16,
            16)), or 'place' for regression (the network answers (n, 2), and less is better).
        train: Composites of one epoch of training; each epoch has fresh ones.
        decide: Composites that decisions rest on.
        test: Composites that are reported on.
        seed: Seed of all composites.

    Raises:
        TaskError: a number is no whole one, or too small.

    Returns:
        The task, called digits-clutter, digits-mask or digits-place.
    """
    for name, value, least in (("train", train, 1), ("decide", decide, 1), ("test", test, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise TaskError(
                f"digits expected {name} as a whole number from {least}, got {value!r}.\n"
                f"  Write for instance ?{name}=64."
            )
    return Task(
        "digits-clutter" if target == "digit" else f"digits-{target}",
        compose("train", train, seed, target=target),
        compose("decide", decide, seed + 1, target=target),
        compose("test", test, seed + 2, target=target),
        renew=lambda epoch: compose("train", train, epoch, target=target),
        **QUESTIONS[target],
    )
