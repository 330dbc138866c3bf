"""Labels: what is trained, what is written, what happens when trainings fail or processes die."""

from __future__ import annotations

import math
import os
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
from commands import VIT, presets
from optuna.trial import TrialState
from torch import nn

import nasplat
from nasplat.errors import SearchError, SpaceError, TableError
from nasplat.study.storage import open_storage
from nasplat.task.training import Budget
from nasplat.workflows.label import read_labels

ONE = Budget(epochs=1, batch_size=64)


@nasplat.space(example_input=(1, 1, 16, 16))
def lines(pick: nasplat.Pick) -> nn.Module:
    """Linear networks of six widths; width 13 does not build."""
    width = pick("width", (2, 4, 8, 13, 16, 32))
    layers = nn.Sequential(nn.Flatten(), nn.Linear(256, width), nn.ReLU(), nn.Linear(width, 10))
    if width == 13:
        raise RuntimeError("thirteen")
    return layers


@pytest.fixture
def tiny() -> nasplat.Task:
    return nasplat.load_task("digits-clutter", train=128, decide=64, test=64)


def rows(table: nasplat.Table) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in table.rows]


def test_table_has_metrics_curve_seeds_and_reads_back(vit: nasplat.Space, tiny: nasplat.Task, tmp_path: Path) -> None:
    table = nasplat.label(vit, tiny, n=4, budget=Budget(epochs=2), seeds=2, repeat=0.5)
    assert [row["seed"] for row in table.rows] == ["0", "1", "0", "1", "0", "0"]
    assert table.metric == "accuracy_percent"
    assert all(row["accuracy_percent"] == row["accuracy_percent_ep2"] != "" for row in table.rows)
    assert all(float(row["accuracy_percent_test"]) > 0 and float(row["seconds"]) > 0 for row in table.rows)
    assert len(set(table.architectures)) == 4
    assert table.ceiling()[1] == 2
    assert len(table.averaged()) == 4
    assert table.duplicates() == [[0, 1], [2, 3]]
    table.save(tmp_path / "t.csv.gz")
    again = nasplat.load_table(tmp_path / "t.csv.gz", space=vit, metric=table.metric)
    assert again.labels == table.labels
    assert again.architectures == table.architectures
    assert again.averaged().labels[0] == pytest.approx((table.labels[0] + table.labels[1]) / 2, rel=1e-5)


def test_a_longer_list_begins_with_a_shorter_one_and_adds_to_it(
    vit: nasplat.Space, tiny: nasplat.Task, tmp_path: Path
) -> None:
    storage = str(tmp_path / "l.journal")
    seen: list[int] = []
    first = nasplat.label(vit, tiny, 2, ONE, storage=storage)
    second = nasplat.label(vit, tiny, 3, ONE, storage=storage, report=lambda p: seen.append(p.done))
    assert rows(second)[:2] == rows(first)
    assert seen == [3]
    small = nasplat.label(vit, tiny, 2, ONE, limits={"macs": 300_000})
    assert all(int(row["macs"]) <= 300_000 for row in small.rows)


def test_given_architectures_are_labelled_in_their_order(cells: nasplat.Space, tiny: nasplat.Task) -> None:
    texts = [cells.format(cells.sample(seed=i)) for i in (3, 1, 2)]
    table = nasplat.label(cells, tiny, 3, ONE, architectures=[*texts, texts[0]])
    assert [cells.format(a) for a in table.architectures] == texts
    with pytest.raises(SpaceError, match="the list holds 3 distinct ones"):
        nasplat.label(cells, tiny, 4, ONE, architectures=texts)


def test_failures_are_rows_with_their_reason(tiny: nasplat.Task, tmp_path: Path) -> None:
    members = [lines.architecture({"width": w}) for w in (2, 4)]
    thirteen = nasplat.label(lines, tiny, 6, ONE)
    assert [row["failure"] for row in thirteen.rows if row["failure"]] == ["RuntimeError: thirteen"]
    broken = Budget(epochs=3, lr=1e30)
    table = nasplat.label(lines, tiny, 2, broken, architectures=members, storage=str(tmp_path / "l.journal"))
    assert all("the loss became" in row["failure"] for row in table.rows)
    assert all(math.isnan(v) for v in table.labels)
    study = optuna.load_study(study_name="label", storage=open_storage(str(tmp_path / "l.journal")))
    assert [t.state for t in study.trials] == [TrialState.FAIL] * 2  # not tried again
    nasplat.label(lines, tiny, 2, broken, architectures=members, storage=str(tmp_path / "l.journal"))
    assert len(study.trials) == 2
    table.save(tmp_path / "t.csv")
    with pytest.raises(TableError, match="expected finite labels in 'accuracy_percent', got none in 2 rows"):
        nasplat.load_table(tmp_path / "t.csv", metric="accuracy_percent")


def test_a_space_without_enough_networks_says_so(tiny: nasplat.Task) -> None:
    with pytest.raises(SpaceError, match=r"expected 7 distinct networks of .*, found 6"):
        nasplat.label(lines, tiny, 7, ONE)


