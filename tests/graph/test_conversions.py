"""Graphs through networkx and torch-geometric, and what a graph says of itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import networkx
import pytest
import torch
from torch import nn
from torch_geometric.data import Batch

import nasplat
from nasplat.errors import GraphError
from nasplat.graph import Graph, Node
from nasplat.graph.conversions import X_COLUMNS
from nasplat.graph.ops import OPS

pytestmark = pytest.mark.fast


class Bottleneck(nn.Module):
    """A residual block as torchvision writes it, with a doubled operand and a convolution used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(4)
        self.conv3 = nn.Conv2d(4, 8, 1)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.conv2(self.relu(self.bn2(self.conv2(y))))
        y = self.relu(self.conv3(y + y) + x)
        first, second = y.mean((2, 3)).chunk(2, 1)
        return self.fc(torch.cat([second, first], 1))


def samples() -> list[Graph]:
    spaces = ("nasbench201", "darts", "ofa_mobilenetv3", "vit", "pit", "easnet")
    found = [nasplat.load_space(s).sample(seed=i).graph() for s in spaces for i in range(2)]
    return [*found, nasplat.capture(Bottleneck(), (1, 8, 6, 6)), nasplat.capture(nn.LSTM(3, 5, 2), (7, 1, 3))]


@pytest.fixture(scope="module")
def graphs() -> list[Graph]:
    return samples()


@pytest.mark.parametrize(
    "through",
    [
        lambda g: Graph.from_networkx(g.to_networkx()),
        lambda g: Graph.from_networkx(networkx.MultiDiGraph(g.to_networkx())),
        lambda g: Graph.from_pyg(g.to_pyg()),
        lambda g: Graph.from_pyg(g.to_pyg().clone()),
    ],
    ids=["networkx", "networkx copy", "pyg", "pyg copy"],
)
def test_a_round_trip_gives_an_equal_graph_with_the_same_key(graphs: list[Graph], through) -> None:
    for graph in graphs:
        again = through(graph)
        assert isinstance(again, Graph)
        assert again == graph
        assert again.key == graph.key
        assert again.cost == graph.cost


def test_changed_arrays_come_back_changed() -> None:
    graph = nasplat.capture(Bottleneck(), (1, 8, 6, 6))
    data, changed = graph.to_pyg(), graph.to_networkx()
    place = data.op.index("relu")
    data.op[place] = changed.nodes[place]["op"] = "gelu"
    expected = replace(
        graph, nodes=tuple(replace(n, op="gelu") if i == place else n for i, n in enumerate(graph.nodes)), again=None
    )
    assert Graph.from_pyg(data) == Graph.from_networkx(changed) == expected != graph


def test_columns_of_x_hold_what_their_names_say() -> None:
    graph = nasplat.capture(Bottleneck(), (1, 8, 6, 6))
    data = graph.to_pyg()
    column = dict(zip(X_COLUMNS, data.x.t().tolist(), strict=True))
    assert [OPS[int(i)] for i in column["op"]] == [n.op for n in graph.nodes] == data.op
    assert column["macs"] == list(graph.node_macs)
    grouped = next(i for i, n in enumerate(graph.nodes) if n.get("groups") == 2)
    assert (column["kernel"][grouped], column["groups"][grouped], column["params"][grouped]) == (9, 2, 4 * 2 * 9)
    assert column["operands"] == [len(o) for o in graph.operands]
    assert data.num_nodes == graph.num_nodes
    assert data.validate()


def test_data_stands_in_batches_of_torch_geometric() -> None:
    first, second = (nasplat.load_space("nasbench201").sample(seed=i).graph() for i in range(2))
    batch = Batch.from_data_list([first.to_pyg(), second.to_pyg()])
    assert batch.num_graphs == 2
    assert batch.edge_index.max() == first.num_nodes + second.num_nodes - 1
    assert Graph.from_pyg(batch[1]) == second


def test_foreign_graphs_are_refused() -> None:
    data, net = nasplat.capture(nn.Linear(2, 2), (1, 2)).to_pyg(), networkx.MultiDiGraph([("a", "b")])
    with pytest.raises(GraphError, match=r"attributes that Graph\.to_networkx writes"):
        Graph.from_networkx(net)
    del data.op
    with pytest.raises(GraphError, match=r"attributes that Graph\.to_pyg writes"):
        Graph.from_pyg(data)
    backwards = networkx.MultiDiGraph()
    backwards.add_node(1, op="relu", shapes=((1,),))
    backwards.add_node(0, op="input", shapes=((1,),))
    backwards.add_edge(0, 1, slot=0, operand=0)
    with pytest.raises(GraphError, match="execution order"):
        Graph.from_networkx(backwards)


def test_graphs_are_read_and_printed_without_torch_and_networkx() -> None:
    text = nasplat.capture(nn.Linear(2, 2), (1, 2)).to_json()
    code = (
        "import sys; from nasplat.graph import Graph; g = Graph.from_json(sys.stdin.read()); repr(g); g._repr_html_();"
        "print([m for m in ('torch', 'networkx', 'torch_geometric') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_graph_says_its_size_in_one_line() -> None:
    graph = nasplat.capture(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), (1, 3, 8, 8))
    macs, params = 8 * 36 * 27, 8 * 27 + 8
    assert repr(graph) == (
        f"Graph(4 nodes, 3 edges, {macs / 1e3:.2f} k MACs, {params} parameters, key {graph.key[:12]})"
    )


def test_the_table_of_a_notebook_escapes_names_and_adds_up() -> None:
    nodes = [Node("input", (), ((1, 4),)), Node("other:<script>", (), ((1, 4),))]
    nodes += [Node(op, (), ((1, 4),)) for op in OPS[9:20]]
    graph = Graph(tuple(nodes), tuple((i, 0, i + 1, 0) for i in range(len(nodes) - 1)))
    html = graph._repr_html_()
    assert "<script>" not in html
    assert "other:&lt;script&gt;" in html
    assert "≥ " in html
    cells: list[str] = []
    parser = HTMLParser()
    parser.handle_data = cells.append
    parser.feed(html)
    numbers = cells[cells.index("share") + 2 :: 4]
    assert sum(map(int, numbers)) == len(nodes)
    assert len(html) < 2_000
