"""Objectives: named callables that give one number for an architecture.

They take predictors, supernets, tables and tasks as arguments, so that a search knows none of these by class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from hashlib import sha256
from math import isfinite
from statistics import fmean
from typing import Any, Protocol

from nasplat.errors import NasplatError, SearchError, TableError
from nasplat.graph.quantities import refusal
from nasplat.probes import LATENCY_MS, Conditions, measure
from nasplat.searchspace import Architecture
from nasplat.study.captured import quantity_of
from nasplat.tables.table import Table
from nasplat.task import Task
from nasplat.task.training import Budget, train_architecture


class OutsideSupport(NasplatError, ValueError):
    """The objective has no answer for this architecture; the trial is pruned with the reason."""


class AbstractObjective(ABC):
    """One number per architecture; a subclass says how it comes about."""

    name: str
    """Name shown in studies and reports, unit included."""
    is_cheap = False
    """Whether the value is certain and fast enough to be asked for every candidate of a pool, such as a count."""
    is_quick = False
    """Whether a search may ask, before it begins, if there is an answer for any network of the space at all."""
    has_curve = False
    """Whether `follow` tells how the value comes about, epoch by epoch."""
    larger_is_better: bool | None = None
    """Which values are better, where it is known: a search that goes the other way is refused."""

    @property
    def content(self) -> str | None:
        """Hash of what the values come from, such as weights or labels; workers of one study must have the same.

        None where there is nothing but the architecture that the values depend on.
        """
        return None

    @abstractmethod
    def __call__(self, architecture: Architecture) -> float:
        """Evaluate a network.

        Args:
            architecture: Member of the space that is searched.

        Returns:
            Value in the unit of the name; nan counts as a failure.

        Raises:
            OutsideSupport: there is no answer for this network.
        """

    def follow(self, architecture: Architecture, after: Callable[[int, float], None]) -> float:
        """Evaluate a network and tell on the way how its value grows.

        Args:
            architecture: Member of the space that is searched.
            after: Function called with the number of epochs so far and the value they reached; what it raises ends the
                evaluation.

        Returns:
            The final value, in the unit of the name.
        """
        return self(architecture)


Objective = AbstractObjective | Callable[[Architecture], float] | str
"""What a user may give as an objective: one of ours, a plain function, or the name of a counted quantity."""


def named(objective: Objective) -> AbstractObjective:
    """Make an objective with a name of what a user may give.

    Args:
        objective: One of ours, a plain function, which is named after itself, or the name of a counted quantity.

    Returns:
        The objective itself, or one that calls or counts.

    Raises:
        SearchError: no quantity has that name.

    Example:
        >>> named("macs").name, named(lambda architecture: 1.0).name
        ('macs', '<lambda>')
    """
    if isinstance(objective, AbstractObjective):
        return objective
    if isinstance(objective, str):
        return Counted(objective)
    return _Callable(objective)


class _Callable(AbstractObjective):
    """A plain function as an objective."""

    def __init__(self, function: Callable[[Architecture], float]) -> None:
        self.function = function
        self.name = getattr(function, "name", None) or getattr(function, "__name__", "objective")

    def __call__(self, architecture: Architecture) -> float:
        return float(self.function(architecture))


class Counted(AbstractObjective):
    """A quantity of the graph that is counted: macs, params, activation_bytes, and what a decoder's tokens cost.

    Example:
        >>> import nasplat
        >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
        >>> cell = space.sample(seed=0)
        >>> nasplat.Counted("params")(cell) == cell.graph().params
        True
    """

    is_cheap = True

    def __init__(self, quantity: str = "macs") -> None:
        """Choose what is counted.

        Args:
            quantity: 'macs' (multiply-accumulate operations of one input), 'params', 'activation_bytes' (peak memory of
                activations), 'weight_bytes@int8', or of decoders 'prefill_macs@512', 'decode_macs@4096' and
                'kv_bytes@4096,bf16', with other numbers and precisions.

        Raises:
            SearchError: the quantity is none of these.
        """
        if refusal(quantity):
            raise SearchError(refusal(quantity))
        self.name = quantity

    def __call__(self, architecture: Architecture) -> float:
        """Count, remembering what was counted before."""
        return float(quantity_of(architecture, self.name))


class _Predictor(Protocol):
    """What `Predicted` asks of a predictor."""

    metric: str
    """Name of what is predicted, unit included."""

    def predict(self, items: list[Any]) -> list[Any]:
        """Give one prediction per graph, with `mean` (None where it abstains) and `reason`."""
        ...

    def rank_scores(self, items: list[Any]) -> list[float]:
        """Give one score per graph that orders networks, inside the support or not."""
        ...


class Predicted(AbstractObjective):
    """What a predictor expects of a network that is not trained: an objective, or the guide of a `PredictorSampler`.

    Example:
        >>> import nasplat
        >>> space = nasplat.load_space("nasbench201")
        >>> quality = nasplat.Predicted(nasplat.load_predictor("trees-nb201"))
        >>> 40 < quality(space.sample(seed=1)) < 100  # percent of images classified correctly
        True
    """

    is_quick = True

    def __init__(
        self, predictor: _Predictor, at: dict[str, Any] | None = None, beyond: bool = False, sign: float = 1.0
    ) -> None:
        """Say whose answers count, and how.

        Args:
            predictor: Anything whose `predict([graph])` returns objects with `mean` and `reason`.
            at: Presets at which the choices are scored, such as {"width": 16}, where the predictor learnt from another
                size of the space; None scores networks as they are.
            beyond: Whether to answer with the rank score, which orders networks outside the support too and promises no
                level: for guiding a sampler in a family that the predictor never saw.
            sign: Factor of every answer: -1.0 makes a predictor of an error one whose larger answers are better, as a
                sampler's guide must be (see `Task.sign`).
        """
        self.predictor, self.at, self.beyond, self.sign = predictor, at, beyond, sign
        self.name = f"{'rank score of' if beyond else 'predicted'} {predictor.metric}"
        self._known: dict[Architecture, Any] = {}

    def answer(self, architecture: Architecture) -> Any:
        """Ask the predictor, once per network.

        Args:
            architecture: Member of the space that is searched.

        Returns:
            The whole prediction, with interval and reason; with `beyond` the rank score.
        """
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
        """Give the predicted mean, or with `beyond` the rank score, times the sign.

        Raises:
            OutsideSupport: the predictor abstains.
        """
        answer = self.answer(architecture)
        if self.beyond:
            return self.sign * float(answer)
        if answer.mean is None:
            raise OutsideSupport(f"outside the predictor's support: {answer.reason}")
        return self.sign * answer.mean


class PredictedLatency(AbstractObjective):
    """Milliseconds that a latency predictor of one device expects, at once, where `Measured` would take a second."""

    is_cheap = True
    is_quick = True
    larger_is_better = False

    def __init__(self, predictor: _Predictor) -> None:
        """Say whose answers count.

        Args:
            predictor: Latency predictor fitted on this device, as `nasplat.calibrate` returns it.
        """
        self.predictor, self.name = predictor, f"predicted {predictor.metric}"
        self._known: dict[Architecture, float] = {}

    def __call__(self, architecture: Architecture) -> float:
        """Give the predicted mean in milliseconds.

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
    """What `Inherited` asks of a supernet."""

    task: Task
    """Task that the supernet was trained on."""

    def evaluate(self, architecture: Architecture, split: str = "decide") -> float:
        """Give the metric of a subnet on a split."""
        ...


