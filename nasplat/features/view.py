"""What a graph predictor sees: a Graph becomes arrays, convolution, normalisation and activation folded into one node.

Views and copies carry no node, nor do batch normalisation and biases, which exporters fold into one another. An
activation or another normalisation joins the weighted operation before it (or, before a pre-activated convolution, the
one after it); a sum read by one node alone joins its reader (messages are summed anyway), a concatenation read by a sum
alone takes the sum in. Sizes are relative to the network's own input and widest layer, so that one predictor reads
networks of different scale; absolute cost enters through the target's transform alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplat.features.arrays import IDS, SPECTRUM, depths, prepared, spectrum, unfolded_arrays
from nasplat.features.statistics import features
from nasplat.features.work import executed
from nasplat.graph import Graph, ops
from nasplat.graph.bounds import bound, params_bound

VOCABULARY: tuple[str, ...] = tuple(
    "input output constant zeros conv depthwise linear embedding recurrent matmul attention batchnorm "
    "layernorm groupnorm instancenorm rmsnorm relu relu6 leakyrelu elu silu gelu sigmoid tanh hardswish "
    "hardsigmoid softplus softmax add sub mul div pow neg exp log sqrt abs clamp compare where maxpool avgpool "
    "adaptivepool mean sum max argmax concat pad resize gather copy shift pixelshuffle deform gridsample "
    "cumsum other".split()
)
"""Ids of the view's operations, those that the shipped predictors learnt; a new vocabulary needs newly trained
predictors. Names the vocabulary of graphs gained since share the id of `other`."""

FEATURES = (
    *("kernel", "stride", "groups", "transposed", "norms", "activations"),
    *("width_in", "width_out", "widening", "side_in", "side_out"),
    *("macs_relative", "params_relative", "position", "fan_in", "fan_out"),
)
"""Columns of `View.features`; costs are relative to the mean node, widths to the widest layer, sides to the input."""
KIND_OF_ID = tuple(
    next(
        (
            k
            for k, names in enumerate(
                (ops.WEIGHTED, ops.MATMUL, ops.NORMALISATION, ops.ACTIVATION, ops.POINTWISE, ops.POOLING)
            )
            if name in names
        ),
        6 + (name in ops.TERMINAL),
    )
    for name in VOCABULARY
)
"""For each id its kind (weighted, matmul, normalisation, activation, pointwise, pooling, movement, terminal): what an
operation that training never showed has in common with those it did."""

_ID = {name: i for i, name in enumerate(VOCABULARY)}
_HOSTS = frozenset(ops.WEIGHTED)
_GUESTS = frozenset({*ops.NORMALISATION, *ops.ACTIVATION, "clamp"})


@dataclass(frozen=True)
class View:
    """All that a predictor sees of one graph; N nodes, M edges."""

    op: NDArray[np.int64]
    """Shape (N,): place of each node's operation in `VOCABULARY`."""
    features: NDArray[np.float32]
    """Shape (N, len(FEATURES)): the columns that `FEATURES` names."""
    work: NDArray[np.float32]
    """Shape (N,): share of the network's MACs."""
    edges: NDArray[np.int64]
    """Shape (2, M): source and target of each edge."""
    executed: NDArray[np.float64]
    """Shape (2, len(KINDS), len(TERMS)) of `nasplat.features.work`: what an eager runtime executes, and what a compiler
    keeps."""
    statistics: dict[str, float]
    """Named statistics, see `nasplat.features.statistics`."""
    macs: int
    """Multiply-accumulates of the whole network."""
    params: int
    """Elements of all trained tensors in use."""
    unknown_ops: tuple[str, ...] = ()
    """Sorted framework names of operations outside the vocabulary of graphs."""
    inputs: int = 0
    """Values of the first input without the batch axis; 0 where it is not known."""
    outputs: int = 0
    """Values of the first output without the batch axis; 0 where it is not known."""
    bound: str = ""
    """Sign of MACs, as of `nasplat.graph.bounds`."""
    params_bound: str = ""
    """Sign of parameters."""

    @property
    def gigaflops(self) -> float:
        """2 × MACs / 1e9 of the whole network."""
        return 2 * self.macs / 1e9

    def spectrum(self, size: int = SPECTRUM) -> NDArray[np.float64]:
        """Compute the smallest eigenvalues of the normalised Laplacian of the undirected graph.

        Args:
            size: Number of eigenvalues; the default is GENNAPE's 21.

        Returns:
            Shape (size,), ascending, padded with the largest where the graph has fewer nodes.
        """
        return spectrum(len(self), self.edges, size)

    def __len__(self) -> int:
        """Count the nodes N."""
        return len(self.op)


