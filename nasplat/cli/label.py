"""The verb `label`: a table of networks that were trained from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nasplat.cli import options, show, words


@click.command("label", context_settings=options.EXTRA)
@click.argument("space")
@options.task
@click.option(
    "-n", "n", type=options.POSITIVE, default=30, show_default=True, help="This many distinct networks are trained."
)
@click.option(
    "--architectures",
    type=click.File(),
    help="These are labelled, one encoding or JSON line each, instead of random ones; - reads standard input.",
)
@click.option(
    "--seeds", type=options.POSITIVE, default=1, show_default=True, help="Each network is trained this many times."
)
@click.option(
    "--repeat",
    default=1.0,
    show_default=True,
    help="This share of the networks gets more than the first of the --seeds.",
)
@options.limits
@click.option(
    "--storage",
    default=None,
    help="Progress is kept in this Optuna storage, a URL or .journal file.  [default: a journal beside the table]",
)
@click.option(
    "--workers",
    type=options.POSITIVE,
    default=1,
    show_default=True,
    help="This many processes of one thread each train networks.",
)
@options.device
@click.option("--seed", default=0, show_default=True, help="This number decides the draws and the first training.")
@click.option("--out", required=True, type=options.FOLDER, help="The table is written to this .csv.gz file.")
@options.presets
@options.as_json
@click.pass_context
def label_command(context: click.Context, space: str, task: str, out: Path, as_json: bool, **o: Any) -> None:
    """Train random or given architectures of a space and write their labels.

    Further options are settings of a training: --budget.epochs=3 --budget.lr=0.01 … The same command resumes after any
    interruption, and joins in from other machines when they share the storage.
    """
    import nasplat
    from nasplat.runs.listings import cell
    from nasplat.task.settings import from_words
    from nasplat.task.training import Budget
    from nasplat.workflows.label import space_as_stored

    budget, limits = from_words(Budget, context.args, "budget"), words.numbers(o["limit"])
    device, data = words.torch_device(o["device"]), nasplat.load_task(task)
    given = None if o["architectures"] is None else [line.strip() for line in o["architectures"] if line.strip()]
    n = o["n"] if given is None else min(o["n"], len(given))
    storage = o["storage"] or str(out.with_suffix("").with_suffix(".journal"))
    out.parent.mkdir(parents=True, exist_ok=True)
    loaded = space_as_stored(nasplat.load_space(space, **words.pairs(o["preset"])), data, storage)
    if loaded.from_task:
        show.messages(as_json).say(f"space {loaded.name}: {loaded.from_task}")
    with show.progress("label", as_json) as update:
        table = nasplat.label(
            *(loaded, task if o["workers"] > 1 else data, n, budget),
            limits=limits,
            storage=storage,
            report=lambda p: update(p.done, p.total, str(p.trial.values)),
            architectures=given,
            device=device,
            **{name: o[name] for name in ("seed", "seeds", "repeat", "workers")},
        )
    table.save(out)
    failed = sum(bool(row["failure"]) for row in table.rows)
    answer: dict[str, Any] = {"rows": len(table), "failed": failed, "file": str(out)}
    if o["seeds"] > 1:
        agreement, both = table.ceiling()
        answer |= {"seed_to_seed_kendall_tau": agreement, "networks_with_two_seeds": both}
    show.answer(answer, as_json, lambda: ", ".join(f"{k.replace('_', ' ')} {cell(v)}" for k, v in answer.items()))
