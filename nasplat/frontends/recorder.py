"""What a module's forward pass does becomes nodes: a dispatch mode under which the module is run once.

Under inference mode composite operators (convolution, linear, attention …) arrive whole. Parameters and large tensors have meta
twins; small tensors that depend on no input keep their values, so index arithmetic and shape logic answer truly; small integer
inputs carry their values as shadows beside the recorded nodes. A tensor's producer is found by identity and by how often its
storage was written, so in-place operators and views keep their order. The file is long because all of that is one state, which every
operator reads and writes; what needs none of it lives in `calls.py`, `bounded.py`, `replay.py` and `normalise.py`.
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

from nasplat.errors import CaptureError
from nasplat.frontends.block import SHELL, SIGNATURE, walk
from nasplat.frontends.bounded import NAMES as BOUNDED
from nasplat.frontends.bounded import RULED, bounded, ruled
from nasplat.frontends.calls import (
    CPU,
    META,
    Known,
    Operator,
    empty,
    frozen,
    gather,
    is_fake,
    is_like_first,
    map_tensors,
    named,
    shares,
    swap,
    tensors_of,
)
from nasplat.frontends.digest import digest
from nasplat.frontends.pasting import replay
from nasplat.frontends.torch_ops import NOTHING, RANDOM, TRANSPARENT, dtype_name, normalise
from nasplat.graph import ops
from nasplat.graph.columns import Attributes, Node, Weight
from nasplat.graph.graph import Graph

MAX_NODES = 100_000
"""A loop over data that never ends stops here."""

KEEP_VALUES = 65_536
"""Tensors up to this many elements that depend on no input keep their values."""

_NODES: dict[Any, Known] = {}
"""What an operator does with given layouts and arguments: a pure function, so one table serves the process."""
_OPERATORS: dict[Any, Operator] = {}
_LAYOUTS: dict[Any, Known] = {}
"""The same for runs that keep calls only: outputs, without op and attributes."""
_LIMIT = 200_000

Source = tuple[int, int]


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
        only_calls: bool = False,
    ) -> None:
        """Args:
        module: Whose parameters and paths are to be recognised.
        twin: Makes the stand-in of a real tensor; a meta tensor by default. With one of its own, operators really run.
        reuses: Paste blocks that were recorded before; else keep every call for a program.
        first_answer: What a branch on unknown data is told at first.
        decomposes: Open composite operators that arrive whole.
        keep: Elements up to which tensors that depend on no input keep their values.
        only_calls: Keep the calls and make no nodes, for a second run.
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
        self.only_calls = only_calls
        self.row: dict[Any, int] = {}
        self.names: dict[int, str] = {}
        self.parameters: dict[int, Tensor] = {}
        self.buffers: dict[int, str] = {}
        self.unsaved: set[str] = set()
        """Buffers that a state dict leaves out."""
        self.paths: dict[int, str] = {}
        self.leaves: set[int] = set()
        self.blocks: list[nn.Module] = []
        self.meet(module, "")
        self.twins: dict[int, Tensor] = {}
        self.same: dict[int, Tensor] = {}
        """Outputs of modules without an operation: what went in."""
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

    def meet(self, module: nn.Module, prefix: str) -> None:
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
        self.produced(tensor, len(self.nodes) - 1, 0)
        self.inputs.append(tensor)
        if (
            value is not None
            and value.device.type != "meta"
            and value.numel() <= self.keep
            and not value.is_floating_point()
        ):
            self.shadows[id(tensor)] = value

    def add_outputs(self, tensors: Sequence[Tensor]) -> None:
        """What the network returned, flattened."""
        for tensor in tensors:
            source = self.source(tensor)
            self.nodes.append(Node("output", (), (tuple(tensor.shape),), tensor.element_size()))
            self.edges.append((*source, len(self.nodes) - 1, 0))

    def graph(self, rung: str) -> Graph:
        """Everything seen so far."""
        return Graph(tuple(self.nodes), tuple(self.edges), tuple(self.weights), tuple(self.notes), rung)

    @contextmanager
    def following(self, module: nn.Module) -> Iterator[None]:
        """Know which module runs, and replay blocks seen before."""
        self.patched: list[nn.Module] = []
        self.patch()
        enter = torch_module.register_module_forward_pre_hook(self._enter)
        leave = torch_module.register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            enter.remove()
            leave.remove()
            for part in self.patched:
                part.__dict__.pop("forward", None)

    def patch(self) -> None:
        for part in self.blocks if self.reuses else ():
            if "forward" not in part.__dict__:
                part.__dict__["forward"] = _Replay(self, part)
                self.patched.append(part)

    def path_of(self, module: nn.Module) -> str:
        return self.paths.get(id(module), self.stack[-1] if self.stack else "")

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self.stack.append(self.path_of(module))
        self.counts.append(self._length())

    def _length(self) -> int:
        return len(self.nodes) if self.calls is None else len(self.calls)

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        is_silent = self.counts.pop() == self._length() and id(module) in self.leaves
        changed = None
        if is_silent and inputs and output is inputs[0] and isinstance(output, Tensor) and id(output) in self.producer:
            changed = self._identity(output)  # a module without an operation is a node, too
        self.stack.pop()
        return changed

    def _identity(self, tensor: Tensor) -> Tensor:
        with torch._C._DisableTorchDispatch():
            other = torch.ops.aten.alias(tensor)
        self.same[id(other)] = tensor
        self._append(
            Node("identity", (), (tuple(tensor.shape),), tensor.element_size(), (), self.stack[-1], True),
            [self.source(tensor)],
        )
        self.produced(other, len(self.nodes) - 1, 0)
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
            operator = _OPERATORS[func] = Operator(func)
        self.last = operator.packet
        flat: list[Tensor] = []
        gather(args, flat)
        if kwargs:
            gather(kwargs.values(), flat)
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

    def _by_value(self, func: Any, operator: Operator, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Run an operator that depends on no input for real, unless it is large."""
        if not flat:
            sizes = [a for a in args if isinstance(a, list | tuple) and all(isinstance(v, int) for v in a)]
            size = 1
            for v in sizes[0] if sizes else ():
                size *= v
            if size > self.keep:
                return NotImplemented
        args, kwargs = operator.on(CPU, args, kwargs, force=not flat and torch.get_default_device().type != "cpu")
        if operator.name in BOUNDED or self.make_twin is None:
            result = func(*args, **kwargs)
        else:
            with _disable_current_modes():  # under a fake mode constants stay real
                result = func(*args, **kwargs)
        if operator.creates and isinstance(result, Tensor):
            with _disable_current_modes():
                result.zero_()  # memory nobody has written would differ from run to run
        return result

    def _by_shape(self, func: Any, operator: Operator, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        # before anything gets a twin
        shadow = self._shadow(func, flat, args, kwargs) if self.shadows else None
        constants = [t for t in flat if self._is_constant(t)] if self.calls is not None else []
        args, kwargs = operator.on(META if self.make_twin is None else CPU, args, kwargs, force=not flat)
        if self.make_twin is None:
            stands = all(t.device.type == "meta" for t in flat)
            meta_args, meta_kwargs = (args, kwargs) if stands else (swap(args, self._twin), swap(kwargs, self._twin))
        else:
            meta_args, meta_kwargs = swap(args, self._twin), swap(kwargs, self._twin)
        name = operator.name
        sources = [] if self.only_calls else [(t, self.source(t)) for t in flat if self._is_data(t)]
        known, result, outputs = self._run(func, operator, meta_args, meta_kwargs, flat, shadow)
        if not outputs and not operator.writes:
            return result  # an answer in plain Python
        if self.calls is not None:
            for t in constants:
                if id(t) not in self.snapshots and id(t) not in self.buffers:
                    with _disable_current_modes():
                        self.snapshots[id(t)] = t.clone()
                    self.alive.append(t)
            self.calls.append((func, args, kwargs, result))
            self.alive.append((args, kwargs, result))
        if self.only_calls:
            for tensor in outputs:
                self._met(tensor)
            if operator.writes:
                self._wrote(operator, args, kwargs, 0, shadow)
            elif shadow is not None:
                for slot, tensor in enumerate(outputs):
                    self._keep(tensor, shadow, slot)
            return result
        if operator.creates and not operator.in_place:
            return result  # memory nobody has written is no computation
        if self._is_parameter_still(name, known, flat, outputs):
            return result
        if (name in TRANSPARENT or (known.op == "cast" and not known.attributes)) and sources and not operator.in_place:
            for tensor in outputs:
                self.produced(tensor, *sources[0][1])
            return result
        rows = tuple(dict.fromkeys(self.row_of(t) for t in flat if id(t) in self.names or id(t) in self.parents))
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
                self.produced(tensor, here, slot)
                if shadow is not None:
                    self._keep(tensor, shadow, slot)
        return result

    def _is_parameter_still(self, name: str, known: Known, flat: list[Tensor], outputs: list[Tensor]) -> bool:
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
        self, func: Any, operator: Operator, args: Any, kwargs: Any, flat: list[Tensor], shadow: Any
    ) -> tuple[Known, Any, list[Tensor]]:
        """What the call is, what it returns, and the tensors in that; from the table where it is known."""
        key = None
        is_meta = self.make_twin is None
        if shadow is None:
            try:
                key = (
                    func,
                    frozen(args),
                    frozen(kwargs),
                    tuple([id(t) in self.names or id(t) in self.parents for t in flat]),
                )
                known = _NODES.get(key) or (_LAYOUTS.get(key) if self.only_calls else None)
            except TypeError:
                key = known = None
            if known is not None and is_meta and known.layouts is not None:
                tensors = [
                    torch.empty_strided(shape, stride, dtype=dtype, device=META)
                    for shape, stride, dtype in known.layouts
                ]
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
            result = map_tensors(shadow, lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=META))
        elif operator.name in BOUNDED and is_meta:
            result, guess = bounded(operator.name, func, args, kwargs)
        elif is_meta and is_like_first(operator.name, flat, args, kwargs):
            result = torch.empty_strided(flat[0].shape, flat[0].stride(), dtype=flat[0].dtype, device=META)
        elif operator.name in RULED and is_meta:
            result = ruled(operator.name, func, args, kwargs)
        else:
            result = func(*args, **kwargs)
            if operator.in_place and flat:
                result = flat[0]
        outputs: list[Tensor] = []
        gather(result if isinstance(result, list | tuple) else (result,), outputs)
        if guess:
            self.bounded.update(map(id, outputs))
            self.alive.append(outputs)
            self.notes.setdefault(
                f"{_line()}: {operator.name!r} has as many elements as the data decides; counted with the most"
            )
        if known is not None:
            return known, result, outputs
        is_alias = operator.in_place or shares(outputs, flat, self._twin)
        if self.only_calls:
            known = Known("", (), outputs, is_alias, None, isinstance(result, Tensor))
            if not is_alias and not guess and not operator.writes and is_meta and known.single and key is not None:
                known.layouts = [(tuple(t.shape), t.stride(), t.dtype) for t in outputs]
                if len(_LAYOUTS) < _LIMIT:
                    _LAYOUTS[key] = known
            return known, result, outputs
        arguments = named(operator, args, kwargs)
        parameters = {
            id(a)
            for a, t in zip(tensors_of(args, kwargs), flat, strict=False)
            if id(t) in self.names or id(t) in self.parents
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
        known = Known(op, attributes, outputs, is_alias, layouts, single)
        if key is not None and not guess and is_meta and len(_NODES) < _LIMIT:
            _NODES[key] = known
        return known, result, outputs

    @staticmethod
    def _cast(flat: list[Tensor], outputs: list[Tensor], is_alias: bool) -> tuple[str, Attributes]:
        before, after = flat[0].dtype, outputs[0].dtype
        if before != after:
            return "cast", (("dtype", dtype_name(after)),)
        return ("cast", ()) if is_alias else ("copy", ())

    def _wrote(self, operator: Operator, args: Any, kwargs: Any, here: int, shadow: Any) -> None:
        """Every argument the schema says is written now comes from this node."""
        for position, (name, _, is_written) in enumerate(operator.arguments):
            value = args[position] if position < len(args) else kwargs.get(name)
            for slot, tensor in enumerate(
                [value] if isinstance(value, Tensor) else value if isinstance(value, list) else ()
            ):
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
                self.produced(tensor, here, 0)

    def _met(self, tensor: Tensor) -> None:
        """Something this run made; ids stay unique while it lives."""
        self.producer[id(tensor)] = (0, 0, 0)
        self.alive.append(tensor)

    # -- values known beside the recorded nodes ------------------------------------------------------------------------

    def _shadow(self, func: Any, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Result on real values where every operand's values are known and at least one came from an input."""
        if not any(id(t) in self.shadows for t in flat) or not all(
            id(t) in self.shadows or self._is_constant(t) for t in flat
        ):
            return None
        try:
            with _disable_current_modes():
                real_args, real_kwargs = (swap(a, lambda t: self.shadows.get(id(t), t).clone()) for a in (args, kwargs))
                real_args, real_kwargs = _OPERATORS[func].on(CPU, real_args, real_kwargs)
                return func(*real_args, **real_kwargs)
        except (RuntimeError, NotImplementedError, TypeError):
            return None

    def _keep(self, tensor: Tensor, shadow: Any, slot: int) -> None:
        value = shadow if isinstance(shadow, Tensor) else shadow[slot] if slot < len(shadow) else None
        if isinstance(value, Tensor) and value.numel() <= self.keep and value.shape == tensor.shape:
            self.shadows[id(tensor)] = value

    def known_value(self, tensor: Tensor) -> Tensor | None:
        """A tensor's values, where they are known."""
        return (
            self.shadows.get(id(tensor))
            if id(tensor) in self.shadows
            else tensor
            if self._is_constant(tensor)
            else None
        )

    def _scalar(self, func: Any, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        values = [self.known_value(t) for t in flat]
        if all(v is not None for v in values):
            found: dict[int, Tensor] = {id(t): v for t, v in zip(flat, values, strict=True) if v is not None}
            with _disable_current_modes():
                return func(*swap(args, lambda t: found[id(t)]), **kwargs)
        if self.make_twin is not None and not is_fake(self._twin(flat[0])):
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

    def produced(self, tensor: Tensor, node: int, slot: int) -> None:
        storage = self._twin(tensor).untyped_storage()._cdata
        self.producer[id(tensor)] = (node, slot, self.version.get(storage, 0))
        self.writer.setdefault(storage, (node, slot))
        self.alive.append(tensor)

    def source(self, tensor: Tensor) -> Source:
        storage = self._twin(tensor).untyped_storage()._cdata
        found = self.producer.get(id(tensor))
        if found is not None and found[2] == self.version.get(storage, 0):
            return found[0], found[1]
        writer = self.writer.get(storage)
        if writer is not None:
            return writer
        if (
            isinstance(tensor, nn.Parameter)
            and id(tensor) not in self.names
            and any(SHELL in b.__dict__ for b in self.blocks)
        ):
            raise SharedInsides
        rows = (self.row_of(tensor),) if id(tensor) in self.names or id(tensor) in self.parents else ()
        value: Attributes = ()
        if (
            not rows
            and tensor.device.type != "meta"
            and tensor.numel() <= self.keep
            and self._is_constant_value(tensor)
        ):
            value = (("value", digest(tensor)),)
        self._append(Node("constant", value, (tuple(tensor.shape),), tensor.element_size(), rows), [])
        here = len(self.nodes) - 1
        if rows or value:
            self.producer[id(tensor)] = (here, 0, self.version.get(storage, 0))
            self.alive.append(tensor)
        else:
            self.produced(tensor, here, 0)
        return here, 0

    def _is_constant_value(self, tensor: Tensor) -> bool:
        return not is_fake(tensor) and tensor.layout == torch.strided

    def row_of(self, tensor: Tensor) -> int:
        parameter = self.parents.get(id(tensor), id(tensor))
        if parameter not in self.row:
            self.row[parameter] = len(self.weights)
            self.weights.append(
                Weight(self.names[parameter], tuple(self.parameters[parameter].shape), dtype_name(tensor.dtype))
            )
        return self.row[parameter]


class SharedInsides(BaseException):
    """A parameter inside a block was read from outside it: its shells need insides of their own."""


class _Replay:
    """Stands in for a block's forward while a capture runs."""

    def __init__(self, recorder: Recorder, part: nn.Module) -> None:
        self.recorder, self.part = recorder, part

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        return replay(self.recorder, self.part, inputs, kwargs)


_OPENED = frozenset(
    {"einsum", "tensordot", "bilinear", "linalg_multi_dot", "_transformer_encoder_layer_fwd", "cross_entropy_loss"}
)
"""Composites that hide several operations of the vocabulary."""


def _line() -> str:
    """File and line of the network's code that runs now."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/torch/" not in name and "/nasplat/frontends/" not in name and not name.startswith("<"):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "unknown line"


def explain(err: BaseException, recorder: Recorder, shapes: str) -> str:
    """Why a network could not be run, in one paragraph."""
    frames = traceback.extract_tb(err.__traceback__)
    ours = [f for f in frames if "/torch/" not in f.filename and "/nasplat/frontends/" not in f.filename]
    where = f"{ours[-1].filename}:{ours[-1].lineno}" if ours else "unknown line"
    path = recorder.stack[-1] if recorder.stack else ""
    return (
        f"the network raised {type(err).__name__} on input {shapes}, in module {path or '(root)'!r}, {where}, after operator "
        f"{recorder.last!r}: {str(err).splitlines()[0] if str(err) else ''}\n  Check example_input, or mend that line."
    )
