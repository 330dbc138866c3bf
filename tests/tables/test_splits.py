"""Parts of labelled rows: disjoint, whole, repeatable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasplat.tables.splits import by_number, by_shares, fold_numbers, hold_out, into_folds, together

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


GROUPS = st.lists(st.sampled_from("abcdefgh"), min_size=1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1))
def test_rows_that_share_any_name_are_together(rows: list[tuple[str, str]]) -> None:
    first, second = zip(*rows, strict=True)
    groups = together(first, second)
    for i, mine in enumerate(rows):
        for j, other in enumerate(rows):
            if set(mine) & set(other):
                assert groups[i] == groups[j]
    assert set(groups) <= set(first)
    assert together(first) == list(first)


@given(GROUPS, st.integers(1, 4), st.integers(0, 3))
def test_no_group_is_on_both_sides_of_a_fold_a_draw_or_what_is_held_out(groups: list[str], n: int, seed: int) -> None:
    rows = len(groups)
    sides = [into_folds(rows, n + 1, seed, groups)[0], hold_out(groups, n, np.random.default_rng(seed))]
    for one, other in sides:
        assert not {groups[i] for i in one} & {groups[i] for i in other}
        assert sorted([*one, *other]) == list(range(rows))
    assert len(sides[1][0]) >= min(n, rows)
    drawn, rest = by_number(rows, n, seed, groups=groups)
    assert not {groups[i] for i in drawn} & {groups[i] for i in rest}
    assert len(drawn) == min(n, rows)


@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 3))
def test_rows_that_stand_alone_fall_as_without_groups(rows: int, n: int, seed: int) -> None:
    alone = [str(i) for i in range(rows)]
    assert fold_numbers(rows, n, seed).tolist() == fold_numbers(rows, n, seed, alone).tolist()
    assert by_number(rows, n, seed) == by_number(rows, n, seed, groups=alone)
    held, left = hold_out(alone, n, np.random.default_rng(seed))
    assert [*held, *left] == np.random.default_rng(seed).permutation(rows).tolist()
    assert len(held) == min(n, rows)
