"""The largest and smallest networks of a space, and what each choice changes in the largest.

Strategies open choices by what they are. Nothing here reads a choice's name: what it is follows from which parameters
change when it takes its smallest option.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

from nasplat.errors import SpaceError
from nasplat.searchspace import Architecture, Space
from nasplat.searchspace import pick as picks
from nasplat.supernet.slicing import CENTRED, Slot, slots

RANDOM_ARCHITECTURES = 200
"""Random members that stand in for the ends of a space that refuses its ends."""
CONTEXTS = 64
"""Largest networks that are looked at, at most, where choices among strings make many."""
CONTEXTS_OF_KINDS = 12
"""Largest networks in which it is looked up what a choice changes."""
KERNEL, DEPTH, WIDTH, SCALE, OTHER = "kernel", "depth", "width", "scale", "other"


def outermost(space: Space, largest: bool) -> Architecture:
    """Find the end of a space: every number at its largest, or every number at its smallest.

    Args:
        space: Space to look in.
        largest: True for the largest end, False for the smallest.

    Returns:
        That member; where the space refuses it, of 200 random members the one with the most (fewest) parameters.
    """

    def find() -> Architecture:
        found = space.walk(picks.extreme(largest))
        if found is not None:
            return found
        members = [space.sample(seed=i) for i in range(RANDOM_ARCHITECTURES)]
        sizes = [sum(p.numel() for p in space.construct(a, initialised=False)[0].parameters()) for a in members]
        return members[sizes.index(max(sizes) if largest else min(sizes))]

    return space.remembered(f"outermost {largest}", find)


def end(space: Space, largest: bool, seed: int) -> Architecture:
    """Draw one of the largest or smallest subnets: choices among strings are drawn, numbers are at their end.

    Args:
        space: Space to draw from.
        largest: True for the largest end, False for the smallest.
        seed: Seed of the draw.

    Returns:
        That member; `outermost` where the space refuses the strings that were drawn.
    """
    base = outermost(space, largest)
    choices = dict(base.choices)
    rng = random.Random(f"end {seed}")
    for name, value in choices.items():
        if isinstance(value, str):
            choices[name] = rng.choice(space.known[name])
    try:
        return space.project(choices, seed)
    except SpaceError:  # refused with these strings
        return base


def with_option(space: Space, context: Architecture, choice: str, option: Any) -> Architecture | None:
    """Change one choice of an architecture; numbers that this makes necessary are at their largest.

    Args:
        space: Space of the architecture.
        context: Architecture to begin with.
        choice: Name of the choice to change.
        option: Value that the choice gets.

    Returns:
        The changed architecture; None where the space refuses it.
    """
    return space.walk(picks.preferring(context.choices | {choice: option}, picks.extreme(True)))


def contexts(space: Space) -> Iterator[Architecture]:
    """Go through largest networks with ever other options of the choices among strings.

    Args:
        space: Space to look in.

    Yields:
        Members, at most `CONTEXTS` beside the first; the first few hold each option of those on top once. A space
        without choices among strings has one.
    """
    base = outermost(space, True)
    yield base
    if not any(isinstance(o, str) for options in space.known.values() for o in options):
        return
    for i in range(CONTEXTS):

        def decide(name: str, options: tuple[Any, ...], i: int = i) -> Any:
            if not any(isinstance(o, str) for o in options):
                return base.choices.get(name, max(options))
            return options[(i + (zlib.crc32(name.encode()) >> i // len(options))) % len(options)]

        found = space.walk(decide)
        if found is not None:
            yield found


def kinds(space: Space) -> dict[str, str]:
    """Find what each numeric choice changes in the largest network.

    A scale is a depth on which other depths hang: less of it takes their choices away, as fewer stages do.

    Args:
        space: Space whose choices are asked about.

    Returns:
        kernel, width, depth (which parameters there are), scale or other, by the name of the choice. Choices that the
        largest networks do not have are left out.
    """
    return space.remembered("kinds", lambda: _kinds(space), everywhere=True)


def _kinds(space: Space) -> dict[str, str]:
    found: dict[str, str] = {}
    taken: dict[str, set[str]] = {}
    for context in islice(contexts(space), CONTEXTS_OF_KINDS):
        whole = slots(space.construct(context, initialised=False)[0])
        for choice in context.choices:
            options = space.known[choice]
            if choice in found or len(options) < 2 or any(isinstance(o, str) for o in options):
                continue
            smaller = with_option(space, context, choice, min(options))  # type: ignore[type-var]
            if smaller is None:
                continue
            found[choice] = _kind(whole, slots(space.construct(smaller, initialised=False)[0]))
            if found[choice] == DEPTH:
                taken[choice] = context.choices.keys() - smaller.choices.keys()
    deep = {c for c, kind in found.items() if kind == DEPTH}
    return {c: SCALE if taken.get(c, set()) & deep else kind for c, kind in found.items()}


def _kind(whole: dict[str, Slot], part: dict[str, Slot]) -> str:
    """What a choice is, from the parameters of the largest network and of the one with its smallest option."""
    if whole.keys() != part.keys():
        return DEPTH
    axes = {
        rule.axes[axis]
        for name in whole
        if (rule := whole[name].rule) is not None
        for axis, (a, b) in enumerate(zip(whole[name].shape, part[name].shape, strict=False))
        if a != b
    }
    return KERNEL if CENTRED in axes else WIDTH if axes else OTHER
