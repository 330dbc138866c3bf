from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SMALL
from torch import nn

import nasplat
from nasplat.errors import SupernetError
from nasplat.supernet import survey
from nasplat.supernet.config import TrainConfig
from nasplat.supernet.optimiser import MaskedAdamW
from nasplat.supernet.recalibrate import recalibrate
from nasplat.supernet.strategy import Lesson, Strategy
from nasplat.supernet.supernet import images_for
from nasplat.supernet.training import Trainer


def weights(supernet: nasplat.Supernet) -> dict[str, torch.Tensor]:
    return {k: w.clone() for k, w in supernet.store.weights.items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_an_equal_space_is_walked_once_for_equal_weights(task: nasplat.Task, monkeypatch: pytest.MonkeyPatch) -> None:
    presets = SMALL["ofa_mobilenetv3"] | {"depths": [1, 3]}  # no other test has these

    def made(kernel_transforms: bool = False) -> nasplat.Supernet:
        space = nasplat.load_space("ofa_mobilenetv3", **presets)
        return nasplat.Supernet(space, task, seed=4, kernel_transforms=kernel_transforms)

    def walks(space: nasplat.Space) -> None:
        raise AssertionError(f"{space} is walked again")

    first = made()
    monkeypatch.setattr(survey, "_survey", walks)
    again = made()
    assert again.fingerprint == first.fingerprint
    assert (again.store.rules, again.store.qualifiers) == (first.store.rules, first.store.qualifiers)
    assert again.space.known == first.space.known
    again.store.rules.clear()
    assert made(kernel_transforms=True).store.rules.keys() > first.store.rules.keys()
    with pytest.raises(AssertionError, match="walked again"):
        nasplat.Supernet(nasplat.load_space("ofa_mobilenetv3", **(presets | {"depths": [2, 3]})), task)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_extraction_is_exact(name: str) -> None:
    widths = {"width": list(range(2, 18))} if name == "nasbench201" else {}
    space = nasplat.load_space(name, **(SMALL[name] | widths))
    task = nasplat.load_task("digits-clutter", train=64, decide=32, test=32)
    supernet = nasplat.Supernet(space, task, seed=0)
    supernet.train(epochs=3, batch_size=8)  # 24 steps
    x, smaller = task.test.x[:16], 0
    for i in range(30):  # a thousand over all spaces: benchmarks/bench_extraction.py
        architecture = space.sample(seed=10_000 + i)
        extracted, shared = supernet.subnet(architecture), supernet.shared(architecture)
        with torch.no_grad():
            assert (extracted(x) - shared(x)).abs().max() == 0, architecture
        bound = supernet.subnets.bind(architecture)
        smaller += any(tuple(p.shape) != tuple(supernet.store.weights[k].shape) for k, p in bound.parameters)
    assert smaller >= 25


def test_training_an_extracted_module_leaves_the_store_untouched(
    small_space: nasplat.Space, task: nasplat.Task
) -> None:
    supernet = nasplat.Supernet(small_space, task, seed=0)
    before = weights(supernet)
    module = supernet.subnet(small_space.sample(seed=1)).train()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.5)
    task.loss(module(task.train.x[:32]), task.train.y[:32]).backward()
    optimiser.step()
    assert equal(before, weights(supernet))


