"""What a hostile input is: how its file is made, what reads it, and what must come of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Hostile:
    """One input that must end in a right value or in an error of ours that says what is wrong."""

    make: Callable[[Path], Any]
    """Writes the files into an empty folder; what it returns is handed to `read`."""
    read: Callable[[Any], object]
    """Reads what was made, as a user does."""
    refused: str = ""
    """Part of the error's text, as a regular expression; empty where the input is to be read."""
    value: object = None
    """What reading gives, where it is not refused."""


def text(name: str, content: str | bytes) -> Callable[[Path], Path]:
    """A file with this content; text is UTF-8."""

    def make(folder: Path) -> Path:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        return file

    return make


class Loaded:
    """Told that it was unpickled: a pickle in which it stands may have run anything."""

    was: bool = False

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return unpickled, ()


def unpickled() -> None:
    """What a hostile pickle calls."""
    Loaded.was = True
