"""Gradient-boosted trees: scikit-learn grows several models on different resamplings, flat arrays answer.

Source: Friedman 2001, Annals of Statistics 29.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplat.learners.flat_trees import FlatTrees

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class BoostedSettings:
    """How many boosted models are grown, and how large."""

    members: int = 5
    """Number of models, each grown on another resampling; their spread says how sure they are."""
    trees: int = 300
    """Trees of each model."""
    depth: int = 5
    """Largest number of splits between the root of a tree and a leaf."""
    lr: float = 0.06
    """Learning rate: share of each tree's correction that is kept."""


@dataclass(frozen=True, eq=False)
class Boosted:
    """Several boosted models, all with the same number of trees."""

    trees: FlatTrees
    """Trees of the first model, then those of the second, and so on; the learning rate is in their answers."""
    start: Matrix
    """Answer of each model before its first tree, shape (members,)."""

    @staticmethod
    def from_sklearn(models: Sequence[Any], lr: float) -> Boosted:
        """Copy fitted models of scikit-learn.

        Args:
            models: Fitted models with equal numbers of trees.
            lr: Learning rate that they were fitted with.

        Returns:
            Models that answer the same.
        """
        trees = [tree for m in models for tree in m.estimators_[:, 0]]
        starts: list[Any] = [m.init_ for m in models]
        return Boosted(FlatTrees.from_sklearn(trees, lr), np.array([float(s.constant_[0, 0]) for s in starts]))

    @staticmethod
    def from_arrays(arrays: dict[str, NDArray[Any]], prefix: str = "") -> Boosted:
        """Read back what `arrays` returned, or the padded layout of older weights.

        Args:
            arrays: Arrays of a weights file.
            prefix: Beginning of the names of this ensemble's arrays.

        Returns:
            The models.

        Raises:
            KeyError: an array is missing.
        """
        mine = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
        is_padded = mine["left"].ndim == 3
        return Boosted(FlatTrees.from_padded(mine) if is_padded else FlatTrees.from_arrays(mine), mine["start"])

    def arrays(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        """List the arrays for a weights file.

        Args:
            prefix: Put before every name.

        Returns:
            The arrays of the trees, and `start`.
        """
        return self.trees.arrays(prefix) | {f"{prefix}start": self.start}

    def answers(self, x: Matrix) -> Matrix:
        """Answer for many rows.

        Args:
            x: Features of shape (n, f).

        Returns:
            Every model's answer to every row, shape (members, n).
        """
        leaves = self.trees.answers(x).reshape(len(x), len(self.start), -1)
        return np.ascontiguousarray((self.start + leaves.sum(2)).T)


def grow_boosted(x: Matrix, y: Matrix, settings: BoostedSettings, seed: int) -> Boosted:
    """Grow boosted models, each tree on 60 % of the rows and half of the features.

    Args:
        x: Features of shape (n, f).
        y: Targets of shape (n,).
        settings: Number and size of the models.
        seed: Number that decides the resamplings.

    Returns:
        The models.

    Example:
        >>> x = np.arange(40.0)[:, None]
        >>> grow_boosted(x, x[:, 0], BoostedSettings(members=2, trees=20), seed=0).answers(x[:3]).shape
        (2, 3)
    """
    from sklearn.ensemble import GradientBoostingRegressor

    models = [
        GradientBoostingRegressor(
            n_estimators=settings.trees,
            max_depth=settings.depth,
            learning_rate=settings.lr,
            subsample=0.6,
            max_features=0.5,
            min_samples_leaf=3,
            random_state=seed * 1000 + member,
        ).fit(x, y)
        for member in range(settings.members)
    ]
    return Boosted.from_sklearn(models, settings.lr)
