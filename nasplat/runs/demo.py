"""The demo: every room of the house on embedded data, ending with a comparison that could fail.

Nothing precomputed is read but the shipped predictor, which has seen no label of the searched task.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nasplat.inputs import load_predictor, load_task
from nasplat.runs import runs, write_report
from nasplat.searchspace import Architecture, Space, load_space
from nasplat.study import Limits
from nasplat.supernet import Supernet
from nasplat.task import Task
from nasplat.task.training import Budget, train_architecture
from nasplat.workflows import export as exporting
from nasplat.workflows.score import score

SPACE = "nasbench201"
PRESETS: dict[str, Any] = {"width": 8, "cells": 1, "image": 16, "channels": 1}
REFERENCE: dict[str, Any] = {"width": 16, "cells": 5, "image": 32, "channels": 3}
"""Where the shipped predictor knows the cells."""
TASK = "digits-clutter"
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
    """Of the supernet."""
    trials: int
    """Of the search."""
    rivals: int
    """Random networks trained for the comparison."""
    finalists: int
    """Best subnets trained alone; the decide split chooses among them."""
    budget: Budget
    """Of every network trained alone."""
    macs: float
    """Limit for search and rivals."""


FULL = Scale(12, 40, 20, 6, Budget(epochs=3, batch_size=32, lr=5e-3), 1.2e6)
FAST = Scale(2, 10, 4, 2, Budget(epochs=1, batch_size=32, lr=5e-3), 1.2e6)


def run(
    out: Path,
    seed: int,
    scale: Scale,
    say: Callable[[str], Any] = print,
    progress: Callable[[str], Any] | None = None,
) -> dict[str, Any]:
    """Run the demo into a folder; run again, it resumes.

    Args:
        out: Run folder.
        seed: Of supernet, search, rivals and trainings.
        scale: How much.
        say: Prints a line.
        progress: Makes a context manager that yields update(done, total, note).

    Returns:
        Everything measured.
    """
    started = time.perf_counter()
    torch.set_num_threads(1)  # these networks are too small to share among cores; processes share them
    space, task = load_space(SPACE, **PRESETS), load_task(TASK)
    runs.describe(out, "demo", {"seed": seed, "scale": asdict(scale), "space": space.reference, "task": repr(task)})
    result: dict[str, Any] = {"seed": seed, "scored": _show_scores(say)}
    say(f"\n2. One supernet of {space!r} on {task!r}")
    study = _search(space, task, out, seed, scale, say, progress)
    result["pareto"] = runs.pareto_rows(study, space)
    say(
        f"\n3. Pareto set of {len(result['pareto'])} subnets, inherited accuracy against MACs (limit {scale.macs:,.0f})"
    )
    for row in result["pareto"]:
        say(
            f"   {row['inherited accuracy_percent']:6.2f} %  {row['macs']:>10,} MACs  {row['params']:>8,} parameters  {row['architecture']}"
        )
    say(
        f"\n4. Trained alone on equal budgets ({scale.budget.epochs} epochs): the found network against {scale.rivals} random ones"
    )
    result |= compare(space, study, seed, scale, progress)
    say(
        f"   found  {result['found_test']:.2f} % on test images, {result['found_macs']:,} MACs\n"
        f"   random median {result['median_test']:.2f} %, best {max(result['rivals_test']):.2f} %, {len(result['rivals_test'])} networks "
        f"under the same limit: the found one {'beats' if result['wins'] else 'DOES NOT beat'} the median"
    )
    result["export"] = _export(space, task, result, seed, scale, out, say)
    runs.choose(
        out, space.parse(result["found"]), f"best on the decide split of {scale.finalists} finalists trained alone"
    )
    result["seconds"] = time.perf_counter() - started
    (out / "results.json").write_text(json.dumps(result, indent=1, default=str) + "\n", encoding="utf-8")
    (out / "results.md").write_text(page(result, scale), encoding="utf-8")
    report = write_report(out)
    say(
        f"\n{result['seconds']:.0f} s. Everything is in {out}/: results.md, study.journal, best.onnx, best.certificate.json"
    )
    say(f"Open {report}")
    return result


def _show_scores(say: Callable[[str], Any]) -> list[dict[str, Any]]:
    say("1. Six networks scored before any training (CIFAR-10 test accuracy in percent, 90 % interval)")
    rows = score(list(NETWORKS), "trees-nb201")
    for i, r in enumerate(rows, 1):
        p = r.prediction
        value = f"{p.mean:6.2f} [{p.low:.2f}, {p.high:.2f}]" if p.mean is not None else "outside the support"
        say(
            f"   {i}. {value:<24} {p.macs / 1e6:7.2f} M MACs {p.params / 1e6:6.3f} M parameters  {r.name.partition(':')[2]}"
        )
    return [{"network": r.name} | r.prediction.to_dict() for r in rows]


def _search(
    space: Space, task: Task, out: Path, seed: int, scale: Scale, say: Callable[[str], Any], progress: Any
) -> Any:
    supernet = Supernet(space, task, seed)
    with _bar(progress, "supernet") as update:
        supernet.train(
            epochs=scale.epochs,
            batch_size=32,
            lr=5e-3,
            checkpoint=out / "supernet",
            report=lambda e, n: update(e.epoch, n, f"loss {e.loss:.3f}"),
        )
    last = supernet.history[-1]
    say(f"   {supernet!r}, last loss {last.loss:.3f}, {last.images_per_second:,.0f} images/s")
    with _bar(progress, "search") as update:
        study = runs.run_search(
            space,
            task,
            out,
            supernet=supernet,
            limits={"macs": scale.macs},
            trials=scale.trials,
            guide_at=REFERENCE,
            seed=seed,
            report=lambda p: update(p.done, p.total, f"{p.refused} refused"),
        )
    return study


def compare(space: Space, study: Any, seed: int, scale: Scale, progress: Any = None) -> dict[str, Any]:
    """Train finalists and random rivals alone, on equal budgets; decide chooses the finalist, test compares."""
    finalists = runs.top(study, space, scale.finalists)
    rng, bounds = random.Random(f"rivals {seed}"), Limits.of({"macs": scale.macs})
    rivals: list[Architecture] = []
    while len(rivals) < scale.rivals:
        drawn = bounds.draw(space, rng)
        if drawn not in rivals:
            rivals.append(drawn)
    jobs = [(a.to_json(), asdict(scale.budget), seed) for a in (*finalists, *rivals)]
    done: list[dict[str, float]] = []
    with _bar(progress, "train") as update, _pool() as pool:
        for row in pool.imap(_train, jobs):
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


def _pool() -> Any:
    """One process per core, one thread each: two torch processes fighting over two cores are ten times slower."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return multiprocessing.get_context("spawn").Pool(min(cores, 8), signal.signal, (signal.SIGINT, signal.SIG_IGN))


