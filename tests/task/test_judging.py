"""Losses and metrics of any form: the right number, or an error that says what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nasplat
from nasplat.errors import TaskError
from nasplat.task import task as tasks
from nasplat.task.judging import accuracy, distance
from nasplat.task.training import Budget, train

pytestmark = pytest.mark.fast

X = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 1, 0, 1, 0, 0, 0, 1, 1])
NUMBERS: dict[str, Any] = {"loss": F.mse_loss, "metric": distance}


def of(y: Any = Y, x: Any = X, **options: Any) -> nasplat.Task:
    return nasplat.Task.from_arrays((x, y), (x, y), **options)


def right(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output.argmax(1) == target).float() * 100


FORMS: dict[str, Any] = {
    "each": right,
    "each as truth": lambda o, t: o.argmax(1) == t,
    "each in a column": lambda o, t: right(o, t)[:, None],
    "each in numpy": lambda o, t: right(o, t).numpy(),
    "each in a list": lambda o, t: right(o, t).tolist(),
    "mean": lambda o, t: right(o, t).mean(),
    "mean in a vector": lambda o, t: right(o, t).mean()[None],
    "mean in numpy": lambda o, t: right(o, t).numpy().mean(),
    "mean in Python": lambda o, t: float(right(o, t).mean()),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, 3, 10, 64])
def test_a_metric_means_the_same_in_any_form_and_batch(form: str, batch: int) -> None:
    module = nn.Linear(4, 2)
    expected = float(right(module(X), Y).mean()) / (100 if "truth" in form else 1)
    found = of(metric=FORMS[form]).evaluate(module, batch_size=batch)
    assert found == pytest.approx(expected, abs=1e-5)
    assert of(metric=FORMS[form]).evaluate(module, batch_size=batch, limit=1) in {0.0, 1.0, 100.0}


def test_a_metric_that_is_no_mean_is_that_of_the_whole_split() -> None:
    def f1(output: torch.Tensor, target: torch.Tensor) -> float:
        said = output.argmax(1)
        return float(2 * (said * target).sum() / (said + target).sum().clamp_min(1))

    module = nn.Linear(4, 2)
    task = of(metric=f1, metric_name="F1")
    expected = f1(module(X), Y)
    assert [task.evaluate(module, batch_size=n) for n in (3, 4, 10)] == [expected] * 3


def test_answers_beyond_memory_ask_for_one_value_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "ANSWERS", 8)
    task = of(metric=FORMS["mean"], metric_name="mine")
    with pytest.raises(
        TaskError, match=r"metric 'mine' .* expected one value of each example.*\n  Return a tensor of shape"
    ):
        task.evaluate(nn.Linear(4, 2), batch_size=3)
    assert task.evaluate(nn.Linear(4, 2), batch_size=10) >= 0


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        (lambda o, t: o, r"one number for each of 10 examples, or one of all, got \(10, 2\) of float32"),
        (lambda o, t: None, "or one of all, got NoneType"),
        (lambda o, t: {"accuracy": 1.0}, "or one of all, got dict"),
        (lambda o, t: (1.0, 2.0), "or one of all, got tuple of 2"),
        (lambda o, t: o.unknown, "could not compare answers .*: AttributeError"),
        (lambda o, t: o[:, 7], "could not compare answers .*IndexError"),
    ],
)
def test_a_metric_that_gives_no_number_is_named(metric: Any, says: str) -> None:
    with pytest.raises(TaskError, match=rf"metric 'mine' of task 'arrays' .*{says}"):
        of(metric=metric, metric_name="mine").evaluate(nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("task", "answers", "says"),
    [
        (of(torch.arange(10) % 5), 2, r"expected scores of 5 classes, got 2 of a network.*\n.*such as classes=5"),
        (of(loss=lambda o, t: F.cross_entropy(o, t, reduction="none")), 2, r"a scalar tensor, got \(10,\) of float32"),
        (of(loss=lambda o, t: 0.5), 2, "a scalar tensor, got float 0.5"),
        (of(loss=lambda o, t: (o.argmax(1) != t).float().mean()), 2, "has no gradient"),
        (
            of(torch.rand(10), **NUMBERS),
            1,
            r"answers \(10, 1\) of float32 with targets \(10,\) of float32: UserWarning",
        ),
        (
            of(torch.arange(10), **NUMBERS),
            1,
            r"answers \(10, 1\) of float32 with targets \(10,\) of int64: UserWarning",
        ),
        (of(torch.rand(10, 3), **NUMBERS), 2, r"'mse_loss' .* could not compare answers \(10, 2\).* targets \(10, 3\)"),
        (
            of(loss=F.binary_cross_entropy_with_logits),
            1,
            r"'binary_cross_entropy_with_logits' of task 'arrays' could not",
        ),
    ],
)
def test_training_names_what_the_loss_cannot_take(task: nasplat.Task, answers: int, says: str) -> None:
    with pytest.raises(TaskError, match=says):
        train(nn.Linear(4, answers), task, Budget(epochs=1))


def test_inputs_that_a_network_cannot_take_are_named() -> None:
    with pytest.raises(TaskError, match=r"could not run on inputs \(10, 4\) of float32 of task 'arrays': RuntimeError"):
        of().evaluate(nn.Linear(5, 2))
    with pytest.raises(TaskError, match=r"(?s)of int64 of task 'arrays'.*Quantities are given as floats"):
        of(x=np.arange(40).reshape(10, 4)).evaluate(nn.Linear(4, 2))
    module = nn.Linear(5, 2).train()
    with pytest.raises(TaskError):
        of().evaluate(module)
    assert module.training  # its mode is put back


def test_typed_errors_and_full_memory_stay_what_they_are() -> None:
    def full(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        of(metric=full).evaluate(nn.Linear(4, 2))


def test_accuracy_and_distance_refuse_shapes_that_would_be_spread() -> None:
    with pytest.raises(TaskError, match=r"class numbers \(n, …\), got shapes \(4, 3\) and \(4, 1\)"):
        accuracy(torch.zeros(4, 3), torch.zeros(4, 1, dtype=torch.int64))
    with pytest.raises(TaskError, match=r"got shapes \(4, 3, 1, 1\) and \(4,\)"):
        accuracy(torch.zeros(4, 3, 1, 1), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(TaskError, match="of two classes or more"):
        accuracy(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(TaskError, match=r"of one shape, got \(4, 2\) and \(4,\)"):
        distance(torch.zeros(4, 2), torch.zeros(4))
    assert distance(torch.ones(4, 1), torch.zeros(4)).tolist() == [1.0] * 4
