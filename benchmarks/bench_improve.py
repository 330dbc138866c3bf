"""Networks of ours, trained on CIFAR-10, are cut by `improve`; original and network found are then trained on, with the same recipe and seeds.

Per network, three stages. `prepare`: an architecture of a space is trained from scratch on 3,000 images; `improve` edits it and names finalists. `trial`: original and
finalists are trained on from the weights they have; the decide split (2,000 images) names the network found. `final`: it and the original are trained on longer, from the same
weights as in the trial, with several seeds. The test split (5,000 images) compares the two and decides nothing. `kept` means: mean test accuracy no lower than the original's less
the standard deviation of its seeds.
One row per (network, which, stage, seed) is appended; those present are skipped. Trainings are spread over processes of one thread.

    python benchmarks/bench_improve.py --folder <folder of CIFAR-10> --cache cache
"""

from __future__ import annotations

import argparse
import csv
import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import nasplat
from nasplat.runs.folder import hardware, versions
from nasplat.runs.improvement import read_improved, write_improvement
from nasplat.task.training import Budget, train
from nasplat.workflows.improve import ImproveSettings, improve

COLUMNS = ("network", "which", "stage", "seed", "macs", "params", "decide", "test", "seconds", "device", "edits")
NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "NAS-Bench-201": ("nasbench201", {"width": 8, "cells": 1, "classes": 10}, 2),
    "HiAML": ("hiaml", {"width": 16, "image": 32, "classes": 10}, 0),
    "Two-Path": ("two_path", {"width": 16, "image": 32, "classes": 10}, 0),
    "ViT": ("vit", {"size": "mini", "image": 32, "patch": 4, "channels": 3, "classes": 10}, 0),
    "TransNAS micro": ("transnas_micro", {"width": 16, "image": 32, "classes": 10}, 0),
    "NAS-Bench-201, another": ("nasbench201", {"width": 8, "cells": 1, "classes": 10}, 3),
}
"""Space, presets, seed of the architecture."""
SCRATCH, TRIAL, FINAL = (
    Budget(epochs=30, batch_size=128),
    Budget(epochs=5, batch_size=128, lr=2e-3),
    Budget(epochs=16, batch_size=128, lr=2e-3),
)
BEST = 1
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="Folder of trained originals and finalists.")
    parser.add_argument("--stage", choices=("prepare", "judge", "all"), default="all")
    parser.add_argument("--only", nargs="+", default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cut", type=float, default=0.13)
    parser.add_argument("--finalists", type=int, default=8)
    parser.add_argument("--predictor", default="base")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "improve.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    if arguments.stage != "judge":
        for name in arguments.only:
            prepare(name, arguments)
    if arguments.stage != "prepare":
        judge(arguments)
        print(f"\n{hardware()}, {versions()}\n\n{summary(rows(arguments.out))}")


@functools.cache
def task_of(folder: Path, device: str) -> nasplat.Task:
    return nasplat.load_task(f"{folder}?limit=3000&decide=2000").to(device)


def folder_of(cache: Path, name: str) -> Path:
    return cache / name.replace(" ", "_").replace(",", "")


def architecture_of(name: str) -> nasplat.Architecture:
    space, presets, seed = NETWORKS[name]
    return nasplat.load_space(space, **presets).sample(seed=seed)


def module_of(cache: Path, name: str, which: str) -> torch.nn.Module:
    """With the weights before any training on."""
    folder = folder_of(cache, name)
    if which != "original":
        return read_improved(folder, which)
    module = architecture_of(name).build()
    module.load_state_dict(load_file(folder / "original.safetensors"))
    return module


def prepare(name: str, arguments: argparse.Namespace) -> None:
    """Original and finalists, on the CPU."""
    folder, task, architecture = (
        folder_of(arguments.cache, name),
        task_of(arguments.folder, "cpu"),
        architecture_of(name),
    )
    if (folder / "improved.csv").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "original.safetensors").exists():
        torch.manual_seed(0)
        module = architecture.build()
        reached = train(module, task, SCRATCH, 0)
        save_file(module.state_dict(), folder / "original.safetensors")
        print(
            f"{name}: {architecture}, from scratch: decide {reached.decide:.2f} %, test {reached.test:.2f} %, {reached.seconds:.0f} s",
            flush=True,
        )
    found = improve(
        *(
            module_of(arguments.cache, name, "original"),
            architecture.example_input,
            nasplat.load_predictor(arguments.predictor),
        ),
        *({"macs": arguments.cut}, 0.0, task, ImproveSettings(8, 6, 36, arguments.finalists)),
        report=lambda *told: print(f"{name}:", *told, flush=True),
        known=lambda key: {"decide": 0.0},  # all finalists, none trained yet
    )
    write_improvement(found, folder)


