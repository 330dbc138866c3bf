"""Families by name, and predictors from their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nasplat.errors import PredictorError
from nasplat.predict.contract import AbstractPredictor, read_folder
from nasplat.predict.count import CountBaseline
from nasplat.predict.finetuned import Finetuned
from nasplat.predict.latency import LatencyPredictor
from nasplat.predict.trees import Trees
from nasplat.predict.zoo import ModelZoo

FAMILIES = ("trees", "gennape", "universal", "aiop", "zoo", "count", "latency")


def _class_of(family: str) -> type[AbstractPredictor]:
    if family == "gennape":
        from nasplat.predict.gennape import Gennape  # brings torch with it

        return Gennape
    if family == "universal":
        from nasplat.predict.universal import Universal

        return Universal
    if family == "aiop":
        from nasplat.predict.aiop import Aiop

        return Aiop
    known: tuple[type[AbstractPredictor], ...] = (Trees, CountBaseline, LatencyPredictor, ModelZoo)
    return {c.family: c for c in known}[family]


def make(family: str, **settings: Any) -> AbstractPredictor:
    """An unfitted predictor.

    Raises:
        PredictorError: no such family, or a setting it does not take.
    """
    if family not in FAMILIES:
        raise PredictorError(f"expected a family among {', '.join(FAMILIES)}, got {family!r}.\n  Use one of these.")
    try:
        return _class_of(family)(**settings)
    except TypeError as err:
        raise PredictorError(f"family {family!r} does not take these settings: {err}.\n  Leave them out.") from err


def load(folder: str | Path) -> AbstractPredictor:
    """A predictor from its folder.

    Raises:
        PredictorError: the folder is incomplete, altered, or of an unknown family.
    """
    path = Path(folder)
    recipe, arrays = read_folder(path)
    settings = dict(recipe.get("settings", {}))
    if recipe.get("family") == Finetuned.family:
        base = {k.removeprefix("base_"): v for k, v in settings.items() if k.startswith("base_")}
        own = {k: v for k, v in settings.items() if not k.startswith("base_")}
        predictor: AbstractPredictor = Finetuned(make(base.pop("family"), **base), **own)
    else:
        predictor = make(str(recipe.get("family")), **settings)
    predictor.metric = str(recipe.get("metric", predictor.metric))
    try:
        predictor._restore(arrays, recipe)
    except KeyError as err:
        raise PredictorError(f"{path} expected array {err} in weights.safetensors.\n  Restore the file.") from err
    return predictor
