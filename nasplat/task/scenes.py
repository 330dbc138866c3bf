"""Synthetic stereo pairs with exact, dense disparity: slanted planes, some of them thin, before a slanted background.

Every layer is a plane whose disparity is linear in the left image, so that each right pixel's place in it is known in closed form, and both views
are sampled from one texture; where layers overlap the nearest is seen. Textures are photographs (scikit-learn's two) and noise of several
octaves, stripes and spots; training and judging use different photographs and different seeds. Ours; in the spirit of Mayer et al., CVPR 2016.
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
MARGIN = 1.5
"""Textures are so many times as large as a view, which sees another part of each."""
SLANT = 0.12
"""Largest change of disparity per pixel."""
LAYERS = (5, 10)
"""Fewest and most planes before the background."""
NOISE, EXPOSURE = 0.03, 0.1
"""Largest standard deviation of a camera's noise, and largest relative difference of its exposure from the scene's."""
NEARER = 0.5
"""Pixels of disparity by which another layer must be nearer to hide a point."""


@dataclass(frozen=True)
class Scene:
    """A rendered pair; H, W are a view's sides."""

    left: Tensor
    """Shape (3, H, W), 0 to 1."""
    right: Tensor
    disparity: Tensor
    """Shape (H, W), pixels, positive: (x, y) of the left image is seen at (x − d, y) in the right one."""
    occluded: Tensor
    """Shape (H, W), bool: what the right image does not show."""


@dataclass(frozen=True)
class Layer:
    """A plane seen through a shape."""

    texture: Tensor
    """Shape (3, h, w)."""
    plane: tuple[float, float, float]
    """a, b, c of disparity = a + b x + c y."""
    shape: tuple[float, float, float, float, float]
    """Centre x, y, half sizes along and across, angle."""
    kind: str
    """ellipse, box or everything."""

    def covers(self, x: Tensor, y: Tensor) -> Tensor:
        """Where the layer is, at places of the left image."""
        if self.kind == "everything":
            return torch.ones_like(x, dtype=torch.bool)
        centre_x, centre_y, along, across, angle = self.shape
        turn = torch.tensor(angle)
        u = ((x - centre_x) * turn.cos() + (y - centre_y) * turn.sin()) / along
        v = ((y - centre_y) * turn.cos() - (x - centre_x) * turn.sin()) / across
        return u**2 + v**2 < 1 if self.kind == "ellipse" else (u.abs() < 1) & (v.abs() < 1)

    def colour(self, x: Tensor, y: Tensor) -> Tensor:
        """Texture at places of the left image, shape (3, H, W)."""
        height, width = self.texture.shape[1:]
        grid = torch.stack([x * 2 / (width - 1) - 0.5, y * 2 / (height - 1) - 0.5], -1)[None]
        return F.grid_sample(self.texture[None], grid, "bilinear", "reflection", align_corners=True)[0]


def scene(height: int, width: int, largest: float, seed: int, split: str = "train", cameras: bool = True) -> Scene:
    """Render one pair.

    Args:
        height: Of a view, pixels.
        width: Likewise.
        largest: Disparity that none exceeds, pixels.
        seed: Decides everything.
        split: train, decide or test; whose textures.
        cameras: The views differ in exposure and noise, as those of two cameras do.

    Raises:
        TaskError: an unknown split, or views too small for the disparity.
        MissingExtraError: Pillow is not installed.
    """
    if split not in PHOTOGRAPHS or width < 2 * largest or largest < 4:
        raise TaskError(
            f"expected a split among {', '.join(PHOTOGRAPHS)} and 4 <= largest disparity <= width / 2, got {split!r}, {largest} and "
            f"{width}.\n  Render wider views."
        )
    chance = torch.Generator().manual_seed(seed * 3 + list(PHOTOGRAPHS).index(split))
    layers = [_background(height, width, largest, split, chance)]
    for _ in range(int(_between(LAYERS[0], LAYERS[1] + 1, chance))):
        layers.append(_plane(height, width, largest, split, chance))
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    left, disparity = _seen(layers, [x] * len(layers), y)
    sources = [(x + a + c * y) / (1 - b) for a, b, c in (layer.plane for layer in layers)]
    right, nearest = _seen(layers, sources, y)
    lands = x - disparity
    column = lands.round().clamp(0, width - 1).long()
    occluded = (lands < 0) | (nearest.gather(1, column) > disparity + NEARER)
    if cameras:
        left, right = (_taken(view, chance) for view in (left, right))
    return Scene(left.clamp(0, 1), right.clamp(0, 1), disparity, occluded)


