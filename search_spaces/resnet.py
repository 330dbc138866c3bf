"""Residual networks: basic, bottleneck or pre-activated blocks, with or without squeeze-and-excitation.

Sources: He et al., CVPR 2016, arXiv:1512.03385; He et al., ECCV 2016, arXiv:1603.05027 (pre-activation); Hu et al.,
CVPR 2018, arXiv:1709.01507. Depth and width of each stage are choices. In size 'imagenet' the basic member of depths 2,
2, 2, 2 is ResNet-18 with 11,689,512 parameters and the bottleneck member of depths 3, 4, 6, 3 is ResNet-50 with
25,557,032, at widths 64, 128, 256, 512 and without squeezing. Size 'small' has a 3x3 stem and 3 stages, for images of
16 to 64 pixels: 4,374 encodings. The stem is as wide as the first stage, so that its shortcut needs no projection
unless blocks are bottlenecks, as published.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nasplat import Pick, block, space
from nasplat.blocks import Classifier, ConvNormAct, SqueezeExcite, chain

SIZES = {
    "small": {"depths": ((1, 2, 3),) * 3, "widths": ((8, 16, 24), (16, 32, 48), (32, 64, 96))},
    "imagenet": {
        "depths": ((2, 3), (2, 3, 4), (2, 4, 6, 23), (2, 3)),
        "widths": ((48, 64), (96, 128), (192, 256), (384, 512)),
    },
}
BLOCKS = ("basic", "bottleneck", "preactivation")
EXPANSION = 4


@block
class Basic(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, squeeze: bool) -> None:
        """Build the convolutions; the first one has the stride."""
        super().__init__()
        self.first = ConvNormAct(inputs, width, 3, stride)
        self.second = ConvNormAct(width, width, 3, activation=None)
        self.squeeze = SqueezeExcite(width) if squeeze else nn.Sequential()
        is_same = stride == 1 and inputs == width
        self.shortcut = nn.Sequential() if is_same else ConvNormAct(inputs, width, 1, stride, activation=None)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, width, H / stride, W / stride)."""
        return self.act(self.squeeze(self.second(self.first(x))) + self.shortcut(x))


@block
class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 beside a shortcut; the output is four times as wide as the middle."""

    def __init__(self, inputs: int, width: int, stride: int, squeeze: bool) -> None:
        """Build the convolutions; the middle one has the stride."""
        super().__init__()
        outputs = EXPANSION * width
        self.reduce = ConvNormAct(inputs, width, 1)
        self.conv = ConvNormAct(width, width, 3, stride)
        self.expand = ConvNormAct(width, outputs, 1, activation=None)
        self.squeeze = SqueezeExcite(outputs) if squeeze else nn.Sequential()
        is_same = stride == 1 and inputs == outputs
        self.shortcut = nn.Sequential() if is_same else ConvNormAct(inputs, outputs, 1, stride, activation=None)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 4 · width, H / stride, W / stride)."""
        return self.act(self.squeeze(self.expand(self.conv(self.reduce(x)))) + self.shortcut(x))


@block
class PreActivated(nn.Module):
    """Normalisation and activation before each of two convolutions; nothing behind the sum."""

    def __init__(self, inputs: int, width: int, stride: int, squeeze: bool) -> None:
        """Build the convolutions; the first one has the stride."""
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.squeeze = SqueezeExcite(width) if squeeze else nn.Sequential()
        is_same = stride == 1 and inputs == width
        self.shortcut = nn.Sequential() if is_same else nn.Conv2d(inputs, width, 1, stride, bias=False)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, width, H / stride, W / stride)."""
        y = self.act(self.norm1(x))
        y = self.conv2(self.act(self.norm2(self.conv1(y))))
        return self.squeeze(y) + self.shortcut(x)


class ResNet(nn.Module):
    """Stem, stages of residual blocks, linear head."""

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], last: nn.Module, head: nn.Module) -> None:
        """Put the parts together."""
        super().__init__()
        self.stem = stem
        self.stages = chain([(f"stage{i}", stage) for i, stage in enumerate(stages)])
        self.last, self.head = last, head

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to class scores (B, classes)."""
        return self.head(self.last(self.stages(self.stem(x))))


@space(example_input=lambda image=32, channels=3, **presets: (1, channels, image, image))
def resnet(
    pick: Pick,
    size: str = "small",
    blocks: Sequence[str] = BLOCKS,
    image: int = 32,
    channels: int = 3,
    classes: int = 10,
) -> nn.Module:
    """Build a residual network with picked blocks, and depth and width of each stage.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        size: Set of options for depths and widths: 'small' is ours, for images of 16 to 64 pixels; 'imagenet' has the
            published stem of stride 2 and pooling, for images of 224.
        blocks: Options for the kind of block, among 'basic', 'bottleneck' and 'preactivation'; one alone is no choice.
        image: Side of the square input images in pixels.
        channels: Channels of the input images; 3 for colour.
        classes: Number of classes that the head tells apart.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    options = SIZES[size]
    kind = pick("block", tuple(blocks)) if len(blocks) > 1 else blocks[0]
    squeeze = pick("squeeze", ("no", "yes")) == "yes"
    plan = [
        (pick(f"stage{i}.depth", depths), pick(f"stage{i}.width", widths))
        for i, (depths, widths) in enumerate(zip(options["depths"], options["widths"], strict=True))
    ]
    last = plan[0][1]
    if size == "small":
        stem: nn.Module = ConvNormAct(channels, last, 3)
    else:
        stem = chain([("conv", ConvNormAct(channels, last, 7, 2)), ("pool", nn.MaxPool2d(3, 2, 1))])
    stages = []
    for i, (depth, width) in enumerate(plan):
        stage = nn.Sequential()
        for j in range(depth):
            make = {"basic": Basic, "bottleneck": Bottleneck, "preactivation": PreActivated}[kind]
            stage.add_module(f"block{j}", make(last, width, 2 if i and j == 0 else 1, squeeze))
            last = width * (EXPANSION if kind == "bottleneck" else 1)
        stages.append(stage)
    closing = chain([("norm", nn.BatchNorm2d(last)), ("act", nn.ReLU())] if kind == "preactivation" else [])
    return ResNet(stem, stages, closing, Classifier(last, classes))
