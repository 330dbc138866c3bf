"""The universal predictor: every family ranked by what was learnt of all the others, and saved as `predictors/base`.

Families of one search space share graphs and are left out together. A left-out family's networks (at most --most) are one another's reference; none
of its labels is used. Beside it, on the same networks: MACs, parameters, and the relative forest alone (trees). Scale and interval of a family come
from the families of other groups. "inside" are five-fold left-out answers in families that were learnt. The zoo counts as a family: checkpoints of
timm trained on ImageNet-1k alone, mean over recipes. Families whose file states no licence are left out of the shipped predictor, and judged by a fit
without their space. One row per (seed, family) is appended; seeds present are skipped.

    python benchmarks/bench_base.py --data nas --cache cache --corpus corpus --seeds 0 1 2 --save predictors/base
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import model_zoo
import numpy as np
import torch
from families import FAMILIES, load
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from nasplat.features.view import View
from nasplat.features.views_on_disk import load_views
from nasplat.learners.normal_scores import NormalScores
from nasplat.predict.contract import counted
from nasplat.predict.universal import Universal, _moments, _relative, doubt, parts
from nasplat.predict.zoo import distilled, source
from nasplat.runs.folder import hardware, versions
from nasplat.tables.metrics import kendall_tau, spearman_rho
from nasplat.workflows.labelled import Labelled

ZOO = "zoo_in1k"
TITLES = {
    "nb101": "NAS-Bench-101, CIFAR-10",
    "nb201_c10": "NAS-Bench-201, CIFAR-10",
    "nb201_c100": "NAS-Bench-201, CIFAR-100",
    "nb201_in16": "NAS-Bench-201, ImageNet16-120",
    "ofa_mbv3": "Once-for-All MobileNetV3, ImageNet",
    "ofa_mbv3_c10": "Once-for-All MobileNetV3, CIFAR-10",
    "darts": "DARTS, CIFAR-10, 50 epochs",
    "darts_surrogate": "DARTS, CIFAR-10, surrogate",
    "darts_svhn": "DARTS, SVHN",
    "tnb_object": "TransNAS micro, objects",
    "tnb_scene": "TransNAS micro, scenes",
    "tnb_jigsaw": "TransNAS micro, jigsaw",
    "nb_macro": "NAS-Bench-Macro, CIFAR-10",
    "accel": "Accel-NASBench, ImageNet",
    "vit_autoformer": "AutoFormer-tiny, CIFAR-100",
    "vit_pit": "PiT, CIFAR-100",
    "pytorchcv_c10": "pytorchcv's zoo, CIFAR-10",
    "pytorchcv_c100": "pytorchcv's zoo, CIFAR-100",
    "pytorchcv_svhn": "pytorchcv's zoo, SVHN",
    ZOO: "timm's zoo, ImageNet",
}
"""Of families, as predictions name them; others are named by their space and ours."""


def title(name: str) -> str:
    return TITLES.get(name, f"{name.removesuffix('_digits')}, digits")


COLUMNS = (
    "seed",
    "family",
    "group",
    "n",
    "kendall_tau",
    "spearman_rho",
    "trees_tau",
    "macs_tau",
    "params_tau",
    "coverage",
    "width",
)
COLUMNS += ("inside_correlation", "inside_width", "in_support", "fit_seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Folder of the tables.")
    parser.add_argument(
        "--cache", type=Path, required=True, help="Folder of captured graphs; made where it is missing."
    )
    parser.add_argument("--corpus", type=Path, required=True, help="Folder of corpus.py.")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "base.csv")
    parser.add_argument("--save", type=Path, help="Folder of the first seed's predictor.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.out.exists():
        arguments.out.parent.mkdir(exist_ok=True)
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    present = {int(r["seed"]) for r in rows(arguments.out)}
    left = [s for s in arguments.seeds if s not in present]
    if left:
        data = dict(everything(arguments.data, arguments.cache))
        unlabelled, known = corpus(arguments.corpus)
        short = {str(p): p.name for p in (arguments.data, arguments.cache, arguments.corpus)}
        command = shlex.join(["python", "benchmarks/bench_base.py", *(short.get(a, a) for a in sys.argv[1:])])
        for seed in left:
            found = run(seed, data, unlabelled, known, arguments.save if seed == arguments.seeds[0] else None, command)
            with arguments.out.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerows(found)
    text = summary(rows(arguments.out))
    print(f"\n{hardware()}, {versions()}\n\n{text}")
    if arguments.save is not None and (arguments.save / "recipe.toml").exists():
        (arguments.save / "README.md").write_text(card(text, arguments.save), encoding="utf-8")


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def everything(data: Path, cache: Path) -> Iterator[tuple[str, Labelled]]:
    """All families, the zoo last."""
    for name in FAMILIES:
        yield name, load(name, data, cache)
    zoo = model_zoo.load(data, cache)
    chosen = [i for i, r in enumerate(zoo.recipes) if source(r) == "in1k" and not distilled(r)]
    merged: dict[str, list[int]] = {}
    for i in chosen:
        merged.setdefault(zoo.keys[i], []).append(i)
    firsts = [m[0] for m in merged.values()]
    labels = [mean(zoo.top1[i] for i in m) for m in merged.values()]
    yield ZOO, Labelled([zoo.views[i] for i in firsts], labels, list(merged), [zoo.architectures[i] for i in firsts])


def group(name: str) -> str:
    """The search space, whose families share graphs."""
    return (FAMILIES[name].space or name) if name in FAMILIES else name


def licensed(name: str) -> bool:
    return name == ZOO or bool(FAMILIES[name].licence)


def corpus(folder: Path) -> tuple[list[View], np.ndarray]:
    """Unlabelled views and their proxies as normal scores inside a space."""
    views: list[View] = []
    known = []
    for file in sorted(folder.glob("corpus_*.npz")):
        values = np.array(
            [list(row.values()) for row in json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))],
            np.float64,
        )
        views += load_views(file)
        known.append(ndtri((rankdata(values, axis=0, nan_policy="omit") - 0.5) / np.isfinite(values).sum(0)))
    return views, np.vstack(known)


def joined(data: dict[str, Labelled], names: list[str]) -> tuple[list[View], list[float], list[str], list[str]]:
    """Views, labels, family and group of each network."""
    views = [v for n in names for v in data[n].views]
    labels = [y for n in names for y in data[n].labels]
    of = [n for n in names for _ in data[n].labels]
    return views, labels, [title(n) for n in of], [group(n) for n in of]


def run(
    seed: int, data: dict[str, Labelled], unlabelled: list[View], known: np.ndarray, save: Path | None, command: str
) -> list[dict[str, Any]]:
    names = [n for n in data if licensed(n)]
    views, labels, of, groups = joined(data, names)
    started, last = time.perf_counter(), [0.0]

    def show(done: int, total: int, note: str) -> None:
        if time.perf_counter() - last[0] > 20 or done == total:
            last[0] = time.perf_counter()
            print(f"seed {seed}: {last[0] - started:.0f} s, {done}/{total}, {note}", flush=True)

    networks = [f"{group(n)} {network}" for n in names for network in data[n].groups]
    more: dict[str, Any] = {"unlabelled": unlabelled, "known": known, "wide": [title(ZOO)], "networks": networks}
    model = Universal(seed=seed).fit(views, labels, of, groups, show, **more)
    seconds = round(time.perf_counter() - started)
    left_out = {n: model.left_out_[title(n)] for n in names}
    starts = np.cumsum([0, *(len(data[n].labels) for n in names)])
    sample = {n: model.rows_[title(n)] - start for n, start in zip(names, starts, strict=False)}
    for name in data:
        if not licensed(name):
            rest = joined(data, [n for n in names if group(n) != group(name)])
            other = Universal(seed=seed, head_epochs=1).fit(
                *rest, None, unlabelled=unlabelled, known=known, validate=False
            )
            chosen = np.random.default_rng(seed).permutation(len(data[name].labels))[: model.most]
            sample[name] = chosen
            y = np.array(data[name].labels)[chosen]
            left_out[name] = NormalScores.learn(y).forward(y), _parts(other, [data[name].views[i] for i in chosen])
    found = []
    for name, (target, found_parts) in left_out.items():
        answer = model._blend(found_parts)
        others = [
            (t, model._blend(p)) for n in names if group(n) != group(name) for t, p in [model.left_out_[title(n)]]
        ]
        scale, width = doubt(others, model.level)
        x = counted([data[name].views[i] for i in sample[name]])
        row: dict[str, Any] = {
            "seed": seed,
            "family": title(name),
            "group": group(name),
            "n": len(target),
            "fit_seconds": seconds,
        }
        row |= {"kendall_tau": kendall_tau(answer, target), "spearman_rho": spearman_rho(answer, target)}
        row |= {"macs_tau": kendall_tau(x[:, 0], target), "params_tau": kendall_tau(x[:, 1], target)}
        row["trees_tau"] = kendall_tau(found_parts[:, 0], target)
        row["coverage"] = float(np.mean(np.abs(target - scale * answer) <= width))
        row["width"] = float(np.mean(ndtr(scale * answer + width) - ndtr(scale * answer - width)))
        if name in names:
            place = model.families_.index(title(name))
            row |= {"inside_correlation": model.agreement_[title(name)], "inside_width": model.widths_[place]}
            learnt = set(sample[name].tolist())
            fresh = [v for i, v in enumerate(data[name].views) if i not in learnt] or data[name].views
            row["in_support"] = float(np.mean([p.in_support for p in model.predict(fresh[:200])]))
        found.append(row)
    if save is not None:
        sources = sorted({FAMILIES[n].file if n in FAMILIES else model_zoo.TABLE for n in names})
        about = {
            "families": [title(n) for n in names],
            "tables": sources,
            "seed": seed,
            "corpus": len(unlabelled),
            "command": command,
        }
        model.save(save, about, found)
    return found


def _parts(model: Universal, views: list[View]) -> np.ndarray:
    x = model._both(views)
    return parts(_relative(x, *_moments(x)), model.far_forest_)


def summary(found: list[dict[str, str]]) -> str:
    def spread(values: list[str]) -> str:
        numbers = [float(v) for v in values if v not in {"", "None"}]
        if not numbers:
            return "–"
        return f"{mean(numbers):.3f}" + (f" ± {stdev(numbers):.3f}" if len(numbers) > 1 else "")

    columns = (
        "kendall_tau",
        "macs_tau",
        "params_tau",
        "trees_tau",
        "coverage",
        "width",
        "inside_correlation",
        "in_support",
    )
    lines = [
        "| family left out | networks | τ-b | τ-b MACs | τ-b parameters | τ-b trees | covered | width | learnt: r | in support |"
    ]
    lines.append("|---" * 10 + "|")
    means: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(r["family"] for r in found):
        mine = [r for r in found if r["family"] == name]
        lines.append(
            f"| {name} | {mine[0]['n']} | " + " | ".join(spread([r.get(c, "") for r in mine]) for c in columns) + " |"
        )
        means[name] = {
            c: mean(float(r[c]) for r in mine) for c in columns if all(r.get(c, "") not in {"", "None"} for r in mine)
        }
    above = [m["kendall_tau"] - m["macs_tau"] for m in means.values()]
    covered = [m["coverage"] for m in means.values()]
    lines.append(
        f"\nAbove MACs on {np.mean(np.array(above) > 0):.0%} of {len(above)} families, least difference {min(above):+.3f}, mean "
        f"{mean(above):+.3f}; intervals cover {mean(covered):.1%} on average over families, least {min(covered):.1%}, mean width "
        f"{mean(m['width'] for m in means.values()):.2f} of the family."
    )
    return "\n".join(lines)


def card(text: str, folder: Path) -> str:
    about = (folder / "recipe.toml").read_text(encoding="utf-8")
    command = next(line.partition(" = ")[2].strip('"') for line in about.splitlines() if line.startswith("command"))
    return f"""# {folder.name}

Family `universal`: predicts where a network stands within its family, in percent of the family's networks that are worse. Inside the families below it
answers from what it has learnt of them; `against(networks)` makes a predictor for a new family from at least 20 of its networks, without labels;
elsewhere it abstains and gives MACs and parameters. Learnt from the tables named in recipe.toml, all with a stated licence (families whose name ends in
"digits" were trained by us), and from unlabelled graphs of all our search spaces with zero-cost proxies of scaled-down twins.

Left out: the family and all others of its search space were not learnt; its networks are one another's reference; no label of it is used; scale and
90 % interval come from families of other spaces. "Width" is that of the interval, as a share of the family. "Learnt: r" is the correlation of five-fold
left-out answers with normal scores inside families that were learnt; "in support" the share of their networks that are answered. τ-b of trees: the
relative forest alone. Where τ-b is below that of MACs, MACs are the better guide. Mean ± standard deviation over seeds; the saved one is the first.

{text}

Made by (the corpus by `python benchmarks/corpus.py --cache corpus --each 120`, the zoo needs `pip install timm`)

```
{command}
```
"""


if __name__ == "__main__":
    main()
