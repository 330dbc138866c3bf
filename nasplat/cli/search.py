"""The verb `search`: the Pareto set of quality and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nasplat.cli import options, show


@click.command("search", cls=options.RunCommand)
@options.of_run("SearchRun")
@options.config
@options.out
@options.dry_run
@options.trust
@options.as_json
@click.pass_context
def search_command(context: click.Context, out: Path, as_json: bool, dry_run: bool, **_: Any) -> None:
    """Search a space for the Pareto set of quality and cost; ends with the best subnet as ONNX.

    --limit latency_ms=20 or --minimize latency_ms first time some networks of the space on this machine and fit what
    predicts the others. On several machines start the same command with one --storage that all can reach.
    """
    from nasplat.runs.execute import execute, forecast
    from nasplat.runs.folder import RunFolder
    from nasplat.runs.kinds import SearchRun
    from nasplat.runs.results import pareto_rows
    from nasplat.runs.searching import is_worker, work

    run = options.asked(context, "SearchRun")
    assert isinstance(run, SearchRun)
    if dry_run:
        show.forecast(forecast(run, out), as_json)
    elif is_worker():
        work(run, RunFolder(out))
    else:
        found = execute(run, out, show.messages(as_json))
        if as_json:
            show.print_data(pareto_rows(found.study, found.space))
