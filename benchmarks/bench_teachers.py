"""Does it help a supernet of vision transformers to learn from a sampled teacher? Equal multiply-accumulates for every arm.

ViT space `mini` on a subset of Fashion-MNIST (patch 7) or CIFAR-10 (patch 4). Arms: no teacher; a fixed pretrained CNN; the largest subnet; a
sampled subnet of the same supernet (OVO), picked uniformly, by rank of MACs, or as the best of three; a sampled subnet of an elastic CNN, trained
along or pretrained and frozen. A training pass counts three times its MACs, a frozen teacher's once, pretraining is paid from the same budget.
Every arm has four settings to choose from by the decide split (no teacher: learning rates; others: learning rate and weight; temperature 1),
then three seeds.
Reported on the test split: 50 random subnets, the smallest, the largest, and τ-b between inherited and stand-alone accuracy of 20 networks that
are trained once for all arms. Rows are appended; those present are skipped.

    python benchmarks/bench_teachers.py --data fashion --folder <folder of IDX files>
    python benchmarks/bench_teachers.py --data fashion --summary
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import nasplat
from nasplat.runs.folder import hardware, versions
from nasplat.supernet.extremes import end
from nasplat.supernet.ranks import Ranks
from nasplat.tables.metrics import kendall_tau
from nasplat.task.files import read_idx, unpredict
from nasplat.task.training import Budget, train

RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    "arm",
    "phase",
    "setting",
    "seed",
    "epochs",
    "budget_share",
    "mean",
    "sd",
    "least",
    "smallest",
    "largest",
    "shared",
    "seconds",
)
ALONE = ("network", "seed", "architecture", "macs", "params", "test", "seconds")
DISTILLING = [{"lr": lr, "distill_weight": w} for lr in (3e-3, 1e-2) for w in (0.5, 0.9)]
PLAIN = [{"lr": lr} for lr in (1.5e-3, 3e-3, 6e-3, 1e-2)]
LABELLED, REPEATED = 20, 5
CURVE = ("factor", "epochs", "mean", "shared", "seconds")
FACTORS = (1, 2, 4, 8, 16)
"""Of the epochs that stand-alone networks get."""


@dataclass(frozen=True)
class Set:
    """A data set with the sizes of the comparison."""

    presets: dict[str, Any]
    epochs: int
    """Of the arm without a teacher; all others get the same MACs."""
    pretraining: int
    """Epochs of a teacher that is pretrained."""
    train: int
    decide: int


SETS = {
    "fashion": Set({"image": 28, "patch": 7, "channels": 1}, 16, 8, 10_000, 2_000),
    "cifar10": Set({"image": 32, "patch": 4, "channels": 3}, 12, 8, 10_000, 2_000),
}
ARMS: dict[str, dict[str, Any]] = {
    "none": {"teacher": "none"},
    "fixed CNN": {"given": "network", "joint": False},
    "largest": {"teacher": "largest"},
    "sampled, same supernet": {"teacher": "sampled"},
    "sampled, same supernet, matched": {"teacher": "sampled", "pick": "matched"},
    "sampled, same supernet, best of 3": {"teacher": "sampled", "pick": "best", "draws": 3},
    "sampled CNN, trained along": {"given": "supernet"},
    "sampled CNN, trained along, matched": {"given": "supernet", "pick": "matched"},
    "sampled CNN, pretrained, frozen": {"given": "supernet", "joint": False},
}


class Convolutions(nn.Module):
    """Strided stages of 3×3 convolutions, mean over places, linear."""

    def __init__(self, channels: int, widths: list[int], more: list[int]) -> None:
        super().__init__()
        self.stages = nn.Sequential()
        before = channels
        for i, (width, extra) in enumerate(zip(widths, more, strict=True)):
            stage = nn.Sequential(nn.Conv2d(before, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for j in range(extra):
                block = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
                stage.add_module(f"more{j}", block)
            self.stages.add_module(f"stage{i}", stage)
            before = width
        self.head = nn.Linear(before, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(x).mean((2, 3)))


def cnn_space(image: int, channels: int) -> nasplat.Space:
    @nasplat.space(example_input=(1, channels, image, image))
    def convolutions(pick: nasplat.Pick) -> nn.Module:
        widths = [pick(f"width{i}", options) for i, options in enumerate(((4, 6, 8), (8, 12, 16), (12, 20, 28)))]
        more = [pick(f"more{i}", (0, 1)) for i in range(1, 3)]
        return Convolutions(channels, widths, [0, *more])

    return convolutions


def task_of(name: str, folder: Path) -> nasplat.Task:
    size = SETS[name]
    if name == "fashion":
        x, y = (read_idx(folder / f"train-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
        tx, ty = (read_idx(folder / f"t10k-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
        x, tx = x[:, None], tx[:, None]
    else:
        files = [np.load(folder / f) for f in ("train_20k.npz", "test_5k.npz")]
        (x, y), (tx, ty) = ((unpredict(f["residual"]).transpose(0, 3, 1, 2), f["label"]) for f in files)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    mean, sd = x[: size.train].mean((0, 2, 3), keepdims=True) / 255, x[: size.train].std((0, 2, 3), keepdims=True) / 255

    def scaled(images: Any) -> Tensor:
        return torch.from_numpy(((images / 255 - mean) / sd).astype(np.float32))

    n, m = size.train, size.train + size.decide
    splits = [(x[:n], y[:n]), (x[n:m], y[n:m]), (tx, ty)]
    made = [(scaled(a), torch.from_numpy(b.astype(np.int64))) for a, b in splits]
    return nasplat.Task.from_arrays(*made, name=name)


class Comparison:
    """One data set."""

    def __init__(self, name: str, folder: Path) -> None:
        self.size, self.task = SETS[name], task_of(name, folder)
        self.space = nasplat.load_space("vit", size="mini", classes=10, head_dim=8, **self.size.presets)
        self.cnns = cnn_space(self.size.presets["image"], self.size.presets["channels"])
        self.subnets = [self.space.sample(seed=50_000 + i) for i in range(50)]
        self.macs = {
            "student": _mean(self.space),
            "largest": end(self.space, True, 0).graph().macs,
            "cnn": _mean(self.cnns),
        }
        fixed = self.network(0)
        self.macs["fixed"] = nasplat.capture(fixed, (1, *self.task.input_shape)).macs

    def network(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return Convolutions(self.task.input_shape[0], [6, 12, 24], [0, 1, 0])

    def epochs(self, arm: dict[str, Any]) -> tuple[int, float]:
        """Epochs that the arm's budget pays for, and the share of the budget that they use."""
        whole = 3 * self.macs["student"] * self.size.epochs
        each, before = 3.0 * self.macs["student"], 0.0
        joint = arm.get("joint", True)
        if "given" in arm:
            teacher = self.macs["fixed" if arm["given"] == "network" else "cnn"]
            each += (3 if joint else 1) * teacher
            before = 0.0 if joint else 3.0 * teacher * self.size.pretraining
        elif arm["teacher"] != "none":
            each += 3 * self.macs["largest" if arm["teacher"] == "largest" else "student"]
            each += arm.get("draws", 0) * self.macs["student"] if arm.get("pick") == "best" else 0
        epochs = max(1, round((whole - before) / each))
        return epochs, (before + epochs * each) / whole

    def run(self, arm: dict[str, Any], setting: dict[str, Any], seed: int) -> tuple[nasplat.Supernet, int, float]:
        epochs, share = self.epochs(arm)
        options: dict[str, Any] = {k: v for k, v in arm.items() if k != "given"} | setting
        teacher: Any = None
        if arm.get("given") == "network":
            teacher = train(self.network(seed), self.task, Budget(self.size.pretraining), seed).module
        elif arm.get("given") == "supernet":
            teacher = nasplat.Supernet(self.cnns, self.task, seed)
            if not arm.get("joint", True):
                teacher.train(epochs=self.size.pretraining, watch=False)
        supernet = nasplat.Supernet(self.space, self.task, seed)
        given = {} if "given" in arm else {"config": nasplat.TrainConfig(teacher=options.pop("teacher"))}
        supernet.train(epochs=epochs, strategy="ovo", teacher=teacher, watch=False, **given, **options)
        return supernet, epochs, share


