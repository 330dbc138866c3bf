"""`PredictorSampler` proposes what a model of the trials so far, and a guide, expect to be good.

Feasible draws, neighbours and crossovers of the best make a pool, which is ranked by expected improvement, or by the
expected growth of the hypervolume where there are several objectives. Objectives that can be counted are counted; the
others come from a Gaussian process on graph statistics (`surrogate.py`). A guide is a function that says of a network,
before it is evaluated, how good it may be, such as a pretrained predictor: its answer is one more feature of the
process. Running trials count as if they had reached what is expected of them.

Sources: Jones et al. 1998, doi:10.1023/A:1008306431147; Ginsbourger et al. 2010 (the liar of parallel workers),
doi:10.1007/978-3-642-10701-6_6; Emmerich et al. 2006 (expected hypervolume improvement).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from scipy.special import ndtr

from nasplat.searchspace import Architecture, Space
from nasplat.study.captured import facts_of, key_of
from nasplat.study.directions import signs
from nasplat.study.front_pruner import believed
from nasplat.study.hypervolume import contributions, front_of
from nasplat.study.objectives import OutsideSupport
from nasplat.study.proposals import ArchitectureSampler
from nasplat.study.surrogate import Surrogate

Matrix = NDArray[np.float64]

WINDOW = 16
"""Rankings whose candidates are ranked together."""
PARENTS = 8
"""Best trials whose neighbours are in the pool, where there is one objective."""
DRAWS = 64
"""Possible values of each candidate, of which the growth of the hypervolume is the mean."""
AT_ONCE = 64
"""One in so many finished trials is how many proposals one ranking makes, so that ten thousand stay affordable."""


@dataclass(frozen=True)
class Expectation:
    """What the model expected of a proposal before its trial, of the first objective that is not counted."""

    objective: int
    """Number of that objective in the study, from 0."""
    mean: float
    """Expected value, in the objective's unit."""
    low: float
    """Expected value less two standard deviations."""
    high: float
    """Expected value plus two standard deviations."""


