"""What a runtime executes: sums over a graph's operations, by kind. Latency predictors are linear in them.

An eager runtime executes dead code and adds zeros; a compiler does not. Both sums are cheap, and which one a device follows is found
out from its timings.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from nasplat.graph import ops
from nasplat.graph.cost import node_macs
from nasplat.graph.graph import Graph, Node

KINDS = (
    *(
        "conv1x1",
        "conv",
        "grouped",
        "linear",
        "attention",
        "pool",
        "join",
        "norm",
        "activation",
        "pointwise",
        "movement",
        "other",
    ),
)
"""Operations whose time follows different laws."""
TERMS = ("calls", "macs", "weights", "read", "written", "macs / channels_in", "macs / channels_out")
"""What the time of a kind may be linear in: elements of weights, operands and output; multiply-accumulates over channels."""
_SILENT = frozenset({"input", "output", "constant", "identity", "copy"})
_MOVEMENT = frozenset({"pad", "resize", "gather", "shift", "pixelshuffle", "roll", "index", "scatter", "zeros", "random"})


def kind_of(node: Node) -> str:
    """Name in `KINDS`; empty for what runs nothing."""
    op = node.op
    if op in _SILENT or node.is_alias:
        return ""
    if op == "conv":
        window = prod(node.get("kernel", (1,)))  # type: ignore[arg-type]
        return "grouped" if node.get("groups", 1) != 1 else "conv1x1" if window == 1 else "conv"
    if op == "depthwise":
        return "grouped"
    if op in ops.WEIGHTED:
        return "linear"
    if op in ops.MATMUL or op == "softmax":
        return "attention"
    for kind, names in (
        ("join", ("add", "concat")),
        ("norm", ops.NORMALISATION),
        ("activation", ops.ACTIVATION),
        ("pool", ops.POOLING),
        ("pointwise", ops.POINTWISE),
        ("movement", _MOVEMENT),
    ):
        if op in names:
            return kind
    return "other"


def executed(graph: Graph) -> NDArray[np.float64]:
    """Sums over all operations, dead ones included; `executed(graph.folded)` are those that a compiler keeps.

    Args:
        graph: Any graph; its batch axis counts as it stands.

    Returns:
        Shape (len(KINDS), len(TERMS)).
    """
    found = np.zeros((len(KINDS), len(TERMS)))
    place = {kind: i for i, kind in enumerate(KINDS)}
    for i, node in enumerate(graph.nodes):
        kind = kind_of(node)
        if not kind:
            continue
        shapes = graph.input_shapes(i)
        macs = node_macs(node, shapes)
        weights = sum(graph.weights[w].size for w in node.weights)
        read, written = sum(prod(s) for s in shapes), prod(node.shape)
        row = found[place[kind]]
        row += (1, macs, weights, read, written, macs / _channels(shapes[0] if shapes else ()), macs / _channels(node.shape))
    return found


def _channels(shape: tuple[int, ...]) -> int:
    return max(1, shape[1] if len(shape) >= 4 else shape[-1] if shape else 1)
