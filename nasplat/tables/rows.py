"""Long work appends one row per finished piece to a CSV file, and goes on from there after any interruption.

`write_atomically` replaces a whole file: whoever reads it, during the write or after a crash, sees the old content or
the new.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nasplat.errors import TableError


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a file so that no reader, and no crash, ever sees a part of it.

    Args:
        path: File to write; its folder must exist. What it held before is replaced.
        content: Whole content; text is encoded as UTF-8.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is untouched.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "answer.json"
        >>> write_atomically(file, "42")
        >>> file.read_text()
        '42'
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as out:
            out.write(content.encode("utf-8") if isinstance(content, str) else content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
        self._is_begun: bool | None = None  # not looked at yet

    def rows(self) -> dict[str | tuple[str, ...], dict[str, str]]:
        """Read the rows that are complete, in the order in which they were first written.

        A row that a killed process left half written is cut off the file, so that the next one starts on a line of its
        own.

        Returns:
            Cells by column, for each key; keys are text, or tuples of text where several columns identify a row.

        Raises:
            TableError: the file has other columns, or a row with more or fewer cells.
        """
        if not self.path.exists():
            return {}
        reader = self._reader()
        found: dict[str | tuple[str, ...], dict[str, str]] = {}
        for cells in reader:
            if len(cells) != len(self.columns):
                raise TableError(
                    f"expected {len(self.columns)} cells in line {reader.line_num} of {str(self.path)!r}, got "
                    f"{len(cells)}.\n  Remove the line."
                )
            row = dict(zip(self.columns, cells, strict=True))
            found[self._key(row)] = row
        return found

    def append(self, row: Mapping[str, object]) -> dict[str, str]:
        """Add one row with one write, and flush it to the disk.

        Args:
            row: Value of every column; None becomes an empty cell.

        Returns:
            The row as `rows` will give it back.

        Raises:
            TableError: a column is missing, one is not of the file, or the file was begun with other columns.
        """
        if set(row) != set(self.columns):
            raise TableError(
                f"expected a row with {', '.join(self.columns)}, got {', '.join(map(str, row))}.\n"
                "  Give all of them, and no other."
            )
        cells = {c: "" if row[c] is None else str(row[c]) for c in self.columns}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._is_begun is None:
            self._is_begun = self.path.exists() and self._reader().line_num > 0
        text = ("" if self._is_begun else line(self.columns)) + line(cells.values())
        with self.path.open("ab") as out:
            out.write(text.encode("utf-8"))
            out.flush()
            os.fsync(out.fileno())
        self._is_begun = True
        return cells

    def _reader(self) -> Any:
        """A reader of the mended file behind its header, which must name the columns; at line 0 of an empty file."""
        reader = csv.reader(io.StringIO(self._mended(), newline=""))
        header = next(reader, None)
        if header is not None and tuple(header) != self.columns:
            raise TableError(
                f"expected columns {', '.join(self.columns)} in {str(self.path)!r}, got {', '.join(header)}.\n"
                "  Move the file away, or choose another folder."
            )
        return reader

    def _key(self, row: Mapping[str, str]) -> str | tuple[str, ...]:
        """What identifies a row: one cell, or several."""
        return row[self.key[0]] if len(self.key) == 1 else tuple(row[k] for k in self.key)

    def _mended(self) -> str:
        """The text up to the last complete row; what follows is cut off the file."""
        content = self.path.read_bytes()
        end = _complete(content)
        if end < len(content):
            with self.path.open("r+b") as out:
                out.truncate(end)
        return content[:end].decode("utf-8")


def _complete(content: bytes) -> int:
    """Bytes up to the last line end that is outside quotes: cells such as tracebacks hold line ends of their own."""
    end = content.rfind(b"\n") + 1
    while content.count(b'"', 0, end) % 2:
        end = content.rfind(b"\n", 0, end - 1) + 1
    return end
