"""`Architecture`: a space and the choices made in it; `AbstractSpace`: what an architecture may ask of its space."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, total_ordering
from typing import Any, Self, TypeVar

from torch import nn

from nasplat.errors import SpaceError
from nasplat.frontends import capture_module
from nasplat.frontends.block import templates
from nasplat.graph import Graph
from nasplat.searchspace.pick import Decide, Option
from nasplat.searchspace.registry import check_same, is_trusting, told_space, trusting
from nasplat.tables.listing import Listing

T = TypeVar("T")
SHOWN = 40
"""Choices that a notebook shows of a space or an architecture at most."""


class AbstractSpace(ABC):
    """What architectures, counts and draws need of a search space; `Space` is the one class that provides it."""

    name: str
    """Name of a shipped space, or path of the user's file."""
    presets: dict[str, Any]
    """Keyword arguments with which the build function is called."""
    known: dict[str, tuple[Option, ...]]
    """Options of every choice met so far, by the name of the choice."""

    @property
    @abstractmethod
    def reference(self) -> str:
        """Name and presets in one string; spaces of equal reference and fingerprint are equal."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the source of the build function, a dot, and a hash of the presets."""

    @property
    @abstractmethod
    def is_shipped(self) -> bool:
        """Whether the space comes with nasplat."""

    @abstractmethod
    def choices(self, decide: Decide) -> dict[str, Option]:
        """Run the build function up to its first module.

        Args:
            decide: Function that answers every choice.

        Returns:
            The choices made, in the order in which they were asked for.
        """

    @abstractmethod
    def remembered(self, what: Hashable, make: Callable[[], T], everywhere: bool = False) -> T:
        """Return a value that belongs to this space, made when it is first asked for.

        Args:
            what: Key of the value, unique among all that is remembered of a space.
            make: Function that makes the value.
            everywhere: True shares the value with equal spaces that are loaded later in this process.

        Returns:
            The value.
        """

    @abstractmethod
    def construct(self, architecture: Architecture, initialised: bool = True) -> tuple[nn.Module, Any]:
        """Build a member.

        Args:
            architecture: Member of this space.
            initialised: Whether parameters get initial values.

        Returns:
            The module and the shape of one input batch.
        """

    @abstractmethod
    def architecture(self, choices: Mapping[str, Option]) -> Architecture:
        """Return the member that has these choices.

        Args:
            choices: The option of every choice that is reached, by its name.

        Returns:
            The member.
        """

    @abstractmethod
    def format(self, architecture: Architecture) -> str:
        """Write a member as the literature does.

        Args:
            architecture: Member of this space.

        Returns:
            One line of text.
        """

    @abstractmethod
    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the representative of all encodings of one network.

        Args:
            architecture: Member of this space.

        Returns:
            The representative, or the member itself where the space knows none.
        """

    @abstractmethod
    def key(self, architecture: Architecture) -> str:
        """Say which network an encoding stands for.

        Args:
            architecture: Member of this space.

        Returns:
            A text that is equal for encodings of one network, as far as the space knows.
        """

    @abstractmethod
    def with_presets(self, **presets: Any) -> Self:
        """Return the same space with other presets.

        Args:
            **presets: Keyword arguments of the build function.

        Returns:
            The space at another size.
        """

    @abstractmethod
    def sample(
        self, seed: int = 0, uniform: str = "choices", limits: Mapping[str, float] | None = None
    ) -> Architecture:
        """Draw a member.

        Args:
            seed: Number that decides the draw.
            uniform: What is equally likely: the options of each 'choices', or all 'architectures'.
            limits: Largest allowed value of each quantity.

        Returns:
            The member.
        """

    @abstractmethod
    def walk(self, decide: Decide) -> Architecture | None:
        """Return the member that a function decides on.

        Args:
            decide: Function that answers every choice.

        Returns:
            The member; None where the space refuses it.
        """

    @abstractmethod
    def mutate(self, architecture: Architecture, seed: int = 0, changes: int = 1) -> Architecture:
        """Draw a neighbour of a member.

        Args:
            architecture: Member of this space.
            seed: Number that decides the draw.
            changes: Number of choices to change at least.

        Returns:
            Another member.
        """

    @abstractmethod
    def crossover(self, first: Architecture, second: Architecture, seed: int = 0) -> Architecture:
        """Draw a child that takes each choice from one of two parents.

        Args:
            first: Member of this space.
            second: Another member of this space.
            seed: Number that decides the draw.

        Returns:
            The child.
        """

    @abstractmethod
    def project(self, choices: Mapping[str, Option], seed: int = 0) -> Architecture:
        """Return the member nearest to some choices.

        Args:
            choices: Options by name, of this space or of another size of it.
            seed: Number that decides the missing choices.

        Returns:
            The member.
        """

    @abstractmethod
    def extreme(self, largest: bool = True) -> Architecture:
        """Return the largest or the smallest member.

        Args:
            largest: Which of the two is meant.

        Returns:
            The member.
        """

    @abstractmethod
    def only(self, architecture: Architecture) -> Self:
        """Return the space whose one member this is.

        Args:
            architecture: Member of this space.

        Returns:
            A space without choices.
        """


@total_ordering
@dataclass(frozen=True, eq=False, repr=False)
class Architecture:
    """One member of a search space; spaces make architectures, nobody writes one by hand.

    Architectures can be compared, ordered and hashed, printed as `space:encoding`, and written as one line of JSON.

    Example:
        >>> import nasplat
        >>> architecture = nasplat.load_space("nasbench201").sample(seed=1)
        >>> architecture == nasplat.Architecture.from_json(architecture.to_json())
        True
        >>> architecture.choices["0->1"]
        'nor_conv_1x1'
    """

    space: AbstractSpace
    """The space with its presets bound."""
    choices: dict[str, Option] = field(hash=False)
    """The choices that were reached, in the order in which they were made."""

    @property
    def defining(self) -> tuple[AbstractSpace, dict[str, Option]]:
        """Space and choices: all that decides which network it is."""
        return self.space, self.choices

    @cached_property
    def identity(self) -> tuple[str, tuple[tuple[str, str], ...], str]:
        """The space's reference, the sorted choices, and the space's fingerprint: equality, order and hash rest on it.

        So an architecture of a space that was edited, or of another space of the same name, is another architecture.
        """
        choices = tuple(sorted((k, json.dumps(v)) for k, v in self.choices.items()))
        return self.space.reference, choices, self.space.fingerprint

    def __eq__(self, other: object) -> bool:
        """Two architectures are equal when their spaces are, and their choices."""
        return isinstance(other, Architecture) and self.identity == other.identity

    def __lt__(self, other: Architecture) -> bool:
        """Architectures are ordered by their spaces' references, then by their choices."""
        return self.identity < other.identity

    def __hash__(self) -> int:
        """Equal architectures have equal hashes."""
        return hash(self.identity)

    def __str__(self) -> str:
        """Name of the space and encoding, as every command takes it."""
        return f"{self.space.name}:{self.space.format(self)}"

    def __repr__(self) -> str:
        """One line with the space, its presets and the encoding."""
        presets = "".join(f", {k}={v!r}" for k, v in self.space.presets.items())
        return f"Architecture({str(self)!r}{presets})"

    def _repr_html_(self) -> str:
        """Table of the choices that notebooks show, the first `SHOWN` of them."""
        rows = [(name, str(value)) for name, value in list(self.choices.items())[:SHOWN]]
        more = len(self.choices) - len(rows)
        title = f"{self.space.name}, {len(self.choices)} choices" + (f", {more} of them not shown" if more else "")
        return Listing(("choice", "option"), rows, title).html()

    def build(self) -> nn.Module:
        """Construct the network.

        Returns:
            A module whose parameters have initial values drawn from torch's global generator.
        """
        return self.space.construct(self)[0]

    def graph(self) -> Graph:
        """Record the computation graph without initialising any weight.

        Returns:
            The graph of one forward pass of a batch of shape `example_input`.
        """
        with templates():
            module, example_input = self.space.construct(self, initialised=False)
        return capture_module(module, example_input, program=False)

    @property
    def example_input(self) -> object:
        """Shape of one input batch, or a tuple of shapes where the network takes several inputs."""
        return self.space.construct(self, initialised=False)[1]

    def canonical(self) -> Architecture:
        """Find the representative of all encodings of this network.

        Returns:
            The representative where the space knows one; otherwise this architecture.
        """
        return self.space.canonical(self)

    @cached_property
    def network_key(self) -> str:
        """Text that is equal for all encodings of this network, as far as the space knows them."""
        return self.space.key(self)

    def to_json(self) -> str:
        """Write the architecture as one line of JSON that `from_json` reads.

        Returns:
            `{"space": …, "presets": {…}, "choices": {…}}` without spaces or line breaks; of a space of your own also
            its `fingerprint`, by which a line is told from one of other code under the same name.
        """
        line = {"space": str(self.space.name), "presets": self.space.presets, "choices": self.choices}
        if not self.space.is_shipped:
            line["fingerprint"] = self.space.fingerprint
        return json.dumps(line, separators=(",", ":"))

    @staticmethod
    def from_json(text: str, space: AbstractSpace | None = None, trust: bool = False) -> Architecture:
        """Read what `to_json` wrote.

        Args:
            text: One line of JSON that names the space, its presets and the choices.
            space: Space to read the choices in; by default it is found by what the line states.
            trust: Whether a Python file that the line names may be run. Without it such a line is read only where its
                space was loaded in this process: a line may come from somebody else.

        Returns:
            The architecture.

        Raises:
            SpaceError: the text is not such JSON, the choices do not belong to the space, or the space has changed
                since the line was written.
            TrustError: the line names a Python file that was not loaded here, and `trust` is False.
            ContentError: there is no space of that name.
        """
        name, presets, choices, fingerprint = _read(text)
        if space is None:
            with trusting(trust or is_trusting()):
                space = told_space(name, presets, fingerprint)
        else:
            check_same(space, name, presets, fingerprint)  # type: ignore[arg-type]
        return space.architecture(choices)  # type: ignore[union-attr]


