"""Two graphs side by side: what survives an export, and what changed between two networks.

The changes are a longest common subsequence of the two execution orders, compared by operation, attributes, shape and the sizes
of the weights; names do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from nasplat.graph import ops
from nasplat.graph.cost import node_macs
from nasplat.graph.graph import Graph, Node

_FOLDED = ("batchnorm",)
"""What exporters fold into the operation before."""


def comparable(graph: Graph) -> Graph:
    """What is left of a graph once it has been through an exporter.

    Views, copies, casts and silent modules go; batch normalisation goes with the biases it is folded into; attention that was
    written out is one node; a mean over all places is a pool; element types and paths do not count. Two captures of one network,
    from torch and from its ONNX file, should agree in this.
    """
    g = graph.folded.without((*ops.HIDDEN, *_FOLDED))
    g = _gathered_attention(g)
    return Graph(tuple(map(_plain, g.nodes)), g.edges, (), (), g.rung).folded


def _plain(node: Node) -> Node:
    dropped = {"bias", "function"} if node.op in ops.WEIGHTED else {"causal"} if node.op == "attention" else set()
    attributes = tuple((k, v) for k, v in node.attributes if k not in dropped)
    if node.op == "mean" and node.get("keepdim") and node.get("dim") == tuple(range(2, len(node.shape))):
        return Node("adaptivepool", (), node.shapes[:1])
    return Node(node.op, attributes, node.shapes)


def _gathered_attention(g: Graph) -> Graph:
    """softmax(q kᵀ) v in three nodes becomes one; scalings and masks on the way are part of it."""
    readers: list[list[int]] = [[] for _ in g.nodes]
    for source, _, target, _ in g.edges:
        readers[source].append(target)
    nodes = list(g.nodes)
    operands: dict[int, list[tuple[int, int]]] = {}
    gone: set[int] = set()

    def back(i: int, allowed: frozenset[str]) -> int:
        while g.nodes[i].op in allowed and g.operands[i] and len(readers[i]) == 1:
            if g.nodes[i].op != "add" and len(g.operands[i]) > 1:
                break
            gone.add(i)
            i = g.operands[i][0][0]
        return i

    for i, node in enumerate(g.nodes):
        if node.op == "attention":
            operands[i] = list(g.operands[i][:3])
        if node.op != "softmax" or len(readers[i]) != 1 or g.nodes[readers[i][0]].op != "matmul":
            continue
        last = readers[i][0]
        if len(g.operands[last]) != 2 or g.operands[last][0][0] != i:
            continue
        before = set(gone)
        product = back(g.operands[i][0][0], frozenset({"add", "mul", "div", "where"}))
        if g.nodes[product].op != "matmul" or len(g.operands[product]) != 2 or len(readers[product]) != 1:
            gone.clear()
            gone.update(before)
            continue
        gone.update((i, product))
        query, key = (back(s, frozenset({"mul", "div"})) for s, _ in g.operands[product])
        width, keys = g.nodes[product].get("inner"), node.shape[-1]
        nodes[last] = Node("attention", (("keys", keys), ("width", width)), nodes[last].shapes)
        operands[last] = [(query, 0), (key, 0), g.operands[last][1]]
    kept = [i for i in range(len(nodes)) if i not in gone]
    number = {old: new for new, old in enumerate(kept)}
    edges = []
    for old in kept:
        for position, (source, slot) in enumerate(operands.get(old, g.operands[old])):
            if source in number:
                edges.append((number[source], slot, number[old], position))
    return Graph(tuple(nodes[i] for i in kept), tuple(edges), g.weights, g.notes, g.rung)


@dataclass(frozen=True)
class Change:
    """One stretch of nodes that differs."""

    kind: str
    """`added`, `removed` or `changed`."""
    before: tuple[int, ...]
    """Nodes of the first graph."""
    after: tuple[int, ...]
    """Nodes of the second graph."""


def changes(first: Graph, second: Graph) -> list[Change]:
    """What changed from one network to another, in execution order.

    Args:
        first: The network before; views included.
        second: The network after.

    Returns:
        Stretches that were added, removed or changed; empty when every node has its like.
    """
    a, b = (_signatures(g) for g in (first, second))
    names: dict[object, int] = {}
    left, right = ([names.setdefault(s, len(names)) for s in side] for side in (a, b))
    matcher = SequenceMatcher(None, left, right, autojunk=len(left) > 20_000)
    kinds = {"insert": "added", "delete": "removed", "replace": "changed"}
    return [
        Change(kinds[tag], tuple(range(i0, i1)), tuple(range(j0, j1)))
        for tag, i0, i1, j0, j1 in matcher.get_opcodes()
        if tag != "equal"
    ]


def _signatures(graph: Graph) -> list[object]:
    return [(n.op, n.attributes, n.shapes, tuple(graph.weights[w].shape for w in n.weights)) for n in graph.nodes]


@dataclass(frozen=True)
class ModuleRow:
    """One row of a table by module."""

    path: str
    nodes: int
    macs: int
    params: int
    activation_bytes: int
    """Bytes of all outputs made inside, alive together or not."""
    ops: tuple[tuple[str, int], ...]


def by_module(graph: Graph, depth: int = 1) -> list[ModuleRow]:
    """Costs by module, in the order they first run; shared weights count where they are first used.

    Args:
        graph: Any graph.
        depth: How many names of the module path are told apart.
    """
    rows: dict[str, list[int]] = {}
    count: dict[str, Counter[str]] = {}
    seen: set[int] = set()
    for i, node in enumerate(graph.nodes):
        if node.op in {"input", "output"}:
            continue
        path = ".".join(node.path.split(".")[:depth]) if node.path else "(root)"
        row = rows.setdefault(path, [0, 0, 0, 0])
        row[0] += 1
        row[1] += node_macs(node, graph.input_shapes(i))
        row[2] += sum(graph.weights[w].size for w in set(node.weights) - seen)
        row[3] += 0 if node.is_alias else sum(_size(s) for s in node.shapes) * node.itemsize
        seen.update(node.weights)
        count.setdefault(path, Counter())[node.op] += 1
    return [ModuleRow(path, r[0], r[1], r[2], r[3], tuple(count[path].most_common())) for path, r in rows.items()]


def _size(shape: Sequence[int]) -> int:
    n = 1
    for s in shape:
        n *= s
    return n
