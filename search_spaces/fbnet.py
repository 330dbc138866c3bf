"""FBNet: 22 layers, one of nine blocks for each (9^22, about 1e21 networks).

Source: Wu et al., CVPR 2019, arXiv:1812.03443. Blocks are inverted residuals with kernel 3 or 5, expansion 1, 3 or 6,
at expansion 1 also with two groups in the 1x1 convolutions and a channel shuffle, or a skip (a 1x1 convolution where
size or width change). FBNet-C as published (timm's definition) has its 5.57 M parameters here; the last width is 1984
as there, 1504 in the paper's table. The shared rows carry latencies alone, so no count confirms them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from nasplat import Option, Pick, SpaceError, block, space
from nasplat.blocks import Classifier, ConvNormAct, chain, divisible

OPS = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
LAYERS = (1, 4, 4, 4, 4, 4, 1)
WIDTHS = (16, 24, 32, 64, 112, 184, 352)
STRIDES = (1, 2, 2, 2, 1, 2, 1)


class Shuffle(nn.Module):
    """Interleaves the channels of the groups."""

    def __init__(self, groups: int) -> None:
        """Keep the number of groups."""
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, C, H, W)."""
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


@block
class Layer(nn.Module):
    """Pointwise, depthwise, pointwise; a shortcut where size and width stay."""

    def __init__(self, inputs: int, outputs: int, kernel: int, expand: int, groups: int, stride: int) -> None:
        """Build the convolutions; the pointwise ones have `groups` groups."""
        super().__init__()
        hidden = inputs * expand
        parts: list[tuple[str, nn.Module]] = []
        if expand > 1 or groups > 1:
            parts.append(("expand", ConvNormAct(inputs, hidden, 1, groups=groups)))
        if groups > 1:
            parts.append(("shuffle", Shuffle(groups)))
        parts.append(("depthwise", ConvNormAct(hidden, hidden, kernel, stride, hidden)))
        parts.append(("project", ConvNormAct(hidden, outputs, 1, groups=groups, activation=None)))
        self.body = chain(parts)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return x + self.body(x) if self.has_shortcut else self.body(x)


def operation(name: str, inputs: int, outputs: int, stride: int) -> nn.Module:
    """Build a block by its name in `OPS`."""
    if name == "skip":
        keeps = stride == 1 and inputs == outputs
        return nn.Identity() if keeps else ConvNormAct(inputs, outputs, 1, stride)
    kernel, expand, *groups = (int(part[1:]) for part in name.split("_"))
    return Layer(inputs, outputs, kernel, expand, groups[0] if groups else 1, stride)


@space(example_input=lambda image=224, channels=3, **presets: (1, channels, image, image))
def fbnet(
    pick: Pick,
    base: float = 1.0,
    layers: Sequence[int] = LAYERS,
    last_width: int = 1984,
    stem_stride: int = 2,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
) -> nn.Module:
    """Build FBNet with one picked block for each layer.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        base: Factor on all widths; 1 gives the published ones.
        layers: Number of layers of each stage; the published 22 in all.
        last_width: Channels before the head; 1984 is that of the released FBNet-C, 1504 that of the paper.
        stem_stride: Stride of the stem; 1 keeps small images large.
        classes: Number of classes that the head tells apart; the default is ImageNet's.
        image: Side of the square input images in pixels; the default is ImageNet's usual crop.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    places = [(i, j) for i, n in enumerate(layers) for j in range(n)]
    ops = [pick(f"stage{i}.layer{j}", OPS) for i, j in places]
    last = divisible(16 * base)
    parts: list[tuple[str, nn.Module]] = [("stem", ConvNormAct(channels, last, 3, stem_stride))]
    for (i, j), op in zip(places, ops, strict=True):
        width = divisible(WIDTHS[i] * base)
        parts.append((f"stage{i}_layer{j}", operation(op, last, width, STRIDES[i] if j == 0 else 1)))
        last = width
    final = divisible(last_width * base)
    return chain([*parts, ("final", ConvNormAct(last, final, 1)), ("head", Classifier(final, classes))])


@fbnet.parser
def parse(text: str) -> dict[str, Option]:
    """Read the 22 blocks joined by |."""
    ops = text.strip().split("|")
    if len(ops) != sum(LAYERS):
        raise SpaceError(
            f"expected {sum(LAYERS)} blocks joined by |, got {len(ops)} in {text[:80]!r}.\n  Blocks: {', '.join(OPS)}."
        )
    names = [f"stage{i}.layer{j}" for i, n in enumerate(LAYERS) for j in range(n)]
    return dict(zip(names, ops, strict=True))


@fbnet.formatter
def format_layers(choices: Mapping[str, Option]) -> str:
    """Write the blocks joined by |."""
    return "|".join(str(op) for op in choices.values())
