"""DenseNet: every layer reads the outputs of all layers before it in its stage.

Source: Huang et al., CVPR 2017, arXiv:1608.06993. Depth of each stage, growth and bottleneck are choices; transitions
halve channels and size. In size 'imagenet' the member of growth 32, bottleneck 4 and depths 6, 12, 24, 16 is
DenseNet-121 with 7,978,856 parameters. Size 'small' has a 3x3 stem and 3 stages, for images of 16 to 64 pixels: 243
encodings.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasplat import Pick, block, space
from nasplat.blocks import Classifier, ConvNormAct, chain

SIZES = {
    "small": {"growths": (4, 8, 12), "bottlenecks": (1, 2, 4), "depths": ((2, 3, 4),) * 3},
    "imagenet": {
        "growths": (16, 24, 32),
        "bottlenecks": (2, 4),
        "depths": ((4, 6), (6, 8, 12), (12, 16, 24, 32), (8, 12, 16, 32)),
    },
}


@block
class Layer(nn.Module):
    """Normalisation, activation and convolution twice: 1x1 to the bottleneck, 3x3 to the growth."""

    def __init__(self, inputs: int, growth: int, bottleneck: int) -> None:
        """Build both convolutions; the inner width is `bottleneck` times the growth."""
        super().__init__()
        hidden = growth * bottleneck
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(hidden)
        self.conv1 = nn.Conv2d(inputs, hidden, 1, bias=False)
        self.conv2 = nn.Conv2d(hidden, growth, 3, padding=1, bias=False)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, inputs + growth, H, W): the new channels stand behind the old ones."""
        y = self.conv1(self.act(self.norm1(x)))
        return torch.cat([x, self.conv2(self.act(self.norm2(y)))], 1)


def transition(inputs: int, outputs: int) -> nn.Sequential:
    """Build normalisation, activation, 1x1 convolution and the pooling that halves the size."""
    return chain(
        [
            ("norm", nn.BatchNorm2d(inputs)),
            ("act", nn.ReLU()),
            ("conv", nn.Conv2d(inputs, outputs, 1, bias=False)),
            ("pool", nn.AvgPool2d(2, ceil_mode=True)),
        ]
    )


@space(example_input=lambda image=32, channels=3, **presets: (1, channels, image, image))
def densenet(pick: Pick, size: str = "small", image: int = 32, channels: int = 3, classes: int = 10) -> nn.Module:
    """Build a DenseNet with picked growth, bottleneck and depth of each stage.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        size: Set of options: 'small' is ours, for images of 16 to 64 pixels; 'imagenet' has the published stem of
            stride 2 and pooling, for images of 224.
        image: Side of the square input images in pixels.
        channels: Channels of the input images; 3 for colour.
        classes: Number of classes that the head tells apart.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    options = SIZES[size]
    growth, bottleneck = pick("growth", options["growths"]), pick("bottleneck", options["bottlenecks"])
    depths = [pick(f"stage{i}.depth", d) for i, d in enumerate(options["depths"])]
    last = 2 * growth
    if size == "small":
        stem: nn.Module = nn.Conv2d(channels, last, 3, padding=1, bias=False)
    else:
        stem = chain([("conv", ConvNormAct(channels, last, 7, 2)), ("pool", nn.MaxPool2d(3, 2, 1))])
    parts: list[tuple[str, nn.Module]] = [("stem", stem)]
    for i, depth in enumerate(depths):
        layers: Sequence[tuple[str, nn.Module]] = [
            (f"layer{j}", Layer(last + j * growth, growth, bottleneck)) for j in range(depth)
        ]
        parts.append((f"stage{i}", chain(layers)))
        last += depth * growth
        if i + 1 < len(depths):
            parts.append((f"transition{i}", transition(last, last // 2)))
            last //= 2
    parts += [("norm", nn.BatchNorm2d(last)), ("act", nn.ReLU()), ("head", Classifier(last, classes))]
    return chain(parts)
