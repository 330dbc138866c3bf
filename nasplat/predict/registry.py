"""Families by name, and predictors from their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, overload

from nasplat.errors import PredictorError
from nasplat.predict.aiop import Aiop
from nasplat.predict.contract import AbstractPredictor
from nasplat.predict.count import CountBaseline
from nasplat.predict.device import DevicePredictor
from nasplat.predict.finetuned import AbstractTunable, Finetuned
from nasplat.predict.folder import read_folder
from nasplat.predict.gennape import Gennape
from nasplat.predict.latency import LatencyPredictor
from nasplat.predict.small_images import SmallImages
from nasplat.predict.trees import Trees
from nasplat.predict.universal import Universal
from nasplat.predict.zoo import ModelZoo

_KNOWN: tuple[type[AbstractTunable], ...] = (
    *(Trees, Gennape, Universal, Aiop),
    *(ModelZoo, SmallImages, CountBaseline, LatencyPredictor, DevicePredictor),
)
_CLASSES = {c.family: c for c in _KNOWN}
FAMILIES = tuple(_CLASSES)
"""Names of the families that come with nasplat."""


def make(family: str, **settings: Any) -> AbstractTunable:
    """Make an unfitted predictor.

    Args:
        family: Name among `FAMILIES`.
        settings: Arguments of the family's constructor.

    Returns:
        The predictor, which has learnt nothing yet.

    Raises:
        PredictorError: no such family, or a setting it does not take.

    Example:
        >>> make("trees", depth=3).depth
        3
    """
    if family not in FAMILIES:
        raise PredictorError(
            f"expected a family among {', '.join(FAMILIES)}, got {family!r}.\n"
            "  Use one of these; a class of your own is passed as family=YourClass."
        )
    return _made(_CLASSES[family], settings)


def _made(kind: type[Any], settings: dict[str, Any]) -> Any:
    try:
        return kind(**settings)
    except TypeError as err:
        raise PredictorError(f"family {kind.family!r} does not take these settings: {err}.\n  Leave them out.") from err


@overload
def load(folder: str | Path, family: None = None) -> AbstractTunable: ...
@overload
def load(folder: str | Path, family: type[AbstractPredictor]) -> AbstractPredictor: ...
def load(folder: str | Path, family: type[AbstractPredictor] | None = None) -> AbstractPredictor:
    """Load a predictor from its folder.

    Args:
        folder: Folder that `AbstractPredictor.save` wrote.
        family: Class of the predictor, where it is none of nasplat's own; a folder names a family and never a class, so
            that loading runs no code that the caller did not pass.

    Returns:
        The fitted predictor; it reads graphs and architectures.

    Raises:
        PredictorError: the folder is incomplete, altered, or of another family.
    """
    path = Path(folder)
    recipe, arrays = read_folder(path)
    settings = dict(recipe.get("settings", {}))
    if recipe.get("family") == Finetuned.family:
        base = {k.removeprefix("base_"): v for k, v in settings.items() if k.startswith("base_")}
        own = {k: v for k, v in settings.items() if not k.startswith("base_")}
        predictor: AbstractPredictor = Finetuned(_unfitted(path, base.pop("family"), base, family), **own)
    else:
        predictor = _unfitted(path, str(recipe.get("family")), settings, family)
    predictor.metric = str(recipe.get("metric", predictor.metric))
    try:
        predictor._restore(arrays, recipe)
    except KeyError as err:
        raise PredictorError(f"{path} expected array {err} in weights.safetensors.\n  Restore the file.") from err
    return predictor


def _unfitted(
    path: Path, name: str, settings: dict[str, Any], family: type[AbstractPredictor] | None
) -> AbstractPredictor:
    """Make a predictor of a recipe's settings, of the caller's class where one is given."""
    if family is None:
        return make(name, **settings)
    if family.family != name:
        raise PredictorError(
            f"{path} expected a class of family {name!r}, got {family.__name__} of family {family.family!r}.\n"
            "  Pass the class that was saved."
        )
    return _made(family, settings)
