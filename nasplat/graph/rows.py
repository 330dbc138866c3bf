"""Many graphs side by side as columns of numbers, so that one pass of numpy folds and counts all of them.

A network repeats its operations, and so do networks of one space. So each distinct operation (name, attributes, shapes)
is described once, under a number; a node is that number, and what depends on the operation alone is looked up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import GraphError
from nasplat.graph.columns import Columns, Node, Shape
from nasplat.graph.cost import MULTIPLIES, SUMS, node_macs

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
MOST = 1 << 16
"""Operations that a table holds; the next batch of graphs begins a new one, so that memory stays flat."""
EXACT = float(1 << 53)
"""Sums of floats are exact whole numbers below this."""

# B graphs, N nodes of all of them, M edges, K kinds of operations, R shapes of their outputs


class Kinds:
    """Distinct operations, each with a number, and columns that describe them."""

    def __init__(self) -> None:
        """Make an empty table."""
        self.nodes: list[Node] = []
        """An example of each kind."""
        self.shapes: list[Shape] = []
        """Shapes of all outputs, kind after kind; () for the output of a kind that states none."""
        self._first: list[int] = []
        self._numbers: dict[Any, int] = {}
        self._shape_numbers: dict[Shape, int] = {}
        self._known: dict[tuple[int, int, str, bool], int] = {}
        self._held: list[tuple[object, object]] = []
        self._columns: dict[Callable[..., Any], NDArray[Any]] = {}
        self._macs: dict[int, int] = {}

    def numbers(self, nodes: Sequence[Node]) -> list[int]:
        """Number operations.

        Args:
            nodes: Nodes of a graph.

        Returns:
            The number of each one's kind.
        """
        known = (
            self._known
        )  # by identity, which costs no hashing: recorded blocks share these tuples, and they are held
        try:
            return [known[id(n.attributes), id(n.shapes), n.op, n.is_alias] for n in nodes]
        except KeyError:
            return [self._number(n) for n in nodes]

    def _number(self, node: Node) -> int:
        parts = (node.op, node.attributes, node.shapes, node.is_alias)
        number = self._numbers.get(parts)
        if number is None:
            number = len(self.nodes)
            self._first.append(len(self.shapes))
            self.shapes += node.shapes or ((),)
            self.nodes.append(node)
            self._numbers[parts] = number
        if len(self._held) < 4 * MOST:
            self._held.append((node.attributes, node.shapes))
            self._known[id(node.attributes), id(node.shapes), node.op, node.is_alias] = number
        return number

    def column(self, describe: Callable[[Node], Any], dtype: Any = np.float64) -> NDArray[Any]:
        """Describe every kind.

        Args:
            describe: Function of one operation that returns a number or a tuple of numbers; the same function every
                time, for what it returned is kept.
            dtype: Type of the numbers.

        Returns:
            Shape (K,) or (K, numbers).
        """
        return self._grown(describe, self.nodes, dtype)

    def of_shapes(self, describe: Callable[[Shape], Any], dtype: Any = np.float64) -> NDArray[Any]:
        """Describe the shape of every output.

        Args:
            describe: Function of one shape, as for `column`.
            dtype: Type of the numbers.

        Returns:
            Shape (R,) or (R, numbers).
        """
        return self._grown(describe, self.shapes, dtype)

    def _grown(self, describe: Callable[..., Any], of: list[Any], dtype: Any) -> NDArray[Any]:
        found = self._columns.get(describe)
        if found is None or len(found) < len(of):
            more = np.array([describe(x) for x in of[0 if found is None else len(found) :]], dtype)
            found = self._columns[describe] = more if found is None else np.concatenate([found, more])
        return found

    @property
    def first(self) -> Ints:
        """Place of each kind's first output in `shapes`, shape (K,)."""
        return self._grown(int, self._first, np.int64)

    @property
    def shape_numbers(self) -> Ints:
        """Number of every output's shape, equal for equal shapes; shape (R,)."""
        return self.of_shapes(self._number_of_shape, np.int64)

    def _number_of_shape(self, shape: Shape) -> int:
        return self._shape_numbers.setdefault(shape, len(self._shape_numbers))

    def macs(self, number: int, shape: int) -> int:
        """Count the multiply-accumulates of an operation.

        Args:
            number: Number of its kind.
            shape: Place in `shapes` of the operand that decides: the first, and of sums by index the last; -1 where it
                has none.

        Returns:
            The count, see `nasplat.graph.cost.node_macs`.
        """
        key = (number << 32) + shape
        if key not in self._macs:
            self._macs[key] = node_macs(self.nodes[number], [self.shapes[shape]] if shape >= 0 else [])
        return self._macs[key]


_here = threading.local()


