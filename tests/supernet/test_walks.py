"""Walks kept from one process to the next: the same as made anew, and never those of other code."""

from __future__ import annotations

import importlib
import json
import os
import sys
import types
from pathlib import Path

import commands
import pytest
import torch
from torch import nn

import nasplat
from nasplat.supernet import survey, walks

HELPER = "from torch import nn\n\ndef head(width):\n    return nn.Linear(width, {classes})\n"
SPACE = """
import helper_of_walks
import nasplat
from torch import nn

@nasplat.space(example_input=(1, 4))
def small(pick):
    width = pick("width", (2, 6))
    return nn.Sequential(nn.Linear(4, width), helper_of_walks.head(width))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(walks.PLACE, str(tmp_path / "walks"))
    return tmp_path / "walks"


@pytest.mark.parametrize("name", ["nasbench201", "densenet"])
def test_a_kept_walk_equals_the_one_that_was_made(name: str, place: Path) -> None:
    space = nasplat.load_space(name)
    made = survey._survey(space)
    walks.keep(space, made)
    read = walks.kept(space)
    assert read is not None
    for part in ("shapes", "rules", "sources", "qualifiers", "kernels", "known"):
        assert list(getattr(made, part).items()) == list(getattr(read, part).items()), part
    for part in ("layouts", "known", "is_needed", "sources"):
        assert getattr(made.slices, part) == getattr(read.slices, part), part
    assert bool(read.slices.layouts) == (name == "densenet")
    assert walks.kept(space.with_presets(classes=7)) is None


def test_a_second_store_needs_no_walk_and_has_the_same_values(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasplat.searchspace.defined._SHARED", {})  # other tests may have walked the space
    first = survey.build_store(nasplat.load_space("resnet"), 0, torch.device("cpu"))
    monkeypatch.setattr("nasplat.searchspace.defined._SHARED", {})  # as in another process
    monkeypatch.setattr(survey, "_survey", lambda space: pytest.fail("it walked again"))
    second = survey.build_store(nasplat.load_space("resnet"), 0, torch.device("cpu"))
    assert list(first.weights) == list(second.weights)
    assert all(torch.equal(first.weights[k], second.weights[k]) for k in first.weights)


def test_an_edited_helper_never_gets_the_walk_of_the_old_one(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    helper, file = tmp_path / "helper_of_walks.py", tmp_path / "mine.py"
    file.write_text(SPACE)
    helper.write_text(HELPER.format(classes=3))
    before = nasplat.load_space(str(file))
    walks.keep(before, survey._survey(before))
    assert walks.kept(before) is not None
    helper.write_text(HELPER.format(classes=5) + "# longer\n")
    importlib.reload(sys.modules["helper_of_walks"])
    after = nasplat.load_space(str(file))
    assert walks.kept(after) is None
    assert survey._found(after).shapes["1.weight"] == (5, 6)
    del sys.modules["helper_of_walks"]


COUNTER = [0]


def test_code_that_cannot_tell_what_it_does_keeps_no_walk(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "width.txt").write_text("8")

    def reads_a_file(pick: nasplat.Pick) -> nn.Module:
        return nn.Linear(4, int(open(tmp_path / "width.txt").read()) + pick("more", (0, 1)))

    def asks_the_environment(pick: nasplat.Pick) -> nn.Module:
        return nn.Linear(4, int(os.environ.get("WIDTH_OF_TEST", "8")) + pick("more", (0, 1)))

    def counts(pick: nasplat.Pick) -> nn.Module:
        COUNTER[0] += 1
        return nn.Linear(4, COUNTER[0] + pick("more", (0, 1)))

    def uses_another_library(pick: nasplat.Pick) -> nn.Module:
        return nn.Linear(4, json.loads("8") + pick("more", (0, 1)))

    def reads_a_module_of_a_module(pick: nasplat.Pick) -> nn.Module:
        return nn.Linear(4, commands.others.WIDTH + pick("more", (0, 1)))

    def imports_when_it_runs(pick: nasplat.Pick) -> nn.Module:
        import commands

        return nn.Linear(4, len(commands.TINY) + pick("more", (0, 1)))

    def tells_all(pick: nasplat.Pick) -> nn.Module:
        return nn.Linear(4, 8 + pick("more", (0, 1)))

    others = types.ModuleType("others")
    others.__dict__.update(WIDTH=8, __file__=str(tmp_path / "others.py"))
    monkeypatch.setattr(commands, "others", others, raising=False)
    functions = (reads_a_file, asks_the_environment, counts, uses_another_library)
    functions += (reads_a_module_of_a_module, imports_when_it_runs, tells_all)
    spaces = [nasplat.space(example_input=(1, 4))(f) for f in functions]
    assert [walks._place(s)[0] is not None for s in spaces] == [False] * 6 + [True]


@pytest.mark.parametrize("damage", ["empty", "cut", "altered", "of another version", "no text"])
def test_a_damaged_walk_is_as_good_as_none(damage: str, place: Path) -> None:
    space = nasplat.load_space("mixer")
    walks.keep(space, survey._survey(space))
    (file,) = place.glob("*.json")
    text = file.read_text()
    head, _, body = text.partition("\n")
    told = {
        "empty": b"",
        "cut": text[: len(text) // 2].encode(),
        "altered": (head + "\n" + body.replace("[", "[1,", 1)).encode(),
        "of another version": (head.replace("torch 2", "torch 1") + "\n" + body).encode(),
        "no text": b"\xff\xfe" + text.encode(),
    }
    file.write_bytes(told[damage])
    assert walks.kept(space) is None
    walks.keep(space, survey._survey(space))
    assert walks.kept(space) is not None


def test_walks_are_kept_where_the_variable_says_or_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = nasplat.load_space("mlp")
    monkeypatch.setenv(walks.PLACE, "off")
    assert walks.folder() is None
    walks.keep(space, survey._survey(space))
    assert walks.kept(space) is None
    monkeypatch.delenv(walks.PLACE)
    monkeypatch.setenv("NASPLAT_CACHE", str(tmp_path))
    assert walks.folder() == tmp_path / "walks"
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv(walks.PLACE, str(tmp_path / "a file" / "below"))  # cannot be made
    walks.keep(space, survey._survey(space))
    assert walks.kept(space) is None
