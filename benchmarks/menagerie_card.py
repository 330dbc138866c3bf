"""The card of the menagerie: how far what is known before and early in a training orders networks as their test metric does.

    python benchmarks/menagerie_card.py

writes `tables/menagerie.md` from `tables/menagerie.csv.gz`; nothing is trained.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean, median

from menagerie import RECIPE, TABLE

import nasplat
from nasplat.tables.listing import Listing
from nasplat.tables.metrics import kendall_tau
from nasplat.workflows.label_across import agreement

SHARES = (0.02, 0.05, 0.1, 0.25, 0.5)
"""Shares of the steps at which the learning curve is asked."""
KNOWN = ("macs", "params", "synflow", "nwot", "jacov", "snip", "grad_norm", "zen")
"""What is known before a training."""
FEWEST = 6
"""Networks of a group whose order is looked at, at least."""
Row = dict[str, str]


def main() -> None:
    table = nasplat.load_table(TABLE, metric="test")
    every = nasplat.load_table(TABLE, metric="macs")
    rows = [r for r in table.rows if r["seed"] == "0"]
    kept = _mean_of_seeds(table.rows)
    curve = {f"curve at {share:.0%}": f"decide_{round(share * RECIPE.steps)}" for share in SHARES}
    asked = {**{k: k for k in KNOWN}, **curve}
    parts = [_about(every, table), _agreement(table)]
    for title, group in (
        ("Within a task, all spaces together", lambda r: r["task"]),
        ("Within a space, mean over its tasks", lambda r: (_space(r), r["task"])),
    ):
        parts.append(_orders(title, kept, asked, group))
    parts.append(_over_all(kept, asked))
    parts.append(
        f"{len(rows)} networks on tasks; the label is the test metric, of two trainings their mean. MACs and\n"
        "parameters are of the network as the task shapes it. Proxies are on 32 training examples of the task.\n"
    )
    TABLE.with_name("menagerie.md").write_text("\n".join(parts), encoding="utf-8")
    print("\n".join(parts))


def _space(row: Row) -> str:
    return str(json.loads(row["architecture"])["space"])


def _mean_of_seeds(rows: Sequence[Row]) -> list[Row]:
    """One row for each network on each task."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row["network"], row["task"]].append(row)
    return [mine[0] | {"test": str(fmean(float(r["test"]) for r in mine))} for mine in found.values()]


def _tau(rows: Sequence[Row], column: str) -> tuple[float, int]:
    """Rank agreement of a column with the label where both are finite, and the number of rows."""
    pairs = [(float(r[column]), float(r["test"])) for r in rows if r.get(column) and math.isfinite(float(r[column]))]
    if len(pairs) < FEWEST or len({a for a, _ in pairs}) < 2 or len({b for _, b in pairs}) < 2:
        return math.nan, len(pairs)
    return kendall_tau([a for a, _ in pairs], [b for _, b in pairs]), len(pairs)


