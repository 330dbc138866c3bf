"""Objectives: named callables that give one number for an architecture.

They take predictors, supernets, tables and tasks as arguments, so that a search knows none of these by class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Protocol

from nasplat.errors import NasplatError, SearchError
from nasplat.probes import measure
from nasplat.searchspace import QUANTITIES, Architecture
from nasplat.study.captured import count
from nasplat.tables.table import Table
from nasplat.task import Task
from nasplat.task.training import Budget, train_architecture


class OutsideSupport(NasplatError, ValueError):
    """The objective has no answer for this architecture; the trial is pruned with the reason."""


class AbstractObjective(ABC):
    """One number per architecture."""

    name: str
    """Shown in studies and reports, unit included."""
    is_cheap = False
    """True when it may be asked for every candidate of a pool."""
    has_curve = False
    """True when `follow` tells how it comes about."""
    larger_is_better: bool | None = None
    """Where it is known: a search that goes the other way is refused."""

    @property
    def content(self) -> str | None:
        """What the values come from, as a hash, where other content would give other values: workers of one study must have the same."""
        return None

    @abstractmethod
    def __call__(self, architecture: Architecture) -> float:
        """Value in the unit of the name."""

    def follow(self, architecture: Architecture, after: Callable[[int, float], None]) -> float:
        """The value, with `after(epochs, value so far)` called on the way; what that raises ends it."""
        return self(architecture)


class Counted(AbstractObjective):
    """A quantity of the graph: macs, params or activation_bytes."""

    is_cheap = True

    def __init__(self, quantity: str = "macs") -> None:
        """Args:
        quantity: macs, params or activation_bytes.
        """
        if quantity not in QUANTITIES:
            raise SearchError(
                f"expected a quantity among {', '.join(QUANTITIES)}, got {quantity!r}.\n  Use one of these."
            )
        self.name = quantity

    def __call__(self, architecture: Architecture) -> float:
        """Count, remembering what was counted before."""
        return float(count(architecture, self.name))


class _Predictor(Protocol):
    metric: str

    def predict(self, items: list[Any]) -> list[Any]: ...

    def rank_scores(self, items: list[Any]) -> list[float]: ...


class Predicted(AbstractObjective):
    """A predictor's mean."""

    def __init__(self, predictor: _Predictor, at: dict[str, Any] | None = None, beyond: bool = False) -> None:
        """Args:
        predictor: Anything whose `predict([graph])` returns objects with `mean` and `reason`.
        at: Presets at which the choices are scored, where the predictor learnt from another size of the space.
        beyond: Answer with the rank score, which orders networks outside the support too and promises no level: for guiding a
            sampler in a family that the predictor never saw.
        """
        self.predictor, self.at, self.beyond = predictor, at, beyond
        self.name = f"{'rank score of' if beyond else 'predicted'} {predictor.metric}"
        self._known: dict[Architecture, Any] = {}

    def answer(self, architecture: Architecture) -> Any:
        """The whole prediction, or the rank score."""
        if architecture not in self._known:
            scored = architecture
            if self.at is not None:
                space = architecture.space.with_presets(**self.at)
                scored = space.project(architecture.choices)
            graph = scored.canonical().graph()
            answer = self.predictor.rank_scores([graph])[0] if self.beyond else self.predictor.predict([graph])[0]
            self._known[architecture] = answer
        return self._known[architecture]

    def __call__(self, architecture: Architecture) -> float:
        """The mean, or the rank score.

        Raises:
            OutsideSupport: the predictor abstains.
        """
        answer = self.answer(architecture)
        if self.beyond:
            return float(answer)
        if answer.mean is None:
            raise OutsideSupport(f"outside the predictor's support: {answer.reason}")
        return answer.mean


