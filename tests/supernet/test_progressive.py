"""Progressive shrinking: what is open when; channel sorting and kernel transforms change no function."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import SMALL
from torch import nn

import nasplat
from nasplat.supernet.extremes import end, kinds
from nasplat.supernet.sorting import groups, sort_channels
from nasplat.supernet.strategy import STRATEGIES, Progressive


@pytest.fixture(scope="module")
def mobile() -> nasplat.Space:
    return nasplat.load_space("ofa_mobilenetv3", **SMALL["ofa_mobilenetv3"])


@pytest.fixture(scope="module")
def task() -> nasplat.Task:
    return nasplat.load_task("digits-clutter", train=64, decide=32, test=32)


def drawn(space: nasplat.Space, progress: float) -> list[nasplat.Architecture]:
    return [lesson.architecture for seed in range(20) for lesson in Progressive().lessons(space, seed, progress)]


def test_kinds_follow_from_what_a_choice_changes(mobile: nasplat.Space) -> None:
    known = kinds(mobile)
    assert {kinds_ for name, kinds_ in known.items() if "kernel" in name} == {"kernel"}
    assert {kinds_ for name, kinds_ in known.items() if "depth" in name} == {"depth"}
    assert {kinds_ for name, kinds_ in known.items() if "expand" in name} == {"width"}
    vit = nasplat.load_space("vit", size="mini", image=16, patch=4, channels=1, classes=10, head_dim=8)
    assert kinds(vit)["depth"] == "depth"
    assert kinds(vit)["embed"] == "width"


def test_kernels_open_before_depth_and_depth_before_width(mobile: nasplat.Space) -> None:
    strategy, largest = Progressive(), mobile.extreme()
    phases = [strategy.phase(mobile, p / 100).name for p in range(100)]
    assert list(dict.fromkeys(phases)) == ["largest", "kernel", "depth", "width"]
    assert phases.count("largest") == 30
    assert {str(a) for a in drawn(mobile, 0.1)} == {str(largest)}
    met: dict[str, dict[str, set[Any]]] = {}
    for phase, progress in {
        "kernel": 0.4,
        "early depth": 0.55,
        "depth": 0.7,
        "early width": 0.8,
        "width": 0.95,
    }.items():
        met[phase] = {"kernel": set(), "depth": set(), "expand": set()}
        for architecture in drawn(mobile, progress):
            for name, value in architecture.choices.items():
                met[phase].setdefault(name.rpartition(".")[2], set()).add(value)
    options = {
        k: set(mobile.known[next(n for n in mobile.known if n.endswith(k))]) for k in ("kernel", "depth", "expand")
    }
    top = {k: sorted(v)[-2:] for k, v in options.items()}
    assert met["kernel"] == {
        "kernel": options["kernel"],
        "depth": {top["depth"][-1]},
        "expand": {top["expand"][-1]},
    } | {k: v for k, v in met["kernel"].items() if k not in options}
    assert met["early depth"]["depth"] == set(top["depth"])
    assert met["depth"]["depth"] == options["depth"]
    assert met["depth"]["expand"] == {top["expand"][-1]}
    assert met["early width"]["expand"] == set(top["expand"])
    assert met["width"]["expand"] == options["expand"]


def test_a_space_without_kernels_has_no_such_phase() -> None:
    vit = nasplat.load_space("vit", size="mini", image=16, patch=4, channels=1, classes=10, head_dim=8)
    assert list(dict.fromkeys(Progressive().phase(vit, p / 100).name for p in range(100))) == [
        "largest",
        "depth",
        "width",
    ]


def integers(store: Any, seed: int) -> None:
    """Small whole numbers: sums are then exact in any order."""
    generator = torch.Generator().manual_seed(seed)
    for weight in store.weights.values():
        weight.copy_(torch.randint(-2, 3, weight.shape, generator=generator))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_sorting_changes_no_largest_network(name: str, task: nasplat.Task) -> None:
    space = nasplat.load_space(name, **SMALL[name])
    supernet = nasplat.Supernet(space, task, seed=0)
    for key, weight in supernet.store.weights.items():
        supernet.store.weights[key] = weight.double()
    ends = [end(space, True, seed) for seed in range(3)]
    x = torch.randn(2, *task.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def outputs() -> list[torch.Tensor]:
        supernet.subnets.forget()
        with torch.no_grad():
            return [supernet.subnets.extract(a).double().eval()(x) for a in ends]

    before, kept = outputs(), {k: w.clone() for k, w in supernet.store.weights.items()}
    done = sort_channels(supernet.store)
    for a, b in zip(outputs(), before, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)
    moved = any(not torch.equal(w, kept[k]) for k, w in supernet.store.weights.items())
    assert moved == bool(done)
    if name in {"vit", "ofa_mobilenetv3"}:
        assert {kinds(space)[g.choice] for g in done} == {"width"}
        assert done


def test_sorting_is_exact_to_the_last_bit_where_arithmetic_is(task: nasplat.Task) -> None:
    @nasplat.space(example_input=(1, 1, 16, 16))
    def plain(pick: nasplat.Pick) -> nn.Module:
        a, b = pick("a", (4, 8, 16)), pick("b", (2, 6))
        layers = [
            nn.Conv2d(1, a, 3, 2, bias=False),
            nn.ReLU(),
            nn.Conv2d(a, a, 3, groups=a),
            nn.ReLU(),
            nn.Conv2d(a, b, 1),
            nn.ReLU(),
        ]
        return nn.Sequential(*layers, nn.Conv2d(b, 10, 5), nn.Flatten())

    supernet = nasplat.Supernet(plain, task, seed=0)
    integers(supernet.store, 1)
    x = torch.randint(-2, 3, (4, 1, 16, 16)).float()
    largest = plain.extreme()
    with torch.no_grad():
        before = supernet.subnets.extract(largest)(x)
        done = sort_channels(supernet.store)
        assert torch.equal(supernet.subnets.extract(largest)(x), before)
    assert {(g.choice, g.size, g.block) for g in done} == {("a", 16, 1), ("b", 6, 1)}
    read = supernet.store.weights["4.weight"].abs().sum((0, 2, 3))
    assert torch.equal(read, read.sort(descending=True).values)


def test_heads_move_as_wholes_and_a_narrow_net_keeps_the_channels_that_matter(task: nasplat.Task) -> None:
    vit = nasplat.load_space("vit", size="mini", image=16, patch=4, channels=1, classes=10, head_dim=8)
    supernet = nasplat.Supernet(vit, task, seed=0)
    blocks = {g.choice: g.block for g in groups(supernet.store)}
    assert blocks["block0.heads"] == 8
    assert blocks["block0.ratio"] == 1

    @nasplat.space(example_input=(1, 1, 16, 16))
    def plain(pick: nasplat.Pick) -> nn.Module:
        hidden = pick("hidden", (8, 32))
        return nn.Sequential(nn.Flatten(), nn.Linear(256, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    supernet = nasplat.Supernet(plain, task, seed=0)
    supernet.store.weights["3.weight"][:, :24] *= (
        0.01  # only the last eight matter, and a narrow net has the first eight
    )
    x, narrow = task.test.x, plain.extreme(largest=False)
    with torch.no_grad():
        whole = supernet.subnets.extract(plain.extreme())(x)
        apart = (supernet.subnets.extract(narrow)(x) - whole).norm()
        sort_channels(supernet.store)
        assert (supernet.subnets.extract(narrow)(x) - whole).norm() < 0.1 * apart


def test_channels_that_cannot_move_alone_stay(task: nasplat.Task) -> None:
    class Shuffled(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(1, width, 3), nn.Conv2d(width, 10, 14)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            weight = torch.arange(1, y.shape[1] + 1, dtype=y.dtype)[
                :, None, None
            ]  # the order of channels has a meaning
            return self.last(y * weight).flatten(1)

    @nasplat.space(example_input=(1, 1, 16, 16))
    def ordered(pick: nasplat.Pick) -> nn.Module:
        return Shuffled(pick("width", (4, 8)))

    supernet = nasplat.Supernet(ordered, task, seed=0)
    before = supernet.fingerprint
    assert sort_channels(supernet.store) == []
    assert supernet.fingerprint == before


def test_fresh_kernel_transforms_are_plain_crops_and_leave_the_largest_kernel(
    mobile: nasplat.Space, task: nasplat.Task
) -> None:
    plain, transformed = (nasplat.Supernet(mobile, task, seed=0, kernel_transforms=t) for t in (False, True))
    extra = [k for k in transformed.store.weights if "#" in k]
    assert extra
    assert {transformed.store.weights[k].shape for k in extra} == {(9, 9), (25, 25)}
    x = task.test.x[:8]
    members = [mobile.sample(seed=i) for i in range(8)]
    with torch.no_grad():
        for architecture in members:
            assert torch.equal(plain.subnet(architecture)(x), transformed.subnet(architecture)(x))
        for key in extra:
            transformed.store.weights[key].add_(0.3 * torch.randn_like(transformed.store.weights[key]))
        assert torch.equal(plain.subnet(mobile.extreme())(x), transformed.subnet(mobile.extreme())(x))
        small = mobile.extreme(largest=False)
        assert not torch.equal(plain.subnet(small)(x), transformed.subnet(small)(x))


def test_kernel_transforms_learn_and_are_extracted(mobile: nasplat.Space, task: nasplat.Task, tmp_path: Any) -> None:
    supernet = nasplat.Supernet(mobile, task, seed=0, kernel_transforms=True)
    before = {k: w.clone() for k, w in supernet.store.weights.items()}
    supernet.train(epochs=2, batch_size=16, checkpoint=tmp_path)
    moved = [k for k, w in supernet.store.weights.items() if "#" in k and not torch.equal(w, before[k])]
    assert len(moved) > 2
    small = mobile.extreme(largest=False)
    module, x = supernet.subnet(small), task.test.x[:8]
    with torch.no_grad():
        assert torch.equal(module(x), supernet.shared(small)(x))
    assert not any("#" in name for name, _ in module.named_parameters())
    again = nasplat.Supernet(mobile, task, seed=5, kernel_transforms=True)
    again.load(tmp_path)
    assert again.fingerprint == supernet.fingerprint


def test_gradients_of_transformed_kernels_equal_those_of_autograd(mobile: nasplat.Space, task: nasplat.Task) -> None:
    store = nasplat.Supernet(mobile, task, seed=0, kernel_transforms=True).store
    key = next(k for k in store.kernels)
    for weight in store.weights.values():
        weight.requires_grad_()
    part = store.take(key, (*store.weights[key].shape[:2], 3, 3))
    upstream = torch.randn(part.shape)
    names = [key, f"{key}#5", f"{key}#3"]
    wanted = dict(zip(names, torch.autograd.grad(part, [store.weights[n] for n in names], upstream), strict=True))
    for name, gradient, _ in store.spread(key, upstream):
        full = wanted[name] if gradient.shape == wanted[name].shape else wanted[name][..., 1:6, 1:6]
        assert torch.allclose(gradient, full, atol=1e-6), name
    assert torch.equal(wanted[key][..., 0, :], torch.zeros_like(wanted[key][..., 0, :]))  # a 3×3 never reads the rim


@pytest.fixture(scope="module")
def stereo() -> nasplat.Space:
    return nasplat.load_space("easnet-small", disparity=24, height=48, width=96)


def test_scales_are_depths_on_which_depths_hang(stereo: nasplat.Space) -> None:
    known = kinds(stereo)
    assert {n for n, kind in known.items() if kind == "scale"} == {"scales", "refine.levels"}
    assert {known[n] for n in ("stage0.depth", "fusions", "refine.blocks")} == {"depth"}
    assert known["stage1.block0.expand"] == known["refine.channels"] == "width"


def test_the_published_schedule_of_stereo(stereo: nasplat.Space) -> None:
    strategy = STRATEGIES["shrinking"]
    steps = 1720  # ten a published epoch
    phases = [strategy.phase(stereo, i / steps) for i in range(steps)]
    names = [p.name for p in phases]
    assert {n: names.count(n) for n in dict.fromkeys(names)} == {
        "largest": 640,
        "kernel": 270,
        "depth": 270,
        "width": 270,
        "scale": 270,
    }
    assert {p.name for p in phases if p.sorts_channels} == {"width"}
    rates = [strategy.rate(stereo, i, steps, 1e-3) for i in range(steps)]
    tops = {n: max(r for r, m in zip(rates, names, strict=True) if m == n) for n in dict.fromkeys(names)}
    assert tops == pytest.approx(
        {"largest": 1e-3, "kernel": 5e-4, "depth": 5e-4, "width": 5e-4, "scale": 5e-4}, rel=0.01
    )
    for i in range(1, steps):
        if names[i] != names[i - 1]:
            assert rates[i - 1] < 1e-6 * 10  # a cosine ends, a warm-up begins
            assert max(range(i, i + 270), key=lambda k: rates[k]) - i == pytest.approx(20, abs=1)
    largest, options = stereo.extreme(True).choices, stereo.known
    order = ("kernel", "depth", "width", "scale")
    for at, (phase, draws) in enumerate(zip(order, (1, 2, 4, 6), strict=True)):
        progress = (names.index(phase) + 5) / steps
        lessons = [list(strategy.lessons(stereo, seed, progress)) for seed in range(40)]
        assert {len(some) for some in lessons} == {draws}
        assert not any(lesson.is_taught for some in lessons for lesson in some)
        met: dict[str, set[Any]] = {}
        for lesson in (lesson for some in lessons for lesson in some):
            for name, value in lesson.architecture.choices.items():
                met.setdefault(name, set()).add(value)
        for name, kind in kinds(stereo).items():
            is_open = order.index(kind) <= at
            assert met[name] == (set(options[name]) if is_open else {largest[name]}), (phase, name)


def test_a_warm_sandwich_begins_with_the_largest_alone(stereo: nasplat.Space) -> None:
    strategy = STRATEGIES["warm-sandwich"]
    assert [len(list(strategy.lessons(stereo, 0, p))) for p in (0.0, 0.39, 0.4, 0.9)] == [1, 1, 3, 3]
    assert [strategy.phase(stereo, p).name for p in (0.2, 0.5)] == ["largest", "all"]
