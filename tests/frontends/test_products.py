"""Products of every form count what they multiply, with numbers that are worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nasplat

pytestmark = pytest.mark.fast


class Run(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


A, B = (3, 4), (4, 5)
MANY, OTHER = (2, 3, 4), (2, 4, 5)
VECTOR, LONG = (4,), (5,)
HEADS, FEW = (1, 8, 16, 4), (1, 2, 16, 4)
FORMS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...], int]] = {
    "einsum, a chain": (lambda a, b, c: torch.einsum("ij,jk,k->i", a, b, c), (A, B, LONG), 3 * 4 * 5 + 3 * 5),
    "einsum, batches": (lambda a, b: torch.einsum("nij,njk->nik", a, b), (MANY, OTHER), 2 * 3 * 4 * 5),
    "einsum, a trace": (lambda a: torch.einsum("ii->i", a), ((4, 4),), 0),
    # nothing is summed: torch multiplies element by element
    "einsum, an outer product": (lambda a, b: torch.einsum("i,j->ij", a, b), (VECTOR, LONG), 0),
    "baddbmm": (lambda a, b, c: torch.baddbmm(c, a, b), (MANY, OTHER, (2, 3, 5)), 2 * 3 * 4 * 5),
    "addbmm": (lambda a, b, c: torch.addbmm(c, a, b), (MANY, OTHER, (3, 5)), 2 * 3 * 4 * 5),
    "addmm": (lambda a, b, c: torch.addmm(c, a, b), (A, B, (3, 5)), 3 * 4 * 5),
    "addmv": (lambda a, b, c: torch.addmv(c, a, b), (A, VECTOR, (3,)), 3 * 4),
    "addr": (lambda a, b, c: torch.addr(c, a, b), (VECTOR, LONG, (4, 5)), 4 * 5),
    "outer": (torch.outer, (VECTOR, LONG), 4 * 5),
    "ger": (torch.ger, (VECTOR, LONG), 4 * 5),
    "dot": (torch.dot, (VECTOR, VECTOR), 4),
    "vdot": (torch.vdot, (VECTOR, VECTOR), 4),
    "vecdot": (lambda a, b: torch.linalg.vecdot(a, b, dim=0), (A, A), 3 * 4),
    "inner": (torch.inner, (A, (5, 4)), 3 * 5 * 4),
    "mv": (torch.mv, (A, VECTOR), 3 * 4),
    "matmul, broadcast": (torch.matmul, ((7, 1, 3, 4), (2, 4, 5)), 7 * 2 * 3 * 4 * 5),
    "matmul of vectors": (torch.matmul, (VECTOR, VECTOR), 4),
    "kron": (torch.kron, ((2, 2), (3, 3)), 0),
    "tensordot": (lambda a, b: torch.tensordot(a, b, dims=([1], [0])), (A, B), 3 * 4 * 5),
    "chain": (torch.linalg.multi_dot, (), 0),
    "matrix power": (lambda a: torch.linalg.matrix_power(a, 3), ((4, 4),), 2 * 4**3),
    "cdist": (torch.cdist, (A, (6, 4)), 3 * 6 * 4),
    "pdist": (F.pdist, (A,), 3 * 4),
    "bilinear": (F.bilinear, ((2, 3), (2, 4), (5, 3, 4)), 2 * 5 * 3 * 4),
    "covariance": (torch.cov, (A,), 3 * 3 * 4),
    "attention": (F.scaled_dot_product_attention, (HEADS, HEADS, HEADS), 8 * 16 * 16 * 8),
    "grouped queries": (
        lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True),
        (HEADS, FEW),
        8 * 16 * 16 * 8,
    ),
    "turned in place": (lambda a: a.clone().t_() @ a, (A,), 4 * 3 * 4),
    "resized in place": (lambda a: (a * 2).resize_(6, 2) @ torch.ones(2, 5), (A,), 6 * 2 * 5),
    "grown in place": (lambda a: (a * 2).unsqueeze_(0).expand(7, 3, 4) @ torch.ones(4, 5), (A,), 7 * 3 * 4 * 5),
    "given an output": (lambda a, b: torch.mm(a, b, out=torch.empty(3, 5, device=a.device)), (A, B), 3 * 4 * 5),
    "scattered by a mask": (
        lambda a, b: a[:1].masked_scatter(torch.ones(3, 4, dtype=torch.bool), a) @ b,
        (A, B),
        3 * 4 * 5,
    ),
}
FORMS["chain"] = (lambda *m: torch.linalg.multi_dot(m), ((2, 8), (8, 3), (3, 9)), 2 * 8 * 3 + 2 * 3 * 9)


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_products(name: str) -> None:
    function, shapes, macs = FORMS[name]
    graph = nasplat.capture(Run(function), shapes)
    assert (graph.macs, graph.cost.bound, graph.unknown_ops) == (macs, "", ())
    assert graph.nodes[-1].shape == tuple(function(*(torch.ones(s) for s in shapes)).shape)


def test_integer_products_count_as_others_do() -> None:
    a, b = torch.ones(17, 8, dtype=torch.int8), torch.ones(8, 16, dtype=torch.int8)
    assert nasplat.capture(Run(torch._int_mm), (a, b)).macs == 17 * 8 * 16


def test_cells_and_whole_layers_count_their_gates() -> None:
    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.gru, self.plain = nn.LSTMCell(8, 6), nn.GRUCell(6, 6), nn.RNNCell(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.plain(self.gru(self.lstm(x)[0]))

    assert nasplat.capture(Cells(), (2, 8)).macs == 2 * 6 * (4 * (8 + 6) + 3 * 12 + 12)


def test_multi_head_attention_counts_projections_scores_and_sums() -> None:
    class Net(nn.Module):
        def __init__(self, **settings: Any) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True, **settings)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0]

    tokens = 2 * 5
    projections, pairs = 4 * tokens * 16 * 16, 2 * tokens * 5 * 16
    assert nasplat.capture(Net(), (2, 5, 16)).macs == projections + pairs
    narrow = 2 * tokens * 16 * 16 + 2 * tokens * 16 * 16
    assert nasplat.capture(Net(kdim=16, vdim=16), (2, 5, 16)).macs == narrow + pairs
