"""NAS-Bench-101: a directed acyclic cell of at most seven vertices and nine edges, repeated nine times (423,624 cells).

Source: Ying et al., ICML 2019, arXiv:1902.09635. The network is the benchmark's: a 3x3 stem, three stacks of `cells`
cells, max-pooling and twice the width between stacks, global mean, linear. Edges into a vertex are summed, edges into
the output are concatenated, edges out of the input pass a 1x1 projection; where widths differ by one, channels are cut
off. Encodings are not networks: vertices that no path visits are cut away, so a draw that is uniform per choice favours
small cells.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import ClassVar

import torch
from torch import Tensor, nn

from nasplat import Option, Pick, SpaceError, block, space
from nasplat.blocks import ConvNormAct, chain

OPS = ("conv3x3", "conv1x1", "maxpool3x3")
VERTICES = 7
EDGES = 9

Edges = frozenset[tuple[int, int]]


def on_a_path(vertices: int, edges: Edges) -> list[int]:
    """Find the vertices that lie between input (0) and output (vertices - 1), both included; [] where none do."""
    forward, backward = {0}, {vertices - 1}
    for v in range(vertices):
        forward |= {t for s, t in edges if s == v and v in forward}
    for v in reversed(range(vertices)):
        backward |= {s for s, t in edges if t == v and v in backward}
    kept = sorted(forward & backward)
    return kept if 0 in kept and vertices - 1 in kept else []


def prune(vertices: int, edges: Edges, ops: Sequence[str]) -> tuple[int, Edges, tuple[str, ...]]:
    """Cut away vertices that no path visits; `ops` are those of the inner vertices."""
    kept = on_a_path(vertices, edges)
    number = {v: i for i, v in enumerate(kept)}
    inside = frozenset((number[s], number[t]) for s, t in edges if s in number and t in number)
    return len(kept), inside, tuple(ops[v - 1] for v in kept[1:-1])


def widths(inputs: int, outputs: int, vertices: int, edges: Edges) -> list[int]:
    """Compute the channels of each vertex: the output's are shared, the others are as wide as their widest reader."""
    found = [0] * vertices
    found[0], found[-1] = inputs, outputs
    last = vertices - 1
    into_output = [v for v in range(1, last) if (v, last) in edges]
    for i, v in enumerate(into_output):
        found[v] = outputs // len(into_output) + (i < outputs % len(into_output))
    for v in range(last - 1, 0, -1):
        if (v, last) not in edges:
            found[v] = max(found[t] for t in range(v + 1, last) if (v, t) in edges)
    return found


def operation(name: str, width: int) -> nn.Module:
    """Build an operation by its name in `OPS`."""
    return nn.MaxPool2d(3, 1, 1) if name == "maxpool3x3" else ConvNormAct(width, width, int(name[-1]))


@block
class Cell(nn.Module):
    """Vertices that sum what they read; what feeds the output is concatenated."""

    # widths follow the edges, and a wider input is truncated to its first channels: a vertex shares them from the first
    # on, whatever else the cell concatenates
    slicing: ClassVar = {"*": "leading"}

    def __init__(
        self, vertices: int, edges: tuple[tuple[int, int], ...], ops: tuple[str, ...], inputs: int, outputs: int
    ) -> None:
        """Build the projections of the input and the operations of the inner vertices."""
        super().__init__()
        self.edges, self.last = edges, vertices - 1
        self.widths = widths(inputs, outputs, vertices, frozenset(edges))
        self.project = nn.ModuleDict(
            {str(t): ConvNormAct(inputs, self.widths[t], 1) for t in range(1, vertices) if (0, t) in edges}
        )
        self.vertex = nn.ModuleDict({str(v): operation(ops[v - 1], self.widths[v]) for v in range(1, self.last)})

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        values: list[Tensor] = [x]
        for v in range(1, self.last):
            total = self.project[str(v)](x) if (0, v) in self.edges else None
            for s in range(1, v):
                if (s, v) in self.edges:
                    part = values[s] if values[s].shape[1] == self.widths[v] else values[s][:, : self.widths[v]]
                    total = part if total is None else total + part
            values.append(self.vertex[str(v)](total))
        into = [values[v] for v in range(1, self.last) if (v, self.last) in self.edges]
        if not into:
            return self.project[str(self.last)](x)
        joined = into[0] if len(into) == 1 else torch.cat(into, 1)
        return joined + self.project[str(self.last)](x) if (0, self.last) in self.edges else joined


