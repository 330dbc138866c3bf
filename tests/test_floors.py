"""The plan in nasplat's docstring holds: imports go downwards, no circles of files, sizes, and docstrings that say it all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from house import PACKAGE, callables, circles, file_arrows, files, imports, lacking, outside, room

import nasplat

pytestmark = pytest.mark.fast

PLAN = {name: int(floor) for floor, name in re.findall(r"^(\d)  (\w+)(?:/|\.py) ", nasplat.__doc__ or "", re.M)}
APART = {
    frozenset(pair.split(" and "))
    for pair in re.findall(r"^Apart: (.*)\.$", nasplat.__doc__ or "", re.M)[0].split(", ")
}
ENTRY = {"nasplat", "__main__"}
"""The package itself and its command line: above every floor."""
LATE = {
    "nasplat.cli": "commands import what they call, so that --help of every verb shows at once",
    "nasplat.features.arrays": "scipy's sparse matrices load where a graph is too large for dense ones",
    "nasplat.frontends.onnx_capture": "onnx loads with the first file that is read",
    "nasplat.graph.conversions": "graphs are read and printed without torch; networkx and torch-geometric load on request",
    **dict.fromkeys(
        (
            *("nasplat.learners.boosted", "nasplat.learners.forest", "nasplat.learners.process"),
            *("nasplat.learners.normal_scores", "nasplat.learners.spread", "nasplat.predict.estimator"),
            *("nasplat.predict.finetuned",),
            *("nasplat.predict.latency", "nasplat.tables.metrics", "nasplat.task.drawn"),
        ),
        "scikit-learn and the larger parts of scipy take half a second to load, and answering needs neither",
    ),
    "nasplat.learners.trunks": "torch-geometric takes half a second to load, and no shipped encoder passes messages with it",
    "nasplat.probes.onnx_writer": "torch's symbolic shapes load sympy, a third of a second, which export alone needs",
    "nasplat.probes.runtimes": "ONNX Runtime loads where a file is run; torch is timed without it",
    "nasplat.task.digits": "scikit-learn loads with the pictures that it holds; a task of one's own needs none",
    "nasplat.task.stereo_scenes": "scikit-learn loads with the pictures that textures are cut from",
}
"""Files and rooms that import torch, Optuna, scikit-learn or files of ours inside functions, and why."""
HEAVY = {"torch", "optuna", "sklearn", "torch_geometric", "networkx", "onnx", "onnxruntime", "onnxscript", "scipy"}
LIGHT = ("errors", "content", "graph", "tables")
"""Rooms without torch, so that graphs and tables are read where torch is not needed."""
NAMELESS = ("predict", "learners", "features", "study", "supernet", "graph")
"""Rooms in which no search space is named."""
FILES = files()
IMPORTS = imports()


def test_the_plan_lists_every_room_and_no_other() -> None:
    rooms = {room(m) for m in FILES} - ENTRY
    assert rooms == set(PLAN)
    assert len(APART) == 4
    assert len([p for p in PACKAGE.iterdir() if p.name not in {"__pycache__", "_content"}]) <= 24


@pytest.mark.parametrize("name", sorted(PLAN))
def test_imports_go_downwards(name: str) -> None:
    for i in IMPORTS:
        here, there = room(i.file), room(i.module)
        if here != name or there in {here, "nasplat"}:
            continue
        assert PLAN[there] < PLAN[here], (
            f"{i.file}:{i.line} (floor {PLAN[here]}) imports {i.module} (floor {PLAN[there]})"
        )
        assert frozenset((here, there)) not in APART, f"{i.file}:{i.line} imports {i.module}: these rooms stay apart"


def test_no_files_import_each_other() -> None:
    assert circles(file_arrows()) == []


def test_circles_are_found_through_functions_and_type_checking(tmp_path: Path) -> None:
    package = tmp_path / "small"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("def f():\n    from small.b import g\n")
    (package / "b.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from small import c\n")
    (package / "c.py").write_text("import small.a\n")
    (package / "d.py").write_text("import small.a\n")
    assert circles(file_arrows(package)) == [["small.a", "small.b", "small.c"]]


def test_late_imports_are_listed_with_their_reason() -> None:
    def late(module: str) -> bool:
        return any(module == name or module.startswith(f"{name}.") for name in LATE)

    own = [f"{i.file}:{i.line} imports {i.module}" for i in IMPORTS if (i.deferred or i.typing) and not late(i.file)]
    other = [
        f"{module} imports {name}"
        for module, path in FILES.items()
        for name, deferred in outside(path)
        if deferred and name in HEAVY and not late(module)
    ]
    assert own + other == []
    for name in LATE:
        known = any(i.file.startswith(name) and (i.deferred or i.typing) for i in IMPORTS)
        heavy = any(d and n in HEAVY for m, p in FILES.items() if m.startswith(name) for n, d in outside(p))
        assert known or heavy, f"{name} has no late import any more"


def test_networks_are_scored_without_libraries_that_only_learning_needs() -> None:
    loads: dict[str, set[str]] = {}
    for i in IMPORTS:
        if not (i.deferred or i.typing):
            parts = i.module.split(".")
            loads.setdefault(i.file, set()).update(".".join(parts[:k]) for k in range(2, len(parts) + 1))
    met, queue = set[str](), ["nasplat.runs.listings"]
    while queue:
        module = queue.pop()
        if module in FILES and module not in met:
            met.add(module)
            queue += loads.get(module, set())
    assert {"nasplat.inputs", "nasplat.predict.universal", "nasplat.workflows.score"} <= met
    found = [(m, n) for m in sorted(met) for n, late in outside(FILES[m]) if not late]
    assert [m for m, n in found if n in HEAVY - {"torch"}] == []


@pytest.mark.parametrize("name", LIGHT)
def test_light_rooms_load_without_torch(name: str) -> None:
    found = [(m, n) for m, p in FILES.items() if room(m) == name for n, late in outside(p) if not late]
    assert [m for m, n in found if n in {"torch", "torch_geometric"}] == []


def test_predictors_and_searches_never_name_a_space() -> None:
    names = nasplat.list_spaces()
    for module, path in FILES.items():
        if room(module) in NAMELESS:
            text = re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.S)  # examples may
            assert not [n for n in names if f'"{n}"' in text], module


def test_nothing_unpickles() -> None:
    for module, path in FILES.items():
        text = path.read_text(encoding="utf-8")
        for word in ("pickle.load", "torch.load(", "allow_pickle=True", "yaml.load("):
            assert word not in text, f"{module}: {word}"


def test_files_functions_and_signatures_stay_small() -> None:
    long = {m: n for m, p in FILES.items() if (n := len(p.read_text(encoding="utf-8").splitlines())) > 600}
    assert long == {}
    functions = [c for c in callables() if not c.is_class]
    assert [(c.place, c.name, c.lines) for c in functions if c.lines > 80] == []
    assert [(c.place, c.name, c.parameters) for c in functions if c.parameters > 8] == []


def test_every_public_name_says_what_it_takes_gives_and_refuses() -> None:
    assert lacking() == []
