"""How a long run tells what it is doing: lines, tables, warnings and progress bars, which go where the caller wants."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from nasplat.errors import SupernetWarning
from nasplat.tables.listing import Listing

Update = Callable[..., None]
"""Called with (done, total, note) as work goes on; total is None where it is not known before."""


def _nothing(_: Any) -> None:
    """Say nothing."""


@contextmanager
def _silent(_: str) -> Iterator[Update]:
    """Show no bar."""
    yield lambda *_: None


@dataclass(frozen=True)
class Messages:
    """Where lines, tables, warnings and progress go; everything is silent unless it is given."""

    say: Callable[[str], object] = _nothing
    """Called with a line about what was done."""
    show: Callable[[Listing], object] = _nothing
    """Called with a table."""
    warn: Callable[[str], object] = _nothing
    """Called with a warning, one line each."""
    progress: Callable[[str], AbstractContextManager[Update]] = _silent
    """Called with the title of a longer piece of work; gives a context manager of a function that is told how far it
    is."""

    @staticmethod
    def of(progress: Messages | Callable[[str], object] | None) -> Messages:
        """Make messages of a function that takes lines.

        Args:
            progress: Function called with a line of text, such as print; None for silence; messages stay as they are.

        Returns:
            Messages whose tables are Markdown, and whose bars are a line for each piece of work that was done.

        Example:
            >>> Messages.of(print).say("exported")
            exported
        """
        if progress is None or isinstance(progress, Messages):
            return progress or Messages()
        tell = progress

        @contextmanager
        def bar(title: str) -> Iterator[Update]:
            def update(done: int, total: int | None, note: str = "") -> None:
                tell(f"{title} {done}{'' if total is None else f' of {total}'}{f': {note}' if note else ''}")

            yield update

        return Messages(tell, lambda listing: tell(listing.markdown()), tell, bar)

    @contextmanager
    def epochs(self, title: str) -> Iterator[Callable[[Any, int], None]]:
        """Tell about the training of a supernet after each of its epochs.

        Args:
            title: Words before the progress bar, such as 'supernet'.

        Yields:
            A function for `Supernet.train(report=…)`; the training's own warnings become one line each.
        """
        with self.progress(title) as update, warnings.catch_warnings():
            warnings.simplefilter("ignore", SupernetWarning)  # said here, in full

            def report(epoch: Any, total: int) -> None:
                health = epoch.health
                mean = 0.0 if health is None else sum(health.random) / len(health.random)
                found = "" if health is None else f", largest {health.largest:.1f}, random {mean:.1f}"
                update(epoch.epoch, total, f"loss {epoch.loss:.3f}{found}, {epoch.images_per_second:,.0f} images/s")
                for text in epoch.warnings:
                    self.warn(f"warning, epoch {epoch.epoch}: {text}")

            yield report
