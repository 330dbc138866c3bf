"""Searches in stages: the plan, who goes on, and what is kept."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import numpy as np
import optuna
import pytest

import nasplat
from nasplat.errors import SearchError
from nasplat.study import AbstractObjective, ListedSampler, OutsideSupport
from nasplat.study.allocation import allocate, promote
from nasplat.study.search import search
from nasplat.study.stages import PLAN, search_in_stages

State = optuna.trial.TrialState


def observed(rho: float, n: int = 400, stages: int = 2) -> np.ndarray:
    """Values of stages that agree with the last one by a correlation."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(n)
    cheap = [rho * truth + (1 - rho**2) ** 0.5 * rng.standard_normal(n) for _ in range(stages - 1)]
    return np.stack([*cheap, truth], 1)


def test_a_stage_that_agrees_gets_networks_and_one_that_does_not_is_left_out() -> None:
    good = allocate(observed(0.8), [0.01, 1.0], 20.0)
    useless = allocate(observed(0.0), [0.5, 1.0], 20.0)
    assert good.counts[0] > 100
    assert 1 <= good.counts[1] < 20
    assert useless.counts == (0, 20)
    assert good.expected > useless.expected + 0.3
    assert abs(sum(good.shares) - 1) < 1e-9
    for plan in (good, useless):
        assert sum(n * c for n, c in zip(plan.counts, plan.costs, strict=True)) <= 20.0


def test_the_share_of_a_stage_follows_its_agreement_and_its_price() -> None:
    shares = [allocate(observed(rho), [0.05, 1.0], 20.0).shares[0] for rho in (0.1, 0.5, 0.9)]
    assert shares[0] < shares[1] < shares[2]
    assert allocate(observed(0.6), [0.9, 1.0], 20.0).counts[0] == 0


def test_a_stage_in_the_middle_is_used_where_it_sharpens() -> None:
    rng = np.random.default_rng(1)
    truth = rng.standard_normal(400)
    coarse = 0.4 * truth + 0.92 * rng.standard_normal(400)
    fine = 0.95 * truth + 0.31 * rng.standard_normal(400)
    plan = allocate(np.stack([coarse, fine, truth], 1), [0.001, 0.1, 1.0], 10.0)
    assert all(plan.counts)
    assert plan.counts[0] > plan.counts[1] > plan.counts[2]


def test_stages_without_answers_and_small_budgets() -> None:
    values = observed(0.8, n=8)
    values[:, 0] = np.nan
    assert allocate(values, [0.1, 1.0], 5.0).counts == (0, 5)
    constant = observed(0.8, n=8)
    constant[:, 0] = 3.0
    assert allocate(constant, [0.1, 1.0], 5.0).counts == (0, 5)
    with pytest.raises(SearchError, match="at least 1"):
        allocate(observed(0.8), [0.1, 1.0], 0.5)


def test_whole_fronts_go_on_first() -> None:
    values = np.array([[3.0, -3.0], [1.0, -1.0], [2.0, -2.0], [0.5, -2.5], [3.0, -4.0], [0.1, -9.0]])
    assert promote(values, 3) == [0, 2, 1]
    assert promote(values, 5) == [0, 2, 1, 4, 3]
    assert promote(values, 2) == [0, 1]
    assert promote(values, 99) == [0, 2, 1, 4, 3, 5]
    assert promote(np.array([[1.0], [3.0], [2.0]]), 2) == [1, 2]


# -- whole searches ------------------------------------------------------------------------------------------------------


@pytest.fixture
def space(lines: nasplat.Space) -> nasplat.Space:
    return lines


class Quality(AbstractObjective):
    """What is true of a network, seen through noise."""

    def __init__(self, name: str, noise: float) -> None:
        self.name, self.noise, self.asked = name, noise, list[str]()

    def __call__(self, architecture: nasplat.Architecture) -> float:
        rng = random.Random(f"{architecture.canonical()}")
        truth = rng.gauss(0, 1)
        self.asked.append(str(architecture.canonical()))
        return truth + self.noise * random.Random(f"{architecture.canonical()} {self.name}").gauss(0, 1)


def qualities() -> list[Quality]:
    return [Quality("predicted", 0.7), Quality("short", 0.2), Quality("full", 0.0)]


COSTS = (0.01, 1.0, 10.0)


