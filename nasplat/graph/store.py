"""Graphs on disk: one line of JSON, or columns in an npz file. Neither runs code when read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from nasplat.errors import GraphError
from nasplat.graph.graph import Graph, Node, Weight
from nasplat.graph.ops import OPS_VERSION
from nasplat.graph.program import from_plain, to_plain


def _freeze(value: object) -> object:
    return tuple(_freeze(v) for v in value) if isinstance(value, list) else value


def to_json(graph: Graph) -> str:
    """One line of JSON with every column, and the program where there is one."""
    data: dict[str, object] = {
        "nasplat_graph": OPS_VERSION,
        "nodes": [[n.op, n.attributes, n.shapes, n.itemsize, n.weights, n.path, int(n.is_alias)] for n in graph.nodes],
        "edges": graph.edges,
        "weights": [[w.name, w.shape, w.dtype] for w in graph.weights],
        "notes": graph.notes,
        "rung": graph.rung,
    }
    if graph.program is not None:
        data["program"] = to_plain(graph.program)
    return json.dumps(data, separators=(",", ":"))


def from_json(text: str) -> Graph:
    """Read what `to_json` wrote.

    Raises:
        GraphError: not JSON, another format, or another version of the op vocabulary.
    """
    try:
        data = json.loads(text)
        version = data["nasplat_graph"]
        if version != OPS_VERSION:
            raise GraphError(f"expected op vocabulary {OPS_VERSION}, got {version!r}.\n  Capture the network again.")
        columns = [_freeze(row) for row in data["nodes"]]
        nodes = tuple(Node(*row[:-1], bool(row[-1])) for row in columns)  # type: ignore[misc, index]
        weights = tuple(Weight(name, tuple(shape), dtype) for name, shape, dtype in data["weights"])
        program = from_plain(data["program"]) if "program" in data else None
        return Graph(nodes, tuple(map(tuple, data["edges"])), weights, tuple(data["notes"]), data["rung"], program)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError, IndexError) as err:
        if isinstance(err, GraphError):
            raise
        raise GraphError(f"expected the JSON of a graph, got {text[:60]!r} ({err}).\n  Write it with to_json.") from err


def save_npz(graph: Graph, path: str | Path) -> None:
    """Write a graph as compressed columns: edges as int32, everything else as UTF-8 JSON bytes."""
    rest = json.loads(to_json(graph))
    edges = np.asarray(rest.pop("edges"), np.int32).reshape(-1, 4)
    np.savez_compressed(path, edges=edges, columns=np.frombuffer(json.dumps(rest).encode(), np.uint8))


def load_npz(path: str | Path) -> Graph:
    """Read what `save_npz` wrote.

    Raises:
        GraphError: the file is missing, broken, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            rest = json.loads(data["columns"].tobytes().decode())
            rest["edges"] = data["edges"].tolist()
    except (OSError, KeyError, ValueError, EOFError) as err:
        raise GraphError(
            f"expected a graph written by save_npz, got {str(path)!r} ({err}).\n  Check the file."
        ) from err
    return from_json(json.dumps(rest))
