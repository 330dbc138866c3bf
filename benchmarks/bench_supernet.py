"""What weight sharing costs: a training step of a random subnet beside one of a plain module of the same architecture trained alone.

Every step samples another subnet, as a training does. The step is timed with modules that were built before, as the plain ones were, and
with their building; the plain modules are trained with the same batch, loss, clipping and torch's AdamW. All are timed in turn, several
rounds; medians per architecture are added up. Parts are timed by themselves: building, binding to slices, moving gradients, update.

    python benchmarks/bench_supernet.py [--device cuda]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import nasplat
from nasplat.runs.folder import hardware, versions
from nasplat.supernet.training import Trainer

VIT = {"classes": 10, "head_dim": 8, "size": "mini"}
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "transformer, 16 px patch 4, batch 64": ("vit", VIT | {"image": 16, "patch": 4, "channels": 1}, 64),
    "transformer, 28 px patch 7, batch 64": ("vit", VIT | {"image": 28, "patch": 7, "channels": 1}, 64),
    "transformer, 32 px patch 4, batch 64": ("vit", VIT | {"image": 32, "patch": 4, "channels": 3}, 64),
    "MBConv, 32 px, batch 64": (
        "ofa_mobilenetv3",
        {
            "base": 0.5,
            "widths": [0.5, 1.0],
            "resolutions": [32],
            "depths": [2, 3],
            "units": 3,
            "stem_stride": 1,
            "classes": 10,
        },
        64,
    ),
    "cells, 16 px, batch 64": ("nasbench201", {"width": [4, 8], "cells": 1, "image": 16, "channels": 1}, 64),
    "cells, 32 px, batch 64": ("nasbench201", {"width": [8, 16], "cells": 1, "image": 32, "channels": 3}, 64),
}
SUBNETS, ROUNDS = 24, 5


def task_of(shape: tuple[int, ...], batch: int) -> nasplat.Task:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(batch * 4, *shape, generator=generator), torch.randint(0, 10, (batch * 4,), generator=generator)
    return nasplat.Task.from_arrays((x, y), (x[:batch], y[:batch]), name="random")


def seconds(action: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def plain_step(module: nn.Module, optimiser: torch.optim.Optimizer, task: nasplat.Task, batch: int) -> None:
    optimiser.zero_grad(set_to_none=True)
    task.loss(module(task.train.x[:batch]), task.train.y[:batch]).backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()


def case(name: str, device: torch.device) -> None:
    reference, presets, batch = CASES[name]
    space = nasplat.load_space(reference, **presets)
    shape: Any = space.sample(seed=0).example_input
    task = task_of(tuple(shape)[1:], batch).to(device)
    supernet = nasplat.Supernet(space, task, device=device)
    config = nasplat.TrainConfig(epochs=1000, batch_size=batch, watch=False)
    trainer = Trainer(supernet.subnets, task, 0, config)
    steps = range(100, 100 + SUBNETS)
    members = [next(iter(trainer.strategy.lessons(space, step, 0.0))).architecture for step in steps]
    plain = [a.build().to(device).train() for a in members]
    optimisers = [torch.optim.AdamW(m.parameters(), lr=1e-3, weight_decay=0.01) for m in plain]
    x, y = task.train.x[:batch], task.train.y[:batch]
    times: dict[str, list[list[float]]] = {
        k: [] for k in ("fresh", "shared", "plain", "construct", "bind", "move", "update")
    }
    for round_ in range(ROUNDS + 1):
        supernet.subnets.forget()
        trainer.updates.step(x, y, 99, 1e-3)
        rows: dict[str, list[float]] = {
            "fresh": [seconds(lambda s=s: trainer.updates.step(x, y, s, 1e-3), device) for s in steps],
            "shared": [seconds(lambda s=s: trainer.updates.step(x, y, s, 1e-3), device) for s in steps],
            "plain": [],
            "construct": [seconds(lambda a=a: space.construct(a, initialised=False), device) for a in members],
            "bind": [seconds(lambda a=a: supernet.subnets.build(a), device) for a in members],
            "move": [],
            "update": [],
        }
        for architecture in members:
            bound = supernet.subnets.build(architecture)
            task.loss(bound.module.train()(x), y).backward()
            rows["move"].append(seconds(lambda b=bound: b.collect(supernet.store, trainer.updates.optimiser), device))
            rows["update"].append(seconds(lambda: trainer.updates.optimiser.step(1e-3, 1.0), device))
        for module, optimiser in zip(plain, optimisers, strict=True):
            plain_step(module, optimiser, task, batch)
            rows["plain"].append(seconds(lambda m=module, o=optimiser: plain_step(m, o, task, batch), device))
        if round_:  # the first warms up
            for key, row in rows.items():
                times[key].append(row)
    total = {key: float(np.median(np.array(rows), 0).sum()) / SUBNETS * 1e3 for key, rows in times.items()}
    ratios = [sum(s) / sum(p) for s, p in zip(times["shared"], times["plain"], strict=True)]
    print(
        f"| {name} | {total['shared']:.2f} | {total['plain']:.2f} | **{total['shared'] / total['plain']:.2f}** ({min(ratios):.2f} to "
        f"{max(ratios):.2f}) | {total['fresh'] / total['plain']:.2f} | {total['construct']:.2f} | {total['bind'] - total['construct']:.2f} | {total['move']:.2f} | {total['update']:.2f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{hardware()}, {versions()}\n")
    print(f"{SUBNETS} random subnets, medians of {ROUNDS} rounds, milliseconds a step\n")
    print(
        "| space | subnet of the supernet | plain module | ratio (range of rounds) | ratio with building | construct | slice | move gradients | update |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in arguments.cases:
        case(name, torch.device(arguments.device))


if __name__ == "__main__":
    main()
