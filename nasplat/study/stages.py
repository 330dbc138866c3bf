"""`search_in_stages`: many networks are asked cheaply, few dearly; how many is decided by how well the stages agree.

Two words mean one thing each here. The pilot is a set of random networks that every stage evaluates, from which the
plan is made. A guide is what a `PredictorSampler` asks about a network before it is evaluated: here, the stage before.
"""

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
from nasplat.study.allocation import Plan, allocate, promote
from nasplat.study.captured import facts_of, name_of
from nasplat.study.claims import members_of
from nasplat.study.directions import signs
from nasplat.study.front_pruner import FrontPruner
from nasplat.study.ledger import is_counted
from nasplat.study.limits import draw_distinct
from nasplat.study.loop import Progress
from nasplat.study.objectives import AbstractObjective, Objective, named
from nasplat.study.predictor_sampler import PredictorSampler
from nasplat.study.samplers import ListedSampler
from nasplat.study.search import search
from nasplat.study.storage import open_storage
from nasplat.study.surrogate import Surrogate
from nasplat.task.settings import Check, overridden

LISTED = 0.5
"""Share of a stage's networks that are the best of the stage before; the others are proposed by a model of the stage
itself, which the stage before guides: where the two disagree at the top, the list alone would not notice."""
PILOTS = 8
"""Networks of the pilot, unless the caller wants another number."""
PLAN = "plan"
"""User attribute of the last stage's study: the plan, as JSON."""


@dataclass(frozen=True)
class StageSettings:
    """What a search in stages may be told beside space, stages and budget, as keywords of `search_in_stages`."""

    minimize: Sequence[Objective] = ()
    """Costs of a network whose smaller values are better, as for `search`; evaluated once per network."""
    limits: Mapping[Any, float] | None = None
    """Largest allowed values, as for `search`; None allows everything."""
    costs: Sequence[float] | None = None
    """Cost of one evaluation in each stage, in the unit of the budget; None measures seconds on the pilot."""
    candidates: int = 512
    """Networks that the first stage in use may see."""
    pilots: int = PILOTS
    """Networks of the pilot, at least 4: fewer tell nothing about how well stages agree."""
    sampler: optuna.samplers.BaseSampler | None = None
    """Sampler of the first stage in use; None for a `PredictorSampler`."""
    pruner: FrontPruner | None = None
    """Stops hopeless trainings in the last stage; None stops none."""
    storage: Any = None
    """Where trials are kept, as for `search`; there is one study per stage."""
    name: str = "nasplat"
    """Name of the last stage's study; those before it are called name/1, name/2 and so on."""
    seed: int = 0
    """Seed of pilot, plan and samplers."""
    report: Callable[[str, Progress], None] | None = None
    """Function that is called with the stage's name after every counted trial."""

    def __post_init__(self) -> None:
        """Check the types of numbers."""
        Check(self, SearchError).types()


@dataclass(frozen=True)
class Staged:
    """What a search in stages leaves."""

    studies: tuple[optuna.Study, ...]
    """Studies of the stages, in order; the last one is of the truth. One that was left out holds the pilot alone."""
    plan: Plan
    """How many networks each stage was to evaluate, and why."""

    @property
    def study(self) -> optuna.Study:
        """The study of the last stage."""
        return self.studies[-1]


def search_in_stages(
    space: Space | str,
    stages: Sequence[Objective],
    budget: float,
    minimize: Sequence[Objective] = (),
    limits: Mapping[Any, float] | None = None,
    costs: Sequence[float] | None = None,
    **settings: Any,
) -> Staged:
    """Search in stages, such as predicted, inherited, trained shortly and trained fully; the last is the truth.

    A few random networks, the pilot, are evaluated by every stage. Their rank agreement and the cost of an evaluation
    decide how many networks each stage gets (see `allocate`), or that a stage is left out. The first stage in use is an
    ordinary search. Half of the networks of a later one are the best of the stage before, by layers of Pareto fronts
    where something is minimised; the others are proposed by a `PredictorSampler` that the stage before guides. The same
    storage and name resume; a larger budget goes on.

    Args:
        space: Search space, or its name or path.
        stages: Qualities whose larger values are better, from the cheapest to the truth; two or more.
        budget: Seconds of evaluation for everything, the pilot included and all processes together; in the unit of
            `costs` where these are given.
        minimize: Costs of a network whose smaller values are better, as for `search`; evaluated once per network.
        limits: Largest allowed values, as for `search`; None allows everything.
        costs: Cost of one evaluation in each stage, in any unit; None measures seconds on the pilot.
        settings: Further fields of `StageSettings`: candidates, pilots, sampler, pruner, storage, name, seed and
            report.

    Returns:
        The studies of all stages and the plan that was followed.

    Raises:
        SearchError: fewer than two stages, fewer than four pilots, an unknown setting, or a budget that the pilot uses
            up.

    Example:
        >>> import nasplat
        >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
        >>> stages = [nasplat.Counted("params"), nasplat.Counted("macs")]
        >>> found = nasplat.search_in_stages(space, stages, budget=8, costs=(0.01, 1.0), candidates=16, pilots=4)
        >>> len(found.studies), found.plan.pilots
        (2, 4)
    """
    given = {"minimize": minimize, "limits": limits, "costs": costs} | settings
    asked = overridden(StageSettings(), given, SearchError)
    space = load_space(space) if isinstance(space, str) else space
    qualities = [named(s) for s in stages]
    _refuse_contradictions(qualities, asked)
    run = _Stages(space, qualities, asked)
    members = draw_distinct(space, asked.pilots, random.Random(f"{asked.seed} pilot"), asked.limits)
    pilot = run.pilot(list(members.values()))
    return run.follow(run.plan(pilot, budget), pilot, budget)


