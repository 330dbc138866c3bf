"""One description of a printed table for Markdown, a page and the terminal: text stands left, numbers right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from nasplat.errors import TableError


@dataclass(frozen=True)
class Listing:
    """Columns and rows of text, ready to be shown; whoever makes it has formatted the numbers.

    Example:
        >>> print(Listing(["network", "params"], [["small", "1,200"]]).markdown(), end="")
        | network | params |
        | --- | ---: |
        | small | 1,200 |
    """

    columns: Sequence[str]
    """Heading of every column, with its unit."""
    rows: Sequence[Sequence[str]]
    """Cells of every row, as many as there are columns."""
    title: str = ""
    """Line above the table; empty for none."""

    def __post_init__(self) -> None:
        """Check that every row has a cell for every column."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise TableError(
                    f"expected {len(self.columns)} cells ({', '.join(self.columns)}), got {len(row)}: {row}.\n"
                    "  Give every row a cell for every column; an empty one is ''."
                )

    @property
    def is_number(self) -> list[bool]:
        """Whether all cells of a column that say something begin with a number, for every column."""
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.columns)
        return [any(c.strip(_NOTHING) for c in cells) and all(map(_is_number, cells)) for cells in columns]

    def told(self) -> Listing:
        """Leave out the columns in which every cell is empty.

        Returns:
            The same table with the columns that say something.
        """
        kept = [i for i in range(len(self.columns)) if any(row[i] for row in self.rows)]
        return Listing([self.columns[i] for i in kept], [[row[i] for i in kept] for row in self.rows], self.title)

    def markdown(self) -> str:
        """Write the table in Markdown.

        Returns:
            Text that ends with a line feed; the title stands above the table as a paragraph. Bars, line ends, HTML and
            links in cells are escaped.
        """
        ends = ["---:" if number else "---" for number in self.is_number]
        columns, *rows = ([_escaped(c) for c in row] for row in (self.columns, *self.rows))
        lines = [columns, ends, *rows]
        text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
        return f"{self.title}\n\n{text}" if self.title else text

    def html(self) -> str:
        """Write the table as HTML.

        Returns:
            One `table` element without styles; cells are escaped, those of numbers have the class `number`, and the
            title is the caption.
        """
        sides = [' class="number"' if number else "" for number in self.is_number]
        head = "".join(f"<th{s}>{escape(c)}</th>" for s, c in zip(sides, self.columns, strict=True))
        body = "".join(
            "<tr>" + "".join(f"<td{s}>{escape(c)}</td>" for s, c in zip(sides, row, strict=True)) + "</tr>"
            for row in self.rows
        )
        caption = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _escaped(cell: str) -> str:
    """A cell as text in Markdown, which else reads HTML and links in it."""
    text = " ".join(cell.splitlines()).replace("\\", "\\\\").replace("|", "\\|").replace("](", "]\\(")
    return re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", text)


_NOTHING = " -–"
"""Characters of cells that say nothing."""


def _is_number(cell: str) -> bool:
    """Whether a cell begins with a number, or says nothing."""
    text = cell.strip(_NOTHING).lstrip("≥≤<>=[+−- ")
    return not text or text[0].isdigit()
