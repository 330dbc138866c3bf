"""Two graphs side by side, and costs by module."""

from __future__ import annotations

import pytest
from torch import nn

import nasplat
from nasplat.graph.compare import by_module, changes, comparable

pytestmark = pytest.mark.fast


def net(kernel: int = 3, middle: bool = True) -> nn.Module:
    parts = [nn.Conv2d(3, 8, kernel, 2, kernel // 2, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    parts += [nn.Conv2d(8, 8, 3, 1, 1, groups=8)] if middle else []
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def test_changes_name_what_differs_and_nothing_else() -> None:
    first, second = (nasplat.capture(n, (1, 3, 16, 16)) for n in (net(3), net(5)))
    assert changes(first, first) == []
    (found,) = changes(first, second)
    assert found.kind == "changed"
    assert [first.nodes[i].op for i in found.before] == ["conv"]
    (removed,) = (
        c for c in changes(first, nasplat.capture(net(3, middle=False), (1, 3, 16, 16))) if c.kind == "removed"
    )
    assert [first.nodes[i].op for i in removed.before] == ["depthwise"]


def test_costs_by_module_add_up() -> None:
    graph = nasplat.load_space("nasbench201").sample(seed=1).graph()
    rows = by_module(graph)
    assert sum(r.macs for r in rows) == graph.macs
    assert sum(r.params for r in rows) == graph.params
    assert [r.path for r in rows][:2] == ["stem", "stage0_cell0"]
    assert len(by_module(graph, depth=3)) > len(rows)


def test_what_exporters_fold_is_left_out_of_comparisons() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten())
    normal = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Identity(), nn.Flatten())
    a, b = (nasplat.capture(n, (1, 3, 8, 8)) for n in (plain, normal))
    assert a.key != b.key
    assert comparable(a).key == comparable(b).key
