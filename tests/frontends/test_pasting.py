"""Blocks stand in for themselves only while a capture runs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import nasplat
from nasplat.errors import CaptureError
from nasplat.frontends import pasting

pytestmark = pytest.mark.fast


@nasplat.block
class _Unit(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.fc(x))


def test_blocks_keep_their_own_forward_after_a_capture_that_raises() -> None:
    net = nn.Sequential(_Unit(4), nn.Linear(5, 2))
    with pytest.raises(CaptureError, match="Check example_input"):
        nasplat.capture(net, (1, 4))
    assert not any("forward" in m.__dict__ for m in net.modules())


def test_a_block_that_was_recorded_before_is_pasted_and_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    nasplat.capture(_Unit(7), (1, 7), program=False)
    runs = []
    own = nn.Linear.forward  # the block's own code is part of what it is remembered by
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: runs.append(1) or own(self, x))
    graph = nasplat.capture(nn.Sequential(_Unit(7), _Unit(7)), (1, 7), program=False)
    assert not runs
    assert [n.op for n in graph.nodes] == ["input", "linear", "relu", "linear", "relu", "output"]
    assert [w.name for w in graph.weights] == ["0.fc.weight", "0.fc.bias", "1.fc.weight", "1.fc.bias"]


def test_the_oldest_segment_goes_where_the_table_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pasting, "SEGMENTS", {})
    monkeypatch.setattr(pasting, "LIMIT", 2)
    for width in (11, 12, 13):
        nasplat.capture(_Unit(width), (1, width), program=False)
    assert [s.nodes[0].shape for s in pasting.SEGMENTS.values()] == [(1, 12), (1, 13)]
