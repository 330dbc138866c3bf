"""Modules that make tracers stumble are captured, and what is counted agrees with torch's own counter."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import nasplat
from nasplat.errors import CaptureError
from nasplat.frontends.examples import as_example
from nasplat.frontends.torch_capture import capture_module

pytestmark = pytest.mark.fast

_FILE = Path(__file__).parents[2] / "benchmarks" / "zoo.py"
_SPEC = importlib.util.spec_from_file_location("zoo", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
zoo = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(zoo)
MADE = [("hand", n) for n in sorted(zoo.HAND)] + [("stereo", n) for n in sorted(zoo.STEREO) if n.endswith("64")]
RUNS_ON_META = [
    m for m in MADE if m[1] not in {"branch on data", "loop until halting", "routed experts", "boolean selection"}
]


@pytest.mark.parametrize(("family", "name"), MADE, ids=lambda v: str(v))
def test_every_module_of_the_zoo_is_captured_without_unknown_operations(family: str, name: str) -> None:
    module, example = zoo.make(family, name)
    graph = nasplat.capture(module, example)
    assert not graph.unknown_ops
    assert graph.rung == ("escapes" if name == "packed sequence" else "meta")
    assert [n.op for n in graph.nodes].count("output") >= 1
    names = {w.name for w in graph.weights}
    used = {n for n, _ in module.named_parameters()}
    assert names <= used


@pytest.mark.parametrize(
    ("family", "name"), [m for m in RUNS_ON_META if m[1] not in {"numpy in between", "packed sequence"}], ids=str
)
def test_macs_agree_with_torchs_counter(family: str, name: str) -> None:
    module, example = zoo.make(family, name)
    module.eval()
    given: Any = as_example(example)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(**given) if isinstance(given, dict) else module(*given)
    counted = counter.get_total_flops() // 2
    graph = nasplat.capture(module, example)
    if name == "bilinear":  # the counter leaves it out: 2 samples, 8 × 6 products for each of 4 outputs
        assert (graph.macs, counted) == (2 * 4 * 8 * 6, 0)
    else:
        assert graph.macs == counted


def test_data_decided_sizes_are_bounded_and_said() -> None:
    module, example = zoo.make("hand", "boolean selection")
    graph = nasplat.capture(module, example)
    chosen = next(n for n in graph.nodes if n.op == "select")
    assert chosen.shape == (4 * 14 * 14, 2)
    assert any("has as many elements as the data decides" in n and "zoo.py" in n for n in graph.notes)


def test_integer_inputs_with_values_keep_them() -> None:
    class Mask(nn.Module):
        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            keep = edges[0] != edges[1]
            return x[edges[:, keep][0]]

    edges = torch.tensor([[0, 1, 2, 3], [0, 2, 2, 1]])
    graph = nasplat.capture(Mask(), (torch.empty(4, 8, device="meta"), edges))
    assert graph.nodes[-1].shape == (2, 8)
    assert not graph.notes


def test_branches_on_integer_values_answer_truly() -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor, kind: Tensor) -> Tensor:
            return torch.relu(x) if int(kind.sum()) == 3 else torch.tanh(x)

    graph = nasplat.capture(Branch(), (torch.empty(1, 4, device="meta"), torch.tensor([1, 2])))
    assert "relu" in [n.op for n in graph.nodes]
    assert not graph.notes


def test_nested_and_named_inputs_reach_the_module() -> None:
    class Named(nn.Module):
        def forward(self, *, pair: tuple[Tensor, Tensor], scale: float) -> Tensor:
            return pair[0] @ pair[1] * scale

    graph = nasplat.capture(Named(), {"pair": ((2, 3), (3, 5)), "scale": 2.0})
    assert graph.macs == 30
    assert graph.nodes[-1].shape == (2, 5)


def test_what_a_forward_pass_caches_does_not_stay() -> None:
    class Caches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.rand(4))
            self.cache: dict[str, Tensor] = {}
            self.last: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            if "t" not in self.cache:
                self.cache["t"] = self.table * 2
            self.last = x
            self.fresh = x
            return x + self.cache["t"]

    module = Caches()
    nasplat.capture(module, (1, 4))
    assert module.cache == {}
    assert module.last is None
    assert not hasattr(module, "fresh")
    assert module(torch.zeros(1, 4)).device.type == "cpu"


def test_later_rungs_take_over_and_say_so() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            if x.device.type == "meta":
                raise RuntimeError("needs a device")
            return self.a(x)

    graph = nasplat.capture(Odd(), (2, 4))
    assert graph.rung == "fake"
    assert graph.macs == 32
    assert any(n.startswith("rung 'meta' failed: the network raised RuntimeError") for n in graph.notes)
    module = Odd()
    x = torch.rand(3, 4)
    assert torch.equal(nasplat.rebuild(nasplat.capture(module, (2, 4)), module)(x), module(x))
    assert capture_module(Odd(), (2, 4), rungs=("real",)).macs == 32


@pytest.mark.parametrize("rung", ["meta", "escapes", "decomposed", "fake", "real"])
def test_rungs_agree_on_costs_and_operations(rung: str) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)
    )
    first = capture_module(net, (1, 3, 8, 8))
    graph = capture_module(net, (1, 3, 8, 8), rungs=(rung,))
    assert graph.rung == rung
    assert (graph.macs, graph.params) == (first.macs, first.params)
    kept = ("conv", "batchnorm", "relu6", "adaptivepool", "linear")
    assert [n.op for n in graph.nodes if n.op in kept] == list(kept)


def test_unknown_operation_names_module_and_line() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x)

    graph = nasplat.capture(nn.Sequential(Odd()), (1, 4))
    assert any("special_bessel_j0" in n and "'0'" in n and "test_torch_capture.py" in n for n in graph.notes)


def test_modules_without_an_operation_are_nodes_outside_key_and_predictors_view() -> None:
    net = nn.Sequential(nn.Identity(), nn.Linear(4, 4), nn.Dropout(0.5))
    graph = nasplat.capture(net, (1, 4))
    assert [n.op for n in graph.nodes] == ["input", "identity", "linear", "identity", "output"]
    assert graph.key == nasplat.capture(nn.Linear(4, 4), (1, 4)).key


def test_weight_and_operand_change_places_in_the_key() -> None:
    class Minus(nn.Module):
        def __init__(self, swap: bool) -> None:
            super().__init__()
            self.w, self.swap = nn.Parameter(torch.zeros(4)), swap

        def forward(self, x: Tensor) -> Tensor:
            return self.w - x if self.swap else x - self.w

    assert nasplat.capture(Minus(True), (1, 4)).key != nasplat.capture(Minus(False), (1, 4)).key


def test_weights_keep_their_types_and_bytes() -> None:
    net = nn.Sequential(nn.Linear(4, 4, bias=False).half(), nn.Linear(4, 2, bias=False, dtype=torch.float64))

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net[1](self.net[0](x.half()).double())

    graph = nasplat.capture(Mixed(), (1, 4))
    assert dict(graph.cost.weight_bytes) == {"float16": 32, "float64": 64}
    assert [n.op for n in graph.nodes].count("cast") == 2


def test_in_place_results_take_no_memory_of_their_own() -> None:
    apart = nasplat.capture(nn.Sequential(nn.Linear(8, 100), nn.ReLU()), (1, 8))
    inside = nasplat.capture(nn.Sequential(nn.Linear(8, 100), nn.ReLU(inplace=True)), (1, 8))
    assert apart.activation_bytes == 4 * 200
    assert inside.activation_bytes == 4 * 108
    assert apart.key == inside.key


def test_other_arithmetic_is_counted_apart() -> None:
    cost = nasplat.capture(
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2)), (1, 1, 4, 4)
    ).cost
    assert cost.macs == 2 * 16 * 9
    assert cost.other_flops == 2 * 32 + 32 + 8 * 4


def test_first_rungs_error_is_the_one_told() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("mine")

    with pytest.raises(
        CaptureError, match=r"raised ValueError on input \(1, 4\), in module '', .*test_torch_capture.py:\d+.*mine|mine"
    ):
        nasplat.capture(Broken(), (1, 4))


def test_what_a_network_compiles_inside_is_counted_and_not_compiled() -> None:
    """A compiler that sees a capture would compile the recorder itself, again and again."""
    seen = []

    def backend(graph: object, inputs: object) -> object:
        seen.append(graph)
        return graph

    product = torch.compile(lambda x, w: x @ w, backend=backend)

    class Compiled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), torch.compile(nn.Linear(8, 4), backend=backend)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(product(self.first(x), self.first.weight))

    assert capture_module(Compiled(), (2, 8)).macs == 2 * (64 + 64 + 32)
    assert not seen
