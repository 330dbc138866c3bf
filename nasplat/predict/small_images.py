"""Top-1 on small pictures of a whole network, learnt from some tens of networks that were trained by one recipe.

Errors are learnt as their logarithms, because that is how they fall with size. Two forests on all statistics of the
graph: one learns the logarithm itself, and knows nothing beyond the sizes it saw; the other learns what a straight line
from the logarithm of parameters leaves, and goes on along it. The mean of the two answers. The interval comes from
architecture families left out.

Tens of networks say nothing of what none of them has. Their counts differ a hundredfold, so that a cell of skips and
pools would lie among them; the support therefore compares logarithms and what there is of a thing per layer, and
reaches as far as one family is from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import PredictorError
from nasplat.features.view import View
from nasplat.learners.conformal import half_width
from nasplat.learners.flat_trees import FlatTrees
from nasplat.learners.forest import grow_forest
from nasplat.learners.packing import pack_lines, unpack_lines
from nasplat.learners.support import Support
from nasplat.predict.contract import counted
from nasplat.predict.finetuned import AbstractTunable
from nasplat.tables.splits import fold_numbers

Matrix = NDArray[np.float64]
LEAST, MOST = 20, 3_000
"""Fewest and most networks to learn from, as every family is left out once."""
FOLDS = 20
"""Largest number of parts into which architecture families fall; each part is answered by a fit on the others."""
TREES, LEAF, SHARE = 150, 2, 1.0
"""Trees of each forest, fewest networks of a leaf, and share of the statistics among which a split is chosen."""
MARGIN, SIZE_MARGIN = 0.1, 0.3
"""The range of a feature is widened at both ends by this share of its width; that of sizes more, as errors follow them
smoothly."""
REACH = 0.9
"""Share of networks whose nearest one of another family is within the support's radius."""
SIZES = ("log_macs", "log_params", "log_activations", "width.max", "width.mean", "nodes")
COUNTS = ("count", "depth", "most", "least", "mean", "nodes", "width", "size", "receptive")
"""First words of the statistics that are compared by their logarithms."""
SMALLEST = 0.01
"""Error, in percentage points, below which networks are taken for equally good, as a logarithm needs one."""


@dataclass(eq=False, repr=False)
class SmallImages(AbstractTunable):
    """A predictor of the top-1, in percent, that a classifier of small pictures reaches if trained as those it knows.

    Example:
        >>> import nasplat
        >>> space = nasplat.load_space("resnet", size="small", image=32, channels=3, classes=10)
        >>> (answer,) = nasplat.load_predictor("cifar10").predict([space.sample(seed=3)])
        >>> 90 < answer.low < answer.mean < answer.high < 100
        True
    """

    family: ClassVar[str] = "small-images"

    data: str = "CIFAR-10"
    """Name of the data set, as it is shown."""
    classes: int = 10
    """Number of classes, which is the number of outputs of its classifiers."""
    side: int = 32
    """Pixels of a side of its coloured pictures."""
    level: float = 0.9
    """Share of labels that the interval is to hold, between 0 and 1."""
    metric: str = "top-1, percent"
    """Name and unit of the label."""
    seed: int = 0
    """Number that decides trees and folds."""

    def fit(self, items: Sequence[Any], labels: Sequence[float], groups: Sequence[str] | None = None) -> Self:
        """Learn from trained networks.

        Args:
            items: Graphs, or what has a `graph()` method.
            labels: Top-1 of each network, in percent; those that are not finite are left out.
            groups: Architecture family of each network; families are left out whole, by which the interval is found. By
                default what the items themselves say of their function.

        Returns:
            The predictor itself.

        Raises:
            PredictorError: fewer than 20 or more than 3,000 networks with a finite label, labels that are all equal or
                no percentages, or fewer than two families.
        """
        known = self._lessons(items, labels, LEAST, MOST, groups)
        if known.labels.min() < 0 or known.labels.max() > 100:
            raise PredictorError(
                f"expected labels in percent, got {known.labels.min():g} to {known.labels.max():g}.\n  Scale them."
            )
        number = fold_numbers(len(known.labels), min(FOLDS, len(set(known.groups))), self.seed, known.groups)
        if number.max() == 0:
            raise PredictorError("expected networks of several families, got one.\n  Pass groups, or other networks.")
        self.names_ = list(known.views[0].statistics)
        x, y = counted(known.views), np.log(np.maximum(SMALLEST, 100.0 - known.labels))
        held_out = np.empty(len(y))
        for fold in range(number.max() + 1):
            held = number == fold
            held_out[held] = _Model.learn(x[~held], y[~held], self.seed).answers(x[held])
        self.left_out_ = 100.0 - np.exp(held_out)
        """Top-1 of each network by a fit without its architecture family, shape (n,)."""
        self.lessons_ = known
        """Networks that were learnt, with their labels, in the order of `left_out_`."""
        self.model_ = _Model.learn(x, y, self.seed)
        self.width_ = half_width(y - held_out, self.level)
        self.support_ = _support(x, self.names_, known.groups, self.seed)
        self.reference_ = np.quantile(known.labels, np.linspace(0, 1, 101))
        self.fitted_ = True
        return self

    def is_meant_for(self, inputs: int, outputs: int) -> bool:
        """Tell whether the sizes of a network's input and output are those of the data set.

        Args:
            inputs: Number of values that the network reads of one example.
            outputs: Number of values that it answers with.

        Returns:
            True where both fit.
        """
        return inputs == 3 * self.side**2 and outputs == self.classes

    def _reason(self, seen: View) -> str:
        if not self.is_meant_for(seen.inputs, seen.outputs):
            return (
                f"it has {seen.inputs:,} inputs and {seen.outputs:,} outputs, classifiers of {self.data} "
                f"{3 * self.side**2:,} and {self.classes:,}"
            )
        if seen.unknown_ops:
            return f"it uses operations no predictor knows: {', '.join(seen.unknown_ops)}"
        (like,), names = _likeness(counted([seen]), self.names_)
        return self.support_.reason(like, [f"log(1 + {n})" if _is_count(n) else n for n in names])

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        logs = self._logs(seen)
        ends = (100.0 - np.exp(logs + shift) for shift in (0.0, self.width_, -self.width_))
        return [(m, max(0.0, low), high) for m, low, high in zip(*(e.tolist() for e in ends), strict=True)]

    def _scores(self, seen: Sequence[View]) -> list[float]:
        return (100.0 - np.exp(self._logs(seen))).tolist()

    def _logs(self, seen: Sequence[View]) -> Matrix:
        """Logarithm of the error of networks, shape (n,)."""
        return self.model_.answers(counted(seen)) if seen else np.zeros(0)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        own = {"width": np.array([self.width_]), "reference": self.reference_, "names": pack_lines(self.names_)}
        return self.model_.arrays() | self.support_.arrays() | own

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.model_, self.support_ = _Model.of(arrays), Support.of(arrays)
        self.width_, self.reference_ = float(arrays["width"][0]), arrays["reference"]
        self.names_ = unpack_lines(arrays["names"])
        self.fitted_ = True


