"""What each part of GENNAPE adds: one setting changed at a time, every member judged inside the family and on others without a label.

Learns NAS-Bench-101 (80/10/10 by network) and appends one row per (configuration, seed, family, member); those present are skipped. "Frozen" keeps
the encoder as pretraining left it, as the paper does, so that what pretraining adds is seen alone. Members are those of `Gennape`, their
equal-weight means "paper" (label, scaled, pairwise, flops) and "default" (forest, flops).
A "plain ensemble" has clusters so fuzzy (m = 20) that every head counts equally.

    python benchmarks/bench_ablation.py --data nas --cache cache --seeds 0 1 2 --device cuda --workers 12
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from families import load

from nasplat.features.views_on_disk import load_views
from nasplat.predict.gennape import Gennape
from nasplat.runs.folder import hardware, versions
from nasplat.tables.metrics import kendall_tau, mean_absolute_error, spearman_rho
from nasplat.workflows.labelled import Labelled, split

FAMILIES = ("nb201_c10", "ofa_mbv3", "darts_surrogate", "tnb_object", "nb_macro", "accel", "vit_pit")
FROZEN = {"tune_epochs": 0, "pretrain_epochs": 15}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "no pretraining": {"pretrain_epochs": 0},
    "pretrained on all spaces": {"corpus": "graphs"},
    "and proxies": {"corpus": "proxies"},
    "proxies alone": {"corpus": "proxies", "contrast": 0.0},
    "one cluster": {"clusters": 1},
    "20 clusters": {"clusters": 20},
    "plain ensemble": {"fuzziness": 20.0},
    "kgnn": {"trunk": "kgnn"},
    "gin": {"trunk": "gin"},
    "gatv2": {"trunk": "gatv2"},
    "transformer": {"trunk": "transformer"},
    "frozen": FROZEN,
    "frozen, untrained": {"tune_epochs": 0, "pretrain_epochs": 0},
    "frozen, sign +1": FROZEN | {"sign": 1.0},
    "frozen, T = 0.01": FROZEN | {"temperature": 0.01},
    "frozen, T = 0.2": FROZEN | {"temperature": 0.2},
    "frozen, T = 1": FROZEN | {"temperature": 1.0},
    "frozen, augmented": FROZEN | {"views_by": "augment"},
    "frozen, one cluster": FROZEN | {"clusters": 1},
    "frozen, plain ensemble": FROZEN | {"fuzziness": 20.0},
    "frozen, kgnn": FROZEN | {"trunk": "kgnn"},
    "frozen, all spaces": FROZEN | {"corpus": "graphs"},
    "frozen, and proxies": FROZEN | {"corpus": "proxies"},
    "frozen, proxies alone": FROZEN | {"corpus": "proxies", "contrast": 0.0},
}
COLUMNS = (
    "configuration",
    "seed",
    "family",
    "member",
    "n",
    "kendall_tau",
    "spearman_rho",
    "mean_absolute_error",
    "fit_seconds",
)
MEANS = {"paper": ("label", "scaled", "pairwise", "flops"), "default": ("forest", "flops")}
_DATA: dict[str, Labelled] = {}
_UNLABELLED: list[Any] = []
_KNOWN: list[Any] = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Folder of the tables.")
    parser.add_argument(
        "--cache", type=Path, required=True, help="Folder of captured graphs; made where it is missing."
    )
    parser.add_argument("--corpus", type=Path, required=True, help="Folder of corpus.py.")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="*", help="Configurations; default all.", default=list(CONFIGURATIONS))
    parser.add_argument("--limit", type=float, default=1e9, help="Starts nothing new after so many seconds.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "ablation.csv")
    parser.add_argument("--rows", type=int, help="Labelled networks at most, to try the script out.")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if not arguments.out.exists():
        arguments.out.parent.mkdir(exist_ok=True)
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    present = {(r["configuration"], int(r["seed"])) for r in rows(arguments.out)}
    jobs = [(name, seed) for seed in arguments.seeds for name in arguments.only if (name, seed) not in present]
    context = multiprocessing.get_context("spawn")
    with context.Pool(
        arguments.workers, _start, (arguments.data, arguments.cache, arguments.corpus, arguments.device, arguments.rows)
    ) as pool:
        later = [(name, seed, arguments.device, time.time() + arguments.limit) for name, seed in jobs]
        for found in pool.imap_unordered(run, later):
            with arguments.out.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerows(found)
            if found:
                print(f"{found[0]['configuration']}, seed {found[0]['seed']}: {found[0]['fit_seconds']} s", flush=True)
    print(f"\n{hardware()}, {versions()}\n\n{summary(rows(arguments.out))}")


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _start(data: Path, cache: Path, corpus: Path, device: str, most: int | None) -> None:
    torch.set_num_threads(1)
    for name in ("nb101", *FAMILIES):
        found = load(name, data, cache)
        _DATA[name] = found.take(list(range(len(found.labels)))[: most or len(found.labels)])
    for file in sorted(corpus.glob("corpus_*.npz")):
        values = [list(row.values()) for row in json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))]
        _UNLABELLED.extend(load_views(file))
        _KNOWN.extend(_ranked(np.array(values, np.float64)))


def _ranked(values: np.ndarray) -> list[np.ndarray]:
    """Normal scores inside a space: proxies of different spaces have different scales."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=0, nan_policy="omit")
    return list(ndtri((ranks - 0.5) / np.isfinite(values).sum(0)))


