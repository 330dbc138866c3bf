from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import nasplat
from nasplat.errors import InputError, TaskError
from nasplat.measuring import Budget, train, train_architecture
from nasplat.measuring.training import learning_rate


def test_latency_has_an_interval_and_leaves_the_mode() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Dropout()).train()
    found = nasplat.measure(module, (1, 8), batch=4, repeats=20, warmup=2)
    assert 0 < found.low_ms <= found.median_ms <= found.high_ms
    assert (found.batch, found.repeats, found.dtype) == (4, 20, "float32")
    assert module.training


def test_few_repeats_and_missing_devices_are_refused() -> None:
    with pytest.raises(InputError, match="at least 5 repeats, got 2"):
        nasplat.measure(nn.Linear(2, 2), (1, 2), repeats=2)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="torch sees none"):
            nasplat.measure(nn.Linear(2, 2), (1, 2), device="cuda")


def test_training_is_seeded(vit: nasplat.Space, task: nasplat.Task) -> None:
    architecture = vit.sample(seed=0)
    first, second, other = (train_architecture(architecture, task, Budget(epochs=1), seed=s) for s in (0, 0, 1))
    assert (first.decide, first.test) == (second.decide, second.test)
    assert any(
        not torch.equal(a, b) for a, b in zip(first.module.state_dict().values(), other.module.state_dict().values(), strict=True)
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
