"""ImageNet top-1 of a whole network, learnt from a model zoo: statistics of the graph, and how it would be trained.

What the weights saw before ImageNet-1k, whether a teacher took part, and the recipe matter as much as the architecture;
so they are inputs. A recipe is a tag such as a1_in1k or augreg_in21k_ft_in1k; what it is worth beyond these two facts
is learnt from the zoo, shrunk towards zero, and zero for a recipe the zoo does not know. Resolution is in the graph.
The interval comes from architecture families left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import PredictorError
from nasplat.features.twins import structure_key
from nasplat.features.view import View
from nasplat.learners.boosted import Boosted, BoostedSettings, grow_boosted
from nasplat.learners.conformal import fewest, half_width
from nasplat.learners.flat_trees import FlatTrees
from nasplat.learners.forest import grow_forest
from nasplat.learners.lessons import numbers, tell_left_out
from nasplat.learners.packing import pack_lines, unpack_lines
from nasplat.learners.support import Support
from nasplat.predict.contract import counted
from nasplat.predict.finetuned import AbstractTunable
from nasplat.tables.splits import together

Matrix = NDArray[np.float64]
SOURCES = ("in1k", "in22k", "web")
"""What the weights saw: ImageNet-1k alone, ImageNet-12k to 22k before, or images of the web."""
_WORDS = {
    "web": (
        "laion openai jft ig1b swsl yfcc swag m38m lvd webli dfn clip datacomp merged lion ig_ fb_ssl fb_wsl siglip"
    ).split(),
    "in22k": "in21k in22k in12k ssld".split(),
}
_TEACHERS = ("dist", "ns_", "ssld")
CLASSES, SMALLEST = 1000, 96
"""Outputs of the zoo's networks, and fewest pixels of a side of their inputs."""
FOLDS = 10
"""Parts into which architecture families fall; each part is answered by a fit on the others."""
SHRINKAGE = 3.0
"""Checkpoints without effect that are added to those of a recipe, so that few checkpoints prove little."""
TREES, LEAF = 100, 3
"""Trees of the forest, and fewest checkpoints of a leaf."""
BOOSTED = BoostedSettings(members=2, trees=300, depth=4, lr=0.05)


def source(recipe: str) -> str:
    """Read from a recipe's words what the weights saw before ImageNet-1k.

    Args:
        recipe: Tag of a recipe, such as 'augreg_in21k_ft_in1k'.

    Returns:
        A name among `SOURCES`.

    Example:
        >>> source("augreg_in21k_ft_in1k")
        'in22k'
    """
    return next((name for name, words in _WORDS.items() if any(w in recipe for w in words)), SOURCES[0])


def distilled(recipe: str) -> bool:
    """Read from a recipe's words whether a teacher took part.

    Args:
        recipe: Tag of a recipe, such as 'fb_dist_in1k'.

    Returns:
        True where the words name a distillation.
    """
    return any(word in recipe for word in _TEACHERS)


def _tag(recipe: str) -> str:
    """A recipe without the resolution at its end."""
    return re.sub(r"_?r?\d{3}$", "", recipe)


