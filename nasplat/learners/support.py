"""What a predictor has learnt from, and whether a network is like it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplat.features.view import View

Matrix = NDArray[np.float64]
REFERENCES = 512
MARGIN, FEW = 0.05, 10.0
"""The range of a feature is widened at both ends by MARGIN + FEW / n of its width: few networks do not show all of it."""


@dataclass(frozen=True)
class Support:
    """A sample of the training features and how far apart they lie."""

    mean: Matrix
    scale: Matrix
    """Standard deviation per feature; 0 where training never varied."""
    references: Matrix
    """Standardised training features, shape (at most 512, f)."""
    radius: float
    """Distance to the nearest reference that 99.5 % of the training family keeps."""
    low: Matrix | float = -np.inf
    """Range of each feature, a little widened; endless in weights that were written before ranges were kept."""
    high: Matrix | float = np.inf

    @staticmethod
    def learn(features: Matrix, seed: int, most: int = REFERENCES) -> Support:
        """Describe training features of shape (n, f) by at most so many of them."""
        mean, scale = features.mean(0), features.std(0)
        scale = np.where(scale < 1e-9, 0.0, scale)
        standard = _standardise(features, mean, scale)
        order = np.random.default_rng(seed).permutation(len(standard))
        references, rest = standard[order[:most]], standard[order[most:][:1024]]
        if len(rest) < 32:  # a small family: each against the others
            distances = [_nearest(np.delete(standard, i, 0), standard[i]) for i in range(len(standard))]
        else:
            distances = [_nearest(references, row) for row in rest]
        references = references.astype(np.float32).astype(np.float64)  # as they are stored
        low, high = features.min(0), features.max(0)
        margin = (MARGIN + FEW / len(features)) * (high - low)
        return Support(
            mean, scale, references, float(np.quantile(distances, 0.995)) * 1.2 + 1e-9, low - margin, high + margin
        )

    def joined(self, features: Matrix, seed: int) -> Support:
        """The support of these networks and others with features of shape (n, f)."""
        return Support.learn(np.vstack([self.raw(), features]), seed)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For a predictor's weights file; `of` reads them back."""
        return {
            "support_mean": self.mean,
            "support_scale": self.scale,
            "support_references": self.references.astype(np.float32),
            "support_radius": np.array([self.radius]),
            "support_range": np.stack([np.broadcast_to(end, self.mean.shape) for end in (self.low, self.high)]),
        }

    @staticmethod
    def of(arrays: dict[str, NDArray[Any]]) -> Support:
        """What `arrays` returned."""
        references = arrays["support_references"].astype(np.float64)
        low, high = arrays.get("support_range", (-np.inf, np.inf))
        return Support(
            arrays["support_mean"], arrays["support_scale"], references, float(arrays["support_radius"][0]), low, high
        )

    def reason_of(self, seen: View, names: list[str]) -> str:
        """Why a network is outside; empty inside."""
        if seen.unknown_ops:
            return f"it uses operations no predictor knows: {', '.join(seen.unknown_ops)}"
        return self.reason(np.array([seen.statistics[n] for n in names]), names)

    def raw(self) -> Matrix:
        """The references as they were, shape (at most 512, f)."""
        return self.references * self.scale + self.mean

    def distance(self, features: Matrix) -> float:
        """Distance of one network (features of shape (f,)) from the nearest reference, in radii; above 1 it is outside, as it always is
        with a feature beyond its range.
        """
        near = _nearest(self.references, _standardise(features[None], self.mean, self.scale)[0]) / self.radius
        return near if not self.reason(features, [""] * len(features)) else max(near, 1.0 + 1e-9 + near)

    def reason(self, features: Matrix, names: list[str]) -> str:
        """Why one network (features of shape (f,)) is outside; empty inside."""
        constant = (self.scale == 0) & (np.abs(features - self.mean) > 1e-6 * np.maximum(1.0, np.abs(self.mean)))
        if constant.any():
            i = int(np.argmax(constant))
            return f"{names[i]} is {features[i]:.4g}, the training networks all have {self.mean[i]:.4g}"
        beyond = (self.scale > 0) & ((features < self.low) | (features > self.high))
        if beyond.any():
            low, high = (np.broadcast_to(end, features.shape) for end in (self.low, self.high))
            excess = np.maximum(low - features, features - high) / np.where(beyond, high - low, 1.0)
            i = int(np.argmax(np.where(beyond, excess, -np.inf)))
            return f"{names[i]} is {features[i]:.4g}, the training networks have {low[i]:.4g} to {high[i]:.4g}"
        standard = _standardise(features[None], self.mean, self.scale)[0]
        distance = _nearest(self.references, standard)
        if distance <= self.radius:
            return ""
        nearest = self.references[np.argmin(((self.references - standard) ** 2).sum(1))]
        i = int(np.argmax(np.abs(standard - nearest)))
        there = nearest[i] * self.scale[i] + self.mean[i]
        return (
            f"{distance / self.radius:.1f} times as far from the training networks as they are from one another; most of it: "
            f"{names[i]} is {features[i]:.4g}, nearest has {there:.4g}"
        )


def _standardise(features: Matrix, mean: Matrix, scale: Matrix) -> Matrix:
    return np.where(scale > 0, (features - mean) / np.where(scale > 0, scale, 1.0), 0.0)


def _nearest(references: Matrix, row: Matrix) -> float:
    return float(np.sqrt(((references - row) ** 2).sum(1).min()))
