"""Whose worker is alive: trials of dead and stalled workers are told as failed, and their network is tried once more.

A worker of this host is dead when its process is gone. One of another host, or one that hangs, is known by its beat: a
counter in the study that it raises while it lives; who sees a beat stand still by its own clock, so that clocks of
hosts need not agree, counts the worker as stalled.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

BEAT = 10.0
"""Seconds between the beats of a worker."""
STALLED = 90.0
"""Seconds that a beat may stand still before its worker counts as stalled."""
NAMELESS = 5.0
"""Seconds that a trial may have no worker's name; a living worker writes it at once."""


_ALIVE: set[str] = set()
"""Names of this process's workers that run now."""
_NUMBERS = itertools.count()


class Heart:
    """A worker's sign of life: it has a name, host:process.number, and beats while the block runs."""

    def __init__(self, study: optuna.Study, every: float = BEAT) -> None:
        """Name the worker; it begins to beat when the block is entered.

        Args:
            study: Study whose user attributes hold the beats of all workers.
            every: Seconds between beats.
        """
        self.name = f"{socket.gethostname()}:{os.getpid()}.{next(_NUMBERS)}"
        self.study, self.every = study, every
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Heart:
        """Begin to beat, in a thread of its own."""
        _ALIVE.add(self.name)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop beating: the name counts as gone from now on."""
        _ALIVE.discard(self.name)
        self._ends.set()
        self._thread.join(self.every)

    def _beat(self) -> None:
        """Raise the counter in the study until the block ends."""
        count = 0
        while not self._ends.wait(self.every if count else 0.0):
            count += 1
            try:
                self.study.set_user_attr(f"beat {self.name}", count)
            except Exception:  # the storage is away: the search itself meets that too, and says so
                continue


class Watch:
    """What this worker has seen of the beats of others, by its own clock."""

    def __init__(self, stalled: float = STALLED) -> None:
        """Begin to look; nobody is stalled yet.

        Args:
            stalled: Seconds that a beat may stand still before its worker counts as stalled.
        """
        self.stalled = stalled
        self._seen: dict[str, tuple[int, float]] = {}
        self._nameless: dict[int, float] = {}

    def dead(self, study: optuna.Study, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Find running trials whose worker is gone or stalled.

        Args:
            study: Study that holds the beats.
            running: Trials that some worker is evaluating.

        Returns:
            Those that nobody evaluates any more.
        """
        beats: dict[str, int] | None = None
        found = []
        for trial in running:
            worker = str(trial.user_attrs.get("worker", ""))
            if worker in _ALIVE:
                continue
            if not worker:  # killed between the creation of its trial and its name
                first = self._nameless.setdefault(trial.number, time.monotonic())
                if time.monotonic() - first > NAMELESS:
                    found.append(trial)
                continue
            if is_gone(worker):
                found.append(trial)
                continue
            if beats is None:
                beats = {k.removeprefix("beat "): int(v) for k, v in study.user_attrs.items() if k.startswith("beat ")}
            count, now = beats.get(worker, 0), time.monotonic()
            known = self._seen.setdefault(worker, (count, now))
            if known[0] != count:
                self._seen[worker] = (count, now)
            elif now - known[1] > self.stalled:
                found.append(trial)
        return found

    def bury(self, study: optuna.Study, running: Sequence[FrozenTrial]) -> None:
        """Tell trials of dead workers as failed, and enqueue their networks again, the first time.

        Args:
            study: Study that holds the trials and the beats.
            running: Trials that some worker is evaluating.
        """
        for trial in self.dead(study, running):
            again = "retry_of" not in trial.user_attrs or "architecture" not in trial.user_attrs  # nothing was tried
            worker = trial.user_attrs.get("worker", "unnamed")
            about = {"died": worker} | (
                {} if again else {"reason": f"its worker died, as that of trial {trial.user_attrs['retry_of']}"}
            )
            try:
                for key, value in about.items():
                    study._storage.set_trial_user_attr(trial._trial_id, key, value)
                study.tell(trial.number, state=TrialState.FAIL)
            except (optuna.exceptions.UpdateFinishedTrialError, ValueError, RuntimeError):
                continue  # another worker was quicker
            if again and "architecture" in trial.user_attrs:
                study.enqueue_trial(dict(trial.params), user_attrs={"retry_of": trial.number})


def is_gone(worker: str) -> bool:
    """Tell whether a worker of this host has ended.

    Args:
        worker: Name of a worker, host:process.number.

    Returns:
        True where its process is gone or a zombie; False for workers of other hosts, of which nothing can be known.
    """
    host, _, process = worker.rpartition(":")
    pid, dot, _ = process.partition(".")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    if int(pid) == os.getpid():
        return bool(dot) and worker not in _ALIVE
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _is_zombie(int(pid))


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits for its parent to notice."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False
