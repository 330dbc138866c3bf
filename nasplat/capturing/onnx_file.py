"""An ONNX file becomes a Graph, in the same vocabulary as a captured module.

Shapes come from ONNX's own inference; a symbolic batch counts as 1. Weights are never read, only their shapes. What depends on
no input (constants, shape arithmetic) carries no node. What an exporter folded (batch normalisation into convolutions, say)
stays folded: costs then differ from the module's by what was folded.
Source: the operator documentation of ONNX, opsets 9 and later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from nasplat.errors import CaptureError, InputError
from nasplat.graph.graph import Attributes, Graph, Node, Shape, Weight

SMALL = 4096
"""Constants up to this many elements keep their values (bounds of a clip, scales)."""

_SAME: dict[str, str] = {
    **{n: n.lower() for n in ("Relu", "Elu", "Gelu", "Sigmoid", "Tanh", "Softplus", "Softmax", "Add", "Sub", "Mul", "Div")},
    **{n: n.lower() for n in ("Pow", "Neg", "Exp", "Log", "Sqrt", "Abs", "Where", "Pad", "Concat", "Resize", "ArgMax", "CumSum")},
    **{"LeakyRelu": "leakyrelu", "PRelu": "leakyrelu", "HardSwish": "hardswish", "HardSigmoid": "hardsigmoid", "Swish": "silu"},
    **{"LogSoftmax": "softmax", "Selu": "elu", "Celu": "elu", "Mish": "silu", "Upsample": "resize", "GridSample": "gridsample"},
    **{"Reciprocal": "div", "Min": "max", "Max": "max", "ArgMin": "argmax", "Expand": "expand", "Tile": "expand"},
    **{"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max", "ReduceMin": "max", "Sum": "add"},
    **{"GlobalAveragePool": "adaptivepool", "GlobalMaxPool": "adaptivepool", "MaxPool": "maxpool", "AveragePool": "avgpool"},
    **{"BatchNormalization": "batchnorm", "LayerNormalization": "layernorm", "GroupNormalization": "groupnorm"},
    **{"InstanceNormalization": "instancenorm", "RMSNormalization": "rmsnorm", "SimplifiedLayerNormalization": "rmsnorm"},
    **{"Reshape": "view", "Flatten": "view", "Squeeze": "view", "Unsqueeze": "view", "Transpose": "permute"},
    **{"Slice": "slice", "Split": "slice", "Gather": "gather", "GatherElements": "gather", "GatherND": "gather"},
    **{"DepthToSpace": "pixelshuffle", "SpaceToDepth": "pixelshuffle", "DeformConv": "deform", "Attention": "attention"},
    **{"LSTM": "recurrent", "GRU": "recurrent", "RNN": "recurrent"},
    **{n: "compare" for n in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Not", "Xor")},
}
_TRANSPARENT = frozenset({"Identity", "Dropout", "Cast", "CastLike"})
_ITEMSIZE = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
_STATISTICS = {"BatchNormalization": 3}
"""Inputs from this one on are running statistics, no trained weights."""


@dataclass(frozen=True)
class OnnxFile:
    """A network in a file; `graph()` reads it."""

    path: Path

    @cached_property
    def _model(self) -> Any:
        return _parse(self.path)

    @property
    def example_input(self) -> tuple[int, ...]:
        """Shape of the first input, symbolic sizes counted as 1."""
        return _input_shapes(self._model, None)[0][1]

    def graph(self, example_input: Any = None) -> Graph:
        """The file's graph; see `capture_onnx`."""
        return _Reader(self._model, self.path, example_input).read()

    def __str__(self) -> str:
        return str(self.path)


def capture_onnx(path: str | Path, example_input: Any = None) -> Graph:
    """Read an ONNX file.

    Args:
        path: Of the file; external data must lie in its folder.
        example_input: Shape that replaces symbolic sizes of the (first) input.

    Returns:
        The graph; operators without a counterpart are `other:<name>`.

    Raises:
        InputError: no such file, no ONNX, truncated, or external data that is missing or outside the folder.
        CaptureError: the graph is cyclic, or shapes cannot be inferred.
    """
    return OnnxFile(Path(path)).graph(example_input)


