"""Storages of studies: in memory, a journal file, SQLite, or a server such as PostgreSQL for many machines."""

from __future__ import annotations

import errno
import functools
import inspect
import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import get_lock_file
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from nasplat.errors import NasplatError, SearchError, StorageError
from nasplat.tables.appending import append, fcntl, whole_lines

PATIENCE = 120.0
"""Seconds that a database may be away, for a restart, before a worker gives up."""
OPENINGS = 40
"""Attempts to open a storage whose tables another worker is creating, or whose server restarts."""
NO_FAULT = (StorageInternalError, SQLAlchemyError, StorageError, UpdateFinishedTrialError)
"""Errors that are no fault of the network that is evaluated: of the storage, or of a trial that was told already."""
OPERATIONS = range(10)
"""Codes of the records of an Optuna journal."""
PAUSE = 0.2
"""Seconds between attempts at first; they double up to five."""


def open_storage(storage: Any) -> Any:
    """Open an Optuna storage: a database by its URL, or a journal file.

    Args:
        storage: None (in memory), a URL such as 'sqlite:///run.db' or 'postgresql://user@host/name', a path ending in
            .journal, or a storage that is open already.

    Returns:
        A storage that waits for a database that is away and whose locks die with their process; None for None.

    Raises:
        SearchError: the database cannot be reached, or its driver is missing.

    Example:
        >>> import optuna, tempfile
        >>> storage = open_storage(tempfile.mkdtemp() + "/run.journal")
        >>> optuna.create_study(storage=storage).study_name.startswith("no-name")
        True
    """
    if not isinstance(storage, str):
        return storage
    if storage.endswith(".journal"):
        return _opened_journal(storage.removeprefix("journal:"))
    scheme, colon, rest = storage.partition("://")
    if scheme in {"postgres", "postgresql"}:
        storage = f"postgresql+psycopg{colon}{rest}"  # whichever driver SQLAlchemy would prefer
    try:
        for _ in range(OPENINGS):
            try:
                return _patient()(storage, engine_kwargs={"pool_pre_ping": True})
            except (IntegrityError, OperationalError, ProgrammingError, StorageInternalError):
                time.sleep(
                    PAUSE
                )  # workers that start at once create the tables at once, and one succeeds; or it restarts
        return _patient()(storage, engine_kwargs={"pool_pre_ping": True})
    except ImportError as err:
        raise SearchError(
            f"storage {scheme!r} needs a driver that is not installed ({err}).\n"
            "  For PostgreSQL: pip install 'nasplat[postgres]'."
        ) from err
    except (ArgumentError, DBAPIError, StorageInternalError, ValueError) as err:
        first = str(err).splitlines()[0]
        raise SearchError(
            f"storage {_hidden(storage)!r} cannot be opened: {first}\n  Check the URL and the server."
        ) from err


def _hidden(url: str) -> str:
    """A URL without its password."""
    head, at, tail = url.rpartition("@")
    return f"{head.rpartition(':')[0] if head.count(':') > 1 else head}{at}{tail}"


