"""Which shipped predictor should guide the demo? Rank agreement with what the demo's networks reach on `digits-clutter`.

Takes the 30 random networks of small NAS-Bench-201 that `bench_task_agreement.py` trained twice, and ranks them by each
predictor at the benchmark's own size of the space (rank scores, also outside the support), by MACs and by parameters.

    python benchmarks/bench_guides.py
"""

from __future__ import annotations

import csv
from pathlib import Path

import nasplat
from nasplat import content
from nasplat.runs import demo
from nasplat.tables.metrics import kendall_tau


def main() -> None:
    file = Path(__file__).parent / "results" / "task_agreement.csv"
    reached: dict[str, list[float]] = {}
    counts: dict[str, tuple[int, int]] = {}
    with file.open(encoding="utf-8") as rows:
        for r in csv.DictReader(rows):
            if r["space"] == demo.SPACE:
                reached.setdefault(r["architecture"], []).append(float(r["decide"]))
                counts[r["architecture"]] = (int(r["macs"]), int(r["params"]))
    cells = [c for c, v in reached.items() if len(v) == 2]
    means = [sum(reached[c]) / 2 for c in cells]
    space = nasplat.load_space(demo.SPACE, **demo.REFERENCE)
    graphs = [space.parse(c).canonical().graph() for c in cells]
    print(f"{len(cells)} networks, mean of two seeds; the two seeds agree with τ-b ", end="")
    print(f"{kendall_tau([reached[c][0] for c in cells], [reached[c][1] for c in cells]):.3f}\n")
    print("| ranked by | τ-b |\n|---|---|")
    for name in content.names("predictors"):
        print(f"| {name} | {kendall_tau(nasplat.load_predictor(name).rank_scores(graphs), means):.3f} |")
    for i, name in enumerate(("MACs", "parameters")):
        print(f"| {name} | {kendall_tau([counts[c][i] for c in cells], means):.3f} |")


if __name__ == "__main__":
    main()
