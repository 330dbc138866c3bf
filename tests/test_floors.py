"""Imports go downwards only, imports inside functions included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import nasplat

PACKAGE = Path(nasplat.__file__).parent
FLOOR = {
    "errors": 0,
    **dict.fromkeys(("content", "graph", "metrics"), 0.25),
    "table": 0.5,
    "capturing": 1,
    "editing": 1.5,
    **dict.fromkeys(("searchspace", "predict"), 2),
    "devices": 2.5,
    **dict.fromkeys(("inputs", "task"), 3),
    **dict.fromkeys(("measuring", "fitting"), 4),
    **dict.fromkeys(("supernet", "searching", "storage"), 5),
    **dict.fromkeys(("study", "exporting", "calibrating"), 6),
    **dict.fromkeys(("pilots", "handover"), 6.2),
    "stages": 6.5,
    **dict.fromkeys(("forecast", "improving"), 6.7),
    **dict.fromkeys(("testing", "runs", "reporting", "labelling", "workers"), 7),
    "demo": 8,
    "cli": 9,
    "__main__": 10,
}
APART = [("predict", "searchspace"), ("searching", "predict"), ("searching", "supernet"), ("predict", "supernet")]
NO_TORCH = ("errors", "content", "graph", "table", "metrics", "predict")
LEARNS_WITH_TORCH = ("encoder.py", "trunks.py", "contrastive.py", "gennape.py", "universal.py", "aiop.py")
"""Of predict; the registry imports them on demand, so that trees and counts answer without torch."""
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py" and "_content" not in p.parts)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "nasplat" else [str(node.module)]
            found += names
        elif isinstance(node, ast.Import):
            found += [a.name for a in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    here = room(path)
    assert here in FLOOR, f"{here} has no floor"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "nasplat" or len(parts) == 1 or parts[1].startswith("__"):
            continue
        there = parts[1]
        assert there in FLOOR, f"{path} imports {name}: import from the module that defines it"
        assert there == here or FLOOR[there] < FLOOR[here], (
            f"{path} (floor {FLOOR[here]}) imports {name} (floor {FLOOR[there]})"
        )
        assert (here, there) not in APART
    if here in NO_TORCH and path.name not in LEARNS_WITH_TORCH:
        assert not [n for n in imports(path) if n.split(".")[0] == "torch"], f"{path} imports torch"


def test_predictors_and_searches_never_name_a_space() -> None:
    names = nasplat.list_spaces()
    for path in FILES:
        if room(path) in {"predict", "searching", "supernet", "graph"}:
            text = path.read_text(encoding="utf-8")
            assert not [n for n in names if f'"{n}"' in text], path


def test_nothing_unpickles() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        for word in ("pickle.load", "torch.load(", "allow_pickle=True", "yaml.load("):
            assert word not in text, f"{path}: {word}"
