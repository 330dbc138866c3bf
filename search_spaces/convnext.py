"""ConvNeXt: stages of depthwise convolutions with wide kernels and inverted bottlenecks, normalised by layer.

Source: Liu et al., CVPR 2022, arXiv:2201.03545. Depth of each stage, width, kernel and expansion are choices. In size
'imagenet' the member of width 96, kernel 7, expansion 4 and depths 3, 3, 9, 3 is ConvNeXt-T with 28,589,128 parameters.
Size 'small' has patches of 2 pixels and 3 stages, for images of 16 to 64 pixels: 486 encodings. Layer scale is learned,
stochastic depth is left out.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from nasplat import Pick, block, space
from nasplat.blocks import PixelNorm, chain

SIZES = {
    "small": {"widths": (8, 16, 24), "kernels": (3, 5, 7), "ratios": (2, 4), "depths": ((1, 2, 3),) * 3, "patch": 2},
    "imagenet": {
        "widths": (64, 80, 96, 128),
        "kernels": (3, 5, 7),
        "ratios": (2, 3, 4),
        "depths": ((2, 3), (2, 3), (6, 9, 27), (2, 3)),
        "patch": 4,
    },
}


@block
class Block(nn.Module):
    """Depthwise convolution, normalisation, two linear layers over channels, beside a shortcut."""

    slicing: ClassVar[dict[str, tuple[str, ...]]] = {"scale": ("leading",)}
    """How a supernet cuts the scale of the channels for a narrower subnet."""

    def __init__(self, width: int, kernel: int, ratio: int) -> None:
        """Build the parts; the inner width is `ratio` times the outer."""
        super().__init__()
        self.mix = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand, self.act = nn.Linear(width, ratio * width), nn.GELU()
        self.project = nn.Linear(ratio * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, width, H, W)."""
        y = self.norm(self.mix(x).permute(0, 2, 3, 1))
        y = self.project(self.act(self.expand(y))) * self.scale
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """Stages, the mean over pixels, normalisation and a linear head."""

    def __init__(self, stages: nn.Module, width: int, classes: int) -> None:
        """Put a head behind the stages."""
        super().__init__()
        self.stages = stages
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to class scores (B, classes)."""
        return self.head(self.norm(self.stages(x).mean((2, 3))))


@space(example_input=lambda image=32, channels=3, **presets: (1, channels, image, image))
def convnext(pick: Pick, size: str = "small", image: int = 32, channels: int = 3, classes: int = 10) -> nn.Module:
    """Build a ConvNeXt with picked width, kernel, expansion and depth of each stage.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        size: Set of options: 'small' is ours, for images of 16 to 64 pixels; 'imagenet' holds ConvNeXt-T, for 224.
        image: Side of the square input images in pixels.
        channels: Channels of the input images; 3 for colour.
        classes: Number of classes that the head tells apart.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    options = SIZES[size]
    width, kernel, ratio = (pick(name, options[f"{name}s"]) for name in ("width", "kernel", "ratio"))
    depths = [pick(f"stage{i}.depth", d) for i, d in enumerate(options["depths"])]
    patch, parts, last = options["patch"], list[tuple[str, nn.Module]](), channels
    for i, depth in enumerate(depths):
        here = width * 2**i
        step = 2 if i else patch
        shrink = nn.Conv2d(last, here, step, step)
        norm = PixelNorm(last if i else here)
        parts.append(
            (f"shrink{i}", chain([("norm", norm), ("conv", shrink)] if i else [("conv", shrink), ("norm", norm)]))
        )
        parts.append((f"stage{i}", chain([(f"block{j}", Block(here, kernel, ratio)) for j in range(depth)])))
        last = here
    return ConvNeXt(chain(parts), last, classes)
