"""One forward pass on meta tensors becomes a Graph: no weights are read, no FLOPs are spent, any control flow runs.

A dispatch mode under inference mode sees composite operators whole (convolution, linear, attention …). Parameters and
large tensors enter as meta twins; small tensors that depend on no input keep their values, so index arithmetic and shape
logic answer truly. A tensor's producer is found by identity and by how often its storage was written, so in-place ops and
views keep their order.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map_only

from nasplat.capturing.block import SIGNATURE
from nasplat.capturing.normalise import TRANSPARENT, normalise
from nasplat.errors import CaptureError
from nasplat.graph.graph import Graph, Node, Weight

MAX_NODES = 100_000
"""A loop over data that never ends stops here."""

KEEP_VALUES = 65_536
"""Tensors up to this many elements that depend on no input keep their values."""

_META = torch.device("meta")
_SHAPES: dict[Any, tuple[tuple[int, ...], tuple[int, ...], torch.dtype]] = {}
"""Output layout per (op, input layouts, arguments): a pure function, so one table serves the process."""
_SEGMENTS: dict[Any, _Segment] = {}
"""Recorded blocks per (signature, input layouts, mode); pure as well."""
_LIMIT = 200_000
_LOCK = threading.Lock()
"""The forward hooks that tell module paths are global in torch: one capture at a time."""


def capture_module(module: nn.Module, example_input: Any) -> Graph:
    """Record what a module computes at inference.

    Args:
        module: Any module, on any device; it is run once in eval mode on meta tensors and left as it was.
        example_input: A shape tuple, a tensor, or a tuple of them; a shape means float32.

    Returns:
        The graph, inputs and outputs included.

    Raises:
        CaptureError: the module raised, or an operator has no meta kernel; the message names operator, module and line.
    """
    inputs = _as_inputs(example_input)
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _LOCK, torch.inference_mode():
            recorder = _Recorder(module)
            twins = [t.to(_META) if isinstance(t, Tensor) else t for t in inputs]
            for twin in twins:
                if isinstance(twin, Tensor):
                    recorder.add_input(twin)
            with recorder.following(module), recorder:
                try:
                    result = module(*twins)
                except CaptureError:
                    raise
                except Exception as err:
                    raise CaptureError(_explain(err, recorder, inputs)) from err
            recorder.add_outputs(result)
            return recorder.graph()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for m, training in modes:
            m.training = training


def _as_inputs(example: Any) -> list[Any]:
    if isinstance(example, Tensor):
        return [example]
    if isinstance(example, Sequence) and example and all(isinstance(v, int) for v in example):
        return [torch.empty(tuple(example), device=_META)]
    if isinstance(example, Sequence) and example and all(isinstance(v, Tensor | tuple | list) for v in example):
        return [v if isinstance(v, Tensor) else torch.empty(tuple(v), device=_META) for v in example]
    raise CaptureError(
        f"expected example_input as a shape tuple, a tensor, or a tuple of them, got {example!r}.\n"
        "  Pass for instance example_input=(1, 3, 224, 224)."
    )


def _explain(err: Exception, recorder: _Recorder, inputs: list[Any]) -> str:
    frames = traceback.extract_tb(err.__traceback__)
    ours = [f for f in frames if "/torch/" not in f.filename and "/nasplat/capturing/" not in f.filename]
    where = f"{ours[-1].filename}:{ours[-1].lineno}" if ours else "unknown line"
    shapes = ", ".join(str(tuple(t.shape)) for t in inputs if isinstance(t, Tensor))
    path = recorder.stack[-1] if recorder.stack else ""
    return (
        f"the network raised {type(err).__name__} on input {shapes}, in module {path or '(root)'!r}, {where}, after operator "
        f"{recorder.last!r}: {str(err).splitlines()[0] if str(err) else ''}\n  Check example_input, or mend that line."
    )


class _Segment:
    """A recorded block with everything relative to it."""

    def __init__(self, nodes: list[Node], edges: list[Any], weights: list[str], outputs: list[Any], single: bool) -> None:
        self.nodes, self.edges, self.weights, self.outputs, self.single = nodes, edges, weights, outputs, single


class _Recorder(TorchDispatchMode):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.edges: list[tuple[int, int, int, int]] = []
        self.weights: list[Weight] = []
        self.notes: dict[str, None] = {}
        self.stack: list[str] = []
        self.last = ""
        self.row: dict[int, int] = {}
        self.names: dict[int, str] = {}
        for name, parameter in module.named_parameters():
            self.names.setdefault(id(parameter), name)
        self.buffers = {id(b) for b in module.buffers()}
        self.paths = {id(m): name for name, m in module.named_modules()}
        self.twins: dict[int, Tensor] = {}
        self.producer: dict[int, tuple[int, int, int]] = {}
        self.writer: dict[int, tuple[int, int]] = {}
        self.version: dict[int, int] = {}
        self.answers: dict[str, int] = {}
        self.alive: list[Any] = []  # ids are only unique while their objects live

    # -- what the caller sees ------------------------------------------------------------------------------------------

    def add_input(self, tensor: Tensor) -> None:
        self.nodes.append(Node("input", (), (tuple(tensor.shape),), tensor.element_size()))
        self._produced(tensor, len(self.nodes) - 1, 0)

    def add_outputs(self, result: Any) -> None:
        for tensor in tree_flatten(_unpack(result))[0]:
            if isinstance(tensor, Tensor):
                source = self._source(tensor)
                self.nodes.append(Node("output", (), (tuple(tensor.shape),), tensor.element_size()))
                self.edges.append((*source, len(self.nodes) - 1, 0))

    def graph(self) -> Graph:
        return Graph(tuple(self.nodes), tuple(self.edges), tuple(self.weights), tuple(self.notes))

    @contextmanager
    def following(self, module: nn.Module) -> Iterator[None]:
        """Know which module runs, and replay blocks seen before."""
        patched = []
        for part in module.modules():
            if part.__dict__.get(SIGNATURE) is not None and "forward" not in part.__dict__:
                part.__dict__["forward"] = _Replay(self, part)
                patched.append(part)
        enter = torch_module.register_module_forward_pre_hook(lambda m, _: self.stack.append(self._path(m)))
        leave = torch_module.register_module_forward_hook(lambda m, _, __: self._leave(), always_call=False)
        try:
            yield
        finally:
            enter.remove()
            leave.remove()
            for part in patched:
                part.__dict__.pop("forward", None)

    def _path(self, module: nn.Module) -> str:
        return self.paths.get(id(module), self.stack[-1] if self.stack else "")

    def _leave(self) -> None:
        self.stack.pop()

    # -- one operator --------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket.__name__
        self.last = packet
        if packet in {"_local_scalar_dense", "item", "is_nonzero"}:
            return self._scalar(args[0], func)
        flat = [a for a in tree_flatten((args, kwargs))[0] if isinstance(a, Tensor)]
        if all(self._has_value(t) for t in flat):
            result = self._by_value(func, flat, args, kwargs)
            if result is not NotImplemented:
                return result
        return self._by_shape(func, packet, flat, args, kwargs)

    def _has_value(self, tensor: Tensor) -> bool:
        return (
            tensor.device.type != "meta"
            and id(tensor) not in self.names
            and id(tensor) not in self.twins
            and tensor.numel() <= KEEP_VALUES
        )

    def _by_value(self, func: Any, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Run an operator that depends on no input for real, unless it is large."""
        if not flat:
            sizes = [a for a in args if isinstance(a, list | tuple) and all(isinstance(v, int) for v in a)]
            size = 1
            for v in sizes[0] if sizes else ():
                size *= v
            if size > KEEP_VALUES:
                return NotImplemented
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "meta":
            kwargs = kwargs | {"device": torch.device("cpu")}
        return func(*args, **kwargs)

    def _by_shape(self, func: Any, packet: str, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        schema = func._schema
        writes = bool(schema.is_mutable)
        if "device" in kwargs and kwargs["device"] is not None:
            kwargs = kwargs | {"device": _META}
        elif not flat:
            kwargs = kwargs | {"device": _META}
        meta_args, meta_kwargs = tree_map_only(Tensor, self._twin, (args, kwargs))
        in_place = writes and packet.endswith("_") and bool(args) and isinstance(args[0], Tensor)
        sources = [(t, self._source(t)) for t in flat if self._is_data(t)]
        result = args[0] if in_place else self._layout(func, schema, meta_args, meta_kwargs)
        outputs = [t for t in tree_flatten(result)[0] if isinstance(t, Tensor)]
        name = packet.rstrip("_") if in_place else packet
        if name in TRANSPARENT and sources and not in_place:
            for tensor in outputs:
                self._produced(tensor, *sources[0][1])
            return result
        if name.startswith(("empty", "new_empty")):
            return result  # memory nobody has written is no computation
        op, attributes = normalise(name, meta_args, meta_kwargs, outputs)
        if op == "mul" and dict(attributes).get("args") in {(0,), (0.0,)}:
            op, attributes = "zeros", ()
        rows = tuple(dict.fromkeys(self._row(t) for t in flat if id(t) in self.names))
        shapes = tuple(tuple(t.shape) for t in outputs)
        itemsize = outputs[0].element_size() if outputs else 4
        self._append(Node(op, attributes, shapes, itemsize, rows, self.stack[-1] if self.stack else ""), [s for _, s in sources])
        here = len(self.nodes) - 1
        if in_place:
            target = self._twin(args[0])
            storage = target.untyped_storage()._cdata
            self.version[storage] = self.version.get(storage, 0) + 1
            self.writer[storage] = (here, 0)
            self.twins.setdefault(id(args[0]), target)  # its values are known no longer
            self._produced(args[0], here, 0)
            return args[0]
        for slot, tensor in enumerate(outputs):
            self._produced(tensor, here, slot)
        return result

    def _layout(self, func: Any, schema: Any, args: Any, kwargs: Any) -> Any:
        """Outputs of an operator on meta tensors, from the table when the operator makes one fresh tensor."""
        fresh = (
            len(schema.returns) == 1 and schema.returns[0].alias_info is None and func._overloadpacket.__name__ not in _MAY_ALIAS
        )
        key = None
        if fresh:
            try:
                key = (func, tree_flatten(tree_map_only(Tensor, _signature, (args, kwargs)))[0].__repr__())
            except TypeError:
                key = None
            found = _SHAPES.get(key)
            if found is not None:
                return torch.empty_strided(found[0], found[1], dtype=found[2], device=_META)
        result = func(*args, **kwargs)
        if key is not None and isinstance(result, Tensor) and len(_SHAPES) < _LIMIT:
            _SHAPES[key] = (tuple(result.shape), result.stride(), result.dtype)
        return result

    def _append(self, node: Node, sources: list[tuple[int, int]]) -> None:
        if len(self.nodes) >= MAX_NODES:
            raise CaptureError(
                f"expected at most {MAX_NODES} operations, module {node.path!r} runs more.\n"
                "  A loop over data does not end on meta tensors; capture its body alone."
            )
        self.nodes.append(node)
        here = len(self.nodes) - 1
        self.edges += [(source, slot, here, position) for position, (source, slot) in enumerate(sources)]

    # -- who made what -------------------------------------------------------------------------------------------------

    def _is_data(self, tensor: Tensor) -> bool:
        """Parameters and buffers are the node's own; everything else is an operand."""
        return (id(tensor) not in self.names and id(tensor) not in self.buffers) or id(tensor) in self.producer

    def _twin(self, tensor: Tensor) -> Tensor:
        if tensor.device.type == "meta":
            return tensor
        twin = self.twins.get(id(tensor))
        if twin is None:
            twin = _empty(tuple(tensor.shape), tensor.stride(), tensor.dtype)
            self.twins[id(tensor)] = twin
            self.alive.append(tensor)
        return twin

    def _produced(self, tensor: Tensor, node: int, slot: int) -> None:
        storage = self._twin(tensor).untyped_storage()._cdata
        self.producer[id(tensor)] = (node, slot, self.version.get(storage, 0))
        self.writer.setdefault(storage, (node, slot))
        self.alive.append(tensor)

    def _source(self, tensor: Tensor) -> tuple[int, int]:
        storage = self._twin(tensor).untyped_storage()._cdata
        found = self.producer.get(id(tensor))
        if found is not None and found[2] == self.version.get(storage, 0):
            return found[0], found[1]
        writer = self.writer.get(storage)
        if writer is not None:
            return writer
        if id(tensor) in self.names:  # a parameter that is returned or written as it is
            node = Node("constant", (), (tuple(tensor.shape),), tensor.element_size(), (self._row(tensor),))
        else:
            node = Node("constant", (), (tuple(tensor.shape),), tensor.element_size())
        self._append(node, [])
        self._produced(tensor, len(self.nodes) - 1, 0)
        return len(self.nodes) - 1, 0

    def _row(self, parameter: Tensor) -> int:
        if id(parameter) not in self.row:
            self.row[id(parameter)] = len(self.weights)
            self.weights.append(Weight(self.names[id(parameter)], tuple(parameter.shape)))
        return self.row[id(parameter)]

    def _scalar(self, tensor: Tensor, func: Any) -> Any:
        if self._has_value(tensor):
            return func(tensor)
        frames = [f for f in traceback.extract_stack() if "/torch/" not in f.filename and "/nasplat/" not in f.filename]
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown line"
        visits = self.answers[where] = self.answers.get(where, 0) + 1
        self.notes[f"{where}: a value of the data decides here; capture answered a guess"] = None
        truth = visits % 8 == 0  # flips after several visits of one line, so that loops end
        is_claim = tensor.dtype == torch.bool or func._overloadpacket.__name__ == "is_nonzero"
        return truth if is_claim else float(truth) if tensor.dtype.is_floating_point else int(truth)

    # -- blocks --------------------------------------------------------------------------------------------------------

    def replay(self, part: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a block's forward, or paste what it recorded the last time."""
        own = type(part).forward
        plain = not kwargs and all(isinstance(t, Tensor) and t.device.type == "meta" and self._is_fresh(t) for t in inputs)
        if not plain or len({id(t) for t in inputs}) != len(inputs):
            return own(part, *inputs, **kwargs)
        key = (part.__dict__[SIGNATURE], tuple(map(_signature, inputs)), part.training)
        path = self._path(part)
        parameters: dict[str, Tensor] = dict(part.named_parameters())
        segment = _SEGMENTS.get(key)
        if segment is None:
            start, notes = len(self.nodes), len(self.notes)
            edges = len(self.edges)
            entry = [self._source(t) for t in inputs]
            versions = dict(self.version)
            result = own(part, *inputs)
            untouched = all(versions.get(s, 0) == self.version.get(s, 0) for s in (t.untyped_storage()._cdata for t in inputs))
            if untouched and len(self.notes) == notes and len(_SEGMENTS) < _LIMIT:
                segment = self._cut(start, edges, entry, inputs, result, parameters, path)
                if segment is not None:
                    _SEGMENTS[key] = segment
            return result
        base = len(self.nodes)
        entry = [self._source(t) for t in inputs]
        rows = [self._row(parameters[name]) for name in segment.weights]
        for n in segment.nodes:
            where = f"{path}.{n.path}" if path and n.path else path or n.path
            self.nodes.append(Node(n.op, n.attributes, n.shapes, n.itemsize, tuple(rows[w] for w in n.weights), where))
        for source, slot, target, position in segment.edges:
            made = entry[-source - 1] if source < 0 else (source + base, slot)
            self.edges.append((*made, target + base, position))
        outputs = []
        for layout, source, slot in segment.outputs:
            if layout is None:
                outputs.append(inputs[-source - 1])
                continue
            tensor = _empty(*layout)
            self._produced(tensor, base + source, slot)
            outputs.append(tensor)
        return outputs[0] if segment.single else tuple(outputs)

    def _is_fresh(self, tensor: Tensor) -> bool:
        found = self.producer.get(id(tensor))
        return found is not None and found[2] == self.version.get(tensor.untyped_storage()._cdata, 0)

    def _cut(
        self, start: int, edges: int, entry: list[Any], inputs: Any, result: Any, parameters: dict[str, Tensor], path: str
    ) -> _Segment | None:
        """The nodes since `start` with everything relative, or None when they reach outside the block."""
        name = {id(p): n for n, p in parameters.items()}
        row_name = {self.row[i]: n for i, n in name.items() if i in self.row}
        known: dict[tuple[int, int], int] = {source: -i - 1 for i, source in enumerate(entry)}
        weights: dict[str, int] = {}
        nodes = []
        for n in self.nodes[start:]:
            if any(w not in row_name for w in n.weights) or n.op == "constant":
                return None
            rows = tuple(weights.setdefault(row_name[w], len(weights)) for w in n.weights)
            inner = n.path[len(path) :].lstrip(".") if n.path.startswith(path) else n.path
            nodes.append(Node(n.op, n.attributes, n.shapes, n.itemsize, rows, inner))
        inside = []
        for source, slot, target, position in self.edges[edges:]:
            if source < start and (source, slot) not in known:
                return None
            inside.append((known[(source, slot)] if source < start else source - start, slot, target - start, position))
        tensors = [result] if isinstance(result, Tensor) else list(result) if isinstance(result, tuple) else []
        outputs: list[Any] = []
        for t in tensors:
            if not isinstance(t, Tensor) or t.device.type != "meta":
                return None
            source, slot = self._source(t)
            if source >= start:
                if any(t.untyped_storage()._cdata == u.untyped_storage()._cdata for u in inputs):
                    return None
                outputs.append(((tuple(t.shape), t.stride(), t.dtype), source - start, slot))
            elif any(t is u for u in inputs):
                outputs.append((None, next(-i - 1 for i, u in enumerate(inputs) if u is t), 0))
            else:
                return None
        return _Segment(nodes, inside, list(weights), outputs, isinstance(result, Tensor)) if outputs else None


class _Replay:
    """Stands in for a block's forward while a capture runs."""

    def __init__(self, recorder: _Recorder, part: nn.Module) -> None:
        self.recorder, self.part = recorder, part

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.recorder.replay(self.part, inputs, kwargs)


_MAY_ALIAS = frozenset({"reshape", "flatten", "contiguous", "expand_as", "view_as", "to", "dropout", "squeeze", "chunk", "T"})


def _empty(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A meta tensor, unseen by the recorder."""
    with _disable_current_modes():
        return torch.empty_strided(shape, stride, dtype=dtype, device=_META)


def _signature(tensor: Tensor) -> tuple[Any, ...]:
    return (tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _unpack(result: Any) -> Any:
    """Dataclass-like outputs (as of transformers) become dicts."""
    if hasattr(result, "__dataclass_fields__") and not isinstance(result, Tensor):
        return {k: getattr(result, k) for k in result.__dataclass_fields__}
    return result
