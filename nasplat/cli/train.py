"""The verb `train`: a supernet, or one subnet further; and the table of a forecast."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nasplat.cli import options, show, words
from nasplat.tables.listing import Listing

if TYPE_CHECKING:
    from nasplat.runs.forecast import Forecast


@click.command("train", context_settings=options.EXTRA)
@click.argument("space")
@options.task
@click.option(
    "--out", required=True, type=options.FOLDER, help="The run is kept in this folder; the same command resumes it."
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="This number decides initial values, subnets and the order of the data.",
)
@options.device
@click.option(
    "--teacher",
    default=None,
    metavar="NETWORK|RUN",
    help="--train.strategy=ovo learns from this network, or from the supernet in the --out of an earlier train.",
)
@click.option(
    "--kernel-transforms",
    is_flag=True,
    help="Smaller depthwise kernels come from larger ones by learnt matrices, as in Once-for-All.",
)
@click.option(
    "--from",
    "source",
    default=None,
    type=options.FOLDER,
    help="One subnet of this earlier search or train is trained further, and exported.",
)
@click.option(
    "--subnet",
    default=None,
    metavar="ENCODING",
    help="--from takes this subnet.  [default: the one that the search chose]",
)
@options.presets
@options.dry_run
@options.as_json
@click.pass_context
def train_command(context: click.Context, space: str, out: Path, dry_run: bool, as_json: bool, **o: Any) -> None:
    """Train a supernet of a space.

    Further options are settings of the training: --train.epochs=10 --train.strategy=sandwich --train.lr=0.003 …

    --train.strategy=ovo distils online: a sampled subnet learns from another (--train.teacher=sampled or largest), or
    from --teacher. --from trains one subnet of an earlier run further and exports it. Started by torchrun, all its
    processes train together.
    """
    from nasplat.runs.folder import RunFolder
    from nasplat.runs.forecast import forecast_training
    from nasplat.runs.training import TrainRun, run_training
    from nasplat.supernet import TrainConfig
    from nasplat.task.settings import from_words

    run = TrainRun(
        space,
        o["task"],
        words.pairs(o["preset"]),
        from_words(TrainConfig, context.args, "train"),
        device=words.torch_device(o["device"]),
        **{name: o[name] for name in ("teacher", "kernel_transforms", "source", "subnet", "seed")},
    )
    folder = RunFolder(out)
    if dry_run:
        show_forecast(forecast_training(run, folder), as_json)
        return
    rows = run_training(run, folder, context.args, show.messages(as_json))
    if not rows:  # one of several processes, but not the first
        return
    show.answer(rows[0] if run.source is not None else rows, as_json, lambda: _listing(rows))
    if run.source is None and not as_json:
        click.echo(
            f"saved {out}; next: nasplat report {out}, or nasplat search {space} --task {shlex.quote(o['task'])} "
            f"--supernet {out} …"
        )


def _listing(rows: list[dict[str, Any]]) -> Listing:
    """Describe the subnets that were judged."""
    from nasplat.runs.listings import cell

    if "subnet" not in rows[0]:
        return Listing([*rows[0]], [[cell(v) for v in row.values()] for row in rows])
    metric = next(name for name in rows[0] if name not in {"subnet", "architecture"})
    cells = [[r["subnet"], f"{r[metric]:.2f}", r["architecture"][:80]] for r in rows]
    return Listing(["subnet", metric, "architecture"], cells)


def show_forecast(found: Forecast, as_json: bool) -> None:
    """Print what a run will take.

    Args:
        found: Forecast of a training or a search.
        as_json: Whether JSON was asked for.
    """

    def listing() -> Listing:
        cells = []
        for p in found.parts:
            each = f"{p.each:.3g} ± {p.error:.1g}" if p.measured else ""
            cells.append([p.name, str(p.count), each, str(p.measured), show.duration(p.seconds)])
        return Listing(["part", "left to do", "seconds each", "timed", "together"], cells)

    show.answer(found.to_dict(), as_json, listing)
    if not as_json:
        low, high = found.interval
        memory = "unknown" if found.peak_bytes is None else f"{found.peak_bytes / 2**30:.2f} GiB"
        shared = f", shared by {found.workers} processes" if found.workers > 1 else ""
        click.echo(
            f"about {show.duration(found.seconds)} ({show.duration(low)} to {show.duration(high)}){shared}; peak "
            f"memory of a process {memory} on {found.device}\nWithout export and report. Nothing was written."
        )
