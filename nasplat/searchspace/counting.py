"""How many encodings a space has: exactly from its structure, by enumeration, or as an unbiased estimate."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import exp, inf, log, sqrt

from nasplat.searchspace.architecture import AbstractSpace, Architecture
from nasplat.searchspace.pick import Option, Rejected
from nasplat.searchspace.rules import END, Intractable
from nasplat.searchspace.structure import Structure


@dataclass(frozen=True)
class Count:
    """Number of encodings of a space; it is exact when `error` is 0."""

    value: int | float
    """Number of encodings; an integer when it is exact."""
    error: float
    """Standard error of the estimate."""
    networks: int | None = None
    """Number of distinct networks, where the space knows it."""


def count_encodings(
    space: AbstractSpace, structure: Structure | Intractable, exact_below: int, walks: int
) -> tuple[int | float, float]:
    """Count the encodings of a space.

    Args:
        space: Space to count.
        structure: Its structure, or why there is none.
        exact_below: Estimate below which the members are enumerated instead.
        walks: Number of random walks of an estimate.

    Returns:
        The count, or its unbiased estimate, and the standard error.
    """
    if isinstance(structure, Intractable):
        value, error = estimate(space, walks, random.Random(0))
    elif not structure.refuses_late:
        return structure.count, 0.0
    else:
        rng = random.Random(0)
        share = sum(structure.walker.run(structure.draw(rng))[1] == END for _ in range(walks)) / walks
        value, error = structure.count * share, structure.count * sqrt(share * (1 - share) / walks)
    if value < exact_below:
        return sum(1 for _ in enumerate_members(space)), 0.0
    return value, error


def enumerate_members(space: AbstractSpace) -> Iterator[Architecture]:
    """Visit every encoding once, in lexicographic order of the options.

    Args:
        space: Space whose members are wanted.

    Yields:
        The members; combinations that the space refuses are left out.
    """
    path: list[int] = []  # option number at each depth
    sizes: list[int] = []
    while True:
        depth = 0

        def decide(name: str, options: tuple[Option, ...]) -> Option:
            nonlocal depth
            if depth == len(path):
                path.append(0)
                sizes.append(len(options))
            depth += 1
            return options[path[depth - 1]]

        try:
            yield Architecture(space, space.choices(decide))
        except Rejected:
            pass
        del path[depth:], sizes[depth:]
        while path and path[-1] + 1 == sizes[-1]:
            path.pop()
            sizes.pop()
        if not path:
            return
        path[-1] += 1


def estimate(space: AbstractSpace, walks: int, rng: random.Random, rounds: int = 4) -> tuple[float, float]:
    """Estimate the number of encodings of a space by weighted random walks.

    A walk weighs the inverse of its probability (Knuth 1975). Options are drawn in proportion to the geometric mean of
    the weights that followed them in earlier rounds, which makes weights nearly equal; the last round alone, whose
    proportions are fixed before it, is the estimate.

    Args:
        space: Space to count.
        walks: Number of walks in a round.
        rng: Generator of random numbers.
        rounds: Number of rounds, each of which learns from those before it.

    Returns:
        The unbiased estimate and its standard error.
    """
    shares: dict[str, list[float]] = {}
    weights: list[float] = []
    for _ in range(rounds):
        weights, followed = [], {}
        for _ in range(walks):
            path, is_refused = _weighted(space, shares, rng)
            rest = 0.0
            for name, number, factor in reversed(path):
                found = followed.setdefault(name, [[] for _ in space.known[name]])
                found[number].append(-inf if is_refused else rest)
                rest += log(factor)
            weights.append(0.0 if is_refused else exp(rest))
        shares = {name: _shares(found) for name, found in followed.items()}
    mean = sum(weights) / walks
    return mean, (sum((w - mean) ** 2 for w in weights) / (walks - 1) / walks) ** 0.5


def _weighted(
    space: AbstractSpace, shares: Mapping[str, list[float]], rng: random.Random
) -> tuple[list[tuple[str, int, float]], bool]:
    """Walk once; return name, option and inverse probability of each choice, and whether the walk was refused."""
    path: list[tuple[str, int, float]] = []

    def decide(name: str, options: tuple[Option, ...]) -> Option:
        share = shares.get(name) or [1.0] * len(options)
        (number,) = rng.choices(range(len(options)), share)
        path.append((name, number, sum(share) / share[number]))
        return options[number]

    try:
        space.choices(decide)
    except Rejected:
        return path, True
    return path, False


def _shares(followed: list[list[float]]) -> list[float]:
    """Return the options' shares from the logarithms of the weights behind them.

    An option whose walks were all refused counts like the mean of the others, but has a share of at least 1e-4.
    """
    means = []
    for logs in followed:
        accepted = [w for w in logs if w > -inf]
        means.append(sum(accepted) / len(accepted) + log(len(accepted) / len(logs)) if accepted else -inf)
    known = [m for m in means if m > -inf]
    if not known:
        return [1.0] * len(means)
    largest = max(known)
    return [max(exp((m if m > -inf else sum(known) / len(known)) - largest), 1e-4) for m in means]
