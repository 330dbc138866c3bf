"""DARTS: a normal and a reduction cell of four nodes, two operations into each, as in NAS-Bench-301 (about 1e18).

Sources: Liu et al., ICLR 2019, arXiv:1806.09055; Siems et al. 2020, arXiv:2008.09777 (NAS-Bench-301). Presets give the
network of CIFAR-10 evaluation (36 channels, 20 cells; no auxiliary head, no drop-path), whose parameters equal
OnceNAS-Bench's for all shared rows and DARTS-V2's 3,349,342, or smaller ones: width=32, cells=8, affine=False is the
network of NAS-Bench-Suite-Zero's files. Pools have no normalisation, as in the evaluation network. `none=True` adds the
operation `none`, which some labels have. The two edges into a node may be written in either order: they are one
encoding here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations, permutations

import torch
from torch import Tensor, nn

from nasplat import Option, Pick, SpaceError, block, space
from nasplat.blocks import Classifier, DepthwisePointwise, FactorisedReduction, ReLUConvNorm, chain

OPS = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
NODES = 4
CELLS = ("normal", "reduce")

Edges = tuple[tuple[int, int, str], ...]
"""(node, input, operation); inputs 0 and 1 are the two cells before, node n is input n + 2."""


class Zero(nn.Module):
    """The operation `none`: zeros of the size that the stride leaves."""

    def __init__(self, stride: int) -> None:
        """Keep the stride, 1 or 2."""
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Give zeros of shape (B, C, H / stride, W / stride)."""
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


