from __future__ import annotations

from pathlib import Path

import pytest

import nasplat
from nasplat.errors import TableError
from nasplat.table import Table, read_table

ROWS = "arch_str,acc,other\na,1.5,1\nb,,2\nc,nan,3\nd,2.5,4\ne,3,5\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


def test_empty_and_nan_cells_are_not_rows(file: Path) -> None:
    assert read_table(file, "acc").labels == [1.5, 2.5, 3.0]


def test_split_is_disjoint_complete_and_seeded(file: Path) -> None:
    table = read_table(file, "other")
    parts = table.split(seed=3, shares=(0.4, 0.2))
    keys = [r["arch_str"] for p in parts for r in p.rows]
    assert sorted(keys) == list("abcde")
    assert [len(p) for p in parts] == [2, 1, 2]
    assert [p.rows for p in table.split(seed=3, shares=(0.4, 0.2))] == [p.rows for p in parts]


def test_saving_keeps_content_and_bytes(file: Path, tmp_path: Path) -> None:
    table = read_table(file, "acc")
    for name in ("a.csv.gz", "b.csv.gz"):
        table.save(tmp_path / name)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    assert read_table(tmp_path / "a.csv.gz", "acc").content_hash == table.content_hash


def test_unknown_metric_lists_the_columns(file: Path) -> None:
    with pytest.raises(TableError, match="among arch_str, acc, other, got 'loss'"):
        read_table(file, "loss")


def test_text_in_a_metric_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arch_str,acc\na,1\nb,high\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"t\.csv:3: expected a number in 'acc', got 'high'"):
        read_table(path, "acc")


def test_missing_file_and_missing_key_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"expected a .csv"):
        read_table(tmp_path / "none.csv", "acc")
    path = tmp_path / "t.csv"
    path.write_text("name,acc\na,1\n", encoding="utf-8")
    with pytest.raises(TableError, match="expected a column architecture or"):
        read_table(path, "acc")


def test_table_without_a_space_has_no_architectures(file: Path) -> None:
    with pytest.raises(TableError, match="loaded without a space"):
        _ = read_table(file, "acc").architectures


def test_architectures_are_read_with_the_space(tmp_path: Path) -> None:
    space = nasplat.load_space("nasbench201")
    texts = [space.format(space.sample(seed=i)) for i in range(3)]
    path = tmp_path / "t.csv"
    path.write_text("arch_str,acc\n" + "".join(f"{t},{i}\n" for i, t in enumerate(texts)), encoding="utf-8")
    table = nasplat.load_table(path, space="nasbench201", metric="acc")
    assert [space.format(a) for a in table.architectures] == texts


def table(rows: list[dict[str, str]], source: str) -> Table:
    return Table(tuple(rows), "acc", "key", source)


def test_join_unites_columns_of_equal_keys() -> None:
    left = table([{"key": "a", "acc": "1"}, {"key": "b", "acc": "2"}], "left")
    right = table([{"key": "b", "ms": "20"}, {"key": "a", "ms": "10"}], "right")
    assert [(r["acc"], r["ms"]) for r in left.join(right).rows] == [("1", "10"), ("2", "20")]


def test_join_refuses_unequal_and_doubled_keys() -> None:
    left = table([{"key": "a", "acc": "1"}, {"key": "b", "acc": "2"}], "left")
    with pytest.raises(TableError, match=r"1 only in Table\(2 rows, acc, left\) and 2 only in .* such as 'b'"):
        left.join(table([{"key": "a"}, {"key": "c"}, {"key": "d"}], "right"))
    with pytest.raises(TableError, match="holds key 'a' twice"):
        left.join(table([{"key": "a"}, {"key": "a"}], "right"))
    with pytest.raises(TableError, match="expected a column 'hash'"):
        left.join(left, on="hash")


def test_split_keeps_isomorphic_architectures_together() -> None:
    space = nasplat.load_space("nasbench201")
    # an edge out of a node that nothing feeds computes nothing
    texts = [
        f"|none~0|+|nor_conv_3x3~0|{op}~1|+|none~0|none~1|nor_conv_1x1~2|" for op in ("none", "skip_connect", "avg_pool_3x3")
    ]
    rows = [{"key": t, "acc": str(i)} for i, t in enumerate(texts * 5)]
    for seed in range(5):
        parts = Table(tuple(rows), "acc", "key", "made up", space.parse).split(seed, (0.5, 0.2))
        assert sorted(len(p) for p in parts) == [0, 0, 15]
