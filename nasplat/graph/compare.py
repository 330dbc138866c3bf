"""Two graphs side by side: what survives an export, and what changed between two networks.

The changes come from aligning the two execution orders, compared by operation, attributes, shape and the sizes of the
weights; names do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from math import prod

from nasplat.graph import ops
from nasplat.graph.bounds import part_bound
from nasplat.graph.columns import Node
from nasplat.graph.graph import Graph

_FOLDED = ("batchnorm",)
"""Operations that exporters fold into the operation before."""


def comparable(graph: Graph) -> Graph:
    """Leave out of a graph what exporters change.

    Views, copies, casts and silent modules go; batch normalisation goes with the biases it is folded into; attention
    that was written out is one node; a mean over all places is a pool; element types and paths do not count. Two
    captures of one network, from torch and from its ONNX file, should agree in this.

    Args:
        graph: Capture from any source.

    Returns:
        Graph to compare by its `key` with another comparable graph; it has no weights and no costs of its own.

    Example:
        >>> from torch import nn
        >>> import nasplat
        >>> plain, normal = nn.Conv2d(3, 8, 1), nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8))
        >>> a, b = (nasplat.capture(net, (1, 3, 4, 4)) for net in (plain, normal))
        >>> a.key == b.key, comparable(a).key == comparable(b).key
        (False, True)
    """
    g = graph.folded.without((*ops.HIDDEN, *_FOLDED))
    g = _gathered_attention(g)
    return Graph(tuple(map(_plain, g.nodes)), g.edges, (), (), g.rung).folded


def _plain(node: Node) -> Node:
    """Drop what exporters change from one node."""
    dropped = {"bias", "function"} if node.op in ops.WEIGHTED else {"causal"} if node.op == "attention" else set()
    attributes = tuple((k, v) for k, v in node.attributes if k not in dropped)
    if node.op == "mean" and node.get("keepdim") and node.get("dim") == tuple(range(2, len(node.shape))):
        return Node("adaptivepool", (), node.shapes[:1])
    return Node(node.op, attributes, node.shapes)


def _gathered_attention(g: Graph) -> Graph:
    """Make one node of softmax(q kᵀ) v written in three; scalings and masks on the way are part of it."""
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
    """One stretch of nodes in which two networks differ."""

    kind: str
    """Kind of the difference: `added`, `removed` or `changed`."""
    before: tuple[int, ...]
    """Numbers of the nodes in the first graph; empty where nodes were added."""
    after: tuple[int, ...]
    """Numbers of the nodes in the second graph; empty where nodes were removed."""


def changes(first: Graph, second: Graph) -> list[Change]:
    """List what changed from one network to another, in execution order.

    Args:
        first: The network before; views included.
        second: The network after.

    Returns:
        Stretches that were added, removed or changed; empty when every node has its like.
    """
    names: dict[object, int] = {}
    left, right = ([names.setdefault(s, len(names)) for s in _signatures(g)] for g in (first, second))
    head = next((i for i, (x, y) in enumerate(zip(left, right, strict=False)) if x != y), min(len(left), len(right)))
    rest = min(len(left), len(right)) - head
    backwards = zip(reversed(left), reversed(right), strict=False)
    tail = next((i for i, (x, y) in enumerate(backwards) if x != y or i == rest), rest)
    ends = (len(left) - tail, len(right) - tail)
    kinds = {"insert": "added", "delete": "removed", "replace": "changed"}
    return [
        Change(kinds[tag], tuple(range(i0, i1)), tuple(range(j0, j1)))
        for tag, i0, i1, j0, j1 in _aligned(
            left, right, _runs(first, head, ends[0]), _runs(second, head, ends[1]), ends
        )
    ]


_Stretch = tuple[str, int, int, int, int]


def _aligned(
    left: list[int], right: list[int], a: list[tuple[int, int]], b: list[tuple[int, int]], ends: tuple[int, int]
) -> Iterator[_Stretch]:
    """Align whole modules first, then node by node inside those that have no like, and yield what differs.

    So long networks of equal blocks take little time.
    """
    names: dict[object, int] = {}
    ours, theirs = (
        [names.setdefault(tuple(s[i:j]), len(names)) for i, j in runs] for s, runs in ((left, a), (right, b))
    )
    for tag, i0, i1, j0, j1 in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        start, end = (a[i0][0], a[i1 - 1][1]) if i1 > i0 else (a[i0][0] if i0 < len(a) else ends[0],) * 2
        first, last = (b[j0][0], b[j1 - 1][1]) if j1 > j0 else (b[j0][0] if j0 < len(b) else ends[1],) * 2
        inner = SequenceMatcher(None, left[start:end], right[first:last], autojunk=end - start > LONG)
        for kind, m0, m1, n0, n1 in inner.get_opcodes():
            if kind != "equal":
                yield kind, start + m0, start + m1, first + n0, first + n1


LONG = 5_000
"""Stretches longer than this are aligned by their rarer nodes alone."""


def _runs(graph: Graph, start: int, end: int) -> list[tuple[int, int]]:
    """Cut the execution order into stretches that ran in one module (two names of its path told apart)."""
    found: list[tuple[int, int]] = []
    last: object = None
    for i in range(start, end):
        here = tuple(graph.nodes[i].path.split(".")[:2])
        if found and here == last:
            found[-1] = (found[-1][0], i + 1)
        else:
            found.append((i, i + 1))
        last = here
    return found


def _signatures(graph: Graph) -> list[object]:
    """Describe each node by what it computes, its name aside."""
    return [(n.op, n.attributes, n.shapes, tuple(graph.weights[w].shape for w in n.weights)) for n in graph.nodes]


@dataclass(frozen=True)
class ModuleRow:
    """Costs of one module, a row of the table that `by_module` gives."""

    path: str
    """Qualified name of the module; '(root)' for operations outside all submodules."""
    nodes: int
    """Number of operations that ran in it."""
    macs: int
    """Multiply-accumulates of these operations."""
    params: int
    """Elements of the trained tensors that it is the first to use."""
    activation_bytes: int
    """Bytes of all outputs made inside, alive together or not."""
    ops: tuple[tuple[str, int], ...]
    """Operations with their number, the most frequent first."""
    bound: str = ""
    """Sign of the MACs: '' exact, '≥', '≤' or '≈', as of `nasplat.graph.bounds`."""


def by_module(graph: Graph, depth: int = 1) -> list[ModuleRow]:
    """Sum costs by module; shared weights count where they are first used.

    Args:
        graph: Graph whose nodes have paths, as captures of modules and of ONNX files have.
        depth: Number of leading names of the module path that are told apart; 1 gives the network's direct children.

    Returns:
        One row per module, in the order in which they first run; inputs and outputs are left out.
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
        row[1] += graph.node_macs[i]
        row[2] += sum(graph.weights[w].size for w in set(node.weights) - seen)
        row[3] += 0 if node.is_alias else sum(prod(s) for s in node.shapes) * node.itemsize
        seen.update(node.weights)
        count.setdefault(path, Counter())[node.op] += 1
    return [
        ModuleRow(
            *(path, r[0], r[1], r[2], r[3], tuple(count[path].most_common())),
            bound=part_bound(r[1], graph.causes, not all(map(ops.is_known, count[path]))),
        )
        for path, r in rows.items()
    ]
