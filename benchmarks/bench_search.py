"""Which sampler finds the best network of a labelled table with the fewest evaluations?

A table of validation accuracies answers; a network that it lacks is refused and not charged, nor is one that was met before (isomorphic
cells are one network). Tables that hold a small part of their space are searched among their rows, which only samplers that rank a given
list can do. For each sampler and seed: evaluations until the table's best network, and the regret of the incumbent's
test accuracy after 20, 30, 50, 100 and 200 evaluations. One row per (table, sampler, seed) is appended; rows present are skipped.

    python benchmarks/bench_search.py --folder <folder of labelled architectures> --tables nb201_c10 --seeds 20
    python benchmarks/bench_search.py --summary
"""

from __future__ import annotations

import argparse
import csv
import random
import time
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

import nasplat
from nasplat.runs.folder import hardware, versions
from nasplat.study import EvolutionSampler, LocalSearchSampler, OutsideSupport, UniqueRandomSampler
from nasplat.study.captured import facts_of
from nasplat.study.proposals import ArchitectureSampler

ROWS = 512
"""Rows of a sparse table that ours looks at for a proposal."""
CHECKS = (20, 30, 50, 100, 200)
COLUMNS = ("table", "sampler", "seed", "networks", "to_best", *(f"regret_{n}" for n in CHECKS), "seconds")


@dataclass(frozen=True)
class Source:
    """Where a table's labels come from."""

    file: str
    space: str
    decide: str
    test: str
    presets: dict[str, Any]
    larger: bool = True


TABLES = {
    f"nb201_{d}": Source("nb201", "nasbench201", f"{d}_val_200ep", f"{d}_test_200ep", {}) for d in ("c10", "c100", "in16")
} | {
    "nb101": Source("nb101_20k", "nasbench101", "val_acc_108ep", "val_acc_108ep", {}),
    "darts_surrogate": Source("darts_nb301_surrogate_725", "darts", "surrogate_val_acc", "surrogate_val_acc", {"width": 32, "cells": 8, "affine": False}),
    "ofa_imagenet": Source("ofa_mbv3_imagenet", "ofa_mobilenetv3", "top1_mean", "top1_mean", {}),
    "transnas_scene": Source("tnb101_micro", "transnas_micro", "class_scene_val_top1_final", "class_scene_val_top1_final", {}),
    "transnas_jigsaw": Source("tnb101_micro", "transnas_micro", "jigsaw_val_top1_final", "jigsaw_val_top1_final", {}),
}  # fmt: skip


class Boosted(ArchitectureSampler):
    """The usual loop: 16 random networks, then boosted trees on graph statistics, greedily in batches of 8 over the whole table."""

    def __init__(self, members: list[nasplat.Architecture], seed: int) -> None:
        super().__init__(seed)
        self.every, self.batch = members, list[nasplat.Architecture]()

    def propose(
        self, study: optuna.Study, number: int, contested: Set[str] = frozenset()
    ) -> nasplat.Architecture | None:
        from sklearn.ensemble import GradientBoostingRegressor

        taken, done = self.taken(contested), self.ledger.complete
        if len(done) < 16:
            order = random.Random(self.seed).sample(self.every, len(self.every))
            return next((a for a in order if facts_of(a).key not in taken), None)
        self.batch = [a for a in self.batch if facts_of(a).key not in taken]
        if not self.batch:
            model = GradientBoostingRegressor(
                n_estimators=200, max_depth=5, learning_rate=0.06, subsample=0.6, random_state=self.seed
            )
            model.fit([facts_of(self.member(t)).statistics for t in done], [t.values[0] for t in done])
            left = [a for a in self.every if facts_of(a).key not in taken]
            order = np.argsort(-model.predict([facts_of(a).statistics for a in left]))
            self.batch = [left[i] for i in order[:8]]
        return self.batch.pop(0) if self.batch else None


class RandomRows(ArchitectureSampler):
    """Rows of the table in random order."""

    def __init__(self, members: list[nasplat.Architecture], seed: int) -> None:
        super().__init__(seed)
        self.order = random.Random(seed).sample(members, len(members))

    def propose(
        self, study: optuna.Study, number: int, contested: Set[str] = frozenset()
    ) -> nasplat.Architecture | None:
        taken = self.taken(contested)
        return next((a for a in self.order if facts_of(a).key not in taken), None)


class PredictorOfRows(nasplat.PredictorSampler):
    """Ours, whose pool is drawn from the rows of the table."""

    def __init__(self, members: list[nasplat.Architecture], seed: int) -> None:
        super().__init__(seed=seed)
        self.every = members

    def _pool(
        self, study: optuna.Study, number: int, complete: list[optuna.trial.FrozenTrial], taken: set[str], wanted: int
    ) -> list[nasplat.Architecture]:
        left = [a for a in self.every if facts_of(a).key not in taken]
        return random.Random(f"{self.seed} {number}").sample(left, min(ROWS, len(left)))


