"""Language models: what tells their perplexity within one width, and where total size is a trap.

Tables are HW-GPT-Bench (perplexity with weights of a supernet; three scales of three widths each, judged within a width, where size says least)
and Archai's Litetransformersearch (trained language models; judged within a set, on one text). Ranks are Spearman's, of networks without labels.

    total, non-embedding, macs, depth   baselines: all parameters, those of the layers, multiply-accumulates of 128 tokens with the head, layers
    trees                               boosted trees on nasplat's graph statistics, from the labels of the same group alone
    placed                              a Gaussian process on what `nasplat.graph.decoding` reads from the graph: work and keys of each layer, as
                                        sums and as cosines along the depth; from the labels of the same group alone
    transferred                         no label of the group: what a ridge adds to the rank of non-embedding parameters, learnt from the other
                                        widths of the scale, from other scales or sets of the source, or from the other source

Everything is read from captured graphs; names of spaces are not looked at. One row per (group, method, labels, split) is appended to
results/language_models.csv; rows present are skipped.

    python benchmarks/bench_language_models.py --data nas --cache cache
"""

from __future__ import annotations

import argparse
import csv
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from families import LANGUAGE
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel
from sklearn.linear_model import Ridge

import nasplat
from nasplat.features.statistics import features
from nasplat.graph.decoding import decoding_of
from nasplat.learners.boosted import BoostedSettings, grow_boosted
from nasplat.runs.folder import hardware, versions
from nasplat.tables.metrics import spearman_rho

RESULTS = Path(__file__).parent / "results" / "language_models.csv"
COLUMNS = ("group", "method", "labels", "split", "n", "spearman_rho")
MOST = 150
"""Networks of a width that are captured; they are drawn with seed 0."""
WAVES = 4
"""Cosines along the depth."""
SPLITS = 10
BASELINES = ("total", "non-embedding", "macs", "depth")


def described(architecture: nasplat.Architecture) -> dict[str, Any]:
    """What a decoder's graph says of its layers, and the statistics that trees see."""
    graph = architecture.graph()
    found = decoding_of(graph)
    nodes = graph.nodes
    width = next(n.shape[-1] for n in nodes if n.op in {"layernorm", "rmsnorm"})
    # behind the last sum of the residual stream comes the head
    end = max(i for i, n in enumerate(nodes) if n.op == "add" and n.shape[1:] == (found.length, width))
    head = sum(m for i, m in enumerate(graph.node_macs) if i > end and nodes[i].op in {"linear", "matmul"})
    layers = [*found.tokens[1:-1], found.tokens[-1] - head // found.length]
    # the baseline knows how the space names its parts, what is learnt from does not
    body = sum(w.size for w in graph.weights if w.name.startswith(("layers.", "norm.")))
    biased = [bool(n.get("bias")) for i, n in enumerate(nodes) if n.op == "linear" and i <= end]
    table = max(n.shape[-1] for n in nodes if n.op == "embedding")
    return {
        "total": graph.params,
        "non-embedding": body,
        "macs": graph.macs,
        "depth": found.layers,
        "work": layers,
        "pairs": list(found.pairs),
        "width": width,
        "table": min(width, table),
        "biased": float(np.mean(biased)),
        "statistics": list(features(graph).values()),
    }


def placed(row: dict[str, Any]) -> list[float]:
    """Sums over the layers as logarithms, and cosines of where work and keys stand along the depth."""
    work, pairs = (np.array(row[k], float) for k in ("work", "pairs"))
    x = (np.arange(len(work)) + 0.5) / len(work)
    sums = [work.sum(), pairs.sum(), row["depth"], row["width"], row["table"]]
    cosines = [float(np.mean(v / v.mean() * np.cos(np.pi * k * x))) for v in (work, pairs) for k in range(1, WAVES + 1)]
    return [*np.log(sums).tolist(), row["biased"], *cosines]


def groups(data: Path, cache: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of every group: a width of HW-GPT-Bench, a set of Litetransformersearch."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, family in LANGUAGE.items():
        file = cache / f"language_{name}.json"
        if not file.exists():
            space = nasplat.load_space(family.space, **family.presets)
            table = nasplat.load_table(data / family.file, space=space, metric=family.metric, where=family.where)
            order = np.random.default_rng(0).permutation(len(table))
            rows, seen, counts = [], set[nasplat.Architecture](), dict[Any, int]()
            for i in order.tolist():
                member = table.architectures[i]
                width = member.choices["embed"] if name.startswith("hwgpt") else ""
                if member in seen or counts.get(width, 0) >= MOST + 50 * (not width):
                    continue
                seen.add(member)
                counts[width] = counts.get(width, 0) + 1
                rows.append(described(member) | {"label": -float(np.log(table.labels[i])), "of": str(width)})
            cache.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(rows), encoding="utf-8")
            print(f"{name}: {len(rows)} networks", flush=True)
        for row in json.loads(file.read_text(encoding="utf-8")):
            found.setdefault(f"{name} width {row['of']}" if row["of"] else name, []).append(row)
    return found


Fit = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[Any]]


