"""`label`: architectures of a space are trained from scratch on a task; the table resumes and can be shared out.

A job is one architecture and one training seed. The list of jobs follows from the arguments alone, so any number of
processes on any number of machines can take jobs from one Optuna storage, die, and come back: the table is that of
one undisturbed run.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import optuna
import torch

from nasplat.errors import SearchError, SpaceError
from nasplat.inputs import load_task
from nasplat.searchspace import Architecture, Space, load_space
from nasplat.study.captured import facts_of
from nasplat.study.claims import FINGERPRINT, SPACE, claim, claim_space, members_of
from nasplat.study.limits import draw_distinct
from nasplat.study.search import Progress
from nasplat.study.storage import open_storage
from nasplat.tables.table import Table
from nasplat.task import Task
from nasplat.task.settings import overridden
from nasplat.task.training import Budget, train_architecture
from nasplat.workflows.jobs import Job, finished, holds, share_out, started, work

NAME = "label"
"""Name of the study in its storage."""
Jobs = dict[str, tuple[Architecture, int]]
"""Architecture and training seed of each job, by its name."""


@dataclass(frozen=True)
class LabelSettings:
    """How architectures are drawn, trained and shared out.

    Example:
        >>> LabelSettings(seeds=2, repeat=0.5).workers
        1
    """

    limits: Mapping[Any, float] | None = None
    """Largest allowed cost of a network by name, such as {"macs": 2e6}, or by objective; None for none."""
    storage: Any = None
    """Where the study lives, as a path, URL or Optuna storage (see `open_storage`): the same call resumes there, or
    joins in
    from another machine. None keeps it in memory."""
    seed: int = 0
    """Seed of the draws; the trainings of an architecture have the seeds seed, seed + 1, …."""
    report: Callable[[Progress], None] | None = None
    """Called after each job."""
    architectures: Iterable[Architecture | str] | None = None
    """Architectures to label instead of random ones; the first n of them are taken."""
    seeds: int = 1
    """Number of trainings of an architecture, with other initial values and other orders of the data."""
    repeat: float = 1.0
    """Share of the architectures, from 0 to 1, that get more than the first of the seeds."""
    workers: int = 1
    """Number of processes that train, each with one thread."""
    device: str = "cpu"
    """Torch device to train on, such as 'cuda:0'."""
    known: Table | None = None
    """Earlier labels of the same task and budget; their jobs are not trained again."""


def label(
    space: Space | str,
    task: Task | str,
    n: int,
    budget: Budget | None = None,
    settings: LabelSettings | None = None,
    **overrides: Any,
) -> Table:
    """Train architectures of a space from scratch, and keep what they reached.

    Args:
        space: Space that is drawn from; with several workers a name or path, or a space loaded by one. The task decides
            image side, channels and classes of a space given by name, and nothing of one given as an object.
        task: Data, loss and metric, as an object or by name; with several workers a name or folder.
        n: Number of distinct networks to train. A larger n with the same storage adds to those that are there.
        budget: How long each network is trained; None for the default budget.
        settings: How architectures are drawn, trained and shared out; None for the defaults.
        overrides: Fields of `LabelSettings` that replace those of the settings, such as seeds=2 or workers=4.

    Returns:
        One row for each training, in the order of the draws, with the columns that `read_labels` lists.

    Raises:
        SearchError: the storage holds labels of something else, several workers cannot share what was passed, or an
            override is no field of the settings.
        SpaceError: the space or the list has fewer than n networks.

    Example:
        >>> import nasplat
        >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
        >>> task = nasplat.load_task("digits-clutter", train=64, decide=32, test=32)
        >>> table = label(space, task, 2, Budget(epochs=1), seed=3)
        >>> len(table), table.metric
        (2, 'accuracy_percent')
    """
    chosen = overridden(settings or LabelSettings(), overrides, SearchError)
    data = load_task(task) if isinstance(task, str) else task
    loaded = space_as_stored(load_space(space), data, chosen.storage) if isinstance(space, str) else space
    budget = budget or Budget()
    if chosen.architectures is None:
        members = _drawn(loaded, n, chosen.seed, chosen.limits)
    else:
        members = _listed(loaded, chosen.architectures, n)
    jobs = _jobs(members, chosen.seed, chosen.seeds, chosen.repeat)
    study = optuna.create_study(
        storage=open_storage(chosen.storage),
        study_name=NAME,
        direction="maximize" if data.larger_is_better else "minimize",
        sampler=optuna.samplers.RandomSampler(seed=chosen.seed),
        load_if_exists=True,
    )
    claim_space(study, loaded)
    claim(study, {"task": repr(data), "budget": _words(budget), "metric": data.metric_name})
    if chosen.known is not None:
        _adopt(study, jobs, chosen.known, data.metric_name)
    if chosen.workers > 1:
        if not (isinstance(task, str) and isinstance(chosen.storage, str)):
            raise SearchError(
                f"{chosen.workers} workers expected a task's name or folder and a storage URL or file, got {task!r} "
                f"and {chosen.storage!r}.\n  Pass those, or workers=1."
            )
        lines = [(name, a.to_json(), s) for name, (a, s) in jobs.items()]
        shared = _Shared(loaded.name, loaded.presets, task, budget, chosen.storage, lines, chosen.device)
        share_out(study, jobs, started(chosen.workers, _worker, shared), chosen.report)
    # after several workers: what those that died left
    common = _Work(loaded, data.to(chosen.device), budget)
    work(study, _jobs_of(jobs), lambda trial: _trained(trial, common), chosen.report)
    return read_labels(study, loaded, jobs)


def space_as_stored(space: Space, task: Task, storage: Any = None) -> Space:
    """Let a task decide the presets that a space leaves open, unless a storage holds labels of the space as it is.

    Args:
        space: Space with the presets that were given.
        task: Task of the labels.
        storage: Where the labels are kept, as `LabelSettings.storage`; None for labels that are new.

    Returns:
        The space whose networks are labelled.

    Raises:
        SpaceError: no network of the space runs on the task's inputs.
    """
    names = [] if storage is None else optuna.get_all_study_names(open_storage(storage))
    if NAME in names:
        there = optuna.load_study(study_name=NAME, storage=open_storage(storage)).user_attrs
        if there.get(SPACE) == space.reference or there.get(FINGERPRINT) == space.fingerprint:
            return space
    return space.for_task(task)


def _drawn(space: Space, n: int, seed: int, limits: Mapping[Any, float] | None = None) -> list[Architecture]:
    """The first n distinct networks of a space's random sequence; a longer list begins with a shorter one."""
    found = draw_distinct(space, n, random.Random(f"{seed} label"), limits)
    if len(found) < n:
        raise SpaceError(
            f"expected {n} distinct networks of {space!r}, found {len(found)}.\n  Ask for fewer, or loosen limits."
        )
    return list(found.values())