def test_another_task_or_budget_in_the_same_storage_is_refused(
    vit: nasplat.Space, tiny: nasplat.Task, tmp_path: Path
) -> None:
    storage = str(tmp_path / "l.journal")
    nasplat.label(vit, tiny, 1, ONE, storage=storage)
    with pytest.raises(SearchError, match="has budget 'epochs=1"):
        nasplat.label(vit, tiny, 1, Budget(epochs=2), storage=storage)
    with pytest.raises(SearchError, match="2 workers expected a task's name"):
        nasplat.label(vit, tiny, 1, ONE, storage=storage, workers=2)
    with pytest.raises(SearchError, match="repeat from 0 to 1"):
        nasplat.label(vit, tiny, 1, ONE, repeat=2.0)
    with pytest.raises(SearchError, match=r"got 'worker'.*\n.*the nearest is workers"):
        nasplat.label(vit, tiny, 1, ONE, worker=2)


def test_the_lowest_of_two_rivals_keeps_a_job(vit: nasplat.Space, tiny: nasplat.Task, tmp_path: Path) -> None:
    """Two workers that enqueued one job at the same moment: one trial is trained, the other pruned."""
    storage = str(tmp_path / "l.journal")
    nasplat.label(vit, tiny, 1, ONE, storage=storage)
    study = optuna.load_study(study_name="label", storage=open_storage(storage))
    job = study.trials[0].user_attrs["job"]
    study.enqueue_trial(study.trials[0].params, user_attrs={"job": job, "training_seed": 0, "worker": "elsewhere:1"})
    table = nasplat.label(vit, tiny, 2, ONE, storage=storage)
    states = [t.state for t in study.trials]
    assert states.count(TrialState.COMPLETE) == 2 == len(table)
    assert states.count(TrialState.PRUNED) == 1


def by_command(out: Path) -> subprocess.Popen[bytes]:
    """`nasplat label` with two workers."""
    command = [sys.executable, "-m", "nasplat", "label", "vit", "-n", "5", "--seeds", "2", "--repeat", "0.4"]
    command += [*presets(VIT), "--budget.epochs=1", "--workers", "2", "--json", "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


@pytest.mark.slow
def test_a_killed_command_with_workers_gives_the_table_of_an_undisturbed_one(tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole.csv.gz", tmp_path / "torn.csv.gz"
    by_command(whole).wait(200)
    finished = [0]
    for _ in range(3):
        process = by_command(torn)
        while _completed(tmp_path / "torn.journal") <= finished[-1] and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)  # the workers too
        process.wait()
        finished.append(_completed(tmp_path / "torn.journal"))
    assert not torn.exists()
    assert 0 < finished[1] < 7
    by_command(torn).wait(200)
    tables = [nasplat.load_table(f, metric="accuracy_percent") for f in (whole, torn)]
    assert rows(tables[0]) == rows(tables[1])
    assert len(tables[0]) == 7


def by_call(storage: str | None, tell: Callable[[int], None] | None = None) -> nasplat.Table:
    """Seven trainings; the call tells how many are done."""
    torch.set_num_threads(1)
    space, task = nasplat.load_space("vit", **VIT), nasplat.load_task("digits-clutter", train=256, decide=64, test=64)
    report = None if tell is None else lambda progress: tell(progress.done)
    return nasplat.label(space, task, 5, ONE, storage=storage, seeds=2, repeat=0.4, report=report)


@pytest.mark.slow  # jobs are taken in workflows.jobs; test_label_across kills them in every run
def test_killed_three_times_the_table_is_that_of_an_undisturbed_run(tmp_path: Path) -> None:
    storage = str(tmp_path / "l.journal")
    done = [0]
    for kill in range(3):
        Run(by_call, storage, hold=2 * (kill + 1)).kill(signs=1)
        done.append(_completed(Path(storage)))
    assert 0 < done[1] < done[2] < done[3] < 7
    last = Run(by_call, storage).finish()
    assert last == list(range(done[3] + 1, 8))
    torn, whole = by_call(storage), by_call(None)  # the first of these reads what is there
    assert rows(torn) == rows(whole)
    assert len(whole) == 7


def _completed(journal: Path) -> int:
    if not journal.exists():
        return 0
    try:
        study: Any = optuna.load_study(study_name="label", storage=open_storage(str(journal)))
    except KeyError:
        return 0
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def test_labels_are_read_from_a_study_without_its_jobs(vit: nasplat.Space, tiny: nasplat.Task, tmp_path: Path) -> None:
    storage = str(tmp_path / "l.journal")
    table = nasplat.label(vit, tiny, 2, ONE, storage=storage)
    study = optuna.load_study(study_name="label", storage=open_storage(storage))
    assert sorted(read_labels(study, vit).labels) == sorted(table.labels)
    assert torch.get_num_threads() == 1


def test_rows_of_an_earlier_table_are_not_trained_again(vit: nasplat.Space, tiny: nasplat.Task, tmp_path: Path) -> None:
    nasplat.label(vit, tiny, 2, ONE).save(tmp_path / "t.csv.gz")
    known = nasplat.load_table(tmp_path / "t.csv.gz", metric="accuracy_percent")
    trained: list[int] = []
    table = nasplat.label(vit, tiny, 3, ONE, known=known, report=lambda p: trained.append(p.done))
    assert trained == [3]
    assert table.rows[:2] == known.rows
    assert rows(table) == rows(nasplat.label(vit, tiny, 3, ONE))
