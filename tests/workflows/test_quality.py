"""Pilots: a fitted predictor of quality states its error, failures are rows, interrupted calls go on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import nasplat
from nasplat.errors import SearchError
from nasplat.inputs import load_predictor
from nasplat.predict.contract import AbstractPredictor
from nasplat.study.search import named
from nasplat.workflows.quality import learn_quality


@pytest.fixture(scope="module")
def space() -> nasplat.Space:
    return nasplat.load_space("nasbench201", width=[4, 8], cells=1, image=16, channels=1)


@pytest.fixture(scope="module")
def base() -> AbstractPredictor:
    return load_predictor("base")


def error(architecture: nasplat.Architecture) -> float:
    """Falls with depth, as an error might; one network in the middle fails."""
    graph = architecture.graph()
    return 100.0 / (1 + graph.params) ** 0.25


def test_pilots_go_on_and_failures_are_rows(space: nasplat.Space, base: AbstractPredictor, tmp_path: Path) -> None:
    calls: list[str] = []

    def flaky(architecture: nasplat.Architecture) -> float:
        calls.append(architecture.to_json())
        if len(calls) == 4:
            raise RuntimeError("diverged")
        return float("nan") if len(calls) == 6 else error(architecture)

    def stop(done: int, total: int, words: str) -> None:
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_quality(space, named(flaky), base, tmp_path, 26, report=stop)
    assert len(calls) == 9
    with (tmp_path / "pilots.csv").open("a", encoding="utf-8") as file:
        file.write('"half a row')  # as a killed process leaves it
    found = learn_quality(space, named(flaky), base, tmp_path, 26)
    assert len(set(calls)) == len(calls) == 26
    with (tmp_path / "pilots.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 26
    assert [r["failure"].strip().splitlines()[-1] for r in rows if not r["value"]] == [
        "RuntimeError: diverged",
        "not finite",
    ]
    about = json.loads((tmp_path / "quality.json").read_text(encoding="utf-8"))
    assert (about["networks"], about["failed"], about["metric"]) == (24, 2, "flaky")
    assert about["params_tau"] == pytest.approx(-1)
    assert about["kendall_tau"] > 0.6  # of networks that the fit did not see
    assert len(found.table) == 24
    assert found.table.architectures[0].space == space
    answers = [a.mean for a in found.predictor.predict(found.table.architectures)]
    assert sum(a is not None for a in answers) > 12


def test_too_few_pilots_are_refused(space: nasplat.Space, base: AbstractPredictor, tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="at least 20 pilots, got 5"):
        learn_quality(space, named(error), base, tmp_path, 5)

    def broken(architecture: nasplat.Architecture) -> float:
        raise RuntimeError("no data")

    with pytest.raises(SearchError, match="expected 20 pilots that finish, got 0 of 20"):
        learn_quality(space, named(broken), base, tmp_path, 20)
    with pytest.raises(SearchError, match="expected pilots whose level differs, got 5 for all 20"):
        learn_quality(space, named(level), base, tmp_path / "level", 20)


def level(architecture: nasplat.Architecture) -> float:
    return 5.0


def test_a_row_that_was_cut_is_evaluated_again_and_spoils_no_other(
    space: nasplat.Space, base: AbstractPredictor, tmp_path: Path
) -> None:
    whole = learn_quality(space, named(error), base, tmp_path / "whole", 21)
    file = tmp_path / "torn" / "pilots.csv"
    file.parent.mkdir()
    lines = (tmp_path / "whole" / "pilots.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[:8]) + lines[8][: lines[8].rindex(",") - 2], encoding="utf-8")  # killed in a number
    calls: list[str] = []

    def counted(architecture: nasplat.Architecture) -> float:
        calls.append(str(architecture))
        return error(architecture)

    torn = learn_quality(space, named(counted), base, file.parent, 21)
    assert len(calls) == 21 - 7
    assert torn.table.labels == whole.table.labels
    assert file.read_text(encoding="utf-8") == "".join(lines)
