"""`score`: networks ranked by what a predictor says of them, with their costs beside it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, cast

from nasplat.errors import InputError
from nasplat.inputs import capture, load_predictor
from nasplat.predict import Prediction
from nasplat.predict.contract import AbstractPredictor
from nasplat.searchspace import Architecture, Space, load_space
from nasplat.tables.table import Table

STAND = 200
"""Number of random architectures that stand for a search space."""


@dataclass(frozen=True)
class Scored:
    """One row of `score`."""

    name: str
    prediction: Prediction


def score(
    items: list[Any],
    predictor: str | AbstractPredictor = "base",
    example_input: Any = None,
    against: str | Space | Sequence[Any] | None = None,
    recipe: str | None = None,
    seed: int = 0,
    known: Table | None = None,
) -> list[Scored]:
    """Rank networks: those inside the predictor's support first, best first; the rest by predicted top-1, then by MACs, largest first.

    Args:
        items: Anything `capture` takes.
        predictor: Name, folder, or a fitted predictor. `base` answers with the percentile in the family that a network belongs to; percentiles of
            different families are not comparable, see `Prediction.reference`.
        example_input: Input shape for modules.
        against: Of `base`: the family to compare with, a search space (200 random architectures stand for it) or at least 20 networks.
        recipe: Of `base`: how an ImageNet classifier would be trained, such as "a1_in1k" or "augreg_in21k_ft_in1k".
        seed: Of the random architectures.
        known: Of predictors with adapters (AIO-P): some twenty labelled networks of the task that is asked about, loaded with a space.

    Returns:
        Rows in ranking order; every row carries MACs and parameters, inside or outside the support.

    Raises:
        InputError: the predictor has no use for `against`, `recipe` or `known`.
    """
    loaded = load_predictor(predictor) if isinstance(predictor, str) else predictor
    if against is not None:
        if not hasattr(loaded, "against"):
            raise InputError(
                f"expected a universal predictor beside against, got family {loaded.family!r}.\n  Use 'base'."
            )
        loaded = compared(loaded, against, seed)
    if recipe is not None:
        if loaded.zoo is None:
            raise InputError(
                f"expected a universal predictor beside recipe, got family {loaded.family!r}.\n  Use 'base'."
            )
        loaded = copy(loaded)
        loaded.zoo = cast(Any, loaded.zoo).under(recipe)
    if known is not None:
        if not hasattr(loaded, "calibrate"):
            raise InputError(
                f"expected a predictor with adapters beside labelled networks, got family {loaded.family!r}.\n  Use family aiop."
            )
        loaded = cast(Any, loaded).calibrate([a.canonical().graph() for a in known.architectures], known.labels)
        loaded.metric = known.metric
    rows = []
    for item in items:
        graph = capture(item, example_input)
        name = item if isinstance(item, str) else str(item) if isinstance(item, Architecture) else type(item).__name__
        rows.append(Scored(name, loaded.predict([graph])[0]))
    return sorted(rows, key=_rank)


def _rank(row: Scored) -> tuple[bool, float, bool, float, int]:
    p = row.prediction
    return p.mean is None, -(p.mean or 0.0), p.top1 is None, -(p.top1 or 0.0), -p.macs


def compared(predictor: Any, against: str | Space | Sequence[Any], seed: int = 0) -> Any:
    """A universal predictor's copy that tells percentiles within a search space, or among given networks; no label is needed.

    Args:
        predictor: Of family universal.
        against: A space, its name, or at least 20 networks.
        seed: Of the 200 random architectures that stand for a space.
    """
    if isinstance(against, str):
        against = load_space(against)
    if isinstance(against, Space):
        space, drawn = against, random.Random(seed)
        return predictor.against(list(dict.fromkeys(space.sample(seed=drawn.randrange(2**31)) for _ in range(STAND))))
    return predictor.against(against)
