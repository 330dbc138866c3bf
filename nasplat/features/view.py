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

from nasplat.features.arrays import SPECTRUM, prepared, sizes, spectrum, window_of
from nasplat.features.paths import Paths
from nasplat.features.statistics import NAMES, statistics
from nasplat.features.work import executed_rows
from nasplat.graph import Graph, ops
from nasplat.graph.bounds import bound, params_bound
from nasplat.graph.columns import Node, Shape
from nasplat.graph.folding import folded
from nasplat.graph.rows import EXACT, Rows, side_by_side

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
    return views([graph])[0]


def views(graphs: Sequence[Graph]) -> list[View]:
    """Turn many graphs into what predictors see of them; together they take a fraction of the time.

    Args:
        graphs: Any graphs, as for `view`; a few hundred at once are as fast as more, and take less memory.

    Returns:
        One view per graph, in order.
    """
    if not graphs:
        return []
    rows = side_by_side(graphs)
    kept = folded(rows)
    bare = prepared(kept)
    paths = Paths.of(len(bare), bare.source, bare.target)
    sums = np.stack([executed_rows(rows), executed_rows(kept)], 1)
    has_unknown = rows.summed(rows.of(_is_unknown)) > 0
    unknown = [g.unknown_ops if has else () for g, has in zip(graphs, has_unknown, strict=True)]
    known = statistics(bare, paths, np.array([len(names) for names in unknown])).tolist()
    inside = rows.kinds.of_shapes(_values)[rows.shape]
    ends = [rows.first_of(rows.of(is_end, bool)) for is_end in (_is_input, _is_output)]
    taken, given = (np.where(end >= 0, inside[end], 0).astype(np.int64).tolist() for end in ends)
    counts = _exact(graphs, rows)
    op, table, work, edges, starts, cuts = _columns(bare, paths)
    found = []
    for i, g in enumerate(graphs):
        a, b, c, d = starts[i], starts[i + 1], cuts[i], cuts[i + 1]
        own = (op[a:b], table[a:b], work[a:b], edges[:, c:d] - a, sums[i], dict(zip(NAMES, known[i], strict=True)))
        signs = (bound(g.causes, bool(unknown[i])), params_bound(g.causes))
        found.append(View(*own, *counts[i], unknown[i], taken[i], given[i], *signs))
    return found


def _exact(graphs: Sequence[Graph], rows: Rows) -> list[tuple[int, int]]:
    """MACs and parameters as whole numbers, also where floats would round them."""
    macs, params = rows.summed(rows.macs), rows.tensors_in_use()
    return [
        (int(m), int(p)) if max(m, p) < EXACT else (g.macs, g.params)
        for g, m, p in zip(graphs, macs.tolist(), params.tolist(), strict=True)
    ]


def _columns(bare: Rows, paths: Paths) -> tuple[Any, ...]:
    """Ids, features, work and edges of the nodes that are left, and where each graph's nodes and edges begin."""
    host, guests, is_concat = _fold(bare, paths)
    kept = np.flatnonzero(host == np.arange(len(bare)))
    number = np.cumsum(host == np.arange(len(bare))) - 1
    source, target = number[host[bare.source]], number[host[bare.target]]
    n, graph = len(kept), bare.graph[kept]
    pair = np.unique(source * n + target, return_index=True)[1]
    pair = np.sort(pair[source[pair] != target[pair]])  # as they were met first
    edges = np.stack([source[pair], target[pair]])
    nodes, arcs = (np.bincount(of, minlength=bare.size) for of in (graph, graph[edges[0]]))
    starts, cuts = (np.cumsum([0, *many]) for many in (nodes, arcs))
    window, rank = bare.of(window_of, np.int64)[kept], bare.kinds.of_shapes(len, np.int64)
    own, entry = rank[bare.shape[kept]], bare.entry[kept]
    into, out = (columns[kept] for columns in sizes(bare))
    width_in, side_in = _width_and_side(into, np.where(entry >= 0, rank[entry], own))
    width, side = _width_and_side(out, own)
    macs, params = bare.macs[kept], bare.params[kept]

    def per_graph(values: Any, reduce: Any = np.add) -> Any:
        return reduce.reduceat(values, starts[:-1])

    work = macs / np.maximum(1.0, per_graph(macs))[graph]
    several = Paths.of(n, edges[0], edges[1])
    has_source = np.bincount(edges[1], minlength=n)
    depth = several.totals(np.minimum(1.0, has_source)[:, None], np.zeros((n, 1)))[0][:, 0]
    widest = np.maximum(1, per_graph(np.where(params > 0, width, 0), np.maximum))[graph]
    is_input = bare.of(_is_input, bool)[kept]
    first = np.ones(bare.size, np.int64)
    with_input, where = np.unique(graph[is_input], return_index=True)
    first[with_input] = np.maximum(1, side[is_input][where])
    size = nodes[graph]
    table = np.stack(
        [
            np.log2(np.maximum(1, window[:, :2].prod(1))) / 4,
            np.log2(np.maximum(1, window[:, 2:4].prod(1))) / 2,
            np.log2(np.maximum(1, window[:, 6])) / 10,
            bare.of(_is_transposed)[kept],
            *guests[:, kept],
            *(_ratio(widest, width_in, 4), _ratio(widest, width, 4), _ratio(width, width_in, 2)),
            *(_ratio(first[graph], side_in, 4), _ratio(first[graph], side, 4)),
            np.log2(1 + size * work) / 2,
            np.log2(1 + size * params / np.maximum(1.0, per_graph(params))[graph]) / 2,
            depth / np.maximum(1, per_graph(depth, np.maximum))[graph],
            np.minimum(8, has_source) / 4,
            np.minimum(8, np.bincount(edges[0], minlength=n)) / 4,
        ],
        1,
    ).astype(np.float32)
    op = np.where(is_concat[kept], _ID["concat"], bare.of(_id_of, np.int64)[kept])
    return op, table, work.astype(np.float32), edges, starts.tolist(), cuts.tolist()


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