def view(graph: Graph) -> View:
    """Turn a graph into what predictors see of it.

    Args:
        graph: Any graph; dead code, additions of zeros, views and batch normalisation are folded first.

    Returns:
        Arrays of at least one node; unknown operations share the id of `other`.

    Example:
        >>> import torch, nasplat
        >>> seen = view(nasplat.capture(torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU()), (1, 4)))
        >>> [VOCABULARY[i] for i in seen.op], seen.macs  # the activation joins the linear layer
        (['input', 'linear', 'output'], 8)
    """
    g = prepared(graph)
    host, guests, name = _fold(g)
    kept = [i for i in range(len(g.nodes)) if host[i] == i]
    number = {old: new for new, old in enumerate(kept)}
    pairs = dict.fromkeys(
        (number[host[s]], number[host[t]]) for s, _, t, _ in g.edges if host[s] != host[t] and host[s] in number
    )
    edges = np.array(list(pairs), np.int64).reshape(-1, 2).T
    seen = unfolded_arrays(g, kept)
    n = len(kept)
    work = seen.macs / max(1.0, seen.macs.sum())
    depth = depths(n, edges)
    into, out = np.bincount(edges[1], minlength=n), np.bincount(edges[0], minlength=n)
    width_in, side_in = _width_and_side(
        seen.sizes[:, :3], [len(s[0]) if (s := g.input_shapes(i)) else -1 for i in kept], seen.rank
    )
    width, side = _width_and_side(seen.sizes[:, 3:], seen.rank, seen.rank)
    widest = max(1, int(width[seen.params > 0].max(initial=0)) or 1)
    starts = np.flatnonzero(seen.op == IDS["input"])
    first = int(side[starts[0]]) if len(starts) and side[starts[0]] else 1
    norms, activations = np.array([guests[i] for i in kept], np.float64).reshape(-1, 2).T
    rows = np.stack(
        [
            np.log2(np.maximum(1, seen.kernel.prod(1))) / 4,
            np.log2(np.maximum(1, seen.stride.prod(1))) / 2,
            np.log2(np.maximum(1, seen.groups)) / 10,
            seen.flags[:, 1].astype(np.float64),
            norms,
            activations,
            *(_ratio(widest, width_in, 4), _ratio(widest, width, 4), _ratio(width, width_in, 2)),
            *(_ratio(first, side_in, 4), _ratio(first, side, 4)),
            np.log2(1 + n * work) / 2,
            np.log2(1 + n * seen.params / max(1.0, seen.params.sum())) / 2,
            depth / max(1, depth.max(initial=1)),
            np.minimum(8, into) / 4,
            np.minimum(8, out) / 4,
        ],
        1,
    ).astype(np.float32)
    found = np.array([_ID.get(name[i], _ID["other"]) for i in kept], np.int64)
    sums = np.stack([executed(graph), executed(graph.folded)])
    taken, given = (next((prod(n.shape[1:]) for n in graph.nodes if n.op == op), 0) for op in ("input", "output"))
    counts = (graph.macs, graph.params, graph.unknown_ops)
    signs = (bound(graph.causes, bool(graph.unknown_ops)), params_bound(graph.causes))
    return View(found, rows, work.astype(np.float32), edges, sums, features(graph), *counts, taken, given, *signs)


def with_proxies(views: Sequence[View], values: Sequence[Mapping[str, float]]) -> list[View]:
    """Add zero-cost proxies to the statistics of views, as `proxy.<name>`.

    Predictors fitted on such views use the proxies, and ask for them when they predict.

    Args:
        views: Views of any networks.
        values: Proxies of each network in the same order, see `nasplat.proxies`; the same names for all. A value that
            is not finite becomes 0.

    Returns:
        Copies of the views with more statistics.
    """
    finite = [{f"proxy.{k}": float(v) if np.isfinite(v) else 0.0 for k, v in row.items()} for row in values]
    return [replace(v, statistics=v.statistics | row) for v, row in zip(views, finite, strict=True)]


def _fold(g: Graph) -> tuple[list[int], list[tuple[int, int]], list[str]]:
    """Find for each node the node it joins, how many normalisations and activations it holds, and its operation."""
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


def _ratio(a: Any, b: Any, scale: float) -> NDArray[np.float64]:
    """Divide sizes on a log2 scale; sizes below 1 count as 1."""
    return np.log2(np.maximum(1, a) / np.maximum(1, b)) / scale


def _width_and_side(
    sizes: NDArray[np.int64], rank: Any, own: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give channels and spatial side; the side of a sequence is the root of its tokens, that of a vector 1."""
    ranks = np.where(np.asarray(rank) < 0, own, np.asarray(rank))
    places = (sizes[:, 0] * sizes[:, 1]).astype(np.float64)
    side = np.round(places ** (1 / np.maximum(2, ranks - 2)))
    return sizes[:, 2], np.where(ranks >= 3, side, 1).astype(np.int64)
