"""Options that several verbs share."""

from __future__ import annotations

import os
from pathlib import Path

import click

POSITIVE = click.IntRange(min=1)
"""Type of an option that counts something."""
FOLDER = click.Path(path_type=Path)
"""Type of an option that is a path."""
EXTRA = {"ignore_unknown_options": True, "allow_extra_args": True}
"""Settings of a verb that takes further options with a section, such as --train.epochs=3."""

as_json = click.option("--json", "as_json", is_flag=True, help="The answer is printed as JSON instead of a table.")
presets = click.option(
    "--preset",
    "preset",
    multiple=True,
    metavar="NAME=VALUE",
    help="A preset of the space, such as width=8; the option may be repeated. Where a verb has a --task, that decides "
    "image side, channels and classes of the space, unless they are given here.",
)
limits = click.option(
    "--limit",
    "limit",
    multiple=True,
    metavar="NAME=VALUE",
    help="The largest allowed macs, params or activation_bytes, such as macs=2e6; search also knows latency_ms. The "
    "option may be repeated.",
)
dry_run = click.option(
    "--dry-run", is_flag=True, help="The expected time and memory are stated, and nothing is written."
)
capture_workers = click.option(
    "--workers",
    type=POSITIVE,
    default=os.cpu_count() or 1,
    show_default="all cores",
    help="This many processes capture networks.",
)
input_shape = click.option(
    "--input", "shape", metavar="1,3,224,224", help="The shape of one input batch, for networks that are torch modules."
)
task = click.option(
    "--task",
    default="digits-clutter",
    show_default=True,
    help="The task is a name, a folder of pictures, IDX or npz files, or stereo:FOLDER; options follow as in ?side=32.",
)
device = click.option(
    "--device", default="cpu", show_default=True, help="The torch device to compute on, such as cpu or cuda:0."
)
