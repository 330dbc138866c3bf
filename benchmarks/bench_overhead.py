"""What 10,000 proposals cost: our sampler and Optuna's TPE on a table in memory, so that nothing is captured or trained.

The table: 7 choices of 5 options, 78,125 networks; statistics and values are fixed random functions of the choices. One thread each.

    python benchmarks/bench_overhead.py --trials 10000
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import optuna
import torch
from torch import nn

import nasplat
from nasplat.runs.folder import hardware, versions
from nasplat.study import captured as facts
from nasplat.study.captured import Facts

CHOICES, OPTIONS, STATISTICS = 7, 5, 39


@nasplat.space(example_input=(1, 4))
def table(pick: nasplat.Pick) -> nn.Module:
    """Seven choices of five options."""
    widths = [pick(f"c{i}", tuple(range(OPTIONS))) for i in range(CHOICES)]
    return nn.Linear(4, 1 + sum(widths))


class Memory(dict[nasplat.Architecture, Facts]):
    """Facts of every architecture without a capture."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = np.random.default_rng(0).normal(size=(CHOICES * OPTIONS, STATISTICS))

    def get(self, architecture: nasplat.Architecture, default: Any = None) -> Any:
        if architecture not in self:
            row = np.zeros(CHOICES * OPTIONS)
            row[[i * OPTIONS + int(architecture.choices[f"c{i}"]) for i in range(CHOICES)]] = 1.0
            seen = row @ self.weights
            self[architecture] = Facts(str(architecture), 1 + int(1e6 * abs(seen[0])), 1, seen.astype(np.float32))
        return self[architecture]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--samplers", nargs="+", default=["predictor", "random", "tpe"])
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    facts._FACTS = memory = Memory()

    def quality(architecture: nasplat.Architecture) -> float:
        seen = memory.get(architecture).statistics
        return float(np.sin(seen[:8]).sum() + 0.1 * seen[8])

    made = {
        "predictor": lambda: nasplat.PredictorSampler(seed=0),
        "random": lambda: nasplat.UniqueRandomSampler(seed=0),
        "tpe": lambda: optuna.samplers.TPESampler(seed=0),
    }
    print(f"{hardware()}, {versions()}\n")
    print("| sampler | trials | seconds | ms a trial | best value |\n|---|---|---|---|---|")
    for name in arguments.samplers:
        started = time.perf_counter()
        study = nasplat.search(table, maximize=[quality], n_trials=arguments.trials, sampler=made[name]())
        seconds = time.perf_counter() - started
        print(
            f"| {name} | {arguments.trials:,} | {seconds:.1f} | {1e3 * seconds / arguments.trials:.2f} | {study.best_value:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
