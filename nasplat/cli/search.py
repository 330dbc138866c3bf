"""The verb `search`: the Pareto set of quality and cost."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nasplat.cli import options, show, words
from nasplat.cli.train import show_forecast

if TYPE_CHECKING:
    from nasplat.runs.search import SearchRun


@click.command("search", context_settings=options.EXTRA)
@click.argument("space")
@options.task
@click.option(
    "--maximize",
    default="inherited",
    type=click.Choice(["inherited", "trained", "predicted"]),
    show_default=True,
    help="Quality is inherited from a supernet, trained from scratch, or predicted by the guide.",
)
@click.option(
    "--minimize",
    default="macs",
    show_default=True,
    help="The cost is macs, params, activation_bytes, latency (each network timed), latency_ms (predicted), or none.",
)
@options.limits
@click.option(
    "--trials",
    type=options.POSITIVE,
    default=40,
    show_default=True,
    help="This many networks are evaluated, by all workers together.",
)
@click.option(
    "--guide",
    default="auto",
    show_default=True,
    help="This predictor, by name or folder, ranks what is proposed. auto takes the shipped one that was trained on "
    "this very space, else base, else none where base abstains on the space; none lets proposals learn from the trials "
    "alone; fitted fine-tunes base on --pilots networks, and with --stages answers the predicted stage.",
)
@click.option(
    "--pilots",
    type=options.POSITIVE,
    default=None,
    help="--guide fitted evaluates this many random networks first, and the search knows them.  [default: 40]",
)
@click.option(
    "--latency",
    "latency_folder",
    type=options.FOLDER,
    default=None,
    metavar="FOLDER",
    help="latency_ms comes from this calibration.  [default: networks of the space are timed first]",
)
@click.option(
    "--timed",
    type=options.POSITIVE,
    default=None,
    help="This many networks are timed to predict latency_ms.  [default: 40]",
)
@click.option(
    "--runtime",
    default=None,
    help="latency_ms is that of onnxruntime, eager or compiled torch.  [default: onnxruntime]",
)
@click.option(
    "--exports",
    type=options.POSITIVE,
    default=None,
    help="This many members of the Pareto set are exported, judged and timed as files.  [default: 1]",
)
@click.option(
    "--guide-at",
    "guide_at",
    multiple=True,
    metavar="NAME=VALUE",
    help="The guide scores the choices at this preset of the space; the option may be repeated.",
)
@click.option(
    "--prune", is_flag=True, help="With --maximize trained, trainings that cannot reach the Pareto front are stopped."
)
@click.option(
    "--stages",
    default=None,
    metavar="A,B,…",
    help="These qualities, from the cheapest to the truth, take the place of --maximize, such as "
    "predicted,inherited,trained:2,trained:12.",
)
@click.option(
    "--budget",
    type=float,
    default=None,
    metavar="SECONDS",
    help="All --stages and workers together evaluate for this many seconds; pilots of --guide fitted come on top.",
)
@click.option(
    "--storage",
    default=None,
    help="The study is kept in this Optuna storage, a URL or .journal file.  [default: a journal in the run folder]",
)
@click.option(
    "--supernet",
    "supernet_run",
    default=None,
    type=options.FOLDER,
    help="The supernet is taken from this --out of `nasplat train`.  [default: one is trained in the run folder]",
)
@click.option(
    "--out", required=True, type=options.FOLDER, help="The run is kept in this folder; the same command resumes it."
)
@click.option(
    "--workers",
    type=options.POSITIVE,
    default=1,
    show_default=True,
    help="This many processes of one thread each evaluate networks on this machine.",
)
@click.option("--seed", default=0, show_default=True, help="This number decides sampler, trainings and random draws.")
@options.device
@options.presets
@options.dry_run
@options.as_json
@click.pass_context
def search_command(context: click.Context, out: Path, as_json: bool, dry_run: bool, **o: Any) -> None:
    """Search a space for the Pareto set of quality and cost; ends with the best subnet as ONNX.

    --limit latency_ms=20 or --minimize latency_ms first time some networks of the space on this machine and fit what
    predicts the others. Further options: --train.epochs=10 and other settings of the supernet. On several machines
    start the same command with one --storage that all can reach.
    """
    from nasplat.runs import listings
    from nasplat.runs.folder import RunFolder
    from nasplat.runs.forecast import forecast_search
    from nasplat.runs.preparation import choose_guide, prepare
    from nasplat.runs.results import best, deliver, pareto_rows, plan_of, unanswered
    from nasplat.runs.trials import carry_out
    from nasplat.study.workers import PARENT

    run, folder = search_run(o, context.args), RunFolder(out)
    space, task = run.loaded(folder)
    run = replace(run, space=space, task=task)
    is_worker = PARENT in os.environ
    messages = show.messages(as_json or is_worker)
    if space.from_task:
        messages.say(f"space {space.name}: {space.from_task}")
    if dry_run:
        show_forecast(forecast_search(run, folder), as_json)
        return
    guide = choose_guide(run, space, folder)
    if not is_worker:
        folder.describe("search", recorded(run, o, guide.name, context.args))
        if guide.why:
            messages.say(f"guide {guide.name}: {guide.why}")
    prepared = prepare(run, folder, guide, messages)
    worker = worker_words(out, o | {"guide": guide.name}, context.args)
    study, plan = carry_out(prepared, worker, messages)
    if is_worker:
        return
    best(study, prepared.space)  # where no trial finished, this says why
    if plan is not None:
        messages.show(plan_of(run.stages, plan))
    rows = pareto_rows(study, prepared.space)
    show.answer(rows, as_json, lambda: listings.pareto_listing(rows, len(study.trials)))
    if text := unanswered(prepared, study):
        messages.warn(text)
    deliver(prepared, study, messages)


def search_run(o: Mapping[str, Any], extra: Sequence[str]) -> SearchRun:
    """Make the value of what a command asks for.

    Args:
        o: Options of the command by name.
        extra: Words that no option took, such as '--train.epochs=3'.

    Returns:
        Settings of the search.

    Raises:
        InputError: options contradict each other, or a value is of another type.
    """
    from nasplat.runs.search import SearchRun
    from nasplat.supernet import TrainConfig
    from nasplat.task.settings import from_words

    alike = (
        "task",
        "maximize",
        "minimize",
        "trials",
        "guide",
        "prune",
        "exports",
        "budget",
        "storage",
        "workers",
        "seed",
    )
    renamed = {"latency": "latency_folder", "supernet": "supernet_run"}
    filled = ("pilots", "timed", "runtime")  # options that are recorded as not given, but have a default
    return SearchRun(
        space=o["space"],
        presets=words.pairs(o["preset"]),
        limits=words.numbers(o["limit"]),
        guide_at=words.pairs(o["guide_at"]) or None,
        stages=tuple(o["stages"].split(",")) if o["stages"] else (),
        train=from_words(TrainConfig, extra, "train"),
        device=words.torch_device(o["device"]),
        **{name: o[name] for name in alike},
        **{field: o[name] for field, name in renamed.items()},
        **{name: o[name] for name in filled if o[name] is not None},
    )


def recorded(run: SearchRun, o: Mapping[str, Any], guide: str, extra: Sequence[str]) -> dict[str, Any]:
    """Gather what run.json holds of a search, as it was typed.

    Args:
        run: What the command asks for.
        o: Options of the command by name.
        guide: Guide that was taken.
        extra: Words that no option took.

    Returns:
        Settings by name; those not given are None or empty.
    """
    typed = {name: given for name, given in o.items() if name != "workers"}
    return typed | {"guide": guide, "space": run.loaded()[0].reference, "options": list(extra)}


def worker_words(out: Path, o: Mapping[str, Any], extra: Sequence[str]) -> list[str]:
    """Write the words of the same search with one worker.

    Args:
        out: Folder of the run.
        o: Options of the command by name, and its space.
        extra: Words that no option took.

    Returns:
        Words after `nasplat`.
    """
    found = ["search", o["space"], "--out", str(out)]
    for name, given in o.items():
        if name in {"space", "workers"}:
            continue
        option = "--" + {"supernet_run": "supernet", "latency_folder": "latency"}.get(name, name.replace("_", "-"))
        if isinstance(given, bool):
            found += [option] if given else []
            continue
        for value in given if isinstance(given, tuple) else () if given is None else (given,):
            found += [option, str(value)]
    return [*found, *extra]
