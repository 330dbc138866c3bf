"""Dead code, additions of zeros and copies go: what compares and predicts networks sees what is left.

Zeros stay zeros through views, pools and activations that keep them; `x + 0` is `x`; `x * 0` is `0`.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nasplat.graph import ops
from nasplat.graph.columns import Columns, Node
from nasplat.graph.rows import Ints, Rows, side_by_side

_C = TypeVar("_C", bound=Columns)
_ZERO_KEEPING = frozenset({*ops.HIDDEN, *ops.POOLING, "relu", "relu6", "gelu", "silu", "tanh", "neg", "mul"}) - {
    "reduce"
}
"""Operations that make zeros of zeros."""


def fold_dead_code(graph: _C) -> _C:
    """Remove dead code, additions of zeros, and copies.

    Args:
        graph: Any graph; without an output node its last node counts as the output.

    Returns:
        A graph of the same class that computes the same; its inputs stay even where nothing reads them.
    """
    if not graph.nodes:
        return graph
    rows = side_by_side([graph])
    left = folded(rows)
    cut = left.kind != rows.kind[left.place]
    nodes = [graph.nodes[i] for i in left.place.tolist()]
    for i in np.flatnonzero(cut).tolist():
        nodes[i] = _as_zeros(nodes[i])
    position = np.arange(len(left.target)) - left.begin[left.target]
    edges = zip(*(c.tolist() for c in (left.source, left.slot, left.target, position)), strict=True)
    return type(graph)(tuple(nodes), tuple(edges), graph.weights, graph.notes, graph.rung, causes=graph.causes)


def folded(rows: Rows) -> Rows:
    """Remove dead code, additions of zeros, and copies from graphs side by side.

    Args:
        rows: Graphs side by side, as they were captured.

    Returns:
        The nodes that are left; what computes zeros has become an operation `zeros` without operands.
    """
    is_zeros, is_mul, keeps, sums, is_add, copies, plain, is_input, is_output = rows.of(_roles, bool).T
    zero = _zeros(rows, is_zeros, is_mul, keeps, sums)
    instead, slot = np.arange(len(rows)), np.zeros(len(rows), np.int64)

    def stand_in(nodes: Ints, edges: Ints) -> None:
        instead[nodes], slot[nodes] = rows.source[edges], rows.slot[edges]

    weighted = np.bincount(rows.holder, minlength=len(rows)) > 0
    one = np.flatnonzero((rows.operands == 1) & ~zero & (copies | (sums & plain & ~weighted)))
    edge = rows.begin[one]
    fits = copies[one] | _same(rows, edge, one)
    stand_in(one[fits], edge[fits])
    if zero.any():
        two = np.flatnonzero(sums & (rows.operands == 2))
        left, right = rows.begin[two], rows.begin[two] + 1
        first = zero[rows.source[right]] & _same(rows, left, two)
        second = ~first & is_add[two] & zero[rows.source[left]] & _same(rows, right, two)
        stand_in(two[first], left[first])
        stand_in(two[second], right[second])
        edges = np.flatnonzero(is_mul[rows.target] & zero[rows.source])
        nodes, where = np.unique(rows.target[edges], return_index=True)
        instead[nodes], slot[nodes] = rows.source[edges[where]], 0
    replaced = instead != np.arange(len(rows))
    roots = is_output.copy()
    roots[rows.ends()] = True
    alive = _alive(rows, instead, replaced, zero, roots) | is_input
    cut = alive & zero & ~replaced
    if cut.any():
        number = np.cumsum(alive & ~replaced) - 1
        left_over = rows.kept(alive & ~replaced, instead, slot, cut)
        chosen = np.zeros(len(left_over), bool)
        chosen[number[cut]] = True
        return left_over.with_kind(chosen, _as_zeros)
    return rows.kept(alive & ~replaced, instead, slot)


def _zeros(
    rows: Rows,
    is_zeros: NDArray[np.bool_],
    is_mul: NDArray[np.bool_],
    keeps: NDArray[np.bool_],
    sums: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Find the nodes that compute zeros, whatever the input is; each time only readers of new ones are looked at."""
    zero = is_zeros.copy()
    if not zero.any():
        return zero
    operands = np.zeros(len(rows), np.int64)
    order = np.argsort(rows.source, kind="stable")
    many = np.bincount(rows.source, minlength=len(rows))
    begin = np.cumsum(many) - many
    new = np.flatnonzero(zero)
    while len(new):
        readers = rows.target[order[ranges(begin[new], many[new])]]
        readers, times = np.unique(readers, return_counts=True)
        operands[readers] += times
        readers = readers[~zero[readers]]
        every = operands[readers] == rows.operands[readers]
        new = (is_mul[readers]) | (keeps[readers] & every)
        pair = sums[readers] & every & (rows.operands[readers] == 2)
        new[pair] = _same(rows, rows.begin[readers[pair]], readers[pair])
        new = readers[new]
        zero[new] = True
    return zero


def _alive(
    rows: Rows, instead: Ints, replaced: NDArray[np.bool_], zero: NDArray[np.bool_], roots: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Find what the roots need: nodes that nobody reads go, then those that only they read, and so on."""
    counts = ~(replaced | zero)[rows.target]  # zeros need no source: what fed `zeros_like` or a pooled zero is dead
    target = np.concatenate([rows.target[counts], np.flatnonzero(replaced)])
    source = np.concatenate([rows.source[counts], instead[replaced]])
    readers = np.bincount(source, minlength=len(rows))
    alive = np.ones(len(rows), bool)
    dead = np.flatnonzero((readers == 0) & ~roots)
    if not len(dead):
        return alive
    order = np.argsort(target, kind="stable")
    source = source[order]
    many = np.bincount(target, minlength=len(rows))
    begin = np.cumsum(many) - many
    while len(dead):
        alive[dead] = False
        fed, times = np.unique(source[ranges(begin[dead], many[dead])], return_counts=True)
        readers[fed] -= times
        dead = fed[(readers[fed] == 0) & ~roots[fed]]
    return alive


def ranges(begin: Ints, many: Ints) -> Ints:
    """Count up from several beginnings.

    Args:
        begin: First number of each range.
        many: Length of each range.

    Returns:
        The numbers of all ranges, one after the other.

    Example:
        >>> ranges(np.array([3, 10]), np.array([2, 3])).tolist()
        [3, 4, 10, 11, 12]
    """
    return np.repeat(begin - np.cumsum(many) + many, many) + np.arange(many.sum())


def _same(rows: Rows, edges: Ints, nodes: Ints) -> NDArray[np.bool_]:
    """Whether what edges carry has the shape of nodes' first outputs."""
    number = rows.kinds.shape_numbers
    return number[rows.read[edges]] == number[rows.shape[nodes]]


def _roles(node: Node) -> tuple[bool, ...]:
    """What folding asks of an operation."""
    sums = node.op in {"add", "sub"}
    return (
        node.op == "zeros",
        node.op == "mul",
        node.op in _ZERO_KEEPING,
        sums,
        node.op == "add",
        node.op in {"copy", "identity"},
        sums and node.get("other") == 0 and node.get("first") is None,
        node.op == "input",
        node.op == "output",
    )


def _as_zeros(node: Node) -> Node:
    return Node("zeros", (), node.shapes, node.itemsize, (), node.path)
