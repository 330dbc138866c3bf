"""`Architecture`: a space and the choices made in it. Hashable, orderable, one line of JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property, total_ordering
from typing import TYPE_CHECKING

from nasplat.errors import SpaceError
from nasplat.searchspace.pick import Option

if TYPE_CHECKING:
    from torch import nn

    from nasplat.graph import Graph
    from nasplat.searchspace.space import Space


@total_ordering
@dataclass(frozen=True, eq=False)
class Architecture:
    """One member of a search space; made by the space, never by hand."""

    space: Space
    """The space, presets bound."""
    choices: dict[str, Option] = field(hash=False)
    """The choices that were reached, in the order they were made."""

    @cached_property
    def identity(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What equality, order and hash rest on: the space's reference and the sorted choices."""
        return self.space.reference, tuple(sorted((k, json.dumps(v)) for k, v in self.choices.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self.identity == other.identity

    def __lt__(self, other: Architecture) -> bool:
        return self.identity < other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def __str__(self) -> str:
        return f"{self.space.name}:{self.space.format(self)}"

    def build(self) -> nn.Module:
        """The network, with its own initial values from torch's global generator."""
        return self.space.construct(self)[0]

    def graph(self) -> Graph:
        """The computation graph, recorded without weights."""
        from nasplat.frontends import capture_module
        from nasplat.frontends.block import templates

        with templates():
            module, example_input = self.space.construct(self, initialised=False)
        return capture_module(module, example_input, program=False)

    @property
    def example_input(self) -> object:
        """Shape of one input batch (or a tuple of shapes)."""
        return self.space.construct(self, initialised=False)[1]

    def canonical(self) -> Architecture:
        """The representative of all encodings of this network, where the space knows it; else itself."""
        return self.space.canonical(self)

    @cached_property
    def network_key(self) -> str:
        """Equal for all encodings of this network, as far as the space knows them."""
        hook = self.space.hooks.get("key")
        return str(self.canonical()) if hook is None else hook(self.choices)

    def to_json(self) -> str:
        """One line: `{"space": …, "presets": {…}, "choices": {…}}`."""
        line = {"space": self.space.name, "presets": self.space.presets, "choices": self.choices}
        return json.dumps(line, separators=(",", ":"))

    @staticmethod
    def from_json(text: str, space: Space | None = None) -> Architecture:
        """Read what `to_json` wrote; the space is loaded by its name or path unless given.

        Raises:
            SpaceError: not such JSON, or choices that do not belong to the space.
            ContentError: there is no such space.
        """
        from nasplat.searchspace.registry import load_space

        try:
            data = json.loads(text)
            name, presets, choices = data["space"], data.get("presets", {}), data["choices"]
        except (json.JSONDecodeError, KeyError, TypeError) as err:
            raise SpaceError(
                f'expected one line {{"space": …, "choices": {{…}}}}, got {text[:60]!r}.\n  Write it with to_json.'
            ) from err
        return (space or load_space(name, **presets)).architecture(choices)
