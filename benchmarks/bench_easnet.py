"""Does a stereo supernet say which subnets are good? EASNet's published shrinking against our sandwich, and both against training alone.

Both schedules start from the same trained largest network (`bench_stereo.py --cache`), which is the first phase of either, and take about the same
time: `published` opens kernels, depths, expansions and scales one after another (learning rate restarted, 1, 2, 4 and 6 subnets a step, channels sorted
before expansions open); `ours` trains the largest, the smallest and one random subnet in every step. `published, smooth L1` is the same without the
volumes' cross-entropy. `alone` trains twelve of the subnets from scratch. All are judged on the same test pairs, statistics recalibrated. One row per
(method, seed, subnet) is appended; those present are skipped, and a training that was stopped goes on. `latency` fits a predictor on 40 networks of the
space, timed as ONNX files, and times the 26 subnets, none of which it has seen, in turns.

    python benchmarks/bench_easnet.py --largest cache/stereo_0/largest.safetensors --cache cache --only ours published alone
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

import nasplat
from nasplat.probes import measure_together
from nasplat.probes.conditions import Conditions
from nasplat.runs.folder import hardware, versions
from nasplat.supernet.strategy import EASNET, Sandwich
from nasplat.tables.metrics import kendall_tau
from nasplat.task import Split

COLUMNS = ("method", "seed", "subnet", "epe_px", "macs", "params", "epochs", "train_seconds")
RANDOM, ALONE = 24, 12
STRATEGIES = {
    "ours": Sandwich(1, name="sandwich of three"),
    "published": replace(EASNET, name="shrinking", openings=EASNET.openings[1:]),
    "published, smooth L1": replace(EASNET, name="shrinking", openings=EASNET.openings[1:]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=Path, required=True, help="Weights of the trained largest network.")
    parser.add_argument("--cache", type=Path, required=True, help="Folder of what is being trained.")
    parser.add_argument(
        "--only", nargs="+", default=["ours", "published", "alone"], choices=[*STRATEGIES, "alone", "latency"]
    )
    parser.add_argument("--epochs", type=int, nargs="+", default=[16, 12], help="Of ours, and of published.")
    parser.add_argument("--alone-epochs", type=int, default=4, help="Passes that a subnet alone is trained for.")
    parser.add_argument(
        "--part", type=int, nargs=2, default=(0, 1), help="This process's share of the subnets alone, such as 0 2."
    )
    parser.add_argument("--train", type=int, default=1024, help="Pairs of an epoch.")
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "easnet.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    space = nasplat.load_space("easnet-small")
    for method in arguments.only:
        if method == "alone":
            alone(space, arguments)
        elif method == "latency":
            latency(space, arguments)
        else:
            inherited(space, method, arguments)
    print(f"\n{hardware()}, {versions()}\n\n{summary(rows(arguments.out))}")


def subnets(space: nasplat.Space) -> dict[str, nasplat.Architecture]:
    """The ends, and random ones."""
    found = {"largest": space.extreme(True), "smallest": space.extreme(False)}
    return found | {f"random {i}": space.sample(seed=7_000 + i) for i in range(RANDOM)}


def load(arguments: argparse.Namespace, likelihood: float = 2.0) -> nasplat.Task:
    return nasplat.load_task(
        "stereo-synthetic",
        **{"largest": 48, "train": arguments.train, "decide": 32, "test": 128, "fresh": False},
        likelihood=likelihood,
    )


def brief(task: nasplat.Task) -> nasplat.Task:
    """Statistics are calibrated on 128 pairs: millions of pixels."""
    return replace(task, train=Split(task.train.x[:128], task.train.y[:128]))


def inherited(space: nasplat.Space, method: str, arguments: argparse.Namespace) -> None:
    task = load(arguments, 0.0 if "smooth" in method else 2.0)
    supernet = nasplat.Supernet(space, task, arguments.seed)
    supernet.adopt(load_file(arguments.largest))
    epochs = arguments.epochs[0 if method == "ours" else -1]
    told = supernet.train(
        **{"epochs": epochs, "strategy": STRATEGIES[method], "batch_size": 4, "lr": arguments.lr, "weight_decay": 1e-4},
        **{"clip": 10.0, "distill_weight": 0.0, "watch": False},
        checkpoint=arguments.cache / method.replace(", ", "-").replace(" ", "-"),
        report=lambda e, n: print(
            f"{method}: epoch {e.epoch} of {n}, {e.phase}, loss {e.loss:.2f}, {e.seconds:.0f} s", flush=True
        ),
    )
    seconds = sum(e.seconds for e in told)
    supernet.task = brief(task)
    for name, architecture in subnets(space).items():
        if not present(arguments, method, name):
            error = supernet.evaluate(architecture, "test")
            add(arguments, method, name, architecture, error, epochs, seconds)


def alone(space: nasplat.Space, arguments: argparse.Namespace) -> None:
    """Twelve of the random subnets, spread in MACs, each trained on its own for as many passes."""
    task = load(arguments)
    ranked = sorted(
        ((a.graph().macs, n, a) for n, a in subnets(space).items() if n.startswith("random")), key=lambda r: r[:2]
    )
    chosen = [ranked[i][1:] for i in np.linspace(0, len(ranked) - 1, ALONE).round().astype(int)]
    mine, parts = arguments.part
    for name, architecture in chosen[mine::parts]:
        if present(arguments, "alone", name):
            continue
        single = nasplat.Supernet(space.only(architecture), task, arguments.seed)
        member = single.space.extreme()
        epochs = arguments.alone_epochs
        told = single.train(
            **{"epochs": epochs, "strategy": "single-path", "batch_size": 4, "lr": 1e-2, "weight_decay": 1e-4},
            **{"clip": 10.0, "watch": False},
        )
        single.task = brief(task)
        error, seconds = single.evaluate(member, "test"), sum(e.seconds for e in told)
        print(f"alone: {name}, {epochs} epochs, {seconds:.0f} s, {error:.2f} px", flush=True)
        add(arguments, "alone", name, architecture, error, epochs, seconds)


def latency(space: nasplat.Space, arguments: argparse.Namespace) -> None:
    """Predicted against measured milliseconds of ONNX files with one thread."""
    known = subnets(space)
    there = Conditions(runtime="onnxruntime", threads=1)
    predictor = nasplat.calibrate(
        [space], 40, there, arguments.cache / "latency", seed=1, report=lambda *told: print(*told, flush=True)
    )
    answers = predictor.predict([a.graph() for a in known.values()])
    found = measure_together([a.space.construct(a) for a in known.values()], there, seconds=2.0)
    out = arguments.out.with_name("easnet_latency.csv")
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("subnet", "predicted_ms", "low_ms", "high_ms", "measured_ms", "macs"))
        for (name, a), p, m in zip(known.items(), answers, found, strict=True):
            writer.writerow((name, p.mean, p.low, p.high, f"{m.median_ms:.4f}", a.graph().macs))
    predicted, measured = [p.mean or 0.0 for p in answers], [m.median_ms for m in found]
    macs = [float(a.graph().macs) for a in known.values()]
    off = np.abs(np.array(predicted) / measured - 1)
    inside = sum((p.low or 0) <= m <= (p.high or 0) for p, m in zip(answers, measured, strict=True))
    print(
        f"latency of {len(known)} files: tau {kendall_tau(predicted, measured):.3f} (MACs alone {kendall_tau(macs, measured):.3f})"
    )
    print(
        f"MAPE {off.mean():.1%}, largest {off.max():.1%}; {inside} inside the 90 % interval; {min(measured):.2f} to {max(measured):.2f} ms"
    )
    print("left out in turn while fitting:", predictor.validation_)


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def present(arguments: argparse.Namespace, method: str, name: str) -> bool:
    return any(
        (r["method"], r["seed"], r["subnet"]) == (method, str(arguments.seed), name) for r in rows(arguments.out)
    )


def add(
    arguments: argparse.Namespace,
    method: str,
    name: str,
    architecture: nasplat.Architecture,
    error: float,
    epochs: int,
    seconds: float,
) -> None:
    graph = architecture.graph()
    values: tuple[Any, ...] = (
        method,
        arguments.seed,
        name,
        f"{error:.4f}",
        graph.macs,
        graph.params,
        epochs,
        round(seconds),
    )
    with arguments.out.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(values)


def summary(found: list[dict[str, str]]) -> str:
    lines = [
        "| method | minutes | largest, px | smallest | 24 random, mean | their best | τ-b with alone | τ-b of MACs with alone |",
        "|---" * 8 + "|",
    ]
    errors = {m: {r["subnet"]: float(r["epe_px"]) for r in found if r["method"] == m} for m in (*STRATEGIES, "alone")}
    macs = {r["subnet"]: float(r["macs"]) for r in found}
    truth = errors.pop("alone")
    for method, known in errors.items():
        if not known:
            continue
        others = [v for n, v in known.items() if n.startswith("random")]
        both = [n for n in truth if n in known]
        tau = kendall_tau([known[n] for n in both], [truth[n] for n in both]) if len(both) > 2 else float("nan")
        plain = kendall_tau([-macs[n] for n in both], [truth[n] for n in both]) if len(both) > 2 else float("nan")
        minutes = max(float(r["train_seconds"]) for r in found if r["method"] == method) / 60
        lines.append(
            f"| {method} | {minutes:.0f} | {known['largest']:.2f} | {known['smallest']:.2f} | {np.mean(others):.2f} | {min(others):.2f} "
            f"| {tau:.2f} ({len(both)} subnets) | {plain:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
