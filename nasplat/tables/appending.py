"""Files that grow by whole records: a torn last one is cut off under a lock, and a write that fails leaves no part.

The file itself is locked, and the operating system releases the lock when its process dies. What a full disk or a kill
in the middle of a write left behind is cut off by the next writer, which says so; readers pass it by.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nasplat.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows: there is no lock that dies with its process
    fcntl = None

BLOCK = 1 << 16
"""Bytes that are read at once while looking for the last line end."""
LOG = logging.getLogger(__name__)


@contextmanager
def storing(path: str | Path) -> Iterator[None]:
    """Turn what the operating system says of a file that cannot be written into one sentence.

    Args:
        path: File that the block writes, for the message.

    Yields:
        Nothing; the file is written inside the block.

    Raises:
        StorageError: the disk is full, or the file may not be written.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as err:
        raise StorageError.of(str(path), err) from err


def append(path: Path, record: Callable[[int], bytes], whole: Callable[[int], int]) -> int:
    """Add a record to a file with one write under a lock, and flush it to the disk.

    Args:
        path: File, which is made where it is missing; its folder must exist.
        record: Called with the number of whole bytes that the file holds; gives the bytes to add.
        whole: Called with the descriptor of the locked file; gives the number of its bytes up to the end of the last
            whole record. What follows is cut off, and that is logged as a warning.

    Returns:
        Number of bytes that the file holds now.

    Raises:
        StorageError: the disk is full or the file may not be written; the file is as it was, without its torn end.
    """
    with storing(path):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            end = whole(file)
            _cut(path, file, end)
            rest = memoryview(record(end))
            after = end + len(rest)
            try:
                while rest:
                    rest = rest[os.write(file, rest) :]
                os.fsync(file)
            except BaseException:
                os.ftruncate(file, end)
                raise
            return after
        finally:
            os.close(file)  # and with it the lock


def whole_lines(file: int, begin: int = 0) -> int:
    """Find the end of the last line of a file that has a line feed.

    Args:
        file: Descriptor of the file.
        begin: Number of bytes that are known to end with a line feed.

    Returns:
        Number of bytes up to that line feed; `begin` where there is none behind it.
    """
    end = os.fstat(file).st_size
    while end > begin:
        start = max(begin, end - BLOCK)
        os.lseek(file, start, os.SEEK_SET)
        found = os.read(file, end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return begin


def _cut(path: Path, file: int, end: int) -> None:
    """Cut off what follows the whole records; several lines are kept in a file beside it."""
    torn = os.fstat(file).st_size - end
    if torn <= 0:
        return
    os.lseek(file, end, os.SEEK_SET)
    rest, kept = os.read(file, torn), ""
    if b"\n" in rest:  # perhaps not one record that was cut short, but several behind a damaged quote
        beside = path.with_name(f"{path.name}.torn")
        with beside.open("ab") as out:
            out.write(rest)
        kept = f" They are kept in {beside.name!r}."
    os.ftruncate(file, end)
    LOG.warning(
        "The last record of %r was cut short, by a full disk or the end of its process: its %d bytes are removed.%s",
        *(str(path), torn, kept),
    )
