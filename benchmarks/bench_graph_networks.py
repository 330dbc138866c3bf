"""Graph networks, where size says nothing: rank agreement on NAS-Bench-Graph from few labels, and from other data sets.

Every eighth row of the table, each another network (branches in order, skips left out), is learnt from or tested. Inputs of the learner are what a
network's expression `gcn(fc(out),gat(out))` says: how often each operation stands, at which depth, behind which other, on how many ways from input to
output. Labels are normal scores; ridge regression, extra trees and boosted trees answer together. Methods:

    params, macs, depth       of the network at the data set's size; depth counts operations on the longest way
    additive                  each operation's mean effect: ridge regression on how often each of the nine stands
    trees                     nasplat's boosted trees on statistics of captured graphs
    paths                     the learner above

Tasks: `50` and `200` labels of the data set; `others`, no label of it but of the seven other data sets, of half of the networks, tested on the other half (`even`
weighs the seven alike, `like` by how near nodes, edges, features and classes of the data sets are, with a width that agrees best among the seven
themselves); `others+50` and `others+200`, where the seven models' answers are further inputs. `limit` rows know more than any method may: validation
accuracy of the tested networks themselves; and the seven true labels of the tested networks, combined by the weights that fit the data set best.

One row per (data set, task, method, seed) is appended; those present are skipped.

    python benchmarks/bench_graph_networks.py --data nas
"""

from __future__ import annotations

import argparse
import csv
import gzip
import sys
from collections import Counter
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nasplat
from nasplat.features.statistics import features
from nasplat.learners.boosted import BoostedSettings, grow_boosted
from nasplat.learners.normal_scores import NormalScores
from nasplat.runs.folder import hardware, versions
from nasplat.tables.metrics import spearman_rho

Matrix = NDArray[np.float64]
SETS = ("cora", "citeseer", "pubmed", "cs", "physics", "photo", "computers", "arxiv")
EVERY = 8
FEW = (50, 200)
COLUMNS = ("data_set", "task", "method", "seed", "spearman_rho")
WIDTHS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 1e3)
"""Widths of the kernel that are tried."""
OPS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc")
CHECKED = 20
"""Networks whose sum of layers is compared with their captured MACs."""
REPEATED = 5
"""Times that another data set's answer stands among the inputs, beside some hundred columns of words."""
PENALTIES = np.logspace(-1, 5, 13)


class Networks:
    """A part of the table: labels by data set, sizes, and what the learners read."""

    def __init__(self, folder: Path) -> None:
        rows, sizes = (read(folder / f"{name}.csv.gz")[::EVERY] for name in ("nasbench_graph", "nasbench_graph_hw"))
        space = nasplat.load_space("nasbench_graph")
        self.members = [space.parse(f"{row['link']}:{row['ops']}") for row in rows]
        keys = [a.network_key for a in self.members]
        assert len(set(keys)) == len(keys), "one network in two rows"
        sound = np.array([row["physics_mixed"] == "0" for row in rows])
        self.test, self.valid = (
            np.array([[float(row[f"{s}_{part}"]) for s in SETS] for row in rows]) for part in ("test", "valid")
        )
        for labels in (self.test, self.valid):
            labels[~sound, SETS.index("physics")] = np.nan  # means of unequal runs
        self.params = np.array([[float(row[f"{s}_params"]) for s in SETS] for row in sizes])
        self.macs = np.array([macs(s, self.members) for s in SETS]).T
        ways = [ways_of(key) for key in keys]
        self.depth = np.array([max(map(len, found)) for found in ways], np.float64)
        self.counts = table([Counter(operations(a)) for a in self.members])
        self.paths = table([words(key, found) for key, found in zip(keys, ways, strict=True)])

    @cached_property
    def statistics(self) -> Matrix:
        """Statistics of each network's captured graph at the small size, as nasplat's trees read them."""
        return np.array([[*features(a.graph()).values()] for a in self.members])


