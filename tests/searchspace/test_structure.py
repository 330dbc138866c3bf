"""Counts, uniform draws and draws within limits, against enumeration and against formulas."""

from __future__ import annotations

import random
from collections import Counter
from math import sqrt
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare
from torch import nn

import nasplat
from nasplat.errors import SpaceError
from nasplat.searchspace import fitted_draws
from nasplat.searchspace.counting import estimate
from nasplat.searchspace.feasible import Feasible
from nasplat.searchspace.fitted_draws import FittedDraws
from nasplat.searchspace.rules import END, Intractable
from nasplat.searchspace.structure import Structure


@nasplat.space(example_input=(1, 4))
def towers(pick: nasplat.Pick, floors: int = 3) -> nn.Module:
    """A width at the end, which all floors before it look at; depth decides which floors exist. Costs depend on neighbours."""
    base = pick("base", (4, 8, 12))
    depth = pick("depth", tuple(range(1, floors + 1)))
    widths = [pick(f"floor{i}.width", (1, 2, 3)) for i in range(depth)]
    double = pick("double", (False, True)) if depth == floors else False
    layers, last = nn.Sequential(), 4
    for i, width in enumerate([w * base for w in widths]):
        layers.add_module(f"floor{i}", nn.Linear(last, width))
        last = width
        if double:
            layers.add_module(f"twin{i}", nn.Linear(last, last))
    layers.add_module("head", nn.Linear(last, 2))
    return layers


@nasplat.space(example_input=(1, 4))
def even(pick: nasplat.Pick, digits: int = 5) -> nn.Module:
    """Only digits with an even sum, refused at the very end."""
    total = sum(pick(f"digit{i}", (0, 1, 2)) for i in range(digits))
    if total % 2:
        pick.reject("odd")
    return nn.Linear(4, 1 + total)


@nasplat.space(example_input=(1, 4))
def scattered(pick: nasplat.Pick, bits: int = 22) -> nn.Module:
    """What is refused, and what a member costs, depends on all bits at once."""
    number = sum(pick(f"bit{i}", (0, 1)) << i for i in range(bits))
    if number * 2_654_435_761 % 2**32 > 2**31:
        pick.reject("scattered")
    return nn.Linear(4, 1 + number * 40_503 % 997)


def chi_square(drawn: Counter[Any], allowed: list[Any]) -> float:
    """Probability of counts as uneven as these if every allowed member is equally likely."""
    assert set(drawn) <= set(allowed)
    return float(chisquare([drawn[a] for a in allowed]).pvalue)


def members(space: nasplat.Space) -> dict[nasplat.Architecture, nasplat.Graph]:
    return {a: a.graph() for a in space.enumerate()}


@pytest.mark.parametrize(
    "space", [towers, towers.with_presets(floors=1), even, nasplat.load_space("transnas_macro")], ids=repr
)
def test_structures_count_what_enumeration_meets(space: nasplat.Space) -> None:
    structure = Structure(space)
    assert structure.count == sum(1 for _ in space.enumerate()) == space.count().value
    assert not structure.refuses_late


def test_structures_count_by_the_formulas_of_the_spaces() -> None:
    blocks = 1624**2 + 3 * 1624**3 + 6 * 1624**4
    assert nasplat.load_space("two_path").count() == nasplat.searchspace.Count(blocks**2, 0.0)
    assert nasplat.load_space("ofa_mobilenetv3").count().value == sum(9**d for d in (2, 3, 4)) ** 5
    assert nasplat.load_space("vit").count().value == 3 * sum(4**d for d in (12, 13, 14))
    assert nasplat.load_space("ofa_resnet50").count().value == 2 * 3**6 * 117**3 * 1053
    cell = 720**2 * 13**10 * 7
    assert nasplat.load_space("nasnet").count().value == cell**2
    for widths in (8, [4, 8]):
        small = nasplat.load_space("inception", stages=1, depths=[1], budget=2, width=widths)
        assert small.count().value == Structure(small).count


def test_refusals_that_depend_on_everything_are_estimated() -> None:
    structure = scattered.structure()
    assert isinstance(structure, Structure)
    assert structure.refuses_late
    assert structure.count == 2**22
    exact = int((np.arange(2**22, dtype=np.uint64) * 2_654_435_761 % 2**32 <= 2**31).sum())
    count = scattered.count()
    assert abs(count.value - exact) < 4 * count.error < exact / 10
    small = scattered.with_presets(bits=6)
    assert small.count() == nasplat.searchspace.Count(sum(1 for _ in small.enumerate()), 0.0)


def test_estimates_are_unbiased_and_tight() -> None:
    space = nasplat.load_space("two_path")
    exact = space.count().value
    value, error = estimate(space, 2048, random.Random(0))
    assert abs(value - exact) < 4 * error < exact / 10