@dataclass(frozen=True, eq=False)
class _Model:
    """Two forests, whose mean answers with the logarithm of the error."""

    plain: FlatTrees
    """Forest of the logarithm, on counts and statistics."""
    beyond: FlatTrees
    """Forest of what the line leaves, on the same."""
    line: Matrix
    """Slope and height of the line from the logarithm of parameters, shape (2,)."""

    @staticmethod
    def learn(x: Matrix, y: Matrix, seed: int) -> _Model:
        """Learn from features (n, f), the second the logarithm of parameters, and logarithms of errors (n,)."""
        line = np.polyfit(x[:, 1], y, 1)
        plain, beyond = (grow_forest(x, t, TREES, LEAF, SHARE, seed)[0] for t in (y, y - np.polyval(line, x[:, 1])))
        return _Model(plain, beyond, line)

    def answers(self, x: Matrix) -> Matrix:
        """Logarithm of the error of networks, shape (n,)."""
        along = np.polyval(self.line, x[:, 1]) + self.beyond.answers(x).mean(1)
        return (self.plain.answers(x).mean(1) + along) / 2

    def arrays(self) -> dict[str, NDArray[Any]]:
        """List everything for a weights file; `of` reads it back."""
        return self.plain.arrays("plain_") | self.beyond.arrays("beyond_") | {"line": self.line}

    @staticmethod
    def of(arrays: dict[str, NDArray[Any]]) -> _Model:
        """Read back what `arrays` returned."""
        return _Model(FlatTrees.from_arrays(arrays, "plain_"), FlatTrees.from_arrays(arrays, "beyond_"), arrays["line"])


def _support(x: Matrix, names: list[str], groups: Sequence[str], seed: int) -> Support:
    """The support of networks of several families, from features (n, f)."""
    like, compared = _likeness(x, names)
    found = Support.learn(like, seed, len(like))
    standard, of = (like - found.mean) / np.where(found.scale > 0, found.scale, np.inf), np.asarray(groups)
    apart = [float(np.sqrt(((standard[of != g] - row) ** 2).sum(1).min())) for row, g in zip(standard, of, strict=True)]
    low, high = like.min(0), like.max(0)
    margin = np.array([SIZE_MARGIN if name in SIZES else MARGIN for name in compared]) * (high - low) + 1e-9
    counts = np.array([_is_count(name) for name in compared])  # one more or one less, such as a stage, is no other kind
    low = np.where(counts, np.minimum(low - margin, np.log(np.maximum(1.0, np.exp(low) - 1.0))), low - margin)
    high = np.where(counts, np.maximum(high + margin, np.log(np.exp(high) + 1.0)), high + margin)
    return replace(found, radius=float(np.quantile(apart, REACH)), low=low, high=high)


def _likeness(x: Matrix, names: list[str]) -> tuple[Matrix, list[str]]:
    """What networks are compared by, shape (n, g), and the name of each column; x are counts and statistics."""
    plain = dict(zip(names, x[:, 2:].T, strict=True))
    layers = np.maximum(1.0, sum(plain[f"count.{kind}"] for kind in ("conv1", "conv3", "conv5+", "linear")))
    depth = np.maximum(1.0, plain["depth.longest"])
    found = {n: np.log1p(np.maximum(0.0, v)) if _is_count(n) else v for n, v in plain.items()}
    found |= {f"{kind} per layer": plain[f"count.{kind}"] / layers for kind in ("pool", "join", "activation", "norm")}
    found |= {
        f"{kind} per depth": plain[f"mean.{kind}"] / depth for kind in ("spatial", "point", "act", "pool", "window")
    }
    windows = plain["mean.window"]
    found["pooled windows"] = (windows - plain["mean.spatial"]) / np.maximum(1.0, windows)
    return np.stack(list(found.values()), 1), list(found)


def _is_count(name: str) -> bool:
    """Whether a statistic is compared by its logarithm."""
    return name.partition(".")[0] in COUNTS
