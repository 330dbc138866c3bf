"""Runs as calls: what they return is read again from their folder, and a refused one leaves the folder as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import nasplat
from nasplat.errors import InputError, NasplatError, SearchError, TableError
from nasplat.runs import stopwatch
from nasplat.runs.folder import RunFolder

SMALL = {"width": 4, "cells": 1, "image": 16, "channels": 1}
TASK = "digits-clutter?train=64&decide=32&test=32"
SEARCH = nasplat.SearchRun(
    "nasbench201", TASK, SMALL, limits={"macs": 400_000}, trials=4, guide="none", train={"epochs": 1}
)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[nasplat.RunFolder, object]:
    folder = tmp_path_factory.mktemp("search") / "run"
    told: list[str] = []
    found = nasplat.execute(SEARCH, folder, told.append)
    assert any(line.startswith("exported") for line in told)
    return nasplat.RunFolder(folder), found


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_a_search_is_read_again_as_it_was_returned(searched) -> None:
    folder, found = searched
    before = files(folder.path)
    again = nasplat.open_run(folder.path)
    assert again.run == found.run == SEARCH == folder.run
    assert [(m.architecture, m.values, m.path) for m in again.front] == [
        (m.architecture, m.values, m.path) for m in found.front
    ]
    assert len(again.study.trials) == len(found.study.trials)
    best = again.front[0]
    assert best.architecture == again.chosen == found.chosen
    assert best.path == folder.network
    assert best.certificate is not None
    assert best.certificate == found.front[0].certificate
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(best.module()(x), found.front[0].module()(x))
    assert all(m.values["macs"] <= 400_000 for m in again.front)
    assert again.report.exists()
    assert files(folder.path) == before


def test_run_json_holds_the_whole_run_and_its_hashes(searched) -> None:
    folder, found = searched
    about = json.loads(folder.description.read_text(encoding="utf-8"))
    assert about["run"] == SEARCH.to_dict()
    assert about["words"] == [*nasplat.words(SEARCH), "--out", str(folder)]
    assert about["resolved"]["space"] == SEARCH.loaded_space().reference
    assert about["hashes"]["supernet"] == found.supernet.fingerprint
    assert about["hashes"]["files"] == {"best.onnx": found.front[0].certificate.sha256}


@pytest.mark.parametrize(
    "change",
    [
        {"limits": {"macs": 5}},  # no network is so small
        {"limits": {"macs": 300_000}},  # not the run of the folder
        {"device": "tpu"},
        {"space": "nasbench2001"},
        {"presets": {"colour": 3}},
        {"task": "nothing"},
        {"supernet": "nowhere"},
        {"guide": "oracle"},
    ],
)
def test_a_refused_search_leaves_the_folder_as_it_was(change: dict, searched, tmp_path: Path) -> None:
    folder, _ = searched
    before = files(folder.path)
    run = nasplat.SearchRun.from_dict(SEARCH.to_dict() | change)
    with pytest.raises(NasplatError):
        nasplat.execute(run, folder.path)
    assert files(folder.path) == before
    if change != {"limits": {"macs": 300_000}}:
        with pytest.raises(NasplatError):
            nasplat.execute(run, tmp_path / "new" / "run")
        assert not (tmp_path / "new").exists()


def test_a_search_that_nothing_answers_leaves_no_folder(tmp_path: Path) -> None:
    run = nasplat.SearchRun("nasbench201", TASK, SMALL, maximize="predicted", guide="trees-nb201", trials=2)
    with pytest.raises(SearchError, match="expected answers"):
        nasplat.execute(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_training_is_read_again_and_another_verb_is_refused(tmp_path: Path) -> None:
    run = nasplat.TrainRun("nasbench201", TASK, SMALL, {"epochs": 1})
    found = nasplat.execute(run, tmp_path / "net")
    again = nasplat.open_run(tmp_path / "net")
    assert (again.run, again.rows) == (run, found.rows)
    assert again.supernet.fingerprint == found.supernet.fingerprint
    assert again.certificate is None
    before = files(tmp_path / "net")
    for other in (SEARCH, nasplat.DemoRun(fast=True), nasplat.TrainRun("nasbench201", TASK, SMALL, {"epochs": 2})):
        with pytest.raises(SearchError, match="holds a train"):
            nasplat.execute(other, tmp_path / "net")
    assert files(tmp_path / "net") == before


def test_a_table_has_its_run_beside_it(tmp_path: Path) -> None:
    run = nasplat.LabelRun("nasbench201", TASK, SMALL, n=2, budget={"epochs": 1})
    found = nasplat.execute(run, tmp_path / "t.csv.gz")
    assert {f.name for f in tmp_path.iterdir()} >= {"t.csv.gz", "t.run.json", "t.journal"}
    again = nasplat.open_run(tmp_path / "t.csv.gz")
    assert again.run == run
    assert again.table.rows == found.table.rows
    assert again.table.labels == found.table.labels
    assert again.failed == 0
    (tmp_path / "t.csv.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(TableError, match=r"t\.csv\.gz"):
        nasplat.open_run(tmp_path / "t.csv.gz")
    with pytest.raises(InputError, match=r"ending in \.csv"):
        nasplat.execute(run, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_an_improvement_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n\ndef factory():\n    torch.manual_seed(0)\n    return nn.Sequential("
        "nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), "
        "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))\n",
        encoding="utf-8",
    )
    run = nasplat.ImproveRun(f"{tmp_path}/mine.py:factory", shape=(1, 1, 16, 16), keep=50.0, rounds=2, finalists=2)
    found = nasplat.execute(run, tmp_path / "run")
    again = nasplat.open_run(tmp_path / "run")
    assert again == found
    assert again.candidates[0].values["macs_saved"] >= 0.15
    assert again.candidates[0].module()(torch.zeros(1, 1, 16, 16)).shape == (1, 10)
    assert again.candidates[0].path == tmp_path / "run" / "found1.onnx"
    about = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert about["hashes"]["files"]["found1.onnx"] == again.candidates[0].certificate.sha256


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.json", ""),
        ("run.json", "{}"),
        ("run.json", "[]"),
        ("run.json", '{"verb": "search", "run": {"space": 3}}'),
        ("run.json", '{"verb": "search", "run": {"space": "vit", "trails": 3}}'),
        ("run.json", '{"verb": "dance", "run": {}}'),
        ("run.json", '{"verb": "search", "settings": {}, "words": ["replay", "run"]}'),
        ("chosen.json", "[]"),
        ("chosen.json", '{"architecture": 3}'),
        ("best.certificate.json", "{}"),
        ("best.certificate.json", "[]"),
        ("study.journal", '{"op_code":99}\n'),
        ("study.journal", "5\n"),
        ("study.journal", "\x00" * 50),
    ],
)
def test_broken_files_of_a_run_are_named(name: str, text: str, searched, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(searched[0].path, folder)
    (folder / name).write_text(text, encoding="utf-8")
    before = files(folder)
    with pytest.raises(SearchError, match=name.replace(".", r"\.")):
        _ = nasplat.open_run(folder).front
    if name != "run.json":
        with pytest.raises(SearchError, match=name.replace(".", r"\.")):
            nasplat.write_report(folder)
    assert files(folder) == before


def test_a_run_with_a_torn_last_line_is_shown_as_it_is_and_goes_on(searched, tmp_path: Path) -> None:
    shutil.copytree(searched[0].path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    torn = b'{"op_code":8,"worker_id":"x","trial_id":3,"user_at'
    with folder.journal.open("ab") as file:
        file.write(torn)
    there = folder.journal.read_bytes()
    done = len(searched[1].study.trials)
    assert len(nasplat.open_run(folder.path).study.trials) == done
    nasplat.write_report(folder.path)
    assert folder.journal.read_bytes() == there
    found = nasplat.execute(nasplat.SearchRun.from_dict(SEARCH.to_dict() | {"trials": SEARCH.trials + 1}), folder.path)
    assert len(found.study.trials) > done
    assert torn not in folder.journal.read_bytes()


def test_a_broken_line_of_a_journal_is_named_with_its_number(searched, tmp_path: Path) -> None:
    shutil.copytree(searched[0].path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    lines = folder.journal.read_bytes().count(b"\n")
    with folder.journal.open("ab") as file:
        file.write(b'{"op_code":8,"worker_id":"x","trial_id":3,"user_at{"op_code":4,"worker_id":"y"}\n')
    before = files(folder.path)
    for call in (nasplat.open_run, nasplat.write_report, lambda f: nasplat.execute(SEARCH, f)):
        with pytest.raises(SearchError, match=rf"line {lines + 1} of the journal .*study\.journal"):
            call(folder.path)
    assert files(folder.path) == before


def test_a_run_of_older_nasplat_is_read_resumed_and_repeated(searched, tmp_path: Path) -> None:
    from nasplat.runs.replay import repeating

    shutil.copytree(searched[0].path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    words = ["search", "nasbench201", "--task", TASK, "--limit", "macs=400000", "--trials", "4", "--train.epochs=1"]
    words += [w for k, v in SMALL.items() for w in ("--preset", f"{k}={v}")]
    words += ["--out", "run", "--json"]
    settings = {"space": SEARCH.loaded_space().reference, "guide": "none", "limit": ["macs=400000"], "trials": 4}
    old = {"verb": "search", "settings": settings, "words": words, "command": "nasplat search …", "versions": {}}
    folder.description.write_text(json.dumps(old), encoding="utf-8")
    assert folder.run == nasplat.SearchRun.from_dict(SEARCH.to_dict() | {"guide": "auto"})
    assert folder.found_guide == "none"
    assert repeating(folder) == SEARCH
    assert "nasplat search …" in nasplat.write_report(folder.path).read_text(encoding="utf-8")
    assert len(nasplat.open_run(folder.path).study.trials) >= 4
    with pytest.raises(SearchError, match="holds a search with limits"):
        nasplat.execute(nasplat.SearchRun.from_dict(SEARCH.to_dict() | {"limits": {"macs": 300_000}}), folder.path)
    found = nasplat.execute(folder.run, folder.path)
    assert found.front[0].architecture == searched[1].front[0].architecture
    assert json.loads(folder.description.read_text(encoding="utf-8"))["run"]["space"] == "nasbench201"


def test_a_run_made_of_objects_is_kept_but_has_no_words(tmp_path: Path, cells: nasplat.Space) -> None:
    task = nasplat.load_task(TASK)
    run = nasplat.SearchRun(cells, task, maximize="trained:1", guide="none", trials=1, workers=2)
    with pytest.raises(InputError, match="task by name"):
        nasplat.execute(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    alone = nasplat.SearchRun(cells, task, maximize="trained:1", guide="none", trials=1)
    found = nasplat.execute(alone, tmp_path / "run")
    assert found.front[0].path is None
    assert found.front[0].module()(torch.zeros(2, 1, 16, 16)).shape == (2, 10)
    with pytest.raises(SearchError, match="words of a search"):
        _ = RunFolder(tmp_path / "run").words


def test_a_forecast_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stopwatch, "SECONDS", 0.2)
    monkeypatch.chdir(tmp_path)
    found = nasplat.forecast(SEARCH)
    parts = {"supernet built", "supernet epochs", "inherited accuracy_percent", "proposals"}
    assert {p.name for p in found.parts} == parts
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="a search, a training or a labelling to forecast, got a demo"):
        nasplat.forecast(nasplat.DemoRun())


def test_a_forecast_of_labels_counts_what_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stopwatch, "SECONDS", 0.1)
    monkeypatch.chdir(tmp_path)
    small = {"seeds": 2, "repeat": 0.5, "budget": {"steps": 2, "batch_size": 16}}
    run = nasplat.LabelRun("mlp", TASK, n=4, **small)
    (part,) = nasplat.forecast(run, "rows.csv").parts
    assert (part.name, part.count) == ("trainings", 6)
    assert part.each > 0
    assert list(tmp_path.iterdir()) == []
    nasplat.execute(nasplat.LabelRun("mlp", TASK, n=2, **small), "rows.csv")
    assert nasplat.forecast(run, "rows.csv").parts[0].count == 3
    across = nasplat.LabelRun(spaces=["mlp", "signal"], tasks=[TASK, "waves?train=64"], n=3, each_task=5, **small)
    assert nasplat.forecast(across).parts[0].count == 15
