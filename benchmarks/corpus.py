"""Unlabelled graphs of all our spaces, with zero-cost proxies of scaled-down twins: what encoders are pretrained on.

The graph is that of the published size; the proxies come from the same choices at small width and resolution, because ranks inside a space
are what encoders learn. No label of any benchmark is involved. One file per space; spaces present are skipped.

    python benchmarks/corpus.py --cache cache --each 200
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import nasplat
from nasplat.errors import NasplatError
from nasplat.features.view import view
from nasplat.features.views_on_disk import save_views
from nasplat.probes.zerocost import proxies

NAMES = ("synflow", "nwot", "jacov", "grad_norm", "zen")
TWINS: dict[str, dict[str, Any]] = {
    "nasbench101": {"width": 16, "image": 16},
    "nasbench201": {"width": 8, "image": 16},
    "transnas_micro": {"width": 16, "image": 64},
    "nasbench_macro": {"base": 0.25},
    "hiaml": {"width": 8},
    "two_path": {"width": 8},
    "inception": {"width": 8},
    "ofa_mobilenetv3": {"base": 0.25, "resolutions": [64]},
    "mnasnet": {"base": 0.25, "image": 64},
    "fbnet": {"base": 0.25, "image": 64},
    "proxylessnas": {"base": 0.25, "resolutions": [64]},
    "ofa_resnet50": {"base": 0.125, "resolutions": [64]},
    "transnas_macro": {"width": 16, "image": 64},
    "vit": {"image": 64},
    "pit": {"image": 64},
    "hybrid": {"image": 64},
    "emo": {"base": 0.25, "image": 64},
    "darts": {"width": 8, "cells": 8, "image": 16},
    "nasnet": {"width": 8, "image": 64},
    "yolo": {"base": 0.25, "resolutions": [64]},
}
DETECTORS = {"yolo"}
"""Spaces whose networks answer boxes and scores of many cells."""
MORE = {"nasbench101": 20, "nasbench201": 8, "darts": 3}
"""Times as many networks of these spaces, whose cells differ most."""


class Pooled(nn.Module):
    """A detector that answers the mean over its cells, as proxies want one row of numbers per example."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x).mean(-1)


def twin(space: nasplat.Space, architecture: nasplat.Architecture) -> nasplat.Architecture:
    """The same choices in a scaled-down space; choices of resolution take its first option."""
    known = space.known
    return space.architecture(
        {k: known[k][0] if k in known and v not in known[k] else v for k, v in architecture.choices.items()}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("spaces", nargs="*", default=list(TWINS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.spaces:
        file = arguments.cache / f"corpus_{name}.npz"
        if file.exists():
            continue
        started, views, rows = time.perf_counter(), [], []
        space, small = nasplat.load_space(name), nasplat.load_space(name, **TWINS[name])
        seeds = random.Random(name)
        small.sample(seed=0)  # so that its options are known
        for _ in range(arguments.each * MORE.get(name, 1)):
            seed = seeds.randrange(2**31)
            try:
                architecture = space.sample(seed=seed)
                torch.manual_seed(seed)  # of the twin's weights
                module, shape = small.construct(twin(small, architecture))
                module = Pooled(module) if name in DETECTORS else module
                found = proxies(module, shape, NAMES, batch_size=arguments.batch, seed=seed)
            except (NasplatError, RuntimeError, ValueError) as err:
                print(f"{name} {seed}: {type(err).__name__}: {str(err)[:120]}", flush=True)
                if not rows and time.perf_counter() - started > 20:
                    break
                continue
            views.append(view(architecture.graph()))
            rows.append(found)
        if views:
            file.with_suffix(".json").write_text(json.dumps(rows), encoding="utf-8")
            save_views(file, views)
        print(f"{name}: {len(views)} networks, {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
