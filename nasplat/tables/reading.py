"""Tables from files: CSV, as spreadsheets save it too, and JSON, plain or compressed. Nothing is unpickled.

Cells are text or numbers, an empty cell is not available. What is nested in JSON becomes columns such as
`cifar10.accuracy`; of a list of numbers the last one is the column's, and all are `…_ep1`, `…_ep2`, ….
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasplat.errors import NasplatError, TableError
from nasplat.tables.spreadsheets import Cells, decoded, numbers, plain_number, unpacked
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
        metric: Column of the label; rows with an empty or non-finite cell are left out, and counted.
        parse: Function that reads an architecture from its cell; None where no space is known.
        larger_is_better: Whether larger labels are the better ones, as for an accuracy but not for a loss.
        joins: Columns that together hold the architecture, with the functions that make one cell of a row.
        key: Column of the architecture; None for the joined one, else the first of `KEYS` that the file has.
        where: Cells by column that a row must have to be kept, such as {"dataset": "cifar10"}.

    Returns:
        The labelled rows, with the file's name as their source.

    Raises:
        TableError: the file is missing, broken, or lacks the column or an architecture column; a row's cells make no
            architecture; or no label is finite.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "mine.csv"
        >>> _ = file.write_text("arch,accuracy\na,93.2\nb,\n")
        >>> read_table(file, "accuracy").labels
        [93.2]
    """
    path = Path(path)
    text, where = _text(path), {column: str(cell).strip() for column, cell in (where or {}).items()}
    is_json = text.lstrip()[:1] in {"{", "["}
    try:
        found = _from_json(text, path) if is_json else Cells(text, [metric, *where, *([key] if key else KEYS)])
        columns, lines = found.columns, list(found.rows())
    except ValueError as err:
        raise err if isinstance(err, TableError) else TableError(f"{path}: {err}.\n  Mend the file.") from err
    for column in (metric, *where, *([key] if key else [])):
        if column not in columns:
            what = "metric" if column == metric else "column"
            raise TableError(
                f"expected a {what} among {', '.join(columns)}, got {column!r} ({path}).\n  Use one of these."
            )
    join = None
    if key is None:
        join = next((f for wanted, f in (joins or {}).items() if set(wanted) <= set(columns)), None)
    held = key or (KEYS[0] if join else next((k for k in KEYS if k in columns), None))
    if held is None:
        raise TableError(
            f"expected a column {' or '.join(KEYS)} in {path}, got {', '.join(columns)}.\n  Pass key=, or rename one."
        )
    kept, left_out = _labelled(lines, columns, metric, where, path, found.delimiter)
    if left_out and not kept:
        raise TableError(
            f"expected finite labels in {metric!r}, got none in {left_out} rows of {path}.\n"
            "  Name another column, or label some networks."
        )
    rows = []
    for number, row in kept:
        row[held] = row[held].strip() if join is None else _joined(join, row, f"{path}:{number}")
        if not row[held]:
            raise TableError(
                f"{path}:{number}: expected an architecture in {held!r}, got an empty cell.\n  Mend the row."
            )
        rows.append(row)
    return Table(tuple(rows), metric, held, path.name, parse, larger_is_better, left_out)


def _joined(join: Callable[[Mapping[str, str]], str], row: Mapping[str, str], at: str) -> str:
    """Join the cells of a row by the function of a space's file, which need not check them."""
    try:
        return join(row)
    except NasplatError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError) as err:
        cells = ", ".join(f"{k}={v!r}" for k, v in row.items())[:200]
        raise TableError(
            f"{at}: expected cells that make an architecture, got {cells} "
            f"({type(err).__name__}: {err}).\n  Mend the row."
        ) from err


def _text(path: Path) -> str:
    """The whole file as text, decompressed where its first bytes say so."""
    try:
        return decoded(unpacked(path.read_bytes()))
    except (OSError, ValueError) as err:
        raise TableError(
            f"expected a .csv, .csv.gz or .json table, got {str(path)!r} ({err}).\n  Check the path."
        ) from err


def _labelled(
    lines: Iterable[Line], columns: Sequence[str], metric: str, where: Mapping[str, str], path: Path, delimiter: str
) -> tuple[list[tuple[int, dict[str, str]]], int]:
    """Rows with a finite label and the wanted cells, and the numbers of their lines; how many lack such a label.

    Raises:
        TableError: a row is too short or too long, its label is no number, or no row has the wanted cells.
    """
    wanted, kept = [(columns.index(c), v) for c, v in where.items()], list[Line]()
    for number, cells in lines:
        if len(cells) != len(columns):
            raise TableError(f"{path}:{number}: expected {len(columns)} cells, got {len(cells)}.\n  Mend the row.")
        if all(cells[i].strip() == v for i, v in wanted):
            kept.append((number, cells))
    if wanted and not kept:
        asked = ", ".join(f"{c}={v!r}" for c, v in where.items())
        raise TableError(f"expected rows with {asked} in {path}, got none.\n  Check the cells of these columns.")
    at = columns.index(metric)
    labels = numbers([(number, cells[at]) for number, cells in kept], metric, str(path), delimiter)
    rows = []
    for (number, cells), value in zip(kept, labels, strict=True):
        if math.isfinite(value):
            row = dict(zip(columns, cells, strict=True))
            row[metric] = row[metric] if plain_number(row[metric]) == value else repr(value)
            rows.append((number, row))
    return rows, len(kept) - len(rows)


@dataclass(frozen=True)
class _Rows:
    """Columns and rows of a JSON file, as `Cells` has them."""

    columns: list[str]
    lines: list[Line]
    delimiter: str = ","

    def rows(self) -> Iterator[Line]:
        """Numbers of the rows and their cells."""
        return iter(self.lines)


def _from_json(text: str, path: Path) -> _Rows:
    """Columns and lines of a JSON file."""
    try:
        data = json.loads(text, object_pairs_hook=_once)
        if isinstance(data, dict):
            data = [{"architecture": name} | row for name, row in data.items() if isinstance(row, dict)]
        if not data or not all(isinstance(row, dict) for row in data):
            raise TableError(
                f"expected a list of rows or a mapping of architectures to rows in {path}.\n"
                '  Write [{"architecture": …, "accuracy": …}, …] or {"architecture": {"accuracy": …}, …}.'
            )
        rows = [dict(_flat(row)) for row in data]
    except json.JSONDecodeError as err:
        raise TableError(
            f"expected JSON in {path}, got an error in line {err.lineno} ({err.msg}).\n  Check the file."
        ) from err
    except RecursionError as err:
        raise TableError(f"expected rows in {path}, got JSON that is nested too deeply.\n  Check the file.") from err
    columns = list(dict.fromkeys(c for row in rows for c in row))
    return _Rows(columns, [(i, [row.get(c, "") for c in columns]) for i, row in enumerate(rows, start=1)])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object none of whose names stands twice: Python's own reader would keep the last without a word."""
    found = dict(pairs)
    if len(found) != len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name!r} stands twice in one object")
    return found


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
