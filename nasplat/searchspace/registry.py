"""Search spaces by name, among those shipped, or by the path of a Python file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from nasplat import content
from nasplat.errors import ContentError


@runtime_checkable
class Decorated(Protocol):
    """What `@nasplat.space` makes of a build function, as far as finding it in a file needs to know."""

    @property
    def function(self) -> Callable[..., Any]:
        """The build function, whose module tells a space that the file defines from one that it imports."""
        ...

    def renamed(self, name: str) -> Self:
        """Return the same space under another name.

        Args:
            name: Name by which the space can be found again.

        Returns:
            A space that has met no choices yet.
        """
        ...

    def with_presets(self, **presets: Any) -> Self:
        """Return the same space with other presets.

        Args:
            **presets: Keyword arguments of the build function.

        Returns:
            The space at another size.
        """
        ...


def list_spaces() -> list[str]:
    """List the names of the search spaces that are shipped with nasplat.

    Returns:
        Names in alphabetical order, each of which `load_space` takes.

    Example:
        >>> "nasbench201" in list_spaces()
        True
    """
    return content.names("search_spaces")


def list_variants(name: str) -> list[str]:
    """List the further spaces that stand in a shipped space's file.

    Args:
        name: Name of a shipped space, such as 'easnet'.

    Returns:
        Names that `load_space` takes, in alphabetical order; empty where the file holds one space only.

    Example:
        >>> list_variants("easnet")
        ['easnet-plus', 'easnet-small']
    """
    found = _spaces_of(content.locate("search_spaces", name))
    return sorted(f"{name}-{k.removeprefix(f'{name}_').replace('_', '-')}" for k in found if k.startswith(f"{name}_"))


def find_space(reference: str, **presets: Any) -> Any:
    """Find the decorated function that a name or a path stands for; `load_space` says which forms there are.

    Args:
        reference: Name of a shipped space, or path of a Python file.
        **presets: Keyword arguments of the build function, such as `width=8`.

    Returns:
        The space, called by the reference, with its presets bound.

    Raises:
        ContentError: there is no such name or file, or the file is broken or holds no such space.
        SpaceError: the build function does not take a preset.
    """
    path, _, attribute = reference.partition(".py:")
    name, dash, variant = reference.partition("-")
    if dash and name in content.names("search_spaces"):
        file, attribute = content.locate("search_spaces", name), f"{name}_{variant.replace('-', '_')}"
    else:
        file = content.locate("search_spaces", path + ".py" if attribute else reference)
    found = _spaces_of(file)
    wanted = attribute or file.stem
    if wanted in found:
        chosen = found[wanted]
    elif len(found) == 1 and not attribute:
        chosen = next(iter(found.values()))
    else:
        raise ContentError(
            f"expected a function decorated with @space named {wanted!r} in {file}, "
            f"found {', '.join(found) or 'none'}.\n  Decorate it, or write file.py:name."
        )
    named = chosen.renamed(reference)
    return named.with_presets(**presets) if presets else named


def _spaces_of(file: Path) -> dict[str, Decorated]:
    """Run a file and return the spaces that it defines, by their names in it."""
    module = content.load_module(file)
    return {
        k: v for k, v in vars(module).items() if isinstance(v, Decorated) and v.function.__module__ == module.__name__
    }
