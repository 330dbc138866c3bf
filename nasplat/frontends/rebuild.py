"""A Program and weights become a module again: it makes the recorded calls, without the network's own Python.

The batch may differ from the captured one where the program says so. Branches on data stay as they were captured; what
was computed from buffers alone stays as it was. In training mode, batch normalisation and dropout do what they do in
any network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nasplat.errors import GraphError
from nasplat.frontends.calls import tensors_of
from nasplat.graph.graph import Graph
from nasplat.graph.program import Program

TRAINING = {
    "aten.batch_norm.default": 5,
    **dict.fromkeys(
        (f"aten.{d}{end}.default" for d in ("dropout", "alpha_dropout", "feature_dropout") for end in ("", "_")), 2
    ),
}
"""Place of the argument that says whether an operation is in training mode."""
PATHS = ("filename", "file_name", "path")
"""Arguments by which operators open files."""


def rebuild(graph: Graph, weights: Mapping[str, Tensor] | nn.Module) -> nn.Module:
    """Make a module that computes what the captured one computed.

    Args:
        graph: A graph that was captured from a torch module.
        weights: A state dict with the names of the captured network, or the network itself; tensors are not copied.

    Returns:
        A module in eval mode whose state dict has the same names; it takes the captured inputs in flattened order.

    Raises:
        GraphError: the graph has no program, or a weight is missing or of another shape.

    Example:
        >>> import nasplat
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        >>> again = rebuild(nasplat.capture(net, (1, 4)), net.state_dict())
        >>> x = torch.rand(5, 4)
        >>> bool((again(x) == net(x)).all())
        True
    """
    if graph.program is None and graph.again is not None:
        later = graph.again()
        if (later.nodes, later.edges, later.weights) != (graph.nodes, graph.edges, graph.weights):
            raise GraphError("the module computes something else than when it was captured.\n  Capture it again.")
        graph = later
    if graph.program is None:
        reason = next((n for n in graph.notes if n.startswith("no program")), f"it was captured by {graph.rung!r}")
        raise GraphError(
            f"expected a graph that keeps its program, got one without ({reason}).\n"
            "  Capture the torch module itself, with program=True where the graph goes through JSON; graphs of files, "
            "publications and spaces (architecture.graph()) have none."
        )
    if isinstance(weights, nn.Module):
        weights = dict(weights.named_buffers()) | dict(weights.named_parameters()) | weights.state_dict(keep_vars=True)
    return rebuilt(graph.program, weights, {w.name: w.shape for w in graph.weights}).eval()


def rebuilt(program: Program, weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> Rebuilt:
    """Make the module of a program.

    Args:
        program: The calls to make.
        weights: Every weight and buffer that the program reads, by name.
        shapes: Shapes of the weights that are trained, by name; the others become buffers.

    Returns:
        A module in training mode; one whose forward takes a single argument where the program has a single input.
    """
    return (RebuiltOfOne if len(program.inputs) == 1 else Rebuilt)(program, weights, shapes)


class Rebuilt(nn.Module):
    """A module that makes the calls of a program; `rebuild` makes one of a graph."""

    def __init__(self, program: Program, weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Place the weights and look up the operators.

        Args:
            program: The calls to make.
            weights: Every weight and buffer that the program reads, by name.
            shapes: Shapes of the weights that are trained, by name; the others become buffers.
        """
        super().__init__()
        self._program = program
        self._rows: dict[str, tuple[nn.Module, str]] = {}
        for name in sorted(_names(program)):
            if name not in weights:
                raise GraphError(f"weights lack {name!r}, which the program reads.\n  Pass the network itself.")
            if name in shapes and tuple(weights[name].shape) != shapes[name]:
                raise GraphError(
                    f"weight {name!r} expected of shape {shapes[name]}, got {tuple(weights[name].shape)}.\n"
                    "  Pass the network's own."
                )
            self._rows[name] = self._place(name, weights[name], name in shapes)
        for number, constant in enumerate(program.constants):
            value = torch.from_numpy(constant.value).to(_of_torch(constant.dtype, torch.dtype))
            self.register_buffer(f"_constant{number}", value, persistent=False)
        self._calls = [(_operator(c.op), c.args, c.kwargs, c.results) for c in program.calls]
        self._modes = {i: TRAINING[c.op] for i, c in enumerate(program.calls) if c.op in TRAINING}
        self._ends = _last_uses(program)

    def _place(self, name: str, value: Tensor, is_trained: bool) -> tuple[nn.Module, str]:
        """(Module, attribute) under which a weight is registered, so that the state dict has its name."""
        where: nn.Module = self
        *path, last = name.split(".")
        for part in path:
            if part not in where._modules:
                where.add_module(part, nn.Module())
            where = where._modules[part]  # type: ignore[assignment]
        if is_trained:
            parameter = (
                value
                if isinstance(value, nn.Parameter)
                else nn.Parameter(value, requires_grad=value.is_floating_point())
            )
            where.register_parameter(last, parameter)
        else:
            where.register_buffer(last, value)
        return where, last

    def forward(self, *inputs: Tensor) -> Any:
        """Run the program.

        Args:
            inputs: Input tensors in the flattened order of the captured example.

        Returns:
            What the captured network returns, with the same nesting.
        """
        return self.run(inputs)

    def run(self, inputs: tuple[Tensor, ...], seen: Callable[[int, dict[int, Any]], None] | None = None) -> Any:
        """Run the program, and let a function look at every result.

        Args:
            inputs: Input tensors in the flattened order of the captured example.
            seen: Called after each call with the call's number and the tensors that are still needed, by register.

        Returns:
            What the captured network returns, with the same nesting.

        Raises:
            GraphError: the inputs are too few or too many, or the batch is another one where the program fits only one.
        """
        program = self._program
        if len(inputs) != len(program.inputs):
            raise GraphError(
                f"expected {len(program.inputs)} input tensors, got {len(inputs)}.\n  Pass them in captured order."
            )
        batch = inputs[0].shape[0] if inputs[0].dim() else program.batch
        if program.fixed and batch != program.batch:
            raise GraphError(
                f"expected a batch of {program.batch}, got {batch}: {program.fixed}.\n  Capture with that batch."
            )
        device = inputs[0].device
        registers: dict[int, Any] = dict(zip(program.inputs, inputs, strict=True))

        def value(v: Any) -> Any:
            if not isinstance(v, tuple):
                return v
            kind = v[0]
            if kind == "reg":
                return registers[v[1]]
            if kind == "weight":
                where, last = self._rows[v[1]]
                return getattr(where, last)
            if kind == "list":
                return [value(x) for x in v[1:]]
            if kind == "batch":
                return v[1] + v[2] * batch
            if kind == "const":
                made = getattr(self, f"_constant{v[1]}")
                for axis in program.constants[v[1]].tiled:
                    made = made.repeat([batch if i == axis else 1 for i in range(made.dim())])
                return made
            if kind == "dtype":
                return _of_torch(v[1], torch.dtype)
            if kind == "device":
                return device
            if kind == "format":
                return _of_torch(v[1], torch.memory_format)
            return complex(v[1], v[2])

        for number, (operator, args, kwargs, results) in enumerate(self._calls):
            given = [value(a) for a in args]
            if self.training and number in self._modes:
                given[self._modes[number]] = True
            made = operator(*given, **{k: value(a) for k, a in kwargs if a is not None})
            for register, tensor in zip(results, tensors_of((made,), {}), strict=False):
                registers[register] = tensor
            if seen is not None:
                seen(number, registers)
            for register in self._ends.get(number, ()):
                registers.pop(register, None)
        return _outputs(program.outputs, value)


