"""Which way the objectives of a study point, as factors that make larger values the better ones."""

from __future__ import annotations

import optuna
from optuna.study import StudyDirection

from nasplat.tables.metrics import sign


def signs(study: optuna.Study) -> list[float]:
    """Give the factor of every objective that makes larger values better.

    Args:
        study: Study of one or more objectives.

    Returns:
        For each objective, in the study's order, 1.0 where it is maximised and -1.0 where it is minimised.

    Example:
        >>> signs(optuna.create_study(directions=["maximize", "minimize"]))
        [1.0, -1.0]
    """
    return [sign(direction == StudyDirection.MAXIMIZE) for direction in study.directions]
