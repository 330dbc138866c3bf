"""The base of our samplers: whole architectures are proposed before a trial asks for its first choice.

Never a network that was tried, is being tried or was refused; never one beyond a limit.
"""

from __future__ import annotations

import random
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence, Set
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from nasplat.errors import SearchError, SpaceError
from nasplat.searchspace import Architecture, Space
from nasplat.study.captured import facts_of, key_of, name_of
from nasplat.study.ledger import Ledger
from nasplat.study.limits import Limits
from nasplat.study.objectives import AbstractObjective

ATTEMPTS = 64
"""Draws in vain before a sampler has nothing new to propose."""


class ArchitectureSampler(optuna.samplers.BaseSampler):
    """Proposes whole architectures of a space; a subclass says which."""

    def __init__(self, seed: int = 0, space: Space | None = None, limits: Mapping[Any, float] | None = None) -> None:
        """Prepare a sampler that has not seen any study.

        Args:
            seed: Seed that decides everything random, together with the trial's number.
            space: Space to propose from; None where `nasplat.search` tells it. `nasplat.space_of_trial` makes one of a
                plain Optuna objective.
            limits: Largest allowed values, as for `nasplat.search`, which tells its own.
        """
        self.seed, self.space, self.limits = seed, space, Limits.of(limits)
        self.objectives: tuple[AbstractObjective, ...] = ()
        self.worker = ""
        """Name of the worker whose trials these are; the loop of a search tells it."""
        self._lock = threading.Lock()
        self._study: tuple[Any, int] | None = None
        self._forget()

    def _forget(self) -> None:
        """Begin anew, with nothing known of any study."""
        self.ledger = Ledger(self._key_of)
        self._proposed: dict[int, Architecture] = {}
        self._members: dict[int, Architecture] = {}

    def bind(self, space: Space, objectives: Sequence[AbstractObjective], limits: Limits) -> None:
        """Tell what is searched; `nasplat.search` does so.

        Args:
            space: Space to propose from.
            objectives: Objectives in the order of the study's directions.
            limits: Largest values, which every proposal must keep.
        """
        self.space, self.objectives, self.limits = space, tuple(objectives), limits

    @abstractmethod
    def propose(self, study: optuna.Study, number: int, contested: Set[str] = frozenset()) -> Architecture | None:
        """Choose the next architecture; the ledger is up to date when this is called.

        Args:
            study: Study that asks.
            number: Number of the trial that will evaluate it.
            contested: Keys of networks that this trial proposed before and that another worker claimed at the same
                time.

        Returns:
            A feasible network that is new; None when none is found.
        """

    # -- Optuna's contract ---------------------------------------------------------------------------------------------

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        """Sample nothing jointly by name: whole architectures are proposed before the trial.

        Args:
            study: Study that asks.
            trial: Trial that has just begun.

        Returns:
            An empty mapping.
        """
        return {}

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        """Sample nothing, see `infer_relative_search_space`.

        Args:
            study: Study that asks.
            trial: Trial that has just begun.
            search_space: Empty mapping that `infer_relative_search_space` returned.

        Returns:
            An empty mapping.
        """
        return {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Propose one architecture for the trial, and claim its network before other workers.

        Args:
            study: Study that asks.
            trial: Trial that has just begun.

        Raises:
            SearchError: nobody told the sampler a space.
        """
        if self.space is None:
            raise SearchError(
                f"{type(self).__name__} expected a space.\n  Run it through nasplat.search, or pass space=; "
                "nasplat.space_of_trial makes one of an Optuna objective."
            )
        contested: set[str] = set()
        if self.worker:  # before a proposal that may take a while: who has no name is taken for dead
            study._storage.set_trial_user_attr(trial._trial_id, "worker", self.worker)
        with self._lock:
            if self._study != (study._storage, study._study_id):  # the same sampler may serve one study after another
                self._study = (study._storage, study._study_id)
                self._forget()
            for _ in range(ATTEMPTS):
                self.ledger.update(study)
                self._proposed = {n: a for n, a in self._proposed.items() if self.ledger.is_open(n)}
                architecture = self.propose(study, trial.number, contested)
                if architecture is None:
                    return
                self._proposed[trial.number] = architecture
                key = name_of(architecture)
                # Optuna gives samplers no other way to tell workers on the same storage what a trial is about
                study._storage.set_trial_user_attr(trial._trial_id, "key", key)
                self.ledger.update(study)
                if self.ledger.rival(key, trial.number) is None:
                    return
                contested.add(key)
                del self._proposed[trial.number]

    def claimed(self, number: int) -> Architecture | None:
        """Look up what was proposed to a running trial.

        Args:
            number: Number of the trial.

        Returns:
            The architecture that this trial claimed, and no other; None where nothing was proposed.
        """
        return self._proposed.get(number)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        """Answer one choice as the proposal does; what is no choice of the space is drawn uniformly.

        Args:
            study: Study that asks.
            trial: Trial that asks.
            param_name: Name of the choice, or of any other parameter.
            param_distribution: Values that are allowed.

        Returns:
            One of the allowed values.
        """
        proposal = self._proposed.get(trial.number)
        if proposal is not None and param_name in proposal.choices:
            return proposal.choices[param_name]
        number = random.Random(f"{self.seed} {trial.number} {param_name}").getrandbits(31)
        return optuna.samplers.RandomSampler(seed=number).sample_independent(
            study, trial, param_name, param_distribution
        )

    def reseed_rng(self) -> None:
        """Do nothing: randomness comes from seed and trial number, and workers never share a number."""

    # -- for subclasses ------------------------------------------------------------------------------------------------

    def member(self, trial: FrozenTrial) -> Architecture:
        """Read the architecture of a trial, once.

        Args:
            trial: Trial with parameters.

        Returns:
            Member of the space; numbers between options stand for the nearest one.
        """
        assert self.space is not None
        if trial.number not in self._members:
            known = self.space.known
            own = {n: _nearest(v, known[n]) if n in known else v for n, v in trial.params.items()}
            self._members[trial.number] = self.space.project(own)
        return self._members[trial.number]

    def _key_of(self, trial: FrozenTrial) -> str | None:
        """Key of a trial's network, also where a plain Optuna objective did not write it down."""
        if "key" in trial.user_attrs:
            return str(trial.user_attrs["key"])
        if not trial.params or not trial.state.is_finished() or self.space is None:
            return None
        try:
            return facts_of(self.member(trial)).key
        except SpaceError:
            return None

    def taken(self, contested: Set[str] = frozenset()) -> set[str]:
        """Collect the networks that must not be proposed.

        Args:
            contested: Keys of networks that another worker claimed at the same time.

        Returns:
            Keys of networks that were tried, are being tried, were refused or are contested.
        """
        return self.ledger.keys() | {name_of(a) for a in self._proposed.values()} | contested

    def fresh(self, rng: random.Random, taken: set[str]) -> Architecture | None:
        """Draw a feasible network that is new.

        Args:
            rng: Generator that decides the draws.
            taken: Keys of networks that must not be proposed.

        Returns:
            The network; None where `ATTEMPTS` draws gave nothing new.
        """
        assert self.space is not None
        for _ in range(ATTEMPTS):
            try:
                found = self.limits.draw(self.space, rng)
            except (SpaceError, SearchError):
                return None
            if (key := key_of(found)) is not None and key not in taken:
                return found
        return None

    def neighbour(
        self, parents: Sequence[Architecture], rng: random.Random, crossed: float = 0.3
    ) -> Architecture | None:
        """Mutate one parent, or cross two.

        Args:
            parents: Networks of the space, at least one.
            rng: Generator that decides parents and changes.
            crossed: Share of children that have two parents, where there are several.

        Returns:
            A feasible network, which need not be new; None where the draw was in vain.
        """
        assert self.space is not None
        parent = rng.choice(parents)
        try:
            if len(parents) > 1 and rng.random() < crossed:
                found = self.space.crossover(parent, rng.choice(parents), seed=rng.getrandbits(48))
            else:
                found = self.space.mutate(parent, seed=rng.getrandbits(48), changes=rng.choice((1, 1, 2)))
            return None if self.limits.broken(found) or key_of(found) is None else found
        except Exception:  # no member within the limits, or one that cannot be built: a user's code raises anything
            return None


def _nearest(value: Any, options: Sequence[Any]) -> Any:
    """The option itself, or for a number between options the nearest one."""
    if value in options or isinstance(value, str | bool):
        return value
    numbers = [o for o in options if isinstance(o, int | float) and not isinstance(o, bool)]
    return min(numbers, key=lambda o: abs(o - value), default=value)
