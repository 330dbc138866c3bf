"""NAS-Bench-201: a cell of four nodes, one of five operations on each of six edges (15,625 cells).

Source: Dong & Yang, ICLR 2020, arXiv:2001.00326. The network is the benchmark's: stem, three stages of `cells` cells at
widths `width`, 2 `width`, 4 `width`, a residual block with stride 2 between them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat import Option, Pick, SpaceError, block, cell_expression, space
from nasplat.blocks import ReLUConvNorm, chain

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = tuple((source, target) for target in range(1, 4) for source in range(target))


class Zero(nn.Module):
    """The operation `none`."""

    def forward(self, x: Tensor) -> Tensor:
        """Give zeros of the same shape."""
        return torch.zeros_like(x)


def operation(name: str, width: int) -> nn.Module:
    """Build an operation by its name in `OPS`."""
    if name.startswith("nor_conv"):
        return ReLUConvNorm(width, width, int(name[-1]))
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return nn.Identity() if name == "skip_connect" else Zero()


@block
class Cell(nn.Module):
    """Node t sums an operation on every earlier node; the last node is the output."""

    def __init__(self, ops: Mapping[tuple[int, int], str], width: int) -> None:
        """Build the operations of the six edges."""
        super().__init__()
        self.edges = nn.ModuleDict({f"{s}->{t}": operation(ops[s, t], width) for s, t in EDGES})

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, width, H, W)."""
        nodes = [x]
        for target in range(1, 4):
            total = self.edges[f"0->{target}"](x)
            for source in range(1, target):
                total = total + self.edges[f"{source}->{target}"](nodes[source])
            nodes.append(total)
        return nodes[-1]


@block
class Reduction(nn.Module):
    """Residual block with stride 2 that doubles the width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Build both convolutions and the shortcut, which averages before it projects."""
        super().__init__()
        self.first = ReLUConvNorm(inputs, outputs, 3, 2)
        self.second = ReLUConvNorm(outputs, outputs, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / 2, W / 2)."""
        return self.shortcut(x) + self.second(self.first(x))


@block
class Stem(nn.Sequential):
    """Convolution and batch normalisation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Build a 3x3 convolution that keeps the size."""
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))


@block
class Head(nn.Module):
    """Normalisation, activation, mean over places, classes."""

    def __init__(self, width: int, classes: int) -> None:
        """Build the normalisation and the linear layer."""
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to class scores (B, classes)."""
        return self.fc(F.relu(self.norm(x)).mean((2, 3)))


@space(example_input=lambda width=16, cells=5, classes=10, image=32, channels=3: (1, channels, image, image))
def nasbench201(
    pick: Pick,
    width: int | Sequence[int] = 16,
    cells: int = 5,
    classes: int = 10,
    image: int = 32,
    channels: int = 3,
) -> nn.Module:
    """Build NAS-Bench-201's network from one picked cell.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        width: Channels of the first stage; the benchmark's 16. Several widths, such as (8, 16), are options of one more
            choice,
            as in NATS-Bench's size space.
        cells: Cells in each of three stages; the benchmark's 5.
        classes: Number of classes that the head tells apart; the default is CIFAR-10's.
        image: Side of the square input images in pixels; the default is CIFAR-10's.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    ops = {edge: pick(f"{edge[0]}->{edge[1]}", OPS) for edge in EDGES}
    first: int = width if isinstance(width, int) else pick("width", tuple(width))
    parts: list[tuple[str, nn.Module]] = [("stem", Stem(channels, first))]
    for stage in range(3):
        if stage:
            parts.append((f"reduce{stage}", Reduction(first << (stage - 1), first << stage)))
        parts += [(f"stage{stage}_cell{i}", Cell(ops, first << stage)) for i in range(cells)]
    return chain([*parts, ("head", Head(4 * first, classes))])


@nasbench201.parser
def parse(text: str) -> dict[str, Option]:
    """Read the benchmark's string `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`, and `@width` behind it."""
    cell, _, width = text.strip().partition("@")
    found: dict[str, Option] = {"width": int(width)} if width.isdigit() else {}
    groups = cell.split("+")
    for target, group in enumerate(groups, start=1):
        for name, source in re.findall(r"\|([a-z_0-9]+)~(\d)", group):
            found[f"{source}->{target}"] = name
    if len(groups) != 3 or len(found) - ("width" in found) != 6:
        raise SpaceError(
            f"expected '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|' with ops of {OPS}, got {text[:80]!r}.\n"
            "  Give all six edges."
        )
    return found


@nasbench201.formatter
def format_cell(choices: Mapping[str, Option]) -> str:
    """Write the benchmark's string; a chosen width is appended as `@width`."""
    cell = "+".join("".join(f"|{choices[f'{s}->{t}']}~{s}" for s in range(t)) + "|" for t in range(1, 4))
    return f"{cell}@{choices['width']}" if "width" in choices else cell


@nasbench201.network_key
def expression(choices: Mapping[str, Option]) -> str:
    """Write what the cell computes, equal for cells of one function: 4,930 of 15,625 (see `cell_expression`).

    The benchmark's own count of 6,466 also tells a sum with nothing from the same sum without it, and a sum of sums
    from one sum.
    """
    kinds: dict[Option, str | None] = {"none": None, "skip_connect": ""}
    edges = {(s, t): kinds.get(op := choices[f"{s}->{t}"], str(op)) for s, t in EDGES}
    return cell_expression(edges, 4) + (f"@{choices['width']}" if "width" in choices else "")


@nasbench201.canonicaliser
def canonical(choices: Mapping[str, Option]) -> dict[str, Option]:
    """Set edges to 'none' that compute nothing: out of a node nothing feeds, or into a node nothing reads."""
    ops = dict(choices)
    fed = {0}
    for t in range(1, 4):
        for s in range(t):
            # a zero source makes zeros whatever pools or skips; a convolution of zeros still has its bias-like norm
            # shift
            if s not in fed and ops[f"{s}->{t}"] in {"skip_connect", "avg_pool_3x3"}:
                ops[f"{s}->{t}"] = "none"
        if any(ops[f"{s}->{t}"] != "none" for s in range(t)):
            fed.add(t)
    read = {3}
    for s in (2, 1):
        if any(ops[f"{s}->{t}"] != "none" and t in read for t in range(s + 1, 4)):
            read.add(s)
        else:
            ops |= {f"{a}->{s}": "none" for a in range(s)} | {f"{s}->{t}": "none" for t in range(s + 1, 4)}
    return ops
