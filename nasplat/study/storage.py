"""Storages of studies: in memory, a journal file, SQLite, or a server such as PostgreSQL for many machines."""

from __future__ import annotations

import errno
import functools
import inspect
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

try:
    import fcntl
except ImportError:  # Windows: Optuna's own lock stands in
    fcntl = None

from nasplat.errors import SearchError

PATIENCE = 120.0
"""Seconds that a database may be away, for a restart, before a worker gives up."""
OPENINGS = 40
"""Attempts to open a storage whose tables another worker is creating, or whose server restarts."""
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
        path = storage.removeprefix("journal:")
        lock: Any = _FileLock(f"{path}.lock") if fcntl is not None else None
        return JournalStorage(JournalFileBackend(path, lock_obj=lock))
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
    return full or (isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT})


@contextmanager
def clean_stop() -> Iterator[None]:
    """Turn what a storage raises when it cannot write into one sentence.

    Yields:
        Nothing; the search runs inside the block.

    Raises:
        SearchError: the disk is full, or the database stayed away.
    """
    try:
        yield
    except (OSError, SQLAlchemyError, StorageInternalError) as err:
        chain: BaseException | None = err
        while chain is not None:
            if _is_full(chain):
                raise SearchError(
                    "the study's storage is full: nothing more can be recorded.\n"
                    "  Free some space and run the same command again; finished trials are kept."
                ) from err
            chain = chain.__cause__ or chain.__context__
        if isinstance(err, OSError) and not isinstance(err, ConnectionError):
            raise
        raise SearchError(
            f"the study's storage stayed away for {PATIENCE:.0f} s ({str(err).splitlines()[0]}).\n"
            "  Start it and run the same command again; finished trials are kept."
        ) from err


class _FileLock:
    """A lock the operating system releases when its process dies; Optuna's own waits 30 seconds after a SIGKILL."""

    def __init__(self, path: str) -> None:
        self.path, self.file = path, -1

    def acquire(self) -> bool:
        """Wait until no other process holds the lock, and take it."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(file, fcntl.LOCK_EX)  # type: ignore[union-attr]
        self.file = file  # only the holder writes: another thread may be waiting
        return True

    def release(self) -> None:
        """Let others have the lock."""
        os.close(self.file)


def is_waiting(study: optuna.Study) -> bool:
    """Tell whether a trial was enqueued that nobody has taken.

    Args:
        study: Study that several workers may share.

    Returns:
        True while such a trial waits.
    """
    return bool(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)))
