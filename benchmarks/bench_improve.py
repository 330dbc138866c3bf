"""Networks of ours, trained on CIFAR-10, are cut by `improve`; then original and found network are trained on, with the same recipe and seeds.

Per network: an architecture of a space, trained from scratch on 6,000 images; `improve` with a shipped predictor and short trainings that the decide split judges; the
first network found, and the original, are trained on from the weights that the original had, three times each. The test split (5,000 images) compares.
`kept` means: mean test accuracy no lower than the original's less the standard deviation of its seeds. One row per (network, which, seed) is appended; those present are
skipped.

    python benchmarks/bench_improve.py --folder <folder of CIFAR-10> --cache cache
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import nasplat
from nasplat.improving import Settings, improve
from nasplat.measuring import Budget, train
from nasplat.reporting.improved import Trainings
from nasplat.runs import hardware, versions

COLUMNS = ("network", "which", "seed", "macs", "params", "decide", "test", "seconds", "edits")
NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "NAS-Bench-201": ("nasbench201", {"width": 8, "cells": 1, "classes": 10}, 2),
    "HiAML": ("hiaml", {"width": 16, "image": 32, "classes": 10}, 0),
    "Two-Path": ("two_path", {"width": 16, "image": 32, "classes": 10}, 0),
    "ViT": ("vit", {"size": "mini", "image": 32, "patch": 4, "channels": 3, "classes": 10}, 0),
    "TransNAS micro": ("transnas_micro", {"width": 16, "image": 32, "classes": 10}, 0),
    "NAS-Bench-201, another": ("nasbench201", {"width": 8, "cells": 1, "classes": 10}, 3),
}
"""Space, presets, seed of the architecture."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="Folder of trained originals and of what improve trains.")
    parser.add_argument("--only", nargs="+", default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10, help="Of the original from scratch, and of each training on.")
    parser.add_argument("--trial-epochs", type=int, default=3, help="Of a finalist.")
    parser.add_argument("--cut", type=float, default=0.15)
    parser.add_argument("--predictor", default="base")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "improve.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    arguments.cache.mkdir(parents=True, exist_ok=True)
    task = nasplat.load_task(f"{arguments.folder}?limit=6000&decide=2000")
    for name in arguments.only:
        run(name, task, arguments)
    print(f"\n{hardware()}, {versions()}\n\n{summary(rows(arguments.out))}")


def run(name: str, task: nasplat.Task, arguments: argparse.Namespace) -> None:
    space, presets, seed = NETWORKS[name]
    architecture = nasplat.load_space(space, **presets).sample(seed=seed)
    folder = arguments.cache / name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    module = architecture.build()
    weights = folder / "original.safetensors"
    if weights.exists():
        module.load_state_dict(load_file(weights))
    else:
        reached = train(module, task, Budget(epochs=arguments.epochs), 0)
        save_file(module.state_dict(), weights)
        print(f"{name}: {architecture}, from scratch: test {reached.test:.2f} %, {reached.seconds:.0f} s", flush=True)
    done = [r for r in rows(arguments.out) if r["network"] == name]
    if len(done) >= 2 * len(arguments.seeds):
        return
    started = time.perf_counter()
    settings, trial = Settings(rounds=8, children=48, finalists=6), Budget(epochs=arguments.trial_epochs, lr=1e-3)
    about = {"folder": folder.name, "cut": arguments.cut, "predictor": arguments.predictor, "epochs": arguments.trial_epochs}
    kept = Trainings(folder, about)
    found = improve(
        *(
            module,
            architecture.example_input,
            nasplat.load_predictor(arguments.predictor),
            {"macs": arguments.cut},
            100.0,
        ),  # the best, whatever it keeps
        *(task, trial, settings, 0, lambda *told: print(f"{name}:", *told, flush=True)),
        known=kept.known,
        learnt=kept.learnt,
    )
    seconds = time.perf_counter() - started
    best = found.found[0]
    for which, network in (("original", found.original.network), ("found", best.network)):
        for seed in arguments.seeds:
            if any((r["which"], r["seed"]) == (which, str(seed)) for r in done):
                continue
            reached = train(network.module(), task, Budget(epochs=arguments.epochs, lr=2e-3), seed)
            graph = network.graph
            row = (
                name,
                which,
                seed,
                graph.macs,
                graph.params,
                f"{reached.decide:.3f}",
                f"{reached.test:.3f}",
                round(seconds),
                network.words,
            )
            with arguments.out.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(row)
            print(
                f"{name}: {which}, seed {seed}: decide {reached.decide:.2f}, test {reached.test:.2f} %, {reached.seconds:.0f} s",
                flush=True,
            )


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summary(found: list[dict[str, str]]) -> str:
    lines = ["| network | M MACs | saved | original, test % | found, test % | kept | edits |", "|---" * 7 + "|"]
    for name in dict.fromkeys(r["network"] for r in found):
        mine = {w: [r for r in found if (r["network"], r["which"]) == (name, w)] for w in ("original", "found")}
        if not all(len(v) > 1 for v in mine.values()):
            continue
        macs = {w: int(v[0]["macs"]) for w, v in mine.items()}
        tests = {w: np.array([float(r["test"]) for r in v]) for w, v in mine.items()}
        noise = tests["original"].std(ddof=1)
        kept = "yes" if tests["found"].mean() >= tests["original"].mean() - noise else "no"
        cells = [f"{t.mean():.2f} ± {t.std(ddof=1):.2f}" for t in tests.values()]
        saved = f"{1 - macs['found'] / macs['original']:.1%}"
        lines.append(
            f"| {name} | {macs['original'] / 1e6:.2f} → {macs['found'] / 1e6:.2f} | {saved} | {' | '.join(cells)} | {kept} | {mine['found'][0]['edits']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
