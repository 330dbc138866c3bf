"""Edits keep a network buildable: shapes follow, the output keeps its shape, unchanged weights stay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nasplat
from nasplat.editing import Branch, Edit, Factor, Kernel, Network, Separate, Skip, Width, edits
from nasplat.errors import EditError, NasplatError

pytestmark = pytest.mark.fast


class Residual(nn.Module):
    """Additions, concatenation, depthwise and grouped convolutions, a gate, flattened maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.first, self.second = nn.Conv2d(16, 24, 3, padding=1, bias=False), nn.Conv2d(24, 16, 1)
        self.depth = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.gate = nn.Conv2d(16, 16, 1)
        self.side, self.mix = nn.Conv2d(16, 8, 1), nn.Conv2d(24, 24, 1)
        self.grouped = nn.Conv2d(24, 24, 3, padding=1, groups=2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(24 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)), inplace=True)
        x = x + self.second(F.gelu(self.first(x)))
        x = F.silu(self.depth(x))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        x = self.mix(torch.cat([x, self.side(x)], 1))
        x = F.avg_pool2d(self.grouped(F.max_pool2d(x, 2)), 2)
        return self.head(self.drop(x.flatten(1)))


SHAPE = (1, 3, 16, 16)


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    made = Residual()
    made.train()(torch.randn(32, *SHAPE[1:]))  # statistics of its own
    return made.eval()


@pytest.fixture(scope="module")
def network(module: nn.Module) -> Network:
    return Network.of(module, SHAPE)


def number(network: Network, weight: str) -> int:
    return next(i for i, c in enumerate(network.program.calls) if len(c.args) > 1 and c.args[1] == ("weight", weight))


def test_a_network_is_what_it_was(module: nn.Module, network: Network) -> None:
    x = torch.randn(4, *SHAPE[1:])
    assert torch.equal(network.module()(x), module(x))
    assert network.graph.key == nasplat.capture(module, SHAPE).key
    assert network.trained == frozenset(dict(module.named_parameters()))


def test_every_edit_can_be_built_and_answers(module: nn.Module, network: Network) -> None:
    x, kinds, refused = torch.randn(2, *SHAPE[1:]), set(), 0
    for edit in edits(network):
        try:
            made = edit(network)
        except EditError:
            refused += 1
            continue
        answer = made.module()(x)
        assert answer.shape == (2, 10)
        assert answer.isfinite().all()
        assert made.graph.key != network.graph.key
        assert made.history[-1]
        assert len(made.history) == 1
        kinds.add(edit.kind)
    assert kinds == {"channels", "kernel", "operation", "factors", "branch", "stretch"}
    assert refused == 0


@pytest.mark.parametrize(
    ("name", "presets"),
    [
        ("nasbench201", {"width": 8, "cells": 1, "image": 16}),
        ("vit", {"size": "mini", "image": 16, "patch": 4, "channels": 1}),
        ("hiaml", {"width": 8, "image": 16}),
    ],
)
def test_edits_of_edits_of_our_spaces(name: str, presets: dict[str, object]) -> None:
    import random

    space, draw = nasplat.load_space(name, **presets), random.Random(0)
    module, shape = space.construct(space.sample(seed=1))
    network, built = Network.of(module, shape), 0
    x = torch.randn(2, *shape[1:])
    for _ in range(12):
        try:
            network = draw.choice(edits(network))(network)
            built += 1
        except NasplatError:
            continue
    made = network.module()
    assert built >= 8
    assert made(x).shape == module(x).shape
    assert nasplat.capture(made, shape).macs == network.graph.macs
    made.train()(x).sum().backward()
    assert any(p.grad is not None for p in made.parameters())


def test_channels_that_stand_for_each_other_go_together(network: Network) -> None:
    groups = network.channels.groups
    assert set(groups) == {
        "stem.weight",
        "first.weight",
        "side.weight",
    }  # what is added, gated or filtered has the stem's; groups and outputs are fixed
    narrow = Width("stem.weight", 0.5)(network)
    assert {
        n: tuple(narrow.weights[n].shape[:2])
        for n in ("stem.weight", "second.weight", "depth.weight", "gate.weight", "mix.weight")
    } == {
        **{
            "stem.weight": (8, 3),
            "second.weight": (8, 24),
            "depth.weight": (8, 1),
            "gate.weight": (8, 8),
            "mix.weight": (24, 16),
        }
    }
    assert narrow.weights["norm.running_var"].shape == (8,)
    made = Width("first.weight", 0.5)(network)
    assert {n: tuple(made.weights[n].shape[:2]) for n in ("first.weight", "second.weight")} == {
        "first.weight": (12, 16),
        "second.weight": (16, 12),
    }
    assert all(
        torch.equal(made.weights[n], w)
        for n, w in network.weights.items()
        if n not in {"first.weight", "second.weight"}
    )


def test_the_largest_channels_stay() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 2, 1, bias=False))
    with torch.no_grad():
        module[1].weight.fill_(1.0)
        module[0].weight.copy_(torch.tensor([3.0, 1.0, 2.0, 4.0])[:, None, None, None])
    made = Width("0.weight", 0.5)(Network.of(module, (1, 3, 4, 4)))
    assert made.weights["0.weight"][:, 0, 0, 0].tolist() == [3.0, 4.0]
    assert torch.equal(made.weights["1.weight"], module[1].weight[:, [0, 3]])


