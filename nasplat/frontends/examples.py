"""Example inputs: shapes become meta tensors, and examples get one more sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from nasplat.errors import CaptureError
from nasplat.frontends.calls import META


def as_example(example: Any) -> Any:
    """Replace the shapes of an example input by meta tensors.

    Args:
        example: A shape tuple (float32), a tensor, or a tuple or dict of them, nested ones among them.

    Returns:
        A tuple of positional arguments, or a dict of named ones.

    Raises:
        CaptureError: the example is none of these.
    """
    if isinstance(example, Tensor):
        return (example,)
    if _is_shape(example):
        return (torch.empty(tuple(example), device=META),)
    if isinstance(example, Mapping) and example:
        return {str(k): _entry(v) for k, v in example.items()}
    if isinstance(example, Sequence) and not isinstance(example, str) and example:
        made = tuple(_entry(v) for v in example)
        if any(isinstance(leaf, Tensor) for leaf in tree_flatten(made)[0]):
            return made
    raise CaptureError(
        f"expected example_input as a shape tuple, a tensor, or a tuple or dict of them, got {example!r}.\n"
        "  Pass for instance example_input=(1, 3, 224, 224)."
    )


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and bool(value)
        and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    )


def _entry(value: Any) -> Any:
    """One argument of a network, its shapes replaced."""
    if _is_shape(value):
        return torch.empty(tuple(value), device=META)
    if isinstance(value, tuple | list):
        return type(value)(_entry(v) for v in value) if type(value) in {tuple, list} else value
    return {k: _entry(v) for k, v in value.items()} if type(value) is dict else value


def with_batch(example: Any) -> Any:
    """Add one sample to an example input.

    Args:
        example: Arguments of a network, as `as_example` gives them.

    Returns:
        The example with one more sample in every tensor whose first axis is as long as that of the first tensor; None
        where the first tensor has no axes, or there is none.
    """
    leaves, spec = tree_flatten(example)
    tensors = [t for t in leaves if isinstance(t, Tensor)]
    if not tensors or not tensors[0].dim():
        return None
    batch = tensors[0].shape[0]

    def longer(t: Any) -> Any:
        if isinstance(t, Tensor) and t.dim() and t.shape[0] == batch:
            if t.device.type != "meta":
                return torch.cat([t, t[:1]])
            return torch.empty((batch + 1, *t.shape[1:]), dtype=t.dtype, device=META)
        return t

    return tree_unflatten([longer(t) for t in leaves], spec)
