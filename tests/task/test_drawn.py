"""Drawn tasks repeat with their seeds, and are as hard as they say."""

from __future__ import annotations

import pytest
import torch

import nasplat
from nasplat.errors import TaskError
from nasplat.task.drawn import DRAWN, drawn, motifs, shapes, waves

pytestmark = pytest.mark.fast


def numbers(x: torch.Tensor | nasplat.Bundle) -> torch.Tensor:
    return x.parts[0] if isinstance(x, nasplat.Bundle) else x


@pytest.mark.parametrize("name", DRAWN)
def test_equal_seeds_draw_equal_examples_and_epochs_are_fresh(name: str) -> None:
    first, again = (nasplat.load_task(name, train=40, decide=20, test=20) for _ in range(2))
    assert numbers(first.train.x).equal(numbers(again.train.x))
    assert first.test.y.equal(again.test.y)
    train = numbers(first.train.x)
    assert not train.equal(numbers(first.decide.x)[:1].expand_as(train))
    epochs = [torch.cat([numbers(x) for x, _ in first.epoch(seed, 20)]) for seed in (0, 1)]
    assert not epochs[0].equal(epochs[1])
    assert not numbers(drawn(name, 40, 20, 20, seed=1).train.x).equal(train)


@pytest.mark.parametrize("name", DRAWN)
def test_inputs_are_roughly_standardised_and_every_class_occurs(name: str) -> None:
    split = DRAWN[name](400, 0)
    assert abs(float(numbers(split.x).mean())) < 0.35
    assert 0.6 < float(numbers(split.x).std()) < 1.4
    assert split.y.unique().tolist() == list(range(int(split.y.max()) + 1))


def test_masks_belong_to_the_shapes_of_the_same_seed() -> None:
    pictures, masks = shapes(50, 3, noise=0.0), shapes(50, 3, noise=0.0, masks=True)
    assert pictures.x.equal(masks.x)
    inside, outside = masks.x[:, 0][masks.y == 1], masks.x[:, 0][masks.y == 0]
    assert float(inside.min()) > float(outside.max())
    assert 20 < float((masks.y == 1).float().sum((1, 2)).mean()) < 90  # of 256 pixels


def test_without_noise_a_motif_is_found_by_its_template() -> None:
    from nasplat.task.drawn import MOTIFS, _motifs

    split = motifs(60, 0, noise=0.0)
    kernels = torch.from_numpy(_motifs()[:MOTIFS]).float()
    best = torch.nn.functional.conv1d(split.x, kernels).amax(2).argmax(1)
    assert float((best == split.y).float().mean()) > 0.95


def test_waves_lie_within_their_range() -> None:
    assert float(waves(200, 0, noise=0.0).x.abs().max()) <= 1.3


def test_names_are_listed_when_one_is_misspelt() -> None:
    with pytest.raises(TaskError, match="textures"):
        nasplat.load_task("texture")