def judge(arguments: argparse.Namespace) -> None:
    names = [n for n in arguments.only if (folder_of(arguments.cache, n) / "improved.csv").exists()]
    table = {(n, r["name"]): r for n in names for r in rows(folder_of(arguments.cache, n) / "improved.csv")}
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:

        def run(stage: str, wanted: list[tuple[str, str, int]]) -> None:
            done = {(r["network"], r["which"], int(r["seed"])) for r in rows(arguments.out) if r["stage"] == stage}
            place = (arguments.folder, arguments.cache, arguments.device)
            jobs = [pool.submit(trained, *place, *w, stage) for w in wanted if w not in done]
            for job in as_completed(jobs):
                made = job.result()
                about = table[made["network"], made["which"]]
                add(
                    arguments.out,
                    made
                    | {
                        "macs": int(float(about["macs"])),
                        "params": int(float(about["params"])),
                        "edits": about["edits"],
                    },
                )

        run("trial", [(n, w, 0) for n, w in table])
        chosen = [(n, w) for n in names for w in ("original", *best(n, rows(arguments.out)))]
        run("final", [(n, w, s) for s in arguments.seeds for n, w in chosen])


def trained(folder: Path, cache: Path, device: str, name: str, which: str, seed: int, stage: str) -> Row:
    torch.set_num_threads(1)
    module = module_of(cache, name, which).to(device)
    reached = train(module, task_of(folder, device), TRIAL if stage == "trial" else FINAL, seed)
    where = torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"
    figures = {
        "decide": f"{reached.decide:.3f}",
        "test": f"{reached.test:.3f}",
        "seconds": f"{reached.seconds:.1f}",
        "device": where,
    }
    return {"network": name, "which": which, "stage": stage, "seed": seed} | figures


def best(name: str, found: list[Row]) -> list[str]:
    """Names of the finalists of the largest metric on the decide split after the trial."""
    mine = [r for r in found if (r["network"], r["stage"]) == (name, "trial") and r["which"] != "original"]
    return [r["which"] for r in sorted(mine, key=lambda r: -float(r["decide"]))[:BEST]]


def add(out: Path, row: Row) -> None:
    with out.open("a", encoding="utf-8", newline="") as file:
        csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
    print({k: v for k, v in row.items() if k != "edits"}, flush=True)


def rows(out: Path) -> list[Row]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summary(found: list[Row]) -> str:
    lines = [
        "| network | M MACs | saved | thousand parameters | original, test % | found, test % | kept | edits |",
        "|---" * 8 + "|",
    ]
    for name in dict.fromkeys(r["network"] for r in found):
        final = [r for r in found if (r["network"], r["stage"]) == (name, "final")]
        ways = {w: [r for r in final if r["which"] == w] for w in ("original", *best(name, found))}
        if not all(len(v) > 1 for v in ways.values()) or len(ways) < 2:
            continue
        means = {w: np.mean([float(r["decide"]) for r in v]) for w, v in ways.items() if w != "original"}
        pair = [ways["original"], ways[max(means, key=lambda w: means[w])]]
        macs = [int(v[0]["macs"]) for v in pair]
        tests = [np.array([float(r["test"]) for r in v]) for v in pair]
        kept = "yes" if tests[1].mean() >= tests[0].mean() - tests[0].std(ddof=1) else "no"
        cells = [f"{t.mean():.2f} ± {t.std(ddof=1):.2f}" for t in tests]
        params = [int(v[0]["params"]) / 1e3 for v in pair]
        cost = f"{macs[0] / 1e6:.2f} → {macs[1] / 1e6:.2f} | {1 - macs[1] / macs[0]:.1%} | {params[0]:.1f} → {params[1]:.1f}"
        lines.append(f"| {name} | {cost} | {' | '.join(cells)} | {kept} | {pair[1][0]['edits']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
