"""Totals that are no exact counts carry a sign, in every form a graph has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import nasplat
from nasplat.errors import GraphError
from nasplat.features.view import view
from nasplat.features.views_on_disk import load_views, save_views
from nasplat.graph import Graph
from nasplat.graph.bounds import in_words, reasons, signed
from nasplat.graph.compare import by_module

pytestmark = pytest.mark.fast


class Distinct(nn.Module):
    """A layer on the different values of its input; `odd` adds an operation that nobody knows."""

    def __init__(self, odd: bool = False) -> None:
        super().__init__()
        self.layer, self.odd = nn.Linear(1, 8), odd

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(torch.unique(x)[:, None])
        return torch.special.bessel_j0(y) if self.odd else y


class Routed(nn.Module):
    """One of two layers, as the data decides."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Linear(4, 2), nn.Linear(4, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.small(x) if x.sum() > 0 else self.large(x)


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    return {
        "": nasplat.capture(nn.Linear(4, 2), (1, 4)),
        "≥": nasplat.capture(nn.Sequential(nn.Linear(4, 2), Odd()), (1, 4)),
        "≤": nasplat.capture(Distinct(), (64,)),
        "≈": nasplat.capture(Distinct(odd=True), (64,)),
    }


class Odd(nn.Module):
    """An operation outside the vocabulary."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


@pytest.mark.parametrize("sign", ["", "≥", "≤", "≈"])
def test_sign_stands_wherever_macs_are_shown(graphs: dict[str, Graph], sign: str) -> None:
    graph = graphs[sign]
    assert (graph.cost.bound, graph.cost.is_lower_bound, graph.cost.is_upper_bound) == (sign, sign == "≥", sign == "≤")
    assert f", {signed(str(graph.macs), sign)} MACs" in repr(graph)
    assert (f"<td>{sign} {graph.macs}</td>" in graph._repr_html_()) == (sign == "≤")
    assert any(row.bound == sign for row in by_module(graph))
    assert ("≈" in nasplat.draw(graph)) == bool(sign)
    (prediction,) = nasplat.load_predictor("trees-nb201").predict([graph])
    told = prediction.to_dict()
    assert (told["bound"], told["is_lower_bound"], told["is_upper_bound"]) == (sign, sign == "≥", sign == "≤")
    assert bool(reasons(graph.causes, graph.unknown_ops)) == bool(sign)


def test_an_unknown_operation_with_sizes_leaves_memory_and_parameters_exact(graphs: dict[str, Graph]) -> None:
    assert (graphs["≥"].cost.bytes_bound, graphs["≥"].cost.params_bound) == ("", "")
    assert (graphs["≤"].cost.bytes_bound, graphs["≤"].cost.params_bound) == ("≤", "")


def test_a_guessed_branch_is_no_bound_and_hides_the_other_branchs_weights() -> None:
    cost = nasplat.capture(Routed(), (1, 4)).cost
    assert (cost.bound, cost.params_bound, cost.bytes_bound) == ("≈", "≥", "≈")


def test_causes_survive_every_form_of_a_graph(graphs: dict[str, Graph], tmp_path: Path) -> None:
    graph = graphs["≈"]
    graph.to_npz(tmp_path / "g.npz")
    for other in (
        Graph.from_json(graph.to_json()),
        Graph.from_npz(tmp_path / "g.npz"),
        Graph.from_networkx(graph.to_networkx()),
        graph.bare,
    ):
        assert other.causes == graph.causes == ("largest",)
    save_views(tmp_path / "v.npz", [view(g) for g in graphs.values()])
    assert [v.bound for v in load_views(tmp_path / "v.npz")] == list(graphs)


def test_unknown_causes_are_refused(graphs: dict[str, Graph]) -> None:
    with pytest.raises(GraphError, match="expected causes of bounds among unsized"):
        Graph.from_json(graphs["≤"].to_json().replace('"largest"', '"moon"'))


def test_a_bound_in_a_sentence_is_words() -> None:
    assert [in_words("5", sign) for sign in ("", "≥", "≤", "≈")] == ["5", "at least 5", "at most 5", "about 5"]