@dataclass(eq=False, repr=False)
class ModelZoo(AbstractTunable):
    """A predictor of the ImageNet top-1, in percent, that a classifier reaches under a training recipe.

    Example:
        >>> import nasplat
        >>> classifier = nasplat.load_space("ofa_mobilenetv3").sample(seed=1)
        >>> zoo = nasplat.load_predictor("imagenet")
        >>> zoo.under("a3_in1k").predict([classifier])[0].mean < zoo.under("a1_in1k").predict([classifier])[0].mean
        True
    """

    family: ClassVar[str] = "zoo"
    data: ClassVar[str] = "ImageNet-1k"
    """Name of the data set, as it is shown."""

    recipe: str = "in1k"
    """Tag of the recipe that is assumed when networks are predicted; see `under`."""
    level: float = 0.9
    """Share of labels that the interval is to hold, between 0 and 1."""
    metric: str = "ImageNet-1k top-1, percent"
    """Name and unit of the label."""
    seed: int = 0
    """Number that decides trees and folds."""

    def fit(
        self,
        items: Sequence[Any],
        labels: Sequence[float],
        recipes: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
    ) -> Self:
        """Learn from checkpoints.

        Args:
            items: Graphs, or what has a `graph()` method.
            labels: Top-1 of each checkpoint, in percent; those that are not finite are left out.
            recipes: Tag of each checkpoint's recipe; by default all have the predictor's own.
            groups: Architecture family of each checkpoint; families are left out whole. By default each network is one.

        Returns:
            The predictor itself.

        Raises:
            PredictorError: fewer than 40 checkpoints, or columns of unequal length.
        """
        views, y = self.views(items), numbers(labels)
        tags = list(recipes) if recipes is not None else [self.recipe] * len(views)
        place = [str(i) for i in range(len(views))]
        of = np.asarray(groups if groups is not None else together(place, [structure_key(v) for v in views]))
        if len(views) == len(y) == len(tags) == len(of) and not np.isfinite(y).all():
            rows = np.flatnonzero(np.isfinite(y)).tolist()
            tell_left_out(len(y) - len(rows), len(y))
            views, tags, y, of = [views[i] for i in rows], [tags[i] for i in rows], y[rows], of[rows]
        if not len(views) == len(y) == len(tags) == len(of) or len(y) < 40:
            raise PredictorError(
                f"expected at least 40 checkpoints with a label, recipe and group each, got {len(views)}, {len(y)}, "
                f"{len(tags)} and {len(of)}.\n  Align them."
            )
        self.names_ = list(views[0].statistics)
        x = counted(views)
        kinds = np.random.default_rng(self.seed).permutation(np.unique(of)).tolist()
        number = {g: i % FOLDS for i, g in enumerate(kinds)}
        folds = np.array([number[g] for g in of.tolist()])
        self.left_out_ = np.empty(len(y))
        """Top-1 of each checkpoint by a fit without its architecture family, shape (n,)."""
        for fold in np.unique(folds):
            held = folds == fold
            model = _Model.learn(x[~held], y[~held], [t for t, h in zip(tags, held, strict=True) if not h], self.seed)
            self.left_out_[held] = model.answers(x[held], [t for t, h in zip(tags, held, strict=True) if h])
        self.model_ = _Model.learn(x, y, tags, self.seed)
        residuals = y - self.left_out_
        self.widths_ = np.full(len(SOURCES), half_width(residuals, self.level))
        for i, name in enumerate(SOURCES):
            mine = np.array([source(t) == name for t in tags])
            if mine.sum() >= max(30, fewest(self.level)):
                self.widths_[i] = half_width(residuals[mine], self.level)
        self.support_ = Support.learn(x[:, 2:], self.seed, 256)
        self.reference_ = np.quantile(y, np.linspace(0, 1, 101))
        self.fitted_ = True
        return self

    def under(self, recipe: str) -> ModelZoo:
        """Copy the predictor so that it assumes another recipe.

        Args:
            recipe: Tag as in the zoo, such as 'a1_in1k'; what it means is read from its words, see `source` and
                `distilled`.

        Returns:
            The copy.

        Raises:
            PredictorError: the tag is no recipe of the zoo, and its words tell neither source nor teacher, so that it
                would change nothing.
        """
        known = {*self.recipes, type(self).recipe}
        if _tag(recipe) not in known and source(recipe) == SOURCES[0] and not distilled(recipe):
            written = f"{recipe.lower().removesuffix('_in1k')}_in1k"
            close = get_close_matches(written, sorted(known), 3) or sorted(self.recipes)[:3]
            raise PredictorError(
                f"expected a recipe that the zoo knows, or words that tell what the weights saw, got {recipe!r}.\n"
                f"  Such as {', '.join(close)}; all: nasplat.load_predictor('imagenet').recipes."
            )
        found = copy(self)
        found.recipe = recipe
        return found

    @property
    def recipes(self) -> dict[str, float]:
        """Percentage points that each known recipe is worth beyond its source and teacher."""
        return dict(self.model_.effects)

    def is_meant_for(self, inputs: int, outputs: int) -> bool:
        """Tell whether the sizes of a network's input and output are those of an ImageNet classifier.

        Args:
            inputs: Number of values that the network reads of one example.
            outputs: Number of values that it answers with.

        Returns:
            True where both fit.
        """
        return outputs == CLASSES and inputs >= 3 * SMALLEST**2

    def _reason(self, seen: View) -> str:
        return self._reasons([seen])[0]

    def _reasons(self, seen: Sequence[View]) -> list[str]:
        reasons = [_no_classifier(v) for v in seen]
        left = [i for i, reason in enumerate(reasons) if not reason]
        for i, reason in zip(left, self.support_.reasons_of([seen[i] for i in left], self.names_), strict=True):
            reasons[i] = reason
        return reasons

    def _answers(self, seen: Sequence[View]) -> Matrix:
        """Top-1 of networks under the predictor's recipe, shape (n,)."""
        return self.model_.answers(counted(seen, self.names_), [self.recipe] * len(seen))

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        width = float(self.widths_[SOURCES.index(source(self.recipe))])
        return [(v, max(0.0, v - width), min(100.0, v + width)) for v in self._answers(seen).tolist()]

    def _scores(self, seen: Sequence[View]) -> list[float]:
        return self._answers(seen).tolist()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return (
            self.model_.arrays()
            | self.support_.arrays()
            | {
                "widths": self.widths_,
                "reference": self.reference_,
                "names": pack_lines(self.names_),
            }
        )

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.model_, self.support_ = _Model.of(arrays), Support.of(arrays)
        self.widths_, self.reference_ = arrays["widths"], arrays["reference"]
        self.names_ = unpack_lines(arrays["names"])
        self.fitted_ = True


