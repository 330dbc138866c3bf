"""Shared fixtures: small spaces, tasks and a fitted predictor. One thread: the networks are tiny."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import optuna
import pytest
import torch
from commands import CELLS, TINY, VIT, presets, run
from torch import nn

import nasplat
from nasplat.probes import latency
from nasplat.workflows import calibrate, deliver

torch.set_num_threads(1)
optuna.logging.set_verbosity(optuna.logging.WARNING)

KINDS = {
    "cli": "flow",
    "runs": "flow",
    "workflows": "flow",
    "test_readme": "flow",
    "test_spaces_page": "flow",
    "faults": "faults",
}
"""Mark of the tests of a folder or file, unless these are marked fast."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test by where it stands."""
    if not item.get_closest_marker("fast"):
        for name in (item.path.stem, item.path.parent.name):
            if name in KINDS:
                item.add_marker(KINDS[name])
                break


SMALL = {
    "nasbench201": CELLS | {"width": [4, 8]},
    "ofa_mobilenetv3": {
        "base": 0.5,
        "widths": [0.5, 1.0],
        "resolutions": [16],
        "depths": [1, 2],
        "units": 2,
        "stem_stride": 1,
        "channels": 1,
        "classes": 10,
    },
    "vit": VIT,
}


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures that outlive a test do not read or write the user's calibrations either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NASPLAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's calibrations."""
    monkeypatch.setenv("NASPLAT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def hasty() -> Iterator[None]:
    """Networks are timed for a moment: nobody looks at how exact the latencies are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "WARMUP_SECONDS", 0.05)
        patch.setattr(calibrate, "SECONDS", 0.05)
        patch.setattr(deliver, "SECONDS", 0.05)
        yield


@pytest.fixture(scope="session", params=sorted(SMALL))
def small_space(request: pytest.FixtureRequest) -> nasplat.Space:
    return nasplat.load_space(request.param, **SMALL[request.param])


@pytest.fixture(scope="session")
def vit() -> nasplat.Space:
    return nasplat.load_space("vit", **SMALL["vit"])


@pytest.fixture(scope="session")
def cells() -> nasplat.Space:
    return nasplat.load_space("nasbench201", **CELLS)


@nasplat.space(example_input=(1, 16))
def lines(pick: nasplat.Pick) -> nn.Module:
    """Linear layers of four widths: 1,296 networks that are captured in a moment."""
    sizes = [16, *(pick(f"width{i}", (2, 3, 4, 5, 6, 7)) for i in range(4))]
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))


@pytest.fixture(scope="session", name="lines")
def quick_space() -> nasplat.Space:
    return lines


@pytest.fixture(scope="session")
def task() -> nasplat.Task:
    return nasplat.load_task("digits-clutter", train=512, decide=256, test=256)


@pytest.fixture(scope="session")
def labelled() -> tuple[list[nasplat.Graph], list[float]]:
    space = nasplat.load_space("nasbench201", **CELLS)
    graphs = [space.sample(seed=i).graph() for i in range(60)]
    return graphs, [g.macs**0.3 + (int(g.key[:6], 16) % 7) * 0.1 for g in graphs]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of `nasplat train`, made once and read by all, and what it printed."""
    out = tmp_path_factory.mktemp("trained") / "run"
    words = ["train", "vit", *presets(VIT), f"--task={TINY}", "--train.epochs=2", "--train.strategy=progressive"]
    return out, run(*words, "--out", str(out), "--json")


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of `nasplat search` with a supernet of its own, made once and read by all, and what it printed."""
    out = tmp_path_factory.mktemp("searched") / "run"
    words = ["search", "vit", *presets(VIT), f"--task={TINY}", "--trials=5", "--limit=macs=300000", "--train.epochs=1"]
    return out, run(*words, "--out", str(out), "--json")