def _parse(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        data = path.read_bytes()
    except OSError as err:
        raise InputError(f"expected an ONNX file, got {str(path)!r} ({err.strerror}).\n  Check the path.") from err
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as err:
        raise InputError(
            f"expected an ONNX file, got {str(path)!r}: it does not decode.\n  It is truncated, or no ONNX."
        ) from err
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise InputError(
            f"expected an ONNX file with a graph, got {str(path)!r} with {len(model.graph.node)} nodes and "
            f"{len(model.graph.output)} outputs.\n  It is truncated, or no ONNX."
        )
    _check_external(model, path)
    if model.functions:
        from onnx.inliner import inline_local_functions

        model = inline_local_functions(model)
    return model


def _check_external(model: Any, path: Path) -> None:
    folder = path.resolve().parent
    for tensor in model.graph.initializer:
        entries = {e.key: e.value for e in tensor.external_data}
        if tensor.data_location != 1 or "location" not in entries:
            continue
        there = (folder / entries["location"]).resolve()
        if not there.is_relative_to(folder):
            raise InputError(
                f"{path}: external data of {tensor.name!r} expected inside {str(folder)!r}, got {entries['location']!r}.\n"
                "  Put the data file beside the ONNX file."
            )
        if not there.is_file():
            raise InputError(
                f"{path}: external data of {tensor.name!r} expected at {str(there)!r}, which does not exist.\n"
                "  Copy the data file too."
            )


def _input_shapes(model: Any, example: Any) -> list[tuple[Any, tuple[int, ...]]]:
    """Inputs that are no initialisers, with their sizes; unknown ones from the example, else 1."""
    weights = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in weights]
    if not inputs:
        raise InputError("expected an ONNX graph with an input, got none.\n  A network of constants computes nothing.")
    given: list[Any] = []
    if example is not None:
        shapes = example if isinstance(example[0], tuple | list) or hasattr(example, "shape") else (example,)
        given = [tuple(getattr(s, "shape", s)) for s in (shapes if not hasattr(shapes, "shape") else (shapes,))]
    found = []
    for number, value in enumerate(inputs):
        dims = value.type.tensor_type.shape.dim
        wanted = given[number] if number < len(given) else None
        if wanted is not None and len(wanted) != len(dims):
            raise InputError(f"input {value.name!r} has {len(dims)} axes, got shape {wanted}.\n  Pass a shape that fits.")
        sizes = []
        for axis, dim in enumerate(dims):
            fixed = dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else 0
            sizes.append(fixed or (int(wanted[axis]) if wanted is not None else 1))
        found.append((value, tuple(sizes)))
    return found


