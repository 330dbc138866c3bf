"""Whatever a run folder says, the report shows it as text."""

from __future__ import annotations

import json
from pathlib import Path

import nasplat

MARKUP = "<script>alert(1)</script>"


def test_markup_in_a_run_folder_stays_text(tmp_path: Path) -> None:
    def quality(architecture: nasplat.Architecture) -> float:
        return float(len(set(architecture.choices.values())))

    quality.__name__ = "<!--<script>"
    nasplat.search(
        nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1),
        maximize=[quality],
        n_trials=3,
        storage=str(tmp_path / "study.journal"),
    )
    about = {"verb": f"search{MARKUP}", "settings": {"space": MARKUP}, "command": MARKUP, "words": []}
    (tmp_path / "run.json").write_text(json.dumps(about))
    page = nasplat.write_report(tmp_path).read_text(encoding="utf-8")
    assert MARKUP not in page
    assert "<!--" not in page
    assert page.count("<script>") == 1  # the page's own
    assert "search&lt;script&gt;" in page


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    about = {"verb": "train", "settings": {"space": "made up"}, "command": "nasplat train", "words": []}
    (tmp_path / "run.json").write_text(json.dumps(about))
    page = nasplat.write_report(tmp_path).read_text(encoding="utf-8")
    assert "<link" not in page
    assert "src=" not in page
    assert "function chart(svg)" in page
