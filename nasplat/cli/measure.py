"""The verb `measure`: latencies on this machine, measured, or predicted after a calibration."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from nasplat.cli import options, show, words
from nasplat.tables.listing import Listing


@click.command("measure")
@click.argument("networks", nargs=-1)
@options.input_shape
@click.option(
    "--batch", type=options.POSITIVE, default=1, show_default=True, help="A forward pass takes this many examples."
)
@click.option(
    "--repeats", type=options.POSITIVE, default=50, show_default=True, help="Each network is timed this many times."
)
@options.device
@click.option(
    "--runtime",
    default="eager",
    show_default=True,
    help="Networks run in eager torch, compiled by torch (compiled), as a CUDA graph (cuda-graph), or in onnxruntime.",
)
@click.option(
    "--precision", default="float32", show_default=True, help="Networks compute in float32, bfloat16 or float16."
)
@click.option(
    "--threads",
    type=options.POSITIVE,
    default=None,
    help="An operator is shared by this many threads.  [default: torch's number]",
)
@click.option(
    "--calibrate",
    is_flag=True,
    help="A sample of networks is timed, and what predicts the latency of others is fitted.",
)
@click.option(
    "--space",
    "spaces",
    multiple=True,
    help="The calibration times networks of this space; the option may be repeated.  [default: all shipped spaces]",
)
@click.option("-n", "n", default=200, show_default=True, help="The calibration times this many networks.")
@options.trust
@options.as_json
def measure_command(networks: tuple[str, ...], calibrate: bool, as_json: bool, **o: Any) -> None:
    """Time networks on this machine, in turns: median of a forward pass with its 95 % interval.

    Networks whose intervals overlap are equally fast.
    """
    if calibrate == bool(networks):
        raise click.UsageError("expected networks to time, or --calibrate")
    from nasplat.inputs import module_of, resolve, usable_device
    from nasplat.probes import measure_together
    from nasplat.probes.conditions import Conditions

    device = usable_device(o["device"])
    conditions = Conditions(device, o["batch"], o["runtime"], o["precision"], o["threads"])
    if calibrate:
        _calibrate(o["spaces"], o["n"], conditions, as_json)
        return
    timed = [module_of(resolve(name), words.example(o["shape"])) for name in networks]
    found = measure_together(timed, conditions, o["repeats"])
    rows = [
        {"network": name} | dataclasses.asdict(f) | {"against_first": f.compare(found[0])}
        for name, f in zip(networks, found, strict=True)
    ]
    show.answer(rows, as_json, lambda: _listing(rows, o["batch"]))


def _listing(rows: list[dict[str, Any]], batch: int) -> Listing:
    """Describe latencies, the first network's being what others are compared with."""
    cells = []
    for r in rows:
        interval = f"[{r['low_ms']:.3f}, {r['high_ms']:.3f}]"
        cells.append([r["network"], f"{r['median_ms']:.3f}", interval, r["against_first"], "; ".join(r["flags"])])
    first = rows[0]
    title = f"{first['device']}, batch {batch}, {first['threads']} threads, {first['dtype']}, {first['runtime']}"
    return Listing(["network", "median ms", "95 % interval", "against the first", "flags"], cells, title)


def _calibrate(spaces: tuple[str, ...], n: int, conditions: Any, as_json: bool) -> None:
    """Calibrate this device, and print the card of the predictor."""
    from nasplat.workflows.calibrate import calibrate

    with show.progress("networks", as_json) as update:
        predictor = calibrate(spaces, n, conditions, report=update)
    folder = conditions.folder
    card = (folder / "README.md").read_text(encoding="utf-8")
    show.answer(predictor.validation_ | {"folder": str(folder)}, as_json, lambda: f"{card}\n{folder}")
