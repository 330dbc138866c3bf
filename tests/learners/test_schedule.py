"""Learning rates of learners rise and fall over any number of steps."""

from __future__ import annotations

import pytest
import torch

from nasplat.learners.schedule import one_cycle

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 20, 100])
def test_a_rate_reaches_its_largest_and_falls_over_any_number_of_steps(steps: int) -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, rates = one_cycle(optimiser, 0.5, steps), list[float]()
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        if len(rates) < steps:
            schedule.step()
    assert all(0 < rate <= 0.5 for rate in rates)
    assert max(rates) > 0.45 or steps < 3
    assert steps < 3 or rates[-1] < 0.1
