"""What a module's forward pass does becomes nodes: a dispatch mode under which the module is run once.

Under inference mode composite operators (convolution, linear, attention …) arrive whole. Parameters and large tensors
have meta twins; small tensors that depend on no input keep their values, so that index arithmetic and shape logic
answer truly. The recorder decides what becomes of each call; what it knows lies in `parts.py` (names and weights),
`origins.py` (who made which tensor), `values.py` (known values), `outcomes.py` (what calls do) and `tape.py` (nodes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules import module as torch_module
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from nasplat.frontends import higher_order, sparse
from nasplat.frontends.bounded import NAMES as BOUNDED
from nasplat.frontends.calls import CPU, META, Operator, arguments_by_name, gather, is_fake, swap
from nasplat.frontends.origins import Origins
from nasplat.frontends.outcomes import Outcome, Outcomes
from nasplat.frontends.parts import Parts
from nasplat.frontends.places import running_line
from nasplat.frontends.tape import Source, Tape
from nasplat.frontends.torch_names import NOTHING, RANDOM, TRANSPARENT
from nasplat.frontends.torch_ops import objects, translate_call, unpacked
from nasplat.frontends.values import Values
from nasplat.graph import ops
from nasplat.graph.bounds import GUESSED, HIDDEN_WEIGHTS
from nasplat.graph.columns import Node
from nasplat.graph.graph import Graph

KEEP_VALUES = 65_536
"""Tensors up to this many elements that depend on no input keep their values."""

_OPERATORS: dict[Any, Operator] = {}
"""Schemas read so far, by overload."""
_OPENED = frozenset(
    {"einsum", "tensordot", "bilinear", "linalg_multi_dot", "_transformer_encoder_layer_fwd", "cross_entropy_loss"}
)
"""Composites that hide several operations of the vocabulary."""
_OWN = frozenset({Tensor, nn.Parameter, nn.Buffer, FakeTensor})
"""Kinds of tensors on which operators are recorded."""
_STRIDED = torch.strided
_FREE_ORDER = frozenset((*ops.WEIGHTED, *ops.NORMALISATION, *ops.COMMUTATIVE))
"""Operations to which it makes no difference whether the weight is their first operand."""


class Recorder(TorchDispatchMode):
    """Runs beneath one forward pass; `graph()` tells what it saw."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Call this method as it is: torch would wrap it in a call to its compiler."""
        return False

    def __init__(
        self,
        module: nn.Module,
        twin: Callable[[Tensor], Tensor] | None = None,
        keeps_calls: bool = False,
        first_answer: bool = False,
        decomposes: bool = False,
        keep: int = KEEP_VALUES,
        only_calls: bool = False,
    ) -> None:
        """Prepare to record one forward pass of a module.

        Args:
            module: The network, whose parameters and paths are to be recognised.
            twin: Makes the stand-in of a real tensor; a meta tensor by default. With a function given, operators really
                run.
            keeps_calls: Keep every call for a program.
            first_answer: What a branch on unknown data is told at first.
            decomposes: Open composite operators that arrive whole.
            keep: Elements up to which tensors that depend on no input keep their values.
            only_calls: Keep the calls and make no nodes, for a second run.
        """
        super().__init__()
        self.tape = Tape()
        self.parts = Parts(module)
        self.origins = Origins(self.parts, self.tape, twin, keep)
        self.values = Values(self.origins, first_answer)
        self.outcomes = Outcomes(self.origins, only_calls)
        self.decomposes, self.only_calls, self.is_meta = decomposes, only_calls, twin is None
        self.inputs: list[Tensor] = []
        self.calls: list[tuple[Any, Sequence[Any], dict[str, Any], Any]] | None = [] if keeps_calls else None
        """(overload, args, kwargs, result) of every call, where a program is to be written."""
        self.paths: list[str] = []
        """Path of the module that made each of the calls that are kept."""
        self.snapshots: dict[int, Tensor] = {}
        """Values of constants at their first use in a call that is kept."""
        self.same: dict[int, Tensor] = {}
        """Outputs of modules without an operation: what went in."""
        self.last = ""
        """Name of the last operator that torch dispatched."""
        self.has_values = False
        """The network really runs, on tensors with values."""
        self.unkept = ""
        """Why the calls are no program that could run on other data; '' where they are."""
        self._counts: list[int] = []

    # -- what the caller sees ------------------------------------------------------------------------------------------

    def add_input(self, tensor: Tensor, value: Tensor | None = None) -> None:
        """Add an input of the network.

        Args:
            tensor: Stand-in that the network is given.
            value: The input as the caller passed it; small integers keep their values.
        """
        node = Node("input", (), (sparse.shape_of(tensor),), tensor.element_size())
        self.tape.nodes.append(node)
        self.origins.produced(tensor, len(self.tape.nodes) - 1, 0)
        self.inputs.append(tensor)
        if (
            value is not None
            and value.device.type != "meta"
            and not sparse.is_sparse(value)
            and value.numel() <= self.origins.keep
            and not value.is_floating_point()
        ):
            self.values.shadows[id(tensor)] = value

    def add_outputs(self, tensors: Sequence[Tensor]) -> None:
        """Add the outputs of the network.

        Args:
            tensors: The tensors it returned, in their flattened order.
        """
        for tensor in tensors:
            source = self.origins.source(tensor)
            self.tape.nodes.append(Node("output", (), (sparse.shape_of(tensor),), tensor.element_size()))
            self.tape.edges.append((*source, len(self.tape.nodes) - 1, 0))

    def graph(self, rung: str) -> Graph:
        """Make a graph of everything seen so far.

        Args:
            rung: Name of the way in which the network was run.

        Returns:
            The graph, without a program.
        """
        tape, parts = self.tape, self.parts
        if GUESSED in tape.causes and len(parts.weights) < len(parts.parameters):
            tape.causes.add(HIDDEN_WEIGHTS)  # those of what was not run
        if parts.hides:
            tape.doubt("the weights of frozen scripts are constants of their programs", HIDDEN_WEIGHTS)
        return Graph(
            *(tuple(tape.nodes), tuple(tape.edges), tuple(parts.weights), tuple(tape.notes), rung),
            causes=tuple(sorted(tape.causes)),
        )

    @contextmanager
    def following(self) -> Iterator[None]:
        """Know which module runs, while the context lasts.

        Yields:
            Nothing; modules that run outside the context are not noticed.
        """
        enter = torch_module.register_module_forward_pre_hook(self._enter)
        leave = torch_module.register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            enter.remove()
            leave.remove()

    # -- modules -------------------------------------------------------------------------------------------------------

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self.parts.stack.append(self.parts.path_of(module))
        self._counts.append(self.length())

    def length(self) -> int:
        """Count the operations recorded so far.

        Returns:
            Number of nodes, or of calls where calls are kept.
        """
        return len(self.tape.nodes) if self.calls is None else len(self.calls)

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """A module that gave its input back without an operation gives back an alias, made by a node of its own."""
        is_silent = self._counts.pop() == self.length() and id(module) in self.parts.leaves
        changed = None
        if is_silent and inputs and output is inputs[0] and isinstance(output, Tensor):
            if id(output) in self.origins.producer:
                changed = self._identity(output)  # a module without an operation is a node, too
        self.parts.stack.pop()
        return changed

    def _identity(self, tensor: Tensor) -> Tensor:
        """An alias of a tensor, and its node."""
        with torch._C._DisableTorchDispatch():
            other = torch.ops.aten.alias(tensor)
        self.same[id(other)] = tensor
        shape = tuple(tensor.shape)
        node = Node("identity", (), (shape,), tensor.element_size(), (), self.parts.stack[-1], True)
        self.origins.produced(other, self.tape.append(node, [self.origins.source(tensor)]), 0)
        shadows = self.values.shadows
        if id(tensor) in shadows:
            shadows[id(other)] = shadows[id(tensor)]
        return other

    def outputs_of(self, like: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Make a tensor without values for an operator that is not run.

        Args:
            like: Operand whose device and kind the result has.
            shape: Shape of the result.
            dtype: Type of its elements.

        Returns:
            A tensor on the operand's device; zeros where that holds values.
        """
        with _disable_current_modes():
            holds = like.device.type != "meta" and not is_fake(like)
            return like.new_zeros(shape, dtype=dtype) if holds else like.new_empty(shape, dtype=dtype)

    # -- one operator --------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer one operator call of the network, and record it."""
        kwargs = kwargs or {}
        for kind in types:
            if kind not in _OWN:
                return NotImplemented  # a subclass of tensors answers in terms of those inside, which come here again
        operator = _OPERATORS.get(func)
        if operator is None:
            if isinstance(func, HigherOrderOperator):
                return higher_order.answer(self, func, args, kwargs)
            if func.namespace == "prim":  # asks a fake tensor for its device
                with _disable_current_modes():
                    return func(*args, **kwargs)
            operator = _OPERATORS[func] = Operator(func)
        self.last = operator.packet
        flat: list[Tensor] = []
        gather(args, flat)
        if kwargs:
            gather(kwargs.values(), flat)
        for t in flat:
            if t.layout is not _STRIDED:
                return self._by_stored(func, operator, flat, args, kwargs)
        if operator.scalar:
            return self.values.scalar(func, flat, args, kwargs)
        if operator.name in NOTHING:
            return None
        if operator.in_place and operator.name in TRANSPARENT:
            return args[0]
        if all(map(self.origins.is_constant, flat)) and operator.name not in RANDOM:
            result = self._by_value(func, operator, flat, args, kwargs)
            if result is not NotImplemented:
                return result
        if operator.composite and (
            self.decomposes
            or operator.is_strange
            or operator.name in _OPENED
            or (operator.name == "repeat_interleave" and func._overloadname == "self_Tensor")
        ):
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        return self._by_shape(func, operator, flat, args, kwargs)

    def _by_value(self, func: Any, operator: Operator, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Run an operator that depends on no input for real, unless it is large."""
        if not flat:
            sizes = [a for a in args if isinstance(a, list | tuple) and all(isinstance(v, int) for v in a)]
            size = 1
            for v in sizes[0] if sizes else ():
                size *= v
            if size > self.origins.keep:
                return NotImplemented
        args, kwargs = operator.on(CPU, args, kwargs, force=not flat and torch.get_default_device().type != "cpu")
        if operator.name in BOUNDED or self.is_meta:
            result = func(*args, **kwargs)
        else:
            with _disable_current_modes():  # under a fake mode constants stay real
                result = func(*args, **kwargs)
        if operator.creates and isinstance(result, Tensor):
            with _disable_current_modes():
                result.zero_()  # memory nobody has written would differ from run to run
        return result

    def _by_stored(self, func: Any, operator: Operator, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Answer an operator on sparse tensors, whose entries are counted as they are stored."""
        origins, name = self.origins, operator.name
        if all(map(origins.is_constant, flat)):
            return func(*args, **kwargs)
        arguments = arguments_by_name(operator, args, kwargs)
        if operator.scalar:
            return self.values.scalar(func, flat, args, kwargs)
        is_piece = self.is_meta and name in sparse.PIECES and flat[0].device.type != "meta"
        if operator.writes or not (self.has_values or is_piece or name in sparse.PRODUCTS):
            raise sparse.refused(name)
        sources = [origins.source(t) for t in flat if origins.is_data(t)]
        self.unkept = "sparse tensors are no part of programs"
        if is_piece:
            known = func(*args, **kwargs)
            result = torch.empty_like(known, device=META)
            if not known.is_floating_point():
                self.values.shadows[id(result)] = known  # where entries are stored is given with the example
        elif self.has_values:
            result = func(*args, **kwargs)
            if name in sparse.PIECES and not result.is_floating_point():
                self.values.shadows[id(result)] = result
        else:
            made = sparse.product(name, arguments)
            dense = sparse.without_sparse(flat)
            result = made if self.is_meta else self.outputs_of(dense[0], tuple(made.shape), made.dtype)
        outputs: list[Tensor] = []
        gather(result if isinstance(result, list | tuple) else (result,), outputs)
        if not outputs:
            return result
        if name in sparse.PRODUCTS:
            is_layer = self.parts.is_weight(sparse.factors(name, arguments)[1]) or name == "linear"
            op, attributes = "linear" if is_layer else "matmul", (("macs", sparse.product_macs(name, arguments)),)
        else:
            op, attributes = translate_call(name, arguments, outputs, self.parts.is_weight)
        here = self._add(Outcome(op, attributes, outputs, False, None, isinstance(result, Tensor)), flat, sources)
        for slot, tensor in enumerate(outputs):
            origins.produced(tensor, here, slot)
        return result

    def _by_shape(self, func: Any, operator: Operator, flat: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Answer an operator that depends on the input by its outcome on tensors without values, and record it."""
        origins = self.origins
        # before anything gets a twin
        shadow = self.values.shadow(func, operator, flat, args, kwargs) if self.values.shadows else None
        constants = [t for t in flat if origins.is_constant(t)] if self.calls is not None else []
        args, kwargs = operator.on(META if self.is_meta else CPU, args, kwargs, force=not flat)
        if self.is_meta and all(t.device.type == "meta" for t in flat):
            twin_args, twin_kwargs = args, kwargs
        else:
            twin_args, twin_kwargs = swap(args, origins.twin), swap(kwargs, origins.twin)
        sources = [] if self.only_calls else [origins.source(t) for t in flat if origins.is_data(t)]
        outcome, result, outputs = self.outcomes.of(func, operator, twin_args, twin_kwargs, flat, shadow)
        if not outputs and not operator.writes:
            return result  # an answer in plain Python
        if self.calls is not None:
            self._keep_call(func, args, kwargs, result, constants)
        if self.only_calls:
            for tensor in outputs:
                origins.met(tensor)
            if operator.writes:
                self._wrote(operator, args, kwargs, 0, shadow)
            elif shadow is not None:
                for slot, tensor in enumerate(outputs):
                    self.values.keep(tensor, shadow, slot)
            return result
        if operator.creates and not operator.in_place:
            return result  # memory nobody has written is no computation
        is_unchanged = operator.name in TRANSPARENT or (outcome.op == "cast" and not outcome.attributes)
        if self._is_weight_still(is_unchanged, outcome, flat, outputs):
            return result
        if is_unchanged and sources and not operator.in_place:
            for tensor in outputs:
                origins.produced(tensor, *sources[0])
            return result
        packed = objects(args) if operator.takes_objects else ()
        here = self._add(outcome, flat, sources, packed)
        if operator.writes:
            self._wrote(operator, args, kwargs, here, shadow)
        if not operator.in_place:
            for slot, tensor in enumerate(outputs):
                origins.produced(tensor, here, slot)
                if shadow is not None:
                    self.values.keep(tensor, shadow, slot)
        return result

    def _keep_call(self, func: Any, args: Any, kwargs: Any, result: Any, constants: list[Tensor]) -> None:
        """Keep a call for the program, with the values that its constants have now."""
        alive = self.origins.alive
        for t in constants:
            if id(t) not in self.snapshots and id(t) not in self.parts.buffers:
                with _disable_current_modes():
                    self.snapshots[id(t)] = t.clone()
                alive.append(t)
        assert self.calls is not None
        self.calls.append((func, args, kwargs, result))
        self.paths.append(self.parts.stack[-1] if self.parts.stack else "")
        alive.append((args, kwargs, result))

    def _is_weight_still(self, is_unchanged: bool, outcome: Outcome, flat: list[Tensor], outputs: list[Tensor]) -> bool:
        """A transposed view or alias of a parameter stands for the parameter; an alias of a buffer for the buffer."""
        is_turned = outcome.op == "permute" and flat and flat[0].dim() <= 2
        if not (is_turned or is_unchanged) or len(flat) != 1 or len(outputs) != 1:
            return False
        i, parts = id(flat[0]), self.parts
        if i in self.origins.producer:
            return False
        parameter = i if i in parts.names else parts.views.get(i)
        if parameter is not None:
            parts.views[id(outputs[0])] = parameter
        elif is_unchanged and i in parts.buffers:
            parts.buffers[id(outputs[0])] = parts.buffers[i]
        else:
            return False
        self.origins.alive.append(outputs[0])
        return True

    def _add(
        self, outcome: Outcome, flat: list[Tensor], sources: list[Source], packed: Sequence[torch.ScriptObject] = ()
    ) -> int:
        """The node of a call."""
        parts = self.parts
        is_weight = parts.is_weight
        path = parts.stack[-1] if parts.stack else ""
        rows = tuple(dict.fromkeys(parts.row_of(t) for t in flat if is_weight(t)))
        for held in packed:
            weights = unpacked(held)
            if not weights:
                self.tape.doubt(f"the weights that {path or '(root)'!r} holds packed cannot be seen", HIDDEN_WEIGHTS)
            else:
                rows = (*rows, *parts.rows_of_packed(held, weights))
                self.origins.alive.append(held)
        op, attributes = outcome.op, outcome.attributes
        if op.startswith("other:"):
            name = op.removeprefix("other:")
            self.tape.doubt(f"unknown operation {name!r} in module {path or '(root)'!r}, {running_line()}: not counted")
        if rows and sources and op not in _FREE_ORDER:
            if is_weight(next(t for t in flat if is_weight(t) or self.origins.is_data(t))):
                attributes = tuple(sorted((*attributes, ("first", "weight"))))
        node = Node(op, attributes, outcome.shapes, outcome.itemsize, rows, path, outcome.is_alias)
        return self.tape.append(node, sources)

    def _wrote(self, operator: Operator, args: Any, kwargs: Any, here: int, shadow: Any) -> None:
        """Every argument the schema says is written now comes from this node."""
        for position, (name, _, is_written) in enumerate(operator.arguments):
            if not is_written:
                continue
            value = args[position] if position < len(args) else kwargs.get(name)
            for slot, tensor in enumerate(value if isinstance(value, list) else (value,)):
                if not isinstance(tensor, Tensor):
                    continue
                self.origins.wrote(tensor, here)
                self.values.shadows.pop(id(tensor), None)
                if shadow is not None and slot == 0:
                    self.values.keep(tensor, shadow, 0)
