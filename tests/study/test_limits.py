"""Limits and feasible draws."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

import nasplat
from nasplat.study.limits import Limits, draw_distinct


def small() -> nasplat.Space:
    return nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)


def test_networks_are_drawn_once_each_inside_the_limits_and_a_longer_draw_goes_on() -> None:
    space = small()
    few = draw_distinct(space, 5, random.Random("a"), {"params": 6_000})
    many = draw_distinct(space, 12, random.Random("a"), Limits.of({"params": 6_000}))
    assert list(many)[:5] == list(few)
    assert len(many) == 12
    assert all(member.graph().params <= 6_000 for member in many.values())
    assert all(member.canonical().graph().key == key for key, member in many.items())


def test_only_accepted_networks_are_drawn_and_an_exhausted_space_gives_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasplat.study.limits.MISSES", 50)
    space = small()
    wanted = draw_distinct(space, 3, random.Random(0), accept=lambda a: a.choices["0->1"] == "skip_connect")
    assert {member.choices["0->1"] for member in wanted.values()} == {"skip_connect"}
    assert len(wanted) == 3
    two = list(draw_distinct(space, 2, random.Random(1)).values())
    assert list(draw_distinct(space, 9, random.Random(1), accept=lambda a: a in two).values()) == two


def test_a_network_that_cannot_be_captured_stands_under_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: nasplat.Architecture) -> None:
        raise RuntimeError("no graph")

    monkeypatch.setattr("nasplat.study.captured.facts_of", fails)
    assert all(key == str(member) for key, member in draw_distinct(small(), 4, random.Random(0)).items())


def test_limits_judge_counts_that_are_no_exact_ones_with_a_word() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    class Distinct(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.unique(x)

    @nasplat.space(example_input=(1, 4))
    def strange(pick: nasplat.Pick) -> nn.Module:
        part = {"odd": Odd, "distinct": Distinct}[pick("part", ["odd", "distinct"])]
        return nn.Sequential(part(), nn.Unflatten(0, (1, -1)), nn.Linear(4, 2)) if part is Distinct else part()

    odd, distinct = sorted(strange.enumerate(), key=lambda a: a.choices["part"], reverse=True)
    with pytest.warns(
        UserWarning, match="exceed the limit on macs unseen.*unknown operations are not counted: special_b"
    ):
        assert not Limits.of({"macs": 10}).broken(odd)
    assert Limits.of({"macs": 7}).broken(distinct) == "macs at most 8 > 7"
    assert not Limits.of({"macs": 8, "params": 10}).broken(distinct)
    with pytest.warns(UserWarning, match="members of .* may exceed macs <= 10 unseen, for their counts are not exact"):
        strange.feasible({"macs": 10})
