"""The verb `improve`: edits that make a network cheaper and keep it as good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nasplat.cli import options, show
from nasplat.tables.listing import Listing


@click.command("improve", cls=options.RunCommand)
@options.of_run("ImproveRun")
@options.config
@options.out
@options.trust
@options.as_json
@click.pass_context
def improve_command(context: click.Context, out: Path, as_json: bool, **_: Any) -> None:
    """Edit a network so that it costs less and is as good.

    Edits of one operation, kernel, group of channels or stretch are judged by a predictor; with a task, original and
    finalists are trained from the weights they have. Each network found is written as drawing, ONNX file, and graph
    with weights.
    """
    from nasplat.inputs import load_task
    from nasplat.runs.execute import execute
    from nasplat.runs.kinds import ImproveRun

    run = options.asked(context, "ImproveRun")
    assert isinstance(run, ImproveRun)
    found = execute(run, out, show.messages(as_json))
    data = {"networks": found.rows, "judged": found.judged, "unbuildable_edits": found.unbuildable, "folder": str(out)}
    metric = None if run.task is None or as_json else load_task(run.task).metric_name
    show.answer(data, as_json, lambda: _listing(found.rows, metric))
    if not as_json:
        show.say(f"{found.judged} networks judged; drawings, ONNX files and weights in {out}")


def _listing(rows: list[dict[str, Any]], metric: str | None) -> Listing:
    """Describe the original and the networks found."""
    from nasplat.graph.bounds import signed
    from nasplat.runs.listings import cell, millions

    cells = []
    for row in rows:
        latency = f", {row['latency_ms_saved']:.1%} ms" if "latency_ms_saved" in row else ""
        interval = "outside the support"
        if row["low"] is not None:
            interval = f"{row['predicted']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        judged = [] if metric is None else [cell(row["decide"]), cell(row["test"])]
        macs, params = (signed(millions(row[n]), row.get(f"{n}_bound", "")) for n in ("macs", "params"))
        saved = signed(f"{row['macs_saved']:.1%}", "≈" if row.get("macs_bound") else "")
        costs = (macs, f"{saved}{latency}", params)
        cells.append([row["name"], f"{row['predicted_gain']:+.3g}", interval, *costs, *judged, row["edits"]])
    judged = [] if metric is None else [f"{metric} decide", "test"]
    columns = ["network", "predicted gain", "predicted", "MACs", "saved", "parameters", *judged, "edits"]
    return Listing(columns, cells)
