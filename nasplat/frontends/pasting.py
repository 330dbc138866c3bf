"""Blocks that were recorded before are pasted instead of run: the same block, fed the same layouts, does the same.

A segment holds a block's nodes with everything relative to it. What reaches outside the block (constants, weights of
others, writes to its inputs) makes no segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nasplat.frontends.block import SHELL, SIGNATURE, fill
from nasplat.frontends.calls import empty, frozen
from nasplat.frontends.recorder import Recorder
from nasplat.graph.columns import Node, Weight


@dataclass(frozen=True, slots=True)
class Segment:
    """A recorded block with everything relative to it."""

    nodes: list[Node]
    """Nodes with paths below the block's and weights by their row in `weights`."""
    edges: list[tuple[int, int, int, int]]
    """(node, its output, reading node, position); the node -1 - i stands for the block's i-th input."""
    weights: list[Weight]
    """Weights by their names inside the block."""
    outputs: list[Any]
    """(layout, node, its output) of every tensor the block returns; the layout of an input given back is None."""
    single: bool
    """The block returns one tensor, no tuple."""


SEGMENTS: dict[Any, Segment] = {}
"""Recorded blocks per (signature, input layouts, mode); a pure function, so one table serves the process."""
LIMIT = 3_000
"""Segments kept; the oldest go, so that memory stays flat over a space whose blocks never end."""


