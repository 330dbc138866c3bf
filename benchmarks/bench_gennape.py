"""GENNAPE learnt from NAS-Bench-101: inside the family, on other families without a label, and with 50 labels.

Beside it, on the same networks: boosted trees learnt from the same rows, MACs, parameters. With 50 labels every seed's predictor is fine-tuned
on four random sets, the same for every predictor. One row per (seed, predictor, family, protocol, split) is appended; seeds present are skipped.
`--save` writes the predictor of the first seed with its card. Reads the tables of `families.py` from `--data`, captured once into `--cache`.

    python benchmarks/bench_gennape.py --data nas --cache cache --seeds 0 1 2 --save predictors/gennape-nb101
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import shlex
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from families import FAMILIES, load
from scipy.stats import t as student

import nasplat
from nasplat.features.view import View
from nasplat.predict.contract import AbstractPredictor
from nasplat.predict.gennape import Gennape
from nasplat.predict.trees import Trees
from nasplat.runs.folder import hardware, versions
from nasplat.workflows.evaluate import evaluate
from nasplat.workflows.fit import provenance
from nasplat.workflows.labelled import Labelled, few, split

METRIC = "CIFAR-10 validation accuracy after 108 epochs, percent"
OTHERS = {
    "NAS-Bench-201": "nb201_c10",
    "NAS-Bench-201 without none": "nb201_c10",
    "NAS-Bench-201, CIFAR-100": "nb201_c100",
    "NAS-Bench-201, ImageNet16-120": "nb201_in16",
    "OFA-MobileNetV3": "ofa_mbv3",
    "DARTS, 50 epochs": "darts",
    "DARTS, surrogate": "darts_surrogate",
    "TransNAS micro, object": "tnb_object",
    "NAS-Bench-Macro": "nb_macro",
    "Accel-NASBench": "accel",
    "AutoFormer-tiny, CIFAR-100": "vit_autoformer",
    "PiT, CIFAR-100": "vit_pit",
}
FEW = 50
SPLITS = 4
"""Random sets of labels for each seed."""
COLUMNS = (
    "seed",
    "predictor",
    "family",
    "protocol",
    "split",
    "n",
    "in_support",
    "kendall_tau",
    "spearman_rho",
    "ndcg_at_10",
)
COLUMNS += ("mean_absolute_error", "interval_coverage", "macs_tau", "params_tau", "beyond", "fit_seconds")
NAME = ("family", "protocol", "predictor")
_DATA: dict[str, Labelled] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Folder of the tables.")
    parser.add_argument(
        "--cache", type=Path, required=True, help="Folder of captured graphs; made where it is missing."
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2, help="Processes of one thread each.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gennape.csv")
    parser.add_argument("--save", type=Path, help="Folder of the first seed's predictor.")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(exist_ok=True)
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    left = [s for s in arguments.seeds if str(s) not in {r["seed"] for r in rows(arguments.out)}]
    if left:
        for family, name in {"NAS-Bench-101": "nb101", **OTHERS}.items():
            found = load(name, arguments.data, arguments.cache, arguments.workers)
            if family.endswith("without none"):
                found = found.take([i for i, a in enumerate(found.architectures) if "none" not in a])
            _DATA[family] = found
            print(f"{family}: {len(found.labels)} networks", flush=True)
        source = FAMILIES["nb101"]
        table = nasplat.load_table(arguments.data / source.file, space=source.space, metric=source.metric)
        short = {str(p): p.name for p in (arguments.data, arguments.cache)}
        words = [short.get(a, a) for a in sys.argv[1:]]
        command = shlex.join(["python", "benchmarks/bench_gennape.py", *words])
        about = provenance(table, _DATA["NAS-Bench-101"], arguments.seeds, command)
        os.environ["OMP_NUM_THREADS"] = "1"
        with multiprocessing.get_context("spawn").Pool(arguments.workers, _receive, (_DATA,)) as pool:
            jobs = [(s, arguments.save if s == arguments.seeds[0] else None, about) for s in left]
            for found in pool.imap_unordered(run, jobs):
                with arguments.out.open("a", encoding="utf-8", newline="") as file:
                    csv.DictWriter(file, COLUMNS, lineterminator="\n").writerows(found)
    text = summary(rows(arguments.out))
    print(f"\n{hardware()}, {versions()}\n\n{text}")
    if arguments.save is not None and (arguments.save / "recipe.toml").exists():
        (arguments.save / "README.md").write_text(card(text, arguments.save, rows(arguments.out)), encoding="utf-8")


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _receive(data: dict[str, Labelled]) -> None:
    torch.set_num_threads(1)
    _DATA.update(data)


def run(job: tuple[int, Path | None, dict[str, Any]]) -> list[dict[str, Any]]:
    seed, save, about = job
    train, _, test = split(_DATA["NAS-Bench-101"], seed)
    found = []
    for predictor in (Trees(metric=METRIC, seed=seed), Gennape(metric=METRIC, seed=seed)):
        started, last = time.perf_counter(), [0.0]

        def show(done: int, total: int, note: str, last: list[float] = last, started: float = started) -> None:
            if time.perf_counter() - last[0] > 30:
                last[0] = time.perf_counter()
                print(f"seed {seed}: {last[0] - started:.0f} s, {done}/{total}, {note}", flush=True)

        more: Any = {"progress": show} if isinstance(predictor, Gennape) else {}
        predictor.fit(train.views, train.labels, groups=train.groups, **more)
        seconds = time.perf_counter() - started
        mine = [row(seed, predictor, "NAS-Bench-101", "test", test, seconds)]
        for family in OTHERS:
            mine.append(row(seed, predictor, family, "no label", _DATA[family], seconds, beyond=True))
            remember(predictor, _DATA[family].views)
            for number in range(SPLITS):
                labelled, rest = few(_DATA[family], FEW, seed * SPLITS + number)
                tuned = predictor.finetune(labelled.views, labelled.labels, seed, groups=labelled.groups)
                mine.append(row(seed, tuned, family, f"{FEW} labels", rest, seconds, beyond=True))
                mine[-1] |= {"predictor": predictor.family, "split": number}
                inside = evaluate(tuned, rest)
                mine[-1] |= {k: getattr(inside, k) for k in ("mean_absolute_error", "interval_coverage", "in_support")}
        vars(predictor).pop("describe", None)
        if save is not None and isinstance(predictor, Gennape):
            predictor.save(save, about, mine)
        found += mine
        print(f"seed {seed}: {predictor.family} {seconds:.0f} s, test τ-b {mine[0]['kendall_tau']:.3f}", flush=True)
    return found


def remember(predictor: AbstractPredictor, views: list[View]) -> None:
    """Descriptions of a family are computed once, not for every set of labels."""
    vars(predictor).pop("describe", None)
    place = {id(v): i for i, v in enumerate(views)}
    sets = predictor.describe(views)
    vars(predictor)["describe"] = lambda seen: [features[[place[id(v)] for v in seen]] for features in sets]


def row(
    seed: int,
    predictor: AbstractPredictor,
    family: str,
    protocol: str,
    data: Labelled,
    seconds: float,
    beyond: bool = False,
) -> dict[str, Any]:
    found = evaluate(predictor, data, beyond)
    if beyond:
        found = replace(found, mean_absolute_error=None, interval_coverage=None)
    name = {"seed": seed, "predictor": predictor.family, "family": family, "protocol": protocol, "split": 0}
    return name | asdict(found) | {"fit_seconds": round(seconds)}


def summary(found: list[dict[str, str]]) -> str:
    def spread(values: list[str], digits: int = 3) -> str:
        numbers = [float(v) for v in values if v not in {"", "None"}]
        if not numbers:
            return "–"
        return f"{mean(numbers):.{digits}f}" + (f" ± {stdev(numbers):.{digits}f}" if len(numbers) > 1 else "")

    lines = [
        "| family, protocol | networks | predictor | τ-b | above trees | ρ | NDCG@10 | MAE | interval covers | τ-b MACs | τ-b parameters |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for family, protocol, predictor in dict.fromkeys((r["family"], r["protocol"], r["predictor"]) for r in found):
        mine = [r for r in found if (r["family"], r["protocol"], r["predictor"]) == (family, protocol, predictor)]
        names = (
            "kendall_tau",
            "spearman_rho",
            "ndcg_at_10",
            "mean_absolute_error",
            "interval_coverage",
            "macs_tau",
            "params_tau",
        )
        cells = [spread([r[n] for r in mine]) for n in names]
        cells.insert(1, paired(found, family, protocol) if predictor == "gennape" else "")
        lines.append(f"| {family}, {protocol} | {mine[0]['n']} | {predictor} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def paired(found: list[dict[str, str]], family: str, protocol: str) -> str:
    """τ-b above that of trees on the same seeds and sets of labels: mean and its 90 % interval by Student's t."""
    taus = {
        who: {
            (r["seed"], r["split"]): float(r["kendall_tau"])
            for r in found
            if tuple(r[c] for c in NAME) == (family, protocol, who)
        }
        for who in ("gennape", "trees")
    }
    above = [v - taus["trees"][k] for k, v in taus["gennape"].items()]
    half = (
        stdev(above) / len(above) ** 0.5 * float(student.ppf(0.95, len(above) - 1)) if len(above) > 1 else float("nan")
    )
    return f"{mean(above):+.3f} ± {half:.3f}"


