"""The tables of a run, described once: the command line prints them, the report and the demo's page show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasplat.graph.bounds import signed
from nasplat.predict.prediction import OnDevice
from nasplat.tables.listing import Listing
from nasplat.workflows.score import Scored


def cell(value: Any) -> str:
    """Return a value as the text of a cell: numbers with four digits, everything else as it is.

    Args:
        value: Number or text.

    Returns:
        Text without padding.

    Example:
        >>> cell(1234.5678), cell(7), cell("vit")
        ('1,235', '7', 'vit')
    """
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def millions(n: float) -> str:
    """Return a count in millions from 100,000 on, and in full below.

    Args:
        n: Count, such as multiply-accumulates or parameters.

    Returns:
        Text such as '2.35 M'.

    Example:
        >>> millions(2_345_678), millions(4_200)
        ('2.35 M', '4,200')
    """
    return f"{n / 1e6:,.2f} M" if n >= 1e5 else f"{n:,.0f}"


def scored_listing(rows: Sequence[Scored], predictor: str) -> Listing:
    """Describe networks in the order of their predicted quality, beside their costs.

    Args:
        rows: Answer of `nasplat.score`.
        predictor: Name of the predictor, for the title.

    Returns:
        One row per network; columns that say nothing are left out.
    """
    sets = list(dict.fromkeys(r.prediction.top1_data for r in rows if r.prediction.top1 is not None))
    order = sorted(rows, key=lambda r: -r.prediction.macs)
    cells = []
    for i, r in enumerate(rows, 1):
        p = r.prediction
        value = f"{p.mean:.2f}" if p.mean is not None else "-"
        interval = f"[{p.low:.2f}, {p.high:.2f}]" if p.low is not None else "outside the support"
        macs, params = signed(millions(p.macs), p.bound), signed(millions(p.params), p.params_bound)
        percentile = "" if p.reference or p.percentile is None else f"{p.percentile:.0f}"  # base predicts it
        time = "" if p.latency_ms is None else f"{p.latency_ms:.1f} [{p.latency_low_ms:.1f}, {p.latency_high_ms:.1f}]"
        top = "" if p.top1 is None else f"{p.top1:.1f} [{p.top1_low:.1f}, {p.top1_high:.1f}]"
        tops = [top if p.top1_data == name else "" for name in sets]
        costs = (macs, str(order.index(r) + 1), params, time, *map(_on_device, p.devices))
        cells.append([r.name, str(i), value, interval, percentile, p.reference, *tops, *costs])
    first = rows[0].prediction
    title = f"{predictor}: {first.metric}; {first.level:.0%} intervals; MACs: 1 MAC = 2 FLOP"
    columns = ["network", "rank", "predicted", "interval", "percentile", "family"]
    counts = ["MACs", "MACs rank", "parameters", "latency ms", *(f"{told.device} ms" for told in first.devices)]
    return Listing([*columns, *(f"{name} top-1 %" for name in sets), *counts], cells, title).told()


def _on_device(told: OnDevice) -> str:
    """Milliseconds on a device with their interval, and the median error of such answers."""
    if told.latency_ms is None:
        return "-"
    text = f"{told.latency_ms:.3g} [{told.low_ms:.3g}, {told.high_ms:.3g}]"
    return text if told.error_percent is None else f"{text} ±{told.error_percent:.0f} %"


def pareto_listing(rows: Sequence[Mapping[str, Any]], trials: int) -> Listing:
    """Describe the Pareto set of a search, best first objective first.

    Args:
        rows: Answer of `pareto_rows`; at least one.
        trials: Number of trials of the study.

    Returns:
        One row per network, the objectives before the encoding.
    """
    names = list(dict.fromkeys(n for row in rows for n in row if not n.endswith("_bound")))[::-1]
    cells = [[signed(cell(row[n]), row.get(f"{n}_bound", "")) for n in names] for row in rows]
    return Listing(names, cells, f"Pareto set, {trials} trials")


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
            *(signed(f"{int(row[n]):,}", row.get(f"{n}_bound") or "") for n in ("params", "macs")),
            *(f"{float(row[name]):.3f}" for name in ("searched", metric)),
            f"{float(row['mean_difference']):.1e}",
            f"{float(row['predicted_ms']):.2f}" if row.get("predicted_ms") else "",
            "{:.2f} [{:.2f}, {:.2f}]".format(*(float(row[f"measured_{end}ms"]) for end in ("", "low_", "high_"))),
        ]
        for row in rows
    ]
    columns = ["file", "parameters", "MACs", "searched", metric, "mean |torch − file|", "predicted ms", "measured ms"]
    return Listing(columns, cells)
