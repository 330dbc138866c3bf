"""The contract of predictors, with scikit-learn's manners: the constructor stores, `fit` learns, `predict` answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import PredictorError
from nasplat.features.view import View, views
from nasplat.graph import Graph
from nasplat.learners.lessons import Lessons, lessons
from nasplat.learners.spread import spread
from nasplat.learners.support import table
from nasplat.predict.estimator import Estimator
from nasplat.predict.folder import write_folder
from nasplat.predict.prediction import Prediction
from nasplat.tables.metrics import kendall_tau

TOGETHER = 256
"""Networks that are captured before they are described together."""
ToGraph = Callable[[Any, Any], Graph]
"""Turns an item and an example input into a graph."""
Beside = Callable[[Sequence[View], Sequence[Prediction]], list[Prediction]]
"""Fills fields of the predictions of some networks with what another predictor says of the same networks."""


@runtime_checkable
class HasGraph(Protocol):
    """Something that has a computation graph, such as an `Architecture`."""

    def graph(self) -> Graph:
        """Return the computation graph.

        Returns:
            The graph of the whole network.
        """
        ...


@runtime_checkable
class HasCanonical(Protocol):
    """Something of which several spellings mean the same network, such as an `Architecture`."""

    def canonical(self) -> Any:
        """Return the spelling that all of them share.

        Returns:
            A hashable value, equal for equal networks.
        """
        ...


@runtime_checkable
class HasNetworkKey(Protocol):
    """Something that knows which others compute the same, such as an `Architecture`."""

    @property
    def network_key(self) -> str:
        """Text that is equal for what computes the same."""
        ...


def as_graph(item: Any, example_input: Any = None) -> Graph:
    """Take a Graph as it is, or the graph of something that has a `graph()` method.

    Args:
        item: Graph or architecture.
        example_input: Not used here; broader functions in this place need it for modules.

    Returns:
        The graph.

    Raises:
        PredictorError: the item is neither.
    """
    if isinstance(item, Graph):
        return item
    if isinstance(item, HasGraph):
        return item.graph()
    raise PredictorError(
        f"expected a Graph or an Architecture, got {type(item).__name__}.\n"
        "  Load the predictor with nasplat.load_predictor, or capture the network first."
    )


class AbstractPredictor(Estimator, ABC):
    """A predictor of one label from computation graphs; scikit-learn's `clone`, pipelines and searches take it.

    A family is a subclass. Its constructor stores its settings under their names, as scikit-learn demands; `fit` sets
    `reference_` and, at its end, `fitted_ = True`; five methods with a leading underscore answer and store. See
    `nasplat.check_predictor`, which tries all of this, and `nasplat.load_predictor(folder, family=YourClass)`.

    What a predictor is able to do beyond this contract is said by the protocols of `nasplat.predict.abilities`.
    """

    family: ClassVar[str]
    """Name of the family, as it stands in a recipe."""
    metric: str = "value"
    """Name and unit of the label."""
    level: float
    """Share of networks whose label the interval is to hold, between 0 and 1."""
    reference_: NDArray[np.float64]
    """Percentiles 0 to 100 of the training labels, shape (101,)."""
    to_graph: ToGraph = staticmethod(as_graph)
    """Turns an item into a graph. `nasplat.load_predictor` puts `nasplat.capture` here, which also reads modules, files
    and strings."""
    beside: tuple[Beside, ...] = ()
    """Others who speak of the same networks, see `nasplat.predict.beside`. `nasplat.load_predictor` puts this device's
    latency and top-1 here."""

    @abstractmethod
    def fit(self, items: Sequence[Any], labels: Sequence[float]) -> Self:
        """Learn from labelled networks.

        Args:
            items: Graphs, views of graphs, or what has a `graph()` method.
            labels: One value per item; larger means better.

        Returns:
            The predictor itself.
        """

    @abstractmethod
    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        """Answer with mean, low and high of each network, in the label's unit; only asked inside the support."""

    @abstractmethod
    def _reason(self, seen: View) -> str:
        """Say why a network is outside the support; empty inside."""

    def _reasons(self, seen: Sequence[View]) -> list[str]:
        """Say the same of many networks; families that look them up together answer faster."""
        return [self._reason(v) for v in seen]

    @abstractmethod
    def _scores(self, seen: Sequence[View]) -> list[float]:
        """Answer `rank_scores` for networks that are views already."""

    @abstractmethod
    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that was learnt, as arrays."""

    @abstractmethod
    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        """Take over what `_arrays` returned, and set `fitted_ = True`."""

    def _settings(self) -> dict[str, Any]:
        """Return the constructor's arguments, as they stand in a recipe."""
        return self.get_params(deep=False)

    def predict(self, items: Sequence[Any], example_input: Any = None) -> list[Prediction]:
        """Predict the label of networks, each with an interval, or abstain with a reason.

        Args:
            items: Graphs, architectures; through `nasplat.load_predictor` also modules, files and strings.
            example_input: Input shape for modules that need one, such as (1, 3, 224, 224).

        Returns:
            One prediction per item, in order.

        Raises:
            PredictorError: the predictor is unfitted, or an item is no network.
        """
        if not self.is_fitted:
            raise PredictorError(
                f"{type(self).__name__} expected to be fitted before predict.\n  Call fit, or load a trained one."
            )
        views = self.views(items, example_input)
        reasons = self._reasons(views) if views else []
        inside = [v for v, reason in zip(views, reasons, strict=True) if not reason]
        estimates = iter(self._estimates(inside) if inside else [])
        found = []
        for v, reason in zip(views, reasons, strict=True):
            counts = (v.macs, v.params, self.metric, "", v.bound, v.params_bound)
            if reason:
                found.append(Prediction(None, None, None, self.level, False, reason, None, *counts))
                continue
            mean, low, high = next(estimates)
            percentile = float(np.searchsorted(self.reference_, mean) / 1.01)
            found.append(Prediction(mean, low, high, self.level, True, "", percentile, *counts))
        for fill in self.beside:
            found = fill(views, found)
        return found

    def views(self, items: Sequence[Any], example_input: Any = None) -> list[View]:
        """Turn items into what the predictor sees of them; the same network is captured only once.

        Args:
            items: As for `predict`; a View is taken as it is.
            example_input: As for `predict`.

        Returns:
            One view per item, in order.
        """
        keys = [
            id(item) if isinstance(item, View | Graph) or not isinstance(item, HasCanonical) else item.canonical()
            for item in items
        ]
        different = {key: item for key, item in zip(keys, items, strict=True)}
        known = {key: item for key, item in different.items() if isinstance(item, View)}
        left = [key for key in different if key not in known]
        for start in range(0, len(left), TOGETHER):  # graphs of a few hundred at a time, so that memory stays flat
            some = left[start : start + TOGETHER]
            known |= zip(some, views([self.to_graph(different[k], example_input) for k in some]), strict=True)
        return [known[key] for key in keys]

    def _lessons(
        self,
        items: Sequence[Any],
        labels: Sequence[Any],
        least: int,
        most: int | None = None,
        groups: Sequence[str] | None = None,
    ) -> Lessons:
        """Distinct networks with finite labels; by default what items say of their network groups them."""
        named = [item.network_key if isinstance(item, HasNetworkKey) else None for item in items]
        return lessons(self.views(items), labels, least, most, named if groups is None else groups)

    def rank_scores(self, items: Sequence[Any], example_input: Any = None) -> list[float]:
        """Order networks, also outside the support; these numbers have no unit, no interval and promise nothing.

        Args:
            items: As for `predict`.
            example_input: As for `predict`.

        Returns:
            One number per item; larger means better.
        """
        return self._scores(self.views(items, example_input))

    def score(self, items: Sequence[Any], labels: Sequence[float]) -> float:
        """Measure how well the rank scores order labelled networks; scikit-learn's searches maximise it.

        Args:
            items: As for `predict`.
            labels: True value of each item.

        Returns:
            Rank agreement τ-b in [-1, 1].
        """
        return kendall_tau(self.rank_scores(items), np.asarray(labels, np.float64))

    def describe(self, seen: Sequence[View]) -> list[NDArray[np.float64]]:
        """Describe networks by numbers, as fine-tuning and `choose` use them.

        Args:
            seen: Views of n networks.

        Returns:
            Feature sets of shape (n, f): here the log counts with graph statistics, then the same with the rank score.
            The first must know nothing of what was learnt, the last all of it.
        """
        counts = counted(seen)
        return [counts, np.hstack([np.array(self._scores(seen))[:, None], counts])]

    @property
    def is_fitted(self) -> bool:
        """True once `fit` or loading has happened."""
        return bool(getattr(self, "fitted_", False))

    def choose(self, items: Sequence[Any], n: int, seed: int = 0) -> list[int]:
        """Choose which networks to label, so that few labels cover them all as this predictor sees them.

        Args:
            items: Unlabelled networks of the target family, hundreds of them.
            n: Number of networks to label.
            seed: Number that decides everything random.

        Returns:
            Their places in items, ascending.

        Raises:
            PredictorError: n is not between 1 and the number of networks.
        """
        if not 1 <= n <= len(items):
            raise PredictorError(
                f"expected to choose between 1 and {len(items)} networks, got {n}.\n  Bring more networks."
            )
        return spread(self.describe(self.views(items))[-1], n, seed)

    def save(
        self, folder: str | Path, about: dict[str, Any] | None = None, metrics: Any = None, card: str = ""
    ) -> None:
        """Write the predictor's folder, which `nasplat.load_predictor` reads.

        Args:
            folder: Folder to write; it is created if it is missing.
            about: What it learnt from, as strings and numbers for the recipe: data, split, seed, command.
            metrics: Measured quality, anything that JSON can hold.
            card: Markdown of README.md; by default only the folder's name.
        """
        recipe = {"family": self.family, "metric": self.metric}
        write_folder(
            folder, recipe, {"settings": self._settings(), "trained_on": about or {}}, self._arrays(), metrics, card
        )


def counted(seen: Sequence[View], names: Sequence[str] | None = None) -> NDArray[np.float64]:
    """Describe networks by log10 of MACs and of parameters, then graph statistics.

    Args:
        seen: Views of n networks with the same statistics.
        names: Statistics that are wanted; by default all.

    Returns:
        Features of shape (n, 2 + statistics).
    """
    counts = np.log10(np.array([[max(1, v.macs), max(1, v.params)] for v in seen], np.float64))
    return np.hstack([counts, table(seen, list(seen[0].statistics) if names is None else names)])
