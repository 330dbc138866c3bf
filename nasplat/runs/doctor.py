"""Check an installation: versions, content, and one capture, prediction and space each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from nasplat import content
from nasplat.inputs import capture, load_predictor
from nasplat.predict.device import list_devices
from nasplat.predict.folder import trained_on
from nasplat.runs.folder import hardware, versions
from nasplat.searchspace import list_spaces, load_space

Row = dict[str, Any]


def diagnose() -> list[Row]:
    """Check everything that `nasplat doctor` checks.

    Returns:
        One row per check: 'check' names it, 'ok' says whether it passed, 'result' tells what came out.
    """
    rows: list[Row] = [{"check": k, "ok": v != "not installed", "result": v} for k, v in versions().items()]
    rows += [{"check": k, "ok": True, "result": str(v)} for k, v in hardware().items()]
    rows.append({"check": "content", "ok": bool(list_spaces()), "result": str(content.folder("search_spaces"))})
    for name in list_spaces():
        rows.append(_attempt(f"space {name}", lambda name=name: str(load_space(name).sample(seed=0).graph())))
    for name in content.names("predictors"):
        rows.append(_attempt(f"predictor {name}", lambda name=name: _prediction(name)))
    rows.append({"check": "devices", "ok": bool(list_devices()), "result": ", ".join(list_devices())})
    rows.append(_attempt("capture", lambda: str(capture(torch.nn.Linear(4, 2), (1, 4)))))
    rows.append(_attempt("numpy", lambda: str(np.ones(2).sum())))
    return rows


def _attempt(check: str, action: Callable[[], str]) -> Row:
    try:
        return {"check": check, "ok": True, "result": action()}
    except Exception as err:
        return {"check": check, "ok": False, "result": f"{type(err).__name__}: {err}"}


def _prediction(name: str) -> str:
    """What a shipped predictor says of a random network of a space that it learnt from."""
    space = trained_on(content.folder("predictors") / name).get("space", "nasbench201")
    answer = load_predictor(name).predict([load_space(space).sample(seed=1)])[0]
    return f"{answer.mean:.2f} [{answer.low:.2f}, {answer.high:.2f}] {answer.metric}" if answer.mean else answer.reason
