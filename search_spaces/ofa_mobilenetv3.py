"""Once-for-All MobileNetV3: five units of inverted residual blocks, elastic in depth, kernel and expansion.

Source: Cai et al., ICLR 2020, arXiv:1908.09791. About 2e19 encodings (7,371 per unit to the fifth power, without width
and resolution). Depth 2-4 per unit, kernel 3/5/7 and expansion 3/4/6 per block; `widths` and `resolutions` make the
width multiplier and the image side choices as well. Blocks past a unit's depth have no kernel and no expansion. Differs
from the paper's code in the padding of channels only: widths are rounded to multiples of 8 after multiplying.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from torch import Tensor, nn

from nasplat import Option, Pick, SpaceError, space
from nasplat.blocks import ConvNormAct, InvertedResidual, divisible

WIDTHS = (24, 40, 80, 112, 160)
STRIDES = (2, 2, 2, 1, 2)
SQUEEZE = (False, True, False, True, True)
SWISH = (False, False, True, True, True)


class MobileNet(nn.Module):
    """Stem, units of blocks, a two-layer head."""

    def __init__(
        self, stem: int, plan: Sequence[Sequence[tuple]], final: int, feature: int, classes: int, stride: int
    ) -> None:
        """Build the units of the plan, whose rows are (outputs, expansion, kernel, stride, squeeze, activation)."""
        super().__init__()
        self.stem = ConvNormAct(3, stem, 3, stride, activation=nn.Hardswish)
        self.first = InvertedResidual(stem, stem, stem, 3, 1, False, nn.ReLU)
        last = stem
        for number, unit in enumerate(plan):
            blocks = nn.Sequential()
            for i, (outputs, expand, kernel, step, squeeze, act) in enumerate(unit):
                hidden = divisible(last * expand)
                blocks.add_module(f"block{i}", InvertedResidual(last, outputs, hidden, kernel, step, squeeze, act))
                last = outputs
            self.add_module(f"unit{number}", blocks)
        self.units = len(plan)
        self.final = ConvNormAct(last, final, 1, activation=nn.Hardswish)
        self.feature = nn.Linear(final, feature, bias=False)
        self.act = nn.Hardswish()
        self.classifier = nn.Linear(feature, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to class scores (B, classes)."""
        x = self.first(self.stem(x))
        for number in range(self.units):
            x = getattr(self, f"unit{number}")(x)
        x = self.final(x).mean((2, 3))
        return self.classifier(self.act(self.feature(x)))


@space(shaped={"image": "resolutions", "channels": "channels", "classes": "classes"})
def ofa_mobilenetv3(
    pick: Pick,
    widths: Sequence[float] = (1.0,),
    resolutions: Sequence[int] = (224,),
    depths: Sequence[int] = (2, 3, 4),
    kernels: Sequence[int] = (3, 5, 7),
    expands: Sequence[int] = (3, 4, 6),
    units: int = 5,
    base: float = 1.0,
    stem_stride: int = 2,
    classes: int = 1000,
    channels: int = 3,
) -> tuple[nn.Module, tuple[int, ...]]:
    """Build Once-for-All's MobileNetV3 with picked depth of each unit, kernel and expansion of each block.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        widths: Factors on all widths to choose among; one alone is no choice.
        resolutions: Image sides in pixels to choose among; one alone is no choice.
        depths: Options for the number of blocks of a unit.
        kernels: Options for the side of a block's kernel.
        expands: Options for the expansion of a block.
        units: Number of units; fewer than the published 5 cut the network short, for small images.
        base: Factor on all widths, beside the chosen one; 1 gives the published ones.
        stem_stride: Stride of the stem; 1 keeps small images large.
        classes: Number of classes that the head tells apart; the default is ImageNet's.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images to class scores (B, classes), and the shape (1, channels, side, side) of its input.
    """
    multiplier = base * (pick("width", tuple(widths)) if len(widths) > 1 else widths[0])
    side = pick("resolution", tuple(resolutions)) if len(resolutions) > 1 else resolutions[0]
    plan = []
    for unit in range(units):
        depth = pick(f"unit{unit}.depth", tuple(depths))
        act = nn.Hardswish if SWISH[unit] else nn.ReLU
        rows = []
        for i in range(depth):
            kernel = pick(f"unit{unit}.block{i}.kernel", tuple(kernels))
            expand = pick(f"unit{unit}.block{i}.expand", tuple(expands))
            stride = STRIDES[unit] if i == 0 else 1
            rows.append((divisible(WIDTHS[unit] * multiplier), expand, kernel, stride, SQUEEZE[unit], act))
        plan.append(rows)
    module = MobileNet(
        divisible(16 * multiplier),
        plan,
        divisible(960 * multiplier),
        divisible(1280 * multiplier),
        classes,
        stem_stride,
    )
    if channels != 3:
        module.stem = ConvNormAct(channels, divisible(16 * multiplier), 3, stem_stride, activation=nn.Hardswish)
    return module, (1, channels, side, side)


@ofa_mobilenetv3.json_parser
def parse(text: str, resolutions: Sequence[int] = (224,), **presets: object) -> dict[str, Option] | None:
    """Read `{"ks": […], "e": […], "d": […], "r": 224}`: kernels, expansions, depths, image side.

    There are four slots for each unit, or only those used.
    """
    data = json.loads(text)
    if not {"ks", "e", "d"} <= data.keys():
        return None
    depths = data["d"]
    padded = len(data["ks"]) == 4 * len(depths) != sum(depths)
    side = data.get("r", resolutions[0])
    if side not in resolutions:
        raise SpaceError(
            f"expected a resolution among the preset's {tuple(resolutions)}, got {side}.\n"
            f"  Load the space with resolutions that list it, such as resolutions=[{side}]."
        )
    found: dict[str, Option] = {"resolution": side} if len(resolutions) > 1 else {}
    for unit, depth in enumerate(depths):
        found[f"unit{unit}.depth"] = depth
        start = 4 * unit if padded else sum(depths[:unit])
        for i in range(depth):
            found[f"unit{unit}.block{i}.kernel"] = data["ks"][start + i]
            found[f"unit{unit}.block{i}.expand"] = data["e"][start + i]
    return found