@functools.cache
def _patient() -> type[Any]:
    """Optuna's database storage whose calls wait for a database that comes back."""

    def waits(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def patient(*args: Any, **kwargs: Any) -> Any:
            until, pause = time.monotonic() + PATIENCE, PAUSE
            while True:
                try:
                    return call(*args, **kwargs)
                except (SQLAlchemyError, StorageInternalError) as err:
                    if time.monotonic() > until or not _is_passing(err):
                        raise
                time.sleep(pause)
                pause = min(5.0, 2 * pause)

        return patient

    # the cache that Optuna puts before the database calls some methods that are not public: all that open a session
    # of their own
    methods = {
        name: waits(method)
        for name, method in vars(RDBStorage).items()
        if inspect.isfunction(method)
        and not name.startswith(("__", "_build"))
        and "session" not in inspect.signature(method).parameters
    }
    return type("PatientStorage", (RDBStorage,), methods)


def _is_passing(error: BaseException) -> bool:
    """Whether an error may pass, such as a lost connection or a locked file, but not a full disk."""
    seen: BaseException | None = error
    while seen is not None:
        if _is_full(seen) or isinstance(seen, DataError | IntegrityError | ProgrammingError):
            return False
        seen = seen.__cause__ or seen.__context__
    return True


def _is_full(error: BaseException) -> bool:
    """Whether an error means that the disk is full."""
    words = str(error).lower()
    full = "no space left" in words or "disk is full" in words or "disk full" in words
    return full or (isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def clean_stop() -> Iterator[None]:
    """Turn what a storage raises when it cannot write into one sentence.

    Yields:
        Nothing; the search runs inside the block.

    Raises:
        SearchError: the disk is full, or the database stayed away.
        StorageError: the journal may not be written.
    """
    try:
        yield
    except BrokenPipeError:  # whoever read what is printed has gone
        raise
    except (OSError, SQLAlchemyError, StorageInternalError) as err:
        chain: BaseException | None = err
        while chain is not None:
            if _is_full(chain):
                raise SearchError(
                    f"the storage is full, nothing more can be recorded: {str(err).splitlines()[0]}\n"
                    "  Free some space and run the same command again; finished trials are kept."
                ) from err
            chain = chain.__cause__ or chain.__context__
        if isinstance(err, NasplatError):
            raise
        if isinstance(err, OSError) and not isinstance(err, ConnectionError):
            raise SearchError(
                f"the search cannot go on: {err}.\n"
                "  Mend that, and run the same command again; finished trials are kept."
            ) from err
        raise SearchError(
            f"the study's storage stayed away for {PATIENCE:.0f} s ({str(err).splitlines()[0]}).\n"
            "  Start it and run the same command again; finished trials are kept."
        ) from err


def _opened_journal(path: str) -> JournalStorage:
    """Open a journal; one that is there is read, so that what is wrong with it is known now."""
    journal = None
    try:
        journal = _Journal(path)
        return JournalStorage(journal)
    except SearchError:
        raise
    except OSError as err:
        raise SearchError(
            f"storage {path!r} cannot be opened: {err.strerror or err}.\n"
            "  Check the path, and whether it may be written."
        ) from err
    except Exception as err:  # Optuna reads every record as its own: any field may be missing or of another type
        number = "?" if journal is None else journal.read
        raise SearchError(
            f"line {number} of the journal {path!r} is no record of a study ({type(err).__name__}: {err}).\n"
            "  Restore the file, or choose another --out."
        ) from err


class _Journal(JournalFileBackend):
    """Optuna's journal, whose torn last line is cut off under the lock, and whose broken lines are named.

    Optuna's own appends behind a line that a full disk or a kill cut short; no one can read the journal from then on.
    Its lock, a link, also waits 30 seconds after a SIGKILL.
    """

    read = 0
    """Number of the line that was read last, from 1."""

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Read records; a last line without a line feed is still being written, or torn, and is passed by."""
        number = max(n for n in self._log_number_offset if n <= log_number_from)
        place = self._log_number_offset[number]
        with open(self._file_path, "rb") as file:
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                record = _record(line)
                if record is None and (line := self._again(place)) and (record := _record(line)) is None:
                    raise SearchError(
                        f"line {number + 1} of the journal {self._file_path!r} was altered or cut short: "
                        f"{line[:60]!r}.\n  Restore the file; or remove the line, and what it records is missing."
                    )
                if record is None:
                    return
                number, place = number + 1, place + len(line)
                self._log_number_offset[number] = place
                self.read = number
                if number > log_number_from:
                    yield record

    def _again(self, place: int) -> bytes:
        """Read a line once more: another process may have cut a torn line off and written it while it was read."""
        time.sleep(PAUSE)
        with open(self._file_path, "rb") as file:
            file.seek(place)
            line = file.readline()
        return line if line.endswith(b"\n") else b""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add records behind the last whole line, all of them or none."""
        data = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with nullcontext() if fcntl is not None else get_lock_file(self._lock):
            append(Path(self._file_path), lambda _: data, whole_lines)


def _record(line: bytes) -> dict[str, Any] | None:
    """The record of a line of a journal; None where it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_record = isinstance(found, dict) and found.get("op_code") in OPERATIONS and "worker_id" in found
    return found if is_record else None


def is_waiting(study: optuna.Study) -> bool:
    """Tell whether a trial was enqueued that nobody has taken.

    Args:
        study: Study that several workers may share.

    Returns:
        True while such a trial waits.
    """
    return bool(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)))
