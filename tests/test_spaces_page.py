"""docs/spaces.md is what its generator writes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import nasplat

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "spaces.md").read_text(encoding="utf-8")


@pytest.fixture
def generator(tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_spaces", DOCS / "make_spaces.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.HERE = tmp_path
    (tmp_path / "spaces").mkdir()
    return module


@pytest.mark.parametrize("name", ["hiaml", "fbnet", "two_path"])
def test_sections_are_those_of_the_generator(generator: ModuleType, name: str, tmp_path: Path) -> None:
    row, section = generator.describe(name)
    assert row in PAGE
    assert section in PAGE
    drawn = Path("spaces") / f"{name}.svg"
    assert (tmp_path / drawn).read_text(encoding="utf-8") == (DOCS / drawn).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", nasplat.list_spaces())
def test_every_space_has_its_section_and_drawing(name: str) -> None:
    assert f"\n## {name}\n" in PAGE
    assert (DOCS / "spaces" / f"{name}.svg").exists()
