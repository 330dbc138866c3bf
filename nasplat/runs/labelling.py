"""A table of labels from its beginning to its file, with run.json and the journal beside it."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from nasplat.errors import InputError, SearchError, TableError
from nasplat.inputs import read_network
from nasplat.runs.folder import TABLES, RunFolder
from nasplat.runs.kinds import LabelRun
from nasplat.runs.messages import Messages
from nasplat.runs.reading import check_journal
from nasplat.searchspace import Space
from nasplat.study import Limits
from nasplat.study.storage import open_storage
from nasplat.tables.spreadsheets import unpacked
from nasplat.tables.table import Table
from nasplat.task import Task
from nasplat.task.training import Budget
from nasplat.workflows.across_plan import AcrossSettings, pairs_across
from nasplat.workflows.jobs import finished
from nasplat.workflows.label import NAME, LabelSettings, label, space_as_stored
from nasplat.workflows.label_across import NAME as ACROSS
from nasplat.workflows.label_across import STEPS, label_across

NETWORKS = 30
"""Networks of one space that are labelled where no number is given."""


def run_labelling(run: LabelRun, folder: RunFolder, messages: Messages | None = None) -> Table:
    """Train the networks that a run asks for, and write their labels.

    Args:
        run: Settings of the labelling.
        folder: Path of the table, ending in .csv or .csv.gz; run.json and the journal lie beside it.
        messages: Where progress goes; None for silence.

    Returns:
        The table, with one row for each training.

    Raises:
        InputError: the path is no table's.
        SearchError: another run has its files there, or the storage holds labels of something else.
        SpaceError: the space or the list has too few networks.
    """
    if not folder.is_table:
        raise InputError(f"--out expected a file ending in {' or '.join(TABLES)}, got {str(folder)!r}.\n  Rename it.")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = run.storage or str(folder.journal)
    check_journal(storage)
    if run.spaces:
        return _label_across(run, folder, storage, messages or Messages())
    task = run.loaded_task()
    space = run.loaded_space()
    if isinstance(run.space, str):
        space = space_as_stored(space, task, storage if Path(storage).exists() or run.storage else None)
    n = run.n or NETWORKS
    n = min(n, len(run.architectures)) if run.architectures else n
    given = [space.parse(line) for line in run.architectures] or None
    limits: dict[Any, float] = dict(run.limits)
    Limits.of(limits)
    if run.workers > 1:
        run.refuse_objects()
    settings = LabelSettings(
        limits=limits,
        storage=storage,
        seed=run.seed,
        architectures=given,
        seeds=run.seeds,
        repeat=run.repeat,
        workers=run.workers,
        device=run.device,
    )
    resolved: dict[str, Any] = {"space": space.reference, "fingerprint": space.fingerprint, "task": repr(task)}
    resolved["metric"] = task.metric_name
    resolved["larger_is_better"] = task.larger_is_better
    messages = messages or Messages()
    with folder.described(run, resolved), messages.progress("label") as update:
        for note in task.notes:
            messages.say(f"task {task.name}: {note}")
        if space.from_task:
            messages.say(f"space {space.name}: {space.from_task}")
        settings = replace(settings, report=lambda p: update(p.done, p.total, str(p.trial.values)))
        table = label(space, run.task if run.workers > 1 else task, n, run.budget, settings)
        table.save(folder.path)
    return table


def label_pairs(run: LabelRun, folder: RunFolder) -> tuple[list[tuple[Space, Task]], int, Budget]:
    """Say what a labelling trains on what, and how often and how long.

    Args:
        run: Settings of the labelling.
        folder: Path of its table.

    Returns:
        Each space with its task, the number of trainings of all together, and the budget of each.

    Raises:
        SpaceError: no space fits a task.
    """
    if run.spaces:
        return *pairs_across(run.spaces, run.tasks, _settings_across(run)), _budget_across(run)
    task, space = run.loaded_task(), run.loaded_space()
    if isinstance(run.space, str):
        space = space_as_stored(space, task, run.storage)
    n = run.n or NETWORKS
    n = min(n, len(run.architectures)) if run.architectures else n
    return [(space, task)], n + round(run.repeat * n) * (run.seeds - 1), run.budget


def labelled(run: LabelRun, folder: RunFolder) -> int:
    """Count the trainings that a labelling has done already; nothing is written.

    Args:
        run: Settings of the labelling.
        folder: Path of its table.

    Returns:
        Number of trainings in its journal or storage.
    """
    storage = run.storage or str(folder.journal)
    if storage.endswith(".journal") and not Path(storage).exists():
        return 0
    try:
        study = optuna.load_study(study_name=ACROSS if run.spaces else NAME, storage=open_storage(storage))
    except KeyError:
        return 0
    return len(finished(study))


def _budget_across(run: LabelRun) -> Budget:
    """The budget of networks of several spaces: what was given, in the place of that of `STEPS`."""
    given = {k: v for k, v in asdict(run.budget).items() if v != getattr(Budget(), k) and k != "epochs"}
    return replace(STEPS, **given)


def _settings_across(run: LabelRun) -> AcrossSettings:
    shared = ("each_task", "shared", "edited", "seeds", "repeat", "judged", "seed", "workers", "device")
    given = {name: getattr(run, name) for name in shared}
    return AcrossSettings(n=run.n or AcrossSettings.n, limits=dict(run.limits), **given)


def _label_across(run: LabelRun, folder: RunFolder, storage: str, messages: Messages) -> Table:
    """Train networks of several spaces on several tasks, and write their labels."""
    budget = _budget_across(run)
    resolved = {"metric": "decide", "larger_is_better": True, "budget": asdict(budget)}
    with folder.described(run, resolved), messages.progress("label") as update:
        table = label_across(
            run.spaces,
            run.tasks,
            budget,
            _settings_across(run),
            storage=storage,
            report=lambda p: update(p.done, p.total, f"{p.trial.user_attrs.get('job')} {p.trial.values}"),
            tell=messages.say,
        )
        table.save(folder.path)
    return table


def read_labelled(folder: RunFolder) -> Table:
    """Read the table that a run wrote.

    Args:
        folder: Path of the table.

    Returns:
        The table, with one row for each training, those that failed included.

    Raises:
        TableError: the file is missing or broken.
        SearchError: run.json does not say what the label is.
    """
    resolved = folder.about["resolved"]
    metric, run = resolved.get("metric"), folder.run
    is_across = isinstance(run, LabelRun) and bool(run.spaces)
    parse = read_network if is_across else partial(read_network, space=folder.space)
    if not isinstance(metric, str):
        raise SearchError(
            f"expected the name of a metric in {str(folder.description)!r}, got {metric!r}.\n  Restore the file."
        )
    try:
        text = unpacked(folder.path.read_bytes()).decode("utf-8")
        rows = tuple({k: str(v) for k, v in row.items()} for row in csv.DictReader(io.StringIO(text, newline="")))
        if not all(row["architecture"] and metric in row for row in rows):
            raise ValueError(f"a row has no {metric}")
    except (OSError, ValueError, KeyError, csv.Error) as err:
        raise TableError(
            f"expected the table of a label run in {str(folder)!r}, got {type(err).__name__}: {err}.\n"
            "  Restore the file, or repeat the command."
        ) from err
    larger = bool(resolved.get("larger_is_better", True))
    return Table(rows, metric, "architecture", NAME, parse, larger)
