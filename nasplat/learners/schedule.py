"""The learning rate of every training of learners: a short way up, a long way down.

Source: Smith & Topin 2018, arXiv:1708.07120.
"""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

RISE = 0.1
"""Share of the steps on which the rate rises."""


def one_cycle(optimiser: Optimizer, lr: float, steps: int) -> OneCycleLR:
    """Let a learning rate rise over a tenth of the steps, and fall over the rest.

    Args:
        optimiser: Optimiser whose rate changes.
        lr: Learning rate at which the rise ends, such as 1e-3.
        steps: Number of steps, at least 1.

    Returns:
        The schedule, whose `step` is called after each step of the optimiser.
    """
    # of exactly ten steps torch's way up is from step 0 to step 0, and it divides by that length
    return OneCycleLR(optimiser, lr, steps + (steps * RISE == 1.0), pct_start=RISE)
