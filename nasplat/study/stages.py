"""`search_in_stages`: many networks are asked cheaply, few dearly; how many is decided by how well the stages agree."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from nasplat.errors import SearchError
from nasplat.searchspace import Architecture, Space, load_space
from nasplat.study import AbstractObjective, FrontPruner, Limits, ListedSampler, PredictorSampler
from nasplat.study.allocation import Plan, allocate, promote
from nasplat.study.captured import facts_of
from nasplat.study.directions import signs
from nasplat.study.ledger import is_counted
from nasplat.study.proposals import ATTEMPTS
from nasplat.study.search import Objective, Progress, named, search
from nasplat.study.storage import open_storage
from nasplat.study.surrogate import Surrogate

LISTED = 0.5
"""Share of a stage's networks that are the best of the stage before; the others are proposed by a model of the stage itself, to which the
stage before is a guide: where the two disagree at the top, the list alone would not notice."""
PILOTS = 8
"""Networks of the pilot, unless the caller wants another number."""
PLAN = "plan"
"""User attribute of the last stage's study: the plan, as JSON."""


@dataclass(frozen=True)
class Staged:
    """What a search in stages leaves."""

    studies: tuple[optuna.Study, ...]
    """One per stage, in order; the last one is of the truth. A stage that was left out holds the pilot's networks alone."""
    plan: Plan
    """Who was asked how many networks, and why."""

    @property
    def study(self) -> optuna.Study:
        """Of the last stage."""
        return self.studies[-1]


def search_in_stages(
    space: Space | str,
    stages: Sequence[Objective],
    budget: float,
    minimize: Sequence[Objective] = (),
    limits: Mapping[Any, float] | None = None,
    costs: Sequence[float] | None = None,
    candidates: int = 512,
    pilots: int = PILOTS,
    sampler: optuna.samplers.BaseSampler | None = None,
    pruner: FrontPruner | None = None,
    storage: Any = None,
    name: str = "nasplat",
    seed: int = 0,
    report: Callable[[str, Progress], None] | None = None,
) -> Staged:
    """Search in stages: predicted, inherited, trained shortly, trained fully; or any other qualities, the last of which is the truth.

    A few random networks, the pilot, are evaluated by every stage. Their rank agreement and the cost of an evaluation decide how many
    networks each stage gets (see `allocate`), or that a stage is left out. The first stage in use is an ordinary search. Half of the
    networks of a later one are the best of the stage before, by layers of Pareto fronts where something is minimised; the others are
    proposed by a `PredictorSampler` that the stage before guides. The same storage and name resume; a larger budget goes on.

    Args:
        space: A space, or its name or path.
        stages: Qualities, larger is better, from the cheapest to the truth.
        budget: Seconds of evaluation for everything, the pilot included and all processes together; in the unit of `costs` where these
            are given.
        minimize: Costs of a network, as for `search`; evaluated once per network.
        limits: As for `search`.
        costs: Of one evaluation per stage; measured in the pilot by default.
        candidates: Networks that the first stage in use may see.
        pilots: Networks of the pilot.
        sampler: Of the first stage in use; a `PredictorSampler` by default.
        pruner: Stops hopeless trainings in the last stage.
        storage: As for `search`; one study per stage.
        name: Of the last stage's study; those before it are called name/1, name/2 and so on.
        seed: Of pilot, plan and sampler.
        report: Called with the stage's name after every counted trial.

    Raises:
        SearchError: fewer than two stages, fewer than four pilots, or a budget that the pilot uses up.
    """
    space = load_space(space) if isinstance(space, str) else space
    qualities = [named(s) for s in stages]
    errors = [q.name for q in qualities if q.larger_is_better is False]
    if errors:
        raise SearchError(
            f"expected stages whose values are better when larger, got {errors[0]!r}.\n  Use search(minimize=…) for it."
        )
    if len(qualities) < 2 or pilots < 4 or (costs is not None and len(costs) != len(qualities)):
        raise SearchError(
            f"expected two or more stages, one cost for each where costs are given, and four or more pilots, got {len(qualities)} stages, "
            f"{'no' if costs is None else len(costs)} costs and {pilots} pilots.\n  One stage is nasplat.search."
        )
    storage = open_storage(storage) or optuna.storages.InMemoryStorage()
    names = [*(f"{name}/{i}" for i in range(1, len(qualities))), name]
    remembered = [_Remembered(named(m)) for m in minimize]

    def run(stage: int, target: int, by: optuna.samplers.BaseSampler | None) -> optuna.Study:
        def tell(progress: Progress) -> None:
            if report is not None:
                report(qualities[stage].name, progress)

        study = search(
            space,
            maximize=[qualities[stage]],
            minimize=remembered,
            limits=limits,
            n_trials=target,
            sampler=by,
            storage=storage,
            name=names[stage],
            seed=seed,
            pruner=pruner if stage == len(qualities) - 1 else None,
            report=tell,
        )
        for objective, column in zip(remembered, range(1, 1 + len(remembered)), strict=True):
            objective.learn(study, column)
        return study

    pilot = _pilot(space, Limits.of(limits), pilots, seed)
    studies = [run(i, len(pilot), ListedSampler(pilot, seed)) for i in range(len(qualities))]
    first = [_of(study, pilot) for study in studies]
    price = tuple(costs) if costs is not None else tuple(_median_seconds(trials) for trials in first)
    spent = sum(_price(trials, c, costs is not None) for trials, c in zip(first, price, strict=True))
    plan = _planned(studies, pilot, price, budget, spent, candidates, seed)
    keys, before = {facts_of(a).key for a in pilot}, None
    for i, count in enumerate(plan.counts):
        if not count:
            continue
        counted = sum(is_counted(t) for t in first[i])
        if i == len(plan.counts) - 1:  # what stages before it did not use, or used too much
            count = max(1, int((budget - spent) / price[i])) if price[i] > 0 else count
        if before is None:
            studies[i] = run(i, counted + count, sampler)
        else:
            listed = [a for a in _best(before, space, count + len(pilot)) if facts_of(a).key not in keys]
            listed = listed[: math.ceil(count * LISTED)]
            run(i, counted + len(listed), ListedSampler(listed, seed))
            studies[i] = run(i, counted + count, PredictorSampler(_Earlier(before, space, seed), seed=seed))
        others = [t for t in studies[i].get_trials(deepcopy=False) if t.user_attrs.get("key") not in keys]
        spent += _price(others, price[i], costs is not None)
        before = studies[i]
    return Staged(tuple(studies), plan)


