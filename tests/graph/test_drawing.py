"""Drawings of graphs: well-formed, folded, differences outlined."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from torch import nn

import nasplat
from nasplat.graph.drawing import Box, draw, open_boxes

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("name", nasplat.list_spaces())
def test_drawing_is_well_formed_and_small(name: str, tmp_path: Path) -> None:
    graph = nasplat.load_space(name).sample(seed=5).graph()
    text = draw(graph, tmp_path / "net.svg")
    root = ET.fromstring(text)
    assert root.tag.endswith("svg")
    assert (tmp_path / "net.svg").read_text(encoding="utf-8") == text
    assert text.count("<rect") <= 1 + 3 * 32


def test_repeated_blocks_are_drawn_once() -> None:
    space = nasplat.load_space("nasbench201")
    text = draw(space.parse("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|").graph())
    assert "stage0_cell0 ×5" in text
    assert "inside stage0_cell0, one of 15 such" in text


def test_differences_are_outlined_and_opened_first() -> None:
    def net(kernel: int) -> nn.Module:
        parts = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()) for _ in range(60)]
        parts[40] = nn.Sequential(nn.Conv2d(4, 4, kernel, padding=kernel // 2), nn.ReLU())
        return nn.Sequential(*parts)

    first, second = (nasplat.capture(net(k), (1, 4, 8, 8)) for k in (3, 5))
    text = nasplat.draw_diff(first, second)
    ET.fromstring(text)
    assert text.count("#c2410c") == 2
    assert "conv 5×5" in text
    assert "before: 1 of 122 operations differ" in text
    assert "#c2410c" not in nasplat.draw_diff(first, first)


def test_500_nodes_fold_to_a_readable_picture() -> None:
    deep = nn.Sequential(
        *[nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(170)]
    )
    graph = nasplat.capture(deep, (1, 4, 8, 8))
    assert graph.num_nodes > 500
    assert draw(graph).count("<rect") < 40


def test_boxes_cover_every_node_once_and_edges_go_forward() -> None:
    graph = nasplat.load_space("ofa_mobilenetv3").sample(seed=1).graph()
    boxes = open_boxes(graph, [Box(tuple(range(len(graph.nodes))), "")], 40)
    assert sorted(i for b in boxes for i in b.nodes) == list(range(len(graph.nodes)))
    owner = {i: n for n, b in enumerate(boxes) for i in b.nodes}
    assert all(owner[s] <= owner[t] for s, _, t, _ in graph.edges)
