"""A run folder becomes report.html: one file that needs nothing else, with what was searched, found and checked.

This file gathers the values; `templates/` turns them into a page, and escapes every one of them. Charts are drawn by
the page itself from data embedded in it: hover for a network, wheel to zoom, drag to move, double click to reset.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from optuna.trial import FrozenTrial, TrialState

from nasplat.errors import ContentError, SearchError, SpaceError, TrustError
from nasplat.graph.bounds import signed
from nasplat.graph.drawing import draw, draw_diff
from nasplat.runs.charts import expectation, history, pareto, rank
from nasplat.runs.delivered import files_told, pictures_told, predictors_told
from nasplat.runs.folder import RunFolder
from nasplat.runs.importance import ABSENT, importance
from nasplat.runs.listings import plan_listing
from nasplat.runs.reading import as_written, certificate_in
from nasplat.runs.supernet_curves import training_story
from nasplat.searchspace import Architecture
from nasplat.searchspace.registry import is_trusting, trusting
from nasplat.study.ledger import STOPPED
from nasplat.study.stages import PLAN
from nasplat.tables.listing import Listing
from nasplat.tables.rows import write_atomically

TEMPLATES = Path(__file__).parent / "templates"
POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; img-src data:; base-uri 'none'; form-action 'none'"
)
"""What the page may do: run its own script, use its own style, show the pictures inside it; and nothing else, whatever
stands in what a run folder says."""
COMPARED = 7
"""Networks of the front that are compared with their neighbours."""
PAIRED = 14
"""Boxes of each of two networks side by side, which must fit the width of the page."""
LISTED = 200
"""Networks of the front that are listed."""


def write_report(folder: str | Path, trust: bool = False) -> Path:
    """Write report.html into a run folder: what was searched, found, exported and how to repeat it.

    Args:
        folder: Run folder of a search, a demo or the training of a supernet.
        trust: Whether Python files that the folder names, such as that of its space, may be run. Without it the page
            leaves drawings of networks out, and says so, where their space was not loaded in this process.

    Returns:
        Path of the page.

    Raises:
        SearchError: the folder holds no run, or its study is missing.

    Example:
        >>> write_report("nowhere")
        Traceback (most recent call last):
        ...
        nasplat.errors.SearchError: expected a run folder with run.json, got 'nowhere'.
          Give the --out of an earlier command.
    """
    run = RunFolder(folder)
    about, found = run.about, certificate_in(run.certificate)
    with as_written(run.certificate):
        certificate = None if found is None else _certificate(asdict(found))
    if about["verb"] == "train":
        page = _rendered(about, run, certificate, None)
    elif about["verb"] in {"label", "improve"}:
        raise SearchError(
            f"expected a search, a training or a demo, got {about['verb']} in {str(run)!r}.\n"
            "  Its results are tables and files that need no page."
        )
    else:
        line = run.chosen_line
        chosen = None if line is None else {"architecture": line}
        study = run.study()
        with as_written(run.storage), trusting(trust or is_trusting()):
            told = _study(study, chosen)
        page = _rendered(about, run, certificate, told)
    write_atomically(run.report, page.encode("utf-8", "replace"))  # JSON may hold half a character
    return run.report


def render(study: optuna.Study, about: dict[str, Any], chosen: Any, certificate: Any, folder: Path) -> str:
    """Turn a study and what lies beside it into the text of the page.

    Args:
        study: Study of the run.
        about: What run.json holds.
        chosen: What chosen.json holds; with None the network with the best first objective stands in.
        certificate: What the certificate of the exported file holds, or None.
        folder: Run folder; it is named in the replay command, and its other files are told of.

    Returns:
        HTML that needs no other file.
    """
    checked = None if certificate is None else _certificate(certificate)
    return _rendered(about, RunFolder(folder), checked, _study(study, chosen))


def _rendered(about: dict[str, Any], folder: RunFolder, certificate: Any, study: dict[str, Any] | None) -> str:
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    with as_written(folder.checkpoint):
        training = training_story(folder)
    style, script = ((TEMPLATES / f"report.{end}").read_text(encoding="utf-8") for end in ("css", "js"))
    return environment.get_template("report.html").render(
        policy=POLICY.format(script=_hash(script), style=_hash(style)),
        title=f"{about['verb']} of {about['settings'].get('space', '')}",
        style=style,
        script=script,
        study=study,
        predictors=predictors_told(folder),
        pictures=pictures_told(folder),
        files=files_told(folder),
        certificate=certificate,
        training=training,
        replay={
            "folder": folder.path.name,
            "command": about["command"],
            "rows": [(k, json.dumps(about[k])) for k in ("settings", "versions", "hardware", "started") if k in about],
        },
    )


def _hash(text: str) -> str:
    """What a content security policy calls a script or style that stands in the page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode()}'"


