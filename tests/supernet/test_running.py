"""Buffers that training changes: every subnet gets them from data, or the space is refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import nasplat
from nasplat.errors import SupernetError, SupernetWarning
from nasplat.supernet.recalibrate import recalibrate
from nasplat.supernet.running import changing_buffers, settle

MEAN = 7.0


@pytest.fixture(scope="module")
def task() -> nasplat.Task:
    x = MEAN + torch.randn(256, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(256, dtype=torch.long)
    return nasplat.Task.from_arrays((x, y), (x[:32], y[:32]))


class Own(nn.Module):
    """A norm with running averages of its own, a table that is constant, and a counter."""

    def __init__(self, c: int, rate: float = 0.2) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("mean", torch.zeros(c))
        self.register_buffer("table", torch.arange(float(c)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.lerp_(x.mean((0, 2, 3)).detach(), self.rate)
            self.steps += 1
        return x - self.mean[:, None, None] + 0 * self.table[:, None, None]


class Codebook(nn.Module):
    """Nearest of four entries, which move to the mean of what is nearest to them."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.register_buffer("entries", torch.arange(4 * c).view(4, c).float().sin())

    def forward(self, x: Tensor) -> Tensor:
        flat = x.movedim(1, -1)
        nearest = torch.cdist(flat.flatten(0, -2), self.entries).argmin(-1)
        if self.training:
            for i in range(4):
                if (nearest == i).any():
                    self.entries[i].lerp_(flat.flatten(0, -2)[nearest == i].mean(0).detach(), 0.1)
        return x + (self.entries[nearest].view_as(flat) - flat).detach().movedim(-1, 1)


def space_of(norm: Callable[[int], nn.Module]) -> nasplat.Space:
    class Net(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.first, self.norm, self.last = nn.Conv2d(3, n, 1), norm(n), nn.Linear(n, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.norm(self.first(x)).mean((2, 3)))

    return nasplat.space(example_input=(1, 3, 6, 6))(lambda pick: Net(pick("n", (2, 4))))


def test_running_averages_of_a_module_s_own_follow_the_data_in_every_subnet(task: nasplat.Task) -> None:
    space = space_of(Own)
    with pytest.warns(SupernetWarning, match=r"buffers 'norm.mean', 'norm.steps' change in training by a rule"):
        supernet = nasplat.Supernet(space, task)
    for n in (2, 4):
        module = supernet.subnet(space.architecture({"n": n}))
        want = module.first(task.train.x).mean((0, 2, 3))  # type: ignore[operator]
        assert torch.allclose(module.norm.mean, want, rtol=0.05)  # type: ignore[union-attr,arg-type]
        assert torch.equal(module.norm.table, torch.arange(float(n)))  # type: ignore[union-attr,arg-type]
    supernet.train(epochs=1)
    assert 0 <= supernet.evaluate(space.architecture({"n": 2})) <= 100


@pytest.mark.parametrize(
    "norm",
    [
        lambda n: nn.InstanceNorm2d(n, affine=True, track_running_stats=True),
        lambda n: nn.Sequential(nn.BatchNorm2d(n), nn.InstanceNorm2d(n, affine=True, track_running_stats=True)),
        lambda n: spectral_norm(nn.Conv2d(n, n, 1)),
        lambda n: nn.BatchNorm2d(n, momentum=None),
    ],
)
def test_buffers_of_torch_s_own_modules_are_found_again_without_a_warning(
    norm: Callable[[int], nn.Module], task: nasplat.Task
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        supernet = nasplat.Supernet(space_of(norm), task)
        module = supernet.subnet(supernet.space.architecture({"n": 2}))
    want = module.first(task.train.x).mean((0, 2, 3))  # type: ignore[operator]
    for name, buffer in module.named_buffers():
        if name == "norm.running_mean":
            assert torch.allclose(buffer, want, rtol=0.05)


def test_a_codebook_that_moving_averages_learn_is_refused_by_name(task: nasplat.Task) -> None:
    with pytest.raises(SupernetError, match=r"buffers 'norm.entries' are learnt by training itself(?s:.*)Make them"):
        nasplat.Supernet(space_of(Codebook), task)


@pytest.mark.fast
def test_buffers_that_do_not_settle_are_named(task: nasplat.Task) -> None:
    with pytest.warns(SupernetWarning, match=r"buffers 'mean' still move after 24 rounds"):
        recalibrate(Own(3, rate=1e-3).eval(), task.train.x[:32])


@pytest.mark.fast
def test_looking_for_buffers_changes_none_and_leaves_random_numbers_as_they_were(task: nasplat.Task) -> None:
    module = nn.Sequential(Own(3), nn.Dropout(0.5), nn.BatchNorm2d(3))
    before, state = {k: v.clone() for k, v in module.state_dict().items()}, torch.random.get_rng_state()
    assert changing_buffers(module, task.train.x) == ["0.mean", "0.steps"]
    assert settle(module, task.train.x, ["0.mean", "0.steps"]) == []
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(module[2].running_mean, before["2.running_mean"])  # type: ignore[arg-type]
    assert module[2].momentum == 0.1
    assert changing_buffers(nn.Sequential(nn.BatchNorm2d(3)), task.train.x) == []
