"""Run folders: what they record, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nasplat
from nasplat.errors import SearchError
from nasplat.runs.folder import RunFolder
from nasplat.runs.kinds import SearchRun, TrainRun

pytestmark = pytest.mark.fast


def test_another_run_does_not_replace_the_one_that_is_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.describe(TrainRun("a"))
    before = folder.description.read_bytes()
    with pytest.raises(SearchError, match="holds a train, got a search"):
        folder.describe(SearchRun("a"))
    with pytest.raises(SearchError, match="holds a train with space 'a', got 'b'"):
        folder.describe(TrainRun("b"))
    assert folder.description.read_bytes() == before


def test_a_resumed_run_may_ask_for_more_and_know_new_options(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.describe(SearchRun("a", trials=3, maximize="trained"))
    about = json.loads(folder.description.read_text(encoding="utf-8"))
    del about["run"]["prune"]  # as written before there was such a field
    folder.description.write_text(json.dumps(about), encoding="utf-8")
    folder.describe(SearchRun("a", trials=9, maximize="trained"))
    assert folder.words == ["search", "a", "--maximize=trained", "--trials=9", "--out", str(tmp_path)]
    with pytest.raises(SearchError, match="prune"):
        folder.describe(SearchRun("a", trials=9, maximize="trained", prune=True))


def test_a_run_that_is_refused_later_leaves_nothing_but_what_it_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "run")

    def refused(kept: str) -> None:
        with folder.described(SearchRun("a")):
            if kept:
                folder.journal.write_text(kept, encoding="utf-8")
            raise SearchError("late")

    with pytest.raises(SearchError, match="late"):
        refused("")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SearchError, match="late"):
        refused("a trial")
    assert folder.run == SearchRun("a")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"verb": "search", "settings": null}', "\x00"])
def test_a_broken_description_is_a_typed_error(text: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.description.write_text(text, encoding="utf-8")
    with pytest.raises(SearchError, match=r"run\.json"):
        _ = folder.about


@pytest.mark.parametrize("words", [None, [], [1], "search", ["replay", "search"]])
def test_words_that_are_none_are_a_typed_error(words: object, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.description.write_text(json.dumps({"verb": "search", "settings": {}, "words": words}), encoding="utf-8")
    with pytest.raises(SearchError, match="words of a search"):
        _ = folder.words


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SearchError, match="folder that can be made"):
            RunFolder(path).describe(TrainRun("a"))


def test_the_chosen_network_comes_back(cells: nasplat.Space, tmp_path: Path) -> None:
    folder, network = RunFolder(tmp_path), cells.sample(seed=0)
    with pytest.raises(SearchError, match="expected a run with a chosen network"):
        folder.chosen(cells)
    folder.choose(network, "best first objective")
    assert folder.chosen(cells) == network
    folder.choice.write_text("[]", encoding="utf-8")
    with pytest.raises(SearchError, match="expected an object"):
        folder.chosen(cells)
