"""Labelled rows divided at random: by shares, by number, or into folds; rows of one group never part.

Every function is pure: the same names, seed and shares give the same parts on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def together(first: Sequence[str], *others: Sequence[str]) -> list[str]:
    """Join rows into groups: two rows are of one group where any column names both alike, directly or through others.

    Args:
        first: Name of every row, such as its architecture.
        others: More names of every row, such as the network it computes, or the key of its graph.

    Returns:
        Group of every row, named by the smallest of its rows' first names.

    Example:
        >>> together(["a", "b", "c"], ["one", "two", "one"])
        ['a', 'b', 'a']
    """
    boss = list(range(len(first)))

    def top(i: int) -> int:
        while boss[i] != i:
            boss[i] = i = boss[boss[i]]
        return i

    for names in (first, *others):
        met: dict[str, int] = {}
        for i, name in enumerate(names):
            boss[top(i)] = top(met.setdefault(name, i))
    tops = [top(i) for i in range(len(first))]
    smallest: dict[int, str] = {}
    for i, name in zip(tops, first, strict=True):
        smallest[i] = min(name, smallest.get(i, name))
    return [smallest[i] for i in tops]


def by_shares(
    groups: Sequence[str], seed: int = 0, shares: tuple[float, float] = (0.8, 0.1)
) -> tuple[list[int], list[int], list[int]]:
    """Divide rows into disjoint train, decide and test parts.

    Args:
        groups: Group of every row, such as the key of its graph; rows with equal groups stay in one part.
        seed: Seed of the shuffle; equal seeds give equal parts.
        shares: Share of the groups in train and in decide, each in [0, 1]; test gets the rest.

    Returns:
        Three lists of row numbers, each ascending.

    Example:
        >>> train, decide, test = by_shares(["a", "a", "b", "c", "d"], shares=(0.5, 0.25))
        >>> sorted(train + decide + test)
        [0, 1, 2, 3, 4]
    """
    names = sorted(set(groups))
    random.Random(f"split {seed}").shuffle(names)
    first = round(len(names) * shares[0])
    second = first + round(len(names) * shares[1])
    part = {name: (0 if i < first else 1 if i < second else 2) for i, name in enumerate(names)}
    found: tuple[list[int], list[int], list[int]] = ([], [], [])
    for i, name in enumerate(groups):
        found[part[name]].append(i)
    return found


def by_number(
    rows: int, n: int, seed: int = 0, first: Sequence[int] = (), groups: Sequence[str] | None = None
) -> tuple[list[int], list[int]]:
    """Draw a few random rows, such as those to learn from; a smaller draw is the beginning of a larger one.

    Args:
        rows: Number of rows there are.
        n: Number of rows to draw.
        seed: Seed of the draw; independent of who uses the rows.
        first: Row numbers that are drawn before any other, such as those a predictor wants labelled.
        groups: Group of every row; the others hold no row of a group that was drawn. None for rows that stand alone.

    Returns:
        The drawn row numbers and the others, both in random order.

    Example:
        >>> few, rest = by_number(5, 2, first=[4])
        >>> few[0], sorted(few + rest)
        (4, [0, 1, 2, 3, 4])
    """
    order = list(range(rows))
    random.Random(f"few {seed}").shuffle(order)
    wanted = set(first)
    order.sort(key=lambda i: i not in wanted)
    if groups is None:
        return order[:n], order[n:]
    drawn = {groups[i] for i in order[:n]}
    return order[:n], [i for i in order[n:] if groups[i] not in drawn]


def hold_out(
    groups: Sequence[Any], least: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold random groups of rows out of what is learnt from, such as those that calibrate an interval.

    Args:
        groups: Group of every row.
        least: Smallest number of rows to hold out; the last group is held out whole.
        rng: Source of the order.

    Returns:
        Row numbers held out and those left, both in random order; nothing is left where all groups were needed.

    Example:
        >>> held, left = hold_out(["a", "a", "b", "c"], 1, np.random.default_rng(0))
        >>> sorted(held.tolist() + left.tolist())
        [0, 1, 2, 3]
    """
    number = _numbered(groups)
    place = np.empty(number.max() + 1, np.int64)
    place[rng.permutation(len(place))] = np.arange(len(place))
    order = np.argsort(place[number], kind="stable")
    ends = np.flatnonzero(np.diff(place[number][order], append=-1)) + 1
    cut = int(ends[min(np.searchsorted(ends, least), len(ends) - 1)])
    return order[:cut], order[cut:]


def fold_numbers(
    rows: int, folds: int, seed: int | np.random.Generator = 0, groups: Sequence[Any] | None = None
) -> NDArray[np.int64]:
    """Assign every row to a fold at random.

    Args:
        rows: Number of rows there are.
        folds: Number of folds; their sizes differ by at most one group.
        seed: Seed of the assignment, or where its random numbers come from; equal seeds assign alike.
        groups: Group of every row, whose rows are in one fold; None for rows that stand alone.

    Returns:
        Number of each row's fold, from 0, shape (rows,).

    Example:
        >>> sorted(fold_numbers(5, 2).tolist())
        [0, 0, 0, 1, 1]
    """
    number = np.arange(rows) if groups is None else _numbered(groups)
    return (np.random.default_rng(seed).permutation(len(set(number.tolist()))) % folds)[number]


def into_folds(
    rows: int, folds: int, seed: int = 0, groups: Sequence[Any] | None = None
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Assign rows to folds at random: each fold is judged once by what was learnt from the others.

    Args:
        rows: Number of rows there are.
        folds: Number of folds; their sizes differ by at most one group.
        seed: Seed of the assignment.
        groups: Group of every row, whose rows are in one fold; None for rows that stand alone.

    Returns:
        For each fold the ascending row numbers outside it, and those inside it.

    Example:
        >>> sorted(int(row) for _, judged in into_folds(5, 2) for row in judged)
        [0, 1, 2, 3, 4]
    """
    number = fold_numbers(rows, folds, seed, groups)
    return [(np.flatnonzero(number != f), np.flatnonzero(number == f)) for f in range(folds)]


def _numbered(groups: Sequence[Any]) -> NDArray[np.int64]:
    """Number of each row's group, in the order in which groups are met."""
    met: dict[Any, int] = {}
    return np.array([met.setdefault(g, len(met)) for g in groups], np.int64)