class _Earlier:
    """What an earlier stage found of a network, or what its other networks let expect."""

    def __init__(self, study: optuna.Study, space: Space, seed: int) -> None:
        trials = sorted(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), key=lambda t: t.number)
        members = [Architecture.from_json(t.user_attrs["architecture"], space) for t in trials]
        self._known = {t.user_attrs["key"]: t.values[0] for t in trials}
        x, y = np.array([facts_of(a).statistics for a in members], np.float64), np.array([t.values[0] for t in trials])
        self._model = Surrogate().fit(x, y, None, seed)

    def __call__(self, architecture: Architecture) -> float:
        facts = facts_of(architecture)
        if facts.key in self._known:
            return self._known[facts.key]
        return float(self._model.predict(np.array([facts.statistics], np.float64), None)[0][0])


class _Remembered(AbstractObjective):
    """A cost that an earlier stage evaluated is not evaluated again: every stage sees the same number."""

    def __init__(self, objective: AbstractObjective) -> None:
        self.objective, self.name, self.is_cheap = objective, objective.name, objective.is_cheap
        self._known: dict[str, float] = {}

    @property
    def content(self) -> str | None:
        return self.objective.content

    def learn(self, study: optuna.Study, column: int) -> None:
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            self._known.setdefault(trial.user_attrs["key"], trial.values[column])

    def __call__(self, architecture: Architecture) -> float:
        if self.is_cheap:
            return self.objective(architecture)
        key = facts_of(architecture).key
        if key not in self._known:
            self._known[key] = self.objective(architecture)
        return self._known[key]


def _pilot(space: Space, bounds: Limits, wanted: int, seed: int) -> list[Architecture]:
    """Random feasible networks, all different; fewer where the space has no more."""
    rng, found = random.Random(f"{seed} pilot"), dict[str, Architecture]()
    for _ in range(wanted * ATTEMPTS):
        architecture = bounds.draw(space, rng)
        found.setdefault(facts_of(architecture).key, architecture)
        if len(found) == wanted:
            break
    return list(found.values())


def _of(study: optuna.Study, pilot: Sequence[Architecture]) -> list[FrozenTrial]:
    keys = {facts_of(a).key for a in pilot}
    return [t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("key") in keys and t.state.is_finished()]


def _seconds(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration is not None else 0.0


def _median_seconds(trials: Sequence[FrozenTrial]) -> float:
    return float(np.median([_seconds(t) for t in trials if is_counted(t)] or [0.0]))


def _price(trials: Sequence[FrozenTrial], each: float, is_given: bool) -> float:
    return each * sum(is_counted(t) for t in trials) if is_given else sum(_seconds(t) for t in trials)


def _planned(
    studies: Sequence[optuna.Study],
    pilot: Sequence[Architecture],
    price: tuple[float, ...],
    budget: float,
    spent: float,
    candidates: int,
    seed: int,
) -> Plan:
    """The plan of an earlier run with the same budget, or a new one, written down."""
    last = studies[-1]
    kept = json.loads(last.user_attrs.get(PLAN, "{}"))
    if kept.get("budget") == budget:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in kept[PLAN].items()}
        return Plan(**fields)
    if budget - spent < price[-1]:
        raise SearchError(
            f"expected a budget that leaves something after the pilot, got {budget:.4g}, of which the pilot of {len(pilot)} networks used "
            f"{spent:.4g}.\n  Give {2 * spent + price[-1]:.4g} or more; the pilot is kept."
        )
    values = np.array([_values(study, pilot) for study in studies]).T
    if np.isfinite(values[:, -1]).sum() < 3:
        raise SearchError(
            f"expected three networks of the pilot to finish the last stage, got {int(np.isfinite(values[:, -1]).sum())}.\n"
            f"  Look at the failed trials of study {last.study_name!r}."
        )
    plan = allocate(values, price, budget - spent, candidates, seed)
    row = {"budget": budget, "stages": [(s.metric_names or ["?"])[0] for s in studies], PLAN: asdict(plan)}
    last.set_user_attr(PLAN, json.dumps(row | {"shares": plan.shares}))
    return plan


def _values(study: optuna.Study, pilot: Sequence[Architecture]) -> list[float]:
    known = {t.user_attrs["key"]: t.values[0] for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    return [known.get(facts_of(a).key, float("nan")) for a in pilot]


def _best(study: optuna.Study, space: Space, count: int) -> list[Architecture]:
    """The networks that go on, best first."""
    trials = sorted(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), key=lambda t: t.number)
    values: NDArray[np.float64] = np.array([t.values for t in trials]).reshape(
        len(trials), len(study.directions)
    ) * signs(study)
    return [Architecture.from_json(trials[i].user_attrs["architecture"], space) for i in promote(values, count)]
