"""`Graph`: the immutable record of what a network computes.

Nodes stand in execution order. An edge is (source node, output slot of the source, target node, operand position of the
target). Weights are a table of their own: nodes name rows of it, so a shared convolution is one weight, used twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from nasplat.errors import GraphError
from nasplat.graph import ops
from nasplat.graph.program import Program

Shape = tuple[int, ...]
Attributes = tuple[tuple[str, object], ...]

BITS = {
    **{f"{kind}{bits}": bits for kind in ("int", "uint", "float", "complex") for bits in (2, 4, 8, 16, 32, 64, 128)},
    **dict.fromkeys(("bool", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"), 8),
    "bfloat16": 16,
}
"""Bits per element of a type."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operation."""

    op: str
    """Name from `nasplat.graph.ops`, or `other:<framework name>`."""
    attributes: Attributes = ()
    """Sorted (name, value) pairs: kernel, stride, padding, dilation, groups, bias, …; values are ints, floats, strings or
    tuples of them."""
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
        """Value of an attribute, or the default."""
        for key, value in self.attributes:
            if key == name:
                return value
        return default


@dataclass(frozen=True)
class Weight:
    """One trained tensor."""

    name: str
    shape: Shape
    dtype: str = "float32"
    """Name of the element type, as torch spells it."""

    @property
    def bytes(self) -> int:
        """Size in memory; sub-byte types rounded up."""
        return -(-self.size * BITS.get(self.dtype, 32) // 8)

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for s in self.shape:
            n *= s
        return n


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph of operations; equal computations have equal `key`s."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int, int, int], ...]
    """(source, output slot, target, operand position), sorted by (target, operand position)."""
    weights: tuple[Weight, ...] = ()
    notes: tuple[str, ...] = ()
    """What the capture had to assume: guessed branches, bounded sizes; unknown operations with module and source line."""
    rung: str = "meta"
    """How it was captured: `meta`, `escapes`, `decomposed`, `fake` or `real` run of a module; `onnx`; `published`."""
    program: Program | None = field(default=None, compare=False, repr=False)
    """The calls behind it, for `rebuild`; None until they are asked for, and for graphs not recorded from torch."""
    again: Callable[[], Graph] | None = field(default=None, compare=False, repr=False)
    """Captures the same module once more, with its program; holds the module."""

    def __post_init__(self) -> None:
        """Check that columns agree."""
        n = len(self.nodes)
        for source, slot, target, _ in self.edges:
            if not (0 <= source < target < n and 0 <= slot < max(1, len(self.nodes[source].shapes))):
                raise GraphError(
                    f"expected edges from an earlier to a later of {n} nodes, got {source}[{slot}] -> {target}.\n"
                    "  List nodes in execution order."
                )
        for node in self.nodes:
            if any(not 0 <= w < len(self.weights) for w in node.weights):
                raise GraphError(
                    f"node {node.path!r} names weight {max(node.weights)}, the table has {len(self.weights)}.\n"
                    "  Extend the weight table."
                )

    def __repr__(self) -> str:
        at_least = ">=" if self.unknown_ops else ""
        return (
            f"Graph({self.num_nodes} nodes, {self.num_edges} edges, {at_least}{self.macs / 1e6:.2f} M MACs, "
            f"{self.params / 1e6:.3f} M parameters, key {self.key[:12]})"
        )

    @property
    def num_nodes(self) -> int:
        """Number of nodes, inputs, outputs and views included."""
        return len(self.nodes)

    @property
    def num_edges(self) -> int:
        """Number of edges, operand multiplicity included."""
        return len(self.edges)

    @cached_property
    def operands(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each node its operands as (source, output slot), by operand position."""
        found: list[list[tuple[int, int]]] = [[] for _ in self.nodes]
        for source, slot, target, _ in self.edges:
            found[target].append((source, slot))
        return tuple(map(tuple, found))

    def input_shapes(self, node: int) -> list[Shape]:
        """Shapes of a node's operands."""
        nodes = self.nodes
        return [nodes[s].shapes[slot] for s, slot in self.operands[node]]

    @cached_property
    def cost(self) -> Cost:
        """All counted quantities at once."""
        from nasplat.graph.cost import count

        return count(self)

    @cached_property
    def node_macs(self) -> tuple[int, ...]:
        """Multiply-accumulates of each node."""
        from nasplat.graph.cost import node_macs

        return tuple(node_macs(node, self.input_shapes(i)) for i, node in enumerate(self.nodes))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass (1 MAC = 2 FLOP); a lower bound if `unknown_ops`."""
        return sum(self.node_macs)

    @cached_property
    def params(self) -> int:
        """Elements of all trained tensors that take part; shared ones once."""
        return sum(self.weights[w].size for w in {w for node in self.nodes for w in node.weights})

    @property
    def activation_bytes(self) -> int:
        """Largest number of bytes of activations alive at once in the recorded order, weights excluded."""
        return self.cost.activation_bytes

    @cached_property
    def unknown_ops(self) -> tuple[str, ...]:
        """Sorted names of ops outside the vocabulary, without the prefix."""
        return tuple(sorted({n.op.removeprefix("other:") for n in self.nodes if not ops.is_known(n.op)}))

    @cached_property
    def key(self) -> str:
        """Canonical hash (64 hex digits) of the computation, see `nasplat.graph.key`."""
        from nasplat.graph.key import canonical_key

        return canonical_key(self)

    @cached_property
    def folded(self) -> Graph:
        """The same computation without dead code and without additions of zeros."""
        from nasplat.graph.key import fold

        return fold(self)

    @cached_property
    def bare(self) -> Graph:
        """The folded graph without views, copies and batch normalisation: what most predictors and statistics describe."""
        return self.folded.without((*ops.HIDDEN, "batchnorm"))

    def without(self, hidden: Iterable[str]) -> Graph:
        """A copy in which nodes of the named ops are spliced out: their first operand takes their place."""
        names = frozenset(hidden)
        keep = [i for i, n in enumerate(self.nodes) if n.op not in names or not self.operands[i]]
        return self.subset(keep)

    def subset(self, keep: list[int], replace: dict[int, tuple[int, int] | None] | None = None) -> Graph:
        """A copy with the kept nodes; a dropped node is replaced by its first operand, or as `replace` says.

        Args:
            keep: Sorted node numbers.
            replace: (node, slot) that stands for a dropped node; None removes the operand.
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
        return Graph(tuple(self.nodes[i] for i in keep), tuple(edges), self.weights, self.notes, self.rung)

    def to_json(self) -> str:
        """One line of JSON; `Graph.from_json` reads it back."""
        from nasplat.graph import store

        return store.to_json(self)

    @staticmethod
    def from_json(text: str) -> Graph:
        """Read what `to_json` wrote.

        Raises:
            GraphError: the text is not such JSON.
        """
        from nasplat.graph import store

        return store.from_json(text)


@dataclass(frozen=True)
class Cost:
    """What one forward pass costs, by closed formulas per op."""

    macs: int
    """Multiply-accumulates."""
    params: int
    """Elements of trained tensors in use."""
    activation_bytes: int
    """Peak bytes of live activations, weights excluded."""
    is_lower_bound: bool
    """True when an op outside the vocabulary took part."""
    other_flops: int = 0
    """Floating-point operations outside matrix products: normalisation, activations, pooling, interpolation, transforms."""
    weight_bytes: tuple[tuple[str, int], ...] = ()
    """(dtype, bytes) of the trained tensors in use, sorted by dtype."""
