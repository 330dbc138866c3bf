"""A Graph becomes arrays: what every predictor, statistic and plot of graphs starts from.

What is folded is an option of `arrays`, never of the graph.

Source of the spectral features: GENNAPE, Mills et al., AAAI 2023, arXiv:2211.17226 (21 eigenvalues); Dwivedi & Bresson
2021, arXiv:2012.09699 (eigenvectors as positions).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplat.features.paths import depths
from nasplat.graph import ops
from nasplat.graph.columns import Node, Shape
from nasplat.graph.folding import folded
from nasplat.graph.graph import Graph
from nasplat.graph.rows import Rows, side_by_side

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

    def __len__(self) -> int:
        """Count the rows N."""
        return len(self.op)


def prepared(rows: Rows, fold_views: bool = True, fold_batchnorm: bool = True) -> Rows:
    """Leave out what `arrays` does not describe.

    Args:
        rows: Folded graphs side by side.
        fold_views: Leave out views, casts and silent modules; their operand takes their place.
        fold_batchnorm: Leave out batch normalisation, which exporters fold into convolutions.

    Returns:
        The other nodes; with both options those of the graphs' `bare` form.
    """
    return rows.without(_HIDDEN[fold_views, fold_batchnorm])


def _hides(hidden: tuple[str, ...]) -> Callable[[Node], bool]:
    return lambda node: node.op in hidden


_HIDDEN = {
    (views, norms): _hides((*(ops.HIDDEN if views else ("copy", "identity")), *(("batchnorm",) if norms else ())))
    for views in (False, True)
    for norms in (False, True)
}


def arrays(graph: Graph, fold_views: bool = True, fold_batchnorm: bool = True) -> Arrays:
    """Turn a graph into arrays.

    Args:
        graph: Any graph; dead code, copies and additions of zeros are folded first.
        fold_views: Leave out views, casts and silent modules; their operand takes their place.
        fold_batchnorm: Leave out batch normalisation, which exporters fold into convolutions.

    Returns:
        One row per node that is left, in execution order; time and memory are linear in nodes and edges.

    Example:
        >>> from nasplat.graph import Graph, Node
        >>> graph = Graph((Node("input", shapes=((1, 4),)), Node("relu", shapes=((1, 4),))), ((0, 0, 1, 0),))
        >>> arrays(graph).edges.tolist(), arrays(graph).depth.tolist()
        ([[0], [1]], [0, 1])
    """
    rows = prepared(folded(side_by_side([graph])), fold_views, fold_batchnorm)
    window = rows.of(window_of, np.int64)
    edges = np.stack([rows.source, rows.target])
    return Arrays(
        rows.of(_id_of, np.int64),
        np.hstack(sizes(rows)),
        rows.kinds.of_shapes(len, np.int64)[rows.shape],
        window[:, :2],
        window[:, 2:4],
        window[:, 4:6],
        window[:, 6],
        rows.of(_flags_of, np.bool_),
        rows.macs,
        rows.params,
        edges,
        np.arange(len(rows.target)) - rows.begin[rows.target],
        depths(len(rows), edges),
    )


def sizes(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Look up height, width and channels of what nodes read and make.

    Args:
        rows: Graphs side by side.

    Returns:
        Those of the first operand, which are the output's where there is none, and those of the first output; each of
        shape (N, 3).
    """
    each = rows.kinds.of_shapes(_size, np.int64)
    return each[np.where(rows.entry >= 0, rows.entry, rows.shape)], each[rows.shape]


def window_of(node: Node) -> tuple[int, ...]:
    """Describe the window of an operation.

    Args:
        node: Operation of any kind; one without a window has 1 for each.

    Returns:
        Kernel, stride and dilation, of each the first axes multiplied together and the last one; groups.
    """
    found = [node.get(name) for name in ("kernel", "stride", "dilation")]
    pairs = [(prod(v[:-1]), v[-1]) if isinstance(v, tuple) and len(v) else (1, 1) for v in found]
    return (*pairs[0], *pairs[1], *pairs[2], int(node.get("groups", 1)))  # type: ignore[call-overload]


def _id_of(node: Node) -> int:
    return IDS.get(node.op, UNKNOWN)


def _flags_of(node: Node) -> tuple[bool, bool]:
    return bool(node.get("bias")), bool(node.get("transposed"))


def _size(shape: Shape) -> tuple[int, int, int]:
    """Give (height, width, channels) of (B, C, …, H, W) images, (B, tokens, C) sequences and (B, C) vectors."""
    if len(shape) >= 4:
        return prod(shape[2:-1]), shape[-1], shape[1]
    if len(shape) == 3:
        return shape[1], 1, shape[2]
    return 1, 1, shape[-1] if shape else 1


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
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.linalg import eigsh

    both = np.unique(np.concatenate([edges, edges[::-1]], axis=1), axis=1)
    adjacency = coo_matrix((np.ones(both.shape[1]), (both[0], both[1])), shape=(n, n)).tocsc()
    degree = np.asarray(adjacency.sum(1)).ravel()
    scale = diags(np.where(degree > 0, 1.0 / np.sqrt(np.maximum(degree, 1e-12)), 0.0))
    laplacian = (diags((degree > 0).astype(float)) - scale @ adjacency @ scale).tocsc()
    start = np.random.default_rng(0).standard_normal(n)
    values, vectors = eigsh(laplacian, k=min(size, n - 2), sigma=-1e-3, which="LM", v0=start)
    order = np.argsort(values)
    return values[order], vectors[:, order]
