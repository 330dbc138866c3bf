"""What a run handed over, for its report: judged files, predictors behind the search, pictures of the answers."""

from __future__ import annotations

import base64
import csv
from typing import Any

from nasplat.runs.folder import RunFolder
from nasplat.runs.listings import files_listing
from nasplat.runs.reading import read_json


def predictors_told(folder: RunFolder) -> list[str]:
    """Say what the predictors of latency and quality were fitted on, and how wrong they are on other networks.

    Args:
        folder: Folder of the run.

    Returns:
        One sentence per predictor that the run fitted.
    """
    found = []
    if about := read_json(folder.latency_error):
        found.append(
            f"Latency: {about['networks']} networks of the space were timed on this machine; each predicted without "
            f"its fold, rank agreement τ-b {about['tau']:.3f}, mean error {about['mape_percent']:.1f} %."
        )
    if about := read_json(folder.quality_error):
        found.append(
            f"Quality: the universal predictor was fine-tuned on {about['networks']} random networks "
            f"({about['metric']}); each predicted without its fold, rank agreement τ-b {about['kendall_tau']:.3f} "
            f"(MACs alone {about['macs_tau']:.3f}, parameters {about['params_tau']:.3f}), mean absolute error "
            f"{about['mean_absolute_error']:.3g}."
        )
    return found


def files_told(folder: RunFolder) -> dict[str, Any] | None:
    """Describe the exported members of the Pareto set.

    Args:
        folder: Folder of the run.

    Returns:
        Their table, the number of threads of the latencies, and how well those were predicted; None without files.
    """
    file = folder.front
    if not file.exists():
        return None
    with file.open(newline="", encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    metric = next(c for c in rows[0] if c.startswith("test "))
    summary, about = "", read_json(folder.front_summary)
    if about and (found := about.get("latency")):
        summary = (
            f" Predicted against measured latency of these {found['networks']} files: τ-b {found['tau']:.3f}, mean "
            f"error {found['mape_percent']:.1f} %."
        )
    return {"listing": files_listing(rows, metric), "threads": rows[0]["threads"], "summary": summary}


def pictures_told(folder: RunFolder) -> dict[str, Any] | None:
    """Collect what the exported network answers on test examples.

    Args:
        folder: Folder of the run.

    Returns:
        Name of the network, and for every example its pictures with caption and PNG data in base 64, so that the page
        needs no other file; None where there are none.
    """
    about = read_json(folder.captions)
    if about is None:
        return None

    def shown(picture: dict[str, str]) -> dict[str, str]:
        data = (folder.pictures / picture["file"]).read_bytes()
        return {"caption": picture["caption"], "data": base64.b64encode(data).decode()}

    examples = [[shown(p) for p in example["pictures"]] for example in about["examples"]]
    return {"network": about["network"], "examples": examples}
