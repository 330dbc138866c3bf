"""Tensors of other layouts than the usual one, and weights that are no plain parameters, count as they are stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import nasplat
from nasplat.errors import CaptureError

pytestmark = pytest.mark.fast

# 10 nodes, 14 stored entries in 12 different places
PLACES = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 0, 1], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 5, 5, 5, 5]])
GRID = torch.sparse_coo_tensor(PLACES, torch.ones(14), (10, 10)).coalesce()
STORED = 12


class Run(nn.Module):
    """A function of one layer, a sparse buffer and the inputs."""

    def __init__(self, function: Callable[..., Any], grid: Tensor = GRID) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(8, 8), function
        self.register_buffer("grid", grid)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


PRODUCTS: dict[str, tuple[Run, Any, int, str]] = {
    "COO": (Run(lambda net, x: torch.sparse.mm(net.grid, net.layer(x))), (10, 8), 640 + 8 * STORED, "meta"),
    "CSR": (Run(lambda net, x: net.grid @ net.layer(x), GRID.to_sparse_csr()), (10, 8), 640 + 8 * STORED, "meta"),
    "CSC": (Run(lambda net, x: net.grid @ x, GRID.to_sparse_csc()), (10, 8), 8 * STORED, "meta"),
    "blocks": (Run(lambda net, x: net.grid @ x, torch.eye(8).to_sparse_bsr((2, 2))), (8, 8), 16 * 8, "meta"),
    "dense times CSR": (Run(lambda net, x: x @ net.grid, GRID.to_sparse_csr()), (7, 10), 7 * STORED, "meta"),
    "vector": (Run(lambda net, x: net.grid.mv(x)), (10,), STORED, "meta"),
    "product and sum": (Run(lambda net, x: torch.sparse.addmm(x, net.grid, x)), (10, 8), 8 * STORED, "meta"),
    "made of data": (
        Run(lambda net, x: torch.sparse_coo_tensor(PLACES, x[PLACES[0]].sum(1), (10, 10)) @ x),
        (10, 8),
        8 * 14,
        "meta",
    ),
    "input": (Run(lambda net, a, x: torch.sparse.mm(a, net.layer(x))), (GRID, torch.ones(10, 8)), 640 + 96, "meta"),
    "input that is taken apart": (
        Run(
            lambda net, a, x: torch.sparse_coo_tensor(a._indices(), a._values() * 2, (10, 10)) @ x[a._indices()[0][:10]]
        ),
        (GRID, torch.ones(10, 8)),
        8 * STORED,
        "meta",
    ),
    "compressed input that is taken apart": (
        Run(lambda net, a, x: x.repeat_interleave(a.crow_indices().diff(), dim=0).T @ x[a.col_indices()]),
        (GRID.to_sparse_csr(), torch.ones(10, 8)),
        8 * 8 * STORED,
        "meta",
    ),
    "sparse times sparse": (
        Run(lambda net, a: torch.sparse.mm(a, a)),
        (GRID,),
        int((GRID.indices()[1].bincount(minlength=10) * GRID.indices()[0].bincount(minlength=10)).sum()),
        "real",
    ),
    "input that is normed": (
        Run(lambda net, a, x: torch.sparse.mm(a * 2, x / torch.sparse.sum(a, 1).to_dense()[:, None])),
        (GRID, torch.ones(10, 8)),
        8 * STORED,
        "real",
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_sparse_products_count_stored_entries(name: str) -> None:
    net, example, macs, rung = PRODUCTS[name]
    graph = nasplat.capture(net, example)
    assert (graph.macs, graph.cost.bound, graph.rung) == (macs, "", rung)


def test_as_many_entries_as_the_data_decides_are_a_bound() -> None:
    graph = nasplat.capture(Run(lambda net, x: torch.relu(x).to_sparse() @ x), (8, 8))
    assert (graph.macs, graph.cost.bound) == (512, "≤")
    graph = nasplat.capture(Run(lambda net, x: torch.relu(x).to_sparse_csr() @ x), (8, 8))
    assert (graph.rung, graph.cost.bound) == ("real", "≈")


def test_sparse_weights_count_what_they_store() -> None:
    layer = nn.Linear(16, 16, bias=False)
    kept = torch.eye(16)
    layer.weight = nn.Parameter(kept.to_sparse_csr())
    graph = nasplat.capture(layer, (4, 16))
    assert (graph.macs, graph.params, [n.op for n in graph.nodes]) == (64, 16, ["input", "linear", "output"])


def test_jagged_inputs_count_their_own_lengths() -> None:
    jagged = torch.nested.nested_tensor([torch.ones(3, 8), torch.ones(5, 8)], layout=torch.jagged)
    graph = nasplat.capture(Run(lambda net, x: torch.relu(net.layer(x))), (jagged,))
    assert (graph.macs, graph.params, graph.cost.bound) == (8 * 64, 72, "")

    def ragged(net: Run, x: Tensor) -> Tensor:
        rows = torch.nested.as_nested_tensor([x[0, :3], x[1, :5]], layout=torch.jagged)
        return torch.nested.to_padded_tensor(net.layer(rows), 0.0)

    inside = Run(ragged)
    assert nasplat.capture(inside, (2, 6, 8)).macs == 8 * 64
    with pytest.raises(CaptureError, match=r"Tensor \(nested\) has no stand-in.*\n.*layout=torch.jagged"):
        nasplat.capture(inside, (torch.nested.nested_tensor([torch.ones(3, 8), torch.ones(5, 8)]),))


def test_packed_sequences_count_their_own_lengths() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTM(8, 8, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.cell(x)[0]

    packed = pack_padded_sequence(torch.ones(2, 5, 8), torch.tensor([5, 3]), batch_first=True)
    assert nasplat.capture(Net(), (packed,)).macs == (5 + 3) * 2 * 4 * 64


@pytest.mark.filterwarnings("ignore:torch.ao:DeprecationWarning", "ignore::UserWarning")
def test_quantised_layers_show_their_packed_weights() -> None:
    from torch.ao import quantization

    floats = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    graph = nasplat.capture(quantization.quantize_dynamic(floats, {nn.Linear}), (2, 16))
    assert (graph.macs, graph.params, graph.cost.bound) == (1280, 676, "")
    assert dict(graph.cost.weight_bytes) == {"int8": 640, "float32": 144}
    images = nn.Sequential(quantization.QuantStub(), nn.Conv2d(4, 8, 3, groups=2), quantization.DeQuantStub()).eval()
    images.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    prepared = quantization.prepare(images)
    prepared(torch.rand(2, 4, 8, 8))
    graph = nasplat.capture(quantization.convert(prepared), (2, 4, 8, 8))
    assert (graph.macs, graph.params, graph.cost.bound) == (2 * 8 * 36 * 18, 8 * 18 + 8, "")
    recurrent = Run(lambda net, x: net.cell(x)[0])
    recurrent.cell = nn.LSTM(8, 8, 2, bidirectional=True)
    graph = nasplat.capture(quantization.quantize_dynamic(recurrent.eval(), {nn.LSTM}), (5, 2, 8))
    assert graph.macs == nasplat.capture(recurrent, (5, 2, 8)).macs
    assert graph.cost.params_bound == "≥"


def test_lazy_layers_get_their_sizes_from_a_copy() -> None:
    net = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(5))
    graph = nasplat.capture(net, (2, 3, 8, 8))
    assert (graph.macs, graph.params) == (2 * 36 * 8 * 27 + 2 * 288 * 5, 8 * 27 + 8 + 16 + 288 * 5 + 5)
    assert isinstance(net[0], nn.LazyConv2d)
    with pytest.raises(CaptureError, match=r"has Lazy layers .* a copy could not be run .*\n  Run it once on a batch"):
        nasplat.capture(net, (2, 3))


def test_complex_products_count_real_ones() -> None:
    x = torch.ones(4, 8, dtype=torch.complex64)
    assert nasplat.capture(Run(lambda net, x: x @ x.T), (x,)).macs == 4 * (4 * 4 * 8)
    convolution = nn.Conv2d(3, 8, 3, dtype=torch.complex64)
    picture = torch.ones(1, 3, 8, 8, dtype=torch.complex64)
    assert nasplat.capture(convolution, picture).macs == 3 * (8 * 36 * 27)


def test_frozen_scripts_hide_their_weights() -> None:
    script = torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(16, 32), nn.ReLU()).eval()))
    graph = nasplat.capture(script, (2, 16))
    assert (graph.macs, graph.cost.params_bound, graph.cost.bound) == (1024, "≥", "")