class StandIns:
    """Stand in for the forward of every `@block` part of a network while a recorder runs."""

    def __init__(self, recorder: Recorder) -> None:
        """Prepare the stand-ins of one capture.

        Args:
            recorder: The recorder that runs the network.
        """
        self.recorder = recorder
        self._patched: list[nn.Module] = []

    def __enter__(self) -> None:
        """Put the stand-ins in place."""
        self._patch()

    def __exit__(self, *raised: object) -> None:
        """Give every part its own forward back."""
        for part in self._patched:
            part.__dict__.pop("forward", None)

    def _patch(self) -> None:
        for part in self.recorder.parts.blocks:
            if "forward" not in part.__dict__:
                part.__dict__["forward"] = _StandIn(self, part)
                self._patched.append(part)

    def run_or_paste(self, part: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a block's forward, or paste what it recorded the last time.

        Args:
            part: The block that is called.
            inputs: Positional arguments of its forward.
            kwargs: Keyword arguments; with any, the block is always run.

        Returns:
            What the block's forward returns, on tensors without values.
        """
        r = self.recorder
        own = type(part).forward
        plain = not kwargs and all(
            isinstance(t, Tensor) and t.device.type == "meta" and _is_fresh(r, t) for t in inputs
        )
        if not plain or len({id(t) for t in inputs}) != len(inputs):
            self._fill(part)
            return own(part, *inputs, **kwargs)
        key = (part.__dict__[SIGNATURE], frozen(inputs), part.training, r.decomposes)
        path = r.parts.path_of(part)
        segment = SEGMENTS.get(key)
        if segment is not None:
            return _paste(r, part, inputs, segment, path)
        self._fill(part)
        start, edges, doubts = len(r.tape.nodes), len(r.tape.edges), r.tape.doubts
        entry = [r.origins.source(t) for t in inputs]
        version = r.origins.version
        before = dict(version)
        result = own(part, *inputs)
        untouched = all(before.get(s, 0) == version.get(s, 0) for s in (t.untyped_storage()._cdata for t in inputs))
        if untouched and r.tape.doubts == doubts:
            segment = _cut(r, (start, edges), entry, inputs, result, path)
            if segment is not None:
                if len(SEGMENTS) >= LIMIT:
                    del SEGMENTS[next(iter(SEGMENTS))]
                SEGMENTS[key] = segment
        return result

    def _fill(self, part: nn.Module) -> None:
        """A block that has to run gets insides of its own."""
        if SHELL not in part.__dict__:
            return
        parts = self.recorder.parts
        known = [(key[1], row) for key, row in parts.rows.items() if isinstance(key, tuple) and key[0] == id(part)]
        with torch._C._DisableTorchDispatch():  # copying parameters is no operation of the network
            fill(part)
        part.eval()
        parts.meet(part, parts.path_of(part))
        for name, row in known:  # weights that were pasted before stay the same weights
            key = _known_by(part, name)
            parts.rows[key if isinstance(key, tuple) else id(key)] = row
        self._patch()


class _StandIn:
    """The forward of one block while a capture runs."""

    def __init__(self, stand_ins: StandIns, part: nn.Module) -> None:
        self.stand_ins, self.part = stand_ins, part

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.stand_ins.run_or_paste(self.part, inputs, kwargs)


def _paste(r: Recorder, part: nn.Module, inputs: tuple[Tensor, ...], segment: Segment, path: str) -> Any:
    """Append a segment's nodes as if the block had run, and make its outputs."""
    base = len(r.tape.nodes)
    entry = [r.origins.source(t) for t in inputs]
    rows = [_row(r, part, w, path) for w in segment.weights]
    append = r.tape.nodes.append
    for n in segment.nodes:
        where = f"{path}.{n.path}" if path and n.path else path or n.path
        weights = tuple([rows[w] for w in n.weights]) if n.weights else ()
        append(Node(n.op, n.attributes, n.shapes, n.itemsize, weights, where, n.is_alias))
    edges = r.tape.edges
    for source, slot, target, position in segment.edges:
        made = entry[-source - 1] if source < 0 else (source + base, slot)
        edges.append((*made, target + base, position))
    outputs = []
    for layout, source, slot in segment.outputs:
        if layout is None:
            outputs.append(inputs[-source - 1])
            continue
        tensor = empty(*layout, is_result=True)
        r.origins.produced(tensor, base + source, slot)
        outputs.append(tensor)
    return outputs[0] if segment.single else tuple(outputs)


def _row(r: Recorder, part: nn.Module, weight: Weight, path: str) -> int:
    """Row of a block's weight; one inside a shell goes by the shell and its name there, for its parameter is shared."""
    key = _known_by(part, weight.name)
    parts = r.parts
    if not isinstance(key, tuple):
        return parts.row_of(key)
    if key not in parts.rows:
        parts.rows[key] = len(parts.weights)
        parts.weights.append(Weight(f"{path}.{weight.name}" if path else weight.name, weight.shape, weight.dtype))
    return parts.rows[key]


def _known_by(part: nn.Module, name: str) -> Tensor | tuple[int, str]:
    """The parameter of that name, or (shell, name inside it)."""
    *modules, last = name.split(".")
    for i, module in enumerate(modules):
        if SHELL in part.__dict__:
            return id(part), ".".join([*modules[i:], last])
        part = part._modules[module]  # type: ignore[assignment]
    return (id(part), last) if SHELL in part.__dict__ else part._parameters[last]  # type: ignore[return-value]


def _is_fresh(r: Recorder, tensor: Tensor) -> bool:
    """Whether a tensor is what a recorded node made, unchanged, and its values are unknown."""
    found = r.origins.producer.get(id(tensor))
    return (
        found is not None
        and found[2] == r.origins.version.get(tensor.untyped_storage()._cdata, 0)
        and id(tensor) not in r.values.shadows
    )


def _cut(
    r: Recorder, starts: tuple[int, int], entry: list[Any], inputs: tuple[Tensor, ...], result: Any, path: str
) -> Segment | None:
    """The nodes and edges since `starts` with everything relative, or None when they reach outside the block."""
    start, edges = starts
    table = r.parts.weights
    prefix = f"{path}." if path else ""
    known: dict[tuple[int, int], int] = {source: -i - 1 for i, source in enumerate(entry)}
    weights: dict[int, int] = {}
    nodes = []
    for n in r.tape.nodes[start:]:
        if any(not table[w].name.startswith(prefix) for w in n.weights) or n.op in {"constant", "random"}:
            return None
        rows = tuple(weights.setdefault(w, len(weights)) for w in n.weights)
        inner = n.path[len(path) :].lstrip(".") if n.path.startswith(path) else n.path
        nodes.append(Node(n.op, n.attributes, n.shapes, n.itemsize, rows, inner, n.is_alias))
    inside = []
    for source, slot, target, position in r.tape.edges[edges:]:
        if source < start and (source, slot) not in known:
            return None
        inside.append((known[(source, slot)] if source < start else source - start, slot, target - start, position))
    outputs = _outputs(r, start, inputs, result)
    if not outputs:
        return None
    own = [Weight(table[w].name[len(prefix) :], table[w].shape, table[w].dtype) for w in weights]
    return Segment(nodes, inside, own, outputs, isinstance(result, Tensor))


def _outputs(r: Recorder, start: int, inputs: tuple[Tensor, ...], result: Any) -> list[Any] | None:
    """A segment's outputs, or None where a block returns anything else than new tensors and its inputs."""
    tensors = [result] if isinstance(result, Tensor) else list(result) if isinstance(result, tuple) else []
    outputs: list[Any] = []
    for t in tensors:
        if not isinstance(t, Tensor) or t.device.type != "meta":
            return None
        source, slot = r.origins.source(t)
        if source >= start:
            if any(t.untyped_storage()._cdata == u.untyped_storage()._cdata for u in inputs):
                return None
            outputs.append(((tuple(t.shape), t.stride(), t.dtype), source - start, slot))
        elif any(t is u for u in inputs):
            outputs.append((None, next(-i - 1 for i, u in enumerate(inputs) if u is t), 0))
        else:
            return None
    return outputs