def _listed(space: Space, given: Iterable[Architecture | str], n: int) -> list[Architecture]:
    """The first n distinct architectures of a list."""
    members = list(
        dict.fromkeys(space.parse(g) if isinstance(g, str) else space.architecture(g.choices) for g in given)
    )
    if len(members) < n:
        raise SpaceError(
            f"expected {n} architectures, the list holds {len(members)} distinct ones.\n  Pass n={len(members)}."
        )
    return members[:n]


def _jobs(members: list[Architecture], seed: int, seeds: int, repeat: float) -> Jobs:
    if seeds < 1 or not 0 <= repeat <= 1:
        raise SearchError(
            f"expected seeds >= 1 and repeat from 0 to 1, got {seeds} and {repeat}.\n  Repeat is a share."
        )
    repeated = round(repeat * len(members))
    pairs = [(a, seed + s) for i, a in enumerate(members) for s in range(seeds if i < repeated else 1)]
    return {f"{a.space.format(a)} seed {s}": (a, s) for a, s in pairs}


def _adopt(study: optuna.Study, jobs: Jobs, known: Table, metric: str) -> None:
    """Add rows of a table to the study as finished trials, where their job is open."""
    held = {t.user_attrs.get("job") for t in study.get_trials(deepcopy=False) if holds(t)}
    names = {(_unsigned(a.to_json()), str(s)): name for name, (a, s) in jobs.items()}
    for row in known.rows:
        name = names.get((_unsigned(row["architecture"]), row["seed"]))
        if name is None or name in held or not row.get(metric):
            continue
        architecture, s = jobs[name]
        Architecture.from_json(row["architecture"], architecture.space)  # labels of other code are refused
        epochs = sum(c.startswith(f"{metric}_ep") and bool(v) for c, v in row.items())
        about = {"job": name, "training_seed": s, "architecture": row["architecture"], "key": row["key"]}
        about |= {"macs": int(row["macs"]), "params": int(row["params"]), "seconds": float(row["seconds"])}
        about |= {"test": float(row[f"{metric}_test"]), "known": known.source}
        about |= {"curve": [float(row[f"{metric}_ep{i + 1}"]) for i in range(epochs)]}
        options: Any = {
            n: optuna.distributions.CategoricalDistribution(architecture.space.known[n]) for n in architecture.choices
        }
        study.add_trial(
            optuna.trial.create_trial(
                value=float(row[metric]), params=dict(architecture.choices), distributions=options, user_attrs=about
            )
        )


