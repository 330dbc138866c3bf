"""The one counter: MACs, parameters and activation memory of a graph.

Convention: convolutions, linear layers and matrix products count multiply-accumulates (1 MAC = 2 FLOP); normalisation,
activations, pooling and pointwise arithmetic count nothing, as is usual in the field's tables. A bias adds nothing.
"""

from __future__ import annotations

from math import prod

from nasplat.graph import ops
from nasplat.graph.graph import Cost, Graph, Node, Shape


def count(graph: Graph) -> Cost:
    """All counted quantities of a graph."""
    used = {w for node in graph.nodes for w in node.weights}
    macs = sum(node_macs(node, graph.input_shapes(i)) for i, node in enumerate(graph.nodes) if _is_counted(node))
    return Cost(
        macs=macs,
        params=sum(graph.weights[w].size for w in used),
        activation_bytes=peak_activation_bytes(graph),
        is_lower_bound=bool(graph.unknown_ops),
    )


def _is_counted(node: Node) -> bool:
    return node.op in ops.WEIGHTED or node.op in ops.MATMUL or node.op == "deform"


def node_macs(node: Node, inputs: list[Shape]) -> int:
    """Multiply-accumulates of one node.

    Args:
        node: A node of the vocabulary.
        inputs: Shapes of its operands.
    """
    if node.op in {"conv", "depthwise", "deform"}:
        # C_in / groups × kernel volume per output element; a transposed convolution does it per input element
        per_element = int(node.get("channels_per_group", 1)) * prod(node.get("kernel", (1,)))  # type: ignore[arg-type]
        elements = prod(inputs[0]) if node.get("transposed") and inputs else prod(node.shape)
        return elements * per_element
    if node.op == "linear":
        return prod(node.shape) * int(node.get("in_features", 1))  # type: ignore[call-overload]
    if node.op == "matmul":
        return prod(node.shape) * (inputs[0][-1] if inputs and inputs[0] else 1)
    if node.op == "attention":
        (query, key, value) = inputs[:3]
        scores = prod(query) // query[-1] * key[-2]
        return scores * query[-1] + scores * value[-1]
    if node.op == "recurrent":
        return int(node.get("macs", 0))  # type: ignore[call-overload]
    return 0


def peak_activation_bytes(graph: Graph) -> int:
    """Largest sum of live activation bytes over the recorded order.

    A tensor lives from the node that makes it to the last that reads it; views live in the storage of their source.
    Source: the definition of Liberis & Lane 2019, arXiv:1910.05110, for a fixed order.
    """
    n = len(graph.nodes)
    root = list(range(n))
    last_use = list(range(n))
    for i, node in enumerate(graph.nodes):
        if node.op in ops.VIEW and graph.operands[i]:
            root[i] = root[graph.operands[i][0][0]]
        for source, _ in graph.operands[i]:
            last_use[root[source]] = i
    size = [
        0 if root[i] != i or node.op in {"output", "constant"} else sum(map(prod, node.shapes)) * node.itemsize
        for i, node in enumerate(graph.nodes)
    ]
    dying: list[list[int]] = [[] for _ in range(n)]
    for i in range(n):
        if size[i]:
            dying[last_use[i]].append(i)
    live = peak = 0
    for i in range(n):
        live += size[i]
        peak = max(peak, live)
        live -= sum(size[j] for j in dying[i])
    return peak
