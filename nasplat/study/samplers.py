"""Samplers without a model: a given list, random draws, local search, and regularised evolution; ours, for spaces of architectures.

Sources: Real et al., AAAI 2019, arXiv:1802.01548 (regularised evolution); White et al. 2021, arXiv:2004.08996 (local search). With
several objectives a trial is better than another when it dominates it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence, Set

import optuna
from optuna.trial import FrozenTrial

from nasplat.searchspace import Architecture
from nasplat.study.captured import facts_of
from nasplat.study.directions import signs
from nasplat.study.proposals import ATTEMPTS, ArchitectureSampler


class ListedSampler(ArchitectureSampler):
    """Given networks in their order, and nothing else: a search ends when all were tried."""

    def __init__(self, architectures: Sequence[Architecture], seed: int = 0, **settings: object) -> None:
        """Args:
        architectures: Of the space that is searched.
        seed: For what is no choice of the space.
        settings: space, limits, as for `ArchitectureSampler`.
        """
        super().__init__(seed, **settings)  # type: ignore[arg-type]
        self.architectures = list(architectures)

    def propose(self, study: optuna.Study, number: int, contested: Set[str] = frozenset()) -> Architecture | None:
        """See the base class."""
        taken = self.taken(contested)
        return next((a for a in self.architectures if facts_of(a).key not in taken), None)

    def is_exhausted(self, keys: Set[str]) -> bool:
        """Nothing is left to propose.

        Args:
            keys: Of networks that were tried, are being tried, or were refused.
        """
        return all(facts_of(a).key in keys for a in self.architectures)


class UniqueRandomSampler(ArchitectureSampler):
    """Feasible draws, each network once."""

    def propose(self, study: optuna.Study, number: int, contested: Set[str] = frozenset()) -> Architecture | None:
        """See the base class."""
        return self.fresh(random.Random(f"{self.seed} random {number}"), self.taken(contested))


class EvolutionSampler(ArchitectureSampler):
    """Regularised evolution: the best of a few drawn from the youngest trials is mutated."""

    def __init__(self, population: int = 30, tournament: int = 10, seed: int = 0, **settings: object) -> None:
        """Args:
        population: Youngest finished trials that are alive.
        tournament: Drawn from them; the best one is mutated.
        seed: With the trial's number it decides everything random.
        settings: space, limits, as for `ArchitectureSampler`.
        """
        super().__init__(seed, **settings)  # type: ignore[arg-type]
        self.population, self.tournament = population, tournament

    def propose(self, study: optuna.Study, number: int, contested: Set[str] = frozenset()) -> Architecture | None:
        """See the base class."""
        rng, taken = random.Random(f"{self.seed} evolve {number}"), self.taken(contested)
        alive = sorted(self.ledger.complete, key=lambda t: t.number)[-self.population :]
        if len(alive) >= self.population or (alive and number >= 2 * self.population):
            for _ in range(ATTEMPTS):
                drawn = rng.sample(alive, min(self.tournament, len(alive)))
                found = self.neighbour([self.member(_best(study, drawn))], rng)
                if found is not None and facts_of(found).key not in taken:
                    return found
        return self.fresh(rng, taken)


class LocalSearchSampler(ArchitectureSampler):
    """All neighbours of the best, best first; a new start when none is better."""

    def __init__(self, patience: int = 24, seed: int = 0, **settings: object) -> None:
        """Args:
        patience: Neighbours tried in vain before a new start.
        seed: With the trial's number it decides everything random.
        settings: space, limits, as for `ArchitectureSampler`.
        """
        super().__init__(seed, **settings)  # type: ignore[arg-type]
        self.patience = patience

    def propose(self, study: optuna.Study, number: int, contested: Set[str] = frozenset()) -> Architecture | None:
        """See the base class."""
        rng, taken = random.Random(f"{self.seed} climb {number}"), self.taken(contested)
        here: FrozenTrial | None = None
        waited = 0
        for trial in sorted(self.ledger.complete, key=lambda t: t.number):
            if here is None or _is_better(study, trial, here):
                here, waited = trial, 0
            elif (waited := waited + 1) >= self.patience:
                here, waited = None, 0
        if here is not None:
            for _ in range(ATTEMPTS):
                found = self.neighbour([self.member(here)], rng)
                if found is not None and facts_of(found).key not in taken:
                    return found
        return self.fresh(rng, taken)


def _is_better(study: optuna.Study, first: FrozenTrial, second: FrozenTrial) -> bool:
    pairs = [(s * a, s * b) for s, a, b in zip(signs(study), first.values, second.values, strict=True)]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _best(study: optuna.Study, trials: list[FrozenTrial]) -> FrozenTrial:
    """One that no other dominates; the first of them."""
    return next(t for t in trials if not any(_is_better(study, other, t) for other in trials))
