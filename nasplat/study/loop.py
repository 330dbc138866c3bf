"""The loop of one worker of a search: ask the study for a network, evaluate the objectives, tell what was found.

Several processes may run this loop on one study. Each claims its network before it looks whether another has it, and
trials of workers that died are told as failed by those that live.
"""

from __future__ import annotations

import gc
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from nasplat.errors import BuildError, SearchError, SpaceError
from nasplat.graph.quantities import PLAIN
from nasplat.searchspace import Architecture, Space
from nasplat.searchspace.pick import Rejected
from nasplat.study.captured import facts_of
from nasplat.study.front_pruner import FrontPruner
from nasplat.study.ledger import STOPPED, Ledger
from nasplat.study.limits import Limits
from nasplat.study.liveness import Watch
from nasplat.study.objectives import AbstractObjective, OutsideSupport
from nasplat.study.predictor_sampler import PredictorSampler
from nasplat.study.proposals import ArchitectureSampler
from nasplat.study.samplers import ListedSampler
from nasplat.study.storage import NO_FAULT, is_waiting

PATIENCE = 50
"""Refused proposals in a row before a fresh feasible architecture is drawn for the sampler."""
GIVE_UP = 400
"""Refused proposals in a row before the search ends: nothing new is left."""
WAIT = 0.2
"""Seconds between looks at the last trials of other workers."""
SURPLUS = "enough trials are under way"
"""Reason of a trial that was asked for when others already made up the wanted number."""
TAKEN = "another worker told the trial"
"""Reason of a trial that this worker dropped, because another one took it for dead."""


@dataclass(frozen=True)
class Progress:
    """Where a search stands; passed to `report` after every counted trial."""

    done: int
    """Counted trials of all workers, whether they gave values, failed or were stopped by a pruner."""
    total: int
    """Counted trials at which the search ends."""
    refused: int
    """Proposals pruned at once in this run: duplicates, beyond a limit, outside a support."""
    seconds: float
    """Seconds since this run of the search began."""
    trial: optuna.trial.FrozenTrial
    """Trial that has just been finished."""


@dataclass(frozen=True)
class Question:
    """What a search asks of every network, with names resolved and contradictions refused."""

    space: Space
    """Space whose networks are proposed."""
    objectives: tuple[AbstractObjective, ...]
    """Objectives in the order of the study's directions."""
    limits: Limits
    """Largest allowed costs."""
    n_trials: int
    """Counted trials at which the search ends, those of earlier runs and of other workers included."""
    seed: int
    """Seed of the feasible draws that stand in for a sampler that repeats itself."""
    pruner: FrontPruner | None = None
    """Stops trainings that cannot reach the Pareto front; None lets all of them finish."""