def read(file: Path) -> list[dict[str, str]]:
    with gzip.open(file, "rt", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def operations(architecture: nasplat.Architecture) -> list[str]:
    return [str(architecture.choices[f"node{i}"]) for i in range(1, 5)]


def tree(key: str) -> list[Any]:
    """Branches of an expression as (operation, its branches); `out` is ('out', [])."""
    stack: list[list[Any]] = [[]]
    for word in key.replace("(", " ( ").replace(")", " ) ").replace(",", " ").split():
        if word == "(":
            stack.append(stack[-1][-1][1])
        elif word == ")":
            stack.pop()
        else:
            stack[-1].append((word, []))
    return stack[0]


def ways_of(key: str) -> list[tuple[str, ...]]:
    """Operations on every way from the input to what the head reads."""

    def follow(branches: list[Any], before: tuple[str, ...]) -> list[tuple[str, ...]]:
        return [way for op, behind in branches for way in ([before] if op == "out" else follow(behind, (*before, op)))]

    return follow(tree(key), ())


def words(key: str, ways: list[tuple[str, ...]]) -> Counter[Any]:
    """How often each operation stands, where, behind which other, and on how many ways."""
    found: Counter[Any] = Counter()

    def count(branches: list[Any], depth: int, before: str) -> None:
        for op, behind in branches:
            if op != "out":
                found.update([("op", op), ("at", op, depth), ("pair", before, op)])
                count(behind, depth + 1, op)

    count(tree(key), 0, "in")
    moved = [sum(op != "fc" for op in way) for way in ways]  # hops along edges that a way makes
    for way, hops in zip(ways, moved, strict=True):
        found.update([("last", way[-1] if way else "in"), ("length", len(way)), ("hops", hops)])
        found.update(("on", op) for op in set(way))
    for op in {op for way in ways for op in way}:
        found["has", op] = 1
        found["most", op], found["least", op] = max(w.count(op) for w in ways), min(w.count(op) for w in ways)
    found |= Counter({"ways": len(ways), "longest": max(map(len, ways)), "shortest": min(map(len, ways))})
    found |= Counter({"most hops": max(moved), "least hops": min(moved)})
    return found


def table(counters: list[Counter[Any]]) -> Matrix:
    """One row a network, one column a word."""
    place = {w: i for i, w in enumerate(sorted({w for c in counters for w in c}, key=str))}
    made = np.zeros((len(counters), len(place)))
    for row, counter in zip(made, counters, strict=True):
        for word, n in counter.items():
            row[place[word]] = n
    return made


def macs(data: str, members: list[nasplat.Architecture]) -> list[float]:
    """MACs at a data set's size: a layer's depend on its operation and on what it reads, and are captured once."""
    space, size = nasplat.load_space("nasbench_graph", data=data), sizes()[data]
    first = size.width if size.before else size.features
    before = size.nodes * size.features * size.width if size.before else 0

    def whole(text: str) -> int:
        return space.parse(text).graph().macs

    def head(joined: int) -> int:
        return size.nodes * (joined * size.width + size.width * size.classes if size.behind else joined * size.classes)

    rest = before + head(size.width)
    raw = {op: whole(f"0123:{op},skip,skip,skip") - rest for op in OPS} | {"skip": 0}
    inner = {op: whole(f"0123:fc,{op},skip,skip") - rest - raw["fc"] for op in OPS} | {"skip": 0}

    def total(link: str, names: list[str]) -> int:
        widths, is_raw, found = [first], [True], before
        for source, op in zip(map(int, link), names, strict=True):
            found += (raw if is_raw[source] else inner)[op]
            widths.append(widths[source] if op == "skip" else size.width)
            is_raw.append(is_raw[source] and op == "skip")
        return found + head(sum(widths[i] for i in range(1, 5) if str(i) not in link))

    found = [total(str(a.choices["link"]), operations(a)) for a in members]
    for i in np.random.default_rng(0).permutation(len(members))[:CHECKED].tolist():
        assert found[i] == whole(space.format(members[i])), space.format(members[i])
    return [float(n) for n in found]


def sizes() -> dict[str, Any]:
    """Sizes of the data sets, as the space has them."""
    return sys.modules[nasplat.load_space("nasbench_graph").function.__module__].DATA


# -- learners ----------------------------------------------------------------------------------------------------------


def ridge(x: Matrix, y: Matrix, z: Matrix) -> Matrix:
    """Answers of a linear map, whose penalty is chosen by leaving one out."""
    return make_pipeline(StandardScaler(), RidgeCV(PENALTIES)).fit(x, y).predict(z)


def together(x: Matrix, y: Matrix, z: Matrix, seed: int) -> Matrix:
    """Answers of ridge regression, extra trees and boosted trees, each as far spread as the others."""
    trees = ExtraTreesRegressor(200, min_samples_leaf=2, max_features=0.4, random_state=seed)
    boosted = GradientBoostingRegressor(
        n_estimators=200, learning_rate=0.05, subsample=0.7, max_features=0.3, random_state=seed
    )
    answers = [ridge(x, y, z), trees.fit(x, y).predict(z), boosted.fit(x, y).predict(z)]
    return np.sum([a / max(float(a.std()), 1e-9) for a in answers], axis=0)


def scores(labels: Matrix) -> Matrix:
    return NormalScores.learn(labels).forward(labels)


def alike(answers: Matrix, target: int, sources: list[int], width: float) -> Matrix:
    """Mean of the answers for several data sets, weighed by how near their sizes are to another's."""
    known = sizes()
    rows = np.log([[known[s].nodes, known[s].edges, known[s].features, known[s].classes] for s in SETS])
    apart = np.square((rows - rows[target]) / rows.std(0)).mean(1)[sources]
    weights = np.exp(-apart / width)
    return answers[:, sources] @ weights / weights.sum()


def best_width(answers: Matrix, truth: Matrix, sources: list[int]) -> float:
    """Width with which the data sets at hand are best answered from one another; rows are networks that were learnt."""

    def agreement(width: float) -> float:
        return mean(rho(alike(answers, t, [s for s in sources if s != t], width), truth[:, t]) for t in sources)

    return max(WIDTHS, key=agreement)


def rho(answers: Matrix, truth: Matrix) -> float:
    known = ~np.isnan(truth)
    return spearman_rho(answers[known].tolist(), truth[known].tolist())


# -- tasks -------------------------------------------------------------------------------------------------------------


def few(networks: Networks, target: int, labels: int, seed: int) -> dict[str, float]:
    """Agreement by method, from some labels of the data set itself."""
    y = networks.test[:, target]
    order = np.random.default_rng([seed, target]).permutation(np.flatnonzero(~np.isnan(y)))
    learnt, tested = order[:labels], order[labels:]
    wanted, statistics = scores(y[learnt]), networks.statistics
    boosted = grow_boosted(statistics[learnt], wanted, BoostedSettings(), seed)
    answers = {
        "params": networks.params[tested, target],
        "macs": networks.macs[tested, target],
        "depth": networks.depth[tested],
        "additive": ridge(networks.counts[learnt], wanted, networks.counts[tested]),
        "trees": boosted.answers(statistics[tested]).mean(0),
        "paths": together(networks.paths[learnt], wanted, networks.paths[tested], seed),
        "limit validation": networks.valid[tested, target],
    }
    return {method: rho(answer, y[tested]) for method, answer in answers.items()}


def others(networks: Networks, seed: int) -> dict[tuple[int, str, str], float]:
    """Agreement by data set, task and method, of networks of which no label of any data set was learnt.

    Half of the networks are learnt from. Their first fifth teaches no data set's model, so that answers for it are as
    good as those for the networks that are tested: it chooses the width, and labels of the data set come from there.
    """
    order = np.random.default_rng(seed).permutation(len(networks.members))
    half = len(order) // 2
    spare, learnt, tested = order[: half // 5], order[half // 5 : half], order[half:]
    asked = np.concatenate([spare, tested])
    models: dict[str, Matrix] = {}
    for method, x in (("additive", networks.counts), ("paths", networks.paths)):
        columns = []
        for t in range(len(SETS)):
            rows = learnt[~np.isnan(networks.test[learnt, t])]
            wanted = scores(networks.test[rows, t])
            answer = (
                ridge(x[rows], wanted, x[asked]) if method == "additive" else together(x[rows], wanted, x[asked], seed)
            )
            columns.append((answer - answer.mean()) / answer.std())
        models[method] = np.array(columns).T
    n, found = len(spare), {}
    for t in range(len(SETS)):
        sources, truth = [s for s in range(len(SETS)) if s != t], networks.test[:, t]
        for method, answers in models.items():
            width = best_width(answers[:n], networks.test[spare], sources)
            found[t, "others", f"{method}, even"] = rho(answers[n:, sources].mean(1), truth[tested])
            found[t, "others", f"{method}, like"] = rho(alike(answers[n:], t, sources, width), truth[tested])
        for size, name in ((networks.params[:, t], "params"), (networks.macs[:, t], "macs"), (networks.depth, "depth")):
            found[t, "others", name] = rho(size[tested], truth[tested])
        # the seven true labels of the tested networks themselves, with weights fitted to what is asked for
        known = tested[~np.isnan(networks.test[tested]).any(1)]
        true = np.array([scores(networks.test[known, s]) for s in range(len(SETS))]).T
        weights = np.linalg.lstsq(true[:, sources], true[:, t], rcond=None)[0]
        found[t, "others", "limit true labels"] = rho(true[:, sources] @ weights, truth[known])
        rows = np.flatnonzero(~np.isnan(truth[spare]))
        for labels in FEW:
            some = rows[:labels]
            wanted, more = scores(truth[spare[some]]), models["paths"][:, sources]
            x = np.hstack([networks.paths[asked], np.repeat(more, REPEATED, axis=1)])
            found[t, f"others+{labels}", "paths"] = rho(together(x[some], wanted, x[n:], seed), truth[tested])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "graph_networks.csv")
    arguments = parser.parse_args()
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    networks = Networks(arguments.data)
    print(f"{len(networks.members)} networks, {networks.paths.shape[1]} numbers each", flush=True)

    def append(data: str, task: str, method: str, seed: int, agreement: float) -> None:
        with arguments.out.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow([data, task, method, seed, round(agreement, 4)])

    for seed in arguments.seeds:
        present = {(r["data_set"], r["task"], int(r["seed"])) for r in rows(arguments.out)}
        for t, data in enumerate(SETS):
            for labels in FEW:
                if (data, str(labels), seed) not in present:
                    for method, agreement in few(networks, t, labels, seed).items():
                        append(data, str(labels), method, seed, agreement)
        if (SETS[-1], f"others+{FEW[-1]}", seed) not in present:
            for (t, task, method), agreement in others(networks, seed).items():
                append(SETS[t], task, method, seed, agreement)
    print(f"\n{hardware()}, {versions()}\n\n{summary(rows(arguments.out))}")


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summary(found: list[dict[str, str]]) -> str:
    """Table of the mean over seeds, and the spread of the last column over seeds."""
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in found:
        values.setdefault((row["task"], row["method"]), {}).setdefault(row["data_set"], []).append(
            float(row["spearman_rho"])
        )
    lines = [f"| labels | method | {' | '.join(SETS)} | mean |", "|---|---|" + "---|" * (len(SETS) + 1)]
    order = [*map(str, FEW), "others", *(f"others+{n}" for n in FEW)]
    for (task, method), of in sorted(values.items(), key=lambda item: order.index(item[0][0])):
        cells = [f"{mean(of[s]):.3f}" for s in SETS]
        each = [mean(v) for v in zip(*(of[s] for s in SETS), strict=True)]  # of one seed, over data sets
        spread = stdev(each) if len(each) > 1 else 0.0
        lines.append(f"| {task} | {method} | {' | '.join(cells)} | {mean(each):.3f} ± {spread:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
