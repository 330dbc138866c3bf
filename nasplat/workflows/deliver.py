"""`hand_over`: subnets become ONNX files that are judged as files, by quality on the test split and by latency.

`front/` of a run folder holds the files with their certificates, `front.csv` what they reach, `pictures/` what the
chosen one answers.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasplat.errors import ExportError, MissingExtraError
from nasplat.predict.latency import LatencyPredictor
from nasplat.probes import time_together
from nasplat.probes.onnx_network import OnnxNetwork
from nasplat.searchspace import Architecture
from nasplat.supernet import Supernet
from nasplat.tables.metrics import kendall_tau
from nasplat.tables.rows import write_atomically
from nasplat.task import Task
from nasplat.task.bundle import feed
from nasplat.workflows.export import export

BATCH = 8
"""Number of examples that a file answers at once; dense answers are large in memory."""
COMPARED = 32
"""Number of test examples on which a file is compared with its module."""
SECONDS = 4.0
"""Longest time that the timed passes of one file take together, in seconds."""
SHOWN = 4
"""Number of examples that pictures are made of."""


@dataclass(frozen=True)
class Member:
    """A subnet that is delivered."""

    name: str
    """Name of its files, without their endings."""
    architecture: Architecture
    """Choices that make the subnet."""
    searched: float
    """Value of the first objective in the search."""


def hand_over(
    supernet: Supernet,
    members: Sequence[Member],
    folder: Path,
    latency: LatencyPredictor | None = None,
    report: Callable[[int, int, str], None] | None = None,
) -> list[dict[str, Any]]:
    """Export subnets with inherited weights, judge the files on the test split, and time them in turns.

    Args:
        supernet: Trained supernet whose weights they inherit.
        members: Subnets to deliver.
        folder: Folder of the run; `front/` and `front.csv` are written in it.
        latency: Predictor of latency on this device, whose answers stand beside what is measured; None leaves them out.
        report: Called with the number of subnets done, the number of all, and words about the last one.

    Returns:
        One row for each subnet that could be exported: name, params, macs, the metric on decide as searched and on
        test as a file, mean and largest difference from torch, latencies in milliseconds. `front/failures.json` tells
        of the others.

    Raises:
        ExportError: none could be exported.
    """
    rows, files, failures = list[dict[str, Any]](), list[OnnxNetwork](), list[dict[str, str]]()
    for i, member in enumerate(members):
        path = folder / "front" / f"{member.name}.onnx"
        try:
            row = _exported(supernet, member, path, latency)
        except ExportError as err:
            failures.append({"name": member.name, "architecture": str(member.architecture), "failure": str(err)})
            continue
        rows.append(row)
        files.append(OnnxNetwork(path))
        if report is not None:
            report(i + 1, len(members), f"{member.name}: {row[f'test {supernet.task.metric_name}']:.4g}")
    write_atomically(folder / "front" / "failures.json", json.dumps(failures, indent=1) + "\n")
    if not rows:
        reason = failures[0]["failure"] if failures else "there is none"
        raise ExportError(f"no member of the Pareto set could be exported: {reason}")
    x = supernet.task.test.x[:1].cpu()
    timed = time_together([lambda f=f: feed(f, x) for f in files], seconds=SECONDS)
    for row, found in zip(rows, timed, strict=True):
        row |= {"measured_ms": found.median_ms, "measured_low_ms": found.low_ms, "measured_high_ms": found.high_ms}
        row |= {"threads": found.threads, "flags": "; ".join(found.flags)}
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(n for row in rows for n in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "front.csv", text.getvalue())
    return rows


def _exported(supernet: Supernet, member: Member, path: Path, latency: LatencyPredictor | None) -> dict[str, Any]:
    """Write one subnet's file, and measure everything about it but its latency."""
    task = supernet.task
    module = supernet.subnet(member.architecture).cpu()
    example: Any = member.architecture.example_input
    certificate = export(module, path, example, task=task)
    file, graph = OnnxNetwork(path), member.architecture.graph()
    difference = _difference(module, file, task)
    row = {"name": member.name, "params": graph.params, "macs": graph.macs, "searched": member.searched}
    row |= {n: s for n, s in (("macs_bound", graph.cost.bound), ("params_bound", graph.cost.params_bound)) if s}
    row |= {f"test {task.metric_name}": task.evaluate(file, "test", BATCH), "opset": certificate.opset}
    row |= {"mean_difference": float(difference.mean()), "max_difference": float(difference.max())}
    row |= {
        "max_output": max(c["max_output"] for c in certificate.checks),
        "architecture": str(member.architecture),
    }
    if latency is not None:
        answer = latency.predict([graph])[0]
        row |= {"predicted_ms": answer.mean, "predicted_low_ms": answer.low, "predicted_high_ms": answer.high}
    return row


@torch.inference_mode()
def _difference(module: torch.nn.Module, file: OnnxNetwork, task: Task) -> torch.Tensor:
    """Absolute difference of module and file in every output on some test examples."""
    x = task.test.x[:COMPARED].cpu()
    batches = [x[i : i + BATCH] for i in range(0, len(x), BATCH)]
    parts = [(feed(module, part) - feed(file, part)).abs().flatten() for part in batches]
    return torch.cat(parts)


def latency_agreement(rows: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """Compare predicted with measured latencies.

    Args:
        rows: Rows of `hand_over`.

    Returns:
        Number of networks, rank agreement (tau-b) and mean absolute percentage error; None for fewer than three
        networks with both.
    """
    known = [(r["predicted_ms"], r["measured_ms"]) for r in rows if r.get("predicted_ms") is not None]
    if len(known) < 3:
        return None
    predicted, measured = (np.array(v, np.float64) for v in zip(*known, strict=True))
    tau = kendall_tau(predicted.tolist(), measured.tolist())
    return {
        "networks": len(known),
        "tau": float(tau),
        "mape_percent": float(np.mean(np.abs(predicted / measured - 1)) * 100),
    }


def show(path: Path, task: Task, folder: Path) -> bool:
    """Write pictures of what a file answers on a few test examples, with their captions in `pictures.json`.

    Args:
        path: ONNX file that answers.
        task: Task whose `show` makes the pictures.
        folder: Folder that they are written to; it is made where it is missing.

    Returns:
        Whether the task can make pictures.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    if task.show is None:
        return False
    try:
        from PIL import Image
    except ImportError as err:
        raise MissingExtraError(
            'pictures need Pillow, which is not installed.\n  pip install "nasplat[images]"'
        ) from err
    places = torch.arange(min(SHOWN, len(task.test))) * len(task.test) // min(SHOWN, len(task.test))
    x, y = task.test.x[places].cpu(), task.test.y[places].cpu()
    answers, rows = feed(OnnxNetwork(path), x), []
    for i, place in enumerate(places.tolist()):
        row = []
        for j, picture in enumerate(task.show(x[i], y[i], answers[i])):
            name = f"{i}-{j}.png"
            file = io.BytesIO()
            Image.fromarray(picture.pixels).save(file, "PNG")
            write_atomically(folder / name, file.getvalue())
            row.append({"file": name, "caption": picture.caption})
        rows.append({"example": place, "pictures": row})
    text = json.dumps({"network": path.name, "examples": rows}, indent=1)
    write_atomically(folder / "pictures.json", text + "\n")
    return True
