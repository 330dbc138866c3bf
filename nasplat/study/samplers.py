"""Samplers without a model: a given list, random draws, local search, and regularised evolution.

Sources: Real et al., AAAI 2019, arXiv:1802.01548 (regularised evolution); White et al. 2021, arXiv:2004.08996 (local
search). With several objectives a trial is better than another when it dominates it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence, Set

import optuna
from optuna.trial import FrozenTrial

from nasplat.searchspace import Architecture
from nasplat.study.captured import name_of
from nasplat.study.directions import signs
from nasplat.study.proposals import ATTEMPTS, ArchitectureSampler


class ListedSampler(ArchitectureSampler):
    """Given networks in their order, and nothing else: a search ends when all were tried."""

    def __init__(self, architectures: Sequence[Architecture], seed: int = 0, **settings: object) -> None:
        """Say which networks are proposed, in which order.

        Args:
            architectures: Networks of the space that is searched.
            seed: Seed of parameters that are no choices of the space.
            settings: Space and limits, as for `ArchitectureSampler`.
        """
        super().__init__(seed, **settings)  # type: ignore[arg-type]
        self.architectures = list(architectures)

    def propose(self, study: optuna.Study, number: int, contested: Set[str] = frozenset()) -> Architecture | None:
        """Propose the first network of the list that is new, or None."""
        taken = self.taken(contested)
        return next((a for a in self.architectures if name_of(a) not in taken), None)

    def is_exhausted(self, keys: Set[str]) -> bool:
        """Tell whether nothing is left to propose.

        Args:
            keys: Keys of networks that were tried, are being tried, or were refused.

        Returns:
            True where these are all networks of the list.
        """
        return all(name_of(a) in keys for a in self.architectures)


class UniqueRandomSampler(ArchitectureSampler):
    """Feasible random draws, each network once: what every other sampler must beat.

    Example:
        >>> import nasplat
        >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
        >>> sampler = nasplat.UniqueRandomSampler(seed=1)
        >>> study = nasplat.search(space, minimize=["macs"], n_trials=4, sampler=sampler)
        >>> len({trial.user_attrs["key"] for trial in study.trials})
        4
    """

    def propose(self, study: optuna.Study, number: int, contested: Set[str] = frozenset()) -> Architecture | None:
        """Draw a feasible network that is new, or None."""
        return self.fresh(random.Random(f"{self.seed} random {number}"), self.taken(contested))


class EvolutionSampler(ArchitectureSampler):
    """Regularised evolution: the best of a few drawn from the youngest trials is mutated.

    Example:
        >>> import nasplat
        >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
        >>> sampler = nasplat.EvolutionSampler(population=3, tournament=2, seed=1)
        >>> len(nasplat.search(space, minimize=["macs"], n_trials=5, sampler=sampler).trials)
        5
    """

    def __init__(self, population: int = 30, tournament: int = 10, seed: int = 0, **settings: object) -> None:
        """Say how large population and tournament are.

        Args:
            population: Number of youngest finished trials that are alive; as many random ones come first.
            tournament: Number of trials drawn from them, the best of which is mutated.
            seed: Seed that decides everything random, together with the trial's number.
            settings: Space and limits, as for `ArchitectureSampler`.
        """
        super().__init__(seed, **settings)  # type: ignore[arg-type]
        self.population, self.tournament = population, tournament

    def propose(self, study: optuna.Study, number: int, contested: Set[str] = frozenset()) -> Architecture | None:
        """Mutate the best of a tournament, or draw while the population is small."""
        rng, taken = random.Random(f"{self.seed} evolve {number}"), self.taken(contested)
        alive = sorted(self.ledger.complete, key=lambda t: t.number)[-self.population :]
        if len(alive) >= self.population or (alive and number >= 2 * self.population):
            for _ in range(ATTEMPTS):
                drawn = rng.sample(alive, min(self.tournament, len(alive)))
                found = self.neighbour([self.member(_best(study, drawn))], rng)
                if found is not None and name_of(found) not in taken:
                    return found
        return self.fresh(rng, taken)


class LocalSearchSampler(ArchitectureSampler):
    """Local search: random neighbours of the best network so far; a new start when none of many is better.

    Example:
        >>> import nasplat
        >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
        >>> sampler = nasplat.LocalSearchSampler(patience=4, seed=1)
        >>> len(nasplat.search(space, minimize=["macs"], n_trials=5, sampler=sampler).trials)
        5
    """

    def __init__(self, patience: int = 24, seed: int = 0, **settings: object) -> None:
        """Say when to start anew.

        Args:
            patience: Number of neighbours tried in vain before a new start.
            seed: Seed that decides everything random, together with the trial's number.
            settings: Space and limits, as for `ArchitectureSampler`.
        """
        super().__init__(seed, **settings)  # type: ignore[arg-type]
        self.patience = patience

    def propose(self, study: optuna.Study, number: int, contested: Set[str] = frozenset()) -> Architecture | None:
        """Propose a neighbour of the network where the search stands, or draw a new start."""
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
                if found is not None and name_of(found) not in taken:
                    return found
        return self.fresh(rng, taken)


def _is_better(study: optuna.Study, first: FrozenTrial, second: FrozenTrial) -> bool:
    """Whether a trial is at least as good in every objective and better in one."""
    pairs = [(s * a, s * b) for s, a, b in zip(signs(study), first.values, second.values, strict=True)]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _best(study: optuna.Study, trials: list[FrozenTrial]) -> FrozenTrial:
    """The first trial that no other dominates."""
    return next(t for t in trials if not any(_is_better(study, other, t) for other in trials))
