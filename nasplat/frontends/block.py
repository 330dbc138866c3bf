"""`@block` marks the parts of a network that are constructed and recorded once, and reused wherever they recur.

Two blocks of one class, built from equal arguments and fed equal input shapes in the same mode, compute the same graph.
That holds only if the block reads nothing but its arguments, its own parameters and its inputs; a block whose arguments
cannot be hashed, or close over anything, is simply recorded each time. Globals and helpers that the code of a class
refers to are part of it: where a notebook's cell defines one anew, its blocks are recorded anew.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any, TypeVar

import torch
from torch import nn

from nasplat.frontends.definition import state_of

M = TypeVar("M", bound=type[nn.Module])
SIGNATURE = "_block_signature"
"""Attribute of a block: its class and constructor arguments, hashable."""
SHELL = "_block_template"
"""Marks a block that shares its insides with the template it was made from; `fill` gives it its own."""

_TEMPLATES: dict[Any, nn.Module] = {}
"""A constructed block per signature, its parameters on meta."""
_KEPT = 3_000
"""Templates up to which the oldest stay."""
_here = threading.local()


@contextmanager
def templates() -> Iterator[None]:
    """Make shells of blocks whose signature was constructed before, while the context lasts.

    A shell takes the place of a block that would be constructed. This is meant for modules that are captured and thrown
    away, because the shells share parameters, which hold nothing.

    Yields:
        Nothing; blocks made after the context are constructed whole.
    """
    before = getattr(_here, "is_active", False)
    _here.is_active = True
    try:
        yield
    finally:
        _here.is_active = before


def block(cls: M) -> M:
    """Mark a module class as a part that recurs in a network, so that captures construct and record it once.

    Args:
        cls: A module class whose forward depends on constructor arguments, own parameters and inputs alone.

    Returns:
        The same class.

    Example:
        >>> @block
        ... class Unit(nn.Module):
        ...     def __init__(self, width: int) -> None:
        ...         super().__init__()
        ...         self.conv = nn.Conv2d(width, width, 3, padding=1)
        ...
        ...     def forward(self, x: torch.Tensor) -> torch.Tensor:
        ...         return x + self.conv(x).relu()
        >>> Unit(4)(torch.zeros(1, 4, 8, 8)).shape
        torch.Size([1, 4, 8, 8])
    """
    init = cls.__init__

    @functools.wraps(init)
    def wrapped(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        signature = _signature(cls, args, kwargs) if type(self) is cls else None
        reuses = signature is not None and getattr(_here, "is_active", False)
        template = _TEMPLATES.get(signature) if reuses else None
        if template is not None:
            self.__dict__.update(template.__dict__)
            self.__dict__[SHELL] = template
            return
        init(self, *args, **kwargs)  # type: ignore[arg-type]
        if type(self) is cls:
            self.__dict__[SIGNATURE] = signature
        if reuses:
            if len(_TEMPLATES) >= _KEPT:
                del _TEMPLATES[next(iter(_TEMPLATES))]
            _TEMPLATES[signature] = _copy(self, {})

    cls.__init__ = wrapped  # type: ignore[misc]
    return cls


def fill(part: nn.Module) -> None:
    """Give a shell, and the shells inside it, parameters of their own.

    Args:
        part: A block; one that is no shell keeps its own.
    """
    template = part.__dict__.pop(SHELL, None)
    if template is not None:
        own = _copy(template, {})
        part.__dict__["_parameters"], part.__dict__["_modules"] = own._parameters, own._modules
    for child in part._modules.values():
        if child is not None and SHELL in child.__dict__:
            fill(child)


def walk(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Go through the parts of a module, each once, in the order of their names' definition; shells stay unopened.

    Args:
        module: The network, or a part of it.

    Yields:
        (dotted name, part), the network itself first under the name ''.
    """
    seen: set[int] = set()
    stack = [("", module)]
    while stack:
        name, part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield name, part
        if SHELL not in part.__dict__:
            inner = [(f"{name}.{k}" if name else k, m) for k, m in part._modules.items() if m is not None]
            stack.extend(reversed(inner))


def _copy(part: nn.Module, memo: dict[int, nn.Parameter]) -> nn.Module:
    """The same structure with parameters of its own, on meta; buffers and plain attributes are shared."""
    new = object.__new__(type(part))
    new.__dict__.update(part.__dict__)
    if SHELL in part.__dict__:
        return new  # stays a shell
    fresh: dict[str, nn.Parameter | None] = {}
    for name, parameter in part._parameters.items():
        if parameter is not None and id(parameter) not in memo:
            memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        fresh[name] = None if parameter is None else memo[id(parameter)]
    new.__dict__["_parameters"] = fresh
    new.__dict__["_modules"] = {n: None if m is None else _copy(m, memo) for n, m in part._modules.items()}
    return new


def _signature(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """Class and arguments of a block, or None where an argument cannot be hashed."""
    try:
        signature = (
            cls,
            state_of(cls),
            tuple(map(_freeze, args)),
            tuple((k, _freeze(v)) for k, v in sorted(kwargs.items())),
        )
        hash(signature)
    except TypeError:
        return None
    return signature


def _freeze(value: Any) -> Any:
    """One constructor argument in a form that can be hashed."""
    if isinstance(value, dict):
        return tuple((k, _freeze(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_freeze, value))
    if isinstance(value, functools.partial):
        return (_freeze(value.func), _freeze(value.args), _freeze(value.keywords))
    if isinstance(value, nn.Module | torch.Tensor) or getattr(value, "__closure__", None):
        raise TypeError("a module, a tensor or a closure has no signature")
    if isinstance(value, type | FunctionType):
        return value, state_of(value)
    # True == 1 == 1.0: the type tells them apart
    return (type(value).__name__, value) if isinstance(value, bool | int | float) else value