def _refuse_contradictions(qualities: Sequence[AbstractObjective], asked: StageSettings) -> None:
    """Refuse stages that cannot be compared, or that are too few.

    Raises:
        SearchError: a quality is better when smaller, or there are too few stages, costs or pilots.
    """
    errors = [q.name for q in qualities if q.larger_is_better is False]
    if errors:
        raise SearchError(
            f"expected stages whose values are better when larger, got {errors[0]!r}.\n  Use search(minimize=…) for it."
        )
    costs = asked.costs
    if len(qualities) < 2 or asked.pilots < 4 or (costs is not None and len(costs) != len(qualities)):
        raise SearchError(
            "expected two or more stages, one cost for each where costs are given, and four or more pilots, got "
            f"{len(qualities)} stages, {'no' if costs is None else len(costs)} costs and {asked.pilots} pilots.\n"
            "  One stage is nasplat.search."
        )


class _Remembered(AbstractObjective):
    """A cost that an earlier stage evaluated is not evaluated again: every stage sees the same number."""

    def __init__(self, objective: AbstractObjective) -> None:
        self.objective, self.name, self.is_cheap = objective, objective.name, objective.is_cheap
        self._known: dict[str, float] = {}

    @property
    def content(self) -> str | None:
        return self.objective.content

    def learn(self, study: optuna.Study, column: int) -> None:
        """Take the values that a study has in one of its columns, by network."""
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            self._known.setdefault(trial.user_attrs["key"], trial.values[column])

    def __call__(self, architecture: Architecture) -> float:
        if self.is_cheap:
            return self.objective(architecture)
        key = facts_of(architecture).key
        if key not in self._known:
            self._known[key] = self.objective(architecture)
        return self._known[key]


class _Earlier:
    """A stage as the guide of the next: what it found of a network, or what its other networks let expect."""

    def __init__(self, study: optuna.Study, space: Space, seed: int) -> None:
        trials = sorted(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), key=lambda t: t.number)
        members = members_of(study, trials, space)
        self._known = {t.user_attrs["key"]: t.values[0] for t in trials}
        x, y = np.array([facts_of(a).statistics for a in members], np.float64), np.array([t.values[0] for t in trials])
        self._model = Surrogate().fit(x, y, None, seed)

    def __call__(self, architecture: Architecture) -> float:
        facts = facts_of(architecture)
        if facts.key in self._known:
            return self._known[facts.key]
        return float(self._model.predict(np.array([facts.statistics], np.float64), None)[0][0])


@dataclass(frozen=True)
class _Pilot:
    """Random networks that every stage has evaluated, and what that took."""

    members: Sequence[Architecture]
    """Networks of the pilot, all different."""
    trials: Sequence[Sequence[FrozenTrial]]
    """Finished trials of these networks, for each stage."""
    price: tuple[float, ...]
    """Cost of one evaluation in each stage, in the unit of the budget."""
    spent: float
    """Cost of the whole pilot."""

    @property
    def keys(self) -> set[str]:
        """Keys of the pilot's networks."""
        return {name_of(a) for a in self.members}


