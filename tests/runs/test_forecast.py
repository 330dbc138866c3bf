"""What a run will take: arithmetic, what is counted, and that nothing is written."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from commands import CELLS, TINY, presets
from commands import run as asked

import nasplat
from nasplat.runs import forecast
from nasplat.study import AbstractObjective, OutsideSupport, Trained
from nasplat.supernet import TrainConfig
from nasplat.task.training import Budget

SMALL = [*presets(CELLS), f"--task={TINY}"]


@pytest.fixture(scope="module")
def space() -> nasplat.Space:
    return nasplat.load_space("nasbench201", **CELLS)


@pytest.fixture(scope="module")
def task() -> nasplat.Task:
    return nasplat.load_task("digits-clutter", train=256, decide=64, test=64)


class Slow(AbstractObjective):
    """Sleeps, and answers every second network."""

    name = "slow"

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, architecture: nasplat.Architecture) -> float:
        self.asked += 1
        if self.asked % 2:
            raise OutsideSupport("odd")
        time.sleep(0.02)
        return 1.0


def run(*words: str) -> dict:
    return json.loads(asked(*words, "--json"))


def test_parts_add_up_and_workers_share_all_but_the_supernet() -> None:
    parts = [forecast.Part("supernet epochs", 10, 2.0, 0.1, 5), forecast.Part("inherited", 40, 0.5, 0.05, 9)]
    parts.append(forecast.Part("nothing", 0, 9.0, 9.0, 9))
    alone, shared = forecast.together(parts), forecast.together(parts, workers=4)
    assert alone.seconds == 40.0
    assert shared.seconds == 25.0
    assert alone.interval == pytest.approx((34.0, 46.0))
    assert [p.name for p in alone.parts] == ["supernet epochs", "inherited"]
    assert alone.peak_bytes is None or alone.peak_bytes > 2**26


def test_evaluations_are_timed_on_networks_that_answer(space: nasplat.Space) -> None:
    members = forecast.draws(space, {"macs": 400_000}, seed=0)
    assert max(m.graph().macs for m in members) == members[0].graph().macs <= 400_000
    part = forecast.evaluations(Slow(), members, 100)
    assert part.measured == len(members) // 2
    assert 0.02 <= part.each < 1.0
    assert part.seconds == 100 * part.each


def test_longer_trainings_take_longer(space: nasplat.Space, task: nasplat.Task) -> None:
    members = forecast.draws(space, None, seed=0)[:3]
    short, long, pruned = (
        forecast.evaluations(Trained(task, Budget(epochs=e)), members, 1, p)
        for e, p in ((1, False), (40, False), (40, True))
    )
    assert long.each > 5 * short.each
    assert pruned.each > short.each


def test_a_supernet_keeps_its_task(space: nasplat.Space, task: nasplat.Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "SECONDS", 0.5)
    supernet = nasplat.Supernet(space, task)
    part = forecast.supernet_epochs(supernet, TrainConfig(epochs=5), 3)
    assert supernet.task.name == task.name
    assert len(supernet.task.train) == 256
    assert (part.count, part.measured > 2, part.each > 0) == (3, True, True)


def test_dry_runs_write_nothing_and_count_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "SECONDS", 0.5)
    out = tmp_path / "run"
    words = ["search", "nasbench201", *SMALL, "--out", str(out), "--guide=none", "--trials=5", "--train.epochs=1"]
    before = run(*words, "--dry-run")
    assert {p["name"]: p["count"] for p in before["parts"]} == {
        "supernet epochs": 1,
        "inherited accuracy_percent": 5,
        "proposals": 5,
    }
    assert before["low"] <= before["seconds"] <= before["high"]
    assert not out.exists()
    run(*words)
    files = {f: f.read_bytes() for f in out.rglob("*") if f.is_file()}
    more = [w.replace("--trials=5", "--trials=7") for w in words]
    assert {p["name"]: p["count"] for p in run(*more, "--dry-run")["parts"]} == {
        "inherited accuracy_percent": 2,
        "proposals": 2,
    }
    assert {f: f.read_bytes() for f in out.rglob("*") if f.is_file()} == files
    assert (
        run("train", "nasbench201", *SMALL, "--out", str(out), "--train.epochs=4", "--dry-run")["parts"][0]["count"]
        == 3
    )


def test_stages_are_their_pilot_and_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "SECONDS", 0.5)
    words = [
        "search",
        "nasbench201",
        *SMALL,
        "--out",
        str(tmp_path / "run"),
        "--stages=trained:1,trained:2",
        "--budget=500",
    ]
    found = run(*words, "--dry-run")
    names = [p["name"] for p in found["parts"]]
    assert names == ["trained accuracy_percent, 1 epoch", "trained accuracy_percent, 2 epochs", "the rest of --budget"]
    assert found["seconds"] == pytest.approx(500)