def _mean(space: nasplat.Space) -> float:
    return float(np.mean([m for m, _ in Ranks(space).pool]))


def rows(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open(encoding="utf-8") as text:
        return list(csv.DictReader(text))


def append(file: Path, columns: tuple[str, ...], row: dict[str, Any]) -> None:
    is_new = not file.exists()
    with file.open("a", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns)
        if is_new:
            writer.writeheader()
        writer.writerow(row)
    print(*row.values(), flush=True)


def settings(arm: str) -> list[dict[str, Any]]:
    return PLAIN if arm == "none" else DISTILLING


def wanted(file: Path, arms: list[str], seeds: int) -> Iterator[tuple[str, str, dict[str, Any], int]]:
    """(arm, phase, setting, seed) in order; the final runs follow from the tuning."""
    for arm in arms:
        for setting in settings(arm):
            yield arm, "tuning", setting, 100
        tuned = [r for r in rows(file) if r["arm"] == arm and r["phase"] == "tuning"]
        if len(tuned) == len(settings(arm)):
            best = json.loads(max(tuned, key=lambda r: float(r["mean"]))["setting"])
            for seed in range(seeds):
                yield arm, "final", best, seed


def compare(it: Comparison, file: Path, arms: list[str], seeds: int) -> None:
    for arm, phase, setting, seed in wanted(file, arms, seeds):
        words = json.dumps(setting)
        if any((r["arm"], r["phase"], r["setting"], r["seed"]) == (arm, phase, words, str(seed)) for r in rows(file)):
            continue
        started = time.monotonic()
        supernet, epochs, share = it.run(ARMS[arm], setting, seed)
        split = "decide" if phase == "tuning" else "test"
        found = np.array([supernet.evaluate(a, split) for a in (it.subnets[:20] if phase == "tuning" else it.subnets)])
        row = {
            "arm": arm,
            "phase": phase,
            "setting": words,
            "seed": seed,
            "epochs": epochs,
            "budget_share": f"{share:.3f}",
        }
        row |= {"mean": f"{found.mean():.3f}", "sd": f"{found.std(ddof=1):.3f}", "least": f"{found.min():.3f}"}
        if phase == "final":
            ends = [supernet.evaluate(end(it.space, largest, 0), "test") for largest in (False, True)]
            row |= {"smallest": f"{ends[0]:.3f}", "largest": f"{ends[1]:.3f}"}
            row |= {"shared": json.dumps([round(float(v), 3) for v in found[:LABELLED]])}
        append(file, COLUMNS, row | {"seconds": f"{time.monotonic() - started:.1f}"})


def alone(it: Comparison, file: Path) -> None:
    """Stand-alone networks: the first twenty of the subnets, five of them twice."""
    for number, seed in [(i, 0) for i in range(LABELLED)] + [(i, 1) for i in range(REPEATED)]:
        if any((r["network"], r["seed"]) == (str(number), str(seed)) for r in rows(file)):
            continue
        architecture, started = it.subnets[number], time.monotonic()
        torch.manual_seed(seed)
        found = train(architecture.build(), it.task, Budget(it.size.epochs), seed)
        graph = architecture.graph()
        row = {
            "network": number,
            "seed": seed,
            "architecture": it.space.format(architecture),
            "macs": graph.macs,
            "params": graph.params,
        }
        append(file, ALONE, row | {"test": f"{found.test:.3f}", "seconds": f"{time.monotonic() - started:.1f}"})


def curve(it: Comparison, file: Path, lr: float) -> None:
    """Inherited accuracy of the first twenty subnets without a teacher, when the supernet is trained for longer than they were alone."""
    for factor in FACTORS:
        if any(r["factor"] == str(factor) for r in rows(file)):
            continue
        started = time.monotonic()
        supernet = nasplat.Supernet(it.space, it.task, 0)
        supernet.train(epochs=factor * it.size.epochs, lr=lr, watch=False)
        found = [supernet.evaluate(a, "test") for a in it.subnets[:LABELLED]]
        row = {"factor": factor, "epochs": factor * it.size.epochs, "mean": f"{np.mean(found):.3f}"}
        row |= {
            "shared": json.dumps([round(float(v), 3) for v in found]),
            "seconds": f"{time.monotonic() - started:.1f}",
        }
        append(file, CURVE, row)


def summarise(file: Path, alone_file: Path) -> None:
    labels = {(int(r["network"]), int(r["seed"])): r for r in rows(alone_file)}
    first = [r for (_, s), r in sorted(labels.items()) if s == 0]
    known = np.array([float(r["test"]) for r in first])
    if len(first) == LABELLED:
        repeats = [
            abs(float(labels[i, 0]["test"]) - float(labels[i, 1]["test"])) for i in range(REPEATED) if (i, 1) in labels
        ]
        print(
            f"Stand-alone: {len(first)} networks, {known.mean():.2f} ± {known.std(ddof=1):.2f} % ({known.min():.2f} to {known.max():.2f}); two "
            f"seeds differ by {np.mean(repeats):.2f} points (mean of {len(repeats)}); τ-b of MACs "
            f"{kendall_tau([float(r['macs']) for r in first], known):.2f}, of parameters "
            f"{kendall_tau([float(r['params']) for r in first], known):.2f}.\n"
        )
    print(
        "| arm | setting | epochs (share of the budget) | seeds | 50 random: mean ± sd over seeds | sd within | least | smallest | largest | ",
        end="",
    )
    print("inherited − stand-alone | τ-b with stand-alone |\n|---|---|---|---|---|---|---|---|---|---|---|")
    for arm in ARMS:
        mine = [r for r in rows(file) if r["arm"] == arm and r["phase"] == "final"]
        if not mine:
            continue
        column = {c: np.array([float(r[c]) for r in mine]) for c in ("mean", "sd", "least", "smallest", "largest")}
        shared = np.array([json.loads(r["shared"]) for r in mine])
        spread = column["mean"].std(ddof=1) if len(mine) > 1 else float("nan")
        gap, tau = "", ""
        if len(first) == LABELLED:
            gap = f"{(shared - known).mean():+.2f}"
            tau = f"{np.mean([kendall_tau(s, known) for s in shared]):.2f}"
        setting = ", ".join(f"{k} {v}" for k, v in json.loads(mine[0]["setting"]).items())
        print(
            f"| {arm} | {setting} | {mine[0]['epochs']} ({float(mine[0]['budget_share']):.0%}) | {len(mine)} | {column['mean'].mean():.2f} ± "
            f"{spread:.2f} | {column['sd'].mean():.2f} | {column['least'].mean():.2f} | {column['smallest'].mean():.2f} | "
            f"{column['largest'].mean():.2f} | {gap} | {tau} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=list(SETS), default="fashion")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", choices=["arms", "alone", "curve", "all"], default="all")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file, alone_file, curve_file = (
        arguments.results / f"{kind}_{arguments.data}.csv" for kind in ("teachers", "alone", "curve")
    )
    if not arguments.summary:
        it = Comparison(arguments.data, arguments.folder)
        print({k: f"{v / 1e6:.3f} M MACs" for k, v in it.macs.items()}, flush=True)
        if arguments.part in {"alone", "all"}:
            alone(it, alone_file)
        if arguments.part in {"arms", "all"}:
            compare(it, file, arguments.arms, arguments.seeds)
        if arguments.part in {"curve", "all"}:
            tuned = [r for r in rows(file) if r["arm"] == "none" and r["phase"] == "final"]
            curve(it, curve_file, json.loads(tuned[0]["setting"])["lr"])
    print(f"{hardware()}, {versions()}\n")
    summarise(file, alone_file)
    known = {int(r["network"]): float(r["test"]) for r in rows(alone_file) if r["seed"] == "0"}
    print(
        "\n| epochs of the supernet (stand-alone: 1 ×) | inherited, mean of 20 | inherited − stand-alone | τ-b with stand-alone |\n|---|---|---|---|"
    )
    for row in rows(curve_file):
        shared = np.array(json.loads(row["shared"]))
        alone_ = np.array([known[i] for i in range(len(shared))])
        gap, tau = (shared - alone_).mean(), kendall_tau(shared, alone_)
        print(f"| {row['epochs']} ({row['factor']} ×) | {float(row['mean']):.2f} | {gap:+.2f} | {tau:.2f} |")


if __name__ == "__main__":
    main()
