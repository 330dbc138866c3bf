"""What predictors learn from, made of a table: one row a computation, and no network on two sides of a split."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, product
from math import isfinite
from pathlib import Path

import pytest

import nasplat
from nasplat.errors import LabelWarning, TableError
from nasplat.predict import CountBaseline
from nasplat.searchspace import Space
from nasplat.tables.table import Table
from nasplat.workflows.evaluate import evaluate
from nasplat.workflows.fit import fit_and_save
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


def test_rows_without_a_finite_label_are_counted(table: Table) -> None:
    some = table.take(range(12))
    rows = [row | {"accuracy": label} for row, label in zip(some.rows, ["nan", "", "inf"] * 4, strict=True)]
    mixed = Table((*rows, *table.rows[12:40]), "accuracy", "arch_str", "cells.csv", table.parse)
    found = distinct(mixed)
    assert found.left_out == 12
    assert all(isfinite(y) for y in found.labels)
    assert split(found, 0)[0].left_out == 12
    with pytest.raises(TableError, match=r"got none in 12 rows of cells\.csv"):
        distinct(mixed.take(range(12)))


def test_labels_that_are_not_finite_are_not_judged_and_equal_ones_are_refused(data: Labelled) -> None:
    macs = [float(v.macs) for v in data.views]
    counts = CountBaseline().fit(data.views, macs)
    broken = replace(data, labels=[math.nan, math.inf, *macs[2:]])
    with pytest.warns(LabelWarning, match=f"2 of {len(macs)} labels"):
        found = evaluate(counts, broken)
    assert found == evaluate(counts, replace(data, labels=macs).take(range(2, len(macs))))
    with pytest.raises(TableError, match=f"labels that differ, got 3 for all {len(macs)} networks"):
        evaluate(counts, replace(data, labels=[3.0] * len(macs)))


def test_the_card_says_how_many_computations_networks_and_rows(cells: Space, tmp_path: Path) -> None:
    members = [cells.sample(seed=i) for i in range(90)]
    rows = [{"arch_str": cells.format(a), "accuracy": str(a.graph().macs)} for a in members]
    rows[0] |= {"accuracy": "nan"}
    source = Table(tuple(rows), "accuracy", "arch_str", "cells.csv", cells.parse)
    fit_and_save(source, "count", tmp_path / "count", seeds=(0,))
    card = (tmp_path / "count" / "README.md").read_text(encoding="utf-8")
    found = distinct(source)
    counts = f"{len(found.keys)} computations of {len(set(found.groups))} networks in 89 rows"
    assert f"{counts}; 1 more rows without a finite label), 80/10/10 by network" in card
