"""Which networks a study has met, kept up to date as trials arrive; a glance costs what is new, not what is there."""

from __future__ import annotations

from collections.abc import Callable

import optuna
from optuna.trial import FrozenTrial, TrialState

STOPPED = "stopped"
"""User attribute of a trial whose training was given up: the epochs it had."""

KeyOf = Callable[[FrozenTrial], str | None]


def is_counted(trial: FrozenTrial) -> bool:
    """Tell whether a trial counts towards the wanted number: it is finished and about a candidate of this search.

    Args:
        trial: Trial in any state.

    Returns:
        True for values, failures with a reason and trainings that a pruner stopped; False for known rows, refused
        proposals and trials whose worker died.
    """
    if trial.state == TrialState.PRUNED:
        return STOPPED in trial.user_attrs
    return (trial.state == TrialState.COMPLETE and "known" not in trial.user_attrs) or (
        trial.state == TrialState.FAIL and ("traceback" in trial.user_attrs or "reason" in trial.user_attrs)
    )


def is_abandoned(trial: FrozenTrial) -> bool:
    """Tell whether a trial's worker died or was stopped, so that nothing was learnt about its network.

    Args:
        trial: Trial in any state.

    Returns:
        True where the network may be tried again.
    """
    return trial.state == TrialState.FAIL and not is_counted(trial)


class Ledger:
    """An index over a study's trials that reads only what is new."""

    def __init__(self, key_of: KeyOf | None = None) -> None:
        """Begin with nothing; `update` reads the study.

        Args:
            key_of: Function that gives the key of a trial's network; None takes its user attribute `key`.
        """
        self.key_of = key_of or (lambda t: t.user_attrs.get("key"))
        self.complete: list[FrozenTrial] = []
        """Trials that finished with values, in the order in which they were met."""
        self.stopped: list[FrozenTrial] = []
        """Trials whose training a pruner stopped."""
        self.done = 0
        """Number of trials that count, see `is_counted`."""
        self.pruned: set[str] = set()
        """Keys of networks that were refused or stopped."""
        self._settled: dict[str, int] = {}
        self._open: list[int] = []
        self._met = 0
        self.running: list[FrozenTrial] = []
        """Trials that some worker is evaluating."""

    def update(self, study: optuna.Study) -> None:
        """Read the trials that are new or were not finished before.

        Args:
            study: Study to follow, the same at every call.
        """
        trials = study.get_trials(deepcopy=False)
        numbers = [*self._open, *range(self._met, len(trials))]
        self._met, self._open, self.running = len(trials), [], []
        for number in numbers:
            trial = trials[number]
            if not trial.state.is_finished():
                self._open.append(number)
                if trial.state == TrialState.RUNNING:
                    self.running.append(trial)
                continue
            self.done += is_counted(trial)
            key = self.key_of(trial)
            if trial.state == TrialState.COMPLETE:
                self.complete.append(trial)
            elif trial.state == TrialState.PRUNED and STOPPED in trial.user_attrs:
                self.stopped.append(trial)
            if key is None or is_abandoned(trial):
                continue
            if trial.state == TrialState.PRUNED:
                self.pruned.add(key)
            else:
                self._settled.setdefault(key, number)

    def keys(self) -> set[str]:
        """Collect the networks that must not be proposed again.

        Returns:
            Keys of networks that were tried, are being tried, or were refused.
        """
        running = {key for t in self.running if (key := self.key_of(t)) is not None}
        return self._settled.keys() | self.pruned | running

    def rival(self, key: str, number: int) -> int | None:
        """Find another trial that has the same network, finished or running.

        Workers claim first and look then, so of two that claim one network at least one sees the other. Whoever sees
        another yields, whatever the numbers: the one with the smaller number may have looked too early.

        Args:
            key: Key of the network that was claimed.
            number: Number of the trial that claimed it.

        Returns:
            Number of the other trial; None where there is none.
        """
        if key in self._settled:
            return self._settled[key]
        return next((t.number for t in self.running if t.number != number and self.key_of(t) == key), None)

    def is_open(self, number: int) -> bool:
        """Tell whether a trial has not finished, as far as the last update knows.

        Args:
            number: Number of the trial, which may be newer than the last update.

        Returns:
            True while it waits or runs.
        """
        return number >= self._met or number in self._open
