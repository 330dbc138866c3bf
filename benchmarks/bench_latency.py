"""How well latencies repeat on this machine, and how well they are predicted from 200 networks.

Three parts: networks of five families timed twice, minutes apart (`--drift`); a calibration's rows, each family predicted from the others
(`--calibration <folder>`, made by `nasplat measure --calibrate`); the hardware columns of a NAS-Bench-201 table, 200 random cells to
learn from and 1,000 others to test on (`--folder <folder of labelled architectures>`), mean of three seeds.
"""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

import numpy as np
import torch

import nasplat
from nasplat.features.view import view
from nasplat.predict.latency import LatencyPredictor
from nasplat.probes import measure_together
from nasplat.probes.conditions import Conditions
from nasplat.runs.folder import hardware, versions
from nasplat.tables.metrics import kendall_tau
from nasplat.workflows.calibrate import Timeable, by_family

FAMILIES = ("nasbench201", "ofa_mobilenetv3", "hybrid", "mnasnet", "pit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drift", action="store_true")
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--rows", type=int, default=200, help="First rows of the calibration.")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{hardware()}, {versions()}\n")
    if arguments.drift:
        drift()
    if arguments.calibration:
        calibration(arguments.calibration / "timings.csv", arguments.rows)
    if arguments.folder:
        devices(arguments.folder)


def drift() -> None:
    """Two measurements of the same networks, one after all of the other."""
    made = {f: nasplat.load_space(f) for f in FAMILIES}
    networks = [s.construct(s.sample(seed=i)) for s in made.values() for i in range(3)]
    print(
        "| runtime | networks | median |drift| % | largest % | equal by interval | flagged |\n|---|---|---|---|---|---|"
    )
    for runtime in ("eager", "onnxruntime"):
        first, second = (measure_together(networks, Conditions(runtime=runtime), repeats=40) for _ in range(2))
        moved = np.array([abs(b.median_ms / a.median_ms - 1) * 100 for a, b in zip(first, second, strict=True)])
        equal = sum(a.compare(b) == "equal" for a, b in zip(first, second, strict=True))
        flagged = sum(not x.is_trusted for x in (*first, *second))
        print(
            f"| {runtime} | {len(networks)} | {np.median(moved):.2f} | {moved.max():.2f} | {equal} | {flagged} of {2 * len(networks)} |"
        )


def calibration(file: Path, n: int) -> None:
    with file.open(encoding="utf-8") as text:
        rows = list(csv.DictReader(text))[:n]
    members = [nasplat.Architecture.from_json(r["architecture"]) for r in rows]
    known = [Timeable(r["family"], a, view(a.graph()), r["key"]) for r, a in zip(rows, members, strict=True)]
    labels = [float(r["median_ms"]) for r in rows]
    predictor = LatencyPredictor().fit([c.seen for c in known], labels, [c.family for c in known])
    print(f"{predictor.validation_}\n")
    print("| family, predicted from the others | networks | MAPE % | τ-b | τ-b of MACs |\n|---|---|---|---|---|")
    for name, m in by_family(predictor, known, labels).items():
        print(f"| {name} | {m['networks']} | {m['mape_percent']:.1f} | {m['tau']:.3f} | {m['tau_macs']:.3f} |")
    everything, macs = predictor.left_out_, [c.seen.macs for c in known]
    print(f"\nall: τ-b {kendall_tau(everything.tolist(), labels):.3f}, of MACs {kendall_tau(macs, labels):.3f}")
    error = np.abs(everything / np.array(labels) - 1) * 100
    print(f"median error {np.median(error):.1f} %, mean {error.mean():.1f} %")


def devices(folder: Path, learn: int = 200, test: int = 1000) -> None:
    space = nasplat.load_space("nasbench201")
    table = nasplat.load_table(folder / "nb201_hw.csv.gz", space=space, metric="help_1080ti_1")
    columns = [c for c in table.rows[0] if c.endswith("latency") or c.startswith(("help", "nnmeter"))]
    numbers = random.Random(0).sample(range(len(table)), 3 * (learn + test))
    seen = {i: view(table.architectures[i].graph()) for i in numbers}
    print("| device | MAPE % | τ-b | τ-b of MACs |\n|---|---|---|---|")
    for column in columns:
        results = []
        for seed in range(3):
            own = numbers[seed * (learn + test) : (seed + 1) * (learn + test)]
            own = [i for i in own if table.rows[i][column]]
            if len(own) < learn + 100:
                continue
            y = np.array([float(table.rows[i][column]) for i in own])
            predictor = LatencyPredictor(seed=seed).fit([seen[i] for i in own[:learn]], y[:learn])
            answers = -np.array(predictor.rank_scores([seen[i] for i in own[learn:]]))
            wanted, macs = y[learn:], [seen[i].macs for i in own[learn:]]
            error = float(np.mean(np.abs(answers / wanted - 1)) * 100)
            results.append((error, kendall_tau(answers.tolist(), wanted.tolist()), kendall_tau(macs, wanted.tolist())))
        if results:
            mean = np.mean(results, 0)
            print(f"| {column} | {mean[0]:.2f} | {mean[1]:.3f} | {mean[2]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
