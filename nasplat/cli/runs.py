"""The verbs `report` and `replay` of run folders, and `doctor` and `demo` of the installation."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from nasplat.cli import options, show
from nasplat.errors import InputError
from nasplat.tables.listing import Listing


@click.command("report")
@click.argument("run", type=options.FOLDER)
@options.trust
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
@click.option(
    "--yes", is_flag=True, help="The command is run without a question; Python files that it names need --trust."
)
@options.trust
@options.as_json
def replay_command(run: Path, out: Path | None, yes: bool, as_json: bool) -> None:
    """Repeat a run with its recorded command, which is shown first, and say whether it ends the same."""
    from nasplat.runs.execute import execute
    from nasplat.runs.folder import RunFolder
    from nasplat.runs.replay import check_description, count_equal, python_files, repeating
    from nasplat.searchspace.registry import is_trusting, trusting

    first = RunFolder(run)
    check_description(first)
    again, second = repeating(first), RunFolder(out or first.replay)
    files = python_files(again)
    show.say(shlex.join(["nasplat", *again.to_words(), "--out", str(second)]), err=True)
    if files:
        show.say(f"This runs the code of {', '.join(files)}.", err=True)
    if not is_trusting() and (files or not yes):
        _confirm(files)
    with redirect_stdout(sys.stderr), trusting(bool(files)):  # who agreed has seen their names
        execute(again, second, show.messages(quiet=False))
    found = count_equal(first, second)
    kind = "weights are equal, bit for bit" if "weights" in found else "trials are equal, values included"
    text = f"{found['equal']} of {found.get('weights', found.get('trials'))} {kind}"
    show.answer(found, as_json, lambda: text)


def _confirm(files: list[str]) -> None:
    """Ask whether the command that was shown is to run; where nobody can answer, say which word does."""
    if not sys.stdin.isatty():
        word = "--trust" if files else "--yes"
        raise InputError(
            f"replay runs the command above, which run.json holds, when somebody agrees{' to its files' * bool(files)}."
            f"\n  Look at it, and add {word}."
        )
    if not click.confirm("Run it?", err=True):
        raise InputError("nothing was run.\n  Answer y, or add --yes.")


@click.command("doctor")
@options.as_json
@click.pass_context
def doctor_command(context: click.Context, as_json: bool) -> None:
    """Check the installation: versions, content, and one capture, prediction and rebuild."""
    from nasplat.runs.doctor import diagnose

    rows = diagnose()
    cells = [[r["check"], ("ok " if r["ok"] else "FAILED ") + r["result"]] for r in rows]
    show.answer(rows, as_json, lambda: Listing(["check", "result"], cells))
    if not all(r["ok"] for r in rows):
        context.exit(1)


@click.command("demo", cls=options.RunCommand)
@options.of_run("DemoRun")
@options.config
@click.option(
    "--out", default="demo-run", show_default=True, type=options.FOLDER, help="The run is kept in this folder."
)
@options.as_json
@click.pass_context
def demo_command(context: click.Context, out: Path, as_json: bool, **_: Any) -> None:
    """Show the whole way on embedded data: score, supernet, guided search, export, and a fair comparison."""
    from nasplat.runs.execute import execute
    from nasplat.runs.kinds import DemoRun

    run = options.asked(context, "DemoRun")
    assert isinstance(run, DemoRun)
    found = execute(run, out, show.messages(as_json))
    if as_json:
        show.print_data(found.result)
