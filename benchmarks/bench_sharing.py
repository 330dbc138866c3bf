"""Does a short training with a shared head tell which bodies are good at a new task? Latent sampling against body swapping.

A supernet of small NAS-Bench-201 cells is trained on `digits-clutter`; the new tasks ask something else of its images. True labels: 40 bodies, each with its
inherited weights and a head of its own, trained long. Pseudo labels: the shared head, trained once each way for as many steps, and one pass of body and head
together; the bodies in the head's training are others. One row per (task, what, seed, body) is appended; those present are skipped.

    python benchmarks/bench_sharing.py --cache cache
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch

import nasplat
from nasplat.runs.folder import hardware, versions
from nasplat.tables.metrics import kendall_tau, spearman_rho
from nasplat.task.training import Budget, train
from nasplat.workflows.pseudo_labels import WAYS, SharedHead

COLUMNS = ("task", "what", "seed", "body", "macs", "decide", "untuned", "seconds")
TASKS = ("rotation", "jigsaw", "edges", "foreground", "autoencoder")
BODIES = 40
LONG = {"rotation": 8, "jigsaw": 8, "edges": 5, "foreground": 5, "autoencoder": 5}
"""Passes of a body with a head of its own."""
WIDTH = {"rotation": 64, "jigsaw": 64, "edges": 16, "foreground": 16, "autoencoder": 16}
"""Of the head; wide maps would cost more than the body."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="Folder of the supernet.")
    parser.add_argument("--tasks", nargs="+", default=["rotation", "edges", "jigsaw"], choices=TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="Of the shared heads.")
    parser.add_argument("--epochs", type=int, default=8, help="Of a shared head.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sharing.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    space = nasplat.load_space("nasbench201", width=8, cells=1, image=16, channels=1)
    supernet = nasplat.Supernet(space, nasplat.load_task("digits-clutter"))
    supernet.train(
        epochs=16,
        strategy="sandwich",
        checkpoint=arguments.cache / "supernet",
        report=lambda e, n: print(f"supernet: {e.epoch} of {n}", flush=True),
    )
    bodies = list(dict.fromkeys(space.sample(seed=90_000 + i) for i in range(2 * BODIES)))[:BODIES]
    for name in arguments.tasks:
        task = nasplat.load_task(f"{name}:digits-clutter")
        for way in WAYS:
            for seed in arguments.seeds:
                pseudo(name, way, seed, supernet, task, bodies, arguments)
        shared = SharedHead(supernet, task, pool=10, width=WIDTH[name])
        for body in bodies:
            if not present(arguments.out, name, "true", 0, str(body)):
                reached = train(shared.joined(body, fresh=True), task, Budget(epochs=LONG[name]))
                add(arguments.out, name, "true", 0, body, reached.decide, "", reached.seconds)
    print(f"\n{hardware()}, {versions()}\n\n{summary(rows(arguments.out), space)}")


def pseudo(
    name: str,
    way: str,
    seed: int,
    supernet: nasplat.Supernet,
    task: nasplat.Task,
    bodies: list[nasplat.Architecture],
    arguments: argparse.Namespace,
) -> None:
    missing = [b for b in bodies if not present(arguments.out, name, way, seed, str(b))]
    if not missing:
        return
    shared = SharedHead(supernet, task, width=WIDTH[name], seed=seed)
    seconds = shared.train(way, arguments.epochs)
    print(f"{name}: head by {way}, seed {seed}: {seconds:.0f} s", flush=True)
    for body in missing:
        found = shared.label(body)
        add(arguments.out, name, way, seed, body, found.decide, f"{found.untuned:.4f}", found.seconds)


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def present(out: Path, name: str, what: str, seed: int, body: str) -> bool:
    return any((r["task"], r["what"], r["seed"], r["body"]) == (name, what, str(seed), body) for r in rows(out))


def add(
    out: Path, name: str, what: str, seed: int, body: nasplat.Architecture, decide: float, untuned: str, seconds: float
) -> None:
    with out.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(
            (name, what, seed, str(body), body.graph().macs, f"{decide:.4f}", untuned, f"{seconds:.1f}")
        )


def summary(found: list[dict[str, str]], space: nasplat.SearchSpace) -> str:
    """Rank agreement with the true labels: mean over heads' seeds with its standard error."""
    lines = [
        "| task | labels | Spearman with true labels | Kendall τ-b | before the short training | mean metric | seconds a body |",
        "|---" * 7 + "|",
    ]
    for name in dict.fromkeys(r["task"] for r in found):
        truth = {r["body"]: float(r["decide"]) for r in found if (r["task"], r["what"]) == (name, "true")}
        if len(truth) < 3:
            continue
        y = list(truth.values())
        graphs = [space.parse(b).graph() for b in truth]
        seconds = np.mean([float(r["seconds"]) for r in found if (r["task"], r["what"]) == (name, "true")])
        lines.append(f"| {name} | true, {len(y)} bodies | | | | {np.mean(y):.2f} | {seconds:.0f} |")
        for what, size in (
            ("MACs", [float(g.macs) for g in graphs]),
            ("parameters", [float(g.params) for g in graphs]),
        ):
            lines.append(f"| {name} | {what} | {spearman_rho(size, y):.3f} | {kendall_tau(size, y):.3f} | | | |")
        for way in WAYS:
            values = []
            for seed in sorted({r["seed"] for r in found if (r["task"], r["what"]) == (name, way)}):
                mine = {r["body"]: r for r in found if (r["task"], r["what"], r["seed"]) == (name, way, seed)}
                if set(truth) <= set(mine):
                    tuned, raw = ([float(mine[b][c]) for b in truth] for c in ("decide", "untuned"))
                    cost = np.mean([float(mine[b]["seconds"]) for b in truth])
                    values.append(
                        (spearman_rho(tuned, y), kendall_tau(tuned, y), spearman_rho(raw, y), np.mean(tuned), cost)
                    )
            if values:
                v = np.array(values)
                cells = [
                    f"{c.mean():.3f}" + (f" ± {c.std(ddof=1) / len(c) ** 0.5:.3f}" if len(c) > 1 else "")
                    for c in v.T[:3]
                ]
                lines.append(
                    f"| {name} | {way}, {len(v)} heads | {' | '.join(cells)} | {v[:, 3].mean():.2f} | {v[:, 4].mean():.0f} |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
