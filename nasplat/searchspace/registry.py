"""Spaces by name (content folder) or by path (a user's own file)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from nasplat import content
from nasplat.errors import ContentError
from nasplat.searchspace.space import Space


def list_spaces() -> list[str]:
    """Names of the shipped spaces."""
    return content.names("search_spaces")


def list_variants(name: str) -> list[str]:
    """Names of the other spaces in a shipped space's file, such as easnet-small of easnet."""
    found = _spaces_of(content.locate("search_spaces", name))
    return sorted(f"{name}-{k.removeprefix(f'{name}_').replace('_', '-')}" for k in found if k.startswith(f"{name}_"))


def _spaces_of(file: Path) -> dict[str, Space]:
    module = content.load_module(file)
    return {k: v for k, v in vars(module).items() if isinstance(v, Space) and v.function.__module__ == module.__name__}


def load_space(reference: str, **presets: Any) -> Space:
    """A search space by name, or by the path of a Python file.

    Args:
        reference: `nasbench201`, `./mine.py`; where a file holds several, `./mine.py:build`, or `easnet-small` for `easnet_small` of easnet.py.
        presets: Keyword arguments of the build function, such as `width=8`.

    Returns:
        The space with its presets bound.

    Raises:
        ContentError: no such name or file, or the file is broken or holds no space.
        SpaceError: a preset the build function does not take.

    Example:
        >>> load_space("nasbench201").count().value
        15625.0
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
            f"expected a function decorated with @space named {wanted!r} in {file}, found {', '.join(found) or 'none'}.\n"
            "  Decorate it, or write file.py:name."
        )
    named = replace(chosen, name=reference, hooks=chosen.hooks, known={}, checked=[])
    return named.with_presets(**presets) if presets else named
