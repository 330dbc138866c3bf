"""Latency on devices that others timed: two intervals, honest refusals, names, and every shipped device."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
from torch import nn

import nasplat
from nasplat import content
from nasplat.errors import ContentError, PredictorError
from nasplat.features.view import View, view
from nasplat.features.work import executed
from nasplat.graph import Graph
from nasplat.predict.device import DEVICES, DevicePredictor, device_folder
from nasplat.predict.folder import trained_on
from nasplat.predict.registry import load
from nasplat.runs.guide import timed

pytestmark = pytest.mark.fast

CELL = "nasbench201:|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


def milliseconds(graph: Graph, number: int) -> float:
    """A device whose operations cost a call, their work and their traffic, and a little that repeats by number."""
    sums = executed(graph)
    exact = 0.01 * sums[:, 0].sum() + 2e-7 * sums[:, 1].sum() + 3e-6 * sums[:, 4].sum()
    return float(exact * math.exp(0.03 * math.sin(number)))


def is_told(low: float | None, mean: float | None, high: float | None) -> bool:
    """Whether an answer lies inside its interval, above zero."""
    return low is not None and mean is not None and high is not None and 0 < low < mean < high


@pytest.fixture(scope="module")
def networks() -> dict[str, list[Graph]]:
    spaces = {
        "cells": nasplat.load_space("nasbench201", cells=1, width=[4, 8, 16], image=16, channels=1),
        "mobile": nasplat.load_space(
            "ofa_mobilenetv3", base=0.5, resolutions=[16], units=2, depths=[1, 2], stem_stride=1, channels=1
        ),
        "residual": nasplat.load_space("resnet", image=16),
        "plain": nasplat.load_space("convnet", image=16),
    }
    return {name: [s.sample(seed=i).graph() for i in range(14)] for name, s in spaces.items()}


@pytest.fixture(scope="module")
def seen(networks: dict[str, list[Graph]]) -> dict[str, list[View]]:
    return {name: [view(g) for g in graphs] for name, graphs in networks.items()}


def fitted(names: tuple[str, ...], networks: dict[str, list[Graph]], seen: dict[str, list[View]]) -> DevicePredictor:
    rows = [
        (v, milliseconds(g, i), n) for n in names for i, (g, v) in enumerate(zip(networks[n], seen[n], strict=True))
    ]
    views, labels, families = (list(column) for column in zip(*rows, strict=True))
    return DevicePredictor(device="made").fit(views, labels, families)


@pytest.fixture(scope="module")
def four(networks: dict[str, list[Graph]], seen: dict[str, list[View]]) -> DevicePredictor:
    return fitted(tuple(networks), networks, seen)


def test_the_interval_holds_whole_families_left_out_where_there_are_enough(
    four: DevicePredictor, networks: dict[str, list[Graph]], seen: dict[str, list[View]]
) -> None:
    two = fitted(("cells", "mobile"), networks, seen)
    assert four.error_percent.keys() == {"networks", "families"}
    assert two.error_percent.keys() == {"networks"}
    assert 0 < two.error_percent["networks"] < 30
    assert 0 < four.error_percent["networks"] < 30
    assert four.error_percent["families"] > four.error_percent["networks"]
    assert four.validation_["families"] == 4
    for device, error in ((four, four.error_percent["families"]), (two, two.error_percent["networks"])):
        (told,) = device.predict([seen["cells"][3]])
        assert told.low is not None
        assert told.high is not None
        assert told.high / told.low == pytest.approx(math.exp(2 * device.width_))
        assert math.exp(device.width_) > 1 + error / 100  # nine in ten, where the error is that of every other one


def test_networks_unlike_the_timed_ones_are_refused(four: DevicePredictor, seen: dict[str, list[View]]) -> None:
    widths = (3, 4, 200, 4, 200, 4)  # narrow and wide in turn, as no family here is
    convs = [nn.Conv2d(a, b, 1) for a, b in pairwise(widths)]
    stranger = view(nasplat.capture(nn.Sequential(*convs), (1, 3, 16, 16)))
    known, refused = four.predict([seen["cells"][0], stranger])
    assert known.in_support
    assert not refused.in_support
    assert refused.mean is None
    assert "training networks" in refused.reason


def test_operations_and_sizes_that_were_never_timed_are_refused(four: DevicePredictor) -> None:
    attention = nasplat.load_space("vit", size="mini", patch=4, image=16, channels=1).sample(seed=0).graph()
    large = nasplat.capture(nn.Conv2d(3, 512, 3), (1, 3, 224, 224))
    answers = four.predict([attention, large])
    assert [a.mean for a in answers] == [None, None]
    assert "none of which was timed" in answers[0].reason
    assert "MACs, the timed networks" in answers[1].reason


def test_a_device_survives_its_folder(four: DevicePredictor, seen: dict[str, list[View]], tmp_path: Path) -> None:
    four.save(tmp_path)
    again = load(tmp_path)
    assert isinstance(again, DevicePredictor)
    assert again.device == "made"
    assert again.error_percent == four.error_percent
    views = [v for views in seen.values() for v in views]
    assert again.predict(views) == four.predict(views)


def test_shipped_devices_answer_the_families_they_know_and_stay_small() -> None:
    members = {
        "nasbench201": CELL,
        "fbnet": nasplat.load_space("fbnet").sample(seed=3),
        "ofa_mobilenetv3": nasplat.load_space("ofa_mobilenetv3").sample(seed=3),
        "mnasnet": nasplat.load_space("mnasnet").sample(seed=3),
        "yolo5": "yolo:yolo5n",
        "resnet": nasplat.load_space("resnet", size="imagenet", image=224).sample(seed=2),
        "gpt-l": nasplat.load_space("gpt", size="hwgpt-l").sample(seed=0),
    }
    views = {name: view(nasplat.capture(item)) for name, item in members.items()}
    folder = content.folder(DEVICES)
    assert len(nasplat.list_devices()) >= 50
    for name in nasplat.list_devices():
        device = nasplat.load_device(name)
        about = trained_on(folder / name)
        mine = [views[f] for f in about["families"] if f in views]
        assert mine, name
        for told in device.predict(mine):
            assert told.in_support, (name, told.reason)
            assert is_told(told.low, told.mean, told.high)
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in page for name in nasplat.list_devices())
    assert about["command"] in page
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) <= 3e6


def test_score_tells_milliseconds_on_each_device_and_refuses_what_was_not_timed() -> None:
    transformer = nasplat.load_space("vit", size="mini", patch=4, image=16).sample(seed=0)
    rows = nasplat.score([CELL, transformer], "trees-nb201", devices=["pixel2", "eagle-gtx", "pixel2"])
    told = {row.name: {d.device: d for d in row.prediction.devices} for row in rows}
    cell = told[CELL]
    assert list(cell) == ["pixel2", "eagle-gtx"]
    assert all(is_told(d.low_ms, d.latency_ms, d.high_ms) for d in cell.values())
    assert all(d.families_error_percent is None for d in cell.values())  # two families, and one
    assert all(d.error_percent is not None and 0 < d.error_percent < 20 for d in cell.values())
    other = told[str(transformer)]["pixel2"]
    assert other.latency_ms is None
    assert "none of which was timed" in other.reason


def test_unknown_devices_and_folders_of_other_predictors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match=r"no device is named 'pixel22'; known: .*Did you mean 'pixel2'"):
        nasplat.load_device("pixel22")
    with pytest.raises(PredictorError, match=r"expected a predictor of latency in .* got family 'trees'"):
        nasplat.load_device(str(content.folder("predictors") / "trees-nb201"))
    assert device_folder(tmp_path) == tmp_path
    assert device_folder("pixel2") == content.folder(DEVICES) / "pixel2"


def test_a_search_takes_a_device_by_name_and_times_nothing() -> None:
    found = timed(nasplat.load_space("nasbench201"), Path("pixel2"), "onnxruntime", 40, 0)
    assert isinstance(found, DevicePredictor)
    assert found.device == "pixel2"
    assert found.validation_["mape_percent"] < 20
    assert not Path("pixel2").exists()
