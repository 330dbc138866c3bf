"""Products with sparse tensors: only stored entries are multiplied, and only they are held in memory.

In a graph the shape of a sparse tensor is (stored entries,). Products are answered from shapes, on any rung; whatever
else a network does with sparse tensors of its data needs a real run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nasplat.errors import CaptureError
from nasplat.frontends.places import running_line

PRODUCTS = frozenset(
    "mm matmul mv bmm linear addmm addmv baddbmm _sparse_mm _sparse_sparse_matmul _sparse_addmm hspmm smm sspaddmm "
    "sparse_sampled_addmm".split()
)
"""Operators that multiply matrices, one of which may be sparse."""
PIECES = frozenset("indices _indices values _values crow_indices ccol_indices col_indices row_indices".split())
"""Operators that give one of the strided tensors of which a sparse one consists."""
FROM_DATA = frozenset({"to_sparse", "_to_sparse", "_to_sparse_csr", "_to_sparse_csc", "_to_sparse_bsr", "sparse_mask"})
"""Operators whose number of stored entries the data decides."""
_ADDS = frozenset({"addmm", "addmv", "baddbmm", "_sparse_addmm", "sspaddmm", "sparse_sampled_addmm"})


def is_sparse(tensor: Tensor) -> bool:
    """Tell sparse tensors from strided ones.

    Args:
        tensor: Any tensor that is no subclass of torch's.

    Returns:
        True for every sparse layout.
    """
    return tensor.layout is not torch.strided


def stored(tensor: Tensor) -> int:
    """Count the entries that a sparse tensor stores.

    Args:
        tensor: A sparse tensor, on any device.

    Returns:
        Number of stored values; for blocks and hybrid tensors all values in them.
    """
    if tensor.layout is torch.sparse_coo:
        return tensor._values().numel()
    return tensor.values().numel()


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """Find the shape that a tensor has in a graph.

    Args:
        tensor: A tensor of any layout.

    Returns:
        Its shape; (stored entries,) where it is sparse.
    """
    return tuple(tensor.shape) if tensor.layout is torch.strided else (stored(tensor),)


def factors(name: str, arguments: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Find the two operands of a product.

    Args:
        name: ATen name of the operator, one of `PRODUCTS`.
        arguments: Arguments by the schema's names.

    Returns:
        (left, right); the weight of a linear layer is the right one, transposed.
    """
    if name == "linear":
        return arguments["input"], arguments["weight"].t()
    tensors = [v for v in arguments.values() if isinstance(v, Tensor)]
    return (tensors[1], tensors[2]) if name in _ADDS else (tensors[0], tensors[1])


def product(name: str, arguments: Mapping[str, Any]) -> Tensor:
    """Make the result of a product from shapes, dense.

    Args:
        name: ATen name of the operator, one of `PRODUCTS`.
        arguments: Arguments by the schema's names.

    Returns:
        A meta tensor.

    Raises:
        CaptureError: the result is sparse, so that its size depends on values.
    """
    left, right = factors(name, arguments)
    if (is_sparse(left) and is_sparse(right)) or name == "sparse_sampled_addmm":
        raise refused(name)
    a, b = (torch.empty(tuple(t.shape), dtype=left.dtype, device="meta") for t in (left, right))
    return torch.matmul(a, b)


def product_macs(name: str, arguments: Mapping[str, Any]) -> int:
    """Count the multiply-accumulates of a product.

    Args:
        name: ATen name of the operator, one of `PRODUCTS`.
        arguments: Arguments by the schema's names.

    Returns:
        Stored entries times the columns (or rows) of the dense operand; the meetings of stored entries where both are
        sparse.
    """
    left, right = factors(name, arguments)
    if name == "sparse_sampled_addmm":
        return stored(next(v for v in arguments.values() if isinstance(v, Tensor))) * left.shape[-1]
    if is_sparse(left) and is_sparse(right):
        rows = torch.bincount(left.to_sparse_coo().coalesce().indices()[1], minlength=left.shape[1])
        columns = torch.bincount(right.to_sparse_coo().coalesce().indices()[0], minlength=right.shape[0])
        return int((rows * columns).sum())
    if is_sparse(left):
        return stored(left) * (right.shape[-1] if right.dim() > 1 else 1)
    return stored(right) * (left.shape[:-1].numel() if right.dim() < 3 else left.shape[-2])


def refused(name: str) -> CaptureError:
    """Say that an operator on a sparse tensor needs values.

    Args:
        name: ATen name of the operator.

    Returns:
        The error, which sends the capture to its next way of running.
    """
    return CaptureError(
        f"{running_line()}: operator {name!r} on a sparse tensor depends on values, and needs a real run.\n"
        "  Pass tensors with values as example_input, and keep the network on the CPU."
    )


def without_sparse(values: Sequence[Tensor]) -> list[Tensor]:
    """Leave out sparse tensors.

    Args:
        values: Tensors among the arguments of a call.

    Returns:
        The strided ones, in order.
    """
    return [t for t in values if not is_sparse(t)]
