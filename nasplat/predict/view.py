"""What a graph predictor sees: a Graph becomes arrays, with convolution, normalisation and activation folded into one node.

Views and copies carry no node, nor do batch normalisation and biases, which exporters fold into one another. An activation or
another normalisation joins the weighted operation before it (or, before a pre-activated convolution, the one after it); a sum
read by one node alone joins its reader (messages are summed anyway), a concatenation read by a sum alone takes the sum in.
Sizes are relative to the network's own input and widest layer, so that one predictor reads networks of
different scale; absolute cost enters through the target's transform alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2, prod

import numpy as np
from numpy.typing import NDArray

from nasplat.graph import Graph, ops
from nasplat.graph.cost import node_macs
from nasplat.graph.statistics import features

VOCABULARY = (
    *("input", "output", "constant", "zeros", "conv", "depthwise", "linear", "embedding", "recurrent", "matmul", "attention"),
    *("batchnorm", "layernorm", "groupnorm", "instancenorm", "rmsnorm", "relu", "relu6", "leakyrelu", "elu", "silu", "gelu"),
    *("sigmoid", "tanh", "hardswish", "hardsigmoid", "softplus", "softmax", "add", "sub", "mul", "div", "pow", "neg", "exp"),
    *("log", "sqrt", "abs", "clamp", "compare", "where", "maxpool", "avgpool", "adaptivepool", "mean", "sum", "max", "argmax"),
    *("concat", "pad", "resize", "gather", "copy", "shift", "pixelshuffle", "deform", "gridsample", "cumsum", "other"),
)
"""Ids of the view's operations, those that the shipped predictors learnt; a new vocabulary needs newly trained predictors.
Names the vocabulary of graphs gained since share the id of `other`."""

FEATURES = (
    *("kernel", "stride", "groups", "transposed", "norms", "activations"),
    *("width_in", "width_out", "widening", "side_in", "side_out"),
    *("macs_relative", "params_relative", "position", "fan_in", "fan_out"),
)
"""Of a node; costs are relative to the mean node, widths to the widest layer, sides to the input."""
SPECTRUM = 21
"""Smallest Laplacian eigenvalues that describe a graph's shape."""

KINDS = tuple(
    next(
        (
            k
            for k, names in enumerate((ops.WEIGHTED, ops.MATMUL, ops.NORMALISATION, ops.ACTIVATION, ops.POINTWISE, ops.POOLING))
            if name in names
        ),
        6 + (name in ops.TERMINAL),
    )
    for name in VOCABULARY
)
"""For each id its kind (weighted, matmul, normalisation, activation, pointwise, pooling, movement, terminal): what an operation
that training never showed has in common with those it did."""

_ID = {name: i for i, name in enumerate(VOCABULARY)}
_HOSTS = frozenset(ops.WEIGHTED)
_GUESTS = frozenset({*ops.NORMALISATION, *ops.ACTIVATION, "clamp"})


@dataclass(frozen=True)
class View:
    """All that a predictor sees of one graph; N nodes, M edges."""

    op: NDArray[np.int64]
    """Shape (N,), ids of `VOCABULARY`."""
    features: NDArray[np.float32]
    """Shape (N, len(FEATURES))."""
    work: NDArray[np.float32]
    """Shape (N,): share of the network's MACs."""
    edges: NDArray[np.int64]
    """Shape (2, M): source and target of each edge."""
    statistics: dict[str, float]
    """Named statistics, see `nasplat.graph.statistics`."""
    macs: int
    params: int
    unknown_ops: tuple[str, ...] = ()

    @property
    def gigaflops(self) -> float:
        """2 × MACs / 1e9 of the whole network."""
        return 2 * self.macs / 1e9

    def __len__(self) -> int:
        return len(self.op)


