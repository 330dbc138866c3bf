"""Few labels: rank agreement on the rest of a family after 10 to 4,236 labels, structure alone and with zero-cost proxies.

Rows are distinct networks (isomorphic ones are one, with the mean label), so none straddles; labels are drawn at random, the same for every method, 10
sets up to 200 labels and 5 above. NAS-Bench-201 are those of the 9,445 cells without unreachable operations that both tables hold, with the
published proxies as further statistics. Methods:

    trees                     boosted trees on graph statistics, nothing pretrained
    fine-tuned gennape        `gennape-nb101`, fine-tuned (not on its own family)
    fine-tuned universal      the universal predictor that never saw a label of the space, fine-tuned; its encoder has seen unlabelled graphs of it
    gennape                   fitted on these labels alone, its encoder pretrained on unlabelled graphs of all spaces (from 424 labels)
    … + proxies               the same with proxies as statistics
    …, ranking / …, both      its kernel machines learn which of two networks is better, or that and the label (up to 200 labels)
    …, chosen                 it chose the labelled networks among those that are not tested, spread over what it sees (up to 200 labels)

One row per (family, method, labels, split) is appended; those present are skipped.

    python benchmarks/bench_few.py --data nas --cache cache --corpus corpus
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from bench_base import corpus, everything, group, joined, licensed
from bench_gennape import remember
from families import load

import nasplat
from nasplat.features.view import with_proxies
from nasplat.learners.boosted import BoostedSettings, grow_boosted
from nasplat.predict.contract import counted
from nasplat.predict.gennape import Gennape
from nasplat.predict.universal import Universal
from nasplat.runs.folder import hardware, versions
from nasplat.tables.metrics import kendall_tau, ndcg_at, spearman_rho
from nasplat.workflows.labelled import Labelled, few

BUDGETS = {"nb201": (10, 20, 50, 78, 156, 469, 781), "nb101": (10, 20, 50, 100, 172, 424, 781, 4236)}
PROXIES = (
    "synflow_c10",
    "nwot_c10",
    "jacov_c10",
    "snip_c10",
    "grad_norm_c10",
    "zen_c10",
    "epe_nas_c10",
    "fisher_c10",
    "l2_norm_c10",
    "plain_c10",
)
COLUMNS = (
    "family",
    "method",
    "labels",
    "split",
    "n",
    "subset",
    "kendall_tau",
    "spearman_rho",
    "top_tenth_tau",
    "ndcg_at_10",
    "seconds",
)
MOST_TESTED = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "few.csv")
    parser.add_argument("--families", nargs="+", default=list(BUDGETS))
    parser.add_argument("--methods", nargs="+", help="Of these alone; default all.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.out.exists():
        arguments.out.parent.mkdir(exist_ok=True)
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    for family in arguments.families:
        run(family, arguments.data, arguments.cache, arguments.corpus, arguments.out, arguments.methods)
    print(f"\n{hardware()}, {versions()}\n\n{summary(rows(arguments.out))}")


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def with_published(data: Labelled, file: Path) -> Labelled:
    """The networks whose proxies are published, with them; isomorphic cells have their mean."""
    space = nasplat.load_space("nasbench201")
    with gzip.open(file, "rt", encoding="utf-8") as text:
        published = list(csv.DictReader(text))
    values: dict[Any, list[list[float]]] = {}
    for row in published:
        values.setdefault(space.parse(row["arch_str"]).canonical(), []).append(
            [float(row[p] or "nan") for p in PROXIES]
        )
    kept, found = [], []
    for i, text in enumerate(data.architectures):
        of = values.get(space.parse(text).canonical())
        if of is not None:
            kept.append(i)
            logs = np.sign(m := np.nan_to_num(np.nanmean(of, 0))) * np.log1p(np.abs(m))
            found.append(dict(zip(PROXIES, logs.tolist(), strict=True)))
    chosen = data.take(kept)
    return replace(chosen, views=with_proxies(chosen.views, found))


def without_proxies(data: Labelled) -> Labelled:
    views = [
        replace(v, statistics={k: s for k, s in v.statistics.items() if not k.startswith("proxy.")}) for v in data.views
    ]
    return replace(data, views=views)


def run(family: str, data: Path, cache: Path, folder: Path, out: Path, only: list[str] | None) -> None:
    full = load({"nb201": "nb201_c10"}.get(family, family), data, cache)
    if family == "nb201":
        full = with_published(full, data / "nb201_zerocost_9445.csv.gz")
    plain = without_proxies(full)
    present = {(r["method"], int(r["labels"]), int(r["split"])) for r in rows(out) if r["family"] == family}
    subset = sha256("\n".join(sorted(full.keys)).encode()).hexdigest()[:12]
    print(f"{family}: {len(full.labels)} networks, subset {subset}", flush=True)
    corpora = functools.cache(lambda: corpus(folder))

    @functools.cache
    def universal() -> Any:
        others = dict(everything(data, cache))
        names = [n for n in others if licensed(n) and group(n) != group({"nb201": "nb201_c10"}.get(family, family))]
        unlabelled, known = corpora()
        found = Universal().fit(*joined(others, names), unlabelled=unlabelled, known=known, validate=False)
        print(f"{family}: universal predictor without its space fitted", flush=True)
        return found

    @functools.cache
    def gennape() -> Any:
        return nasplat.load_predictor("gennape-nb101")

    def tuned(
        make: Callable[[], Any], source: Labelled, loss: str = "regression", chosen: bool = False
    ) -> Callable[[list[int], list[int]], Any]:
        described: list[Any] = []

        def answer(learn: list[int], test: list[int]) -> Any:
            base = make()
            if not described:
                remember(base, source.views)
                described.append(base.describe)
            vars(base)["describe"] = described[0]
            if chosen:
                apart = set(test)
                pool = [i for i in range(len(source.labels)) if i not in apart]
                learn = [pool[i] for i in base.choose([source.views[i] for i in pool], len(learn), learn[0])]
            shown = source.take(learn)
            fine = base.finetune(shown.views, shown.labels, 0, loss, shown.groups)
            return fine.rank_scores([source.views[i] for i in test])

        return answer

    def boosted(source: Labelled) -> Callable[[list[int], list[int]], Any]:
        x, y, settings = counted(source.views), np.array(source.labels), BoostedSettings(members=3, trees=200)
        return lambda learn, test: grow_boosted(x[learn], y[learn], settings, 0).answers(x[test]).mean(0)

    def alone(learn: list[int], test: list[int]) -> Any:
        chosen = plain.take(learn)
        model = Gennape(tune_epochs=60 if len(learn) < 1000 else 30).fit(
            chosen.views, chosen.labels, unlabelled=corpora()[0], known=corpora()[1]
        )
        return model.answers([plain.views[i] for i in test])["label"]

    methods: dict[str, Callable[[list[int], list[int]], Any]] = {
        "trees": boosted(plain),
        "fine-tuned universal": tuned(universal, plain),
    }
    if family == "nb201":
        methods["fine-tuned gennape"] = tuned(gennape, plain)
        methods["trees + proxies"] = boosted(full)
        methods["fine-tuned universal + proxies"] = tuned(universal, full)
        methods["fine-tuned gennape + proxies"] = tuned(gennape, full)
        methods["fine-tuned gennape, ranking"] = tuned(gennape, plain, "ranking")
        methods["fine-tuned gennape, both"] = tuned(gennape, plain, "both")
        methods["fine-tuned gennape, chosen"] = tuned(gennape, plain, chosen=True)
    else:
        methods["gennape"] = alone
    methods = {k: v for k, v in methods.items() if only is None or k in only}
    for count in BUDGETS[family]:
        for split in range(10 if count <= 200 else 5):
            numbered = replace(full, views=list(range(len(full.labels))))
            chosen, rest = few(numbered, count, split)
            learn, test = [int(v) for v in chosen.views], [int(v) for v in rest.views][:MOST_TESTED]  # type: ignore[call-overload]
            y = np.array(full.labels)[test]
            best = y >= np.quantile(y, 0.9)
            for method, answer in methods.items():
                small = method == "gennape" and (count < 424 or split > 2)
                large = (count > 3000 and method.startswith("fine-tuned")) or (count > 200 and "," in method)
                if (method, count, split) in present or small or large:
                    continue
                started = time.perf_counter()
                scores = np.asarray(answer(learn, test))
                row = dict(zip(COLUMNS, (family, method, count, split, len(test), subset), strict=False))
                row |= {"kendall_tau": kendall_tau(scores, y), "spearman_rho": spearman_rho(scores, y)}
                row |= {"top_tenth_tau": kendall_tau(scores[best], y[best]), "ndcg_at_10": ndcg_at(10, scores, y)}
                row["seconds"] = round(time.perf_counter() - started, 2)
                with out.open("a", encoding="utf-8", newline="") as file:
                    csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
        print(f"{family}: {count} labels done", flush=True)


def summary(found: list[dict[str, str]]) -> str:
    def spread(values: list[str]) -> str:
        numbers = [float(v) for v in values]
        return f"{mean(numbers):.3f}" + (f" ± {stdev(numbers):.3f}" if len(numbers) > 1 else "")

    lines = [
        "| family | labels | method | splits | τ-b | ρ | τ-b in the best tenth | NDCG@10 | seconds |",
        "|---" * 9 + "|",
    ]
    for family, count, method in sorted(
        {(r["family"], int(r["labels"]), r["method"]) for r in found}, key=lambda k: (k[0], k[1], k[2])
    ):
        mine = [r for r in found if (r["family"], int(r["labels"]), r["method"]) == (family, count, method)]
        cells = [spread([r[c] for r in mine]) for c in ("kendall_tau", "spearman_rho", "top_tenth_tau", "ndcg_at_10")]
        lines.append(
            f"| {family} | {count} | {method} | {len(mine)} | "
            + " | ".join(cells)
            + f" | {mean(float(r['seconds']) for r in mine):.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
