"""Gemstones: the shape of a language model at a given size, from labels of other widths, of a few models, or of other tables.

The models are few (18 with labels) and of ten widths, so that no width can be judged by itself as in bench_language_models.py, whose descriptions
and learners these are. Three settings, and baselines beside each:

    as it is            a number orders the models: all parameters, those of the layers, multiply-accumulates of 128 tokens with the head, layers
    widths left out     every model is predicted from the models of all other widths; ranks and errors are over all models together
    nine labels         nine models drawn, the others predicted; ten draws (seeds 0-9)
    no label            ridge on HW-GPT-Bench, on Litetransformersearch, or on both, added to the rank of non-embedding parameters

Sizes become losses by a parabola in their logarithm (a power law with a floor, nearly). Errors are in nats per token. `pairs` is the share of pairs,
within a tenth of total parameters, that are ordered right. One row per (setting, method, draw) is appended to results/gemstones.csv; rows present
are skipped.

    python benchmarks/bench_gemstones.py --data nas --cache cache
"""

from __future__ import annotations

import argparse
import csv
import json
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from bench_language_models import BASELINES, boosted, described, gaussian_process, groups, placed, relative
from families import GEMSTONES
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

import nasplat
from nasplat.runs.folder import hardware, versions
from nasplat.tables.metrics import spearman_rho

RESULTS = Path(__file__).parent / "results" / "gemstones.csv"
COLUMNS = ("setting", "method", "draw", "n", "spearman_rho", "mae_nats", "pairs")
DRAWS, LABELS = 10, 9
ALIKE = 1.1
"""Total parameters of a pair differ by this factor at most."""
SOURCES = {"HW-GPT-Bench": ("hwgpt",), "Litetransformersearch": ("lts",), "both": ("hwgpt", "lts")}


def parabola(x: NDArray[Any], y: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """Predict by least squares on one number and its square."""
    return np.polyval(np.polyfit(x[:, 0], y, 2), new[:, 0])


def models(data: Path, cache: Path) -> list[dict[str, Any]]:
    """What every model's graph says, and its loss."""
    file = cache / "language_gemstones.json"
    if not file.exists():
        space = nasplat.load_space(GEMSTONES.space, **GEMSTONES.presets)
        table = nasplat.load_table(data / GEMSTONES.file, space=space, metric=GEMSTONES.metric, where=GEMSTONES.where)
        rows = [described(a) | {"label": -y} for a, y in zip(table.architectures, table.labels, strict=True)]
        cache.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(rows), encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


class Judge:
    """Losses that answers are compared with."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.y = np.array([r["label"] for r in rows])
        size = np.log([r["total"] for r in rows])
        self.pairs = [p for p in combinations(range(len(rows)), 2) if abs(size[p[0]] - size[p[1]]) < np.log(ALIKE)]

    def told(self, answers: NDArray[Any], chosen: NDArray[Any] | None = None) -> tuple[int, float, float]:
        """Number of models, rank correlation and mean error, of all models or of those chosen."""
        y = self.y if chosen is None else self.y[chosen]
        return len(y), spearman_rho(answers, y), float(np.abs(answers - y).mean())

    def ordered(self, answers: NDArray[Any]) -> float:
        """Share of the pairs that the answers order right; ties count half."""
        signs = [float(np.sign((answers[i] - answers[j]) * (self.y[i] - self.y[j]))) for i, j in self.pairs]
        return (1 + mean(signs)) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    arguments = parser.parse_args()
    rows = models(arguments.data, arguments.cache)
    judge = Judge(rows)
    print(hardware(), versions(), f"{len(judge.pairs)} pairs", flush=True)
    sizes = {b: np.array([[r[b]] for r in rows], float) for b in BASELINES}
    for name, size in sizes.items():
        _append("as it is", name, 0, len(rows), spearman_rho(size[:, 0], judge.y), "", judge.ordered(size[:, 0]))
    learners = {name: (parabola, np.log(size)) for name, size in sizes.items() if name != "depth"}
    learners["placed"] = (gaussian_process, np.array([placed(r) for r in rows]))
    learners["trees"] = (boosted, np.array([r["statistics"] for r in rows]))
    widths = np.array([r["width"] for r in rows])
    for name, (fit, x) in learners.items():
        answers = np.zeros(len(rows))
        for width in sorted(set(widths.tolist())):
            out = widths == width
            answers[out] = fit(x[~out], judge.y[~out], x[out])
        _append("widths left out", name, 0, *judge.told(answers), judge.ordered(answers))
        for draw in range(DRAWS if name != "trees" else 0):  # nine labels are fewer than a leaf of a tree wants
            few, rest = np.split(np.random.default_rng(draw).permutation(len(rows)), [LABELS])
            _append("nine labels", name, draw, *judge.told(fit(x[few], judge.y[few], x[rest]), rest), "")
    others = {name: relative(found) for name, found in groups(arguments.data, arguments.cache).items()}
    described_here, _, size = relative(rows)
    for name, sources in SOURCES.items():
        teachers = [found for group, found in others.items() if group.startswith(sources)]
        x, wanted, own = (np.concatenate([t[i][:100] for t in teachers]) for i in range(3))
        model = Ridge(alpha=30.0, fit_intercept=False).fit(x, wanted - own)
        answers = model.predict(described_here) + size
        _append("no label", name, 0, len(rows), spearman_rho(answers, judge.y), "", judge.ordered(answers))
    summary()


def _rows() -> list[dict[str, str]]:
    if not RESULTS.exists():
        return []
    with RESULTS.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _append(setting: str, method: str, draw: int, n: int, *cells: float | str) -> None:
    done = {(r["setting"], r["method"], r["draw"]) for r in _rows()}
    if (setting, method, str(draw)) in done:
        return
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not done:
            writer.writerow(COLUMNS)
        writer.writerow([setting, method, draw, n, *(c if c == "" else f"{c:.4f}" for c in cells)])


def summary() -> None:
    """Print a table of all settings, with means over draws."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in _rows():
        found.setdefault((row["setting"], row["method"]), []).append(row)
    print("| setting | method | Spearman's ρ | MAE (nats) | pairs |\n|---|---|---|---|---|")
    order = list(dict.fromkeys(setting for setting, _ in found))
    for (setting, method), rows in sorted(found.items(), key=lambda item: order.index(item[0][0])):
        cells = ([float(r[c]) for r in rows if r[c]] for c in COLUMNS[4:])
        print(f"| {setting} | {method} | {' | '.join(f'{mean(v):.3f}' if v else '–' for v in cells)} |")


if __name__ == "__main__":
    main()
