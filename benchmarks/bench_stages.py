"""What does a search in stages reach with a budget of epochs, against spending all of it on full trainings?

NAS-Bench-201: a shipped predictor that never saw the space (its price here: 0.01 epochs), 12 epochs, 200 epochs. Compared at the same budget:
full trainings alone (cold, and guided by the same predictor), stages with equal shares, and `search_in_stages`, whose shares follow from its
pilot. Reported: test regret of the network whose validation accuracy after 200 epochs is best. One row per (table, method, budget, seed) is
appended; rows present are skipped.

    python benchmarks/bench_stages.py --folder <folder of labelled architectures> --seeds 20
    python benchmarks/bench_stages.py --summary
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from bench_search import TABLES, Labels, Source, rows

import nasplat
import nasplat.study.stages
from nasplat.runs.folder import hardware, versions
from nasplat.study.allocation import Plan

COSTS = (0.01, 12.0, 200.0)
COLUMNS = ("table", "method", "budget", "seed", "regret", "full", "short", "ranked", "plan", "agreement", "seconds")


def equal(values: Any, costs: Any, budget: float, candidates: int = 512, seed: int = 0) -> Plan:
    """A third of the budget for each stage, as far as it has candidates."""
    counts = [candidates, int(budget / 2 / costs[1]), max(1, int(budget / 2 / costs[2]))]
    return Plan(tuple(counts), tuple(costs), (0.0,) * len(costs), len(values), 0.0)


def run(method: str, labels: Labels, short: Labels, guide: Any, budget: float, seed: int) -> dict[str, Any]:
    plan: Plan | None = None
    if method.startswith("full"):
        sampler = nasplat.PredictorSampler(guide if "guided" in method else None, seed=seed)
        n = int(budget / COSTS[2])
        studies = [nasplat.search(labels.space, maximize=[labels], n_trials=n, sampler=sampler, seed=seed)]
    else:
        nasplat.study.stages.allocate = equal if method == "equal shares" else ALLOCATE
        found = nasplat.search_in_stages(labels.space, [guide, short, labels], budget=budget, costs=COSTS, seed=seed)
        studies, plan = list(found.studies), found.plan
    done = [[t for t in s.trials if t.state == optuna.trial.TrialState.COMPLETE] for s in studies]
    best = max(done[-1], key=lambda t: t.values[0])
    counts = {
        "full": len(done[-1]),
        "short": len(done[-2]) if len(done) > 1 else 0,
        "ranked": len(done[0]) if len(done) > 1 else 0,
    }
    about = (
        {"plan": json.dumps(plan.counts), "agreement": json.dumps([round(t, 3) for t in plan.agreement])}
        if plan
        else {}
    )
    return {"regret": f"{labels.best_test - labels.test[best.user_attrs['key']]:.4f}"} | counts | about


ALLOCATE = nasplat.study.stages.allocate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--datasets", nargs="+", default=["c10", "c100", "in16"])
    parser.add_argument("--budgets", nargs="+", type=float, default=[4_000, 10_000])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "stages.csv")
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    for dataset in () if arguments.summary else arguments.datasets:
        name = f"nb201_{dataset}"
        TABLES[f"{name}_short"] = Source("nb201", "nasbench201", f"{dataset}_val_12ep", f"{dataset}_test_12ep", {})
        labels, short = Labels(name, arguments.folder), Labels(f"{name}_short", arguments.folder)
        guide = nasplat.Predicted(nasplat.load_predictor("gennape-nb101"), beyond=True)
        for seed in range(arguments.seeds):
            for budget in arguments.budgets:
                for method in ("full", "full, guided", "equal shares", "by agreement"):
                    if (name, method, str(budget), str(seed)) in {
                        (r["table"], r["method"], r["budget"], r["seed"]) for r in rows(arguments.out)
                    }:
                        continue
                    started = time.monotonic()
                    row = {"table": name, "method": method, "budget": budget, "seed": seed}
                    row |= run(method, labels, short, guide, budget, seed) | {
                        "seconds": f"{time.monotonic() - started:.1f}"
                    }
                    with arguments.out.open("a", encoding="utf-8") as out:
                        csv.DictWriter(out, COLUMNS).writerow(row)
                    print(*row.values(), flush=True)
    print(f"{hardware()}, {versions()}\n")
    summarise(rows(arguments.out))


def summarise(found: list[dict[str, str]]) -> None:
    print(
        "| table | budget, epochs | method | seeds | test regret, mean ± s.e. (median) | networks ranked / 12 epochs / 200 epochs, median |"
    )
    print("|---|---|---|---|---|---|")
    for table, budget, method in dict.fromkeys((r["table"], r["budget"], r["method"]) for r in found):
        mine = [r for r in found if (r["table"], r["budget"], r["method"]) == (table, budget, method)]
        regret = np.array([float(r["regret"]) for r in mine])
        counts = " / ".join(f"{np.median([int(r[c]) for r in mine]):.0f}" for c in ("ranked", "short", "full"))
        error = regret.std(ddof=1) / len(regret) ** 0.5 if len(regret) > 1 else float("nan")
        print(
            f"| {table} | {float(budget):,.0f} | {method} | {len(mine)} | {regret.mean():.3f} ± {error:.3f} ({np.median(regret):.3f}) | "
            f"{counts} |"
        )


if __name__ == "__main__":
    main()
