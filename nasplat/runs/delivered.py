"""What a run handed over, for its report: judged files, predictors behind the search, pictures of the answers."""

from __future__ import annotations

import base64
import csv
from typing import Any

from nasplat.runs.folder import RunFolder
from nasplat.runs.listings import files_listing
from nasplat.runs.reading import as_written, read_json

PNG = b"\x89PNG\r\n\x1a\n"
"""Beginning of every PNG file."""


def predictors_told(folder: RunFolder) -> list[str]:
    """Say what the predictors of latency and quality were fitted on, and how wrong they are on other networks.

    Args:
        folder: Folder of the run.

    Returns:
        One sentence per predictor that the run fitted.
    """
    found = []
    if about := read_json(folder.latency_error):
        with as_written(folder.latency_error):
            found.append(
                f"Latency: {about['networks']} networks of the space were timed on this machine; each predicted "
                f"without its fold, rank agreement τ-b {about['tau']:.3f}, mean error {about['mape_percent']:.1f} %."
            )
    if about := read_json(folder.quality_error):
        with as_written(folder.quality_error):
            found.append(
                f"Quality: the universal predictor was fine-tuned on {about['networks']} random networks "
                f"({about['metric']}); each predicted without its fold, rank agreement τ-b "
                f"{about['kendall_tau']:.3f} (MACs alone {about['macs_tau']:.3f}, parameters "
                f"{about['params_tau']:.3f}), mean absolute error {about['mean_absolute_error']:.3g}."
            )
    return found


def files_told(folder: RunFolder) -> dict[str, Any] | None:
    """Describe the exported members of the Pareto set.

    Args:
        folder: Folder of the run.

    Returns:
        Their table, the number of threads of the latencies, and how well those were predicted; None without files.

    Raises:
        SearchError: front.csv or front.json was altered or cut short.
    """
    file = folder.front
    if not file.exists():
        return None
    with as_written(file), file.open(newline="", encoding="utf-8") as text:
        try:
            rows = list(csv.DictReader(text))
        except csv.Error as err:
            raise ValueError(str(err)) from err
        metric = next(c for c in rows[0] if c.startswith("test "))
        listing, threads = files_listing(rows, metric), rows[0]["threads"]
    summary, about = "", read_json(folder.front_summary)
    if about and (found := about.get("latency")):
        with as_written(folder.front_summary):
            summary = (
                f" Predicted against measured latency of these {found['networks']} files: τ-b {found['tau']:.3f}, "
                f"mean error {found['mape_percent']:.1f} %."
            )
    return {"listing": listing, "threads": threads, "summary": summary}


def pictures_told(folder: RunFolder) -> dict[str, Any] | None:
    """Collect what the exported network answers on test examples.

    Args:
        folder: Folder of the run.

    Returns:
        Name of the network, and for every example its pictures with caption and PNG data in base 64, so that the page
        needs no other file; None where there are none.

    Raises:
        SearchError: pictures.json was altered, or names a file that is no picture of the run.
    """
    about = read_json(folder.captions)
    if about is None:
        return None

    def shown(picture: dict[str, str]) -> dict[str, str]:
        file = folder.pictures / picture["file"]
        # a page that is handed on must not carry other files of its maker
        if file.parent != folder.pictures or file.is_symlink() or not (data := file.read_bytes()).startswith(PNG):
            raise ValueError(f"{picture['file']!r} is no picture of the run")
        return {"caption": picture["caption"], "data": base64.b64encode(data).decode()}

    with as_written(folder.captions):
        try:
            examples = [[shown(p) for p in example["pictures"]] for example in about["examples"]]
        except OSError as err:
            raise ValueError(str(err)) from err
        return {"network": about["network"], "examples": examples}
