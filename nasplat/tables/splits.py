"""Labelled rows divided at random: by shares, by number, or into folds; rows of one group never part.

Every function is pure: the same names, seed and shares give the same parts on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


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


def by_number(rows: int, n: int, seed: int = 0, first: Sequence[int] = ()) -> tuple[list[int], list[int]]:
    """Draw a few random rows, such as those to learn from; a smaller draw is the beginning of a larger one.

    Args:
        rows: Number of rows there are.
        n: Number of rows to draw.
        seed: Seed of the draw; independent of who uses the rows.
        first: Row numbers that are drawn before any other, such as those a predictor wants labelled.

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
    return order[:n], order[n:]


def fold_numbers(rows: int, folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Assign every row to a fold at random.

    Args:
        rows: Number of rows there are.
        folds: Number of folds; their sizes differ by at most one row.
        seed: Seed of the assignment; equal seeds assign alike.

    Returns:
        Number of each row's fold, from 0, shape (rows,).

    Example:
        >>> sorted(fold_numbers(5, 2).tolist())
        [0, 0, 0, 1, 1]
    """
    return np.random.default_rng(seed).permutation(rows) % folds


def into_folds(rows: int, folds: int, seed: int = 0) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Assign rows to folds at random: each fold is judged once by what was learnt from the others.

    Args:
        rows: Number of rows there are.
        folds: Number of folds; their sizes differ by at most one row.
        seed: Seed of the assignment.

    Returns:
        For each fold the ascending row numbers outside it, and those inside it.

    Example:
        >>> sorted(int(row) for _, judged in into_folds(5, 2) for row in judged)
        [0, 1, 2, 3, 4]
    """
    number = fold_numbers(rows, folds, seed)
    return [(np.flatnonzero(number != f), np.flatnonzero(number == f)) for f in range(folds)]