def card(text: str, folder: Path, found: list[dict[str, str]]) -> str:
    about = (folder / "recipe.toml").read_text(encoding="utf-8")
    spent = sorted({int(r["fit_seconds"]) for r in found if r["predictor"] == "gennape"})
    seconds = f"{spent[0]} – {spent[-1]}"
    command = next(line.partition(" = ")[2].strip('"') for line in about.splitlines() if line.startswith("command"))
    return f"""# {folder.name}

Family `gennape`; predicts {METRIC}.
Learnt from the rows of NAS-Bench-101 in nb101_20k.csv.gz (Apache-2.0), 80/10/10 by network; saved: the first seed.
Mean ± standard deviation over the seeds; intervals are 90 %; "above trees" is the difference in τ-b on the same seeds and sets, ± its 90 % interval. "MACs alone" and "parameters alone" rank the same networks.

{text}

Fitting took one thread {seconds} seconds a seed, with other processes on the machine (2 cores of an AMD EPYC).

"No label": every network of the family is ranked by rank scores, the equal-weight mean of two members (a forest on graph statistics that
learnt the same labels, and MACs); NAS-Bench-101's labels promise no level there, so `predict` abstains. These two were chosen among four
members (the label ensemble, the FLOPs-scaled ensemble, forest, MACs) by looking at these families. "50 labels": the predictor is fine-tuned on
50 random networks and judged on the rest, four sets a seed. "Trees" learnt from the same rows. Where a number is below MACs alone, MACs are the
better guide.

Made by

```
{command}
```
"""


if __name__ == "__main__":
    main()
