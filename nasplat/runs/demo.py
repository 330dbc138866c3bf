"""The demo: every room of the house on embedded data, ending with a comparison that could fail.

Nothing precomputed is read but the shipped predictor, which has seen no label of the searched task.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import optuna
import torch

from nasplat.inputs import load_task
from nasplat.runs import listings
from nasplat.runs.folder import RunFolder, hardware, versions
from nasplat.runs.guide import guide_of
from nasplat.runs.kinds import DemoRun, SearchRun, TrainRun
from nasplat.runs.messages import Messages
from nasplat.runs.page import write_report
from nasplat.runs.preparation import Prepared
from nasplat.runs.results import pareto_rows, top
from nasplat.runs.training import loaded, train_supernet
from nasplat.runs.trials import run_search
from nasplat.searchspace import Architecture, Space
from nasplat.study import Limits
from nasplat.study.pool import cores, pool
from nasplat.supernet import TrainConfig
from nasplat.tables.listing import Listing
from nasplat.tables.rows import write_atomically
from nasplat.task.training import Budget, train_architecture
from nasplat.workflows.export import export
from nasplat.workflows.score import score

SPACE = "nasbench201"
PRESETS: dict[str, Any] = {"width": 8, "cells": 1, "image": 16, "channels": 1}
REFERENCE: dict[str, Any] = {"width": 16, "cells": 5, "image": 32, "channels": 3}
"""Presets at which the shipped predictor knows the cells."""
PREDICTOR = "trees-nb201"
TASK = "digits-clutter"
PROCESSES = 8
"""Largest number of processes that train the networks of the comparison."""
NETWORKS = (
    "nasbench201:|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
    "nasbench201:|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
    "nasbench201:|nor_conv_1x1~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|",
    "nasbench201:|skip_connect~0|+|none~0|nor_conv_3x3~1|+|nor_conv_3x3~0|skip_connect~1|nor_conv_3x3~2|",
    "nasbench201:|nor_conv_3x3~0|+|avg_pool_3x3~0|avg_pool_3x3~1|+|avg_pool_3x3~0|none~1|avg_pool_3x3~2|",
    "nasbench201:|none~0|+|skip_connect~0|none~1|+|none~0|nor_conv_1x1~1|skip_connect~2|",
)


@dataclass(frozen=True)
class Scale:
    """How much the demo does."""

    epochs: int
    """Passes over the training split in the training of the supernet."""
    trials: int
    """Number of networks that the search evaluates."""
    rivals: int
    """Number of random networks that are trained for the comparison."""
    finalists: int
    """Number of best subnets that are trained alone; the decide split chooses among them."""
    budget: Budget
    """How long every network is trained alone."""
    macs: float
    """Largest number of multiply-accumulates of a network, in the search and among the rivals."""


FULL = Scale(12, 40, 20, 6, Budget(epochs=3, batch_size=32, lr=5e-3), 1.2e6)
FAST = Scale(2, 10, 4, 2, Budget(epochs=1, batch_size=32, lr=5e-3), 1.2e6)


def run_demo(out: str | Path, seed: int, scale: Scale, messages: Messages | None = None) -> dict[str, Any]:
    """Run the demo into a folder; run again, it resumes.

    Args:
        out: Run folder, made where there is none.
        seed: Number that decides supernet, search, rivals and trainings.
        scale: How much is done.
        messages: Where lines, tables and progress go; None for silence.

    Returns:
        Everything measured: 'scored', 'pareto', the found network beside its rivals, 'export' and 'seconds'.
    """
    started, messages, folder = time.perf_counter(), messages or Messages(), RunFolder(out)
    torch.set_num_threads(1)  # these networks are too small to share among cores; processes share them
    run = SearchRun(SPACE, TASK, PRESETS, limits={"macs": scale.macs}, trials=scale.trials, seed=seed)
    run = replace(run, guide=PREDICTOR, guide_at=REFERENCE, train=TrainConfig(scale.epochs, batch_size=32, lr=5e-3))
    space, task = loaded(run)
    resolved = {"scale": asdict(scale), "space": space.reference, "fingerprint": space.fingerprint, "task": repr(task)}
    folder.describe(DemoRun(seed, fast=scale == FAST), resolved)
    messages.say("1. Six networks scored before any training (CIFAR-10 test accuracy in percent, 90 % interval)")
    rows = score(list(NETWORKS), PREDICTOR)
    tables = [listings.scored_listing(rows, PREDICTOR)]
    messages.show(tables[0])
    scored = [{"network": r.name} | r.prediction.to_dict() for r in rows]
    messages.say(f"\n2. One supernet of {space!r} on {task!r}")
    prepared, study = _searched(run, folder, messages)
    front = pareto_rows(study, space)
    messages.say(f"\n3. Pareto set of {len(front)} subnets, inherited accuracy against MACs (limit {scale.macs:,.0f})")
    tables.append(listings.pareto_listing(front, len(study.trials)))
    messages.show(tables[1])
    result: dict[str, Any] = {"seed": seed, "scored": scored, "pareto": front}
    result |= _compared(space, study, seed, scale, messages)
    result["export"] = _exported(prepared, result, scale, messages)
    why = f"best on the decide split of {scale.finalists} finalists trained alone"
    folder.choose(space.parse(result["found"]), why)
    folder.record(files={folder.network.name: result["export"]["sha256"]})
    result["seconds"] = time.perf_counter() - started
    write_atomically(folder.results, json.dumps(result, indent=1, default=str) + "\n")
    write_atomically(folder.results_page, results_page(result, scale, tables))
    report = write_report(folder.path)
    files = ", ".join(f.name for f in (folder.results_page, folder.journal, folder.network, folder.certificate))
    messages.say(f"\n{result['seconds']:.0f} s. Everything is in {folder}/: {files}\nOpen {report}")
    return result


def _searched(run: SearchRun, folder: RunFolder, messages: Messages) -> tuple[Prepared, optuna.Study]:
    """Train the supernet and search it."""
    space, task = loaded(run)
    supernet = train_supernet(TrainRun(space, task, train=run.train, seed=run.seed), space, task, folder, messages)
    last = supernet.history[-1]
    messages.say(f"   {supernet!r}, last loss {last.loss:.3f}, {last.images_per_second:,.0f} images/s")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    guide = guide_of(run.guide, run.guide_at, space, run.seed, folder)
    prepared = Prepared(run, space, task, folder, guide, supernet)
    with messages.progress("search") as update:
        study = run_search(prepared, report=lambda p: update(p.done, p.total, f"{p.refused} refused"))
    return prepared, study


def _compared(space: Space, study: optuna.Study, seed: int, scale: Scale, messages: Messages) -> dict[str, Any]:
    """Compare what was found with random networks, and say how it went."""
    messages.say(
        f"\n4. Trained alone on equal budgets ({scale.budget.epochs} epochs): the found network against {scale.rivals} "
        "random ones"
    )
    found = compare_trained(space, study, seed, scale, messages)
    messages.say(
        f"   found  {found['found_test']:.2f} % on test images, {found['found_macs']:,} MACs\n"
        f"   random median {found['median_test']:.2f} %, best {max(found['rivals_test']):.2f} %, "
        f"{len(found['rivals_test'])} networks under the same limit: the found one "
        f"{'beats' if found['wins'] else 'DOES NOT beat'} the median"
    )
    return found


def compare_trained(
    space: Space, study: optuna.Study, seed: int, scale: Scale, messages: Messages | None = None
) -> dict[str, Any]:
    """Train finalists and random rivals alone, on equal budgets; decide chooses the finalist, test compares.

    Args:
        space: Space that was searched.
        study: Finished study of the space.
        seed: Number that decides the rivals and the trainings.
        scale: How many networks are trained, and how long.
        messages: Where progress goes; None for silence.

    Returns:
        Encoding, MACs and test accuracy in percent of the found network, test accuracies of the rivals with their
        median, whether the found one 'wins' over it, and the mean seconds of one training.
    """
    finalists = top(study, space, scale.finalists)
    jobs = [(a.to_json(), TASK, scale.budget, seed) for a in (*finalists, *_rivals(space, scale, seed))]
    done: list[dict[str, float]] = []
    progress = (messages or Messages()).progress("train")
    with progress as update, pool(min(cores(), PROCESSES)) as processes:
        for row in processes.imap(_train, jobs):
            done.append(row)
            update(len(done), len(jobs), f"{row['test']:.1f} %")
    chosen = max(range(len(finalists)), key=lambda i: done[i]["decide"])
    others = [row["test"] for row in done[len(finalists) :]]
    found = finalists[chosen]
    return {
        "found": space.format(found),
        "found_test": done[chosen]["test"],
        "found_macs": found.graph().macs,
        "rivals_test": others,
        "median_test": median(others),
        "wins": done[chosen]["test"] > median(others),
        "seconds_per_network": sum(r["seconds"] for r in done) / len(done),
    }


def _rivals(space: Space, scale: Scale, seed: int) -> list[Architecture]:
    """Draw different architectures within the limit.

    They are told apart by their choices, as in the results of bench_found_network; `draw_distinct`, which tells apart
    what they compute, would draw other ones.
    """
    rng, bounds, found = random.Random(f"rivals {seed}"), Limits.of({"macs": scale.macs}), list[Architecture]()
    while len(found) < scale.rivals:
        drawn = bounds.draw(space, rng)
        if drawn not in found:
            found.append(drawn)
    return found


def _train(job: tuple[str, str, Budget, int]) -> dict[str, float]:
    """Train one network in a process of its own."""
    line, task, budget, seed = job
    trained = train_architecture(Architecture.from_json(line), load_task(task), budget, seed)
    return {"decide": trained.decide, "test": trained.test, "seconds": trained.seconds}


def _exported(prepared: Prepared, result: dict[str, Any], scale: Scale, messages: Messages) -> dict[str, Any]:
    """Export the found network; the same seed gives the network that was compared."""
    found, file = prepared.space.parse(result["found"]), prepared.folder.network
    module = train_architecture(found, prepared.task, scale.budget, prepared.run.seed).module
    example: Any = found.example_input
    certificate = export(module, file, example, task=prepared.task)
    messages.say(
        f"\n5. Exported {file} ({certificate.size_bytes:,} bytes): ONNX Runtime and torch differ by at most "
        f"{certificate.max_relative_error:.1e} of the output's spread; {certificate.torch_latency_ms:.2f} ms in torch, "
        f"{certificate.onnx_latency_ms:.2f} ms in ONNX Runtime"
    )
    return {k: v for k, v in asdict(certificate).items() if k != "checks"}


def _verdict(result: dict[str, Any], scale: Scale) -> str:
    """Say in words how the found network compares with its rivals."""
    return (
        f"Found: {result['found_test']:.2f} % on test images, {result['found_macs']:,} MACs. Median of "
        f"{len(result['rivals_test'])} random networks under {scale.macs:,.0f} MACs: {result['median_test']:.2f} %. "
        f"The found network {'beats' if result['wins'] else 'does not beat'} the median."
    )


def results_page(result: dict[str, Any], scale: Scale, tables: list[Listing]) -> str:
    """Return the results as one Markdown page.

    Args:
        result: Answer of `run_demo`.
        scale: How much was done.
        tables: The networks scored, and the Pareto set.

    Returns:
        Markdown, with a heading per part.
    """
    scored, front = (replace(t, title="") for t in tables)
    return f"""# nasplat demo

Seed {result["seed"]}; {json.dumps(hardware())}; {json.dumps(versions())}

## Scored ({tables[0].title})

{scored.markdown()}
## Pareto set on {TASK}

{front.markdown()}
## Trained alone

{_verdict(result, scale)}

## Exported

`best.onnx`, largest relative error {result["export"]["max_relative_error"]:.1e}, sha256 {result["export"]["sha256"]}.
"""
