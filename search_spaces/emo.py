"""EMO: stages of inverted residual mobile blocks (iRMB), in which one expansion holds both attention and convolution.

Source: Zhang et al., ICCV 2023, arXiv:2301.01146 (EMO-1M, 2M, 5M, 6M). The first block of a stage down-samples, without
shortcut or attention and with twice the expansion; stages 1 and 2 normalise by batch and use SiLU, 3 and 4 by pixel and
use GELU. As a space (ours): depth, width, expansion and kernel of each stage, attention on or off in each later block
of stages 3 and 4; published networks have it on everywhere. Their parameters are counted within 5 % and MACs within 3 %
of the publication, which rounds parameters to one decimal and counts attention's products differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from nasplat import Pick, space
from nasplat.blocks import MetaMobile, PixelNorm, chain, divisible

DEPTHS = ((2, 3), (2, 3), (7, 8, 9), (2, 3))
WIDTHS = ((32, 48), (48, 72), (80, 120, 160), (168, 200, 288, 320))
EXPANSIONS = ((2.0, 3.0), (2.0, 2.5, 3.0), (3.0, 4.0), (3.5, 4.0, 5.0))
KERNELS = ((3, 5), (3, 5), (3, 5, 7), (3, 5, 7))
HEAD = {80: 20, 120: 20, 160: 32, 168: 21, 200: 20, 288: 32, 320: 32}
"""Width of an attention head by width of the stage, as published."""


class Emo(nn.Module):
    """Stem, stages, normalisation, mean over places, linear head."""

    # heads are 20, 21, 25 or 32 channels wide by the width of the stage: they do not lie inside one another, so that
    # narrower stages share the first channels of the widest, and not its heads
    slicing: ClassVar = {"*": "leading"}

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], width: int, classes: int) -> None:
        """Join a stem and stages whose last has `width` channels."""
        super().__init__()
        self.stem = stem
        self.stages = chain([(f"stage{i}", stage) for i, stage in enumerate(stages)])
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to class scores (B, classes)."""
        return self.head(self.norm(self.stages(self.stem(x))).mean((2, 3)))


class Stem(nn.Module):
    """3 x 3 convolution, then an iRMB without expansion, attention and shortcut, with squeeze-excite."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        """Build the convolution of the given stride and the block behind it."""
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, 3, stride, 1)
        self.norm = nn.BatchNorm2d(width)
        self.mobile = MetaMobile(width, width, width, 3, 1, squeeze=1.0, norm=nn.Identity, shortcut=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, inputs, H, W) to (B, width, H / stride, W / stride)."""
        return self.mobile(self.norm(self.conv(x)))


@space(example_input=lambda image=224, channels=3, **presets: (1, channels, image, image))
def emo(
    pick: Pick,
    base: float = 1.0,
    depths: Sequence[Sequence[int]] = DEPTHS,
    stem: int = 24,
    stem_stride: int = 2,
    window: int = 7,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
) -> nn.Module:
    """Build EMO with picked depth, width, expansion and kernel of each stage, and attention of each later block.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        base: Factor on all widths; 1 gives the published ones.
        depths: Options for the number of blocks, for each stage; the defaults hold all published networks.
        stem: Channels of the stem before the factor; the published 24.
        stem_stride: Stride of the stem; 1 keeps small images large.
        window: Side of the attention's windows in places; the published 7.
        classes: Number of classes that the head tells apart; the default is ImageNet's.
        image: Side of the square input images in pixels; the default is ImageNet's usual crop.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    plans = []
    for i in range(len(depths)):
        depth = pick(f"stage{i}.depth", tuple(depths[i]))
        width, expand = pick(f"stage{i}.width", WIDTHS[i]), pick(f"stage{i}.expand", EXPANSIONS[i])
        kernel = pick(f"stage{i}.kernel", KERNELS[i])
        attends = [i >= 2 and pick(f"stage{i}.block{j}.attention", (False, True)) for j in range(1, depth)]
        plans.append((width, expand, kernel, attends))
    stages, last = [], divisible(stem * base)
    first = Stem(channels, last, stem_stride)
    for i, (published, expand, kernel, attends) in enumerate(plans):
        width = divisible(published * base, 1 if base == 1.0 else 8)
        heads = published // HEAD[published] if base == 1.0 and published in HEAD else max(1, width // 16)
        norm, act = (nn.BatchNorm2d, nn.SiLU) if i < 2 else (PixelNorm, nn.GELU)
        blocks = [("block0", MetaMobile(last, width, int(last * expand * 2), kernel, 2, norm=norm, act=act))]
        for j, attention in enumerate(attends, start=1):
            hidden = int(width * expand)
            made = MetaMobile(
                width, width, hidden, kernel, 1, heads=heads * attention, window=window, norm=norm, act=act
            )
            blocks.append((f"block{j}", made))
        stages.append(chain(blocks))
        last = width
    return Emo(first, stages, last, classes)
