"""How the training of a supernet went, as drawings: its subnets, loss, learning rate and throughput, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor, log10
from typing import Any

from nasplat.runs.folder import RunFolder
from nasplat.supernet.checkpoint import read_history
from nasplat.supernet.history import Epoch

WIDTH, HEIGHT = 860, 260
LEFT, RIGHT, TOP, BOTTOM = 70, 846, 16, 214
BLUE, GREY, ORANGE, PALE = "#2563a8", "#7b8791", "#c2570c", "#dfe4e8"
DOTTED = 40
"""Epochs up to which every value has a dot."""


@dataclass(frozen=True)
class Line:
    """One quantity over the epochs."""

    name: str
    """Words of the legend."""
    colour: str
    """Colour of the line, as in CSS."""
    values: Sequence[float]
    """Value after every epoch; of a band the lower edge."""
    upper: Sequence[float] | None = None
    """Upper edge of a band after every epoch; None for a line."""


def training_story(folder: RunFolder) -> dict[str, Any] | None:
    """Tell how the supernet of a run folder was trained, for the report's template.

    Args:
        folder: Folder of the run.

    Returns:
        A sentence, the places of everything in the drawings, and the warnings; None where the folder holds no training.
    """
    file = folder.checkpoint
    if not file.exists():
        return None
    history, total, metric = read_history(file)
    if not history:
        return None
    last = history[-1]
    text = f"{len(history)} of {total} epochs, loss {last.loss:.4f}"
    if last.health is not None:
        mean = sum(last.health.random) / len(last.health.random)
        text += (
            f"; {metric} on {last.health.examples} examples of the decide split, statistics recalibrated: smallest "
            f"{last.health.smallest:.2f}, largest {last.health.largest:.2f}, eight random subnets {mean:.2f} "
            f"({min(last.health.random):.2f} to {max(last.health.random):.2f}), gap of all {last.health.gap:.2f}"
        )
    watched = [e for e in history if e.health is not None]
    pictures = [_picture(metric, watched, _subnets(watched))] if watched else []
    for title, name, values in (
        ("loss", "mean of the subnets trained", [e.loss for e in history]),
        ("learning rate", "last step of the epoch", [e.lr for e in history]),
        ("images/s", "times subnets of a step", [e.images_per_second for e in history]),
    ):
        pictures.append(_picture(title, history, [Line(name, BLUE, values)]))
    warnings = [f"epoch {e.epoch}: {w}" for e in history for w in e.warnings]
    return {"text": f"{text}.", "pictures": pictures, "warnings": warnings}


def _subnets(watched: Sequence[Epoch]) -> list[Line]:
    health = [e.health for e in watched if e.health is not None]
    random = [h.random for h in health]
    return [
        Line("band: the eight random subnets", PALE, [min(r) for r in random], [max(r) for r in random]),
        Line("their mean", GREY, [sum(r) / len(r) for r in random]),
        Line("smallest", ORANGE, [h.smallest for h in health]),
        Line("largest", BLUE, [h.largest for h in health]),
    ]


def _picture(title: str, epochs: Sequence[Epoch], lines: Sequence[Line]) -> dict[str, Any]:
    """Places of everything in one drawing, as text with a tenth of a pixel."""
    numbers = [e.epoch for e in epochs]
    low, high = _range([v for line in lines for v in (*line.values, *(line.upper or ()))])
    first, last = numbers[0], max(numbers[-1], numbers[0] + 1)

    def x(number: float) -> float:
        return LEFT + (number - first) / (last - first) * (RIGHT - LEFT)

    def y(value: float) -> float:
        return BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP)

    def points(values: Sequence[float], order: Sequence[int] | range) -> list[tuple[str, str]]:
        return [(f"{x(numbers[i]):.1f}", f"{y(values[i]):.1f}") for i in order]

    drawn, at = [], float(LEFT)
    for line in lines:
        there = points(line.values, range(len(numbers)))
        back = points(line.upper, range(len(numbers) - 1, -1, -1)) if line.upper else []
        drawn.append(
            {
                "name": line.name,
                "colour": line.colour,
                "is_band": line.upper is not None,
                "points": " ".join(f"{a},{b}" for a, b in (*there, *back)),
                "dots": there if len(numbers) < DOTTED else [],
                "legend_at": f"{at:.0f}",
                "legend_text_at": f"{at + 17:.0f}",
            }
        )
        at += 34 + 6.4 * len(line.name)
    changes = [(x((a.epoch + b.epoch) / 2), b.phase) for a, b in pairwise(epochs) if a.phase != b.phase]
    rows = [(y(v), f"{v:.6g}") for v in _ticks(low, high, 5)]
    columns = [(x(v), f"{v:.0f}") for v in _ticks(first, last, 8) if v == round(v)]
    return {
        **{"title": title, "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP},
        **{"bottom": BOTTOM, "middle": (TOP + BOTTOM) / 2, "lines": drawn},
        "rows": [{"at": f"{at:.1f}", "text_at": f"{at + 4:.1f}", "label": label} for at, label in rows],
        "columns": [{"at": f"{at:.1f}", "label": label} for at, label in columns],
        "phases": [{"at": f"{at:.1f}", "text_at": f"{at + 4:.1f}", "name": name} for at, name in changes],
    }


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float, about: int) -> list[float]:
    raw = (high - low) / about
    power = 10.0 ** floor(log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    start = -floor(-low / step)
    return [step * (start + i) for i in range(about * 2 + 2) if step * (start + i) <= high + step * 1e-9]
