from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nasplat
from nasplat.errors import GraphError
from nasplat.graph import Graph, Node

pytestmark = pytest.mark.fast


class Two(nn.Module):
    """Two convolutions in either order of construction and of execution, with or without clutter."""

    def __init__(self, swap: bool = False, shared: bool = False, clutter: bool = False, kernel: int = 3) -> None:
        super().__init__()
        if swap:
            self.b, self.a = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, kernel, padding=kernel // 2)
        else:
            self.a, self.b = nn.Conv2d(4, 4, kernel, padding=kernel // 2), nn.Conv2d(4, 4, 1)
        self.c = self.a if shared else nn.Conv2d(4, 4, kernel, padding=kernel // 2)
        self.swap, self.clutter = swap, clutter

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.swap:
            right, left = self.b(x), self.a(x)
        else:
            left, right = self.a(x), self.b(x)
        if self.clutter:
            torch.relu(self.b(x))  # dead
            left = left + torch.zeros_like(left)
            right = torch.nn.functional.dropout(right, training=False)
        return self.c(right + left if self.swap else left + right)


def key(module: nn.Module) -> str:
    return nasplat.capture(module, (1, 4, 8, 8)).key


def test_key_ignores_construction_order_dead_code_and_zeros() -> None:
    assert key(Two()) == key(Two(swap=True)) == key(Two(clutter=True))


def test_key_sees_kernels_and_shared_weights() -> None:
    assert len({key(Two()), key(Two(shared=True)), key(Two(kernel=5))}) == 3


def test_operand_order_counts_unless_commutative() -> None:
    class Minus(nn.Module):
        def __init__(self, swap: bool) -> None:
            super().__init__()
            self.a, self.swap = nn.Conv2d(4, 4, 3, padding=1), swap

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            return x - y if self.swap else y - x

    assert key(Minus(True)) != key(Minus(False))


def test_doubled_operand_keeps_both_edges() -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(x)
            return y + y

    graph = nasplat.capture(Twice(), (1, 4))
    assert graph.num_edges == 4
    assert graph.operands[2] == ((1, 0), (1, 0))


def test_costs_count_before_folding_and_shared_weights_once() -> None:
    graph = nasplat.capture(Two(clutter=True, shared=True), (1, 4, 8, 8))
    three, one = 4 * 4 * 9 * 64, 4 * 4 * 64
    assert graph.macs == 2 * three + 2 * one
    assert graph.params == (4 * 4 * 9 + 4) + (4 * 4 + 4)


def test_json_and_npz_return_the_same_graph(tmp_path: Path, small_space: nasplat.Space) -> None:
    graph = small_space.sample(seed=0).graph()
    assert Graph.from_json(graph.to_json()) == graph
    graph.to_npz(tmp_path / "g.npz")
    assert Graph.from_npz(tmp_path / "g.npz") == graph
    assert Graph.from_npz(tmp_path / "g.npz").key == graph.key


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nasplat_graph":2}', "not json"])
def test_foreign_json_is_refused(text: str) -> None:
    with pytest.raises(GraphError, match="expected the JSON of a graph"):
        Graph.from_json(text)


def test_another_vocabulary_is_refused() -> None:
    text = nasplat.capture(nn.Linear(2, 2), (1, 2)).to_json().replace('"nasplat_graph":2', '"nasplat_graph":99')
    with pytest.raises(GraphError, match="expected op vocabulary 2, got 99"):
        Graph.from_json(text)


def _node(place: int, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["nodes"][1].__setitem__(place, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_node(0, 5), "node 1 of a graph: expected the name of an operation, got 5"),
        (_node(0, None), "name of an operation"),
        (_node(1, 5), "attributes as pairs"),
        (_node(1, [["kernel", "3"]]), "kernel of whole numbers"),
        (_node(1, [["kernel", [3, 2.0]]]), "kernel of whole numbers"),
        (_node(1, [["groups", "a"]]), "groups as a whole number"),
        (_node(1, [["groups", -1]]), "groups as a whole number"),
        (_node(1, [["odd", {"a": 1}]]), "odd as numbers and texts"),
        (_node(2, []), "one shape per output"),
        (_node(2, [["a"]]), "whole numbers that are not negative"),
        (_node(2, [[1.5, 8]]), "got \\(1.5, 8\\)"),
        (_node(2, [[8.0]]), "a shape of whole numbers"),
        (_node(2, [[True]]), "a shape of whole numbers"),
        (_node(2, [[float("nan")]]), "a shape of whole numbers"),
        (_node(2, [[1, -8]]), "a shape of whole numbers"),
        (_node(2, [[2**63]]), "a shape of whole numbers"),
        (_node(3, "4"), "bytes per element"),
        (_node(4, [0.0]), "rows of the table"),
        (_node(5, 7), "a path"),
        (lambda data: data["weights"][0].__setitem__(0, 1), "weight 0 of a graph: expected a name"),
        (lambda data: data["weights"][0].__setitem__(1, ["a"]), "weight 0 of a graph"),
        (lambda data: data["weights"][0].__setitem__(2, 5), "name of an element type"),
        (lambda data: data.update(nodes=[], edges=[]), "at least one node"),
        (lambda data: data["edges"].append(data["edges"][-1]), "one edge per operand"),
        (lambda data: data["edges"].reverse(), "order of targets"),
        (lambda data: data["edges"].__setitem__(0, [0, 0, 1]), "JSON of a graph"),
        (lambda data: data["edges"].__setitem__(0, [0, 0, 1, 0.0]), "four whole numbers"),
        (lambda data: data["edges"].__setitem__(0, [0, 0, 99, 0]), "earlier to a later"),
        (lambda data: data["edges"].__setitem__(0, [1, 0, 0, 0]), "earlier to a later"),
        (lambda data: data["edges"].__setitem__(0, ["0", 0, 1, 0]), "JSON of a graph"),
        (lambda data: data.update(notes=[5]), "notes of a graph"),
        (lambda data: data.update(rung=5), "rung of a graph"),
        (lambda data: data.update(nasplat_graph=2.0), "expected op vocabulary"),
        (lambda data: data.update(program={"calls": 5}), "JSON of a graph"),
    ],
)
def test_a_part_of_the_wrong_type_is_refused_by_its_place(change: Callable[..., None], message: str) -> None:
    data = json.loads(nasplat.capture(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (1, 3, 8, 8)).to_json())
    change(data)
    with pytest.raises(GraphError, match=message):
        Graph.from_json(json.dumps(data))


def test_json_of_endless_depth_is_refused(tmp_path: Path) -> None:
    deep = '{"nasplat_graph":2,"nodes":' + "[" * 50_000 + "]" * 50_000 + "}"
    with pytest.raises(GraphError, match="RecursionError"):
        Graph.from_json(deep)
    np.savez(tmp_path / "g.npz", edges=np.zeros((0, 4)), columns=np.frombuffer(deep.encode(), np.uint8))
    with pytest.raises(GraphError, match="written by save_npz"):
        Graph.from_npz(tmp_path / "g.npz")


def test_broken_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "g.npz").write_bytes(b"not a zip")
    with pytest.raises(GraphError, match="written by save_npz"):
        Graph.from_npz(tmp_path / "g.npz")


def test_backward_edges_and_unknown_weights_are_refused() -> None:
    nodes = (Node("input", (), ((1,),)), Node("relu", (), ((1,),)))
    with pytest.raises(GraphError, match="execution order"):
        Graph(nodes, ((1, 0, 0, 0),))
    with pytest.raises(GraphError, match="names weight 3"):
        Graph((Node("linear", (), ((1,),), 4, (3,)),), ())


def test_peak_activation_memory_by_hand() -> None:
    # input 16 elements, relu 16, linear 4: at most input and relu, or relu and linear, are alive together
    graph = nasplat.capture(nn.Sequential(nn.ReLU(), nn.Linear(16, 4)), (1, 16))
    assert graph.activation_bytes == 4 * 32


def test_unknown_operation_makes_the_cost_a_lower_bound() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    graph = nasplat.capture(Odd(), (1, 4))
    assert graph.unknown_ops == ("special_bessel_j0",)
    assert graph.cost.is_lower_bound
    assert "≥" in repr(graph)
