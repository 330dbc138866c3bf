"""Jobs that any number of processes take from one Optuna study, die, and come back to: each is done once.

A job has a name, and the list of names follows from a call's arguments alone. Its trial keeps what was found; a job of
a process that died, or that was stopped by hand, is open again.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from nasplat.searchspace.pick import Rejected
from nasplat.study.liveness import Heart, Watch
from nasplat.study.pool import one_thread
from nasplat.study.search import Progress
from nasplat.study.storage import NO_FAULT, clean_stop

Report = Callable[[Progress], None]
"""Called after each job."""


@dataclass(frozen=True)
class Job:
    """What a trial is asked to do."""

    attributes: Mapping[str, Any] = field(default_factory=dict)
    """User attributes of its trial beside the name, which say what is to be done."""
    choices: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of its trial."""


def work(
    study: optuna.Study, jobs: Mapping[str, Job], do: Callable[[optuna.Trial], float], report: Report | None = None
) -> None:
    """Take jobs until none is left that nobody else has taken.

    Args:
        study: Study that keeps what is done.
        jobs: Jobs by their names.
        do: Does the job of a trial and returns its value; what it raises is kept in the trial, which then has failed.
        report: Called after each job; None for silence.
    """
    started = time.monotonic()

    def tell(trial: optuna.Trial) -> None:
        if report is not None:
            frozen = study.get_trials(deepcopy=False)[trial.number]
            report(Progress(done(study, jobs), len(jobs), 0, time.monotonic() - started, frozen))

    with clean_stop(), Heart(study) as heart:
        watch = Watch()
        while (trial := _next(study, jobs, heart.name, watch)) is not None:
            if not isinstance(trial, optuna.Trial):
                continue
            with suppress(UpdateFinishedTrialError):  # another worker took this one for dead: its job is open again
                _do(study, trial, do)
                tell(trial)


def _next(study: optuna.Study, jobs: Mapping[str, Job], worker: str, watch: Watch) -> optuna.Trial | bool | None:
    """A trial with a job; False where another worker was quicker, None where nothing is left to take."""
    for lost in watch.dead(study, study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))):
        study.tell(lost.number, state=TrialState.FAIL, skip_if_finished=True)  # another worker may be quicker
    trials = study.get_trials(deepcopy=False)
    taken = {t.user_attrs.get("job") for t in trials if holds(t)}
    name = next((n for n in jobs if n not in taken), None)
    if name is not None:
        attributes = {"job": name, **jobs[name].attributes, "worker": worker}
        study.enqueue_trial(dict(jobs[name].choices), user_attrs=attributes)
    elif not any(t.state == TrialState.WAITING for t in trials):
        return None
    trial = study.ask()  # perhaps one that another worker has enqueued
    try:
        trial.set_user_attr("worker", worker)
    except UpdateFinishedTrialError:
        return False
    name = trial.user_attrs.get("job")
    others = study.get_trials(deepcopy=False)
    rivals = [t for t in others if t.user_attrs.get("job") == name and t.number != trial.number]
    if name is None or any(holds(t) and (t.number < trial.number or t.state.is_finished()) for t in rivals):
        study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        return False
    return trial


def _do(study: optuna.Study, trial: optuna.Trial, do: Callable[[optuna.Trial], float]) -> None:
    """Do the job of a trial, and tell the study what came of it."""
    try:
        study.tell(trial, do(trial), skip_if_finished=True)
    except KeyboardInterrupt:
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)  # without a traceback: the job is open again
        raise
    except NO_FAULT:
        raise
    except (Exception, Rejected) as err:
        trial.set_user_attr("traceback", traceback.format_exc())
        trial.set_user_attr("failure", f"{type(err).__name__}: {err}".partition("\n")[0])
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)


def holds(trial: FrozenTrial) -> bool:
    """Tell whether the job of a trial is done, under way, or about to be.

    Args:
        trial: Trial of a study of jobs.

    Returns:
        False where nobody does it any more and it has to be done again.
    """
    failed = trial.state == TrialState.FAIL and "traceback" in trial.user_attrs
    return failed or trial.state in {TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING}


def finished(study: optuna.Study) -> dict[str, FrozenTrial]:
    """List the trials whose jobs are done.

    Args:
        study: Study of jobs.

    Returns:
        The first such trial of each job, by the job's name.
    """
    found: dict[str, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and holds(trial):
            found.setdefault(trial.user_attrs.get("job", ""), trial)
    return found


def done(study: optuna.Study, jobs: Mapping[str, Any]) -> int:
    """Count the jobs that are done.

    Args:
        study: Study of jobs.
        jobs: Jobs by their names.

    Returns:
        Number of them that have ended, well or not.
    """
    return len(finished(study).keys() & jobs.keys())


def started(workers: int, worker: Callable[[Any], None], shared: Any) -> list[BaseProcess]:
    """Start processes that take jobs, with one thread each.

    Args:
        workers: Number of processes.
        worker: Function of a module that takes jobs with `work` until none is left.
        shared: What it is called with; it is sent to each process.

    Returns:
        The processes, which end with this one.
    """
    with one_thread():
        context = multiprocessing.get_context("spawn")
        processes: list[BaseProcess] = [
            context.Process(target=worker, args=(shared,), daemon=True) for _ in range(workers)
        ]
        for process in processes:
            process.start()
    return processes


def share_out(
    study: optuna.Study, jobs: Mapping[str, Any], processes: list[BaseProcess], report: Report | None = None
) -> None:
    """Wait for processes that take jobs until all have ended; a pool would wait forever for one that was killed.

    Args:
        study: Study of the jobs.
        jobs: Jobs by their names.
        processes: Processes that were started, each with `work`.
        report: Called when jobs have ended; None for silence.
    """
    started, seen = time.monotonic(), done(study, jobs)
    try:
        while any(p.is_alive() for p in processes):
            time.sleep(0.5)
            now = done(study, jobs)
            if report is not None and now > seen:
                last = max((t for t in study.get_trials(deepcopy=False) if t.state.is_finished()), key=_completed)
                report(Progress(now, len(jobs), 0, time.monotonic() - started, last))
            seen = now
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _completed(trial: FrozenTrial) -> float:
    return trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0
