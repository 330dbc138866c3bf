"""Shared fixtures: small spaces, tasks and a fitted predictor. One thread: the networks are tiny."""

from __future__ import annotations

import optuna
import pytest
import torch

import nasplat

torch.set_num_threads(1)
optuna.logging.set_verbosity(optuna.logging.WARNING)

SMALL = {
    "nasbench201": {"width": [4, 8], "cells": 1, "image": 16, "channels": 1},
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
    "vit": {"size": "mini", "image": 16, "patch": 4, "channels": 1, "classes": 10, "head_dim": 8},
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's calibrations."""
    monkeypatch.setenv("NASPLAT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session", params=sorted(SMALL))
def small_space(request: pytest.FixtureRequest) -> nasplat.Space:
    return nasplat.load_space(request.param, **SMALL[request.param])


@pytest.fixture(scope="session")
def vit() -> nasplat.Space:
    return nasplat.load_space("vit", **SMALL["vit"])


@pytest.fixture(scope="session")
def cells() -> nasplat.Space:
    return nasplat.load_space("nasbench201", **(SMALL["nasbench201"] | {"width": 4}))


@pytest.fixture(scope="session")
def task() -> nasplat.Task:
    return nasplat.load_task("digits-clutter", train=512, decide=256, test=256)


@pytest.fixture(scope="session")
def labelled() -> tuple[list[nasplat.Graph], list[float]]:
    space = nasplat.load_space("nasbench201", **(SMALL["nasbench201"] | {"width": 4}))
    graphs = [space.sample(seed=i).graph() for i in range(60)]
    return graphs, [g.macs**0.3 + (int(g.key[:6], 16) % 7) * 0.1 for g in graphs]
