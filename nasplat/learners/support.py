"""What a predictor has learnt from, and whether a network is like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplat.features.view import View

Matrix = NDArray[np.float64]
REFERENCES = 512
"""Largest number of training networks that describe a support."""
MARGIN, FEW = 0.05, 10.0
"""The range of a feature is widened at both ends by MARGIN + FEW / n of its width: few networks do not show all of
it."""


@dataclass(frozen=True)
class Support:
    """A sample of the training networks' features, f of each network, and how far apart they lie."""

    mean: Matrix
    """Mean of each feature in training, shape (f,)."""
    scale: Matrix
    """Standard deviation of each feature, shape (f,); 0 where training never varied."""
    references: Matrix
    """Features of some training networks in standard deviations, shape (at most 512, f)."""
    radius: float
    """Distance to the nearest reference that 99.5 % of the training family keeps, in standard deviations."""
    low: Matrix | float = -np.inf
    """Smallest value of each feature that is inside, shape (f,); endless in weights that were written before ranges
    were kept."""
    high: Matrix | float = np.inf
    """Largest value of each feature that is inside, likewise."""

    @staticmethod
    def learn(features: Matrix, seed: int, most: int = REFERENCES) -> Support:
        """Describe training networks by some of them.

        Args:
            features: Features of n networks, shape (n, f); rows that repeat a network count once.
            seed: Number that decides which networks are kept.
            most: Largest number of networks to keep.

        Returns:
            The support.
        """
        mean, scale = features.mean(0), features.std(0)
        scale = np.where(scale < 1e-9, 0.0, scale)
        standard = _standardise(features, mean, scale)
        # a network that stands twice is no neighbour of its own: only rows that differ tell how far apart they lie
        rounded = np.unique(np.round(standard, 4) + 0.0, axis=0, return_index=True)[1]
        standard = standard[np.sort(rounded)]
        order = np.random.default_rng(seed).permutation(len(standard))
        references, rest = standard[order[:most]], standard[order[most:][:1024]]
        if len(rest) < 32:  # a small family: each against the others
            others = [np.delete(standard, i, 0) for i in range(len(standard))] if len(standard) > 1 else [standard]
            distances = [_nearest(rows, standard[i]) for i, rows in enumerate(others)]
        else:
            distances = [_nearest(references, row) for row in rest]
        references = references.astype(np.float32).astype(np.float64)  # as they are stored
        low, high = features.min(0), features.max(0)
        margin = (MARGIN + FEW / len(features)) * (high - low)
        return Support(
            mean, scale, references, float(np.quantile(distances, 0.995)) * 1.2 + 1e-9, low - margin, high + margin
        )

    def joined(self, features: Matrix, seed: int) -> Support:
        """Describe the networks of this support and others together.

        Args:
            features: Features of the other networks, shape (n, f).
            seed: Number that decides which networks are kept.

        Returns:
            The wider support.
        """
        return Support.learn(np.vstack([self.raw(), features]), seed)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """List the support's arrays for a predictor's weights file.

        Returns:
            Arrays by name; `of` reads them back.
        """
        return {
            "support_mean": self.mean,
            "support_scale": self.scale,
            "support_references": self.references.astype(np.float32),
            "support_radius": np.array([self.radius]),
            "support_range": np.stack([np.broadcast_to(end, self.mean.shape) for end in (self.low, self.high)]),
        }

    @staticmethod
    def of(arrays: dict[str, NDArray[Any]]) -> Support:
        """Read back what `arrays` returned.

        Args:
            arrays: Arrays of a weights file.

        Returns:
            The support.
        """
        references = arrays["support_references"].astype(np.float64)
        low, high = arrays.get("support_range", (-np.inf, np.inf))
        return Support(
            arrays["support_mean"], arrays["support_scale"], references, float(arrays["support_radius"][0]), low, high
        )

    def reasons_of(self, seen: Sequence[View], names: list[str]) -> list[str]:
        """Say of each network why it is outside.

        Args:
            seen: Views of the networks.
            names: Statistics that the features are, in their order.

        Returns:
            Reasons in words; empty for those inside.
        """
        features = table(seen, names)
        is_outside = self.distances(features) > 1.0
        known = [self.reason(row, names) if out else "" for row, out in zip(features, is_outside, strict=True)]
        return [unknown(v) or reason for v, reason in zip(seen, known, strict=True)]

    def raw(self) -> Matrix:
        """Return the references' features in their own units.

        Returns:
            Features of shape (at most 512, f).
        """
        return self.references * self.scale + self.mean

    def distance(self, features: Matrix) -> float:
        """Measure how far a network is from the nearest reference.

        Args:
            features: Features of one network, shape (f,).

        Returns:
            Distance in radii; above 1 the network is outside, as it always is with a feature beyond its range.
        """
        return float(self.distances(features[None])[0])

    def distances(self, features: Matrix) -> Matrix:
        """Measure the same of many networks.

        Args:
            features: Features of n networks, shape (n, f).

        Returns:
            Shape (n,).
        """
        near = apart(self.references, _standardise(features, self.mean, self.scale)) / self.radius
        constant, beyond = self._odd(features)
        is_outside = constant.any(1) | beyond.any(1) | (near > 1.0)
        return np.where(is_outside, 1.0 + 1e-9 + near, near)

    def _odd(self, features: Matrix) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which features vary where training never did, and which are beyond their range; each of shape (n, f)."""
        varies = self.scale > 0
        constant = ~varies & (np.abs(features - self.mean) > 1e-6 * np.maximum(1.0, np.abs(self.mean)))
        return constant, varies & ((features < self.low) | (features > self.high))

    def reason(self, features: Matrix, names: list[str]) -> str:
        """Say why features of a network are outside.

        Args:
            features: Features of one network, shape (f,).
            names: Name of each feature, for the words.

        Returns:
            The reason in words: a feature that training never varied, one beyond its range, or the distance from all
            references; empty inside.
        """
        constant, beyond = (odd[0] for odd in self._odd(features[None]))
        if constant.any():
            i = int(np.argmax(constant))
            return f"{names[i]} is {features[i]:.4g}, the training networks all have {self.mean[i]:.4g}"
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
            f"{distance / self.radius:.1f} times as far from the training networks as they are from one another; "
            f"most of it: {names[i]} is {features[i]:.4g}, nearest has {there:.4g}"
        )


def _standardise(features: Matrix, mean: Matrix, scale: Matrix) -> Matrix:
    """Features in standard deviations; 0 where training never varied."""
    return np.where(scale > 0, (features - mean) / np.where(scale > 0, scale, 1.0), 0.0)


def _nearest(references: Matrix, row: Matrix) -> float:
    """Distance of a row from the nearest reference."""
    return float(np.sqrt(((references - row) ** 2).sum(1).min()))


def apart(references: Matrix, rows: Matrix) -> Matrix:
    """Measure how far points are from the nearest of some references.

    Args:
        references: Points of shape (r, f).
        rows: Points of shape (n, f).

    Returns:
        Distances of shape (n,).
    """
    # the product finds the nearest, up to rounding; how far it is must not suffer from differences of large squares
    nearest = ((references**2).sum(1) - 2.0 * rows @ references.T).argmin(1)
    return np.sqrt(((references[nearest] - rows) ** 2).sum(1))


def unknown(seen: View) -> str:
    """Say which operations of a network no predictor has learnt.

    Args:
        seen: View of the network.

    Returns:
        The reason why it is outside; empty where all are known.
    """
    return f"it uses operations no predictor knows: {', '.join(seen.unknown_ops)}" if seen.unknown_ops else ""


def table(seen: Sequence[View], names: Sequence[str]) -> Matrix:
    """Look up statistics of networks.

    Args:
        seen: Views of n networks.
        names: Statistics that are wanted.

    Returns:
        Shape (n, len(names)).
    """
    pick = itemgetter(*names) if len(names) > 1 else lambda found: tuple(found[n] for n in names)
    return np.array([pick(v.statistics) for v in seen], np.float64).reshape(len(seen), len(names))