class Head(nn.Module):
    """Mean over places, then a linear layer."""

    def __init__(self, width: int, classes: int) -> None:
        """Build the linear layer."""
        super().__init__()
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to class scores (B, classes)."""
        return self.fc(x.mean((2, 3)))


@space(
    example_input=lambda width=128, cells=3, classes=10, image=32, channels=3, vertices=7: (1, channels, image, image)
)
def nasbench101(
    pick: Pick,
    width: int = 128,
    cells: int = 3,
    classes: int = 10,
    image: int = 32,
    channels: int = 3,
    vertices: int = VERTICES,
) -> nn.Module:
    """Build NAS-Bench-101's network from one picked cell.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        width: Channels of the first stack; the benchmark's 128.
        cells: Cells in each of three stacks; the benchmark's 3.
        classes: Number of classes that the head tells apart; the default is CIFAR-10's.
        image: Side of the square input images in pixels; the default is CIFAR-10's.
        channels: Channels of the input images; 3 for colour.
        vertices: Largest number of vertices, input and output included; the benchmark's 7.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    n = pick("vertices", tuple(range(2, vertices + 1)))
    ops = [pick(f"op{v}", OPS) for v in range(1, n - 1)]
    pairs = [(s, t) for s in range(n - 1) for t in range(s + 1, n)]
    edges = frozenset(e for e in pairs if pick(f"{e[0]}->{'out' if e[1] == n - 1 else e[1]}", (False, True)))
    if len(edges) > EDGES:
        pick.reject(f"{len(edges)} edges, at most {EDGES} are allowed")
    kept, inside, names = prune(n, edges, ops)
    if not kept:
        pick.reject("no path leads from the input to the output")
    parts: list[tuple[str, nn.Module]] = [("stem", ConvNormAct(channels, width, 3))]
    inputs = width
    for stack in range(3):
        if stack:
            parts.append((f"pool{stack}", nn.MaxPool2d(2, 2)))
        for i in range(cells):
            parts.append((f"stack{stack}_cell{i}", Cell(kept, tuple(sorted(inside)), names, inputs, width << stack)))
            inputs = width << stack
    return chain([*parts, ("head", Head(inputs, classes))])


def _cell(choices: Mapping[str, Option]) -> tuple[int, Edges, tuple[str, ...]]:
    """Read vertices, edges and operations off the choices."""
    n = int(choices["vertices"])
    pairs = [(s, t) for s in range(n - 1) for t in range(s + 1, n)]
    edges = frozenset(e for e in pairs if choices[f"{e[0]}->{'out' if e[1] == n - 1 else e[1]}"])
    return n, edges, tuple(str(choices[f"op{v}"]) for v in range(1, n - 1))


def _choices(n: int, edges: Edges, ops: Sequence[str]) -> dict[str, Option]:
    """Write vertices, edges and operations as choices."""
    found: dict[str, Option] = {"vertices": n}
    found.update({f"op{v}": ops[v - 1] for v in range(1, n - 1)})
    for s in range(n - 1):
        for t in range(s + 1, n):
            found[f"{s}->{'out' if t == n - 1 else t}"] = (s, t) in edges
    return found


