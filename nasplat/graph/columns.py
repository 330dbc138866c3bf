"""The columns of a graph and what follows from their structure alone: operands, subsets, tensors in use.

Nodes stand in execution order. An edge is (source node, output slot of the source, target node, operand position of the
target). Weights are a table of their own: nodes name rows of it, so a shared convolution is one weight, used twice.
Costs, the key and the file formats are computed from `Columns`; `nasplat.graph.Graph` puts them together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from math import prod
from typing import Self

from nasplat.errors import GraphError
from nasplat.graph import bounds, ops
from nasplat.graph.program import Program

Shape = tuple[int, ...]
"""Sizes of a tensor's axes."""
Attributes = tuple[tuple[str, object], ...]
"""Sorted (name, value) pairs of an operation."""
Edge = tuple[int, int, int, int]
"""Source node, output slot of the source, target node, operand position of the target."""

BITS = {
    **{f"{kind}{bits}": bits for kind in ("int", "uint", "float", "complex") for bits in (2, 4, 8, 16, 32, 64, 128)},
    **dict.fromkeys(("bool", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"), 8),
    "bfloat16": 16,
}
"""Bits per element by the name of the element type."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of a network."""

    op: str
    """Name from `nasplat.graph.ops`, or `other:<framework name>`."""
    attributes: Attributes = ()
    """Sorted (name, value) pairs: kernel, stride, padding, dilation, groups, bias, …; values are ints, floats, strings
    or tuples of them."""
    shapes: tuple[Shape, ...] = ()
    """Shape of each output."""
    itemsize: int = 4
    """Bytes per element of the first output."""
    weights: tuple[int, ...] = ()
    """Rows of the graph's weight table."""
    path: str = ""
    """Qualified name of the innermost torch module (or ONNX node) it ran in."""
    is_alias: bool = False
    """True when the output lies in the first operand's memory: views and in-place results."""

    @property
    def shape(self) -> Shape:
        """Shape of the first output; () when there is none."""
        return self.shapes[0] if self.shapes else ()

    def get(self, name: str, default: object = None) -> object:
        """Read one attribute.

        Args:
            name: Attribute, such as 'kernel' or 'groups'.
            default: Value for an operation that lacks the attribute.

        Returns:
            The attribute's value: an int, a float, a string or a tuple of them.
        """
        for key, value in self.attributes:
            if key == name:
                return value
        return default


@dataclass(frozen=True)
class Weight:
    """One trained tensor, without its values."""

    name: str
    """Qualified name in the network, such as 'stage2.conv.weight'."""
    shape: Shape
    """Sizes of the tensor's axes."""
    dtype: str = "float32"
    """Name of the element type, as torch spells it."""

    @property
    def bytes(self) -> int:
        """Size in memory; sub-byte types are rounded up to whole bytes."""
        return -(-self.size * BITS.get(self.dtype, 32) // 8)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Columns:
    """Nodes, edges and weights of a directed acyclic graph of operations."""

    nodes: tuple[Node, ...]
    """Operations in execution order."""
    edges: tuple[Edge, ...]
    """(source, output slot, target, operand position), sorted by (target, operand position)."""
    weights: tuple[Weight, ...] = ()
    """Trained tensors; nodes name rows of this table."""
    notes: tuple[str, ...] = ()
    """What the capture had to assume: guessed branches, bounded sizes; unknown operations with module and source
    line."""
    rung: str = "meta"
    """How it was captured: `meta`, `escapes`, `decomposed`, `fake` or `real` run of a module; `onnx`; `published`."""
    program: Program | None = field(default=None, compare=False, repr=False)
    """The calls behind it, for `rebuild`; None until they are asked for, and for graphs not recorded from torch."""
    causes: tuple[str, ...] = ()
    """Why totals are not exact, sorted names of `nasplat.graph.bounds.CAUSES`; unknown operations are a further
    cause."""

    def __post_init__(self) -> None:
        """Refuse edges, weight rows and causes that do not exist."""
        n = len(self.nodes)
        outputs = [len(node.shapes) or 1 for node in self.nodes]
        for source, slot, target, _ in self.edges:
            if not (0 <= source < target < n and 0 <= slot < outputs[source]):
                raise GraphError(
                    f"expected edges from an earlier to a later of {n} nodes, got {source}[{slot}] -> {target}.\n"
                    "  List nodes in execution order."
                )
        if not set(self.causes) <= bounds.CAUSES.keys():
            raise GraphError(
                f"expected causes of bounds among {', '.join(bounds.CAUSES)}, got {self.causes!r}.\n"
                "  Leave out the others."
            )
        used = {*chain.from_iterable([node.weights for node in self.nodes])}
        if not used or (0 <= min(used) and max(used) < len(self.weights)):
            return
        for node in self.nodes:
            if any(not 0 <= w < len(self.weights) for w in node.weights):
                raise GraphError(
                    f"node {node.path!r} names weight {max(node.weights)}, the table has {len(self.weights)}.\n"
                    "  Extend the weight table."
                )

    @property
    def num_nodes(self) -> int:
        """Number of nodes, inputs, outputs and views included."""
        return len(self.nodes)

    @property
    def num_edges(self) -> int:
        """Number of edges; an operand that is read twice counts twice."""
        return len(self.edges)

    @cached_property
    def operands(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each node its operands as (source, output slot), by operand position."""
        found: list[list[tuple[int, int]]] = [[] for _ in self.nodes]
        for source, slot, target, _ in self.edges:
            found[target].append((source, slot))
        return tuple(map(tuple, found))

    def input_shapes(self, node: int) -> list[Shape]:
        """Look up the shapes of a node's operands.

        Args:
            node: Number of the node, counted in execution order from 0.

        Returns:
            One shape per operand, by operand position.

        Example:
            >>> from nasplat.graph import Graph, Node
            >>> graph = Graph((Node("input", shapes=((1, 4),)), Node("relu", shapes=((1, 4),))), ((0, 0, 1, 0),))
            >>> graph.input_shapes(1)
            [(1, 4)]
        """
        nodes = self.nodes
        return [nodes[s].shapes[slot] for s, slot in self.operands[node]]

    @cached_property
    def params(self) -> int:
        """Elements of all trained tensors that take part; a shared tensor counts once."""
        return sum(self.weights[w].size for w in {w for node in self.nodes for w in node.weights})

    @cached_property
    def unknown_ops(self) -> tuple[str, ...]:
        """Sorted framework names of operations outside the vocabulary, without the prefix `other:`."""
        return tuple(sorted({n.op.removeprefix("other:") for n in self.nodes if not ops.is_known(n.op)}))

    def without(self, hidden: Iterable[str]) -> Self:
        """Splice out all nodes of the named operations: their first operand takes their place.

        Args:
            hidden: Names of operations, such as `nasplat.graph.ops.HIDDEN`; nodes without operands stay.

        Returns:
            A copy without these nodes, and without a program.

        Example:
            >>> from nasplat.graph import Graph, Node
            >>> graph = Graph((Node("input", shapes=((1, 4),)), Node("relu", shapes=((1, 4),))), ((0, 0, 1, 0),))
            >>> graph.without(["relu"]).num_nodes
            1
        """
        names = frozenset(hidden)
        keep = [i for i, n in enumerate(self.nodes) if n.op not in names or not self.operands[i]]
        return self.subset(keep)

    def subset(self, keep: list[int], replace: dict[int, tuple[int, int] | None] | None = None) -> Self:
        """Keep some nodes; a dropped node is replaced by its first operand, or as `replace` says.

        Args:
            keep: Numbers of the nodes that stay, sorted.
            replace: For dropped nodes the (node, slot) that stands for them; None removes the operand.

        Returns:
            A copy with the kept nodes, renumbered, and without a program.

        Example:
            >>> from nasplat.graph import Graph, Node
            >>> graph = Graph((Node("input", shapes=((1, 4),)), Node("relu", shapes=((1, 4),))), ((0, 0, 1, 0),))
            >>> graph.subset([0]).num_edges
            0
        """
        replace = replace or {}
        number = {old: new for new, old in enumerate(keep)}

        def resolve(source: int, slot: int) -> tuple[int, int] | None:
            while source not in number:
                target = replace.get(source, self.operands[source][0] if self.operands[source] else None)
                if target is None:
                    return None
                source, slot = target
            return number[source], slot

        edges = []
        for old in keep:
            found = [r for r in (resolve(s, slot) for s, slot in self.operands[old]) if r is not None]
            edges += [(s, slot, number[old], position) for position, (s, slot) in enumerate(found)]
        nodes = tuple(self.nodes[i] for i in keep)
        return type(self)(nodes, tuple(edges), self.weights, self.notes, self.rung, causes=self.causes)
