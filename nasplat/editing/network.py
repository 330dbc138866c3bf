"""`Network`: a captured module as calls and weights, which edits turn into other networks.

Every result has a register of its own, those of operations in place too, so that a later call can be told which of two
values it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from nasplat.editing.channels import Channels, find_channels
from nasplat.errors import CaptureError, EditError
from nasplat.frontends import capture_module
from nasplat.frontends.examples import Inputs
from nasplat.frontends.rebuild import rebuilt
from nasplat.graph import Graph
from nasplat.graph.columns import Shape
from nasplat.graph.program import Call, Program

NORMS = ("aten.batch_norm.default",)
"""Calls that keep statistics of a batch."""


@dataclass(frozen=True, eq=False)
class Network:
    """Calls and weights of a module with one input and one output tensor; `Network.of` captures one."""

    program: Program
    """Calls of the module, each result in a register of its own."""
    weights: Mapping[str, Tensor]
    """Parameters and buffers that the calls read; edits copy those that change and share the others."""
    trained: frozenset[str]
    """Names of the weights that are parameters; the others are buffers."""
    example_input: Shape
    """Shape of a batch of inputs."""
    history: tuple[str, ...] = ()
    """One phrase for each edit that led here, in order."""

    @staticmethod
    def of(module: nn.Module, example_input: Any) -> Network:
        """Capture a module.

        Args:
            module: Network with real weights; they are copied.
            example_input: Shape of a batch of inputs, or a tensor of float32.

        Returns:
            The network with an empty history.

        Raises:
            EditError: the module's calls cannot be replayed, or it does not map one tensor of float32 to one tensor.
            CaptureError: the example input is none, or the module does not run on it.

        Example:
            >>> network = Network.of(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), (1, 4))
            >>> network.output_shape, network.words
            ((1, 2), 'the network as it was')
        """
        shape = _shape(example_input)
        graph = capture_module(module, shape, True)
        program = graph.program
        if program is None:
            reason = next((n for n in graph.notes if n.startswith("no program")), f"it was captured by {graph.rung!r}")
            raise EditError(
                f"expected a network whose calls can be replayed, got one without ({reason}).\n  Simplify its forward."
            )
        if len(program.inputs) != 1 or not (isinstance(program.outputs, tuple) and program.outputs[0] == "reg"):
            raise EditError(
                f"expected a network from one tensor to one tensor, got {len(program.inputs)} inputs and an output of "
                f"{type(program.outputs).__name__}.\n  Wrap it in a module that takes and returns one."
            )
        known = dict(module.named_buffers()) | dict(module.named_parameters()) | module.state_dict()
        program = _own_registers(program)
        weights = {name: known[name].detach().clone() for name in sorted(names_of(program))}
        trained = frozenset(w.name for w in graph.weights if w.name in weights)
        found = Network(program, weights, trained, shape)
        found.shapes  # noqa: B018 - a network that cannot be replayed is refused here
        return found

    def module(self) -> nn.Module:
        """Build a module that computes the network.

        Returns:
            A module with weights of its own, in eval mode; in training mode batch normalisation and dropout train.
        """
        shapes = {n: tuple(self.weights[n].shape) for n in self.trained}
        return rebuilt(self.program, {n: w.clone() for n, w in self.weights.items()}, shapes).eval()

    def calibrated(self, images: Tensor) -> Network:
        """Recompute the statistics of all batch normalisations.

        Args:
            images: Batch of inputs of shape (n, …) whose statistics are kept.

        Returns:
            A network with these statistics; the network itself where it has no batch normalisation.
        """
        calls = [
            replace(c, args=(*c.args[:5], True, 1.0, *c.args[7:])) if c.op in NORMS and c.args[3] else c
            for c in self.program.calls
        ]
        if calls == list(self.program.calls):
            return self
        once = replace(self, program=replace(self.program, calls=tuple(calls))).module()
        with torch.no_grad():
            once(images)
        return replace(self, weights=once.state_dict())

    @cached_property
    def graph(self) -> Graph:
        """Graph of the operations as they are now.

        Raises:
            EditError: the calls do not fit each other.
        """
        try:
            return _placed(capture_module(self.module(), self.example_input, False))
        except CaptureError as err:
            raise EditError(f"{self.words} cannot be built: {err}") from err

    @cached_property
    def shapes(self) -> dict[int, Shape]:
        """Shape of every register at the captured batch.

        Raises:
            EditError: the calls do not fit each other.
        """
        found: dict[int, Shape] = {self.program.inputs[0]: self.example_input}
        trained = {n: tuple(self.weights[n].shape) for n in self.trained}
        empty = rebuilt(self.program, {n: w.to("meta") for n, w in self.weights.items()}, trained).to("meta").eval()

        def note(number: int, registers: dict[int, Any]) -> None:
            for r in self.program.calls[number].results:
                if isinstance(registers.get(r), Tensor):
                    found[r] = tuple(registers[r].shape)

        try:
            with torch.no_grad():
                empty.run((torch.empty(self.example_input, device="meta"),), note)
        except Exception as err:  # whatever torch says of shapes that do not fit
            raise EditError(f"{self.words} cannot be built: {str(err).splitlines()[0]}") from err
        return found

    @property
    def output_shape(self) -> Shape:
        """Shape of a batch of outputs."""
        return self.shapes[self.program.outputs[1]]

    @cached_property
    def channels(self) -> Channels:
        """Which channels of which weights stand for each other."""
        return find_channels(self.program, {n: tuple(w.shape) for n, w in self.weights.items()}, self.shapes)

    @property
    def words(self) -> str:
        """History as one line of text."""
        return "; ".join(self.history) or "the network as it was"

    def edited(
        self, calls: Sequence[Call], outputs: Any, changed: Mapping[str, Tensor], trained: Sequence[str], words: str
    ) -> Network:
        """Replace calls and weights; what no longer reaches the output is left out.

        Args:
            calls: Calls of the new network, in the order they run.
            outputs: Value that the new network returns, as in `Program.outputs`.
            changed: Weights that are new or have other values, by name.
            trained: Names of the new weights that are parameters.
            words: Phrase for the history that says what was done.

        Returns:
            The new network; weights that did not change are shared.

        Raises:
            EditError: shapes do not fit each other, or the output has another shape than before.
        """
        program = replace(self.program, calls=alive(calls, outputs), outputs=outputs)
        known = {**self.weights, **changed}
        weights = {n: known[n] for n in sorted(names_of(program))}
        parameters = (self.trained | frozenset(trained)) & frozenset(weights)
        found = Network(program, weights, parameters, self.example_input, (*self.history, words))
        if found.output_shape != self.output_shape:
            raise EditError(
                f"{words}: the output expected to keep shape {self.output_shape}, got {found.output_shape}.\n  Undo it."
            )
        return found


def _shape(example: Any) -> Shape:
    """The shape of the one tensor that an edited network takes."""
    arguments = Inputs.of(example).arguments
    tensors = Inputs.tensors(arguments)
    if isinstance(arguments, dict) or len(tensors) != 1 or tensors[0].dtype != torch.float32:
        given = ", ".join(f"a tensor of {t.dtype} {tuple(t.shape)}" for t in tensors)
        raise EditError(
            f"expected the shape of a batch, or one tensor of float32, got {given}.\n"
            "  Networks of tokens cannot be edited; edit what is behind the embedding, with a shape such as (1, 64)."
        )
    return tuple(tensors[0].shape)


def mapped(value: Any, change: Callable[[tuple[Any, ...]], Any]) -> Any:
    """Replace every register and weight in a value.

    Args:
        value: Value of a call as in `nasplat.graph.program`, nested to any depth.
        change: Function that gives the new value of a tagged pair ("reg", n) or ("weight", name).

    Returns:
        A value of the same structure.
    """
    if isinstance(value, dict):
        return {k: mapped(v, change) for k, v in value.items()}
    if not isinstance(value, tuple):
        return value
    if len(value) == 2 and value[0] in {"reg", "weight"}:
        return change(value)
    return tuple(mapped(v, change) for v in value)


def read_by(value: Any, kind: str) -> list[Any]:
    """List the registers or the names of weights in a value.

    Args:
        value: Value of a call, nested to any depth.
        kind: Tag of what is listed, 'reg' or 'weight'.

    Returns:
        Numbers of registers or names of weights, in order, with repetitions.
    """
    found: list[Any] = []

    def note(pair: tuple[Any, ...]) -> tuple[Any, ...]:
        if pair[0] == kind:
            found.append(pair[1])
        return pair

    mapped(value, note)
    return found


def names_of(program: Program) -> set[str]:
    """Collect the names of all weights that a program reads.

    Args:
        program: Calls and outputs of a network.

    Returns:
        Names of parameters and buffers.
    """
    return {n for c in program.calls for n in read_by((c.args, c.kwargs), "weight")} | set(
        read_by(program.outputs, "weight")
    )


def renamed(value: Any, registers: Mapping[int, int]) -> Any:
    """Let a value read other registers.

    Args:
        value: Value of a call, nested to any depth.
        registers: New register for each old one; others stay.

    Returns:
        A value of the same structure.
    """
    return mapped(value, lambda pair: ("reg", registers.get(pair[1], pair[1])) if pair[0] == "reg" else pair)


def is_in_place(call: Call) -> bool:
    """Tell calls that write to their operand, by the underscore at the end of their name.

    Args:
        call: Call of a torch operator.

    Returns:
        True for calls such as `aten.relu_.default`.
    """
    return call.op.split(".")[1].endswith("_")


def alive(calls: Sequence[Call], outputs: Any) -> tuple[Call, ...]:
    """Drop the calls that the outputs do not need.

    Args:
        calls: Calls in the order they run.
        outputs: Value that the network returns.

    Returns:
        The needed calls in order; a call in place is needed where what it writes to is read.
    """
    wanted = set(read_by(outputs, "reg"))
    kept = []
    for call in reversed(calls):
        read = read_by((call.args, call.kwargs), "reg")
        if wanted & set(call.results) or (is_in_place(call) and read and read[0] in wanted):
            wanted.update(read)
            kept.append(call)
    return tuple(reversed(kept))


def _own_registers(program: Program) -> Program:
    """Give each result a register of its own; that of a call in place had the register of its operand."""
    current: dict[int, int] = {}
    used = set(program.inputs)
    free = max([*program.inputs, *(r for c in program.calls for r in c.results)]) + 1
    calls = []
    for call in program.calls:
        args, kwargs = renamed(call.args, current), renamed(call.kwargs, current)
        results = []
        for r in call.results:
            if r in used:
                current[r] = free
                free += 1
            used.add(r)
            results.append(current.get(r, r))
        calls.append(Call(call.op, args, kwargs, tuple(results)))
    return replace(program, calls=tuple(calls), outputs=renamed(program.outputs, current))


def _placed(graph: Graph) -> Graph:
    """Name the modules that nodes ran in: that of the node's weights, or around the last node that had some."""
    nodes, around = [], ""
    for node in graph.nodes:
        path = around
        if node.weights:
            path = graph.weights[node.weights[0]].name.rpartition(".")[0]
            around = path.rpartition(".")[0]
        nodes.append(replace(node, path=path))
    return Graph(tuple(nodes), graph.edges, graph.weights, graph.notes, graph.rung, graph.program)
