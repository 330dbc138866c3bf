"""What README, docs, cards and content use is public, and everything public is told of."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

import nasplat

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
FACES = {"nasplat", "nasplat.blocks", "nasplat.testing"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "predictors").rglob("*.md"))]
CONTENT = sorted((ROOT / "search_spaces").glob("*.py"))


def imported(source: str) -> set[str]:
    """Modules of the package that a piece of Python imports or names in full."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return {m for m in found if m.split(".")[0] == "nasplat"}


@pytest.mark.parametrize("path", CONTENT, ids=lambda p: p.stem)
def test_content_imports_public_names_only(path: Path) -> None:
    assert imported(path.read_text(encoding="utf-8")) <= FACES


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_pages_use_public_names_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        assert imported(block) <= FACES, block
        for name in re.findall(r"\bnasplat\.(\w+)", block):
            assert name in {*nasplat.__all__, "blocks", "testing", "errors"}, f"{path.name}: nasplat.{name}"
    outside = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    for name in re.findall(r"`nasplat\.(\w+)[^`]*`", outside):
        assert name in {*nasplat.__all__, "blocks", "testing", "errors"}, f"{path.name}: nasplat.{name}"


def test_the_reference_tells_of_every_public_name() -> None:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    page = made.page()
    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == page, "python docs/make_reference.py"
    told = set(re.findall(r"^- `(?:nasplat\.blocks\.)?(\w+)", page, re.M))
    assert set(nasplat.__all__) - {"__version__"} <= told
    assert "`: \n" not in page


def test_every_public_name_is_used_in_a_guide_or_the_reference() -> None:
    text = "\n".join(p.read_text(encoding="utf-8") for p in PAGES)
    assert [n for n in nasplat.__all__ if n != "__version__" and not re.search(rf"\b{n}\b", text)] == []
