"""The one counter: MACs, other arithmetic, parameters, weight bytes and activation memory of a graph.

Convention: convolutions, linear layers, matrix products, attention, recurrent cells, distances and bilinear forms count
multiply-accumulates (1 MAC = 2 FLOP); a bias adds nothing. Rows that are added to the rows of a matrix by index, as a
graph network's messages are, count one for each value: the same sum by a sparse matrix is a product. Everything else
(normalisation, activations, pooling, pointwise arithmetic, interpolation, transforms) is kept apart as `other_flops`,
as the field's tables keep to MACs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log2, prod

from nasplat.graph import bounds, ops
from nasplat.graph.columns import Columns, Node, Shape

MULTIPLIES = frozenset({*ops.WEIGHTED, *ops.MATMUL, "deform"})
"""Operations that count multiply-accumulates by their result and their first operand."""
SUMS = "scatter"
"""Operation that may count multiply-accumulates by its last operand: rows that are summed by index."""

_PER_ELEMENT: dict[str, int] = {
    # floating-point operations per output element; transcendental functions count one, as in the roofline literature
    **dict.fromkeys(("add", "sub", "mul", "div", "neg", "exp", "log", "sqrt", "abs", "pow", "unary", "binary"), 1),
    **dict.fromkeys(("relu", "tanh", "sigmoid", "clamp", "compare", "where", "relu6", "leakyrelu", "cumsum"), 1),
    **dict.fromkeys(("elu", "glu", "hardsigmoid"), 3),
    **dict.fromkeys(("silu", "softplus", "hardswish", "mish"), 4),
    **dict.fromkeys(("gelu", "softmax", "rmsnorm"), 5),
    **dict.fromkeys(("layernorm", "groupnorm", "instancenorm"), 7),
    "batchnorm": 2,
}
_TAPS = {"nearest": 0, "linear": 3, "bilinear": 7, "trilinear": 15, "bicubic": 31, "cubic": 31}
"""Multiplications and additions per output element of an interpolation."""


@dataclass(frozen=True)
class Cost:
    """What one forward pass costs, by closed formulas per operation."""

    macs: int
    """Multiply-accumulates (1 MAC = 2 FLOP)."""
    params: int
    """Elements of the trained tensors in use; a shared tensor counts once."""
    activation_bytes: int
    """Largest sum of bytes of activations alive at once, weights excluded."""
    other_flops: int = 0
    """Floating-point operations outside matrix products: normalisation, activations, pooling, interpolation,
    transforms."""
    weight_bytes: tuple[tuple[str, int], ...] = ()
    """(dtype, bytes) of the trained tensors in use, sorted by dtype."""
    bound: str = ""
    """What MACs and other FLOP are: '' exact, '≥' a lower bound, '≤' an upper bound, '≈' neither."""
    params_bound: str = ""
    """The same of parameters and weight bytes."""
    bytes_bound: str = ""
    """The same of activation bytes."""

    @property
    def is_lower_bound(self) -> bool:
        """True where MACs are surely no more than a run makes, and may be fewer: something is not counted."""
        return self.bound == bounds.AT_LEAST

    @property
    def is_upper_bound(self) -> bool:
        """True where MACs are surely no fewer than a run makes, and may be more: sizes are taken at their most."""
        return self.bound == bounds.AT_MOST


def total_cost(graph: Columns) -> Cost:
    """Count everything that one forward pass of a graph costs.

    Args:
        graph: Any graph; dead code and views count as they stand.

    Returns:
        MACs, other arithmetic, parameters, and bytes of weights and activations.
    """
    used = sorted({w for node in graph.nodes for w in node.weights})
    weights: Counter[str] = Counter()
    for w in used:
        weights[graph.weights[w].dtype] += graph.weights[w].bytes
    inputs = [graph.input_shapes(i) for i in range(len(graph.nodes))]
    pairs = list(zip(graph.nodes, inputs, strict=True))
    return Cost(
        macs=sum(node_macs(node, shapes) for node, shapes in pairs),
        params=graph.params,
        activation_bytes=peak_activation_bytes(graph),
        other_flops=sum(node_flops(node, shapes) for node, shapes in pairs),
        weight_bytes=tuple(sorted(weights.items())),
        bound=bounds.bound(graph.causes, bool(graph.unknown_ops)),
        params_bound=bounds.params_bound(graph.causes),
        bytes_bound=bounds.bytes_bound(graph.causes),
    )


def node_macs(node: Node, inputs: list[Shape]) -> int:
    """Count the multiply-accumulates of one node.

    Args:
        node: Operation with its attributes and output shapes; an unknown one counts 0.
        inputs: Shapes of the node's operands, by operand position.

    Returns:
        Multiply-accumulates at the batch size of the shapes.
    """
    if node.op == SUMS:
        return _messages(node, inputs)
    if node.op not in MULTIPLIES:
        return 0
    a = dict(node.attributes)
    if "macs" in a:
        return int(a["macs"])  # type: ignore[call-overload]
    if "complex" in a:
        real = tuple(pair for pair in node.attributes if pair[0] != "complex")
        return int(a["complex"]) * node_macs(replace(node, attributes=real), inputs)  # type: ignore[call-overload]
    if node.op in {"conv", "depthwise", "deform"}:
        # C_in / groups × kernel volume per output element; a transposed convolution does it per input element
        per_element = int(a.get("channels_per_group", 1)) * prod(a.get("kernel", (1,)))  # type: ignore[call-overload, arg-type]
        elements = prod(inputs[0]) if a.get("transposed") and inputs else prod(node.shape)
        return elements * per_element
    if node.op in {"linear", "matmul", "bilinear", "distance"}:
        inner = a.get("in_features", a.get("inner"))
        return prod(node.shape) * (int(inner) if inner is not None else inputs[0][-1] if inputs and inputs[0] else 1)  # type: ignore[call-overload]
    if node.op == "attention":
        return prod(node.shape[:-1]) * int(a.get("keys", 1)) * (int(a.get("width", 1)) + (node.shape or (1,))[-1])  # type: ignore[call-overload]
    return 0


def _messages(node: Node, inputs: list[Shape]) -> int:
    """Values of rows that are summed into the rows of a result by index; 0 for other ways to write by index."""
    function = node.get("function")
    adds = function in {"scatter_add", "index_add"} or bool(node.get("accumulate"))
    adds = adds or (node.get("reduce") in {"add", "sum", "mean"} and function != "segment_reduce")
    return prod(inputs[-1]) if adds and len(node.shape) > 1 and inputs else 0


def node_flops(node: Node, inputs: list[Shape]) -> int:
    """Count the floating-point operations of one node that are no multiply-accumulates of a product.

    Args:
        node: Operation with its attributes and output shapes; an unknown one counts 0.
        inputs: Shapes of the node's operands, by operand position.

    Returns:
        Floating-point operations at the batch size of the shapes.
    """
    per_element = _PER_ELEMENT.get(node.op)
    elements = sum(map(prod, node.shapes[:1]))
    if per_element is not None:
        return per_element * elements
    special = _FLOPS.get(node.op)
    return special(node, elements, prod(inputs[0]) if inputs else 0) if special is not None else 0


def _pool(node: Node, out: int, into: int) -> int:
    """Count one operation per output element and place of the window."""
    return out * prod(node.get("kernel", (1,)))  # type: ignore[arg-type]


def _fourier(node: Node, out: int, into: int) -> int:
    """Count 5 N log2 N real operations for N complex values, half for real ones (the convention of FFTW's authors)."""
    size = max(2, int(node.get("points", 2)))  # type: ignore[call-overload]
    return int((2.5 if node.get("real") else 5) * max(out, into) * log2(size))


def _algebra(node: Node, out: int, into: int) -> int:
    """Count 2/3 n³ per matrix of side n, the leading term of a factorisation."""
    n = int(node.get("n", 1))  # type: ignore[call-overload]
    return int(2 / 3 * into * n)


_FLOPS: dict[str, Callable[[Node, int, int], int]] = {
    "maxpool": _pool,
    "avgpool": _pool,
    **dict.fromkeys(("adaptivepool", "mean", "sum", "max", "argmax", "reduce"), lambda node, out, into: into),
    "resize": lambda node, out, into: out * _TAPS.get(str(node.get("mode", "nearest")), 7),
    "gridsample": lambda node, out, into: out * _TAPS.get(str(node.get("mode", "bilinear")), 7),
    "roi": lambda node, out, into: out * 7,
    SUMS: lambda node, out, into: 0 if _messages(node, [(into,)]) else into,
    "sort": lambda node, out, into: int(into * log2(max(2, into))),
    "patches": lambda node, out, into: 0,
    "fft": _fourier,
    "algebra": _algebra,
}


def peak_activation_bytes(graph: Columns) -> int:
    """Find the largest sum of live activation bytes over the recorded order.

    A tensor lives from the node that makes it to the last that reads it; views and in-place results live in the storage
    of their source.

    Args:
        graph: Any graph; its order of nodes is the order of execution.

    Returns:
        Bytes at the batch size of the shapes, weights excluded.

    Source: the definition of Liberis & Lane 2019, arXiv:1910.05110, for a fixed order.
    """
    n = len(graph.nodes)
    root = list(range(n))
    last_use = list(range(n))
    for i, node in enumerate(graph.nodes):
        if node.is_alias and graph.operands[i]:
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
