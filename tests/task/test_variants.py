"""Harder versions change the training split alone."""

from __future__ import annotations

import pytest
import torch

import nasplat
from nasplat.errors import TaskError
from nasplat.task.variants import imbalanced, noisy, small

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def plain() -> nasplat.Task:
    return nasplat.load_task("shapes", train=2000, decide=50, test=50)


@pytest.mark.parametrize("word", ["small", "imbalanced", "noisy"])
def test_what_is_judged_stays_and_epochs_show_the_same_examples(plain: nasplat.Task, word: str) -> None:
    task = nasplat.load_task(f"{word}:shapes?train=2000&decide=50&test=50")
    assert task.name == f"{word}:shapes"
    assert task.decide.x.equal(plain.decide.x)
    assert task.test.y.equal(plain.test.y)
    assert task.renew is None


def test_small_keeps_so_many_examples_with_their_targets(plain: nasplat.Task) -> None:
    kept = small(plain, 100)
    assert len(kept.train) == 100
    row = int((plain.train.x == kept.train.x[7]).flatten(1).all(1).nonzero())
    assert int(kept.train.y[7]) == int(plain.train.y[row])
    assert len(small(plain, 10**6).train) == 2000


def test_imbalanced_classes_fall_geometrically(plain: nasplat.Task) -> None:
    before, after = plain.train.y.bincount(), imbalanced(plain, 20).train.y.bincount()
    shares = (after / before).tolist()
    assert shares[0] == 1.0
    assert shares[-1] == pytest.approx(1 / 20, abs=0.005)
    assert shares == sorted(shares, reverse=True)


def test_noisy_labels_are_wrong_in_the_stated_share(plain: nasplat.Task) -> None:
    changed = noisy(plain, 0.2)
    assert changed.train.x.equal(plain.train.x)
    assert float((changed.train.y != plain.train.y).float().mean()) == pytest.approx(0.2)
    assert changed.train.y.unique().tolist() == list(range(8))


def test_targets_that_are_no_classes_are_refused() -> None:
    with pytest.raises(TaskError, match="expected one class for each example"):
        noisy(nasplat.load_task("digits-place", train=20, decide=10, test=10))
    zeros = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(TaskError, match="has one"):
        noisy(nasplat.Task.from_arrays((torch.rand(4, 2), zeros), (torch.rand(4, 2), zeros)))


def test_versions_go_before_one_another() -> None:
    task = nasplat.load_task("noisy:small:textures?train=1000&decide=50&test=50")
    assert (task.name, len(task.train)) == ("noisy:small:textures", 500)