def view(graph: Graph) -> View:
    """Arrays of a graph.

    Args:
        graph: Any graph; dead code and additions of zeros are folded first.

    Returns:
        At least one node; unknown operations share the id of `other`.
    """
    g = graph.folded.without((*ops.HIDDEN, "batchnorm"))
    host, guests, name = _fold(g)
    kept = [i for i in range(len(g.nodes)) if host[i] == i]
    number = {old: new for new, old in enumerate(kept)}
    pairs = dict.fromkeys(
        (number[host[s]], number[host[t]]) for s, _, t, _ in g.edges if host[s] != host[t] and host[s] in number
    )
    edges = np.array(list(pairs), np.int64).reshape(-1, 2).T
    macs = [node_macs(g.nodes[i], g.input_shapes(i)) for i in kept]
    work = np.array(macs, np.float64) / max(1, sum(macs))
    params = [sum(g.weights[w].size for w in g.nodes[i].weights) for i in kept]
    depth = _depths(len(kept), edges)
    into, out = np.bincount(edges[1], minlength=len(kept)), np.bincount(edges[0], minlength=len(kept))
    shapes = [_width_and_side(g.nodes[i].shape) for i in kept]
    widest = max((w for i, (w, _) in zip(kept, shapes, strict=True) if g.nodes[i].weights), default=1)
    first = next((side for i, (_, side) in zip(kept, shapes, strict=True) if g.nodes[i].op == "input"), 1) or 1
    rows = np.zeros((len(kept), len(FEATURES)), np.float32)
    for row, i in enumerate(kept):
        node = g.nodes[i]
        width, side = shapes[row]
        inputs = g.input_shapes(i)
        width_in, side_in = _width_and_side(inputs[0]) if inputs else (width, side)
        kernel, stride = node.get("kernel", (1,)), node.get("stride", (1,))
        norms, activations = guests[i]
        rows[row] = (
            *(log2(max(1, prod(kernel))) / 4, log2(max(1, prod(stride))) / 2),  # type: ignore[arg-type]
            log2(max(1, int(node.get("groups", 1)))) / 10,  # type: ignore[call-overload]
            *(float(bool(node.get("transposed"))), float(norms), float(activations)),
            *(_ratio(widest, width_in, 4), _ratio(widest, width, 4), _ratio(width, width_in, 2)),
            *(_ratio(first, side_in, 4), _ratio(first, side, 4)),
            *(log2(1 + len(kept) * work[row]) / 2, log2(1 + len(kept) * params[row] / max(1, sum(params))) / 2),
            *(depth[row] / max(1, depth.max(initial=1)), min(8, into[row]) / 4, min(8, out[row]) / 4),
        )
    found = np.array([_ID.get(name[i], _ID["other"]) for i in kept], np.int64)
    return View(found, rows, work.astype(np.float32), edges, features(graph), graph.macs, graph.params, graph.unknown_ops)


def _fold(g: Graph) -> tuple[list[int], list[tuple[int, int]], list[str]]:
    """For each node the node it joins, how many normalisations and activations it holds, and its operation."""
    readers: list[list[int]] = [[] for _ in g.nodes]
    for s, _, t, _ in g.edges:
        readers[s].append(t)
    host, name = list(range(len(g.nodes))), [n.op for n in g.nodes]
    guests = [[0, 0] for _ in g.nodes]

    def join(i: int, other: int) -> None:
        host[i] = other
        guests[other][0 if g.nodes[i].op in ops.NORMALISATION else 1] += 1

    for i, node in enumerate(g.nodes):
        if node.op in _GUESTS and len(g.operands[i]) == 1:
            source = g.operands[i][0][0]
            if g.nodes[host[source]].op in _HOSTS and len(set(readers[source])) == 1:
                join(i, host[source])
    for i in reversed(range(len(g.nodes))):  # what stands before a convolution joins it, the nearest first
        if g.nodes[i].op in _GUESTS and host[i] == i and len(set(readers[i])) == 1:
            target = host[readers[i][0]]
            if g.nodes[target].op in _HOSTS and len(g.operands[i]) == 1:
                join(i, target)
        elif g.nodes[i].op in {"add", "concat"} and len(set(readers[i])) == 1:
            reader = host[readers[i][0]]
            if g.nodes[i].op == "add" and name[reader] != "output":
                host[i] = reader  # so a sum of sums is one sum, whatever the order of its terms
            elif g.nodes[i].op == "concat" and name[reader] == "add":
                host[i], name[reader] = reader, "concat"
    return host, [(a, b) for a, b in guests], name


def _ratio(a: int, b: int, scale: float) -> float:
    return log2(max(1, a) / max(1, b)) / scale


def _width_and_side(shape: tuple[int, ...]) -> tuple[int, int]:
    """Channels and spatial side: (B, C, H, W, …) has both, (B, tokens, C) the square root of its tokens, (B, C) side 1."""
    if len(shape) >= 4:
        return shape[1], round(prod(shape[2:]) ** (1 / (len(shape) - 2)))
    if len(shape) == 3:
        return shape[2], round(shape[1] ** 0.5)
    return (shape[-1] if shape else 1), 1


def _depths(n: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Longest way from a source to each node; nodes stand in execution order."""
    depth = np.zeros(n, np.int64)
    for s, t in sorted(edges.T.tolist(), key=lambda e: e[1]):
        depth[t] = max(depth[t], depth[s] + 1)
    return depth


def spectrum(seen: View, size: int = SPECTRUM) -> NDArray[np.float64]:
    """Smallest eigenvalues of the normalised Laplacian of the undirected graph; padded with the largest where N < size.

    Source: GENNAPE, Mills et al., AAAI 2023, arXiv:2211.17226 (21 eigenvalues).
    """
    n = len(seen)
    adjacency = np.zeros((n, n))
    adjacency[seen.edges[0], seen.edges[1]] = 1.0
    adjacency = np.maximum(adjacency, adjacency.T)
    degree = adjacency.sum(1)
    scale = np.where(degree > 0, 1.0 / np.sqrt(np.maximum(degree, 1e-12)), 0.0)
    values = np.linalg.eigvalsh(np.diag((degree > 0).astype(float)) - scale[:, None] * adjacency * scale)
    values = values[:size]
    return np.concatenate([values, np.full(size - len(values), values[-1])])
