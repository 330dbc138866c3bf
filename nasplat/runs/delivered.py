"""Sections of a report on what was handed over: files judged as files, predictors behind the search, and pictures of what the network answers."""

from __future__ import annotations

import base64
import csv
import json
from html import escape
from pathlib import Path
from typing import Any

Row = dict[str, str]


def predictors_section(folder: Path) -> str:
    """What the predictors of latency and quality were fitted on, and how wrong they are on networks that they did not see."""
    found, latency, quality = [], folder / "latency" / "metrics.json", folder / "quality" / "quality.json"
    if latency.exists():
        about = json.loads(latency.read_text(encoding="utf-8"))
        found.append(
            f"Latency: {about['networks']} networks of the space were timed on this machine; each predicted without its fold, rank agreement "
            f"τ-b {about['tau']:.3f}, mean error {about['mape_percent']:.1f} %."
        )
    if quality.exists():
        about = json.loads(quality.read_text(encoding="utf-8"))
        found.append(
            f"Quality: the universal predictor was fine-tuned on {about['networks']} random networks ({about['metric']}); each predicted without its "
            f"fold, rank agreement τ-b {about['kendall_tau']:.3f} (MACs alone {about['macs_tau']:.3f}, parameters {about['params_tau']:.3f}), mean "
            f"absolute error {about['mean_absolute_error']:.3g}."
        )
    return "".join(["<h2>Predictors</h2>", *(f"<p>{escape(t)}</p>" for t in found)]) if found else ""


def files_section(folder: Path) -> str:
    """The exported members of the Pareto set."""
    file = folder / "front.csv"
    if not file.exists():
        return ""
    with file.open(newline="", encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    metric = next(c for c in rows[0] if c.startswith("test "))
    body = "".join(f"<tr><td class='left'>front/{escape(r['name'])}.onnx</td>{_cells(r, metric)}</tr>" for r in rows)
    head = "".join(
        f"<th>{escape(c)}</th>"
        for c in ("parameters", "MACs", "searched", metric, "mean |torch − file|", "predicted ms", "measured ms")
    )
    summary, about = "", _json(folder / "front.json")
    if about and about.get("latency"):
        found = about["latency"]
        summary = f" Predicted against measured latency of these {found['networks']} files: τ-b {found['tau']:.3f}, mean error {found['mape_percent']:.1f} %."
    return (
        f"<h2>Files of the Pareto set</h2><p>Subnets with inherited weights, judged as ONNX files in ONNX Runtime on the test split; latencies of one "
        f"example with {rows[0]['threads']} threads, measured in turns, with 95 % intervals.{summary}</p>"
        f"<table><tr><th class='left'>file</th>{head}</tr>{body}</table>"
    )


def _cells(row: Row, metric: str) -> str:
    predicted = "" if not row.get("predicted_ms") else f"{float(row['predicted_ms']):.2f}"
    measured = (
        f"{float(row['measured_ms']):.2f} [{float(row['measured_low_ms']):.2f}, {float(row['measured_high_ms']):.2f}]"
    )
    values = (
        *(
            f"{int(row['params']):,}",
            f"{int(row['macs']):,}",
            f"{float(row['searched']):.3f}",
            f"{float(row[metric]):.3f}",
        ),
        *(f"{float(row['mean_difference']):.1e}", predicted, measured),
    )
    return "".join(f"<td>{v}</td>" for v in values)


def pictures_section(folder: Path) -> str:
    """What the exported network answers on test examples; pictures lie inside the page."""
    about = _json(folder / "pictures" / "pictures.json")
    if about is None:
        return ""
    parts = []
    for example in about["examples"]:
        figures = "".join(_figure(folder / "pictures" / p["file"], p["caption"]) for p in example["pictures"])
        parts.append(f"<div class='pictures'>{figures}</div>")
    title = f"<h2>What {escape(about['network'])} answers</h2><p>Test examples spread over the split, answered by ONNX Runtime.</p>"
    return title + "".join(parts)


def _figure(file: Path, caption: str) -> str:
    data = base64.b64encode(file.read_bytes()).decode()
    text = escape(caption)
    return f"<figure><img alt='{text}' src='data:image/png;base64,{data}'><figcaption>{text}</figcaption></figure>"


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