def operation(name: str, width: int, stride: int, affine: bool) -> nn.Module:
    """Build an operation by its name in `OPS`, or 'none'."""
    if name == "none":
        return Zero(stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorisedReduction(width, width, affine)
    kernel = int(name[-1])
    if name.startswith("max"):
        return nn.MaxPool2d(kernel, stride, 1)
    if name.startswith("avg"):
        return nn.AvgPool2d(kernel, stride, 1, count_include_pad=False)
    if name.startswith("dil"):
        return DepthwisePointwise(width, width, kernel, stride, 2, affine)
    return chain(
        [
            ("first", DepthwisePointwise(width, width, kernel, stride, 1, affine)),
            ("second", DepthwisePointwise(width, width, kernel, 1, 1, affine)),
        ]
    )


@block
class Cell(nn.Module):
    """Two inputs brought to one width; every node sums two operations; the four nodes are concatenated."""

    def __init__(
        self, edges: Edges, before: int, last: int, width: int, reduces: bool, follows_reduction: bool, affine: bool
    ) -> None:
        """Build the operations of all edges for inputs of `before` and `last` channels."""
        super().__init__()
        self.edges = edges
        self.before = FactorisedReduction(before, width) if follows_reduction else ReLUConvNorm(before, width)
        self.last = ReLUConvNorm(last, width)
        self.ops = nn.ModuleDict(
            {f"node{n}_from{i}": operation(op, width, 2 if reduces and i < 2 else 1, affine) for n, i, op in edges}
        )

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """Map the outputs of the two cells before to (B, 4 · width, H, W), half the size in a reduction cell."""
        values = [self.before(before), self.last(last)]
        for node in range(NODES):
            first, second = (self.ops[f"node{n}_from{i}"](values[i]) for n, i, _ in self.edges if n == node)
            values.append(first + second)
        return torch.cat(values[2:], 1)


class Darts(nn.Module):
    """Stem, cells with two reductions among them, linear head."""

    def __init__(
        self, edges: Mapping[str, Edges], width: int, cells: int, affine: bool, classes: int, channels: int
    ) -> None:
        """Build `cells` cells, the reduction cells after one and two thirds of them."""
        super().__init__()
        self.stem = chain(
            [("conv", nn.Conv2d(channels, 3 * width, 3, padding=1, bias=False)), ("norm", nn.BatchNorm2d(3 * width))]
        )
        self.cells = nn.ModuleList()
        before, last, follows = 3 * width, 3 * width, False
        for i in range(cells):
            reduces = i in {cells // 3, 2 * cells // 3}
            width = width * 2 if reduces else width
            chosen = edges["reduce" if reduces else "normal"]
            self.cells.append(Cell(chosen, before, last, width, reduces, follows, affine))
            before, last, follows = last, NODES * width, reduces
        self.head = Classifier(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to class scores (B, classes)."""
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        return self.head(last)


@space(example_input=lambda image=32, channels=3, **presets: (1, channels, image, image))
def darts(
    pick: Pick,
    width: int = 36,
    cells: int = 20,
    none: bool = False,
    affine: bool = True,
    classes: int = 10,
    image: int = 32,
    channels: int = 3,
) -> nn.Module:
    """Build DARTS's evaluation network from two picked cells.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        width: Channels of the first cells; 36 is that of CIFAR-10's evaluation network.
        cells: Number of cells, two of them reduction cells; 20 is that of the evaluation network.
        none: Add the operation `none` to the options, which some published labels have.
        affine: Let the operations' normalisations have a scale and a shift; search networks have none.
        classes: Number of classes that the head tells apart; the default is CIFAR-10's.
        image: Side of the square input images in pixels; the default is CIFAR-10's.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    ops = ("none", *OPS) if none else OPS
    edges: dict[str, Edges] = {}
    for kind in CELLS:
        found: list[tuple[int, int, str]] = []
        for node in range(NODES):
            pairs = [f"{a},{b}" for a, b in combinations(range(node + 2), 2)]
            chosen = pick(f"{kind}.node{node}.inputs", tuple(pairs)) if len(pairs) > 1 else pairs[0]
            found += [
                (node, int(i), pick(f"{kind}.node{node}.{place}", ops))
                for place, i in zip("ab", chosen.split(","), strict=True)
            ]
        edges[kind] = tuple(found)
    return Darts(edges, width, cells, affine, classes, channels)


@darts.parser
def parse(text: str) -> dict[str, Option]:
    """Read `Genotype(normal=[('sep_conv_3x3', 0), …], normal_concat=range(2, 6), reduce=[…], …)`, DARTS's notation."""
    found: dict[str, Option] = {}
    for kind in CELLS:
        match = re.search(rf"\b{kind}=\[(.*?)\]", text)
        edges: list[tuple[str, str]] = re.findall(r"\(\s*'(\w+)',\s*(\d)\s*\)", match[1]) if match else []
        if len(edges) != 2 * NODES:
            raise SpaceError(
                f"expected Genotype(normal=[eight pairs], …, reduce=[eight pairs], …), got {text[:80]!r}.\n"
                "  Write each pair as ('sep_conv_3x3', 0)."
            )
        for node in range(NODES):
            (i, a), (j, b) = sorted((int(place), op) for op, place in edges[2 * node : 2 * node + 2])
            if node:
                found[f"{kind}.node{node}.inputs"] = f"{i},{j}"
            found |= {f"{kind}.node{node}.a": a, f"{kind}.node{node}.b": b}
    return found


@darts.formatter
def format_genotype(choices: Mapping[str, Option]) -> str:
    """Write the genotype in DARTS's notation."""
    cells = []
    for kind in CELLS:
        pairs = []
        for node in range(NODES):
            inputs = str(choices.get(f"{kind}.node{node}.inputs", "0,1")).split(",")
            pairs += [
                (str(choices[f"{kind}.node{node}.{place}"]), int(i)) for place, i in zip("ab", inputs, strict=True)
            ]
        cells.append(f"{kind}={pairs!r}, {kind}_concat=range(2, 6)")
    return f"Genotype({', '.join(cells)})"


@darts.network_key
def key(choices: Mapping[str, Option]) -> str:
    """Write both cells so that their four nodes stand in the order of the smallest text.

    The nodes are concatenated, and a convolution or the head follows: their order changes nothing but the order of its
    weights. An operation `none` has no input.
    """
    found = []
    for kind in CELLS:
        nodes = []
        for node in range(NODES):
            inputs = map(int, str(choices.get(f"{kind}.node{node}.inputs", "0,1")).split(","))
            ops = (str(choices[f"{kind}.node{node}.{place}"]) for place in "ab")
            nodes.append([(i if op != "none" else 0, op) for i, op in zip(inputs, ops, strict=True)])
        texts = []
        for order in permutations(range(NODES)):
            place = {0: 0, 1: 1} | {node + 2: at + 2 for at, node in enumerate(order)}
            if all(place[i] < place[node + 2] for node in range(NODES) for i, _ in nodes[node]):
                texts.append([sorted((place[i], op) for i, op in nodes[node]) for node in order])
        found.append(min(texts))
    return str(found)