class RebuiltOfOne(Rebuilt):
    """A rebuilt module with one input, for exporters want to know how many there are."""

    def forward(self, x: Tensor) -> Any:
        """Run the program.

        Args:
            x: The only input.

        Returns:
            What the captured network returns, with the same nesting.
        """
        return self.run((x,))


def _outputs(structure: Any, value: Any) -> Any:
    """The nested outputs of a program; `value` looks up one of them."""
    if isinstance(structure, dict):
        return {k: _outputs(v, value) for k, v in structure.items()}
    if isinstance(structure, tuple):
        if structure and structure[0] in {"list", "tuple"}:
            found = [_outputs(v, value) for v in structure[1:]]
            return tuple(found) if structure[0] == "tuple" else found
        return structure[1] if structure and structure[0] == "plain" else value(structure)
    return structure


def _operator(name: str) -> torch._ops.OpOverload:
    """Torch's overload of a name such as 'aten.relu.default'.

    A program may be data from somebody else, so that nothing but an operator on tensors is found by a name: no method
    of `torch.ops`, which could load a library, and no operator that opens a file.

    Raises:
        GraphError: there is no such operator.
    """
    parts = name.split(".") if isinstance(name, str) else []
    found: Any = torch.ops
    kinds = (torch._ops._OpNamespace, torch._ops.OpOverloadPacket, torch._ops.OpOverload)
    for part, kind in zip([*parts, "default"][:3], kinds, strict=False):
        found = getattr(found, part or "default", None)
        if not isinstance(found, kind):
            break
    takes_names = isinstance(found, torch._ops.OpOverload) and any(a.name in PATHS for a in found._schema.arguments)
    if len(parts) not in (2, 3) or not isinstance(found, torch._ops.OpOverload) or takes_names:
        raise GraphError(
            f"expected the name of an operator on tensors, got {name!r:.60}.\n  Capture the network again."
        )
    return found


def _of_torch(name: str, kind: type[Any]) -> Any:
    """Torch's dtype or memory format of a name, and nothing else that torch holds.

    Raises:
        GraphError: there is none.
    """
    found = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(found, kind):
        raise GraphError(f"expected the name of a {kind.__name__}, got {name!r:.60}.\n  Capture the network again.")
    return found


def _names(program: Program) -> set[str]:
    """Names of all weights and buffers that a program reads."""
    found: set[str] = set()
    _walk([c.args for c in program.calls] + [c.kwargs for c in program.calls] + [program.outputs], "weight", found)
    return found


def _walk(value: Any, kind: str, found: set[Any]) -> None:
    """Collect what a nested argument refers to, such as its registers ('reg')."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple) and len(value) == 2 and value[0] == kind:
        found.add(value[1])
    elif isinstance(value, list | tuple):
        for v in value:
            _walk(v, kind, found)


def _last_uses(program: Program) -> dict[int, list[int]]:
    """Registers that no later call reads, by call."""
    last: dict[int, int] = {}
    for number, call in enumerate(program.calls):
        used: set[int] = set(call.results)
        _walk([call.args, call.kwargs], "reg", used)
        last |= dict.fromkeys(used, number)
    kept: set[int] = set()
    _walk(program.outputs, "reg", kept)
    ends: dict[int, list[int]] = {}
    for register, number in last.items():
        if register not in kept:
            ends.setdefault(number, []).append(register)
    return ends
