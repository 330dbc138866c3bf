"""U-Net: a path that halves the size, one that doubles it again, and bridges between them; one answer per pixel.

Source: Ronneberger et al., MICCAI 2015, arXiv:1505.04597. Width, convolutions of each level, normalisation, activation,
how the size is doubled and how bridges join are choices. With width 64, two convolutions everywhere, batch
normalisation, transposed convolutions, joined bridges, 4 levels and 3 channels for 2 classes it has 31,037,698
parameters, as in common implementations (padded, with normalisation). Preset `levels` 2 suits images of 16 to 64
pixels: 3,888 encodings at the default presets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat import Pick, SpaceError, block, space
from nasplat.blocks import chain

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "leaky": nn.LeakyReLU}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Sequential(),
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(channels // 4, channels),
}


@block
class Layer(nn.Module):
    """3x3 convolution, normalisation and activation."""

    def __init__(self, inputs: int, outputs: int, norm: str, activation: str) -> None:
        """Build the parts; a normalisation takes the place of the bias."""
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm == "none")
        self.norm, self.act = NORMS[norm](outputs), ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        return self.act(self.norm(self.conv(x)))


def level(inputs: int, outputs: int, depth: int, norm: str, activation: str) -> nn.Sequential:
    """Build the convolutions of one level."""
    return chain([(f"layer{j}", Layer(inputs if j == 0 else outputs, outputs, norm, activation)) for j in range(depth)])


class Grow(nn.Module):
    """Doubles the size and halves the width."""

    def __init__(self, inputs: int, kind: str) -> None:
        """Build a transposed convolution, or an interpolation with a 1x1 convolution."""
        super().__init__()
        self.kind, outputs = kind, inputs // 2
        self.conv = nn.ConvTranspose2d(inputs, outputs, 2, 2) if kind == "transposed" else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, inputs / 2, 2 · H, 2 · W)."""
        return (
            self.conv(x) if self.kind == "transposed" else self.conv(F.interpolate(x, scale_factor=2.0, mode=self.kind))
        )


class UNet(nn.Module):
    """Levels down, levels up with bridges, one convolution over classes."""

    def __init__(
        self,
        down: Sequence[nn.Module],
        grow: Sequence[nn.Module],
        up: Sequence[nn.Module],
        head: nn.Module,
        joins: bool,
    ) -> None:
        """Put the parts together; `joins` concatenates bridges, which are added otherwise."""
        super().__init__()
        self.levels, self.joins = len(up), joins
        self.down = chain([(f"level{i}", part) for i, part in enumerate(down)])
        self.grow = chain([(f"level{i}", part) for i, part in enumerate(grow)])
        self.up = chain([(f"level{i}", part) for i, part in enumerate(up)])
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to scores of every pixel (B, classes, H, W)."""
        bridges = []
        for i, part in enumerate(self.down):
            x = part(F.max_pool2d(x, 2) if i else x)
            bridges.append(x)
        for i in reversed(range(self.levels)):
            x = self.grow[i](x)
            x = self.up[i](torch.cat([bridges[i], x], 1) if self.joins else bridges[i] + x)
        return self.head(x)


@space(example_input=lambda image=32, channels=3, **presets: (1, channels, image, image))
def unet(
    pick: Pick,
    levels: int = 2,
    widths: Sequence[int] = (4, 8, 12, 16),
    depths: Sequence[int] = (1, 2, 3),
    image: int = 32,
    channels: int = 3,
    classes: int = 2,
) -> nn.Module:
    """Build a U-Net with picked width, depth of each level, normalisation, activation and way up.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        levels: Number of times that the size is halved; the published 4.
        widths: Options for the channels of the first level; each level down has twice as many.
        depths: Options for the number of convolutions of a level; one alone is no choice.
        image: Side of the square input images in pixels; a multiple of 2 to the power of `levels`.
        channels: Channels of the input images; 3 for colour.
        classes: Number of classes that are told apart in each pixel.

    Returns:
        A network from images (B, channels, image, image) to scores (B, classes, image, image).

    Raises:
        SpaceError: the image cannot be halved so often, so that the way up would not meet the way down.
    """
    if image % 2**levels:
        raise SpaceError(f"image expected a multiple of {2**levels}, got {image}.\n  Set another number of levels.")
    width, norm = pick("width", tuple(widths)), pick("norm", tuple(NORMS))
    activation, bridge = pick("activation", tuple(ACTIVATIONS)), pick("bridge", ("joined", "added"))
    way = pick("grow", ("transposed", "bilinear"))
    many = [pick(f"level{i}.depth", tuple(depths)) if len(depths) > 1 else depths[0] for i in range(levels + 1)]
    wide = [width * 2**i for i in range(levels + 1)]
    joins = bridge == "joined"
    down = [level(wide[i - 1] if i else channels, wide[i], many[i], norm, activation) for i in range(levels + 1)]
    grow = [Grow(wide[i + 1], way) for i in range(levels)]
    up = [level(wide[i] * (2 if joins else 1), wide[i], many[i], norm, activation) for i in range(levels)]
    return UNet(down, grow, up, nn.Conv2d(width, classes, 1), joins)
