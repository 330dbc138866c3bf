"""Values become what is printed: tables, JSON, lines and progress bars."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import TYPE_CHECKING, Any

import click

from nasplat.tables.listing import Listing

if TYPE_CHECKING:
    from nasplat.runs.forecast import Forecast
    from nasplat.runs.messages import Messages
    from nasplat.tables.table import Table

STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that steer a terminal, or that it cannot show."""
WIDTH = 140
"""Columns of a table that is not written to a terminal."""


def say(text: str, err: bool = False) -> None:
    """Print text: what steers a terminal, such as an escape sequence in the name of a file, is shown and not obeyed.

    Args:
        text: Lines to print.
        err: Whether they go to standard error.
    """
    click.echo(plain(text), err=err)


def plain(text: str) -> str:
    r"""Write out the characters that steer a terminal.

    Args:
        text: Any text; line feeds and tabs stay.

    Returns:
        The text with control characters, and those that turn the direction of writing, as escapes.

    Example:
        >>> plain("\x1b[31mred\x07")
        '\\x1b[31mred\\x07'
    """
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def answer(data: Any, as_json: bool, listing: Callable[[], Listing | str]) -> None:
    """Print the answer of a verb.

    Args:
        data: Plain data, printed where JSON was asked for.
        as_json: Whether it was.
        listing: Called otherwise; makes the table, or a line of text.
    """
    if as_json:
        print_data(data)
        return
    shown = listing()
    if isinstance(shown, str):
        say(shown)
    else:
        table(shown)


def print_data(data: Any) -> None:
    """Print plain data as JSON, in which a number that is not finite is null: JSON has no word for it.

    Args:
        data: Numbers, texts, lists and mappings; everything else becomes text.
    """
    click.echo(json.dumps(_finite(data), indent=1, default=_number_or_text, allow_nan=False))


def _finite(data: Any) -> Any:
    """The same data with None for every number that is not finite."""
    if isinstance(data, float):
        return data if isfinite(data) else None
    if isinstance(data, Mapping):
        return {k: _finite(v) for k, v in data.items()}
    return [_finite(v) for v in data] if isinstance(data, list | tuple) else data


def _number_or_text(value: Any) -> Any:
    """The plain number that numpy or torch hold, or the text of anything else."""
    single = getattr(value, "item", None)
    return _finite(single()) if callable(single) and getattr(value, "shape", None) == () else str(value)


def table(listing: Listing) -> None:
    """Print a table: text stands left, numbers right.

    Args:
        listing: Description of the table.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=Text(plain(listing.title)) if listing.title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for column, is_number in zip(listing.columns, listing.is_number, strict=True):
        made.add_column(Text(plain(column)), overflow="fold", justify="right" if is_number else "left")
    for row in listing.rows:
        made.add_row(*(Text(plain(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(made)


@contextmanager
def progress(what: str, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """Show a bar with the time that is left.

    Args:
        what: Words before the bar.
        quiet: Whether nothing is shown.

    Yields:
        A function that is called with (done, total, note).
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, quiet=quiet)
    columns = (
        *(TextColumn("{task.description}", markup=False), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn()),
        *(TextColumn("ETA"), TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False)),
    )
    with Progress(*columns, console=console, transient=False) as bar:
        task = bar.add_task(what, total=None, note="")

        def update(done: int, total: int | None, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=plain(note))

        yield update


def left_out(table: Table) -> None:
    """Tell on standard error how many rows of a table have no label, where there are such.

    Args:
        table: Table that was loaded.
    """
    if table.left_out:
        rows = len(table) + table.left_out
        click.echo(f"{table.source}: {table.left_out:,} of {rows:,} rows have no finite {table.metric!r}", err=True)


def messages(quiet: bool) -> Messages:
    """Make what a long run tells go to the terminal.

    Args:
        quiet: Whether only warnings are told, as with --json.

    Returns:
        Lines and tables on standard output, warnings and bars on standard error.
    """
    from nasplat.runs.messages import Messages

    def warn(text: str) -> None:
        say(text, err=True)

    if quiet:
        return Messages(warn=warn)
    return Messages(say, table, warn, progress)


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it.

    Args:
        seconds: Duration in seconds.

    Returns:
        Text such as '12 s', '10 min' or '2.5 h'.

    Example:
        >>> duration(12.3), duration(600), duration(9000)
        ('12 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def forecast(found: Forecast, as_json: bool) -> None:
    """Print what a run will take.

    Args:
        found: Forecast of a training or a search.
        as_json: Whether JSON was asked for.
    """

    def listing() -> Listing:
        cells = []
        for p in found.parts:
            each = f"{p.each:.3g} ± {p.error:.1g}" if p.measured else ""
            cells.append([p.name, str(p.count), each, str(p.measured), duration(p.seconds)])
        return Listing(["part", "left to do", "seconds each", "timed", "together"], cells)

    answer(found.to_dict(), as_json, listing)
    if not as_json:
        low, high = found.interval
        memory = "unknown" if found.peak_bytes is None else f"about {found.peak_bytes / 2**30:.2f} GiB"
        shared = f", shared by {found.workers} processes" if found.workers > 1 else ""
        say(
            f"about {duration(found.seconds)} ({duration(low)} to {duration(high)}){shared}; peak "
            f"memory of a process {memory} on {found.device}\nWithout export and report. Nothing was written."
        )
