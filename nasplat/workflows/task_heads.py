"""Heads that turn any body's maps into a task's answer: classes, maps, images or disparities.

Bodies differ in their numbers of channels; a head knows the most that any has, and pads the others with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.editing.body import Body
from nasplat.errors import SupernetError

KINDS = ("classification", "dense", "reconstruction", "disparity")


class Head(nn.Module):
    """From maps to a task's answer; maps of fewer channels than it knows are padded with zeros."""

    def __init__(
        self,
        kind: str,
        channels: Sequence[int],
        sizes: Sequence[tuple[int, int]],
        output: tuple[int, ...],
        width: int = 64,
    ) -> None:
        """Build a head with initial values.

        Args:
            kind: What it answers: classification (mean of the smallest maps, two linear layers), dense (laterals of all
                maps, upwards, as in feature pyramids), reconstruction (upwards from the smallest maps), or disparity
                (as dense, for both views; their products at C shifts, and the mean shift).
            channels: Most channels that a map has, for every size, largest map first.
            sizes: Height and width of the maps, largest first.
            output: Shape of an answer: (classes,), or (C, H, W); for disparity, C candidates of 0, 1, … pixels.
            width: Channels of the head's own states; 64 is small beside most bodies.

        Raises:
            SupernetError: the kind is unknown.
        """
        super().__init__()
        if kind not in KINDS:
            raise SupernetError(f"expected a head among {', '.join(KINDS)}, got {kind!r}.\n  Name one of them.")
        self.kind, self.channels, self.sizes, self.output = kind, list(channels), list(sizes), tuple(output)
        if kind == "classification":
            self.answer: nn.Module = nn.Sequential(
                nn.Linear(channels[-1], 2 * width), nn.ReLU(), nn.Linear(2 * width, output[0])
            )
            return
        taps = channels[-1:] if kind == "reconstruction" else channels
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in taps)
        steps = max(1, round(np.log2(output[1] / sizes[-1][0])))
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(steps)
        )
        self.answer = nn.Conv2d(width, width if kind == "disparity" else output[0], 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Answer for a batch of maps.

        Args:
            maps: Maps of shape (n, C, H, W), largest first; for disparity, those of n left and then of n right views.

        Returns:
            Answers of shape (n, classes) or (n, C, H, W); for disparity (n, H, W), in pixels.
        """
        maps = [padded(m, c) for m, c in zip(maps, self.channels, strict=True)]
        if self.kind == "classification":
            return self.answer(maps[-1].mean((2, 3)))
        sides = {
            tuple(m.shape[2:]): lateral(m) for m, lateral in zip(maps[-len(self.lateral) :], self.lateral, strict=True)
        }
        x = sides.pop(tuple(maps[-1].shape[2:]))
        for up in self.up:
            size = (min(2 * x.shape[2], self.output[1]), min(2 * x.shape[3], self.output[2]))
            x = F.interpolate(x, size, mode="nearest")
            if size in sides:
                x = x + sides.pop(size)
            x = up(x)
        if tuple(x.shape[2:]) != self.output[1:]:
            x = F.interpolate(x, self.output[1:], mode="bilinear")
        return mean_shift(self.answer(x), self.output[0]) if self.kind == "disparity" else self.answer(x)


class Joined(nn.Module):
    """A body with a head: a whole network for a task."""

    def __init__(self, body: Body, head: Head) -> None:
        """Join the two.

        Args:
            body: Network without its own head, of any member of a space.
            head: Head of the task; the body has maps of all its sizes.
        """
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Tensor:
        """Answer for a batch.

        Args:
            x: Images of shape (n, C, H, W), or pairs of them, (n, 2 C, H, W).

        Returns:
            The head's answers.
        """
        return self.head(head_maps(self.body, self.head, x))


def head_maps(body: Body, head: Head, x: Tensor) -> list[Tensor]:
    """Run a body for the maps that a head reads.

    Args:
        body: Body to run.
        head: Head that says which sizes it reads.
        x: Images of shape (n, C, H, W), or pairs of them, (n, 2 C, H, W).

    Returns:
        Maps of the head's sizes, largest first, of as many channels as the body has.
    """
    seen = torch.cat(x.chunk(2, 1)) if head.kind == "disparity" else x  # of pairs, the left and then the right views
    known = {tuple(m.shape[2:]): m for m in body(seen)}
    return [known[size] for size in head.sizes]


def padded(maps: Tensor, channels: int) -> Tensor:
    """Add zeros for the channels that a body lacks.

    Args:
        maps: Maps of shape (n, C, H, W).
        channels: Wanted number of channels, at least C.

    Returns:
        Maps of shape (n, channels, H, W).
    """
    return maps if maps.shape[1] == channels else F.pad(maps, (0, 0, 0, 0, 0, channels - maps.shape[1]))


def mean_shift(features: Tensor, candidates: int) -> Tensor:
    """Find how far two views are shifted against each other; beyond the border nothing is alike.

    Args:
        features: Features of n left and then of n right views, shape (2 n, C, H, W).
        candidates: Number of shifts that are compared: 0, 1, … pixels.

    Returns:
        Mean shift, weighted by the softmax of the features' likeness, shape (n, H, W), in pixels.
    """
    left, right = features.chunk(2)
    width = left.shape[3]
    alike = torch.stack([F.pad((left[..., d:] * right[..., : width - d]).sum(1), (d, 0)) for d in range(candidates)], 1)
    shifts = torch.arange(candidates, dtype=alike.dtype, device=alike.device)
    return torch.einsum("ndhw,d->nhw", (alike / left.shape[1] ** 0.5).softmax(1), shifts)