def test_wider_and_larger_computes_what_it_did(module: nn.Module, network: Network) -> None:
    x = torch.randn(3, *SHAPE[1:])
    wider = Width("first.weight", 1.25)(network)
    assert wider.weights["first.weight"].shape[0] == 32 - 4 + 4
    assert torch.allclose(wider.module()(x), module(x), atol=1e-5)
    larger = Kernel(number(network, "first.weight"), 2)(network)
    assert tuple(larger.weights["first.weight"].shape[2:]) == (5, 5)
    assert torch.allclose(larger.module()(x), module(x), atol=1e-5)


def test_smaller_kernels_keep_the_centre(network: Network) -> None:
    made = Kernel(number(network, "depth.weight"), -2)(network)
    assert torch.equal(made.weights["depth.weight"], network.weights["depth.weight"][:, :, 1:4, 1:4])
    assert made.output_shape == network.output_shape


def test_factors_are_the_closest_product() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(32, 4, bias=False), nn.Linear(4, 32, bias=False))
    dense = nn.Linear(32, 32)
    dense.weight.data = module[1].weight.data @ module[0].weight.data  # of rank four
    network = Network.of(nn.Sequential(dense), (1, 32))
    x = torch.randn(5, 32)
    assert torch.allclose(Factor(0, 4)(network).module()(x), dense(x), atol=1e-5)
    conv = nn.Conv2d(4, 6, 3, padding=1)
    depthwise, pointwise = torch.randn(1, 4, 3, 3), torch.randn(6, 4, 1, 1)
    conv.weight.data = depthwise * pointwise
    image = torch.randn(2, 4, 8, 8)
    made = Separate(0)(Network.of(nn.Sequential(conv), (1, 4, 8, 8)))
    assert torch.allclose(made.module()(image), conv(image), atol=1e-4)
    assert made.graph.macs < nasplat.capture(conv, (1, 4, 8, 8)).macs


def test_branches_and_stretches_go_with_what_only_they_need(network: Network) -> None:
    add = next(i for i, c in enumerate(network.program.calls) if c.op.startswith("aten.add."))
    made = Branch(add, 0)(network)
    assert not {"first.weight", "second.weight"} & set(made.weights)
    only = Branch(add, 1)(network)  # the shortcut goes: the block stays
    assert {"first.weight", "second.weight", "stem.weight"} <= set(only.weights)
    stretch = next(e for e in edits(network) if isinstance(e, Skip))
    assert len(stretch(network).weights) < len(network.weights)


def test_training_mode_trains(network: Network) -> None:
    made, x = network.module(), torch.randn(8, *SHAPE[1:])
    before = made.state_dict()["norm.running_mean"].clone()
    torch.manual_seed(0)
    first, second = made.train()(x), made(x)
    assert not torch.equal(first, second)  # dropout draws anew
    assert not torch.equal(made.state_dict()["norm.running_mean"], before)
    assert torch.equal(network.module()(x), network.module()(x))
    assert torch.equal(network.weights["norm.running_mean"], before)  # the network stays as it was


def test_statistics_are_those_of_the_images(module: nn.Module, network: Network) -> None:
    x = torch.randn(16, *SHAPE[1:]) * 3
    made = network.calibrated(x)
    seen = module.stem(x)  # type: ignore[operator]
    assert torch.allclose(made.weights["norm.running_mean"], seen.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(made.weights["norm.running_var"], seen.var((0, 2, 3)), atol=1e-4)


def test_in_place_operations_are_followed() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.a(x), inplace=True)
            z = self.b(y)
            z += y
            return F.relu_(z)

    module, x = Twice(), torch.randn(2, 3, 4, 4)
    network = Network.of(module, (1, 3, 4, 4))
    assert torch.equal(network.module()(x), module(x))
    add = next(i for i, c in enumerate(network.program.calls) if c.op.startswith("aten.add_"))
    first, second = (Branch(add, side)(network) for side in (0, 1))
    y = F.relu(module.a(x))
    assert torch.allclose(first.module()(x), F.relu(module.b(y)), atol=1e-6)
    assert torch.allclose(second.module()(x), y, atol=1e-6)


def test_the_input_of_an_edited_network_may_be_given_as_a_tensor() -> None:
    assert Network.of(nn.Linear(4, 3), torch.zeros(2, 4)).example_input == (2, 4)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: Network.of(nn.LSTM(4, 4), (1, 2, 4)), "one tensor"),
        (
            lambda: Network.of(nn.Embedding(4, 4), torch.tensor([[1]])),
            r"one tensor of float32, got a tensor of torch.int64 \(1, 1\)",
        ),
        (lambda: Network.of(nn.Bilinear(4, 4, 2), ((1, 4), (1, 4))), "one tensor of float32"),
        (lambda: Width("nothing", 0.5)(Network.of(nn.Linear(4, 4), (1, 4))), "a group of channels"),
    ],
)
def test_what_cannot_be_edited_is_refused(made, words: str) -> None:
    with pytest.raises(EditError, match=words):
        made()


def test_an_edit_is_a_value() -> None:
    assert Kernel(1, 2) == Kernel(1, 2)
    assert isinstance(Kernel(1, 2), Edit)
