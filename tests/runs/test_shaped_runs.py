"""Runs take what presets leave open of a space from their task, and older runs go on as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import nasplat
from nasplat.cli import cli
from nasplat.runs.folder import RunFolder
from nasplat.runs.kinds import SearchRun, TrainRun
from nasplat.runs.training import loaded

TASK = "digits-clutter?train=64&decide=32&test=32"
TYPED = {"size": "mini", "patch": 4, "image": 16, "channels": 1}
MINE = """
from torch import nn

import nasplat


@nasplat.space(example_input=lambda image=32, channels=3, **presets: (1, channels, image, image))
def mine(pick, classes=100, image=32, channels=3):
    conv = nn.Conv2d(channels, pick("width", (4, 8)), pick("kernel", (3, 5)))
    return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(conv.out_channels, classes))
"""


@pytest.mark.parametrize("kind", [SearchRun, TrainRun])
def test_task_decides_what_the_presets_leave_open(kind: type[SearchRun] | type[TrainRun]) -> None:
    space, _ = loaded(kind("vit", TASK, TYPED))
    assert space == nasplat.load_space("vit", **TYPED, classes=10)
    whole = nasplat.load_space("vit", **TYPED)
    assert loaded(kind(whole, TASK))[0] is whole


def test_a_search_that_only_predicts_keeps_the_space_that_its_predictor_knows() -> None:
    space, _ = loaded(SearchRun("nasbench201", TASK, maximize="predicted"))
    assert space == nasplat.load_space("nasbench201")
    assert loaded(SearchRun("nasbench201", TASK, maximize="trained"))[0].presets["image"] == 16


def test_folders_of_before_keep_their_space(tmp_path: Path) -> None:
    before, folder = nasplat.load_space("vit", **TYPED), RunFolder(tmp_path / "before")
    run = SearchRun("vit", TASK, TYPED)
    folder.describe(run, {"space": before.reference})
    assert loaded(run, folder)[0] == before
    assert loaded(SearchRun("vit", TASK, TYPED, supernet=folder.path))[0] == before
    assert loaded(TrainRun("vit", TASK, TYPED, source=folder.path), RunFolder(tmp_path / "new"))[0] == before
    after = RunFolder(tmp_path / "after")
    after.describe(run, {"space": loaded(run, after)[0].reference})
    assert loaded(run, after)[0].presets["classes"] == 10


def test_commands_need_no_presets_and_say_what_the_task_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE, encoding="utf-8")
    told = "space mine.py: image=16, channels=1, classes=10 from the task"
    common = ["mine.py", "--task", TASK]
    for words in (
        ["train", *common, "--out", "net", "--train.epochs=1"],
        ["search", *common, "--out", "run", "--supernet", "net", "--guide", "none", "--trials", "2"],
        ["label", *common, "--out", "labels.csv.gz", "-n", "1", "--budget.epochs=1"],
    ):
        done = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert told in done.output
    resolved = json.loads(Path("run/run.json").read_text(encoding="utf-8"))["resolved"]
    assert resolved["space"] == 'mine.py{"channels": 1, "classes": 10, "image": 16}'
