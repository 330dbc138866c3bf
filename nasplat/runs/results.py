"""What a search gives: the Pareto set as rows, the best networks, and files of them that were judged as files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from nasplat.errors import SearchError
from nasplat.predict.device import DevicePredictor
from nasplat.runs import listings
from nasplat.runs.messages import Messages
from nasplat.runs.page import write_report
from nasplat.runs.preparation import Prepared
from nasplat.searchspace import Architecture, Space
from nasplat.study.allocation import Plan
from nasplat.study.claims import members_of
from nasplat.study.directions import signs
from nasplat.study.search import architectures
from nasplat.supernet import Supernet
from nasplat.tables.listing import Listing
from nasplat.tables.rows import write_atomically
from nasplat.workflows.deliver import Member, hand_over, latency_agreement, show
from nasplat.workflows.export import export


def deliver(prepared: Prepared, study: optuna.Study, messages: Messages | None = None) -> None:
    """Write what a search hands over: the chosen network, its files and certificate, pictures, and the report.

    Args:
        prepared: Search with everything that it needed.
        study: Study with a finished trial.
        messages: Where lines, tables and progress go; None for silence.

    Raises:
        SearchError: no trial finished.
        ExportError: a file does not compute what its network computes.
    """
    run, folder, supernet, messages = prepared.run, prepared.folder, prepared.supernet, messages or Messages()
    chosen = best(study, prepared.space)
    folder.choose(chosen, "best first objective")
    if supernet is not None:
        example: Any = chosen.example_input
        certificate = export(supernet.subnet(chosen), folder.network, example, task=prepared.task)
        files = {folder.network.name: certificate.sha256}
        messages.say(f"exported {folder.network}: largest relative error {certificate.max_relative_error:.1e}")
        if (run.exports or 1) > 1 or prepared.latency is not None:
            with messages.progress("files") as update:
                rows = hand_over_front(prepared, supernet, study, update)
            files |= {f"front/{r['name']}.onnx": _hash(folder.members / f"{r['name']}.onnx") for r in rows}
            table = listings.files_listing(rows, f"test {prepared.task.metric_name}")
            title = f"Files in ONNX Runtime, one example, {rows[0]['threads']} threads"
            messages.show(replace(table, title=title))
        folder.record(files=files)
        show(folder.network, prepared.task, folder.pictures)
    messages.say(f"report {write_report(folder.path)}")


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def hand_over_front(
    prepared: Prepared,
    supernet: Supernet,
    study: optuna.Study,
    report: Callable[[int, int, str], None] | None = None,
) -> list[dict[str, Any]]:
    """Export members of the Pareto set, spread along it, the best first objective among them; see `hand_over`.

    Args:
        prepared: Search with everything that it needed.
        supernet: Supernet whose weights the members get.
        study: Study whose Pareto set is exported.
        report: Called with (done, all, words about the last file).

    Returns:
        One row per file, see `hand_over`.
    """
    sign, n = signs(study)[0], prepared.run.exports or 1
    front = sorted(architectures(study, prepared.space), key=lambda r: -sign * r[1][0])
    places = np.unique(np.linspace(0, len(front) - 1, min(n, len(front))).round().astype(int))
    members = [Member(f"{i:02d}", front[p][0], front[p][1][0]) for i, p in enumerate(places)]
    # files are timed here: what is said of another device does not stand beside that
    latency = None if isinstance(prepared.latency, DevicePredictor) else prepared.latency
    rows = hand_over(supernet, members, prepared.folder.path, latency, report)
    validation = None if prepared.latency is None else prepared.latency.validation_
    found = {"latency": latency_agreement(rows), "validation": validation}
    write_atomically(prepared.folder.front_summary, json.dumps(found, indent=1) + "\n")
    return rows


def plan_of(stages: Sequence[str], plan: Plan) -> Listing:
    """Describe which stage of a search was asked how many networks, and why.

    Args:
        stages: Words of the stages, such as ('predicted', 'trained:12').
        plan: Plan of the search.

    Returns:
        One row per stage.
    """
    found = listings.plan_listing(stages, plan.agreement, plan.costs, plan.counts, plan.shares)
    title = f"Plan after a pilot of {plan.pilots} networks that every stage evaluated; costs in seconds"
    return replace(found, title=title)


def pareto_rows(study: optuna.Study, space: Space) -> list[dict[str, Any]]:
    """Return the Pareto set as rows, best first objective first.

    Args:
        study: Study of the space.
        space: Space that was searched.

    Returns:
        One row per network: its encoding, parameters and MACs, and every objective by name; empty where no trial
        finished.
    """
    names, rows, sign = study.metric_names or [], [], signs(study)[0]
    for architecture, values in sorted(architectures(study, space), key=lambda r: -sign * r[1][0]):
        graph = architecture.graph()
        row = {"architecture": space.format(architecture), "params": graph.params, "macs": graph.macs}
        row |= {n: s for n, s in (("macs_bound", graph.cost.bound), ("params_bound", graph.cost.params_bound)) if s}
        rows.append(row | {n: v for n, v in zip(names, values, strict=True) if n not in row})
    return rows


def best(study: optuna.Study, space: Space) -> Architecture:
    """Return the network of the finished trial with the best first objective.

    Args:
        study: Study of the space.
        space: Space that was searched.

    Returns:
        Architecture of the space.

    Raises:
        SearchError: no trial finished; the message says why the last one did not.
    """
    ranked = top(study, space, 1)
    if not ranked:
        raise SearchError(why_nothing(study))
    return ranked[0]


def why_nothing(study: optuna.Study) -> str:
    """Say in words why a study has no finished trial.

    Args:
        study: Study without a finished trial.

    Returns:
        A sentence, and on its next line what to do.
    """
    trials = study.get_trials(deepcopy=False)
    refused = [t.user_attrs["reason"] for t in trials if "reason" in t.user_attrs]
    if refused and len(refused) == len(trials):
        return (
            f"expected a finished trial, got none: all {len(refused)} networks proposed were refused, the last one "
            f"because: {refused[-1]}.\n  Use another guide or quality, or loosen the limits."
        )
    return "expected a finished trial, got none.\n  Look at the failed trials' tracebacks in the study."


def top(study: optuna.Study, space: Space, n: int) -> list[Architecture]:
    """Return the networks of the finished trials with the best first objective, best first.

    Args:
        study: Study of the space.
        space: Space that was searched.
        n: Number of networks at most.

    Returns:
        At most n architectures.
    """
    sign = signs(study)[0]
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ranked = sorted(done, key=lambda t: -sign * t.values[0])
    return members_of(study, ranked[:n], space)


def unanswered(prepared: Prepared, study: optuna.Study) -> str:
    """Say that the guide had no answer for any network of a study; empty where it had one, or where there is none.

    Args:
        prepared: Search with its guide.
        study: Study that it guided.

    Returns:
        One sentence, or nothing.
    """
    if prepared.guide.objective is None or prepared.run.stages:
        return ""
    met = [t for t in study.get_trials(deepcopy=False) if "key" in t.user_attrs and "known" not in t.user_attrs]
    if not met or any("guide" in t.user_attrs for t in met):
        return ""
    return (
        f"guide {prepared.guide.name} abstained on all {len(met)} networks: proposals came from the trials alone; "
        "--guide-at NAME=VALUE lets it score the choices at the presets that it learnt from."
    )
