"""The nodes of an ONNX model in their order, with shapes inferred on the way, become the nodes of a Graph.

What depends on neither input nor trained weight (constants, shape arithmetic) is computed where it is small and carries no node.
Of a conditional the first branch is taken whose condition is unknown; a loop's body counts as often as its trip count says, once
where nobody knows; both are noted.
Source: the operator documentation of ONNX, opsets 7 and later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from nasplat.errors import CaptureError
from nasplat.frontends.onnx_ops import attributes_of, normalise, trained_slots
from nasplat.graph.columns import Attributes, Node, Shape, Weight
from nasplat.graph.graph import Graph

SMALL = 65_536
"""Constants up to this many elements keep their values."""
MAX_NODES = 200_000
MAX_UNROLLED = 20_000
"""Nodes that the loops of a file may unfold to."""
MAX_ELEMENTS = 2**48
"""A tensor of more elements is an absurdity, no network."""

_ITEMSIZE = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2}
_DTYPE = {
    **{
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
    },
    **{
        12: "uint32",
        13: "uint64",
        14: "complex64",
        15: "complex128",
        16: "bfloat16",
        17: "float8_e4m3fn",
        19: "float8_e5m2",
    },
    **{21: "uint4", 22: "int4"},
}
_FLOATS = frozenset({1, 10, 11, 16, 17, 18, 19, 20})
_QUANTISED = frozenset({2, 3, 6, 21, 22})
_RENAMES = frozenset(
    {"Transpose", "Reshape", "Identity", "Cast", "Squeeze", "Unsqueeze", "DequantizeLinear", "Flatten", "CastLike"}
)
"""A trained weight that passes through one of these alone is still that weight."""

Source = tuple[int, int]


class Reader:
    """Reads one model; `read` gives its graph."""

    def __init__(self, model: Any, path: Path, inputs: list[tuple[Any, Shape]]) -> None:
        """Args:
        model: Without functions of its own.
        path: For messages.
        inputs: With the sizes to assume.
        """
        self.model, self.path, self.inputs = model, path, inputs
        self.opsets = list(model.opset_import)
        self.version = {"" if o.domain == "ai.onnx" else o.domain: int(o.version) for o in self.opsets}
        self.shape: dict[str, Shape] = {}
        self.type: dict[str, int] = {}
        self.value: dict[str, Any] = {}
        """Names that depend on no input; None where the value is unknown or large."""
        self.weight: dict[str, str] = {}
        """Names that hold a trained weight: the initialiser's name."""
        self.nodes: list[Node] = []
        self.edges: list[tuple[int, int, int, int]] = []
        self.table: list[Weight] = []
        self.row: dict[str, int] = {}
        self.producer: dict[str, Source] = {}
        self.notes: dict[str, None] = {}
        self.unrolled = 0
        self.external: set[str] = set()

    def read(self) -> Graph:
        """The graph.

        Raises:
            CaptureError: a node reads what nothing made, or a size is absurd.
        """
        try:
            for value, sizes in self.inputs:
                self.type[value.name] = value.type.tensor_type.elem_type
                self._shaped(value.name, sizes)
                self.producer[value.name] = (len(self.nodes), 0)
                self.nodes.append(Node("input", (), (sizes,), self._itemsize(value.name)))
            self._graph(self.model.graph)
            for value in self.model.graph.output:
                if value.name not in self.producer:
                    self._constant_node(value.name)
                source, slot = self.producer[value.name]
                self.nodes.append(Node("output", (), (self.nodes[source].shapes[slot],), self._itemsize(value.name)))
                self.edges.append((source, slot, len(self.nodes) - 1, 0))
            return Graph(tuple(self.nodes), tuple(self.edges), tuple(self.table), tuple(self.notes), "onnx")
        except RecursionError as err:
            raise CaptureError(f"{self.path}: subgraphs are nested too deep.\n  Run onnx.checker on the file.") from err
        except (ValueError, TypeError, IndexError, KeyError, OverflowError, ArithmeticError, UnicodeError) as err:
            if isinstance(err, CaptureError):
                raise
            first = str(err).splitlines()[0] if str(err) else type(err).__name__
            raise CaptureError(
                f"{self.path}: the graph contradicts itself: {first}\n  Run onnx.checker on the file."
            ) from err

    # -- graphs and subgraphs ------------------------------------------------------------------------------------------

    def _graph(self, graph: Any) -> None:
        for tensor in graph.initializer:
            self._initialiser(tensor.name, tensor)
        for sparse in graph.sparse_initializer:
            self._initialiser(sparse.values.name, sparse.values, tuple(sparse.dims))
        readers = Counter(name for node in graph.node for name in node.input)
        readers.update(value.name for value in graph.output)
        for node in graph.node:  # weights written as constants
            if node.op_type == "Constant" and node.output:
                for a in node.attribute:
                    if a.name == "value" and a.t.data_type in _FLOATS and prod(a.t.dims) > 1:
                        self._initialiser(node.output[0], a.t)
        biases, gelus = self._biases(graph, readers), self._gelus(graph, readers)
        skipped = {name for parts, _ in gelus.values() for name in parts}
        for node in graph.node:
            if node.op_type == "Constant" and node.output and node.output[0] in self.weight:
                continue
            first = node.output[0] if node.output else ""
            if first in gelus:
                x = gelus[first][1]
                self._shaped(first, self.shape.get(x, ()))
                self.type[first] = self.type.get(x, 1)
                self._emit("gelu", (), [x], [first], (), node.name)
            elif first not in skipped:
                add = biases.get(first)
                if add is not None:
                    skipped.add(add[0])
                self._node(node, add)

    def _initialiser(self, name: str, tensor: Any, dims: Shape | None = None) -> None:
        self.type[name] = tensor.data_type
        self._shaped(name, tuple(tensor.dims) if dims is None else dims)
        self.value[name] = None
        if tensor.data_location == 1:
            self.external.add(name)
        size = prod(self.shape[name])
        if size > 1 and (tensor.data_type in _FLOATS or tensor.data_type in _QUANTISED):
            self.weight[name] = name
        if size <= SMALL and tensor.data_location != 1 and tensor.data_type not in {0, 8}:
            from onnx import numpy_helper

            try:
                self.value[name] = numpy_helper.to_array(tensor)
            except (ValueError, TypeError, OverflowError, AttributeError, KeyError):
                self.notes.setdefault(f"initialiser {name!r} has a broken value")

    def _biases(self, graph: Any, readers: Counter[str]) -> dict[str, tuple[str, str]]:
        """MatMuls by a weight whose only reader adds a vector: product: (name of the sum, name of the vector)."""
        products = {
            n.output[0]
            for n in graph.node
            if n.op_type == "MatMul"
            and len(n.input) == 2
            and n.output
            and n.input[1] in self.weight
            and readers[n.output[0]] == 1
        }
        found = {}
        for node in graph.node:
            if node.op_type != "Add" or len(node.input) != 2 or not node.output:
                continue
            for product, vector in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
                if product in products and vector in self.weight and len(self.shape.get(vector, ())) == 1:
                    found[product] = (node.output[0], vector)
        return found

    def _gelus(self, graph: Any, readers: Counter[str]) -> dict[str, tuple[list[str], str]]:
        """Gelu written out, x/√2 → erf → +1 → ·x → ·½ in either order: its last output: (names in between, x)."""
        maker = {name: n for n in graph.node for name in n.output}
        reader = {name: n for n in graph.node for name in n.input if readers[name] == 1}
        found = {}
        for erf in (n for n in graph.node if n.op_type == "Erf" and n.input and n.output):
            scaled = maker.get(erf.input[0])
            plus = reader.get(erf.output[0])
            first = reader.get(plus.output[0]) if plus is not None and plus.op_type == "Add" and plus.output else None
            second = (
                reader.get(first.output[0]) if first is not None and first.op_type == "Mul" and first.output else None
            )
            if (
                scaled is None
                or plus is None
                or first is None
                or second is None
                or second.op_type != "Mul"
                or not second.output
            ):
                continue
            if not scaled.output:
                continue
            inside = [scaled.output[0], erf.output[0], plus.output[0], first.output[0]]
            x = next((n for n in scaled.input if n in (*first.input, *second.input)), None)
            if x is not None:
                found[second.output[0]] = (inside, x)
                continue
            for product in (first, second):  # x · ½ apart: (x · ½) · (1 + erf)
                half = next((maker.get(n) for n in product.input if n not in inside), None)
                if half is not None and half.op_type == "Mul" and half.output and readers[half.output[0]] == 1:
                    x = next((n for n in scaled.input if n in half.input), None)
                    if x is not None and product is first and first.output[0] not in found:
                        found[first.output[0]] = ([*inside[:3], half.output[0]], x)
        return found

    # -- one node ------------------------------------------------------------------------------------------------------

    def _node(self, node: Any, bias: tuple[str, str] | None) -> None:
        inputs = [name for name in node.input if name]
        missing = [n for n in inputs if n not in self.producer and n not in self.value]
        if missing:
            raise CaptureError(
                f"{self.path}: node {node.name or node.op_type!r} reads {missing[0]!r} before it is made.\n"
                "  The graph is cyclic or unsorted; run onnx.checker on the file."
            )
        if not any(node.output):
            return
        kind = node.op_type
        if kind in {"If", "Loop", "Scan"} and node.domain in {"", "ai.onnx"}:
            self._control(node)
            return
        self._infer(node)
        trained = [n for n in inputs if n in self.weight]
        if all(n in self.value for n in inputs) or kind in {"Shape", "Size"}:
            if len(trained) == 1 and kind in _RENAMES and len(node.output) == 1 and inputs[0] == trained[0]:
                self.weight[node.output[0]] = self.weight[trained[0]]
            if (
                kind in {"Shape", "Size", "Constant", "ConstantOfShape"}
                or not trained
                or kind in _RENAMES
                or self._is_arithmetic(node)
            ):
                values = self._evaluate(node)
                for name in node.output:
                    self.value[name] = values.get(name)
                return
        if kind == "Identity":
            self.producer[node.output[0]] = self.producer[inputs[0]]
            return
        if bias is not None and node.output[0] in self.shape:
            self._shaped(bias[0], self.shape[node.output[0]])
            self.type[bias[0]] = self.type.get(node.output[0], 1)
        data = [n for n in node.input if n and n in self.producer]
        slots = trained_slots(node)
        weights = [
            n
            for i, n in enumerate(node.input)
            if n in self.weight and (slots is None or i in slots) and self._counts(n, kind)
        ]
        op, kept = normalise(node, self, weights, bias)
        rows = tuple(dict.fromkeys(self._row(n, op, node) for n in [*weights, *([bias[1]] if bias else [])]))
        self._emit(op, kept, data, [bias[0]] if bias else list(node.output), rows, node.name)

    def _is_arithmetic(self, node: Any) -> bool:
        """Small integers computed from small integers, such as sizes."""
        return all(self.type.get(n, 0) not in _FLOATS for n in node.input if n)

    def _counts(self, name: str, kind: str) -> bool:
        """Floats, dequantised integers, and the integers of operators that multiply such."""
        origin = self.type.get(self.weight[name], 1)
        is_dequantised = self.weight[name] != name and self.type.get(name, 1) in _FLOATS
        return origin in _FLOATS or is_dequantised or "Integer" in kind or kind.startswith("QLinear")

    def _infer(self, node: Any) -> None:
        """Types and shapes of a node's outputs; unknown ones stay out."""
        import onnx

        domain = "" if node.domain == "ai.onnx" else node.domain
        types = {n: self._type_proto(n) for n in node.input if n and (n in self.shape or n in self.type)}
        found: dict[str, Any] = {}
        try:
            schema = onnx.defs.get_schema(node.op_type, self.version.get(domain, 1), domain)
            data = {}
            for n in node.input:
                value = self.value.get(n)
                if value is not None and np.size(value) <= 4096:
                    data[n] = onnx.numpy_helper.from_array(np.asarray(value), n)
            found = onnx.shape_inference.infer_node_outputs(
                schema, node, types, data, {}, self.opsets, self.model.ir_version
            )
        except Exception:  # no schema, or compiled code that raises without a public class
            found = {}
        for name in node.output:
            made = found.get(name)
            if not name or made is None or not made.HasField("tensor_type"):
                continue
            self.type[name] = made.tensor_type.elem_type
            dims = made.tensor_type.shape.dim
            if made.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
                self._shaped(name, tuple(d.dim_value for d in dims))
            elif made.tensor_type.HasField("shape"):
                sizes = self._bound(node, len(dims), [d.dim_value if d.HasField("dim_value") else None for d in dims])
                self._shaped(name, sizes)

    def _bound(self, node: Any, rank: int, dims: Sequence[int | None]) -> Shape:
        """Sizes that depend on data: the most there can be of them."""
        most = max([prod(self.shape.get(n, ())) for n in node.input if n] or [1])
        if node.op_type not in {"NonZero", "Compress", "Unique", "NonMaxSuppression"}:
            most = 1
        what = node.name or node.op_type
        self.notes.setdefault(f"{what}: a size depends on data; counted as {most}")
        return tuple(most if d is None else d for d in dims)

    def _type_proto(self, name: str) -> Any:
        from onnx import helper

        return helper.make_tensor_type_proto(
            self.type.get(name, 1), list(self.shape[name]) if name in self.shape else None
        )

    def _shaped(self, name: str, shape: Iterable[int]) -> None:
        sizes = tuple(max(0, int(s)) for s in shape)
        if prod(sizes) > MAX_ELEMENTS:
            raise CaptureError(
                f"{self.path}: expected sizes of a network, {name!r} has shape {sizes}.\n  The file is broken."
            )
        self.shape[name] = sizes

    def _evaluate(self, node: Any) -> dict[str, Any]:
        """Values of outputs that depend on constants alone, where they are small."""
        from onnx.reference import ReferenceEvaluator
        from onnx.reference.ops import load_op

        if node.op_type == "Shape" and node.input[0] in self.shape:
            a = attributes_of(node)
            return {node.output[0]: np.array(self.shape[node.input[0]][a.get("start", 0) : a.get("end")], np.int64)}
        if node.op_type == "Size" and node.input[0] in self.shape:
            return {node.output[0]: np.array(prod(self.shape[node.input[0]]), np.int64)}
        known = [self.value.get(n) if n else None for n in node.input]
        if any(v is None and n for v, n in zip(known, node.input, strict=True)):
            return {}
        if any(prod(self.shape.get(n, (SMALL + 1,))) > SMALL for n in node.output if n) or node.op_type.startswith(
            "Random"
        ):
            return {}
        try:
            domain = "" if node.domain == "ai.onnx" else node.domain
            run = {"log": _silent, "opsets": self.version, "verbose": 0, "new_ops": None, "existing_functions": {}}
            operator = load_op(domain, node.op_type, self.version.get(domain))(
                node, run | {"evaluator_cls": ReferenceEvaluator}
            )
            made = operator.run(*known)
        except Exception:  # the reference evaluator raises whatever numpy raises
            return {}
        found = {}
        for name, value in zip(node.output, made, strict=False):
            if name and isinstance(value, np.ndarray | np.generic) and np.size(value) <= SMALL:
                found[name] = np.asarray(value)
                self.shape[name] = tuple(np.shape(value))
        return found

    def _emit(
        self, op: str, attributes: Attributes, data: list[str], outputs: list[str], rows: tuple[int, ...], name: str
    ) -> None:
        if len(self.nodes) >= MAX_NODES:
            raise CaptureError(
                f"{self.path}: expected at most {MAX_NODES} operations, got more.\n  Capture a part of the network."
            )
        path = (name or next(n for n in outputs if n)).strip("/").replace("/", ".")
        missing = [n for n in outputs if n and n not in self.shape]
        if missing:
            self.notes.setdefault(f"{path}: the shape of {missing[0]!r} is unknown; its costs are missing")
        if op.startswith("other:"):
            self.notes.setdefault(f"unknown operation {op.removeprefix('other:')!r} at {path!r}: not counted")
        shapes = tuple(self.shape.get(n, ()) for n in outputs)
        here = len(self.nodes)
        is_alias = op in {"view", "slice", "expand"} and bool(data)
        self.nodes.append(
            Node(op, attributes, shapes, self._itemsize(next(n for n in outputs if n)), rows, path, is_alias)
        )
        self.edges += [(*self.producer[n], here, position) for position, n in enumerate(data)]
        for slot, output in enumerate(outputs):
            if output:
                self.producer[output] = (here, slot)
                self.value.pop(output, None)

    def _constant_node(self, name: str) -> None:
        """A constant that is given out as it is."""
        rows = (self._row(name, "constant", None),) if name in self.weight else ()
        self.nodes.append(Node("constant", (), (self.shape.get(name, ()),), self._itemsize(name), rows))
        self.producer[name] = (len(self.nodes) - 1, 0)

    def _itemsize(self, name: str) -> int:
        return _ITEMSIZE.get(self.type.get(name, 1), 4)

    def _row(self, name: str, op: str, node: Any) -> int:
        origin = self.weight[name]
        if origin not in self.row:
            shape = self.shape[origin]
            if (
                op == "linear"
                and len(shape) == 2
                and name == origin
                and not (node.op_type == "Gemm" and attributes_of(node).get("transB"))
            ):
                shape = shape[::-1]  # (out, in), as torch keeps it
            self.row[origin] = len(self.table)
            self.table.append(Weight(origin, shape, _DTYPE.get(self.type.get(origin, 1), "float32")))
        return self.row[origin]

    # -- control flow --------------------------------------------------------------------------------------------------

    def _control(self, node: Any) -> None:
        a = {x.name: x.g for x in node.attribute if x.HasField("g")}
        what = node.name or node.op_type
        if node.op_type == "If":
            condition = self.value.get(node.input[0])
            truth = bool(np.asarray(condition).reshape(-1)[0]) if condition is not None and np.size(condition) else None
            if truth is None:
                self.notes.setdefault(f"{what}: the condition depends on data; the then-branch was taken")
            branch = a.get("else_branch" if truth is False else "then_branch")
            if branch is None:
                raise CaptureError(f"{self.path}: {what!r} lacks a branch.\n  Run onnx.checker on the file.")
            self._graph(branch)
            for inner, outer in zip(branch.output, node.output, strict=False):
                self._rename(inner.name, outer)
            return
        body = a.get("body")
        if body is None:
            raise CaptureError(f"{self.path}: {what!r} lacks a body.\n  Run onnx.checker on the file.")
        (self._loop if node.op_type == "Loop" else self._scan)(node, body, what)

    def _times(self, trips: int | None, body: Any, what: str) -> int:
        """How often a body is laid out."""
        size = max(1, len(body.node))
        if trips is None or trips * size + self.unrolled > MAX_UNROLLED:
            self.notes.setdefault(f"{what}: the body counts once, of {'unknown' if trips is None else trips} times")
            return 1
        self.unrolled += trips * size
        return max(1, trips)

    def _loop(self, node: Any, body: Any, what: str) -> None:
        trip = self.value.get(node.input[0]) if node.input and node.input[0] else None
        trips = int(np.asarray(trip).reshape(-1)[0]) if trip is not None and np.size(trip) else None
        times = self._times(trips, body, what)
        states = list(node.input[2:])
        for turn in range(times):
            names = [v.name for v in body.input]
            if names:
                self._literal(names[0], np.array(turn, np.int64))
            if len(names) > 1:
                self._literal(names[1], np.array(True))
            for outer, inner in zip(states, names[2:], strict=False):
                self._rename(outer, inner)
            self._graph(body)
            states = [v.name for v in body.output[1 : 1 + len(states)]]
        carried = len(node.input) - 2
        for inner, outer in zip([v.name for v in body.output[1:]], node.output, strict=False):
            self._rename(inner, outer)
        for outer in node.output[carried:]:
            if outer in self.shape:
                self._stacked(outer, trips or 1)

    def _scan(self, node: Any, body: Any, what: str) -> None:
        scanned = int(attributes_of(node).get("num_scan_inputs", 1))
        states = list(node.input[: len(node.input) - scanned])
        sequences = list(node.input[len(node.input) - scanned :])
        steps = self.shape[sequences[0]][0] if sequences and self.shape.get(sequences[0]) else 1
        times = self._times(steps, body, what)
        for _ in range(times):
            names = [v.name for v in body.input]
            for outer, inner in zip(states, names, strict=False):
                self._rename(outer, inner)
            for outer, inner in zip(sequences, names[len(states) :], strict=False):
                self.type[inner] = self.type.get(outer, 1)
                self._shaped(inner, self.shape.get(outer, (1,))[1:])
                if outer in self.producer:
                    self._emit("slice", (), [outer], [inner], (), f"{what}.{inner}")
                else:
                    self.value[inner] = None
            self._graph(body)
            states = [v.name for v in body.output[: len(states)]]
        for inner, outer in zip([v.name for v in body.output], node.output, strict=False):
            self._rename(inner, outer)
        for outer in node.output[len(states) :]:
            if outer in self.shape:
                self._stacked(outer, steps)

    def _stacked(self, name: str, times: int) -> None:
        """The results of all turns, one after another."""
        self._shaped(name, (times, *self.shape[name]))
        if name in self.producer:
            self._emit("concat", (), [name], [name], (), name)

    def _literal(self, name: str, value: Any) -> None:
        self.producer.pop(name, None)
        self.value[name], self.shape[name], self.type[name] = value, tuple(value.shape), 9 if value.dtype == bool else 7

    def _rename(self, source: str, target: str) -> None:
        if not target:
            return
        for table in (self.shape, self.type):
            if source in table:
                table[target] = table[source]  # type: ignore[index]
        self.weight.pop(target, None)
        if source in self.producer:
            self.producer[target] = self.producer[source]
            self.value.pop(target, None)
        elif source in self.value:
            self.value[target] = self.value[source]
            self.producer.pop(target, None)
            if source in self.weight:
                self.weight[target] = self.weight[source]
        else:
            raise CaptureError(
                f"{self.path}: a subgraph gives {source!r}, which nothing makes.\n  Run onnx.checker on the file."
            )


def _silent(*args: Any) -> None:
    """The reference evaluator wants to log."""
