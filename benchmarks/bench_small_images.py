"""Top-1 on CIFAR-10, CIFAR-100 and SVHN of architecture families that were not learnt, and the predictors saved as `predictors/cifar10` and so on.

Each family (the letters that a name begins with) is answered by a fit on the others; in a harder split all residual networks of one
kind are one family ("kin"). Beside it a straight line from the logarithm of MACs, or of parameters, to that of the error, fitted on the same rows, and
the rank agreement of MACs and of parameters themselves. One row per (data set, split, seed). `--others` asks about cells of NAS-Bench-201, which
were trained otherwise: how many the support lets in, and how far their own labels are.

    python benchmarks/bench_small_images.py --data nas --cache cache --seeds 0 1 2 --save predictors --others
"""

from __future__ import annotations

import argparse
import csv
import random
import shlex
import sys
from copy import copy
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytorchcv_zoo
from pytorchcv_zoo import Rows

import nasplat
from nasplat.learners.conformal import half_width
from nasplat.predict.contract import counted
from nasplat.predict.small_images import SmallImages, _support
from nasplat.runs.folder import hardware, versions
from nasplat.tables.metrics import kendall_tau, mean_absolute_error, spearman_rho

DATA = {"cifar10": ("CIFAR-10", 10), "cifar100": ("CIFAR-100", 100), "svhn": ("SVHN", 10)}
KIN = {
    name: "residual" for name in ("preresnet", "seresnet", "sepreresnet", "diaresnet", "diapreresnet", "ror", "resnet")
}
KIN |= {"xdensenet": "densenet", "shakeshakeresnet": "resnext"}
"""Families that are one in the harder split."""
SPLITS = {"family": lambda name: name, "kin": lambda name: KIN.get(name, name)}
COLUMNS: tuple[str, ...] = (
    "data",
    "split",
    "seed",
    "n",
    "families",
    "kendall_tau",
    "spearman_rho",
    "mean_absolute_error",
    "inside",
    "coverage",
    "relative_width",
)
COLUMNS += ("macs_tau", "params_tau", "depth_tau", "macs_error", "params_error", "constant_error")
CELLS = {"cifar10": "c10_test_200ep", "cifar100": "c100_test_200ep"}
"""Columns of NAS-Bench-201's table."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "small_images.csv")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--others", action="store_true")
    arguments = parser.parse_args()
    if not arguments.out.exists():
        arguments.out.parent.mkdir(exist_ok=True)
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    present = {(r["data"], r["split"], int(r["seed"])) for r in rows(arguments.out)}
    short = {str(p): p.name for p in (arguments.data, arguments.cache, arguments.save) if p}
    command = shlex.join(["python", "benchmarks/bench_small_images.py", *(short.get(a, a) for a in sys.argv[1:])])
    fitted = {}
    for data, zoo in pytorchcv_zoo.load(arguments.data, arguments.cache).items():
        for split in SPLITS:
            for seed in arguments.seeds:
                is_saved = split == "family" and seed == arguments.seeds[0]
                if (data, split, seed) in present and not (is_saved and (arguments.save or arguments.others)):
                    continue
                model, found = judged(data, zoo, split, seed)
                if (data, split, seed) not in present:
                    with arguments.out.open("a", encoding="utf-8", newline="") as file:
                        csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(found)
                if is_saved:
                    fitted[data] = model
    if arguments.save is not None:
        for data, model in fitted.items():
            mine = [r for r in rows(arguments.out) if r["data"] == data]
            about = {"tables": [pytorchcv_zoo.TABLE], "networks": len(model.left_out_), "command": command}
            about |= {"space": "resnet", "classes": model.classes}
            model.save(arguments.save / data, about, mine, card(data, model, mine, command))
    print(f"\n{hardware()}, {versions()}\n\n{summary(rows(arguments.out))}")
    if arguments.others:
        for data in CELLS:
            print(others(data, fitted[data], arguments.data))


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def judged(data: str, zoo: Rows, split: str, seed: int) -> tuple[SmallImages, dict[str, Any]]:
    """A fit, and how well each family was answered by one without it."""
    name, classes = DATA[data]
    groups = [SPLITS[split](pytorchcv_zoo.family(n)) for n in zoo.names]
    model = SmallImages(name, classes, metric=f"{name} top-1, percent", seed=seed).fit(zoo.views, zoo.top1, groups)
    known = model.lessons_
    y, answers, of = known.labels, model.left_out_, np.array(known.groups)
    logs = np.log(100 - y)
    sizes = {"macs": [v.macs for v in known.views], "params": [v.params for v in known.views]}
    lines = {}
    for size, values in sizes.items():
        x, line = np.log(values), np.empty(len(y))
        for g in np.unique(of):
            line[of == g] = np.polyval(np.polyfit(x[of != g], logs[of != g], 1), x[of == g])
        lines[size] = mean_absolute_error(100 - np.exp(line), y)
    constant = np.array([y[of != g].mean() for g in of])
    inside = []
    for g in np.unique(of):
        rest = [known.views[i] for i in np.flatnonzero(of != g)]
        without = copy(model)
        without.support_ = _support(counted(rest), model.names_, of[of != g].tolist(), seed)
        inside += [p.in_support for p in without.predict([known.views[i] for i in np.flatnonzero(of == g)])]
    found = {
        "data": data,
        "split": split,
        "seed": seed,
        "n": len(y),
        "families": len(np.unique(of)),
        "kendall_tau": kendall_tau(answers, y),
        "spearman_rho": spearman_rho(answers, y),
        "mean_absolute_error": mean_absolute_error(answers, y),
        "inside": float(np.mean(inside)),
        "coverage": covered(y, answers, of, model.level),
        "relative_width": model.width_,
        "macs_tau": kendall_tau(sizes["macs"], y),
        "params_tau": kendall_tau(sizes["params"], y),
        "depth_tau": kendall_tau([v.statistics["depth.longest"] for v in known.views], y),
        "macs_error": lines["macs"],
        "params_error": lines["params"],
        "constant_error": mean_absolute_error(constant, y),
    }
    return model, found


def covered(y: np.ndarray, answers: np.ndarray, of: np.ndarray, level: float) -> float:
    """Share of the labels inside intervals whose width comes from the other families alone."""
    apart = np.abs(np.log(100 - y) - np.log(100 - answers))
    return float(np.mean([apart[i] <= half_width(apart[of != of[i]], level) for i in range(len(y))]))


def others(data: str, model: SmallImages, folder: Path, n: int = 300) -> str:
    """How a predictor treats cells of NAS-Bench-201, whose labels are those of another recipe."""
    space = nasplat.load_space("nasbench201", classes=model.classes)
    table = nasplat.load_table(folder / "nb201.csv.gz", space=space, metric=CELLS[data])
    chosen = random.Random(0).sample(range(len(table)), n)
    answers = model.predict([table.architectures[i].graph() for i in chosen])
    inside = [(a.mean - table.labels[i]) for a, i in zip(answers, chosen, strict=True) if a.mean is not None]
    raw = np.array(model.rank_scores([table.architectures[i].graph() for i in chosen])) - [
        table.labels[i] for i in chosen
    ]
    return (
        f"{data}: {len(inside)} of {n} cells of NAS-Bench-201 inside the support; answer less label: mean {np.mean(inside):.2f}, "
        f"{min(inside):.2f} to {max(inside):.2f}; without a support {raw.mean():.2f}, to {raw.max():.2f}"
    )


def summary(found: list[dict[str, str]]) -> str:
    def spread(mine: list[dict[str, str]], column: str, digits: int = 3) -> str:
        numbers = [float(r[column]) for r in mine]
        return f"{mean(numbers):.{digits}f}" + (f" ± {stdev(numbers):.{digits}f}" if len(set(numbers)) > 1 else "")

    lines = [
        "| data set | left out | networks | families | τ-b | τ-b MACs | τ-b parameters | τ-b depth | MAE, points | MACs alone | parameters alone | "
        "mean of the others | 90 % intervals hold | inside the support |"
    ]
    lines.append("|---" * 14 + "|")
    for data, (name, _) in DATA.items():
        for split in SPLITS:
            mine = [r for r in found if r["data"] == data and r["split"] == split]
            if not mine:
                continue
            columns = ("kendall_tau", "macs_tau", "params_tau", "depth_tau", "mean_absolute_error", "macs_error")
            columns += ("params_error", "constant_error")
            cells = [name, split, mine[0]["n"], mine[0]["families"], *(spread(mine, c) for c in columns)]
            lines.append(f"| {' | '.join(cells)} | {float(mine[0]['coverage']):.0%} | {float(mine[0]['inside']):.0%} |")
    return "\n".join(lines)


def card(data: str, model: SmallImages, found: list[dict[str, str]], command: str) -> str:
    return f"""# {data}

