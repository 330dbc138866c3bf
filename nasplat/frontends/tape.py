"""Nodes, edges and notes of one capture, in the order in which they are recorded."""

from __future__ import annotations

from collections.abc import Sequence

from nasplat.errors import CaptureError
from nasplat.graph.columns import Node

MAX_NODES = 100_000
"""A loop over data that never ends stops here."""

Source = tuple[int, int]
"""Index of the node that made a tensor, and which of the node's outputs the tensor is."""


class Tape:
    """What a forward pass has done so far."""

    def __init__(self) -> None:
        """Begin without any node."""
        self.nodes: list[Node] = []
        self.edges: list[tuple[int, int, int, int]] = []
        """(node, its output, reading node, position among what that node reads)."""
        self.notes: dict[str, None] = {}
        """Sentences about what was guessed, each once, in the order of their first occurrence."""
        self.causes: set[str] = set()
        """Why totals are not exact, names of `nasplat.graph.bounds.CAUSES`."""
        self.doubts = 0
        """How often something was told or guessed, repetitions among them."""

    def doubt(self, note: str, cause: str = "") -> None:
        """Remember that something was guessed, or is not known.

        Args:
            note: Sentence to show; the same sentence is shown once.
            cause: Why totals are no exact counts then, a name of `nasplat.graph.bounds.CAUSES`; '' where they are.
        """
        self.notes.setdefault(note)
        if cause:
            self.causes.add(cause)
        self.doubts += 1

    def append(self, node: Node, sources: Sequence[Source]) -> int:
        """Record one operation.

        Args:
            node: The operation as a node.
            sources: Where each of its operands comes from, in order.

        Returns:
            Index of the node.

        Raises:
            CaptureError: there are `MAX_NODES` nodes already.
        """
        if len(self.nodes) >= MAX_NODES:
            raise CaptureError(
                f"expected at most {MAX_NODES} operations, module {node.path!r} runs more.\n"
                "  A loop over data does not end on meta tensors; capture its body alone."
            )
        self.nodes.append(node)
        here = len(self.nodes) - 1
        for position, (source, slot) in enumerate(sources):
            self.edges.append((source, slot, here, position))
        return here
