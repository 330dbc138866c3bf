"""The verbs `report` and `replay` of run folders, and `doctor` and `demo` of the installation."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from nasplat.cli import options, show
from nasplat.tables.listing import Listing


@click.command("report")
@click.argument("run", type=options.FOLDER)
@options.as_json
def report_command(run: Path, as_json: bool) -> None:
    """Write report.html of a run folder: Pareto set, history, the chosen network, certificate, replay."""
    from nasplat.runs.folder import RunFolder
    from nasplat.runs.page import write_report

    verb = RunFolder(run).about["verb"]
    page = write_report(run)
    show.answer({"report": str(page), "verb": verb}, as_json, lambda: str(page))


@click.command("replay")
@click.argument("run", type=options.FOLDER)
@click.option(
    "--out", default=None, type=options.FOLDER, help="The repetition is kept in this folder.  [default: RUN/replay]"
)
@options.as_json
@click.pass_context
def replay_command(context: click.Context, run: Path, out: Path | None, as_json: bool) -> None:
    """Repeat a run with its recorded command, and say whether it ends the same."""
    from nasplat.runs.folder import RunFolder
    from nasplat.runs.replay import count_equal, repeating

    first = RunFolder(run)
    second = RunFolder(out or first.replay)
    typed = repeating(first, second.path)
    click.echo(shlex.join(["nasplat", *typed]), err=True)
    group, before = context.find_root().command, sys.argv
    sys.argv = ["nasplat", *typed]  # what the repetition records as its command
    try:
        with redirect_stdout(sys.stderr):
            group.main(args=typed, standalone_mode=False, obj=context.obj)
    finally:
        sys.argv = before
    found = count_equal(first, second)
    kind = "weights are equal, bit for bit" if "weights" in found else "trials are equal, values included"
    text = f"{found['equal']} of {found.get('weights', found.get('trials'))} {kind}"
    show.answer(found, as_json, lambda: text)


@click.command("doctor")
@options.as_json
def doctor_command(as_json: bool) -> None:
    """Check the installation: versions, content, and one capture, prediction and rebuild."""
    from nasplat.runs.doctor import diagnose

    rows = diagnose()
    cells = [[r["check"], ("ok " if r["ok"] else "FAILED ") + r["result"]] for r in rows]
    show.answer(rows, as_json, lambda: Listing(["check", "result"], cells))
    if not all(r["ok"] for r in rows):
        sys.exit(1)


@click.command("demo")
@click.option(
    "--out", default="demo-run", show_default=True, type=options.FOLDER, help="The run is kept in this folder."
)
@click.option(
    "--seed", default=0, show_default=True, help="This number decides supernet, search, rivals and trainings."
)
@click.option("--fast", is_flag=True, help="A minute is taken instead of five: fewer epochs, trials and rivals.")
@options.as_json
def demo_command(out: Path, seed: int, fast: bool, as_json: bool) -> None:
    """Show the whole way on embedded data: score, supernet, guided search, export, and a fair comparison."""
    from nasplat.runs import demo

    result = demo.run_demo(out, seed, demo.FAST if fast else demo.FULL, show.messages(as_json))
    if as_json:
        click.echo(json.dumps(result, indent=1, default=str))
