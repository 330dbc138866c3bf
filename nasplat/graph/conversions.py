"""Graphs as networkx multigraphs and as torch-geometric `Data`, and back without loss (but for the program).

networkx and torch-geometric are imported on the first call: a graph is read and written without them, and
torch-geometric loads torch, which `import nasplat` must not.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

from nasplat.errors import GraphError
from nasplat.graph import ops
from nasplat.graph.checks import checked
from nasplat.graph.columns import Columns, Node, Weight
from nasplat.graph.store import as_tuples

if TYPE_CHECKING:
    from networkx import MultiDiGraph
    from torch_geometric.data import Data

_C = TypeVar("_C", bound=Columns)

X_COLUMNS = ("op", "macs", "params", "elements", "itemsize", "kernel", "stride", "groups", "operands")
"""Columns of `Data.x`: place in `nasplat.graph.ops.OPS` (its length for unknown operations), multiply-accumulates,
elements of the node's weights, elements of the first output, bytes per element, elements of the window, product of the
strides, groups (1 where an operation has none), number of operands."""
_FIELDS = ("op", "attributes", "shapes", "itemsize", "weights", "path", "is_alias")
"""Fields of a node, in the order of its constructor."""
_LISTS = {"weights": "weight_rows"}
"""Names in `Data` that differ from the field's, since `weight_table` holds the tensors themselves."""
_IDS = {name: i for i, name in enumerate(ops.OPS)}


def to_networkx(columns: Columns) -> MultiDiGraph[int]:
    """Convert to a networkx multigraph, see `nasplat.graph.Graph.to_networkx`.

    Args:
        columns: Graph to convert.

    Returns:
        Nodes with the fields of `Node`, edges with `slot` and `operand`, and `weights`, `notes`, `rung`,
        `causes` of the graph.
    """
    from networkx import MultiDiGraph

    about = {"weights": columns.weights, "notes": columns.notes, "rung": columns.rung, "causes": columns.causes}
    found = MultiDiGraph(**about)
    for i, node in enumerate(columns.nodes):
        found.add_node(i, **{name: getattr(node, name) for name in _FIELDS})
    for source, slot, target, position in columns.edges:
        found.add_edge(source, target, slot=slot, operand=position)
    return found


def from_networkx(found: MultiDiGraph, kind: type[_C]) -> _C:
    """Read a networkx multigraph, see `nasplat.graph.Graph.from_networkx`.

    Args:
        found: Nodes in execution order, with the attributes of `to_networkx`.
        kind: Class to make, such as `Graph`.

    Returns:
        The graph, its edges sorted by target and operand position.

    Raises:
        GraphError: an attribute is missing or of the wrong kind, or the nodes are not in execution order.
    """
    try:
        number = {name: i for i, name in enumerate(found.nodes)}
        nodes = tuple(
            Node(**{k: as_tuples(v) for k, v in data.items() if k in _FIELDS}) for _, data in found.nodes(data=True)
        )
        edges = sorted(
            ((number[s], data["slot"], number[t], data["operand"]) for s, t, data in found.edges(data=True)),
            key=lambda edge: (edge[2], edge[3]),
        )
        about = found.graph
        held = (about.get("weights", ()), about.get("notes", ()), about.get("rung", "meta"))
        made = kind(nodes, tuple(edges), *held, causes=tuple(about.get("causes", ())))
        checked(made)
        return made
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise _refused("a networkx multigraph", "to_networkx", err) from err


def to_pyg(columns: Columns, macs: Sequence[int]) -> Data:
    """Convert to a torch-geometric `Data`, see `nasplat.graph.Graph.to_pyg`.

    Args:
        columns: Graph to convert.
        macs: Multiply-accumulates of each node, for `x`.

    Returns:
        Numbers as tensors, names and attributes as lists of one entry per node.
    """
    import torch
    from torch_geometric.data import Data

    edges = torch.tensor(columns.edges, dtype=torch.long).reshape(-1, 4)
    rows = [_row(columns, i, own) for i, own in enumerate(macs)]
    lists: dict[str, Any] = {_LISTS.get(name, name): [getattr(n, name) for n in columns.nodes] for name in _FIELDS}
    return Data(
        x=torch.tensor(rows, dtype=torch.float32).reshape(-1, len(X_COLUMNS)),
        edge_index=edges[:, [0, 2]].t().contiguous(),
        edge_attr=edges[:, [1, 3]].contiguous(),
        **lists,
        weight_table=[(w.name, w.shape, w.dtype) for w in columns.weights],
        notes=list(columns.notes),
        rung=columns.rung,
        causes=list(columns.causes),
    )


def _row(columns: Columns, i: int, macs: int) -> tuple[float, ...]:
    """Compute one row of `Data.x`."""
    node = columns.nodes[i]
    kernel, stride, groups = (node.get(name, 1) for name in ("kernel", "stride", "groups"))
    params = sum(columns.weights[w].size for w in node.weights)
    window = tuple(prod(v) if isinstance(v, tuple) else v for v in (kernel, stride, groups))
    elements = prod(node.shape) if node.shapes else 0
    return (_IDS.get(node.op, len(_IDS)), macs, params, elements, node.itemsize, *window, len(columns.operands[i]))  # type: ignore[return-value]


def from_pyg(data: Data, kind: type[_C]) -> _C:
    """Read a torch-geometric `Data`, see `nasplat.graph.Graph.from_pyg`.

    Args:
        data: One graph with the attributes of `to_pyg`; `x` is not read.
        kind: Class to make, such as `Graph`.

    Returns:
        The graph, its edges in the order of `edge_index`.

    Raises:
        GraphError: an attribute is missing or of the wrong kind, or the nodes are not in execution order.
    """
    held: dict[str, Any] = data.to_dict()
    try:
        fields = (held[_LISTS.get(name, name)] for name in _FIELDS)
        nodes = tuple(Node(*map(as_tuples, row)) for row in zip(*fields, strict=True))
        (sources, targets), ends = held["edge_index"].tolist(), held["edge_attr"].tolist()
        edges = tuple((s, slot, t, place) for s, t, (slot, place) in zip(sources, targets, ends, strict=True))
        weights = tuple(Weight(*map(as_tuples, row)) for row in held["weight_table"])
        made = kind(nodes, edges, weights, tuple(held["notes"]), held["rung"], causes=tuple(held.get("causes", ())))
        checked(made)
        return made
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise _refused("one torch-geometric Data", "to_pyg", err) from err


def _refused(what: str, maker: str, err: Exception) -> GraphError:
    """Say which conversion writes the attributes that were expected."""
    if isinstance(err, GraphError):
        return err
    return GraphError(
        f"expected {what} with the attributes that Graph.{maker} writes ({type(err).__name__}: {err}).\n"
        "  Give nodes and edges these attributes."
    )