def _fold(bare: Rows, paths: Paths) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Find for each node the node it joins, how many normalisations and activations it holds, and new concatenations.

    What stands before a node is decided after it, so that the nearest joins first: round after round those are decided
    whose only reader is.
    """
    n = len(bare)
    is_host, is_norm, is_guest, is_add, is_concat, is_output = bare.of(_parts, bool).T
    readers = np.bincount(paths.source, minlength=n)
    reader = np.full(n, -1)
    reader[paths.source] = paths.target
    reader[readers != 1] = -1
    one = is_guest & (bare.operands == 1)
    behind = np.arange(n)  # after a weighted operation, with nothing else reading in between
    behind[one] = bare.source[bare.begin[one]]
    behind = np.where(readers[behind] == 1, behind, np.arange(n))
    while (behind[behind] != behind).any():
        behind = behind[behind]
    host = np.where(is_host[behind], behind, np.arange(n))
    open_ = (reader >= 0) & (host == np.arange(n)) & (one | is_add | is_concat)
    waits = open_.copy()
    new = np.flatnonzero(waits)
    while True:  # a concatenation takes in one sum, which depends on their order: these and what they hold come last
        new = new[~waits[reader[new]] & ~is_concat[new]]
        if not len(new):
            break
        target = host[reader[new]]
        joins = np.where(is_add[new], ~is_output[target], is_host[target])
        host[new[joins]] = target[joins]
        waits[new] = False
        new = np.flatnonzero(waits)
    joined = np.zeros(n, bool)
    for i in np.flatnonzero(waits)[::-1].tolist():
        target = host[reader[i]]
        if is_concat[i]:
            if is_add[target] and not joined[target]:
                host[i], joined[target] = target, True
        elif is_host[target] if not is_add[i] else not is_output[target]:
            host[i] = target
    guest = is_guest & (host != np.arange(n))
    counts = [np.bincount(host[guest & of], minlength=n) for of in (is_norm, ~is_norm)]
    return host, np.stack(counts), joined


def _parts(node: Node) -> tuple[bool, ...]:
    """What `_fold` asks of an operation."""
    op = node.op
    return op in _HOSTS, op in ops.NORMALISATION, op in _GUESTS, op == "add", op == "concat", op == "output"


def _id_of(node: Node) -> int:
    return _ID.get(node.op, _ID["other"])


def _is_unknown(node: Node) -> bool:
    return not ops.is_known(node.op)


def _is_input(node: Node) -> bool:
    return node.op == "input"


def _is_output(node: Node) -> bool:
    return node.op == "output"


def _is_transposed(node: Node) -> bool:
    return bool(node.get("transposed"))


def _values(shape: Shape) -> int:
    return prod(shape[1:])


def _ratio(a: Any, b: Any, scale: float) -> NDArray[np.float64]:
    """Divide sizes on a log2 scale; sizes below 1 count as 1."""
    return np.log2(np.maximum(1, a) / np.maximum(1, b)) / scale


def _width_and_side(sizes: NDArray[np.int64], rank: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give channels and spatial side; the side of a sequence is the root of its tokens, that of a vector 1."""
    places = (sizes[:, 0] * sizes[:, 1]).astype(np.float64)
    side = np.round(places ** (1 / np.maximum(2, rank - 2)))
    return sizes[:, 2], np.where(rank >= 3, side, 1).astype(np.int64)
