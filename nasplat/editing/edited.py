"""`Edited`: a member of a space after edits, told by one line: that of the member with the edits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import nn

from nasplat.editing.edit import Edit
from nasplat.editing.edits import edit_from_dict, edit_to_dict
from nasplat.editing.network import Network
from nasplat.errors import EditError
from nasplat.graph import Graph

EDITS = "edits"
"""Name under which a line holds the edits."""


class _Member(Protocol):
    """What is edited, as an architecture is."""

    @property
    def space(self) -> Any: ...

    @property
    def example_input(self) -> Any: ...

    def build(self) -> nn.Module: ...

    def to_json(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Edited:
    """A network of a space that was edited; it is built, captured and written down as an architecture is."""

    member: _Member
    """Architecture before the edits."""
    edits: tuple[Edit, ...]
    """Edits in the order in which they are made."""

    @property
    def space(self) -> Any:
        """Space of the member, of which the network itself is none."""
        return self.member.space

    @property
    def example_input(self) -> Any:
        """Shape of one input batch."""
        return self.member.example_input

    def network(self) -> Network:
        """Build the member with initial values of torch's global generator, and edit it.

        Returns:
            The edited network with its history.

        Raises:
            EditError: an edit does not fit the network.
        """
        network = Network.of(self.member.build(), self.example_input)
        for edit in self.edits:
            network = edit(network)
        return network

    def build(self) -> nn.Module:
        """Construct the network.

        Returns:
            A module whose weights are initial values that the edits have cut, doubled or factored.

        Raises:
            EditError: an edit does not fit the network.
        """
        return self.network().module()

    def graph(self) -> Graph:
        """Record the computation graph; torch's global generator stays as it is.

        Returns:
            The graph of one forward pass.

        Raises:
            EditError: an edit does not fit the network.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.network().graph

    def canonical(self) -> Edited:
        """Find the representative of all encodings of this network: nothing is known of others, so it is itself.

        Returns:
            This network.
        """
        return self

    @property
    def network_key(self) -> str:
        """Text that tells the network apart: its line."""
        return self.to_json()

    def to_json(self) -> str:
        """Write the network as one line of JSON.

        Returns:
            The line of the member with its edits under 'edits'; `nasplat.read_network` reads it.
        """
        line = json.loads(self.member.to_json()) | {EDITS: [edit_to_dict(e) for e in self.edits]}
        return json.dumps(line, separators=(",", ":"))

    @cached_property
    def _line(self) -> str:
        return self.to_json()

    def __eq__(self, other: object) -> bool:
        """Two are equal when their lines are."""
        return isinstance(other, Edited) and self._line == other._line

    def __hash__(self) -> int:
        """Equal ones have equal hashes."""
        return hash(self._line)

    def __str__(self) -> str:
        """Name of the member and the kinds of the edits."""
        return f"{self.member} edited ({', '.join(e.kind for e in self.edits)})"


def read_edits(plain: Any) -> tuple[Edit, ...]:
    """Read the edits of a line.

    Args:
        plain: List of edits as `edit_to_dict` writes them.

    Returns:
        The edits in their order.

    Raises:
        EditError: it is no such list, or an edit is none.
    """
    if not isinstance(plain, Sequence) or isinstance(plain, str) or not all(isinstance(e, Mapping) for e in plain):
        raise EditError(f"expected a list of edits, got {plain!r:.80}.\n  Write it with to_json.")
    return tuple(edit_from_dict(e) for e in plain)