def _kinds() -> Kinds:
    """The table of this thread, a new one where it has grown too large."""
    found: Kinds | None = getattr(_here, "kinds", None)
    if found is None or len(found.nodes) > MOST or len(found._held) >= 4 * MOST:
        found = _here.kinds = Kinds()
    return found


@dataclass(frozen=True)
class Rows:
    """B graphs side by side; their nodes stand one graph after the other, in execution order."""

    kinds: Kinds
    """Table of operations that `kind` refers to."""
    size: int
    """Number B of graphs."""
    graph: Ints
    """Graph of each node, shape (N,)."""
    kind: Ints
    """Number of each node's operation, shape (N,)."""
    source: Ints
    """Source of each edge, shape (M,), sorted by target and operand position."""
    slot: Ints
    """Output of the source that each edge reads, shape (M,)."""
    target: Ints
    """Target of each edge, shape (M,)."""
    holder: Ints
    """Node of each use of a trained tensor, shape (W,)."""
    tensor: Ints
    """Trained tensor of each use, shape (W,)."""
    elements: Floats
    """Elements of every trained tensor."""
    place: Ints
    """Number that each node had in the rows that these were made of, shape (N,)."""

    def __len__(self) -> int:
        """Count the nodes N."""
        return len(self.kind)

    @cached_property
    def operands(self) -> Ints:
        """Number of operands of each node, shape (N,)."""
        return np.bincount(self.target, minlength=len(self))

    @cached_property
    def begin(self) -> Ints:
        """Number of each node's first edge, shape (N,); of a node without operands it means nothing."""
        return np.cumsum(self.operands) - self.operands

    @cached_property
    def shape(self) -> Ints:
        """Place of each node's first output in the table's shapes, shape (N,)."""
        return self.kinds.first[self.kind]

    @cached_property
    def read(self) -> Ints:
        """Place in the table's shapes of what each edge carries, shape (M,)."""
        return self.shape[self.source] + self.slot

    @cached_property
    def entry(self) -> Ints:
        """Place in the table's shapes of each node's first operand, shape (N,); -1 where there is none."""
        found = np.full(len(self), -1, np.int64)
        some = self.operands > 0
        found[some] = self.read[self.begin[some]]
        return found

    @cached_property
    def macs(self) -> Floats:
        """Multiply-accumulates of each node, shape (N,)."""
        found = np.zeros(len(self))
        counted, decides = np.flatnonzero(self.of(_multiplies, bool)), self.entry.copy()
        sums = np.flatnonzero(self.of(_sums, bool) & (self.operands > 0))
        decides[sums] = self.read[(self.begin + self.operands - 1)[sums]]
        keys, back = np.unique((self.kind[counted] << 32) + decides[counted] + 1, return_inverse=True)
        each = [self.kinds.macs(key >> 32, (key & 0xFFFFFFFF) - 1) for key in keys.tolist()]
        found[counted] = np.array(each, np.float64)[back]
        return found

    @cached_property
    def params(self) -> Floats:
        """Elements of the trained tensors of each node, shape (N,)."""
        return np.bincount(self.holder, self.elements[self.tensor], len(self)).astype(np.float64)

    def of(self, describe: Callable[[Node], Any], dtype: Any = np.float64) -> NDArray[Any]:
        """Look up what depends on the operation alone.

        Args:
            describe: As for `Kinds.column`.
            dtype: Type of the numbers.

        Returns:
            Shape (N,) or (N, numbers).
        """
        return self.kinds.column(describe, dtype)[self.kind]

    def summed(self, values: Floats) -> Floats:
        """Add up what the nodes of each graph hold.

        Args:
            values: Numbers of shape (N,), or (N, n).

        Returns:
            Sums of shape (B,), or (B, n).
        """
        if values.ndim == 1:
            return np.bincount(self.graph, values, self.size).astype(np.float64)
        return np.stack([self.summed(column) for column in values.T], 1)

    def tensors_in_use(self) -> Floats:
        """Add up the elements of the trained tensors that each graph uses; a shared one counts once.

        Returns:
            Shape (B,).
        """
        used, where = np.unique(self.tensor, return_index=True)
        return np.bincount(self.graph[self.holder[where]], self.elements[used], self.size).astype(np.float64)

    def first_of(self, chosen: NDArray[np.bool_]) -> Ints:
        """Find the first node of each graph that a mask chooses.

        Args:
            chosen: Mask of shape (N,).

        Returns:
            Node numbers of shape (B,); -1 for graphs without one.
        """
        found = np.full(self.size, -1, np.int64)
        graphs, where = np.unique(self.graph[chosen], return_index=True)
        found[graphs] = np.flatnonzero(chosen)[where]
        return found

    def ends(self) -> Ints:
        """Find the first output of each graph, or its last node where it has none.

        Returns:
            Node numbers of shape (B,).
        """
        last = np.cumsum(np.bincount(self.graph, minlength=self.size)) - 1
        output = self.first_of(self.of(_is_output, bool))
        return np.where(output >= 0, output, last)

    def kept(self, keep: NDArray[np.bool_], instead: Ints, slot: Ints, cut: NDArray[np.bool_] | None = None) -> Rows:
        """Keep some nodes; another stands for each that is dropped.

        Args:
            keep: Mask of the nodes that stay, shape (N,).
            instead: For dropped nodes an earlier node that stands for it, kept or not; for others themselves.
            slot: Output of that node, shape (N,).
            cut: Mask of kept nodes that lose their operands.

        Returns:
            The kept nodes with the edges among them.
        """
        instead, slot = instead.copy(), slot.copy()
        while True:  # to the one that stays, in as many rounds as the longest way has binary digits
            further = instead[instead]
            moved = further != instead
            if not moved.any():
                break
            slot = np.where(moved, slot[instead], slot)
            instead = further
        number = np.cumsum(keep) - 1
        edges = keep[self.target] if cut is None else (keep & ~cut)[self.target]
        source = self.source[edges]
        uses = keep[self.holder]
        return Rows(
            self.kinds,
            self.size,
            self.graph[keep],
            self.kind[keep],
            number[instead[source]],
            np.where(keep[source], self.slot[edges], slot[source]),
            number[self.target[edges]],
            number[self.holder[uses]],
            self.tensor[uses],
            self.elements,
            self.place[keep],
        )

    def without(self, is_hidden: Callable[[Node], bool]) -> Rows:
        """Splice out some operations: their first operand takes their place; those without operands stay.

        Args:
            is_hidden: Whether an operation goes; the same function every time.

        Returns:
            The other nodes.
        """
        gone = self.of(is_hidden, bool) & (self.operands > 0)
        instead, slot = np.arange(len(self)), np.zeros(len(self), np.int64)
        edge = self.begin[gone]
        instead[gone], slot[gone] = self.source[edge], self.slot[edge]
        return self.kept(~gone, instead, slot)

    def with_kind(self, chosen: NDArray[np.bool_], kind: Callable[[Node], Node]) -> Rows:
        """Make other operations of some nodes, which thereby hold no trained tensors.

        Args:
            chosen: Mask of the nodes that change, shape (N,).
            kind: The operation that one becomes.

        Returns:
            A copy.
        """
        old, back = np.unique(self.kind[chosen], return_inverse=True)
        new = self.kind.copy()
        new[chosen] = np.array(self.kinds.numbers([kind(self.kinds.nodes[k]) for k in old.tolist()]), np.int64)[back]
        uses = ~chosen[self.holder]
        return replace(self, kind=new, holder=self.holder[uses], tensor=self.tensor[uses])


