"""What a runtime executes: sums over a graph's operations, by kind. Latency predictors are linear in them.

An eager runtime executes dead code and adds zeros; a compiler does not. Both sums are cheap, and which one a device
follows is found out from its timings.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from nasplat.graph import ops
from nasplat.graph.columns import Node
from nasplat.graph.graph import Graph
from nasplat.graph.rows import Rows, side_by_side

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
    return executed_rows(side_by_side([graph]))[0]


def executed_rows(rows: Rows) -> NDArray[np.float64]:
    """Sum the same of many graphs at once.

    Args:
        rows: B graphs side by side.

    Returns:
        Shape (B, len(KINDS), len(TERMS)).
    """
    plain, deep, groups, window = rows.of(_executed_as).T
    elements = rows.kinds.of_shapes(prod)
    channels = rows.kinds.of_shapes(_channels)
    into = np.where(rows.entry >= 0, channels[rows.entry], 1.0)
    kind = np.where(into == groups, deep, plain).astype(np.int64)
    read = np.bincount(rows.target, elements[rows.read], len(rows))
    written = elements[rows.shape]
    work = np.where(window > 0, written * window, rows.macs)
    terms = (np.ones(len(rows)), work, rows.params, read, written, work / into, work / channels[rows.shape])
    runs = kind >= 0
    place = rows.graph[runs] * len(KINDS) + kind[runs]
    sums = [np.bincount(place, term[runs], rows.size * len(KINDS)) for term in terms]
    return np.stack(sums, 1).astype(np.float64).reshape(rows.size, len(KINDS), len(TERMS))


def _executed_as(node: Node) -> tuple[float, ...]:
    """Number of an operation's kind, and of its kind where its first operand has as many channels as it has groups.

    -1 executes nothing. With the groups, and the window of a pooling operation, else 0.
    """
    groups = node.get("groups", 1)
    kinds = [kind_of(node, channels) for channels in (-1, groups)]  # type: ignore[arg-type]
    window = prod(node.get("kernel", (1,))) if kinds[0] in {"maxpool", "avgpool"} else 0  # type: ignore[arg-type]
    return (*(KINDS.index(k) if k else -1 for k in kinds), groups, window)  # type: ignore[return-value]


def _channels(shape: tuple[int, ...]) -> int:
    """Read the channels off a shape; 1 for a scalar."""
    return max(1, shape[1] if len(shape) >= 4 else shape[-1] if shape else 1)