def _unsigned(line: str) -> str:
    """A line of an architecture without the fingerprint, which older tables do not have."""
    head, mark, _ = line.partition(',"fingerprint":')
    return f"{head}}}" if mark else head


def _words(budget: Budget) -> str:
    """The budget as studies are told apart by it; those of before budgets could count steps lack `steps`."""
    return ", ".join(f"{k}={v}" for k, v in asdict(budget).items() if k != "steps" or v)


# -- taking jobs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Work:
    """What every job has in common."""

    space: Space
    task: Task
    budget: Budget


@dataclass(frozen=True)
class _Shared:
    """The same in a form that another process can be given, with the jobs and where their results go."""

    space: str
    presets: dict[str, Any]
    task: str
    budget: Budget
    storage: str
    jobs: list[tuple[str, str, int]]
    """Name, architecture as a JSON line, and training seed of each job."""
    device: str


def _jobs_of(jobs: Jobs) -> dict[str, Job]:
    return {name: Job({"training_seed": s}, a.choices) for name, (a, s) in jobs.items()}


def _trained(trial: optuna.Trial, work: _Work) -> float:
    """What the architecture of a trial reaches on the decide split; the trial keeps everything else."""
    architecture = work.space.suggest(trial)
    facts = facts_of(architecture)
    trial.set_user_attr("architecture", architecture.to_json())
    trial.set_user_attr("key", facts.key)
    trial.set_user_attr("macs", facts.macs)
    trial.set_user_attr("params", facts.params)
    seed, curve = int(trial.user_attrs["training_seed"]), list[float]()
    done = train_architecture(architecture, work.task, work.budget, seed, lambda _, reached: curve.append(reached))
    trial.set_user_attr("test", done.test)
    trial.set_user_attr("curve", curve)
    trial.set_user_attr("seconds", done.seconds)
    return done.decide


def _worker(shared: _Shared) -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = load_space(shared.space, **shared.presets)
    jobs = {job: (Architecture.from_json(line, space), s) for job, line, s in shared.jobs}
    study = optuna.load_study(
        storage=open_storage(shared.storage), study_name=NAME, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    common = _Work(space, load_task(shared.task).to(shared.device), shared.budget)
    with suppress(KeyboardInterrupt):
        work(study, _jobs_of(jobs), lambda trial: _trained(trial, common))


# -- the table ---------------------------------------------------------------------------------------------------------


def read_labels(study: optuna.Study, space: Space | None = None, jobs: Jobs | None = None) -> Table:
    """Read the labels that a study holds.

    Args:
        study: Study that `label` made.
        space: Space that reads the architectures; None loads each row's own.
        jobs: Jobs to read, in their order; None reads all, in the order of their names.

    Returns:
        A table with the columns architecture (JSON line), key, macs, params, seed; the task's metric on the decide
        split, on the test split (`…_test`), on the decide split after each epoch (`…_ep1`, …); seconds of training;
        failure (the error's first line; the metrics of such a row are empty).
    """
    metric = study.user_attrs["metric"]
    ended = finished(study)
    rows = []
    order = [name for name in (jobs if jobs is not None else sorted(ended)) if name in ended]
    named = [n for n in order if space is not None and "architecture" in ended[n].user_attrs]
    lines = dict(zip(named, members_of(study, [ended[n] for n in named], space), strict=True))
    for name in order:
        about, value = ended[name].user_attrs, ended[name].value
        row = {c: str(about.get(c, "")) for c in ("architecture", "key", "macs", "params")}
        row |= {"architecture": lines[name].to_json()} if name in lines else {}
        row |= {"seed": str(about["training_seed"]), metric: _cell(value), f"{metric}_test": _cell(about.get("test"))}
        row |= {f"{metric}_ep{i + 1}": _cell(v) for i, v in enumerate(about.get("curve", ()))}
        row |= {"seconds": _cell(about.get("seconds")), "failure": about.get("failure", "")}
        rows.append(row)
    columns = list(dict.fromkeys(c for row in rows for c in row))
    larger = study.direction == optuna.study.StudyDirection.MAXIMIZE
    return Table(
        tuple({c: row.get(c, "") for c in columns} for row in rows),
        metric,
        "architecture",
        study.study_name,
        lambda line: Architecture.from_json(line, space),
        larger,
    )


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}"
