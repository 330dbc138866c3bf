"""Several processes of one search on one machine: the same command, started again as workers on one storage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import optuna

from nasplat.errors import SearchError
from nasplat.study.ledger import Ledger
from nasplat.study.pool import ONE_THREAD

RESTARTS = 10
"""Number of dead workers that are replaced, all together, before the search gives up."""
LOOK = 0.5
"""Seconds between looks at the workers and their storage."""
PARENT = "NASPLAT_PARENT"
"""Variable in the environment of a worker: number of the process that started it."""


def share_out(
    command: Sequence[str],
    workers: int,
    study: optuna.Study,
    total: int | None,
    report: Callable[..., None] | None = None,
) -> None:
    """Run workers until they all have ended; dead ones are replaced a few times.

    Args:
        command: Words after `nasplat` that make one worker of the search.
        workers: Number of processes, of one thread each.
        study: Study on the storage that the workers share.
        total: Counted trials wanted; None where that is not known before.
        report: Function called now and then with the number of counted trials, the total, and words about the workers.

    Raises:
        SearchError: workers kept failing; the message ends with what the last one said.
    """
    environment = os.environ | ONE_THREAD | {PARENT: str(os.getpid())}
    words = [sys.executable, "-m", "nasplat", *command]

    said = tempfile.TemporaryFile()

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True)

    running, restarts, ledger = [start() for _ in range(workers)], 0, Ledger()
    try:
        while running:
            time.sleep(LOOK)
            ledger.update(study)
            if report is not None:
                report(ledger.done, total, f"{len(running)} workers, {restarts} restarted")
            for process in [p for p in running if p.poll() is not None]:
                running.remove(process)
                if process.returncode == 0 or (total is not None and ledger.done >= total):
                    continue
                if restarts >= RESTARTS:
                    said.seek(0)
                    text = said.read().decode(errors="replace").strip().splitlines()
                    raise SearchError(
                        f"workers ended {restarts + 1} times before the search did; the last one said: "
                        f"{text[-1] if text else 'nothing'}\n  Finished trials are kept; run one worker to see more."
                    )
                restarts += 1
                running.append(start())
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        said.close()


def end_with_parent() -> None:
    """End this worker once the process that started it is gone; for a process that nobody started, do nothing.

    Raises:
        KeyboardInterrupt: the coordinator is gone; the search stops as Ctrl-C would stop it.
    """
    parent = os.environ.get(PARENT)
    if parent is not None and os.getppid() != int(parent):
        raise KeyboardInterrupt
