"""Which choices of a space matter to a study: what a forest loses on unseen networks when one choice is shuffled.

Source: Breiman 2001, Machine Learning 45 (permutation importance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance
from sklearn.preprocessing import OrdinalEncoder

from nasplat.runs.charts import thinned

LEARNABLE, LEARNT = 24, 2000
"""Trials from which the importance of choices is learnt: at least, at most."""
SHOWN_CHOICES = 16
"""Choices that are told, the most important ones."""
ABSENT = "(not asked)"
"""Stands for a choice that a network has not."""


@dataclass(frozen=True)
class Importance:
    """How much each choice matters to each objective, on networks that the forest has not seen."""

    objectives: Sequence[str]
    """Name of every objective."""
    choices: Sequence[str]
    """Names of the choices, the most important one first."""
    losses: Sequence[Sequence[float]]
    """For every choice the fall of R² when it is shuffled, for each objective; 0 at least."""
    explained: Sequence[float]
    """R² with all choices, for each objective; where it is near zero the losses say nothing."""
    learnt: int
    """Number of networks the forest learnt from."""
    unseen: int
    """Number of networks it was judged on."""

    @property
    def most(self) -> list[float]:
        """Largest loss among all choices, for each objective."""
        return [max(column) for column in zip(*self.losses, strict=True)]


def importance(done: Sequence[FrozenTrial], names: Sequence[str]) -> Importance | None:
    """Learn which choices matter.

    Args:
        done: Finished trials of the study.
        names: Name of every objective.

    Returns:
        Losses of the most important choices; None where fewer than `LEARNABLE` trials finished.
    """
    if len(done) < LEARNABLE:
        return None
    some = thinned(done, (), LEARNT)
    choices = sorted({name for t in some for name in t.params})
    x = np.array([[t.params.get(name, ABSENT) for name in choices] for t in some], dtype=object).astype(str)
    codes = OrdinalEncoder().fit_transform(x)
    order = np.random.default_rng(0).permutation(len(some))
    learnt, unseen = order[: len(order) // 2], order[len(order) // 2 :]
    losses, explained = [], []
    for column in range(len(names)):
        y = np.array([t.values[column] for t in some])
        forest = RandomForestRegressor(100, min_samples_leaf=2, max_features=0.5, random_state=0)
        forest.fit(codes[learnt], y[learnt])
        explained.append(float(forest.score(codes[unseen], y[unseen])) if np.ptp(y[unseen]) else 0.0)
        found: Any = permutation_importance(forest, codes[unseen], y[unseen], n_repeats=5, random_state=0)
        losses.append(np.maximum(found.importances_mean, 0.0))
    table = np.array(losses)
    relative = (table / np.maximum(1e-9, table.max(axis=1, keepdims=True))).max(0)
    ranked = np.argsort(-relative)[:SHOWN_CHOICES]
    return Importance(
        names, [choices[i] for i in ranked], table[:, ranked].T.tolist(), explained, len(learnt), len(unseen)
    )
