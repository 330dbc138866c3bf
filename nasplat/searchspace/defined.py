"""What a space is: the hash of its source and presets, on which equality, memory, studies and files rest."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Hashable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from nasplat import content
from nasplat.frontends.definition import Definition, definition_of
from nasplat.searchspace.architecture import AbstractSpace

T = TypeVar("T")
_SHARED: WeakKeyDictionary[Callable[..., Any], dict[Hashable, Any]] = WeakKeyDictionary()
"""What is remembered everywhere, by build function and by fingerprint; it goes when the function goes."""


class AbstractDefinedSpace(AbstractSpace):
    """The part of a space that knows what it is made of, whatever it is called and wherever its file lies.

    Example:
        >>> import nasplat
        >>> cells = nasplat.load_space("nasbench201")
        >>> cells.fingerprint == nasplat.load_space("nasbench201").fingerprint
        True
        >>> cells.fingerprint == cells.with_presets(width=8).fingerprint
        False
    """

    function: Callable[..., Any]
    """The build function, `build(pick, **presets) -> nn.Module`."""
    default_input: Any
    """Shape of one input batch, or a function of the presets that gives it; None where `build` returns it."""
    checked: list[str]
    """The fingerprint at which a member was built to see that no pick comes after its first module; else empty."""
    _memory: dict[Hashable, Any]
    """What `remembered` keeps, by fingerprint; spaces that differ in nothing but their name share it."""

    def __hash__(self) -> int:
        """Equal spaces have equal hashes."""
        return hash(self.reference)

    def __eq__(self, other: object) -> bool:
        """Two spaces are equal when their names, their presets and what their build functions do are."""
        if not isinstance(other, AbstractDefinedSpace) or self.reference != other.reference:
            return False
        return self is other or self.fingerprint == other.fingerprint

    @cached_property
    def reference(self) -> str:
        """Name and presets in one string."""
        return f"{self.name}{json.dumps(self.presets, sort_keys=True, default=str)}"

    @property
    def defining(self) -> tuple[Any, ...]:
        """Build function, example input and presets: all that decides which networks there are."""
        return self.function, self.default_input, self.presets

    @property
    def fingerprint(self) -> str:
        """Hash of the source of the build function and of all that it refers to, a dot, and a hash of the presets.

        Comments, the space's name and the place of its file do not enter it; helper functions and classes, closures,
        defaults and the globals that are read do. It follows a helper that is defined anew, as in a notebook.
        """
        return f"{definition_of(self.function, self.default_input).digest}.{self._presets}"

    @cached_property
    def _presets(self) -> str:
        return Definition(dict(sorted(self.presets.items()))).digest[:8]

    @cached_property
    def is_shipped(self) -> bool:
        """Whether the space comes with nasplat, which answers for it that its name means the same networks."""
        try:
            file = Path(inspect.unwrap(self.function).__code__.co_filename)
        except AttributeError:  # an object that can be called
            return False
        return file.is_relative_to(content.folder("search_spaces")) and self.name.partition("-")[0] == file.stem

    def forgets_edited(self) -> bool:
        """Forget which options there are where what the build function does has changed since they were learned.

        Returns:
            Whether it had changed, as when a notebook's cell with the options, or with a helper, ran again.
        """
        is_edited = bool(self.checked) and self.checked[0] != self.fingerprint
        if is_edited:
            self.known.clear()
            self.checked.clear()
        return is_edited

    def remembered(self, what: Hashable, make: Callable[[], T], everywhere: bool = False) -> T:
        """Return a value that belongs to this space, made when it is first asked for.

        It is the one place for what is learned of a space and takes long, such as its structure and costs. What was
        learned before the code of the space changed, as in a notebook, is not found any more.

        Args:
            what: Key of the value, unique among all that is remembered of a space.
            make: Function that makes the value.
            everywhere: True shares the value with all spaces of this process that have the same build function and
                presets, such as those that `load_space` gives later. Such a value holds no space and no architecture,
                and nobody changes it.

        Returns:
            The value; the same object from then on.

        Example:
            >>> import nasplat
            >>> cells = nasplat.load_space("nasbench201", width=8)
            >>> cells.remembered("a list", list) is cells.remembered("a list", list)
            True
        """
        kept = self._memory_of_equals() if everywhere else self._memory
        memory = kept.setdefault(self.fingerprint, {})
        if what not in memory:
            memory[what] = make()
        return memory[what]

    def _memory_of_equals(self) -> dict[Hashable, Any]:
        """What all spaces with this build function share; only its own where presets are no JSON."""
        try:
            json.dumps(self.presets)
            return _SHARED.setdefault(self.function, {})
        except TypeError:  # of two presets that are objects nobody knows whether they are equal
            return self._memory
