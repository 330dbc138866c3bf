"""Outputs of operators whose size depends on data, on tensors that hold none: the largest size they can have.

Beside them there are rules for operators whose own shape rule reads data, or refuses types that it need not refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nasplat.frontends.sparse import FROM_DATA, refused

NAMES = frozenset(
    "nonzero nonzero_numpy nonzero_static masked_select unique_dim unique_consecutive _unique _unique2 index index_put "
    "_index_put_impl repeat_interleave bincount nms argwhere masked_scatter where".split()
) | set(FROM_DATA)
"""Operators whose output size may depend on data."""
UNBOUNDED = frozenset({"repeat_interleave", "bincount"})
"""Operators in `NAMES` whose output has no largest size: values, not the number of operands, decide it."""
PLAIN = frozenset({"adaptive_avg_pool2d", "addmm", "cat", "linear", "mean"})
"""Operators whose shape rule in torch is Python that imports its compiler, which takes longer than torch itself."""
RULED = PLAIN | {"_grouped_mm", "lstm", "gru", "rnn_tanh", "rnn_relu", "roi_align", "roi_pool", "deform_conv2d"}
"""Operators with a shape rule of our own."""


def bounded(name: str, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, bool]:
    """Make the outputs of an operator in `NAMES`, of the largest size they can have.

    Args:
        name: ATen name of the operator, such as 'nonzero'.
        func: The overload that is called.
        args: Positional arguments, tensors on meta.
        kwargs: Keyword arguments, tensors on meta.

    Raises:
        CaptureError: the structure of a sparse result depends on values.

    Returns:
        (outputs, True) or, where the size does not depend on data after all, (the operator's own outputs, False).
    """
    data: Tensor = args[0]

    def fresh(*shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.empty(shape, dtype=dtype or data.dtype, device=data.device)

    if name in FROM_DATA:
        if name not in {"to_sparse", "_to_sparse"} or len(args) > 1 or kwargs:
            raise refused(name)  # other layouts: their structure lies in more than one tensor
        places, entries = fresh(data.dim(), data.numel(), dtype=torch.int64), fresh(data.numel())
        return torch.sparse_coo_tensor(places, entries, tuple(data.shape)), True
    if name in {"nonzero", "argwhere", "nonzero_static"}:
        return fresh(data.numel(), data.dim(), dtype=torch.int64), True
    if name == "where" and len(args) > 1:
        return func(*args, **kwargs), False
    if name in {"nonzero_numpy", "where"}:
        return [fresh(data.numel(), dtype=torch.int64) for _ in range(data.dim())], True
    if name == "masked_select":
        return fresh(torch.broadcast_shapes(data.shape, args[1].shape).numel()), True
    if name in {"_unique", "_unique2", "unique_consecutive"}:
        dim = kwargs.get("dim", args[3] if name == "unique_consecutive" and len(args) > 3 else None)
        if dim is None:
            return (
                fresh(data.numel()),
                fresh(*data.shape, dtype=torch.int64),
                fresh(data.numel(), dtype=torch.int64),
            ), True
        count = data.shape[dim]
        return (fresh(*data.shape), fresh(count, dtype=torch.int64), fresh(count, dtype=torch.int64)), True
    if name == "unique_dim":
        count = data.shape[args[1]]
        return (fresh(*data.shape), fresh(count, dtype=torch.int64), fresh(count, dtype=torch.int64)), True
    if name == "bincount":
        least = kwargs.get("minlength", args[2] if len(args) > 2 else 0)
        return fresh(max(int(least), data.numel(), 1), dtype=torch.int64), True
    if name == "nms":
        return fresh(data.shape[0], dtype=torch.int64), True
    if name == "repeat_interleave":
        if func._overloadname == "Tensor":
            size = kwargs.get("output_size")
            return fresh(data.shape[0] if size is None else int(size), dtype=torch.int64), size is None
        return func(*args, **kwargs), False
    if name == "masked_scatter":
        return fresh(*torch.broadcast_shapes(data.shape, args[1].shape)), False
    indices = [
        _positions(i) if isinstance(i, Tensor) and i.dtype in {torch.bool, torch.uint8} else [i] for i in args[1]
    ]
    is_masked = any(isinstance(i, Tensor) and i.dtype in {torch.bool, torch.uint8} for i in args[1])
    if name == "index" and is_masked:
        return func(data, [i for group in indices for i in group], *args[2:], **kwargs), True
    if name != "index" and is_masked:
        return torch.empty_like(data), False
    return func(*args, **kwargs), False


_BY_DATA = frozenset("nonzero nonzero_numpy argwhere masked_select _unique _unique2 unique_consecutive nms".split())


def depends_on_data(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Tell whether the size of what an operator returns depends on values.

    Args:
        name: ATen name of the operator.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.

    Returns:
        True for operators such as 'nonzero', and for those that take masks as indices.
    """
    if name == "repeat_interleave":
        return len(args) == 1 and kwargs.get("output_size") is None
    if name == "index":
        return any(isinstance(i, Tensor) and i.dtype in {torch.bool, torch.uint8} for i in args[1])
    return (
        name in _BY_DATA
        or name in {"unique_dim", "bincount"}
        or name in FROM_DATA
        or (name == "where" and len(args) == 1)
    )


def ruled(name: str, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Make the outputs of an operator in `RULED` by a rule of our own.

    Args:
        name: ATen name of the operator, such as 'lstm'.
        func: The overload that is called.
        args: Positional arguments, tensors on meta.
        kwargs: Keyword arguments, tensors on meta.

    Returns:
        Meta tensors of the sizes that the operator gives.
    """
    if name in PLAIN:
        made = _plain(name, args, kwargs)
        return func(*args, **kwargs) if made is None else made
    if name == "_grouped_mm":
        left, right = args[0], args[1]
        if left.dim() == 2 and right.dim() == 2:  # groups along the contraction
            offsets = kwargs.get("offs", args[2] if len(args) > 2 else None)
            return left.new_empty((1 if offsets is None else len(offsets), left.shape[0], right.shape[1]))
        return left.new_empty((*left.shape[:-1], right.shape[-1]))
    if name == "roi_align":
        return args[0].new_empty((args[1].shape[0], args[0].shape[1], args[3], args[4]))
    if name == "roi_pool":
        pooled = args[0].new_empty((args[1].shape[0], args[0].shape[1], args[3], args[4]))
        return pooled, torch.empty_like(pooled, dtype=torch.int32)
    if name == "deform_conv2d":
        return args[0].new_empty((args[0].shape[0], args[1].shape[0], *args[2].shape[-2:]))
    if func._overloadname != "data":
        return func(*args, **kwargs)
    data, hidden = args[0], args[2]
    states = list(hidden) if isinstance(hidden, list | tuple) else [hidden]
    bidirectional = bool(args[8] if len(args) > 8 else kwargs.get("bidirectional"))
    made = data.new_empty((data.shape[0], states[0].shape[-1] * (1 + bidirectional)))
    return (made, *(torch.empty_like(s) for s in states))


def _plain(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """The result of an operator in `PLAIN` on contiguous floats of one type that fit; None leaves it to torch."""
    tensors = [t for a in args for t in (a if isinstance(a, list | tuple) else (a,)) if isinstance(t, Tensor)]
    first = tensors[0]
    if kwargs or not all(t.is_contiguous() and t.dtype == first.dtype for t in tensors):
        return None
    if not first.is_floating_point() or first.layout != torch.strided:
        return None
    shapes = [t.shape for t in tensors]
    if name == "linear":
        fits = len(shapes[1]) == 2 and len(shapes[0]) > 1 and shapes[0][-1] == shapes[1][1]
        fits = fits and shapes[2:] in ([], [shapes[1][:1]])
        return first.new_empty((*shapes[0][:-1], shapes[1][0])) if fits else None
    if name == "addmm":
        fits = [len(s) for s in shapes] == [1, 2, 2] and shapes[1][1] == shapes[2][0] and shapes[0][0] == shapes[2][1]
        return first.new_empty((shapes[1][0], shapes[2][1])) if fits else None
    if name == "cat":
        axis = args[1] if len(args) > 1 else 0
        rest = {(*s[:axis], *s[axis + 1 :]) for s in shapes} if 0 < axis < len(shapes[0]) else ()
        if len(rest) != 1 or len({len(s) for s in shapes}) > 1:
            return None
        return first.new_empty((*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :]))
    axes = args[1] if len(args) > 1 else None
    if name == "mean":
        return torch.ops.aten.sum.dim_IntList(*args) if isinstance(axes, list | tuple) and axes else None
    pooled = len(shapes[0]) == 4 and isinstance(axes, list | tuple) and len(axes) == 2 and min(axes) > 0
    return first.new_empty((*shapes[0][:2], *axes)) if pooled and axes is not None else None


def _positions(mask: Tensor) -> list[Tensor]:
    """Index tensors of a mask all of whose elements are true."""
    return [torch.empty(mask.numel(), dtype=torch.int64, device=mask.device) for _ in range(mask.dim())]
