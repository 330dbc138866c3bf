"""`search` joins a space, objectives and a storage into an ordinary `optuna.Study`."""

from __future__ import annotations

import gc
import json
import random
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import optuna
import torch
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from nasplat.errors import SearchError
from nasplat.searchspace import Architecture, Space, load_space
from nasplat.searchspace.pick import Rejected
from nasplat.study import (
    AbstractObjective,
    Counted,
    FrontPruner,
    Limits,
    ListedSampler,
    OutsideSupport,
    PredictorSampler,
)
from nasplat.study.captured import facts_of
from nasplat.study.directions import signs
from nasplat.study.ledger import STOPPED, Ledger
from nasplat.study.liveness import Heart, Watch
from nasplat.study.proposals import ArchitectureSampler
from nasplat.study.storage import clean_stop, is_waiting, open_storage
from nasplat.tables.table import Table

PATIENCE = 50
"""Refused proposals in a row before a fresh feasible architecture is drawn for the sampler."""
GIVE_UP = 400
"""Refused proposals in a row before the search ends: nothing new is left."""
WAIT = 0.2
"""Seconds between looks at the last trials of other workers."""
CONTENTS = "contents"
"""User attribute of a study: hashes of what its objectives' values come from."""
SURPLUS = "enough trials are under way"
STORAGE_ERRORS = (optuna.exceptions.StorageInternalError, SQLAlchemyError)

Objective = AbstractObjective | Callable[[Architecture], float] | str


@dataclass(frozen=True)
class Progress:
    """Where a search stands; passed to `report` after every counted trial."""

    done: int
    total: int
    refused: int
    """Proposals pruned at once in this run: duplicates, beyond a limit, outside a support."""
    seconds: float
    trial: optuna.trial.FrozenTrial


def search(
    space: Space | str,
    maximize: Sequence[Objective] = (),
    minimize: Sequence[Objective] = (),
    limits: Mapping[Any, float] | None = None,
    n_trials: int = 50,
    sampler: optuna.samplers.BaseSampler | None = None,
    storage: Any = None,
    name: str = "nasplat",
    seed: int = 0,
    known: Table | None = None,
    pruner: FrontPruner | None = None,
    report: Callable[[Progress], None] | None = None,
) -> optuna.Study:
    """Search a space.

    Args:
        space: A space, or its name or path.
        maximize: Objectives; callables of an architecture, or a counted quantity's name.
        minimize: The same.
        limits: Largest allowed values, such as {"macs": 5e6}; keys are counted quantities or objectives.
        n_trials: Trials that are finished (complete or failed) when the search ends, those of earlier runs included.
        sampler: Any Optuna sampler; default a `PredictorSampler` that starts from nothing.
        storage: See `open_storage`; the same storage and name resume.
        name: Of the study.
        seed: Of the default sampler and of feasible draws.
        known: Labelled architectures that count as finished trials from the start.
        pruner: Stops trainings (`Trained` and others that have a curve) which cannot reach the Pareto front.
        report: Called after every counted trial.

    Returns:
        The study. Each trial has user attributes architecture (JSON), key, macs, params; failed ones a traceback.

    Raises:
        SearchError: no objective, a limit nothing satisfies, or a study of another space or other objectives.
    """
    space = load_space(space) if isinstance(space, str) else space
    objectives = [named(o) for o in (*maximize, *minimize)]
    directions: Any = ["maximize"] * len(maximize) + ["minimize"] * len(minimize)
    for objective, direction in zip(objectives, directions, strict=True):
        if objective.larger_is_better not in {None, direction == "maximize"}:
            raise SearchError(
                f"{objective.name!r} expected {'maximize' if objective.larger_is_better else 'minimize'}, got {direction}.\n  Swap it."
            )
    if not objectives:
        raise SearchError(
            "expected at least one objective in maximize or minimize, got none.\n  Pass maximize=[Inherited(supernet)]."
        )
    if pruner is not None and (pruner.objective >= len(objectives) or not objectives[pruner.objective].has_curve):
        raise SearchError(
            f"pruner expected an objective with a learning curve at number {pruner.objective}, got {[o.name for o in objectives]}.\n"
            "  Use Trained(task), or an objective of your own with has_curve and follow()."
        )
    bounds = Limits.of(limits)
    bounds.draw(space, random.Random(f"{seed} feasible"))  # an unreachable limit fails now, not after hours
    if sampler is None:
        sampler = PredictorSampler(seed=seed)
    if isinstance(sampler, ArchitectureSampler):
        sampler.bind(space, objectives, bounds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            storage=open_storage(storage), study_name=name, directions=directions, sampler=sampler, load_if_exists=True
        )
    _claim_search(study, space, objectives, bounds, seed)
    if known is not None and not any("known" in t.user_attrs for t in study.get_trials(deepcopy=False)):
        _add_known(study, space, objectives, known)
    with clean_stop(), Heart(study) as heart:
        _run(study, space, objectives, bounds, n_trials, seed, pruner, report, heart.name)
    return study


