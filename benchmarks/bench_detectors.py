"""Quality of YOLOBench's detectors at one image side, of a version that was left out, beside MACs and parameters.

Each of the eight layouts is ranked by what was learnt from the other seven; labels are COCO-style mAP in percent, one training each. Spearman's ρ over
all networks together, each answered by the fit without its version, and the mean over versions of ρ inside one (versions with four networks or more).
One row per (metric, side, seed, model); rows present are skipped. MACs and parameters score as they are.

    python benchmarks/bench_detectors.py --data nas --cache cache --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import devices
import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, DotProduct, WhiteKernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nasplat
from nasplat.features.view import View
from nasplat.predict.contract import counted
from nasplat.runs.folder import hardware, versions
from nasplat.tables.listing import Listing
from nasplat.tables.metrics import spearman_rho

COLUMNS = ("metric", "side", "seed", "model", "networks", "rho", "rho_inside", "hardware", "versions")
METRICS = ("voc_scratch_map50_95", "coco640_map50_95", "sku_ft_map50_95", "wider_ft_map50_95")
Scores = Callable[[list[View]], Sequence[float]]
Fit = Callable[[list[View], list[float], int], Scores]
"""Learns from networks, labels and a seed; gives what scores others."""
SIZE = ("log10 MACs", "log10 parameters", "log_activations", "depth.longest", "depth.spatial")
"""Statistics of size and depth. Tried beside: MACs and parameters alone, five more on widths and kernels, all of them; a ridge in place of the process."""


def size(seen: list[View]) -> np.ndarray:
    names = ["log10 MACs", "log10 parameters", *seen[0].statistics]
    return counted(seen)[:, [names.index(n) for n in SIZE]]


def process(seen: list[View], labels: list[float], seed: int) -> Scores:
    """Gaussian process on size and depth: a straight line, and what bends it."""
    kernel = DotProduct() + RBF(3.0) + WhiteKernel(0.1)
    model = make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed))
    model.fit(size(seen), labels)
    return lambda others: model.predict(size(others))


LEARNT: dict[str, Fit] = {
    "macs": lambda seen, labels, seed: lambda others: [v.macs for v in others],
    "params": lambda seen, labels, seed: lambda others: [v.params for v in others],
    "size and depth": process,
    "trees": lambda seen, labels, seed: nasplat.Trees(seed=seed).fit(seen, labels).rank_scores,
    "base, fine-tuned": lambda seen, labels, seed: (
        nasplat.load_predictor("base").finetune(seen, labels, seed).rank_scores
    ),
}
FIXED = {"macs", "params", "size and depth"}
"""Models in which nothing is random."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "detectors.csv")
    arguments = parser.parse_args()
    present = {(r["metric"], int(r["side"]), int(r["seed"]), r["model"]) for r in rows(arguments.out)}
    known = devices.captured("yolobench", arguments.data, arguments.cache)
    for metric in METRICS:
        mine = [i for i, r in enumerate(known.rows) if r[metric] and int(r["img_size"]) == arguments.side]
        seen, labels = [known.views[i] for i in mine], [float(known.rows[i][metric]) for i in mine]
        layouts = [known.rows[i]["base"] for i in mine]
        for seed in arguments.seeds:
            for model, fit in LEARNT.items():
                if (metric, arguments.side, seed, model) in present or (seed and model in FIXED):
                    continue
                answers = left_out(fit, seen, labels, layouts, seed)
                row = [metric, arguments.side, seed, model, len(mine), *agreement(answers, labels, layouts), *about()]
                append(arguments.out, row)
                print(row[:7], flush=True)
    print(f"\n{summary(rows(arguments.out)).markdown()}")


def left_out(fit: Fit, seen: list[View], labels: list[float], layouts: list[str], seed: int) -> np.ndarray:
    """Score of each network by what was learnt without its layout."""
    answers = np.empty(len(labels))
    for layout in sorted(set(layouts)):
        held = [i for i, name in enumerate(layouts) if name == layout]
        rest = [i for i, name in enumerate(layouts) if name != layout]
        answers[held] = fit([seen[i] for i in rest], [labels[i] for i in rest], seed)([seen[i] for i in held])
    return answers


def agreement(answers: np.ndarray, labels: list[float], layouts: list[str]) -> tuple[str, str]:
    """Spearman's ρ over all networks, and its mean inside the layouts."""
    y, names = np.array(labels), np.array(layouts)
    inside = [spearman_rho(answers[names == n], y[names == n]) for n in sorted(set(layouts)) if (names == n).sum() >= 4]
    return f"{spearman_rho(answers, y):.3f}", f"{np.mean(inside):.3f}"


def about() -> tuple[str, str]:
    told = " ".join(f"{k} {v}" for k, v in versions().items() if k in {"nasplat", "scikit-learn", "numpy"})
    return f"{os.cpu_count()} x {hardware()['cpu']}", told


def rows(out: Path) -> list[dict[str, str]]:
    if not out.exists():
        return []
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append(out: Path, row: list[object]) -> None:
    is_new = not out.exists()
    with out.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, row] if is_new else [row])


def summary(found: list[dict[str, str]]) -> Listing:
    """Mean over seeds of both agreements, one row per metric and model."""
    cells = []
    for key in dict.fromkeys((r["metric"], r["side"], r["model"]) for r in found):
        mine = [r for r in found if (r["metric"], r["side"], r["model"]) == key]
        means = [f"{np.mean([float(r[c]) for r in mine]):.3f}" for c in ("rho", "rho_inside")]
        cells.append([*key[:2], mine[0]["networks"], key[2], *means])
    return Listing(["metric", "side", "networks", "model", "ρ, versions left out", "ρ inside a version"], cells)


if __name__ == "__main__":
    main()
