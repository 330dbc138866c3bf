"""The verb `label`: a table of networks that were trained from scratch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import click

from nasplat.cli import options, show
from nasplat.errors import InputError


@click.command("label", cls=options.RunCommand)
@options.of_run("LabelRun")
@click.option(
    "--architectures",
    type=click.File(),
    help="The networks of this file are labelled, one encoding or JSON line each; - reads standard input.",
)
@options.config
@click.option(
    "--out",
    required=True,
    type=options.FOLDER,
    help="The table is written to this .csv or .csv.gz file; its run.json and journal lie beside it.",
)
@options.dry_run
@options.trust
@options.as_json
@click.pass_context
def label_command(
    context: click.Context, out: Path, architectures: TextIO | None, dry_run: bool, as_json: bool, **_: Any
) -> None:
    """Train random or given architectures of a space, or of many spaces on many tasks, and write their labels.

    `nasplat label vit --task ./pictures` labels networks of one space; with --spaces and --tasks, random and edited
    networks of all of them are trained by one recipe into one table with learning curves and zero-cost proxies.

    The same command resumes after any interruption, and joins in from other machines when they share the storage.
    """
    from nasplat.runs.execute import execute, forecast
    from nasplat.runs.kinds import LabelRun
    from nasplat.runs.listings import cell
    from nasplat.workflows.label_across import agreement

    run = options.asked(context, "LabelRun")
    assert isinstance(run, LabelRun)
    if architectures is not None:
        run = replace(run, architectures=_lines(architectures))
    if dry_run:
        show.forecast(forecast(run, out), as_json)
        return
    found = execute(run, out, show.messages(as_json))
    answer: dict[str, Any] = {"rows": len(found.table), "failed": found.failed, "file": str(out)}
    if run.seeds > 1 and run.spaces:
        answer["seed_to_seed_kendall_tau"] = {t: tau for t, (tau, both) in agreement(found.table).items() if both > 1}
    elif run.seeds > 1:
        ceiling, both = found.table.ceiling()
        answer |= {"seed_to_seed_kendall_tau": ceiling, "networks_with_two_seeds": both}
    show.answer(answer, as_json, lambda: ", ".join(f"{k.replace('_', ' ')} {cell(v)}" for k, v in answer.items()))


def _lines(file: TextIO) -> tuple[str, ...]:
    """Lines of a file that hold something."""
    try:
        found = tuple(line.strip() for line in file if line.strip())
    except UnicodeDecodeError as err:
        raise InputError(
            f"--architectures expected a text file, got {file.name!r} ({err}).\n  Check the path."
        ) from err
    if not found:
        raise InputError(
            f"--architectures expected a line for each network, got none in {file.name!r}.\n"
            "  Leave the option out to draw networks at random."
        )
    return found
