"""What a module's forward pass does becomes nodes: a dispatch mode under which the module is run once.

Under inference mode composite operators (convolution, linear, attention …) arrive whole. Parameters and large tensors have meta
twins; small tensors that depend on no input keep their values, so index arithmetic and shape logic answer truly; small integer
inputs carry their values as shadows beside the recorded nodes. A tensor's producer is found by identity and by how often its
storage was written, so in-place operators and views keep their order.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from nasplat.capturing.block import SHELL, SIGNATURE, fill, walk
from nasplat.capturing.bounded import NAMES as BOUNDED
from nasplat.capturing.bounded import RULED, bounded, ruled
from nasplat.capturing.digest import digest
from nasplat.capturing.normalise import NOTHING, RANDOM, TRANSPARENT, dtype_name, normalise
from nasplat.errors import CaptureError
from nasplat.graph import ops
from nasplat.graph.graph import Attributes, Graph, Node, Shape, Weight

MAX_NODES = 100_000
"""A loop over data that never ends stops here."""

KEEP_VALUES = 65_536
"""Tensors up to this many elements that depend on no input keep their values."""

META = torch.device("meta")
_CPU = torch.device("cpu")
_NODES: dict[Any, _Known] = {}
"""What an operator does with given layouts and arguments: a pure function, so one table serves the process."""
_SEGMENTS: dict[Any, _Segment] = {}
"""Recorded blocks per (signature, input layouts, mode); pure as well."""
_OPERATORS: dict[Any, _Operator] = {}
_LIMIT = 200_000

Source = tuple[int, int]


class _Operator:
    """What the schema of an overload says."""

    __slots__ = ("arguments", "composite", "creates", "device_at", "in_place", "name", "packet", "scalar", "writes")

    def __init__(self, func: Any) -> None:
        schema = func._schema
        self.packet = func._overloadpacket.__name__
        self.writes = bool(schema.is_mutable)
        self.in_place = self.writes and self.packet.endswith("_") and not self.packet.endswith("__")
        self.name = self.packet.rstrip("_") if self.in_place else self.packet
        self.arguments = [
            (a.name, a.default_value if a.has_default_value() else _MISSING, a.alias_info is not None and a.alias_info.is_write)
            for a in schema.arguments
        ]
        self.scalar = self.packet in {"_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "is_same_size"}
        self.composite = bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"))
        self.creates = self.name.startswith(("empty", "new_empty"))
        names = [name for name, _, _ in self.arguments]
        self.device_at = names.index("device") if "device" in names else None

    def on(self, device: torch.device, args: Any, kwargs: Any, force: bool = False) -> tuple[Any, Any]:
        """The call with its device argument, where it has one, replaced."""
        if self.device_at is None:
            return args, kwargs
        if self.device_at < len(args):
            if args[self.device_at] is not None:
                args = (*args[: self.device_at], device, *args[self.device_at + 1 :])
        elif force or kwargs.get("device") is not None:
            kwargs = kwargs | {"device": device}
        return args, kwargs


_MISSING = object()


class _Known:
    """Op, attributes and outputs of a call seen before."""

    __slots__ = ("attributes", "is_alias", "itemsize", "layouts", "op", "shapes", "single")

    def __init__(
        self, op: str, attributes: Attributes, outputs: list[Tensor], is_alias: bool, layouts: Any, single: bool
    ) -> None:
        self.op, self.attributes, self.is_alias, self.layouts, self.single = op, attributes, is_alias, layouts, single
        self.shapes: tuple[Shape, ...] = tuple(tuple(t.shape) for t in outputs)
        self.itemsize = outputs[0].element_size() if outputs else 4


class _Segment:
    """A recorded block with everything relative to it."""

    __slots__ = ("edges", "nodes", "outputs", "single", "weights")

    def __init__(self, nodes: list[Node], edges: list[Any], weights: list[Weight], outputs: list[Any], single: bool) -> None:
        self.nodes, self.edges, self.weights, self.outputs, self.single = nodes, edges, weights, outputs, single


class Recorder(TorchDispatchMode):
    """Runs beneath one forward pass; `graph()` tells what it saw."""

    def __init__(
        self,
        module: nn.Module,
        twin: Callable[[Tensor], Tensor] | None = None,
        reuses: bool = True,
        first_answer: bool = False,
        decomposes: bool = False,
        keep: int = KEEP_VALUES,
    ) -> None:
        """Args:
        module: Whose parameters and paths are to be recognised.
        twin: Makes the stand-in of a real tensor; a meta tensor by default. With one of its own, operators really run.
        reuses: Paste blocks that were recorded before; else keep every call for a program.
        first_answer: What a branch on unknown data is told at first.
        decomposes: Open composite operators that arrive whole.
        keep: Elements up to which tensors that depend on no input keep their values.
        """
        super().__init__()
        self.nodes: list[Node] = []
        self.edges: list[tuple[int, int, int, int]] = []
        self.weights: list[Weight] = []
        self.notes: dict[str, None] = {}
        self.inputs: list[Tensor] = []
        self.stack: list[str] = []
        self.counts: list[int] = []
        self.last = ""
        self.reuses, self.first_answer, self.decomposes = reuses, first_answer, decomposes
        self.calls: list[tuple[Any, Sequence[Any], dict[str, Any], Any]] | None = None if reuses else []
        self.make_twin = twin
        self.keep = keep
        self.row: dict[Any, int] = {}
        self.names: dict[int, str] = {}
        self.parameters: dict[int, Tensor] = {}
        self.buffers: dict[int, str] = {}
        self.unsaved: set[str] = set()
        """Buffers that a state dict leaves out."""
        self.paths: dict[int, str] = {}
        self.leaves: set[int] = set()
        self.blocks: list[nn.Module] = []
        self._meet(module, "")
        self.twins: dict[int, Tensor] = {}
        self.parents: dict[int, int] = {}
        """Transposed views and aliases of parameters: the parameter's id."""
        self.shadows: dict[int, Tensor] = {}
        self.bounded: set[int] = set()
        """Tensors whose length the data decides, and which have the most there can be."""
        self.producer: dict[int, tuple[int, int, int]] = {}
        self.writer: dict[int, Source] = {}
        self.version: dict[int, int] = {}
        self.answers: dict[str, int] = {}
        self.snapshots: dict[int, Tensor] = {}
        self.alive: list[Any] = []  # ids are only unique while their objects live

    def _meet(self, module: nn.Module, prefix: str) -> None:
        """Know the names of a module's parts, parameters and buffers."""
        for inner, part in walk(module):
            name = f"{prefix}.{inner}" if prefix and inner else prefix or inner
            self.paths[id(part)] = name
            if part.__dict__.get(SIGNATURE) is not None:
                self.blocks.append(part)
            if SHELL in part.__dict__:
                continue
            if not part._modules and not isinstance(part, nn.Sequential):
                self.leaves.add(id(part))
            for key, parameter in part._parameters.items():
                if parameter is not None and id(parameter) not in self.names:
                    self.names[id(parameter)] = f"{name}.{key}" if name else key
                    self.parameters[id(parameter)] = parameter
            for key, buffer in part._buffers.items():
                if buffer is not None and id(buffer) not in self.buffers:
                    self.buffers[id(buffer)] = f"{name}.{key}" if name else key
                    if key in part._non_persistent_buffers_set:
                        self.unsaved.add(self.buffers[id(buffer)])

    # -- what the caller sees ------------------------------------------------------------------------------------------

    def add_input(self, tensor: Tensor, value: Tensor | None = None) -> None:
        """An input of the network; small integers may come with their values."""
        self.nodes.append(Node("input", (), (tuple(tensor.shape),), tensor.element_size()))
        self._produced(tensor, len(self.nodes) - 1, 0)
        self.inputs.append(tensor)
        if value is not None and value.device.type != "meta" and value.numel() <= self.keep and not value.is_floating_point():
            self.shadows[id(tensor)] = value

    def add_outputs(self, tensors: Sequence[Tensor]) -> None:
        """What the network returned, flattened."""
        for tensor in tensors:
            source = self._source(tensor)
            self.nodes.append(Node("output", (), (tuple(tensor.shape),), tensor.element_size()))
            self.edges.append((*source, len(self.nodes) - 1, 0))

    def graph(self, rung: str) -> Graph:
        """Everything seen so far."""
        return Graph(tuple(self.nodes), tuple(self.edges), tuple(self.weights), tuple(self.notes), rung)

    @contextmanager
    def following(self, module: nn.Module) -> Iterator[None]:
        """Know which module runs, and replay blocks seen before."""
        self.patched: list[nn.Module] = []
        self._patch()
        enter = torch_module.register_module_forward_pre_hook(self._enter)
        leave = torch_module.register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            enter.remove()
            leave.remove()
            for part in self.patched:
                part.__dict__.pop("forward", None)

    def _patch(self) -> None:
        for part in self.blocks if self.reuses else ():
            if "forward" not in part.__dict__:
                part.__dict__["forward"] = _Replay(self, part)
                self.patched.append(part)

    def _path(self, module: nn.Module) -> str:
        return self.paths.get(id(module), self.stack[-1] if self.stack else "")

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self.stack.append(self._path(module))
        self.counts.append(len(self.nodes))

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        is_silent = self.counts.pop() == len(self.nodes) and id(module) in self.leaves
        changed = None
        if is_silent and inputs and output is inputs[0] and isinstance(output, Tensor) and id(output) in self.producer:
            changed = self._identity(output)  # a module without an operation is a node, too
        self.stack.pop()
        return changed

    def _identity(self, tensor: Tensor) -> Tensor:
        with _disable_current_modes():
            other = torch.ops.aten.alias(tensor)
        if self.calls is not None:
            self.calls.append((torch.ops.aten.alias.default, (tensor,), {}, other))
        self._append(
            Node("identity", (), (tuple(tensor.shape),), tensor.element_size(), (), self.stack[-1], True), [self._source(tensor)]
        )
        self._produced(other, len(self.nodes) - 1, 0)
        if id(tensor) in self.shadows:
            self.shadows[id(other)] = self.shadows[id(tensor)]
        return other

    # -- one operator --------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operator = _OPERATORS.get(func)
        if operator is None:
            if func.namespace == "prim":  # asks a fake tensor for its device
                with _disable_current_modes():
                    return func(*args, **kwargs)
            operator = _OPERATORS[func] = _Operator(func)
        self.last = operator.packet
        flat: list[Tensor] = []
        _gather(args, flat)
        if kwargs:
            _gather(kwargs.values(), flat)
        if operator.scalar:
            return self._scalar(func, flat, args, kwargs)
        if operator.name in NOTHING:
            return None
        if operator.in_place and operator.name in TRANSPARENT:
            return args[0]
        if all(self._is_constant(t) for t in flat) and operator.name not in RANDOM:
            result = self._by_value(func, operator, flat, args, kwargs)
            if result is not NotImplemented:
                return result
        if operator.composite and (self.decomposes or operator.name in _OPENED):
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        return self._by_shape(func, operator, flat, args, kwargs)

    def _is_constant(self, tensor: Tensor) -> bool:
        """Has a value and depends on no input."""
        i = id(tensor)
        return (
            tensor.device.type != "meta"
            and i not in self.names
            and i not in self.twins
            and i not in self.producer
            and tensor.numel() <= self.keep
            and tensor.layout == torch.strided
        )

    def _by_value(self, func: Any, operator: _Operator, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Run an operator that depends on no input for real, unless it is large."""
        if not flat:
            sizes = [a for a in args if isinstance(a, list | tuple) and all(isinstance(v, int) for v in a)]
            size = 1
            for v in sizes[0] if sizes else ():
                size *= v
            if size > self.keep:
                return NotImplemented
        args, kwargs = operator.on(_CPU, args, kwargs, force=not flat and torch.get_default_device().type != "cpu")
        if operator.name in BOUNDED or self.make_twin is None:
            result = func(*args, **kwargs)
        else:
            with _disable_current_modes():  # under a fake mode constants stay real
                result = func(*args, **kwargs)
        if operator.creates and isinstance(result, Tensor):
            with _disable_current_modes():
                result.zero_()  # memory nobody has written would differ from run to run
        return result

    def _by_shape(self, func: Any, operator: _Operator, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        shadow = self._shadow(func, flat, args, kwargs) if self.shadows else None  # before anything gets a twin
        args, kwargs = operator.on(META if self.make_twin is None else _CPU, args, kwargs, force=not flat)
        if self.make_twin is None:
            stands = all(t.device.type == "meta" for t in flat)
            meta_args, meta_kwargs = (args, kwargs) if stands else (_swap(args, self._twin), _swap(kwargs, self._twin))
        else:
            meta_args, meta_kwargs = _swap(args, self._twin), _swap(kwargs, self._twin)
        name = operator.name
        sources = [(t, self._source(t)) for t in flat if self._is_data(t)]
        known, result, outputs = self._run(func, operator, meta_args, meta_kwargs, flat, shadow)
        if not outputs and not operator.writes:
            return result  # an answer in plain Python
        if self.calls is not None:
            for t in flat:
                if id(t) not in self.snapshots and self._is_constant(t) and id(t) not in self.buffers:
                    with _disable_current_modes():
                        self.snapshots[id(t)] = t.clone()
                    self.alive.append(t)
            self.calls.append((func, args, kwargs, result))
            self.alive.append((args, kwargs, result))
        if operator.creates and not operator.in_place:
            return result  # memory nobody has written is no computation
        if self._is_parameter_still(name, known, flat, outputs):
            return result
        if (name in TRANSPARENT or (known.op == "cast" and not known.attributes)) and sources and not operator.in_place:
            for tensor in outputs:
                self._produced(tensor, *sources[0][1])
            return result
        rows = tuple(dict.fromkeys(self._row(t) for t in flat if id(t) in self.names or id(t) in self.parents))
        path = self.stack[-1] if self.stack else ""
        if known.op.startswith("other:"):
            note = f"unknown operation {known.op.removeprefix('other:')!r} in module {path or '(root)'!r}, {_line()}: not counted"
            self.notes.setdefault(note)
        attributes = known.attributes
        if (
            rows
            and sources
            and known.op not in ops.WEIGHTED
            and known.op not in ops.NORMALISATION
            and known.op not in ops.COMMUTATIVE
        ):
            first = next(t for t in flat if id(t) in self.names or id(t) in self.parents or self._is_data(t))
            if id(first) in self.names or id(first) in self.parents:
                attributes = tuple(sorted((*attributes, ("first", "weight"))))
        self._append(
            Node(known.op, attributes, known.shapes, known.itemsize, rows, path, known.is_alias),
            [source for _, source in sources],
        )
        here = len(self.nodes) - 1
        if operator.writes:
            self._wrote(operator, args, kwargs, here, shadow)
        if not operator.in_place:
            for slot, tensor in enumerate(outputs):
                self._produced(tensor, here, slot)
                if shadow is not None:
                    self._keep(tensor, shadow, slot)
        return result

    def _is_parameter_still(self, name: str, known: _Known, flat: list[Tensor], outputs: list[Tensor]) -> bool:
        """A transposed view or an alias of a parameter stands for the parameter; an alias of a buffer for the buffer."""
        turned = known.op == "permute" and flat and flat[0].dim() <= 2
        same = name in TRANSPARENT or (known.op == "cast" and not known.attributes)
        if not (turned or same) or len(flat) != 1 or len(outputs) != 1 or id(flat[0]) in self.producer:
            return False
        parent = id(flat[0]) if id(flat[0]) in self.names else self.parents.get(id(flat[0]))
        if parent is not None:
            self.parents[id(outputs[0])] = parent
        elif same and id(flat[0]) in self.buffers:
            self.buffers[id(outputs[0])] = self.buffers[id(flat[0])]
        else:
            return False
        self.alive.append(outputs[0])
        return True

    def _run(
        self, func: Any, operator: _Operator, args: Any, kwargs: Any, flat: list[Tensor], shadow: Any
    ) -> tuple[_Known, Any, list[Tensor]]:
        """What the call is, what it returns, and the tensors in that; from the table where it is known."""
        key = None
        is_meta = self.make_twin is None
        if shadow is None:
            try:
                key = (func, _frozen(args), _frozen(kwargs), tuple([id(t) in self.names or id(t) in self.parents for t in flat]))
                known = _NODES.get(key)
            except TypeError:
                key = known = None
            if known is not None and is_meta and known.layouts is not None:
                tensors = [torch.empty_strided(shape, stride, dtype=dtype, device=META) for shape, stride, dtype in known.layouts]
                return known, tensors[0] if known.single else tuple(tensors), tensors
            if known is not None and operator.in_place and is_meta:
                return known, flat[0], flat[:1]
        else:
            known = None
        guess = False
        if (
            operator.name == "unbind"
            and id(flat[0]) in self.bounded
            and flat[0].shape[0] > 1
            and not kwargs
            and args[1:] in {(), (0,)}
        ):
            self.notes.setdefault(f"{_line()}: a loop over as many items as the data decides; its body counts once")
            result = [args[0].select(0, 0)]
            key = known = None
        elif operator.in_place and is_meta:
            result = flat[0]
        elif shadow is not None and operator.name in BOUNDED and is_meta:
            result = _map(shadow, lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=META))
        elif operator.name in BOUNDED and is_meta:
            result, guess = bounded(operator.name, func, args, kwargs)
        elif operator.name in RULED and is_meta:
            result = ruled(operator.name, func, args, kwargs)
        else:
            result = func(*args, **kwargs)
            if operator.in_place and flat:
                result = flat[0]
        outputs: list[Tensor] = []
        _gather(result if isinstance(result, list | tuple) else (result,), outputs)
        if guess:
            self.bounded.update(map(id, outputs))
            self.alive.append(outputs)
            self.notes.setdefault(f"{_line()}: {operator.name!r} has as many elements as the data decides; counted with the most")
        if known is not None:
            return known, result, outputs
        is_alias = operator.in_place or _shares(outputs, flat, self._twin)
        arguments = _arguments(operator, args, kwargs)
        parameters = {
            id(a) for a, t in zip(_flat(args, kwargs), flat, strict=False) if id(t) in self.names or id(t) in self.parents
        }
        kind = "nonzero_numpy" if operator.name == "where" and len(arguments) == 1 else operator.name
        op, attributes = normalise(kind, arguments, outputs, lambda t: id(t) in parameters)
        if operator.name in {"to", "_to_copy", "type_as", "contiguous", "clone"}:
            op, attributes = self._cast(flat, outputs, is_alias)
        if op == "mul" and dict(attributes).get("other") == 0:
            op, attributes = "zeros", ()
        single = isinstance(result, Tensor)
        fresh = is_meta and not is_alias and not guess and not operator.writes and (single or type(result) is tuple)
        fresh = fresh and (single or all(isinstance(t, Tensor) for t in result)) and bool(outputs)
        layouts = [(tuple(t.shape), t.stride(), t.dtype) for t in outputs] if fresh else None
        known = _Known(op, attributes, outputs, is_alias, layouts, single)
        if key is not None and not guess and is_meta and len(_NODES) < _LIMIT:
            _NODES[key] = known
        return known, result, outputs

    @staticmethod
    def _cast(flat: list[Tensor], outputs: list[Tensor], is_alias: bool) -> tuple[str, Attributes]:
        before, after = flat[0].dtype, outputs[0].dtype
        if before != after:
            return "cast", (("dtype", dtype_name(after)),)
        return ("cast", ()) if is_alias else ("copy", ())

    def _wrote(self, operator: _Operator, args: Any, kwargs: Any, here: int, shadow: Any) -> None:
        """Every argument the schema says is written now comes from this node."""
        for position, (name, _, is_written) in enumerate(operator.arguments):
            value = args[position] if position < len(args) else kwargs.get(name)
            for slot, tensor in enumerate([value] if isinstance(value, Tensor) else value if isinstance(value, list) else ()):
                if not is_written or not isinstance(tensor, Tensor):
                    continue
                target = self._twin(tensor)
                storage = target.untyped_storage()._cdata
                self.version[storage] = self.version.get(storage, 0) + 1
                self.writer[storage] = (here, 0)
                self.twins.setdefault(id(tensor), target)  # its values are known no longer
                self.shadows.pop(id(tensor), None)
                if shadow is not None and slot == 0:
                    self._keep(tensor, shadow, 0)
                self._produced(tensor, here, 0)

    # -- values known beside the recorded nodes ------------------------------------------------------------------------

    def _shadow(self, func: Any, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Result on real values where every operand's values are known and at least one came from an input."""
        if not any(id(t) in self.shadows for t in flat) or not all(id(t) in self.shadows or self._is_constant(t) for t in flat):
            return None
        try:
            with _disable_current_modes():
                real_args, real_kwargs = (_swap(a, lambda t: self.shadows.get(id(t), t).clone()) for a in (args, kwargs))
                real_args, real_kwargs = _OPERATORS[func].on(_CPU, real_args, real_kwargs)
                return func(*real_args, **real_kwargs)
        except (RuntimeError, NotImplementedError, TypeError):
            return None

    def _keep(self, tensor: Tensor, shadow: Any, slot: int) -> None:
        value = shadow if isinstance(shadow, Tensor) else shadow[slot] if slot < len(shadow) else None
        if isinstance(value, Tensor) and value.numel() <= self.keep and value.shape == tensor.shape:
            self.shadows[id(tensor)] = value

    def known_value(self, tensor: Tensor) -> Tensor | None:
        """A tensor's values, where they are known."""
        return self.shadows.get(id(tensor)) if id(tensor) in self.shadows else tensor if self._is_constant(tensor) else None

    def _scalar(self, func: Any, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        values = [self.known_value(t) for t in flat]
        if all(v is not None for v in values):
            swap: dict[int, Tensor] = {id(t): v for t, v in zip(flat, values, strict=True) if v is not None}
            with _disable_current_modes():
                return func(*_swap(args, lambda t: swap[id(t)]), **kwargs)
        if self.make_twin is not None and not _is_fake(self._twin(flat[0])):
            with _disable_current_modes():
                return func(*args, **kwargs)
        return self.guess(flat[0].dtype, func._overloadpacket.__name__ not in {"_local_scalar_dense", "item"})

    def guess(self, dtype: torch.dtype, is_claim: bool = False) -> Any:
        """An answer for a value nobody knows; noted, and other after several visits of one line, so that loops end."""
        where = _line()
        visits = self.answers[where] = self.answers.get(where, 0) + 1
        self.notes[f"{where}: a value of the data decides here; capture answered a guess"] = None
        truth = (visits % 8 == 0) != self.first_answer
        if is_claim or dtype == torch.bool:
            return truth
        truth = (visits % 512 == 0) != self.first_answer  # numbers are sizes more often than conditions of a loop
        return float(truth) if dtype.is_floating_point else complex(truth) if dtype.is_complex else int(truth)

    # -- who made what -------------------------------------------------------------------------------------------------

    def _append(self, node: Node, sources: list[Source]) -> None:
        if len(self.nodes) >= MAX_NODES:
            raise CaptureError(
                f"expected at most {MAX_NODES} operations, module {node.path!r} runs more.\n"
                "  A loop over data does not end on meta tensors; capture its body alone."
            )
        self.nodes.append(node)
        here = len(self.nodes) - 1
        for position, (source, slot) in enumerate(sources):
            self.edges.append((source, slot, here, position))

    def _is_data(self, tensor: Tensor) -> bool:
        """Parameters and buffers are the node's own; everything else is an operand."""
        i = id(tensor)
        return (i not in self.names and i not in self.buffers and i not in self.parents) or i in self.producer

    def _twin(self, tensor: Tensor) -> Tensor:
        if tensor.device.type == "meta" and self.make_twin is None:
            return tensor
        twin = self.twins.get(id(tensor))
        if twin is None:
            if self.make_twin is not None:
                twin = tensor if id(tensor) in self.producer else self.make_twin(tensor)
            else:
                twin = empty(tuple(tensor.shape), tensor.stride(), tensor.dtype)
            self.twins[id(tensor)] = twin
            self.alive.append(tensor)
        return twin

    def _produced(self, tensor: Tensor, node: int, slot: int) -> None:
        storage = self._twin(tensor).untyped_storage()._cdata
        self.producer[id(tensor)] = (node, slot, self.version.get(storage, 0))
        self.writer.setdefault(storage, (node, slot))
        self.alive.append(tensor)

    def _source(self, tensor: Tensor) -> Source:
        storage = self._twin(tensor).untyped_storage()._cdata
        found = self.producer.get(id(tensor))
        if found is not None and found[2] == self.version.get(storage, 0):
            return found[0], found[1]
        writer = self.writer.get(storage)
        if writer is not None:
            return writer
        if isinstance(tensor, nn.Parameter) and id(tensor) not in self.names and any(SHELL in b.__dict__ for b in self.blocks):
            raise SharedInsides
        rows = (self._row(tensor),) if id(tensor) in self.names or id(tensor) in self.parents else ()
        value: Attributes = ()
        if not rows and tensor.device.type != "meta" and tensor.numel() <= self.keep and self._is_constant_value(tensor):
            value = (("value", digest(tensor)),)
        self._append(Node("constant", value, (tuple(tensor.shape),), tensor.element_size(), rows), [])
        here = len(self.nodes) - 1
        if rows or value:
            self.producer[id(tensor)] = (here, 0, self.version.get(storage, 0))
            self.alive.append(tensor)
        else:
            self._produced(tensor, here, 0)
        return here, 0

    def _is_constant_value(self, tensor: Tensor) -> bool:
        return not _is_fake(tensor) and tensor.layout == torch.strided

    def _row(self, tensor: Tensor) -> int:
        parameter = self.parents.get(id(tensor), id(tensor))
        if parameter not in self.row:
            self.row[parameter] = len(self.weights)
            self.weights.append(Weight(self.names[parameter], tuple(self.parameters[parameter].shape), dtype_name(tensor.dtype)))
        return self.row[parameter]

    # -- blocks --------------------------------------------------------------------------------------------------------

    def replay(self, part: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a block's forward, or paste what it recorded the last time."""
        own = type(part).forward
        plain = not kwargs and all(isinstance(t, Tensor) and t.device.type == "meta" and self._is_fresh(t) for t in inputs)
        if not plain or len({id(t) for t in inputs}) != len(inputs):
            self._fill(part)
            return own(part, *inputs, **kwargs)
        key = (part.__dict__[SIGNATURE], _frozen(inputs), part.training, self.decomposes)
        path = self._path(part)
        segment = _SEGMENTS.get(key)
        if segment is None:
            self._fill(part)
            start, notes = len(self.nodes), len(self.notes)
            edges = len(self.edges)
            entry = [self._source(t) for t in inputs]
            versions = dict(self.version)
            result = own(part, *inputs)
            untouched = all(versions.get(s, 0) == self.version.get(s, 0) for s in (t.untyped_storage()._cdata for t in inputs))
            if untouched and len(self.notes) == notes and len(_SEGMENTS) < _LIMIT:
                segment = self._cut(start, edges, entry, inputs, result, path)
                if segment is not None:
                    _SEGMENTS[key] = segment
            return result
        return self._paste(part, inputs, segment, path)

    def _paste(self, part: nn.Module, inputs: tuple[Tensor, ...], segment: _Segment, path: str) -> Any:
        base = len(self.nodes)
        entry = [self._source(t) for t in inputs]
        if SHELL in part.__dict__:
            rows = [self._shared_row(part, w, path) for w in segment.weights]
        else:
            rows = [self._row(_parameter(part, w.name)) for w in segment.weights]
        append = self.nodes.append
        for n in segment.nodes:
            where = f"{path}.{n.path}" if path and n.path else path or n.path
            weights = tuple([rows[w] for w in n.weights]) if n.weights else ()
            append(Node(n.op, n.attributes, n.shapes, n.itemsize, weights, where, n.is_alias))
        for source, slot, target, position in segment.edges:
            made = entry[-source - 1] if source < 0 else (source + base, slot)
            self.edges.append((*made, target + base, position))
        outputs = []
        for layout, source, slot in segment.outputs:
            if layout is None:
                outputs.append(inputs[-source - 1])
                continue
            tensor = empty(*layout)
            self._produced(tensor, base + source, slot)
            outputs.append(tensor)
        return outputs[0] if segment.single else tuple(outputs)

    def _fill(self, part: nn.Module) -> None:
        """A block that has to run gets insides of its own."""
        if SHELL in part.__dict__:
            before = len(self.blocks)
            fill(part)
            part.eval()
            self._meet(part, self._path(part))
            self.blocks = [b for b in self.blocks[before:] if b is not part]
            self._patch()

    def _shared_row(self, part: nn.Module, weight: Weight, path: str) -> int:
        """A weight of a shell: known by the block and its name there."""
        key = (id(part), weight.name)
        if key not in self.row:
            self.row[key] = len(self.weights)
            self.weights.append(Weight(f"{path}.{weight.name}" if path else weight.name, weight.shape, weight.dtype))
        return self.row[key]

    def _is_fresh(self, tensor: Tensor) -> bool:
        found = self.producer.get(id(tensor))
        return (
            found is not None
            and found[2] == self.version.get(tensor.untyped_storage()._cdata, 0)
            and id(tensor) not in self.shadows
        )

    def _cut(self, start: int, edges: int, entry: list[Any], inputs: Any, result: Any, path: str) -> _Segment | None:
        """The nodes since `start` with everything relative, or None when they reach outside the block."""
        prefix = f"{path}." if path else ""
        known: dict[tuple[int, int], int] = {source: -i - 1 for i, source in enumerate(entry)}
        weights: dict[int, int] = {}
        nodes = []
        for n in self.nodes[start:]:
            if any(not self.weights[w].name.startswith(prefix) for w in n.weights) or n.op in {"constant", "random"}:
                return None
            rows = tuple(weights.setdefault(w, len(weights)) for w in n.weights)
            inner = n.path[len(path) :].lstrip(".") if n.path.startswith(path) else n.path
            nodes.append(Node(n.op, n.attributes, n.shapes, n.itemsize, rows, inner, n.is_alias))
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
        named = [Weight(self.weights[w].name[len(prefix) :], self.weights[w].shape, self.weights[w].dtype) for w in weights]
        return _Segment(nodes, inside, named, outputs, isinstance(result, Tensor)) if outputs else None


class SharedInsides(BaseException):
    """A parameter inside a block was read from outside it: its shells need insides of their own."""


class _Replay:
    """Stands in for a block's forward while a capture runs."""

    def __init__(self, recorder: Recorder, part: nn.Module) -> None:
        self.recorder, self.part = recorder, part

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.recorder.replay(self.part, inputs, kwargs)


_OPENED = frozenset(
    {"einsum", "tensordot", "bilinear", "linalg_multi_dot", "_transformer_encoder_layer_fwd", "cross_entropy_loss"}
)
"""Composites that hide several operations of the vocabulary."""


def empty(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A meta tensor, unseen by the recorder; no inference tensor, so that views of it may be views of a parameter."""
    with torch.inference_mode(False), _disable_current_modes():
        return torch.empty_strided(shape, stride, dtype=dtype, device=META)


def _parameter(part: nn.Module, name: str) -> Tensor:
    *modules, last = name.split(".")
    for m in modules:
        part = part._modules[m]  # type: ignore[assignment]
    return part._parameters[last]  # type: ignore[return-value]


def _gather(values: Any, into: list[Tensor]) -> None:
    """Tensors of nested arguments, in order."""
    for value in values:
        if isinstance(value, Tensor):
            into.append(value)
        elif isinstance(value, list | tuple):
            _gather(value, into)


def _flat(args: Any, kwargs: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _gather(args, found)
    _gather(kwargs.values(), found)
    return found


def _map(value: Any, f: Callable[[Tensor], Any]) -> Any:
    if isinstance(value, Tensor):
        return f(value)
    if isinstance(value, list):
        return [_map(v, f) for v in value]
    if isinstance(value, tuple):
        return tuple(_map(v, f) for v in value)
    return value


def _swap(value: Any, f: Callable[[Tensor], Tensor]) -> Any:
    """Arguments with every tensor replaced."""
    if isinstance(value, dict):
        return {k: _map(v, f) for k, v in value.items()}
    return _map(value, f)


def _frozen(value: Any) -> Any:
    """Hashable form of arguments: layouts for tensors; True, 1 and 1.0 told apart."""
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype)
    if isinstance(value, list | tuple):
        return tuple([_frozen(v) for v in value])
    if isinstance(value, dict):
        return tuple([(k, _frozen(v)) for k, v in value.items()]) if value else ()
    return (type(value), value) if isinstance(value, bool | float) else value


def _arguments(operator: _Operator, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by their names in the schema; those equal to their default left out."""
    found: dict[str, Any] = {}
    for position, (name, default, _) in enumerate(operator.arguments):
        value = args[position] if position < len(args) else kwargs.get(name, default)
        if value is _MISSING or value is None:
            continue
        if default is not _MISSING and not isinstance(value, Tensor) and _is_equal(value, default):
            continue
        found[name] = value
    return found


def _is_equal(value: Any, default: Any) -> bool:
    """True also for 1 and 1.0."""
    numbers = isinstance(value, int | float) and isinstance(default, int | float)
    return (numbers or type(value) is type(default)) and isinstance(value, bool) == isinstance(default, bool) and value == default


def _shares(outputs: list[Tensor], inputs: list[Tensor], twin: Callable[[Tensor], Tensor]) -> bool:
    if not outputs or not inputs:
        return False
    try:
        storages = {twin(t).untyped_storage()._cdata for t in inputs}
        return any(t.untyped_storage()._cdata in storages for t in outputs)
    except NotImplementedError:  # sparse and nested tensors have no storage
        return False


def _is_fake(tensor: Tensor) -> bool:
    return type(tensor).__name__ == "FakeTensor"


def _line() -> str:
    """File and line of the network's code that runs now."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/torch/" not in name and "/nasplat/capturing/" not in name and not name.startswith("<"):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "unknown line"


def explain(err: BaseException, recorder: Recorder, shapes: str) -> str:
    """Why a network could not be run, in one paragraph."""
    frames = traceback.extract_tb(err.__traceback__)
    ours = [f for f in frames if "/torch/" not in f.filename and "/nasplat/capturing/" not in f.filename]
    where = f"{ours[-1].filename}:{ours[-1].lineno}" if ours else "unknown line"
    path = recorder.stack[-1] if recorder.stack else ""
    return (
        f"the network raised {type(err).__name__} on input {shapes}, in module {path or '(root)'!r}, {where}, after operator "
        f"{recorder.last!r}: {str(err).splitlines()[0] if str(err) else ''}\n  Check example_input, or mend that line."
    )
