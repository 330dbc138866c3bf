"""The computation graphs that GENNAPE and AIO-P publish: 32 operations, sizes before and after each node, no views.

`published` is one view of our richer graph: views vanish, constants and sums of one term too, hard activations are
written out as TensorFlow writes them, edges are a set. `graph_from_published` goes the other way. The FLOPs are the
publications' own count.
Source: GENNAPE, Mills et al., AAAI 2023, arXiv:2211.17226; AIO-P, Mills et al., AAAI 2023, arXiv:2211.17228; their
graph format.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from nasplat.errors import GraphError
from nasplat.graph.columns import Node, Shape, Weight
from nasplat.graph.graph import Graph

OPERATIONS: tuple[str, ...] = tuple(
    "<OOV> input output conv depthwise batchnorm relu relu6 matmul add mul concat maxpool avgpool sigmoid tanh "
    "swish gelu paddings mean spacetobatchnd batchtospacend spacetodepthnd depthtospacend global identity zero "
    "reserved1 reserved2 reserved3 reserved4 reserved5".split()
)
"""Names of the 32 operations; a name's place is its published id."""
_WEIGHTED = frozenset({"conv", "depthwise", "matmul"})
"""Operations with weights, which the published files list first."""
_POINTWISE = frozenset("relu relu6 sigmoid tanh swish add mul mean global maxpool avgpool".split())

Resolution = tuple[int, int, int, int, int, int]
"""Height before and after, width before and after, channels before and after."""


@dataclass(frozen=True)
class PublishedNode:
    """One node of a published graph."""

    op: str
    """Name from `OPERATIONS`."""
    resolution: Resolution
    """Height before and after, width before and after, channels before and after."""
    kernel: tuple[int, int] = (0, 0)
    """Height and width of the window of convolutions and pools; (0, 0) for every other node."""
    bias: bool = False
    """True for a weighted node with a bias."""
    strides: tuple[int, int] = (1, 1)
    """Steps of the window along height and width."""
    dilation: tuple[int, int] = (1, 1)
    """Spacing of the window's elements along height and width."""
    pads_same: bool = True
    """True for padding 'same', False for 'valid'."""
    path: str = ""
    """Name in the original network, dots between its parts."""


@dataclass(frozen=True)
class PublishedGraph:
    """A graph under the published conventions."""

    name: str
    """Name in the file, or ''."""
    nodes: tuple[PublishedNode, ...]
    """Weighted nodes first, then the regular ones, each in the order they run."""
    edges: tuple[tuple[int, int], ...]
    """Sorted (source, target); a set, so that doubled edges are one."""

    @property
    def flops(self) -> int:
        """FLOPs by the published count: twice the multiply-accumulates, and what the publications add for other nodes.

        Batch normalisation, activations, sums and pools count per element (and per operand); biases count, those of
        matrix products always.
        """
        into = [0] * len(self.nodes)
        for _, target in self.edges:
            into[target] += 1
        return 2 * sum(_work(n) * max(1, d) for n, d in zip(self.nodes, into, strict=True))

    @property
    def params(self) -> int:
        """Elements of weights, biases, and of the scale and shift of batch normalisation."""
        total = 0
        for n in self.nodes:
            before, after = n.resolution[4], n.resolution[5]
            if n.op == "conv":
                total += prod(n.kernel) * before * after + n.bias * after
            elif n.op == "depthwise":
                total += prod(n.kernel) * before + n.bias * after
            elif n.op == "matmul":
                total += before * after + n.bias * after
            elif n.op == "batchnorm":
                total += 2 * before
        return total

    @property
    def histogram(self) -> dict[str, int]:
        """Number of nodes per operation, in the vocabulary's order; operations without nodes are left out."""
        count = dict.fromkeys(OPERATIONS, 0)
        for n in self.nodes:
            count[n.op] += 1
        return {k: v for k, v in count.items() if v}


def _work(n: PublishedNode) -> int:
    """Count the multiply-accumulates, or the elements worked on, of one node and one operand."""
    h_in, h, w_in, w, before, after = n.resolution
    if n.op == "conv":
        return prod(n.kernel) * before * after * h * w + n.bias * after * h * w
    if n.op == "depthwise":
        return prod(n.kernel) * before * h * w + n.bias * before * h * w
    if n.op == "matmul":
        return h_in * w_in * before * after + after
    if n.op == "batchnorm":
        return 2 * h_in * w_in * before
    return h * w * after if n.op in _POINTWISE else 0


