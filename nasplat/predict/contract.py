"""The contract of predictors, with scikit-learn's manners, and their folders on disk.

A folder holds recipe.toml (family, settings, what it learnt from, hash of the weights), weights.safetensors, metrics.json
and README.md (the card). Loading runs no code: the family names a class of this package.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import deepcopy
from math import log10
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from sklearn.base import BaseEstimator

from nasplat.errors import PredictorError
from nasplat.features.view import View, view
from nasplat.graph import Graph
from nasplat.predict.prediction import Prediction
from nasplat.tables.metrics import kendall_tau

ToGraph = Callable[[Any, Any], Graph]


def as_graph(item: Any, example_input: Any = None) -> Graph:
    """A Graph, or what has a `graph()` method; everything else is the façade's business.

    Raises:
        PredictorError: neither.
    """
    if isinstance(item, Graph):
        return item
    if hasattr(item, "graph"):
        return item.graph()
    raise PredictorError(
        f"expected a Graph or an Architecture, got {type(item).__name__}.\n  Load the predictor with nasplat.load_predictor, or "
        "capture the network first."
    )


class AbstractPredictor(BaseEstimator, ABC):
    """Constructor stores, `fit` learns, `predict` answers, `score` judges; scikit-learn's `clone`, pipelines and searches take it."""

    family: ClassVar[str]
    metric: str = "value"
    """Name and unit of the label."""
    level: float
    """Of the interval."""
    reference_: NDArray[np.float64]
    """Percentiles 0 to 100 of the training labels."""
    to_graph: ToGraph = staticmethod(as_graph)
    """Turns an item into a graph; the façade puts a broader one here."""
    latency: AbstractPredictor | None = None
    """Fills `Prediction.latency_ms`; the façade puts this device's here, if it was calibrated."""
    zoo: AbstractPredictor | None = None
    """Fills `Prediction.top1`; the façade puts the shipped one here."""

    @abstractmethod
    def fit(self, items: Sequence[Any], labels: Sequence[float]) -> Self:
        """Learn from labelled networks.

        Args:
            items: Graphs, views of graphs, or what has a `graph()` method.
            labels: One value per item, larger means better.
        """

    @abstractmethod
    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        """Mean, low and high of each network, in the label's unit; only asked inside the support."""

    @abstractmethod
    def _reason(self, seen: View) -> str:
        """Why a network is outside the support; empty inside."""

    @abstractmethod
    def _scores(self, seen: Sequence[View]) -> list[float]:
        """See `rank_scores`."""

    def _settings(self) -> dict[str, Any]:
        """Constructor arguments, as they stand in a recipe."""
        return self.get_params(deep=False)

    @abstractmethod
    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Everything learnt, as arrays."""

    @abstractmethod
    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        """Take over what `_arrays` returned."""

    def predict(self, items: Sequence[Any], example_input: Any = None) -> list[Prediction]:
        """Predict networks.

        Args:
            items: Graphs, architectures; through `nasplat.load_predictor` also modules, files and strings.
            example_input: Input shape for modules that need one.

        Returns:
            One prediction per item, in order.

        Raises:
            PredictorError: unfitted, or an item is no network.
        """
        if not self.is_fitted:
            raise PredictorError(
                f"{type(self).__name__} expected to be fitted before predict.\n  Call fit, or load a trained one."
            )
        views = self.views(items, example_input)
        reasons = [self._reason(v) for v in views]
        inside = [v for v, reason in zip(views, reasons, strict=True) if not reason]
        estimates = iter(self._estimates(inside) if inside else [])
        timed = self.latency.predict(views) if self.latency is not None else []
        times = [(p.mean, p.low, p.high) for p in timed] or [(None, None, None)] * len(views)
        rated = self.zoo.predict(views) if self.zoo is not None else []
        tops = [(p.mean, p.low, p.high) for p in rated] or [(None, None, None)] * len(views)
        found = []
        for v, reason, ms, top in zip(views, reasons, times, tops, strict=True):
            counts = (v.macs, v.params, self.metric, "", bool(v.unknown_ops), *ms, *top)
            if reason:
                found.append(Prediction(None, None, None, self.level, False, reason, None, *counts))
                continue
            mean, low, high = next(estimates)
            percentile = float(np.searchsorted(self.reference_, mean) / 1.01)
            found.append(Prediction(mean, low, high, self.level, True, "", percentile, *counts))
        return found

    def views(self, items: Sequence[Any], example_input: Any = None) -> list[View]:
        """What the predictor sees of each item; a View is seen as it is, and the same network only once."""
        known: dict[Any, View] = {}
        found = []
        for item in items:
            if isinstance(item, View):
                found.append(item)
                continue
            key = item.canonical() if hasattr(item, "canonical") else id(item)
            if key not in known:
                known[key] = view(self.to_graph(item, example_input))
            found.append(known[key])
        return found

    def rank_scores(self, items: Sequence[Any], example_input: Any = None) -> list[float]:
        """Numbers that order networks, also outside the support: no level, no interval, no promise.

        Args:
            items: As for `predict`.
            example_input: As for `predict`.

        Returns:
            One number each, larger means better.
        """
        return self._scores(self.views(items, example_input))

    def score(self, items: Sequence[Any], labels: Sequence[float]) -> float:
        """Rank agreement (τ-b) of the rank scores with labels; what scikit-learn's searches maximise.

        Args:
            items: As for `predict`.
            labels: One each.
        """
        return kendall_tau(self.rank_scores(items), np.asarray(labels, np.float64))

    def describe(self, seen: Sequence[View]) -> list[NDArray[np.float64]]:
        """Sets of features that a fine-tuned predictor rests on, each of shape (n, f).

        Log counts with graph statistics; the same with the rank score.
        """
        counts = counted(seen)
        return [counts, np.hstack([np.array(self._scores(seen))[:, None], counts])]

    @property
    def is_fitted(self) -> bool:
        """True once `fit` or loading has happened."""
        return bool(getattr(self, "fitted_", False))

    def finetune(
        self, items: Sequence[Any], labels: Sequence[float], seed: int = 0, loss: str = "regression"
    ) -> AbstractPredictor:
        """A new predictor that also knows these labels; this one stays as it is.

        Args:
            items: Networks of the target family, see `choose`.
            labels: Their labels, in any unit.
            seed: Decides everything random.
            loss: Of its kernel machines: regression, ranking or both.
        """
        from nasplat.predict.finetuned import Finetuned

        return Finetuned(deepcopy(self), loss=loss, seed=seed).fit(items, labels)

    def choose(self, items: Sequence[Any], n: int, seed: int = 0) -> list[int]:
        """Which networks to label, so that few labels cover them all as this predictor sees them.

        Args:
            items: Unlabelled networks of the target family, hundreds of them.
            n: How many to label.
            seed: Decides everything random.

        Returns:
            Their places in items, ascending.

        Raises:
            PredictorError: n is not between 1 and the number of networks.
        """
        from nasplat.learners.spread import spread

        if not 1 <= n <= len(items):
            raise PredictorError(
                f"expected to choose between 1 and {len(items)} networks, got {n}.\n  Bring more networks."
            )
        return spread(self.describe(self.views(items))[-1], n, seed)

    def save(
        self, folder: str | Path, about: dict[str, Any] | None = None, metrics: Any = None, card: str = ""
    ) -> None:
        """Write the predictor's folder.

        Args:
            folder: Created if missing.
            about: Strings and numbers for the recipe: data, split, seed, command.
            metrics: Measured quality, JSON-able.
            card: Markdown for README.md.
        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        data = save_arrays({k: np.ascontiguousarray(v) for k, v in self._arrays().items()})
        (path / "weights.safetensors").write_bytes(data)
        recipe = {"family": self.family, "metric": self.metric, "weights_sha256": hashlib.sha256(data).hexdigest()}
        sections = {"settings": self._settings(), "trained_on": about or {}}
        # JSON's strings, numbers, booleans and flat lists are TOML's
        lines = [f"{k} = {json.dumps(v)}" for k, v in recipe.items()]
        for name, values in sections.items():
            lines += ["", f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items() if v is not None)]
        (path / "recipe.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (path / "metrics.json").write_text(json.dumps(metrics or {}, indent=1) + "\n", encoding="utf-8")
        (path / "README.md").write_text(card or f"# {path.name}\n", encoding="utf-8")


def counted(seen: Sequence[View]) -> NDArray[np.float64]:
    """Log counts and graph statistics, shape (n, f)."""
    return np.array([[log10(max(1, v.macs)), log10(max(1, v.params)), *v.statistics.values()] for v in seen])


def trained_on(folder: Path) -> dict[str, Any]:
    """What a predictor's recipe says of the data it learnt from."""
    recipe = tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))
    return dict(recipe.get("trained_on", {}))


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Recipe and arrays of a predictor's folder.

    Raises:
        PredictorError: a file is missing, broken, or not the one the recipe was written with.
    """
    recipe_file, weights_file = folder / "recipe.toml", folder / "weights.safetensors"
    for file in (recipe_file, weights_file):
        if not file.is_file():
            raise PredictorError(
                f"predictor folder {str(folder)!r} expected {file.name}, which is missing.\n  Fetch it whole."
            )
    try:
        recipe = tomllib.loads(recipe_file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise PredictorError(f"{recipe_file} expected TOML: {err}.\n  Restore the file.") from err
    data = weights_file.read_bytes()
    found, wanted = hashlib.sha256(data).hexdigest(), recipe.get("weights_sha256")
    if found != wanted:
        raise PredictorError(
            f"{weights_file} expected sha256 {str(wanted)[:16]}…, got {found[:16]}…: it was altered or cut short.\n  Restore the file."
        )
    try:
        return recipe, load_arrays(data)
    except SafetensorError as err:
        raise PredictorError(f"{weights_file} expected safetensors: {err}.\n  Restore the file.") from err
