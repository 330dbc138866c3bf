"""Rows that survive whatever happens to the process that writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasplat.errors import TableError
from nasplat.tables.rows import RowFile, write_atomically

pytestmark = pytest.mark.fast


def made(path: Path) -> RowFile:
    return RowFile(path, ["key", "value"], "key")


def test_a_half_written_row_is_cut_off_and_the_next_one_is_right(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    made(file).append({"key": "a", "value": 0.25})
    file.write_bytes(file.read_bytes() + b"b,0.1")  # killed here: 0.1 may have been 0.17
    made(file).append({"key": "c", "value": 0.5})
    assert {k: r["value"] for k, r in made(file).rows().items()} == {"a": "0.25", "c": "0.5"}
    assert file.read_text() == "key,value\na,0.25\nc,0.5\n"


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=4), st.data())
def test_any_torn_end_leaves_the_rows_before_it(
    tmp_path_factory: pytest.TempPathFactory, values: list[str], data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("torn") / "rows.csv"
    ends = []
    for i, value in enumerate(values):
        made(file).append({"key": i, "value": value})
        ends.append(len(file.read_bytes()))
    content = file.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    file.write_bytes(content[:cut])
    whole = sum(end <= cut for end in ends)
    assert [r["value"] for r in made(file).rows().values()] == values[:whole]
    made(file).append({"key": "next", "value": "there"})
    assert [r["value"] for r in made(file).rows().values()] == [*values[:whole], "there"]


def test_other_columns_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("key,other\na,1\n")
    with pytest.raises(TableError, match=r"expected columns key, value in .*, got key, other"):
        made(tmp_path / "rows.csv").rows()


def test_a_row_with_too_few_cells_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("key,value\na\n")
    with pytest.raises(TableError, match="expected 2 cells in line 2"):
        made(tmp_path / "rows.csv").rows()


def test_a_missing_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="expected a row with key, value, got key"):
        made(tmp_path / "rows.csv").append({"key": "a"})


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.json"
    write_atomically(file, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(file, "new")
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_rows_are_not_added_under_other_columns(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("key,other\na,1\n")
    with pytest.raises(TableError, match="expected columns key, value"):
        made(tmp_path / "rows.csv").append({"key": "b", "value": 2})
    assert (tmp_path / "rows.csv").read_text() == "key,other\na,1\n"


def test_line_ends_of_any_kind_come_back_from_cells(tmp_path: Path) -> None:
    text = "50 %\r100 %\r\ndone\n"
    made(tmp_path / "rows.csv").append({"key": "a", "value": text})
    assert made(tmp_path / "rows.csv").rows()["a"]["value"] == text
