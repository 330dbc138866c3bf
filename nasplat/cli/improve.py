"""The verb `improve`: edits that make a network cheaper and keep it as good."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from nasplat.cli import options, show, words
from nasplat.tables.listing import Listing


@click.command("improve", context_settings=options.EXTRA)
@click.argument("network")
@click.option(
    "--out",
    required=True,
    type=options.FOLDER,
    help="The networks found are written to this folder; the same command resumes it.",
)
@click.option(
    "--cut",
    multiple=True,
    metavar="COST=SHARE",
    help="This share of macs, params or latency_ms must go; the option may be repeated.  [default: macs=0.15]",
)
@click.option(
    "--keep",
    default=0.0,
    show_default=True,
    help="This loss of the task's metric is allowed; without a task, of the predictor's score.",
)
@click.option(
    "--task",
    default=None,
    help="The original and the networks found are trained on this task and judged, as for train.",
)
@click.option(
    "--predictor", default="base", show_default=True, help="The predictor is the name or folder of a trained one."
)
@click.option(
    "--rounds",
    type=options.POSITIVE,
    default=12,
    show_default=True,
    help="A network is at most this many edits from the original.",
)
@click.option(
    "--finalists",
    type=options.POSITIVE,
    default=8,
    show_default=True,
    help="At most this many networks are found; each is trained if there is a task.",
)
@options.device
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="This number decides the edits, the order of the data, and the initial values of an architecture.",
)
@options.input_shape
@options.as_json
@click.pass_context
def improve_command(context: click.Context, network: str, out: Path, as_json: bool, **o: Any) -> None:
    """Edit a network so that it costs less and is as good.

    Edits of one operation, kernel, group of channels or stretch are judged by a predictor; with a task, original and
    finalists are trained from the weights they have. Each network found is written as drawing, ONNX file, and graph
    with weights. Further options are settings of these trainings: --budget.epochs=3 --budget.lr=0.01 …
    """
    import torch

    import nasplat
    from nasplat.inputs import resolve
    from nasplat.runs.improvement import Trainings, write_improvement
    from nasplat.task.settings import from_words
    from nasplat.task.training import Budget

    budget, cut = from_words(Budget, context.args, "budget"), words.numbers(o["cut"]) or None
    device = words.torch_device(o["device"])
    torch.manual_seed(o["seed"])
    module, shape = words.module_of(resolve(network), words.shape(o["shape"]))
    predictor, task, before = nasplat.load_predictor(o["predictor"]), None, None
    if o["task"] is not None:
        task = nasplat.load_task(o["task"])
        before = Trainings(out, {"task": o["task"], "budget": dataclasses.asdict(budget), "seed": o["seed"]})
    with show.progress("improve", as_json) as update:
        found = nasplat.improve(
            *(module, shape, predictor, cut, o["keep"], task and task.to(device)),
            **{name: o[name] for name in ("rounds", "finalists", "seed")},
            budget=budget,
            report=update,
            known=before and before.known,
            learnt=before and before.learnt,
        )
        rows = write_improvement(found, out, task)
    data = {"networks": rows, "judged": found.seen, "unbuildable_edits": found.unbuildable, "folder": str(out)}
    show.answer(data, as_json, lambda: _listing(rows, None if task is None else task.metric_name))
    if not as_json:
        click.echo(f"{found.seen} networks judged; drawings, ONNX files and weights in {out}")


def _listing(rows: list[dict[str, Any]], metric: str | None) -> Listing:
    """Describe the original and the networks found."""
    from nasplat.runs.listings import cell, millions

    cells = []
    for row in rows:
        latency = f", {row['latency_ms_saved']:.1%} ms" if "latency_ms_saved" in row else ""
        interval = "outside the support"
        if row["low"] is not None:
            interval = f"{row['predicted']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        judged = [] if metric is None else [cell(row["decide"]), cell(row["test"])]
        costs = (millions(row["macs"]), f"{row['macs_saved']:.1%}{latency}", millions(row["params"]))
        cells.append([row["name"], f"{row['predicted_gain']:+.3g}", interval, *costs, *judged, row["edits"]])
    judged = [] if metric is None else [f"{metric} decide", "test"]
    columns = ["network", "predicted gain", "predicted", "MACs", "saved", "parameters", *judged, "edits"]
    return Listing(columns, cells)
