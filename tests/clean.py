"""Processes for tests that kill: fresh ones, without the seconds that importing torch takes.

They are forked from a server that has imported torch and run nothing: no thread of autograd is copied, and no lock
that one of them held.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

FRESH = get_context("forkserver")
FRESH.set_forkserver_preload(["nasplat.study.search", "nasplat.supernet", "nasplat.inputs", "nasplat.workflows.label"])


class Run:
    """A process that tells its progress through a pipe, and can be killed after a number of signs.

    Its target is called with an argument and `tell`, which it calls with each state that it reaches.
    """

    def __init__(self, target: Callable[..., None], *arguments: Any, hold: int | None = None) -> None:
        """Start it; at the state `hold` it waits to be killed, so that a kill never comes too late."""
        self.heard, said = FRESH.Pipe(duplex=False)
        self.process = FRESH.Process(target=_told, args=(target, arguments, said, hold), daemon=True)
        self.process.start()
        said.close()

    def kill(self, signs: int) -> None:
        """SIGKILL after so many signs of progress."""
        for _ in range(signs):
            self.heard.recv()
        self.process.kill()
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL

    def finish(self) -> list[Any]:
        """What it told until its end."""
        said = []
        while True:
            try:
                said.append(self.heard.recv())
            except EOFError:
                break
        self.process.join()
        assert self.process.exitcode == 0
        return said


def _told(target: Callable[..., None], arguments: tuple[Any, ...], said: Any, hold: int | None) -> None:
    def tell(state: int) -> None:
        said.send(state)
        if hold is not None and state >= hold:
            signal.pause()

    target(*arguments, tell)