class Inherited(AbstractObjective):
    """The metric of a subnet that takes its weights from a supernet, on the decide split; nothing is trained."""

    def __init__(self, supernet: _Evaluates, task: Task | None = None) -> None:
        """Say whose weights count.

        Args:
            supernet: Trained supernet, or anything with `task` and `evaluate(architecture, split)`.
            task: Task that is only checked to be the supernet's own; None checks nothing.

        Raises:
            SearchError: the supernet was trained on another task.
        """
        if task is not None and task.name != supernet.task.name:
            raise SearchError(
                f"expected the supernet's task {supernet.task.name!r}, got {task.name!r}.\n"
                "  Train a supernet on that task."
            )
        self.supernet, self.larger_is_better = supernet, supernet.task.larger_is_better
        self.name = f"inherited {supernet.task.metric_name}"

    @property
    def content(self) -> str | None:
        """The supernet's fingerprint."""
        return getattr(self.supernet, "fingerprint", None)

    def __call__(self, architecture: Architecture) -> float:
        """Calibrate and evaluate the subnet, in the metric's unit."""
        return self.supernet.evaluate(architecture, "decide")


class Trained(AbstractObjective):
    """The metric after a short training from scratch, on the decide split."""

    has_curve = True

    def __init__(self, task: Task, budget: Budget | None = None, seed: int = 0) -> None:
        """Say what is trained for how long.

        Args:
            task: Data, loss and metric.
            budget: Epochs, batch size and learning rate of every training; None for the defaults of `Budget`.
            seed: Seed of initial weights and of the order of the data, the same for every network.
        """
        self.task, self.budget, self.seed = task, budget or Budget(), seed
        self.larger_is_better = task.larger_is_better
        long = self.budget.steps or self.budget.epochs
        unit = ("step" if self.budget.steps else "epoch") + "s" * (long > 1)
        self.name = f"trained {task.metric_name}" + ("" if budget is None else f", {long} {unit}")

    def __call__(self, architecture: Architecture) -> float:
        """Build, train and evaluate the network, in the metric's unit."""
        return train_architecture(architecture, self.task, self.budget, self.seed).decide

    def follow(self, architecture: Architecture, after: Callable[[int, float], None]) -> float:
        """Train as `__call__` does, with the metric of the decide split told after each epoch."""
        return train_architecture(architecture, self.task, self.budget, self.seed, after=after).decide