def named(objective: Objective) -> AbstractObjective:
    """An objective from what a user may give: one of ours, a quantity's name, or a plain function."""
    if isinstance(objective, AbstractObjective):
        return objective
    if isinstance(objective, str):
        return Counted(objective)
    return _Callable(objective)


class _Callable(AbstractObjective):
    """A plain function as an objective."""

    def __init__(self, function: Callable[[Architecture], float]) -> None:
        self.function = function
        self.name = getattr(function, "name", None) or getattr(function, "__name__", "objective")

    def __call__(self, architecture: Architecture) -> float:
        return float(self.function(architecture))


def claim(study: optuna.Study, mine: Mapping[str, str]) -> None:
    """Write down what the study is of, or check that it is of the same.

    Raises:
        SearchError: it is of something else.
    """
    for key, value in mine.items():
        there = study.user_attrs.get(key)
        if there is None:
            study.set_user_attr(key, value)
        elif there != value:
            raise SearchError(
                f"study {study.study_name!r} in this storage has {key} {there!r}, got {value!r}.\n  Choose another name or storage."
            )


def _claim_search(
    study: optuna.Study, space: Space, objectives: list[AbstractObjective], bounds: Limits, seed: int
) -> None:
    limits = dict(bounds.counted) | {n: v for n, _, v in bounds.others}
    names = json.dumps([o.name for o in objectives])
    claim(study, {"space": space.reference, "objectives": names, "limits": json.dumps(limits)})
    contents = json.dumps([o.content for o in objectives])
    if study.user_attrs.get(CONTENTS, contents) != contents:
        raise SearchError(
            f"study {study.study_name!r} was started with weights or labels of hash {study.user_attrs[CONTENTS]}, got {contents}: its values "
            "would not compare.\n  Copy the supernet or table that it was started with, or choose another name."
        )
    if CONTENTS not in study.user_attrs and contents != json.dumps([None] * len(objectives)):
        study.set_user_attr(CONTENTS, contents)
    if "seed" not in study.user_attrs:
        study.set_user_attr("seed", seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # names are shown by its dashboard
            study.set_metric_names([o.name for o in objectives])


def _add_known(study: optuna.Study, space: Space, objectives: list[AbstractObjective], known: Table) -> None:
    """Labelled rows as finished trials: the table gives the one expensive objective, the rest is counted."""
    expensive = [i for i, o in enumerate(objectives) if not o.is_cheap]
    if len(expensive) != 1:
        raise SearchError(
            f"known= expected exactly one objective that is not counted, got {len(expensive)}.\n  Leave it out."
        )
    keys: set[str] = set()
    for architecture, label in zip(known.architectures, known.labels, strict=True):
        member = space.architecture(architecture.choices)
        key = facts_of(member).key
        if key in keys:
            continue
        keys.add(key)
        values = [label if i in expensive else o(member) for i, o in enumerate(objectives)]
        distributions: Any = {n: optuna.distributions.CategoricalDistribution(space.known[n]) for n in member.choices}
        study.add_trial(
            optuna.trial.create_trial(
                values=values,
                params=dict(member.choices),
                distributions=distributions,
                user_attrs=_about(member) | {"known": known.source},
            )
        )


def _about(architecture: Architecture) -> dict[str, Any]:
    facts = facts_of(architecture)
    return {"architecture": architecture.to_json(), "key": facts.key, "macs": facts.macs, "params": facts.params}


def _run(
    study: optuna.Study,
    space: Space,
    objectives: list[AbstractObjective],
    bounds: Limits,
    n_trials: int,
    seed: int,
    pruner: FrontPruner | None,
    report: Callable[[Progress], None] | None,
    worker: str,
) -> None:
    started, refused, in_a_row = time.monotonic(), 0, 0
    ledger, watch = Ledger(), Watch()
    listed = study.sampler if isinstance(study.sampler, ListedSampler) else None
    while True:
        ledger.update(study)
        watch.bury(study, ledger.running)
        if ledger.done >= n_trials or in_a_row >= GIVE_UP:
            return
        others = [t for t in ledger.running if t.user_attrs.get("worker") != worker]
        if ledger.done + len(others) >= n_trials and not is_waiting(study):
            time.sleep(WAIT)  # the last ones are under way: their workers may still die
            continue
        if listed is not None and listed.is_exhausted(ledger.keys()) and not is_waiting(study):
            if not others:
                return
            time.sleep(WAIT)
            continue
        if in_a_row and in_a_row % PATIENCE == 0 and listed is None:
            fresh = bounds.draw(space, random.Random(f"{seed} fresh {in_a_row} {ledger.done}"))
            study.enqueue_trial(dict(fresh.choices))
        trial = study.ask()
        trial.set_user_attr("worker", worker)
        architecture, reason = None, ""
        try:
            architecture = space.suggest(trial)
            # beyond a limit is told first: only what may be evaluated claims its network
            reason = bounds.broken(architecture)
        except Rejected as err:
            reason = f"refused by the space: {err}"
        if architecture is not None and not reason:
            for key, value in _about(architecture).items():
                trial.set_user_attr(key, value)
            ledger.update(study)
            is_claimed = (
                isinstance(study.sampler, ArchitectureSampler) and study.sampler.claimed(trial.number) == architecture
            )
            if listed is not None and not is_claimed and "retry_of" not in trial.user_attrs:
                reason = SURPLUS  # another worker took the last one meanwhile
            rival = None if is_claimed or reason else ledger.rival(facts_of(architecture).key, trial.number)
            reason = reason if rival is None else f"the same network as trial {rival}"
            # numbers tell who came first, so that several workers stop at exactly the wanted number
            ahead = sum(t.number < trial.number for t in ledger.running)
            if not reason and ledger.done + ahead >= n_trials:
                reason = SURPLUS
        if architecture is None or reason:
            _prune(study, trial, reason)
            if reason != SURPLUS:
                refused, in_a_row = refused + 1, in_a_row + 1
            continue
        trial.set_user_attr("counted", True)
        try:
            if isinstance(study.sampler, PredictorSampler):
                _note_expectation(trial, study.sampler, architecture)
            values = _values(trial, architecture, objectives, pruner)
            bad = [o.name for o, v in zip(objectives, values, strict=True) if not isfinite(v)]
            if bad:
                trial.set_user_attr("reason", f"{bad[0]} is not finite")
                _tell(study, trial, state=TrialState.FAIL)
            else:
                _tell(study, trial, values)
        except OutsideSupport as err:
            trial.set_user_attr("counted", False)
            _prune(study, trial, str(err))
            refused, in_a_row = refused + 1, in_a_row + 1
            continue
        except optuna.TrialPruned as err:
            if STOPPED not in trial.user_attrs:  # an objective that gave up by itself
                trial.set_user_attr(STOPPED, 0)
                trial.set_user_attr("reason", str(err))
            _tell(study, trial, state=TrialState.PRUNED)
        except KeyboardInterrupt:
            trial.set_user_attr("counted", False)
            _tell(study, trial, state=TrialState.FAIL)
            raise
        except STORAGE_ERRORS:
            raise  # no fault of the candidate
        except Exception:
            trial.set_user_attr("traceback", traceback.format_exc())
            _tell(study, trial, state=TrialState.FAIL)
            _release_memory()
        in_a_row = 0
        if report is not None:
            frozen = study.get_trials(deepcopy=False)[trial.number]
            ledger.update(study)
            report(Progress(ledger.done, n_trials, refused, time.monotonic() - started, frozen))


def _values(
    trial: optuna.Trial, architecture: Architecture, objectives: list[AbstractObjective], pruner: FrontPruner | None
) -> list[float]:
    """All objectives; with a pruner the one with a curve comes last, so that it may be stopped for the sake of the others.

    Raises:
        TrialPruned: the pruner stopped it.
    """
    if pruner is None:
        return [o(architecture) for o in objectives]
    found = {i: o(architecture) for i, o in enumerate(objectives) if i != pruner.objective}

    def after(epoch: int, value: float) -> None:
        if pruner.should_prune(trial, value, found):
            raise optuna.TrialPruned(trial.user_attrs["reason"])

    return [found[i] if i in found else o.follow(architecture, after) for i, o in enumerate(objectives)]


def _note_expectation(trial: optuna.Trial, sampler: PredictorSampler, architecture: Architecture) -> None:
    """What the sampler's model expected, in the unit of an objective; what its guide answered, in the guide's own unit."""
    answer, expected = sampler.estimate(architecture), sampler.expectation(trial.number)
    if answer is not None:
        trial.set_user_attr("guide", answer)
    if expected is not None:
        about = {"predicted": expected.mean, "predicted_low": expected.low, "predicted_high": expected.high}
        for key, value in (about | {"predicted_objective": expected.objective}).items():
            trial.set_user_attr(key, value)


def _tell(
    study: optuna.Study, trial: optuna.Trial, values: Sequence[float] | None = None, state: TrialState | None = None
) -> None:
    """Record a result, unless this worker was taken for dead meanwhile and its trial told as failed."""
    try:
        study.tell(trial, values, state=state)
    except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
        if not study.get_trials(deepcopy=False)[trial.number].state.is_finished():
            raise


def _release_memory() -> None:
    """After an out-of-memory error the next candidate gets all of the device again."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _prune(study: optuna.Study, trial: optuna.Trial, reason: str) -> None:
    trial.set_user_attr("reason", reason)
    study.tell(trial, state=TrialState.PRUNED)


def architectures(study: optuna.Study, space: Space | None = None) -> list[tuple[Architecture, list[float]]]:
    """The Pareto set (or, with one objective, all finished trials, best first) as architectures with their values."""
    if len(study.directions) > 1:
        trials = study.best_trials
    else:
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        (sign,) = signs(study)
        trials = sorted(trials, key=lambda t: -sign * t.values[0])
    return [(Architecture.from_json(t.user_attrs["architecture"], space), list(t.values)) for t in trials]


def table_of(study: optuna.Study, space: Space | None = None) -> Table:
    """Finished trials as a table: architecture, key, macs, params and one column per objective."""
    names = study.metric_names or [f"value{i}" for i in range(len(study.directions))]
    rows = []
    for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        row = {k: str(t.user_attrs[k]) for k in ("architecture", "key", "macs", "params")}
        rows.append(row | {n: f"{v:.6g}" for n, v in zip(names, t.values, strict=True)})
    return Table(
        tuple(rows),
        names[0],
        "architecture",
        study.study_name,
        lambda s: Architecture.from_json(s, space),
        signs(study)[0] > 0,
    )
