"""`search` joins a space, objectives and a storage into an ordinary `optuna.Study`."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from nasplat.errors import SearchError
from nasplat.searchspace import Architecture, Space, load_space
from nasplat.study.captured import facts_of
from nasplat.study.claims import claim, claim_space, members_of
from nasplat.study.directions import signs
from nasplat.study.front_pruner import FrontPruner
from nasplat.study.limits import Limits
from nasplat.study.liveness import Heart
from nasplat.study.loop import Loop, Progress, Question, about
from nasplat.study.objectives import AbstractObjective, Objective, OutsideSupport, named
from nasplat.study.predictor_sampler import PredictorSampler
from nasplat.study.proposals import ArchitectureSampler
from nasplat.study.samplers import ListedSampler
from nasplat.study.storage import clean_stop, open_storage
from nasplat.tables.table import Table
from nasplat.task.settings import Check, overridden

CONTENTS = "contents"
"""User attribute of a study: hashes of what its objectives' values come from."""
SUPPORT_DRAWS = 64
"""Random networks of which one at least must get an answer from an objective that is quick to ask."""


@dataclass(frozen=True)
class SearchSettings:
    """What a search may be told beside its space; every field is a keyword of `search`."""

    maximize: Sequence[Objective] = ()
    """Objectives whose larger values are better: callables of an architecture, or the name of a counted quantity."""
    minimize: Sequence[Objective] = ()
    """Objectives whose smaller values are better, given in the same ways."""
    limits: Mapping[Any, float] | None = None
    """Largest allowed values by counted quantity or objective, such as {"macs": 5e6}; None allows everything."""
    n_trials: int = 50
    """Trials finished (complete or failed) when the search ends, those of earlier runs included; at least 1."""
    sampler: optuna.samplers.BaseSampler | None = None
    """Any Optuna sampler; None for a `PredictorSampler` that learns from this search alone."""
    storage: Any = None
    """Where trials are kept, see `open_storage`; the same storage and name resume. None keeps them in memory."""
    name: str = "nasplat"
    """Name of the study in its storage."""
    seed: int = 0
    """Seed of the default sampler and of feasible draws; a sampler that is given has its own."""
    known: Table | None = None
    """Labelled architectures that count as finished trials from the start, beside the `n_trials` new ones."""
    pruner: FrontPruner | None = None
    """Stops trainings (`Trained` and others that have a curve) which cannot reach the Pareto front; None stops none."""
    report: Callable[[Progress], None] | None = None
    """Function that is called after every counted trial, in the process that evaluated it."""

    def __post_init__(self) -> None:
        """Check the types and ranges of numbers."""
        Check(self, SearchError).types().within("n_trials", least=1)


def search(
    space: Space | str,
    maximize: Sequence[Objective] = (),
    minimize: Sequence[Objective] = (),
    limits: Mapping[Any, float] | None = None,
    n_trials: int = SearchSettings.n_trials,
    sampler: optuna.samplers.BaseSampler | None = None,
    storage: Any = None,
    **settings: Any,
) -> optuna.Study:
    """Search a space for the networks that are best in one objective, or for the Pareto set of several.

    Args:
        space: Search space, or its name or path, such as 'vit' or './mine.py'.
        maximize: Objectives whose larger values are better: callables of an architecture, or the name of a counted
            quantity (macs, params or activation_bytes).
        minimize: Objectives whose smaller values are better, given in the same ways.
        limits: Largest allowed values, such as {"macs": 5e6}; keys are counted quantities or objectives. Networks
            beyond a limit are never evaluated.
        n_trials: Trials that are finished (complete or failed) when the search ends, those of earlier runs included.
        sampler: Any Optuna sampler; by default a `PredictorSampler` that learns from this search alone.
        storage: Where trials are kept: None (in memory), 'run.journal', 'sqlite:///run.db' or a PostgreSQL URL; the
            same storage and name resume.
        settings: Further fields of `SearchSettings`: name, seed, known, pruner and report.

    Returns:
        The study. Each trial has user attributes architecture (JSON), key, macs, params; failed ones a traceback.

    Raises:
        SearchError: no objective, an unknown setting, a limit that nothing satisfies, an objective that has no answer
            for any network of the space, or a study of another space or other objectives.

    Example:
        >>> import nasplat
        >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
        >>> study = nasplat.search(space, minimize=["params"], n_trials=3, seed=0)
        >>> len(study.trials)
        3
    """
    given = {"maximize": maximize, "minimize": minimize, "limits": limits, "n_trials": n_trials}
    given |= {"sampler": sampler, "storage": storage}
    asked = overridden(SearchSettings(), given | settings, SearchError)
    question = _question(load_space(space) if isinstance(space, str) else space, asked)
    study = _opened(question, asked)
    with clean_stop(), Heart(study) as heart:
        Loop(study, question, heart.name, asked.report).run()
    return study


