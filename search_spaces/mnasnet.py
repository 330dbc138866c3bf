"""MnasNet-like: seven stages of inverted residual blocks; expansion, kernel, depth and squeeze-excite of each chosen.

Source: Ahmad et al. 2024 (Accel-NASBench), after Tan et al., CVPR 2019, arXiv:1807.11626; about 1e11 encodings. Widths,
strides, depths and head are EfficientNet-B0's (Tan & Le 2019, arXiv:1905.11946), reconstructed from the labels:
parameters of all 4,092 shared rows agree to the printed digits, and so do MACs once four operations for each normalised
value and one for each value that enters or leaves a mean are added, which the publication's counter counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import nn

from nasplat import Option, Pick, SpaceError, space
from nasplat.blocks import Classifier, ConvNormAct, InvertedResidual, chain, divisible

WIDTHS = (16, 24, 40, 80, 112, 192, 320)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
DEPTHS = ((1, 2, 3), (1, 2, 3), (1, 2, 3), (1, 2, 3), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3))


@space(example_input=lambda image=224, channels=3, **presets: (1, channels, image, image))
def mnasnet(
    pick: Pick,
    base: float = 1.0,
    expands: Sequence[int] = (1, 4, 6),
    kernels: Sequence[int] = (3, 5),
    depths: Sequence[Sequence[int]] = DEPTHS,
    stem_stride: int = 2,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
) -> nn.Module:
    """Build the network of Accel-NASBench with picked expansion, kernel, depth and squeeze-excite of each stage.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        base: Factor on all widths; 1 gives EfficientNet-B0's.
        expands: Options for the expansion of a stage's blocks.
        kernels: Options for the side of a stage's kernels.
        depths: Options for the number of blocks, for each stage; the published ones.
        stem_stride: Stride of the stem; 1 keeps small images large.
        classes: Number of classes that the head tells apart; the default is ImageNet's.
        image: Side of the square input images in pixels; the default is ImageNet's usual crop.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    plan = [
        (
            pick(f"stage{i}.expand", tuple(expands)),
            pick(f"stage{i}.kernel", tuple(kernels)),
            pick(f"stage{i}.depth", tuple(depths[i])),
            pick(f"stage{i}.squeeze", (False, True)),
        )
        for i in range(len(depths))
    ]
    last = divisible(32 * base)
    parts: list[tuple[str, nn.Module]] = [("stem", ConvNormAct(channels, last, 3, stem_stride, activation=nn.SiLU))]
    for i, (expand, kernel, depth, squeeze) in enumerate(plan):
        width = divisible(WIDTHS[i] * base)
        for j in range(depth):
            stride = STRIDES[i] if j == 0 else 1
            made = InvertedResidual(last, width, last * expand, kernel, stride, squeeze and max(1, last // 4), nn.SiLU)
            parts.append((f"stage{i}_block{j}", made))
            last = width
    final = divisible(1280 * base)
    parts.append(("final", ConvNormAct(last, final, 1, activation=nn.SiLU)))
    return chain([*parts, ("head", Classifier(final, classes))])


@mnasnet.parser
def parse(text: str) -> dict[str, Option]:
    """Read stages `e6_k3_l2_se0` (expansion, kernel, layers, squeeze-excite), joined by semicolons."""
    found: dict[str, Option] = {}
    for i, stage in enumerate(text.strip().split(";")):
        match = re.fullmatch(r"e(\d+)_k(\d+)_l(\d+)_se([01])", stage)
        if match is None:
            raise SpaceError(
                f"expected stages such as 'e6_k3_l2_se0' joined by ;, got {stage[:80]!r}.\n  Write seven of them."
            )
        expand, kernel, depth, squeeze = map(int, match.groups())
        found |= {f"stage{i}.expand": expand, f"stage{i}.kernel": kernel}
        found |= {f"stage{i}.depth": depth, f"stage{i}.squeeze": bool(squeeze)}
    return found


@mnasnet.formatter
def format_stages(choices: Mapping[str, Option]) -> str:
    """Write the stages as `e6_k3_l2_se0`, joined by semicolons."""
    stages = sum(name.endswith(".depth") for name in choices)
    at = [{k: choices[f"stage{i}.{k}"] for k in ("expand", "kernel", "depth", "squeeze")} for i in range(stages)]
    return ";".join("e{expand}_k{kernel}_l{depth}_se{squeeze:d}".format(**stage) for stage in at)
