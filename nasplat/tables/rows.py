"""Long work appends one row per finished piece to a CSV file, and goes on from there after any interruption.

`write_atomically` replaces a whole file: whoever reads it, during the write or after a crash, sees the old text or the new.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

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


class RowFile:
    """A CSV file that grows by whole rows: a row is there or it is not, whenever the process was killed."""

    def __init__(self, path: str | Path, columns: Sequence[str], key: str | Sequence[str]) -> None:
        """Open the file, or remember where it will be made.

        Args:
            path: CSV file; made, with its folder, by the first `append`.
            columns: Names of the columns, in their order.
            key: Column that identifies a row, or several of them; a later row with the key of an earlier one replaces it.
        """
        self.path, self.columns = Path(path), tuple(columns)
        self.key = (key,) if isinstance(key, str) else tuple(key)
        self._is_begun: bool | None = None  # not looked at yet

    def rows(self) -> dict[str | tuple[str, ...], dict[str, str]]:
        """Rows that are complete, by key, in the order in which they were first written.

        A row that a killed process left half written is cut off the file, so that the next one starts on a line of its own.

        Returns:
            Cells by column; keys are text, or tuples of text where several columns identify a row.

        Raises:
            TableError: the file has other columns, or a row with more or fewer cells.
        """
        if not self.path.exists():
            return {}
        text = self._mended()
        reader = csv.reader(io.StringIO(text, newline=""))
        header = next(reader, None)
        if header is None:
            return {}
        if tuple(header) != self.columns:
            raise TableError(
                f"expected columns {', '.join(self.columns)} in {str(self.path)!r}, got {', '.join(header)}.\n"
                "  Move the file away, or choose another folder."
            )
        found: dict[str | tuple[str, ...], dict[str, str]] = {}
        for cells in reader:
            if len(cells) != len(self.columns):
                raise TableError(
                    f"expected {len(self.columns)} cells in line {reader.line_num} of {str(self.path)!r}, got {len(cells)}.\n"
                    "  Remove the line."
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
            TableError: a column is missing, or one is not of the file.
        """
        if set(row) != set(self.columns):
            raise TableError(
                f"expected a row with {', '.join(self.columns)}, got {', '.join(map(str, row))}.\n  Give all of them, and no other."
            )
        cells = {c: "" if row[c] is None else str(row[c]) for c in self.columns}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._is_begun is None:
            self._is_begun = self.path.exists() and bool(self._mended())
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if not self._is_begun:
            writer.writerow(self.columns)
        writer.writerow(cells.values())
        with self.path.open("ab") as out:
            out.write(text.getvalue().encode("utf-8"))
            out.flush()
            os.fsync(out.fileno())
        self._is_begun = True
        return cells

    def _key(self, row: Mapping[str, str]) -> str | tuple[str, ...]:
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