def _read(text: str) -> tuple[str, dict[str, Any], dict[str, Any], str | None]:
    """Name, presets, choices and fingerprint of a line, each of the right type."""
    expected = 'expected one line {"space": "…", "presets": {…}, "choices": {…}}'
    try:
        data: Any = json.loads(text)
    except (ValueError, TypeError, RecursionError) as err:
        raise SpaceError(f"{expected}, got {str(text)[:60]!r}.\n  Write it with to_json.") from err
    if not isinstance(data, dict):
        raise SpaceError(f"{expected}, got {type(data).__name__}.\n  Write it with to_json.")
    more = sorted(data.keys() - {"space", "presets", "choices", "fingerprint"})
    if more:
        hint = (
            "It is of an edited network: read it with nasplat.read_network."
            if "edits" in more
            else ("Write it with to_json.")
        )
        raise SpaceError(f"{expected}, got {', '.join(more)} beside them in {str(text)[:60]!r}.\n  {hint}")
    name: Any = data.get("space")
    presets: Any = data.get("presets", {})
    choices: Any = data.get("choices")
    fingerprint: Any = data.get("fingerprint")
    kinds = (("space", name, str), ("presets", presets, dict), ("choices", choices, dict))
    for field_name, value, kind in kinds if fingerprint is None else (*kinds, ("fingerprint", fingerprint, str)):
        if not isinstance(value, kind):
            raise SpaceError(
                f"{expected}, got {value!r:.60} as {field_name} of {str(text)[:60]!r}.\n  Write it with to_json."
            )
    for choice, option in choices.items():
        if not isinstance(option, str | int | float):
            raise SpaceError(
                f"{expected}, whose choices are texts, numbers or truth values, got {option!r:.60} for {choice!r}.\n"
                "  Write it with to_json."
            )
    return name, presets, choices, fingerprint
