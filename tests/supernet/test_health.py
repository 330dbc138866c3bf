"""What an epoch says of itself, what is warned of, and what a step that is not finite leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL
from torch import nn
from torch.nn import functional as F

import nasplat
from nasplat.errors import SupernetError, SupernetWarning
from nasplat.supernet import training
from nasplat.supernet.appointment import appointed_teacher
from nasplat.supernet.compiling import blocks, compile_blocks
from nasplat.supernet.health import Checkup, Health
from nasplat.supernet.strategy import strategy_named
from nasplat.supernet.training import Trainer


@pytest.fixture(scope="module")
def task() -> nasplat.Task:
    return nasplat.load_task("digits-clutter", train=256, decide=128, test=64)


def test_every_epoch_looks_at_the_ends_and_eight_random_subnets(
    vit: nasplat.Space, task: nasplat.Task, tmp_path: Path
) -> None:
    supernet = nasplat.Supernet(vit, task, seed=0)
    history = supernet.train(epochs=2, checkpoint=tmp_path)
    for epoch in history:
        assert epoch.health is not None
        assert len(epoch.health.random) == 8
        found = [epoch.health.smallest, epoch.health.largest, *epoch.health.random]
        assert all(0 <= v <= 100 for v in found)
        assert epoch.health.gap == max(found) - min(found)
        assert epoch.health.examples == 128
        assert epoch.lr >= 0
        assert epoch.images_per_second > 0
    assert history[-1].health.largest == supernet.evaluate(vit.extreme())  # all of the decide split here
    again = nasplat.Supernet(vit, task, seed=0).train(epochs=2, checkpoint=tmp_path)
    assert again == history  # read back from the checkpoint


def test_looking_changes_no_weight(vit: nasplat.Space, task: nasplat.Task) -> None:
    seen, blind = (nasplat.Supernet(vit, task, seed=0) for _ in range(2))
    seen.train(epochs=2)
    assert blind.train(epochs=2, watch=False)[0].health is None
    assert seen.fingerprint == blind.fingerprint


def test_a_step_that_is_not_finite_changes_nothing_and_is_told(vit: nasplat.Space, task: nasplat.Task) -> None:
    calls = [0]

    def sometimes(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return F.cross_entropy(output, target) * (float("nan") if calls[0] == 4 else 1.0)

    broken = nasplat.Supernet(vit, replace(task, loss=sometimes), seed=0)
    with pytest.warns(SupernetWarning, match="epoch 1: 1 of 8 steps had a loss or gradient that is not finite"):
        history = broken.train(epochs=2, batch_size=32)
    assert [e.left_out for e in history] == [1, 0]
    assert all(torch.isfinite(w).all() for w in broken.store.weights.values())
    assert history[0].loss < 4  # the mean of the others

    class Without(nasplat.Strategy):  # the same run, whose fourth step has no subnet
        name = "without"

        def lessons(self, space: nasplat.Space, seed: int, progress: float) -> Any:
            from nasplat.supernet.strategy import SinglePath

            return [] if round(progress * 16) == 3 else SinglePath().lessons(space, seed, progress)

    whole = nasplat.Supernet(vit, task, seed=0)
    whole.train(epochs=2, batch_size=32, strategy=Without())
    assert whole.fingerprint == broken.fingerprint


def test_frozen_stores_are_told(task: nasplat.Task) -> None:
    @nasplat.space(example_input=(1, 1, 16, 16))
    def frozen(pick: nasplat.Pick) -> nn.Module:
        width = pick("width", (4, 8))
        return nn.Sequential(nn.Flatten(), nn.Linear(256, width)).requires_grad_(False)

    supernet = nasplat.Supernet(frozen, replace(task, loss=lambda o, y: o.mean().detach().requires_grad_()), seed=0)
    with pytest.warns(SupernetWarning, match="no weight moved"):
        supernet.train(epochs=1, watch=False)


def test_subnets_at_chance_level_are_told_once(vit: nasplat.Space, task: nasplat.Task) -> None:
    checkup = Checkup(
        vit, task, lambda architecture, examples: 10.0 if architecture == vit.extreme(largest=False) else 60.0
    )
    health = checkup.look()
    assert health == Health(10.0, 60.0, (60.0,) * 8, 128)
    assert checkup.complaints(health, progress=0.2, steps=10_000) == []
    (text,) = checkup.complaints(health, progress=0.6, steps=10_000)
    assert text.startswith("at chance level")
    assert "the smallest. " in text
    assert checkup.complaints(health, progress=0.7, steps=10_000) == []


def test_dropout_is_seeded_by_the_step(task: nasplat.Task, tmp_path: Path) -> None:
    @nasplat.space(example_input=(1, 1, 16, 16))
    def dropping(pick: nasplat.Pick) -> nn.Module:
        width = pick("width", (16, 32))
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(256, width), nn.Dropout(0.5), nn.ReLU())

    whole = nasplat.Supernet(dropping, task, seed=0)
    whole.train(epochs=3)
    state = torch.random.get_rng_state()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            nasplat.Supernet(dropping, task, seed=0).train(epochs=3, checkpoint=tmp_path, report=stop)
        torch.rand(7)
    torch.random.set_rng_state(state)
    last = nasplat.Supernet(dropping, task, seed=0)
    last.train(epochs=3, checkpoint=tmp_path)
    assert last.fingerprint == whole.fingerprint
    assert torch.equal(torch.random.get_rng_state(), state)  # training leaves the global generator as it was


def test_channels_last_computes_the_same(task: nasplat.Task) -> None:
    space = nasplat.load_space("nasbench201", width=[4, 8], cells=1, image=16, channels=1)
    plain, last = (nasplat.Supernet(space, task, seed=0) for _ in range(2))
    losses = []
    for supernet, channels_last in ((plain, False), (last, True)):
        losses.append(supernet.train(epochs=1, batch_size=64, channels_last=channels_last, watch=False)[0].loss)
    conv = next(w for w in last.store.weights.values() if w.dim() == 4 and w.shape[1] > 1 and w.shape[2] > 1)
    assert conv.is_contiguous(memory_format=torch.channels_last)
    assert abs(losses[0] - losses[1]) < 1e-3


def test_blocks_are_compiled_a_few_times_for_all_widths(vit: nasplat.Space, task: nasplat.Task) -> None:
    graphs: list[int] = []

    def backend(module: Any, inputs: Any) -> Any:
        graphs.append(len(inputs))
        return module.forward

    supernet = nasplat.Supernet(vit, task, seed=0)
    assert len(blocks(supernet.subnet(vit.extreme()))) == 4
    x = task.train.x[:8]
    torch._dynamo.reset()
    met, first = set(), 0
    for seed in range(20):
        architecture = vit.sample(seed=seed)
        module = supernet.subnet(architecture)
        with torch.no_grad():
            wanted = module(x)
            compile_blocks(module, backend)
            assert torch.allclose(module(x), wanted, atol=1e-5)
        met.add(str(architecture))
        first = len(graphs) if seed == 11 else first
    assert len(met) > 15
    assert 1 <= first <= 12  # embeddings and single heads, not subnets with up to four blocks each
    assert len(graphs) - first <= 2
    torch._dynamo.reset()


def test_bad_watching_is_refused(vit: nasplat.Space, task: nasplat.Task) -> None:
    with pytest.raises(SupernetError, match="got 'looks'"):
        nasplat.Supernet(vit, task).train(epochs=1, looks=True)


@pytest.mark.parametrize("strategy", ["single-path", "sandwich", "progressive", "ovo"])
@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_step_waits_for_no_device(
    name: str, strategy: str, task: nasplat.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device reading a value is an error, as it would be a wait on a GPU. Torch's update kernel does not exist there."""
    space = nasplat.load_space(name, **SMALL[name])
    supernet = nasplat.Supernet(space, task, seed=0)
    for key, weight in supernet.store.weights.items():
        supernet.store.weights[key] = weight.to("meta")
    supernet.device = supernet.subnets.device = torch.device("meta")
    config = nasplat.TrainConfig(epochs=3, batch_size=128, strategy=strategy)  # six steps, every phase among them
    teacher = appointed_teacher(config, strategy_named(strategy), supernet.subnets, task)
    trainer = Trainer(supernet.subnets, task, 0, config, teacher)
    monkeypatch.setattr(trainer.updates.optimiser, "_update", lambda *a: None)
    x, y = torch.empty(128, *task.input_shape, device="meta"), torch.zeros(128, dtype=torch.long, device="meta")
    monkeypatch.setattr(training, "sort_channels", lambda *a: ["sorted"])  # which looks at the weights, once
    for step in range(trainer.updates.steps):
        trainer._enter(step)
        losses, norm = trainer.updates.step(x, y, step, 1e-3)
        assert norm is not None
        assert {t.device.type for t in (norm, *losses)} == {"meta"}


def test_widths_that_open_unsorted_are_told(task: nasplat.Task) -> None:
    class Ordered(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(1, width, 3), nn.Conv2d(width, 10, 14)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            return self.last(y * torch.arange(1, y.shape[1] + 1, dtype=y.dtype)[:, None, None]).flatten(1)

    @nasplat.space(example_input=(1, 1, 16, 16))
    def ordered(pick: nasplat.Pick) -> nn.Module:
        return Ordered(pick("width", (4, 8)))

    with pytest.warns(SupernetWarning, match="no channels could be sorted before phase 'width'"):
        nasplat.Supernet(ordered, task, seed=0).train(epochs=3, strategy="progressive", watch=False)
