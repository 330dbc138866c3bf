"""Supernets on tasks that are no classification of images, and on networks that come with weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nasplat
from nasplat.errors import SearchError, SupernetError
from nasplat.runs.folder import RunFolder
from nasplat.runs.guide import Guide
from nasplat.runs.kinds import SearchRun
from nasplat.runs.preparation import Prepared
from nasplat.runs.results import pareto_rows
from nasplat.runs.trials import run_search


class Dense(nn.Module):
    """Convolutions that keep the side; a map of outputs, or its mean."""

    def __init__(self, width: int, depth: int, outputs: int, pooled: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 5, padding=2)
        self.blocks = nn.Sequential(*(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth)))
        self.head = nn.Linear(width * 16, outputs) if pooled else nn.Conv2d(width, outputs, 1)
        self.pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        for block in self.blocks:
            x = x + block(x).relu()
        return self.head(nn.functional.adaptive_avg_pool2d(x, 4).flatten(2).flatten(1)) if self.pooled else self.head(x)


@nasplat.space(example_input=(1, 1, 16, 16))
def segmenting(pick: nasplat.Pick) -> nn.Module:
    width, depth = pick("width", (8, 16)), pick("depth", (1, 2, 3))
    return Dense(width, depth, 3, pooled=False)


@nasplat.space(example_input=(1, 1, 16, 16))
def placing(pick: nasplat.Pick) -> nn.Module:
    depth = pick("depth", (1, 2, 3))
    return Dense(12, depth, 2, pooled=True)


def test_a_supernet_segments() -> None:
    task = nasplat.load_task("digits-mask", train=1024, decide=128, test=128)
    assert task.train.y.shape == (1024, 16, 16)
    supernet = nasplat.Supernet(segmenting, task, seed=0)
    history = supernet.train(epochs=2, batch_size=32, lr=1e-2)
    assert history[-1].health is not None
    assert task.chance is not None
    assert supernet.evaluate(segmenting.extreme(), "test") > task.chance + 5  # more than always saying background
    output = supernet.subnet(segmenting.sample(seed=1))(task.test.x[:4])
    assert output.shape == (4, 3, 16, 16)


def test_a_supernet_regresses_and_less_is_better(tmp_path: Path) -> None:
    task = nasplat.load_task("digits-place", train=1024, decide=128, test=128)
    assert task.train.y.shape == (1024, 2)
    supernet = nasplat.Supernet(placing, task, seed=0)
    before = supernet.evaluate(placing.extreme())
    supernet.train(epochs=3, batch_size=32, lr=1e-2, strategy="sandwich")
    always = float((task.decide.y - task.train.y.mean(0)).norm(dim=1).mean())  # the mean place for every image
    assert supernet.evaluate(placing.extreme()) < min(before, always)
    with pytest.raises(SearchError, match="'inherited distance_px' expected minimize, got maximize"):
        nasplat.search(placing, maximize=[nasplat.Inherited(supernet)], n_trials=2)
    study = nasplat.search(placing, minimize=[nasplat.Inherited(supernet), nasplat.Counted("macs")], n_trials=3)
    assert len(study.trials) == 3
    run = SearchRun(placing, task, guide="none", trials=3)  # the command's way
    study = run_search(Prepared(run, placing, task, RunFolder(tmp_path), Guide("none"), supernet))
    assert study.metric_names == ["inherited distance_px", "macs"]
    assert {d.name for d in study.directions} == {"MINIMIZE"}
    values = [r["inherited distance_px"] for r in pareto_rows(study, placing)]
    assert values == sorted(values)
    with pytest.raises(SearchError, match="better when larger, got 'inherited distance_px'"):
        nasplat.search_in_stages(placing, [nasplat.Inherited(supernet), nasplat.Trained(task)], budget=10.0)


def test_masks_and_places_tell_where_the_digit_is() -> None:
    from nasplat.task.digits import compose

    mask, place = (compose("test", 64, 5, noise=0.0, target=t) for t in ("mask", "place"))
    assert torch.equal(mask.x, place.x)
    assert set(mask.y.unique().tolist()) == {0, 1, 2}
    rows = torch.arange(16.0)
    for image, centre in zip(mask.y, place.y, strict=True):
        digit = (image == 1).float()
        middle = torch.stack([(digit.sum(1) * rows).sum(), (digit.sum(0) * rows).sum()]) / digit.sum()
        assert (middle - centre).abs().max() < 3


class Published(nn.Module):
    """A vision transformer with the names that timm's have."""

    def __init__(self, embed: int, depth: int, hidden: int) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(1, embed, 4, 4)
        self.pos_embed = nn.Parameter(torch.randn(1, 16, embed) * 0.02)
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            block = nn.Module()
            block.norm1, block.norm2 = nn.LayerNorm(embed), nn.LayerNorm(embed)
            block.attn, block.mlp = nn.Module(), nn.Module()
            block.attn.qkv, block.attn.proj = nn.Linear(embed, 3 * 32), nn.Linear(32, embed)
            block.mlp.fc1, block.mlp.fc2 = nn.Linear(embed, hidden), nn.Linear(hidden, embed)
            self.blocks.append(block)
        self.norm, self.head = nn.LayerNorm(embed), nn.Linear(embed, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2) + self.pos_embed
        for b in self.blocks:
            q, k, v = b.attn.qkv(b.norm1(x)).unflatten(2, (3, 4, 8)).permute(2, 0, 3, 1, 4)
            x = x + b.attn.proj(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
            x = x + b.mlp.fc2(nn.functional.gelu(b.mlp.fc1(b.norm2(x))))
        return self.head(self.norm(x).mean(1))


def from_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a timm vision transformer, with our names: q, k and v apart."""
    found = {}
    for name, value in state.items():
        name = name.replace("patch_embed.proj", "patches").replace("pos_embed", "positions.table")
        name = name.replace("blocks.", "blocks.block").replace(".attn.", ".attention.").replace(".mlp.", ".")
        if ".qkv." in name:
            found |= {name.replace("qkv", part): v for part, v in zip("qkv", value.chunk(3), strict=True)}
        else:
            found[name] = value
    return found


@pytest.fixture(scope="module")
def task() -> nasplat.Task:
    return nasplat.load_task("digits-clutter", train=256, decide=64, test=64)


def test_a_transformer_with_timm_names_goes_in_and_comes_out(vit: nasplat.Space, task: nasplat.Task) -> None:
    torch.manual_seed(3)
    published = Published(64, 4, 128).eval()
    supernet = nasplat.Supernet(vit, task, seed=0)
    assert supernet.adopt(from_timm(published.state_dict())) == []  # it fills the store
    module, x = supernet.subnet(vit.extreme()), task.test.x
    with torch.no_grad():
        assert torch.allclose(module(x), published(x), atol=1e-6)
    back = from_timm(published.state_dict())
    assert all(torch.equal(p, back[name]) for name, p in module.named_parameters())
    assert supernet.sort_channels()
    with torch.no_grad():
        assert torch.allclose(supernet.subnet(vit.extreme())(x), published(x), atol=1e-5)


def test_a_network_of_timm_itself_goes_in_and_comes_out() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model(
        "vit_tiny_patch16_224", num_classes=10, img_size=32, class_token=False, global_pool="avg", fc_norm=False
    )

    @nasplat.space(example_input=(1, 3, 32, 32))
    def elastic(pick: nasplat.Pick) -> nn.Module:
        depth, ratio = pick("depth", (6, 9, 12)), pick("ratio", (2.0, 4.0))
        options: dict[str, Any] = {"class_token": False, "global_pool": "avg", "fc_norm": False, "num_classes": 10}
        return timm.models.VisionTransformer(
            32, 16, embed_dim=192, depth=depth, num_heads=3, mlp_ratio=ratio, **options
        )

    elastic_task = nasplat.Task.from_arrays(
        (torch.randn(32, 3, 32, 32), torch.arange(32) % 10), (torch.randn(8, 3, 32, 32), torch.arange(8))
    )
    supernet = nasplat.Supernet(elastic, elastic_task)
    assert supernet.adopt(model) == []
    with torch.no_grad():
        x = torch.randn(2, 3, 32, 32)
        assert torch.equal(supernet.subnet(elastic.extreme())(x), model.eval()(x))


def test_a_network_we_trained_goes_back(task: nasplat.Task) -> None:
    cells = nasplat.load_space("nasbench201", width=[4, 8], cells=1, image=16, channels=1)
    first, second = nasplat.Supernet(cells, task, seed=0), nasplat.Supernet(cells, task, seed=1)
    member = cells.project(dict(cells.sample(seed=4).choices) | {"width": 8})
    trained = first.finetune(member, epochs=1)
    left = second.adopt(trained, member)
    assert left  # other operations keep their values
    x = task.test.x
    with torch.no_grad():  # statistics are recalibrated on the same images by both
        assert torch.equal(second.subnet(member)(x), trained(x))


def test_networks_that_do_not_fit_are_refused_and_change_nothing(vit: nasplat.Space, task: nasplat.Task) -> None:
    supernet = nasplat.Supernet(vit, task, seed=0)
    before = supernet.fingerprint
    state = from_timm(Published(64, 4, 128).state_dict())
    with pytest.raises(SupernetError, match=r"without head.bias and with extra"):
        supernet.adopt({k: v for k, v in state.items() if k != "head.bias"} | {"extra": torch.zeros(1)})
    with pytest.raises(SupernetError, match=r"'blocks.block0.fc1.weight' has shape \(128, 64\) .*, got \(64, 64\)"):
        supernet.adopt(from_timm(Published(64, 4, 64).state_dict()))
    assert supernet.fingerprint == before
    mobile = nasplat.load_space("ofa_mobilenetv3", **_mobile())
    transformed = nasplat.Supernet(mobile, task, seed=0, kernel_transforms=True)
    small = mobile.extreme(largest=False)
    with pytest.raises(SupernetError, match="is computed from a larger one"):
        transformed.adopt(transformed.subnet(small), small)


def _mobile() -> dict[str, Any]:
    from conftest import SMALL

    return SMALL["ofa_mobilenetv3"]


def test_a_specialised_subnet_starts_where_it_was_and_resumes(
    vit: nasplat.Space, task: nasplat.Task, tmp_path: Path
) -> None:
    supernet = nasplat.Supernet(vit, task, seed=0)
    supernet.train(epochs=1)
    before, member = supernet.fingerprint, vit.sample(seed=5)
    alone = supernet.specialise(member)
    only = alone.space.extreme()
    assert only.choices == {}
    assert alone.evaluate(only) == supernet.evaluate(member)
    whole = supernet.finetune(member, epochs=2)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supernet.finetune(member, epochs=2, checkpoint=tmp_path, report=stop)
    resumed = supernet.finetune(member, epochs=2, checkpoint=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert supernet.fingerprint == before


def test_a_store_grows_with_what_it_meets_and_resumes(task: nasplat.Task, tmp_path: Path) -> None:
    space = nasplat.load_space("darts", width=4, cells=2, image=16, channels=1)

    def trained(checkpoint: Path | None, report: Any = None) -> nasplat.Supernet:
        supernet = nasplat.Supernet(space, task, seed=0)
        for key in list(supernet.store.weights)[::7]:  # as if construction had not met them
            del supernet.store.weights[key]
        supernet.train(epochs=2, batch_size=128, checkpoint=checkpoint, watch=False, report=report)
        return supernet

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    whole = trained(None)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, stop)
    resumed = trained(tmp_path)
    assert resumed.fingerprint == whole.fingerprint
    for key in list(resumed.store.weights)[-30:]:
        del resumed.store.weights[key]
    before = resumed.fingerprint
    values = [resumed.evaluate(space.sample(seed=i)) for i in (1, 2, 1)]
    assert values[0] == values[2]
    assert resumed.fingerprint == before  # evaluation does not grow it


def test_advice_about_the_shape_names_only_presets_that_the_space_has() -> None:
    task = nasplat.load_task("digits-clutter", train=64, decide=32, test=32)
    for name, advice in (
        ("nasbench201", "such as image=16, channels=1"),
        ("ofa_resnet50", r"such as resolutions=\(16,\), channels=1"),
        ("easnet-small", "such as height=16, width=16"),
    ):
        with pytest.raises(SupernetError, match=advice):
            nasplat.Supernet(nasplat.load_space(name), task)

    @nasplat.space(example_input=(1, 3, 32, 32))
    def fixed(pick: nasplat.Pick) -> nn.Module:
        return nn.Conv2d(3, pick("width", (8, 16)), 3)

    with pytest.raises(SupernetError, match="no preset for the shape of its inputs"):
        nasplat.Supernet(fixed, task)