# -- our graph -> published
# ---------------------------------------------------------------------------------------------

_SAME = {
    **{op: op for op in "input output conv depthwise batchnorm relu relu6 matmul add mul concat".split()},
    **{op: op for op in "maxpool avgpool sigmoid tanh gelu mean identity".split()},
    **{"linear": "matmul", "silu": "swish", "pad": "paddings", "hardsigmoid": "relu6", "resize": "identity"},
    **{"attention": "matmul", "pixelshuffle": "depthtospacend"},
}
"""Published names of our operations; those that need a look at their attributes are in `_published_op`."""


def published(graph: Graph, name: str = "") -> PublishedGraph:
    """Convert a graph of ours to the published conventions.

    Args:
        graph: Capture from any source, batch of one.
        name: Name that the result carries; it has no effect.

    Returns:
        The graph in 32 operations. An n-ary sum is one node where it was written as one (`stack` and `sum`).

    Example:
        >>> from torch import nn
        >>> import nasplat
        >>> published(nasplat.capture(nn.Sequential(nn.Conv2d(3, 8, 1), nn.SiLU()), (1, 3, 4, 4))).histogram
        {'input': 1, 'output': 1, 'conv': 1, 'swish': 1}
    """
    alive = _alive(graph)
    made: list[PublishedNode] = []
    parents: list[set[int]] = []
    result: dict[int, set[int]] = {}
    # for each node of ours the published nodes that stand for its output

    def new(op: str, resolution: Resolution, sources: set[int], **more: Any) -> set[int]:
        made.append(PublishedNode(op, resolution, **more))
        parents.append(sources)
        return {len(made) - 1}

    for i, node in enumerate(graph.nodes):
        if i not in alive:
            continue
        sources = set().union(*(result[s] for s, _ in graph.operands[i])) if graph.operands[i] else set()
        op = _published_op(graph, i)
        size = _resolution(graph, i)
        if op is None or (op in {"add", "mul", "concat"} and len(sources) < 2) or (op != "input" and not sources):
            result[i] = sources
        elif node.op == "hardswish":
            gate = new("relu6", size, sources, path=node.path)
            result[i] = new("mul", size, sources | gate, path=node.path)
        else:
            result[i] = new(op, size, sources, **_details(node, op))
    order = sorted(range(len(made)), key=lambda j: made[j].op not in _WEIGHTED)
    number = {old: k for k, old in enumerate(order)}
    edges = sorted((number[s], number[t]) for t, sources in enumerate(parents) for s in sources)
    return PublishedGraph(name, tuple(made[j] for j in order), tuple(edges))


def _alive(graph: Graph) -> set[int]:
    """Find the nodes that an output depends on."""
    found: set[int] = set()
    stack = [i for i, n in enumerate(graph.nodes) if n.op == "output"] or [len(graph.nodes) - 1]
    while stack:
        i = stack.pop()
        if i not in found:
            found.add(i)
            stack += [s for s, _ in graph.operands[i]]
    return found


def _published_op(graph: Graph, i: int) -> str | None:
    """Name a node in the published vocabulary; None for one that has no place there."""
    node = graph.nodes[i]
    if node.op == "hardswish":
        return "mul"
    if node.op == "adaptivepool":
        return "mean" if node.get("function") is None else "maxpool"
    if node.op == "sum" and graph.operands[i]:
        before = graph.nodes[graph.operands[i][0][0]]
        return (
            "add"
            if before.get("function") == "stack" and node.get("dim") in {before.get("dim", 0), (before.get("dim", 0),)}
            else None
        )
    if node.op == "concat" and node.get("function") == "stack":
        return None
    if node.op == "clamp" and (node.get("min"), node.get("max")) == (0.0, 6.0):
        return "relu6"
    return _SAME.get(node.op)