class Measured(AbstractObjective):
    """Median latency of a network with random weights on this machine, in milliseconds."""

    def __init__(self, device: str = "cpu", batch: int = 1, repeats: int = 30) -> None:
        """Say how networks are timed.

        Args:
            device: Torch device that runs the network: 'cpu' or 'cuda'.
            batch: Examples per pass.
            repeats: Passes that are timed, once those before them are steady.
        """
        self.device, self.batch, self.repeats = device, batch, repeats
        self.name = f"{LATENCY_MS} ({device}, batch {batch})"

    def __call__(self, architecture: Architecture) -> float:
        """Build the network and time it, in milliseconds."""
        module, shape = architecture.space.construct(architecture)
        return measure(module, shape, Conditions(self.device, self.batch), self.repeats).median_ms


class Tabulated(AbstractObjective):
    """Labels of a table, the mean of several of one network; what it lacks is outside the objective's support."""

    is_cheap = False

    def __init__(self, table: Table, column: str | None = None) -> None:
        """Say which labels count.

        Args:
            table: Table loaded with the space that is searched.
            column: Column whose numbers are the values; None for the table's metric.

        Raises:
            TableError: the column holds what is no number, or no finite one.
        """
        self.name = column or table.metric
        found: dict[Any, list[float]] = {}
        for architecture, value in zip(table.architectures, table.column(self.name), strict=True):
            if isfinite(value):
                found.setdefault(architecture.canonical().identity[1], []).append(value)
        if not found:
            raise TableError(f"expected finite values in {self.name!r} of {table!r}, got none.\n  Name another column.")
        self._values = {key: fmean(values) if len(values) > 1 else values[0] for key, values in found.items()}

    @property
    def content(self) -> str | None:
        """SHA-256 of the labels with their architectures."""
        return sha256(repr(sorted((repr(k), v) for k, v in self._values.items())).encode()).hexdigest()

    def __call__(self, architecture: Architecture) -> float:
        """Look up the label of the canonical architecture, in the column's unit.

        Raises:
            OutsideSupport: the table does not hold it.
        """
        key = architecture.canonical().identity[1]
        if key not in self._values:
            raise OutsideSupport(f"the table has no row for {architecture}")
        return self._values[key]
