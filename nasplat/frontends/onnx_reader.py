"""The nodes of an ONNX model in their order, with shapes inferred on the way, become the nodes of a Graph.

What depends on neither input nor trained weight (constants, shape arithmetic) is computed where it is small and carries
no node. Where the condition of a conditional is unknown, its first branch is taken; a loop's body counts as often as
its trip count says, once where nobody knows; both are noted.

Source: the operator documentation of ONNX, opsets 7 and later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from nasplat.errors import CaptureError
from nasplat.frontends import onnx_patterns
from nasplat.frontends.onnx_inputs import FileInputs
from nasplat.frontends.onnx_lowering import lower
from nasplat.frontends.onnx_names import CARRIERS, FILLERS, TRAINED_SLOTS, WEIGHT_SLOTS
from nasplat.frontends.onnx_ops import translate_node
from nasplat.frontends.onnx_tensors import DTYPE, FLOATS, LATEST, QUANTISED, Tensors, attributes_of
from nasplat.frontends.onnx_writer import LAYOUT
from nasplat.frontends.tape import Source
from nasplat.graph.bounds import ASSUMED, GUESSED, HIDDEN_WEIGHTS, LARGEST, UNSEEN, UNSIZED
from nasplat.graph.columns import Attributes, Node, Weight
from nasplat.graph.graph import Graph

MAX_NODES = 200_000
"""A file of more operations is refused."""
MAX_UNROLLED = 20_000
"""Nodes that the loops of a file may unfold to."""


class Reader:
    """Reads one model; `read` gives its graph."""

    def __init__(self, model: Any, path: Path, inputs: FileInputs) -> None:
        """Prepare to read a model.

        Args:
            model: The ONNX model, without functions of its own.
            path: Path of its file, named in messages.
            inputs: Inputs of the network with the sizes to assume.
        """
        self.model, self.path, self.inputs = model, path, inputs.inputs
        self.tensors = Tensors(model, path)
        self.tensors.sizes |= inputs.sizes
        self.notes = self.tensors.notes
        self.notes |= dict.fromkeys(inputs.notes)
        self.causes = self.tensors.causes
        """Why totals are not exact, names of `nasplat.graph.bounds.CAUSES`."""
        if inputs.is_assumed:
            self.causes.add(ASSUMED)
        self.nodes: list[Node] = []
        self.edges: list[tuple[int, int, int, int]] = []
        self.weights: list[Weight] = []
        self.rows: dict[str, int] = {}
        """Row in `weights` of every weight that was used."""
        self.producer: dict[str, Source] = {}
        """Where every tensor that depends on an input comes from."""
        self._unrolled = 0
        self._scopes: dict[str, str] = {}
        """Subgraph in which every weight's name was met first; '' is the model's own graph."""
        self._renamed: dict[tuple[str, str], str] = {}
        """Names of further weights of one name, by name and subgraph."""
        self._own: dict[str, str] = {}
        """Name in the table of every tensor of the file, by the name that it has where the reader stands."""
        self._single: set[str] = set()
        """Tensors of the file that hold a single number."""
        self._filled: set[str] = set()
        """Constants that an operator fills in."""

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
                if sizes is not None:
                    self.tensors.set_shape(value.name, sizes)
                self.producer[value.name] = (len(self.nodes), 0)
                self.nodes.append(Node("input", (), (sizes or (),), self.tensors.itemsize(value.name)))
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
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as err:
            if isinstance(err, CaptureError):
                raise
            first = str(err).splitlines()[0] if str(err) else type(err).__name__
            raise CaptureError(
                f"{self.path}: the graph contradicts itself: {first}\n  Run onnx.checker on the file."
            ) from err

    # -- graphs and subgraphs ------------------------------------------------------------------------------------------

    def _graph(self, graph: Any, scope: str = "") -> None:
        """Read the graph of the model, or one inside the node that `scope` names."""
        self.tensors.declare([*graph.value_info, *graph.output])
        tensors: list[tuple[str, Any, tuple[int, ...] | None]] = [(t.name, t, None) for t in graph.initializer]
        tensors += [(s.values.name, s.values, tuple(s.dims)) for s in graph.sparse_initializer]
        for node in graph.node:  # weights written as constants
            if node.op_type == "Constant" and node.output and node.domain in {"", "ai.onnx"}:
                found = onnx_patterns.constant(node)
                if found is not None and found.data_type in FLOATS | QUANTISED and prod(found.dims):
                    tensors.append((node.output[0], found, None))
        for name, tensor, dims in tensors:
            self.producer.pop(name, None)
            self.tensors.add_initialiser(name, tensor, dims)
            if name in self.tensors.weight and self._scopes.setdefault(name, scope) != scope:
                self._renamed[name, scope] = f"{scope}/{name}"  # another weight of that name in another subgraph
        for name, tensor, _ in tensors:
            self._own[name] = self._renamed.get((name, scope), name)
            (self._single.add if prod(tensor.dims) == 1 else self._single.discard)(name)
            self._filled.discard(name)
        self._lay_out(graph.node, [value.name for value in graph.output])

    def _lay_out(self, nodes: Sequence[Any], outputs: Iterable[str], version: int | None = None) -> None:
        """Read nodes in their order; those that make up one operation of the vocabulary become one."""
        kept = set(outputs)
        readers = onnx_patterns.readers(nodes, kept)
        gelus = onnx_patterns.gelus(nodes, readers)
        skipped = {name for parts, _ in gelus.values() for name in parts}
        single = {n: node for node in nodes for n in node.input if readers[n] == 1}
        made_here: set[str] = set()
        for node in nodes:
            again = made_here.intersection(n for n in node.output if n)
            if again and version is None:
                raise CaptureError(f"{self.path}: {again.pop()!r} is made twice.\n  Run onnx.checker on the file.")
            first = node.output[0] if node.output else ""
            if first in gelus:
                x = gelus[first][1]
                if x in self.tensors.shape:
                    self.tensors.set_shape(first, self.tensors.shape[x])
                self.tensors.type[first] = self.tensors.type.get(x, 1)
                self._emit("gelu", (), [x], [first], (), node.name)
            elif first not in skipped:
                add = onnx_patterns.bias(node, single, self.tensors)
                if add is not None:
                    skipped.add(add[0])
                self._node(node, add, version)
            made_here.update(node.output)
            for name in node.input:
                readers[name] -= 1
                if not readers[name] and name in made_here:
                    self.tensors.forget(name)

    # -- one node ------------------------------------------------------------------------------------------------------

    def _node(self, node: Any, bias: tuple[str, str] | None, version: int | None = None) -> None:
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
        kind, is_own = node.op_type, node.domain in {"", "ai.onnx"}
        if kind in {"If", "Loop", "Scan"} and is_own:
            self._control(node)
            return
        if kind == "Constant" and is_own and node.output[0] in self._own:
            return
        lowered = lower(node, self.tensors)
        if lowered is not None:
            self._lay_out(lowered, node.output, LATEST)
            return
        self.tensors.infer(node, version)
        if is_own:
            self._promote(node)
            if all(n in self.tensors.value for n in inputs) and self._is_folded(node, inputs):
                self._fold(node, inputs)
                return
            if kind in {"Shape", "Size"}:
                self._fold(node, [])
                return
            if kind == "Identity":
                self.producer[node.output[0]] = self.producer[inputs[0]]
                return
        if bias is not None and node.output[0] in self.tensors.shape:
            self.tensors.set_shape(bias[0], self.tensors.shape[node.output[0]])
            self.tensors.type[bias[0]] = self.tensors.type.get(node.output[0], 1)
        data = [n for n in node.input if n and n in self.producer]
        slots = TRAINED_SLOTS.get(kind) if is_own else None
        weights = [
            n
            for i, n in enumerate(node.input)
            if n in self.tensors.weight
            and n not in self.producer
            and (slots is None or i in slots)
            and not self._is_blank_state(kind, i, n)
        ]
        op, kept = translate_node(node, self.tensors, weights, bias)
        names = [*weights, *([bias[1]] if bias else [])]
        rows = tuple(dict.fromkeys(r for n in names for r in self._rows(n, op, node)))
        self._emit(op, kept, data, [bias[0]] if bias else list(node.output), rows, node.name)

    def _is_blank_state(self, kind: str, position: int, name: str) -> bool:
        """Whether an operand is the first state of a recurrent layer and all zeros, which nobody trained."""
        value = self.tensors.value.get(name)
        return kind in {"LSTM", "GRU", "RNN"} and position in {5, 6} and value is not None and not np.any(value)

    def _promote(self, node: Any) -> None:
        """A constant that multiplies the data of a layer is a weight, though small or filled in by an operator."""
        for position in WEIGHT_SLOTS.get(node.op_type, ()):
            name = node.input[position] if position < len(node.input) else ""
            if not name or name in self.producer or name in self.tensors.weight or name not in self.tensors.shape:
                continue
            is_single = self.tensors.shape[name] in {(), (1,), (1, 1), (1, 1, 1, 1)} and name in self._single
            if node.op_type == "Gather" and (is_single or len(self.tensors.shape[name]) < 2):
                continue
            if self.tensors.type.get(name, 1) in FLOATS and (is_single or name in self._filled):
                self.tensors.weight[name] = (name,)

    def _is_folded(self, node: Any, inputs: list[str]) -> bool:
        """Whether a node of constants is computed once, before the network runs."""
        trained = any(n in self.tensors.weight for n in inputs)
        return not trained or node.op_type in CARRIERS or self._is_arithmetic(node)

    def _fold(self, node: Any, inputs: list[str]) -> None:
        """Compute what depends on constants alone; what is computed from weights still is those weights."""
        carried = inputs[:1] if node.op_type in {"DequantizeLinear", "QuantizeLinear"} else inputs
        origins = tuple(dict.fromkeys(o for n in carried for o in self.tensors.weight.get(n, ())))
        values = self.tensors.evaluate(node)
        for name in (n for n in node.output if n):
            self.producer.pop(name, None)
            self.tensors.weight.pop(name, None)
            self.tensors.value[name] = values.get(name)
            is_filled = any(n in self._filled for n in inputs) and node.op_type in CARRIERS
            (self._filled.add if is_filled or node.op_type in FILLERS else self._filled.discard)(name)
            if origins and node.op_type in CARRIERS:
                self.tensors.weight[name] = origins

    def _is_arithmetic(self, node: Any) -> bool:
        """Whether a node computes integers from integers, such as sizes."""
        return all(self.tensors.type.get(n, 0) not in FLOATS for n in node.input if n)

    def _emit(
        self, op: str, attributes: Attributes, data: list[str], outputs: list[str], rows: tuple[int, ...], name: str
    ) -> None:
        """Append a node that reads the tensors in `data` and makes those in `outputs`."""
        if len(self.nodes) >= MAX_NODES:
            raise CaptureError(
                f"{self.path}: expected at most {MAX_NODES} operations, got more.\n  Capture a part of the network."
            )
        is_layout = name.endswith(LAYOUT)
        path = (name.removesuffix(LAYOUT) or next(n for n in outputs if n)).strip("/").replace("/", ".")
        missing = [n for n in outputs if n and n not in self.tensors.shape]
        if missing:
            why = f" ({self.tensors.refusal})" if self.tensors.refusal else ""
            self.notes.setdefault(f"{path}: the shape of {missing[0]!r} is unknown{why}; its costs are missing")
            self.causes.add(UNSIZED)
        if op.startswith("other:"):
            self.notes.setdefault(f"unknown operation {op.removeprefix('other:')!r} at {path!r}: not counted")
        shapes = tuple(self.tensors.shape.get(n, ()) for n in outputs)
        here = len(self.nodes)
        is_alias = (op in {"view", "slice", "expand"} or is_layout) and bool(data)
        self.nodes.append(
            Node(op, attributes, shapes, self.tensors.itemsize(next(n for n in outputs if n)), rows, path, is_alias)
        )
        self.edges += [(*self.producer[n], here, position) for position, n in enumerate(data)]
        for slot, output in enumerate(outputs):
            if output:
                self.producer[output] = (here, slot)
                self.tensors.value.pop(output, None)
                self.tensors.weight.pop(output, None)

    def _constant_node(self, name: str) -> None:
        """A constant that is given out as it is."""
        rows = self._rows(name, "constant", None) if name in self.tensors.weight else ()
        self.nodes.append(Node("constant", (), (self.tensors.shape.get(name, ()),), self.tensors.itemsize(name), rows))
        self.producer[name] = (len(self.nodes) - 1, 0)

    def _rows(self, name: str, op: str, node: Any) -> tuple[int, ...]:
        """Rows of the weights that a tensor holds in the table, which grows where they are new.

        Weights are floats, integers that were converted to floats, and integers that an operation multiplies as such.
        """
        is_integer = node is None or "Integer" in node.op_type or node.op_type.startswith("QLinear")
        is_packed = op == "embedding" or op.startswith("other:")  # counts are sizes and indices in neither
        if op.startswith("other:") and any(
            self.tensors.type.get(o, 1) not in FLOATS for o in self.tensors.weight[name]
        ):
            self.causes.add(HIDDEN_WEIGHTS)  # several may lie packed in one byte
        is_float = self.tensors.type.get(name, 1) in FLOATS
        found = []
        for origin in self.tensors.weight[name]:
            kind = self.tensors.type.get(origin, 1)
            if kind not in FLOATS and not (is_integer or is_float or (is_packed and kind != TensorProto.INT32)):
                continue
            own = self._own.get(origin, origin)
            if own not in self.rows:
                shape, dtype = self.tensors.shape.get(origin, ()), DTYPE.get(kind, "float32")
                if origin in self.tensors.logical:
                    shape, dtype = self.tensors.logical[origin]
                is_turned = node is not None and node.op_type == "Gemm" and attributes_of(node).get("transB")
                if op == "linear" and len(shape) == 2 and name == origin and not is_turned:
                    shape = shape[::-1]  # (out, in), as torch keeps it
                self.rows[own] = len(self.weights)
                self.weights.append(Weight(own, shape, dtype))
            found.append(self.rows[own])
        return tuple(found)

    # -- control flow --------------------------------------------------------------------------------------------------

    def _control(self, node: Any) -> None:
        """Lay out a conditional, a loop or a scan."""
        a = {x.name: x.g for x in node.attribute if x.HasField("g")}
        what = node.name or node.op_type
        scope = next(n for n in node.output if n)
        if node.op_type == "If":
            condition = self.tensors.value.get(node.input[0])
            truth = bool(np.asarray(condition).reshape(-1)[0]) if condition is not None and np.size(condition) else None
            if truth is None:
                self.notes.setdefault(f"{what}: the condition depends on data; the then-branch was taken")
                self.causes.add(GUESSED)
            branch = a.get("else_branch" if truth is False else "then_branch")
            if branch is None:
                raise CaptureError(f"{self.path}: {what!r} lacks a branch.\n  Run onnx.checker on the file.")
            self._graph(branch, scope)
            for inner, outer in zip(branch.output, node.output, strict=False):
                self._rename(inner.name, outer)
            return
        body = a.get("body")
        if body is None:
            raise CaptureError(f"{self.path}: {what!r} lacks a body.\n  Run onnx.checker on the file.")
        (self._loop if node.op_type == "Loop" else self._scan)(node, body, what, scope)

    def _times(self, trips: int | None, body: Any, what: str) -> int:
        """How often a body is laid out."""
        size = max(1, sum(1 for _ in onnx_patterns.all_nodes(body.node)))
        if trips is None or trips * size + self._unrolled > MAX_UNROLLED:
            self.notes.setdefault(f"{what}: the body counts once, of {'unknown' if trips is None else trips} times")
            self.causes.add(GUESSED if trips is None else UNSEEN)
            return 1
        self._unrolled += trips * size
        return max(0, trips)

    def _truth(self, name: str) -> bool | None:
        """Value of a condition, None where it is unknown; a condition that is left out holds."""
        value = self.tensors.value.get(name) if name else True
        return bool(np.asarray(value).reshape(-1)[0]) if value is not None and np.size(value) else None

    def _loop(self, node: Any, body: Any, what: str, scope: str) -> None:
        trip = self.tensors.value.get(node.input[0]) if node.input and node.input[0] else None
        trips = int(np.asarray(trip).reshape(-1)[0]) if trip is not None and np.size(trip) else None
        if self._truth(node.input[1] if len(node.input) > 1 else "") is False:
            trips = 0
        times = self._times(trips, body, what)
        states = list(node.input[2:])
        done = 0
        while done < times:
            names = [v.name for v in body.input]
            if names:
                self._literal(names[0], np.array(done, np.int64))
            if len(names) > 1:
                self._literal(names[1], np.array(True))
            for outer, inner in zip(states, names[2:], strict=False):
                self._rename(outer, inner)
            self._graph(body, scope)
            states = [v.name for v in body.output[1 : 1 + len(states)]]
            done += 1
            goes_on = self._truth(body.output[0].name) if body.output else None
            if goes_on is False:
                break
            if goes_on is None and times > 1:
                self.causes.add(LARGEST)
                self.notes.setdefault(
                    f"{what}: data decides when it ends; counted as {times} turns, the most it can be"
                )
        carried = len(node.input) - 2
        if not done:
            self._unturned(node, states, carried)
            return
        for inner, outer in zip([v.name for v in body.output[1:]], node.output, strict=False):
            self._rename(inner, outer)
        for outer in node.output[carried:]:
            if outer in self.tensors.shape:
                self._stacked(outer, done if times > 1 else trips or 1)

    def _unturned(self, node: Any, states: list[str], carried: int) -> None:
        """The results of a body that never runs: its states as they came, and nothing stacked."""
        for state, outer in zip(states, node.output, strict=False):
            self._rename(state, outer)
        for outer in (n for n in node.output[carried:] if n):
            self.producer.pop(outer, None)
            self.tensors.value[outer] = None
            declared = self.tensors.declared_shape(outer)
            if declared is not None:
                self.tensors.set_shape(outer, (0, *declared[1:]))

    def _scan(self, node: Any, body: Any, what: str, scope: str) -> None:
        if self.tensors.version.get("", LATEST) < 9:
            raise CaptureError(
                f"{self.path}: {what!r} is a Scan of operator set 8, whose batches are not read.\n"
                "  Convert the file with onnx.version_converter."
            )
        a = attributes_of(node)
        scanned = int(a.get("num_scan_inputs", 1))
        states = list(node.input[: len(node.input) - scanned])
        sequences = list(node.input[len(node.input) - scanned :])
        axes = [*(int(x) for x in a.get("scan_input_axes", ())), *(0 for _ in sequences)]
        shapes = [self.tensors.shape.get(n, ()) for n in sequences]
        steps = shapes[0][axes[0]] if shapes and shapes[0] else None
        times = self._times(steps, body, what)
        for _ in range(times):
            names = [v.name for v in body.input]
            for outer, inner in zip(states, names, strict=False):
                self._rename(outer, inner)
            for outer, inner, shape, axis in zip(sequences, names[len(states) :], shapes, axes, strict=False):
                self.tensors.type[inner] = self.tensors.type.get(outer, 1)
                if shape:
                    at = axis % len(shape)
                    self.tensors.set_shape(inner, (*shape[:at], *shape[at + 1 :]))
                if outer in self.producer:
                    self._emit("slice", (), [outer], [inner], (), f"{what}.{inner}")
                else:
                    self.tensors.value[inner] = None
            self._graph(body, scope)
            states = [v.name for v in body.output[: len(states)]]
        if not times:
            self._unturned(node, states, len(states))
            return
        for inner, outer in zip([v.name for v in body.output], node.output, strict=False):
            self._rename(inner, outer)
        for outer in node.output[len(states) :]:
            if outer in self.tensors.shape:
                self._stacked(outer, steps or 1)

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
