"""The code of README and docs runs as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from nasplat.cli import cli

README = Path(__file__).parents[1] / "README.md"


DOCS = sorted((README.parent / "docs").glob("*.md"))


def blocks(language: str, *pages: Path) -> list[str]:
    texts = [p.read_text(encoding="utf-8") for p in pages or (README,)]
    return [
        code for text in texts for code in re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


@pytest.mark.parametrize("code", blocks("python"))
def test_python_block_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("page", DOCS, ids=lambda p: p.stem)
def test_python_of_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {"__name__": page.stem}
    for code in blocks("python", page):
        exec(compile(code, page.name, "exec"), space)


@pytest.mark.parametrize(
    "line",
    [line for code in blocks("sh", README, *DOCS) for line in code.splitlines() if line.startswith("nasplat ")],
    ids=lambda s: s.split()[1],
)
def test_command_runs(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, shlex.split(line)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_every_verb_is_in_the_table() -> None:
    text = README.read_text(encoding="utf-8")
    for verb in cli.commands:
        assert f"`{verb}`" in text, verb


def test_every_link_leads_somewhere() -> None:
    for page in (README, *DOCS):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), target
