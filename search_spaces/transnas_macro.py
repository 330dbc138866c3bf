"""TransNAS-Bench-101, macro space: where four to six modules halve the size and double the width (3,256 networks).

Source: Duan et al., CVPR 2021, arXiv:2105.11871. A module keeps both (1), doubles the width (2), halves the size (3),
or does both (4); size is halved in one to four modules, width doubled in one to three: the published number of
networks. Each module has two basic residual blocks. No public row of this space was at hand: beyond the count nothing
here is confirmed by published figures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nasplat import Option, Pick, SpaceError, block, space
from nasplat.blocks import Classifier, ConvNormAct, chain

HALVINGS, DOUBLINGS = (1, 4), (1, 3)


@block
class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is projected where size or width change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Build both convolutions and the shortcut; the first convolution has the stride."""
        super().__init__()
        self.first = ConvNormAct(inputs, outputs, 3, stride)
        self.second = ConvNormAct(outputs, outputs, 3, activation=None)
        keeps = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if keeps else ConvNormAct(inputs, outputs, 1, stride, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return torch.relu(self.shortcut(x) + self.second(self.first(x)))


@space(example_input=lambda image=256, channels=3, **presets: (1, channels, image, image))
def transnas_macro(
    pick: Pick,
    width: int = 64,
    blocks: int = 2,
    stem_stride: int = 2,
    classes: int = 63,
    image: int = 256,
    channels: int = 3,
) -> nn.Module:
    """Build TransNAS-Bench-101's macro network with a picked kind of each module.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        width: Channels behind the stem; the benchmark's 64.
        blocks: Residual blocks in each module; the benchmark's 2.
        stem_stride: Stride of both convolutions of the stem; the benchmark's 2.
        classes: Number of classes that the head tells apart; the default is that of scene classification.
        image: Side of the square input images in pixels; the benchmark's 256.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    kinds = [pick(f"module{i}", (1, 2, 3, 4)) for i in range(pick("modules", (4, 5, 6)))]
    halvings, doublings = sum(k in (3, 4) for k in kinds), sum(k in (2, 4) for k in kinds)
    if not HALVINGS[0] <= halvings <= HALVINGS[1] or not DOUBLINGS[0] <= doublings <= DOUBLINGS[1]:
        pick.reject(f"{halvings} modules halve the size (1 to 4 may), {doublings} double the width (1 to 3 may)")
    stem = [
        ("first", ConvNormAct(channels, width // 2, 3, stem_stride)),
        ("second", ConvNormAct(width // 2, width, 3, stem_stride, activation=None)),
    ]
    parts: list[tuple[str, nn.Module]] = [("stem", chain(stem))]
    last = width
    for i, kind in enumerate(kinds):
        outputs, stride = last * (2 if kind in (2, 4) else 1), 2 if kind in (3, 4) else 1
        for j in range(blocks):
            parts.append((f"module{i}_block{j}", BasicBlock(last, outputs, stride)))
            last, stride = outputs, 1
    return chain([*parts, ("head", Classifier(last, classes))])


@transnas_macro.parser
def parse(text: str) -> dict[str, Option]:
    """Read `64-1234-basic`: one digit from 1 to 4 for each module."""
    match = re.fullmatch(r"(?:64-)?([1-4]{4,6})(?:-basic)?", text.strip())
    if match is None:
        raise SpaceError(
            f"expected 64-<four to six digits from 1 to 4>-basic, got {text[:80]!r}.\n"
            "  Write for instance '64-1234-basic'."
        )
    found: dict[str, Option] = {"modules": len(match[1])}
    return found | {f"module{i}": int(d) for i, d in enumerate(match[1])}


@transnas_macro.formatter
def format_modules(choices: Mapping[str, Option]) -> str:
    """Write `64-`, one digit for each module, and `-basic`."""
    return f"64-{''.join(str(choices[f'module{i}']) for i in range(int(choices['modules'])))}-basic"