Family `small-images`: predicts {model.data} top-1 (percent) of classifiers with {model.classes} outputs and coloured pictures of 32 × 32, trained as pytorchcv's
networks were. Learnt from the {len(model.left_out_)} networks that its author trained on {model.data} ({pytorchcv_zoo.TABLE}, MIT): residual networks and their
kin, DenseNets, PyramidNets, ResNeXts, wide residual networks, NIN. Other kinds of networks are outside its support, and it says why.
The recipe is a good one: on CIFAR-10 it brings ResNet-20 to 94.0 and ResNet-110 to 96.3, which were published with 91.3 and 93.6. Another recipe scores
otherwise: 26 of 300 cells of NAS-Bench-201 are inside the support, and its 200 epochs bring them 2.1 points less on CIFAR-10, 4.6 on CIFAR-100.

Every family left out whole; "kin": all residual networks of one kind are one family. τ-b MACs and parameters: how these alone agree with the label; MACs
alone, parameters alone: error of a line from their logarithm to that of the error. Mean ± standard deviation over the forest's seeds. Settings were chosen on the same families.
Intervals: the error times {np.exp(-model.width_):.2f} to {np.exp(model.width_):.2f}, as wide as to hold 90 % of the networks left out; what such intervals hold of a family that had no part in
their width stands in the table.

{summary(found)}

Made by

```
{command}
```
"""


if __name__ == "__main__":
    main()
