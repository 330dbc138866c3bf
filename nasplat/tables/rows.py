"""Long work appends one row per finished piece to a CSV file, and goes on from there after any interruption.

`write_atomically` replaces a whole file: whoever reads it, during the write or after a crash, sees the old content or
the new. `write_together` does so with files that belong together.
"""

from __future__ import annotations

import csv
import errno
import glob
import io
import itertools
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from nasplat.errors import TableError
from nasplat.tables.appending import BLOCK, append, storing

PARTIAL = ".partial"
"""Ending of a file that is written aside; host and process before it say who writes it."""
_HERE = socket.gethostname()
_NUMBERS = itertools.count()


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a file so that no reader, and no crash, ever sees a part of it.

    Args:
        path: File to write; its folder is made where it is missing. What it held before is replaced; a file that holds
            the very content is left alone.
        content: Whole content; text is encoded as UTF-8.

    Raises:
        StorageError: the disk is full or the folder cannot be written; the old file is untouched.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "answer.json"
        >>> write_atomically(file, "42")
        >>> file.read_text()
        '42'
    """
    write_together({Path(path): content})


def write_together(contents: Mapping[Path, str | bytes]) -> None:
    """Write files that belong together: all are written aside first, and only then each replaces its old one.

    Args:
        contents: Whole content by file, see `write_atomically`.

    Raises:
        StorageError: one of them cannot be written; all old files are untouched.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_together({folder / "net.onnx": b"...", folder / "net.json": "{}"})
        >>> sorted(p.name for p in folder.iterdir())
        ['net.json', 'net.onnx']
    """
    aside: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            data = content.encode("utf-8") if isinstance(content, str) else content
            with storing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
                _remove_stale(path)
                if _holds(path, data):
                    continue
                aside[path] = path.with_name(f"{path.name}.{_HERE}.{os.getpid()}.{next(_NUMBERS)}{PARTIAL}")
                with aside[path].open("wb") as out:
                    out.write(data)
                    out.flush()
                    os.fsync(out.fileno())
        for path, partial in aside.items():
            with storing(path):
                os.replace(partial, path)
    finally:
        for partial in aside.values():
            partial.unlink(missing_ok=True)


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file holds these bytes already; looks no further than the first block that differs."""
    try:
        if path.stat().st_size != len(data):
            return False
        with path.open("rb") as old:
            return all(old.read(BLOCK) == data[at : at + BLOCK] for at in range(0, len(data), BLOCK))
    except OSError:
        return False


def _remove_stale(path: Path) -> None:
    """Remove what processes of this host left beside a file when they were killed while they wrote it."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.{glob.escape(_HERE)}.*{PARTIAL}"):
        process = left.name.split(".")[-3]
        if process.isdigit() and not _is_alive(int(process)):
            left.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    """Whether a process of this host runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it runs, and belongs to somebody else
        return True
    return True


