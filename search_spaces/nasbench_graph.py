"""NAS-Bench-Graph: four nodes, each a graph layer of one input; nine ways to link them (59,049 encodings).

Source: Qin et al., NeurIPS 2022 Datasets and Benchmarks, arXiv:2206.09166. Layers are torch-geometric's. Inputs are
node features (B, N, features) and edges (B, 2, E) of int64, source above target: a batch of B graphs of one size; a
data set's one graph is a batch of 1. Answers are class scores (B, classes, N). What nobody reads is concatenated for
the head. `data` takes the sizes of one of the benchmark's nine data sets, where the network's parameters equal the
published ones of all shared rows. Published sizes count two things that no value passes through, which are held here
but are not in the captured graph: a square matrix of each ARMA layer, and the normalisation of a skip (of a width that
cannot fit where raw features are skipped). Every other layer is normalised by batch and ends in ReLU; activation and
dropout are not published. Encodings that differ in the order of alike branches, or in where a skip stands, are one
network here: 27,938; the benchmark's own rule counts 26,206. MACs count messages (see `graph.cost`) and follow `nodes`
and `edges`, which make the example: a ring in which every node reads the nodes before it, without self-loops. They are
the data set's, but for proteins, where they are a hundredth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nasplat import Option, Pick, SpaceError, space

LINKS = ("0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123")
OPS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
FEW = ("gcn", "sage", "arma", "fc", "skip")
"""Operations that the benchmark tried on ogbn-proteins, whose graph is the largest."""


class Sizes(NamedTuple):
    """What a data set decides."""

    features: int
    classes: int
    width: int
    before: bool
    """Whether a linear layer stands before node 0."""
    behind: bool
    """Whether a linear layer of `width` stands before the last one."""
    nodes: int
    edges: int


DATA = {
    "small": Sizes(16, 4, 16, True, False, 64, 256),
    "cora": Sizes(1433, 7, 256, False, True, 2708, 10556),
    "citeseer": Sizes(3703, 6, 256, False, True, 3327, 9104),
    "pubmed": Sizes(500, 3, 128, False, False, 19717, 88648),
    "cs": Sizes(6805, 15, 128, True, False, 18333, 163788),
    "physics": Sizes(8415, 5, 256, True, False, 34493, 495924),
    "photo": Sizes(745, 8, 128, False, False, 7650, 238162),
    "computers": Sizes(767, 10, 64, True, True, 13752, 491722),
    "arxiv": Sizes(128, 40, 128, False, True, 169343, 1166243),
    "proteins": Sizes(8, 112, 256, True, True, 1325, 791225),  # a hundredth of its 132,534 nodes and 79,122,504 edges
}


def sizes(data: str = "small", **presets: int) -> Sizes:
    """Find the sizes that presets ask for; 0 leaves one as the data set has it."""
    if data not in DATA:
        raise SpaceError(f"data is one of {', '.join(DATA)}, got {data!r}.\n  Use one of these, and presets for sizes.")
    return DATA[data]._replace(**{k: v for k, v in presets.items() if v})


def example(**presets: Any) -> tuple[tuple[int, ...], Tensor]:
    """Shape of the features of one graph, and its edges: a ring in which every node reads those before it."""
    made = sizes(**presets)
    if made.nodes < 2:
        raise SpaceError(f"expected graphs of 2 nodes or more, got nodes={made.nodes}.\n  Ask for more.")
    i = torch.arange(made.edges)
    source = i % made.nodes
    target = (source + 1 + i // made.nodes % (made.nodes - 1)) % made.nodes
    return (1, made.nodes, made.features), torch.stack([source, target])[None]


class Layer(nn.Module):
    """An operation on all nodes, its normalisation and ReLU; a skip passes on what it gets."""

    def __init__(self, name: str, inputs: int, width: int) -> None:
        """Build an operation by its name in `OPS`; the normalisation of a skip is held and not used."""
        super().__init__()
        self.is_skip, self.reads_edges = name == "skip", name not in {"fc", "skip"}
        self.op = _operation(name, inputs, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Map features (nodes, inputs) to (nodes, width), a skip to (nodes, inputs)."""
        if self.is_skip:
            return x
        return self.norm(self.op(x, edges) if self.reads_edges else self.op(x)).relu()


