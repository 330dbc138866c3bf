"""Latency of networks that were never timed, from networks that were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

import nasplat
from nasplat.errors import PredictorError
from nasplat.features.work import KINDS, TERMS, executed
from nasplat.graph import Graph
from nasplat.predict.latency import LatencyPredictor
from nasplat.predict.registry import load
from nasplat.tables.metrics import kendall_tau

SMALL = {"image": 16, "channels": 1}


def milliseconds(graph: Graph) -> float:
    """A device whose operations cost a call, their work and their traffic."""
    sums = executed(graph)
    return float(0.01 * sums[:, 0].sum() + 2e-7 * sums[:, 1].sum() + 3e-6 * sums[:, 4].sum())


@pytest.fixture(scope="module")
def cells() -> list[Graph]:
    space = nasplat.load_space("nasbench201", cells=1, width=[4, 8, 16], **SMALL)
    return [space.sample(seed=i).graph() for i in range(60)]


@pytest.fixture(scope="module")
def timed(cells: list[Graph]) -> LatencyPredictor:
    return LatencyPredictor().fit(cells, [milliseconds(g) for g in cells])


@pytest.fixture(scope="module")
def mobile() -> list[Graph]:
    space = nasplat.load_space(
        "ofa_mobilenetv3", base=0.5, resolutions=[16], units=2, depths=[1, 2], stem_stride=1, channels=1
    )
    return [space.sample(seed=i).graph() for i in range(60)]


def test_sums_count_calls_work_and_dead_code() -> None:
    convolution = nasplat.capture(nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.ReLU()), (1, 4, 8, 8))
    sums = executed(convolution)
    row = dict(zip(TERMS, sums[KINDS.index("conv3x3")], strict=True))
    work = 6 * 4 * 9 * 64
    assert row == {
        "calls": 1,
        "work": work,
        "weights": 216,
        "read": 256,
        "written": 384,
        "work / channels_in": work / 4,
        "work / channels_out": work / 6,
    }
    assert sums[KINDS.index("relu")].tolist()[:5] == [1, 0, 0, 384, 384]
    space = nasplat.load_space("nasbench201", cells=1, **SMALL)
    cell = space.parse("|none~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|").graph()
    eager, compiled = (executed(g)[KINDS.index("conv3x3"), 0] for g in (cell, cell.folded))
    assert eager == compiled + 6  # two dead convolutions in each of three cells


def test_another_family_is_predicted_from_its_operations(cells: list[Graph], mobile: list[Graph]) -> None:
    predictor = LatencyPredictor().fit([*cells, *mobile[:30]], [milliseconds(g) for g in (*cells, *mobile[:30])])
    assert not predictor.prunes_  # this device executes what is written down
    wanted = [milliseconds(g) for g in mobile[30:]]
    answers = predictor.predict(mobile[30:])
    found = [p.mean or 0.0 for p in answers]
    assert float(np.mean(np.abs(np.array(found) / wanted - 1))) < 0.05
    assert kendall_tau(found, wanted) > 0.9
    inside = [(p.low or 0) <= ms <= (p.high or 0) for p, ms in zip(answers, wanted, strict=True)]
    assert sum(inside) >= 0.8 * len(inside)
    assert predictor.rank_scores(mobile[30:32]) == pytest.approx([-found[0], -found[1]])


def test_devices_that_prune_dead_code_are_recognised(cells: list[Graph]) -> None:
    predictor = LatencyPredictor().fit(cells, [milliseconds(g.folded) for g in cells])
    assert predictor.prunes_


def test_kinds_never_timed_are_outside(timed: LatencyPredictor) -> None:
    transformer = nasplat.load_space("vit", size="mini", patch=4, head_dim=8, **SMALL).sample(seed=0).graph()
    (found,) = timed.predict([transformer])
    assert not found.in_support
    assert "none of which was timed" in found.reason
    huge = nasplat.load_space("nasbench201", width=128).sample(seed=3).graph()
    assert "MACs, the timed networks" in timed.predict([huge])[0].reason


def test_a_saved_predictor_answers_the_same(timed: LatencyPredictor, cells: list[Graph], tmp_path: Path) -> None:
    timed.save(tmp_path)
    assert load(tmp_path).predict(cells[:5]) == timed.predict(cells[:5])


def test_labels_must_be_positive_and_enough(cells: list[Graph]) -> None:
    with pytest.raises(PredictorError, match="positive latency"):
        LatencyPredictor().fit(cells, [0.0] * len(cells))
    with pytest.raises(PredictorError, match="at least 20"):
        LatencyPredictor().fit(cells[:5], [1.0] * 5)
