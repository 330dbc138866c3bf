"""NASNet: a normal and a reduction cell of five blocks, each the sum of two of thirteen operations (2.5e35 encodings).

Source: Zoph et al., CVPR 2018, arXiv:1707.07012. The first pair of presets gives NASNet-A mobile with its 5,289,978
parameters (the default), `width=168, cells=6, stem=96, image=331` NASNet-A large with 88,753,150. Blocks add; the
paper's other way to combine, concatenation, is left out (no published cell uses it). Values that no block uses are
concatenated; both published cells, unlike the paper's rule, concatenate one value more that blocks do use, so that is a
choice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat import Option, Pick, SpaceError, block, space
from nasplat.blocks import Classifier, DepthwisePointwise, FactorisedReduction, ReLUConvNorm, chain

OPS = (
    "identity",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "dil_conv_3x3",
    "avg_pool_3x3",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
BLOCKS = 5
CELLS = ("normal", "reduce")
SIDES = ("left", "right")

Pair = tuple[tuple[int, str], tuple[int, str]]
"""(value, operation) twice; value 0 is the cell's input, 1 the one before, block b is value b + 2."""


@block
class ReLUAcrossDown(nn.Module):
    """ReLU and 1 x k, then ReLU and k x 1 convolution, each with normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        """Build both convolutions; each has the stride along its own axis."""
        super().__init__()
        half = kernel // 2
        self.across = nn.Conv2d(inputs, outputs, (1, kernel), (1, stride), (0, half), bias=False)
        self.across_norm = nn.BatchNorm2d(outputs)
        self.down = nn.Conv2d(outputs, outputs, (kernel, 1), (stride, 1), (half, 0), bias=False)
        self.down_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return self.down_norm(self.down(F.relu(self.across_norm(self.across(F.relu(x))))))


@block
class TwiceSeparable(nn.Sequential):
    """Two depthwise separable convolutions."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        """Build both; the first has the stride and changes the width."""
        super().__init__()
        self.first = DepthwisePointwise(inputs, outputs, kernel, stride)
        self.second = DepthwisePointwise(outputs, outputs, kernel)


def resized(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """Build what brings a value to another width or half the size; an identity where nothing changes."""
    if stride > 1:
        return FactorisedReduction(inputs, outputs)
    return ReLUConvNorm(inputs, outputs) if inputs != outputs else nn.Identity()


def operation(name: str, inputs: int, outputs: int, stride: int) -> nn.Module:
    """Build an operation by its name in `OPS`."""
    if name == "identity":
        return resized(inputs, outputs, stride)
    kernel = int(name[-1])
    if name.startswith("conv_1x3") or name.startswith("conv_1x7"):
        return ReLUAcrossDown(inputs, outputs, int(name[7]), stride)
    if name.startswith("conv"):
        return ReLUConvNorm(inputs, outputs, kernel, stride)
    if name.startswith("dil"):
        return DepthwisePointwise(inputs, outputs, kernel, stride, 2)
    if name.startswith("sep"):
        return TwiceSeparable(inputs, outputs, kernel, stride)
    is_max, half = name.startswith("max"), kernel // 2
    pool = nn.MaxPool2d(kernel, stride, half) if is_max else nn.AvgPool2d(kernel, stride, half, count_include_pad=False)
    return pool if inputs == outputs else chain([("pool", pool), ("resize", resized(inputs, outputs))])


@block
class Cell(nn.Module):
    """Two inputs brought to one width and size; blocks; what no block used, concatenated.

    The second input of the network's first cell is the first one again and keeps its width (`before` is None).
    """

    def __init__(
        self,
        pairs: tuple[Pair, ...],
        keep: tuple[int, ...],
        last: int,
        before: int | None,
        width: int,
        reduces: bool,
        halve_before: bool,
    ) -> None:
        """Build the operations of all pairs; `keep` are the values that the cell hands on."""
        super().__init__()
        self.sources = [(left[0], right[0]) for left, right in pairs]
        self.last = ReLUConvNorm(last, width)
        if before is None:
            self.before = nn.Sequential()
        else:
            self.before = resized(before, width, 2 if halve_before else 1)
        second = last if before is None else width
        self.ops = nn.ModuleDict()
        for b, pair in enumerate(pairs):
            for side, (source, name) in zip(SIDES, pair, strict=True):
                self.ops[f"block{b}_{side}"] = operation(
                    name, second if source == 1 else width, width, 2 if reduces and source < 2 else 1
                )
        self.keep = keep
        self.fitted = nn.ModuleDict()
        for v in keep:
            if v < 2 and (reduces or (v == 1 and second != width)):
                self.fitted[f"value{v}"] = resized(second if v == 1 else width, width, 2 if reduces else 1)

    def forward(self, last: Tensor, before: Tensor) -> Tensor:
        """Map the outputs of the two cells before to (B, width · kept values, H, W)."""
        values = [self.last(last), self.before(before)]
        for b, (left, right) in enumerate(self.sources):
            values.append(self.ops[f"block{b}_left"](values[left]) + self.ops[f"block{b}_right"](values[right]))
        return torch.cat(
            [self.fitted[f"value{v}"](values[v]) if f"value{v}" in self.fitted else values[v] for v in self.keep], 1
        )


def kept(pairs: tuple[Pair, ...], extra: str) -> tuple[int, ...]:
    """Find the values that no block takes (the last block is always one), and perhaps one more."""
    used = {source for pair in pairs for source, _ in pair}
    return tuple(v for v in range(len(pairs) + 2) if v not in used or str(v) == extra)


class NASNet(nn.Module):
    """Stem, cells with two reductions (four with ImageNet's stem), head."""

    # a cell concatenates the blocks that no other reads: which and how many they are follows from all of its picks, so
    # that what reads them shares its first channels
    slicing: ClassVar = {"*": "leading"}

    def __init__(
        self,
        normal: tuple[tuple[Pair, ...], tuple[int, ...]],
        reduce: tuple[tuple[Pair, ...], tuple[int, ...]],
        width: int,
        cells: int,
        stem: int,
        classes: int,
        channels: int,
    ) -> None:
        """Build the cells of the plan, each from (pairs, values handed on)."""
        super().__init__()
        imagenet = stem > 0
        first = stem if imagenet else 3 * width
        self.stem = chain(
            [
                ("conv", nn.Conv2d(channels, first, 3, 2 if imagenet else 1, 0 if imagenet else 1, bias=False)),
                ("norm", nn.BatchNorm2d(first)),
            ]
        )
        plan = [(width // 4, True), (width // 2, True)] if imagenet else []
        for stage in range(3):
            plan += [(width * 2**stage, True)] if stage else []
            plan += [(width * 2**stage, False)] * cells
        self.cells = nn.ModuleList()
        last, before = first, None
        is_halved = False  # the value before the input has twice its size
        for size, reduces in plan:
            pairs, keep = reduce if reduces else normal
            self.cells.append(Cell(pairs, keep, last, before, size, reduces, is_halved))
            last, before, is_halved = size * len(keep), last, reduces
        self.head = Classifier(last, classes, dropout=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to class scores (B, classes)."""
        last = before = self.stem(x)
        for cell in self.cells:
            last, before = cell(last, before), last
        return self.head(F.relu(last))


@space(
    example_input=lambda width=44, cells=4, stem=32, classes=1000, image=224, channels=3: (1, channels, image, image)
)
def nasnet(
    pick: Pick,
    width: int = 44,
    cells: int = 4,
    stem: int = 32,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
) -> nn.Module:
    """Build NASNet from two picked cells.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        width: Channels of the first normal cells; 44 is NASNet-A mobile's.
        cells: Normal cells in each of three stages; 4 is NASNet-A mobile's.
        stem: Channels of ImageNet's stem, which two reduction cells follow; 0 gives the stem of small images without
            them.
        classes: Number of classes that the head tells apart; the default is ImageNet's.
        image: Side of the square input images in pixels; the default is ImageNet's usual crop.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    chosen: list[tuple[tuple[Pair, ...], tuple[int, ...]]] = []
    for cell in CELLS:
        pairs = []
        for b in range(BLOCKS):
            left, right = (
                (pick(f"{cell}.block{b}.{side}.value", tuple(range(b + 2))), pick(f"{cell}.block{b}.{side}.op", OPS))
                for side in SIDES
            )
            pairs.append((left, right))
        extra = pick(f"{cell}.hands_on", ("unused", *map(str, range(BLOCKS + 1))))
        chosen.append((tuple(pairs), kept(tuple(pairs), extra)))
    return NASNet(chosen[0], chosen[1], width, cells, stem, classes, channels)


CELL = re.compile(r"(.+?)(?:\*(\d))?")
PART = re.compile(r"([a-z0-9_]+)\((\d)\)")


@nasnet.parser
def parse(text: str) -> dict[str, Option]:
    """Read both cells joined by /, blocks by |, two operations by +, each with its value in parentheses.

    `*v` at the end of a cell: it hands on value v too.
    """
    cells = [CELL.fullmatch(c) for c in text.strip().split("/")]
    parts = [[[PART.fullmatch(side) for side in b.split("+")] for b in c[1].split("|")] for c in cells if c]
    if [len(c) for c in parts] != [BLOCKS] * 2 or any(len(b) != 2 or None in b for c in parts for b in c):
        raise SpaceError(
            "expected two cells joined by /, five blocks each, such as 'sep_conv_3x3(0)+identity(0)|…', "
            f"got {text[:80]!r}.\n"
            "  Values 0 and 1 are the two inputs, 2 the first block."
        )
    found: dict[str, Option] = {}
    for cell, match, blocks in zip(CELLS, cells, parts, strict=True):
        for b, pair in enumerate(blocks):
            for side, part in zip(SIDES, pair, strict=True):
                assert part is not None
                found |= {f"{cell}.block{b}.{side}.value": int(part[2]), f"{cell}.block{b}.{side}.op": part[1]}
        found[f"{cell}.hands_on"] = (match and match[2]) or "unused"
    return found


@nasnet.formatter
def format_cells(choices: Mapping[str, Option]) -> str:
    """Write both cells in the notation that `parse` reads."""

    def side(at: str) -> str:
        return f"{choices[f'{at}.op']}({choices[f'{at}.value']})"

    def cell(name: str) -> str:
        extra = choices[f"{name}.hands_on"]
        blocks = "|".join("+".join(side(f"{name}.block{b}.{s}") for s in SIDES) for b in range(BLOCKS))
        return blocks + (f"*{extra}" if extra != "unused" else "")

    return "/".join(map(cell, CELLS))


@nasnet.network_key
def key(choices: Mapping[str, Option]) -> str:
    """Write both cells with the two operations of a block, which are summed, in the order of their names.

    A value that is handed on anyway is not handed on twice.
    """
    found = []
    for cell in CELLS:
        pairs: list[Pair] = []
        for b in range(BLOCKS):
            places = [f"{cell}.block{b}.{side}" for side in SIDES]
            left, right = sorted((int(choices[f"{p}.value"]), str(choices[f"{p}.op"])) for p in places)
            pairs.append((left, right))
        found.append((pairs, kept(tuple(pairs), str(choices[f"{cell}.hands_on"]))))
    return str(found)
