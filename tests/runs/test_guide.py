"""Which predictor guides a search when none is named, and that a resumed or repeated search keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

import nasplat
from nasplat.errors import InputError
from nasplat.runs import guide
from nasplat.runs.folder import RunFolder
from nasplat.runs.guide import Guide, guide_of
from nasplat.runs.kinds import SearchRun
from nasplat.runs.replay import repeating


def test_a_space_is_guided_by_the_predictor_that_was_trained_on_it(cells: nasplat.Space, tmp_path: Path) -> None:
    found = guide_of("auto", None, cells, 0, RunFolder(tmp_path))
    assert (found.name, found.why) == ("trees-nb201", "it was trained on nasbench201")
    assert found.objective is not None


def test_another_space_is_guided_by_base_or_by_none(
    vit: nasplat.Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = guide_of("auto", None, vit, 0, RunFolder(tmp_path))
    assert found.name == "base"
    assert found.objective is not None
    assert found.objective.predictor.family == "universal"
    monkeypatch.setattr(guide, "_abstains", lambda *_: "too far")
    found = guide_of("auto", None, vit, 0, RunFolder(tmp_path))
    assert (found.name, found.objective) == ("none", None)
    assert "abstains on networks of this space: too far" in found.why


def test_a_predictor_that_needs_labels_is_no_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guide, "guided", lambda *_: (_ for _ in ()).throw(nasplat.errors.PredictorError("no")))
    space = nasplat.load_space("transnas_micro")  # aiop-transnas was trained on it
    assert guide_of("auto", None, space, 0, RunFolder("nowhere")).name == "none"


def test_a_named_guide_is_taken_as_named(cells: nasplat.Space, tmp_path: Path) -> None:
    assert guide_of("none", None, cells, 0, RunFolder(tmp_path)) == Guide("none")
    assert guide_of("fitted", None, cells, 0, RunFolder(tmp_path)) == Guide("fitted")
    assert guide_of("trees-nb201", None, cells, 0, RunFolder(tmp_path)).why == ""


def test_a_run_folder_keeps_the_guide_that_it_found(vit: nasplat.Space, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.describe(SearchRun("vit", storage="s.journal"), {"guide": "trees-nb201"})
    assert folder.found_guide == "trees-nb201"
    assert guide_of("auto", None, vit, 0, folder).name == "trees-nb201"
    assert repeating(folder) == SearchRun("vit", guide="trees-nb201")
    named = RunFolder(tmp_path / "named")
    named.describe(SearchRun("vit", guide="base"), {"guide": "base"})
    assert named.found_guide is None
    assert repeating(named) == SearchRun("vit", guide="base")


def test_settings_that_contradict_each_other_are_refused() -> None:
    for settings, text in (
        ({"stages": ("predicted", "trained:1")}, "--stages and --budget together"),
        ({"budget": 3.0}, "--stages and --budget together"),
        ({"maximize": "trained", "exports": 3}, "--exports expected inherited quality"),
        ({"guide": "fitted", "stages": ("trained:1", "trained:2"), "budget": 9.0}, "expected a predicted stage"),
    ):
        with pytest.raises(InputError, match=text):
            SearchRun("vit", **settings)
