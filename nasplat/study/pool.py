"""Processes of one thread each: torch processes that fight over cores are ten times slower than ones that do not.

This is the only place that sets the variables of thread libraries; they are read when a process starts.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.pool import Pool

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
"""Environment of a process that computes with one thread and does not spin while it waits."""


def cores() -> int:
    """Count the processor cores that this process may use.

    Returns:
        Number of cores, at least 1; a container or `taskset` may allow fewer than the machine has.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Let processes that are started inside the block have one thread each; this process keeps its own.

    Yields:
        Nothing; the environment is set back at the end of the block.

    Example:
        >>> with one_thread():
        ...     os.environ["OMP_NUM_THREADS"]
        '1'
    """
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def pool(workers: int, start: Callable[[], object] | None = None) -> Iterator[Pool]:
    """Fresh processes of one thread each, ended with the block.

    Args:
        workers: Number of processes.
        start: Called once in every process before its first job; a function of a module, since processes are spawned.

    Yields:
        A pool; Ctrl-C reaches the parent alone, which then ends the processes.
    """
    with one_thread(), get_context("spawn").Pool(workers, _begin, (start,)) as processes:
        yield processes


def _begin(start: Callable[[], object] | None) -> None:
    """Prepare a new process: Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if start is not None:
        start()
