"""What the number of training images behind a subnet's statistics costs, and what it does to the order of subnets.

    OMP_NUM_THREADS=1 python benchmarks/bench_recalibration.py --images DIR

trains a small supernet of each space on each task and seed, and judges random subnets on the decide split with
statistics of few and of many images. The reference of an order is the test split, with statistics of 4,096 images.
One row for each space, task, seed, number of judged examples and number of images in
`results/recalibration.csv`; rows that are there are not measured again.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

import nasplat
from nasplat.supernet.recalibrate import recalibrate
from nasplat.supernet.supernet import images_for
from nasplat.tables.metrics import kendall_tau
from nasplat.tables.rows import RowFile
from nasplat.task import Split

HERE = Path(__file__).parent
COLUMNS = ("key", "space", "task", "seed", "judged", "images", "cost", "change", "tau", "tau_test")
SPACES: dict[str, dict[str, Any]] = {
    "ofa_mobilenetv3": {
        "base": 0.5,
        "widths": [0.25, 1.0, 2.0],
        "depths": [1, 2, 3],
        "expands": [1, 3, 6],
        "units": 3,
        "stem_stride": 1,
    },
    "nasbench201": {"width": 8, "cells": 1},
    "densenet": {},
}
TASKS = ("fashion_mnist?limit=6000&side=16", "cifar10?limit=6000&side=16")
JUDGED = (416, 2000)
IMAGES = (64, 128, 208, 512, 1000, 1024)
MEMBERS, MANY = 24, 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file = RowFile(HERE / "results" / "recalibration.csv", COLUMNS, "key")
    os.chdir(arguments.images)
    for reference in TASKS:
        task = nasplat.load_task(reference)
        for name, presets in SPACES.items():
            for seed in range(arguments.seeds):
                if f"{name} {task.name} {seed} {JUDGED[-1]} {IMAGES[-1]}" not in file.rows():
                    measure(file, task, name, presets, seed, arguments.epochs)


def measure(file: RowFile, task: nasplat.Task, name: str, presets: dict[str, Any], seed: int, epochs: int) -> None:
    """Train a supernet and judge its subnets in every way."""
    space = nasplat.load_space(name, **presets).for_task(task)
    supernet = nasplat.Supernet(space, task, seed=seed)
    supernet.train(epochs=epochs, watch=False)
    members = [space.sample(seed=100 * seed + i) for i in range(MEMBERS)]
    truth = [supernet.evaluate(m, "test", MANY) for m in members]
    for judged in JUDGED:
        few = replace(task, decide=Split(task.decide.x[:judged], task.decide.y[:judged]))
        usual: list[float] = []
        for images in sorted(IMAGES, reverse=True):
            found, shares = [], []
            for i, member in enumerate(members):
                module = supernet.subnets.build(member).module
                spent = _seconds(lambda m=module, n=images: recalibrate(m, task.train.x[:n]))
                values: list[float] = []
                plain = _seconds(lambda m=module, v=values, f=few: v.append(f.evaluate(m, "decide")))
                found += values
                shares += [(spent + plain) / plain] if i < 6 else []
            usual = usual or found
            change = fmean(abs(a - b) for a, b in zip(found, usual, strict=True))
            row = {"key": f"{name} {task.name} {seed} {judged} {images}", "space": name, "task": task.name}
            row |= {"seed": str(seed), "judged": str(judged), "images": str(images), "cost": f"{fmean(shares):.2f}"}
            row |= {"change": f"{change:.3f}", "tau": f"{kendall_tau(found, usual):.3f}"}
            file.append(row | {"tau_test": f"{kendall_tau(found, truth):.3f}"})
            print(row, f"needed {images_for(judged)}", flush=True)


def _seconds(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


if __name__ == "__main__":
    main()
