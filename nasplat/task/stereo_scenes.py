"""Synthetic stereo pairs with exact, dense disparity: slanted planes, some of them thin, before a slanted background.

The disparity of every plane is linear in the left image, so that each right pixel's place in it is known in closed
form, and both views are sampled from one texture; where planes overlap the nearest is seen. Textures are photographs
(scikit-learn's two) and noise of several octaves, stripes and spots; training and judging use different photographs
and different seeds. Ours; in the spirit of Mayer et al., CVPR 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplat.errors import MissingExtraError, TaskError

PHOTOGRAPHS = {"train": "china.jpg", "decide": "flower.jpg", "test": "flower.jpg"}
"""Photograph of scikit-learn behind the textures of each split."""
MARGIN = 1.5
"""Side of a texture in sides of a view, so that each view can see another part of it."""
SLANT = 0.12
"""Largest slope of a plane: change of disparity per pixel."""
PLANES = (5, 10)
"""Smallest and largest number of planes before the background."""
NOISE, EXPOSURE = 0.03, 0.1
"""Largest standard deviation of a camera's noise, and largest relative difference of its exposure from the scene's."""
NEARER = 0.5
"""Disparity, in pixels, by which another plane must be nearer to hide a point."""


@dataclass(frozen=True)
class Scene:
    """A rendered stereo pair of H x W pixels."""

    left: Tensor
    """Colours of the left view, shape (3, H, W), 0 to 1."""
    right: Tensor
    """Colours of the right view, shape (3, H, W), 0 to 1."""
    disparity: Tensor
    """Disparities in pixels, all positive, shape (H, W): (x, y) of the left view is seen at (x − d, y) in the right
    one."""
    occluded: Tensor
    """Whether the right view does not show a pixel of the left one, shape (H, W), bool."""


@dataclass(frozen=True)
class Plane:
    """A slanted plane that is seen through a shape."""

    texture: Tensor
    """Colours of shape (3, h, w)."""
    slant: tuple[float, float, float]
    """Coefficients a, b, c of its disparity a + b x + c y at a place of the left view, in pixels."""
    shape: tuple[float, float, float, float, float]
    """Centre x, y and half sizes along and across, in pixels, and angle in radians."""
    kind: str
    """Form of the shape: 'ellipse', 'box', or 'everything' for a background."""

    def covers(self, x: Tensor, y: Tensor) -> Tensor:
        """Tell which places of the left view the plane covers.

        Args:
            x: Column of each place, in pixels, shape (H, W).
            y: Row of each place, in pixels, shape (H, W).

        Returns:
            Whether the shape is there, shape (H, W), bool; other planes are not looked at.
        """
        if self.kind == "everything":
            return torch.ones_like(x, dtype=torch.bool)
        centre_x, centre_y, along, across, angle = self.shape
        turn = torch.tensor(angle)
        u = ((x - centre_x) * turn.cos() + (y - centre_y) * turn.sin()) / along
        v = ((y - centre_y) * turn.cos() - (x - centre_x) * turn.sin()) / across
        return u**2 + v**2 < 1 if self.kind == "ellipse" else (u.abs() < 1) & (v.abs() < 1)

    def colour(self, x: Tensor, y: Tensor) -> Tensor:
        """Look the texture up at places of the left view.

        Args:
            x: Column of each place, in pixels, shape (H, W).
            y: Row of each place, in pixels, shape (H, W).

        Returns:
            Colours of shape (3, H, W).
        """
        height, width = self.texture.shape[1:]
        grid = torch.stack([x * 2 / (width - 1) - 0.5, y * 2 / (height - 1) - 0.5], -1)[None]
        return F.grid_sample(self.texture[None], grid, "bilinear", "reflection", align_corners=True)[0]


def scene(height: int, width: int, largest: float, seed: int, split: str = "train", cameras: bool = True) -> Scene:
    """Render one stereo pair with its exact disparities.

    Args:
        height: Height of a view, in pixels.
        width: Width of a view, in pixels; at least twice the largest disparity.
        largest: Disparity that no pixel exceeds, in pixels; at least 4.
        seed: Seed of everything in the scene.
        split: Split whose textures are used: 'train', 'decide' or 'test'.
        cameras: Whether the views differ in exposure and noise, as those of two cameras do.

    Returns:
        Both views, the disparities of the left one, and what the right one hides.

    Raises:
        TaskError: the split is unknown, or the views are too small for the disparity.
        MissingExtraError: Pillow is not installed.
    """
    if split not in PHOTOGRAPHS or width < 2 * largest or largest < 4:
        raise TaskError(
            f"expected a split among {', '.join(PHOTOGRAPHS)} and 4 <= largest disparity <= width / 2, got {split!r}, "
            f"{largest} and {width}.\n  Render wider views."
        )
    chance = torch.Generator().manual_seed(seed * 3 + list(PHOTOGRAPHS).index(split))
    planes = [_background(height, width, largest, split, chance)]
    for _ in range(int(_between(PLANES[0], PLANES[1] + 1, chance))):
        planes.append(_plane(height, width, largest, split, chance))
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    left, disparity = _seen(planes, [x] * len(planes), y)
    sources = [(x + a + c * y) / (1 - b) for a, b, c in (plane.slant for plane in planes)]
    right, nearest = _seen(planes, sources, y)
    lands = x - disparity
    column = lands.round().clamp(0, width - 1).long()
    occluded = (lands < 0) | (nearest.gather(1, column) > disparity + NEARER)
    if cameras:
        left, right = (_taken(view, chance) for view in (left, right))
    return Scene(left.clamp(0, 1), right.clamp(0, 1), disparity, occluded)


def scenes(
    n: int, height: int, width: int, largest: float, seed: int, split: str = "train"
) -> tuple[Tensor, Tensor, Tensor]:
    """Render many stereo pairs.

    Args:
        n: Number of pairs to render.
        height: Height of a view, in pixels.
        width: Width of a view, in pixels; at least twice the largest disparity.
        largest: Disparity that no pixel exceeds, in pixels; at least 4.
        seed: Seed of all scenes; other seeds share none of them.
        split: Split whose textures are used: 'train', 'decide' or 'test'.

    Returns:
        Views of shape (n, 6, H, W), left first; disparities in pixels of shape (n, H, W); whether the right view
        hides a pixel, of the same shape.

    Raises:
        TaskError: the split is unknown, or the views are too small for the disparity.
        MissingExtraError: Pillow is not installed.
    """
    made = [scene(height, width, largest, seed * 1_000_003 + i, split) for i in range(n)]
    views = torch.stack([torch.cat([s.left, s.right]) for s in made])
    return views, torch.stack([s.disparity for s in made]), torch.stack([s.occluded for s in made])


def _seen(planes: list[Plane], xs: list[Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
    """Colours (3, H, W) and disparities (H, W) of the nearest plane, each asked at its own places of the left view."""
    colour, nearest = torch.zeros(3, *y.shape), torch.full(y.shape, -1.0)
    for plane, x in zip(planes, xs, strict=True):
        a, b, c = plane.slant
        disparity = a + b * x + c * y
        wins = plane.covers(x, y) & (disparity > nearest)
        colour = torch.where(wins, plane.colour(x, y), colour)
        nearest = torch.where(wins, disparity, nearest)
    return colour, nearest


def _taken(view: Tensor, chance: torch.Generator) -> Tensor:
    """A view as a camera of some exposure and some noise takes it."""
    noise = torch.randn(view.shape, generator=chance) * _between(0, NOISE, chance)
    return view.clamp(0, 1) * _between(1 - EXPOSURE, 1 + EXPOSURE, chance) + noise


def _background(height: int, width: int, largest: float, split: str, chance: torch.Generator) -> Plane:
    """A plane far away: its disparity is at most a third of the largest anywhere."""
    near, far = largest / 3, 1.0
    slant = _through(height, width, far, near, chance)
    return Plane(_texture(height, width, split, chance), slant, (0, 0, 1, 1, 0), "everything")


def _plane(height: int, width: int, largest: float, split: str, chance: torch.Generator) -> Plane:
    thin = _between(0, 1, chance) < 0.35
    along = _between(0.15, 0.5, chance) * height
    across = _between(1.0, 3.0, chance) if thin else along * _between(0.4, 1.0, chance)
    shape = (_between(0, width, chance), _between(0, height, chance), along, across, _between(0, 3.14159, chance))
    kind = "box" if thin or _between(0, 1, chance) < 0.5 else "ellipse"
    return Plane(
        _texture(height, width, split, chance), _through(height, width, largest / 4, largest - 1, chance), shape, kind
    )


def _through(height: int, width: int, low: float, high: float, chance: torch.Generator) -> tuple[float, float, float]:
    """Coefficients of a plane whose disparity stays between low and high over the whole view."""
    middle = _between(low, high, chance)
    room = min(middle - low, high - middle)
    share = _between(0, 1, chance)
    b = (2 * _between(0, 1, chance) - 1) * min(SLANT, 2 * room * share / width)
    c = (2 * _between(0, 1, chance) - 1) * min(SLANT, 2 * room * (1 - share) / height)
    return middle - b * width / 2 - c * height / 2, b, c


def _texture(height: int, width: int, split: str, chance: torch.Generator) -> Tensor:
    """Colours of shape (3, MARGIN H, MARGIN W), about 0 to 1."""
    size = (int(height * MARGIN), int(width * MARGIN))
    tint = torch.rand(3, 1, 1, generator=chance)
    kind = int(_between(0, 4, chance))
    if kind == 0:
        photo = photograph(PHOTOGRAPHS[split])
        top, left = (
            int(_between(0, max(1, have - want), chance)) for have, want in zip(photo.shape[1:], size, strict=True)
        )
        part = photo[:, top : top + size[0], left : left + size[1]]
        return F.interpolate(part[None], size, mode="bilinear", align_corners=False)[0]
    grid = torch.zeros(1, 3, 2, 4)
    for octave in range(2, 7):  # each twice as fine as the one before
        grid = F.interpolate(grid, scale_factor=2, mode="bilinear", align_corners=False)
        grid += torch.randn(grid.shape, generator=chance) * _between(0.3, 1.0, chance) * 0.72**octave
    noise = F.interpolate(grid, size, mode="bilinear", align_corners=False)[0]
    noise = 0.7 * noise.mean(0) + 0.3 * noise  # pictures vary in brightness more than in colour
    noise *= _between(0.03, 0.25, chance) / float(noise.std())
    y, x = torch.meshgrid(torch.arange(size[0]).float(), torch.arange(size[1]).float(), indexing="ij")
    turn, period = torch.tensor(_between(0, 3.14159, chance)), _between(4, 24, chance)
    wave = torch.sin((x * turn.cos() + y * turn.sin()) * 6.28318 / period + 8 * noise[0])
    if kind == 2:
        noise = noise + 0.15 * wave
    elif kind == 3:
        noise = noise + 0.25 * (wave * torch.sin((y * turn.cos() - x * turn.sin()) * 6.28318 / period) > 0.3)
    return 0.2 + 0.6 * tint + noise


@cache
def photograph(name: str) -> Tensor:
    """Read one of scikit-learn's photographs at half size.

    Args:
        name: Name of the picture: 'china.jpg' or 'flower.jpg'.

    Returns:
        Colours of shape (3, 213, 320), 0 to 1.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    from sklearn.datasets import load_sample_image

    try:
        pixels: Any = load_sample_image(name)
    except ImportError as err:
        raise MissingExtraError(
            'textures from photographs need Pillow, which is not installed.\n  pip install "nasplat[images]"'
        ) from err
    return F.avg_pool2d(torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255, 2)


def _between(low: float, high: float, chance: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=chance))
