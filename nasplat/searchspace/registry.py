"""Search spaces by name, among those shipped, or by the path of a Python file.

Loading a file runs it. So a name that the user wrote is loaded, and a name that stands in data (an architecture's line,
a table, a run folder) is found among what is shipped and what the user loaded; else only where the user trusts it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable
from weakref import WeakSet

from nasplat import content
from nasplat.errors import ContentError, SpaceError, TrustError

DECLARED = "_nasplat_space"
"""Attribute of a build function that keeps its space, so that both go together."""
_FUNCTIONS: WeakSet[Any] = WeakSet()
"""Build functions of this process."""
_IS_TRUSTING: ContextVar[bool] = ContextVar("trusting", default=False)


@runtime_checkable
class Decorated(Protocol):
    """What `@nasplat.space` makes of a build function, as far as finding it in a file needs to know."""

    @property
    def function(self) -> Callable[..., Any]:
        """The build function, whose module tells a space that the file defines from one that it imports."""
        ...

    @property
    def name(self) -> str:
        """Name of a shipped space, path of the user's file, or name of the function."""
        ...

    @property
    def presets(self) -> dict[str, Any]:
        """Keyword arguments with which the build function is called."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the source of the build function, a dot, and a hash of the presets."""
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


class Told(str):
    """A name that data told, such as that of the space in a run folder: what is a Python file is not loaded by it."""


@contextmanager
def trusting(is_trusting: bool = True) -> Iterator[None]:
    """Let data name Python files to run, while the context lasts.

    Args:
        is_trusting: Whether the data are trusted; False changes nothing.

    Yields:
        Nothing.
    """
    token = _IS_TRUSTING.set(is_trusting or _IS_TRUSTING.get())
    try:
        yield
    finally:
        _IS_TRUSTING.reset(token)


def is_trusting() -> bool:
    """Tell whether data may name Python files to run.

    Returns:
        True inside `trusting()`.
    """
    return _IS_TRUSTING.get()


def declare(space: Decorated) -> None:
    """Let data find a space that the user's own code made.

    Args:
        space: Space whose build function carries it from now on.
    """
    with suppress(AttributeError, TypeError):  # what takes no attributes is found by passing the space
        setattr(space.function, DECLARED, space)
        _FUNCTIONS.add(space.function)


def told_space(name: str, presets: dict[str, Any], fingerprint: str | None = None) -> Any:
    """Find the space that data name, without running a file that nobody but the data asks for.

    Args:
        name: Name of a shipped space, path of a Python file, or name of a function.
        presets: Keyword arguments of the build function.
        fingerprint: Fingerprint of the space that the data were written with; None where they do not tell.

    Returns:
        The space, with its presets bound.

    Raises:
        TrustError: the data name a Python file that was not loaded here, and nobody trusts them.
        SpaceError: the code or the presets of the space are not those of the data, or it was made in another process.
        ContentError: there is no such space.
    """
    declared = [getattr(f, DECLARED) for f in list(_FUNCTIONS)]
    if fingerprint is not None:
        for space in declared:
            with suppress(SpaceError):  # it takes other presets
                made = space.renamed(name).with_presets(**presets)
                if made.fingerprint == fingerprint:
                    return made
    file = _file_of(name)
    if file is None:
        called_so = [s for s in declared if s.name == name]
        if is_shipped(name):
            found = find_space(str(name), **presets)
        elif len(called_so) == 1 or (called_so and fingerprint is not None):
            found = called_so[0].with_presets(**presets)
        elif called_so or fingerprint is not None:
            raise SpaceError(
                f"expected one space called {name!r} in this process, got {len(called_so)}.\n"
                "  Pass it: Architecture.from_json(line, space), or load_table(path, space)."
            )
        else:
            found = find_space(str(name), **presets)  # raises with the names there are
    elif content.is_loaded(file) or is_trusting():
        found = find_space(str(name), **presets)
    else:
        raise untrusted(name)
    check_same(found, name, presets, fingerprint)
    return found


def check_same(space: Decorated, name: str, presets: dict[str, Any], fingerprint: str | None) -> None:
    """Check that a space is the one that data were written with.

    Args:
        space: Space with its presets.
        name: Name of the space in the data.
        presets: Presets in the data.
        fingerprint: Fingerprint in the data; None where they do not tell, and only the presets are compared.

    Raises:
        SpaceError: the code or the presets are others; the message says which.
    """
    if fingerprint is None:
        if not _are_same(presets, space):
            raise SpaceError(
                f"expected an architecture of {space!r}, got one of {str(name)!r} with presets {presets}.\n"
                "  Load the space with these presets. To read its choices alone, use space.architecture(choices)."
            )
        return
    if space.fingerprint == fingerprint:
        return
    code, _, _ = fingerprint.partition(".")
    here, _, _ = space.fingerprint.partition(".")
    what = f"code, whose hash is {here}, not {code}" if here != code else f"presets, which were {presets}"
    raise SpaceError(
        f"expected the space {str(name)!r} that this was written with, got {space!r} with other {what}.\n"
        "  Use the file and the presets of that time. Choices alone are read into the present space by "
        "space.architecture(choices)."
    )


def _are_same(presets: dict[str, Any], space: Decorated) -> bool:
    """Whether presets are those of a space, where those that nobody stated stand at their defaults."""
    if _texts(presets) == _texts(space.presets):
        return True
    parameters = list(inspect.signature(space.function).parameters.values())[1:]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return _texts(defaults | presets) == _texts(defaults | space.presets)


def _texts(presets: dict[str, Any]) -> str:
    return json.dumps(presets, sort_keys=True, default=str)


def untrusted(name: str) -> TrustError:
    """Make the error that refuses to run a file because data name it.

    Args:
        name: Path of a Python file, as the data write it.

    Returns:
        The error, which says how to have it run.
    """
    return TrustError(
        f"data name the Python file {str(name)!r}, which was not loaded here: data run no code.\n"
        "  Load it yourself (load_space, or the file as a word of the command), or say that you trust where the data "
        "come from: trust=True, on a command line --trust."
    )


def is_shipped(name: str) -> bool:
    """Tell whether a name is that of a space that comes with nasplat.

    Args:
        name: Name or path of a space.

    Returns:
        True for names such as 'nasbench201' and 'easnet-small'.
    """
    known = content.names("search_spaces")
    return name in known or ("-" in name and name.partition("-")[0] in known)


def _file_of(name: str) -> Path | None:
    """The Python file that a name stands for; None where it is a plain name."""
    path, _, attribute = name.partition(".py:")
    if is_shipped(name) or not (attribute or name.endswith(".py") or len(Path(name).parts) > 1):
        return None
    return Path(path + ".py" if attribute else name).resolve()


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
        TrustError: data told the reference, which is a file that was not loaded here, and nobody trusts them.
    """
    if isinstance(reference, Told):
        return told_space(str(reference), presets)
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
