"""`learn_quality`: a predictor of quality learns from random networks of a space, and its error is stated.

The predictor that is fine-tuned on these pilots tells quality from the graph alone; each pilot's answer comes from a
fit that did not see it. Every finished evaluation is one row of `pilots.csv`, so that an interrupted call goes on
where it stopped.
"""

from __future__ import annotations

import json
import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from nasplat.errors import SearchError
from nasplat.graph import Graph
from nasplat.predict.abilities import Finetunable
from nasplat.predict.contract import AbstractPredictor
from nasplat.searchspace import Architecture, Space
from nasplat.study import AbstractObjective, Limits
from nasplat.study.limits import draw_distinct
from nasplat.tables.metrics import kendall_tau
from nasplat.tables.rows import RowFile, write_atomically
from nasplat.tables.splits import into_folds
from nasplat.tables.table import Table

FEWEST = 20
"""Smallest number of networks that an error can be stated on."""
FOLDS = 5
"""Number of parts; each is predicted by a fit on the others."""
ATTEMPTS = 20
"""Largest number of draws for each network that is wanted; a small space has no more different ones."""
COLUMNS: tuple[str, ...] = ("architecture", "key", "macs", "params", "value", "failure")
"""Columns of pilots.csv."""


@dataclass(frozen=True)
class Quality:
    """A predictor of quality, and how well it predicts networks that it did not see."""

    predictor: AbstractPredictor
    """Predictor that was fine-tuned on all pilots."""
    table: Table
    """Pilots whose evaluation finished, with their values."""
    about: dict[str, Any]
    """Figures by name: networks, failed, metric, folds; kendall_tau, mean_absolute_error and median_absolute_error on
    left-out
    networks; macs_tau and params_tau of the costs alone; answers and values of every pilot."""


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
    """Evaluate random networks of a space, and fine-tune a predictor on them.

    Args:
        space: Space that the networks are drawn from.
        objective: Quality that is learnt, such as `Inherited(supernet)`.
        base: Predictor that is fine-tuned, such as 'base' loaded by `load_predictor`.
        folder: Folder for pilots.csv and quality.json; the same call goes on there.
        n: Number of networks to evaluate, at least 20.
        limits: Largest allowed cost of a network by name or objective, as for `search`.
        seed: Seed of the networks and of the fit.
        report: Called with the number of networks done, of all, and the value of the last one.

    Returns:
        The predictor, the networks it learnt from, and its error on networks that it did not see.

    Raises:
        SearchError: fewer than 20 networks are asked for, exist, or finish, or all of them are equally good.
        TableError: the folder holds pilots with other columns.
    """
    if n < FEWEST:
        raise SearchError(f"expected at least {FEWEST} pilots, got {n}.\n  Some 40 show how well quality is predicted.")
    file = RowFile(folder / "pilots.csv", COLUMNS, "key")
    known, rows = file.rows(), list[tuple[Architecture, dict[str, str]]]()
    for i, (key, architecture) in enumerate(draw_pilots(space, n, limits, seed).items()):
        if key not in known:
            known[key] = file.append(_evaluated(architecture, key, objective))
        rows.append((architecture, known[key]))
        if report is not None:
            report(i + 1, n, known[key]["value"] or "failed")
    done = [(a, r) for a, r in rows if r["value"]]
    if len(done) < FEWEST:
        raise SearchError(
            f"expected {FEWEST} pilots that finish, got {len(done)} of {len(rows)}.\n"
            f"  Look at the failures in {str(file.path)!r}, or loosen the limits."
        )
    graphs, values = [a.graph() for a, _ in done], [float(r["value"]) for _, r in done]
    if min(values) == max(values):
        raise SearchError(
            f"expected pilots whose {objective.name} differs, got {values[0]:g} for all {len(values)}: nothing tells "
            "them apart.\n  Train longer, or take another guide than one that is fitted on pilots."
        )
    about = {"metric": objective.name, "networks": len(done), "failed": len(rows) - len(done)}
    about |= _figures(base, graphs, values, [a.network_key for a, _ in done], seed)
    write_atomically(folder / "quality.json", json.dumps(about, indent=1) + "\n")
    kept = tuple(r for _, r in done)
    table = Table(kept, "value", "architecture", str(file.path), lambda text: Architecture.from_json(text, space))
    return Quality(base.finetune(graphs, values, seed), table, about)


def draw_pilots(
    space: Space, n: int, limits: Mapping[Any, float] | Limits | None, seed: int
) -> dict[str, Architecture]:
    """Draw the networks that a predictor of quality learns from.

    Args:
        space: Space to draw from.
        n: Number of networks wanted.
        limits: Largest allowed cost of a network by name or objective.
        seed: Seed of the draws.

    Returns:
        Architectures by the keys of their graphs, in the order drawn; fewer than n in a small space.

    Raises:
        SearchError: no network inside the limits was found.
    """
    rng = random.Random(f"{seed} pilots")
    # own keys, not those of canonical forms, which differ in some cells of nasbench101: pilots.csv is read by them
    return draw_distinct(space, n, rng, limits, key=lambda a: a.graph().key, draws=n * ATTEMPTS)


def _figures(
    base: Finetunable, graphs: Sequence[Graph], values: Sequence[float], networks: Sequence[str], seed: int
) -> dict[str, Any]:
    """How well networks are predicted by fits that saw neither them nor others of their function."""
    answers = np.empty(len(values))
    for seen, held in into_folds(len(values), FOLDS, seed, networks):
        fitted = base.finetune([graphs[i] for i in seen], [values[i] for i in seen], seed)
        answers[held] = fitted.rank_scores([graphs[i] for i in held])
    errors = np.abs(answers - values)
    return {
        "folds": f"{FOLDS}, random",
        "kendall_tau": float(kendall_tau(answers.tolist(), values)),
        "mean_absolute_error": float(errors.mean()),
        "median_absolute_error": float(np.median(errors)),
        "macs_tau": float(kendall_tau([float(g.macs) for g in graphs], values)),
        "params_tau": float(kendall_tau([float(g.params) for g in graphs], values)),
        "answers": answers.tolist(),
        "values": list(values),
    }


def _evaluated(architecture: Architecture, key: str, objective: AbstractObjective) -> dict[str, object]:
    """The row of one evaluation; a failure is a row too."""
    row: dict[str, object] = {**dict.fromkeys(COLUMNS, ""), "architecture": architecture.to_json(), "key": key}
    try:
        graph = architecture.graph()
        row |= {"macs": graph.macs, "params": graph.params}
        found = objective(architecture)
        row |= {"value": f"{found:.9g}"} if isfinite(found) else {"failure": "not finite"}
    except Exception:
        row["failure"] = traceback.format_exc()
    return row
