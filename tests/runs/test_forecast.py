"""What a run will take: arithmetic, what is counted, and that nothing is written."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from commands import CELLS, TINY, presets
from commands import run as asked

import nasplat
from nasplat.errors import SupernetError
from nasplat.runs import forecast, stopwatch
from nasplat.runs.stopwatch import LEAST
from nasplat.runs.timed_work import FewMembers
from nasplat.study import AbstractObjective, OutsideSupport, Trained
from nasplat.supernet import TrainConfig, survey
from nasplat.supernet import supernet as supernet_module
from nasplat.supernet.extremes import RANDOM_ARCHITECTURES
from nasplat.supernet.strategy import STRATEGIES
from nasplat.task.training import Budget

SMALL = [*presets(CELLS), f"--task={TINY}"]
MOBILE = presets({"base": 0.5, "resolutions": [16], "units": 2, "stem_stride": 1, "channels": 1})


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is timed: what is tested does not depend on how long things take."""
    monkeypatch.setattr(stopwatch, "SECONDS", 0.2)


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


@pytest.fixture(scope="module")
def few(space: nasplat.Space, task: nasplat.Task) -> FewMembers:
    return forecast.few_members(space, task, 0, "cpu")


def test_evaluations_are_timed_on_networks_that_answer(few: FewMembers) -> None:
    members = forecast.draws(few.space, {"macs": 400_000}, seed=0)
    assert max(m.graph().macs for m in members) <= 400_000
    part = forecast.evaluations(few, Slow(), members, 100)
    assert LEAST <= part.measured <= len(members) // 2
    assert 0.02 <= part.each < 1.0
    assert part.seconds == 100 * part.each


def test_nothing_to_time_takes_no_time(few: FewMembers) -> None:
    silent = Slow()
    silent.asked = 0
    part = forecast.evaluations(few, silent, forecast.draws(few.space, None, seed=0)[:1], 3)
    assert (part.seconds, part.measured) == (0.0, 0)


def test_longer_trainings_take_longer(few: FewMembers, task: nasplat.Task) -> None:
    members = forecast.draws(few.space, None, seed=0)[:3]
    short, long, pruned = (
        forecast.evaluations(few, Trained(task, Budget(epochs=e)), members, 1, p)
        for e, p in ((1, False), (40, False), (40, True))
    )
    assert long.each > 5 * short.each
    assert pruned.each > short.each


def test_seconds_follow_batch_and_macs() -> None:
    watch = stopwatch.Stopwatch()
    for n in (2, 8):
        for macs in (1e6, 3e6, 9e6):
            watch.rows.append((1.0, n, n * macs))
            watch.seconds.append(0.01 + n * 1e-3 + n * macs * 1e-9)
    asked = [(1.0, 64, 64 * macs) for macs in (2e6, 4e6)]
    found = watch.guess(asked)
    assert found.each == pytest.approx(0.01 + 0.064 + 64 * 3e-3, rel=1e-6)
    assert found.measured == 6
    assert watch.guess(asked, batch=64).error >= stopwatch.BEYOND * found.each


def test_large_batches_count_as_one_of_them_took(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    for name in ("wall", "clock"):
        monkeypatch.setattr(stopwatch, name, lambda: now[0])

    def work(n: int):
        def spend() -> None:
            now[0] += n * (0.002 if n >= 256 else 0.001)

        return spend

    watch = stopwatch.Stopwatch(reached=8)
    for n in (2, 8, 2, 8):
        watch.time((1.0, n, n), work(n))
    assert watch.guess([(1.0, 1024, 1024)], batch=256).each == pytest.approx(1.024)
    watch.reach(256, lambda n: (1.0, n, n), work)
    found = watch.guess([(1.0, 1024, 1024)], batch=256)
    assert (watch.reached, found.each) == (256, pytest.approx(2.048))
    watch.reach(10**6, lambda n: (1.0, n, n), work)
    assert watch.reached < 10**3 + 10


def test_few_timed_pieces_cover_the_range() -> None:
    assert list(stopwatch.spread([1, 2, 3, 4, 5])) == [5, 1, 3, 4, 2]
    assert list(stopwatch.spread([])) == []


def test_large_batches_of_slow_networks_are_not_computed() -> None:
    asked: list[int] = []

    def work(n: int):
        asked.append(n)
        return lambda: stopwatch.seconds_of(lambda: sum(range(n * 500_000)))

    assert stopwatch.batch_sizes(4096, work)[1] < 4096
    assert max(asked) == 8
    assert stopwatch.batch_sizes(3, lambda n: lambda: None) == (2, 3)


def test_a_dry_run_walks_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the space was walked")

    built: list[object] = []
    construct = nasplat.Space.construct
    monkeypatch.setattr(survey, "_survey", refuse)
    monkeypatch.setattr(supernet_module, "build_store", refuse)
    monkeypatch.setattr(
        nasplat.Space, "construct", lambda self, a, **options: built.append(a) or construct(self, a, **options)
    )
    found = run("train", "ofa_mobilenetv3", *MOBILE, "--out", str(tmp_path / "run"), "--dry-run")
    assert [p["name"] for p in found["parts"]] == ["supernet built", "supernet epochs"]
    assert len(set(built)) < RANDOM_ARCHITECTURES / 2


def test_memory_grows_with_the_batch(few: FewMembers) -> None:
    small, large = (forecast.working_bytes(few, n) for n in (16, 64))
    weights = sum(w.nbytes for w in few.store.weights.values())
    assert large - forecast.COPIES * weights == pytest.approx(4 * (small - forecast.COPIES * weights), rel=1e-6)
    assert forecast.together([], peak_bytes=2**50).peak_bytes == 2**50


def test_a_space_that_does_not_fit_the_task_is_refused_before_timing(task: nasplat.Task) -> None:
    with pytest.raises(SupernetError, match="Load the space with presets that fit"):
        forecast.few_members(nasplat.load_space("nasbench201"), task, 0, "cpu")


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_every_strategy_is_forecast(space: nasplat.Space, task: nasplat.Task, strategy: str) -> None:
    fresh = forecast.few_members(space, task, 0, "cpu")
    walk, epochs = forecast.supernet_parts(fresh, TrainConfig(epochs=5, strategy=strategy), 3)
    assert (walk.count, epochs.count) == (1, 3)
    assert epochs.measured >= LEAST
    assert epochs.each > 0
    assert epochs.error >= 0


def test_dry_runs_write_nothing_and_count_what_is_left(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["search", "nasbench201", *SMALL, "--out", str(out), "--guide=none", "--trials=5", "--train.epochs=1"]
    before = run(*words, "--dry-run")
    assert {p["name"]: p["count"] for p in before["parts"]} == {
        "supernet built": 1,
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
        "supernet built": 1,
        "inherited accuracy_percent": 2,
        "proposals": 2,
    }
    assert {f: f.read_bytes() for f in out.rglob("*") if f.is_file()} == files
    trained = run("train", "nasbench201", *SMALL, "--out", str(out), "--train.epochs=4", "--dry-run")
    assert [p["count"] for p in trained["parts"]] == [1, 3]


def test_stages_are_their_pilot_and_the_rest(tmp_path: Path) -> None:
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
