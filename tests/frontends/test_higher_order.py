"""Torch's operators that take functions: the right count, or a bound that says which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.associative_scan import associative_scan
from torch._higher_order_ops.map import map as torch_map
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import nasplat
from nasplat.errors import CaptureError, GraphError
from nasplat.frontends import higher_order


class Run(nn.Module):
    """A function of two layers and an input."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.small, self.large = nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 32), nn.Linear(32, 8))
        self.bias, self.function = nn.Parameter(torch.zeros(4)), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def branch(pred: Callable[[Tensor], Any]) -> Callable[..., Any]:
    return lambda net, x: torch.cond(pred(x), lambda t: net.small(t), lambda t: net.large(t), (x,))


def loop(more: Callable[[Tensor, Tensor], Any]) -> Callable[..., Any]:
    return lambda net, x: while_loop(more, lambda i, y: (i + 1, net.small(y)), (torch.tensor(0), x))[1]


def step(net: Run, carry: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return net.small(carry) + y, net.large(y)


CASES: dict[str, tuple[Callable[..., Any], tuple[int, ...], int, str]] = {
    "branch of the data": (branch(lambda x: x.mean() > 0.3), (2, 8), 2 * 512, "≤"),
    "branch of the data, the other way": (branch(lambda x: x.mean() < 0.3), (2, 8), 2 * 512, "≤"),
    "branch of the shape": (branch(lambda x: torch.tensor(x.shape[0] == 2)), (2, 8), 2 * 64, ""),
    "loop over a number": (loop(lambda i, y: i < 5), (2, 8), 5 * 2 * 64, ""),
    "loop of no turns": (loop(lambda i, y: i < 0), (2, 8), 0, ""),
    "loop over the data": (loop(lambda i, y: y.sum() < 5), (2, 8), 2 * 64, "≈"),
    "scan": (lambda net, x: scan(lambda c, y: step(net, c, y), x[0], x)[1], (3, 2, 8), 3 * 2 * (64 + 512), ""),
    "map": (lambda net, x: torch_map(lambda y: net.large(y), x), (3, 2, 8), 3 * 2 * 512, ""),
    "associative scan": (
        lambda net, x: associative_scan(lambda a, b: a + b, net.small(x), 0, combine_mode="generic"),
        (5, 8),
        5 * 64,
        "",
    ),
    "flex": (lambda net, x: flex_attention(x, x, x), (2, 4, 16, 8), 2 * 4 * 16 * 16 * 2 * 8, ""),
    "flex, fewer keys": (
        lambda net, x: flex_attention(x, x[:, :, :4], x[:, :, :4]),
        (2, 4, 16, 8),
        2 * 4 * 16 * 4 * 2 * 8,
        "",
    ),
    "flex with a mask": (
        lambda net, x: flex_attention(
            x, x, x, block_mask=create_block_mask(lambda b, h, q, k: q >= k, None, None, 128, 128, device="cpu")
        ),
        (1, 2, 128, 8),
        2 * 128 * 128 * 2 * 8,
        "≤",
    ),
    "compiled part": (lambda net, x: torch.compile(net.large, fullgraph=True)(x), (2, 8), 2 * 512, ""),
}


@pytest.mark.parametrize("name", CASES)
def test_what_runs_is_counted_or_bounded(name: str) -> None:
    function, shape, macs, sign = CASES[name]
    graph = nasplat.capture(Run(function), shape)
    assert (graph.macs, graph.cost.bound) == (macs, sign)
    assert bool([n for n in graph.notes if "data decides" in n or "block mask" in n]) == bool(sign)


def test_branches_keep_module_paths_and_the_other_branchs_weights_are_a_bound() -> None:
    graph = nasplat.capture(Run(branch(lambda x: x.mean() > 0)), (2, 8))
    assert [n.path for n in graph.nodes if n.op == "linear"] == ["large.0", "large.1"]
    assert graph.cost.params_bound == "≥"
    with pytest.raises(GraphError, match="the data decides between two branches"):
        nasplat.rebuild(graph, {})


def test_the_network_still_runs_and_compiles_afterwards() -> None:
    net, compiling = Run(branch(lambda x: x.mean() > 0)), torch.compile
    nasplat.capture(net, (2, 8))
    assert torch.compile is compiling
    x = torch.ones(2, 8)
    with torch.no_grad():
        assert torch.equal(net(x), net.small(x))


def test_a_scoring_function_shows_its_weights() -> None:
    net = Run(lambda net, x: flex_attention(x, x, x, score_mod=lambda s, b, h, q, k: s + net.bias[h]))
    graph = nasplat.capture(net, (2, 4, 16, 8))
    assert (graph.params, graph.macs) == (4, 2 * 4 * 16 * 16 * 2 * 8)


def test_long_loops_count_in_part_and_endless_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(higher_order, "MAX_UNROLLED", 40)
    graph = nasplat.capture(Run(lambda net, x: torch_map(lambda y: net.small(y), x)), (300, 8))
    assert graph.cost.bound == "≥"
    assert 0 < graph.macs < 300 * 64
    assert graph.nodes[-1].shape == (300, 8)
    monkeypatch.setattr(higher_order, "MAX_TURNS", 40)
    with pytest.raises(CaptureError, match="to end within 40 turns"):
        nasplat.capture(Run(loop(lambda i, y: i >= 0)), (2, 8))


def test_an_operator_that_nobody_can_look_into_is_named() -> None:
    class Odd(torch._ops.HigherOrderOperator):
        def __init__(self) -> None:
            super().__init__("odd_operator")

        def __call__(self, *args: Any) -> Any:
            return super().__call__(*args)

    odd = Odd()
    with pytest.raises(CaptureError, match=r"module '\(root\)'.*uses torch's higher-order operator 'odd_operator'"):
        nasplat.capture(Run(lambda net, x: odd(x)), (2, 8))
