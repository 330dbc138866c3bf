"""A Gaussian process from graph statistics to a measured value: small data, honest uncertainty.

Several length scales and noise levels compete by their marginal likelihood; a guide's answer, where there is one, is
one more direction in which networks may differ. Source: Rasmussen & Williams 2006, chapters 2 and 5.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular

Matrix = NDArray[np.float64]

SCALES = (0.5, 1.0, 2.0, 4.0)
"""Length scales, in root mean squares of the standardised features."""
NOISES = (1e-3, 1e-2, 1e-1)
"""Variance of a measurement over that of the values."""
TRUST = (0.0, 1.0, 4.0)
"""Variance that the guide's answer explains, over that which features explain."""
MOST = 300
"""Measurements that are learnt from at most: half of them the best, half drawn from the rest."""


class Surrogate:
    """A Gaussian process of networks; larger values are better.

    Example:
        >>> x = np.arange(6.0)[:, None]
        >>> mean, sd = Surrogate().fit(x, x[:, 0] ** 2).predict(np.array([[2.0], [20.0]]))
        >>> bool(abs(mean[0] - 4.0) < 1.0), bool(sd[1] > sd[0])
        (True, True)
    """

    def fit(self, x: Matrix, y: Matrix, guide: Matrix | None = None, seed: int = 0) -> Surrogate:
        """Learn from measured networks.

        Args:
            x: Features of shape (n, f).
            y: Measured values of shape (n,), in any unit, at least two of them different.
            guide: What a guide says of these networks, shape (n,); None without a guide.
            seed: Seed that decides which measurements are left out where there are more than `MOST`.

        Returns:
            The process itself, fitted.
        """
        chosen = np.arange(len(y))
        if len(y) > MOST:
            order = np.argsort(-y, kind="stable")
            rest = np.random.default_rng(seed).choice(order[MOST // 2 :], MOST - MOST // 2, replace=False)
            chosen = np.sort(np.concatenate([order[: MOST // 2], rest]))
        x, y = x[chosen], y[chosen]
        guide = guide[chosen] if guide is not None else None
        self.mean, scale = x.mean(0), x.std(0)
        self.kept = scale > 1e-9
        self.scale = np.where(self.kept, scale, 1.0)
        self.x = self._standard(x)
        self.guide_mean, self.guide_scale = (guide.mean(), guide.std() + 1e-9) if guide is not None else (0.0, 1.0)
        self.guide = (guide - self.guide_mean) / self.guide_scale if guide is not None else None
        # the best differ least and matter most: far below them, how far is told no longer
        middle, low = np.quantile(y, [0.5, 0.25])
        clipped = np.maximum(y, low - 2 * (middle - low)) if middle > low else y
        self.centre, self.spread = float(clipped.mean()), float(clipped.std()) or 1.0
        z = (clipped - self.centre) / self.spread
        distance = _distances(self.x, self.x)
        linear = np.outer(self.guide, self.guide) if self.guide is not None else None
        top = -math.inf
        for length in SCALES:
            smooth = np.exp(-distance / (2 * length**2))
            for trust in TRUST if linear is not None else (0.0,):
                kernel = smooth + trust * linear if linear is not None else smooth
                for noise in NOISES:
                    factor = cho_factor(kernel + noise * np.eye(len(z)), lower=True)
                    weights = cho_solve(factor, z)
                    # the kernel's height is integrated out by its best value
                    height = max(1e-6, float(z @ weights) / len(z))
                    likelihood = -0.5 * len(z) * math.log(height) - float(np.log(np.diag(factor[0])).sum())
                    if likelihood > top:
                        top = likelihood
                        self.length, self.trust, self.noise, self.height = length, trust, noise, height
                        self.factor, self.weights = factor[0], weights
        return self

    def predict(self, x: Matrix, guide: Matrix | None = None) -> tuple[Matrix, Matrix]:
        """Expect the values of networks that are not measured.

        Args:
            x: Features of shape (n, f).
            guide: What the guide says of these networks, shape (n,); None where it was fitted without one.

        Returns:
            Means and standard deviations of shape (n,), in the unit of the values.
        """
        mean, sd = self._posterior(x, guide)
        return self.centre + self.spread * mean, self.spread * sd

    def _posterior(self, x: Matrix, guide: Matrix | None) -> tuple[Matrix, Matrix]:
        """Mean and standard deviation in the standardised unit, shapes (n,)."""
        kernel = np.exp(-_distances(self._standard(x), self.x) / (2 * self.length**2))
        variance = np.ones(len(x))
        if self.guide is not None and guide is not None:
            own = (guide - self.guide_mean) / self.guide_scale
            kernel = kernel + self.trust * np.outer(own, self.guide)
            variance = variance + self.trust * own**2
        explained = solve_triangular(self.factor, kernel.T, lower=True)
        variance = np.maximum(1e-9, variance - (explained**2).sum(0))
        return kernel @ self.weights, np.sqrt(self.height * variance)

    def _standard(self, x: Matrix) -> Matrix:
        """Features that vary, with mean 0 and standard deviation 1 among the measured networks."""
        return ((x - self.mean) / self.scale)[:, self.kept]


def _distances(a: Matrix, b: Matrix) -> Matrix:
    """Mean squared difference per feature between rows of two matrices, shape (n, m)."""
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.maximum(0.0, squared) / max(1, a.shape[1])
