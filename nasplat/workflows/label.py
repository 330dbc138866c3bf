"""`label`: architectures of a space, each trained from scratch on a task, as a table that resumes and can be shared out.

A job is one architecture and one training seed. The list of jobs follows from the arguments alone, so any number of processes
on any number of machines can take jobs from one Optuna storage, die, and come back: the table is that of one undisturbed run.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nasplat.errors import SearchError, SpaceError
from nasplat.inputs import load_task
from nasplat.searchspace import Architecture, Space, load_space
from nasplat.searchspace.pick import Rejected
from nasplat.study import Limits
from nasplat.study.captured import facts_of
from nasplat.study.liveness import Heart, Watch
from nasplat.study.search import Progress, claim
from nasplat.study.storage import clean_stop, open_storage
from nasplat.tables.table import Table
from nasplat.task import Task
from nasplat.task.training import Budget, train_architecture

NAME = "label"
"""Of the study in its storage."""
MISSES = 1000
"""Draws in a row that gave nothing new before the space counts as exhausted."""
Jobs = dict[str, tuple[Architecture, int]]
"""Job's name -> architecture and training seed."""


def label(
    space: Space | str,
    task: Task | str,
    n: int,
    budget: Budget | None = None,
    limits: Mapping[Any, float] | None = None,
    storage: Any = None,
    seed: int = 0,
    report: Callable[[Progress], None] | None = None,
    *,
    architectures: Iterable[Architecture | str] | None = None,
    seeds: int = 1,
    repeat: float = 1.0,
    workers: int = 1,
    device: str = "cpu",
    known: Table | None = None,
) -> Table:
    """Train architectures of a space and keep what they reached.

    Args:
        space: What is drawn from; with several workers a name or path, or a space loaded by one.
        task: Data, loss and metric; with several workers a name or folder.
        n: Distinct networks to train. A larger n with the same storage adds to those that are there.
        budget: Of each training.
        limits: Largest allowed counts.
        storage: See `open_storage`; the same command resumes, or joins in from another machine.
        seed: Of the draws; training seeds are seed, seed + 1, ….
        report: Called after each job.
        architectures: Label these instead of random ones (the first n of them).
        seeds: Trainings of one architecture with other initial values and data order.
        repeat: Share of the architectures that get more than the first of the seeds.
        workers: Processes of one thread each.
        device: "cpu" or "cuda".
        known: A table of earlier labels of the same task and budget: its jobs are not trained again.

    Returns:
        One row per job, in the order of the jobs: see `read_labels`.

    Raises:
        SearchError: the storage holds labels of something else, or several workers cannot share what was passed.
        SpaceError: the space or the list has fewer than n networks.
    """
    loaded = load_space(space) if isinstance(space, str) else space
    data = load_task(task) if isinstance(task, str) else task
    budget = budget or Budget()
    members = draw(loaded, n, seed, limits) if architectures is None else _listed(loaded, architectures, n)
    jobs = _jobs(members, seed, seeds, repeat)
    study = optuna.create_study(
        storage=open_storage(storage),
        study_name=NAME,
        direction="maximize" if data.larger_is_better else "minimize",
        sampler=optuna.samplers.RandomSampler(seed=seed),
        load_if_exists=True,
    )
    claim(study, {"space": loaded.reference, "task": repr(data), "budget": _words(budget), "metric": data.metric_name})
    if known is not None:
        _adopt(study, jobs, known, data.metric_name)
    if workers > 1:
        if not (isinstance(task, str) and isinstance(storage, str)):
            raise SearchError(
                f"{workers} workers expected a task's name or folder and a storage URL or file, got {task!r} and {storage!r}.\n"
                "  Pass those, or workers=1."
            )
        lines = [(name, a.to_json(), s) for name, (a, s) in jobs.items()]
        _share_out(
            study, jobs, workers, (loaded.name, loaded.presets, task, asdict(budget), storage, lines, device), report
        )
    _work(study, jobs, loaded, data, budget, device, report)  # after several workers: what those that died left
    return read_labels(study, loaded, jobs)


def draw(space: Space, n: int, seed: int, limits: Mapping[Any, float] | None = None) -> list[Architecture]:
    """The first n distinct networks of the space's random sequence for a seed; a longer list begins with a shorter one.

    Raises:
        SpaceError: the space gives no more new networks.
    """
    bounds = Limits.of(limits)
    rng = random.Random(f"{seed} label")
    found: dict[str, Architecture] = {}
    missed = 0
    while len(found) < n:
        member = bounds.draw(space, rng)
        try:
            key = facts_of(member).key
        except Exception:
            key = str(member)  # it does not build: its job will record why
        missed = missed + 1 if key in found else 0
        found.setdefault(key, member)
        if missed >= MISSES:
            raise SpaceError(
                f"expected {n} distinct networks of {space!r}, found {len(found)}.\n  Ask for fewer, or loosen limits."
            )
    return list(found.values())


def _listed(space: Space, given: Iterable[Architecture | str], n: int) -> list[Architecture]:
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
    """Rows of a table as finished trials, where their job is open."""
    held = {t.user_attrs.get("job") for t in study.get_trials(deepcopy=False) if _holds(t)}
    names = {(a.to_json(), str(s)): name for name, (a, s) in jobs.items()}
    for row in known.rows:
        name = names.get((row["architecture"], row["seed"]))
        if name is None or name in held or not row.get(metric):
            continue
        architecture, s = jobs[name]
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


def _words(budget: Budget) -> str:
    return ", ".join(f"{k}={v}" for k, v in asdict(budget).items())


# -- taking jobs -------------------------------------------------------------------------------------------------------