def test_many_are_asked_cheaply_and_few_dearly(space: nasplat.Space) -> None:
    stages = qualities()
    told: list[str] = []
    options: dict[str, Any] = {"sampler": nasplat.UniqueRandomSampler(seed=0), "report": lambda s, _: told.append(s)}
    found = search_in_stages(space, stages, budget=250, costs=COSTS, candidates=250, seed=0, **options)
    asked = [len(s.asked) for s in stages]
    assert asked[0] > asked[1] > asked[2] >= 9
    assert all(len(set(s.asked)) == len(s.asked) for s in stages)
    assert sum(n * c for n, c in zip(asked, COSTS, strict=True)) <= 250
    assert [told.count(s.name) for s in stages] == asked
    assert found.study.study_name == "nasplat"
    assert [s.study_name for s in found.studies] == ["nasplat/1", "nasplat/2", "nasplat"]
    best = max(t.values[0] for t in found.study.trials if t.state == State.COMPLETE)
    blind = Quality("full", 0.0)
    plain = search(space, [blind], n_trials=25, sampler=nasplat.UniqueRandomSampler(seed=0))
    assert best > max(t.values[0] for t in plain.trials)
    kept = json.loads(found.study.user_attrs[PLAN])
    assert kept["stages"] == ["predicted", "short", "full"]
    assert kept[PLAN]["counts"] == list(found.plan.counts)


def test_an_interrupted_search_goes_on_with_the_same_plan(space: nasplat.Space) -> None:
    whole = qualities()
    options: dict[str, Any] = {"budget": 250, "costs": COSTS, "candidates": 250, "minimize": ["macs"], "seed": 3}
    options["sampler"] = nasplat.UniqueRandomSampler(seed=3)
    expected = search_in_stages(space, whole, **options)
    assert all(expected.plan.counts)

    class Stopping(Quality):
        def __call__(self, architecture: nasplat.Architecture) -> float:
            if len(self.asked) == 20:
                raise KeyboardInterrupt
            return super().__call__(architecture)

    storage = optuna.storages.InMemoryStorage()
    first = [*qualities()[:1], Stopping("short", 0.2), qualities()[2]]
    with pytest.raises(KeyboardInterrupt):
        search_in_stages(space, first, storage=storage, **options)
    second = qualities()
    found = search_in_stages(space, second, storage=storage, **options)
    assert found.plan == expected.plan
    for i in range(3):
        assert len(first[i].asked) + len(second[i].asked) == len(whole[i].asked)
        assert not set(first[i].asked) & set(second[i].asked)
    again = qualities()
    search_in_stages(space, again, storage=storage, **options)
    assert not any(s.asked for s in again)
    more = qualities()
    options["budget"] = 400
    larger = search_in_stages(space, more, storage=storage, **options)
    assert larger.plan != expected.plan
    assert more[-1].asked
    assert not set(more[-1].asked) & set(whole[-1].asked)


def test_an_expensive_cost_is_evaluated_once_per_network(space: nasplat.Space) -> None:
    asked: list[str] = []

    def latency(architecture: nasplat.Architecture) -> float:
        asked.append(str(architecture.canonical()))
        return float(len(asked))

    found = search_in_stages(space, qualities(), budget=200, costs=COSTS, candidates=40, minimize=[latency], seed=1)
    assert len(asked) == len(set(asked))
    told = [(t.user_attrs["key"], t.values[1]) for s in found.studies for t in s.trials if t.state == State.COMPLETE]
    assert len({key for key, _ in told}) == len(set(told)) == len(asked) < len(told)


def test_a_useless_stage_is_left_out_and_an_abstaining_one_too(space: nasplat.Space) -> None:
    class Silent(Quality):
        def __call__(self, architecture: nasplat.Architecture) -> float:
            raise OutsideSupport("never saw such a network")

    found = search_in_stages(space, [Silent("silent", 0.0), Quality("full", 0.0)], budget=30, costs=(0.1, 1.0), seed=0)
    assert found.plan.counts[0] == 0
    assert len([t for t in found.study.trials if t.state == State.COMPLETE]) > 20


def test_seconds_are_measured_and_bad_calls_refused(space: nasplat.Space) -> None:
    def slow(architecture: nasplat.Architecture) -> float:
        time.sleep(0.05)
        return Quality("full", 0.0)(architecture)

    found = search_in_stages(space, [Quality("predicted", 0.3), slow], budget=2.0, candidates=30, pilots=4, seed=0)
    assert found.plan.costs[1] > 0.05
    with pytest.raises(SearchError, match="two or more stages"):
        search_in_stages(space, [slow], budget=2.0)
    with pytest.raises(SearchError, match="leaves something after the pilot"):
        search_in_stages(space, [Quality("predicted", 0.3), slow], budget=0.1, pilots=4)


def test_a_list_ends_the_search(space: nasplat.Space) -> None:
    listed = [space.sample(seed=i) for i in range(5)]
    study = search(space, [Quality("full", 0.0)], n_trials=50, sampler=ListedSampler(listed))
    keys = {a.graph().key for a in listed}
    assert {t.user_attrs["key"] for t in study.trials if t.state == State.COMPLETE} == keys
