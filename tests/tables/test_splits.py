"""Parts of labelled rows: disjoint, whole, repeatable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasplat.tables.splits import by_number, by_shares, into_folds

pytestmark = pytest.mark.fast


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1), st.integers(0, 5))
def test_groups_never_part(groups: list[str], seed: int) -> None:
    parts = by_shares(groups, seed, (0.5, 0.25))
    assert sorted(i for part in parts for i in part) == list(range(len(groups)))
    sides = [{groups[i] for i in part} for part in parts]
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]


def test_a_smaller_draw_begins_a_larger_one() -> None:
    small, large = by_number(50, 5, seed=3)[0], by_number(50, 20, seed=3)[0]
    assert large[:5] == small


def test_wanted_rows_are_drawn_first() -> None:
    drawn, rest = by_number(10, 3, seed=0, first=[7, 2])
    assert {7, 2} <= set(drawn)
    assert sorted(drawn + rest) == list(range(10))


@given(st.integers(5, 40), st.integers(2, 5), st.integers(0, 3))
def test_every_row_is_judged_once(rows: int, folds: int, seed: int) -> None:
    judged = [i for _, held in into_folds(rows, folds, seed) for i in held]
    assert sorted(judged) == list(range(rows))
    assert all(not set(seen) & set(held) for seen, held in into_folds(rows, folds, seed))
