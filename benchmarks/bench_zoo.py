"""ImageNet top-1 of architecture families that were not learnt, and the predictor saved as `predictors/imagenet`.

Ten folds of architecture families (the letters that a name begins with); what a checkpoint saw before ImageNet-1k, its recipe and its resolution are
inputs. Rank agreement is inside one class of sources. Beside it MACs and parameters on the same checkpoints. One row per (seed, source).

    python benchmarks/bench_zoo.py --data nas --cache cache --seeds 0 1 2 --save predictors/imagenet
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import model_zoo
import numpy as np
import pytorchcv_zoo

from nasplat.predict.zoo import SOURCES, ModelZoo, source
from nasplat.runs.folder import hardware, versions
from nasplat.tables.metrics import kendall_tau, mean_absolute_error, spearman_rho
from nasplat.tables.splits import together

COLUMNS = (
    "seed",
    "source",
    "n",
    "architectures",
    "kendall_tau",
    "spearman_rho",
    "mean_absolute_error",
    "coverage",
    "width",
)
PYTORCHCV = "in1k, pytorchcv"
PARTS = (*SOURCES, PYTORCHCV)
"""Checkpoints that are judged together: timm's by what the weights saw, and pytorchcv's."""
TABLES = [model_zoo.TABLE, pytorchcv_zoo.TABLE]
COLUMNS += ("macs_tau", "params_tau", "fit_seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "zoo.csv")
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args()
    if not arguments.out.exists():
        arguments.out.parent.mkdir(exist_ok=True)
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    present = {int(r["seed"]) for r in rows(arguments.out)}
    zoo = model_zoo.load(arguments.data, arguments.cache)
    zoo = zoo.joined(model_zoo.load_pytorchcv(arguments.data, arguments.cache))
    number = [str(i) for i in range(len(zoo.top1))]
    groups = together(number, [model_zoo.family(a) for a in zoo.architectures], zoo.keys)
    for seed in [s for s in arguments.seeds if s not in present]:
        started = time.perf_counter()
        model = ModelZoo(seed=seed).fit(zoo.views, zoo.top1, zoo.recipes, groups)
        found = [row(seed, name, model, zoo, round(time.perf_counter() - started)) for name in PARTS]
        with arguments.out.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerows(found)
        if arguments.save is not None and seed == arguments.seeds[0]:
            short = {str(p): p.name for p in (arguments.data, arguments.cache)}
            command = shlex.join(["python", "benchmarks/bench_zoo.py", *(short.get(a, a) for a in sys.argv[1:])])
            model.save(arguments.save, {"tables": TABLES, "checkpoints": len(zoo.top1), "command": command}, found)
    text = summary(rows(arguments.out))
    print(f"\n{hardware()}, {versions()}\n\n{text}")
    if arguments.save is not None and (arguments.save / "recipe.toml").exists():
        (arguments.save / "README.md").write_text(card(text, arguments.save), encoding="utf-8")


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def row(seed: int, name: str, model: ModelZoo, zoo: model_zoo.Checkpoints, seconds: int) -> dict[str, Any]:
    mine = [i for i, r in enumerate(zoo.recipes) if (PYTORCHCV if r == model_zoo.PYTORCHCV else source(r)) == name]
    y, answers = np.array(zoo.top1)[mine], model.left_out_[mine]
    width = float(model.widths_[SOURCES.index(source(zoo.recipes[mine[0]]))])
    return {
        "seed": seed,
        "source": name,
        "n": len(mine),
        "architectures": len({zoo.architectures[i] for i in mine}),
        "kendall_tau": kendall_tau(answers, y),
        "spearman_rho": spearman_rho(answers, y),
        "mean_absolute_error": mean_absolute_error(answers, y),
        "coverage": float(np.mean(np.abs(y - answers) <= width)),
        "width": 2 * width,
        "macs_tau": kendall_tau([zoo.views[i].macs for i in mine], y),
        "params_tau": kendall_tau([zoo.views[i].params for i in mine], y),
        "fit_seconds": seconds,
    }


def summary(found: list[dict[str, str]]) -> str:
    def spread(values: list[str]) -> str:
        numbers = [float(v) for v in values]
        return f"{mean(numbers):.3f}" + (f" ± {stdev(numbers):.3f}" if len(numbers) > 1 else "")

    columns = ("kendall_tau", "spearman_rho", "mean_absolute_error", "macs_tau", "params_tau", "width")
    lines = [
        "| weights saw | checkpoints | architectures | τ-b | ρ | MAE, points | τ-b MACs | τ-b parameters | 90 % interval, points |"
    ]
    lines.append("|---" * 9 + "|")
    for name in PARTS:
        mine = [r for r in found if r["source"] == name]
        cells = [mine[0]["n"], mine[0]["architectures"], *(spread([r[c] for r in mine]) for c in columns)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def card(text: str, folder: Path) -> str:
    about = (folder / "recipe.toml").read_text(encoding="utf-8")
    command = next(line.partition(" = ")[2].strip('"') for line in about.splitlines() if line.startswith("command"))
    return f"""# {folder.name}

Family `zoo`: predicts ImageNet-1k top-1 (percent) of classifiers with 1,000 outputs and inputs of at least 96 × 96, under a recipe: `under("a1_in1k")`.
Without one it assumes weights that saw ImageNet-1k alone, without a teacher, trained as the zoo is on average. Learnt from {model_zoo.TABLE} (Apache-2.0)
and from the networks that pytorchcv's author trained ({pytorchcv_zoo.TABLE}, MIT; recipe `{model_zoo.PYTORCHCV}`).

Architecture families left out, ten folds; agreement inside one class of sources. Widths are those that hold 90 % of the left-out checkpoints, so their
coverage is not a test. Mean ± standard deviation over seeds; the saved one is the first.

{text}

Made by

```
{command}
```
"""


if __name__ == "__main__":
    main()
