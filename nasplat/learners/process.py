"""A Gaussian process from several tasks' answers to what their mean leaves of a few labels of another task.

Source: Rasmussen & Williams 2006, chapter 2.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

# T tasks, n networks


@dataclass(frozen=True)
class Process:
    """A Gaussian process from the paths' answers to what their mean leaves; far from every label it is their mean."""

    known: Matrix
    """The paths' standardised answers for the labelled networks, shape (n, T)."""
    dual: Matrix
    """Weight of each labelled network in an answer, shape (n,)."""
    theta: Matrix
    """Logarithms of the kernel's height, length and noise."""
    mean: Matrix
    """Mean of each path's answers for the labelled networks, shape (T,)."""
    spread: Matrix
    """Standard deviation of these answers, shape (T,)."""

    @classmethod
    def learn(cls, outputs: Matrix, target: Matrix) -> Self:
        """Learn a process; height, length and noise are those of the largest marginal likelihood.

        Args:
            outputs: The paths' answers for labelled networks, shape (T, n).
            target: Standardised labels of shape (n,).

        Returns:
            The process.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor

        mean, spread = outputs.mean(1), outputs.std(1) + 1e-6
        x = (outputs.T - mean) / spread
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # no noise and no signal are answers, too
            found = GaussianProcessRegressor(_kernel()).fit(x, target - x.mean(1))
        return cls(x, found.alpha_, cast(Any, found.kernel_).theta, mean, spread)

    def __call__(self, outputs: Matrix) -> Matrix:
        """Answer for networks.

        Args:
            outputs: The paths' answers for them, shape (T, n).

        Returns:
            Standardised labels of shape (n,).
        """
        x = (outputs.T - self.mean) / self.spread
        kernel = _kernel().clone_with_theta(self.theta)
        return x.mean(1) + kernel(x, self.known) @ self.dual


def _kernel() -> Any:
    """Kernel over standardised answers, with the height, length and noise at which their search starts.

    Twenty labels must not be told that they are exact, or that a tenth of a standard deviation matters.
    """
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, Product, Sum, WhiteKernel

    return Sum(Product(ConstantKernel(1.0), Matern(3.0, (1.0, 1e3), nu=2.5)), WhiteKernel(0.3, (0.02, 1e2)))
