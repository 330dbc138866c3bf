"""A calibration times a chosen sample, survives interruption, and fills the latency of every prediction."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from commands import CELLS, VIT

import nasplat
from nasplat.cli import cli
from nasplat.errors import InputError
from nasplat.inputs import calibrated
from nasplat.probes.conditions import Conditions
from nasplat.workflows import calibrate as calibrating
from nasplat.workflows.calibrate import candidates, spread_out

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture
def families() -> list[nasplat.Space]:
    cells = nasplat.load_space("nasbench201", **CELLS | {"width": [4, 8]})
    return [cells, nasplat.load_space("vit", **VIT)]


def test_chosen_networks_are_distinct_and_lie_apart(families: list[nasplat.Space]) -> None:
    pool = candidates(families, 20, 0)
    assert {c.family for c in pool} == {"nasbench201", "vit"}
    assert len({c.key for c in pool}) == len(pool) == 60
    chosen = spread_out(pool, 20)
    assert len({c.key for c in chosen}) == 20

    def radius(some: list[calibrating.Timeable]) -> float:
        x = np.log1p(np.array([c.seen.executed[0].ravel() for c in pool]))
        x = (x - x.mean(0)) / np.maximum(1e-9, x.std(0))
        rows = [pool.index(c) for c in some]
        return float(np.sqrt(((x[:, None] - x[rows][None]) ** 2).sum(2)).min(1).max())

    assert radius(chosen) < min(radius(pool[i : i + 20]) for i in (0, 20, 40))


def test_interrupted_calibrations_go_on(families: list[nasplat.Space], tmp_path: Path) -> None:
    conditions = Conditions(threads=1)

    def stop(done: int, total: int, words: str) -> None:
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nasplat.calibrate(families, 22, conditions, tmp_path, report=stop)
    file = tmp_path / "timings.csv"
    before = file.read_text(encoding="utf-8")
    assert before.count("\n") == 13
    old = before.replace("\n", "\r\n")  # as earlier versions ended their lines
    file.write_bytes((old + "vit,half a").encode())  # as a killed process leaves it
    seen: list[int] = []
    predictor = nasplat.calibrate(
        families, 22, conditions, tmp_path, report=lambda done, total, words: seen.append(done)
    )
    assert seen == list(range(13, 23))
    with file.open(encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    assert len({r["key"] for r in rows}) == len(rows) == 22
    assert predictor.validation_["networks"] == 22
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics["families"]) == {"nasbench201", "vit"}


def test_predictions_hold_the_latency_of_a_calibrated_device(families: list[nasplat.Space]) -> None:
    name = "nasbench201:|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
    assert calibrated() is None
    assert nasplat.score([name], "trees-nb201")[0].prediction.latency_ms is None
    nasplat.calibrate([families[0].with_presets(width=[8, 16], cells=3, image=32)], 20)
    (row,) = nasplat.score([name], "trees-nb201")
    found = row.prediction
    assert found.latency_ms is not None
    assert 0 < (found.latency_low_ms or 0) < found.latency_ms < (found.latency_high_ms or 0)
    (Conditions().folder / "weights.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="calibration of this device is left out"):
        assert nasplat.score([name], "trees-nb201")[0].prediction.latency_ms is None


def test_few_networks_are_refused() -> None:
    with pytest.raises(InputError, match="at least 20"):
        nasplat.calibrate(n=5)


def test_measure_wants_networks_or_a_calibration() -> None:
    assert CliRunner().invoke(cli, ["measure"]).exit_code == 2
    assert CliRunner().invoke(cli, ["measure", "x", "--calibrate"]).exit_code == 2
