"""Which sampler finds the front of accuracy and latency of a labelled table with the fewest evaluations?

NAS-Bench-201: validation accuracy after 200 epochs, and a device's measured latency of the same cells (isomorphic cells are one network: the
mean). Hypervolume over that of the whole table's front, reference: the tenth percentile of accuracy and the ninetieth of latency. One row per
(table, device, sampler, seed) is appended; rows present are skipped.

    python benchmarks/bench_front.py --folder <folder of labelled architectures> --seeds 20
    python benchmarks/bench_front.py --summary
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from bench_search import Labels, rows

import nasplat
from nasplat.runs.folder import hardware, versions
from nasplat.study import EvolutionSampler, LocalSearchSampler, UniqueRandomSampler
from nasplat.study.captured import facts_of
from nasplat.study.hypervolume import front_of, hypervolume

CHECKS = (20, 50, 100, 200)
COLUMNS = ("table", "device", "sampler", "seed", *(f"share_{n}" for n in CHECKS), "seconds")


class Front:
    """Accuracy and latency of every network of a table."""

    def __init__(self, labels: Labels, folder: Path, device: str) -> None:
        table = nasplat.load_table(folder / "nb201_hw.csv.gz", space=labels.space, metric=device)
        found: dict[str, list[float]] = {}
        for architecture, label in zip(table.architectures, table.labels, strict=True):
            found.setdefault(facts_of(architecture).key, []).append(label)
        self.latency = {k: float(np.mean(v)) for k, v in found.items()}
        self.labels = labels
        points = np.array([[v, -self.latency[k]] for k, v in labels.decide.items() if k in self.latency])
        self.reference = np.quantile(points, 0.1, axis=0)
        self.whole = hypervolume(front_of(points), self.reference)

    def __call__(self, architecture: nasplat.Architecture) -> float:
        key = facts_of(architecture).key
        if key not in self.latency:
            raise nasplat.study.OutsideSupport("the table has no such network")
        return self.latency[key]

    def shares(self, study: optuna.Study) -> list[float]:
        done = [t.values for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
        points = np.array(done) * [1.0, -1.0]
        return [hypervolume(front_of(points[:n]), self.reference) / self.whole for n in CHECKS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--tables", nargs="+", default=["nb201_c10", "nb201_in16"])
    parser.add_argument("--devices", nargs="+", default=["hwnb_c10_raspi4_latency", "hwnb_c10_edgegpu_latency"])
    parser.add_argument("--samplers", nargs="+")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "front.csv")
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    for name in () if arguments.summary else arguments.tables:
        labels = Labels(name, arguments.folder)
        guide = nasplat.Predicted(nasplat.load_predictor("gennape-nb101"), beyond=True)
        samplers: dict[str, Callable[[int], Any]] = {
            "random": lambda s: UniqueRandomSampler(seed=s),
            "tpe": lambda s: optuna.samplers.TPESampler(seed=s, multivariate=True),
            "nsga2": lambda s: optuna.samplers.NSGAIISampler(seed=s, population_size=25),
            "evolution": lambda s: EvolutionSampler(seed=s),
            "local search": lambda s: LocalSearchSampler(seed=s),
            "predictor": lambda s: nasplat.PredictorSampler(seed=s),
            "predictor, gennape-nb101": lambda s, guide=guide: nasplat.PredictorSampler(guide, seed=s),
        }
        for device in arguments.devices:
            front = Front(labels, arguments.folder, device)
            for kind, make in samplers.items():
                if arguments.samplers and kind not in arguments.samplers:
                    continue
                for seed in range(arguments.seeds):
                    mine = (name, device, kind, str(seed))
                    if mine in {(r["table"], r["device"], r["sampler"], r["seed"]) for r in rows(arguments.out)}:
                        continue
                    started = time.monotonic()
                    study = nasplat.search(
                        labels.space,
                        maximize=[labels],
                        minimize=[front],
                        n_trials=max(CHECKS),
                        sampler=make(seed),
                        seed=seed,
                    )
                    row = (*mine, *(f"{s:.4f}" for s in front.shares(study)), f"{time.monotonic() - started:.1f}")
                    with arguments.out.open("a", encoding="utf-8") as out:
                        csv.writer(out).writerow(row)
                    print(*row, flush=True)
    print(f"{hardware()}, {versions()}\n")
    summarise(rows(arguments.out))


def summarise(found: list[dict[str, str]]) -> None:
    print(
        f"| table, device | sampler | seeds | share of the hypervolume after {' / '.join(map(str, CHECKS))}, mean | s a search |"
    )
    print("|---|---|---|---|---|")
    for table, device, kind in dict.fromkeys((r["table"], r["device"], r["sampler"]) for r in found):
        mine = [r for r in found if (r["table"], r["device"], r["sampler"]) == (table, device, kind)]
        shares = " / ".join(f"{np.mean([float(r[f'share_{n}']) for r in mine]):.3f}" for n in CHECKS)
        print(
            f"| {table}, {device} | {kind} | {len(mine)} | {shares} | {np.median([float(r['seconds']) for r in mine]):.1f} |"
        )


if __name__ == "__main__":
    main()
