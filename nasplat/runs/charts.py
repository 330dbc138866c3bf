"""Trials of a study become the data of the report's charts, thinned so that large studies open at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from nasplat.study.directions import signs
from nasplat.tables.metrics import kendall_tau

SHOWN = 4000
"""Trials that a chart holds at most."""
WHISKERS = 1000
"""Trials with an interval that a chart holds at most."""


@dataclass(frozen=True)
class Chart:
    """One chart of the report: what the page's script draws, and the sentence above it."""

    data: dict[str, Any]
    """Names of the axes 'x' and 'y'; 'points' as [x, y, is filled, trial number], with the ends of an interval after
    them where there is one; 'joined' is 1 for a staircase through the filled points, 2 for one that goes on to the
    right edge, 0 for none; 'equal' draws the line on which x equals y."""
    text: str
    """What the chart shows, in one or two sentences."""


def rank(study: optuna.Study) -> Callable[[FrozenTrial], float]:
    """Find which of a study's trials is better.

    Args:
        study: Study whose first objective decides.

    Returns:
        A function that gives a finished trial's first value, with its sign turned where the objective is minimised.
    """
    sign = signs(study)[0]
    return lambda trial: sign * trial.values[0]


def thinned(trials: Sequence[FrozenTrial], kept: Collection[int], most: int = SHOWN) -> list[FrozenTrial]:
    """Choose trials evenly along the history, those with certain numbers among them.

    Args:
        trials: Finished trials in the order of their numbers.
        kept: Numbers of trials that stay in any case.
        most: Number of trials from which on some are left out; about so many remain.

    Returns:
        The chosen trials in the same order.
    """
    if len(trials) <= most:
        return list(trials)
    step = len(trials) // max(1, most - len(kept)) + 1
    return [t for i, t in enumerate(trials) if t.number in kept or i % step == 0]


def pareto(done: Sequence[FrozenTrial], front: Collection[int], names: Sequence[str]) -> Chart:
    """Plot the first objective against the second one, or against MACs where there is one objective alone.

    Args:
        done: Finished trials of the study.
        front: Numbers of the trials in the Pareto set.
        names: Name of every objective.

    Returns:
        A chart whose filled points are the Pareto set.
    """
    x: Callable[[FrozenTrial], float] = (lambda t: t.values[1]) if len(names) > 1 else (lambda t: t.user_attrs["macs"])
    points = [[x(t), t.values[0], int(t.number in front), t.number] for t in thinned(done, front)]
    data = {"x": names[1] if len(names) > 1 else "macs", "y": names[0], "points": points, "joined": 1}
    return Chart(data, "Filled: the Pareto set. Hollow: the other networks.")


def history(study: optuna.Study, done: Sequence[FrozenTrial], names: Sequence[str]) -> Chart:
    """Plot the first objective against the trial's number.

    Args:
        study: Study of the trials; tells which direction is better.
        done: Finished trials in the order of their numbers.
        names: Name of every objective.

    Returns:
        A chart whose filled points were better than everything before them.
    """
    better, best, improved = rank(study), None, set[int]()
    for trial in done:
        if best is None or better(trial) > best:
            best = better(trial)
            improved.add(trial.number)
    points = [[t.number, t.values[0], int(t.number in improved), t.number] for t in thinned(done, improved)]
    data = {"x": "trial", "y": names[0], "points": points, "joined": 2}
    return Chart(data, "Filled: better than everything before.")


def expectation(done: Sequence[FrozenTrial], names: Sequence[str]) -> Chart | None:
    """Plot what the sampler's model expected before each trial against what was measured.

    Args:
        done: Finished trials of the study.
        names: Name of every objective.

    Returns:
        A chart with intervals of two standard deviations; None where fewer than three trials had an expectation.
    """
    known = [t for t in done if "predicted_high" in t.user_attrs]
    if len(known) < 3:
        return None
    about = [t.user_attrs for t in known]
    objective = int(about[0]["predicted_objective"])
    predicted, measured = [a["predicted"] for a in about], [t.values[objective] for t in known]
    macs = kendall_tau([a["macs"] for a in about], measured)
    points = [
        [t.user_attrs["predicted"], t.values[objective], 0, t.number]
        + [t.user_attrs[f"predicted_{end}"] for end in ("low", "high")]
        for t in thinned(known, (), WHISKERS)
    ]
    inside = sum(a["predicted_low"] <= m <= a["predicted_high"] for a, m in zip(about, measured, strict=True))
    guided = [t for t in done if t.user_attrs.get("guide") is not None]
    answers = ""
    if len(guided) > 2:
        tau = kendall_tau([t.user_attrs["guide"] for t in guided], [t.values[objective] for t in guided])
        answers = f"The guide's answers: {tau:.2f} on {len(guided)}. "
    text = (
        "What the sampler's model expected before the trial, with an interval of two standard deviations, against what "
        f"was measured: rank agreement τ-b {kendall_tau(predicted, measured):.2f} on {len(known)} networks; MACs alone "
        f"{macs:.2f}. {answers}{inside} lie inside their interval; on the dashed line they would be equal. The sampler "
        "chose these networks, so good ones are over-represented."
    )
    return Chart({"x": "predicted", "y": names[objective], "points": points, "joined": 0, "equal": 1}, text)
