"""A run is one value: Python, TOML, words and plain data make the same one, and what does not fit is refused by name."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nasplat
from nasplat.errors import InputError, NasplatError
from nasplat.runs.fields import fields_of
from nasplat.runs.kinds import KINDS, DemoRun, ImproveRun, LabelRun, SearchRun, TrainRun
from nasplat.runs.run import AbstractRun
from nasplat.supernet import TrainConfig
from nasplat.task.training import Budget

pytestmark = pytest.mark.fast

NAMES = st.text("abcdefghij-_./:|~+ =\"'#ä→", min_size=1, max_size=8).filter(lambda s: not s.startswith("-"))
PLAIN = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), NAMES)
PRESETS = st.dictionaries(
    st.text("abcde_", min_size=1), st.one_of(PLAIN, st.lists(st.integers(), max_size=2)), max_size=2
)
COUNTS, SEEDS = st.integers(1, 10**6), st.integers(0, 2**31)
POSITIVE = st.one_of(st.floats(1e-3, 1e9), st.integers(1, 10**9))
PATHS = st.none() | NAMES.map(Path)
TRAIN = st.builds(
    TrainConfig,
    epochs=COUNTS,
    strategy=st.sampled_from(["sandwich", "ovo"]),
    lr=st.floats(1e-6, 1.0),
    clip=st.sampled_from([1.0, math.inf]),
    bf16=st.booleans(),
    watch=st.booleans(),
)
BUDGET = st.builds(Budget, epochs=COUNTS, lr=st.floats(1e-6, 1.0))
SPACE = {"space": NAMES, "task": NAMES, "presets": PRESETS, "seed": SEEDS, "device": NAMES}
LIMITS = st.dictionaries(st.sampled_from(["macs", "params"]), POSITIVE)
STAGED = st.sampled_from([((), None), (("predicted", "trained:3"), 9.5), (("inherited", "trained"), 60.0)])


def search_of(staged: tuple[Any, Any], **settings: Any) -> SearchRun:
    return SearchRun(stages=staged[0], budget=staged[1], **settings)


RUNS = st.one_of(
    st.builds(
        search_of,
        STAGED,
        **SPACE,
        limits=LIMITS,
        trials=COUNTS,
        guide=NAMES,
        guide_at=PRESETS,
        latency=PATHS,
        storage=st.none() | NAMES,
        supernet=PATHS,
        workers=COUNTS,
        train=TRAIN,
    ),
    st.builds(SearchRun, st.just("vit"), maximize=st.just("trained:4"), prune=st.booleans(), minimize=st.just("none")),
    st.builds(TrainRun, **SPACE, train=TRAIN, teacher=st.none() | NAMES, kernel_transforms=st.booleans()),
    st.builds(TrainRun, st.just("vit"), source=NAMES.map(Path), subnet=st.none() | NAMES),
    st.builds(
        LabelRun,
        **SPACE,
        n=COUNTS,
        architectures=st.lists(NAMES, max_size=3).map(tuple),
        seeds=COUNTS,
        repeat=st.floats(0, 1),
        limits=LIMITS,
        budget=BUDGET,
    ),
    st.builds(
        ImproveRun,
        NAMES,
        shape=st.lists(COUNTS, max_size=4).map(tuple),
        cut=st.dictionaries(st.sampled_from(["macs", "params"]), st.floats(0.01, 0.99)),
        keep=st.floats(0, 100),
        task=st.none() | NAMES,
        seed=SEEDS,
        budget=BUDGET,
    ),
    st.builds(DemoRun, SEEDS, st.booleans()),
)


def toml(plain: dict[str, Any], prefix: str = "") -> str:
    """The same data as TOML; what is None is left out."""
    lines, tables = [], []
    for key, value in plain.items():
        name = json.dumps(key, ensure_ascii=False)
        if isinstance(value, dict):
            tables.append(f"[{prefix}{name}]\n{toml(value, f'{prefix}{name}.')}")
        elif value is not None:
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join([*lines, *tables]) + "\n"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(run=RUNS)
def test_four_makers_give_equal_values(run: AbstractRun, tmp_path: Path) -> None:
    kind = type(run)
    assert kind(**{f.name: getattr(run, f.name) for f in fields(run)}) == run
    words = nasplat.words(run)
    assert words[0] == kind.verb
    assert kind.from_words(words[1:]) == run
    assert kind.from_dict(json.loads(json.dumps(run.to_dict(), allow_nan=False))) == run
    (tmp_path / "run.toml").write_text(toml(run.to_dict()), encoding="utf-8")
    assert kind.from_toml(tmp_path / "run.toml") == run
    folder = nasplat.RunFolder(tmp_path / "run")
    folder.description.unlink(missing_ok=True)
    folder.describe(run)
    assert folder.run == run


def test_words_win_over_a_file_setting_by_setting(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('space = "vit"\ntrials = 7\nprune = true\nmaximize = "trained"\n[limits]\nmacs = 1e6\nparams = 9\n')
    run = SearchRun.from_toml(file, ["--trials=9", "--limit", "macs=2e6", "--no-prune", "--train.epochs", "3"])
    assert run == SearchRun(
        "vit", maximize="trained", limits={"macs": 2e6, "params": 9}, trials=9, train=TrainConfig(epochs=3)
    )
    assert SearchRun.from_toml(file, ["nasbench201"]).space == "nasbench201"
    file.write_text('space = "vit"\ntrails = 7\n')
    with pytest.raises(InputError, match="nearest is trials"):
        SearchRun.from_toml(file)
    file.write_text("space = \n")
    with pytest.raises(InputError, match=r"expected a TOML file of a search, got .*run\.toml"):
        SearchRun.from_toml(file)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"trails": 3}, "the nearest is trials"),
        ({"trials": 2.5}, "trials to be a whole number, got 2.5"),
        ({"trials": 0}, "trials >= 1, got 0"),
        ({"trials": True}, "trials to be a whole number, got True"),
        ({"seed": -1}, "seed >= 0, got -1"),
        ({"limits": {"macs": -3}}, "positive number as macs, got -3"),
        ({"limits": {"macs": 0}}, "positive number as macs, got 0"),
        ({"limits": {"macs": math.nan}}, "positive number as macs, got nan"),
        ({"limits": {"macs": math.inf}}, "positive number as macs, got inf"),
        ({"limits": {"macs": True}}, "positive number as macs, got True"),
        ({"limits": {"mac": 3}}, "limits on macs, params"),
        ({"limits": 3}, "limits as values by name, got 3"),
        ({"train": {"epochs": 2.5}}, "--train.epochs to be a whole number, got 2.5"),
        ({"train": {"lr": True}}, "--train.lr to be a number, got True"),
        ({"train": {"bf16": "maybe"}}, "--train.bf16 to be true or false, got 'maybe'"),
        ({"train": {"epochz": 2}}, "nearest is epochs"),
        ({"train": 3}, "train to be TrainConfig, got 3"),
        ({"stages": "trained"}, "stages to be a list, got 'trained'"),
        ({"stages": ("learnt",), "budget": 3.0}, "got 'learnt'"),
        ({"maximize": "trained:0"}, "got 'trained:0'"),
        ({"budget": math.nan}, "budget to be a number, got nan"),
        ({"minimize": "mac"}, "the nearest is macs"),
        ({"runtime": "onnxrt"}, "the nearest is onnxruntime"),
        ({"latency": 3}, "latency to be a name or path, got 3"),
        ({"space": None}, "space to be a name or path, got None"),
        ({"prune": "yes"}, "prune to be true or false, got 'yes'"),
        ({"prune": True}, "an objective with a learning curve, got 'inherited'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(change: dict[str, Any], text: str) -> None:
    with pytest.raises(NasplatError) as refused:
        SearchRun(**({"space": "vit"} | change))
    assert text in str(refused.value)
    with pytest.raises(NasplatError):
        SearchRun.from_dict({"space": "vit"} | change)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["vit", "--trails=2"], "got '--trails=2'"),
        (["vit", "--trials=2.5"], "--trials expected a whole number, got '2.5'"),
        (["vit", "--trials"], "expected --trials with a value"),
        (["vit", "--train.bf16=maybe"], "--train.bf16 expected true or false, got 'maybe'"),
        (["vit", "--prune=maybe"], "--prune expected true or false, got 'maybe'"),
        (["vit", "--limit=macs"], "expected NAME=VALUE, got 'macs'"),
        (["vit", "again"], "got 'again'"),
        (["vit", "-x"], "got '-x'"),
        ([], "a search expected a space, got none"),
    ],
)
def test_words_that_do_not_fit_are_refused_by_name(words: list[str], text: str) -> None:
    with pytest.raises(InputError) as refused:
        SearchRun.from_words(words)
    assert text in str(refused.value)


def test_every_field_of_every_run_has_a_sentence_and_its_default() -> None:
    for kind in KINDS.values():
        told = {f.name: f for f in fields_of(kind.__name__)}
        assert list(told) == [f.name for f in fields(kind)]
        for field in fields(kind):
            assert len(told[field.name].sentence.split()) > 4, field.name
            if isinstance(field.default, str | int | float):
                assert told[field.name].default == field.default
    assert [f.name for f in fields_of("TrainConfig")] == [f.name for f in fields(TrainConfig)]
    assert [f.name for f in fields_of("Budget")] == [f.name for f in fields(Budget)]


def test_a_space_that_a_name_gives_has_words_and_others_are_refused(cells: nasplat.Space) -> None:
    assert nasplat.words(SearchRun(cells, trials=3))[1] == "nasbench201"
    assert SearchRun.from_words(nasplat.words(SearchRun(cells))[1:]).loaded_space() == cells

    @nasplat.space(example_input=(1, 4))
    def mine(pick: nasplat.Pick) -> Any:
        raise AssertionError

    with pytest.raises(InputError, match="expected a space by name or path"):
        nasplat.words(SearchRun(mine))
    with pytest.raises(InputError, match="expected presets beside a space's name"):
        SearchRun(cells, presets={"width": 8})
    task = nasplat.load_task("digits-clutter?train=64&decide=32&test=32")
    with pytest.raises(InputError, match="expected a task by name or folder"):
        nasplat.words(SearchRun("vit", task))


def test_objects_of_a_run_are_told_in_a_line_whatever_they_have_learnt() -> None:
    space = nasplat.space(example_input=(1, 2))(lambda pick: None)  # is never built
    loop: list[Any] = []
    loop.append(loop)
    space.remembered("what a supernet or a forecast keeps", lambda: loop)
    task = nasplat.Task.from_arrays(([[0.0, 1.0]], [0]), ([[0.0, 1.0]], [1]))
    found = SearchRun(space, task).to_dict()
    assert found["task"] == repr(task)
    assert found["space"] == space.name
