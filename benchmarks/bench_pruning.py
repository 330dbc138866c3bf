"""What do stopped trainings save, and what do they lose? Real learning curves of the shipped tables.

Networks of a table arrive in random order with two objectives, accuracy on the decide split and MACs; a pruner sees one epoch after
another. Reported: epochs saved, and the hypervolume of the front (and the best accuracy) over that without pruning. Beside it, with accuracy
alone, Optuna's median, percentile and successive-halving pruners, which refuse two objectives.

    python benchmarks/bench_pruning.py --seeds 20
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna

import nasplat
from nasplat.runs.folder import hardware, versions
from nasplat.study.hypervolume import front_of, hypervolume

TABLES = Path(__file__).parent / "tables"
Row = tuple[list[float], float]


def rows_of(family: str) -> list[Row]:
    """(curve, MACs) of every network's first seed."""
    table = nasplat.load_table(TABLES / f"{family}_digits.csv.gz", metric="accuracy_percent")
    found: dict[str, Row] = {}
    for row in table.rows:
        curve = [float(v) for c, v in sorted(row.items()) if "_ep" in c and v]
        if curve:
            found.setdefault(row["key"], (curve, float(row["macs"])))
    return list(found.values())


def simulate(
    rows: list[Row], both: bool, seed: int, pruner: nasplat.FrontPruner | optuna.pruners.BasePruner
) -> tuple[float, float, float]:
    """Share of epochs saved, hypervolume and best accuracy kept."""
    order = random.Random(seed).sample(rows, len(rows))
    optuna_own = isinstance(pruner, optuna.pruners.BasePruner)
    study = optuna.create_study(
        directions=["maximize", "minimize"] if both else ["maximize"],
        pruner=pruner if optuna_own else None,
        sampler=optuna.samplers.RandomSampler(seed=seed),
    )
    spent, kept = 0, list[Row]()
    for curve, macs in order:
        trial = study.ask()
        for epoch, value in enumerate(curve, start=1):
            spent += 1
            if optuna_own:
                trial.report(value, epoch)
                stop = epoch < len(curve) and trial.should_prune()
            else:
                stop = pruner.should_prune(trial, value, {1: macs} if both else {})
            if stop:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, [curve[-1], macs] if both else curve[-1])
            kept.append((curve, macs))
    volumes = [_volume(some, rows) for some in (kept, rows)]
    best = max(c[-1] for c, _ in kept) - max(c[-1] for c, _ in rows)
    return 1 - spent / sum(len(c) for c, _ in rows), volumes[0] / volumes[1], best


def _volume(some: list[Row], every: list[Row]) -> float:
    reference = np.array([min(c[-1] for c, _ in every) - 1e-9, -max(m for _, m in every) - 1e-9])
    points = np.array([[c[-1], -m] for c, m in some])
    return hypervolume(front_of(points), reference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--families", nargs="+", default=["cell", "mobile", "branch", "transformer", "hybrid"])
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    makers: dict[str, tuple[bool, Callable[[], nasplat.FrontPruner | optuna.pruners.BasePruner]]] = {
        "front, accuracy and MACs": (True, nasplat.FrontPruner),
        "front, accuracy": (False, nasplat.FrontPruner),
        "Optuna median, accuracy": (False, lambda: optuna.pruners.MedianPruner(n_startup_trials=8)),
        "Optuna 25th percentile, accuracy": (False, lambda: optuna.pruners.PercentilePruner(25.0, n_startup_trials=8)),
        "Optuna successive halving, accuracy": (False, optuna.pruners.SuccessiveHalvingPruner),
    }
    print(f"{hardware()}, {versions()}\n")
    print(
        "| table | networks, epochs | pruner | epochs saved | hypervolume kept, mean (least) | best accuracy lost, mean (most), points |"
    )
    print("|---|---|---|---|---|---|")
    for family in arguments.families:
        rows = rows_of(family)
        for name, (both, make) in makers.items():
            found = np.array([simulate(rows, both, seed, make()) for seed in range(arguments.seeds)])
            saved, volume, lost = found.T
            kept = f"{volume.mean():.1%} ({volume.min():.1%})" if both else ""
            print(
                f"| {family} | {len(rows)}, {max(len(c) for c, _ in rows)} | {name} | {saved.mean():.0%} | {kept} | "
                f"{-lost.mean():.2f} ({-lost.min():.2f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