class PredictorSampler(ArchitectureSampler):
    """Learns from the trials so far, and proposes whole architectures: never one already tried or beyond a limit.

    Example:
        >>> import nasplat
        >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
        >>> sampler = nasplat.PredictorSampler(guide=lambda cell: -cell.graph().params, pool=8, seed=1)
        >>> study = nasplat.search(space, minimize=["macs"], n_trials=3, sampler=sampler)
        >>> study.trials[0].user_attrs["guide"] < 0
        True
    """

    def __init__(
        self,
        guide: Callable[[Architecture], float] | None = None,
        pool: int = 64,
        startup: int = 6,
        seed: int = 0,
        space: Space | None = None,
        limits: Mapping[Any, float] | None = None,
    ) -> None:
        """Say what proposals are learnt from.

        Args:
            guide: Function that says, before an evaluation, how good an architecture may be, larger being better, such
                as `Predicted(predictor)`; it may raise `OutsideSupport`. None learns from this search alone.
            pool: New candidates per proposal, half of them draws, half relatives of the best; those of the last
                `WINDOW` proposals are ranked together.
            startup: Finished trials before the model ranks; a guide ranks before, without one proposals lie far apart.
            seed: Seed that decides everything random, together with the trial's number.
            space: Space to propose from; None where `nasplat.search` tells it. `nasplat.space_of_trial` makes one of a
                plain Optuna objective.
            limits: Largest allowed values, as for `nasplat.search`, which tells its own.
        """
        super().__init__(seed, space, limits)
        self.guide, self.pool, self.startup = guide, pool, startup
        self._guided: dict[Architecture, float | None] = {}

    def _forget(self) -> None:
        super()._forget()
        self._made: dict[tuple[int, int], list[Architecture]] = {}
        self._queue: list[tuple[Architecture, Expectation | None]] = []
        self._queued_at = -1
        self._expected: dict[int, Expectation] = {}

    def expectation(self, number: int) -> Expectation | None:
        """Look up what is expected of a running trial.

        Args:
            number: Number of the trial.

        Returns:
            Mean and interval of its first objective that is not counted; None before there are trials to learn from.
        """
        return self._expected.get(number)

    def estimate(self, architecture: Architecture) -> float | None:
        """Ask the guide about a network, once.

        Args:
            architecture: Member of the space that is searched.

        Returns:
            The guide's answer, larger being better; None without a guide, or outside its support.
        """
        if self.guide is None:
            return None
        if architecture not in self._guided:
            try:
                self._guided[architecture] = float(self.guide(architecture))
            except OutsideSupport:
                self._guided[architecture] = None
        return self._guided[architecture]

    def propose(self, study: optuna.Study, number: int, contested: Set[str] = frozenset()) -> Architecture | None:
        """Propose the best-ranked network that is new, or None when nothing new is found."""
        taken = self.taken(contested)
        at_once = 1 << max(0, (len(self.ledger.complete) // AT_ONCE).bit_length() - 1)
        first = number - number % at_once
        if self._queued_at != first or at_once == 1:
            self._queue, self._queued_at = self._ranking(study, first, taken, at_once), first
        while self._queue:
            found, expected = self._queue.pop(0)
            if facts_of(found).key not in taken:
                self._expected = {n: e for n, e in self._expected.items() if self.ledger.is_open(n)}
                if expected is not None:
                    self._expected[number] = expected
                return found
        return self.fresh(random.Random(f"{self.seed} fresh {number}"), taken)

    # -- ranking -------------------------------------------------------------------------------------------------------

    def _ranking(
        self, study: optuna.Study, number: int, taken: set[str], wanted: int
    ) -> list[tuple[Architecture, Expectation | None]]:
        """The best candidates of a pool, best first."""
        complete = sorted((t for t in self.ledger.complete if t.number < number), key=lambda t: t.number)
        pool = self._pool(study, number, complete, taken, wanted)
        if not pool:
            return []
        if len(complete) < self.startup:
            return [(pool[i], None) for i in self._opening(pool, complete)]
        means, sds = self._expect(study, complete, pool, number)
        score = self._score(study, complete, pool, means, sds, number)
        order = np.argsort(-score, kind="stable")[: wanted + len(self.ledger.running) + 1]
        main, sign = self._expensive(study)[0], signs(study)
        found = []
        for i in order:
            mean, sd = sign[main] * means[i, main], sds[i, main]
            found.append((pool[i], Expectation(main, float(mean), float(mean - 2 * sd), float(mean + 2 * sd))))
        return found

    def _pool(
        self, study: optuna.Study, number: int, complete: list[FrozenTrial], taken: set[str], wanted: int
    ) -> list[Architecture]:
        """Candidates, all new and different, that this ranking and those before it drew or bred from the best."""
        found: dict[str, Architecture] = {}
        size = max(self.pool, 2 * wanted)
        for at in range(number, max(-1, number - WINDOW * wanted), -wanted):
            for candidate in self._candidates(study, at, size, complete):
                if (key := key_of(candidate)) is not None:
                    found.setdefault(key, candidate)
        return [a for key, a in found.items() if key not in taken]

    def _candidates(
        self, study: optuna.Study, number: int, size: int, complete: list[FrozenTrial]
    ) -> list[Architecture]:
        """Draws and relatives of the best, from trials before that number alone: a resumed search makes the same."""
        assert self.space is not None
        if (number, size) not in self._made:
            rng = random.Random(f"{self.seed} candidates {number}")
            made = [self.limits.draw(self.space, rng) for _ in range(size - size // 2)]
            before = [t for t in complete if t.number < number]
            parents = [self.member(t) for t in self._parents(study, before)] if len(before) >= self.startup else []
            relatives = (self.neighbour(parents, rng) for _ in range(size // 2 if parents else 0))
            self._made[number, size] = made + [a for a in relatives if a is not None]
            while len(self._made) > 2 * WINDOW:
                del self._made[next(iter(self._made))]
        return self._made[number, size]

    def _parents(self, study: optuna.Study, complete: list[FrozenTrial]) -> list[FrozenTrial]:
        """The best trials, or with several objectives those of the Pareto front."""
        sign = signs(study)
        if len(sign) == 1:
            return sorted(complete, key=lambda t: -sign[0] * t.values[0])[:PARENTS]
        if not complete:
            return []
        values = np.array([t.values for t in complete]) * sign
        front = {tuple(row) for row in front_of(values)}
        return [t for t, row in zip(complete, values, strict=True) if tuple(row) in front]

    def _opening(self, pool: list[Architecture], complete: list[FrozenTrial]) -> list[int]:
        """Order of candidates before there is much to learn from: as the guide says, else far from what was tried."""
        answers = self._answers(pool)
        if answers is not None:
            return np.argsort(-answers, kind="stable").tolist()
        tried = [self.member(t) for t in (*complete, *self.ledger.running) if t.params] + list(self._proposed.values())
        x = self._features([*pool, *tried])
        x = (x - x.mean(0)) / np.maximum(1e-9, x.std(0))
        own, others = x[: len(pool)], x[len(pool) :]
        if not len(others):
            return np.argsort((own**2).sum(1), kind="stable").tolist()  # the most ordinary one first
        nearest = ((own[:, None] - others[None]) ** 2).sum(2).min(1)
        return np.argsort(-nearest, kind="stable").tolist()

    def _features(self, architectures: Sequence[Architecture]) -> Matrix:
        """Graph statistics of networks, shape (n, f)."""
        return np.array([facts_of(a).statistics for a in architectures], np.float64)

    def _answers(self, architectures: Sequence[Architecture]) -> Matrix | None:
        """The guide's answers, the typical one where it has none; None where it has no answer at all."""
        found = [self.estimate(a) for a in architectures]
        known = [a for a in found if a is not None]
        if not known:
            return None
        typical = float(np.median(known))
        return np.array([typical if a is None else a for a in found])

    def _expensive(self, study: optuna.Study) -> list[int]:
        """Numbers of the objectives that are not counted; the first of all where all are."""
        found = (
            [i for i, o in enumerate(self.objectives) if not o.is_cheap]
            if self.objectives
            else list(range(len(study.directions)))
        )
        return found or [0]

    def _expect(
        self, study: optuna.Study, complete: list[FrozenTrial], pool: list[Architecture], number: int
    ) -> tuple[Matrix, Matrix]:
        """Mean and standard deviation of every objective, larger being better; shapes (pool, objectives)."""
        sign = signs(study)
        stopped = [t for t in self.ledger.stopped if t.number < number and believed(t)]
        seen = [self.member(t) for t in (*complete, *stopped)]
        pending = [self.member(t) for t in self.ledger.running if "key" in t.user_attrs and t.params]
        x, new = self._features([*seen, *pending]), self._features(pool)
        guide, new_guide = self._answers([*seen, *pending]), self._answers(pool)
        if guide is None or new_guide is None:
            guide = new_guide = None
        means, sds = np.zeros((len(pool), len(sign))), np.zeros((len(pool), len(sign)))
        expensive = self._expensive(study)
        for i, s in enumerate(sign):
            if i not in expensive:
                means[:, i] = [s * self._cheap(i, a) for a in pool]
                means[~np.isfinite(means[:, i]), i] = np.nanmin(means[:, i])  # no answer: as the worst
                continue
            y = s * np.array([believed(t)[i] for t in (*complete, *stopped)])
            n = len(y)
            model = Surrogate().fit(x[:n], y, guide[:n] if guide is not None else None, self.seed)
            if pending:  # as if they had reached what is expected of them
                liar = model.predict(x[n:], guide[n:] if guide is not None else None)[0]
                model = Surrogate().fit(x, np.concatenate([y, liar]), guide, self.seed)
            means[:, i], sds[:, i] = model.predict(new, new_guide)
        return means, sds

    def _cheap(self, i: int, architecture: Architecture) -> float:
        """Value of a counted objective; nan where it abstains."""
        try:
            return self.objectives[i](architecture)
        except OutsideSupport:
            return float("nan")

    def _score(
        self,
        study: optuna.Study,
        complete: list[FrozenTrial],
        pool: list[Architecture],
        means: Matrix,
        sds: Matrix,
        number: int,
    ) -> Matrix:
        """Expected improvement, or expected growth of the hypervolume; shape (pool,)."""
        sign = signs(study)
        values = np.array([t.values for t in complete]) * sign
        if len(sign) == 1:
            best, sd = values.max(), np.maximum(1e-12, sds[:, 0])
            u = (means[:, 0] - best) / sd
            return sd * (u * ndtr(u) + np.exp(-u * u / 2) / math.sqrt(2 * math.pi))
        low, high = np.quantile(values, 0.1, axis=0), values.max(0)
        front = front_of(values)
        low = np.minimum(low, front.min(0))
        span = np.where(high > low, high - low, 1.0)
        reference = np.full(len(sign), -0.1)
        front = (front - low) / span
        draws = DRAWS if len(sign) == 2 else DRAWS // 8
        noise = np.random.default_rng([self.seed, number]).standard_normal((draws, 1, len(sign)))
        total = np.zeros(len(pool))
        for shift in noise:
            total += contributions((means + sds * shift - low) / span, front, reference)
        return total / draws + 1e-9 * ((means - low) / span).sum(1)
