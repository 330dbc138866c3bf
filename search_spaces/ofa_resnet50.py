"""Once-for-All ResNet-50: bottlenecks elastic in depth, width and inner width; ResNet-D's stem (2.5e12 encodings).

Sources: Cai et al., ICLR 2020, arXiv:1908.09791, and the authors' later ResNet-50 supernet; He et al., CVPR 2019,
arXiv:1812.01187 (ResNet-D). Stages have 2 + d, 2 + d, 4 + d and 2 + d blocks, d = 0, 1, 2; each block has its own inner
width (share e of its outputs), each stage and both parts of the stem their own width (share w). Widths are rounded to
multiples of 8. With d = 1, 2, 2, 1, e = 0.25, w = 1 and the extra convolution of the stem it is ResNet-50-D: 25.58 M
parameters, 4.35 G MACs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasplat import Option, Pick, SpaceError, block, space
from nasplat.blocks import Classifier, ConvNormAct, chain, divisible

WIDTHS = (256, 512, 1024, 2048)
SHORTEST = (2, 2, 4, 2)
STRIDES = (1, 2, 2, 2)


@block
class Bottleneck(nn.Module):
    """1 x 1, k x k, 1 x 1; the shortcut averages before it projects."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int) -> None:
        """Build the three convolutions; the middle one has the stride."""
        super().__init__()
        self.reduce = ConvNormAct(inputs, hidden, 1)
        self.conv = ConvNormAct(hidden, hidden, 3, stride)
        self.expand = ConvNormAct(hidden, outputs, 1, activation=None)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.add_module("pool", nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False))
        if stride > 1 or inputs != outputs:
            self.shortcut.add_module("project", ConvNormAct(inputs, outputs, 1, activation=None))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return torch.relu(self.shortcut(x) + self.expand(self.conv(self.reduce(x))))


class Residual(nn.Module):
    """A 3x3 convolution beside a shortcut, the stem's extra one."""

    def __init__(self, width: int) -> None:
        """Build the convolution, `width` channels in and out."""
        super().__init__()
        self.conv = ConvNormAct(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, width, H, W)."""
        return x + self.conv(x)


@space(shaped={"image": "resolutions", "channels": "channels", "classes": "classes"})
def ofa_resnet50(
    pick: Pick,
    resolutions: Sequence[int] = (224,),
    depths: Sequence[int] = (0, 1, 2),
    expands: Sequence[float] = (0.2, 0.25, 0.35),
    widths: Sequence[float] = (0.65, 0.8, 1.0),
    stages: int = 4,
    base: float = 1.0,
    stem_stride: int = 4,
    classes: int = 1000,
    channels: int = 3,
) -> tuple[nn.Module, tuple[int, ...]]:
    """Build Once-for-All's ResNet-50 with picked widths, depths and inner widths.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        resolutions: Image sides in pixels to choose among; one alone is no choice.
        depths: Options for the number of blocks of a stage beyond the shortest (2, 2, 4, 2).
        expands: Options for a block's inner width, as shares of its outputs.
        widths: Options for the width of a stage and of both parts of the stem, as shares of the full width.
        stages: Number of stages; fewer than the published 4 cut the network short, for small images.
        base: Factor on all widths; 1 gives the published ones.
        stem_stride: Stride of the stem: 4, 2 or 1; smaller ones keep small images large.
        classes: Number of classes that the head tells apart; the default is ImageNet's.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images to class scores (B, classes), and the shape (1, channels, side, side) of its input.
    """
    side = pick("resolution", tuple(resolutions)) if len(resolutions) > 1 else resolutions[0]
    middle = divisible(divisible(64 * base * pick("stem.middle_width", tuple(widths))) // 2)
    last = divisible(64 * base * pick("stem.width", tuple(widths)))
    is_deep = pick("stem.extra_conv", (False, True))
    plan = []
    for s in range(stages):
        outputs = divisible(WIDTHS[s] * base * pick(f"stage{s}.width", tuple(widths)))
        depth = pick(f"stage{s}.depth", tuple(depths))
        expand = [pick(f"stage{s}.block{i}.expand", tuple(expands)) for i in range(SHORTEST[s] + depth)]
        plan.append((outputs, [divisible(outputs * e) for e in expand]))
    stem: list[tuple[str, nn.Module]] = [("first", ConvNormAct(channels, middle, 3, 2 if stem_stride > 1 else 1))]
    if is_deep:
        stem.append(("extra", Residual(middle)))
    stem.append(("last", ConvNormAct(middle, last, 3)))
    if stem_stride > 2:
        stem.append(("pool", nn.MaxPool2d(3, 2, 1)))
    parts: list[tuple[str, nn.Module]] = [("stem", chain(stem))]
    for s, (outputs, hidden) in enumerate(plan):
        for i, inner in enumerate(hidden):
            parts.append((f"stage{s}_block{i}", Bottleneck(last, inner, outputs, STRIDES[s] if i == 0 else 1)))
            last = outputs
    return chain([*parts, ("head", Classifier(last, classes))]), (1, channels, side, side)


@ofa_resnet50.json_parser
def parse(
    text: str,
    resolutions: Sequence[int] = (224,),
    widths: Sequence[float] = (0.65, 0.8, 1.0),
    stages: int = 4,
    **presets: object,
) -> dict[str, Option] | None:
    """Read `{"d": […], "e": […], "w": […], "image_size": 224}`: depths, inner widths, widths, image side.

    The first depth is the stem's (2: the extra convolution). Inner widths have as many slots as the deepest network has
    blocks, or only those used. Widths are numbered, those of the stem's middle and end first.
    """
    data = json.loads(text)
    if not {"d", "e", "w"} <= data.keys():
        return None
    if (
        len(data["d"]) != stages + 1
        or len(data["w"]) != stages + 2
        or not all(w in range(len(widths)) for w in data["w"])
    ):
        raise SpaceError(
            f"expected {stages + 1} depths and {stages + 2} numbers of widths below {len(widths)}, "
            f"got d={data['d']} and w={data['w']}.\n  The stem comes first."
        )
    side = data.get("image_size", resolutions[0])
    if side not in resolutions:
        raise SpaceError(
            f"expected a resolution among {tuple(resolutions)}, got {side}.\n"
            f"  Load the space with resolutions=[{side}]."
        )
    found: dict[str, Option] = {"resolution": side} if len(resolutions) > 1 else {}
    found |= {"stem.middle_width": widths[data["w"][0]], "stem.width": widths[data["w"][1]]}
    found["stem.extra_conv"] = data["d"][0] == 2
    used = [SHORTEST[s] + data["d"][s + 1] for s in range(stages)]
    slots = used if len(data["e"]) == sum(used) else [SHORTEST[s] + 2 for s in range(stages)]
    if len(data["e"]) != sum(slots):
        raise SpaceError(
            f"expected {sum(used)} or {sum(slots)} inner widths, got {len(data['e'])}.\n  Give one a block."
        )
    for s in range(stages):
        found |= {f"stage{s}.width": widths[data["w"][s + 2]], f"stage{s}.depth": data["d"][s + 1]}
        found |= {f"stage{s}.block{i}.expand": data["e"][sum(slots[:s]) + i] for i in range(used[s])}
    return found