def _details(node: Node, op: str) -> dict[str, Any]:
    """Collect path, bias, kernel, strides and dilation of a node."""
    more: dict[str, Any] = {"path": node.path, "bias": bool(node.get("bias"))}
    kernel = node.get("kernel")
    if isinstance(kernel, tuple) and op in _WEIGHTED:
        more["kernel"] = (kernel[0], kernel[-1])
    for name, ours in (("strides", "stride"), ("dilation", "dilation")):
        value = node.get(ours)
        if isinstance(value, tuple) and value:
            more[name] = (value[0], value[-1])
    return more


def _resolution(graph: Graph, i: int) -> Resolution:
    """Read sizes before and after a node off its shapes."""
    node = graph.nodes[i]
    inputs = graph.input_shapes(i)
    if node.op == "sum" and graph.operands[i] and len(inputs[0]) > len(node.shape):
        inputs = [node.shape]
    h, w, c = _sizes(node.shape)
    h_in, w_in, c_in = _sizes(inputs[0]) if inputs and inputs[0] else (h, w, c)
    return h_in, h, w_in, w, c_in, c


def _sizes(shape: Shape) -> tuple[int, int, int]:
    """Give (height, width, channels) of a batch; flat vectors have height and width 1, tokens width 1."""
    if len(shape) >= 4:
        return shape[-2], shape[-1], shape[1]
    if len(shape) == 3:
        return shape[1], 1, shape[2]
    return 1, 1, shape[-1] if shape else 1


# -- published -> our graph
# ---------------------------------------------------------------------------------------------


def from_fields(data: Mapping[str, Any], name: str = "") -> PublishedGraph:
    """Make a published graph of its fields, as the publications' JSON and objects hold them.

    Args:
        data: Fields `edge_pairs`, `weighted_nodes`, `regular_nodes`; every node a mapping with `op_type_idx` and
            `resolution`.
        name: Name to use where the fields have none.

    Returns:
        The graph with sorted edges, doubled ones dropped.

    Raises:
        GraphError: fields are missing or contradict each other.
    """
    try:
        nodes = [_node(n, weighted=True) for n in data["weighted_nodes"]] + [
            _node(n, weighted=False) for n in data["regular_nodes"]
        ]
        edges = sorted({(int(s), int(t)) for s, t in data["edge_pairs"]})
        title = str(data.get("name") or name)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as err:
        raise GraphError(
            f"expected a published computation graph, got fields {_keys(data)} ({type(err).__name__}: {err}).\n"
            "  It needs edge_pairs, weighted_nodes and regular_nodes."
        ) from err
    if any(not (0 <= s < len(nodes) and 0 <= t < len(nodes)) for s, t in edges):
        raise GraphError(f"published graph {title!r} has an edge beyond its {len(nodes)} nodes.\n  The file is broken.")
    return PublishedGraph(title, tuple(nodes), tuple(edges))


def _keys(data: Any) -> str:
    """Name the first fields of a mapping, or the type of what is none."""
    return ", ".join(sorted(map(str, data))[:12]) if isinstance(data, Mapping) else type(data).__name__


def _node(n: Mapping[str, Any], weighted: bool) -> PublishedNode:
    """Make a node of its published fields."""
    metadata = n.get("metadata") or {}
    size = tuple(round(float(v)) for v in n["resolution"])
    if len(size) != 6:
        raise ValueError(f"resolution of {len(size)} numbers")
    shape = n.get("shape") if weighted else None
    strides = n.get("strides") or (1, 1, 1, 1)
    dilation = metadata.get("dil_rate") or metadata.get("dilations") or (1, 1, 1, 1)
    dilation = [int(v) for v in ((dilation,) if isinstance(dilation, int) else dilation)] or [1]
    pool = metadata.get("ksize")
    kernel = (
        (int(shape[2]), int(shape[3]))
        if shape is not None
        else (int(pool[1]), int(pool[2]))
        if pool is not None
        else (0, 0)
    )
    return PublishedNode(
        OPERATIONS[int(n["op_type_idx"])],
        size,
        kernel,
        bool(metadata.get("use_bias")),
        (int(strides[1]), int(strides[2])),
        (dilation[1], dilation[2]) if len(dilation) == 4 else (dilation[0], dilation[-1]),
        str(metadata.get("padding", "same")).lower() == "same",
        str(n.get("str_id", "")).split("|")[-1].replace("/", "."),
    )