def _train(job: tuple[str, dict[str, Any], int]) -> dict[str, float]:
    torch.set_num_threads(1)
    line, budget, seed = job
    trained = train_architecture(Architecture.from_json(line), load_task(TASK), Budget(**budget), seed)
    return {"decide": trained.decide, "test": trained.test, "seconds": trained.seconds}


def _export(
    space: Space, task: Task, result: dict[str, Any], seed: int, scale: Scale, out: Path, say: Callable[[str], Any]
) -> dict[str, Any]:
    found = space.parse(result["found"])
    module = train_architecture(found, task, scale.budget, seed).module  # the same seed gives the network just compared
    certificate = exporting.export(module, out / "best.onnx", found.example_input, task=task)  # type: ignore[arg-type]
    say(
        f"\n5. Exported {out / 'best.onnx'} ({certificate.size_bytes:,} bytes): ONNX Runtime and torch differ by at most "
        f"{certificate.max_relative_error:.1e} of the largest output; {certificate.torch_latency_ms:.2f} ms in torch, "
        f"{certificate.onnx_latency_ms:.2f} ms in ONNX Runtime"
    )
    return {k: v for k, v in asdict(certificate).items() if k != "checks"}


class _Silent:
    def __enter__(self) -> Callable[..., None]:
        return lambda *a: None

    def __exit__(self, *a: object) -> None:
        return None


def _bar(progress: Any, what: str) -> Any:
    return progress(what) if progress else _Silent()


def page(result: dict[str, Any], scale: Scale) -> str:
    """The results as one Markdown page."""
    predictor = load_predictor("trees-nb201")
    lines = [
        "# nasplat demo",
        "",
        f"Seed {result['seed']}; {json.dumps(runs.hardware())}; {json.dumps(runs.versions())}",
        "",
    ]
    lines += [
        f"## Scored ({predictor.metric})",
        "",
        "| predicted | 90 % interval | MACs | parameters | network |",
        "|---|---|---|---|---|",
    ]
    for r in result["scored"]:
        mean = f"{r['mean']:.2f}" if r["mean"] is not None else "–"
        span = f"{r['low']:.2f} – {r['high']:.2f}" if r["low"] is not None else r["reason"]
        network = r["network"].replace("|", "\\|")
        lines.append(f"| {mean} | {span} | {r['macs']:,} | {r['params']:,} | `{network}` |")
    lines += [
        "",
        f"## Pareto set on {TASK}",
        "",
        "| inherited accuracy % | MACs | parameters | cell |",
        "|---|---|---|---|",
    ]
    for r in result["pareto"]:
        cell = r["architecture"].replace("|", "\\|")
        lines.append(f"| {r['inherited accuracy_percent']:.2f} | {r['macs']:,} | {r['params']:,} | {cell} |")
    verdict = "beats" if result["wins"] else "does not beat"
    lines += [
        "",
        "## Trained alone",
        "",
        f"Found: {result['found_test']:.2f} % on test images, {result['found_macs']:,} MACs. Median of {len(result['rivals_test'])} random "
        f"networks under {scale.macs:,.0f} MACs: {result['median_test']:.2f} %. The found network {verdict} the median.",
        "",
        "## Exported",
        "",
        f"`best.onnx`, largest relative error {result['export']['max_relative_error']:.1e}, sha256 {result['export']['sha256']}.",
    ]
    return "\n".join(lines) + "\n"
