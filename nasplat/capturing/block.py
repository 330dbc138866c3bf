"""`@block`: parts of a network that are recorded once and reused wherever they recur.

Two blocks of one class, built from equal arguments and fed equal input shapes in the same mode, compute the same graph.
That holds only if the block reads nothing but its arguments, its own parameters and its inputs; a block whose arguments
cannot be hashed, or close over anything, is simply recorded each time.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=type[nn.Module])
SIGNATURE = "_block_signature"


def block(cls: M) -> M:
    """Class decorator for a part that recurs in a network.

    Args:
        cls: A module class whose forward depends on constructor arguments, own parameters and inputs alone.

    Returns:
        The same class.
    """
    init = cls.__init__

    @functools.wraps(init)
    def wrapped(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)  # type: ignore[arg-type]
        if type(self) is cls:
            self.__dict__[SIGNATURE] = _signature(cls, args, kwargs)

    cls.__init__ = wrapped  # type: ignore[misc]
    return cls


def _signature(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    try:
        signature = (cls, tuple(map(_freeze, args)), tuple((k, _freeze(v)) for k, v in sorted(kwargs.items())))
        hash(signature)
    except TypeError:
        return None
    return signature


def _freeze(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((k, _freeze(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_freeze, value))
    if isinstance(value, functools.partial):
        return (value.func, _freeze(value.args), _freeze(value.keywords))
    if isinstance(value, nn.Module | torch.Tensor) or getattr(value, "__closure__", None):
        raise TypeError("a module, a tensor or a closure has no signature")
    # True == 1 == 1.0: the type tells them apart
    return (type(value).__name__, value) if isinstance(value, bool | int | float) else value
