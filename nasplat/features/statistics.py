"""Fixed-length features of a graph for tree and linear predictors; every feature has a name.

They describe the folded graph without views and without batch normalisation (which exporters fold into convolutions),
never the space it came from.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplat.features.arrays import prepared
from nasplat.features.paths import Paths
from nasplat.graph import ops
from nasplat.graph.columns import Node, Shape
from nasplat.graph.folding import folded
from nasplat.graph.graph import Graph
from nasplat.graph.rows import Rows, side_by_side

_GROUPS = {
    "conv1": lambda n: n.op == "conv" and prod(n.get("kernel", (1,))) == 1,
    "conv3": lambda n: n.op == "conv" and 1 < prod(n.get("kernel", (1,))) <= 9,
    "conv5+": lambda n: n.op == "conv" and prod(n.get("kernel", (1,))) > 9,
    "depthwise3": lambda n: n.op == "depthwise" and prod(n.get("kernel", (1,))) <= 9,
    "depthwise5+": lambda n: n.op == "depthwise" and prod(n.get("kernel", (1,))) > 9,
    "linear": lambda n: n.op in {"linear", "matmul"},
    "attention": lambda n: n.op == "attention",
    "norm": lambda n: n.op in ops.NORMALISATION,
    "activation": lambda n: n.op in ops.ACTIVATION,
    "pool": lambda n: n.op in ops.POOLING,
    "join": lambda n: n.op in {"add", "concat", "mul"},
}
_NAMES = tuple(_GROUPS)
_SETS = {
    "point": {"conv1", "linear"},
    "spatial": {"conv3", "conv5+", "depthwise3", "depthwise5+"},
    "pool": {"pool"},
    "window": {"conv3", "conv5+", "depthwise3", "depthwise5+", "pool"},
    "act": {"activation"},
}
"""Sets of groups whose number along the ways from input to output is a statistic."""
NAMES = (
    *("log_macs", "log_params", "log_activations", "nodes", "unknown"),
    *(f"{what}.{name}" for name in _GROUPS for what in ("count", "share")),
    *("depth.longest", "depth.shortest", "depth.spatial", "log_ways", "receptive", "reaches"),
    *(f"{what}.{name}" for name in _SETS for what in ("most", "least", "mean")),
    *("width.max", "width.mean", "size.max", "size.levels"),
)
"""Names of all statistics, in their order."""


def features(graph: Graph) -> dict[str, float]:
    """Compute named statistics: costs, op counts, path lengths, and how much of the work sits where.

    Args:
        graph: Any graph with at least one node; its `bare` form is described.

    Returns:
        The same names in the same order for every graph; costs as log10.

    Example:
        >>> from nasplat.graph import Graph, Node
        >>> found = features(Graph((Node("input", shapes=((1, 4),)), Node("relu", shapes=((1, 4),))), ((0, 0, 1, 0),)))
        >>> found["nodes"], found["count.activation"]
        (2.0, 1.0)
    """
    bare = prepared(folded(side_by_side([graph])))
    row = statistics(bare, Paths.of(len(bare), bare.source, bare.target), np.array([len(graph.unknown_ops)]))[0]
    return dict(zip(NAMES, row.tolist(), strict=True))


def statistics(bare: Rows, paths: Paths, unknown: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the same of many graphs at once.

    Args:
        bare: B graphs side by side, folded and without what predictors do not see.
        paths: Edges of these graphs, each pair of nodes once.
        unknown: Number of unknown operations of each graph, before folding.

    Returns:
        Shape (B, len(NAMES)).
    """
    groups, is_weighted = np.split(bare.of(_described), [len(_NAMES)], 1)
    nodes = np.bincount(bare.graph, minlength=bare.size)
    total = np.maximum(1.0, bare.summed(bare.macs))
    count, work = bare.summed(groups), bare.summed(groups * bare.macs[:, None]) / total[:, None]
    activations = bare.summed(bare.kinds.of_shapes(prod)[bare.shape])
    logs = np.log10(np.maximum(1.0, np.stack([total, bare.tensors_in_use(), activations], 1)))
    by_group = np.stack([count, work], 2).reshape(bare.size, -1)
    ways = _ways(bare, paths, groups, is_weighted[:, 0])
    sizes = _sizes(bare, is_weighted[:, 0] > 0)
    found: NDArray[Any] = np.hstack([logs, nodes[:, None], unknown[:, None], by_group, ways, sizes])
    return found


def _ways(
    bare: Rows, paths: Paths, groups: NDArray[np.float64], is_weighted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Measure the ways from input to output: weighted ops, what the convolutions see, how many, and what they meet.

    Of a set of operations they meet so many at most, at least, and on average. The average is over walks from the
    output that choose among operands evenly; it stays finite however many ways there are.
    """
    spread, grow, is_input = bare.of(_along).T
    met = np.stack([groups[:, [_NAMES.index(m) for m in members]].any(1) for members in _SETS.values()], 1) * 1.0
    most: NDArray[Any] = np.column_stack([is_weighted, -is_weighted, spread, grow, met, -met])
    even: NDArray[Any] = np.column_stack([met, is_input * (bare.operands == 0)])
    at = bare.ends()
    high, mean = paths.totals(most, even, at)
    longest, shortest, wide, field = high[:, :4].T
    ways = mean[:, -1]
    first = np.stack([longest, 0.0 - shortest, wide, np.log10(1.0 + ways), 1.0 + field, np.sign(ways)], 1)
    n = len(_SETS)
    sets = np.stack([high[:, 4 : 4 + n], 0.0 - high[:, 4 + n :], mean[:, :n]], 2)
    return np.hstack([first, sets.reshape(bare.size, -1)])


def _sizes(bare: Rows, is_weighted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Widths and sizes of the outputs of weighted operations."""
    width, size, rank = bare.kinds.of_shapes(_width_and_size)[bare.shape].T
    counted = is_weighted & (rank > 0)
    of, width, size = bare.graph[counted], width[counted], size[counted]
    found = np.zeros((bare.size, 4))
    np.maximum.at(found[:, 0], of, width)
    found[:, 1] = np.bincount(of, width, bare.size) / np.maximum(1, np.bincount(of, minlength=bare.size))
    np.maximum.at(found[:, 2], of, size)
    levels = np.unique(np.stack([of, size]), axis=1)[0].astype(np.int64)
    found[:, 3] = np.bincount(levels, minlength=bare.size)
    return found


def _described(node: Node) -> tuple[float, ...]:
    """For each group whether an operation belongs to it; whether it multiplies by weights or by another input."""
    is_weighted = node.op in ops.WEIGHTED or node.op in ops.MATMUL
    return (*(float(belongs(node)) for belongs in _GROUPS.values()), float(is_weighted))


def _along(node: Node) -> tuple[float, float, float]:
    """Whether an operation is a convolution that sees neighbours, how much its window adds, whether it is an input."""
    kernel = node.get("kernel")
    spread = node.op in {"conv", "depthwise"} and prod(node.get("kernel", (1,))) > 1  # type: ignore[arg-type]
    grow = max(kernel) - 1 if isinstance(kernel, tuple) and kernel else 0
    return float(spread), float(grow), float(node.op == "input")


def _width_and_size(shape: Shape) -> tuple[int, int, int]:
    """Channels, side, and axes of an output."""
    is_image = len(shape) == 4
    return shape[1] if is_image else (shape or (0,))[-1], shape[-1] if is_image else 1, len(shape)
