"""One predictor, many tasks: TransNAS-Bench-101's seven tasks, each answered by adapters that learnt the others.

Cells are split once per seed by network: 60 % train adapters and heads, from 10 % the labels of the target task are drawn, 30 % are judged; no cell that is
judged, nor another one of the same function, was seen with any task's label. The encoder is that of the shipped `gennape-nb101`, frozen. `adapters` are AIO-P, `backbone` the same heads without adapters,
`one encoder, N labels` fine-tunes that predictor on the target's labels alone; MACs and parameters stand beside them. Standardised answers are
averaged over source tasks; 20 labels give mean and spread (zero-shot), teach a Gaussian process what the mean of the paths leaves
(`process`), or tune what a mode names. `encoder alone` is its
answer for NAS-Bench-101, moved and stretched by 20 labels. Across spaces, the sources are NAS-Bench-201's three data sets, or the targets. One row per (target, method, sources, labels, seed) is
appended; those present are skipped.

    python benchmarks/bench_aiop.py --data nas --cache cache --seeds 0 1 2 3 4
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from families import FAMILIES, Family, load
from numpy.typing import NDArray

import nasplat
from nasplat.features.view import View
from nasplat.predict.aiop import Aiop
from nasplat.runs.folder import hardware, versions
from nasplat.tables.metrics import kendall_tau, spearman_rho
from nasplat.tables.splits import hold_out

TASKS = ("scene", "object", "room", "jigsaw", "segmentation", "normal", "autoencoder")
COLUMNS = ("target", "method", "sources", "labels", "seed", "n", "spearman", "kendall", "mae", "range", "seconds")
COLUMN_OF = {
    "room": "room_layout_val_neg_loss_final",
    "segmentation": "segmentsemantic_val_acc_final",
    "normal": "normal_val_ssim_final",
    "autoencoder": "autoencoder_val_ssim_final",
}
MODES = ("heads", "heads and encoder", "heads and adapters", "adaproxy")
OWN = "the task's own adapter, process"
"""What is left when a task's own labels, of all networks that are learnt, are known."""
LEARNT = 1500
"""Networks of a space that are learnt, and as many judged, across spaces."""
Matrix = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--scalings", nargs="+", default=["standard", "flops"])
    parser.add_argument("--tune", action="store_true", help="Modes of fine-tuning too, which take minutes each.")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES, help="Of --tune.")
    parser.add_argument("--cross", action="store_true", help="From NAS-Bench-201 to these tasks and back, instead.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "aiop.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    views, labels, networks = data(arguments)
    for seed in arguments.seeds:
        if arguments.cross:
            cross(seed, views, labels, arguments)
        else:
            run(seed, views, labels, networks, arguments)
    print(f"\n{hardware()}, {versions()}\n\n{summary(rows(arguments.out))}")


def data(arguments: argparse.Namespace) -> tuple[list[View], Matrix, list[str]]:
    """Views of all distinct computations, their labels, shape (computations, tasks), and the network of each."""
    for name, column in COLUMN_OF.items():
        FAMILIES.setdefault(f"tnb_{name}", Family("tnb101_micro.csv.gz", "transnas_micro", column, "MIT"))
    found = [load(f"tnb_{t}", arguments.data, arguments.cache, 2) for t in TASKS]
    keys = [k for k in found[0].keys if all(k in set(f.keys) for f in found)]
    places = [{k: i for i, k in enumerate(f.keys)} for f in found]
    labels = np.array([[f.labels[p[k]] for f, p in zip(found, places, strict=True)] for k in keys])
    rows = [places[0][k] for k in keys]
    return [found[0].views[i] for i in rows], labels, [found[0].groups[i] for i in rows]


def run(seed: int, views: list[View], labels: Matrix, networks: list[str], arguments: argparse.Namespace) -> None:
    # no network is on two sides: cells of one function have labels that agree but for the noise of training
    train, rest = hold_out(networks, int(0.6 * len(views)), np.random.default_rng(seed))
    drawn, others = hold_out([networks[i] for i in rest], int(0.1 * len(views)), np.random.default_rng(seed))
    pool, test = rest[drawn], rest[others]
    base = nasplat.load_predictor("gennape-nb101")  # never saw a label of this space, which the universal one did
    shown, judged = [views[i] for i in train], [views[i] for i in test]
    for target in TASKS:
        truth = labels[test, TASKS.index(target)]
        for name, answer in (
            ("MACs", [float(v.macs) for v in judged]),
            ("parameters", [float(v.params) for v in judged]),
        ):
            add(arguments, target, name, "", 0, seed, truth, np.array(answer), None, 0.0)
    for scaling in arguments.scalings:
        for method, width in (("adapters", 32), ("backbone", 0)):
            names = {("none", 20): f"{method}, {scaling}"}
            if scaling == "standard":
                names |= {("gaussian process", n): f"{method}, {scaling}, process" for n in (20, 50)}
            wanted = [
                (t, s, mode, n)
                for mode, n in names
                for t in TASKS
                for s in (sources(t) if n == 20 else sources(t)[:1])
                if not present(arguments, t, names[mode, n], s, n, seed)
            ]
            if width and scaling == "standard":
                wanted += [
                    (t, (t,), "gaussian process", 20) for t in TASKS if not present(arguments, t, OWN, (t,), 20, seed)
                ]
            if not wanted and not (arguments.tune and width and scaling == "standard"):
                continue
            model, seconds = fitted(scaling, width, seed, shown, labels[train], base, arguments)
            print(f"seed {seed}: {method}, {scaling}: {seconds:.0f} s for {len(TASKS)} tasks", flush=True)
            states = encoded(model, [*judged, *(views[i] for i in pool)]) if wanted else {}
            for target, some, mode, n in wanted:
                part = model.only(some)
                part._states = states  # the same for all parts
                y = labels[pool[:n], TASKS.index(target)]
                answers = np.array(part._tuned([views[i] for i in pool[:n]], y, mode, 0, 0.0).rank_scores(judged))
                truth = labels[test, TASKS.index(target)]
                name = OWN if some == (target,) else names[mode, n]
                add(arguments, target, name, some, n, seed, truth, answers, answers, seconds)
            if arguments.tune and width and scaling == "standard":
                tune(model, views, labels, pool, test, seed, arguments)
    own, known = np.array(base.rank_scores(judged)), pool[:20]
    start = np.array(base.rank_scores([views[i] for i in known]))
    for target in TASKS:
        y = labels[known, TASKS.index(target)]
        moved = (own - start.mean()) / start.std() * y.std() + y.mean()
        add(arguments, target, "encoder alone", (), 20, seed, labels[test, TASKS.index(target)], moved, moved, 0.0)
        for n in (20, 50):
            if not present(arguments, target, "one encoder", (), n, seed):
                y = labels[pool[:n], TASKS.index(target)]
                started = time.perf_counter()
                single = base.finetune([views[i] for i in pool[:n]], y.tolist(), seed)
                answers = np.array(single.rank_scores(judged))
                truth = labels[test, TASKS.index(target)]
                add(
                    arguments,
                    target,
                    "one encoder",
                    (),
                    n,
                    seed,
                    truth,
                    answers,
                    answers,
                    time.perf_counter() - started,
                )


def fitted(
    scaling: str, width: int, seed: int, shown: list[View], y: Matrix, base: Any, arguments: argparse.Namespace
) -> tuple[Aiop, float]:
    """Paths of all tasks, labels of shape (networks, tasks), and the seconds they took; kept in the cache."""
    folder = arguments.cache / f"aiop-network-{scaling}-{width}-{seed}-{arguments.epochs}"
    if (folder / "metrics.json").exists():
        return cast(Aiop, nasplat.load_predictor(folder)), json.loads((folder / "metrics.json").read_text())["seconds"]
    settings = {k: base.get_params()[k] for k in ("hidden", "layers", "embedding", "trunk")}
    started = time.perf_counter()
    model = Aiop(**settings, width=width, scaling=scaling, epochs=arguments.epochs, seed=seed)
    model.fit(shown * len(TASKS), y.T.ravel().tolist(), [t for t in TASKS for _ in shown], base.encoder_)
    seconds = time.perf_counter() - started
    model.save(folder, metrics={"seconds": seconds})
    return model, seconds


def encoded(model: Aiop, views: list[View]) -> dict[int, Any]:
    """What the frozen encoder answers, kept."""
    for v in views:
        model._seen(v)
    kept = dict(model._states)
    model._states.clear()
    return kept


def cross(seed: int, views: list[View], labels: Matrix, arguments: argparse.Namespace) -> None:
    """Adapters of one space's tasks answer for the other space's, after 20 labels."""
    names = ("nb201_c10", "nb201_c100", "nb201_in16")
    found = [load(n, arguments.data, arguments.cache, 2) for n in names]
    places = [{k: i for i, k in enumerate(f.keys)} for f in found]
    keys = [k for k in found[0].keys if all(k in p for p in places)]
    other = [found[0].views[places[0][k]] for k in keys]
    values = np.array([[f.labels[p[k]] for f, p in zip(found, places, strict=True)] for k in keys])
    base = nasplat.load_predictor("gennape-nb101")
    settings = {k: base.get_params()[k] for k in ("hidden", "layers", "embedding", "trunk")}
    spaces = {"transnas": (views, labels, TASKS), "nb201": (other, values, names)}
    for source, target in (("nb201", "transnas"), ("transnas", "nb201")):
        (seen, y, tasks), (asked, truth, targets) = spaces[source], spaces[target]
        rows = np.random.default_rng(seed).permutation(len(seen))[:LEARNT]
        order = np.random.default_rng(seed).permutation(len(asked))
        known, test = order[:20], order[20 : 20 + LEARNT]
        if all(present(arguments, t, f"across from {source}, process", tasks, 20, seed) for t in targets):
            continue
        started = time.perf_counter()
        model = Aiop(**settings, width=32, epochs=arguments.epochs, seed=seed)
        shown = [seen[i] for i in rows]
        columns = np.concatenate([y[rows, k] for k in range(len(tasks))])
        model.fit(shown * len(tasks), columns, [t for t in tasks for _ in rows], base.encoder_)  # type: ignore[attr-defined]
        seconds = time.perf_counter() - started
        for k, name in enumerate(targets):
            for mode, words in (("none", ""), ("gaussian process", ", process")):
                part = model._tuned([asked[i] for i in known], truth[known, k], mode, 0, 0.0)
                answers = np.array(part.rank_scores([asked[i] for i in test]))
                method = f"across from {source}{words}"
                add(arguments, name, method, tasks, 20, seed, truth[test, k], answers, answers, seconds)
        for k, name in enumerate(targets):
            if target == "nb201":
                for method, answer in (
                    ("MACs", [float(asked[i].macs) for i in test]),
                    ("parameters", [float(asked[i].params) for i in test]),
                ):
                    add(arguments, name, method, "", 0, seed, truth[test, k], np.array(answer), None, 0.0)


def tune(
    model: Aiop,
    views: list[View],
    labels: Matrix,
    pool: NDArray[np.int64],
    test: NDArray[np.int64],
    seed: int,
    arguments: argparse.Namespace,
) -> None:
    """All other tasks' adapters, tuned on 20 and on 50 labels of the target."""
    for target in TASKS:
        k = TASKS.index(target)
        others = sources(target)[0]
        for n in (20, 50):
            for mode in arguments.modes:
                if present(arguments, target, f"adapters, tuned: {mode}", others, n, seed):
                    continue
                started = time.perf_counter()
                part = model.only(others)._tuned(
                    [views[i] for i in pool[:n]], labels[pool[:n], k], mode, 100 * 20 // n, 1e-4
                )
                answers = np.array(part.rank_scores([views[i] for i in test]))
                seconds = time.perf_counter() - started
                add(
                    arguments,
                    target,
                    f"adapters, tuned: {mode}",
                    others,
                    n,
                    seed,
                    labels[test, k],
                    answers,
                    answers,
                    seconds,
                )


def sources(target: str) -> list[tuple[str, ...]]:
    """All other tasks, then every pair of them."""
    others = tuple(t for t in TASKS if t != target)
    return [others, *combinations(others, 2)]


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def present(arguments: argparse.Namespace, target: str, method: str, some: Any, n: int, seed: int) -> bool:
    key = (target, method, "+".join(some), str(n), str(seed))
    return any(tuple(r[c] for c in COLUMNS[:5]) == key for r in rows(arguments.out))


def add(
    arguments: argparse.Namespace,
    target: str,
    method: str,
    some: Any,
    n: int,
    seed: int,
    truth: Matrix,
    ranked: Matrix,
    values: Matrix | None,
    seconds: float,
) -> None:
    if present(arguments, target, method, some, n, seed):
        return
    mae = "" if values is None else f"{np.abs(values - truth).mean():.5g}"
    row = (
        target,
        method,
        "+".join(some),
        n,
        seed,
        len(truth),
        f"{spearman_rho(ranked, truth):.4f}",
        f"{kendall_tau(ranked, truth):.4f}",
        mae,
    )
    with arguments.out.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow((*row, f"{np.ptp(truth):.5g}", round(seconds)))


def summary(found: list[dict[str, str]]) -> str:
    """Spearman, mean over seeds with its standard error; and MAE as a share of the labels' range."""
    tasks = [*TASKS, *sorted({r["target"] for r in found} - set(TASKS))]
    lines = [f"| method | {' | '.join(tasks)} |", "|---" * (len(tasks) + 1) + "|"]
    kinds = sorted({(r["method"], r["labels"], min(2, r["sources"].count("+"))) for r in found})
    for method, n, many in kinds:
        cells = []
        for target in tasks:
            some = [
                r
                for r in found
                if (r["target"], r["method"], r["labels"]) == (target, method, n)
                and min(2, r["sources"].count("+")) == many
            ]
            rho = [float(r["spearman"]) for r in some]
            mae = [100 * float(r["mae"]) / float(r["range"]) for r in some if r["mae"]]
            error = f" ± {np.std(rho, ddof=1) / len(rho) ** 0.5:.3f}" if len(rho) > 1 else ""
            cells.append(f"{np.mean(rho):.3f}{error}" + (f" ({np.mean(mae):.1f} %)" if mae else "") if rho else "")
        what = {0: "", 1: ", pairs of sources", 2: ", all others"}[many]
        lines.append(f"| {method}{what}{f', {n} labels' if n != '0' else ''} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