class Labels:
    """A table as an objective: mean labels by network."""

    def __init__(self, name: str, folder: Path) -> None:
        source = TABLES[name]
        self.space = nasplat.load_space(source.space, **source.presets)
        file = folder / f"{source.file}.csv.gz"
        table = nasplat.load_table(file, space=self.space, metric=source.decide)
        test = nasplat.load_table(file, space=self.space, metric=source.test)
        decided: dict[str, list[float]] = {}
        tested: dict[str, list[float]] = {}
        self.members: dict[str, nasplat.Architecture] = {}
        for number, (architecture, label) in enumerate(zip(table.architectures, table.labels, strict=True)):
            key = facts_of(architecture).key
            decided.setdefault(key, []).append(label)
            self.members.setdefault(key, architecture)
            if number % 2000 == 0:
                print(name, number, "of", len(table), flush=True)
        for architecture, label in zip(test.architectures, test.labels, strict=True):
            tested.setdefault(facts_of(architecture).key, []).append(label)
        self.decide = {k: float(np.mean(v)) for k, v in decided.items()}
        self.test = {k: float(np.mean(v)) for k, v in tested.items() if k in self.decide}
        self.best, self.best_test = max(self.decide.values()), max(self.test.values())

    def __call__(self, architecture: nasplat.Architecture) -> float:
        key = facts_of(architecture).key
        if key not in self.decide:
            raise OutsideSupport("the table has no such network")
        return self.decide[key]

    @property
    def is_sparse(self) -> bool:
        """It holds a part of its space only."""
        return self.space.count().value > 3 * len(self.members)


def samplers(
    labels: Labels, guides: dict[str, Callable[[nasplat.Architecture], float]]
) -> dict[str, Callable[[int], Any]]:
    members = list(labels.members.values())
    if labels.is_sparse:
        return {
            "random rows": lambda s: RandomRows(members, s),
            "boosted trees": lambda s: Boosted(members, s),
            "predictor on rows": lambda s: PredictorOfRows(members, s),
        }
    made: dict[str, Callable[[int], Any]] = {
        "random": lambda s: UniqueRandomSampler(seed=s),
        "tpe": lambda s: optuna.samplers.TPESampler(seed=s, multivariate=True),
        "nsga2": lambda s: optuna.samplers.NSGAIISampler(seed=s),
        "evolution": lambda s: EvolutionSampler(seed=s),
        "local search": lambda s: LocalSearchSampler(seed=s),
        "boosted trees": lambda s: Boosted(members, s),
        "predictor": lambda s: nasplat.PredictorSampler(seed=s),
    }
    return made | {
        f"predictor, {name}": lambda s, g=g: nasplat.PredictorSampler(g, seed=s) for name, g in guides.items()
    }


def run(labels: Labels, sampler: Any, seed: int, trials: int) -> tuple[int | None, list[float]]:
    study = nasplat.search(labels.space, maximize=[labels], n_trials=trials, sampler=sampler, seed=seed)
    done = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    values = [t.values[0] for t in done]
    to_best = next((i + 1 for i, v in enumerate(values) if v >= labels.best), None)
    regrets = []
    for check in CHECKS:
        incumbent = done[int(np.argmax(values[:check]))].user_attrs["key"]
        regrets.append(labels.best_test - labels.test[incumbent])
    return to_best, regrets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--samplers", nargs="+")
    parser.add_argument(
        "--guides", nargs="*", default=["gennape-nb101"], help="Shipped predictors that warm-start ours."
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "search.csv")
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    arguments.out.parent.mkdir(exist_ok=True)
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    for name in () if arguments.summary else arguments.tables:
        labels = Labels(name, arguments.folder)
        guides = {g: nasplat.Predicted(nasplat.load_predictor(g), beyond=True) for g in arguments.guides}
        for kind, make in samplers(labels, guides).items():
            if arguments.samplers and kind not in arguments.samplers:
                continue
            for seed in range(arguments.seeds):
                if (name, kind, str(seed)) in {(r["table"], r["sampler"], r["seed"]) for r in rows(arguments.out)}:
                    continue
                started = time.monotonic()
                to_best, regrets = run(labels, make(seed), seed, arguments.trials)
                row = (
                    name,
                    kind,
                    seed,
                    len(labels.decide),
                    to_best or "",
                    *(f"{r:.4f}" for r in regrets),
                    f"{time.monotonic() - started:.1f}",
                )
                with arguments.out.open("a", encoding="utf-8") as out:
                    csv.writer(out).writerow(row)
                print(*row, flush=True)
    print(f"{hardware()}, {versions()}\n")
    summarise(rows(arguments.out))


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as text:
        return list(csv.DictReader(text))


def summarise(found: list[dict[str, str]]) -> None:
    print(
        "| table (networks) | sampler | seeds | evaluations to the best, median | found within 200 | mean test regret after "
        + " / ".join(map(str, CHECKS))
        + " | s a search |"
    )
    print("|---|---|---|---|---|---|---|")
    for table, kind in dict.fromkeys((r["table"], r["sampler"]) for r in found):
        mine = [r for r in found if (r["table"], r["sampler"]) == (table, kind)]
        to_best = [float(r["to_best"] or "inf") for r in mine]
        median = float(np.median(to_best))
        regrets = " / ".join(f"{np.mean([float(r[f'regret_{n}']) for r in mine]):.3f}" for n in CHECKS)
        print(
            f"| {table} ({mine[0]['networks']}) | {kind} | {len(mine)} | {'> 200' if median > CHECKS[-1] else f'{median:.1f}'} | "
            f"{np.mean(np.isfinite(to_best)):.0%} | {regrets} | {np.median([float(r['seconds']) for r in mine]):.1f} |"
        )


if __name__ == "__main__":
    main()
