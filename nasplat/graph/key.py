"""Canonical hash of a computation, and the folding that comes before it.

Colour refinement on the folded graph: a node's colour hashes its op, attributes and shapes with the colours of its
operands (in order, except for commutative ops), then with those of its readers; twice. The key hashes the multiset of
colours. Names, paths and construction order do not enter; weights enter by identity (who shares them).
Source: Weisfeiler & Leman 1968, on a directed acyclic graph.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace as changed
from typing import TypeVar

from nasplat.graph import ops
from nasplat.graph.columns import Columns

_C = TypeVar("_C", bound=Columns)

_ZERO_KEEPING = frozenset({*ops.HIDDEN, *ops.POOLING, "relu", "relu6", "gelu", "silu", "tanh", "neg", "mul"}) - {
    "reduce"
}
"""Operations that make zeros of zeros."""


def _digest(*parts: object) -> bytes:
    """Hash the printed form of some values to 16 bytes."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


def canonical_key(folded: Columns) -> str:
    """Hash a computation so that equal ones are equal.

    Two graphs that colour refinement cannot tell apart share a key; on the acyclic, attributed graphs of networks no
    such pair is known to us.

    Args:
        folded: Graph after `fold_dead_code`; without folding, dead code and copies would enter the hash.

    Returns:
        64 hex digits that depend on the version of the op vocabulary, not on names, paths or order of construction.
    """
    g = folded
    shapes = [tuple(w.shape for w in (g.weights[i] for i in n.weights)) for n in g.nodes]
    place = {i: k for op in ("input", "output") for k, i in enumerate(i for i, n in enumerate(g.nodes) if n.op == op)}
    colour = [
        _digest(n.op, n.attributes, n.shapes, n.itemsize, s, place.get(i, -1))
        for i, (n, s) in enumerate(zip(g.nodes, shapes, strict=True))
    ]
    readers: list[list[tuple[int, int, int]]] = [[] for _ in g.nodes]
    for source, slot, target, position in g.edges:
        where = -1 if g.nodes[target].op in ops.COMMUTATIVE else position
        readers[source].append((target, slot, where))
    sharing: dict[int, list[int]] = {}
    for i, n in enumerate(g.nodes):
        for w in n.weights:
            sharing.setdefault(w, []).append(i)
    shared = [group for group in sharing.values() if len(group) > 1]
    for _ in range(2):
        for i, n in enumerate(g.nodes):
            operands = [(colour[s], slot) for s, slot in g.operands[i]]
            colour[i] = _digest(colour[i], sorted(operands) if n.op in ops.COMMUTATIVE else operands)
        for i in reversed(range(len(g.nodes))):
            colour[i] = _digest(colour[i], sorted((colour[t], slot, where) for t, slot, where in readers[i]))
        for group in shared:
            together = _digest(sorted(colour[i] for i in group))
            for i in group:
                colour[i] = _digest(colour[i], together)
    return hashlib.sha256(repr((ops.OPS_VERSION, sorted(colour))).encode()).hexdigest()


def fold_dead_code(graph: _C) -> _C:
    """Remove dead code, additions of zeros, and copies.

    Zeros stay zeros through views, pools and activations that keep them; `x + 0` is `x`; `x * 0` is `0`.

    Args:
        graph: Any graph; without an output node its last node counts as the output.

    Returns:
        A graph of the same class that computes the same; its inputs stay even where nothing reads them.
    """
    zero: set[int] = set()
    replace: dict[int, tuple[int, int] | None] = {}
    for i, node in enumerate(graph.nodes):
        operands = graph.operands[i]
        if node.op == "zeros":
            zero.add(i)
        elif node.op == "mul" and any(s in zero for s, _ in operands):
            zero.add(i)
            replace[i] = next((s, 0) for s, _ in operands if s in zero)
        elif node.op in _ZERO_KEEPING and operands and all(s in zero for s, _ in operands):
            zero.add(i)
        elif node.op in {"add", "sub"} and len(operands) == 1 and node.get("other") == 0 and not node.weights:
            if node.get("first") is None and graph.nodes[operands[0][0]].shapes[operands[0][1]] == node.shape:
                replace[i] = operands[0]
        elif node.op in {"add", "sub"} and len(operands) == 2:
            left, right = operands
            same = graph.nodes[left[0]].shapes[left[1]] == node.shape
            if right[0] in zero and same:
                replace[i] = left
                if left[0] in zero:
                    zero.add(i)
            elif node.op == "add" and left[0] in zero and graph.nodes[right[0]].shapes[right[1]] == node.shape:
                replace[i] = right
        elif node.op in {"copy", "identity"} and len(operands) == 1:
            replace[i] = operands[0]
    alive: set[int] = set()
    stack = [i for i, n in enumerate(graph.nodes) if n.op == "output"] or [len(graph.nodes) - 1]
    while stack:
        i = stack.pop()
        if i in alive:
            continue
        alive.add(i)
        target = replace.get(i)
        # zeros need no source: what fed `zeros_like` or a pooled zero is dead
        sources = [target] if target is not None else [] if i in zero else list(graph.operands[i])
        stack += [s for s, _ in sources]
    alive |= {i for i, n in enumerate(graph.nodes) if n.op == "input"}
    cut = {i: None for i in alive if i in zero and i not in replace}
    keep = sorted(i for i in alive if i not in replace)
    trimmed = graph.subset(keep, {k: v for k, v in replace.items() if k in alive})
    if not cut:
        return trimmed
    edges = tuple(e for e in trimmed.edges if keep[e[2]] not in cut)
    nodes = tuple(
        type(n)("zeros", (), n.shapes, n.itemsize, (), n.path) if keep[j] in cut else n
        for j, n in enumerate(trimmed.nodes)
    )
    return changed(trimmed, nodes=nodes, edges=edges)