def gaussian_process(x: NDArray[Any], y: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """Predict by a linear and a smooth part, whose shares the labels decide."""
    centre, spread = x.mean(0), x.std(0)
    scale = np.where(spread > 1e-9, spread, np.inf)
    trust = np.ones(x.shape[1])
    trust[-2 * WAVES :] = np.tile(0.5 / np.arange(1, WAVES + 1) ** 0.5, 2)  # fast changes along the depth matter less
    kernel = ConstantKernel(1.0, (1e-3, 1e3)) * DotProduct(1.0, (1e-3, 1e3))
    kernel += ConstantKernel(0.3, (1e-4, 1e3)) * RBF(5.0, (1, 50)) + WhiteKernel(0.05, (1e-5, 1.0))
    model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit((x - centre) / scale * trust, y).predict((new - centre) / scale * trust)


def boosted(x: NDArray[Any], y: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """Predict by boosted trees, as the family `Trees` grows them."""
    return grow_boosted(x, y, BoostedSettings(members=2, trees=100), 0).answers(new).mean(0)


FITS: dict[str, Fit] = {"placed": gaussian_process, "trees": boosted}


def source_of(group: str) -> str:
    """Table that a group is of."""
    return group.partition("_")[0]


def scale_of(group: str) -> str:
    """Scale or set that a group is of; the homogeneous set is one with its like."""
    return group.partition(" ")[0].removesuffix("_homogeneous")


SETTINGS: dict[str, Callable[[str, str], bool]] = {
    "transferred, same scale": lambda a, b: scale_of(a) == scale_of(b) and a != b,
    "transferred, same source": lambda a, b: source_of(a) == source_of(b) and scale_of(a) != scale_of(b),
    "transferred, other source": lambda a, b: source_of(a) != source_of(b),
}


def relative(rows: list[dict[str, Any]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Descriptions around their mean in units of the spread of work, normal scores of labels, and scores of size."""
    x = np.array([placed(r) for r in rows])
    x = (x - x.mean(0)) / x[:, 0].std()
    y = np.array([r["label"] for r in rows])
    size = np.log([r["non-embedding"] for r in rows])
    return x, norm.ppf(rankdata(y) / (len(y) + 1)), (size - size.mean()) / size.std()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args()
    if not arguments.summary:
        run(groups(arguments.data, arguments.cache))
    summary()


def run(found: dict[str, list[dict[str, Any]]]) -> None:
    """Append every row that is not there."""
    print(hardware(), versions(), flush=True)
    done = {(r["group"], r["method"], int(r["labels"]), int(r["split"])) for r in _rows()}
    alike = {name: relative(rows) for name, rows in found.items()}
    for name, rows in found.items():
        y = np.array([r["label"] for r in rows])
        given = {"placed": np.array([placed(r) for r in rows]), "trees": np.array([r["statistics"] for r in rows])}
        given |= {b: np.array([r[b] for r in rows], float) for b in BASELINES}
        asked = [(b, 0, 0) for b in BASELINES]
        for labels in (20, 50, 100):
            splits = range(SPLITS if len(rows) - labels >= 15 else 0)
            asked += [(m, labels, split) for split in splits for m in ("placed", "trees", "non-embedding")]
        for method, labels, split in asked:
            if (name, method, labels, split) not in done:
                few, rest = np.split(np.random.default_rng(split).permutation(len(rows)), [labels])
                x, fit = given[method], FITS.get(method)
                answers = x[rest] if fit is None else fit(x[few], y[few], x[rest])
                _append(name, method, labels, split, len(rest), spearman_rho(answers, y[rest]))
        for method, may_teach in SETTINGS.items():
            teachers = [alike[other] for other in found if may_teach(name, other)]
            if teachers and (name, method, 0, 0) not in done:
                x, wanted, size = (np.concatenate([t[i][:100] for t in teachers]) for i in range(3))
                model = Ridge(alpha=30.0, fit_intercept=False).fit(x, wanted - size)
                answers = model.predict(alike[name][0]) + alike[name][2]
                _append(name, method, 0, 0, len(rows), spearman_rho(answers, y))
        print(name, len(rows), flush=True)


def _append(*cells: object) -> None:
    is_new = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        writer.writerow([*cells[:-1], f"{cells[-1]:.4f}"])


def _rows() -> list[dict[str, str]]:
    if not RESULTS.exists():
        return []
    with RESULTS.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summary() -> None:
    """Print a table of the few-label settings, and one of those without a label."""
    found: dict[tuple[str, str, int], list[float]] = {}
    names = dict[str, int]()
    for row in _rows():
        found.setdefault((row["group"], row["method"], int(row["labels"])), []).append(float(row["spearman_rho"]))
        names[row["group"]] = max(names.get(row["group"], 0), int(row["n"]))

    def told(group: str, method: str, labels: int) -> str:
        values = found.get((group, method, labels), [])
        return "–" if not values else f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")

    print(f"| group (networks) | {' | '.join(BASELINES)} | {' | '.join(SETTINGS)} |\n|---|{'---|' * 7}")
    for group, n in names.items():
        print(f"| {group} ({n}) | {' | '.join(told(group, m, 0) for m in (*BASELINES, *SETTINGS))} |")
    print("\n| group | labels | non-embedding | trees | placed |\n|---|---|---|---|---|")
    for group in names:
        for labels in (20, 50, 100):
            if (group, "placed", labels) in found:
                cells = (told(group, m, labels) for m in ("non-embedding", "trees", "placed"))
                print(f"| {group} | {labels} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
