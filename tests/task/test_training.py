from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import nasplat
from nasplat.errors import TaskError
from nasplat.task.training import Budget, learning_rate, train, train_architecture


def test_training_is_seeded(vit: nasplat.Space, task: nasplat.Task) -> None:
    architecture = vit.sample(seed=0)
    first, second, other = (train_architecture(architecture, task, Budget(epochs=1), seed=s) for s in (0, 0, 1))
    assert (first.decide, first.test) == (second.decide, second.test)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(first.module.state_dict().values(), other.module.state_dict().values(), strict=True)
    )


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    rates = [learning_rate(i, 100, 1.0) for i in range(100)]
    assert rates[0] == 0.1
    assert max(rates) == 1.0
    assert rates[-1] < 0.001


def test_diverging_and_empty_budgets_are_refused(task: nasplat.Task) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    with pytest.raises(TaskError, match="the loss became nan"):
        train(module, replace(task, loss=lambda o, y: o.sum() * float("nan")), Budget(epochs=1))
    with pytest.raises(TaskError, match="A budget of nothing"):
        Budget(epochs=0)
