"""`label_across`: networks of many spaces are trained on many tasks by one recipe; the table resumes and is shared out.

Every space that fits a task gives it the same number of random networks. Some of them stand on the next task too, and
some are edited, so that they belong to no space any more. A row keeps the network, what it reached on the way and at
the end, and what could be known of it before: counts, and zero-cost proxies on a batch of the task.

The plan of a cell, one space on one task, follows from the call alone and is kept in the study, so that any number of
processes may die, come back, and find the jobs that they left.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna
import torch
from optuna.trial import TrialState

from nasplat.errors import InputError, SearchError
from nasplat.inputs import read_network
from nasplat.probes.zerocost import PROXIES, proxies
from nasplat.searchspace.registry import trusting
from nasplat.study.captured import facts_of
from nasplat.study.claims import claim
from nasplat.study.storage import open_storage
from nasplat.tables.spreadsheets import plain_number
from nasplat.tables.table import Table
from nasplat.task import Task
from nasplat.task.settings import overridden
from nasplat.task.training import Budget, train
from nasplat.workflows.across_plan import AcrossSettings, Entry, Plan, Tasks
from nasplat.workflows.jobs import Job, finished, holds, share_out, started, work

NAME = "label across"
"""Name of the study in its storage."""
RECIPE, TASK = "recipe", "task "
"""User attribute of the study that holds the recipe, and the beginning of those that hold the data of a task."""
STEPS = Budget(batch_size=32, lr=2e-3, steps=300)
"""Budget of a training where none is given: steps, so that tasks with little and with much data get the same."""
BATCH = 32
"""Examples on which proxies are computed."""
COLUMNS = (
    *("architecture", "task", "network", "fingerprint", "key", "macs", "params", "seed", "metric", "decide", "test"),
    *("cpu_seconds", "failure", "data", "recipe"),
)
"""Columns of every row, before those of proxies and of the curve."""
TEXTS = ("fingerprint", "key")
"""Columns that a training finds and that are no numbers."""
COUNTS = ("macs", "params")
"""Columns of whole numbers."""
_TOLD = ("architecture", "task", "network", "seed", "metric", "data", "recipe")
"""Columns that are known before a training."""


def label_across(
    spaces: Sequence[str],
    tasks: Sequence[str],
    budget: Budget | None = None,
    settings: AcrossSettings | None = None,
    **overrides: Any,
) -> Table:
    """Train networks of many spaces from scratch on many tasks, and keep what is known of each before and after.

    Args:
        spaces: Spaces by name or path, with presets behind a question mark where they are wanted, such as
            'nasbench201?width=4&cells=1'; each task decides image side, channels and classes.
        tasks: Tasks by name or folder, as `load_task` reads them; larger metrics are better.
        budget: Recipe of all trainings; None for `STEPS`.
        settings: How networks are drawn, shared, edited and judged; None for the defaults.
        overrides: Fields of `AcrossSettings` that replace those of the settings, such as n=2.

    Returns:
        One row for each training, in the order of the plan, with the columns that `read_across` lists.

    Raises:
        SearchError: the storage holds labels of another recipe or other data, a task has two meanings or smaller
            metrics that are better, or a setting is outside its range.
        SpaceError: no space fits any task.

    Example:
        >>> tasks = ["shapes?train=64&decide=32&test=32", "digits-clutter?train=64&decide=32&test=32"]
        >>> budget = Budget(batch_size=16, steps=4)
        >>> table = label_across(["mlp"], tasks, budget, n=2, edited=0, repeat=0)
        >>> [row["task"] for row in table.rows]
        ['shapes', 'digits-clutter', 'shapes', 'digits-clutter']
    """
    chosen = overridden(settings or AcrossSettings(), overrides, SearchError)
    budget = budget or STEPS
    study = optuna.create_study(
        storage=open_storage(chosen.storage),
        study_name=NAME,
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=chosen.seed),
        load_if_exists=True,
    )
    data = Tasks(tasks, chosen.judged, chosen.device)
    told = {f"{TASK}{name}": repr(task) for name, task in data.by_name.items()}
    recipe = {k: v for k, v in asdict(budget).items() if k != ("epochs" if budget.steps else "steps")}
    recipe["judged"] = chosen.judged
    claim(study, {RECIPE: ", ".join(f"{k}={v}" for k, v in recipe.items()), **told})
    if chosen.known is not None:
        _adopt(study, chosen.known)
    entries = Plan(study, spaces, data, chosen).entries()
    if chosen.workers > 1:
        if not isinstance(chosen.storage, str):
            raise SearchError(
                f"{chosen.workers} workers expected a storage URL or file, got {chosen.storage!r}.\n  Or workers=1."
            )
        shared = _Shared(tuple(tasks), chosen.judged, chosen.device, budget, chosen.storage, tuple(entries.values()))
        share_out(study, entries, started(chosen.workers, _worker, shared), chosen.report)
    with _computing_with_one_thread(chosen.device):  # after several workers: what those that died left
        work(study, _jobs_of(entries), lambda trial: _labelled(trial, entries, data, budget), chosen.report)
    return read_across(study, entries)


def _adopt(study: optuna.Study, known: Table) -> None:
    """Add rows of a table to the study as finished trials, where their job is open.

    Raises:
        SearchError: a row has another recipe, or a task other data.
    """
    held = {t.user_attrs.get("job") for t in study.get_trials(deepcopy=False) if holds(t)}
    for row in known.rows:
        there = {RECIPE: row.get("recipe"), f"{TASK}{row['task']}": row.get("data")}
        for name, value in there.items():
            if study.user_attrs.get(name, value) != value:
                raise SearchError(
                    f"expected known rows with {name} {study.user_attrs[name]!r}, got {value!r}.\n"
                    "  Label with other settings into a table of its own."
                )
        entry = Entry(row["task"], row["network"], row["architecture"], int(row["seed"]))
        if entry.name in held or there[f"{TASK}{entry.task}"] is None:
            continue
        about: dict[str, Any] = {"job": entry.name, **entry.to_dict()}
        about["row"] = {
            k: v if k in TEXTS else int(v) if k in COUNTS else plain_number(v)
            for k, v in row.items()
            if v and k not in _TOLD and k != "failure"
        }
        value: Any = about["row"].get("decide")
        if value is None:
            about |= {"failure": row["failure"], "traceback": "of an earlier study"}
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.FAIL if value is None else TrialState.COMPLETE, value=value, user_attrs=about
            )
        )


# -- taking jobs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shared:
    """What every process is given: where tasks come from, what is to be done, and where it is kept."""

    tasks: tuple[str, ...]
    judged: int
    device: str
    budget: Budget
    storage: str
    entries: tuple[Entry, ...]


def _jobs_of(entries: Mapping[str, Entry]) -> dict[str, Job]:
    return {name: Job(entry.to_dict()) for name, entry in entries.items()}


def _labelled(trial: optuna.Trial, entries: Mapping[str, Entry], data: Tasks, budget: Budget) -> float:
    """What the network of a job reaches on the decide split; the trial keeps everything else in one attribute."""
    entry = entries[trial.user_attrs["job"]]
    task, network = data.by_name[entry.task], read_network(entry.line)
    facts = facts_of(network)  # type: ignore[arg-type]
    row: dict[str, Any] = {"fingerprint": network.space.fingerprint, "key": facts.key}
    row |= {"macs": facts.macs, "params": facts.params}
    trial.set_user_attr("row", row)  # a training that fails keeps the counts
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(entry.seed)
        module = network.build().to(task.train.x.device)
    row |= _foreseen(module, task, entry.seed)
    done = train(module, task, budget, entry.seed, lambda *_: None, time.process_time)
    row |= {"decide": done.decide, "test": done.test, "cpu_seconds": done.seconds}
    for point in done.curve:
        row |= {f"decide_{point.step}": point.decide, f"cpu_seconds_{point.step}": point.seconds}
    trial.set_user_attr("row", row)
    return done.decide


def _foreseen(module: torch.nn.Module, task: Task, seed: int) -> dict[str, float]:
    """Zero-cost proxies on the first examples of the training, with the seconds of each; none for other than logits."""
    x, y = next(iter(task.epoch(seed * 100_003 + 1, BATCH)))
    found: dict[str, float] = {}
    for name in PROXIES:
        before = time.process_time()
        with suppress(InputError):
            found[name] = proxies(module, tuple(x.shape), [name], (x, y), seed=seed)[name]
            found[f"cpu_seconds_{name}"] = time.process_time() - before
    return found


@contextmanager
def _computing_with_one_thread(device: str) -> Iterator[None]:
    """Let torch compute with one thread on a CPU, so that seconds compare; a GPU is left alone."""
    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _worker(shared: _Shared) -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    entries, data = {e.name: e for e in shared.entries}, Tasks(shared.tasks, shared.judged, shared.device)
    study = optuna.load_study(
        storage=open_storage(shared.storage), study_name=NAME, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    with suppress(KeyboardInterrupt), trusting():  # networks that the calling process holds
        work(study, _jobs_of(entries), lambda trial: _labelled(trial, entries, data, shared.budget))


# -- the table ---------------------------------------------------------------------------------------------------------


def read_across(study: optuna.Study, entries: Mapping[str, Any] | None = None) -> Table:
    """Read the labels that a study holds.

    Args:
        study: Study that `label_across` made.
        entries: Trainings to read first, by the names of their jobs and in their order; others that the study holds
            follow in the order of their names.

    Returns:
        A table with the columns architecture (line of JSON, perhaps with edits; `nasplat.read_network` reads
        it), task, network (its name, equal on every task), key, macs, params, seed, metric (its name), decide and test
        (what was reached, in the metric's unit), cpu_seconds of the training without evaluations, failure (the error's
        first line), data (of the task) and recipe; each proxy with its cpu_seconds_…; the learning curve on the decide
        split, decide_STEP, and the cpu_seconds_STEP until there.
    """
    ended = finished(study)
    order = [n for n in entries or () if n in ended] + sorted(ended.keys() - set(entries or ()))
    rows = []
    for name in order:
        about = ended[name].user_attrs
        told = {"architecture": about["line"], "task": about["task"], "network": about["network"]}
        data = str(study.user_attrs.get(f"{TASK}{about['task']}", ""))
        told |= {"seed": str(about["seed"]), "failure": about.get("failure", ""), "data": data}
        told |= {"metric": data.rpartition(", ")[2].rstrip(")"), "recipe": study.user_attrs[RECIPE]}
        rows.append(told | {k: _cell(v) for k, v in about.get("row", {}).items()})
    steps = sorted({int(c[7:]) for row in rows for c in row if c[:7] == "decide_"})
    curve = [f"{what}_{step}" for what in ("decide", "cpu_seconds") for step in steps]
    columns = (*COLUMNS, *PROXIES, *(f"cpu_seconds_{p}" for p in PROXIES), *curve)
    whole = tuple({c: row.get(c, "") for c in columns} for row in rows)
    return Table(whole, "decide", "architecture", study.study_name, read_network)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else f"{value:.6g}"


def agreement(table: Table) -> dict[str, tuple[float, int]]:
    """Measure per task how well two trainings of the same networks agree: no predictor can be expected to rank better.

    Args:
        table: Rows of `label_across`.

    Returns:
        Rank agreement (tau-b) of what the first and the second training reached on the test split, and the number of
        networks that have both, by task; nan where there are fewer than two.
    """
    tasks = dict.fromkeys(row["task"] for row in table.rows)
    parts = {t: table.take([i for i, row in enumerate(table.rows) if row["task"] == t]) for t in tasks}
    return {t: replace(part, metric="test", key="network").ceiling() for t, part in parts.items()}
