"""What is known about every tensor of an ONNX file: its shape, its type, and its values where they are small constants.

Shapes are inferred by onnx itself, node by node; values are computed by its reference evaluator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops import load_op

from nasplat.errors import CaptureError
from nasplat.graph.columns import Shape

SMALL = 65_536
"""Constants up to this many elements keep their values."""
MAX_ELEMENTS = 2**48
"""A tensor of more elements is an absurdity, no network."""
_INFERRED = 4096
"""Values up to this many elements are shown to shape inference."""

ITEMSIZE = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2}
"""Bytes of one element, by ONNX's number of the type."""
DTYPE = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8_e4m3fn",
    19: "float8_e5m2",
    21: "uint4",
    22: "int4",
}
"""Name of a type in graphs, by ONNX's number."""
FLOATS = frozenset({1, 10, 11, 16, 17, 18, 19, 20})
"""Numbers of the floating-point types."""
QUANTISED = frozenset({2, 3, 6, 21, 22})
"""Numbers of the integer types that quantised weights have."""


def attributes_of(node: Any) -> dict[str, Any]:
    """Read the plain attributes of a node.

    Args:
        node: An ONNX node.

    Returns:
        Numbers, strings and flat tuples by name; tensors and subgraphs are left out.
    """
    readers: dict[int, Callable[[Any], Any]] = {
        1: lambda a: float(a.f),
        2: lambda a: int(a.i),
        3: lambda a: a.s.decode("utf-8", "replace"),
        6: lambda a: tuple(float(v) for v in a.floats),
        7: lambda a: tuple(int(v) for v in a.ints),
    }
    return {a.name: readers[a.type](a) for a in node.attribute if a.type in readers}


