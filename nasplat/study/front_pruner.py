"""`FrontPruner`: stops a training whose learning curve can no longer reach the Pareto front.

Optuna's pruners compare one reported value and refuse studies of several objectives. Here the curve is kept as a user
attribute of the trial, finished curves tell how a value after some epochs relates to the final one (a line through
them), and their leave-one-out residuals bound the final value from above as split conformal prediction would (Lei et
al. 2018, doi:10.1080/01621459.2017.1307116). A training is stopped where this bound, with the trial's other objectives,
is dominated by a finished trial. Finished curves are those that were not stopped, so the bound errs on the side of
going on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from nasplat.errors import SearchError
from nasplat.study.directions import signs
from nasplat.study.ledger import STOPPED

CURVE = "curve"
"""User attribute: the value after each epoch."""
BELIEVED = "believed"
"""User attribute of a stopped trial: all its values, with what was expected in the end."""


@dataclass(frozen=True)
class Outlook:
    """What finished curves say about the final value of a running one, in the objective's unit."""

    mean: float
    """Expected final value."""
    bound: float
    """Value that the final one exceeds with the probability `risk` at most; where smaller is better, undercuts."""
    curves: int
    """Number of finished curves that were learnt from."""


class FrontPruner:
    """Decides after each epoch of a training whether it goes on, with one objective or several, in any Optuna study.

    Example:
        >>> import optuna
        >>> pruner = FrontPruner(startup=3)
        >>> def objective(trial: optuna.Trial) -> float:
        ...     rate = trial.suggest_float("rate", 0.0, 1.0)
        ...     for epoch in range(3):
        ...         if pruner.should_prune(trial, rate * (epoch + 1)):
        ...             raise optuna.TrialPruned
        ...     return rate * 3
        >>> study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
        >>> study.optimize(objective, n_trials=12)
        >>> {trial.state.name for trial in study.trials} == {"COMPLETE", "PRUNED"}
        True
    """

    def __init__(self, risk: float = 0.1, startup: int = 8, warmup: int = 1, objective: int = 0) -> None:
        """Say how careful the pruner is.

        Args:
            risk: Share of trainings that may end above their bound, between 0 and 1; smaller stops later.
            startup: Number of finished curves before anything is stopped, at least 3.
            warmup: Number of epochs that every training gets, at least 1.
            objective: Number of the objective that the curve is of, from 0.

        Raises:
            SearchError: a number is out of range.
        """
        if not 0 < risk < 1 or startup < 3 or warmup < 1 or objective < 0:
            raise SearchError(
                f"expected 0 < risk < 1, startup >= 3, warmup >= 1 and objective >= 0, got {risk}, {startup}, {warmup} "
                f"and {objective}.\n  Three curves are the fewest that a line and its residuals can be made of."
            )
        self.risk, self.startup, self.warmup, self.objective = risk, startup, warmup, objective

    def should_prune(self, trial: optuna.Trial, value: float, others: Mapping[int, float] | None = None) -> bool:
        """Record the value that one more epoch has reached, and say whether to stop.

        Args:
            trial: Trial that is training.
            value: Value that the curve's objective has now, in its unit.
            others: Values of all other objectives, by number; an objective that is left out is taken to be as good as
                can be, so that nothing is stopped for the sake of it.

        Returns:
            True where `optuna.TrialPruned` should be raised. The trial then says why, and what was believed of it.
        """
        curve = [*trial.user_attrs.get(CURVE, []), float(value)]
        trial.set_user_attr(CURVE, curve)
        sign = signs(trial.study)
        if len(curve) < self.warmup or not math.isfinite(value):
            return False
        finished = [
            t
            for t in trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if len(t.user_attrs.get(CURVE, ())) > len(curve)
        ]
        outlook = self.outlook(curve, finished, sign[self.objective])
        if outlook is None:
            return False
        values = [math.inf] * len(sign)
        for number, other in (others or {}).items():
            values[number] = sign[number] * other
        values[self.objective] = sign[self.objective] * outlook.bound
        better = _dominating(values, trial.study, sign)
        if better is None:
            return False
        trial.set_user_attr(STOPPED, len(curve))
        trial.set_user_attr(
            "reason", f"stopped after epoch {len(curve)}: {outlook.bound:.4g} at best, trial {better} is better"
        )
        if others is not None and len(others) == len(sign) - 1:
            believed = dict(others) | {self.objective: outlook.mean}
            trial.set_user_attr(BELIEVED, [believed[i] for i in range(len(sign))])
        return True

    def outlook(self, curve: Sequence[float], finished: Sequence[FrozenTrial], sign: float = 1.0) -> Outlook | None:
        """Expect the final value of a curve, from finished ones that are longer.

        Args:
            curve: Values after each epoch so far, at least one.
            finished: Finished trials whose curves are longer.
            sign: Factor that makes larger values the better ones, see `signs`.

        Returns:
            Mean and bound of the final value; None while there are fewer finished curves than `startup`.
        """
        if len(finished) < self.startup:
            return None
        now = sign * np.array([t.user_attrs[CURVE][len(curve) - 1] for t in finished], np.float64)
        final = sign * np.array([t.values[self.objective] for t in finished], np.float64)
        mean, residuals = _line(now, final, sign * curve[-1])
        rank = math.ceil((1 - self.risk) * (len(residuals) + 1))
        ordered = np.sort(residuals)
        # too few for the level: the largest residual and once more its distance from the middle
        bound = ordered[rank - 1] if rank <= len(ordered) else 2 * ordered[-1] - float(np.median(ordered))
        return Outlook(sign * mean, sign * (mean + float(bound)), len(finished))


def _line(x: NDArray[np.float64], y: NDArray[np.float64], at: float) -> tuple[float, NDArray[np.float64]]:
    """Value of the least-squares line at a place, and leave-one-out residuals; points all alike give a constant."""
    design = np.stack([np.ones_like(x), x - x.mean()], 1)
    if np.ptp(x) < 1e-12:
        design = design[:, :1]
    weights = np.linalg.lstsq(design, y, rcond=None)[0]
    leverage = np.clip((design @ np.linalg.pinv(design.T @ design) * design).sum(1), 0.0, 0.99)
    row = np.array([1.0, at - x.mean()])[: design.shape[1]]
    return float(row @ weights), (y - design @ weights) / (1 - leverage)


def _dominating(values: Sequence[float], study: optuna.Study, sign: Sequence[float]) -> int | None:
    """Number of a finished trial that is at least as good in everything and better in something, or None.

    Values come with their signs, so that larger is better.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        theirs = [s * v for s, v in zip(sign, trial.values, strict=True)]
        if all(a >= b for a, b in zip(theirs, values, strict=True)) and any(
            a > b for a, b in zip(theirs, values, strict=True)
        ):
            return trial.number
    return None


def believed(trial: FrozenTrial) -> list[float]:
    """Give the values of a finished trial, or what was expected of a stopped one in the end.

    Args:
        trial: Trial in any state.

    Returns:
        One value per objective, in its unit; empty where nothing is known.
    """
    return list(trial.values) if trial.state == TrialState.COMPLETE else trial.user_attrs.get(BELIEVED, [])
