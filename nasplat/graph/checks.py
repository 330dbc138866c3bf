"""Columns that came from outside, such as from JSON, are of the right types; what is not is refused by its place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nasplat.errors import GraphError
from nasplat.graph.columns import Columns, Node

LARGEST = 2**63 - 1
"""Largest size of an axis, which an int64 holds."""
COUNTS = ("groups", "channels_per_group", "in_features", "inner", "keys", "width", "macs", "points", "n")
"""Attributes that costs are counted with, which are whole numbers."""
WINDOWS = ("kernel", "stride", "dilation")
"""Attributes that are one whole number per axis."""


def checked(columns: Columns) -> None:
    """Check the types and ranges of everything that costs, keys and features are computed from.

    Args:
        columns: Graph whose parts may be of any type.

    Raises:
        GraphError: there are no nodes, or a part is of another type or outside its range; the message names it.
    """
    if not columns.nodes:
        raise GraphError("expected a graph of at least one node, got none.\n  Capture a network.")
    for number, weight in enumerate(columns.weights):
        where = f"weight {number}"
        _expect(isinstance(weight.name, str), where, "a name", weight.name)
        _expect(isinstance(weight.dtype, str), where, "the name of an element type", weight.dtype)
        _sizes(weight.shape, where)
    for number, node in enumerate(columns.nodes):
        _check_node(node, f"node {number}")
    for edge in columns.edges:
        _expect(len(edge) == 4 and all(map(_is_whole, edge)), f"edge {edge!r:.60}", "four whole numbers", edge)
        _expect(bool(columns.nodes[edge[0]].shapes), f"edge {edge}", "a node with an output", f"node {edge[0]}")
    places = [(target, position) for _, _, target, position in columns.edges]
    _expect(len(set(places)) == len(places), "the edges", "one edge per operand of a node", "two for one operand")
    _expect(places == sorted(places), "the edges", "the order of targets and operands", "another order")
    _expect(all(isinstance(n, str) for n in columns.notes), "notes", "texts", columns.notes)
    _expect(isinstance(columns.rung, str), "rung", "a text", columns.rung)


def _check_node(node: Node, where: str) -> None:
    _expect(isinstance(node.op, str) and node.op != "", where, "the name of an operation", node.op)
    where = f"{where} ({node.op})"
    _expect(isinstance(node.path, str), where, "a path", node.path)
    _expect(isinstance(node.shapes, tuple) and bool(node.shapes), where, "one shape per output", node.shapes)
    for shape in node.shapes:
        _sizes(shape, where)
    _expect(_is_whole(node.itemsize) and node.itemsize >= 0, where, "bytes per element", node.itemsize)
    rows = node.weights
    _expect(isinstance(rows, tuple) and all(map(_is_whole, rows)), where, "rows of the table of weights", rows)
    for pair in _tuple(node.attributes, where, "attributes as pairs of name and value"):
        _expect(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str), where, "a pair", pair)
        name, value = pair
        if name in COUNTS:
            _expect(_is_whole(value) and 0 <= value <= LARGEST, where, f"{name} as a whole number", value)
        elif name in WINDOWS:
            _sizes(value, where, name)
        else:
            _expect(_is_plain(value), where, f"{name} as numbers and texts", value)


def _sizes(value: Any, where: str, what: str = "a shape") -> None:
    fits = isinstance(value, tuple) and all(_is_whole(v) and 0 <= v <= LARGEST for v in value)
    _expect(fits, where, f"{what} of whole numbers that are not negative", value)


def _tuple(value: Any, where: str, what: str) -> Iterable[Any]:
    _expect(isinstance(value, tuple), where, what, value)
    return value


def _is_whole(value: Any) -> bool:
    """Whether a value is a whole number; a truth value and 8.0 are none."""
    return type(value) is int


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, tuple) else isinstance(value, str | int | float | None)


def _expect(holds: bool, where: str, wanted: str, got: Any) -> None:
    if not holds:
        raise GraphError(f"{where} of a graph: expected {wanted}, got {got!r:.60}.\n  Write it with to_json.")
