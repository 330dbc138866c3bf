"""Fixed-length features of a graph for tree and linear predictors; every feature has a name.

They describe the folded graph without views and without batch normalisation (which exporters fold into convolutions),
never the space it came from.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from math import log10, prod

from nasplat.graph import ops
from nasplat.graph.columns import Attributes, Node
from nasplat.graph.graph import Graph

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


@lru_cache(maxsize=1 << 14)
def _groups(op: str, attributes: Attributes) -> tuple[str, ...]:
    """Name the groups that an operation belongs to; cached, since networks repeat their operations."""
    node = Node(op, attributes)
    return tuple(name for name, belongs in _GROUPS.items() if belongs(node))


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
    g = graph.bare
    macs, params = g.node_macs, g.params
    total = max(1, g.macs)
    weighted = [n.op in ops.WEIGHTED or n.op in ops.MATMUL for n in g.nodes]
    found = {
        "log_macs": log10(total),
        "log_params": log10(max(1, params)),
        "log_activations": log10(max(1, sum(prod(n.shape) for n in g.nodes))),
        "nodes": float(len(g.nodes)),
        "unknown": float(len(graph.unknown_ops)),
    }
    count: Counter[str] = Counter()
    work: Counter[str] = Counter()
    groups = [_groups(n.op, n.attributes) for n in g.nodes]
    for i, names in enumerate(groups):
        for name in names:
            count[name] += 1
            work[name] += macs[i]
    for name in _GROUPS:
        found[f"count.{name}"] = float(count[name])
        found[f"share.{name}"] = work[name] / total
    found |= _paths(g, weighted)
    found |= _lengths(g, groups)
    widths = [
        n.shape[1] if len(n.shape) == 4 else n.shape[-1]
        for n, w in zip(g.nodes, weighted, strict=True)
        if w and n.shape
    ]
    sizes = [n.shape[-1] if len(n.shape) == 4 else 1 for n, w in zip(g.nodes, weighted, strict=True) if w and n.shape]
    found["width.max"] = float(max(widths, default=0))
    found["width.mean"] = sum(widths) / max(1, len(widths))
    found["size.max"] = float(max(sizes, default=0))
    found["size.levels"] = float(len(set(sizes)))
    return found


_SETS = {
    "point": {"conv1", "linear"},
    "spatial": {"conv3", "conv5+", "depthwise3", "depthwise5+"},
    "pool": {"pool"},
    "window": {"conv3", "conv5+", "depthwise3", "depthwise5+", "pool"},
    "act": {"activation"},
}
"""Sets of groups whose number along the ways from input to output is a statistic."""


def _lengths(g: Graph, groups: list[tuple[str, ...]]) -> dict[str, float]:
    """Count how many operations of a set the ways from input to output meet: at most, at least, and on average.

    The average is over walks from the output that choose among operands evenly; it stays finite however many ways there
    are.
    """
    last = next((i for i, n in enumerate(g.nodes) if n.op == "output"), len(g.nodes) - 1)
    sources = [tuple({s for s, _ in operands}) for operands in g.operands]
    found: dict[str, float] = {}
    for name, members in _SETS.items():
        most, least, mean = [0] * len(groups), [0] * len(groups), [0.0] * len(groups)
        steps = [not members.isdisjoint(names) for names in groups]
        for i, before in enumerate(sources):
            step = steps[i]
            if len(before) == 1:
                (s,) = before
                most[i], least[i], mean[i] = most[s] + step, least[s] + step, mean[s] + step
            elif before:
                most[i] = max([most[s] for s in before]) + step
                least[i] = min([least[s] for s in before]) + step
                mean[i] = sum([mean[s] for s in before]) / len(before) + step
            elif step:
                most[i], least[i], mean[i] = 1, 1, 1.0
        found |= {f"most.{name}": float(most[last]), f"least.{name}": float(least[last]), f"mean.{name}": mean[last]}
    return found


def _paths(g: Graph, weighted: list[bool]) -> dict[str, float]:
    """Measure the ways from input to output in weighted ops, count them, and find what the convolutions see."""
    longest = [0] * len(g.nodes)
    shortest = [0] * len(g.nodes)
    wide = [0] * len(g.nodes)
    ways = [0.0] * len(g.nodes)
    field = [1.0] * len(g.nodes)
    for i, n in enumerate(g.nodes):
        sources = [s for s, _ in g.operands[i]]
        step = int(weighted[i])
        spread = int(n.op in {"conv", "depthwise"} and prod(n.get("kernel", (1,))) > 1)  # type: ignore[arg-type]
        longest[i] = max((longest[s] for s in sources), default=0) + step
        shortest[i] = min((shortest[s] for s in sources), default=0) + step
        wide[i] = max((wide[s] for s in sources), default=0) + spread
        ways[i] = min(1e30, sum(ways[s] for s in sources)) if sources else float(n.op == "input")
        kernel = n.get("kernel")
        grow = (max(kernel) - 1) if isinstance(kernel, tuple) and kernel else 0
        field[i] = max((field[s] for s in sources), default=1.0) + grow
    end = [i for i, n in enumerate(g.nodes) if n.op == "output"] or [len(g.nodes) - 1]
    last = end[0]
    return {
        "depth.longest": float(longest[last]),
        "depth.shortest": float(shortest[last]),
        "depth.spatial": float(wide[last]),
        "log_ways": log10(1.0 + ways[last]),
        "receptive": field[last],
        "reaches": float(ways[last] > 0),
    }