class _Stages:
    """The studies of one search in stages."""

    def __init__(self, space: Space, qualities: Sequence[AbstractObjective], asked: StageSettings) -> None:
        self.space, self.qualities, self.asked = space, qualities, asked
        self.storage = open_storage(asked.storage) or optuna.storages.InMemoryStorage()
        self.names = [*(f"{asked.name}/{i}" for i in range(1, len(qualities))), asked.name]
        self.remembered = [_Remembered(named(m)) for m in asked.minimize]
        self.studies: list[optuna.Study] = []

    def run(self, stage: int, target: int, sampler: optuna.samplers.BaseSampler | None) -> optuna.Study:
        """Go on with the study of one stage until it has so many counted trials."""
        quality, report = self.qualities[stage], self.asked.report

        def tell(progress: Progress) -> None:
            if report is not None:
                report(quality.name, progress)

        study = search(
            self.space,
            maximize=[quality],
            minimize=self.remembered,
            limits=self.asked.limits,
            n_trials=target,
            sampler=sampler,
            storage=self.storage,
            name=self.names[stage],
            seed=self.asked.seed,
            pruner=self.asked.pruner if stage == len(self.qualities) - 1 else None,
            report=tell,
        )
        for column, objective in enumerate(self.remembered, start=1):
            objective.learn(study, column)
        return study

    def pilot(self, members: Sequence[Architecture]) -> _Pilot:
        """Let every stage evaluate the networks of the pilot."""
        seed, given = self.asked.seed, self.asked.costs
        self.studies = [self.run(i, len(members), ListedSampler(members, seed)) for i in range(len(self.qualities))]
        keys = {name_of(a) for a in members}
        trials = [
            [t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("key") in keys and t.state.is_finished()]
            for study in self.studies
        ]
        price = tuple(given) if given is not None else tuple(_median_seconds(some) for some in trials)
        return _Pilot(members, trials, price, sum(self._cost(t, c) for t, c in zip(trials, price, strict=True)))

    def plan(self, pilot: _Pilot, budget: float) -> Plan:
        """The plan of an earlier run with the same budget, or a new one, written down in the last study.

        Raises:
            SearchError: the pilot has used up the budget, or fewer than three of its networks finished the last stage.
        """
        last = self.studies[-1]
        kept = json.loads(last.user_attrs.get(PLAN, "{}"))
        if kept.get("budget") == budget:
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in kept[PLAN].items()}
            return Plan(**fields)
        if budget - pilot.spent < pilot.price[-1]:
            raise SearchError(
                f"expected a budget that leaves something after the pilot, got {budget:.4g}, of which the pilot of "
                f"{len(pilot.members)} networks used {pilot.spent:.4g}.\n"
                f"  Give {2 * pilot.spent + pilot.price[-1]:.4g} or more; the pilot is kept."
            )
        values = np.array([_values(study, pilot.members) for study in self.studies]).T
        finished = int(np.isfinite(values[:, -1]).sum())
        if finished < 3:
            raise SearchError(
                f"expected three networks of the pilot to finish the last stage, got {finished}.\n"
                f"  Look at the failed trials of study {last.study_name!r}."
            )
        plan = allocate(values, pilot.price, budget - pilot.spent, self.asked.candidates, self.asked.seed)
        row = {"budget": budget, "stages": [(s.metric_names or ["?"])[0] for s in self.studies], PLAN: asdict(plan)}
        last.set_user_attr(PLAN, json.dumps(row | {"shares": plan.shares}))
        return plan

    def follow(self, plan: Plan, pilot: _Pilot, budget: float) -> Staged:
        """Let each stage in use evaluate as many networks as planned, and the last one as many as the budget pays."""
        spent, before, last = pilot.spent, None, len(plan.counts) - 1
        for i, count in enumerate(plan.counts):
            if not count:
                continue
            if i == last and pilot.price[i] > 0:  # what stages before it did not use, or used too much
                count = max(1, int((budget - spent) / pilot.price[i]))
            before = self.studies[i] = self._continued(i, count, pilot, before)
            keys = pilot.keys
            others = [t for t in before.get_trials(deepcopy=False) if t.user_attrs.get("key") not in keys]
            spent += self._cost(others, pilot.price[i])
        return Staged(tuple(self.studies), plan)

    def _continued(self, stage: int, count: int, pilot: _Pilot, before: optuna.Study | None) -> optuna.Study:
        """Evaluate so many networks beyond the pilot: half of them the best of the stage before, where there is one."""
        seed, counted = self.asked.seed, sum(is_counted(t) for t in pilot.trials[stage])
        if before is None:
            return self.run(stage, counted + count, self.asked.sampler)
        keys = pilot.keys
        listed = [a for a in _best(before, self.space, count + len(pilot.members)) if name_of(a) not in keys]
        listed = listed[: math.ceil(count * LISTED)]
        if listed:
            self.run(stage, counted + len(listed), ListedSampler(listed, seed))
        return self.run(stage, counted + count, PredictorSampler(_Earlier(before, self.space, seed), seed=seed))

    def _cost(self, trials: Sequence[FrozenTrial], each: float) -> float:
        """Cost of trials: so much for each that counts where costs are given, else the seconds they took."""
        if self.asked.costs is not None:
            return each * sum(is_counted(t) for t in trials)
        return sum(_seconds(t) for t in trials)


def _seconds(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration is not None else 0.0


def _median_seconds(trials: Sequence[FrozenTrial]) -> float:
    return float(np.median([_seconds(t) for t in trials if is_counted(t)] or [0.0]))


def _values(study: optuna.Study, members: Sequence[Architecture]) -> list[float]:
    """Value of each network in a study, nan where it has none."""
    known = {t.user_attrs["key"]: t.values[0] for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    return [known.get(name_of(a), float("nan")) for a in members]


def _best(study: optuna.Study, space: Space, count: int) -> list[Architecture]:
    """The networks that go on to the next stage, best first."""
    trials = sorted(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), key=lambda t: t.number)
    factors = signs(study)
    values: NDArray[np.float64] = np.array([t.values for t in trials]).reshape(len(trials), len(factors)) * factors
    return members_of(study, [trials[i] for i in promote(values, count)], space)
