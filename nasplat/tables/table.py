"""`Table`: labelled rows. An architecture or graph key, metrics with unit, and where they come from.

On disk a table is `.csv` or `.csv.gz`; `reading.py` reads it, and JSON too.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nasplat.errors import TableError
from nasplat.tables.listing import Listing
from nasplat.tables.metrics import kendall_tau, sign
from nasplat.tables.rows import line, write_atomically
from nasplat.tables.splits import by_shares, together
from nasplat.tables.spreadsheets import plain_number

SHOWN_ROWS, SHOWN_COLUMNS, SHOWN_CHARACTERS = 5, 8, 48
"""How much of a table is printed: rows, columns, and characters of a cell."""


@dataclass(frozen=True)
class Table:
    """Labelled architectures: one row for each training or measurement, one column for each metric.

    Example:
        >>> rows = ({"arch": "a", "accuracy": "93.2"}, {"arch": "b", "accuracy": "91.0"})
        >>> table = Table(rows, "accuracy", "arch", "mine.csv")
        >>> table.labels
        [93.2, 91.0]
        >>> print(table)
        Table(2 rows, accuracy, mine.csv)
        <BLANKLINE>
        | arch | accuracy |
        | --- | ---: |
        | a | 93.2 |
        | b | 91.0 |
    """

    rows: tuple[dict[str, str], ...]
    """Cells as text, by column."""
    metric: str
    """Column of the label, with its unit."""
    key: str
    """Column of the architecture."""
    source: str = ""
    """File or study the rows come from."""
    parse: Callable[[str], Any] | None = None
    """Function that reads an architecture from its cell; None where no space is known."""
    larger_is_better: bool = True
    """Whether larger labels are the better ones."""
    left_out: int = 0
    """Number of rows of the source that are not here, since their label is missing or not finite."""

    @property
    def sign(self) -> float:
        """Factor, 1.0 or -1.0, that turns a label into one that is better when larger."""
        return sign(self.larger_is_better)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rows)

    def __repr__(self) -> str:
        """Name the number of rows, the label and the source, in one line, and how many rows have no label."""
        more = f", {self.left_out} more without a finite label" if self.left_out else ""
        return f"Table({len(self)} rows, {self.metric}, {self.source}{more})"

    def __str__(self) -> str:
        """Print the first rows below the one line of `repr`."""
        return self._beginning().markdown().rstrip("\n")

    def _repr_html_(self) -> str:
        """Show the first rows in a notebook."""
        return self._beginning().html()

    def _beginning(self) -> Listing:
        """The first rows and columns, architecture and label before others; long cells are cut."""
        every = [self.key, self.metric, *(c for row in self.rows[:SHOWN_ROWS] for c in row)]
        columns = list(dict.fromkeys(every))[:SHOWN_COLUMNS]
        shown = [[_short(row.get(c, "")) for c in columns] for row in self.rows[:SHOWN_ROWS]]
        left_out = (len(self) - len(shown), len(set(every)) - len(columns))
        notes = [f"{n} more {what}" for n, what in zip(left_out, ("rows", "columns"), strict=True) if n > 0]
        return Listing(columns, shown, "; ".join([repr(self), *notes]))

    @cached_property
    def labels(self) -> list[float]:
        """The metric of each row, in the unit of its column; nan where a training failed.

        Raises:
            TableError: a cell is neither a number nor empty.
        """
        return self.column(self.metric)

    @cached_property
    def architectures(self) -> list[Any]:
        """The architecture of each row, as `parse` reads it.

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
        """SHA-256 of keys and labels, whatever the order of rows."""
        cells = sorted((row[self.key], row[self.metric]) for row in self.rows)
        return hashlib.sha256(json.dumps(cells).encode()).hexdigest()

    @cached_property
    def keys(self) -> list[str]:
        """Text that tells networks apart: the `key` cell, else what the space says, else the architecture's cell."""
        if all(row.get("key") for row in self.rows):
            return [row["key"] for row in self.rows]
        if self.parse is not None:
            return [a.network_key for a in self.architectures]
        return [row[self.key] for row in self.rows]

    def column(self, name: str) -> list[float]:
        """Read the numbers of a column.

        Args:
            name: Name of the column.

        Returns:
            The number in each row; nan where there is none.

        Raises:
            TableError: a row lacks the column, or its cell is neither a number nor empty.

        Example:
            >>> Table(({"arch": "a", "ms": "2.5"}, {"arch": "b", "ms": "n/a"}), "ms", "arch").column("ms")
            [2.5, nan]
        """
        found = []
        for i, row in enumerate(self.rows):
            value = plain_number(row.get(name, "?"))
            if value is None:
                raise TableError(
                    f"expected a number in {name!r} of row {i} of {self!r}, got {row.get(name)!r}.\n  Mend the cell."
                )
            found.append(value)
        return found

    def labelled(self) -> Table:
        """Keep the rows whose label is a finite number; `left_out` counts the others.

        Returns:
            A table of at least one row.

        Raises:
            TableError: no label is finite.

        Example:
            >>> rows = ({"arch": "a", "loss": "1"}, {"arch": "b", "loss": "nan"}, {"arch": "c", "loss": ""})
            >>> Table(rows, "loss", "arch", "mine.csv").labelled()
            Table(1 rows, loss, mine.csv, 2 more without a finite label)
        """
        numbers = [i for i, value in enumerate(self.labels) if math.isfinite(value)]
        if not numbers:
            raise TableError(
                f"expected finite labels in {self.metric!r}, got none in {len(self) + self.left_out} rows of "
                f"{self.source or 'the table'}.\n  Name another column, or label some networks."
            )
        return (
            self
            if len(numbers) == len(self)
            else replace(self.take(numbers), left_out=self.left_out + len(self) - len(numbers))
        )

    def duplicates(self) -> list[list[int]]:
        """Find networks with several rows; isomorphic encodings are equal (see `keys`).

        Returns:
            Row numbers of each such network, ascending.

        Example:
            >>> rows = ({"arch": "a", "loss": "1"}, {"arch": "b", "loss": "2"}, {"arch": "a", "loss": "3"})
            >>> Table(rows, "loss", "arch").duplicates()
            [[0, 2]]
        """
        return [numbers for numbers in self._networks() if len(numbers) > 1]

    def averaged(self) -> Table:
        """Merge the rows of each network, such as those of several seeds or of isomorphic encodings.

        Returns:
            A table with the first row of each network, whose label is the mean of all that are finite.

        Example:
            >>> rows = ({"arch": "a", "loss": "1"}, {"arch": "b", "loss": "2"}, {"arch": "a", "loss": "4"})
            >>> Table(rows, "loss", "arch").averaged().labels
            [2.5, 2.0]
        """
        rows = []
        for numbers in self._networks():
            known = [self.labels[i] for i in numbers if math.isfinite(self.labels[i])]
            mean = sum(known) / len(known) if known else math.nan
            rows.append(self.rows[numbers[0]] | {self.metric: f"{mean:.6g}"})
        return replace(self, rows=tuple(rows))

    def _networks(self) -> list[list[int]]:
        """Row numbers of each network, in the order in which they are met."""
        found: dict[str, list[int]] = {}
        for number, key in enumerate(self.keys):
            found.setdefault(key, []).append(number)
        return list(found.values())

    def ceiling(self, column: str = "seed") -> tuple[float, int]:
        """Measure how well labels of the same networks agree: no predictor can be expected to rank better.

        Args:
            column: Column of numbers that tells the trainings of one network apart.

        Returns:
            Rank agreement (tau-b) of the first and the second training, and the number of networks that have both.

        Raises:
            TableError: a labelled row has no number in the column.
        """
        found: dict[str, dict[float, float]] = {}
        for i, (key, row, value) in enumerate(zip(self.keys, self.rows, self.labels, strict=True)):
            if math.isfinite(value):
                number = plain_number(row.get(column, ""))
                if number is None or math.isnan(number):
                    raise TableError(
                        f"expected a number in {column!r} of row {i} of {self!r}, got {row.get(column)!r}.\n"
                        "  Name the column that tells the trainings of one network apart."
                    )
                found.setdefault(key, {}).setdefault(number, value)
        pairs = [[v for _, v in sorted(values.items())[:2]] for values in found.values() if len(values) > 1]
        if len(pairs) < 2:
            return math.nan, len(pairs)
        return kendall_tau([a for a, _ in pairs], [b for _, b in pairs]), len(pairs)

    def take(self, numbers: Sequence[int]) -> Table:
        """Select rows.

        Args:
            numbers: Row numbers, from 0, in the order wanted.

        Returns:
            The table of these rows.
        """
        return replace(self, rows=tuple(self.rows[i] for i in numbers))

    def split(
        self,
        seed: int = 0,
        shares: tuple[float, float] = (0.8, 0.1),
        group: Callable[[dict[str, str]], str] | None = None,
    ) -> tuple[Table, Table, Table]:
        """Divide the table at random, so that no network is in two parts.

        Args:
            seed: Seed of the division; equal seeds give equal parts.
            shares: Share of the networks in the train and in the decide table; the test table gets the rest.
            group: Function of a row whose equal answers keep rows together; None keeps together the rows of one
                network, by the space's `network_key` where a space is known and by the `key` cell where there is one.

        Returns:
            Disjoint train, decide and test tables.

        Example:
            >>> table = Table(tuple({"arch": str(i), "loss": "0"} for i in range(10)), "loss", "arch")
            >>> [len(part) for part in table.split(seed=0)]
            [8, 1, 1]
        """
        if group is not None:
            names = [group(row) for row in self.rows]
        elif self.parse is not None:
            names = together([a.network_key for a in self.architectures], self.keys)
        else:
            names = together([row[self.key] for row in self.rows], self.keys)
        train, decide, test = (self.take(rows) for rows in by_shares(names, seed, shares))
        return train, decide, test

    def join(self, other: Table, on: str | None = None) -> Table:
        """Put the columns of another table beside these, row by row of equal keys.

        Args:
            other: Table of the same networks; its columns win where both have one of a name.
            on: Column that both have; None for this table's key.

        Returns:
            This table with the columns of both.

        Raises:
            TableError: a key is in one table only, or twice in one; the message counts and names them.
        """
        column = on or self.key
        left, right = (_by_cell(table, column) for table in (self, other))
        unequal = [k for k in left if k not in right] + [k for k in right if k not in left]
        if unequal:
            raise TableError(
                f"expected equal sets of {column!r}, got {sum(k in left for k in unequal)} only in {self!r} and "
                f"{sum(k in right for k in unequal)} only in {other!r}, such as {unequal[0]!r}.\n"
                "  Take the common rows first."
            )
        return replace(self, rows=tuple(row | right[row[column]] for row in self.rows))

    def save(self, path: str | Path) -> None:
        """Write the table as CSV; whoever reads the file meanwhile sees the old one or the new one.

        Args:
            path: File ending in .csv, or in .csv.gz to compress it; a compressed file holds no time stamp, so that
                equal tables give equal files.
        """
        columns = list(dict.fromkeys(c for row in self.rows for c in row))
        text = "".join([line(columns), *(line(row.get(c, "") for c in columns) for row in self.rows)])
        data = text.encode()
        write_atomically(path, gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)


def _by_cell(table: Table, column: str) -> dict[str, dict[str, str]]:
    """Rows by their cell in a column.

    Raises:
        TableError: a row lacks the column, or two rows have equal cells.
    """
    if any(column not in row for row in table.rows):
        raise TableError(f"expected a column {column!r} in {table!r}.\n  Join on a column both have.")
    found = {row[column]: row for row in table.rows}
    if len(found) != len(table):
        twice = next(k for k, n in Counter(row[column] for row in table.rows).items() if n > 1)
        raise TableError(f"{table!r} holds {column} {twice!r} twice.\n  Average or drop duplicates before a join.")
    return found


def _short(cell: str) -> str:
    """A cell in one line, cut where it is long."""
    text = " ".join(cell.split())
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
