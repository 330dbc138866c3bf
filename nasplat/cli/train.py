"""The verb `train`: a supernet, or one subnet further."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from nasplat.cli import options, show
from nasplat.tables.listing import Listing


@click.command("train", cls=options.RunCommand)
@options.of_run("TrainRun")
@options.config
@options.out
@options.dry_run
@options.trust
@options.as_json
@click.pass_context
def train_command(context: click.Context, out: Path, dry_run: bool, as_json: bool, **_: Any) -> None:
    """Train a supernet of a space.

    --train.strategy=ovo distils online: a sampled subnet learns from another (--train.teacher=sampled or largest), or
    from --teacher. --from trains one subnet of an earlier run further and exports it. Started by torchrun, all its
    processes train together.
    """
    from nasplat.runs.execute import execute, forecast
    from nasplat.runs.kinds import TrainRun

    run = options.asked(context, "TrainRun")
    assert isinstance(run, TrainRun)
    if dry_run:
        show.forecast(forecast(run, out), as_json)
        return
    rows = [dict(row) for row in execute(run, out, show.messages(as_json)).rows]
    if not rows:  # one of several processes, but not the first
        return
    show.answer(rows[0] if run.source is not None else rows, as_json, lambda: _listing(rows))
    if run.source is None and not as_json:
        show.say(
            f"saved {out}; next: nasplat report {out}, or nasplat search {run.space} --task "
            f"{shlex.quote(str(run.task))} --supernet {out} …"
        )


def _listing(rows: list[dict[str, Any]]) -> Listing:
    """Describe the subnets that were judged."""
    from nasplat.runs.listings import cell

    if "subnet" not in rows[0]:
        return Listing([*rows[0]], [[cell(v) for v in row.values()] for row in rows])
    metric = next(name for name in rows[0] if name not in {"subnet", "architecture"})
    cells = [[r["subnet"], f"{r[metric]:.2f}", r["architecture"][:80]] for r in rows]
    return Listing(["subnet", metric, "architecture"], cells)
