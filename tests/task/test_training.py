from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

import nasplat
from nasplat.errors import TaskError
from nasplat.task.training import Budget, Trainee, Training, learning_rate, train, train_architecture


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


def trained(budget: Budget, examples: int = 96) -> tuple[list[tuple[int, float]], Training]:
    task = nasplat.load_task("motifs", train=examples, decide=32, test=32)
    torch.manual_seed(0)
    module, told = nn.Sequential(nn.Flatten(), nn.Linear(192, 6)), list[tuple[int, float]]()
    return told, train(module, task, budget, 0, lambda n, reached: told.append((n, reached)))


def test_steps_are_the_same_on_little_and_on_much_data() -> None:
    for examples in (40, 640):
        told, done = trained(Budget(steps=50, batch_size=16), examples)
        assert [p.step for p in done.curve] == [1, 2, 4, 5, 8, 12, 18, 25, 35, 50]
        assert [n for n, _ in told] == list(range(1, 11))
        assert done.curve[-1].decide == done.decide
        assert [p.seconds for p in done.curve] == sorted(p.seconds for p in done.curve)


def test_a_curve_has_twelve_points_or_more_from_one_percent() -> None:
    marks = Budget(steps=300).marks(7)
    assert len(marks) >= 12
    assert (marks[0], marks[-1]) == (3, 300)
    assert Budget(epochs=3).marks(7) == (7, 14, 21)


def test_epochs_equal_the_same_number_of_steps() -> None:
    (epochs, first), (_, second) = trained(Budget(epochs=2, batch_size=16)), trained(Budget(steps=12, batch_size=16))
    assert len(epochs) == 2
    for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert a.equal(b)


def test_what_is_evaluated_on_the_way_changes_nothing() -> None:
    task = nasplat.load_task("motifs", train=96, decide=32, test=32)
    torch.manual_seed(0)
    alone = train(nn.Sequential(nn.Flatten(), nn.Linear(192, 6)), task, Budget(steps=12, batch_size=16))
    _, watched = trained(Budget(steps=12, batch_size=16))
    assert alone.curve == ()
    assert alone.test == watched.test


def test_the_seed_decides_dropout_too_and_the_generator_of_others_goes_on() -> None:
    task = nasplat.load_task("shapes", train=32, decide=16, test=16)
    module = nn.Sequential(nn.Flatten(), nn.Linear(256, 32), nn.Dropout(0.5), nn.Linear(32, 8))
    before, weights = torch.get_rng_state(), []
    for _ in range(2):
        torch.rand(3)  # whatever happened before
        copy = deepcopy(module)
        train(copy, task, Budget(batch_size=8, steps=4), seed=3)
        weights.append(copy[1].weight.detach().clone())
    assert torch.equal(*weights)
    torch.set_rng_state(before)
    expected = torch.rand(1)
    torch.set_rng_state(before)
    train(deepcopy(module), task, Budget(batch_size=8, steps=1))
    assert torch.equal(torch.rand(1), expected)


def test_a_training_left_and_taken_up_elsewhere_ends_as_one_that_was_not() -> None:
    task, budget = nasplat.load_task("shapes", train=40, decide=16, test=16), Budget(batch_size=8, steps=12)

    def made() -> nn.Module:
        torch.manual_seed(5)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(784, 8))

    whole = train(made(), task, budget, seed=2).module
    first = Trainee(made(), task, budget, seed=2)
    first.advance(3)
    task.evaluate(first.module, "decide")
    first.advance(7)
    kept = {k: v.clone() for k, v in first.tensors().items()}
    second = Trainee(made(), task, budget, seed=2)
    second.take_up(kept)
    assert second.step == 7
    second.advance(12)
    second.advance(99)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.module.state_dict()[name]), name
    with pytest.raises(TaskError, match="that of another one"):
        Trainee(nn.Linear(2, 2), task, budget).take_up(kept)
