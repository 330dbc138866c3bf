"""A captured module is rebuilt from its calls and weights."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from conftest import SMALL
from torch import Tensor, nn

import nasplat
from nasplat.errors import GraphError
from nasplat.graph import Graph

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("name", sorted(SMALL))
def test_architectures_of_every_space_are_rebuilt_for_any_batch(name: str) -> None:
    space = nasplat.load_space(name, **SMALL[name])
    for seed in range(3):
        torch.manual_seed(seed)
        module, shape = space.construct(space.sample(seed=seed))
        module.eval()
        graph = nasplat.capture(module, shape, program=True)
        again = nasplat.rebuild(Graph.from_json(graph.to_json()), module.state_dict())
        assert again.state_dict().keys() <= module.state_dict().keys()
        for batch in (1, 3):
            x = torch.rand(batch, *shape[1:])
            assert torch.equal(again(x), module(x))


class Mixed(nn.Module):
    """Views, in-place writes, constants, several outputs, tied weights, a non-persistent buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.b.weight = self.a.weight
        self.register_buffer("index", torch.tensor([3, 1, 0, 2]), persistent=False)
        self.token = nn.Parameter(torch.rand(1, 1, 8))

    def forward(self, x: Tensor, options: dict[str, Tensor]) -> dict[str, Any]:
        batch = x.shape[0]
        y = torch.cat([self.token.expand(batch, -1, -1), self.a(x)], 1)
        y[:, :1] += torch.arange(8, dtype=x.dtype)
        y = y.reshape(batch * y.shape[1], 8).view(batch, -1, 8)
        z = self.b(y[:, self.index]) + options["bias"]
        return {"all": (z, [y.mean(1)]), "mask": torch.ones(batch, 4) * z.sum(-1), "number": 7}


def test_views_writes_constants_and_nested_outputs() -> None:
    module = Mixed().eval()
    example = (torch.rand(2, 5, 8), {"bias": torch.rand(8)})
    again = nasplat.rebuild(nasplat.capture(module, example), module)
    for batch in (2, 5):
        x, bias = torch.rand(batch, 5, 8), torch.rand(8)
        mine, theirs = again(x, bias), module(x, {"bias": bias})
        assert torch.equal(mine["all"][0], theirs["all"][0])
        assert torch.equal(mine["all"][1][0], theirs["all"][1][0])
        assert torch.equal(mine["mask"], theirs["mask"])
        assert mine["number"] == 7


def test_rebuilt_networks_train_the_weights_they_were_given() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)).eval()
    again = nasplat.rebuild(nasplat.capture(module, (2, 4)), module)
    again(torch.rand(3, 4)).sum().backward()
    assert module[0].weight.grad is not None


def test_a_batch_that_is_fixed_is_said() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.a(x)) if x.shape[0] == 2 else torch.tanh(self.a(x).reshape(-1, 4))

    module = Fixed().eval()
    again = nasplat.rebuild(nasplat.capture(module, (2, 4)), module)
    assert torch.equal(again(torch.ones(2, 4)), module(torch.ones(2, 4)))


def test_a_module_that_changed_since_its_capture_is_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    graph = nasplat.capture(net, (1, 4))
    net[1] = nn.Tanh()
    with pytest.raises(GraphError, match="computes something else than when it was captured"):
        nasplat.rebuild(graph, net)


def test_graphs_without_a_program_and_wrong_weights_are_refused() -> None:
    space = nasplat.load_space("nasbench201", **SMALL["nasbench201"])
    with pytest.raises(GraphError, match="expected a graph that keeps its program"):
        nasplat.rebuild(space.sample(seed=0).graph(), {})
    graph = nasplat.capture(nn.Linear(4, 2), (1, 4))
    with pytest.raises(GraphError, match="weights lack 'bias'"):
        nasplat.rebuild(graph, {"weight": torch.zeros(2, 4)})
    with pytest.raises(GraphError, match=r"expected of shape \(2,\), got \(3,\)"):
        nasplat.rebuild(graph, nn.Linear(4, 3).state_dict())
    bilinear = nn.Bilinear(4, 4, 2)
    with pytest.raises(GraphError, match="expected 2 input tensors, got 1"):
        nasplat.rebuild(nasplat.capture(bilinear, (torch.zeros(1, 4), torch.zeros(1, 4))), bilinear)(torch.zeros(1, 4))


def test_rebuilt_networks_are_in_eval_mode_until_told_to_train() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    again = nasplat.rebuild(nasplat.capture(net, (2, 4)), net)
    x = torch.rand(8, 4)
    assert torch.equal(again(x), net.eval()(x))
    before = net[1].running_mean.clone()
    assert (again.train()(x) == 0).any()
    assert not torch.equal(net[1].running_mean, before)


@pytest.mark.parametrize(
    "name",
    [
        *("import_module.__call__", "load_library.__call__", "loaded_libraries.clear", "aten.from_file.default"),
        *(
            "aten.from_file",
            "aten.relu.__class__",
            "aten.__class__",
            "aten",
            "",
            "aten.no_such",
            "aten.relu.default.name",
        ),
        *("os.system.default", 5),
    ],
)
def test_a_program_from_elsewhere_names_operators_on_tensors_alone(name: object) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    data = json.loads(nasplat.capture(net, (1, 2), program=True).to_json())
    data["program"]["calls"][-1][0] = name
    with pytest.raises(GraphError, match="operator on tensors"):
        nasplat.rebuild(nasplat.Graph.from_json(json.dumps(data)), net)


def test_a_program_from_elsewhere_names_types_alone() -> None:
    class Cast(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.to(torch.float64) + torch.arange(2)

    text = nasplat.capture(Cast(), (1, 2), program=True).to_json()
    assert '["dtype","float64"]' in text
    again = nasplat.rebuild(nasplat.Graph.from_json(text), {})
    assert again(torch.ones(1, 2)).tolist() == [[1.0, 2.0]]
    with pytest.raises(GraphError, match="name of a dtype, got 'load'"):
        nasplat.rebuild(nasplat.Graph.from_json(text.replace('["dtype","float64"]', '["dtype","load"]')), {})(
            torch.ones(1, 2)
        )
