"""What a space's file may add to its build function: how the literature writes architectures, and what it counts."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nasplat.errors import NasplatError, SpaceError
from nasplat.searchspace.architecture import Architecture
from nasplat.searchspace.defined import AbstractDefinedSpace

F = TypeVar("F", bound=Callable[..., Any])


class AbstractEncodedSpace(AbstractDefinedSpace):
    """The part of a space that knows encodings of the literature; its decorators mark the functions of a space's file.

    Example:
        >>> import nasplat
        >>> from torch import nn
        >>> @nasplat.space(example_input=(1, 4))
        ... def layer(pick):
        ...     return nn.Linear(4, pick("width", (4, 8)))
        >>> @layer.formatter
        ... def write(choices):
        ...     return f"width {choices['width']}"
        >>> @layer.parser
        ... def read(text):
        ...     return {"width": int(text.split()[1])}
        >>> str(layer.parse("width 8"))
        'layer:width 8'
    """

    hooks: dict[str, Callable[..., Any]]
    """What the space's file adds, by what it is for."""
    row_readers: dict[tuple[str, ...], Callable[[Mapping[str, str]], str]]
    """Functions from a table's row to an encoding, by the columns that together hold it."""

    def parser(self, function: F) -> F:
        """Decorate a function that reads the literature's encoding of an architecture.

        Args:
            function: Takes a text, and those presets that it names as parameters; returns the choices.

        Returns:
            The function, which `parse` calls from now on.
        """
        return self._hook("parse", function)

    def json_parser(self, function: F) -> F:
        """Decorate a function that reads the literature's encoding where that is JSON.

        Args:
            function: Takes a text and all presets; returns the choices, or None where the JSON is of something else.

        Returns:
            The function, which `parse` calls from now on.
        """
        return self._hook("parse_json", function)

    def formatter(self, function: F) -> F:
        """Decorate a function that writes the literature's encoding.

        Args:
            function: Takes the choices of a member; returns one line of text.

        Returns:
            The function, which `format` calls from now on.
        """
        return self._hook("format", function)

    def row_reader(self, *columns: str) -> Callable[[F], F]:
        """Decorate a function that reads an architecture from several columns of a table; a space may have several.

        Args:
            *columns: Names of the columns that together hold an architecture.

        Returns:
            Decorator of a function that takes a row, column by column, and returns a text that `parse` reads.
        """

        def add(function: F) -> F:
            self.row_readers[columns] = function
            return function

        return add

    def canonicaliser(self, function: F) -> F:
        """Decorate a function that picks one of the encodings of a network to represent them all.

        Args:
            function: Takes the choices of a member; returns those of the representative.

        Returns:
            The function, which `canonical` calls from now on.
        """
        return self._hook("canonical", function)

    def network_key(self, function: F) -> F:
        """Decorate a function that says which network an encoding stands for.

        Args:
            function: Takes the choices of a member; returns a text that is equal for encodings of one network.

        Returns:
            The function, which `key` calls from now on instead of looking at the representative.
        """
        return self._hook("key", function)

    def network_count(self, function: F) -> F:
        """Decorate a function that knows the number of distinct networks.

        Args:
            function: Takes nothing; returns the number.

        Returns:
            The function, which `count` calls from now on.
        """
        return self._hook("networks", function)

    def encoding_count(self, function: F) -> F:
        """Decorate a formula for the number of encodings.

        Args:
            function: Takes those presets that it names as parameters; returns the number.

        Returns:
            The function, which `count` calls from now on.
        """
        return self._hook("encodings", function)

    def _hook(self, what: str, function: F) -> F:
        """Keep a function that the space's file adds."""
        self.hooks[what] = function
        return function

    def _presented(self, hook: str, *arguments: Any) -> Any:
        """Call a hook with those presets that it names as parameters."""
        function = self.hooks[hook]
        return function(
            *arguments, **{k: v for k, v in self.presets.items() if k in inspect.signature(function).parameters}
        )

    def parse(self, text: str) -> Architecture:
        """Read an architecture from the literature's encoding, or from the JSON of its choices.

        Args:
            text: Encoding or JSON, without the name of the space.

        Returns:
            The architecture.

        Raises:
            SpaceError: the text is neither.

        Example:
            >>> import nasplat
            >>> cells = nasplat.load_space("nasbench201")
            >>> text = cells.format(cells.sample(seed=0))
            >>> cells.parse(text) == cells.sample(seed=0)
            True
        """
        is_json = text.lstrip().startswith("{")
        hook = "parse_json" if is_json else "parse"
        if hook in self.hooks:
            found = self._read_by(hook, text)
            if found is not None:
                return self.architecture(found)
            if not is_json:
                raise SpaceError(
                    f"expected an architecture of {self.name!r} in the literature's encoding, got {text[:60]!r}.\n"
                    f"  See `nasplat sample {self.name}`."
                )
        try:
            choices = json.loads(text)
        except (ValueError, RecursionError) as err:
            raise SpaceError(
                f"expected an architecture of {self.name!r} as JSON choices, got {text[:60]!r}.\n"
                f"  See `nasplat sample {self.name}`."
            ) from err
        if not isinstance(choices, dict):
            raise SpaceError(
                f"expected an architecture of {self.name!r} as JSON choices, got {text[:60]!r}.\n  Write an object."
            )
        if isinstance(choices.get("choices"), dict) and "space" in choices:
            return Architecture.from_json(text, self)
        return self.architecture(choices.get("choices", choices))

    def _read_by(self, hook: str, text: str) -> Any:
        """Call a parser of the space's file, which need not check the form of what it reads."""
        try:
            return self.hooks[hook](text, **self.presets) if hook == "parse_json" else self._presented(hook, text)
        except NasplatError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as err:
            raise SpaceError(
                f"expected an architecture of {self.name!r} in the literature's encoding, got {text[:60]!r}, "
                f"which its parser cannot read ({type(err).__name__}: {err}).\n  See `nasplat sample {self.name}`."
            ) from err

    def format(self, architecture: Architecture) -> str:
        """Write an architecture as the literature does.

        Args:
            architecture: Member of this space.

        Returns:
            The literature's encoding where the space has one, else the JSON of the choices.
        """
        if "format" in self.hooks:
            return self.hooks["format"](architecture.choices)
        return json.dumps(architecture.choices, separators=(",", ":"))

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the representative of all encodings of one network.

        Args:
            architecture: Member of this space.

        Returns:
            The representative, or the architecture itself where the space knows none.
        """
        if "canonical" not in self.hooks:
            return architecture
        return self.architecture(self.hooks["canonical"](architecture.choices))

    def key(self, architecture: Architecture) -> str:
        """Say which network an encoding stands for.

        Args:
            architecture: Member of this space.

        Returns:
            A text that is equal for all encodings of one network, as far as the space knows them.
        """
        hook = self.hooks.get("key")
        return str(self.canonical(architecture)) if hook is None else hook(architecture.choices)