def test_draws_of_architectures_are_uniform() -> None:
    drawn = Counter(towers.sample(seed=i, uniform="architectures") for i in range(4_000))
    assert chi_square(drawn, list(towers.enumerate())) > 1e-3
    assert chi_square(Counter(towers.sample(seed=i) for i in range(4_000)), list(towers.enumerate())) < 1e-9


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("quantity", ["macs", "params"])
def test_draws_within_a_limit_are_uniform_over_what_is_within(quantity: str, share: float) -> None:
    known = members(towers)
    limit = sorted(getattr(g, quantity) for g in known.values())[round(share * len(known))]
    allowed = [a for a, g in known.items() if getattr(g, quantity) <= limit]
    feasible = towers.feasible({quantity: limit})
    assert feasible.is_uniform, feasible.reason
    rng = random.Random(0)
    drawn = Counter(feasible.draw(rng) for _ in range(30 * len(allowed)))
    assert len(allowed) == 1 or chi_square(drawn, allowed) > 1e-3
    assert feasible.acceptance > 0.5


def test_several_limits_hold_at_once_and_draws_stay_uniform() -> None:
    known = members(towers)
    limits = {"macs": 700, "params": 260, "activation_bytes": 400}
    allowed = [a for a, g in known.items() if all(getattr(g, q) <= v for q, v in limits.items())]
    assert 5 < len(allowed) < len(known) / 2
    drawn = Counter(towers.sample(seed=i, limits=limits) for i in range(20 * len(allowed)))
    assert chi_square(drawn, allowed) > 1e-3
    assert towers.sample(seed=3, limits=limits) == towers.sample(seed=3, limits=limits)


def test_guided_draws_are_within_the_limits_and_say_that_they_are_not_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted_draws, "FITTED", 60)
    limits = {"params": 1_000}
    feasible = scattered.feasible(limits)
    assert (feasible.method, feasible.is_uniform) == ("guided", False)
    assert feasible.reason
    rng = random.Random(0)
    drawn = [feasible.draw(rng) for _ in range(50)]
    assert all(a.graph().params <= 1_000 for a in drawn)
    assert len(set(drawn)) > 20
    assert 0 < feasible.acceptance <= 1
    assert [scattered.sample(seed=i, limits=limits) for i in (1, 2)] == [
        scattered.sample(seed=i, limits=limits) for i in (1, 2)
    ]


@pytest.mark.parametrize("name", ["nasbench201", "vit", "ofa_mobilenetv3"])
def test_no_draw_exceeds_the_limit_of_the_cheapest_thousandth(name: str) -> None:
    from conftest import SMALL

    space = nasplat.load_space(name, **SMALL[name])
    parts = space.costs()
    assert not isinstance(parts, Intractable)
    assert len(parts) == (2 if name == "nasbench201" else 1)  # a width picked last decides what every operation costs
    rng = random.Random(0)
    costs = parts[0]
    limit = sorted(costs.tabulated(costs.structure.draw(rng))[0] for _ in range(3_000))[3]
    drawn = [space.feasible({"macs": limit}).draw(rng) for _ in range(40)]
    assert all(a.graph().macs <= limit for a in drawn)


def test_a_limit_below_the_smallest_member_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted_draws, "FITTED", 60)
    smallest = min(g.macs for g in members(towers).values())
    with pytest.raises(SpaceError, match=f"the smallest has {smallest}"):
        towers.sample(limits={"macs": smallest - 1})
    with pytest.raises(SpaceError, match="expected positive limits on macs, params"):
        towers.sample(limits={"speed": 3})
    with pytest.raises(SpaceError, match="within params <= 2"):
        scattered.sample(limits={"params": 2})


def test_completions_avoid_what_is_refused() -> None:
    structure = Structure(even)
    made = structure.complete({"digit0": 1})
    assert made is not None
    assert structure.walker.run(made) == (made, END)
    assert sqrt(structure.count) < 3**5


def test_where_the_fit_tells_too_little_draws_are_mutations_of_members_within(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted_draws, "TRUSTED", 1.1)
    monkeypatch.setattr(fitted_draws, "FITTED", 100)
    space = nasplat.load_space("nasbench101")
    costs = sorted(space.sample(seed=i).graph().macs for i in range(200))
    feasible = Feasible(space, {"macs": costs[20]})
    assert isinstance(feasible.draws, FittedDraws)
    assert not feasible.draws.is_trusted
    drawn = [feasible.draw(random.Random(i)) for i in range(60)]
    assert all(a.graph().macs <= costs[20] for a in drawn)
    assert len(set(drawn)) > 40
    assert len(set(drawn) - set(feasible.draws.within)) > 30
