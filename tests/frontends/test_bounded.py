"""Shape rules of our own give what torch's give, and leave to torch what they do not know."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nasplat.frontends.bounded import PLAIN, ruled

pytestmark = pytest.mark.fast

aten = torch.ops.aten


def m(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


CALLS: list[tuple[str, Any, tuple[Any, ...], dict[str, Any]]] = [
    ("linear", aten.linear.default, (m(2, 5, 3), m(4, 3), m(4)), {}),
    ("linear", aten.linear.default, (m(2, 3), m(4, 3)), {}),
    ("linear", aten.linear.default, (m(3), m(4, 3)), {}),
    ("linear", aten.linear.default, (m(5, 2, 3).transpose(0, 1), m(4, 3), m(4)), {}),
    ("linear", aten.linear.default, (m(2, 3, dtype=torch.bfloat16), m(4, 3, dtype=torch.bfloat16)), {}),
    ("addmm", aten.addmm.default, (m(4), m(2, 3), m(3, 4)), {}),
    ("addmm", aten.addmm.default, (m(2, 1), m(2, 3), m(3, 4)), {}),
    ("addmm", aten.addmm.default, (m(4), m(2, 3), m(4, 3).t()), {"beta": 2}),
    ("cat", aten.cat.default, ([m(2, 3, 4), m(2, 5, 4)], 1), {}),
    ("cat", aten.cat.default, ([m(2, 3), m(4, 3)],), {}),
    ("cat", aten.cat.default, ([m(2, 3, 4), m(2, 3, 1)], -1), {}),
    ("cat", aten.cat.default, ([m(2, 3, 4), m(0)], 1), {}),
    ("cat", aten.cat.default, ([m(2, 3), m(2, 3, dtype=torch.int64)], 1), {}),
    ("mean", aten.mean.dim, (m(2, 3, 4, 5), [2, 3]), {}),
    ("mean", aten.mean.dim, (m(2, 3, 4, 5), [-1], True), {}),
    ("mean", aten.mean.dim, (m(2, 3, 4), None), {}),
    ("mean", aten.mean.dim, (m(2, 3, 4, dtype=torch.float16), [1], False), {"dtype": torch.float32}),
    ("mean", aten.mean.default, (m(2, 3),), {}),
    ("adaptive_avg_pool2d", aten.adaptive_avg_pool2d.default, (m(2, 3, 8, 8), [1, 1]), {}),
    ("adaptive_avg_pool2d", aten.adaptive_avg_pool2d.default, (m(2, 3, 8, 6), [4, 2]), {}),
    ("adaptive_avg_pool2d", aten.adaptive_avg_pool2d.default, (m(3, 8, 8), [2, 2]), {}),
    (
        "adaptive_avg_pool2d",
        aten.adaptive_avg_pool2d.default,
        (m(2, 3, 8, 8).to(memory_format=torch.channels_last), [2, 2]),
        {},
    ),
]


@pytest.mark.parametrize(("name", "call", "args", "kwargs"), CALLS, ids=[f"{c[0]}{i}" for i, c in enumerate(CALLS)])
def test_a_rule_gives_shape_strides_and_type_of_torch(
    name: str, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    ours, torchs = ruled(name, call, args, kwargs), call(*args, **kwargs)
    assert (ours.shape, ours.stride(), ours.dtype) == (torchs.shape, torchs.stride(), torchs.dtype)


@pytest.mark.parametrize(
    ("name", "call", "args"),
    [
        ("linear", aten.linear.default, (m(2, 5), m(4, 3))),
        ("linear", aten.linear.default, (m(2, 3), m(4, 3), m(5))),
        ("addmm", aten.addmm.default, (m(5), m(2, 3), m(3, 4))),
        ("cat", aten.cat.default, ([m(2, 3), m(3, 3)], 1)),
        ("mean", aten.mean.dim, (m(2, 3, dtype=torch.int64), [1])),
        ("adaptive_avg_pool2d", aten.adaptive_avg_pool2d.default, (m(3, 8), [2, 2])),
    ],
)
def test_what_does_not_fit_is_refused_by_torch(name: str, call: Any, args: tuple[Any, ...]) -> None:
    assert name in PLAIN
    with pytest.raises((RuntimeError, ValueError)):
        ruled(name, call, args, {})