def scenes(
    n: int, height: int, width: int, largest: float, seed: int, split: str = "train"
) -> tuple[Tensor, Tensor, Tensor]:
    """Many pairs: views (n, 6, H, W), left first; disparities (n, H, W); what is occluded (n, H, W)."""
    made = [scene(height, width, largest, seed * 1_000_003 + i, split) for i in range(n)]
    views = torch.stack([torch.cat([s.left, s.right]) for s in made])
    return views, torch.stack([s.disparity for s in made]), torch.stack([s.occluded for s in made])


def _seen(layers: list[Layer], xs: list[Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
    """Colours (3, H, W) and disparities (H, W) of the nearest layer, each asked at its own places of the left image."""
    colour, nearest = torch.zeros(3, *y.shape), torch.full(y.shape, -1.0)
    for layer, x in zip(layers, xs, strict=True):
        a, b, c = layer.plane
        disparity = a + b * x + c * y
        wins = layer.covers(x, y) & (disparity > nearest)
        colour = torch.where(wins, layer.colour(x, y), colour)
        nearest = torch.where(wins, disparity, nearest)
    return colour, nearest


def _taken(view: Tensor, chance: torch.Generator) -> Tensor:
    """A view as a camera of some exposure and some noise takes it."""
    noise = torch.randn(view.shape, generator=chance) * _between(0, NOISE, chance)
    return view.clamp(0, 1) * _between(1 - EXPOSURE, 1 + EXPOSURE, chance) + noise


def _background(height: int, width: int, largest: float, split: str, chance: torch.Generator) -> Layer:
    """Far away: at most a third of the largest disparity anywhere."""
    near, far = largest / 3, 1.0
    plane = _through(height, width, far, near, chance)
    return Layer(_texture(height, width, split, chance), plane, (0, 0, 1, 1, 0), "everything")


def _plane(height: int, width: int, largest: float, split: str, chance: torch.Generator) -> Layer:
    thin = _between(0, 1, chance) < 0.35
    along = _between(0.15, 0.5, chance) * height
    across = _between(1.0, 3.0, chance) if thin else along * _between(0.4, 1.0, chance)
    shape = (_between(0, width, chance), _between(0, height, chance), along, across, _between(0, 3.14159, chance))
    kind = "box" if thin or _between(0, 1, chance) < 0.5 else "ellipse"
    return Layer(
        _texture(height, width, split, chance), _through(height, width, largest / 4, largest - 1, chance), shape, kind
    )


def _through(height: int, width: int, low: float, high: float, chance: torch.Generator) -> tuple[float, float, float]:
    """A plane whose disparity stays between low and high over the whole view."""
    middle = _between(low, high, chance)
    room = min(middle - low, high - middle)
    share = _between(0, 1, chance)
    b = (2 * _between(0, 1, chance) - 1) * min(SLANT, 2 * room * share / width)
    c = (2 * _between(0, 1, chance) - 1) * min(SLANT, 2 * room * (1 - share) / height)
    return middle - b * width / 2 - c * height / 2, b, c


def _texture(height: int, width: int, split: str, chance: torch.Generator) -> Tensor:
    """Shape (3, MARGIN H, MARGIN W), about 0 to 1."""
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
    """One of scikit-learn's pictures at half size, shape (3, 213, 320), 0 to 1.

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