@nasbench101.parser
def parse(text: str) -> dict[str, Option]:
    """Read the upper triangle of the adjacency matrix, a colon, and the operations joined by |."""
    bits, _, names = text.strip().partition(":")
    ops = names.split("|") if names else []
    n = len(ops) + 2
    if not re.fullmatch("[01]+", bits) or len(bits) != n * (n - 1) // 2 or any(o not in OPS for o in ops):
        raise SpaceError(
            f"expected n(n-1)/2 bits, a colon and n-2 ops of {OPS} joined by |, got {text[:80]!r}.\n"
            "  Write for instance '1100011011:conv3x3|maxpool3x3|conv1x1'."
        )
    pairs = [(s, t) for s in range(n) for t in range(s + 1, n)]
    return _choices(n, frozenset(e for e, bit in zip(pairs, bits, strict=True) if bit == "1"), ops)


@nasbench101.formatter
def format_cell(choices: Mapping[str, Option]) -> str:
    """Write the upper triangle of the adjacency matrix, a colon, and the operations joined by |."""
    n, edges, ops = _cell(choices)
    bits = "".join(str(int((s, t) in edges)) for s in range(n) for t in range(s + 1, n))
    return f"{bits}:{'|'.join(ops)}"


@nasbench101.row_reader("adj_upper", "ops")
def from_row(row: Mapping[str, str]) -> str:
    """Read the columns `adj_upper` and `ops` as the encoding that `parse` reads."""
    return f"{row['adj_upper']}:{row['ops']}"


@nasbench101.row_reader("module_adjacency", "module_operations")
def from_api_row(row: Mapping[str, str]) -> str:
    """Read the columns of the benchmark's own interface: a matrix, and names such as `conv3x3-bn-relu`."""
    matrix, names = json.loads(row["module_adjacency"]), json.loads(row["module_operations"])
    n = len(matrix)
    bits = "".join(str(int(bool(matrix[s][t]))) for s in range(n) for t in range(s + 1, n))
    return f"{bits}:{'|'.join(str(name).removesuffix('-bn-relu') for name in names[1:-1])}"


@nasbench101.canonicaliser
def canonical(choices: Mapping[str, Option]) -> dict[str, Option]:
    """Order the inner vertices of the pruned cell so that its encoding is smallest."""
    n, edges, ops = prune(*_cell(choices))
    best: tuple[tuple[int, ...], tuple[str, ...], Edges] | None = None
    for order in permutations(range(1, n - 1)):
        number = {0: 0, n - 1: n - 1} | {v: i + 1 for i, v in enumerate(order)}
        renamed = frozenset((number[s], number[t]) for s, t in edges)
        if any(s > t for s, t in renamed):
            continue
        bits = tuple(int((s, t) in renamed) for s in range(n) for t in range(s + 1, n))
        found = (bits, tuple(ops[v - 1] for v in order), renamed)
        if best is None or found[:2] < best[:2]:
            best = found
    assert best is not None  # the given order is one of them
    return _choices(n, best[2], best[1])


@nasbench101.network_count
def networks() -> int:
    """Give the published number of cells that differ."""
    return 423_624


def module_hash(choices: Mapping[str, Option]) -> str:
    """Compute the benchmark's name of a cell: MD5 over iterated neighbourhoods, equal for isomorphic cells."""
    n, edges, ops = prune(*_cell(choices))
    labels = [-1, *(OPS.index(o) for o in ops), -2]
    out = [sum(s == v for s, _ in edges) for v in range(n)]
    into = [sum(t == v for _, t in edges) for v in range(n)]
    names = [_md5(str((out[v], into[v], labels[v]))) for v in range(n)]
    for _ in range(n):
        names = [
            _md5(
                "".join(sorted(names[s] for s, t in edges if t == v))
                + "|"
                + "".join(sorted(names[t] for s, t in edges if s == v))
                + "|"
                + names[v]
            )
            for v in range(n)
        ]
    return _md5(str(sorted(names)))


def _md5(text: str) -> str:
    """Hash text to 32 hex digits."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
