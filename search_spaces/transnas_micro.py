"""TransNAS-Bench-101, micro space: a cell of four nodes, one of four operations on each of six edges (4,096 cells).

Source: Duan et al., CVPR 2021, arXiv:2105.11871. Skeleton 64-41414: a stem that quarters the image, five modules of two
cells; in modules 1, 3 and 5 the first cell halves the size and doubles the width. The network is that of scene
classification (63 classes); its parameters equal the published ones for all shared rows. Heads of the six other tasks
are not built here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from nasplat import Option, Pick, SpaceError, block, cell_expression, space
from nasplat.blocks import Classifier, ConvNormAct, FactorisedReduction, ReLUConvNorm, chain

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")
EDGES = tuple((source, target) for target in range(1, 4) for source in range(target))


class Zero(nn.Module):
    """The operation `none`: zeros of the size and width that the edge leaves."""

    def __init__(self, outputs: int, stride: int) -> None:
        """Keep the channels out and the stride."""
        super().__init__()
        self.outputs, self.stride = outputs, stride

    def forward(self, x: Tensor) -> Tensor:
        """Give zeros of shape (B, outputs, H / stride, W / stride)."""
        height, width = (-(-s // self.stride) for s in x.shape[2:])
        return x.new_zeros(x.shape[0], self.outputs, height, width)


def operation(name: str, inputs: int, outputs: int, stride: int) -> nn.Module:
    """Build an operation by its name in `OPS`."""
    if name.startswith("nor_conv"):
        return ReLUConvNorm(inputs, outputs, int(name[-1]), stride)
    if name == "none":
        return Zero(outputs, stride)
    return nn.Identity() if stride == 1 and inputs == outputs else FactorisedReduction(inputs, outputs)


@block
class Cell(nn.Module):
    """Node t sums an operation on every earlier node; edges out of node 0 change size and width."""

    def __init__(self, ops: Mapping[tuple[int, int], str], inputs: int, outputs: int, stride: int) -> None:
        """Build the operations of the six edges; those out of node 0 have the stride."""
        super().__init__()
        made = {
            f"{s}->{t}": operation(ops[s, t], outputs if s else inputs, outputs, 1 if s else stride) for s, t in EDGES
        }
        self.edges = nn.ModuleDict(made)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        nodes = [x]
        for target in range(1, 4):
            total = self.edges[f"0->{target}"](x)
            for source in range(1, target):
                total = total + self.edges[f"{source}->{target}"](nodes[source])
            nodes.append(total)
        return nodes[-1]


@space(example_input=lambda image=256, channels=3, **presets: (1, channels, image, image))
def transnas_micro(
    pick: Pick,
    width: int = 64,
    modules: Sequence[int] = (4, 1, 4, 1, 4),
    cells: int = 2,
    stem_stride: int = 2,
    classes: int = 63,
    image: int = 256,
    channels: int = 3,
) -> nn.Module:
    """Build TransNAS-Bench-101's micro network from one picked cell.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        width: Channels behind the stem; the benchmark's 64.
        modules: Kind of each module: 1 keeps size and width, 4 halves the size and doubles the width; the benchmark's.
        cells: Cells in each module; the benchmark's 2.
        stem_stride: Stride of both convolutions of the stem; the benchmark's 2.
        classes: Number of classes that the head tells apart; the default is that of scene classification.
        image: Side of the square input images in pixels; the benchmark's 256.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    ops = {edge: pick(f"{edge[0]}->{edge[1]}", OPS) for edge in EDGES}
    stem = [
        ("first", ConvNormAct(channels, width // 2, 3, stem_stride)),
        ("second", ConvNormAct(width // 2, width, 3, stem_stride, activation=None)),
    ]
    parts: list[tuple[str, nn.Module]] = [("stem", chain(stem))]
    last = width
    for i, kind in enumerate(modules):
        outputs, stride = (last * 2, 2) if kind == 4 else (last, 1)
        for j in range(cells):
            parts.append((f"module{i}_cell{j}", Cell(ops, last, outputs, stride)))
            last, stride = outputs, 1
    return chain([*parts, ("head", Classifier(last, classes))])


@transnas_micro.parser
def parse(text: str) -> dict[str, Option]:
    """Read `64-41414-a_bc_def`: operations into nodes 1, 2 and 3, as digits 0 to 3."""
    match = re.fullmatch(r"(?:64-41414-)?([0-3])_([0-3]{2})_([0-3]{3})", text.strip())
    if match is None:
        raise SpaceError(
            f"expected 64-41414-a_bc_def with digits from 0 to 3, got {text[:80]!r}.\n"
            "  Write for instance '64-41414-1_23_231'."
        )
    return {f"{s}->{t}": OPS[int(match[t][s])] for s, t in EDGES}


@transnas_micro.formatter
def format_cell(choices: Mapping[str, Option]) -> str:
    """Write `64-41414-` and the operations into nodes 1, 2 and 3, as digits."""
    into = ("".join(str(OPS.index(str(choices[f"{s}->{t}"]))) for s in range(t)) for t in range(1, 4))
    return "64-41414-" + "_".join(into)


@transnas_micro.network_key
def expression(choices: Mapping[str, Option]) -> str:
    """Write what the cell computes, equal for cells of one function: 1,229 of 4,096 (see `cell_expression`).

    A skip is its source, but for one out of the input: in cells that halve the size it is a convolution.
    """
    ops = {(s, t): str(choices[f"{s}->{t}"]) for s, t in EDGES}
    inner = {edge: "" if op == "skip_connect" and edge[0] else op for edge, op in ops.items()}
    return cell_expression({edge: None if op == "none" else op for edge, op in inner.items()}, 4)
