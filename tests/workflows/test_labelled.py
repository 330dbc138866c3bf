"""What predictors learn from, made of a table: one row a computation, and no network on two sides of a split."""

from __future__ import annotations

from itertools import combinations, product

import pytest

import nasplat
from nasplat.searchspace import Space
from nasplat.tables.table import Table
from nasplat.workflows.labelled import Labelled, distinct, few, split

pytestmark = pytest.mark.fast

OPS = ("none", "skip_connect", "nor_conv_1x1")


@pytest.fixture(scope="module")
def cells() -> Space:
    return nasplat.load_space("nasbench201", width=4, cells=1, image=8, channels=1)


@pytest.fixture(scope="module")
def table(cells: Space) -> Table:
    """Cells without an edge from the first to the second node, so that many edges follow nothing."""
    texts = [
        f"|none~0|+|{a}~0|{b}~1|+|{c}~0|{d}~1|{e}~2|" for a, b, c, d, e in product(OPS, repeat=5) if "none" in (b, d)
    ]
    rows = tuple({"arch_str": text, "accuracy": str(i)} for i, text in enumerate(texts))
    return Table(rows, "accuracy", "arch_str", "cells.csv", cells.parse)


@pytest.fixture(scope="module")
def data(table: Table) -> Labelled:
    return distinct(table)


def networks(cells: Space, part: Labelled) -> set[str]:
    return {cells.parse(text).network_key for text in part.architectures}


def test_every_computation_is_one_row_and_knows_its_network(cells: Space, table: Table, data: Labelled) -> None:
    assert len(set(data.keys)) == len(data.keys) < len(table)
    assert len(set(data.groups)) == len(networks(cells, data)) < len(data.keys)
    assert len(set(data.groups)) == len({a.network_key for a in table.architectures})


@pytest.mark.parametrize("seed", range(3))
def test_no_network_is_in_two_parts(cells: Space, table: Table, data: Labelled, seed: int) -> None:
    for one, other in combinations([networks(cells, p) for p in split(data, seed)], 2):
        assert not one & other
    for one, other in combinations(table.split(seed), 2):
        assert not {a.network_key for a in one.architectures} & {a.network_key for a in other.architectures}
    shown, rest = few(data, 6, seed)
    assert len(shown.labels) == 6
    assert not networks(cells, shown) & networks(cells, rest)


def test_a_key_cell_does_not_part_what_the_space_keeps_together(cells: Space, table: Table) -> None:
    keyed = Table(tuple(row | {"key": row["arch_str"]} for row in table.rows), "accuracy", "arch_str", "", cells.parse)
    parts = keyed.split(seed=0)
    for one, other in combinations(parts, 2):
        assert not {a.network_key for a in one.architectures} & {a.network_key for a in other.architectures}
    assert sum(map(len, parts)) == len(table)
