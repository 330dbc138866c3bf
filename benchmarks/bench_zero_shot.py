"""Without a label: what `gennape-nb101` ranks in other families, beside counts and every zero-cost proxy, and together with three of them.

Proxies are those published for the family where there are some, else computed by `nasplat.proxies` for at most 150 random networks at initial
weights. "structure + proxies" is the mean rank of the structure's score and of the mean rank of jacov, nwot and synflow (those that are there), chosen among eight
such sets by looking at NAS-Bench-201, CIFAR-10. The paired interval is that of Spearman's ρ above MACs' over 1,000 resamplings of the networks. "Ceilings" says how
far two sources of the same label agree; above it lies nothing but noise.

One row per (family, method) is written; families present are skipped.

    python benchmarks/bench_zero_shot.py --data nas --cache cache
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from families import FAMILIES, load

import nasplat
from nasplat.errors import NasplatError
from nasplat.runs.folder import hardware, versions
from nasplat.tables.metrics import kendall_tau, mean_rank, ndcg_at, spearman_rho
from nasplat.workflows.labelled import Labelled

PREDICTOR = "gennape-nb101"
THREE = ("jacov", "nwot", "synflow")
MOST = 150
"""Networks whose proxies are computed here."""
COLUMNS = (
    "family",
    "method",
    "information",
    "n",
    "subset",
    "failures",
    "kendall_tau",
    "spearman_rho",
    "top_tenth_tau",
    "ndcg_at_10",
)
COLUMNS += ("above_macs", "low", "high")
Vector = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Source:
    """A family and where its proxies come from."""

    family: str
    file: str = ""
    """Of published proxies; empty: computed here."""
    key: str = "arch_str"
    suffix: str = ""
    where: tuple[str, str] = ("", "")
    without: str = ""
    image: int = 0
    """Side of the inputs that proxies are computed on; 0: the space's own."""


