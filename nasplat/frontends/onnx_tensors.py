"""What is known about every tensor of an ONNX file: its shape, its type, and its values where they are small constants.

Shapes are inferred by onnx itself, node by node, then by rules of our own, then read from what the file declares;
values are computed by onnx's reference evaluator.
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
from nasplat.frontends.onnx_names import COMPUTED
from nasplat.frontends.onnx_shapes import own_shapes
from nasplat.graph.bounds import LARGEST, UNSIZED
from nasplat.graph.columns import Shape

SMALL = 65_536
"""Constants up to this many elements keep their values."""
MAX_ELEMENTS = 2**48
"""A tensor of more elements is an absurdity, no network."""
MAX_LIVE = 2**23
"""Elements of computed constants that are kept at once."""
MAX_FOLDED = 2**27
"""Elements of constants that are computed for one file."""
_INFERRED = 4096
"""Values up to this many elements are shown to shape inference, and computed where they derive from weights."""
_AXES = 1024
"""Numbers in an input that says sizes axis by axis, at most; no network has more axes."""
_RANKED = {"ConstantOfShape": 0, "MaxUnpool": 2} | dict.fromkeys(
    "AffineGrid CenterCropPad Col2Im Expand Pad Reshape Resize Slice Tile Unsqueeze Upsample".split(), 1
)
"""Position of the first such input of an operator."""
LATEST = onnx.defs.onnx_opset_version()
"""Newest operator set that onnx knows here."""

ITEMSIZE = {
    **dict.fromkeys((2, 3, 9, *range(17, 27)), 1),
    **dict.fromkeys((4, 5, 10, 16), 2),
    **dict.fromkeys((1, 6, 12), 4),
    **dict.fromkeys((7, 11, 13, 14), 8),
    15: 16,
}
"""Bytes of one element, by ONNX's number of the type; elements of less than a byte take a whole one."""
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
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4",
    24: "float8",
    25: "uint2",
    26: "int2",
}
"""Name of a type in graphs, by ONNX's number."""
FLOATS = frozenset({1, 10, 11, 16, 17, 18, 19, 20, 23})
"""Numbers of the floating-point types."""
QUANTISED = frozenset({2, 3, 6, 21, 22, 25, 26})
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
        self.weight: dict[str, tuple[str, ...]] = {}
        """Names that hold trained weights, as they lie in the file or computed from it: names of the initialisers."""
        self.logical: dict[str, tuple[Shape, str]] = {}
        """Shape and element type of packed weights, by name of the initialiser."""
        self.declared: dict[str, Any] = {}
        """What the file itself says about types and shapes."""
        self.sizes: dict[str, int] = {}
        """Values of the named sizes of the inputs."""
        self.notes: dict[str, None] = {}
        """Sentences about what was guessed, each once, in the order of their first occurrence."""
        self.causes: set[str] = set()
        """Why totals are no exact counts, names of `nasplat.graph.bounds.CAUSES`."""
        self.refusal = ""
        """Why onnx could not infer the shapes of the last node."""
        self._claimed: set[str] = set()
        """Tensors of whose shapes only the file's word is known, which says nothing of the work to compute them."""
        self._folded: dict[str, int] = {}
        """Elements of every computed constant that is kept."""
        self._work = self._live = 0

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
        self.weight.pop(name, None)
        if size > 1 and (tensor.data_type in FLOATS or tensor.data_type in QUANTISED):
            self.weight[name] = (name,)
        if size <= SMALL and tensor.data_location != 1 and tensor.data_type not in {0, 8}:
            try:
                self.value[name] = numpy_helper.to_array(tensor)
            except (ValueError, TypeError, OverflowError, AttributeError, KeyError):
                self.notes.setdefault(f"initialiser {name!r} has a broken value")

    def add_packed(self, name: str, source: str, shape: Shape, dtype: str) -> None:
        """Remember a weight that lies packed in an initialiser.

        Args:
            name: Name of the unpacked weight.
            source: Name of the initialiser, or of what was computed from one.
            shape: Shape of the weight without packing.
            dtype: Name of its element type, such as 'uint4'.
        """
        self.type[name], self.value[name] = 1, None
        self.set_shape(name, shape)
        if self.value.get(source, self) is not self:
            self.weight[name] = (source,)
            self.logical[source] = (shape, dtype)

    def declare(self, infos: Iterable[Any]) -> None:
        """Remember the types and shapes that a graph declares.

        Args:
            infos: ONNX's descriptions of tensors.
        """
        for info in infos:
            if info.type.HasField("tensor_type"):
                self.declared[info.name] = info.type.tensor_type

    def infer(self, node: Any, version: int | None = None) -> None:
        """Infer types and shapes of a node's outputs; unknown ones stay out.

        Args:
            node: A node whose inputs are known.
            version: Operator set of the node; None takes the file's.
        """
        found = self._inferred(node, version)
        partial: dict[str, list[int | None]] = {}
        for name in (n for n in node.output if n):
            self.shape.pop(name, None)
            self._claimed.discard(name)
            made = found.get(name)
            if made is None or not made.HasField("tensor_type"):
                continue
            self.type[name] = made.tensor_type.elem_type or self.type.get(name, 1)
            if made.tensor_type.HasField("shape"):
                dims = [d.dim_value if d.HasField("dim_value") else None for d in made.tensor_type.shape.dim]
                if None in dims:
                    partial[name] = dims
                else:
                    self.set_shape(name, (d for d in dims if d is not None))
        missing = [n for n in node.output if n and n not in self.shape]
        own = own_shapes(node, self.shape, self.type, attributes_of(node)) if missing else {}
        for name in missing:
            declared = self.declared_shape(name)
            if name in own:
                self.set_shape(name, own[name][0])
                self.type[name] = own[name][1]
            elif declared is not None:
                self.set_shape(name, declared)
                self._claimed.add(name)
            elif name in partial:
                self.set_shape(name, self._bound(node, partial[name]))

    def _inferred(self, node: Any, version: int | None) -> dict[str, Any]:
        """What onnx infers about a node; where only element types do not fit together, as if they all were floats."""
        self.refusal = ""
        domain = "" if node.domain == "ai.onnx" else node.domain
        known = [n for n in node.input if n and (n in self.shape or n in self.type)]
        opsets = self.opsets if version is None else [helper.make_opsetid("", version)]
        if any(prod(self.shape.get(n, ())) > _AXES for n in node.input[_RANKED.get(node.op_type, len(node.input)) :]):
            self.refusal = f"its output would have more than {_AXES} axes"  # onnx would reserve memory for each
            return {}
        data = {}
        for n in node.input:
            value = self.value.get(n)
            if value is not None and np.size(value) <= _INFERRED:
                data[n] = numpy_helper.from_array(np.asarray(value), n)
        for is_strict in (True, False):
            types = {n: self._type_proto(n, is_strict) for n in known}
            try:
                schema = onnx.defs.get_schema(node.op_type, version or self.version.get(domain, 1), domain)
                found = onnx.shape_inference.infer_node_outputs(schema, node, types, data, {}, opsets, self.ir_version)
            except onnx.defs.SchemaError:
                return {}
            except Exception as err:  # compiled code that raises without a public class
                self.refusal = str(err).partition("\n")[0].rpartition("Error] ")[2]
                continue
            if not is_strict and known:
                data_like = next((n for n in known if n not in self.value), known[0])
                for made in found.values():
                    made.tensor_type.elem_type = self.type.get(data_like, 1)
            return found
        return {}

    def declared_shape(self, name: str) -> Shape | None:
        """Look up the shape that the file itself declares for a tensor.

        Args:
            name: Name of the tensor.

        Returns:
            Its shape, or None where there is none or one of its sizes is unknown.
        """
        kind = self.declared.get(name)
        if kind is None or not kind.HasField("shape"):
            return None
        sizes = []
        for dim in kind.shape.dim:
            size = dim.dim_value if dim.HasField("dim_value") else self.sizes.get(dim.dim_param)
            if size is None or size < 0:
                return None
            sizes.append(size)
        if kind.elem_type:
            self.type[name] = kind.elem_type
        return tuple(sizes)

    def _bound(self, node: Any, dims: Sequence[int | None]) -> Shape:
        """Sizes that depend on data: the most there can be of them, or 1 where that is not known."""
        what = node.name or node.op_type
        first = self.shape.get(node.input[0], ()) if node.input else ()
        most: Sequence[int] = ()
        if node.op_type in {"Slice", "TopK"} and len(first) == len(dims):
            most = first
        elif node.op_type in {"NonZero", "Compress", "Unique"}:
            most = [max(prod(first), 1)] * len(dims)
        elif node.op_type == "NonMaxSuppression" and len(node.input) > 1:
            scores = self.shape.get(node.input[1], (1, 1, 1))
            limit = self.value.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
            each = scores[-1] if limit is None or not np.size(limit) else min(scores[-1], int(np.max(limit)))
            most = [prod(scores[:-1]) * max(each, 0)] * len(dims)
        self.causes.add(LARGEST if most else UNSIZED)
        sizes = tuple(d if d is not None else most[i] if most else 1 for i, d in enumerate(dims))
        counted = ", ".join(str(s) for s, d in zip(sizes, dims, strict=True) if d is None)
        self.notes.setdefault(
            f"{what}: a size depends on data; counted as {counted}{', the most it can be' if most else ''}"
        )
        return sizes

    def _type_proto(self, name: str, is_strict: bool = True) -> Any:
        shape = list(self.shape[name]) if name in self.shape else None
        kind = self.type.get(name, 1)
        return helper.make_tensor_type_proto(kind if is_strict or kind not in FLOATS | QUANTISED else 1, shape)

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
        size = sum(prod(self.shape.get(n, (SMALL + 1,))) for n in node.output if n)
        if size > (_INFERRED if any(n in self.weight for n in node.input) else SMALL * max(1, len(node.output))):
            return {}
        if self._work + size > MAX_FOLDED or self._live + size > MAX_LIVE:
            self.notes.setdefault("the file computes more from its constants than is followed here")
            return {}
        if node.op_type not in COMPUTED or any(n in self._claimed for n in node.output):
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
            is_number = isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in "OSU"
            if name and is_number and np.size(value) <= SMALL:
                found[name] = np.asarray(value)
                self.shape[name] = tuple(np.shape(value))
                self._work += np.size(value)
                self._live += np.size(value) - self._folded.get(name, 0)
                self._folded[name] = np.size(value)
        return found

    def forget(self, name: str) -> None:
        """Drop the values of a computed constant that nothing reads any more; its shape and type stay known.

        Args:
            name: Name of the tensor.
        """
        if name in self._folded:
            self._live -= self._folded.pop(name)
            self.value[name] = None


def _silent(*args: Any) -> None:
    """The reference evaluator wants to log."""
