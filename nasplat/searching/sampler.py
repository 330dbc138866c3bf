"""`PredictorSampler`: an Optuna sampler that proposes what a predictor expects to be good.

A pool of feasible, new architectures (random draws, neighbours and crossovers of the Pareto set) is ranked by an estimate of
every objective: cheap ones are counted exactly, expensive ones come from the guide, corrected by a Bayesian linear model of
the trials so far (Thompson sampling). Several objectives are folded by a random augmented Chebyshev weight per trial.
Sources: Knowles 2006 (ParEGO), doi:10.1109/TEVC.2005.851274; Russo et al. 2018, arXiv:1707.02038.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import log10
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from nasplat.errors import SearchError, SpaceError
from nasplat.searching.limits import Limits
from nasplat.searching.objectives import AbstractObjective, OutsideSupport, graph_of
from nasplat.searchspace import Architecture, Space

LEARN_FROM = 8
"""Finished trials before they correct the guide."""


class PredictorSampler(optuna.samplers.BaseSampler):
    """Proposes whole architectures; never one already tried, never one beyond a limit."""

    def __init__(self, guide: Callable[[Architecture], float], pool: int = 32, seed: int = 0, explore: float = 0.1) -> None:
        """Args:
        guide: Value of an architecture, larger is better; `Predicted(predictor)` for instance. May raise OutsideSupport.
        pool: Candidates ranked per proposal.
        seed: With the trial's number it decides everything random.
        explore: Share of proposals drawn at random from the pool.
        """
        self.guide, self.pool, self.seed, self.explore = guide, pool, seed, explore
        self.space: Space | None = None
        self.limits = Limits.of(None)
        self.objectives: tuple[AbstractObjective, ...] = ()
        self._proposed: dict[int, Architecture] = {}
        self._guided: dict[Architecture, float | None] = {}

    def bind(self, space: Space, objectives: Sequence[AbstractObjective], limits: Limits) -> None:
        """Tell what is searched; `nasplat.search` does so.

        Args:
            space: The search space.
            objectives: In the order of the study's directions.
            limits: Which proposals must keep.
        """
        self.space, self.objectives, self.limits = space, tuple(objectives), limits

    # -- Optuna's contract ---------------------------------------------------------------------------------------------

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        """Nothing is sampled jointly by name: whole architectures are proposed before the trial."""
        return {}

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        """See `infer_relative_search_space`."""
        return {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Propose one architecture for the trial."""
        if self.space is None:
            raise SearchError("PredictorSampler expected a space.\n  Run it through nasplat.search, or call sampler.bind first.")
        architecture = self.propose(study, trial.number)
        if architecture is not None:
            self._proposed[trial.number] = architecture

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: optuna.distributions.BaseDistribution
    ) -> Any:
        """The proposal's answer to one choice."""
        options: Any = getattr(param_distribution, "choices", None)
        if options is None:
            raise SearchError(f"PredictorSampler expected categorical choices, got {param_distribution!r} for {param_name!r}.")
        proposal = self._proposed.get(trial.number)
        if proposal is not None and param_name in proposal.choices:
            return proposal.choices[param_name]
        return random.Random(f"{self.seed} {trial.number} {param_name}").choice(list(options))

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Forget the proposal."""
        self._proposed.pop(trial.number, None)

    def reseed_rng(self) -> None:
        """Randomness comes from (seed, trial number): workers that share a storage never share a number."""

    # -- proposing -----------------------------------------------------------------------------------------------------

    def propose(self, study: optuna.Study, number: int) -> Architecture | None:
        """The next architecture, or None when nothing new is found."""
        assert self.space is not None
        rng = random.Random(f"{self.seed} propose {number}")
        trials = [t for t in study.get_trials(deepcopy=False) if t.number != number]
        tried = {t.user_attrs["key"] for t in trials if "key" in t.user_attrs}
        pool = self._pool(study, rng, tried | {graph_of(a.canonical()).key for a in self._proposed.values()})
        if not pool:
            return None
        if rng.random() < self.explore:
            return pool[0]
        finished = [t for t in trials if t.state == TrialState.COMPLETE and "architecture" in t.user_attrs]
        estimates = self._estimates(study, pool, finished, np.random.default_rng([self.seed, number]))
        weights = np.array([rng.gammavariate(1.0, 1.0) for _ in range(estimates.shape[1])]) + 1e-9
        weights /= weights.sum()
        # larger is better on every column, each scaled to [0, 1] over the pool
        low, high = estimates.min(0), estimates.max(0)
        regret = weights * (1.0 - (estimates - low) / np.where(high > low, high - low, 1.0))
        folded = regret.max(1) + 0.05 * regret.sum(1)
        return pool[int(np.argmin(folded))]

    def _pool(self, study: optuna.Study, rng: random.Random, tried: set[str]) -> list[Architecture]:
        assert self.space is not None
        finished = [t for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if t.params]
        parents = []
        if finished:
            front = study.best_trials if len(study.directions) > 1 else sorted(finished, key=self._order(study))[:8]
            parents = [self.space.project(t.params) for t in front]
        found: dict[str, Architecture] = {}
        for attempt in range(8 * self.pool):
            if len(found) >= self.pool:
                break
            try:
                if parents and attempt % 2:
                    parent = rng.choice(parents)
                    if len(parents) > 1 and rng.random() < 0.3:
                        candidate = self.space.crossover(parent, rng.choice(parents), seed=rng.getrandbits(48))
                    else:
                        candidate = self.space.mutate(parent, seed=rng.getrandbits(48), changes=rng.choice((1, 1, 2)))
                    if self.limits.broken(candidate):
                        continue
                else:
                    candidate = self.limits.draw(self.space, rng)
            except SpaceError:
                continue
            key = graph_of(candidate.canonical()).key
            if key not in tried:
                found.setdefault(key, candidate)
        return list(found.values())

    @staticmethod
    def _order(study: optuna.Study) -> Callable[[FrozenTrial], float]:
        sign = -1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1.0
        return lambda t: sign * t.values[0]

    def _estimates(
        self, study: optuna.Study, pool: list[Architecture], finished: list[FrozenTrial], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Shape (pool, objectives); larger is better in every column."""
        columns = []
        signs = [1.0 if d == optuna.study.StudyDirection.MAXIMIZE else -1.0 for d in study.directions]
        expensive = [i for i, o in enumerate(self.objectives) if not o.is_cheap] if self.objectives else range(len(signs))
        for i, sign in enumerate(signs):
            if i not in expensive:
                columns.append([sign * self.objectives[i](a) for a in pool])
            elif len(finished) >= LEARN_FROM:
                columns.append(list(sign * self._corrected(pool, finished, i, rng)))
            else:
                prior = [self._prior(a) for a in pool]
                known = [p for p in prior if p is not None]
                typical = float(np.median(known)) if known else 0.0
                columns.append([typical if p is None else p for p in prior])
        return np.array(columns, np.float64).T

    def estimate(self, architecture: Architecture) -> float | None:
        """The guide's answer, known before the trial; None outside its support."""
        return self._prior(architecture)

    def _prior(self, architecture: Architecture) -> float | None:
        if architecture not in self._guided:
            try:
                self._guided[architecture] = float(self.guide(architecture))
            except OutsideSupport:
                self._guided[architecture] = None
        return self._guided[architecture]

    def _corrected(
        self, pool: list[Architecture], finished: list[FrozenTrial], objective: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """One draw from the posterior of a linear model on the guide's answer, counts and choices."""
        assert self.space is not None
        seen = [self.space.project(t.params) for t in finished]
        y = np.array([t.values[objective] for t in finished])
        names = sorted({(n, v) for a in (*seen, *pool) for n, v in a.choices.items()}, key=repr)
        column = {name: i for i, name in enumerate(names)}

        def row(a: Architecture) -> NDArray[np.float64]:
            graph = graph_of(a)
            prior = self._prior(a)
            head = [1.0, prior or 0.0, float(prior is not None), log10(max(1, graph.macs)), log10(max(1, graph.params))]
            one_hot = np.zeros(len(names))
            one_hot[[column[c] for c in a.choices.items()]] = 0.3  # choices start with less say than guide and counts
            return np.concatenate([head, one_hot])

        x, new = np.array([row(a) for a in seen]), np.array([row(a) for a in pool])
        mean, scale = x[:, 1:5].mean(0), x[:, 1:5].std(0)
        for block in (x, new):
            block[:, 1:5] = np.where(scale > 1e-9, (block[:, 1:5] - mean) / np.where(scale > 1e-9, scale, 1.0), 0.0)
        centre, spread = y.mean(), y.std() + 1e-9
        precision = x.T @ x + np.eye(x.shape[1])
        covariance = np.linalg.inv(precision)
        weights = covariance @ x.T @ ((y - centre) / spread)
        noise = float(np.mean(((y - centre) / spread - x @ weights) ** 2)) + 1e-3
        draw = rng.multivariate_normal(weights, noise * covariance, method="cholesky")
        return centre + spread * (new @ draw)
