"""Can `digits-clutter` tell networks apart? Rank agreement between two training seeds, per space.

Random networks of each space (seeds 0 … n-1) are trained twice, with seeds 0 and 1 (initial values and data order), and
compared by accuracy on the decide split (2,048 images) and on the test split (4,096 images). One row per (space, configuration, network, seed) is appended; rows present are skipped.

    python benchmarks/bench_task_agreement.py --spaces nasbench201 vit --n 30 --workers 2
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from presets import BUDGETS, SMALL

import nasplat
from nasplat.runs.folder import hardware, versions
from nasplat.tables.metrics import kendall_tau
from nasplat.task.training import Budget, train_architecture

COLUMNS = ("space", "configuration", "network", "seed", "decide", "test", "seconds", "macs", "params", "architecture")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spaces", nargs="+", default=list(SMALL))
    parser.add_argument("--n", type=int, default=30)
    parser.add_argument("--workers", type=int, default=1, help="Processes of one thread each.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "task_agreement.csv")
    parser.add_argument("--summary", action="store_true", help="Only print the table of what is there.")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(exist_ok=True)
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    if not arguments.summary:
        done = {key(r) for r in rows(arguments.out)}
        jobs = [(s, i, seed) for s in arguments.spaces for i in range(arguments.n) for seed in (0, 1)]
        jobs = [j for j in jobs if (j[0], configuration(j[0]), str(j[1]), str(j[2])) not in done]
        with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
            for row in pool.imap_unordered(label, jobs):
                with arguments.out.open("a", encoding="utf-8", newline="") as file:
                    csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
                print(row["space"], row["network"], row["seed"], row["decide"], "%", row["seconds"], "s", flush=True)
    summarise(arguments.out)


def configuration(space: str) -> str:
    return json.dumps(SMALL[space] | BUDGETS[space])


def key(row: dict[str, str]) -> tuple[str, str, str, str]:
    return row["space"], row["configuration"], row["network"], row["seed"]


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def label(job: tuple[str, int, int]) -> dict[str, Any]:
    torch.set_num_threads(1)
    name, i, seed = job
    space = nasplat.load_space(name, **SMALL[name])
    architecture = space.sample(seed=i)
    graph = architecture.graph()
    done = train_architecture(architecture, nasplat.load_task("digits-clutter"), Budget(**BUDGETS[name]), seed)
    return {
        "space": name,
        "configuration": configuration(name),
        "network": i,
        "seed": seed,
        "decide": f"{done.decide:.4f}",
        "test": f"{done.test:.4f}",
        "seconds": f"{done.seconds:.2f}",
        "macs": graph.macs,
        "params": graph.params,
        "architecture": space.format(architecture),
    }


def summarise(out: Path) -> None:
    print(f"\n{hardware()}, {versions()}")
    print(
        "| space | networks | configuration | seconds a network | accuracy % | τ-b seeds, test | τ-b seeds, decide | τ-b MACs | τ-b parameters |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, spent in sorted({(r["space"], r["configuration"]) for r in rows(out)}):
        pairs: dict[str, dict[str, dict[str, str]]] = {}
        for r in rows(out):
            if (r["space"], r["configuration"]) == (name, spent):
                pairs.setdefault(r["network"], {})[r["seed"]] = r
        both = [p for p in pairs.values() if len(p) == 2]
        if len(both) < 2:
            continue
        test, decide = ([[float(p[s][split]) for p in both] for s in ("0", "1")] for split in ("test", "decide"))
        average = [(a + b) / 2 for a, b in zip(*test, strict=True)]
        seconds = mean(float(r["seconds"]) for p in both for r in p.values())
        macs, params = (kendall_tau([float(p["0"][c]) for p in both], average) for c in ("macs", "params"))
        print(
            f"| {name} | {len(both)} | {spent} | {seconds:.1f} | {min(average):.1f} – {max(average):.1f} | "
            f"{kendall_tau(*test):.3f} | {kendall_tau(*decide):.3f} | {macs:.3f} | {params:.3f} |"
        )


if __name__ == "__main__":
    main()
