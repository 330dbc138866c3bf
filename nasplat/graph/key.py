"""Canonical hash of a computation, after the folding of `nasplat.graph.folding`.

Colour refinement on the folded graph: a node's colour hashes its op, attributes and shapes with the colours of its
operands (in order, except for commutative ops), then with those of its readers; twice. The key hashes the multiset of
colours. Names, paths and construction order do not enter; weights enter by identity (who shares them).
Source: Weisfeiler & Leman 1968, on a directed acyclic graph.
"""

from __future__ import annotations

import hashlib

from nasplat.graph import ops
from nasplat.graph.columns import Columns


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
