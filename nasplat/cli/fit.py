"""The verbs `fit` and `evaluate`: predictors trained and judged on labelled tables."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nasplat.cli import options, show, words
from nasplat.errors import InputError
from nasplat.tables.listing import Listing

if TYPE_CHECKING:
    from nasplat.tables.table import Table

table_option = click.option(
    "--table", "table_path", required=True, help="Labelled architectures are read from this .csv or .csv.gz file."
)
space_option = click.option(
    "--space",
    default=None,
    help="This space reads the architecture column of the table; left out, its cells are lines of JSON that state it.",
)
where_option = click.option(
    "--where",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Only rows with this cell are read, such as task=shapes of a table of several. The option may be repeated.",
)


@click.command("fit")
@click.option(
    "--family",
    default="trees",
    show_default=True,
    help="The predictor is of family trees, gennape or count, or with --tasks of family aiop.",
)
@table_option
@space_option
@where_option
@click.option("--metric", default=None, help="This column of the table is the label.")
@click.option(
    "--tasks",
    default=None,
    metavar="A,B,…",
    help="Family aiop learns one adapter for each of these columns, or TABLE:COLUMN of other tables of the space.",
)
@click.option(
    "--encoder",
    default="gennape-nb101",
    show_default=True,
    help="Family aiop takes its frozen encoder from this predictor.",
)
@click.option(
    "--scaling",
    type=click.Choice(["none", "standard", "flops"]),
    default="standard",
    show_default=True,
    help="Family aiop scales labels to mean 0 and deviation 1 (standard), divides them by FLOPs first (flops), or "
    "leaves them as they are (none).",
)
@click.option("--unit", default=None, help="The label is described by these words, with its unit.")
@click.option("--out", required=True, type=options.FOLDER, help="The predictor is saved in this folder.")
@click.option(
    "--seeds",
    default="0,1,2",
    show_default=True,
    help="These numbers decide splits and predictors; the predictor of the first one is saved.",
)
@options.capture_workers
@options.presets
@options.trust
@options.as_json
def fit_command(as_json: bool, **o: Any) -> None:
    """Train a predictor on a labelled table, and print its quality beside that of MACs and parameters alone."""
    if (o["family"] == "aiop") != (o["tasks"] is not None) or (o["tasks"] is None) != (o["metric"] is not None):
        raise InputError(
            "expected --metric, or --tasks with --family aiop.\n  Name the column of the label, or those of the tasks."
        )
    if o["tasks"] is not None:
        _fit_tasks(o, as_json)
    else:
        _fit_one(o, as_json)


def _table(o: dict[str, Any]) -> Table:
    """The rows that are asked for, whose space is named or stated by themselves."""
    import nasplat

    presets, where = words.pairs(o["preset"]), dict(text.partition("=")[::2] for text in o["where"])
    if presets and o["space"] is None:
        raise InputError("expected --space beside --preset, got none.\n  Lines of JSON state their presets themselves.")
    return nasplat.load_table(o["table_path"], space=o["space"], metric=o["metric"], where=where or None, **presets)


def _fit_one(o: dict[str, Any], as_json: bool) -> None:
    """Fit a predictor of one label."""
    from nasplat.workflows.fit import fit_and_save

    family, space, metric, out = o["family"], o["space"], o["metric"], o["out"]
    table = _table(o)
    show.left_out(table)
    command = (
        f"nasplat fit --family {family} --table {Path(o['table_path']).name} --metric {metric} --seeds {o['seeds']}"
        + (f" --space {space}" if space else "")
        + "".join(f" --where {w}" for w in o["where"])
        + "".join(f" --preset {p}" for p in o["preset"])
        + (f" --unit {json.dumps(o['unit'])}" if o["unit"] else "")
        + f" --out {out}"
    )
    with show.progress("fit", as_json) as update:
        more = {"command": command, "progress": update, "workers": o["workers"]}
        _, rows = fit_and_save(table, family, out, seeds=_seeds(o["seeds"]), metric=o["unit"], **more)
    show.answer(rows, as_json, lambda: _quality(rows))
    if not as_json:
        show.say(f"saved {out}")


def _fit_tasks(o: dict[str, Any], as_json: bool) -> None:
    """Fit a predictor with one adapter per task."""
    import nasplat
    from nasplat.workflows.fit_tasks import fit_tasks

    if o["space"] is None or o["where"]:
        raise InputError(
            "expected --space, and no --where, beside --tasks.\n  Adapters learn from tables of one space."
        )
    tasks, space, encoder, out = o["tasks"].split(","), o["space"], o["encoder"], o["out"]
    tables, seed, presets = {}, _seeds(o["seeds"])[0], words.pairs(o["preset"])
    for word in tasks:
        file, colon, column = word.rpartition(":")
        path = file if colon else o["table_path"]
        tables[column] = nasplat.load_table(path, space=space, metric=column, **presets)
        show.left_out(tables[column])
    command = (
        f"nasplat fit --family aiop --table {Path(o['table_path']).name} --space {space} --tasks {o['tasks']} "
        f"--encoder {encoder} --scaling {o['scaling']} --seeds {seed} --out {out}"
    )
    with show.progress("fit", as_json) as update:
        more = {"command": command, "progress": update, "workers": o["workers"]}
        _, rows = fit_tasks(tables, nasplat.load_predictor(encoder), out, seed=seed, scaling=o["scaling"], **more)
    show.answer(rows, as_json, lambda: _quality_of_tasks(rows))
    if not as_json:
        show.say(
            f"saved {out}; next: nasplat score … --predictor {out} --calibrate TABLE --task COLUMN --space {space}"
        )


def _seeds(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as err:
        raise InputError(
            f"expected --seeds as numbers with commas, got {text!r}.\n  Write for instance 0,1,2."
        ) from err


def _quality(rows: list[dict[str, Any]]) -> Listing:
    """Describe how well a predictor judges, one row per seed."""
    cells = [
        [
            str(r.get("seed", "-")),
            *(f"{r['n']}", f"{r['in_support']:.1%}", f"{r['kendall_tau']:.3f}", f"{r['spearman_rho']:.3f}"),
            f"{r['ndcg_at_10']:.3f}",
            "-" if r["mean_absolute_error"] is None else f"{r['mean_absolute_error']:.3f}",
            "-" if r["interval_coverage"] is None else f"{r['interval_coverage']:.1%}",
            *(f"{r['macs_tau']:.3f}", f"{r['params_tau']:.3f}"),
        ]
        for r in rows
    ]
    columns = ["seed", "networks", "in support", "τ-b", "ρ", "NDCG@10", "MAE", "covered", "τ-b MACs", "τ-b parameters"]
    return Listing(columns, cells)


def _quality_of_tasks(rows: list[dict[str, Any]]) -> Listing:
    """Describe how well each adapter judges, one row per task."""
    cells = [
        [
            *(r["task"], str(r["n"]), f"{r['kendall_tau']:.3f}", f"{r['spearman_rho']:.3f}"),
            "-" if r["mean_absolute_error"] is None else f"{r['mean_absolute_error']:.4g}",
            f"{r['macs_tau']:.3f}",
        ]
        for r in rows
    ]
    columns = ["task", "networks", "τ-b", "ρ", "MAE", "τ-b MACs"]
    return Listing(columns, cells, "Each task's own adapter after 20 labels")


@click.command("evaluate")
@click.argument("predictor")
@table_option
@space_option
@where_option
@click.option("--metric", required=True, help="This column of the table is the label.")
@click.option(
    "--part",
    type=click.Choice(["test", "decide", "train", "all"]),
    default="test",
    show_default=True,
    help="The predictor is judged on this part of the table.",
)
@click.option("--seed", default=0, show_default=True, help="This number decides the split, which parts no network.")
@click.option("--rows", default=None, type=options.POSITIVE, help="The table is cut to its first rows, this many.")
@click.option(
    "--beyond-support",
    "beyond",
    is_flag=True,
    help="Rank scores of all networks are judged, inside the support or not; they have no level and no interval.",
)
@click.option(
    "--finetune",
    default=0,
    show_default=True,
    help="The predictor is fine-tuned on this many labels of the part first, and judged on the rest.",
)
@click.option(
    "--choose",
    type=click.Choice(["random", "spread"]),
    default="random",
    show_default=True,
    help="The labels of --finetune are drawn at random, or spread over what the predictor sees.",
)
@click.option(
    "--loss",
    type=click.Choice(["regression", "ranking", "both"]),
    default="regression",
    show_default=True,
    help="--finetune learns values (regression), order (ranking), or both.",
)
@click.option(
    "--without",
    default=None,
    metavar="TEXT",
    help="Rows whose architecture contains this text, such as none, are left out.",
)
@options.capture_workers
@options.presets
@options.trust
@options.as_json
def evaluate_command(predictor: str, as_json: bool, **o: Any) -> None:
    """Judge a predictor on labelled networks: rank agreement, error, coverage, beside the baselines."""
    import nasplat
    from nasplat.workflows.evaluate import evaluate
    from nasplat.workflows.labelled import distinct, few, split

    table = _table(o)
    show.left_out(table)
    if o["without"] is not None:
        table = table.take([i for i, row in enumerate(table.rows) if o["without"] not in row[table.key]])
    if o["rows"] is not None:
        table = table.take(range(min(o["rows"], len(table))))
    with show.progress("capture", as_json) as update:
        data = distinct(table, update, o["workers"])
    seed, part = o["seed"], o["part"]
    chosen = data if part == "all" else split(data, seed)[("train", "decide", "test").index(part)]
    loaded = nasplat.load_predictor(predictor)
    if o["finetune"]:
        labels, chosen = few(chosen, o["finetune"], seed, loaded if o["choose"] == "spread" else None)
        loaded = loaded.finetune(labels.views, labels.labels, seed, o["loss"], labels.groups)
    found = {"seed": seed} | dataclasses.asdict(evaluate(loaded, chosen, o["beyond"]))
    show.answer(found, as_json, lambda: _quality([found]))
