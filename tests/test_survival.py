"""Runs survive SIGKILL, Ctrl-C, exceptions and NaN: the same command goes on, nothing is lost or done twice.

The default run kills twice each; `pytest -m slow tests/test_survival.py` kills ten times each.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import torch
from safetensors.torch import load_file

import nasplat
from nasplat.study import open_storage

TIMES = [2, pytest.param(10, marks=pytest.mark.slow)]
SEARCH = """
import sys, time, torch, nasplat
torch.set_num_threads(1)
space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
def quality(architecture):
    time.sleep(0.02)
    return float(architecture.graph().macs % 9973)
def report(progress):
    print(progress.done, flush=True)
nasplat.search(space, maximize=[quality], minimize=["macs"], n_trials=60, storage=sys.argv[1], seed=0, report=report)
"""
TRAIN = """
import sys, torch, nasplat
torch.set_num_threads(1)
space = nasplat.load_space("vit", size="mini", image=16, patch=4, channels=1, classes=10, head_dim=8)
task = nasplat.load_task("digits-clutter", train=512, decide=64, test=64)
supernet = nasplat.Supernet(space, task, seed=0)
supernet.train(epochs=8, batch_size=32, checkpoint=sys.argv[1], report=lambda e, n: print(e.epoch, flush=True))
"""


def start(code: str, argument: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code, argument], stdout=subprocess.PIPE, text=True, env=environment)


def kill_after_first_line(process: subprocess.Popen[str], seconds: float) -> bool:
    """SIGKILL some time after the process reported progress; False when it ended before."""
    assert process.stdout is not None
    if not process.stdout.readline():
        process.wait()
        return False
    time.sleep(seconds)
    alive = process.poll() is None
    process.kill()
    process.wait()
    return alive


def finished(storage: str) -> dict[int, tuple[str, tuple[float, ...]]]:
    study = optuna.load_study(study_name="nasplat", storage=open_storage(storage))
    done = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    return {t.number: (t.user_attrs["key"], tuple(t.values)) for t in done}


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
@pytest.mark.parametrize("kills", TIMES)
def test_killed_search_resumes_without_loss(kind: str, kills: int, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/s.db" if kind == "sqlite" else f"{tmp_path}/s.journal"
    rng, before, killed = random.Random(f"{kind} {kills}"), {}, 0
    for _ in range(kills):
        killed += kill_after_first_line(start(SEARCH, storage), rng.uniform(0.0, 0.3))
        now = finished(storage)
        assert before.items() <= now.items()  # nothing finished is lost or changed
        before = now
    assert killed >= min(kills, 2)
    last = start(SEARCH, storage)
    assert last.wait(timeout=300) == 0
    now = finished(storage)
    assert before.items() <= now.items()
    assert len(now) == 60  # not one more than asked for
    assert len({key for key, _ in now.values()}) == 60  # none done twice


@pytest.mark.parametrize("kills", TIMES)
def test_killed_training_ends_with_the_same_weights(kills: int, tmp_path: Path) -> None:
    rng, killed = random.Random(kills), 0
    for _ in range(kills):
        killed += kill_after_first_line(start(TRAIN, str(tmp_path / "killed")), rng.uniform(0.0, 0.25))
    assert killed >= 1
    last = start(TRAIN, str(tmp_path / "killed"))
    assert last.wait(timeout=300) == 0
    whole = start(TRAIN, str(tmp_path / "whole"))
    assert whole.stdout is not None
    assert whole.stdout.read().split() == [str(i) for i in range(1, 9)]
    assert whole.wait(timeout=300) == 0
    a, b = (load_file(tmp_path / name / "supernet.safetensors") for name in ("killed", "whole"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    from nasplat.supernet.training import read_checkpoint

    epochs = [int(read_checkpoint(tmp_path / n / "supernet.safetensors")[0]["epochs_done"]) for n in ("killed", "whole")]
    assert epochs == [8, 8]


def test_interrupted_command_prints_how_to_go_on(tmp_path: Path) -> None:
    words = ["train", "vit", "--out", str(tmp_path / "run"), "--train.epochs=500"]
    for preset in ("size=mini", "image=16", "patch=4", "channels=1", "classes=10", "head_dim=8"):
        words += ["--preset", preset]
    process = subprocess.Popen([sys.executable, "-m", "nasplat", *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "supernet" / "supernet.safetensors").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "To go on:\n  nasplat train vit --out" in errors


def test_exception_and_nan_are_recorded_trials(cells: nasplat.Space, tmp_path: Path) -> None:
    calls: list[int] = []

    def moody(architecture: nasplat.Architecture) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory, say")
        return float("nan") if len(calls) == 4 else float(len(calls))

    study = nasplat.search(cells, maximize=[moody], n_trials=8, storage=f"sqlite:///{tmp_path}/s.db", seed=0)
    failed = [t for t in study.trials if t.state == optuna.trial.TrialState.FAIL]
    assert "out of memory, say" in failed[0].user_attrs["traceback"]
    assert "not finite" in failed[1].user_attrs["reason"]
    assert len([t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]) == 6