NB201 = "nb201_zerocost_9445.csv.gz"
SOURCES = {
    "NAS-Bench-201, CIFAR-10": Source("nb201_c10", NB201, suffix="_c10"),
    "NAS-Bench-201, CIFAR-10, without none": Source("nb201_c10", NB201, suffix="_c10", without="none"),
    "NAS-Bench-201, CIFAR-100": Source("nb201_c100", NB201, suffix="_c10"),
    "NAS-Bench-201, ImageNet16-120": Source("nb201_in16", NB201, suffix="_in16"),
    "TransNAS micro, object": Source("tnb_object", "tnb101_micro_zerocost_711.csv.gz", where=("task", "class_object")),
    "DARTS, surrogate": Source("darts_surrogate", "darts_nb301_surrogate_725.csv.gz", "genotype"),
    "NAS-Bench-Macro": Source("nb_macro"),
    "Accel-NASBench": Source("accel", image=96),
    "PiT, CIFAR-100": Source("vit_pit"),
}
NO_PROXY = {
    "arch_index",
    "arch_str",
    "genotype",
    "task",
    "dataset",
    "flops_m",
    "params_m",
    "val_accuracy",
    "surrogate_val_acc",
}
NO_PROXY |= {"val_metric_best_epoch"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Folder of the tables.")
    parser.add_argument(
        "--cache", type=Path, required=True, help="Folder of captured graphs; made where it is missing."
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "zero_shot.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.out.exists():
        arguments.out.parent.mkdir(exist_ok=True)
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    present = {r["family"] for r in rows(arguments.out)}
    for name, source in SOURCES.items():
        if name not in present:
            found = list(judged(name, source, arguments.data, arguments.cache))
            with arguments.out.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerows(found)
            print(f"{name}: {found[0]['n']} networks", flush=True)
    print(f"\n{hardware()}, {versions()}\n\n{summary(rows(arguments.out))}\n\n{ceilings(arguments.data)}")


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(file: Path) -> list[dict[str, str]]:
    with gzip.open(file, "rt", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def published(source: Source, data: Labelled, file: Path) -> tuple[list[int], dict[str, Vector], int]:
    """Places of the networks whose proxies are published, and those; isomorphic networks have their mean."""
    space = nasplat.load_space(FAMILIES[source.family].space, **FAMILIES[source.family].presets)
    kept = [r for r in table(file) if not source.where[0] or r[source.where[0]] == source.where[1]]
    names = [k for k in kept[0] if k not in NO_PROXY and k.endswith(source.suffix)]
    values: dict[Any, list[list[float]]] = {}
    for row in kept:
        values.setdefault(space.parse(row[source.key]).canonical(), []).append([float(row[n] or "nan") for n in names])
    known = [values.get(space.parse(a).canonical()) for a in data.architectures]
    places = [i for i, v in enumerate(known) if v is not None]
    means = np.array([np.nanmean(known[i] or [], 0) for i in places])
    return places, {n.removesuffix(source.suffix): means[:, j] for j, n in enumerate(names)}, 0


def computed(source: Source, data: Labelled) -> tuple[list[int], dict[str, Vector], int]:
    """The same of a few random networks, by our own proxies."""
    space = nasplat.load_space(FAMILIES[source.family].space, **FAMILIES[source.family].presets)
    order = random.Random(f"zero shot {source.family}").sample(range(len(data.labels)), min(MOST, len(data.labels)))
    found, failures = {}, 0
    for number, place in enumerate(sorted(order)):
        torch.manual_seed(number)  # of the initial weights
        module, shape = space.construct(space.parse(data.architectures[place]))
        if source.image:
            shape = (*shape[:2], source.image, source.image)
        try:
            found[place] = nasplat.proxies(module, shape, batch_size=16, seed=number)
        except (NasplatError, RuntimeError, ValueError) as err:
            failures += 1
            print(f"{source.family} {place}: {type(err).__name__}: {str(err)[:100]}", flush=True)
        if number % 25 == 24:
            print(f"{source.family}: proxies of {number + 1} of {len(order)}", flush=True)
    names = next(iter(found.values()))
    return list(found), {n: np.array([row[n] for row in found.values()]) for n in names}, failures


def judged(name: str, source: Source, tables: Path, cache: Path) -> Iterator[dict[str, Any]]:
    data = load(source.family, tables, cache)
    if source.without:
        data = data.take([i for i, a in enumerate(data.architectures) if source.without not in a])
    places, known, failures = published(source, data, tables / source.file) if source.file else computed(source, data)
    data = data.take(places)
    y = np.array(data.labels)
    best = y >= np.quantile(y, 0.9)
    finite = {k: np.where(np.isfinite(v), v, np.nanmin(v)) for k, v in known.items()}
    structure = np.array(nasplat.load_predictor(PREDICTOR).rank_scores(data.views))
    three = mean_rank(*(finite[k] for k in THREE if k in finite))
    methods: dict[str, tuple[str, Vector]] = {
        "MACs": ("counts", np.array([v.macs for v in data.views], np.float64)),
        "parameters": ("counts", np.array([v.params for v in data.views], np.float64)),
        PREDICTOR: ("structure", structure),
        "structure + proxies": ("structure, proxies", mean_rank(structure, three)),
        "jacov, nwot, synflow": ("proxies", three),
    } | {k: ("one proxy", v) for k, v in finite.items()}
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(y), len(y)) for _ in range(1000)]
    floor = [spearman_rho(methods["MACs"][1][d], y[d]) for d in drawn]
    subset = sha256("\n".join(sorted(data.architectures)).encode()).hexdigest()[:12]
    for method, (information, scores) in methods.items():
        above = np.array([spearman_rho(scores[d], y[d]) - f for d, f in zip(drawn, floor, strict=True)])
        row = dict(zip(COLUMNS, (name, method, information, len(y), subset, failures), strict=False))
        row |= {"kendall_tau": kendall_tau(scores, y), "spearman_rho": spearman_rho(scores, y)}
        row |= {"top_tenth_tau": kendall_tau(scores[best], y[best]), "ndcg_at_10": ndcg_at(10, scores, y)}
        rho = spearman_rho(methods["MACs"][1], y)
        yield row | {
            "above_macs": row["spearman_rho"] - rho,
            "low": np.quantile(above, 0.05),
            "high": np.quantile(above, 0.95),
        }


def summary(found: list[dict[str, str]]) -> str:
    lines = [
        "| family | networks | method | information | τ-b | ρ | ρ above MACs [90 %] | τ-b in the best tenth | NDCG@10 |",
        "|---" * 9 + "|",
    ]
    for family in dict.fromkeys(r["family"] for r in found):
        mine = [r for r in found if r["family"] == family]
        alone = [r for r in mine if r["information"] == "one proxy"]
        best = max(alone, key=lambda r: float(r["spearman_rho"]))
        for r in [
            *(r for r in mine if r not in alone),
            best | {"method": f"best of {len(alone)} proxies: {best['method']}"},
        ]:
            above = f"{float(r['above_macs']):+.3f} [{float(r['low']):+.3f}, {float(r['high']):+.3f}]"
            cells = [f"{float(r[c]):.3f}" for c in ("kendall_tau", "spearman_rho")]
            ends = [f"{float(r[c]):.3f}" for c in ("top_tenth_tau", "ndcg_at_10")]
            lines.append(
                f"| {family} | {r['n']} | {r['method']} | {r['information']} | {' | '.join(cells)} | {above} | {' | '.join(ends)} |"
            )
    return "\n".join(lines)


def ceilings(data: Path) -> str:
    """Agreement of two sources of one label."""
    cells = table(data / "nb201.csv.gz")
    macro = table(data / "nb_macro.csv.gz")
    transformers = [r for r in table(data / "vit_autoprox.csv.gz") if r["space"] == "PiT"]
    pairs: dict[str, tuple[list[str], list[str]]] = {
        f"NAS-Bench-201, {n}: validation (one run), test (mean of runs)": (
            [r[f"{k}_val_200ep"] for r in cells],
            [r[f"{k}_test_200ep"] for r in cells],
        )
        for n, k in (("CIFAR-10", "c10"), ("CIFAR-100", "c100"), ("ImageNet16-120", "in16"))
    }
    pairs["NAS-Bench-Macro: first and second run"] = (
        [r["test_acc_run1"] for r in macro],
        [r["test_acc_run2"] for r in macro],
    )
    recipes = ("cifar100_base_acc", "cifar100_kd_acc")
    pairs["PiT, CIFAR-100: two training recipes"] = tuple([r[k] for r in transformers] for k in recipes)  # type: ignore[assignment]
    lines = ["| label | networks | τ-b | ρ | τ-b in the best tenth |", "|---" * 5 + "|"]
    for name, (first, second) in pairs.items():
        known = [(float(a), float(b)) for a, b in zip(first, second, strict=True) if a and b]
        a, b = np.array(known).T
        best = b >= np.quantile(b, 0.9)
        values = (kendall_tau(a, b), spearman_rho(a, b), kendall_tau(a[best], b[best]))
        lines.append(f"| {name} | {len(known)} | " + " | ".join(f"{v:.3f}" for v in values) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
