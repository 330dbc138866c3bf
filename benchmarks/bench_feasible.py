"""Draws within limits: are all of them within, how much slower than free draws, how long is the preparation?

For each space: MACs of 4,000 uniform draws give the limits that 10 %, 1 % and 0.1 % of the space meet; 10,000 draws
within each, every one captured and compared with the limit unless `--capture` says fewer. Free draws are timed in the same run.

    python benchmarks/bench_feasible.py --spaces nasbench201 vit nasbench101
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import time
from pathlib import Path

from presets import SMALL

import nasplat
from nasplat.runs.folder import hardware, versions

COLUMNS = (
    "space",
    "presets",
    "share",
    "limit_macs",
    "method",
    "setup_s",
    "free_us",
    "draw_us",
    "ratio",
    "acceptance",
    "drawn",
    "captured",
    "infeasible",
)
SHARES = (0.1, 0.01, 0.001)
SPACES = ("nasbench201", "vit", "ofa_mobilenetv3", "hybrid", "two_path", "nasbench101")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spaces", nargs="+", default=list(SPACES))
    parser.add_argument("--small", action="store_true", help="The presets of presets.py instead of the published ones.")
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--capture", type=int, default=10_000, help="How many draws are captured and compared.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "feasible.csv")
    parser.add_argument("--summary", action="store_true", help="Only print the table of what is there.")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(exist_ok=True)
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    if not arguments.summary:
        for name in arguments.spaces:
            presets = SMALL[name] if arguments.small else {}
            done = {(r["space"], r["presets"], r["share"]) for r in rows(arguments.out)}
            if any((name, json.dumps(presets), str(share)) not in done for share in SHARES):
                measure(name, presets, arguments, done)
    print(f"{hardware()}, {versions()}\n")
    print(
        "| space | share of the space | method | preparation s | free µs | draw µs | ratio | acceptance | infeasible |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for r in rows(arguments.out):
        size = "small" if r["presets"] != "{}" else "published"
        print(
            f"| {r['space']} ({size}) | {float(r['share']):.1%} | {r['method']} | {r['setup_s']} | {r['free_us']} | {r['draw_us']} | "
            f"{r['ratio']} | {r['acceptance']} | {r['infeasible']} of {r['captured']} |"
        )


def measure(
    name: str, presets: dict[str, object], arguments: argparse.Namespace, done: set[tuple[str, str, str]]
) -> None:
    space, rng = nasplat.load_space(name, **presets), random.Random(0)
    space.sample(seed=0)
    started = time.perf_counter()
    for i in range(5_000):
        space.sample(seed=i)
    free = (time.perf_counter() - started) / 5_000
    started = time.perf_counter()
    parts = space.costs()
    learning = time.perf_counter() - started
    if isinstance(parts, list) and len(parts) == 1:
        costs = sorted(parts[0].tabulated(parts[0].structure.draw(rng))[0] for _ in range(4_000))
    else:
        costs = sorted(space.sample(seed=i, uniform="architectures").graph().macs for i in range(4_000))
    for share in SHARES:
        if (name, json.dumps(presets), str(share)) in done:
            continue
        limit = costs[round(share * len(costs)) - 1]
        feasible = space.feasible({"macs": limit})
        n = arguments.draws
        started = time.perf_counter()
        drawn = [feasible.draw(rng) for _ in range(n)]
        each = (time.perf_counter() - started) / n
        captured = drawn[: arguments.capture] if feasible.method == "exact" else drawn
        broken = sum(a.graph().macs > limit for a in captured)
        row = {
            "space": name,
            "presets": json.dumps(presets),
            "share": share,
            "limit_macs": limit,
            "method": feasible.method,
            "setup_s": f"{learning + feasible.setup_seconds:.1f}",
            "free_us": f"{free * 1e6:.0f}",
            "draw_us": f"{each * 1e6:.0f}",
            "ratio": f"{each / free:.1f}",
            "acceptance": f"{feasible.acceptance:.3f}",
            "drawn": n,
            "captured": len(captured),
            "infeasible": broken,
        }
        print(row, flush=True)
        with arguments.out.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