def _work(
    study: optuna.Study,
    jobs: Jobs,
    space: Space,
    task: Task,
    budget: Budget,
    device: str,
    report: Callable[[Progress], None] | None = None,
) -> None:
    """Take jobs until none is left that nobody else has taken."""
    task, started = task.to(device), time.monotonic()
    with clean_stop(), Heart(study) as heart:
        _take(study, jobs, space, task, budget, heart.name, started, report)


def _take(
    study: optuna.Study,
    jobs: Jobs,
    space: Space,
    task: Task,
    budget: Budget,
    worker: str,
    started: float,
    report: Callable[[Progress], None] | None,
) -> None:
    watch = Watch()
    while True:
        for lost in watch.dead(study, study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))):
            study.tell(lost.number, state=TrialState.FAIL, skip_if_finished=True)  # another worker may be quicker
        trials = study.get_trials(deepcopy=False)
        taken = {t.user_attrs.get("job") for t in trials if _holds(t)}
        job = next((name for name in jobs if name not in taken), None)
        if job is not None:
            architecture, s = jobs[job]
            study.enqueue_trial(
                dict(architecture.choices), user_attrs={"job": job, "training_seed": s, "worker": worker}
            )
        elif not any(t.state == TrialState.WAITING for t in trials):
            return
        trial = study.ask()  # perhaps one that another worker has enqueued
        trial.set_user_attr("worker", worker)
        name = trial.user_attrs.get("job")
        rivals = [
            t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("job") == name and t.number != trial.number
        ]
        if name is None or any(_holds(t) and (t.number < trial.number or t.state.is_finished()) for t in rivals):
            study.tell(trial, state=TrialState.PRUNED)
            continue
        _train(study, trial, space, task, budget)
        if report is not None:
            done = _done(study, jobs)
            report(
                Progress(done, len(jobs), 0, time.monotonic() - started, study.get_trials(deepcopy=False)[trial.number])
            )


def _holds(trial: FrozenTrial) -> bool:
    """The job of this trial is done, under way, or about to be."""
    failed = trial.state == TrialState.FAIL and "traceback" in trial.user_attrs
    return failed or trial.state in {TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING}


def _train(study: optuna.Study, trial: optuna.Trial, space: Space, task: Task, budget: Budget) -> None:
    try:
        architecture = space.suggest(trial)
        graph = facts_of(architecture)
        trial.set_user_attr("architecture", architecture.to_json())
        trial.set_user_attr("key", facts_of(architecture).key)
        trial.set_user_attr("macs", graph.macs)
        trial.set_user_attr("params", graph.params)
        seed, curve = int(trial.user_attrs["training_seed"]), list[float]()
        done = train_architecture(architecture, task, budget, seed, lambda _, reached: curve.append(reached))
        trial.set_user_attr("test", done.test)
        trial.set_user_attr("curve", curve)
        trial.set_user_attr("seconds", done.seconds)
        study.tell(trial, done.decide)
    except KeyboardInterrupt:
        study.tell(trial, state=TrialState.FAIL)  # without a traceback: the job is open again
        raise
    except (Exception, Rejected) as err:
        trial.set_user_attr("traceback", traceback.format_exc())
        trial.set_user_attr("failure", f"{type(err).__name__}: {err}".partition("\n")[0])
        study.tell(trial, state=TrialState.FAIL)


def _done(study: optuna.Study, jobs: Jobs) -> int:
    finished = (t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and _holds(t))
    return len({t.user_attrs.get("job") for t in finished} & jobs.keys())


def _share_out(
    study: optuna.Study, jobs: Jobs, workers: int, arguments: tuple[Any, ...], report: Callable[[Progress], None] | None
) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_worker, args=arguments, daemon=True) for _ in range(workers)]
    before = {k: os.environ.get(k) for k in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")}
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
    try:
        for process in processes:
            process.start()
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
    started, seen = time.monotonic(), _done(study, jobs)
    try:
        while any(p.is_alive() for p in processes):
            time.sleep(0.5)
            done = _done(study, jobs)
            if report is not None and done > seen:
                last = max((t for t in study.get_trials(deepcopy=False) if t.state.is_finished()), key=_completed)
                report(Progress(done, len(jobs), 0, time.monotonic() - started, last))
            seen = done
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _completed(trial: FrozenTrial) -> float:
    return trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0


def _worker(
    name: str,
    presets: dict[str, Any],
    task: str,
    budget: dict[str, Any],
    storage: str,
    lines: list[tuple[str, str, int]],
    device: str,
) -> None:
    import torch

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = load_space(name, **presets)
    jobs = {job: (Architecture.from_json(line, space), s) for job, line, s in lines}
    study = optuna.load_study(
        storage=open_storage(storage), study_name=NAME, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    try:
        _work(study, jobs, space, load_task(task), Budget(**budget), device)
    except KeyboardInterrupt:
        return


# -- the table ---------------------------------------------------------------------------------------------------------


def read_labels(study: optuna.Study, space: Space | None = None, jobs: Jobs | None = None) -> Table:
    """What a study of labels holds.

    Args:
        study: Made by `label`.
        space: Reads the architectures; else each row's own space is loaded.
        jobs: Only these, in their order; else all, in the order of their names.

    Returns:
        Columns architecture (JSON line), key, macs, params, seed; the task's metric on the decide split, on the test split
        (`…_test`), on the decide split after each epoch (`…_ep1`, …); seconds of training; failure (the
        error's first line; the metrics of such a row are empty).
    """
    metric = study.user_attrs["metric"]
    finished: dict[str, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and _holds(trial):
            finished.setdefault(trial.user_attrs.get("job", ""), trial)
    rows = []
    for name in jobs if jobs is not None else sorted(finished):
        if name not in finished:
            continue
        about, value = finished[name].user_attrs, finished[name].value
        row = {c: str(about.get(c, "")) for c in ("architecture", "key", "macs", "params")}
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
