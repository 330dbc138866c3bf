"""`Table`: labelled rows. An architecture or graph key, metrics with unit, and where they come from.

On disk `.csv.gz` or `.csv`; cells are text or numbers, an empty cell is not available. JSON is read too.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nasplat.errors import TableError
from nasplat.tables.metrics import kendall_tau, sign
from nasplat.tables.splits import by_shares

KEYS = ("architecture", "arch_str", "genotype", "arch", "config", "key")
"""Columns that may hold the architecture, first match wins."""


@dataclass(frozen=True)
class Table:
    """Labelled architectures."""

    rows: tuple[dict[str, str], ...]
    """Cells as text, by column."""
    metric: str
    """Column of the label."""
    key: str
    """Column of the architecture."""
    source: str = ""
    """File or study the rows come from."""
    parse: Callable[[str], Any] | None = None
    """Reads an architecture from its cell, when a space is known."""
    larger_is_better: bool = True
    """Whether larger labels are the better ones."""

    @property
    def sign(self) -> float:
        """Factor, 1.0 or -1.0, that turns a label into one that is better when larger."""
        return sign(self.larger_is_better)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Table({len(self)} rows, {self.metric}, {self.source})"

    @cached_property
    def labels(self) -> list[float]:
        """The metric of each row, in the unit of its column; nan where a training failed."""
        return [float(row[self.metric] or "nan") for row in self.rows]

    @cached_property
    def architectures(self) -> list[Any]:
        """Each row's architecture.

        Raises:
            TableError: the table was loaded without a space.
        """
        if self.parse is None:
            raise TableError(
                f"{self!r} was loaded without a space.\n  Pass space='nasbench201', or a path, to load_table."
            )
        return [self.parse(row[self.key]) for row in self.rows]

    @cached_property
    def content_hash(self) -> str:
        """Hash of keys and labels, whatever the order of rows."""
        cells = sorted((row[self.key], row[self.metric]) for row in self.rows)
        return hashlib.sha256(json.dumps(cells).encode()).hexdigest()

    @cached_property
    def keys(self) -> list[str]:
        """What tells each row's network: its `key` cell, else what its space says where one is known, else its cell."""
        if all(row.get("key") for row in self.rows):
            return [row["key"] for row in self.rows]
        if self.parse is not None:
            return [a.network_key for a in self.architectures]
        return [row[self.key] for row in self.rows]

    def duplicates(self) -> list[list[int]]:
        """Row numbers of equal networks, where a network has several rows; isomorphic encodings are equal (see `keys`)."""
        found: dict[str, list[int]] = {}
        for number, key in enumerate(self.keys):
            found.setdefault(key, []).append(number)
        return [numbers for numbers in found.values() if len(numbers) > 1]

    def averaged(self) -> Table:
        """One row per network: its first, with the mean label of all (seeds, isomorphic encodings)."""
        found: dict[str, list[int]] = {}
        for number, key in enumerate(self.keys):
            found.setdefault(key, []).append(number)
        means = [sum(self.labels[i] for i in numbers) / len(numbers) for numbers in found.values()]
        rows = [
            self.rows[numbers[0]] | {self.metric: f"{mean:.6g}"}
            for numbers, mean in zip(found.values(), means, strict=True)
        ]
        return replace(self, rows=tuple(rows))

    def ceiling(self, column: str = "seed") -> tuple[float, int]:
        """How well the labels of a network agree with themselves: no predictor can be expected to rank better.

        Args:
            column: What tells the trainings of one network apart.

        Returns:
            Rank agreement (tau-b) of the first and the second training, and the number of networks that have both.
        """
        found: dict[str, dict[float, float]] = {}
        for key, row, value in zip(self.keys, self.rows, self.labels, strict=True):
            if math.isfinite(value):
                found.setdefault(key, {}).setdefault(float(row[column]), value)
        pairs = [[v for _, v in sorted(values.items())[:2]] for values in found.values() if len(values) > 1]
        if len(pairs) < 2:
            return math.nan, len(pairs)
        return kendall_tau([a for a, _ in pairs], [b for _, b in pairs]), len(pairs)

    def take(self, numbers: Sequence[int]) -> Table:
        """The table of these rows."""
        return replace(self, rows=tuple(self.rows[i] for i in numbers))

    def split(
        self,
        seed: int = 0,
        shares: tuple[float, float] = (0.8, 0.1),
        group: Callable[[dict[str, str]], str] | None = None,
    ) -> tuple[Table, Table, Table]:
        """Disjoint train, decide and test tables.

        Args:
            seed: Same seed, same split.
            shares: Of train and decide; test is the rest.
            group: Rows with equal groups stay together; by default those of one canonical architecture where a space is
                known, else of one key.
        """
        if group is not None:
            names = [group(row) for row in self.rows]
        elif self.parse is not None:
            names = [str(a.canonical()) for a in self.architectures]
        else:
            names = [row[self.key] for row in self.rows]
        train, decide, test = (self.take(rows) for rows in by_shares(names, seed, shares))
        return train, decide, test

    def join(self, other: Table, on: str | None = None) -> Table:
        """The columns of both tables, row by row of equal keys.

        Args:
            other: Its columns win where both have one of a name.
            on: Column that both have; default this table's key.

        Raises:
            TableError: a key is in one table only, or twice in one; the message counts and names them.
        """
        column = on or self.key
        sides: list[dict[str, dict[str, str]]] = []
        for table in (self, other):
            if any(column not in row for row in table.rows):
                raise TableError(f"expected a column {column!r} in {table!r}.\n  Join on a column both have.")
            found = {row[column]: row for row in table.rows}
            if len(found) != len(table):
                twice = next(k for k, n in Counter(row[column] for row in table.rows).items() if n > 1)
                raise TableError(
                    f"{table!r} holds {column} {twice!r} twice.\n  Average or drop duplicates before a join."
                )
            sides.append(found)
        left, right = sides
        unequal = [k for k in left if k not in right] + [k for k in right if k not in left]
        if unequal:
            raise TableError(
                f"expected equal sets of {column!r}, got {sum(k in left for k in unequal)} only in {self!r} and "
                f"{sum(k in right for k in unequal)} only in {other!r}, such as {unequal[0]!r}.\n  Take the common rows first."
            )
        return replace(self, rows=tuple(row | right[row[column]] for row in self.rows))

    def save(self, path: str | Path) -> None:
        """Write `.csv` or `.csv.gz`; a gzip file holds no time stamp, so equal tables give equal files."""
        text = io.StringIO()
        columns = list(dict.fromkeys(c for row in self.rows for c in row))
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        data = text.getvalue().encode()
        Path(path).write_bytes(gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)


