"""What a runtime executes: sums over a graph's operations, by kind. Latency predictors are linear in them.

An eager runtime executes dead code and adds zeros; a compiler does not. Both sums are cheap, and which one a device
follows is found out from its timings.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from nasplat.graph import ops
from nasplat.graph.columns import Attributes, Node, Shape
from nasplat.graph.graph import Graph

KINDS: tuple[str, ...] = tuple(
    "conv1x1 conv3x3 conv5x5+ depthwise3x3 depthwise5x5+ grouped linear recurrent matmul attention maxpool "
    "avgpool reduce add concat norm layernorm relu activation pointwise movement other".split()
)
"""Kinds of operations whose time follows different laws."""
TERMS = ("calls", "work", "weights", "read", "written", "work / channels_in", "work / channels_out")
"""Quantities that the time of a kind may be linear in: multiply-accumulates (of pooling: outputs times window), also
over channels; elements of weights, operands and outputs."""
_SILENT = frozenset({"input", "output", "constant", "identity", "copy", "view"})
_KIND = {
    **dict.fromkeys(ops.NORMALISATION, "norm"),
    **dict.fromkeys(("layernorm", "rmsnorm"), "layernorm"),
    **dict.fromkeys(ops.ACTIVATION, "activation"),
    **dict.fromkeys(("relu", "relu6"), "relu"),
    **dict.fromkeys(ops.POINTWISE, "pointwise"),
    **dict.fromkeys(ops.POOLING, "reduce"),
    **dict.fromkeys((*ops.MOVEMENT, "embedding", "zeros", "random"), "movement"),
    **dict.fromkeys(("matmul", "distance", "bilinear"), "matmul"),
    **{kind: kind for kind in ("linear", "recurrent", "attention", "maxpool", "avgpool", "add", "concat")},
}
WINDOW = 9
"""Largest window, in elements, of the small kinds."""


def kind_of(node: Node, channels: int = 0) -> str:
    """Name the kind of an operation.

    Args:
        node: Operation of any graph.
        channels: Channels of the operation's first operand; they tell depthwise from grouped convolutions.

    Returns:
        A name from `KINDS`; '' for an operation that executes nothing, such as a view.
    """
    if node.op in _SILENT or node.is_alias:
        return ""
    if node.op in {"conv", "depthwise"}:
        window = prod(node.get("kernel", (1,)))  # type: ignore[arg-type]
        groups = node.get("groups", 1)
        if node.op == "depthwise" or (groups != 1 and groups == channels):
            return "depthwise3x3" if window <= WINDOW else "depthwise5x5+"
        if groups != 1:
            return "grouped"
        return "conv1x1" if window == 1 else "conv3x3" if window <= WINDOW else "conv5x5+"
    return _KIND.get(node.op, "other")


def executed(graph: Graph) -> NDArray[np.float64]:
    """Sum calls, work and bytes over all operations, dead ones included.

    `executed(graph.folded)` sums what a compiler keeps.

    Args:
        graph: Any graph; its batch axis counts as it stands.

    Returns:
        Shape (len(KINDS), len(TERMS)): counts of calls, multiply-accumulates and elements.
    """
    sizes = [w.size for w in graph.weights]
    rows = []
    for i, node in enumerate(graph.nodes):
        if node.op in _SILENT or node.is_alias:
            continue
        weights = sum([sizes[w] for w in node.weights])
        rows.append(
            _row(node.op, node.attributes, node.shapes, tuple(graph.input_shapes(i)), graph.node_macs[i], weights)
        )
    found = np.zeros((len(KINDS), len(TERMS)))
    if rows:
        np.add.at(found, [k for k, _ in rows], [terms for _, terms in rows])
    return found


@lru_cache(maxsize=1 << 16)
def _row(
    op: str, attributes: Attributes, shapes: tuple[Shape, ...], inputs: tuple[Shape, ...], work: int, weights: int
) -> tuple[int, tuple[float, ...]]:
    """Compute kind and terms of one operation; cached, since networks repeat their operations."""
    node = Node(op, attributes, shapes)
    channels = _channels(inputs[0] if inputs else ())
    kind = kind_of(node, channels)
    read, written = sum(prod(s) for s in inputs), prod(node.shape)
    if kind in {"maxpool", "avgpool"}:
        work = written * prod(node.get("kernel", (1,)))  # type: ignore[arg-type]
    return KINDS.index(kind), (1, work, weights, read, written, work / channels, work / _channels(node.shape))


def _channels(shape: tuple[int, ...]) -> int:
    """Read the channels off a shape; 1 for a scalar."""
    return max(1, shape[1] if len(shape) >= 4 else shape[-1] if shape else 1)
