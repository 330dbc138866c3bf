"""Questions about a task's own images: what is asked can be read back from the target."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import nasplat
from nasplat.errors import TaskError
from nasplat.task import Split
from nasplat.task.derived import ORDERS, derived, edged, psnr, rotated, shuffled


@pytest.fixture(scope="module")
def task() -> nasplat.Task:
    return nasplat.load_task("digits-clutter", train=96, decide=32, test=32)


def test_turns_and_orders_can_be_undone(task: nasplat.Task) -> None:
    x = task.decide.x
    turned = rotated(task.decide, 3)
    assert set(turned.y.tolist()) == {0, 1, 2, 3}
    assert all(torch.equal(t.rot90(-int(k), (1, 2)), s) for t, k, s in zip(turned.x, turned.y, x, strict=True))
    mixed = shuffled(task.decide, 3)
    assert mixed.x.shape == x.shape
    half = x.shape[2] // 2
    for image, order, source in zip(mixed.x, mixed.y, x, strict=True):
        for place, quarter in enumerate(ORDERS[int(order)]):
            (r, c), (a, b) = divmod(place, 2), divmod(quarter, 2)
            wanted = source[:, a * half : (a + 1) * half, b * half : (b + 1) * half]
            assert torch.equal(image[:, r * half : (r + 1) * half, c * half : (c + 1) * half], wanted)


def test_edges_are_the_gradient_of_a_ramp() -> None:
    ramp = torch.arange(8.0).expand(1, 3, 8, 8) * 0.1
    found = edged(Split(ramp, torch.zeros(1)), 0).y
    assert found.shape == (1, 1, 8, 8)
    assert torch.allclose(found[..., 1:-1], torch.full((1, 1, 8, 6), 0.1), atol=1e-6)
    assert float(edged(Split(torch.ones(1, 1, 4, 4), torch.zeros(1)), 0).y.max()) == 0.0


def test_the_ratio_of_signal_and_noise() -> None:
    target = torch.tensor([[[[0.0, 2.0]]], [[[0.0, 0.5]]]])
    assert psnr(target + 0.2, target).tolist() == pytest.approx([20.0, 13.9794], abs=1e-3)  # peaks of 2 and of 1


def test_derived_tasks_are_named_and_renewed(task: nasplat.Task) -> None:
    for question, shape in (("rotation", ()), ("jigsaw", ()), ("autoencoder", (1, 16, 16)), ("edges", (1, 16, 16))):
        made = nasplat.load_task(f"{question}:digits-clutter?train=64&decide=16&test=16")
        assert made.name == f"{question}:digits-clutter"
        assert made.decide.y.shape[1:] == shape
        first, again, other = (next(made.epoch(seed, 32)) for seed in (1, 1, 2))
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], again[1])
        assert not torch.equal(first[0], other[0])
    assert derived("rotation", task).classes == 4
    assert derived("jigsaw", task).chance == pytest.approx(100 / 24, abs=10)
    perfect = derived("autoencoder", task)
    assert perfect.evaluate(nn.Identity()) == pytest.approx(psnr(task.decide.x, task.decide.x).mean().item())
    with pytest.raises(TaskError, match="a question among rotation"):
        derived("colour", task)
    stereo = nasplat.load_task("stereo-synthetic", height=24, width=48, largest=12, train=2, decide=1, test=1)
    with pytest.raises(TaskError, match="expected square images"):
        derived("rotation", stereo)


def test_a_network_learns_to_tell_turns() -> None:
    task = nasplat.load_task("rotation:digits-clutter?train=1024&decide=256&test=256")
    space = nasplat.load_space("nasbench201", width=8, cells=1, image=16, channels=1, classes=4)
    supernet = nasplat.Supernet(
        space.only(
            space.parse(
                "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
            )
        ),
        task,
        0,
    )
    supernet.train(epochs=5, watch=False, lr=6e-3)
    assert supernet.evaluate(supernet.space.extreme()) > 40  # of which 25 by chance
