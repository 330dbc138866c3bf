"""A head for all bodies: maps of members, latent sampling and swapping, labels after a short training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import nasplat
from nasplat.editing import Network
from nasplat.editing.body import Body, common_sizes
from nasplat.errors import EditError, SupernetError
from nasplat.task.training import Budget
from nasplat.workflows.pseudo_labels import SharedHead
from nasplat.workflows.task_heads import Head, mean_shift

OPTIONS = "train=128&decide=64&test=64"


@pytest.fixture(scope="module")
def supernet() -> nasplat.Supernet:
    space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
    made = nasplat.Supernet(space, nasplat.load_task(f"digits-clutter?{OPTIONS}"))
    made.train(epochs=1, strategy="single-path")
    return made


def test_a_body_is_the_network_without_its_head(supernet: nasplat.Supernet) -> None:
    architecture = supernet.space.extreme()
    module, x = supernet.subnet(architecture), torch.randn(3, 1, 16, 16)
    body = Body(Network.of(module, (1, 1, 16, 16)))
    maps = body(x)
    assert [tuple(m.shape) for m in maps] == [(3, c, s, s) for c, s in ((4, 16), (8, 8), (16, 4))]
    kept: list[torch.Tensor] = []
    hook = module.head.fc.register_forward_pre_hook(lambda _, given: kept.append(given[0]))  # type: ignore[union-attr]
    module(x)
    hook.remove()
    assert torch.allclose(maps[-1].mean((2, 3)), kept[0], atol=1e-6)  # what the head saw, before the mean
    assert body.shapes == [(4, 16, 16), (8, 8, 8), (16, 4, 4)]


def test_tokens_are_maps_too() -> None:
    space = nasplat.load_space("vit", size="mini", image=16, patch=4, channels=1, classes=10)
    module, shape = space.construct(space.sample(seed=0))
    body = Body(Network.of(module, shape))
    maps = body(torch.randn(2, 1, 16, 16))
    assert maps[-1].shape[2:] == (4, 4)
    assert len(maps) == 1
    with pytest.raises(EditError, match="expected a network with maps"):
        Body(Network.of(nn.Sequential(nn.Flatten(), nn.Linear(16, 4)), (1, 1, 4, 4)))
    with pytest.raises(EditError, match="common size"):
        common_sizes([body, Body(Network.of(nn.Conv2d(1, 2, 3), (1, 1, 16, 16)))])


@pytest.mark.parametrize(
    ("kind", "output"), [("classification", (7,)), ("dense", (2, 16, 16)), ("reconstruction", (1, 16, 16))]
)
def test_heads_answer_in_the_shape_of_the_task(kind: str, output: tuple[int, ...]) -> None:
    head = Head(kind, [4, 8], [(8, 8), (4, 4)], output, 8).eval()
    maps = [torch.randn(2, 3, 8, 8), torch.randn(2, 8, 4, 4)]  # the first body lacks a channel
    answer = head(maps)
    assert answer.shape == (2, *output)
    moved = [maps[0] + 1, maps[1]]
    assert torch.equal(head(moved), answer) == (kind != "dense")  # only dense heads have laterals
    with pytest.raises(SupernetError, match="expected a head among"):
        Head("other", [4], [(4, 4)], (1,))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("rotation", "classification"), ("edges", "dense"), ("autoencoder", "reconstruction"), ("foreground", "dense")],
)
def test_a_head_is_learnt_and_bodies_get_labels(name: str, kind: str, supernet: nasplat.Supernet) -> None:
    task = nasplat.load_task(f"{name}:digits-clutter?{OPTIONS}")
    shared = SharedHead(supernet, task, pool=10, width=8)
    assert shared.head.kind == kind
    before, weights = supernet.fingerprint, {k: v.clone() for k, v in shared.head.state_dict().items()}
    shared.train("latent", epochs=2)
    latent = {k: v.clone() for k, v in shared.head.state_dict().items()}
    assert any(not torch.equal(weights[k], v) for k, v in latent.items())
    shared.train("latent", epochs=2)
    assert all(torch.equal(latent[k], v) for k, v in shared.head.state_dict().items())  # the same seed, the same head
    shared.train("swap", epochs=2)
    assert any(not torch.equal(latent[k], v) for k, v in shared.head.state_dict().items())
    member = supernet.space.sample(seed=3)
    first, again = (shared.label(member, Budget(epochs=1, lr=1e-3)) for _ in range(2))
    assert (first.decide, first.test, first.untuned) == (again.decide, again.test, again.untuned)
    assert supernet.fingerprint == before  # bodies and head are copies


def test_disparity_is_the_shift_between_views() -> None:
    left = torch.randn(2, 64, 5, 12, generator=torch.Generator().manual_seed(0)) * 6
    moved = torch.roll(left, -3, 3)
    found = mean_shift(torch.cat([left, moved]), 6)
    assert torch.allclose(found[..., 3:], torch.full((2, 5, 9), 3.0), atol=1e-3)


def test_a_head_for_pairs_learns_disparity() -> None:
    space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=3)
    images = (torch.rand(8, 3, 16, 16).numpy(), torch.arange(8).numpy() % 2)
    supernet = nasplat.Supernet(space, nasplat.Task.from_arrays(images, images))
    task = nasplat.load_task("stereo-synthetic?height=16&width=16&largest=6&train=64&decide=32&test=8&fresh=false")
    shared = SharedHead(supernet, task, pool=5, width=8)
    assert shared.head.kind == "disparity"
    member = space.sample(seed=1)
    before = task.evaluate(shared.joined(member).eval())
    shared.train("swap", epochs=15, batch_size=16)
    label = shared.label(member)
    assert label.untuned < before - 0.03
    assert label.decide < before - 0.03


def test_latent_maps_are_mean_and_spread_of_the_bodies(supernet: nasplat.Supernet) -> None:
    shared = SharedHead(supernet, nasplat.load_task(f"rotation:digits-clutter?{OPTIONS}"), pool=10, width=8)
    bodies, x = [part[0] for part in shared.bins], torch.randn(2, 1, 16, 16)
    drawn = torch.stack([shared._latent(bodies, x, torch.Generator().manual_seed(i))[-1] for i in range(100)])
    with torch.no_grad():
        known = torch.stack([shared._maps(b, x)[-1] for b in bodies])
    spread = known.std(0)
    assert ((drawn.mean(0) - known.mean(0)).abs() <= 5 * spread / 10 + 1e-6).all()
    assert torch.allclose(drawn.std(0), spread, rtol=0.4, atol=1e-5)


def test_wrong_words_are_refused(supernet: nasplat.Supernet) -> None:
    other = nasplat.Task.from_arrays(
        (torch.randn(8, 1, 8, 8).numpy(), torch.arange(8).numpy() % 2),
        (torch.randn(4, 1, 8, 8).numpy(), torch.arange(4).numpy() % 2),
    )
    with pytest.raises(SupernetError, match="expected images"):
        SharedHead(supernet, other)
    shared = SharedHead(supernet, nasplat.load_task(f"rotation:digits-clutter?{OPTIONS}"), pool=10, width=8)
    with pytest.raises(SupernetError, match="expected a way"):
        shared.train("other")
