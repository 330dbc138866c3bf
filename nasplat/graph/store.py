"""Graphs on disk: one line of JSON, or columns in an npz file. Neither runs code when read."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from nasplat.errors import GraphError
from nasplat.graph.checks import checked
from nasplat.graph.columns import Columns, Node, Weight
from nasplat.graph.ops import OPS_VERSION
from nasplat.graph.program import from_plain, to_plain

_C = TypeVar("_C", bound=Columns)


def as_tuples(value: Any) -> Any:
    """Turn nested lists, as JSON and copies of `Data` hold them, into the tuples that graphs hold.

    Args:
        value: Value that JSON gave, lists nested to any depth.

    Returns:
        Nested tuples for nested lists and tuples; any other value unchanged.

    Example:
        >>> as_tuples([["kernel", [3, 3]], ["bias", 0]])
        (('kernel', (3, 3)), ('bias', 0))
    """
    return tuple(as_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def to_json(graph: Columns) -> str:
    """Write every column, and the program where there is one.

    Args:
        graph: Graph to write.

    Returns:
        One line of JSON.
    """
    data: dict[str, object] = {
        "nasplat_graph": OPS_VERSION,
        "nodes": [[n.op, n.attributes, n.shapes, n.itemsize, n.weights, n.path, int(n.is_alias)] for n in graph.nodes],
        "edges": graph.edges,
        "weights": [[w.name, w.shape, w.dtype] for w in graph.weights],
        "notes": graph.notes,
        "rung": graph.rung,
    }
    if graph.causes:
        data["causes"] = graph.causes
    if graph.program is not None:
        data["program"] = to_plain(graph.program)
    return json.dumps(data, separators=(",", ":"))


def from_json(text: str, kind: type[_C]) -> _C:
    """Read what `to_json` wrote.

    Args:
        text: One line of JSON.
        kind: Class to make, such as `Graph`.

    Returns:
        The graph that was written, with its program where it had one.

    Raises:
        GraphError: not JSON, another format, another version of the op vocabulary, or a part of the wrong type.
    """
    try:
        data = json.loads(text)
        version = data["nasplat_graph"]
        if version != OPS_VERSION or isinstance(version, bool | float):
            raise GraphError(f"expected op vocabulary {OPS_VERSION}, got {version!r}.\n  Capture the network again.")
        columns = [as_tuples(row) for row in data["nodes"]]
        nodes = tuple(Node(*row[:-1], bool(row[-1])) for row in columns)  # type: ignore[call-issue]
        weights = tuple(Weight(name, as_tuples(shape), dtype) for name, shape, dtype in data["weights"])
        program = from_plain(data["program"]) if "program" in data else None
        edges, notes, causes = map(as_tuples, (data["edges"], data["notes"], data.get("causes", ())))
        found = kind(nodes, edges, weights, notes, data["rung"], program, causes)
        checked(found)
        return found
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as err:
        if isinstance(err, GraphError):
            raise
        reason = f"{type(err).__name__}: {err}"
        raise GraphError(
            f"expected the JSON of a graph, got {text[:60]!r} ({reason}).\n  Write it with to_json."
        ) from err


def save_npz(graph: Columns, path: str | Path) -> None:
    """Write a graph as compressed columns: edges as int32, everything else as UTF-8 JSON bytes.

    Args:
        graph: Graph to write.
        path: File to write; numpy appends '.npz' where the name lacks it.
    """
    rest = json.loads(to_json(graph))
    edges = np.asarray(rest.pop("edges"), np.int32).reshape(-1, 4)
    np.savez_compressed(path, edges=edges, columns=np.frombuffer(json.dumps(rest).encode(), np.uint8))


def load_npz(path: str | Path, kind: type[_C]) -> _C:
    """Read what `save_npz` wrote.

    Args:
        path: File to read.
        kind: Class to make, such as `Graph`.

    Returns:
        The graph that was written.

    Raises:
        GraphError: the file is missing, broken, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            rest = json.loads(data["columns"].tobytes().decode())
            rest["edges"] = data["edges"].tolist()
    except (OSError, KeyError, TypeError, ValueError, EOFError, RecursionError, BadZipFile, zlib.error) as err:
        raise GraphError(
            f"expected a graph written by save_npz, got {str(path)!r} ({err}).\n  Check the file."
        ) from err
    return from_json(json.dumps(rest), kind)