class PredictedLatency(AbstractObjective):
    """Milliseconds that a latency predictor of one device expects; asked for every candidate, where `Measured` would take a second."""

    is_cheap = True
    larger_is_better = False

    def __init__(self, predictor: _Predictor) -> None:
        """Args:
        predictor: Fitted on this device, see `nasplat.calibrate`.
        """
        self.predictor, self.name = predictor, f"predicted {predictor.metric}"
        self._known: dict[Architecture, float] = {}

    def __call__(self, architecture: Architecture) -> float:
        """The mean.

        Raises:
            OutsideSupport: the predictor abstains.
        """
        if architecture not in self._known:
            answer = self.predictor.predict([architecture.canonical().graph()])[0]
            if answer.mean is None:
                raise OutsideSupport(f"outside the latency predictor's support: {answer.reason}")
            self._known[architecture] = answer.mean
        return self._known[architecture]


class _Evaluates(Protocol):
    task: Task

    def evaluate(self, architecture: Architecture, split: str = "decide") -> float: ...


class Inherited(AbstractObjective):
    """The metric of the subnet with a supernet's weights, on the decide split."""

    def __init__(self, supernet: _Evaluates, task: Task | None = None) -> None:
        """Args:
        supernet: Anything with `evaluate(architecture, split)`.
        task: Only checked: the supernet's own.
        """
        if task is not None and task.name != supernet.task.name:
            raise SearchError(
                f"expected the supernet's task {supernet.task.name!r}, got {task.name!r}.\n  Train a supernet on that task."
            )
        self.supernet, self.larger_is_better = supernet, supernet.task.larger_is_better
        self.name = f"inherited {supernet.task.metric_name}"

    @property
    def content(self) -> str | None:
        """The supernet's fingerprint."""
        return getattr(self.supernet, "fingerprint", None)

    def __call__(self, architecture: Architecture) -> float:
        """Calibrate and evaluate the subnet."""
        return self.supernet.evaluate(architecture, "decide")


class Trained(AbstractObjective):
    """The metric after a short training from scratch, on the decide split."""

    has_curve = True

    def __init__(self, task: Task, budget: Budget | None = None, seed: int = 0) -> None:
        """Args:
        task: Data, loss and metric.
        budget: How long.
        seed: Of initial values and data order.
        """
        self.task, self.budget, self.seed = task, budget or Budget(), seed
        self.larger_is_better = task.larger_is_better
        self.name = f"trained {task.metric_name}" + (
            "" if budget is None else f", {budget.epochs} epoch" + "s" * (budget.epochs > 1)
        )

    def __call__(self, architecture: Architecture) -> float:
        """Build, train, evaluate."""
        return train_architecture(architecture, self.task, self.budget, self.seed).decide

    def follow(self, architecture: Architecture, after: Callable[[int, float], None]) -> float:
        """The same, with the metric told after each epoch."""
        return train_architecture(architecture, self.task, self.budget, self.seed, after=after).decide


class Measured(AbstractObjective):
    """Median latency on this machine, in milliseconds."""

    def __init__(self, device: str = "cpu", batch: int = 1, repeats: int = 30) -> None:
        """Args:
        device: "cpu" or "cuda".
        batch: Examples per pass.
        repeats: Timed passes.
        """
        self.device, self.batch, self.repeats = device, batch, repeats
        self.name = f"latency_ms ({device}, batch {batch})"

    def __call__(self, architecture: Architecture) -> float:
        """Build and time the network."""
        module, shape = architecture.space.construct(architecture)
        return measure(module, shape, self.batch, self.repeats, device=self.device).median_ms


class Tabulated(AbstractObjective):
    """A labelled table answers; what it lacks is outside its support."""

    is_cheap = False

    def __init__(self, table: Table, column: str | None = None) -> None:
        """Args:
        table: Loaded with the space that is searched.
        column: Another column than the table's metric.
        """
        self.name = column or table.metric
        values = table.labels if column is None else [float(row[column]) for row in table.rows]
        self._values = {a.canonical().identity[1]: v for a, v in zip(table.architectures, values, strict=True)}

    @property
    def content(self) -> str | None:
        """SHA-256 of the labels with their architectures."""
        return sha256(repr(sorted((repr(k), v) for k, v in self._values.items())).encode()).hexdigest()

    def __call__(self, architecture: Architecture) -> float:
        """Look the canonical architecture up.

        Raises:
            OutsideSupport: the table does not hold it.
        """
        key = architecture.canonical().identity[1]
        if key not in self._values:
            raise OutsideSupport(f"the table has no row for {architecture}")
        return self._values[key]
