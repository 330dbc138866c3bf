"""The verb `score`: networks ranked by predicted quality."""

from __future__ import annotations

from typing import Any

import click

from nasplat.cli import options, show, words
from nasplat.errors import InputError


@click.command("score")
@click.argument("networks", nargs=-1, required=True)
@click.option(
    "--predictor", default="base", show_default=True, help="The predictor is the name or folder of a trained one."
)
@click.option(
    "--against", default=None, metavar="SPACE", help="Predictor base gives percentiles within this search space."
)
@click.option(
    "--recipe",
    default=None,
    metavar="TAG",
    help="Predictors base and imagenet assume that an ImageNet classifier is trained so, such as by a1_in1k.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="This number decides the random architectures that stand for the space of --against.",
)
@click.option(
    "--calibrate",
    "labelled",
    default=None,
    metavar="TABLE",
    help="A predictor of family aiop learns the unit of your task from some twenty labelled networks in this table.",
)
@click.option("--task", default=None, metavar="COLUMN", help="This column of the --calibrate table is the label.")
@click.option("--space", default=None, help="This space reads the architecture column of the --calibrate table.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="NAME",
    help="Also tell the milliseconds on this device, which need not be at hand, such as pixel2; may be repeated. "
    "`nasplat doctor` lists the names; the folder of a calibration made elsewhere works too.",
)
@options.input_shape
@options.trust
@options.as_json
def score_command(networks: tuple[str, ...], as_json: bool, **o: Any) -> None:
    """Rank networks by predicted quality, with interval, beside MACs and parameters.

    Predictor base tells the percentile within the family that a network belongs to, and the top-1 of classifiers with
    the sizes of ImageNet-1k, CIFAR-10 or CIFAR-100. Outside what the predictor has learnt from it abstains and says
    why.
    """
    import nasplat
    from nasplat.runs import listings

    if len({o["labelled"] is None, o["task"] is None, o["space"] is None}) > 1:
        raise InputError(
            "expected --calibrate, --task and --space together, got some of them.\n  Give all three, or none."
        )
    known = None
    if o["labelled"] is not None:
        known = nasplat.load_table(o["labelled"], space=o["space"], metric=o["task"])
        show.left_out(known)
    batch, asked = words.example(o["shape"]), (o["against"], o["recipe"], o["seed"], known)
    rows = nasplat.score(list(networks), o["predictor"], batch, *asked, o["devices"])
    data = [
        {"network": r.name, "rank": i} | r.prediction.to_dict() | {"is_input_guessed": r.is_input_guessed}
        for i, r in enumerate(rows, 1)
    ]
    show.answer(data, as_json, lambda: listings.scored_listing(rows, o["predictor"]))
    if not as_json:
        for r in rows:
            if r.is_input_guessed:
                show.say(f"{r.name}: states no input, so that a picture of 3 x 224 x 224 was taken; see --input")
            if r.prediction.reason:
                show.say(f"{r.name}: outside the support: {r.prediction.reason}")
            if r.prediction.top1_data and r.prediction.top1_reason:
                show.say(f"{r.name}: no {r.prediction.top1_data} top-1: {r.prediction.top1_reason}")
            for told in r.prediction.devices:
                if told.reason:
                    show.say(f"{r.name}: outside what was timed on {told.device}: {told.reason}")