def test_extracted_module_is_plain_and_counts_as_the_graph(small_space: nasplat.Space, task: nasplat.Task) -> None:
    supernet = nasplat.Supernet(small_space, task, seed=0)
    architecture = small_space.sample(seed=4)
    module = supernet.subnet(architecture)
    assert sum(p.numel() for p in module.parameters()) >= architecture.graph().params
    assert all(p.is_contiguous() and p.is_leaf for p in module.parameters())
    again = supernet.subnet(architecture)
    assert all(
        torch.equal(a, b) for a, b in zip(module.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_only_the_sampled_slice_moves(small_space: nasplat.Space, task: nasplat.Task) -> None:
    supernet = nasplat.Supernet(small_space, task, seed=0)
    architecture = small_space.extreme(largest=False)
    config = TrainConfig(epochs=1, batch_size=32)
    trainer = Trainer(supernet.subnets, supernet.task, 0, config, strategy=_Always(architecture))
    before = weights(supernet)
    trainer.updates.step(task.train.x[:32], task.train.y[:32], 0, 1e-2)
    touched = {k: tuple(p.shape) for k, p in supernet.subnets.bind(architecture).parameters}
    moved = 0
    for key, weight in supernet.store.weights.items():
        changed = weight != before[key]
        if key not in touched:
            assert not changed.any(), key
            continue
        outside = torch.ones_like(changed)
        supernet.store.rules[key] and _clear(outside, touched[key], supernet, key)
        assert not (changed & outside).any() or supernet.store.rules[key] is None, key
        moved += int(changed.any())
    assert moved > 0


class _Always(Strategy):
    name = "always"

    def __init__(self, *architectures: nasplat.Architecture) -> None:
        self.architectures = architectures

    def lessons(self, space: nasplat.Space, seed: int, progress: float) -> Iterator[Lesson]:
        return iter([Lesson(a) for a in self.architectures])


def _clear(mask: torch.Tensor, shape: tuple[int, ...], supernet: nasplat.Supernet, key: str) -> None:
    from nasplat.supernet.slicing import take

    take(mask, shape, supernet.store.rules[key], key).fill_(False)


def test_slices_that_do_not_nest_move_only_their_union(task: nasplat.Task) -> None:
    @nasplat.space(example_input=(1, 1, 16, 16))
    def cross(pick: nasplat.Pick) -> nn.Module:
        a, b = pick("a", (4, 8)), pick("b", (4, 8))
        net = nn.Sequential()
        net.add_module("flat", nn.Flatten())
        net.add_module("first", nn.Linear(256, a))
        net.add_module("second", nn.Linear(a, b))
        net.add_module("head", nn.Linear(b, 10))
        return net

    supernet = nasplat.Supernet(cross, task, seed=0)
    wide, tall = cross.architecture({"a": 8, "b": 4}), cross.architecture({"a": 4, "b": 8})
    trainer = Trainer(supernet.subnets, supernet.task, 0, TrainConfig(epochs=1), strategy=_Always(wide, tall))
    before = weights(supernet)["second.weight"]
    trainer.updates.step(task.train.x[:32], task.train.y[:32], 0, 1e-2)
    changed = supernet.store.weights["second.weight"] != before
    assert changed[:4].any()
    assert changed[4:, :4].any()
    assert not changed[4:, 4:].any()


def test_gradient_of_a_slice_equals_that_of_the_module(vit: nasplat.Space, task: nasplat.Task) -> None:
    supernet = nasplat.Supernet(vit, task, seed=0)
    architecture = vit.sample(seed=2)
    module = supernet.subnet(architecture).train()
    bound = supernet.subnets.bind(architecture)
    x, y = task.train.x[:32], task.train.y[:32]
    task.loss(module(x), y).backward()
    task.loss(bound.module.train()(x), y).backward()
    optimiser = MaskedAdamW(supernet.store.weights, supernet.store.rules, 0.0)
    bound.collect(supernet.store, optimiser)
    for name, parameter in module.named_parameters():
        key = supernet.store.address(name, architecture.choices)
        assert optimiser.gradients[key].shape == parameter.shape  # no larger than the slice
        assert torch.allclose(optimiser.gradients[key], parameter.grad, atol=1e-6)


@pytest.mark.parametrize("strategy", ["single-path", "sandwich", "progressive"])
def test_resumed_training_is_bit_equal(vit: nasplat.Space, strategy: str, tmp_path: Path) -> None:
    task = nasplat.load_task("digits-clutter", train=128, decide=64, test=64)
    whole = nasplat.Supernet(vit, task, seed=3)
    whole.train(epochs=3, strategy=strategy, batch_size=32)

    class Stop(Exception):
        pass

    def stop(epoch: object, total: int) -> None:
        raise Stop

    for _ in range(2):
        part = nasplat.Supernet(vit, task, seed=3)
        with pytest.raises(Stop):
            part.train(epochs=3, strategy=strategy, batch_size=32, checkpoint=tmp_path, report=stop)
    last = nasplat.Supernet(vit, task, seed=3)
    history = last.train(epochs=3, strategy=strategy, batch_size=32, checkpoint=tmp_path)
    assert [e.epoch for e in history] == [1, 2, 3]
    assert equal(weights(whole), weights(last))


def test_checkpoint_of_another_run_is_refused(vit: nasplat.Space, task: nasplat.Task, tmp_path: Path) -> None:
    nasplat.Supernet(vit, task, seed=0).train(epochs=1, checkpoint=tmp_path)
    with pytest.raises(SupernetError, match="expected seed '1', got '0'"):
        nasplat.Supernet(vit, task, seed=1).train(epochs=1, checkpoint=tmp_path)
    with pytest.raises(SupernetError, match="expected config"):
        nasplat.Supernet(vit, task, seed=0).train(epochs=2, checkpoint=tmp_path)
    (tmp_path / "supernet.safetensors").write_bytes(b"12345678")
    with pytest.raises(SupernetError, match="expected a supernet checkpoint"):
        nasplat.Supernet(vit, task, seed=0).train(epochs=1, checkpoint=tmp_path)


def test_loaded_weights_evaluate_the_same(vit: nasplat.Space, task: nasplat.Task, tmp_path: Path) -> None:
    trained = nasplat.Supernet(vit, task, seed=0)
    trained.train(epochs=1, checkpoint=tmp_path)
    loaded = nasplat.Supernet(vit, task, seed=7)
    loaded.load(tmp_path)
    architecture = vit.sample(seed=1)
    assert loaded.evaluate(architecture) == trained.evaluate(architecture)


def test_evaluation_is_pure_and_calibrated(cells: nasplat.Space, task: nasplat.Task) -> None:
    supernet = nasplat.Supernet(cells, task, seed=0)
    supernet.train(epochs=1)
    before = weights(supernet)
    first, second = cells.sample(seed=1), cells.sample(seed=2)
    value = supernet.evaluate(first)
    supernet.evaluate(second)
    assert supernet.evaluate(first) == value
    assert equal(before, weights(supernet))
    norms = [m for m in supernet.subnet(first).modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(not torch.equal(m.running_mean, torch.zeros_like(m.running_mean)) for m in norms)


def test_recalibration_equals_statistics_of_all_images_at_once() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    x = torch.randn(600, 1, 6, 6) + torch.linspace(0, 3, 600)[:, None, None, None]  # batches differ
    recalibrate(module, x)
    y = module[0](x).transpose(0, 1).flatten(1)
    assert torch.allclose(module[1].running_mean, y.mean(1), atol=1e-5)
    assert torch.allclose(module[1].running_var, y.var(1), atol=1e-4)


class Twice(nn.Module):
    """A normalisation that is used twice, one of a class of its own, and one that is never reached."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.other, self.unused = nn.BatchNorm1d(2), Own(2), nn.BatchNorm1d(2)
        self.unused.running_mean.fill_(7.0)  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x) + self.norm(3 * x + 1) + self.other(x)


class Own(nn.BatchNorm1d):
    """Its statistics are set by whoever knows how."""


@pytest.mark.parametrize("n", [40, 600])
def test_statistics_of_layers_used_twice_of_own_classes_and_never(n: int) -> None:
    x = torch.randn(n, 2) * torch.linspace(1, 2, n)[:, None] + torch.linspace(0, 3, n)[:, None]
    module = Twice()
    recalibrate(module, x)
    seen = torch.cat([x, 3 * x + 1])
    assert torch.allclose(module.norm.running_mean, seen.mean(0), atol=1e-5)
    assert torch.allclose(module.norm.running_var, seen.var(0), rtol=1e-4)
    assert torch.allclose(module.other.running_mean, x.mean(0), atol=1e-5)
    assert torch.allclose(module.other.running_var, x.var(0), rtol=1e-4)
    assert module.unused.running_mean.tolist() == [7.0, 7.0]
    assert [m.momentum for m in module.children()] == [0.1] * 3


def test_as_many_images_as_the_estimate_needs_stand_behind_statistics(cells: nasplat.Space) -> None:
    task = nasplat.load_task("digits-clutter", train=300, decide=160, test=16)
    supernet, member = nasplat.Supernet(cells, task, seed=0), cells.sample(seed=3)
    usual = supernet.evaluate(member)
    assert usual == supernet.evaluate(member, calibration=images_for(160))
    module = supernet.subnets.build(member).module
    recalibrate(module, task.train.x[:32])
    assert supernet.evaluate(member, calibration=32) == task.evaluate(module, "decide")


def test_training_learns(vit: nasplat.Space) -> None:
    task = nasplat.load_task("digits-clutter", train=2048, decide=512, test=512)
    supernet = nasplat.Supernet(vit, task, seed=0)
    history = supernet.train(epochs=6, batch_size=32, watch=False)
    assert history[-1].loss < history[0].loss - 0.05
    assert supernet.evaluate(vit.extreme()) > 15  # chance is 10


def test_operations_of_string_choices_never_share(cells: nasplat.Space, task: nasplat.Task) -> None:
    store = nasplat.Supernet(cells, task, seed=0).store
    three, one = (f"stage0_cell0.edges.0->1.conv.weight@0->1=nor_conv_{k}" for k in ("3x3", "1x1"))
    assert store.weights[three].shape[2:] == (3, 3)
    assert store.weights[one].shape[2:] == (1, 1)


def test_kernels_share_their_centre(task: nasplat.Task) -> None:
    space = nasplat.load_space("ofa_mobilenetv3", **SMALL["ofa_mobilenetv3"])
    supernet = nasplat.Supernet(space, task, seed=0)
    small = space.extreme(largest=False)
    key, parameter = next(
        (k, p) for k, p in supernet.subnets.bind(small).parameters if "unit0.block0.depthwise.conv" in k
    )
    stored = supernet.store.weights[key]
    assert stored.shape[2:] == (7, 7)
    assert torch.equal(parameter, stored[: parameter.shape[0], :, 2:5, 2:5])


def test_shape_without_a_rule_is_refused_by_name(task: nasplat.Task) -> None:
    class Scale(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(n))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, : len(self.factor)] * self.factor

    @nasplat.space(example_input=(1, 1, 16, 16))
    def raw(pick: nasplat.Pick) -> nn.Module:
        return nn.Sequential(Scale(pick("n", (10, 20))))

    with pytest.raises(SupernetError, match=r"'0.factor'.*Scale declares no slicing rule"):
        nasplat.Supernet(raw, task)
    Scale.slicing = {"factor": ("leading",)}  # type: ignore[attr-defined]
    assert nasplat.Supernet(raw, task).store.weights["0.factor"].shape == (20,)


def test_even_inside_odd_kernels_are_refused(task: nasplat.Task) -> None:
    @nasplat.space(example_input=(1, 1, 16, 16))
    def mixed(pick: nasplat.Pick) -> nn.Module:
        kernel = pick("kernel", (2, 3))
        return nn.Sequential(nn.Conv2d(1, 10, kernel), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    with pytest.raises(SupernetError, match="a kernel of 2 has no centre in one of 3"):
        nasplat.Supernet(mixed, task)


def test_task_of_another_shape_is_refused(task: nasplat.Task) -> None:
    with pytest.raises(SupernetError, match=r"inputs of shape \(3, 32, 32\), task 'digits-clutter' has \(1, 16, 16\)"):
        nasplat.Supernet(nasplat.load_space("nasbench201"), task)


def test_foreign_architecture_and_bad_settings_are_refused(vit: nasplat.Space, task: nasplat.Task) -> None:
    supernet = nasplat.Supernet(vit, task)
    with pytest.raises(SupernetError, match="expected an architecture of"):
        supernet.evaluate(nasplat.load_space("vit").sample())
    with pytest.raises(SupernetError, match="nothing would move"):
        supernet.train(epochs=1, lr=0.0)
    with pytest.raises(
        SupernetError, match="among single-path, sandwich, warm-sandwich, progressive, shrinking, ovo, got 'magic'"
    ):
        supernet.train(epochs=1, strategy="magic")
    with pytest.raises(SupernetError, match="got 'speed'"):
        supernet.train(epochs=1, speed=3)


def test_loss_that_is_not_finite_stops_with_the_checkpoint_intact(
    vit: nasplat.Space, task: nasplat.Task, tmp_path: Path
) -> None:
    supernet = nasplat.Supernet(vit, task, seed=0)
    supernet.train(epochs=1, checkpoint=tmp_path)
    kept = (tmp_path / "supernet.safetensors").read_bytes()
    broken = nasplat.Supernet(vit, replace(task, loss=lambda o, y: (o * float("nan")).sum()), seed=0)
    with pytest.raises(SupernetError, match="the loss became nan"):
        broken.train(epochs=1)
    assert (tmp_path / "supernet.safetensors").read_bytes() == kept


def test_bf16_trains(vit: nasplat.Space, task: nasplat.Task) -> None:
    supernet = nasplat.Supernet(vit, task, seed=0)
    assert supernet.train(epochs=1, bf16=True)[-1].loss < 3


def test_every_slicing_rule_is_undone_by_its_gradient() -> None:
    from nasplat.supernet.slicing import Rule, give, take

    torch.manual_seed(0)
    cases = [
        (Rule(("leading", "leading")), (6, 4), (3, 2)),
        (Rule(("leading", "fixed", "centred", "centred")), (4, 1, 7, 7), (2, 1, 3, 5)),
        (Rule(("fixed", "tokens", "leading")), (1, 16, 4), (1, 9, 3)),
        (Rule(("fixed", "tokens", "leading")), (1, 7, 4), (1, 5, 3)),
        (Rule(("stacked:3", "leading")), (12, 4), (6, 2)),
    ]
    for rule, stored, shape in cases:
        store = torch.randn(stored, requires_grad=True)
        part = take(store, shape, rule, "w")
        assert tuple(part.shape) == shape
        upstream = torch.randn(shape)
        (wanted,) = torch.autograd.grad(part, store, upstream)
        buffer = torch.zeros(stored)
        give(buffer, upstream, rule, "w")
        assert torch.allclose(buffer, wanted), rule


def test_stacked_gates_keep_their_matrices(task: nasplat.Task) -> None:
    class Reader(nn.Module):
        def __init__(self, hidden: int) -> None:
            super().__init__()
            self.cell = nn.LSTM(16, hidden, batch_first=True)
            self.head = nn.Linear(hidden, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.cell(x[:, 0])[0][:, -1])

    @nasplat.space(example_input=(1, 1, 16, 16))
    def recurrent(pick: nasplat.Pick) -> nn.Module:
        return Reader(pick("hidden", (4, 8)))

    supernet = nasplat.Supernet(recurrent, task, seed=0)
    supernet.train(epochs=1)
    small = supernet.subnet(recurrent.architecture({"hidden": 4}))
    stored = supernet.store.weights["cell.weight_ih_l0"]
    rows = [g * 8 + i for g in range(4) for i in range(4)]
    assert torch.equal(small.cell.weight_ih_l0, stored[rows])


def test_finetuning_leaves_the_store(vit: nasplat.Space, task: nasplat.Task) -> None:
    supernet = nasplat.Supernet(vit, task, seed=0)
    before = copy.deepcopy(weights(supernet))
    supernet.finetune(vit.sample(seed=0), epochs=1)
    assert equal(before, weights(supernet))
