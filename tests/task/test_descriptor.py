"""Descriptions say what simple methods reach, and in the task's own unit."""

from __future__ import annotations

import math

import pytest
import torch

import nasplat
from nasplat.task.variants import noisy

pytestmark = pytest.mark.fast


def points(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return x, x


def test_a_line_is_found_by_the_linear_map_and_a_circle_by_the_kernel() -> None:
    (x, _), (z, _) = points(400, 0), points(200, 1)
    line = nasplat.Task.from_arrays((x, (x[:, 0] > 0).long()), (z, (z[:, 0] > 0).long()))
    assert nasplat.describe(line).linear > 95
    circle = nasplat.Task.from_arrays((x, (x.norm(dim=1) > 1.2).long()), (z, (z.norm(dim=1) > 1.2).long()))
    found = nasplat.describe(circle)
    assert found.kernel > 93
    assert found.nearest > 93
    assert found.linear < 75


def test_majority_and_balance_follow_the_classes() -> None:
    x, y = torch.rand(100, 3), (torch.arange(100) < 10).long()
    found = nasplat.describe(nasplat.Task.from_arrays((x, y), (x, y)))
    assert found.majority == pytest.approx(90.0)
    assert found.balance == pytest.approx(-(0.9 * math.log2(0.9) + 0.1 * math.log2(0.1)))
    assert found.noise == 0.0
    assert (found.examples, found.classes, found.shape) == (100, 2, (3,))


def test_inputs_that_occur_with_two_targets_are_noise() -> None:
    x = torch.arange(4.0)[:, None].repeat(2, 1)
    y = torch.tensor([0, 1, 0, 1, 1, 1, 0, 1])  # the first input alone has two
    assert nasplat.describe(nasplat.Task.from_arrays((x, y), (x, y))).noise == 0.25


def test_wrong_labels_cost_the_nearest_neighbour_most() -> None:
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    clean = nasplat.Task.from_arrays((x, (x[:, 0] > 0).long()), (x.flip(0) + 0.01, (x.flip(0)[:, 0] > 0).long()))
    before, after = nasplat.describe(clean), nasplat.describe(noisy(clean, 0.3))
    assert before.nearest - after.nearest > 20
    assert before.linear - after.linear < before.nearest - after.nearest - 5


@pytest.mark.parametrize("name", ["digits-place", "shapes-mask", "foreground:shapes", "autoencoder:shapes"])
def test_targets_of_every_kind_are_described(name: str) -> None:
    task = nasplat.load_task(name, train=200, decide=50, test=50)
    found = nasplat.describe(task)
    assert (found.linear - found.majority) * task.sign > 0
    assert math.isnan(found.balance) == task.train.y.is_floating_point()


def test_tokens_are_described() -> None:
    tokens = torch.randint(0, 30, (300, 6), generator=torch.Generator().manual_seed(0))
    task = nasplat.Task.from_arrays((tokens, (tokens[:, 0] > 14).long()), (tokens, (tokens[:, 0] > 14).long()))
    assert nasplat.describe(task).linear > 90
