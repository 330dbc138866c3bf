"""ProxylessNAS as Once-for-All makes it elastic: six units of inverted residuals; depth, kernel, expansion chosen.

Sources: Cai et al., ICLR 2019, arXiv:1812.00332; Cai et al., ICLR 2020, arXiv:1908.09791. ReLU6 and no squeeze-excite;
units 1 to 5 have 2 to 4 blocks, unit 6 one (about 2e20 encodings). `base=1.3` is the supernet of Once-for-All and of
GENNAPE's PN family. With `base=1.0, widths=[32, 40, 80, 96, 192, 320]` ProxylessNAS-Mobile has its published 4.08 M
parameters and 320 M MACs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from torch import nn

from nasplat import Option, Pick, SpaceError, space
from nasplat.blocks import Classifier, ConvNormAct, InvertedResidual, chain, divisible

WIDTHS = (24, 40, 80, 96, 192, 320)
STRIDES = (2, 2, 2, 1, 2, 1)
DEPTHS = ((2, 3, 4),) * 5 + ((1,),)


@space(shaped={"image": "resolutions", "channels": "channels", "classes": "classes"})
def proxylessnas(
    pick: Pick,
    base: float = 1.3,
    widths: Sequence[int] = WIDTHS,
    resolutions: Sequence[int] = (224,),
    depths: Sequence[Sequence[int]] = DEPTHS,
    kernels: Sequence[int] = (3, 5, 7),
    expands: Sequence[int] = (3, 4, 6),
    stem_stride: int = 2,
    classes: int = 1000,
    channels: int = 3,
) -> tuple[nn.Module, tuple[int, ...]]:
    """Build Once-for-All's ProxylessNAS with picked depth of each unit, kernel and expansion of each block.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        base: Factor on all widths; 1.3 is that of Once-for-All's supernet.
        widths: Channels of the units before the factor; the published ones.
        resolutions: Image sides in pixels to choose among; one alone is no choice.
        depths: Options for the number of blocks, for each unit; one alone is no choice.
        kernels: Options for the side of a block's kernel.
        expands: Options for the expansion of a block.
        stem_stride: Stride of the stem; 1 keeps small images large.
        classes: Number of classes that the head tells apart; the default is ImageNet's.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images to class scores (B, classes), and the shape (1, channels, side, side) of its input.
    """
    side = pick("resolution", tuple(resolutions)) if len(resolutions) > 1 else resolutions[0]
    plan = []
    for i, options in enumerate(depths):
        depth = pick(f"unit{i}.depth", tuple(options)) if len(options) > 1 else options[0]
        plan.append(
            [
                (pick(f"unit{i}.block{j}.kernel", tuple(kernels)), pick(f"unit{i}.block{j}.expand", tuple(expands)))
                for j in range(depth)
            ]
        )
    last, first = divisible(32 * base), divisible(16 * base)
    parts: list[tuple[str, nn.Module]] = [
        ("stem", ConvNormAct(channels, last, 3, stem_stride, activation=nn.ReLU6)),
        ("first", InvertedResidual(last, first, last, 3, 1)),
    ]
    last = first
    for i, rows in enumerate(plan):
        width = divisible(widths[i] * base)
        for j, (kernel, expand) in enumerate(rows):
            made = InvertedResidual(last, width, round(last * expand), kernel, STRIDES[i] if j == 0 else 1)
            parts.append((f"unit{i}_block{j}", made))
            last = width
    final = divisible(1280 * base)
    parts.append(("final", ConvNormAct(last, final, 1, activation=nn.ReLU6)))
    return chain([*parts, ("head", Classifier(final, classes))]), (1, channels, side, side)


@proxylessnas.json_parser
def parse(text: str, resolutions: Sequence[int] = (224,), **presets: object) -> dict[str, Option] | None:
    """Read `{"ks": […], "e": […], "d": […], "r": 224}`: kernels, expansions, depths, image side.

    There are four slots for each of units 1 to 5 and one for unit 6, or only those used.
    """
    data = json.loads(text)
    if not {"ks", "e", "d"} <= data.keys():
        return None
    depths = [*data["d"][:5], 1]
    padded = len(data["ks"]) == 21 != sum(depths)
    side = data.get("r", resolutions[0])
    if side not in resolutions:
        raise SpaceError(
            f"expected a resolution among {tuple(resolutions)}, got {side}.\n"
            f"  Load the space with resolutions=[{side}]."
        )
    found: dict[str, Option] = {"resolution": side} if len(resolutions) > 1 else {}
    for unit, depth in enumerate(depths):
        start = 4 * unit if padded else sum(depths[:unit])
        if unit < 5:
            found[f"unit{unit}.depth"] = depth
        for i in range(depth):
            found[f"unit{unit}.block{i}.kernel"] = data["ks"][start + i]
            found[f"unit{unit}.block{i}.expand"] = data["e"][start + i]
    return found


@proxylessnas.formatter
def format_json(choices: Mapping[str, Option]) -> str:
    """Write Once-for-All's encoding."""
    names = [n.removesuffix(".kernel") for n in choices if n.endswith(".kernel")]
    data: dict[str, object] = {k: [choices[f"{n}.{v}"] for n in names] for k, v in (("ks", "kernel"), ("e", "expand"))}
    data["d"] = [v for n, v in choices.items() if n.endswith(".depth")]
    if "resolution" in choices:
        data["r"] = choices["resolution"]
    return json.dumps(data)
