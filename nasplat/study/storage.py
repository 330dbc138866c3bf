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
    """An Optuna storage from a URL, a journal file, or a storage object.

    Args:
        storage: None (in memory), `sqlite:///run.db`, `postgresql://user@host/name`, or a path ending in .journal.

    Raises:
        SearchError: the database cannot be reached, or its driver is missing.
    """
    if not isinstance(storage, str):
        return storage
    if storage.endswith(".journal"):
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        path = storage.removeprefix("journal:")
        lock: Any = _FileLock(f"{path}.lock") if fcntl is not None else None
        return JournalStorage(JournalFileBackend(path, lock_obj=lock))
    from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError, ProgrammingError

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
    """Without a password."""
    head, at, tail = url.rpartition("@")
    return f"{head.rpartition(':')[0] if head.count(':') > 1 else head}{at}{tail}"


@functools.cache
def _patient() -> type[Any]:
    """Optuna's database storage whose calls wait for a database that comes back."""
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

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

    # the cache that Optuna puts before the database calls some methods that are not public: all that open a session of their own
    methods = {
        name: waits(method)
        for name, method in vars(RDBStorage).items()
        if inspect.isfunction(method)
        and not name.startswith(("__", "_build"))
        and "session" not in inspect.signature(method).parameters
    }
    return type("PatientStorage", (RDBStorage,), methods)


def _is_passing(error: BaseException) -> bool:
    """A lost connection, a locked file, a server that starts: not a full disk, not a wrong statement."""
    from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

    seen: BaseException | None = error
    while seen is not None:
        if _is_full(seen) or isinstance(seen, DataError | IntegrityError | ProgrammingError):
            return False
        seen = seen.__cause__ or seen.__context__
    return True


def _is_full(error: BaseException) -> bool:
    words = str(error).lower()
    full = "no space left" in words or "disk is full" in words or "disk full" in words
    return full or (isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT})


@contextmanager
def clean_stop() -> Iterator[None]:
    """What a storage raises when it cannot write becomes one sentence.

    Raises:
        SearchError: the disk is full, or the database stayed away.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OSError, SQLAlchemyError, StorageInternalError) as err:
        chain: BaseException | None = err
        while chain is not None:
            if _is_full(chain):
                raise SearchError(
                    "the study's storage is full: nothing more can be recorded.\n  Free some space and run the same command again; "
                    "finished trials are kept."
                ) from err
            chain = chain.__cause__ or chain.__context__
        if isinstance(err, OSError) and not isinstance(err, ConnectionError):
            raise
        raise SearchError(
            f"the study's storage stayed away for {PATIENCE:.0f} s ({str(err).splitlines()[0]}).\n  Start it and run the same command "
            "again; finished trials are kept."
        ) from err


class _FileLock:
    """A lock the operating system releases when its process dies; Optuna's own waits 30 seconds after a SIGKILL."""

    def __init__(self, path: str) -> None:
        self.path, self.file = path, -1

    def acquire(self) -> bool:
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(file, fcntl.LOCK_EX)  # type: ignore[union-attr]
        self.file = file  # only the holder writes: another thread may be waiting
        return True

    def release(self) -> None:
        os.close(self.file)


def is_waiting(study: optuna.Study) -> bool:
    """A trial was enqueued that nobody has taken."""
    return bool(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)))
