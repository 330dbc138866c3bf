"""Can `digits-clutter` tell networks apart? Rank agreement between two training seeds, per space.

Random networks of each space (seeds 0 … n-1) are trained twice, with seeds 0 and 1 (initial values and data order), and
compared by accuracy on the decide split. One row per (space, network, seed) is appended; rows present are skipped.

    python benchmarks/bench_task_agreement.py --spaces nasbench201 vit --n 30
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from statistics import mean

import torch
from presets import BUDGETS, SMALL

import nasplat
from nasplat.measuring import Budget, train_architecture
from nasplat.metrics import kendall_tau
from nasplat.runs import hardware, versions

COLUMNS = ("space", "network", "seed", "decide", "test", "seconds", "macs", "params", "architecture")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spaces", nargs="+", default=list(SMALL))
    parser.add_argument("--n", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "task_agreement.csv")
    parser.add_argument("--summary", action="store_true", help="Only print the table of what is there.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.parent.mkdir(exist_ok=True)
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    if not arguments.summary:
        task = nasplat.load_task("digits-clutter")
        for name in arguments.spaces:
            label(name, arguments.n, task, arguments.out)
    summarise(arguments.out)


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def label(name: str, n: int, task: nasplat.Task, out: Path) -> None:
    space = nasplat.load_space(name, **SMALL[name])
    for i in range(n):
        for seed in (0, 1):
            if any((r["space"], r["network"], r["seed"]) == (name, str(i), str(seed)) for r in rows(out)):
                continue
            architecture = space.sample(seed=i)
            graph = architecture.graph()
            done = train_architecture(architecture, task, Budget(**BUDGETS[name]), seed)
            text = space.format(architecture)
            cells = [name, i, seed, f"{done.decide:.4f}", f"{done.test:.4f}", f"{done.seconds:.2f}", graph.macs, graph.params, text]
            with out.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(cells)
            print(name, i, seed, f"{done.decide:.2f} %, {done.seconds:.1f} s", flush=True)


def summarise(out: Path) -> None:
    print(f"\n{hardware()}, {versions()}")
    print("| space | networks | budget | seconds a network | accuracy % | τ-b seeds 0, 1 | τ-b MACs | τ-b parameters |")
    print("|---|---|---|---|---|---|---|---|")
    for name in SMALL:
        pairs: dict[str, dict[str, dict[str, str]]] = {}
        for r in rows(out):
            if r["space"] == name:
                pairs.setdefault(r["network"], {})[r["seed"]] = r
        both = [p for p in pairs.values() if len(p) == 2]
        if len(both) < 2:
            continue
        first, second = ([float(p[s]["decide"]) for p in both] for s in ("0", "1"))
        average = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
        seconds = mean(float(r["seconds"]) for p in both for r in p.values())
        macs, params = (kendall_tau([float(p["0"][c]) for p in both], average) for c in ("macs", "params"))
        print(
            f"| {name} | {len(both)} | {BUDGETS[name]} | {seconds:.1f} | {min(average):.1f} – {max(average):.1f} | "
            f"{kendall_tau(first, second):.3f} | {macs:.3f} | {params:.3f} |"
        )


if __name__ == "__main__":
    main()