@dataclass(frozen=True, eq=False)
class _Model:
    """Forest and boosted trees on statistics, source, teacher and the recipe's effect; their mean answers."""

    effects: dict[str, float]
    """Points that a recipe is worth beyond source and teacher."""
    grown: FlatTrees
    """Forest of extremely randomised trees."""
    boosted: Boosted
    """Boosted trees on the same features."""

    @staticmethod
    def learn(x: Matrix, y: Matrix, tags: list[str], seed: int) -> _Model:
        """Learn from checkpoints: features (n, f), top-1 (n,) and recipes."""
        # counts and facts alone: what these leave is the recipe's
        plain = grow_forest(np.hstack([x[:, :3], _facts(tags)]), y, TREES, 5, seed=seed)[1]
        residuals: dict[str, list[float]] = {}
        for tag, residual in zip(tags, np.nan_to_num(y - plain).tolist(), strict=True):
            residuals.setdefault(_tag(tag), []).append(residual)
        effects = {t: sum(r) / (len(r) + SHRINKAGE) for t, r in residuals.items() if len(r) > 1}
        table = _features(x, tags, effects)
        return _Model(effects, grow_forest(table, y, TREES, LEAF, seed=seed)[0], grow_boosted(table, y, BOOSTED, seed))

    def answers(self, x: Matrix, tags: list[str]) -> Matrix:
        """Top-1 of networks under recipes, shape (n,)."""
        table = _features(x, tags, self.effects)
        return (self.grown.answers(table).mean(1) + self.boosted.answers(table).mean(0)) / 2

    def arrays(self) -> dict[str, NDArray[Any]]:
        """List everything for a weights file; `of` reads it back."""
        return (
            self.grown.arrays("forest_")
            | self.boosted.arrays("boosted_")
            | {
                "effects": np.array(list(self.effects.values())),
                "tags": pack_lines(list(self.effects)),
            }
        )

    @staticmethod
    def of(arrays: dict[str, NDArray[Any]]) -> _Model:
        """Read back what `arrays` returned."""
        tags = unpack_lines(arrays["tags"])
        effects = dict(zip(tags, arrays["effects"].tolist(), strict=False))
        grown, boosted = FlatTrees.from_arrays(arrays, "forest_"), Boosted.from_arrays(arrays, "boosted_")
        return _Model(effects, grown, boosted)


def _no_classifier(seen: View) -> str:
    """Why a network is no ImageNet classifier, going by its input and output; empty where it may be one."""
    if seen.outputs != CLASSES:
        return f"it has {seen.outputs:,} outputs, the zoo's networks {CLASSES:,}"
    if seen.inputs < 3 * SMALLEST**2:
        return f"its input has {seen.inputs:,} values, the zoo's networks at least {3 * SMALLEST**2:,}"
    return ""


def _facts(tags: Sequence[str]) -> Matrix:
    """Source and teacher of each recipe, shape (n, 2)."""
    return np.array([(SOURCES.index(source(t)), float(distilled(t))) for t in tags], np.float64)


def _features(x: Matrix, tags: Sequence[str], effects: dict[str, float]) -> Matrix:
    """Statistics, the recipe's facts and its effect, shape (n, f + 3)."""
    return np.hstack([x, _facts(tags), np.array([[effects.get(_tag(t), 0.0)] for t in tags])])
