"""The tables of a run, described once: the command line prints them, the report and the demo's page show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasplat.tables.listing import Listing


def plan_listing(
    stages: Sequence[str],
    agreement: Sequence[float],
    costs: Sequence[float],
    counts: Sequence[int],
    shares: Sequence[float],
) -> Listing:
    """Describe how a search in stages divided its budget: who was asked how many networks, and why.

    Args:
        stages: Name of every stage, the cheapest first.
        agreement: Rank agreement τ-b of each stage with the last one, on the pilot networks.
        costs: Cost of one evaluation in each stage, in the unit of the budget.
        counts: Number of networks that each stage is planned to evaluate; 0 where a stage is left out.
        shares: Share in [0, 1] of what is left of the budget after the pilot, for each stage.

    Returns:
        One row per stage.
    """
    rows = [
        [
            stage,
            f"{tau:.2f}" if tau or cost else "no answers",
            f"{cost:.3g}",
            str(count) if count else "left out",
            f"{share:.0%}",
        ]
        for stage, tau, cost, count, share in zip(stages, agreement, costs, counts, shares, strict=True)
    ]
    return Listing(["stage", "agreement τ-b", "cost of one", "networks planned", "share of the rest"], rows)


def files_listing(rows: Sequence[Mapping[str, Any]], metric: str) -> Listing:
    """Describe the exported members of a Pareto set, judged and timed as files.

    Args:
        rows: What `deliver` returned or `front.csv` holds: name, params, macs, searched, the metric, mean_difference,
            measured_ms with its interval, and predicted_ms where latency was predicted. Numbers may be text.
        metric: Name of the column of the metric on the test split, such as 'test accuracy_percent'.

    Returns:
        One row per file.
    """
    cells = [
        [
            f"front/{row['name']}.onnx",
            f"{int(row['params']):,}",
            f"{int(row['macs']):,}",
            *(f"{float(row[name]):.3f}" for name in ("searched", metric)),
            f"{float(row['mean_difference']):.1e}",
            f"{float(row['predicted_ms']):.2f}" if row.get("predicted_ms") else "",
            "{:.2f} [{:.2f}, {:.2f}]".format(*(float(row[f"measured_{end}ms"]) for end in ("", "low_", "high_"))),
        ]
        for row in rows
    ]
    columns = ["file", "parameters", "MACs", "searched", metric, "mean |torch − file|", "predicted ms", "measured ms"]
    return Listing(columns, cells)
