"""Axes that pass through an operation, found by trying: taking a part of such an axis commutes with the operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

LARGEST = 2**20
"""Elements of the operands up to which an operation is tried."""
Source = tuple[int, int]
"""Number of an operand, and the number of one of its axes."""


@torch.no_grad()
def passed_axes(func: Any, args: Any, kwargs: Any, operands: list[Tensor], result: Tensor) -> dict[int, list[Source]]:
    """Try an operation on random numbers.

    Args:
        func: Overload that is called.
        args: Positional arguments, whose tensors need not hold values.
        kwargs: Named arguments of the call.
        operands: Tensors among the arguments, in their order.
        result: First tensor that the call returned.

    Returns:
        Axes of operands that are an axis of the result, by the number of the latter; those of size 1 are left out, and
        what cannot be tried gives nothing.
    """
    if func._schema.is_mutable or sum(t.numel() for t in operands) > LARGEST:
        return {}
    generator = torch.Generator().manual_seed(0)
    values = {id(t): _values(t, generator) for t in operands}
    found: dict[int, list[Source]] = {}
    try:
        whole = _run(func, args, kwargs, values)
        again = _run(func, args, kwargs, values)
        if whole is None or again is None or whole.shape != result.shape or not torch.equal(whole, again):
            return {}  # it draws random numbers
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
        return {}
    for out, size in enumerate(result.shape):
        if size < 2:
            continue
        chosen = torch.randperm(size, generator=generator)[: max(1, size // 2)].sort().values
        for sources in _guesses(operands, result, out):
            cut = dict(values)
            for o, d in sources:
                cut[id(operands[o])] = cut[id(operands[o])].index_select(d, chosen)
            try:
                part = _run(func, args, kwargs, cut)
            except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
                continue
            want = whole.index_select(out, chosen)
            if part is not None and part.shape == want.shape and torch.allclose(part, want, 1e-4, 1e-5, equal_nan=True):
                found[out] = sources
                break
    return found


def _values(tensor: Tensor, generator: torch.Generator) -> Tensor:
    if tensor.is_floating_point():
        return torch.rand(tensor.shape, generator=generator, dtype=torch.float32).to(tensor.dtype)
    if tensor.is_complex():
        return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
    return torch.randint(0, 2, tensor.shape, generator=generator).to(tensor.dtype)


def _run(func: Any, args: Any, kwargs: Any, values: dict[int, Tensor]) -> Tensor | None:
    given, named = tree_map(lambda v: values.get(id(v), v) if isinstance(v, Tensor) else v, (list(args), kwargs))
    made = func(*given, **named)
    first = made[0] if isinstance(made, tuple | list) and made else made
    return first.double() if isinstance(first, Tensor) and not first.is_complex() else None


def _guesses(operands: list[Tensor], result: Tensor, out: int) -> list[list[Source]]:
    """Sets of axes that an axis of the result may come from: aligned ones first, then single ones."""
    size, back = result.shape[out], result.dim() - out
    aligned = [(o, t.dim() - back) for o, t in enumerate(operands) if t.dim() >= back and t.shape[-back] == size]
    ahead = [(o, out) for o, t in enumerate(operands) if t.dim() > out and t.shape[out] == size]
    single = [[(o, d)] for o, t in enumerate(operands) for d, n in enumerate(t.shape) if n == size]
    guesses = [g for g in (aligned, ahead) if g]
    return guesses + [s for s in single if s not in guesses]
