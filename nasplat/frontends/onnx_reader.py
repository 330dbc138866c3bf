"""The nodes of an ONNX model in their order, with shapes inferred on the way, become the nodes of a Graph.

What depends on neither input nor trained weight (constants, shape arithmetic) is computed where it is small and carries
no node. Where the condition of a conditional is unknown, its first branch is taken; a loop's body counts as often as
its trip count says, once where nobody knows; both are noted.

Source: the operator documentation of ONNX, opsets 7 and later.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from nasplat.errors import CaptureError
from nasplat.frontends import onnx_patterns
from nasplat.frontends.onnx_names import TRAINED_SLOTS
from nasplat.frontends.onnx_ops import translate_node
from nasplat.frontends.onnx_tensors import DTYPE, FLOATS, Tensors, attributes_of
from nasplat.frontends.tape import Source
from nasplat.graph.bounds import GUESSED, UNSEEN, UNSIZED
from nasplat.graph.columns import Attributes, Node, Shape, Weight
from nasplat.graph.graph import Graph

MAX_NODES = 200_000
"""A file of more operations is refused."""
MAX_UNROLLED = 20_000
"""Nodes that the loops of a file may unfold to."""

_RENAMES = frozenset(
    {"Transpose", "Reshape", "Identity", "Cast", "Squeeze", "Unsqueeze", "DequantizeLinear", "Flatten", "CastLike"}
)
"""A trained weight that passes through one of these alone is still that weight."""


class Reader:
    """Reads one model; `read` gives its graph."""

    def __init__(self, model: Any, path: Path, inputs: list[tuple[Any, Shape]]) -> None:
        """Prepare to read a model.

        Args:
            model: The ONNX model, without functions of its own.
            path: Path of its file, named in messages.
            inputs: Inputs of the network with the sizes to assume.
        """
        self.model, self.path, self.inputs = model, path, inputs
        self.tensors = Tensors(model, path)
        self.notes = self.tensors.notes
        self.causes: set[str] = set()
        """Why totals are not exact, names of `nasplat.graph.bounds.CAUSES`."""
        self.nodes: list[Node] = []
        self.edges: list[tuple[int, int, int, int]] = []
        self.weights: list[Weight] = []
        self.rows: dict[str, int] = {}
        """Row in `weights` of every initialiser that was used."""
        self.producer: dict[str, Source] = {}
        """Where every tensor that depends on an input comes from."""
        self._unrolled = 0

    def read(self) -> Graph:
        """Read the whole model.

        Returns:
            The graph, inputs and outputs included.

        Raises:
            CaptureError: a node reads what nothing made, or a size is absurd.
        """
        try:
            for value, sizes in self.inputs:
                self.tensors.type[value.name] = value.type.tensor_type.elem_type
                self.tensors.set_shape(value.name, sizes)
                self.producer[value.name] = (len(self.nodes), 0)
                self.nodes.append(Node("input", (), (sizes,), self.tensors.itemsize(value.name)))
            self._graph(self.model.graph)
            for value in self.model.graph.output:
                if value.name not in self.producer:
                    self._constant_node(value.name)
                source, slot = self.producer[value.name]
                self.nodes.append(
                    Node("output", (), (self.nodes[source].shapes[slot],), self.tensors.itemsize(value.name))
                )
                self.edges.append((source, slot, len(self.nodes) - 1, 0))
            columns = (tuple(self.nodes), tuple(self.edges), tuple(self.weights), tuple(self.notes), "onnx")
            return Graph(*columns, causes=tuple(sorted(self.causes)))
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
        """Read the graph of the model, or one inside a node."""
        for tensor in graph.initializer:
            self.tensors.add_initialiser(tensor.name, tensor)
        for sparse in graph.sparse_initializer:
            self.tensors.add_initialiser(sparse.values.name, sparse.values, tuple(sparse.dims))
        readers = Counter(name for node in graph.node for name in node.input)
        readers.update(value.name for value in graph.output)
        for node in graph.node:  # weights written as constants
            if node.op_type == "Constant" and node.output:
                for a in node.attribute:
                    if a.name == "value" and a.t.data_type in FLOATS and prod(a.t.dims) > 1:
                        self.tensors.add_initialiser(node.output[0], a.t)
        biases = onnx_patterns.biases(graph, readers, self.tensors)
        gelus = onnx_patterns.gelus(graph, readers)
        skipped = {name for parts, _ in gelus.values() for name in parts}
        for node in graph.node:
            if node.op_type == "Constant" and node.output and node.output[0] in self.tensors.weight:
                continue
            first = node.output[0] if node.output else ""
            if first in gelus:
                x = gelus[first][1]
                self.tensors.set_shape(first, self.tensors.shape.get(x, ()))
                self.tensors.type[first] = self.tensors.type.get(x, 1)
                self._emit("gelu", (), [x], [first], (), node.name)
            elif first not in skipped:
                add = biases.get(first)
                if add is not None:
                    skipped.add(add[0])
                self._node(node, add)

    # -- one node ------------------------------------------------------------------------------------------------------

    def _node(self, node: Any, bias: tuple[str, str] | None) -> None:
        """Read one node; with a bias it is (sum, vector) of the addition that belongs to a product."""
        inputs = [name for name in node.input if name]
        missing = [n for n in inputs if n not in self.producer and n not in self.tensors.value]
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
        self.tensors.infer(node)
        trained = [n for n in inputs if n in self.tensors.weight]
        if all(n in self.tensors.value for n in inputs) or kind in {"Shape", "Size"}:
            if len(trained) == 1 and kind in _RENAMES and len(node.output) == 1 and inputs[0] == trained[0]:
                self.tensors.weight[node.output[0]] = self.tensors.weight[trained[0]]
            if (
                kind in {"Shape", "Size", "Constant", "ConstantOfShape"}
                or not trained
                or kind in _RENAMES
                or self._is_arithmetic(node)
            ):
                values = self.tensors.evaluate(node)
                for name in node.output:
                    self.tensors.value[name] = values.get(name)
                return
        if kind == "Identity":
            self.producer[node.output[0]] = self.producer[inputs[0]]
            return
        if bias is not None and node.output[0] in self.tensors.shape:
            self.tensors.set_shape(bias[0], self.tensors.shape[node.output[0]])
            self.tensors.type[bias[0]] = self.tensors.type.get(node.output[0], 1)
        data = [n for n in node.input if n and n in self.producer]
        slots = TRAINED_SLOTS.get(kind)
        weights = [
            n
            for i, n in enumerate(node.input)
            if n in self.tensors.weight and (slots is None or i in slots) and self._counts(n, kind)
        ]
        op, kept = translate_node(node, self.tensors, weights, bias)
        rows = tuple(dict.fromkeys(self._row(n, op, node) for n in [*weights, *([bias[1]] if bias else [])]))
        self._emit(op, kept, data, [bias[0]] if bias else list(node.output), rows, node.name)

    def _is_arithmetic(self, node: Any) -> bool:
        """Whether a node computes integers from integers, such as sizes."""
        return all(self.tensors.type.get(n, 0) not in FLOATS for n in node.input if n)

    def _counts(self, name: str, kind: str) -> bool:
        """Whether a constant is a trained weight: floats, dequantised integers, and integers that are multiplied."""
        origin = self.tensors.type.get(self.tensors.weight[name], 1)
        is_dequantised = self.tensors.weight[name] != name and self.tensors.type.get(name, 1) in FLOATS
        return origin in FLOATS or is_dequantised or "Integer" in kind or kind.startswith("QLinear")

    def _emit(
        self, op: str, attributes: Attributes, data: list[str], outputs: list[str], rows: tuple[int, ...], name: str
    ) -> None:
        """Append a node that reads the tensors in `data` and makes those in `outputs`."""
        if len(self.nodes) >= MAX_NODES:
            raise CaptureError(
                f"{self.path}: expected at most {MAX_NODES} operations, got more.\n  Capture a part of the network."
            )
        path = (name or next(n for n in outputs if n)).strip("/").replace("/", ".")
        missing = [n for n in outputs if n and n not in self.tensors.shape]
        if missing:
            self.notes.setdefault(f"{path}: the shape of {missing[0]!r} is unknown; its costs are missing")
            self.causes.add(UNSIZED)
        if op.startswith("other:"):
            self.notes.setdefault(f"unknown operation {op.removeprefix('other:')!r} at {path!r}: not counted")
        shapes = tuple(self.tensors.shape.get(n, ()) for n in outputs)
        here = len(self.nodes)
        is_alias = op in {"view", "slice", "expand"} and bool(data)
        self.nodes.append(
            Node(op, attributes, shapes, self.tensors.itemsize(next(n for n in outputs if n)), rows, path, is_alias)
        )
        self.edges += [(*self.producer[n], here, position) for position, n in enumerate(data)]
        for slot, output in enumerate(outputs):
            if output:
                self.producer[output] = (here, slot)
                self.tensors.value.pop(output, None)

    def _constant_node(self, name: str) -> None:
        """A constant that is given out as it is."""
        rows = (self._row(name, "constant", None),) if name in self.tensors.weight else ()
        self.nodes.append(Node("constant", (), (self.tensors.shape.get(name, ()),), self.tensors.itemsize(name), rows))
        self.producer[name] = (len(self.nodes) - 1, 0)

    def _row(self, name: str, op: str, node: Any) -> int:
        """Row of a trained weight in the table, which grows by one where it is new."""
        origin = self.tensors.weight[name]
        if origin not in self.rows:
            shape = self.tensors.shape[origin]
            if (
                op == "linear"
                and len(shape) == 2
                and name == origin
                and not (node.op_type == "Gemm" and attributes_of(node).get("transB"))
            ):
                shape = shape[::-1]  # (out, in), as torch keeps it
            self.rows[origin] = len(self.weights)
            self.weights.append(Weight(origin, shape, DTYPE.get(self.tensors.type.get(origin, 1), "float32")))
        return self.rows[origin]

    # -- control flow --------------------------------------------------------------------------------------------------

    def _control(self, node: Any) -> None:
        """Lay out a conditional, a loop or a scan."""
        a = {x.name: x.g for x in node.attribute if x.HasField("g")}
        what = node.name or node.op_type
        if node.op_type == "If":
            condition = self.tensors.value.get(node.input[0])
            truth = bool(np.asarray(condition).reshape(-1)[0]) if condition is not None and np.size(condition) else None
            if truth is None:
                self.notes.setdefault(f"{what}: the condition depends on data; the then-branch was taken")
                self.causes.add(GUESSED)
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
        if trips is None or trips * size + self._unrolled > MAX_UNROLLED:
            self.notes.setdefault(f"{what}: the body counts once, of {'unknown' if trips is None else trips} times")
            self.causes.add(GUESSED if trips is None else UNSEEN)
            return 1
        self._unrolled += trips * size
        return max(1, trips)

    def _loop(self, node: Any, body: Any, what: str) -> None:
        trip = self.tensors.value.get(node.input[0]) if node.input and node.input[0] else None
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
            if outer in self.tensors.shape:
                self._stacked(outer, trips or 1)

    def _scan(self, node: Any, body: Any, what: str) -> None:
        scanned = int(attributes_of(node).get("num_scan_inputs", 1))
        states = list(node.input[: len(node.input) - scanned])
        sequences = list(node.input[len(node.input) - scanned :])
        steps = self.tensors.shape[sequences[0]][0] if sequences and self.tensors.shape.get(sequences[0]) else 1
        times = self._times(steps, body, what)
        for _ in range(times):
            names = [v.name for v in body.input]
            for outer, inner in zip(states, names, strict=False):
                self._rename(outer, inner)
            for outer, inner in zip(sequences, names[len(states) :], strict=False):
                self.tensors.type[inner] = self.tensors.type.get(outer, 1)
                self.tensors.set_shape(inner, self.tensors.shape.get(outer, (1,))[1:])
                if outer in self.producer:
                    self._emit("slice", (), [outer], [inner], (), f"{what}.{inner}")
                else:
                    self.tensors.value[inner] = None
            self._graph(body)
            states = [v.name for v in body.output[: len(states)]]
        for inner, outer in zip([v.name for v in body.output], node.output, strict=False):
            self._rename(inner, outer)
        for outer in node.output[len(states) :]:
            if outer in self.tensors.shape:
                self._stacked(outer, steps)

    def _stacked(self, name: str, times: int) -> None:
        """The results of all turns, one after another."""
        self.tensors.set_shape(name, (times, *self.tensors.shape[name]))
        if name in self.producer:
            self._emit("concat", (), [name], [name], (), name)

    def _literal(self, name: str, value: Any) -> None:
        """Name a constant."""
        self.producer.pop(name, None)
        self.tensors.value[name], self.tensors.shape[name], self.tensors.type[name] = (
            value,
            tuple(value.shape),
            9 if value.dtype == bool else 7,
        )

    def _rename(self, source: str, target: str) -> None:
        """Give a tensor a second name; what was known by that name is forgotten."""
        if not target:
            return
        for table in (self.tensors.shape, self.tensors.type):
            if source in table:
                table[target] = table[source]  # type: ignore[index]
        self.tensors.weight.pop(target, None)
        if source in self.producer:
            self.producer[target] = self.producer[source]
            self.tensors.value.pop(target, None)
        elif source in self.tensors.value:
            self.tensors.value[target] = self.tensors.value[source]
            self.producer.pop(target, None)
            if source in self.tensors.weight:
                self.tensors.weight[target] = self.tensors.weight[source]
        else:
            raise CaptureError(
                f"{self.path}: a subgraph gives {source!r}, which nothing makes.\n  Run onnx.checker on the file."
            )