def _study(study: optuna.Study, chosen: Any) -> dict[str, Any]:
    trials = study.get_trials(deepcopy=False)
    done = [t for t in trials if t.state == TrialState.COMPLETE and "architecture" in t.user_attrs]
    done = [t for t in done if all(map(isfinite, t.values))]  # no chart has a place for the others
    names = study.metric_names or [f"objective {i}" for i in range(len(study.directions))]
    best = max(done, key=rank(study)) if done else None
    front = {t.number for t in (study.best_trials if len(study.directions) > 1 else [best] if best else [])}
    members = sorted((t for t in done if t.number in front), key=rank(study), reverse=True)
    pruned = [t for t in trials if t.state == TrialState.PRUNED]
    stopped = sum(STOPPED in t.user_attrs for t in pruned)
    charts = {"pareto": pareto(done, front, names), "history": history(study, done, names)}
    agreement = expectation(done, names)
    told = {p[3] for chart in (*charts.values(), agreement) if chart is not None for p in chart.data["points"]}
    line = chosen["architecture"] if chosen else best.user_attrs["architecture"] if best else None
    left_out: list[str] = []
    shown = {
        "chosen": None if line is None else _chosen(line, left_out),
        "members": _members(members[:LISTED], names, left_out),
        "neighbours": _neighbours(members, names, left_out),
    }
    return {
        **{"done": len(done), "front": len(front), "stopped": stopped, "refused": len(pruned) - stopped},
        **charts,
        "agreement": agreement,
        "tips": {t.number: _tip(t, names) for t in done if t.number in told},
        "plan": _plan(study),
        "importance": _importance(done, names),
        **shown,
        "left_out": left_out[0] if left_out else "",
        "failed": [_failure(t) for t in trials if t.state == TrialState.FAIL],
    }


def _plan(study: optuna.Study) -> dict[str, Any] | None:
    if PLAN not in study.user_attrs:
        return None
    kept = json.loads(study.user_attrs[PLAN])
    plan = kept[PLAN]
    listing = plan_listing(kept["stages"], plan["agreement"], plan["costs"], plan["counts"], kept["shares"])
    return {"pilots": plan["pilots"], "budget": f"{kept['budget']:,.4g}", "listing": listing}


def _tip(trial: FrozenTrial, names: Sequence[str]) -> str:
    values = "; ".join(f"{n} {_number(v)}" for n, v in zip(names, trial.values, strict=True))
    about = trial.user_attrs
    return f"trial {trial.number}: {values}\n{about['params']:,} parameters\n{about['architecture']}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.5g}"


def _importance(done: Sequence[FrozenTrial], names: Sequence[str]) -> dict[str, Any] | None:
    found = importance(done, names)
    if found is None:
        return None
    rows = [
        {
            "choice": choice,
            "shares": [
                {"value": loss, "width": 100 * loss / most if most > 0 else 0.0}
                for loss, most in zip(losses, found.most, strict=True)
            ],
        }
        for choice, losses in zip(found.choices, found.losses, strict=True)
    ]
    explained = "; ".join(f"{n} {max(0.0, e):.2f}" for n, e in zip(names, found.explained, strict=True))
    return {
        **{"learnt": found.learnt, "unseen": found.unseen, "explained": explained},
        **{"objectives": found.objectives, "rows": rows},
    }


def _network(line: str, left_out: list[str]) -> Architecture | None:
    """The network of a line; None, with the reason kept, where its space cannot be had, or data name its file."""
    try:
        return Architecture.from_json(line)
    except (ContentError, SpaceError, TrustError) as err:
        left_out.append(str(err))
        return None


def _chosen(line: str, left_out: list[str]) -> dict[str, str]:
    architecture = _network(line, left_out)
    if architecture is None:
        return {"title": line, "drawing": ""}
    graph = architecture.graph()
    title = f"{architecture}: {graph.macs:,} MACs, {graph.params:,} parameters"
    return {"title": title, "drawing": draw(graph)}


def _members(members: Sequence[FrozenTrial], names: Sequence[str], left_out: list[str]) -> Listing:
    counts = [n for n in ("macs", "params") if n not in names]
    rows = []
    for trial in members:
        architecture = _network(trial.user_attrs["architecture"], left_out)
        numbers = [*(_number(v) for v in trial.values), *(f"{trial.user_attrs[n]:,}" for n in counts)]
        told = json.dumps(trial.params) if architecture is None else architecture.space.format(architecture)
        rows.append([*numbers, told])
    return Listing([*names, *counts, "choices"], rows)


def _neighbours(members: Sequence[FrozenTrial], names: Sequence[str], left_out: list[str]) -> list[dict[str, Any]]:
    """Neighbours along the front: which choices differ, what that costs and brings, and where in the network it is."""
    if len(members) > COMPARED:
        members = [members[round(at)] for at in np.linspace(0, len(members) - 1, COMPARED)]
    found = []
    for better, other in pairwise(members):
        changes = [
            [name, str(better.params.get(name, "–")), str(other.params.get(name, "–"))]
            for name in sorted(better.params.keys() | other.params.keys())
            if better.params.get(name, ABSENT) != other.params.get(name, ABSENT)
        ]
        values = zip(names, better.values, other.values, strict=True)
        pair = [_network(t.user_attrs["architecture"], left_out) for t in (better, other)]
        graphs = [a.graph() for a in pair if a is not None]
        found.append(
            {
                **{"first": better.number, "second": other.number},
                "gains": "; ".join(f"{n} {_number(a)} → {_number(b)}" for n, a, b in values),
                "changes": Listing(["choice", f"trial {better.number}", f"trial {other.number}"], changes),
                "drawing": draw_diff(graphs[0], graphs[1], boxes=PAIRED) if len(graphs) == len(pair) else "",
            }
        )
    return found


def _certificate(certificate: dict[str, Any]) -> dict[str, Any]:
    signs = {"macs": certificate.get("bound", ""), "params": certificate.get("params_bound", "")}
    rows = [
        (k, signed(json.dumps(v) if isinstance(v, dict | list) else str(v), signs.get(k, "")))
        for k, v in certificate.items()
        if k not in {"checks", "bound", "params_bound"}
    ]
    return {"checks": certificate["checks"], "rows": rows}


def _failure(trial: FrozenTrial) -> dict[str, Any]:
    reason = str(trial.user_attrs.get("traceback") or trial.user_attrs.get("reason") or "").strip() or "interrupted"
    return {"number": trial.number, "line": reason.splitlines()[-1][:160], "reason": reason}
