"""Rows that survive whatever happens to the process that writes them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from disk import largest_file
from hypothesis import given
from hypothesis import strategies as st

from nasplat.errors import StorageError, TableError
from nasplat.tables.rows import RowFile, write_atomically, write_together

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
    with pytest.raises(TableError, match=r"line 2 .* expected 2 cells, got 1"):
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


def test_reading_a_torn_file_changes_nothing_and_the_next_row_says_what_it_cuts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "rows.csv"
    torn = b"key,value\na,1\nb,0.1"
    file.write_bytes(torn)
    file.chmod(0o444)
    assert list(made(file).rows()) == ["a"]
    assert file.read_bytes() == torn
    file.chmod(0o644)
    made(file).append({"key": "c", "value": 3})
    assert file.read_bytes() == b"key,value\na,1\nc,3\n"
    assert "its 5 bytes are removed" in caplog.text


def test_two_writers_keep_each_others_rows_and_cut_no_row_that_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    first, second = made(file), made(file)
    for i in range(3):
        first.append({"key": f"a{i}", "value": 'said "so",\nand more'})
        second.append({"key": f"b{i}", "value": i})
    assert list(made(file).rows()) == ["a0", "b0", "a1", "b1", "a2", "b2"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"key,value\na,1\nb\nc,3\n", "line 3 .* expected 2 cells, got 1"),
        (b'key,value\na,"x\nb,"y"\nc,3\n', "line 3 .* is broken"),  # the quote that ended the first cell is gone
        (b"key,value\na,\xff\nc,3\n", "line 2 .* no UTF-8"),
        (b"key,value\na,1\nb,1,2\n", "line 3 .* expected 2 cells, got 3"),
    ],
)
def test_a_broken_line_between_whole_ones_is_named_and_nothing_is_cut(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(content)
    for attempt in (made(file).rows, lambda: made(file).append({"key": "new", "value": 1})):
        with pytest.raises(TableError, match=reason):
            attempt()
    assert file.read_bytes() == content


def test_what_may_hold_several_rows_is_kept_beside_when_it_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b'key,value\na,1\nb,"2\nc,3\nd,4\n')  # a quote too much: nobody knows where that cell ends
    made(file).append({"key": "e", "value": 5})
    assert list(made(file).rows()) == ["a", "e"]
    assert (tmp_path / "rows.csv.torn").read_bytes() == b'b,"2\nc,3\nd,4\n'


def test_a_full_disk_leaves_no_part_of_a_row_and_is_said_in_one_paragraph(tmp_path: Path) -> None:
    file = made(tmp_path / "rows.csv")
    file.append({"key": "a", "value": 1})
    there = file.path.read_bytes()
    with largest_file(len(there) + 3), pytest.raises(StorageError, match=r"(?s)rows.csv.*Free some space"):
        file.append({"key": "b", "value": "a long one"})
    assert file.path.read_bytes() == there
    file.append({"key": "b", "value": 2})
    assert list(made(file.path).rows()) == ["a", "b"]


def test_of_files_that_belong_together_none_is_replaced_when_one_cannot_be_written(tmp_path: Path) -> None:
    network, certificate = tmp_path / "net.onnx", tmp_path / "net.json"
    write_together({network: b"old", certificate: "old"})
    with largest_file(10), pytest.raises(StorageError, match=r"(?s)net.json.*what was there before is kept"):
        write_together({network: b"new", certificate: "much longer than ten bytes"})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"net.onnx": b"old", "net.json": b"old"}


def test_what_a_killed_process_wrote_aside_goes_with_the_next_write_and_what_a_live_one_writes_stays(
    tmp_path: Path,
) -> None:
    file, host = tmp_path / "run.json", socket.gethostname()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f"run.json.{host}.{dead.pid}.0.partial"
    used = tmp_path / f"run.json.{host}.{os.getppid()}.0.partial"
    other = tmp_path / f"other.json.{host}.{dead.pid}.0.partial"
    for path in (left, used, other):
        path.write_text("{")
    write_atomically(file, "{}")
    assert {p.name for p in tmp_path.iterdir()} == {file.name, used.name, other.name}


def test_a_file_that_holds_the_content_already_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    write_atomically(file, "{}")
    before = file.stat()
    write_atomically(file, "{}")
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    write_atomically(file, "[]")
    assert file.read_text() == "[]"


def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(StorageError, match="it is a folder"):
        write_atomically(tmp_path / "run.json", "{}")
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_writers_at_once_lose_no_row_though_each_looks_for_a_torn_one(tmp_path: Path) -> None:
    def write(name: str) -> None:
        file = made(tmp_path / "rows.csv")
        for i in range(20):
            file.append({"key": f"{name}{i}", "value": 'a "long" value ' * i})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, "abcd"))
    assert len(made(tmp_path / "rows.csv").rows()) == 80
