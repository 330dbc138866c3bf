"""Our own labelled benchmark: five families that differ, random networks of each trained on `digits-clutter`.

One table a family in `tables/`, made by `nasplat.label` with the presets and budgets of `presets.py`: 200 distinct networks, a second
training seed for the first 30 % of them. Interrupt it at will: the journals in `results/` keep
what is done, and the rows of a table that is there are not trained again.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/label_tables.py --workers 2
    python benchmarks/label_tables.py --summary
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import optuna
import torch
from presets import FAMILIES, LABEL_BUDGETS, SMALL

import nasplat
from nasplat.runs.folder import hardware, versions
from nasplat.tables.metrics import kendall_tau
from nasplat.task.training import Budget

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1, help="Processes of one thread each.")
    parser.add_argument("--journals", type=Path, default=HERE / "results", help="Where the studies live.")
    parser.add_argument("--summary", action="store_true", help="Only print what the tables hold.")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    if not arguments.summary:
        (HERE / "tables").mkdir(exist_ok=True)
        for family in arguments.families:
            started = time.monotonic()
            file = HERE / "tables" / f"{family}_digits.csv.gz"
            known = nasplat.load_table(file, metric="accuracy_percent") if file.exists() else None
            table = nasplat.label(
                nasplat.load_space(FAMILIES[family], **SMALL[FAMILIES[family]]),
                "digits-clutter",
                arguments.n,
                Budget(**LABEL_BUDGETS[FAMILIES[family]]),
                storage=str(arguments.journals / f"label_{family}.journal"),
                report=lambda p, f=family: print(f, p.done, "of", p.total, p.trial.values, flush=True),
                seeds=2,
                repeat=0.3,
                workers=arguments.workers,
                known=known,
            )
            table.save(file)
            print(f"{family}: {len(table)} rows, {time.monotonic() - started:.0f} s")
    summarise()


def summarise() -> None:
    print(f"\n{hardware()}, {versions()}")
    print(
        "| table | space | networks | trainings | failed | test % | seconds, median | τ-b of two seeds (networks) | τ-b MACs | τ-b parameters |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for family, space in FAMILIES.items():
        file = HERE / "tables" / f"{family}_digits.csv.gz"
        if not file.exists():
            continue
        loaded = nasplat.load_space(space, **SMALL[space])
        table = nasplat.load_table(file, space=loaded, metric="accuracy_percent_test")
        every = nasplat.load_table(file, space=loaded, metric="macs")
        once = table.averaged()
        tau, both = table.ceiling()
        macs, params = (kendall_tau([float(r[c]) for r in once.rows], once.labels) for c in ("macs", "params"))
        seconds = median(float(r["seconds"]) for r in table.rows)
        print(
            f"| {file.name} | {space} | {len(once)} | {len(table)} | {len(every) - len(table)} | "
            f"{min(once.labels):.1f} – {max(once.labels):.1f} | {seconds:.1f} | {tau:.3f} ({both}) | {macs:.3f} | {params:.3f} |"
        )


if __name__ == "__main__":
    main()
