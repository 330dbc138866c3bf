"""How the training of a supernet went, as drawings: its subnets, loss, learning rate and throughput, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from math import floor, log10
from pathlib import Path

from nasplat.supernet.training import Epoch, read_history

WIDTH, HEIGHT = 860, 260
LEFT, RIGHT, TOP, BOTTOM = 70, 846, 16, 214
BLUE, GREY, ORANGE = "#2563a8", "#7b8791", "#c2570c"


def training_section(folder: Path) -> str:
    """The part of a page that tells of a supernet's training; empty where the run folder holds none.

    Args:
        folder: Of a run.
    """
    file = folder / "supernet" / "supernet.safetensors"
    if not file.exists():
        return ""
    history, total, metric = read_history(file)
    if not history:
        return ""
    last = history[-1]
    text = f"<h2>Training of the supernet</h2><p>{len(history)} of {total} epochs, loss {last.loss:.4f}"
    if last.health is not None:
        mean = sum(last.health.random) / len(last.health.random)
        text += (
            f"; {escape(metric)} on {last.health.examples} examples of the decide split, statistics recalibrated: smallest "
            f"{last.health.smallest:.2f}, largest {last.health.largest:.2f}, eight random subnets {mean:.2f} "
            f"({min(last.health.random):.2f} to {max(last.health.random):.2f}), gap of all {last.health.gap:.2f}"
        )
    text += ".</p>"
    watched = [e for e in history if e.health is not None]
    if watched:
        text += _picture(metric, watched, _subnets(watched))
    text += _picture("loss", history, [("mean of the subnets trained", BLUE, [e.loss for e in history])])
    text += _picture("learning rate", history, [("last step of the epoch", BLUE, [e.lr for e in history])])
    text += _picture("images/s", history, [("times subnets of a step", BLUE, [e.images_per_second for e in history])])
    told = [(e.epoch, w) for e in history for w in e.warnings]
    if told:
        items = "".join(f"<li>epoch {n}: {escape(w)}</li>" for n, w in told)
        text += f"<h3>Warnings</h3><ul>{items}</ul>"
    return text


Line = tuple[str, str, Sequence[float]]


def _subnets(watched: list[Epoch]) -> list[Line]:
    health = [e.health for e in watched if e.health is not None]
    random = [h.random for h in health]
    return [
        ("band: the eight random subnets", "band", [v for r in random for v in (min(r), max(r))]),
        ("their mean", GREY, [sum(r) / len(r) for r in random]),
        ("smallest", ORANGE, [h.smallest for h in health]),
        ("largest", BLUE, [h.largest for h in health]),
    ]


def _picture(title: str, epochs: Sequence[Epoch], lines: Sequence[Line]) -> str:
    numbers = [e.epoch for e in epochs]
    values = [v for _, _, line in lines for v in line]
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    low, high = low - margin, high + margin
    first, last = numbers[0], max(numbers[-1], numbers[0] + 1)

    def x(number: float) -> float:
        return LEFT + (number - first) / (last - first) * (RIGHT - LEFT)

    def y(value: float) -> float:
        return BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP)

    parts, at = list[str](), float(LEFT)
    for value in _ticks(low, high, 5):
        parts.append(f"<line x1='{LEFT}' x2='{RIGHT}' y1='{y(value):.1f}' y2='{y(value):.1f}' stroke='#eef1f4'/>")
        parts.append(f"<text x='{LEFT - 8}' y='{y(value) + 4:.1f}' text-anchor='end'>{value:.6g}</text>")
    for value in _ticks(first, last, 8):
        if value == round(value):
            parts.append(f"<text x='{x(value):.1f}' y='{BOTTOM + 18}' text-anchor='middle'>{value:.0f}</text>")
    parts.append(f"<text x='{RIGHT}' y='{BOTTOM + 32}' text-anchor='end'>epoch</text>")
    middle = (TOP + BOTTOM) / 2
    parts.append(
        f"<text x='14' y='{middle}' text-anchor='middle' transform='rotate(-90 14 {middle})'>{escape(title)}</text>"
    )
    for before, after in pairwise(epochs):
        if before.phase != after.phase:
            where = (x(before.epoch) + x(after.epoch)) / 2
            parts.append(
                f"<line x1='{where:.1f}' x2='{where:.1f}' y1='{TOP}' y2='{BOTTOM}' stroke='{GREY}' stroke-dasharray='4 4'/>"
            )
            parts.append(f"<text x='{where + 4:.1f}' y='{TOP + 8}'>{escape(after.phase)}</text>")
    for name, colour, line in lines:
        if colour == "band":
            edges = [(n, line[2 * i], line[2 * i + 1]) for i, n in enumerate(numbers)]
            path = [f"{x(n):.1f},{y(a):.1f}" for n, a, _ in edges] + [
                f"{x(n):.1f},{y(b):.1f}" for n, _, b in reversed(edges)
            ]
            parts.append(f"<polygon points='{' '.join(path)}' fill='#dfe4e8'/>")
        else:
            points = " ".join(f"{x(n):.1f},{y(v):.1f}" for n, v in zip(numbers, line, strict=True))
            parts.append(f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.8'/>")
            if len(numbers) < 40:
                parts += [
                    f"<circle cx='{x(n):.1f}' cy='{y(v):.1f}' r='2.5' fill='{colour}'/>"
                    for n, v in zip(numbers, line, strict=True)
                ]
        fill = "#dfe4e8" if colour == "band" else colour
        parts.append(f"<rect x='{at:.0f}' y='{BOTTOM + 24}' width='12' height='8' fill='{fill}'/>")
        parts.append(f"<text x='{at + 17:.0f}' y='{BOTTOM + 32}'>{escape(name)}</text>")
        at += 34 + 6.4 * len(name)
    return (
        f"<svg class='curve' viewBox='0 0 {WIDTH} {HEIGHT}' width='100%' role='img' aria-label='{escape(title)} by epoch' font-size='11' "
        f"fill='#46505a'>{''.join(parts)}</svg>"
    )


def _ticks(low: float, high: float, about: int) -> list[float]:
    raw = (high - low) / about
    power = 10.0 ** floor(log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    start = -floor(-low / step)
    return [step * (start + i) for i in range(about * 2 + 2) if step * (start + i) <= high + step * 1e-9]
