"""A Graph becomes arrays: what every predictor, statistic and plot of graphs starts from.

What is folded is an option of `arrays`, never of the graph.

Source of the spectral features: GENNAPE, Mills et al., AAAI 2023, arXiv:2211.17226 (21 eigenvalues); Dwivedi & Bresson
2021, arXiv:2012.09699 (eigenvectors as positions).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import eigsh

from nasplat.graph import ops
from nasplat.graph.columns import Shape
from nasplat.graph.graph import Graph

IDS = {name: i for i, name in enumerate(ops.OPS)}
"""Id of each operation of the vocabulary."""
UNKNOWN = len(ops.OPS)
"""Id of every operation outside the vocabulary."""
SPECTRUM = 21
"""Number of smallest Laplacian eigenvalues that describe a graph's shape, as in GENNAPE."""
DENSE = 512
"""Up to this many nodes all eigenvalues are computed at once; beyond, only the wanted ones, on a sparse matrix."""


@dataclass(frozen=True)
class Arrays:
    """Columns of a graph; N nodes in execution order, M edges."""

    op: NDArray[np.int64]
    """Shape (N,): place in `ops.OPS`, or `UNKNOWN`."""
    sizes: NDArray[np.int64]
    """Shape (N, 6): height, width, channels of the first operand; height, width, channels of the first output."""
    rank: NDArray[np.int64]
    """Shape (N,): axes of the first output."""
    kernel: NDArray[np.int64]
    """Shape (N, 2): height and width of the window, 1 where there is none; higher ranks multiplied into the first."""
    stride: NDArray[np.int64]
    """Shape (N, 2), like kernel."""
    dilation: NDArray[np.int64]
    """Shape (N, 2): the first and last axis."""
    groups: NDArray[np.int64]
    """Shape (N,): groups of a convolution, 1 where there are none."""
    flags: NDArray[np.bool_]
    """Shape (N, 2): has a bias, is transposed."""
    macs: NDArray[np.float64]
    """Shape (N,): multiply-accumulates."""
    params: NDArray[np.float64]
    """Shape (N,): elements of the weights."""
    edges: NDArray[np.int64]
    """Shape (2, M): source and target."""
    operand: NDArray[np.int64]
    """Shape (M,): position among the target's operands."""
    depth: NDArray[np.int64]
    """Shape (N,): longest way from a source, in edges."""
    nodes: tuple[int, ...]
    """For each row its number in the graph that `prepared` gives."""

    def __len__(self) -> int:
        """Count the rows N."""
        return len(self.op)


def prepared(graph: Graph, fold_views: bool = True, fold_batchnorm: bool = True) -> Graph:
    """Fold a graph into the one that `arrays` describes.

    Args:
        graph: Any graph; dead code, copies and additions of zeros go in any case.
        fold_views: Leave out views, casts and silent modules; their operand takes their place.
        fold_batchnorm: Leave out batch normalisation, which exporters fold into convolutions.

    Returns:
        The folded graph; with both options its `bare` form, which is cached.
    """
    if fold_views and fold_batchnorm:
        return graph.bare
    hidden = (*(ops.HIDDEN if fold_views else ("copy", "identity")), *(("batchnorm",) if fold_batchnorm else ()))
    return graph.folded.without(hidden)


def arrays(graph: Graph, fold_views: bool = True, fold_batchnorm: bool = True, keep: list[int] | None = None) -> Arrays:
    """Turn a graph into arrays.

    Args:
        graph: Any graph; dead code, copies and additions of zeros are folded first.
        fold_views: Leave out views, casts and silent modules; their operand takes their place.
        fold_batchnorm: Leave out batch normalisation, which exporters fold into convolutions.
        keep: Numbers of the nodes of the prepared graph to describe, with the edges among them; None describes all.

    Returns:
        One row per node that is left, in execution order; time and memory are linear in nodes and edges.

    Example:
        >>> from nasplat.graph import Graph, Node
        >>> graph = Graph((Node("input", shapes=((1, 4),)), Node("relu", shapes=((1, 4),))), ((0, 0, 1, 0),))
        >>> arrays(graph).edges.tolist(), arrays(graph).depth.tolist()
        ([[0], [1]], [0, 1])
    """
    return unfolded_arrays(prepared(graph, fold_views, fold_batchnorm), keep)


