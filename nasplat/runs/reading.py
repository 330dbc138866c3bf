"""Files of a run folder, read with care: what was altered or cut short is named, with its file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from nasplat.errors import NasplatError, SearchError
from nasplat.runs.run import AbstractRun
from nasplat.searchspace.registry import Told
from nasplat.study.storage import open_storage
from nasplat.workflows.export import Certificate


def certificate_in(file: Path) -> Certificate | None:
    """Read the certificate of an exported file.

    Args:
        file: Path of the certificate.

    Returns:
        Certificate; None where there is no file.

    Raises:
        SearchError: the file was altered or cut short.
    """
    row = read_json(file)
    if row is None:
        return None
    known = [f.name for f in fields(Certificate)]
    missing = [f.name for f in fields(Certificate) if f.name not in row and f.default is f.default_factory is MISSING]
    if missing or not isinstance(row["checks"], list):
        raise SearchError(
            f"expected a certificate in {str(file)!r}, got one without {', '.join(missing) or 'checks'}.\n"
            "  Restore the file, or remove it."
        )
    return Certificate(**{name: row[name] for name in known if name in row})


def check_journal(storage: str) -> None:
    """Check that a journal can be read; other storages pass, and so does a journal that is not there.

    Args:
        storage: Optuna storage, a URL or the path of a .journal file.

    Raises:
        SearchError: a line was altered or cut short; the message names file and line.
    """
    if storage.endswith(".journal") and Path(storage.removeprefix("journal:")).exists():
        open_storage(storage)


@contextmanager
def as_written(source: str | Path) -> Iterator[None]:
    """Read what a run wrote, which may have been altered since, or have been made by somebody else.

    Args:
        source: File, or storage of a study, that is read inside the block.

    Yields:
        Nothing.

    Raises:
        SearchError: something in it is missing, or is of another kind than a run writes.
    """
    try:
        yield
    except NasplatError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, StopIteration) as err:
        raise SearchError(
            f"expected {str(source)!r} as a run writes it, got something else ({type(err).__name__}: {err}).\n"
            "  Restore the file, or remove it."
        ) from err


def read_json(file: Path) -> dict[str, Any] | None:
    """Read a JSON file of a run folder.

    Args:
        file: Path of the file, which holds an object.

    Returns:
        Its values by name; None where there is no file.

    Raises:
        SearchError: the file was altered or cut short.
    """
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise SearchError(f"expected JSON in {str(file)!r}: {err}.\n  Restore the file, or remove it.") from err
    if not isinstance(found, dict):
        raise SearchError(
            f"expected an object in {str(file)!r}, got {type(found).__name__}.\n  Restore the file, or remove it."
        )
    return found


def as_told(run: AbstractRun) -> AbstractRun:
    """Mark the texts of a run as told by data, so that Python files among them are not loaded by their names.

    Args:
        run: Run that was read from a folder.

    Returns:
        Equal run.
    """
    told = {f.name: getattr(run, f.name) for f in fields(run)}
    return replace(run, **{k: Told(v) for k, v in told.items() if isinstance(v, str)})
