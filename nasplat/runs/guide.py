"""Predictors behind a search: the guide that ranks proposals, and those fitted on networks of the space itself."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasplat import content
from nasplat.errors import CaptureError, ContentError, PredictorError, SearchError
from nasplat.inputs import capture, load_predictor
from nasplat.predict.abilities import Calibratable, ComparesWithin
from nasplat.predict.device import device_folder
from nasplat.predict.folder import trained_on
from nasplat.predict.latency import LatencyPredictor
from nasplat.predict.registry import load
from nasplat.probes.conditions import Conditions
from nasplat.runs.folder import RunFolder
from nasplat.runs.kinds import AUTO, FITTED, NONE
from nasplat.searchspace import Space
from nasplat.study import OutsideSupport, Predicted
from nasplat.tables.metrics import sign
from nasplat.workflows.calibrate import calibrate
from nasplat.workflows.quality import Quality
from nasplat.workflows.score import compared

UNIVERSAL = "base"
"""Name of the shipped predictor that may answer in spaces which it never saw."""
ASKED = 8
"""Random networks of a space that tell whether the universal predictor abstains there."""


@dataclass(frozen=True)
class Guide:
    """A predictor that ranks the proposals of a search, and how it came to be chosen."""

    name: str
    """Name or folder of the predictor; 'none' where proposals learn from the trials alone, 'fitted' where it comes
    from pilots."""
    why: str = ""
    """Reason of the choice in words; empty where the caller named the guide."""
    objective: Predicted | None = None
    """Objective that asks the predictor; None for 'none' and 'fitted'."""


def guided(name: str, at: Mapping[str, Any] | None, space: Space, seed: int) -> Predicted:
    """Load a guide; a universal predictor compares with random architectures of the space.

    Args:
        name: Name of a predictor, or its folder.
        at: Presets of the space at which the guide scores the choices; None for those that are searched.
        space: Space to be searched.
        seed: Number that decides the random architectures of the comparison.

    Returns:
        Objective that asks the predictor; larger is better.
    """
    predictor = load_predictor(name)
    if isinstance(predictor, ComparesWithin):
        predictor = compared(predictor, space.with_presets(**at) if at else space, seed)
    return Predicted(predictor, dict(at) if at else None)


def guide_of(name: str, at: Mapping[str, Any] | None, space: Space, seed: int, folder: RunFolder) -> Guide:
    """Load the guide of a search, or find one where the name is 'auto'.

    What a run folder recorded comes first, so that a resumed search keeps its guide; then the shipped predictor that
    was trained on this very space; then the universal predictor, unless it abstains on random networks of the space.

    Args:
        name: 'auto', 'none', 'fitted', or name or folder of a predictor.
        at: Presets of the space at which the guide scores the choices; None for those that are searched.
        space: Space to be searched.
        seed: Number that decides the random networks.
        folder: Folder of the run, which may hold an earlier part of the same search.

    Returns:
        The guide with its objective, and why it was chosen.
    """
    if name in {NONE, FITTED}:
        return Guide(name)
    if name != AUTO:
        return Guide(name, "", guided(name, at, space, seed))
    recorded = folder.found_guide
    if recorded is not None:
        asked = None if recorded in {NONE, FITTED} else guided(recorded, at, space, seed)
        return Guide(recorded, "as before in this run folder", asked)
    own = _trained_on(space)
    if own is not None:
        return Guide(own, f"it was trained on {space.name}", guided(own, at, space, seed))
    try:
        found = guided(UNIVERSAL, at, space, seed)
        silent = _abstains(found, space, seed)
    except (CaptureError, PredictorError) as err:
        return Guide(NONE, f"predictor {UNIVERSAL} cannot compare networks of this space: {str(err).splitlines()[0]}")
    if silent:
        return Guide(NONE, f"predictor {UNIVERSAL} abstains on networks of this space: {silent}")
    return Guide(UNIVERSAL, "no shipped predictor was trained on this space alone", found)


def _trained_on(space: Space) -> str | None:
    """Return the shipped predictor whose recipe names this space, and which needs no labels of the caller's task."""
    for name in content.names("predictors"):
        if trained_on(content.folder("predictors") / name).get("space") == space.name:
            if not isinstance(load_predictor(name), Calibratable):
                return name
    return None


def _abstains(guide: Predicted, space: Space, seed: int) -> str:
    """Return why a guide has no answer for any of a few random networks; empty where it has one."""
    drawn, reason = random.Random(f"{seed} guide"), ""
    for _ in range(ASKED):
        try:
            guide(space.sample(seed=drawn.getrandbits(31)))
            return ""
        except OutsideSupport as err:
            reason = str(err).removeprefix("outside the predictor's support: ")
    return reason


def fitted_guide(quality: Quality, larger_is_better: bool | None = True) -> Predicted:
    """Make a guide of a predictor that was fitted on pilots; it orders networks inside its support and outside.

    Args:
        quality: Predictor with the pilots that it was fitted on.
        larger_is_better: Direction of the quality; None counts as True.

    Returns:
        Objective that answers for every network; larger is better.
    """
    return Predicted(quality.predictor, beyond=True, sign=sign(larger_is_better is not False))


def timed(
    space: Space, folder: Path, runtime: str, n: int, seed: int, report: Callable[[int, int, str], None] | None = None
) -> LatencyPredictor:
    """Return a latency predictor for a space: that of a folder or a device, or a new one that is kept in the folder.

    Args:
        space: Space whose networks are timed.
        folder: Folder of the calibration, made if there is none; or the name of a device, see `nasplat.list_devices`.
        runtime: Runtime in which networks are timed: 'eager', 'compiled', 'cuda-graph' or 'onnxruntime'.
        n: Number of networks to time.
        seed: Number that decides which networks.
        report: Called with (timed, n, words about the last network).

    Returns:
        Predictor of milliseconds, with its error on networks left out in `validation_`.

    Raises:
        SearchError: the folder holds another kind of predictor.
        PredictorError: the folder is incomplete or altered.
    """
    folder = device_folder(folder)
    if not (folder / "recipe.toml").exists():
        calibrate([space], n, Conditions(runtime=runtime), folder, seed, report)
    found = load(folder)
    if not isinstance(found, LatencyPredictor):
        raise SearchError(
            f"expected a latency calibration, got {str(folder)!r}.\n  Give a folder of `nasplat measure --calibrate`."
        )
    found.to_graph = capture
    try:
        found.validation_ = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise ContentError(
            f"expected metrics.json in the calibration {str(folder)!r}: {err}.\n  Fetch the folder whole."
        ) from err
    return found
