"""`Graph`: the immutable record of what a network computes, with its costs, its key, its files and its conversions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nasplat.graph import conversions, ops, store, summary
from nasplat.graph.columns import Columns
from nasplat.graph.cost import Cost, node_macs, total_cost
from nasplat.graph.folding import fold_dead_code
from nasplat.graph.key import canonical_key


@dataclass(frozen=True, repr=False)
class Graph(Columns):
    """A directed acyclic graph of operations; equal computations have equal `key`s.

    `nasplat.capture` makes one from a module, an ONNX file or an architecture. The columns (`nodes`, `edges`,
    `weights`, `notes`, `rung`, `program`, `causes`) are described in `nasplat.graph.columns`.

    Example:
        >>> from nasplat.graph import Graph, Node
        >>> graph = Graph((Node("input", shapes=((1, 4),)), Node("relu", shapes=((1, 4),))), ((0, 0, 1, 0),))
        >>> graph.num_nodes, graph.macs, graph.params
        (2, 0, 0)
    """

    again: Callable[[], Graph] | None = field(default=None, compare=False, repr=False)
    """Captures the same module once more, with its program; holds the module."""

    def __repr__(self) -> str:
        """Say the graph's size in one line; `≥`, `≤` and `≈` mark totals that are no exact counts."""
        return summary.line(self, self.macs, self.key)

    def _repr_html_(self) -> str:
        """Show totals and the costliest operations as a table in a notebook."""
        return summary.table(self, self.node_macs, self.key)

    @cached_property
    def cost(self) -> Cost:
        """All counted quantities of one forward pass at once."""
        return total_cost(self)

    @cached_property
    def node_macs(self) -> tuple[int, ...]:
        """Multiply-accumulates of each node."""
        return tuple(node_macs(node, self.input_shapes(i)) for i, node in enumerate(self.nodes))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass (1 MAC = 2 FLOP); `cost.bound` says whether they are exact."""
        return sum(self.node_macs)

    @property
    def activation_bytes(self) -> int:
        """Largest number of bytes of activations alive at once in the recorded order, weights excluded."""
        return self.cost.activation_bytes

    @cached_property
    def key(self) -> str:
        """Canonical hash (64 hex digits) of the computation, see `nasplat.graph.key`."""
        return canonical_key(self.folded)

    @cached_property
    def folded(self) -> Graph:
        """The same computation without dead code, without copies and without additions of zeros."""
        return fold_dead_code(self)

    @cached_property
    def bare(self) -> Graph:
        """The folded graph without views, copies and batch normalisation: what predictors and statistics describe."""
        return self.folded.without((*ops.HIDDEN, "batchnorm"))

    def to_json(self) -> str:
        """Write every column, and the program where there is one.

        Returns:
            One line of JSON; `Graph.from_json` reads it back.
        """
        return store.to_json(self)

    @staticmethod
    def from_json(text: str) -> Graph:
        """Read what `to_json` wrote.

        Args:
            text: One line of JSON.

        Returns:
            A graph equal to the one written, with the same key.

        Raises:
            GraphError: the text is not such JSON.

        Example:
            >>> from nasplat.graph import Graph, Node
            >>> graph = Graph((Node("input", shapes=((1, 4),)), Node("relu", shapes=((1, 4),))), ((0, 0, 1, 0),))
            >>> Graph.from_json(graph.to_json()) == graph
            True
        """
        return store.from_json(text, Graph)

    def to_npz(self, path: str | Path) -> None:
        """Write a compressed npz file, about a tenth of the JSON's size.

        Args:
            path: File to write; numpy appends '.npz' where the name lacks it.
        """
        store.save_npz(self, path)

    @staticmethod
    def from_npz(path: str | Path) -> Graph:
        """Read what `to_npz` wrote; nothing in the file is executed.

        Args:
            path: File to read.

        Returns:
            A graph equal to the one written, with the same key.

        Raises:
            GraphError: the file is missing, broken, or holds something else.
        """
        return store.load_npz(path, Graph)

    def to_networkx(self) -> conversions.MultiDiGraph[int]:
        """Convert to networkx, for its algorithms and drawings.

        Returns:
            A multigraph whose nodes 0 … N-1 stand in execution order and carry the fields of `Node` (`op`,
            `attributes`, `shapes`, `itemsize`, `weights`, `path`, `is_alias`); its edges carry `slot` and `operand`;
            `weights`, `notes`, `rung` and `causes` are graph attributes. The program is not carried.

        Example:
            >>> from nasplat.graph import Graph, Node
            >>> graph = Graph((Node("input", shapes=((1, 4),)), Node("relu", shapes=((1, 4),))), ((0, 0, 1, 0),))
            >>> graph.to_networkx().nodes[1]["op"]
            'relu'
        """
        return conversions.to_networkx(self)

    @staticmethod
    def from_networkx(found: conversions.MultiDiGraph) -> Graph:
        """Read a networkx graph that carries the attributes `to_networkx` writes.

        Args:
            found: Multigraph whose nodes were added in execution order; missing node attributes but `op` take `Node`'s
                defaults.

        Returns:
            A graph without a program; after `to_networkx` it equals the original and has the same key.

        Raises:
            GraphError: an attribute is missing or of the wrong kind, or the nodes are not in execution order.

        Example:
            >>> import networkx
            >>> from nasplat.graph import Graph
            >>> net = networkx.MultiDiGraph()
            >>> net.add_node("x", op="input", shapes=((1, 4),))
            >>> net.add_node("y", op="relu", shapes=((1, 4),))
            >>> _ = net.add_edge("x", "y", slot=0, operand=0)
            >>> Graph.from_networkx(net).operands
            ((), ((0, 0),))
        """
        return conversions.from_networkx(found, Graph)

    def to_pyg(self) -> conversions.Data:
        """Convert to torch-geometric, to train a graph network of one's own on it.

        Returns:
            A `Data` of N nodes and M edges: `x`, float32 of shape (N, 9), the columns that
            `nasplat.graph.conversions.X_COLUMNS` names; `edge_index`, int64 of shape (2, M), source and target;
            `edge_attr`, int64 of shape (M, 2), output slot and operand position; then lists of one entry per node
            (`op`, `attributes`, `shapes`, `itemsize`, `weight_rows`, `path`, `is_alias`), the table `weight_table` of
            (name, shape, dtype), `notes`, `rung` and `causes`. The program is not carried.

        Example:
            >>> from nasplat.graph import Graph, Node
            >>> graph = Graph((Node("input", shapes=((1, 4),)), Node("relu", shapes=((1, 4),))), ((0, 0, 1, 0),))
            >>> data = graph.to_pyg()
            >>> data.x.shape, data.edge_index.tolist(), data.op
            (torch.Size([2, 9]), [[0], [1]], ['input', 'relu'])
        """
        return conversions.to_pyg(self, self.node_macs)

    @staticmethod
    def from_pyg(data: conversions.Data) -> Graph:
        """Read a torch-geometric `Data` that carries the attributes `to_pyg` writes.

        Args:
            data: One graph, not a batch; `x` is not read, for it follows from the rest.

        Returns:
            A graph without a program; after `to_pyg` it equals the original and has the same key.

        Raises:
            GraphError: an attribute is missing or of the wrong kind, or the nodes are not in execution order.

        Example:
            >>> from nasplat.graph import Graph, Node
            >>> graph = Graph((Node("input", shapes=((1, 4),)), Node("relu", shapes=((1, 4),))), ((0, 0, 1, 0),))
            >>> data = graph.to_pyg()
            >>> data.op[1] = "gelu"
            >>> Graph.from_pyg(data).nodes[1].op
            'gelu'
        """
        return conversions.from_pyg(data, Graph)
