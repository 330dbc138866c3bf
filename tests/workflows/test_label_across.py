"""Labels across spaces and tasks: which networks stand where, what a row keeps, and that nothing is lost or done twice."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from clean import Run
from click.testing import CliRunner

import nasplat
from nasplat.cli import cli
from nasplat.editing import Edited
from nasplat.errors import EditError, InputError, SearchError, SpaceError, TableError
from nasplat.inputs import module_of, read_network, resolve
from nasplat.task.training import Budget
from nasplat.workflows import label_across as across
from nasplat.workflows.label_across import agreement, label_across
from nasplat.workflows.labelled import distinct

SPACES = ("mlp", "unet", "vit?size=mini&patch=4&head_dim=8")
TASKS = tuple(f"{name}?train=64&decide=24&test=24" for name in ("shapes", "digits-clutter", "shapes-mask"))
BUDGET = Budget(batch_size=16, lr=2e-3, steps=4)
KEPT = {"n": 4, "each_task": 5, "edited": 0.3, "shared": 0.5, "seeds": 2, "repeat": 0.3, "limits": {"macs": 3e6}}


@pytest.fixture(scope="module")
def table() -> nasplat.Table:
    return label_across(SPACES, TASKS, BUDGET, **KEPT)


def test_spaces_stand_on_the_tasks_that_they_fit_and_few_give_more(table: nasplat.Table) -> None:
    first = [r for r in table.rows if r["seed"] == "0"]
    cells = Counter((r["network"].partition("?")[0].partition(" ")[0], r["task"]) for r in first)
    assert cells == {(s, t): 4 for s in ("mlp", "vit") for t in ("shapes", "digits-clutter")} | {
        ("unet", "shapes-mask"): 5
    }
    assert not any(r["failure"] for r in table.rows)
    assert {r["metric"] for r in table.rows} == {"accuracy_percent", "pixel_accuracy_percent"}


def test_networks_are_shared_edited_and_trained_again(table: nasplat.Table) -> None:
    first = [r for r in table.rows if r["seed"] == "0"]
    places: dict[str, list[str]] = {}
    for row in first:
        places.setdefault(row["network"], []).append(row["task"])
    shared = [n for n, tasks in places.items() if len(tasks) == 2]
    assert shared
    assert all(n.endswith(" of shapes") for n in shared)
    lines = {n: {_choices(r) for r in first if r["network"] == n} for n in shared}
    assert all(len(choices) == 1 for choices in lines.values())  # the same choices on either task
    edited = [r for r in first if '"edits"' in r["architecture"]]
    assert 2 <= len(edited) < len(first)
    again = [r for r in table.rows if r["seed"] == "1"]
    assert {(r["network"], r["task"]) for r in again} <= {(r["network"], r["task"]) for r in first}
    assert set(agreement(table)) == {"shapes", "digits-clutter", "shapes-mask"}
    assert sum(both for _, both in agreement(table).values()) == len(again) > 0


def test_a_table_that_is_not_complete_has_shared_networks_already(table: nasplat.Table) -> None:
    mlps = [r for r in table.rows if r["network"].startswith("mlp") and r["task"] == "digits-clutter"]
    assert [r["network"].rpartition(" of ")[2] for r in mlps if r["seed"] == "0"][:2] == ["digits-clutter", "shapes"]
    assert {r["recipe"] for r in table.rows} == {"batch_size=16, lr=0.002, weight_decay=0.01, steps=4, judged=1000"}


def _choices(row: dict[str, str]) -> str:
    return json.dumps(json.loads(row["architecture"])["choices"], sort_keys=True)


def test_rows_keep_the_curve_the_proxies_and_a_network_that_is_built_again(table: nasplat.Table) -> None:
    for row in table.rows:
        curve = [float(row[f"decide_{step}"]) for step in (1, 2, 3, 4)]
        assert curve[-1] == float(row["decide"])
        assert float(row["cpu_seconds"]) > 0
        seconds = [float(row[f"cpu_seconds_{step}"]) for step in (1, 2, 3, 4)]
        assert seconds == sorted(seconds)
        is_map = row["task"] == "shapes-mask"
        assert [bool(row[name]) for name in ("synflow", "nwot", "jacov", "snip", "grad_norm", "zen")] == [
            not is_map
        ] * 6
        assert is_map or float(row["cpu_seconds_snip"]) > 0
        network = read_network(row["architecture"])
        assert row["fingerprint"] == network.space.fingerprint
    edited = next(r for r in table.rows if '"edits"' in r["architecture"] and r["task"] == "shapes")
    graph = read_network(edited["architecture"]).graph()
    assert (graph.key, str(graph.macs), str(graph.params)) == (edited["key"], edited["macs"], edited["params"])
    module, example = module_of(resolve(edited["architecture"]), None)
    assert module(torch.zeros(2, *example[1:])).shape == (2, 8)
    assert sum(p.numel() for p in module.parameters()) == int(edited["params"])


def test_the_network_of_an_edited_line_is_another_than_that_of_its_choices(
    table: nasplat.Table, tmp_path: Path
) -> None:
    row = next(r for r in table.rows if '"edits"' in r["architecture"])
    with pytest.raises(SpaceError, match=r"edited network: read it with nasplat\.read_network"):
        nasplat.Architecture.from_json(row["architecture"])
    network = read_network(row["architecture"])
    assert isinstance(network, Edited)
    assert network == read_network(network.to_json())
    assert network.graph().key != network.member.graph().key  # type: ignore[attr-defined]
    table.save(tmp_path / "rows.csv.gz")
    again = nasplat.load_table(tmp_path / "rows.csv.gz", metric="decide")
    assert again.architectures == table.architectures
    for wrong in ('"edits":3}', '"edits":[{"edit":"Melt"}]}', '"edits":[{"edit":"Pool","call":"2"}]}'):
        with pytest.raises(EditError, match="Write it with"):
            read_network(row["architecture"].partition('"edits"')[0] + wrong)


def test_one_task_of_a_table_is_fitted_and_several_are_refused(table: nasplat.Table, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    table.save(file)
    words = ["fit", "--family", "count", "--table", str(file), "--metric", "test", "--seeds", "0", "--workers", "1"]
    refused = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "p")])
    assert isinstance(refused.exception, TableError)
    assert "rows of one task, got 3 in" in str(refused.exception)
    wrong = CliRunner().invoke(cli, [*words, "--preset", "image=8", "--out", str(tmp_path / "p")])
    assert "--space beside --preset" in str(wrong.exception)
    data = distinct(nasplat.load_table(file, metric="test", where={"task": "shapes"}))
    shapes = {r["key"] for r in table.rows if r["task"] == "shapes"}
    assert set(data.keys) == shapes  # edited networks under their own keys


def test_rows_of_a_lost_study_are_not_trained_again(table: nasplat.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(across, "train", never)
    assert label_across(SPACES, TASKS, BUDGET, known=table, **KEPT).rows == table.rows
    with pytest.raises(SearchError, match=r"known rows with recipe .*steps=5.*, got .*steps=4"):
        label_across(SPACES, TASKS, Budget(batch_size=16, lr=2e-3, steps=5), known=table, **KEPT)
    other = [t.replace("decide=24", "decide=23") for t in TASKS]
    with pytest.raises(SearchError, match=r"known rows with task shapes.*23 decide"):
        label_across(SPACES, other, BUDGET, known=table, **KEPT)


def test_a_training_that_fails_is_a_row_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverged(*_: Any) -> None:
        raise RuntimeError("the loss became nan")

    monkeypatch.setattr(across, "train", diverged)
    (row,) = label_across(["mlp"], TASKS[:1], BUDGET, n=1, edited=0).rows
    assert row["failure"] == "RuntimeError: the loss became nan"
    assert row["decide"] == ""
    assert int(row["params"]) > 0
    assert float(row["nwot"]) != 0


def test_what_cannot_be_labelled_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="different names, got 'shapes' twice"):
        label_across(["mlp"], [TASKS[0], "shapes?train=32"], BUDGET)
    with pytest.raises(SearchError, match="larger metrics are better, got 'digits-place'"):
        label_across(["mlp"], ["digits-place"], BUDGET)
    with pytest.raises(SpaceError, match="spaces that fit one of shapes, got signal"):
        label_across(["signal"], TASKS[:1], BUDGET)
    with pytest.raises(SearchError, match=r"expected shared from 0 to 0.9, got 1\.0"):
        label_across(["mlp"], TASKS[:1], BUDGET, shared=1.0)
    told: list[str] = []
    with pytest.raises(SearchError, match="2 workers expected a storage"):
        label_across(["mlp", "resnet"], TASKS[:1], BUDGET, n=1, workers=2, limits={"macs": 2e4}, tell=told.append)
    assert any("resnet on shapes: no architecture" in line and "macs <= 20,000" in line for line in told)
    storage = str(tmp_path / "study.journal")
    label_across(["mlp"], TASKS[:1], BUDGET, n=1, edited=0, storage=storage)
    other = label_across(["mlp"], TASKS[:1], BUDGET, n=1, edited=0, storage=storage, seed=7)
    assert len({row["architecture"] for row in other.rows}) == 2  # another seed draws other networks
    assert [row["network"] for row in other.rows] == ["mlp 0 of shapes by seed 7", "mlp 0 of shapes"]
    with pytest.raises(SearchError, match=r"has recipe .*steps=4.*, got .*steps=6"):
        label_across(["mlp"], TASKS[:1], Budget(batch_size=16, lr=2e-3, steps=6), n=1, storage=storage)


def by_call(storage: str, n: int, tell: Callable[[int], None]) -> None:
    torch.set_num_threads(1)
    label_across(
        SPACES[:1], TASKS[:2], BUDGET, n=n, seeds=2, repeat=0.3, storage=storage, report=lambda p: tell(p.done)
    )


@pytest.mark.faults
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_random_the_rows_are_those_of_an_undisturbed_run(kills: int, tmp_path: Path) -> None:
    storage, rng = str(tmp_path / "study.journal"), random.Random(kills)
    n, total = kills + 2, 2 * (kills + 2)
    for kill in range(kills):
        Run(by_call, storage, n, hold=total * (kill + 1) // (kills + 1)).kill(signs=rng.randint(1, 2))
    Run(by_call, storage, n).finish()
    rows = [
        label_across(SPACES[:1], TASKS[:2], BUDGET, n=n, seeds=2, repeat=0.3, storage=s).rows for s in (storage, None)
    ]
    killed, whole = ([{k: v for k, v in row.items() if "cpu_seconds" not in k} for row in part] for part in rows)
    assert killed == whole


@pytest.mark.slow
def test_two_workers_give_the_rows_of_one(tmp_path: Path, table: nasplat.Table) -> None:
    shared = label_across(SPACES, TASKS, BUDGET, storage=str(tmp_path / "study.journal"), workers=2, **KEPT)
    one, two = ([{k: v for k, v in r.items() if "cpu_sec" not in k} for r in t.rows] for t in (table, shared))
    assert one == two


def test_a_command_labels_across_and_says_how_seeds_agree(tmp_path: Path) -> None:
    words = ["label", "--spaces", f"mlp,{SPACES[2]}", "--tasks", ",".join(TASKS[:2]), "-n", "2", "--judged", "16"]
    words += ["--budget.steps=3", "--budget.batch_size=8", "--seeds=2", "--out", str(tmp_path / "rows.csv"), "--json"]
    said = CliRunner().invoke(cli, words)
    assert said.exception is None, said.output
    answer = json.loads(said.stdout[said.stdout.index("{") :])
    assert (answer["rows"], answer["failed"]) == (16, 0)
    taus = answer["seed_to_seed_kendall_tau"]
    assert set(taus) == {"shapes", "digits-clutter"}
    assert all(tau is None or -1 <= tau <= 1 for tau in taus.values())  # none where all networks are equally good
    found = nasplat.open_run(tmp_path / "rows.csv")
    assert len(found.table) == 16
    assert found.run.spaces == ("mlp", SPACES[2])
    assert nasplat.LabelRun.from_words(nasplat.words(found.run)[1:]) == found.run
    assert {len(row["recipe"]) > 0 for row in found.table.rows} == {True}


@pytest.mark.fast
def test_settings_of_one_space_and_of_several_are_not_mixed() -> None:
    both = {"spaces": ["mlp", "darts?width=[4,8]&cells=2"], "tasks": ["shapes"]}
    run = nasplat.LabelRun(**both)
    assert nasplat.LabelRun.from_words(run.to_words()[1:]) == run
    for settings, message in (
        ({}, "expected a space, or --spaces and --tasks, got neither"),
        ({"spaces": ["mlp"]}, "--spaces and --tasks together"),
        ({"space": "mlp", **both}, "got both"),
        ({"task": "textures", **both}, "--task goes with one space"),
        ({"presets": {"image": 8}, **both}, "write presets behind the space"),
        ({"space": "mlp", "judged": 5}, "--judged goes with --spaces"),
        ({"edited": 0.95, **both}, "expected edited from 0 to 0.9"),
    ):
        with pytest.raises(InputError, match=message):
            nasplat.LabelRun(**settings)
