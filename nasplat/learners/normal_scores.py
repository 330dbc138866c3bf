"""What regressions learn instead of the raw label: its place in a normal distribution.

Accuracies crowd at the top and trail off to chance; ranks do not, and what ranks well is what is asked for. The way back interpolates between
the labels that were seen. Source: van der Waerden 1952 (normal scores).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
KNOTS = 512
"""At most so many points of the way back are kept."""


@dataclass(frozen=True)
class NormalScores:
    """A monotone map between labels and normal scores."""

    labels: Vector
    """Ascending, shape (k,)."""
    scores: Vector
    """Of each, ascending, shape (k,)."""

    @staticmethod
    def learn(labels: ArrayLike) -> NormalScores:
        """From labels of shape (n,); equal labels have equal scores."""
        from scipy.special import ndtri

        values, counts = np.unique(np.asarray(labels, np.float64), return_counts=True)
        scores = ndtri((np.cumsum(counts) - counts / 2) / counts.sum())
        if len(values) > KNOTS:
            kept = np.unique(np.linspace(0, len(values) - 1, KNOTS).round().astype(int))
            values, scores = values[kept], scores[kept]
        return NormalScores(values, scores)

    def forward(self, labels: ArrayLike) -> Vector:
        """Labels to scores; beyond the ends constant."""
        return np.interp(np.asarray(labels, np.float64), self.labels, self.scores)

    def back(self, scores: ArrayLike) -> Vector:
        """Scores to labels; beyond the ends the slope of the outer tenth goes on, so that ranks survive."""
        z = np.asarray(scores, np.float64)
        inner = np.interp(z, self.scores, self.labels)
        return (
            inner
            + self._slope(0) * np.minimum(0.0, z - self.scores[0])
            + self._slope(-1) * np.maximum(0.0, z - self.scores[-1])
        )

    def _slope(self, end: int) -> float:
        last = len(self.labels) - 1
        tenth = min(max(1, len(self.labels) // 10), last)
        a, b = (0, tenth) if end == 0 else (last - tenth, last)
        width = self.scores[b] - self.scores[a]
        return float((self.labels[b] - self.labels[a]) / width) if width > 0 else 0.0

    def arrays(self, prefix: str = "normal") -> dict[str, Vector]:
        """For a weights file; `of` reads them back."""
        return {f"{prefix}_labels": self.labels, f"{prefix}_scores": self.scores}

    @staticmethod
    def of(arrays: dict[str, Vector], prefix: str = "normal") -> NormalScores:
        """What `arrays` returned."""
        return NormalScores(arrays[f"{prefix}_labels"], arrays[f"{prefix}_scores"])
