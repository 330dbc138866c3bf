"""What is handed over is judged as files: quality, difference from torch, latency; and looked at."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import nasplat
from nasplat.cli import cli
from nasplat.errors import ExportError
from nasplat.probes.onnx_network import OnnxNetwork
from nasplat.workflows import deliver as handover
from nasplat.workflows.deliver import Member, hand_over, latency_agreement, show

Image = pytest.importorskip("PIL.Image")
OPTIONS = {"height": 24, "width": 48, "largest": 12, "train": 8, "decide": 2, "test": 6}


SMALLEST = {"disparity": 12, "height": 24, "width": 48, "scales": [2], "fusions": [1], "blocks": [1]}
pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture(scope="module")
def supernet() -> nasplat.Supernet:
    space = nasplat.load_space("easnet-small", **SMALLEST)
    return nasplat.Supernet(space, nasplat.load_task("stereo-synthetic", **OPTIONS, fresh=False), seed=0)


@pytest.fixture(scope="module")
def delivered(
    supernet: nasplat.Supernet, hasty: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]]]:
    """Folder and rows of three subnets that were handed over, the second of which could not be exported."""
    space, folder = supernet.space, tmp_path_factory.mktemp("delivered")
    members = [
        Member("00", space.extreme(False), 3.0),
        Member("01", space.sample(seed=1), 2.0),
        Member("02", space.extreme(True), 1.0),
    ]

    def export(module: torch.nn.Module, path: Path, *args: Any, **options: Any) -> object:
        if path.name == "01.onnx":
            raise ExportError("the file does not agree")
        return nasplat.export(module, path, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handover, "export", export)
        return folder, hand_over(supernet, members, folder)


def test_files_are_judged_and_one_that_cannot_be_written_is_told(
    supernet: nasplat.Supernet,
    delivered: tuple[Path, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space, (folder, rows) = supernet.space, delivered
    assert [r["name"] for r in rows] == ["00", "02"]
    (failure,) = json.loads((folder / "front" / "failures.json").read_text(encoding="utf-8"))
    assert (failure["name"], failure["failure"]) == ("01", "the file does not agree")
    module = supernet.subnet(space.extreme(False))
    assert rows[0]["test epe_px"] == pytest.approx(supernet.task.evaluate(module, "test"), abs=1e-3)
    assert rows[0]["mean_difference"] < 1e-3
    assert 0 < rows[0]["measured_low_ms"] <= rows[0]["measured_ms"] <= rows[0]["measured_high_ms"]
    with (folder / "front.csv").open(newline="", encoding="utf-8") as file:
        assert [r["params"] for r in csv.DictReader(file)] == [str(r["params"]) for r in rows]
    monkeypatch.setattr(handover, "export", lambda *args, **options: (_ for _ in ()).throw(ExportError("no")))
    with pytest.raises(ExportError, match="no member of the Pareto set could be exported: no"):
        hand_over(supernet, [Member("00", space.extreme(False), 3.0)], tmp_path)


def test_agreement_of_latencies() -> None:
    rows = [{"predicted_ms": p, "measured_ms": m} for p, m in ((1.0, 2.0), (2.0, 4.0), (6.0, 5.0))]
    assert latency_agreement(rows) == {"networks": 3, "tau": 1.0, "mape_percent": pytest.approx((50 + 50 + 20) / 3)}
    assert latency_agreement([*rows[:2], {"predicted_ms": None, "measured_ms": 1.0}]) is None


def test_pictures_are_of_the_file(
    supernet: nasplat.Supernet, delivered: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    path = delivered[0] / "front" / "00.onnx"
    assert show(path, supernet.task, tmp_path / "pictures")
    about = json.loads((tmp_path / "pictures" / "pictures.json").read_text(encoding="utf-8"))
    assert [e["example"] for e in about["examples"]] == [0, 1, 3, 4]
    answer = OnnxNetwork(path)(supernet.task.test.x[:1])
    error = float(supernet.task.metric(answer, supernet.task.test.y[:1]))
    assert f"mean {error:.2f} px" in about["examples"][0]["pictures"][3]["caption"]
    assert Image.open(tmp_path / "pictures" / "0-0.png").size == (48, 24)
    digits = nasplat.load_task("digits-clutter", train=16, decide=8, test=8)
    assert not show(path, digits, tmp_path / "none")


TWO_VIEWS = """
from itertools import pairwise

import nasplat
from torch import nn


@nasplat.space(example_input=(1, 6, 24, 48))
def two_views(pick):
    widths = [6, *(pick(f"width{i}", (3, 4, 6, 8)) for i in range(4)), 1]
    layers = [layer for a, b in pairwise(widths) for layer in (nn.GELU(), nn.Conv2d(a, b, 3, padding=1))]
    return nn.Sequential(*layers[1:], nn.Flatten(1, 2))  # the last values may have any sign, or a pilot may be dead
"""


def test_one_command_from_latency_limit_to_pictures(tmp_path: Path) -> None:
    (tmp_path / "two_views.py").write_text(TWO_VIEWS, encoding="utf-8")
    task = "stereo-synthetic?" + "&".join(f"{k}={v}" for k, v in OPTIONS.items())
    words = ["search", str(tmp_path / "two_views.py"), "--task", task, "--train.epochs=1", "--train.batch_size=4"]
    words += ["--minimize", "latency_ms", "--timed", "20", "--runtime", "eager", "--guide", "fitted", "--pilots", "20"]
    words += ["--trials", "6", "--exports", "2", "--out", str(tmp_path / "run")]
    said = CliRunner().invoke(cli, [*words, "--limit", "latency_ms=500"])
    assert said.exception is None, said.output
    assert "latency predictor, 20 networks timed" in said.output
    assert "quality predictor, 20 pilots" in said.output
    assert "front/00.onnx" in said.output
    run = tmp_path / "run"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 16
    for words_of_page in ("Files of the Pareto set", "Predictors", "error, 0 to 6 px: mean"):
        assert words_of_page in page
    about = json.loads((run / "front.json").read_text(encoding="utf-8"))
    assert about["validation"]["networks"] == 20
    assert set(about["validation"]) >= {"mape_percent", "tau"}