def run(job: tuple[str, int, str, float]) -> list[dict[str, Any]]:
    name, seed, device, until = job
    if time.time() > until:
        return []
    settings = dict(CONFIGURATIONS[name])
    corpus = settings.pop("corpus", None)
    train, _, test = split(_DATA["nb101"], seed)
    started = time.perf_counter()
    more: dict[str, Any] = {}
    if corpus:
        more["unlabelled"] = _UNLABELLED
    if corpus == "proxies":
        more["known"] = np.array(_KNOWN)
    model = Gennape(seed=seed, device=device, **settings).fit(train.views, train.labels, **more)
    seconds = round(time.perf_counter() - started)
    found = []
    (middle, spread) = model.scales_[0]
    for family, data in {"nb101": test, **{f: _DATA[f] for f in FAMILIES}}.items():
        answers = model.answers(data.views)
        answers |= {k: np.mean([answers[m] for m in members], 0) for k, members in MEANS.items()}
        for member, values in answers.items():
            error = (
                mean_absolute_error(values * spread + middle, data.labels)
                if family == "nb101" and member != "flops"
                else ""
            )
            found.append(
                {"configuration": name, "seed": seed, "family": family, "member": member, "n": len(data.labels)}
                | {"kendall_tau": kendall_tau(values, data.labels), "spearman_rho": spearman_rho(values, data.labels)}
                | {"mean_absolute_error": error, "fit_seconds": seconds}
            )
    return found


def summary(found: list[dict[str, str]]) -> str:
    def cell(name: str, family: str, member: str, column: str = "spearman_rho") -> str:
        values = [
            float(r[column])
            for r in found
            if (r["configuration"], r["family"], r["member"]) == (name, family, member) and r[column]
        ]
        if not values:
            return "–"
        return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")

    others = [("nb201_c10", m) for m in ("label", "scaled", "pairwise", "paper", "default")]
    head = ["NB101 label ρ", "τ", "MAE", "scaled ρ", "pairwise ρ", *(f"NB201 {m} ρ" for _, m in others)]
    rest = [f for f in FAMILIES if f != "nb201_c10"]
    head += ["mean of the others: paper ρ", "default ρ"]
    lines = ["| configuration | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    for name in dict.fromkeys(r["configuration"] for r in found):
        cells = [cell(name, "nb101", "label"), cell(name, "nb101", "label", "kendall_tau")]
        cells += [
            cell(name, "nb101", "label", "mean_absolute_error"),
            cell(name, "nb101", "scaled"),
            cell(name, "nb101", "pairwise"),
        ]
        cells += [cell(name, family, member) for family, member in others]
        for member in ("paper", "default"):
            values = [
                float(r["spearman_rho"])
                for r in found
                if r["configuration"] == name and r["family"] in rest and r["member"] == member
            ]
            cells.append(f"{mean(values):.3f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
