"""Do dry runs tell the truth? Commands are forecast, then run, and the stated interval is compared with what they took.

Truth is the time of everything that the forecast speaks of: supernet, pilots and trials, without export and report. Both
sides are read from the CPU time of one thread, so that other processes on the machine do not count; `--wall` reads the
wall time, as the command does.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/bench_forecast.py [--only training] [--wall] [--large FOLDER]

`--large` forecasts a search of Once-for-All's space on a folder of pictures, of which it makes 2,500 where there is none;
that search is not run.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

CELLS = {"width": 4, "cells": 1, "image": 16, "channels": 1}
PATCHES = {"size": "mini", "image": 16, "patch": 4, "channels": 1, "head_dim": 8}
PICTURES, CLASSES, SIDE = 2500, 10, 64


@dataclass(frozen=True)
class Command:
    """A command of `nasplat`, and the value that it makes."""

    name: str
    """What it does, in a few words."""
    verb: str
    """'train' or 'search'."""
    settings: dict[str, Any]
    """Fields of the run; those of its training by 'epochs' and 'strategy'."""


COMMANDS = [
    Command("training, cells", "train", {"space": "nasbench201", "presets": CELLS, "epochs": 6}),
    Command("training, ViT", "train", {"space": "vit", "presets": PATCHES, "epochs": 6}),
    Command(
        "training, sandwich, ViT", "train", {"space": "vit", "presets": PATCHES, "epochs": 3, "strategy": "sandwich"}
    ),
    Command("inherited search, cells", "search", {"space": "nasbench201", "presets": CELLS, "epochs": 4, "trials": 30}),
    Command("inherited search, ViT", "search", {"space": "vit", "presets": PATCHES, "epochs": 4, "trials": 30}),
    Command(
        "trained search, cells",
        "search",
        {"space": "nasbench201", "presets": CELLS, "maximize": "trained:2", "trials": 12},
    ),
    Command(
        "trained search, ViT", "search", {"space": "vit", "presets": PATCHES, "maximize": "trained:2", "trials": 12}
    ),
]


SHAPES = {"task": "shapes?train=1024&decide=512&test=256"}
FRESH = [
    Command("training, ResNet", "train", SHAPES | {"space": "resnet", "epochs": 2, "seed": 5}),
    Command(
        "training, sandwich, DenseNet", "train", SHAPES | {"space": "densenet", "epochs": 1, "strategy": "sandwich"}
    ),
    Command("training, ovo, Mixer", "train", SHAPES | {"space": "mixer", "epochs": 4, "strategy": "ovo", "seed": 7}),
    Command("inherited search, ConvNet", "search", SHAPES | {"space": "convnet", "epochs": 2, "trials": 15, "seed": 3}),
    Command("inherited search, Mixer", "search", SHAPES | {"space": "mixer", "epochs": 3, "trials": 25, "seed": 4}),
    Command("trained search, MLP", "search", SHAPES | {"space": "mlp", "maximize": "trained:3", "trials": 15}),
    Command(
        "trained search, 1-D signals",
        "search",
        {"space": "signal", "task": "waves?train=1024&decide=512", "maximize": "trained:2", "trials": 12, "seed": 6},
    ),
]
"""Commands on which no constant was chosen."""


def run_of(command: Command) -> Any:
    """Make the value of a command."""
    from nasplat.runs.kinds import SearchRun, TrainRun
    from nasplat.supernet import TrainConfig

    given = dict(command.settings)
    config = TrainConfig(**{k: given.pop(k) for k in ("epochs", "strategy") if k in given})
    return TrainRun(train=config, **given) if command.verb == "train" else SearchRun(train=config, **given)


def predicted(command: Command, out: Path) -> dict[str, Any]:
    """Forecast a command; wall time and CPU time are those of the forecast alone, the program's start aside."""
    from nasplat.runs.folder import RunFolder
    from nasplat.runs.forecast import forecast_search, forecast_training

    run, folder, wall, cpu = run_of(command), RunFolder(out), time.perf_counter(), time.process_time()
    found = (forecast_training if command.verb == "train" else forecast_search)(run, folder)
    spent = {"took": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return found.to_dict() | spent


def true(command: Command, out: Path) -> dict[str, Any]:
    """Run a command without its export and report."""
    from nasplat.runs import stopwatch
    from nasplat.runs.folder import RunFolder
    from nasplat.runs.preparation import prepare
    from nasplat.runs.training import loaded, train_supernet
    from nasplat.runs.trials import carry_out

    out.mkdir(parents=True, exist_ok=True)
    run, folder = run_of(command), RunFolder(out)
    space, task = loaded(run, folder)
    started = stopwatch.wall()
    if command.verb == "train":
        train_supernet(run, space, task, folder)
    else:
        carry_out(prepare(run, folder))
    seconds = stopwatch.wall() - started
    return {"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def apart(is_wall: bool, work: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """Call in a process of its own, so that nothing is remembered and the peak of the memory is its own."""
    with get_context("spawn").Pool(1, _begin, (is_wall,)) as pool:
        return pool.apply(work, given)


def _begin(is_wall: bool) -> None:
    """Compute with one thread, and read seconds from the clock that was asked for."""
    import torch

    from nasplat.runs import stopwatch

    torch.set_num_threads(1)
    if not is_wall:
        stopwatch.wall = time.process_time


def pictures(folder: Path) -> None:
    """Make pictures of noise in one folder per class."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(PICTURES):
        place = folder / f"class{i % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(place / f"{i}.png")


def row(command: Command, found: dict[str, Any], truth: dict[str, Any] | None) -> str:
    """Write a row of the table."""
    cells = [command.name, f"{found['seconds']:.1f}", f"{found['low']:.1f} – {found['high']:.1f}"]
    cells += ["—" if truth is None else f"{truth['seconds']:.1f}"]
    cells += ["—" if truth is None else "yes" if found["low"] <= truth["seconds"] <= found["high"] else "no"]
    cells += [f"{found['peak_bytes'] / 2**30:.2f}", "—" if truth is None else f"{truth['peak_bytes'] / 2**30:.2f}"]
    return "| " + " | ".join([*cells, f"{found['took']:.1f}", f"{found['cpu']:.1f}"]) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true", help="Commands on which no constant was chosen.")
    parser.add_argument("--only", default="", help="Commands whose name holds this word are run.")
    parser.add_argument(
        "--wall", action="store_true", help="Seconds are those of the wall, as the command states them."
    )
    parser.add_argument("--large", type=Path, default=None, help="Folder of pictures for a forecast of a long search.")
    asked = parser.parse_args()
    print("| command | forecast s | interval s | truth s | inside | forecast GiB | truth GiB | it took s | of CPU s |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        for i, command in enumerate(c for c in (FRESH if asked.fresh else COMMANDS) if asked.only in c.name):
            found = apart(asked.wall, predicted, command, Path(place) / f"forecast{i}")
            print(row(command, found, apart(asked.wall, true, command, Path(place) / f"run{i}")), flush=True)
    if asked.large is not None:
        if not asked.large.exists():
            pictures(asked.large)
        for side in (SIDE, 224):
            settings = {"space": "ofa_mobilenetv3", "task": f"{asked.large}?side={side}"}
            command = Command(f"search, Once-for-All, {PICTURES:,} pictures of {side}²", "search", settings)
            print(
                row(command, apart(asked.wall, predicted, command, Path(tempfile.gettempdir()) / "no run"), None),
                flush=True,
            )


if __name__ == "__main__":
    main()
