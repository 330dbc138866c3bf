"""The group of all verbs, and the entry point that turns errors into one paragraph."""

from __future__ import annotations

import sys

import click

from nasplat import __version__
from nasplat.cli.export import export_command
from nasplat.cli.failures import ended
from nasplat.cli.fit import evaluate_command, fit_command
from nasplat.cli.improve import improve_command
from nasplat.cli.inspect import inspect_command
from nasplat.cli.label import label_command
from nasplat.cli.measure import measure_command
from nasplat.cli.runs import demo_command, doctor_command, replay_command, report_command
from nasplat.cli.score import score_command
from nasplat.cli.search import search_command
from nasplat.cli.spaces import sample_command, spaces_command
from nasplat.cli.train import train_command

DEBUG = "--debug"
"""Word that asks for tracebacks, wherever it stands."""
EPILOG = """\b
Start here:
  nasplat demo                                    the whole way, on embedded data
  nasplat score mine.py:factory --input 1,3,32,32   rank your own network
  nasplat sample nasbench201 -n 3                 architectures of a space
  nasplat search nasbench201 --task digits-clutter --limit macs=2e6 --out run
Every verb has --json. Networks are named by space:encoding, file.py:factory, model.onnx, timm:name,
pytorchcv:name, or an architecture's JSON line."""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="nasplat")
@click.option(DEBUG, is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Know how good and how fast a neural network will be before you train it; then find a better one."""


for verb in (
    *(score_command, inspect_command, spaces_command, sample_command, measure_command, fit_command, evaluate_command),
    *(train_command, search_command, label_command, improve_command, export_command),
    *(report_command, replay_command, doctor_command, demo_command),
):
    cli.add_command(verb)


def main() -> None:
    """Run the command line; whatever goes wrong becomes one paragraph and an exit code, see `failures`."""
    words = [word for word in sys.argv[1:] if word != DEBUG]
    sys.exit(ended(lambda: cli.main(words, standalone_mode=False), words, debug=DEBUG in sys.argv[1:]))
