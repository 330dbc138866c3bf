"""What a run handed over, for its report: judged files, predictors behind the search, pictures of the answers."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path
from typing import Any

from nasplat.runs.listings import files_listing


def predictors_told(folder: Path) -> list[str]:
    """Say what the predictors of latency and quality were fitted on, and how wrong they are on other networks.

    Args:
        folder: Run folder.

    Returns:
        One sentence per predictor that the run fitted.
    """
    found = []
    if about := read_json(folder / "latency" / "metrics.json"):
        found.append(
            f"Latency: {about['networks']} networks of the space were timed on this machine; each predicted without "
            f"its fold, rank agreement τ-b {about['tau']:.3f}, mean error {about['mape_percent']:.1f} %."
        )
    if about := read_json(folder / "quality" / "quality.json"):
        found.append(
            f"Quality: the universal predictor was fine-tuned on {about['networks']} random networks "
            f"({about['metric']}); each predicted without its fold, rank agreement τ-b {about['kendall_tau']:.3f} "
            f"(MACs alone {about['macs_tau']:.3f}, parameters {about['params_tau']:.3f}), mean absolute error "
            f"{about['mean_absolute_error']:.3g}."
        )
    return found


def files_told(folder: Path) -> dict[str, Any] | None:
    """Describe the exported members of the Pareto set.

    Args:
        folder: Run folder.

    Returns:
        Their table, the number of threads of the latencies, and how well those were predicted; None without files.
    """
    file = folder / "front.csv"
    if not file.exists():
        return None
    with file.open(newline="", encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    metric = next(c for c in rows[0] if c.startswith("test "))
    summary, about = "", read_json(folder / "front.json")
    if about and (found := about.get("latency")):
        summary = (
            f" Predicted against measured latency of these {found['networks']} files: τ-b {found['tau']:.3f}, mean "
            f"error {found['mape_percent']:.1f} %."
        )
    return {"listing": files_listing(rows, metric), "threads": rows[0]["threads"], "summary": summary}


def pictures_told(folder: Path) -> dict[str, Any] | None:
    """Collect what the exported network answers on test examples.

    Args:
        folder: Run folder.

    Returns:
        Name of the network, and for every example its pictures with caption and PNG data in base 64, so that the page
        needs no other file; None where there are none.
    """
    about = read_json(folder / "pictures" / "pictures.json")
    if about is None:
        return None

    def shown(picture: dict[str, str]) -> dict[str, str]:
        data = (folder / "pictures" / picture["file"]).read_bytes()
        return {"caption": picture["caption"], "data": base64.b64encode(data).decode()}

    examples = [[shown(p) for p in example["pictures"]] for example in about["examples"]]
    return {"network": about["network"], "examples": examples}


def read_json(file: Path) -> Any:
    """Read a JSON file of a run folder; None where it is missing."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