_OURS = {
    **{op: op for op in "input output conv depthwise batchnorm relu relu6 add mul concat maxpool".split()},
    **{op: op for op in "avgpool sigmoid tanh gelu identity".split()},
    **{"matmul": "linear", "swish": "silu", "paddings": "pad", "zero": "zeros"},
    **dict.fromkeys(("mean", "global"), "adaptivepool"),
    **dict.fromkeys(("spacetodepthnd", "depthtospacend"), "pixelshuffle"),
}
"""Our names of the published operations; any other becomes `other:<name>`."""


def graph_from_published(found: PublishedGraph) -> Graph:
    """Convert a published graph to our vocabulary; costs follow our conventions from here on.

    Args:
        found: Graph under the published conventions.

    Returns:
        A graph at batch 1 whose `rung` is 'published'; it has no program.

    Raises:
        GraphError: the edges run in a circle.
    """
    operands: list[list[int]] = [[] for _ in found.nodes]
    for s, t in found.edges:
        operands[t].append(s)
    order = _sorted(operands, found.name)
    number = {old: new for new, old in enumerate(order)}
    nodes: list[Node] = []
    weights: list[Weight] = []
    for old in order:
        n = found.nodes[old]
        _, h, _, w, _, c = n.resolution
        flat = n.op == "matmul" and h == w == 1
        shape: Shape = (1, c) if flat else (1, c, h, w)
        attributes, tensors = _weights_of(n)
        rows = tuple(range(len(weights), len(weights) + len(tensors)))
        weights += [Weight(f"{n.path or old}.{kind}", dims) for kind, dims in tensors]
        op = _OURS.get(n.op, f"other:{n.op}")
        nodes.append(Node(op, attributes, (shape,), 4, rows, n.path))
    edges = tuple((number[s], 0, number[t], position) for t in order for position, s in enumerate(operands[t]))
    return Graph(tuple(nodes), edges, tuple(weights), (), "published")


def _weights_of(n: PublishedNode) -> tuple[tuple[tuple[str, object], ...], list[tuple[str, Shape]]]:
    """Derive our attributes of a node, and its tensors as (kind, shape)."""
    c_in, c = n.resolution[4], n.resolution[5]
    bias: list[tuple[str, Shape]] = [("bias", (c,))] if n.bias else []
    if n.op in {"conv", "depthwise"}:
        padding = tuple(d * (k - 1) // 2 for k, d in zip(n.kernel, n.dilation, strict=True)) if n.pads_same else (0, 0)
        groups = c_in if n.op == "depthwise" else 1
        values: dict[str, object] = {
            **{"kernel": n.kernel, "stride": n.strides, "padding": padding, "dilation": n.dilation, "groups": groups},
            **{"channels_per_group": c_in // groups, "bias": int(n.bias)},
        }
        return tuple(sorted(values.items())), [("weight", (c, c_in // groups, *n.kernel)), *bias]
    if n.op == "matmul":
        return (("bias", int(n.bias)), ("in_features", c_in)), [("weight", (c, c_in)), *bias]
    if n.op == "batchnorm":
        return (), [("weight", (c,)), ("bias", (c,))]
    if n.op in {"maxpool", "avgpool"} and any(n.kernel):
        padding = tuple((k - 1) // 2 for k in n.kernel) if n.pads_same else (0, 0)
        return (("kernel", n.kernel), ("padding", padding), ("stride", n.strides)), []
    return ((("dim", 1),) if n.op == "concat" else ()), []


def _sorted(operands: Sequence[Sequence[int]], name: str) -> list[int]:
    """Find the topological order, earlier nodes first where there is a choice."""
    waiting = [len(o) for o in operands]
    readers: list[list[int]] = [[] for _ in operands]
    for t, sources in enumerate(operands):
        for s in sources:
            readers[s].append(t)
    ready = [i for i, n in enumerate(waiting) if not n]
    heapq.heapify(ready)
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for t in readers[i]:
            waiting[t] -= 1
            if not waiting[t]:
                heapq.heappush(ready, t)
    if len(order) != len(operands):
        raise GraphError(f"published graph {name!r} runs in a circle.\n  The file is broken.")
    return order
