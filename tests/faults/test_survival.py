"""Runs survive SIGKILL, Ctrl-C, exceptions and NaN: the same command goes on, nothing is lost or done twice.

The default run kills twice each; `pytest -m slow tests/faults/test_survival.py` kills ten times each.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from clean import Run
from commands import CELLS, TINY, VIT, presets
from safetensors.torch import load_file

import nasplat
from nasplat.study.storage import open_storage
from nasplat.supernet.checkpoint import read_checkpoint

TIMES = [2, pytest.param(10, marks=pytest.mark.slow)]


def search(storage: str, trials: int, tell: Callable[[int], None]) -> None:
    torch.set_num_threads(1)
    space = nasplat.load_space("nasbench201", **CELLS)

    def quality(architecture: nasplat.Architecture) -> float:
        time.sleep(0.02)
        return float(architecture.graph().macs % 9973)

    def report(progress: Any) -> None:
        tell(progress.done)

    sampler = nasplat.PredictorSampler(pool=16, seed=0)
    nasplat.search(
        space, maximize=[quality], minimize=["macs"], n_trials=trials, storage=storage, sampler=sampler, report=report
    )


def train(folder: str, epochs: int, tell: Callable[[int], None]) -> None:
    torch.set_num_threads(1)
    space, task = nasplat.load_space("vit", **VIT), nasplat.load_task("digits-clutter", train=256, decide=64, test=64)
    supernet = nasplat.Supernet(space, task, seed=0)
    supernet.train(epochs=epochs, batch_size=32, checkpoint=folder, report=lambda epoch, total: tell(epoch.epoch))


def finished(storage: str) -> dict[int, tuple[str, tuple[float, ...]]]:
    study = optuna.load_study(study_name="nasplat", storage=open_storage(storage))
    done = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    return {t.number: (t.user_attrs["key"], tuple(t.values)) for t in done}


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
@pytest.mark.parametrize("kills", TIMES)
def test_killed_search_resumes_without_loss(kind: str, kills: int, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/s.db" if kind == "sqlite" else f"{tmp_path}/s.journal"
    rng, before, trials = random.Random(f"{kind} {kills}"), {}, 12 * (kills + 1)
    for kill in range(kills):
        Run(search, storage, trials, hold=12 * (kill + 1)).kill(signs=rng.randint(1, 8))
        now = finished(storage)
        assert before.items() <= now.items()  # nothing finished is lost or changed
        assert len(before) < len(now) < trials
        before = now
    Run(search, storage, trials).finish()
    now = finished(storage)
    assert before.items() <= now.items()
    assert len(now) == trials  # not one more than asked for
    assert len({key for key, _ in now.values()}) == trials  # none done twice


@pytest.mark.parametrize("kills", TIMES)
def test_killed_training_ends_with_the_same_weights(kills: int, tmp_path: Path) -> None:
    epochs = 2 * kills + 2
    for kill in range(kills):
        Run(train, str(tmp_path / "killed"), epochs, hold=2 * (kill + 1)).kill(signs=1)
    Run(train, str(tmp_path / "killed"), epochs).finish()
    wanted = list(range(1, epochs + 1))
    assert Run(train, str(tmp_path / "whole"), epochs).finish() == wanted
    a, b = (load_file(tmp_path / name / "supernet.safetensors") for name in ("killed", "whole"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    for name in ("killed", "whole"):
        metadata, _ = read_checkpoint(tmp_path / name / "supernet.safetensors")
        assert [e["epoch"] for e in json.loads(metadata["history"])] == wanted


def test_interrupted_command_prints_how_to_go_on(tmp_path: Path) -> None:
    words = ["train", "vit", "--out", str(tmp_path / "run"), "--train.epochs=2000", f"--task={TINY}", *presets(VIT)]
    # a shell that starts things in the background makes them deaf to Ctrl-C; this one must hear it
    process = subprocess.Popen(
        [sys.executable, "-m", "nasplat", *words],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "supernet" / "supernet.safetensors").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
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
