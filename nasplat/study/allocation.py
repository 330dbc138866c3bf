"""How a budget is divided among stages that are dearer and truer one after another, and which networks go on.

The best plan depends on how well each stage orders what the last one would order. `allocate` plays every plan on many
possible worlds: the stages' values of a network are normal with the observed rank agreement (a Gaussian copula), the
agreement itself as uncertain as the number of networks it was observed on makes it. A stage that agrees too little for
its price is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, pi, sin

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import SearchError
from nasplat.study.hypervolume import front_of
from nasplat.tables.metrics import kendall_tau

Matrix = NDArray[np.float64]

WORLDS = 256
"""Draws on which every plan is played."""
STEP = 2**0.5
"""Numbers of networks that are tried lie so far apart."""


@dataclass(frozen=True)
class Plan:
    """How many networks each stage evaluates, and what that is based on."""

    counts: tuple[int, ...]
    """Networks that each stage evaluates beyond the pilot; 0 where the stage is left out."""
    costs: tuple[float, ...]
    """Cost of one evaluation in each stage, in the budget's unit."""
    agreement: tuple[float, ...]
    """Rank agreement τ-b of each stage with the last."""
    pilots: int
    """Number of networks on which the agreement was observed."""
    expected: float
    """Expected best value of the last stage, in standard deviations above the mean of the space."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the planned cost that each stage takes; they add up to 1."""
        spent = [n * c for n, c in zip(self.counts, self.costs, strict=True)]
        return tuple(s / sum(spent) for s in spent)


def allocate(
    values: Matrix, costs: Sequence[float], budget: float, candidates: int = 512, seed: int = 0, worlds: int = WORLDS
) -> Plan:
    """Find the numbers of networks per stage that make the best of the last stage as good as can be expected.

    Args:
        values: What each stage says of the pilot's networks, shape (pilots, stages), larger is better; nan where a
            stage has no answer. The last stage is the truth.
        costs: Cost of one evaluation in each stage, in any unit.
        budget: Cost of all evaluations together, in that unit.
        candidates: Networks that the first stage may see at most.
        seed: Seed of the possible worlds.
        worlds: Number of possible worlds on which every plan is played; more make the choice steadier, and slower.

    Returns:
        The plan whose best network of the last stage is expected to be best; of equal ones the cheapest.

    Raises:
        SearchError: the budget does not pay for one network of the last stage.

    Example:
        >>> pilot = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]]).T
        >>> plan = allocate(pilot, costs=(0.1, 1.0), budget=5.0, candidates=16, worlds=16)
        >>> plan.agreement, plan.counts[1] >= 1
        ((1.0, 1.0), True)
    """
    stages = len(costs)
    if budget < costs[-1]:
        raise SearchError(
            f"expected a budget of at least {costs[-1]:.3g} for one network of the last stage, got {budget:.3g}.\n"
            "  Give more, or a cheaper last stage."
        )
    correlation, agreement = _agreement(values)
    size = max(candidates, min(int(budget // costs[-1]), 8 * candidates)) if costs[-1] > 0 else candidates
    draws = _worlds(correlation, len(values), size, worlds, np.random.default_rng(seed))
    grid = sorted({int(size / STEP**i) for i in range(64) if size / STEP**i >= 2}, reverse=True)
    best: tuple[float, float, tuple[int, ...]] = (-inf, inf, ())

    def play(stage: int, pool: Matrix, counts: tuple[int, ...], spent: float) -> None:
        """Try every number of networks in a stage on a pool of shape (worlds, networks, stages), best first so far."""
        nonlocal best
        if stage == stages - 1:
            wanted = min(pool.shape[1], int((budget - spent) / costs[-1]) if costs[-1] > 0 else pool.shape[1])
            if wanted < 1:
                return
            value = float(pool[:, :wanted, -1].max(1).mean())
            total = spent + wanted * costs[-1]
            if (value, -total) > (best[0], -best[1]):
                best = (value, total, (*counts, wanted))
            return
        play(stage + 1, pool, (*counts, 0), spent)
        for count in (n for n in grid if n <= pool.shape[1]):
            if spent + count * costs[stage] + costs[-1] > budget:
                continue
            seen = pool[:, :count]
            kept = max(2, count // 2)  # a stage that drops less than half is no filter
            order = np.argsort(-seen[:, :, stage], axis=1)[:, :kept]
            play(
                stage + 1,
                np.take_along_axis(seen, order[:, :, None], 1),
                (*counts, count),
                spent + count * costs[stage],
            )

    play(0, draws, (), 0.0)
    return Plan(best[2], tuple(costs), agreement, len(values), best[0])


def _agreement(values: Matrix) -> tuple[Matrix, tuple[float, ...]]:
    """Correlation of the stages (nearest positive semidefinite one), and τ-b of each with the last."""
    stages = values.shape[1]
    tau = np.eye(stages)
    for i in range(stages):
        for j in range(i):
            both = np.isfinite(values[:, i]) & np.isfinite(values[:, j])
            found = kendall_tau(values[both, i], values[both, j]) if both.sum() > 2 else 0.0
            tau[i, j] = tau[j, i] = found if np.isfinite(found) else 0.0
    weights, vectors = np.linalg.eigh(np.vectorize(lambda t: sin(pi * t / 2))(tau))
    fixed = (vectors * np.maximum(weights, 1e-6)) @ vectors.T
    scale = np.sqrt(np.diag(fixed))
    return fixed / np.outer(scale, scale), tuple(float(t) for t in tau[:, -1])


def _worlds(correlation: Matrix, pilots: int, size: int, worlds: int, rng: np.random.Generator) -> Matrix:
    """Values of shape (worlds, size, stages); each world has a correlation that as many pilots might have shown."""
    stages = len(correlation)
    root = np.linalg.cholesky(correlation + 1e-9 * np.eye(stages))
    made = np.empty((worlds, size, stages))
    for world in made:
        shown = np.corrcoef(rng.standard_normal((max(pilots, stages + 2), stages)) @ root.T, rowvar=False).reshape(
            stages, stages
        )
        world[:] = rng.standard_normal((size, stages)) @ np.linalg.cholesky(shown + 1e-9 * np.eye(stages)).T
    return made


def promote(values: Matrix, count: int) -> list[int]:
    """Choose the networks that go on: whole layers of Pareto fronts, best first, the last one thinned evenly.

    Args:
        values: Values of shape (n, objectives), larger is better.
        count: Number of networks wanted.

    Returns:
        Row numbers, those of better layers first, larger first values first within one; a last layer that is too large
        is thinned evenly along its first column.

    Example:
        >>> promote(np.array([[1.0], [3.0], [2.0]]), 2)
        [1, 2]
    """
    left, chosen = list(range(len(values))), list[int]()
    while left and len(chosen) < count:
        front = {tuple(row) for row in front_of(values[left])}
        layer = sorted((i for i in left if tuple(values[i]) in front), key=lambda i: (-values[i, 0], i))
        room = count - len(chosen)
        if len(layer) > room:
            layer = [layer[round(at)] for at in np.linspace(0, len(layer) - 1, room)] if room > 1 else layer[:1]
        chosen += layer
        left = [i for i in left if i not in set(layer)]
    return chosen
