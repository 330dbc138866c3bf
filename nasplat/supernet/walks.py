"""What a walk through a space found, and the user's folder that keeps it from one process to the next.

A kept walk is taken only where it is surely that of this very space: the code of the build function and of all that it
refers to, the presets, nasplat's own files, and the versions of torch and Python are the same. Where the code cannot
tell (it reads files, draws at random, refers to other libraries or to state of its own), nothing is kept: better slow
than stale. A file that is missing, broken or altered is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import cache as once
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nasplat
from nasplat import content
from nasplat.errors import StorageError
from nasplat.frontends.definition import doubts_about
from nasplat.probes.conditions import cache
from nasplat.searchspace import Architecture, Space
from nasplat.searchspace.pick import Option
from nasplat.supernet.following import Slices
from nasplat.supernet.layouts import Layout
from nasplat.supernet.slicing import Rule
from nasplat.tables.rows import write_atomically

Shape = tuple[int, ...]
Choices = tuple[tuple[str, Option], ...]
PLACE = "NASPLAT_WALKS"
"""Environment variable: the folder of kept walks, or 'off'."""
FORM = 1
"""Raised when the text of a kept walk changes."""
MOST = 100
"""Walks that are kept; the oldest go."""


@dataclass(frozen=True)
class Found:
    """What a walk found: all that a store needs but the values, which depend on the seed."""

    shapes: dict[str, Shape]
    """Largest shape by address."""
    rules: dict[str, Rule | None]
    """How slices are taken, by address."""
    sources: dict[str, tuple[Choices, str]]
    """Choices of the architecture whose initial values are taken, and name of the parameter there, by address."""
    qualifiers: dict[str, tuple[str, ...]]
    """Choices that are part of a parameter's address, by its name."""
    kernels: dict[str, Shape]
    """Sides of the square depthwise kernels that come in several sizes, from the largest, by address."""
    known: dict[str, tuple[Option, ...]]
    """Options of every choice that the walk met, by name."""
    slices: Slices
    """Which positions members take where it is not simply the beginning of an axis."""


def folder() -> Path | None:
    """Find the folder of kept walks.

    Returns:
        The folder named by $NASPLAT_WALKS, else `walks` in nasplat's folder of the user's cache; None where that
        variable is 'off'.
    """
    told = os.environ.get(PLACE, "")
    return None if told.lower() == "off" else Path(told) if told else cache() / "walks"


def kept(space: Space) -> Found | None:
    """Look up the walk of a space.

    Args:
        space: Search space, as it is now.

    Returns:
        What the walk found; None where none is kept for this very space.
    """
    file, about = _place(space)
    if file is None:
        return None
    try:
        head, _, text = file.read_text(encoding="utf-8").partition("\n")
        if json.loads(head) != [about, hashlib.sha256(text.encode()).hexdigest()]:
            return None
        return _read(json.loads(text), space)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return None


def keep(space: Space, found: Found) -> None:
    """Keep a walk for later processes; where the folder cannot be written, nothing happens.

    Args:
        space: Search space that was walked.
        found: What the walk found.
    """
    file, about = _place(space)
    if file is None:
        return
    with suppress(OSError, StorageError, TypeError, ValueError):
        text = json.dumps(_written(found), separators=(",", ":"), allow_nan=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps([about, hashlib.sha256(text.encode()).hexdigest()]) + "\n" + text)
        oldest = sorted(file.parent.glob("*.json"), key=lambda f: f.stat().st_mtime)[:-MOST]
        for old in oldest:
            old.unlink(missing_ok=True)


def _place(space: Space) -> tuple[Path | None, dict[str, Any]]:
    """File of a space's walk, and what must hold for it; no file where the code cannot tell what it does."""
    where = folder()
    if where is None:
        return None, {}
    try:
        presets = json.dumps(space.presets, sort_keys=True)
        if json.loads(presets) != space.presets:
            return None, {}
        if not space.is_shipped and doubts_about(space.function, space.default_input):
            return None, {}
    except (TypeError, ValueError):
        return None, {}
    about = {"form": FORM, "space": space.fingerprint, "presets": presets, "with": _versions()}
    name = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]
    return where / f"{name}.json", about


@once
def _versions() -> str:
    """What else decides a walk: every file of nasplat and its spaces, by size and time of change, and what they use."""
    roots = (Path(nasplat.__file__).parent, content.folder("search_spaces"))
    files = sorted((str(f), f.stat().st_size, f.stat().st_mtime_ns) for root in roots for f in root.rglob("*.py"))
    whole = hashlib.sha256(repr(files).encode()).hexdigest()[:16]
    used = [f"{name} {version(name)}" for name in ("torch", "torch-geometric")]
    return ", ".join([f"nasplat {nasplat.__version__} {whole}", *used, f"Python {platform.python_version()}"])


# -- a walk as plain data ----------------------------------------------------------------------------------------------


def _written(found: Found) -> dict[str, Any]:
    members: dict[Choices, int] = {}
    sources = {k: [members.setdefault(choices, len(members)), name] for k, (choices, name) in found.sources.items()}
    slices = found.slices
    own = {
        key: [members.setdefault(tuple(a.choices.items()), len(members)), name]
        for key, (a, name) in slices.sources.items()
    }
    rules = {k: None if r is None else [list(r.axes), r.is_declared] for k, r in found.rules.items()}
    return {
        "members": [[list(pair) for pair in choices] for choices in members],
        "shapes": found.shapes,
        "rules": rules,
        "sources": sources,
        "qualifiers": found.qualifiers,
        "kernels": found.kernels,
        "known": found.known,
        "needed": slices.is_needed,
        "followed": sorted(slices.known),
        "axes": {k: [[axis, _layout(x)] for axis, x in axes.items()] for k, axes in slices.layouts.items()},
        "largest": own,
    }


def _read(data: dict[str, Any], space: Space) -> Found:
    members = [tuple((str(k), v) for k, v in choices) for choices in data["members"]]
    architectures = [Architecture(space, dict(choices)) for choices in members]
    slices = Slices(
        layouts={k: {int(axis): _of(x) for axis, x in axes} for k, axes in data["axes"].items()},
        known=set(data["followed"]),
        is_needed=bool(data["needed"]),
        sources={k: (architectures[i], name) for k, (i, name) in data["largest"].items()},
    )
    rules = {
        k: None if r is None else Rule(tuple(a if isinstance(a, str) else _pairs(a) for a in r[0]), bool(r[1]))
        for k, r in data["rules"].items()
    }
    return Found(
        _tuples(data["shapes"]),
        rules,
        {k: (members[i], name) for k, (i, name) in data["sources"].items()},
        _tuples(data["qualifiers"]),
        _tuples(data["kernels"]),
        _tuples(data["known"]),
        slices,
    )


def _tuples(data: dict[str, list[Any]]) -> dict[str, tuple[Any, ...]]:
    return {k: tuple(v) for k, v in data.items()}


def _pairs(data: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(a), int(b)) for a, b in data)


def _layout(x: Layout) -> list[Any]:
    names = sorted([name, place] for name, place in x.names)
    return [x.size, x.kind, [*map(_layout, x.parts)], names, x.is_position, x.doubt, x.is_outer, x.is_constant]


def _of(data: list[Any]) -> Layout:
    size, kind, parts, names, *rest = data
    return Layout(int(size), kind, tuple(map(_of, parts)), frozenset((n, int(p)) for n, p in names), *rest)