def read_table(
    path: str | Path,
    metric: str,
    parse: Callable[[str], Any] | None = None,
    larger_is_better: bool = True,
    joins: Mapping[tuple[str, ...], Callable[[Mapping[str, str]], str]] | None = None,
    key: str | None = None,
    where: Mapping[str, str] | None = None,
) -> Table:
    """Rows of a file that have the metric.

    Args:
        path: `.csv` or `.csv.gz` with a header; or `.json` or `.json.gz`, a list of rows or a mapping of architectures to rows. What is
            nested becomes columns such as `cifar10.accuracy`; of a list of numbers the last is the column's, all are `…_ep1`, `…_ep2`, ….
        metric: Column of the label; rows with an empty or non-finite cell are left out.
        parse: Reads an architecture from its cell.
        larger_is_better: Direction of the metric.
        joins: Columns that together hold the architecture, and the functions that make one cell of a row.
        key: Column of the architecture; default the joined one, else the first of `KEYS` that the file has.
        where: Only rows with these cells.

    Raises:
        TableError: the file is missing, broken, or lacks the column or an architecture column.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
    except (OSError, EOFError, UnicodeDecodeError) as err:
        raise TableError(
            f"expected a .csv, .csv.gz or .json table, got {str(path)!r} ({err}).\n  Check the path."
        ) from err
    columns, cells = _from_json(text, path) if text.lstrip()[:1] in {"{", "["} else _from_csv(text)
    if metric not in columns:
        raise TableError(f"expected a metric among {', '.join(columns)}, got {metric!r} ({path}).\n  Use one of these.")
    for column in (*(where or {}), *([key] if key else [])):
        if column not in columns:
            raise TableError(
                f"expected a column among {', '.join(columns)}, got {column!r} ({path}).\n  Use one of these."
            )
    join = (
        next((f for wanted, f in (joins or {}).items() if set(wanted) <= set(columns)), None) if key is None else None
    )
    found = key or (KEYS[0] if join else next((k for k in KEYS if k in columns), None))
    if found is None:
        raise TableError(
            f"expected a column {' or '.join(KEYS)} in {path}, got {', '.join(columns)}.\n  Pass key=, or rename one."
        )
    at, rows = columns.index(metric), []
    wanted = [(columns.index(c), v) for c, v in (where or {}).items()]
    for number, line in cells:
        if len(line) != len(columns):
            raise TableError(f"{path}:{number}: expected {len(columns)} cells, got {len(line)}.\n  Mend the row.")
        if not line[at] or any(line[i] != v for i, v in wanted):
            continue
        try:
            value = float(line[at])
        except ValueError as err:
            raise TableError(
                f"{path}:{number}: expected a number in {metric!r}, got {line[at]!r}.\n  Mend the cell."
            ) from err
        if math.isfinite(value):
            row = dict(zip(columns, line, strict=True))
            rows.append(row if join is None else row | {found: join(row)})
    return Table(tuple(rows), metric, found, path.name, parse, larger_is_better)


def _from_csv(text: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    reader = csv.reader(io.StringIO(text))
    return next(reader, []), ((reader.line_num, line) for line in reader if line)


def _from_json(text: str, path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
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