class Tensors:
    """Facts about the tensors of one file, by name."""

    def __init__(self, model: Any, path: Path) -> None:
        """Begin without any tensor.

        Args:
            model: The ONNX model, without functions of its own.
            path: Path of its file, named in messages.
        """
        self.path, self.ir_version = path, model.ir_version
        self.opsets = list(model.opset_import)
        self.version = {"" if o.domain == "ai.onnx" else o.domain: int(o.version) for o in self.opsets}
        """Version of the operator set of every domain."""
        self.shape: dict[str, Shape] = {}
        self.type: dict[str, int] = {}
        """ONNX's number of the element type."""
        self.value: dict[str, Any] = {}
        """Names that depend on no input; None where the value is unknown or large."""
        self.weight: dict[str, str] = {}
        """Names that hold a trained weight: the initialiser's name."""
        self.notes: dict[str, None] = {}
        """Sentences about what was guessed, each once, in the order of their first occurrence."""

    def itemsize(self, name: str) -> int:
        """Count the bytes of one element of a tensor.

        Args:
            name: Name of the tensor.

        Returns:
            Bytes; 4 where the type is unknown.
        """
        return ITEMSIZE.get(self.type.get(name, 1), 4)

    def set_shape(self, name: str, shape: Iterable[int]) -> None:
        """Remember the shape of a tensor.

        Args:
            name: Name of the tensor.
            shape: Size of every axis; negative ones count as 0.

        Raises:
            CaptureError: the tensor would have more than `MAX_ELEMENTS` elements.
        """
        sizes = tuple(max(0, int(s)) for s in shape)
        if prod(sizes) > MAX_ELEMENTS:
            raise CaptureError(
                f"{self.path}: expected sizes of a network, {name!r} has shape {sizes}.\n  The file is broken."
            )
        self.shape[name] = sizes

    def add_initialiser(self, name: str, tensor: Any, dims: Shape | None = None) -> None:
        """Remember a tensor whose values lie in the file or beside it; one of floats or quantised integers is a weight.

        Args:
            name: Name of the tensor.
            tensor: ONNX's tensor, whose values are read only where they are few and in the file.
            dims: Shape of a sparse tensor, whose `tensor` holds the values that are not zero.
        """
        self.type[name] = tensor.data_type
        self.set_shape(name, tuple(tensor.dims) if dims is None else dims)
        self.value[name] = None
        size = prod(self.shape[name])
        if size > 1 and (tensor.data_type in FLOATS or tensor.data_type in QUANTISED):
            self.weight[name] = name
        if size <= SMALL and tensor.data_location != 1 and tensor.data_type not in {0, 8}:
            try:
                self.value[name] = numpy_helper.to_array(tensor)
            except (ValueError, TypeError, OverflowError, AttributeError, KeyError):
                self.notes.setdefault(f"initialiser {name!r} has a broken value")

    def infer(self, node: Any) -> None:
        """Infer types and shapes of a node's outputs; unknown ones stay out.

        Args:
            node: A node whose inputs are known.
        """
        domain = "" if node.domain == "ai.onnx" else node.domain
        types = {n: self._type_proto(n) for n in node.input if n and (n in self.shape or n in self.type)}
        found: dict[str, Any] = {}
        try:
            schema = onnx.defs.get_schema(node.op_type, self.version.get(domain, 1), domain)
            data = {}
            for n in node.input:
                value = self.value.get(n)
                if value is not None and np.size(value) <= _INFERRED:
                    data[n] = numpy_helper.from_array(np.asarray(value), n)
            found = onnx.shape_inference.infer_node_outputs(schema, node, types, data, {}, self.opsets, self.ir_version)
        except Exception:  # no schema, or compiled code that raises without a public class
            found = {}
        for name in node.output:
            made = found.get(name)
            if not name or made is None or not made.HasField("tensor_type"):
                continue
            self.type[name] = made.tensor_type.elem_type
            dims = made.tensor_type.shape.dim
            if made.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
                self.set_shape(name, tuple(d.dim_value for d in dims))
            elif made.tensor_type.HasField("shape"):
                self.set_shape(
                    name, self._bound(node, [d.dim_value if d.HasField("dim_value") else None for d in dims])
                )

    def _bound(self, node: Any, dims: Sequence[int | None]) -> Shape:
        """Sizes that depend on data: the most there can be of them."""
        most = max([prod(self.shape.get(n, ())) for n in node.input if n] or [1])
        if node.op_type not in {"NonZero", "Compress", "Unique", "NonMaxSuppression"}:
            most = 1
        what = node.name or node.op_type
        self.notes.setdefault(f"{what}: a size depends on data; counted as {most}")
        return tuple(most if d is None else d for d in dims)

    def _type_proto(self, name: str) -> Any:
        shape = list(self.shape[name]) if name in self.shape else None
        return helper.make_tensor_type_proto(self.type.get(name, 1), shape)

    def evaluate(self, node: Any) -> dict[str, Any]:
        """Compute the outputs of a node that depends on constants alone, where they are small.

        Args:
            node: A node whose shapes are inferred.

        Returns:
            Arrays by name; outputs that cannot be computed, or are large, are left out.
        """
        if node.op_type == "Shape" and node.input[0] in self.shape:
            a = attributes_of(node)
            return {node.output[0]: np.array(self.shape[node.input[0]][a.get("start", 0) : a.get("end")], np.int64)}
        if node.op_type == "Size" and node.input[0] in self.shape:
            return {node.output[0]: np.array(prod(self.shape[node.input[0]]), np.int64)}
        known = [self.value.get(n) if n else None for n in node.input]
        if any(v is None and n for v, n in zip(known, node.input, strict=True)):
            return {}
        if any(prod(self.shape.get(n, (SMALL + 1,))) > SMALL for n in node.output if n):
            return {}
        if node.op_type.startswith("Random"):
            return {}
        try:
            domain = "" if node.domain == "ai.onnx" else node.domain
            run = {"log": _silent, "opsets": self.version, "verbose": 0, "new_ops": None, "existing_functions": {}}
            operator = load_op(domain, node.op_type, self.version.get(domain))
            made = operator(node, run | {"evaluator_cls": ReferenceEvaluator}).run(*known)
        except Exception:  # the reference evaluator raises whatever numpy raises
            return {}
        found = {}
        for name, value in zip(node.output, made, strict=False):
            if name and isinstance(value, np.ndarray | np.generic) and np.size(value) <= SMALL:
                found[name] = np.asarray(value)
                self.shape[name] = tuple(np.shape(value))
        return found


def _silent(*args: Any) -> None:
    """The reference evaluator wants to log."""
