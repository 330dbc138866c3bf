"""Tables from files: CSV and JSON, plain or compressed. Nothing is unpickled.

Cells are text or numbers, an empty cell is not available. What is nested in JSON becomes columns such as
`cifar10.accuracy`; of a list of numbers the last one is the column's, and all are `…_ep1`, `…_ep2`, ….
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nasplat.errors import TableError
from nasplat.tables.table import Table

KEYS = ("architecture", "arch_str", "genotype", "arch", "config", "key")
"""Columns that may hold the architecture, first match wins."""

Line = tuple[int, Sequence[str]]
"""Number of a line and its cells."""


def read_table(
    path: str | Path,
    metric: str,
    parse: Callable[[str], Any] | None = None,
    larger_is_better: bool = True,
    joins: Mapping[tuple[str, ...], Callable[[Mapping[str, str]], str]] | None = None,
    key: str | None = None,
    where: Mapping[str, str] | None = None,
) -> Table:
    r"""Read the rows of a file that have the metric.

    Args:
        path: File ending in .csv or .csv.gz with a header, or in .json or .json.gz with a list of rows or a mapping of
            architectures to rows.
        metric: Column of the label; rows with an empty or non-finite cell are left out.
        parse: Function that reads an architecture from its cell; None where no space is known.
        larger_is_better: Whether larger labels are the better ones, as for an accuracy but not for a loss.
        joins: Columns that together hold the architecture, with the functions that make one cell of a row.
        key: Column of the architecture; None for the joined one, else the first of `KEYS` that the file has.
        where: Cells by column that a row must have to be kept, such as {"dataset": "cifar10"}.

    Returns:
        The labelled rows, with the file's name as their source.

    Raises:
        TableError: the file is missing, broken, or lacks the column or an architecture column.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "mine.csv"
        >>> _ = file.write_text("arch,accuracy\na,93.2\nb,\n")
        >>> read_table(file, "accuracy").labels
        [93.2]
    """
    path = Path(path)
    text = _text(path)
    columns, lines = _from_json(text, path) if text.lstrip()[:1] in {"{", "["} else _from_csv(text)
    if metric not in columns:
        raise TableError(f"expected a metric among {', '.join(columns)}, got {metric!r} ({path}).\n  Use one of these.")
    for column in (*(where or {}), *([key] if key else [])):
        if column not in columns:
            raise TableError(
                f"expected a column among {', '.join(columns)}, got {column!r} ({path}).\n  Use one of these."
            )
    join = None
    if key is None:
        join = next((f for wanted, f in (joins or {}).items() if set(wanted) <= set(columns)), None)
    found = key or (KEYS[0] if join else next((k for k in KEYS if k in columns), None))
    if found is None:
        raise TableError(
            f"expected a column {' or '.join(KEYS)} in {path}, got {', '.join(columns)}.\n  Pass key=, or rename one."
        )
    rows = _labelled(lines, columns, metric, where or {}, path)
    kept = tuple(rows if join is None else (row | {found: join(row)} for row in rows))
    return Table(kept, metric, found, path.name, parse, larger_is_better)


def _text(path: Path) -> str:
    """The whole file as text, decompressed where its first bytes say so."""
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
    except (OSError, EOFError, UnicodeDecodeError) as err:
        raise TableError(
            f"expected a .csv, .csv.gz or .json table, got {str(path)!r} ({err}).\n  Check the path."
        ) from err


def _labelled(
    lines: Iterable[Line], columns: Sequence[str], metric: str, where: Mapping[str, str], path: Path
) -> Iterator[dict[str, str]]:
    """Rows with a finite label and the wanted cells.

    Raises:
        TableError: a row is too short or too long, or its label is no number.
    """
    at = columns.index(metric)
    wanted = [(columns.index(c), v) for c, v in where.items()]
    for number, cells in lines:
        if len(cells) != len(columns):
            raise TableError(f"{path}:{number}: expected {len(columns)} cells, got {len(cells)}.\n  Mend the row.")
        if not cells[at] or any(cells[i] != v for i, v in wanted):
            continue
        try:
            value = float(cells[at])
        except ValueError as err:
            raise TableError(
                f"{path}:{number}: expected a number in {metric!r}, got {cells[at]!r}.\n  Mend the cell."
            ) from err
        if math.isfinite(value):
            yield dict(zip(columns, cells, strict=True))


def _from_csv(text: str) -> tuple[list[str], Iterator[Line]]:
    """Columns and lines of a CSV file."""
    reader = csv.reader(io.StringIO(text))
    return next(reader, []), ((reader.line_num, cells) for cells in reader if cells)


def _from_json(text: str, path: Path) -> tuple[list[str], Iterator[Line]]:
    """Columns and lines of a JSON file."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as err:
        raise TableError(
            f"expected JSON in {path}, got an error in line {err.lineno} ({err.msg}).\n  Check the file."
        ) from err
    if isinstance(data, dict):
        data = [{"architecture": name} | row for name, row in data.items() if isinstance(row, dict)]
    if not data or not all(isinstance(row, dict) for row in data):
        raise TableError(
            f"expected a list of rows or a mapping of architectures to rows in {path}.\n"
            '  Write [{"architecture": …, "accuracy": …}, …] or {"architecture": {"accuracy": …}, …}.'
        )
    rows = [dict(_flat(row)) for row in data]
    columns = list(dict.fromkeys(c for row in rows for c in row))
    return columns, ((number, [row.get(c, "") for c in columns]) for number, row in enumerate(rows, start=1))


def _flat(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Cells by column, with the names on the way to a nested value joined by dots."""
    for name, value in row.items():
        column = f"{before}{name}"
        if isinstance(value, dict):
            yield from _flat(value, f"{column}.")
        elif isinstance(value, list) and value and all(isinstance(v, int | float) for v in value):
            yield column, str(value[-1])
            yield from ((f"{column}_ep{i}", str(v)) for i, v in enumerate(value, start=1))
        elif isinstance(value, str):
            yield column, value
        else:
            yield column, "" if value is None else json.dumps(value, separators=(",", ":"))
