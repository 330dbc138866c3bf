"""A time after which a forward pass is stopped: one that never ends would hold its caller for ever.

The exception is put into the running thread from outside, so that loops in plain Python end too; a single call into
compiled code ends first.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from nasplat.errors import CaptureError

VARIABLE = "NASPLAT_CAPTURE_SECONDS"
"""Environment variable that sets the limit where the caller names none."""

AGAIN = 0.5
"""Seconds between one attempt to stop a thread and the next."""


class TimeIsUp(BaseException):
    """The limit is reached; no BaseException that a network's code would catch on purpose."""


def seconds_allowed(seconds: float | None) -> float | None:
    """Find the limit of one capture.

    Args:
        seconds: Limit that the caller names, or None.

    Returns:
        That limit, else the one of the environment variable `NASPLAT_CAPTURE_SECONDS`, else None: no limit.

    Raises:
        CaptureError: a limit is no positive number.
    """
    given = os.environ.get(VARIABLE) if seconds is None else seconds
    if given is None or given == "":
        return None
    try:
        found = float(given)
    except (TypeError, ValueError):
        found = 0.0
    if not 0 < found < float("inf"):
        raise CaptureError(
            f"expected a positive number of seconds for a capture, got {given!r}.\n"
            f"  Pass seconds=60, set {VARIABLE}=60, or leave both out for no limit."
        )
    return found


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Stop what this thread runs inside the block after some time.

    Args:
        seconds: Largest wall-clock time; None for no limit.

    Yields:
        Nothing.

    Raises:
        TimeIsUp: the time is over.
    """
    if seconds is None:
        yield
        return
    running, lock, is_over = threading.get_ident(), threading.Lock(), threading.Event()

    def stop() -> None:
        pause = seconds
        while not is_over.wait(pause):  # again and again: a bare `except:` in a loop swallows the first
            with lock:
                if not is_over.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(running), ctypes.py_object(TimeIsUp))
            pause = AGAIN

    threading.Thread(target=stop, daemon=True, name="nasplat-time-limit").start()
    try:
        yield
    finally:
        with lock:
            is_over.set()
