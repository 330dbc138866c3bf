"""Call a function when a build constructs its first module: to stop there, or to close the picks and go on.

Sampling, mutating, counting and walking stop there; they take microseconds because nothing is built.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

_here = threading.local()
_lock = threading.Lock()
_users = 0
_original = nn.Module.__init__


class Constructed(BaseException):
    """All choices are made: the first module is about to be built."""


@contextmanager
def watching(at_first: Callable[[], None]) -> Iterator[None]:
    """Call a function when this thread constructs its first module inside the block.

    Args:
        at_first: Function to call; what it raises ends the build.

    Yields:
        Nothing.
    """
    global _users
    previous = getattr(_here, "at_first", None)
    with _lock:  # the patch serves all threads; each has its own callback
        _users += 1
        if _users == 1:
            nn.Module.__init__ = _announced  # type: ignore[method-assign]
    _here.at_first = at_first
    try:
        yield
    finally:
        _here.at_first = previous
        with _lock:
            _users -= 1
            if _users == 0:
                nn.Module.__init__ = _original  # type: ignore[method-assign]


def _announced(self: nn.Module, *args: Any, **kwargs: Any) -> None:
    """Stand in for `nn.Module.__init__` and call the thread's function once."""
    callback = getattr(_here, "at_first", None)
    if callback is not None:
        _here.at_first = None
        callback()
    _original(self, *args, **kwargs)


_RANDOM = frozenset(
    {"uniform_", "normal_", "random_", "erfinv_", "bernoulli_", "exponential_", "cauchy_", "log_normal_"}
)


class NoInitialisers(TorchDispatchMode):
    """Skips the random initialisation of parameters, whose memory is reserved and never written; buffers are real."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Call this method as it is: torch would wrap it in a call to its compiler."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run every operation but the initialisers of parameters."""
        if args and isinstance(args[0], nn.Parameter) and func._overloadpacket.__name__ in _RANDOM:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def uninitialised() -> Iterator[None]:
    """Build modules whose parameters hold nothing yet; buffers are real, and torch's global generator stays as it was.

    (Truncated normals draw again as long as values lie outside: in memory that nobody has written, for an unknown
    number of times.)

    Yields:
        Nothing.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad(), NoInitialisers():
        yield