def open_study(space: Space | str, **settings: Any) -> optuna.Study:
    """Create the study of a search, or load it, and evaluate nothing: for processes that watch the workers of a search.

    Args:
        space: Search space, or its name or path.
        settings: Fields of `SearchSettings`, as for `search`.

    Returns:
        The study, which refuses a later search of another space, other objectives or other limits.

    Raises:
        SearchError: as for `search`.
    """
    asked = overridden(SearchSettings(), settings, SearchError)
    return _opened(_question(load_space(space) if isinstance(space, str) else space, asked), asked)


def _question(space: Space, asked: SearchSettings) -> Question:
    """Resolve the names of objectives and limits, and refuse what contradicts itself before any trial exists."""
    objectives = tuple(named(o) for o in (*asked.maximize, *asked.minimize))
    for number, objective in enumerate(objectives):
        is_maximized = number < len(asked.maximize)
        if objective.larger_is_better not in {None, is_maximized}:
            wanted, got = ("minimize", "maximize") if is_maximized else ("maximize", "minimize")
            raise SearchError(f"{objective.name!r} expected {wanted}, got {got}.\n  Swap it.")
    if not objectives:
        raise SearchError(
            "expected at least one objective in maximize or minimize, got none.\n  Pass maximize=[Inherited(supernet)]."
        )
    pruner = asked.pruner
    if pruner is not None and (pruner.objective >= len(objectives) or not objectives[pruner.objective].has_curve):
        raise SearchError(
            f"pruner expected an objective with a learning curve at number {pruner.objective}, got "
            f"{[o.name for o in objectives]}.\n"
            "  Use Trained(task), or an objective of your own with has_curve and follow()."
        )
    limits = Limits.of(asked.limits)
    limits.draw(space, random.Random(f"{asked.seed} feasible"))  # an unreachable limit fails now, not after hours
    if not isinstance(asked.sampler, ListedSampler):
        for objective in objectives:
            if objective.is_quick:
                _refuse_silence(space, objective, limits, asked.seed)
    return Question(space, objectives, limits, asked.n_trials, asked.seed, pruner)


def _refuse_silence(space: Space, objective: AbstractObjective, limits: Limits, seed: int) -> None:
    """Fail now where an objective abstains on every network, rather than after minutes of refused proposals.

    Raises:
        SearchError: none of some random networks gets an answer.
    """
    rng, reason = random.Random(f"{seed} support"), ""
    for _ in range(SUPPORT_DRAWS):
        member = limits.draw(space, rng)
        try:
            objective(member)
            return
        except OutsideSupport as err:
            reason = str(err)
        except Exception:
            return  # the search records it, with its traceback, in the trial of the network that causes it
    raise SearchError(
        f"expected answers of {objective.name!r} for networks of {space!r}, got none for {SUPPORT_DRAWS} random ones: "
        f"{reason}.\n  Use a predictor that has learnt networks like these (on a command line --guide), or another "
        "quality; Predicted(predictor, beyond=True) only orders networks, and abstains on none."
    )


def _opened(question: Question, asked: SearchSettings) -> optuna.Study:
    """Create or load the study, with the sampler told what is searched and known networks added once."""
    sampler = PredictorSampler(seed=asked.seed) if asked.sampler is None else asked.sampler
    if isinstance(sampler, ArchitectureSampler):
        sampler.bind(question.space, question.objectives, question.limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            storage=open_storage(asked.storage),
            study_name=asked.name,
            directions=[
                *[StudyDirection.MAXIMIZE] * len(asked.maximize),
                *[StudyDirection.MINIMIZE] * len(asked.minimize),
            ],
            sampler=sampler,
            load_if_exists=True,
        )
    _claim_search(study, question)
    if asked.known is not None and not any("known" in t.user_attrs for t in study.get_trials(deepcopy=False)):
        _add_known(study, question, asked.known)
    return study