class _Reader:
    def __init__(self, model: Any, path: Path, example: Any) -> None:
        import onnx

        self.path = path
        self.inputs = _input_shapes(model, example)
        fixed = onnx.ModelProto()
        fixed.CopyFrom(model)
        shapes = {value.name: sizes for value, sizes in self.inputs}
        for value in fixed.graph.input:
            for axis, size in enumerate(shapes.get(value.name, ())):
                value.type.tensor_type.shape.dim[axis].Clear()
                value.type.tensor_type.shape.dim[axis].dim_value = size
        del fixed.graph.value_info[:]  # stale symbolic sizes would win over inferred ones
        for value in fixed.graph.output:
            value.type.tensor_type.ClearField("shape")
        try:
            inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
        except Exception as err:  # raised by compiled code without a public class
            first = str(err).splitlines()[0] if str(err) else type(err).__name__
            raise CaptureError(f"{path}: shapes cannot be inferred: {first}\n  Run onnx.checker on the file.") from err
        self.graph = inferred.graph
        self.shape: dict[str, Shape] = {}
        self.type: dict[str, int] = {}
        for value in [*self.graph.input, *self.graph.value_info, *self.graph.output]:
            tensor = value.type.tensor_type
            self.type[value.name] = tensor.elem_type
            if tensor.HasField("shape"):
                self.shape[value.name] = tuple(max(1, d.dim_value) for d in tensor.shape.dim)
        self.weight: dict[str, Any] = {t.name: t for t in self.graph.initializer}
        for name, tensor in self.weight.items():
            self.shape[name], self.type[name] = tuple(tensor.dims), tensor.data_type
        self.constant: dict[str, Any] = dict.fromkeys(self.weight)
        """Names that depend on no input; a value where it is small and known."""
        self.nodes: list[Node] = []
        self.edges: list[tuple[int, int, int, int]] = []
        self.table: list[Weight] = []
        self.row: dict[str, int] = {}
        self.producer: dict[str, tuple[int, int]] = {}
        self.notes: dict[str, None] = {}

    def read(self) -> Graph:
        for value, sizes in self.inputs:
            self.producer[value.name] = (len(self.nodes), 0)
            self.nodes.append(Node("input", (), (sizes,), _ITEMSIZE.get(self.type[value.name], 4)))
        readers = Counter(name for node in self.graph.node for name in node.input)
        skipped: set[str] = set()
        biases, gelus = self._biases(readers), self._gelus(readers)
        skipped |= {name for parts, _ in gelus.values() for name in parts}
        for node in self.graph.node:
            if node.output and node.output[0] in gelus:
                self._emit("gelu", (), [gelus[node.output[0]][1]], [node.output[0]], (), node.name)
                continue
            if node.output and node.output[0] in skipped:
                continue
            add = biases.get(node.output[0]) if node.output else None
            if add is not None:
                skipped.add(add[0])
            self._node(node, add)
        for value in self.graph.output:
            source, slot = self.producer.get(value.name, (len(self.nodes), 0))
            if value.name not in self.producer:
                self.nodes.append(Node("constant", (), (self.shape.get(value.name, ()),)))
            self.nodes.append(Node("output", (), (self.nodes[source].shapes[slot],)))
            self.edges.append((source, slot, len(self.nodes) - 1, 0))
        return Graph(tuple(self.nodes), tuple(self.edges), tuple(self.table), tuple(self.notes))

    def _biases(self, readers: Counter[str]) -> dict[str, tuple[str, str]]:
        """MatMuls by a weight whose only reader adds a vector: (name of the sum, name of the vector)."""
        products = {n.output[0] for n in self.graph.node if n.op_type == "MatMul" and n.input[1] in self.weight}
        found = {}
        for node in self.graph.node:
            if node.op_type != "Add" or len(node.input) != 2:
                continue
            for product, vector in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
                if (
                    product in products
                    and readers[product] == 1
                    and len(self.shape.get(vector, ())) == 1
                    and vector in self.weight
                ):
                    found[product] = (node.output[0], vector)
        return found

    def _gelus(self, readers: Counter[str]) -> dict[str, tuple[list[str], str]]:
        """Gelu written out, x/√2 → erf → +1 → ·x → ·½: its last output: (names in between, x)."""
        maker = {name: n for n in self.graph.node for name in n.output}
        reader = {name: n for n in self.graph.node for name in n.input if readers[name] == 1}
        found = {}
        for erf in (n for n in self.graph.node if n.op_type == "Erf"):
            scaled = maker.get(erf.input[0])
            plus = reader.get(erf.output[0])
            first = reader.get(plus.output[0]) if plus is not None and plus.op_type == "Add" else None
            second = reader.get(first.output[0]) if first is not None and first.op_type == "Mul" else None
            if scaled is None or plus is None or first is None or second is None or second.op_type != "Mul":
                continue
            x = next((n for n in scaled.input if n in (*first.input, *second.input)), None)
            if x is not None:
                between = [scaled.output[0], erf.output[0], plus.output[0], first.output[0]]
                found[second.output[0]] = (between, x)
        return found

    def _node(self, node: Any, bias: tuple[str, str] | None) -> None:
        inputs = [name for name in node.input if name]
        unknown = [n for n in inputs if n not in self.producer and n not in self.constant]
        if unknown:
            raise CaptureError(
                f"{self.path}: node {node.name or node.op_type!r} reads {unknown[0]!r} before it is made.\n"
                "  The graph is cyclic or unsorted; run onnx.checker on the file."
            )
        if node.op_type in {"Shape", "Size", "Constant"} or all(n in self.constant for n in inputs):
            value = _value_of(node) if node.op_type == "Constant" else None
            for name in node.output:
                self.constant[name] = value
                if value is not None:
                    self.shape[name], self.type[name] = tuple(value.shape), 0
            return
        if node.op_type in _TRANSPARENT:
            self.producer[node.output[0]] = self.producer[inputs[0]]
            for name in node.output[1:]:
                self.constant[name] = None
            return
        data = [n for n in inputs if n in self.producer]
        last = _STATISTICS.get(node.op_type, len(node.input))
        trained = [n for n in node.input[:last] if n in self.weight and self._is_trained(n)]
        attributes = {a.name: _attribute(a) for a in node.attribute}
        op, kept = self._normalise(node, attributes, trained, bias)
        rows = tuple(dict.fromkeys(self._row(n, op, attributes, node) for n in [*trained, *([bias[1]] if bias else [])]))
        self._emit(op, kept, data, [bias[0]] if bias else [n for n in node.output if n], rows, node.name)

    def _emit(
        self, op: str, attributes: Attributes, data: list[str], outputs: list[str], rows: tuple[int, ...], name: str
    ) -> None:
        path = (name or outputs[0]).strip("/").replace("/", ".")
        missing = [n for n in outputs if n not in self.shape]
        if missing:
            self.notes[f"{path}: the shape of {missing[0]!r} is unknown; its costs are missing"] = None
        shapes = tuple(self.shape.get(n, ()) for n in outputs)
        here = len(self.nodes)
        self.nodes.append(Node(op, attributes, shapes, _ITEMSIZE.get(self.type.get(outputs[0], 1), 4), rows, path))
        self.edges += [(*self.producer[n], here, position) for position, n in enumerate(data)]
        for slot, output in enumerate(outputs):
            self.producer[output] = (here, slot)

    def _is_trained(self, name: str) -> bool:
        """Floating tensors of more than one element."""
        tensor = self.weight[name]
        return tensor.data_type in {1, 10, 11, 16} and prod(tensor.dims) > 1

    def _row(self, name: str, op: str, attributes: dict[str, Any], node: Any) -> int:
        if name not in self.row:
            shape = self.shape[name]
            if op == "linear" and len(shape) == 2 and not (node.op_type == "Gemm" and attributes.get("transB")):
                shape = shape[::-1]  # (out, in), as torch keeps it
            self.row[name] = len(self.table)
            self.table.append(Weight(name, shape))
        return self.row[name]

    def _scalar(self, name: str) -> float | None:
        value = self.constant.get(name)
        if (
            value is None
            and name in self.weight
            and prod(self.weight[name].dims) <= SMALL
            and not self.weight[name].external_data
        ):
            from onnx import numpy_helper

            value = self.constant[name] = numpy_helper.to_array(self.weight[name])
        return float(np.asarray(value).reshape(-1)[0]) if value is not None and np.size(value) == 1 else None

    def _normalise(
        self, node: Any, a: dict[str, Any], trained: list[str], bias: tuple[str, str] | None
    ) -> tuple[str, Attributes]:
        kind = node.op_type
        if kind in {"Conv", "ConvTranspose", "ConvInteger", "DeformConv"}:
            return self._convolution(node, a, len(trained) > 1)
        if kind == "Gemm" and node.input[1] in self.weight:
            shape = self.shape[node.input[1]]
            return "linear", _pack(in_features=shape[1] if a.get("transB") else shape[0], bias=int(len(trained) > 1))
        if kind == "MatMul" and node.input[1] in self.weight and len(self.shape[node.input[1]]) == 2:
            return "linear", _pack(in_features=self.shape[node.input[1]][0], bias=int(bias is not None))
        if kind in {"MatMul", "Gemm", "MatMulInteger", "Einsum"}:
            return ("matmul", ()) if kind != "Einsum" else ("other:Einsum", ())
        if kind == "Clip":
            low, high = (self._scalar(n) if n else None for n in [*node.input[1:3], "", ""][:2])
            low, high = a.get("min", low), a.get("max", high)
            return ("relu6", ()) if (low, high) == (0.0, 6.0) else ("clamp", _pack(min=low, max=high))
        if kind in {"MaxPool", "AveragePool"}:
            kernel = tuple(a.get("kernel_shape", ()))
            n = len(kernel)
            strides, pads = tuple(a.get("strides", (1,) * n)), tuple(a.get("pads", (0,) * 2 * n))
            return _SAME[kind], _pack(kernel=kernel, stride=strides, padding=pads[:n] if pads[:n] == pads[n:] else pads)
        if kind in {"LSTM", "GRU", "RNN"}:
            steps = prod(self.shape.get(node.input[0], (1, 1, 1))[:-1])
            return "recurrent", _pack(macs=steps * sum(prod(self.shape[n]) for n in node.input[1:3] if n in self.weight))
        if kind == "Gather" and node.input[0] in self.weight and trained:
            return "embedding", ()
        op = _SAME.get(kind)
        if op is None:
            return f"other:{kind}", ()
        return op, _pack(**{k: v for k, v in a.items() if v is not None and k in {"axis", "axes", "keepdims", "groups", "perm"}})

    def _convolution(self, node: Any, a: dict[str, Any], has_bias: bool) -> tuple[str, Attributes]:
        weight = self.shape.get(node.input[1], ())
        n = max(0, len(weight) - 2)
        groups, pads = int(a.get("group", 1)), tuple(a.get("pads", (0,) * 2 * n))
        channels = self.shape.get(node.input[0], (1, groups))[1]
        values: dict[str, object] = {
            "kernel": tuple(weight[2:]),
            "stride": tuple(a.get("strides", (1,) * n)),
            "padding": (-1,) * n
            if a.get("auto_pad", "NOTSET") not in {"NOTSET", ""}
            else pads[:n]
            if pads[:n] == pads[n:]
            else pads,
            "dilation": tuple(a.get("dilations", (1,) * n)),
            "groups": groups,
            "channels_per_group": weight[1] if len(weight) > 1 else 1,
            "bias": int(has_bias),
        }
        if node.op_type == "ConvTranspose":
            values["transposed"] = 1
        op = "deform" if node.op_type == "DeformConv" else "depthwise" if groups == channels and groups > 1 else "conv"
        return op, _pack(**values)


def _pack(**values: object) -> Attributes:
    return tuple(sorted((k, v) for k, v in values.items() if v is not None))


def _attribute(attribute: Any) -> Any:
    """Numbers, strings and flat lists of an attribute; None for tensors and subgraphs."""
    readers: dict[int, Callable[[], Any]] = {
        1: lambda: float(attribute.f),
        2: lambda: int(attribute.i),
        3: lambda: attribute.s.decode("utf-8", "replace"),
        6: lambda: tuple(float(v) for v in attribute.floats),
        7: lambda: tuple(int(v) for v in attribute.ints),
    }
    reader = readers.get(attribute.type)
    return reader() if reader else None


def _value_of(node: Any) -> Any:
    """Value of a small Constant node."""
    from onnx import numpy_helper

    for a in node.attribute:
        if a.name == "value" and prod(a.t.dims) <= SMALL and not a.t.external_data:
            return numpy_helper.to_array(a.t)
        if a.name in {"value_float", "value_int"}:
            return np.asarray(a.f if a.name == "value_float" else a.i)
        if a.name in {"value_floats", "value_ints"}:
            return np.asarray(list(a.floats) or list(a.ints))
    return None