def unfolded_arrays(g: Graph, keep: list[int] | None = None) -> Arrays:
    """Turn a graph into arrays as it stands, nothing folded.

    Args:
        g: Graph to describe.
        keep: Numbers of the nodes to describe, with the edges among them; None describes all.

    Returns:
        One row per node, in execution order.
    """
    rows = list(range(len(g.nodes))) if keep is None else keep
    nodes = [g.nodes[i] for i in rows]
    inputs = [g.input_shapes(i) for i in rows]
    get = [dict(n.attributes) for n in nodes]
    out = [_size(n.shape) for n in nodes]
    into = [_size(shapes[0]) if shapes else size for shapes, size in zip(inputs, out, strict=True)]
    weight = np.array([w.size for w in g.weights], np.float64)
    number = {old: new for new, old in enumerate(rows)}
    pairs = [(number[s], number[t], p) for s, _, t, p in g.edges if s in number and t in number]
    edges = np.array(pairs, np.int64).reshape(-1, 3)
    n = len(rows)
    return Arrays(
        np.fromiter((IDS.get(x.op, UNKNOWN) for x in nodes), np.int64, n),
        np.array([(*a, *b) for a, b in zip(into, out, strict=True)], np.int64).reshape(-1, 6),
        np.fromiter((len(x.shape) for x in nodes), np.int64, n),
        _pairs(get, "kernel"),
        _pairs(get, "stride"),
        _pairs(get, "dilation"),
        np.fromiter((int(a.get("groups", 1)) for a in get), np.int64, n),  # type: ignore[call-overload]
        np.array([(bool(a.get("bias")), bool(a.get("transposed"))) for a in get], np.bool_).reshape(-1, 2),
        np.fromiter((g.node_macs[i] for i in rows), np.float64, n),
        np.fromiter((weight[list(x.weights)].sum() if x.weights else 0.0 for x in nodes), np.float64, n),
        edges[:, :2].T.copy(),
        edges[:, 2].copy(),
        depths(n, edges[:, :2].T),
        tuple(rows),
    )


def _pairs(get: list[dict[str, Any]], name: str) -> NDArray[np.int64]:
    """Read a window attribute: its first axes multiplied together, and its last one."""
    found = [a.get(name) for a in get]
    return np.array(
        [(prod(v[:-1]), v[-1]) if isinstance(v, tuple) and len(v) else (1, 1) for v in found], np.int64
    ).reshape(-1, 2)


def _size(shape: Shape) -> tuple[int, int, int]:
    """Give (height, width, channels) of (B, C, …, H, W) images, (B, tokens, C) sequences and (B, C) vectors."""
    if len(shape) >= 4:
        return prod(shape[2:-1]), shape[-1], shape[1]
    if len(shape) == 3:
        return shape[1], 1, shape[2]
    return 1, 1, shape[-1] if shape else 1


def depths(n: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the longest way from a source to each node.

    Args:
        n: Number of nodes; they stand in execution order.
        edges: Source and target of each edge, shape (2, M).

    Returns:
        Shape (n,): number of edges on the way; 0 for sources.

    Example:
        >>> depths(3, np.array([[0, 0, 1], [1, 2, 2]])).tolist()
        [0, 1, 2]
    """
    depth = [0] * n
    order = np.argsort(edges[1], kind="stable")
    for s, t in edges[:, order].T.tolist():
        if depth[s] >= depth[t]:
            depth[t] = depth[s] + 1
    return np.array(depth, np.int64)


def spectrum(n: int, edges: NDArray[np.int64], size: int = SPECTRUM, vectors: bool = False) -> Any:
    """Compute the smallest eigenvalues of the normalised Laplacian of the undirected graph.

    Args:
        n: Number of nodes.
        edges: Source and target of each edge, shape (2, M).
        size: Number of eigenvalues; the default is GENNAPE's 21.
        vectors: Return eigenvectors too, as positions of the nodes.

    Returns:
        Shape (size,), ascending, padded with the largest where n < size; with `vectors` also shape (n, size), padded
        with zeros, the entry of largest magnitude of each made positive.
    """
    if n > DENSE:
        values, found = _sparse(n, edges, size)
    else:
        adjacency = np.zeros((n, n))
        adjacency[edges[0], edges[1]] = 1.0
        adjacency = np.maximum(adjacency, adjacency.T)
        degree = adjacency.sum(1)
        scale = np.where(degree > 0, 1.0 / np.sqrt(np.maximum(degree, 1e-12)), 0.0)
        laplacian = np.diag((degree > 0).astype(float)) - scale[:, None] * adjacency * scale
        values, found = np.linalg.eigh(laplacian) if vectors else (np.linalg.eigvalsh(laplacian), np.zeros((n, 0)))
    values = values[:size]
    padded = np.concatenate([values, np.full(size - len(values), values[-1] if len(values) else 0.0)])
    if not vectors:
        return padded
    found = found[:, :size]
    largest = np.abs(found).argmax(0) if found.size else np.zeros(0, int)
    found = found * np.where(found[largest, np.arange(found.shape[1])] < 0, -1.0, 1.0)
    return padded, np.pad(found, ((0, 0), (0, size - found.shape[1])))


def _sparse(n: int, edges: NDArray[np.int64], size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute eigenvalues and vectors by shift and invert: networks are long and thin, so factors stay sparse."""
    both = np.unique(np.concatenate([edges, edges[::-1]], axis=1), axis=1)
    adjacency = coo_matrix((np.ones(both.shape[1]), (both[0], both[1])), shape=(n, n)).tocsc()
    degree = np.asarray(adjacency.sum(1)).ravel()
    scale = diags(np.where(degree > 0, 1.0 / np.sqrt(np.maximum(degree, 1e-12)), 0.0))
    laplacian = (diags((degree > 0).astype(float)) - scale @ adjacency @ scale).tocsc()
    start = np.random.default_rng(0).standard_normal(n)
    values, vectors = eigsh(laplacian, k=min(size, n - 2), sigma=-1e-3, which="LM", v0=start)
    order = np.argsort(values)
    return values[order], vectors[:, order]