class Loop:
    """One worker's part in a search."""

    def __init__(
        self, study: optuna.Study, question: Question, worker: str, report: Callable[[Progress], None] | None = None
    ) -> None:
        """Prepare the loop; nothing is asked yet.

        Args:
            study: Study that proposes networks and keeps what is found.
            question: Objectives, limits and number of trials.
            worker: Name of this worker, under which its heart beats.
            report: Function that is called after every counted trial; None for silence.
        """
        self.study, self.question, self.worker, self.report = study, question, worker, report
        self.ledger, self.watch = Ledger(), Watch()
        self.listed = study.sampler if isinstance(study.sampler, ListedSampler) else None
        if isinstance(study.sampler, ArchitectureSampler):
            study.sampler.worker = worker
        self.started = time.monotonic()
        self.refused = 0
        """Proposals that were refused in this run."""
        self.in_a_row = 0
        """Proposals that were refused since the last counted trial."""

    def run(self) -> None:
        """Ask, evaluate and tell until the wanted number of trials is finished, or nothing new is left.

        Raises:
            SearchError: hundreds of proposals in a row were refused, and no trial was ever finished.
        """
        reason = ""
        while True:
            self.ledger.update(self.study)
            self.watch.bury(self.study, self.ledger.running)
            if self.ledger.done >= self.question.n_trials:
                return
            if self.in_a_row >= GIVE_UP:
                if not self.ledger.done and not self.ledger.complete:
                    raise SearchError(
                        f"expected a finished trial of {self.question.space!r}, got {self.in_a_row} refused proposals "
                        f"in a row; the last one: {reason}.\n  Ask other objectives, or raise the limits."
                    )
                return
            others = [t for t in self.ledger.running if t.user_attrs.get("worker") != self.worker]
            if self._has_nothing_to_ask(len(others)) and not is_waiting(self.study):
                if not others:
                    return
                time.sleep(WAIT)  # the last ones are under way: their workers may still die
                continue
            reason = self._take_turn()

    def _has_nothing_to_ask(self, others: int) -> bool:
        """Whether trials of other workers make up the wanted number, or a list of networks is exhausted."""
        if self.ledger.done + others >= self.question.n_trials:
            return True
        return self.listed is not None and self.listed.is_exhausted(self.ledger.keys())

    def _take_turn(self) -> str:
        """Ask for one network and evaluate it; the answer is why it was refused, or nothing."""
        if self.in_a_row and self.in_a_row % PATIENCE == 0 and self.listed is None:
            rng = random.Random(f"{self.question.seed} fresh {self.in_a_row} {self.ledger.done}")
            fresh = self.question.limits.draw(self.question.space, rng)
            self.study.enqueue_trial(dict(fresh.choices))
        trial = None
        try:
            trial = self.study.ask()
            return self._answer(trial)
        except UpdateFinishedTrialError:
            # this worker was taken for dead, and its trial told as failed by another: that one's word stands
            if trial is not None and not self._is_finished(trial):
                raise
        self.in_a_row += 1
        return TAKEN

    def _answer(self, trial: optuna.Trial) -> str:
        """Make a trial's network and evaluate it; the answer is why it was refused, or nothing.

        Raises:
            UpdateFinishedTrialError: another worker has told the trial meanwhile.
        """
        if trial.user_attrs.get("worker") != self.worker:
            trial.set_user_attr("worker", self.worker)
        try:
            architecture = self.question.space.suggest(trial)
            # beyond a limit is told first: only what may be evaluated claims its network
            reason = self.question.limits.broken(architecture) or self._claim(trial, architecture)
        except Rejected as err:
            architecture, reason = None, f"refused by the space: {err}"
        except Exception as err:  # a network that cannot be built, or run on meta tensors
            if isinstance(err, (*NO_FAULT, SpaceError, SearchError)) and not isinstance(err, BuildError):
                raise
            self._fail(trial)
            return self._counted(trial)
        if architecture is not None and not reason:
            return self._evaluate(trial, architecture)
        self._prune(trial, reason)
        return reason

    def _claim(self, trial: optuna.Trial, architecture: Architecture) -> str:
        """Write down which network the trial is about, and say why this worker must not evaluate it, if so."""
        for key, value in about(architecture).items():
            trial.set_user_attr(key, value)
        self.ledger.update(self.study)
        sampler = self.study.sampler
        is_claimed = isinstance(sampler, ArchitectureSampler) and sampler.claimed(trial.number) == architecture
        if self.listed is not None and not is_claimed and "retry_of" not in trial.user_attrs:
            return SURPLUS  # another worker took the last one meanwhile
        rival = None if is_claimed else self.ledger.rival(facts_of(architecture).key, trial.number)
        if rival is not None:
            return f"the same network as trial {rival}"
        # numbers tell who came first, so that several workers stop at exactly the wanted number
        ahead = sum(t.number < trial.number for t in self.ledger.running)
        return SURPLUS if self.ledger.done + ahead >= self.question.n_trials else ""

    def _evaluate(self, trial: optuna.Trial, architecture: Architecture) -> str:
        """Evaluate all objectives and tell the study; the answer is why there is no value, or nothing."""
        trial.set_user_attr("counted", True)
        try:
            if isinstance(self.study.sampler, PredictorSampler):
                _note_expectation(trial, self.study.sampler, architecture)
            values = self._values(trial, architecture)
            bad = [o.name for o, v in zip(self.question.objectives, values, strict=True) if not isfinite(v)]
            if bad:
                trial.set_user_attr("reason", f"{bad[0]} is not finite")
                self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            else:
                self.study.tell(trial, values, skip_if_finished=True)
        except OutsideSupport as err:
            trial.set_user_attr("counted", False)
            self._prune(trial, str(err))
            return str(err)
        except optuna.TrialPruned as err:
            if STOPPED not in trial.user_attrs:  # an objective that gave up by itself
                trial.set_user_attr(STOPPED, 0)
                trial.set_user_attr("reason", str(err))
            self.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        except KeyboardInterrupt:
            trial.set_user_attr("counted", False)
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            raise
        except NO_FAULT:
            raise
        except Exception:
            self._fail(trial)
        return self._counted(trial)

    def _fail(self, trial: optuna.Trial) -> None:
        """Record the exception that is being handled as the end of a trial."""
        trial.set_user_attr("traceback", traceback.format_exc())
        self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        _release_memory()

    def _counted(self, trial: optuna.Trial) -> str:
        """Report a trial that counts; the answer is nothing, as there is no reason to refuse it."""
        self.in_a_row = 0
        if self.report is not None:
            frozen = self.study.get_trials(deepcopy=False)[trial.number]
            self.ledger.update(self.study)
            seconds = time.monotonic() - self.started
            self.report(Progress(self.ledger.done, self.question.n_trials, self.refused, seconds, frozen))
        return ""

    def _values(self, trial: optuna.Trial, architecture: Architecture) -> list[float]:
        """Values of all objectives; with a pruner the one with a curve comes last, so that the others can stop it.

        Raises:
            TrialPruned: the pruner stopped the training.
        """
        objectives, pruner = self.question.objectives, self.question.pruner
        if pruner is None:
            return [o(architecture) for o in objectives]
        found = {i: o(architecture) for i, o in enumerate(objectives) if i != pruner.objective}

        def after(epoch: int, value: float) -> None:
            if pruner.should_prune(trial, value, found):
                raise optuna.TrialPruned(trial.user_attrs["reason"])

        return [found[i] if i in found else o.follow(architecture, after) for i, o in enumerate(objectives)]

    def _prune(self, trial: optuna.Trial, reason: str) -> None:
        """Refuse a proposal for a reason that its trial keeps; a surplus one is not held against the sampler."""
        trial.set_user_attr("reason", reason)
        self.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        if reason != SURPLUS:
            self.refused, self.in_a_row = self.refused + 1, self.in_a_row + 1

    def _is_finished(self, trial: optuna.Trial) -> bool:
        """Whether somebody has told a trial."""
        return self.study.get_trials(deepcopy=False)[trial.number].state.is_finished()


def about(architecture: Architecture) -> dict[str, Any]:
    """Describe a network as the user attributes of its trial do.

    Args:
        architecture: Member of the space that is searched.

    Returns:
        The architecture as JSON, the key of its graph, its multiply-accumulate operations and its parameters.
    """
    facts = facts_of(architecture)
    found = {"architecture": architecture.to_json(), "key": facts.key, "macs": facts.macs, "params": facts.params}
    return found | {f"{name}_bound": sign for name, sign in zip(PLAIN, facts.bounds, strict=True) if sign}


def _note_expectation(trial: optuna.Trial, sampler: PredictorSampler, architecture: Architecture) -> None:
    """Keep what the sampler's model expected, in the objective's unit, and what its guide answered, in the guide's."""
    answer, expected = sampler.estimate(architecture), sampler.expectation(trial.number)
    if answer is not None:
        trial.set_user_attr("guide", answer)
    if expected is not None:
        noted = {"predicted": expected.mean, "predicted_low": expected.low, "predicted_high": expected.high}
        for key, value in (noted | {"predicted_objective": expected.objective}).items():
            trial.set_user_attr(key, value)


def _release_memory() -> None:
    """Give the next candidate all of the device again after an out-of-memory error."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
