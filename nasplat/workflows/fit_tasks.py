"""`fit_tasks`: adapters of several tasks learn beside one frozen encoder; a new task then needs some twenty labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from nasplat.errors import TableError
from nasplat.features.view import View
from nasplat.predict.abilities import HasEncoder
from nasplat.predict.aiop import Aiop
from nasplat.predict.contract import AbstractPredictor
from nasplat.searchspace import Architecture
from nasplat.tables.listing import Listing
from nasplat.tables.splits import together
from nasplat.tables.table import Table
from nasplat.task.settings import overridden
from nasplat.workflows.evaluate import evaluate
from nasplat.workflows.fit import made_by
from nasplat.workflows.labelled import Labelled, Progress, distinct

LEAST = 60
"""Smallest number of distinct networks of a task."""
SHOWN = 20
"""Number of labels of a task that its adapter is calibrated on before it is judged."""


@dataclass(frozen=True)
class TaskFitSettings:
    """How adapters of several tasks are fitted."""

    seed: int = 0
    """Seed of split and adapters."""
    scaling: str = "standard"
    """How the labels of a task are scaled before they are learnt, see `nasplat.predict.aiop`."""
    epochs: int = 40
    """Passes over the networks of a task that train its adapter."""
    command: str = ""
    """Command line that made the predictor, which its recipe and card repeat."""
    workers: int = 1
    """Number of processes that capture the networks, each with one thread."""


@dataclass(frozen=True)
class _Parts:
    """Labelled networks of one task: to learn from, to calibrate on, to judge on."""

    train: Labelled
    decide: Labelled
    test: Labelled


def fit_tasks(
    tables: Mapping[str, Table],
    encoder: AbstractPredictor,
    out: str | Path,
    settings: TaskFitSettings | None = None,
    progress: Progress | None = None,
    **overrides: Any,
) -> tuple[Aiop, list[dict[str, Any]]]:
    """Train one adapter per task on 80 % of all networks, and judge it on 10 % after 20 labels of the other 10 %.

    Beside each task's own adapter stand all the others, as if the task were new. A network is on one side for all
    tasks: the same network labelled for another task would give its rank away.

    Args:
        tables: Labelled architectures of each task by its name, loaded with a space.
        encoder: Fitted predictor whose encoder is taken over, of family gennape or universal.
        out: Folder that the predictor is saved to.
        settings: Seed and sizes of the fits; None for the defaults.
        progress: Called with the steps done and all steps while capturing, and also with a note while fitting.
        overrides: Fields of `TaskFitSettings` that replace those of the settings, such as epochs=10.

    Returns:
        The saved predictor, not calibrated on any task, and one row of figures for each task.

    Raises:
        TableError: a task has fewer than 60 distinct networks, or the predictor has no encoder.
        InputError: an override is no field of the settings.
    """
    chosen = overridden(settings or TaskFitSettings(), overrides)
    if not isinstance(encoder, HasEncoder):
        raise TableError(
            f"expected a predictor with an encoder, got family {encoder.family!r}.\n  Use gennape-nb101 or base."
        )
    parts = _divided(_captured(tables, progress, chosen.workers), chosen.seed)
    taken = {k: v for k, v in encoder.get_params().items() if k in {"hidden", "layers", "embedding", "trunk"}}
    model = Aiop(**taken, scaling=chosen.scaling, epochs=chosen.epochs, seed=chosen.seed, metric="uncalibrated")
    learnt = [(v, y, t) for t, p in parts.items() for v, y in zip(p.train.views, p.train.labels, strict=True)]
    views, labels, names = (list(column) for column in zip(*learnt, strict=True))
    model.fit(views, labels, names, encoder.encoder_, progress)
    rows = [_judged(model, task, parts) for task in parts]
    about = {
        "tables": sorted({t.source for t in tables.values()}),
        "tasks": list(tables),
        "space": next(iter(tables.values())).architectures[0].space.name,
        "table_hashes": [t.content_hash for t in tables.values()],
        "split": "80/10/10 by network, the same for all tasks",
        "seed": chosen.seed,
        "command": chosen.command,
    }
    model.save(out, about, rows, _card(Path(out).name, about, rows))
    return model, rows


def _captured(tables: Mapping[str, Table], progress: Progress | None, workers: int) -> dict[str, Labelled]:
    """Distinct computations of each task; an architecture of several tasks is captured once."""
    seen: dict[Architecture, tuple[str, View]] = {}
    data = {task: distinct(table, progress, workers, seen) for task, table in tables.items()}
    for task, found in data.items():
        if len(found.labels) < LEAST:
            raise TableError(
                f"expected at least {LEAST} distinct networks of task {task!r}, got {len(found.labels)}.\n  Label more."
            )
    return data


def _divided(data: Mapping[str, Labelled], seed: int) -> dict[str, _Parts]:
    """The networks of all tasks in three parts by a hash of their keys: a network is in one part for every task."""
    keys = [k for found in data.values() for k in found.keys]
    networks = together(keys, [n for found in data.values() for n in found.groups])
    order = sorted(set(networks), key=lambda k: sha256(f"{seed} {k}".encode()).digest())
    place = {n: 0 if i < 0.8 * len(order) else 1 if i < 0.9 * len(order) else 2 for i, n in enumerate(order)}
    part = {k: place[n] for k, n in zip(keys, networks, strict=True)}
    return {
        task: _Parts(*(found.take([i for i, k in enumerate(found.keys) if part[k] == n]) for n in range(3)))
        for task, found in data.items()
    }


def _judged(model: Aiop, task: str, parts: Mapping[str, _Parts]) -> dict[str, Any]:
    """Figures of a task after a few labels, with its own adapter and with the others' as if it were new."""
    own, some = parts[task], parts[task].decide.take(range(min(SHOWN, len(parts[task].decide.labels))))

    def calibrated(adapters: Sequence[str]) -> Aiop:
        return model.only(adapters).calibrate(some.views, some.labels, groups=some.groups)

    row = {"task": task, "train": len(own.train.labels)} | asdict(evaluate(calibrated([task]), own.test))
    if others := [t for t in parts if t != task]:
        row["others_tau"] = evaluate(calibrated(others), own.test).kendall_tau
    return row


def _card(name: str, about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    columns = ["task", "train", "test", "τ-b", "ρ", "MAE", "90 % interval covers", "τ-b of the others"]
    cells = []
    for r in rows:
        error, covered = r["mean_absolute_error"], r["interval_coverage"]  # none where no network lies in the support
        cells.append(
            [
                *(r["task"], str(r["train"]), str(r["n"]), f"{r['kendall_tau']:.3f}", f"{r['spearman_rho']:.3f}"),
                *("-" if error is None else f"{error:.4g}", "-" if covered is None else f"{covered:.1%}"),
                f"{r['others_tau']:.3f}" if "others_tau" in r else "-",
                *(f"{r['macs_tau']:.3f}", f"{r['params_tau']:.3f}"),
            ]
        )
    figures = Listing([*columns, "τ-b MACs alone", "τ-b parameters alone"], cells)
    tasks = about["tasks"]
    return (
        f"# {name}\n\n"
        f"Family `aiop`: adapters of {len(tasks)} tasks ({', '.join(tasks)}) on a frozen encoder. It answers for "
        "a task, in its unit, once some twenty labels of it are given (`calibrate`, `nasplat score --calibrate`).\n"
        f"Learnt from {', '.join(about['tables'])}, {about['split']}, seed {about['seed']}. Each task's own adapter "
        "after 20 labels; beside it, the other tasks' adapters after the same 20, as if the task were new:\n\n"
        f"{figures.markdown()}{made_by(about['command'])}"
    )
