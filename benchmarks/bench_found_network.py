"""Does the search find a better network than chance? The demo's comparison, seeds 0 to 4 fixed beforehand.

Per seed: a supernet of small NAS-Bench-201 on `digits-clutter`, a search guided by the shipped predictor, then the found
network and 20 random networks under the same MACs limit trained alone on equal budgets; the decide split chooses, the
test split compares. One row per (configuration, seed) is appended; rows present are skipped.

    python benchmarks/bench_found_network.py --seeds 0 1 2 3 4
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from nasplat.runs import demo
from nasplat.runs.folder import hardware, versions
from nasplat.runs.messages import Messages

COLUMNS = (
    "configuration",
    "seed",
    "found_test",
    "found_macs",
    "median_test",
    "best_test",
    "wins",
    "rank",
    "seconds",
    "found",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "found_network.csv")
    parser.add_argument("--summary", action="store_true", help="Only print the table of what is there.")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(exist_ok=True)
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    configuration = json.dumps({"space": demo.SPACE, **demo.PRESETS, **asdict(demo.FULL)})
    for seed in [] if arguments.summary else arguments.seeds:
        if any(r["configuration"] == configuration and r["seed"] == str(seed) for r in rows(arguments.out)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            messages = Messages(say=lambda line: print(line, flush=True))
            result = demo.run_demo(folder, seed, demo.FULL, messages)
        row = {
            "configuration": configuration,
            "seed": seed,
            "found_test": f"{result['found_test']:.4f}",
            "found_macs": result["found_macs"],
            "median_test": f"{result['median_test']:.4f}",
            "best_test": f"{max(result['rivals_test']):.4f}",
            "wins": result["wins"],
            "rank": 1 + sum(v > result["found_test"] for v in result["rivals_test"]),
            "seconds": f"{result['seconds']:.0f}",
            "found": result["found"],
        }
        with arguments.out.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
    summarise(arguments.out, configuration)


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summarise(out: Path, configuration: str) -> None:
    print(f"\n{hardware()}, {versions()}")
    print(
        "| seed | found, test % | median of 20 random, test % | best of 20 random | rank among 21 | found MACs | seconds |"
    )
    print("|---|---|---|---|---|---|---|")
    mine = sorted((r for r in rows(out) if r["configuration"] == configuration), key=lambda r: int(r["seed"]))
    for r in mine:
        print(
            f"| {r['seed']} | {float(r['found_test']):.2f} | {float(r['median_test']):.2f} | {float(r['best_test']):.2f} | "
            f"{r['rank']} | {int(r['found_macs']):,} | {r['seconds']} |"
        )
    print(f"\nwins: {sum(r['wins'] == 'True' for r in mine)} of {len(mine)}")


if __name__ == "__main__":
    main()