def side_by_side(graphs: Sequence[Columns]) -> Rows:
    """Put graphs side by side.

    Args:
        graphs: Graphs of at least one node each.

    Returns:
        Their columns.

    Raises:
        GraphError: a graph has no nodes.
    """
    if not all(g.nodes for g in graphs):
        raise GraphError("expected graphs with at least one node, got one with none.\n  Capture the network again.")
    kinds = _kinds()
    kind, weights, counts = [], [], []
    for g in graphs:
        kind += kinds.numbers(g.nodes)
        weights += [n.weights for n in g.nodes]
        counts.append(len(g.nodes))
    nodes = np.cumsum([0, *counts[:-1]])
    tables = np.cumsum([0, *(len(g.weights) for g in graphs)])
    edges = np.fromiter(chain.from_iterable(chain.from_iterable(g.edges for g in graphs)), np.int64).reshape(-1, 4)
    shift = np.repeat(nodes, [len(g.edges) for g in graphs])
    source, slot, target = edges[:, 0] + shift, edges[:, 1].copy(), edges[:, 2] + shift
    if (np.diff(target) < 0).any():
        order = np.argsort(target, kind="stable")
        source, slot, target = source[order], slot[order], target[order]
    uses = np.fromiter(map(len, weights), np.int64, len(weights))
    holder = np.repeat(np.arange(len(weights)), uses)
    graph = np.repeat(np.arange(len(graphs)), counts)
    tensor = np.fromiter(chain.from_iterable(weights), np.int64, len(holder)) + tables[graph[holder]]
    elements = np.array([prod(w.shape) for g in graphs for w in g.weights], np.float64)
    number = np.array(kind, np.int64)
    return Rows(
        kinds, len(graphs), graph, number, source, slot, target, holder, tensor, elements, np.arange(len(number))
    )


def _multiplies(node: Node) -> bool:
    return node.op in MULTIPLIES or node.op == SUMS


def _sums(node: Node) -> bool:
    return node.op == SUMS


def _is_output(node: Node) -> bool:
    return node.op == "output"