def _cell(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _orders(title: str, rows: Sequence[Row], asked: dict[str, str], group: Callable[[Row], object]) -> str:
    """Rank agreement of what is asked, in groups of rows; groups that begin alike share a line with their mean."""
    groups: dict[object, list[Row]] = defaultdict(list)
    for row in rows:
        groups[group(row)].append(row)
    lines: dict[str, list[tuple[int, list[float]]]] = defaultdict(list)
    for key, mine in groups.items():
        name = str(key[0] if isinstance(key, tuple) else key)
        if len(mine) >= FEWEST:
            lines[name].append((len(mine), [_tau(mine, column)[0] for column in asked.values()]))
    shown = []
    for name, found in lines.items():
        means = [_mean([taus[i] for _, taus in found]) for i in range(len(asked))]
        shown.append([name, str(sum(n for n, _ in found)), *map(_cell, means)])
    means = [_mean([taus[i] for found in lines.values() for _, taus in found]) for i in range(len(asked))]
    shown.append(["mean", str(sum(int(line[1]) for line in shown)), *map(_cell, means)])
    return f"## {title}: τ-b with the test metric\n\n" + Listing(["", "networks", *asked], shown).markdown()


def _mean(values: Sequence[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return fmean(finite) if finite else math.nan


def _over_all(rows: Sequence[Row], asked: dict[str, str]) -> str:
    """Rank agreement over all rows, after each task's median is taken from the label and from what is asked."""
    centred = []
    for task in dict.fromkeys(r["task"] for r in rows):
        mine = [r for r in rows if r["task"] == task]
        middle = {c: _median(mine, c) for c in ("test", *asked.values())}
        centred += [{c: str(float(r[c]) - m) for c, m in middle.items() if r.get(c)} for r in mine]
    shown = [["all", str(len(rows)), *(_cell(_tau(centred, c)[0]) for c in asked.values())]]
    title = "Over all, the median of each task taken off"
    return f"## {title}: τ-b with the test metric\n\n" + Listing(["", "networks", *asked], shown).markdown()


def _median(rows: Sequence[Row], column: str) -> float:
    values = [float(r[column]) for r in rows if r.get(column) and math.isfinite(float(r[column]))]
    return median(values) if values else math.nan


def _about(every: nasplat.Table, table: nasplat.Table) -> str:
    rows = table.rows
    places = defaultdict(set)
    for row in rows:
        places[row["network"]].add(row["task"])
    shared = sum(len(tasks) > 1 for tasks in places.values())
    edited = len({r["network"] for r in rows if '"edits"' in r["architecture"]})
    failed = Counter(r["failure"] for r in every.rows if r.get("failure"))
    seconds = sorted(float(r["cpu_seconds"]) for r in rows)
    tenth, ninth = seconds[len(seconds) // 10], seconds[9 * len(seconds) // 10]
    return f"""# The menagerie

{len(every)} trainings of {len(places)} networks of {len({_space(r) for r in rows})} spaces on {len({r["task"] for r in rows})} tasks, by one recipe. {shared} of the networks
({shared / len(places):.0%}) stand on more than one task, {edited} ({edited / len(places):.0%}) were edited and belong to no space any more,
{sum(r["seed"] != "0" for r in rows)} trainings are second seeds; {sum(failed.values())} failed ({", ".join(f"{n} × {k[:60]}" for k, n in failed.most_common(3)) or "none"}).

Recipe: {rows[0]["recipe"]}: AdamW, linear warm-up over the first tenth and cosine to zero, gradients clipped at norm 1,
float32. Pictures of folders are flipped and shifted at random; drawn ones are drawn anew every epoch. Networks have at most 4 million MACs. A training took {median(seconds):.1f} CPU seconds (median; tenths {tenth:.1f} and
{ninth:.1f}) on one thread of a shared AMD EPYC core, evaluations not counted; seconds are of the process, not of the clock.
Made by `benchmarks/menagerie.py`, which resumes; columns are those of `nasplat.label_across`.

Data: digits are scikit-learn's (UCI, CC BY 4.0), drawn tasks are nasplat's own; Fashion-MNIST (MIT), subsets of CIFAR-10 and CIFAR-100.
Tiny ImageNet at 16 × 16 was tried and left out: 1.5 to 4.7 % on 600 test images tell no networks apart. Accuracies are of these subsets, resized, after {RECIPE.steps} steps, and cannot be compared with
published ones. The rows are measurements of ours and stand under nasplat's licence; no image is in them.
"""


def _agreement(table: nasplat.Table) -> str:
    shown = []
    for task, (tau, both) in agreement(table).items():
        mine = [r for r in table.rows if r["task"] == task]
        values = sorted(float(r["test"]) for r in mine)
        shown.append(
            [task, mine[0]["metric"], str(len(mine)), *(f"{v:.1f}" for v in (values[0], median(values), values[-1]))]
        )
        shown[-1] += [_cell(tau), str(both)]
    columns = ["task", "metric", "trainings", "worst", "median", "best", "τ-b of two seeds", "networks with two"]
    return "## Tasks, and how well two seeds agree\n\n" + Listing(columns, shown).markdown()


if __name__ == "__main__":
    main()
