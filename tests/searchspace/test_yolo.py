"""YOLO detectors: published counts, names of YOLOBench, ordered corners, shared weights."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import pytest
import torch
from torch import nn

import nasplat
from nasplat.errors import SpaceError

pytestmark = pytest.mark.fast

WHOLE = {
    "yolo8n": 3_157_184,
    "yolo8s": 11_166_544,
    "yolo8m": 25_902_624,
    "yolo8l": 43_691_504,
    "yolo5n": 2_654_800,
    "yolo5s": 9_153_136,
}
"""Published parameters of networks that have version 8's head, without the fixed weights of its distribution."""
ANCHORED = {"yolo3d1w1": (61_949_149, False), "yolo7l": (36_905_341, True)}
"""Published parameters with anchors, each map's three of 85 numbers; of version 7 with normalisations folded."""
TINY = {"versions": ("5", "8"), "depths": (0.33, 0.67), "widths": (0.25, 0.5), "base": 0.125, "classes": 3}


@pytest.fixture(scope="module")
def space() -> nasplat.Space:
    return nasplat.load_space("yolo")


@pytest.mark.parametrize("name", WHOLE)
def test_versions_5_and_8_have_their_published_parameters(space: nasplat.Space, name: str) -> None:
    graph = space.parse(name).graph()
    assert graph.params == WHOLE[name]
    assert graph.nodes[-1].shape == (1, 84, (20**2 + 10**2 + 5**2))


@pytest.mark.parametrize("name", ANCHORED)
def test_bodies_of_versions_3_and_7_have_the_published_parameters(space: nasplat.Space, name: str) -> None:
    published, is_folded = ANCHORED[name]
    module = space.construct(space.parse(name), initialised=False)[0]
    body = {k: m for k, m in module.named_modules() if k and not k.startswith("head")}
    count = sum(p.numel() for m in body.values() for p in m.parameters(recurse=False))
    if is_folded:
        count -= sum(m.num_features for m in body.values() if isinstance(m, nn.BatchNorm2d))
    assert count + sum(3 * 85 * (width + 1) for width in (256, 512, 1024)) == published


@pytest.mark.parametrize(("name", "share"), [("yolo6s-d33w5", 17.2), ("yolo6m-d6w75", 34.3), ("yolo6l-d1w1", 58.5)])
def test_bodies_of_version_6_have_the_published_millions(space: nasplat.Space, name: str, share: float) -> None:
    module = space.construct(space.parse(name), initialised=False)[0]
    body = sum(p.numel() for k, p in module.named_parameters() if not k.startswith("head"))
    widths = [module.get_parameter(f"head.box{i}.first.conv.weight").shape[1] for i in range(3)]
    head = sum(19 * w * w + 150 * w for w in widths)  # its own: a 1x1 and two 3x3 convolutions, 80 scores and a box
    assert (body + head) / 1e6 == pytest.approx(share, abs=0.1)


def test_names_of_the_benchmark_are_read_and_written(space: nasplat.Space) -> None:
    assert space.parse("yolo5n") == space.parse("yolo5-d33w25")
    assert space.format(space.parse("yolo6l-d6w75")) == "yolo6l-d6w75"
    assert space.format(space.parse("yolo7m")) == "yolo7d1w75"  # it has no repeats to scale
    sides = nasplat.load_space("yolo", resolutions=(160, 320))
    assert sides.parse("yolo8n@320").choices["resolution"] == 320
    assert sides.parse("yolo8n@320").graph().macs == 4 * sides.parse("yolo8n@160").graph().macs
    assert space.count().value == 7 * 4 * 4 + 4


def test_other_names_and_odd_image_sides_are_refused(space: nasplat.Space) -> None:
    with pytest.raises(SpaceError, match=r"expected a name such as yolo8n, .* got 'yolo9n'"):
        space.parse("yolo9n")
    with pytest.raises(SpaceError, match="multiples of 32, got 200"):
        nasplat.load_space("yolo", resolutions=(160, 200)).sample(seed=0)


def test_corners_are_ordered_and_scores_are_shares() -> None:
    module, shape = (tiny := nasplat.load_space("yolo", **TINY)).construct(tiny.sample(seed=0))
    with torch.inference_mode():
        found = module.eval()(torch.randn(2, *shape[1:]))
    assert found.shape == (2, 7, 525)
    assert (found[:, 0] < found[:, 2]).all()
    assert (found[:, 1] < found[:, 3]).all()
    assert ((found[:, 4:] > 0) & (found[:, 4:] < 1)).all()


def test_a_narrower_detector_shares_the_first_channels_of_each_way() -> None:
    space = nasplat.load_space("yolo", **TINY | {"versions": ("8",), "resolutions": (64,)})
    x, y = torch.randn(4, 3, 64, 64), torch.rand(4, 7, 84)
    task = nasplat.Task.from_arrays(
        (x, y), (x, y), loss=nn.functional.mse_loss, metric=lambda a, b: float((a - b).abs().mean())
    )
    supernet = nasplat.Supernet(space, task, seed=0)
    small, large = (
        supernet.subnet(space.architecture({"version": "8", "depth": d, "width": w}))
        for d, w in ((0.33, 0.25), (0.67, 0.5))
    )
    parts = small.state_dict(), large.state_dict()
    for name in ("stage2.way.conv.weight", "head.box0.last.weight"):
        assert torch.equal(parts[0][name], parts[1][name][tuple(slice(n) for n in parts[0][name].shape)])
    # two of the larger one's three segments: both halves, then what its first block gives, each as wide as it is here
    joined = "stage2.join.conv.weight"
    assert parts[0][joined].shape[1] == 3 * parts[0]["stage2.way.conv.weight"].shape[0]


@pytest.mark.skipif("NASPLAT_NAS" not in os.environ, reason="needs the folder of labelled architectures")
def test_every_row_of_the_benchmark_is_one_network_at_one_size() -> None:
    folder = Path(os.environ["NASPLAT_NAS"])
    with gzip.open(folder / "yolobench.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    space = nasplat.load_space("yolo", resolutions=tuple(range(160, 481, 32)))
    table = nasplat.load_table(folder / "yolobench.csv.gz", space=space, metric="voc_scratch_map50_95")
    assert len(table) == len(set(table.architectures)) == len(rows)
    for row in rows:
        named = space.parse(f"{row['model']}@{row['img_size']}")
        assert named in table.architectures