def line(cells: Iterable[object]) -> str:
    r"""Write cells as one row of a CSV file.

    Args:
        cells: Values of the row; None becomes an empty cell.

    Returns:
        Text with a line feed at its end. Cells that hold line ends of any kind are quoted, so that they come back as
        they
        were: Python's writer leaves carriage returns bare where rows end with line feeds.

    Example:
        >>> line(["a", None, "1,5", "\r"])
        'a,,"1,5","\r"\n'
    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue()[:-2] + "\n"


class RowFile:
    """A CSV file that grows by whole rows: a row is there or it is not, whenever the process was killed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels.csv"
        >>> file = RowFile(path, ["key", "accuracy"], "key")
        >>> row = file.append({"key": "a", "accuracy": 93.2})
        >>> RowFile(path, ["key", "accuracy"], "key").rows()
        {'a': {'key': 'a', 'accuracy': '93.2'}}
    """

    def __init__(self, path: str | Path, columns: Sequence[str], key: str | Sequence[str]) -> None:
        """Remember where the file is, or will be made; nothing is read or written yet.

        Args:
            path: CSV file; made, with its folder, by the first `append`.
            columns: Names of the columns, in their order.
            key: Column that identifies a row, or several of them; a later row replaces an earlier one of its key.
        """
        self.path, self.columns = Path(path), tuple(columns)
        self.key = (key,) if isinstance(key, str) else tuple(key)
        self._end = 0
        """Bytes of the file that this process knows to be whole rows."""

    def rows(self) -> dict[str | tuple[str, ...], dict[str, str]]:
        """Read the rows that are complete, in the order in which they were first written.

        A row that a killed process left half written is passed by; the next `append` cuts it off.

        Returns:
            Cells by column, for each key; keys are text, or tuples of text where several columns identify a row.

        Raises:
            TableError: the file has other columns, a row with more or fewer cells, or one that is no CSV.
        """
        if not self.path.exists():
            return {}
        found: dict[str | tuple[str, ...], dict[str, str]] = {}
        with self.path.open("rb") as file:
            for cells, _ in self._records(file):
                if cells is None:
                    continue
                row = dict(zip(self.columns, cells, strict=True))
                found[self._key(row)] = row
        return found

    def append(self, row: Mapping[str, object]) -> dict[str, str]:
        """Add one row with one write under a lock, and flush it to the disk.

        What a killed process left half written is cut off first, so that the row starts on a line of its own.

        Args:
            row: Value of every column; None becomes an empty cell.

        Returns:
            The row as `rows` will give it back.

        Raises:
            TableError: a column is missing, one is not of the file, or the file was begun with other columns.
            StorageError: the disk is full or the file may not be written; it keeps the rows that it had.
        """
        if set(row) != set(self.columns):
            raise TableError(
                f"expected a row with {', '.join(self.columns)}, got {', '.join(map(str, row))}.\n"
                "  Give all of them, and no other."
            )
        cells = {c: "" if row[c] is None else str(row[c]) for c in self.columns}
        with storing(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        text = line(cells.values())
        self._end = append(
            self.path, lambda end: (text if end else line(self.columns) + text).encode("utf-8"), self._whole
        )
        return cells

    def _whole(self, file: int) -> int:
        """Bytes of the locked file up to its last whole row; what this process has seen is not read again."""
        size = os.fstat(file).st_size
        if size < self._end:  # somebody cut the file
            self._end = 0
        if size > self._end:
            with os.fdopen(os.dup(file), "rb") as lines:
                lines.seek(self._end)
                self._end = max((end for _, end in self._records(lines, self._end)), default=self._end)
        return self._end

    def _records(self, file: BinaryIO, begin: int = 0) -> Iterator[tuple[list[str] | None, int]]:
        """Whole rows from a place in the file on, each with the number of bytes up to its end.

        The header counts as a row, of None. A row at the end that was cut short is left out.

        Raises:
            TableError: the header names other columns, or a row is none; the message names file and line.
        """
        number, end, is_torn = 0, begin, False

        def lines() -> Iterator[str]:
            nonlocal number, end, is_torn
            for text in file:
                number, end = number + 1, end + len(text)
                is_torn = not text.endswith(b"\n")
                try:
                    yield text.decode("utf-8", "replace" if is_torn else "strict")
                except UnicodeDecodeError as err:
                    raise csv.Error(f"it is no UTF-8: {err}") from err

        reader, is_header = csv.reader(lines(), strict=True), begin == 0
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as err:
                if is_torn or "unexpected end of data" in str(err):
                    return
                raise self._broken(number, begin, str(err)) from err
            if cells is None or is_torn:
                return
            if is_header:
                if tuple(cells) != self.columns:
                    raise TableError(
                        f"expected columns {', '.join(self.columns)} in {str(self.path)!r}, got {', '.join(cells)}.\n"
                        "  Move the file away, or choose another folder."
                    )
                is_header = False
                yield None, end
                continue
            if len(cells) != len(self.columns):
                raise self._broken(number, begin, f"expected {len(self.columns)} cells, got {len(cells)}")
            yield cells, end

    def _broken(self, number: int, begin: int, reason: str) -> TableError:
        """Say which line is broken, and how."""
        if begin:  # lines were counted from there
            with self.path.open("rb") as file:
                number += file.read(begin).count(b"\n")
        return TableError(f"line {number} of {str(self.path)!r} is broken: {reason}.\n  Mend it, or remove the line.")

    def _key(self, row: Mapping[str, str]) -> str | tuple[str, ...]:
        """What identifies a row: one cell, or several."""
        return row[self.key[0]] if len(self.key) == 1 else tuple(row[k] for k in self.key)
