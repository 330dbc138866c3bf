"""`score`: networks are ranked by what a predictor says of them, with their costs beside it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasplat.errors import CaptureError, InputError
from nasplat.graph import Graph
from nasplat.inputs import capture_alone, is_guessed, load_device, load_predictor, resolve
from nasplat.predict import Prediction
from nasplat.predict.abilities import AssumesRecipe, Calibratable, ComparesWithin
from nasplat.predict.beside import OtherDevice, Top1
from nasplat.predict.contract import AbstractPredictor
from nasplat.predict.zoo import ModelZoo
from nasplat.searchspace import Architecture, Space, load_space
from nasplat.tables.table import Table

STAND = 200
"""Number of random architectures that stand for a search space."""


@dataclass(frozen=True)
class Scored:
    """One network of a ranking."""

    name: str
    """Text that named the network, or the name of its class, with a number where several share it."""
    prediction: Prediction
    """Answer of the predictor, with MACs and parameters."""
    is_input_guessed: bool = False
    """True where nobody stated the shape of the network's input, so that one picture of ImageNet's size was taken."""


def score(
    items: Sequence[Any],
    predictor: str | AbstractPredictor = "base",
    example_input: Any = None,
    against: str | Space | Sequence[Any] | None = None,
    recipe: str | None = None,
    seed: int = 0,
    known: Table | None = None,
    devices: Sequence[str] = (),
) -> list[Scored]:
    """Rank networks by predicted quality, without training any.

    Args:
        items: Networks in any form that `capture` takes, such as modules, architectures or 'timm:resnet50'.
        predictor: Name or folder of a trained predictor, or a fitted one. 'base' answers with the percentile in the
            family that a network belongs to; percentiles of different families are not comparable, see
            `Prediction.reference`.
        example_input: Shape of one example, with the axis of batches, for every module; without it each has its own,
            where it states one, see `capture`.
        against: Family to compare with, for the predictor 'base': a search space, for which 200 random architectures
            stand, or at least 20 networks.
        recipe: Way in which an ImageNet classifier would be trained, for the predictors 'base' and 'imagenet', such as
            'a1_in1k' or 'augreg_in21k_ft_in1k'.
        seed: Seed of the random architectures that stand for a space.
        known: Some twenty labelled networks of the task that is asked about, loaded with a space, for predictors with
            adapters (AIO-P).
        devices: Names among `nasplat.list_devices()`, or folders of predictors of latency: every prediction holds the
            milliseconds on each of them.

    Returns:
        One row for each network: those inside the predictor's support first, best first; the rest by predicted top-1
        (those of one data set together), then by MACs, largest first. Where percentiles of one family cannot order all
        of them, and the top-1 on one data set can, it does. Every row has MACs and parameters.

    Raises:
        InputError: an item is no network, or reads several pictures at once, or the predictor or the networks have no
            use for `against`, `recipe` or `known`.
        PredictorError: the recipe is not known.
        ContentError: there is no such device.

    Example:
        >>> from torch import nn
        >>> small, large = nn.Linear(4, 2), nn.Linear(4, 20)
        >>> [(s.name, s.prediction.macs) for s in score([small, large], "trees-nb201", (1, 4))]
        [('Linear 2', 80), ('Linear 1', 8)]
    """
    loaded = load_predictor(predictor) if isinstance(predictor, str) else predictor
    if against is not None:
        if not isinstance(loaded, ComparesWithin):
            raise InputError(
                f"expected a universal predictor beside against, got family {loaded.family!r}.\n  Use 'base'."
            )
        loaded = compared(loaded, against, seed)
    if recipe is not None:
        loaded = _under(loaded, recipe)
    if known is not None:
        if not isinstance(loaded, Calibratable):
            raise InputError(
                f"expected a predictor with adapters beside labelled networks, got family {loaded.family!r}.\n"
                "  Use family aiop."
            )
        labelled = known.labelled()
        loaded = loaded.calibrate([a.canonical() for a in labelled.architectures], labelled.labels)
        loaded.metric = known.metric
    loaded = _timed_on(loaded, devices) if devices else loaded
    named = _names(items)
    found = [resolve(str(item)) if isinstance(item, str | Path) else item for item in items]
    graphs = [_captured(x, example_input, name) for x, name in zip(found, named, strict=True)]
    answers = loaded.predict(graphs) if graphs else []
    if recipe is not None and answers and not isinstance(loaded, AssumesRecipe):
        rated = [a for a in answers if a.top1_data == ModelZoo.data]
        if all(a.top1 is None for a in rated):
            why = rated[0].top1_reason if rated else "no network here is one"
            raise InputError(
                f"expected an ImageNet classifier beside recipe {recipe!r}, which changes nothing here: {why}.\n"
                "  Leave it out."
            )
    guessed = [is_guessed(x, example_input) for x in found]
    rows = [Scored(*row) for row in zip(named, answers, guessed, strict=True)]
    return sorted(rows, key=_by_top1 if _share_only_top1(answers) else _rank)


def _names(items: Sequence[Any]) -> list[str]:
    """Names for the rows; networks that only their class names are numbered where there are several of one class."""
    told = [str(item) if isinstance(item, str | Path | Architecture) else None for item in items]
    kinds = [type(item).__name__ for item in items]
    several = Counter(kind for kind, name in zip(kinds, told, strict=True) if name is None)
    seen: Counter[str] = Counter()
    found = []
    for kind, name in zip(kinds, told, strict=True):
        if name is None:
            seen[kind] += 1
            name = f"{kind} {seen[kind]}" if several[kind] > 1 else kind
        found.append(name)
    return found


def _timed_on(predictor: AbstractPredictor, devices: Sequence[str]) -> AbstractPredictor:
    """Copy a predictor so that it also tells milliseconds on other devices."""
    found = copy(predictor)
    found.beside += tuple(OtherDevice(name, load_device(name)) for name in dict.fromkeys(devices))
    return found


def _under(predictor: AbstractPredictor, recipe: str) -> AbstractPredictor:
    """A copy of a predictor that assumes a recipe, itself or in what it says of top-1."""
    if isinstance(predictor, AssumesRecipe):
        return predictor.under(recipe)
    if not any(isinstance(b, Top1) for b in predictor.beside):
        raise InputError(
            f"expected a predictor of ImageNet top-1 beside recipe, got family {predictor.family!r}.\n"
            "  Use 'base' or 'imagenet'."
        )
    found = copy(predictor)
    found.beside = tuple(b.under(recipe) if isinstance(b, Top1) else b for b in predictor.beside)
    return found


def _captured(x: Any, example_input: Any, name: str) -> Graph:
    """The graph of one of several networks; an error says which it is about."""
    try:
        return capture_alone(x, example_input, name)
    except CaptureError as err:
        raise CaptureError(f"{name}: {err}") from err


def _share_only_top1(answers: Sequence[Prediction]) -> bool:
    """Whether all networks can be compared by the top-1 on one data set, and not by percentiles of one family."""
    same_family = len({a.reference for a in answers}) == 1 and all(a.mean is not None for a in answers)
    same_data = len({a.top1_data for a in answers}) == 1 and all(a.top1 is not None for a in answers)
    return same_data and not same_family


def _by_top1(row: Scored) -> tuple[float, int]:
    """Sort key: top-1, then MACs, the largest first."""
    return -(row.prediction.top1 or 0.0), -row.prediction.macs


def _rank(row: Scored) -> tuple[bool, float, bool, str, float, int]:
    """Sort key: known means first, then known top-1, data set by data set, then MACs, each with the largest first."""
    p = row.prediction
    return p.mean is None, -(p.mean or 0.0), p.top1 is None, p.top1_data if p.top1 else "", -(p.top1 or 0.0), -p.macs


def compared(predictor: Any, against: str | Space | Sequence[Any], seed: int = 0) -> Any:
    """Copy a universal predictor so that it answers with percentiles within a space, or among given networks.

    No label is needed.

    Args:
        predictor: Fitted predictor of family universal.
        against: Search space, as an object or by name, or at least 20 networks.
        seed: Seed of the 200 random architectures that stand for a space.

    Returns:
        The copy; the predictor itself stays as it is.

    Raises:
        PredictorError: fewer than 20 networks.
    """
    if isinstance(against, str):
        against = load_space(against)
    if isinstance(against, Space):
        space, drawn = against, random.Random(seed)
        # repeats are left out of a sample; `draw_distinct` would draw other networks, and change every percentile
        return predictor.against(list(dict.fromkeys(space.sample(seed=drawn.randrange(2**31)) for _ in range(STAND))))
    return predictor.against(against)
