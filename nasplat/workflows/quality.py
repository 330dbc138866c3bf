"""`learn_quality`: random networks of a space are evaluated, and a predictor of their quality is fitted whose error is stated.

The predictor that is fine-tuned on the pilots tells quality from the graph alone; each pilot's answer comes from a fit that did not see it. Every
finished evaluation is one row of `pilots.csv`, so that an interrupted call goes on where it stopped.
"""

from __future__ import annotations

import csv
import json
import random
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from nasplat.errors import SearchError
from nasplat.predict.abilities import Finetunable
from nasplat.predict.contract import AbstractPredictor
from nasplat.searchspace import Architecture, Space
from nasplat.study import AbstractObjective, Limits
from nasplat.tables.metrics import kendall_tau
from nasplat.tables.table import Table

FEWEST = 20
FOLDS = 5
ATTEMPTS = 20
"""Draws per pilot that is wanted; a small space has no more different ones."""
COLUMNS: tuple[str, ...] = ("architecture", "key", "macs", "params", "value", "failure")


@dataclass(frozen=True)
class Quality:
    """A predictor of quality, and how well it predicts networks that it did not see."""

    predictor: AbstractPredictor
    table: Table
    """The pilots that finished."""
    about: dict[str, Any]
    """networks, failed, metric, folds; kendall_tau, mean_absolute_error and median_absolute_error of left-out networks; macs_tau, params_tau."""


def learn_quality(
    space: Space,
    objective: AbstractObjective,
    base: Finetunable,
    folder: Path,
    n: int = 40,
    limits: Mapping[Any, float] | None = None,
    seed: int = 0,
    report: Callable[[int, int, str], None] | None = None,
) -> Quality:
    """Evaluate random networks and fine-tune a predictor on them.

    Args:
        space: Of the networks.
        objective: What is learnt.
        base: The predictor that is fine-tuned.
        folder: Holds pilots.csv and quality.json.
        n: Networks; at least 20.
        limits: Of the networks, as for `search`.
        seed: Decides the networks and the fit.
        report: Called with (done, n, words about the last one).

    Raises:
        SearchError: fewer than 20 networks are asked for, exist, or finish.
    """
    if n < FEWEST:
        raise SearchError(f"expected at least {FEWEST} pilots, got {n}.\n  Some 40 show how well quality is predicted.")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pilots.csv"
    known, rows = _read(file), list[tuple[Architecture, dict[str, str]]]()
    for i, (key, architecture) in enumerate(_draw(space, Limits.of(limits), n, seed).items()):
        if key not in known:
            known[key] = _evaluated(architecture, key, objective, file)
        rows.append((architecture, known[key]))
        if report is not None:
            report(i + 1, n, known[key]["value"] or "failed")
    done = [(a, r) for a, r in rows if r["value"]]
    if len(done) < FEWEST:
        raise SearchError(
            f"expected {FEWEST} pilots that finish, got {len(done)} of {len(rows)}.\n  Look at the failures in {str(file)!r}, or loosen the limits."
        )
    graphs, values = [a.graph() for a, _ in done], [float(r["value"]) for _, r in done]
    answers = np.empty(len(values))
    folds = np.random.default_rng(seed).permutation(len(values)) % FOLDS
    for fold in range(FOLDS):
        seen, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        fitted = base.finetune([graphs[i] for i in seen], [values[i] for i in seen], seed)
        answers[held] = fitted.rank_scores([graphs[i] for i in held])
    errors = np.abs(answers - values)
    about = {
        "metric": objective.name,
        "networks": len(done),
        "failed": len(rows) - len(done),
        "folds": f"{FOLDS}, random",
        "kendall_tau": float(kendall_tau(answers.tolist(), values)),
        "mean_absolute_error": float(errors.mean()),
        "median_absolute_error": float(np.median(errors)),
        "macs_tau": float(kendall_tau([float(g.macs) for g in graphs], values)),
        "params_tau": float(kendall_tau([float(g.params) for g in graphs], values)),
        "answers": answers.tolist(),
        "values": values,
    }
    (folder / "quality.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    table = Table(
        tuple(r for _, r in done), "value", "architecture", str(file), lambda text: Architecture.from_json(text, space)
    )
    return Quality(base.finetune(graphs, values, seed), table, about)


def _draw(space: Space, bounds: Limits, n: int, seed: int) -> dict[str, Architecture]:
    rng, found = random.Random(f"{seed} pilots"), dict[str, Architecture]()
    for _ in range(n * ATTEMPTS):
        architecture = bounds.draw(space, rng)
        found.setdefault(architecture.graph().key, architecture)
        if len(found) == n:
            break
    return found


def _evaluated(architecture: Architecture, key: str, objective: AbstractObjective, file: Path) -> dict[str, str]:
    """One row, appended; a failure is a row too."""
    graph, value, failure = architecture.graph(), "", ""
    try:
        found = objective(architecture)
        value, failure = (f"{found:.9g}", "") if isfinite(found) else ("", "not finite")
    except Exception:
        failure = traceback.format_exc()
    row = dict(
        zip(COLUMNS, (architecture.to_json(), key, str(graph.macs), str(graph.params), value, failure), strict=True)
    )
    is_new = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)
    return row


def _read(file: Path) -> dict[str, dict[str, str]]:
    if not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as text:
        return {
            r["key"]: r for r in csv.DictReader(text) if r.get("failure") is not None
        }  # a killed process leaves half a row