def _operation(name: str, inputs: int, width: int) -> nn.Module:
    # loading torch-geometric takes a second, which a list of all spaces need not wait for
    from torch_geometric.nn import ARMAConv, ChebConv, GATConv, GCNConv, GINConv, GraphConv, SAGEConv

    if name == "gat":
        return GATConv(inputs, width // 2, heads=2)
    if name == "gin":
        return GINConv(nn.Linear(inputs, width))
    if name == "cheb":
        return ChebConv(inputs, width, K=2)
    if name in {"fc", "skip"}:
        return nn.Linear(inputs, width) if name == "fc" else nn.Identity()
    return {"gcn": GCNConv, "sage": SAGEConv, "arma": ARMAConv, "graph": GraphConv}[name](inputs, width)


class GraphNet(nn.Module):
    """Four layers that each read one earlier node; the head reads those that nobody reads."""

    def __init__(self, link: str, ops: Sequence[str], size: Sizes) -> None:
        """Build the layers of the nodes, in their order."""
        super().__init__()
        width = size.width
        self.link = [int(digit) for digit in link]
        self.before = nn.Linear(size.features, width) if size.before else nn.Identity()
        widths = [width if size.before else size.features]
        layers = []
        for source, op in zip(self.link, ops, strict=True):
            layers.append(Layer(op, widths[source], width))
            widths.append(widths[source] if op == "skip" else width)
        self.layers = nn.ModuleList(layers)
        self.open = [i for i in range(1, 5) if i not in self.link]
        joined = sum(widths[i] for i in self.open)
        self.behind = nn.Linear(joined, width) if size.behind else nn.Identity()
        self.head = nn.Linear(width if size.behind else joined, size.classes)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Map features (B, N, features) and edges (B, 2, E) to class scores (B, classes, N)."""
        batch, nodes = x.shape[:2]
        offsets = torch.arange(batch, device=x.device)[:, None, None] * nodes
        joined = (edges + offsets).transpose(0, 1).flatten(1)  # the batch is one graph of B parts
        values = [self.before(x.flatten(0, 1))]
        for source, layer in zip(self.link, self.layers, strict=True):
            values.append(layer(values[source], joined))
        out = self.head(self.behind(torch.cat([values[i] for i in self.open], 1)))
        return out.unflatten(0, (batch, nodes)).transpose(1, 2)


@space(example_input=example)
def nasbench_graph(
    pick: Pick,
    data: str = "small",
    features: int = 0,
    classes: int = 0,
    width: int = 0,
    nodes: int = 0,
    edges: int = 0,
) -> nn.Module:
    """Build NAS-Bench-Graph's network from one picked way to link four nodes and their operations.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        data: Data set whose sizes are taken: 'cora', 'citeseer', 'pubmed', 'cs', 'physics', 'photo', 'computers',
            'arxiv', or 'proteins', with five of the nine operations; or 'small', for graphs of dozens of nodes.
        features: Numbers that are known of each node; 0 for the data set's.
        classes: Number of classes that nodes are told apart by; 0 for the data set's.
        width: Features of each layer, an even number; 0 for the data set's.
        nodes: Nodes of the example's graph; the networks take any number. 0 for the data set's.
        edges: Edges of the example's graph; the networks take any number. 0 for the data set's.

    Returns:
        A network from node features (B, N, features) and edges (B, 2, E) to class scores (B, classes, N).
    """
    size = sizes(data, features=features, classes=classes, width=width, nodes=nodes, edges=edges)
    if size.width % 2:
        raise SpaceError(f"width is an even number, as attention has two heads; got {width}.\n  Use {width + 1}.")
    link = pick("link", LINKS)
    ops = [pick(f"node{i}.few" if data == "proteins" else f"node{i}", FEW if data == "proteins" else OPS)
           for i in range(1, 5)]  # fmt: skip
    return GraphNet(link, ops, size)


@nasbench_graph.parser
def parse(text: str, data: str = "small") -> dict[str, Option]:
    """Read the digits of `link`, a colon and four operations: `0112:gat,gcn,skip,fc`."""
    found = re.fullmatch(r"([0-3]{4}):([a-z]+),([a-z]+),([a-z]+),([a-z]+)", text.strip())
    if found is None:
        raise SpaceError(
            f"expected link and operations such as '0112:gat,gcn,skip,fc', got {text[:60]!r}.\n"
            f"  Links are {', '.join(LINKS)}; operations {', '.join(OPS)}."
        )
    link, *ops = found.groups()
    few = ".few" if data == "proteins" else ""
    return {"link": link, **{f"node{i}{few}": op for i, op in enumerate(ops, start=1)}}


@nasbench_graph.formatter
def write(choices: Mapping[str, Option]) -> str:
    """Write the digits of `link`, a colon and the four operations."""
    return f"{choices['link']}:{','.join(_ops(choices))}"


@nasbench_graph.row_reader("link", "ops")
def read_row(row: Mapping[str, str]) -> str:
    """Read the columns `link` and `ops` of the benchmark's table."""
    return f"{row['link']}:{row['ops']}"


@nasbench_graph.network_key
def expression(choices: Mapping[str, Option]) -> str:
    """Write what is computed: branches of a node in alphabetical order, without skips; `out` is what the head reads."""
    link, ops = str(choices["link"]), _ops(choices)

    def branches(node: int) -> list[str]:
        readers = [i for i in range(1, 5) if int(link[i - 1]) == node]
        return sorted(part for i in readers for part in grown(i)) or ["out"]

    def grown(node: int) -> list[str]:
        op = ops[node - 1]
        return branches(node) if op == "skip" else [f"{op}({','.join(branches(node))})"]

    return ",".join(branches(0))


def _ops(choices: Mapping[str, Option]) -> list[str]:
    return [str(choices.get(f"node{i}", choices.get(f"node{i}.few"))) for i in range(1, 5)]
