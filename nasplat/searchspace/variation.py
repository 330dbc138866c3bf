"""Neighbours, children and random members of a space: draws that try again where the space refuses a combination."""

from __future__ import annotations

import random
from collections.abc import Callable

from nasplat.errors import SpaceError
from nasplat.searchspace.architecture import AbstractSpace, Architecture
from nasplat.searchspace.pick import Decide, Option, Rejected, at_random, exactly, extreme, preferring
from nasplat.searchspace.rules import END
from nasplat.searchspace.structure import Structure, structure_of

ATTEMPTS = 1000
"""Draws before a space that refuses combinations, or a mutation that finds nothing new, gives up."""
RESAMPLED = 64
"""Walks of which one is drawn, by its weight, where the structure of a space cannot be tabulated."""


def first_accepted(space: AbstractSpace, make: Callable[[random.Random], Decide], seed: int) -> Architecture:
    """Return the first member that the space does not refuse.

    Args:
        space: Space to draw from.
        make: Function that makes what answers the choices of one attempt from a generator of random numbers.
        seed: Number that decides the random numbers.

    Returns:
        The member.

    Raises:
        SpaceError: the space refused `ATTEMPTS` combinations.
    """
    rng, reason = random.Random(f"{seed}"), ""
    for _ in range(ATTEMPTS):
        try:
            return Architecture(space, space.choices(make(rng)))
        except Rejected as err:
            reason = str(err)
    raise SpaceError(
        f"space {space.name!r} refused {ATTEMPTS} combinations, the last: {reason}.\n  Loosen pick.reject."
    )


def outermost_member(space: AbstractSpace, largest: bool) -> Architecture:
    """Return the member in which every number is at its end, or where the space refuses that, as many as may be.

    Args:
        space: Space to look in.
        largest: Whether numbers take their largest option; otherwise they take their smallest.

    Returns:
        The end itself; else what a random member becomes whose choices go to their ends one after another, in their
        order, as far as the space allows beside the others. Choices among strings take their first option alike.

    Raises:
        SpaceError: the space refused every combination that was tried.
    """
    found = space.walk(extreme(largest))
    if found is not None:
        return found
    found, done = first_accepted(space, at_random, 0), set[str]()
    while left := [name for name in found.choices if name not in done]:
        name = left[0]
        done.add(name)
        options = _options(space, name, found)
        if not any(isinstance(o, str) for o in options):
            options = tuple(sorted(options, reverse=largest))  # type: ignore[type-var]
        for option in options[: options.index(found.choices[name])]:
            # what this makes necessary takes the same end, or where that is too much, the other one
            wanted = found.choices | {name: option}
            tried = (space.walk(preferring(wanted, extreme(end))) for end in (largest, not largest))
            better = next((a for a in tried if a is not None and a.choices.get(name) == option), None)
            if better is not None:
                found = better
                break
    return found


def uniform_member(space: AbstractSpace, seed: int) -> Architecture:
    """Draw a member, each encoding equally likely.

    Args:
        space: Space to draw from.
        seed: Number that decides the draw.

    Returns:
        The member; where the structure cannot be tabulated, one of `RESAMPLED` walks drawn by its weight, which is
        approximately uniform.

    Raises:
        SpaceError: the space refused every combination tried.
    """
    rng = random.Random(f"uniform {seed}")
    structure = structure_of(space)
    if isinstance(structure, Structure):
        for _ in range(ATTEMPTS):
            made, ended = structure.walker.run(structure.draw(rng))
            if ended == END:
                return Architecture(space, structure.choices(made))
    walks = [_weighted_walk(space, rng) for _ in range(RESAMPLED)]
    found = [(choices, weight) for choices, weight in walks if choices is not None]
    if not found:
        return first_accepted(space, at_random, seed)
    (choices,) = rng.choices([c for c, _ in found], [w for _, w in found])
    return Architecture(space, choices)


def _weighted_walk(space: AbstractSpace, rng: random.Random) -> tuple[dict[str, Option] | None, float]:
    """Walk at random; return the choices, None where the space refuses them, and the inverse of their probability."""
    weight = 1.0

    def decide(name: str, options: tuple[Option, ...]) -> Option:
        nonlocal weight
        weight *= len(options)
        return options[int(rng.random() * len(options))]

    try:
        return space.choices(decide), weight
    except Rejected:
        return None, 0.0


def mutant(space: AbstractSpace, architecture: Architecture, seed: int, changes: int) -> Architecture:
    """Draw a neighbour of a member: some choices take another option, what they newly reach is drawn.

    Args:
        space: Space of the member.
        architecture: Member to change.
        seed: Number that decides the draw.
        changes: Number of choices to change at least.

    Returns:
        Another member.

    Raises:
        SpaceError: `ATTEMPTS` attempts gave no other member.
    """
    rng = random.Random(f"{seed} mutate")
    names = [n for n in architecture.choices if len(_options(space, n, architecture)) > 1]
    for _ in range(ATTEMPTS if names else 0):
        changed = dict(architecture.choices)
        for name in rng.sample(names, min(changes, len(names))):
            changed[name] = rng.choice([o for o in space.known[name] if o != architecture.choices[name]])
        try:
            child = Architecture(space, space.choices(preferring(changed, at_random(rng))))
        except Rejected:
            continue
        if child != architecture:
            return child
    raise SpaceError(f"space {space.name!r} has no other member near {architecture}.\n  Give a choice a second option.")


def _options(space: AbstractSpace, name: str, architecture: Architecture) -> tuple[Option, ...]:
    """Return the options of a choice, walking to the member where the choice was not met yet."""
    if name not in space.known:
        space.choices(exactly(architecture.choices, space.name))
    return space.known[name]


def child(space: AbstractSpace, first: Architecture, second: Architecture, seed: int) -> Architecture:
    """Draw a member that takes each choice from one of two parents; what neither reached is drawn.

    Args:
        space: Space of the child.
        first: One of the parents.
        second: The other one of the parents.
        seed: Number that decides the draw.

    Returns:
        The child.

    Raises:
        SpaceError: the space refused `ATTEMPTS` combinations.
    """
    rng = random.Random(f"{seed} crossover")
    reason = ""
    for _ in range(ATTEMPTS):
        mixed = {
            name: (first if rng.random() < 0.5 else second).choices.get(name, default)
            for name, default in (second.choices | first.choices).items()
        }
        try:
            return Architecture(space, space.choices(preferring(mixed, at_random(rng))))
        except Rejected as err:
            reason = str(err)
    raise SpaceError(f"space {space.name!r} refused {ATTEMPTS} crossovers, the last: {reason}.\n  Loosen pick.reject.")
