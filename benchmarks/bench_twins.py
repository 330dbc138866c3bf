"""What networks of one function give away: figures on splits that part them, without them, and on splits that do not.

Boosted trees learn a family split by computation, as tables were split before networks of one function were kept together, and are judged on the test
part, on its rows that have no twin among the learnt ones, and on the twins alone; then they learn and are judged on the split by network. `--predictor`
names a predictor's folder that learnt the split by computation of seed 0, and is judged on these parts beside them. `gennape-nb101` is fine-tuned on 50 random
rows and judged on all others, then without the twins of the fifty. One line of a table each. Reads the tables of `families.py`.

    python benchmarks/bench_twins.py --data nas --cache cache --seeds 0
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench_gennape import remember
from families import load

import nasplat
from nasplat.runs.folder import hardware, versions
from nasplat.tables.listing import Listing
from nasplat.tables.splits import by_number
from nasplat.workflows.evaluate import Evaluation, evaluate
from nasplat.workflows.labelled import Labelled, split

FEW, DRAWS = 50, 4
COLUMNS = [
    "family",
    "predictor",
    "judged on",
    "networks",
    "τ-b",
    "ρ",
    "MAE",
    "90 % interval covers",
    "τ-b MACs",
    "τ-b parameters",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--families", nargs="+", default=["nb201_c10"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--predictor", help="Folder of a predictor that learnt the split by computation of seed 0.")
    parser.add_argument("--few", nargs="*", default=["nb201_c10", "nb201_c100", "nb201_in16", "tnb_object"])
    arguments = parser.parse_args()
    rows: list[list[str]] = []
    for family in arguments.families:
        data = load(family, arguments.data, arguments.cache)
        for seed in arguments.seeds:
            rows += trees(family, data, seed)
        if arguments.predictor is not None:
            parts = parted(data, 0)[1]
            loaded = nasplat.load_predictor(arguments.predictor)
            rows += [line(family, "as shipped", name, evaluate(loaded, part)) for name, part in parts.items()]
    for family in arguments.few:
        rows += list(tuned(family, load(family, arguments.data, arguments.cache)))
    print(f"\n{hardware()}, {versions()}\n\n{Listing(COLUMNS, rows).markdown()}")


def parted(data: Labelled, seed: int) -> tuple[Labelled, dict[str, Labelled]]:
    """What is learnt of the split by computation, and the parts that are judged."""
    network = dict(zip(data.architectures, data.groups, strict=True))
    learnt, _, test = split(replace(data, networks=None), seed)
    known = {network[a] for a in learnt.architectures}
    has_twin = [network[a] in known for a in test.architectures]
    alone, twins = ([i for i, t in enumerate(has_twin) if t == wanted] for wanted in (False, True))
    parts = {"all": test, "without twins": test.take(alone), "twins alone": test.take(twins)}
    return learnt, {name: part for name, part in parts.items() if len(part.labels) > 1}


def trees(family: str, data: Labelled, seed: int) -> list[list[str]]:
    learnt, parts = parted(data, seed)
    name = f"trees, split by computation, seed {seed}"
    model = nasplat.Trees(seed=seed).fit(learnt.views, learnt.labels)
    found = [line(family, name, part, evaluate(model, judged)) for part, judged in parts.items()]
    train, _, test = split(data, seed)
    model = nasplat.Trees(seed=seed).fit(train.views, train.labels, train.groups)
    return [*found, line(family, f"trees, split by network, seed {seed}", "all", evaluate(model, test))]


def tuned(family: str, data: Labelled) -> Iterator[list[str]]:
    base: Any = nasplat.load_predictor("gennape-nb101")
    remember(base, data.views)
    for draw in range(DRAWS):
        few, rest = by_number(len(data.labels), FEW, draw)
        apart = by_number(len(data.labels), FEW, draw, groups=data.groups)[1]
        shown = data.take(few)
        model = base.finetune(shown.views, shown.labels, 0, groups=shown.groups)
        for part, judged in (("all", rest), ("without twins", apart)):
            yield line(family, f"gennape-nb101, {FEW} labels, draw {draw}", part, evaluate(model, data.take(judged)))


def line(family: str, predictor: str, part: str, found: Evaluation) -> list[str]:
    error, covered = found.mean_absolute_error or 0.0, found.interval_coverage or 0.0
    return [
        *(family, predictor, part, str(found.n), f"{found.kendall_tau:.3f}", f"{found.spearman_rho:.3f}"),
        *(f"{error:.3f}", f"{covered:.1%}", f"{found.macs_tau:.3f}", f"{found.params_tau:.3f}"),
    ]


if __name__ == "__main__":
    main()