def _claim_search(study: optuna.Study, question: Question) -> None:
    """Write down space, objectives, limits and what values come from, or refuse a study of others."""
    limits = dict(question.limits.counted) | {n: v for n, _, v in question.limits.others}
    names = json.dumps([o.name for o in question.objectives])
    claim_space(study, question.space)
    claim(study, {"objectives": names, "limits": json.dumps(limits)})
    contents = json.dumps([o.content for o in question.objectives])
    if study.user_attrs.get(CONTENTS, contents) != contents:
        raise SearchError(
            f"study {study.study_name!r} was started with weights or labels of hash {study.user_attrs[CONTENTS]}, got "
            f"{contents}: its values would not compare.\n"
            "  Copy the supernet or table that it was started with, or choose another name."
        )
    if CONTENTS not in study.user_attrs and contents != json.dumps([None] * len(question.objectives)):
        study.set_user_attr(CONTENTS, contents)
    if "seed" not in study.user_attrs:
        study.set_user_attr("seed", question.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # names are shown by its dashboard
            study.set_metric_names([o.name for o in question.objectives])


def _add_known(study: optuna.Study, question: Question, known: Table) -> None:
    """Add labelled networks as finished trials: the table gives the one expensive objective, the rest is counted.

    Of several rows of one network the labels are averaged; rows without a finite label are left out.
    """
    expensive = [i for i, o in enumerate(question.objectives) if not o.is_cheap]
    if len(expensive) != 1:
        raise SearchError(
            f"known= expected exactly one objective that is not counted, got {len(expensive)}.\n  Leave it out."
        )
    found: dict[str, tuple[Architecture, list[float]]] = {}
    known = known.labelled()
    for architecture, label in zip(known.architectures, known.labels, strict=True):
        member = question.space.architecture(architecture.choices)
        found.setdefault(facts_of(member).key, (member, []))[1].append(label)
    for member, labels in found.values():
        label = fmean(labels) if len(labels) > 1 else labels[0]
        values = [label if i in expensive else o(member) for i, o in enumerate(question.objectives)]
        options = {n: optuna.distributions.CategoricalDistribution(question.space.known[n]) for n in member.choices}
        study.add_trial(
            optuna.trial.create_trial(
                values=values,
                params=dict(member.choices),
                distributions=dict(options),
                user_attrs=about(member) | {"known": known.source},
            )
        )


def architectures(study: optuna.Study, space: Space | None = None) -> list[tuple[Architecture, list[float]]]:
    """Give the Pareto set, or with one objective all finished trials, as architectures with their values.

    Args:
        study: Study that `search` made.
        space: Space that was searched; None loads it by the name that each architecture carries.

    Returns:
        Architectures with one value per objective, in its unit. With one objective the best comes first.
    """
    if len(study.directions) > 1:
        trials = study.best_trials
    else:
        (sign,) = signs(study)
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        trials = sorted(trials, key=lambda t: -sign * t.values[0])
    return [(a, list(t.values)) for a, t in zip(members_of(study, trials, space), trials, strict=True)]


def table_of(study: optuna.Study, space: Space | None = None) -> Table:
    """Make a table of the finished trials.

    Args:
        study: Study that `search` made.
        space: Space that was searched; None loads it by the name that each architecture carries.

    Returns:
        Columns architecture, key, macs, params and one per objective; the label is the first objective.
    """
    names = study.metric_names or [f"value{i}" for i in range(len(study.directions))]
    rows = []
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    members = None if space is None else members_of(study, done, space)
    for i, t in enumerate(done):
        row = {k: str(t.user_attrs[k]) for k in ("architecture", "key", "macs", "params")}
        row |= {} if members is None else {"architecture": members[i].to_json()}
        rows.append(row | {n: f"{v:.6g}" for n, v in zip(names, t.values, strict=True)})
    return Table(
        tuple(rows),
        names[0],
        "architecture",
        study.study_name,
        lambda s: Architecture.from_json(s, space),
        signs(study)[0] > 0,
    )
