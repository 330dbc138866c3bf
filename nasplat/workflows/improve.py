"""`improve`: a network is edited so that it costs less; a predictor judges the edits, and the best are trained too.

A round takes networks of the Pareto set of performance and cost, spread along it, makes one edit of each at random,
and drops what cannot be built or was seen. Performance is what the predictor says; with a task, the predictor drops
the worse of two that save alike, and the rest is judged by the task's metric with the weights it has. Source of the
loop: GENNAPE's and AIO-P's searches by one-edit mutations of computation graphs (Mills et al., AAAI 2023), thresholds
our own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from nasplat.editing import Network, edits
from nasplat.errors import EditError, NasplatError
from nasplat.graph import Graph
from nasplat.predict.contract import AbstractPredictor
from nasplat.predict.prediction import Prediction
from nasplat.task import Task
from nasplat.task.settings import overridden
from nasplat.task.training import Budget, train

COSTS = ("macs", "params", "latency_ms")
"""Costs that can be cut."""
TRIES = 12
"""Number of random edits of a parent that are tried until one can be built and is new."""
SCREENED = 2
"""Number of networks of a round among which the predictor picks one that the task judges."""
EXAMPLES = 1024
"""Number of examples behind the metric of a network that was not trained yet; half as many give its batch
statistics."""
Report = Callable[[int, int, str], None]
"""Called with the number of steps done, the number of all, and words about the last one."""


@dataclass(frozen=True)
class ImproveSettings:
    """How widely edits are searched, and how the networks found are trained.

    Example:
        >>> ImproveSettings(rounds=2).children
        64
    """

    rounds: int = 12
    """Largest number of edits from the original."""
    parents: int = 8
    """Number of networks that are edited in a round."""
    children: int = 64
    """Number of networks that are made in a round."""
    finalists: int = 8
    """Largest number of networks that are returned."""
    budget: Budget | None = None
    """How long the original and the networks found are trained, if there is a task; None for the default budget."""
    seed: int = 0
    """Seed of the edits and of the order of the data."""
    report: Report | None = None
    """Called with the steps done, all steps, and words about the last one."""
    known: Callable[[str], dict[str, Any] | None] | None = None
    """Told a network's key, gives the fields of its `Candidate` after an earlier training, or None; nothing is
    trained then."""
    learnt: Callable[[str, Candidate], None] | None = None
    """Called with a network's key and its `Candidate` after each training, so that it can be kept for `known`."""


@dataclass(frozen=True)
class Candidate:
    """A network that costs less than the original, beside it."""

    network: Network
    """Network with the weights that the edits left."""
    prediction: Prediction
    """Answer of the predictor; it abstains outside its support."""
    score: float
    """Number of the predictor that orders networks; larger is better."""
    gain: float
    """Score of the network less that of the original."""
    costs: Mapping[str, float]
    """MACs and parameters by name, and predicted milliseconds where this device was calibrated."""
    saved: Mapping[str, float]
    """Share of each of the original's costs that is saved; negative where the network costs more."""
    inherited: float | None = None
    """Metric on part of the decide split with the weights as the edits left them, batch statistics calibrated."""
    decide: float | None = None
    """Metric on the decide split after the training that the original had too."""
    test: float | None = None
    """Metric on the test split after that training."""
    weights: Mapping[str, torch.Tensor] | None = field(default=None, repr=False)
    """Weights after that training; None where there was none."""

    def module(self) -> nn.Module:
        """Build the network.

        Returns:
            A plain module with its weights, in eval mode.
        """
        found = self.network.module()
        if self.weights is not None:
            found.load_state_dict(dict(self.weights))
        return found

    @property
    def graph(self) -> Graph:
        """Computation graph of the network."""
        return self.network.graph

    @property
    def words(self) -> str:
        """Edits that made the network, in words."""
        return self.network.words


@dataclass(frozen=True)
class Improvement:
    """What a search for cheaper networks found."""

    original: Candidate
    """Network that the edits started from."""
    found: list[Candidate]
    """Pareto set of those that save enough and keep enough, best first: by the decide split where they were trained,
    else by
    predicted gain."""
    seen: int
    """Number of networks that were built and judged."""
    unbuildable: int
    """Number of edits that were tried and could not be built."""


def improve(
    module: nn.Module,
    example_input: Any,
    predictor: AbstractPredictor,
    cut: Mapping[str, float] | None = None,
    keep: float = 0.0,
    task: Task | None = None,
    settings: ImproveSettings | None = None,
    **overrides: Any,
) -> Improvement:
    """Edit a network so that it costs less and is predicted, or with a task trained, to be as good.

    Args:
        module: Network with the weights that edits start from; it stays as it is.
        example_input: Shape of a batch, or a tensor of float32; networks of other inputs are refused.
        predictor: Fitted predictor that judges the edits; `nasplat.load_predictor` gives one.
        cut: Share of each cost that must go, such as {"macs": 0.15}, which is the default; costs are macs, params and
            latency_ms, which needs `nasplat measure --calibrate`.
        keep: Loss that is allowed: of the task's metric on its decide split, or, without a task, of the predictor's
            score.
        task: Task on which the original and the networks found are trained, from the weights they have, and judged,
            where its data lie (`Task.to`). None judges by the predictor alone.
        settings: How widely is searched and how the networks are trained; None for the defaults.
        overrides: Fields of `ImproveSettings` that replace those of the settings, such as seed=1 or
            budget=Budget(epochs=3).

    Returns:
        The original and the networks found, best first.

    Raises:
        EditError: the network cannot be edited, a cost or an override is unknown, or nothing found saves and keeps
            enough.

    Example:
        >>> from nasplat import load_predictor, load_space
        >>> module = load_space("nasbench201", width=4, cells=1, image=16, channels=1).sample(seed=1).build()
        >>> base = load_predictor("base")
        >>> found = improve(module, (1, 1, 16, 16), base, {"macs": 0.1}, 50.0, rounds=1, children=4, finalists=1)
        >>> found.found[0].saved["macs"] >= 0.1
        True
    """
    chosen, cut = overridden(settings or ImproveSettings(), overrides, EditError), dict(cut or {"macs": 0.15})
    for name, share in cut.items():
        if name not in COSTS or not 0 < share < 1:
            raise EditError(
                f"expected costs among {', '.join(COSTS)} and shares between 0 and 1, got {name}={share}.\n"
                "  Such as macs=0.15."
            )
    search = _Search(Network.of(module, example_input), predictor, cut, chosen, task)
    for done in range(chosen.rounds):
        if not search.round():
            break
        if chosen.report is not None:
            chosen.report(done + 1, chosen.rounds, search.told())
    found = search.chosen(keep)
    if not found:
        wanted = ", ".join(f"{v:.0%} of {k}" for k, v in cut.items()) + (
            f" at a predicted loss of at most {keep:g}" if task is None else ""
        )
        raise EditError(
            f"expected a network that saves {wanted}, got none: {search.told()}.\n"
            "  Allow more loss, cut less, or search longer."
        )
    original = search.original
    if task is not None:
        original, *others = _trained([original, *found], task, chosen)
        found = _kept(original, others, task, keep)
    return Improvement(original, found, search.judged_ever, search.unbuildable)


class _Search:
    """Networks found so far, and the rounds of edits that find more."""

    def __init__(
        self,
        network: Network,
        predictor: AbstractPredictor,
        cut: Mapping[str, float],
        settings: ImproveSettings,
        task: Task | None,
    ) -> None:
        self.predictor, self.cut, self.settings, self.task = predictor, cut, settings, task
        self.draw = random.Random(settings.seed)
        self.unbuildable = 0
        self.dropped: set[str] = set()
        self.original = self.measured(self.judged([network], None))[0]
        if missing := [n for n in cut if n not in self.original.costs]:
            raise EditError(
                f"expected a predicted {missing[0]}, got none on this device.\n"
                "  Run nasplat measure SPACE --calibrate first."
            )
        self.seen = {network.graph.key: self.original}

    def judged(self, networks: Sequence[Network], original: Candidate | None) -> list[Candidate]:
        """Networks with the predictor's answers, and with their costs beside the original's."""
        graphs = [n.graph for n in networks]
        found = []
        scores, answers = self.predictor.rank_scores(graphs), self.predictor.predict(graphs)
        for network, graph, score, answer in zip(networks, graphs, scores, answers, strict=True):
            costs = {"macs": float(graph.macs), "params": float(graph.params)}
            if answer.latency_ms is not None:
                costs["latency_ms"] = answer.latency_ms
            base = original.costs if original is not None else costs
            saved = {k: 1 - v / base[k] if base[k] else 0.0 for k, v in costs.items()}
            found.append(
                Candidate(network, answer, score, score - (original.score if original else score), costs, saved)
            )
        return found

    @property
    def judged_ever(self) -> int:
        """Number of networks that the predictor was asked about."""
        return len(self.seen) + len(self.dropped)

    def measured(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The same networks, with a task's metric under the weights they have."""
        if self.task is None:
            return list(candidates)
        return [replace(c, inherited=_inherited(c, self.task)) for c in candidates]

    def standing(self, candidate: Candidate) -> float:
        """What orders networks; larger is better."""
        if self.task is None or candidate.inherited is None:
            return candidate.score
        return self.task.sign * candidate.inherited

    def round(self) -> bool:
        """One edit of each parent; False when none led to a new network."""
        parents, made, keys = self.parents(), list[Network](), set(self.seen) | self.dropped
        for i in range(self.settings.children):
            child = self.child(parents[i % len(parents)].network, keys)
            if child is not None:
                keys.add(child.graph.key)
                made.append(child)
        children = self.judged(made, self.original) if made else []
        if self.task is not None:  # compared with its neighbour in saving: what saves more is said to be worse
            children.sort(key=lambda c: (self.share(c), c.graph.key))
            groups = [children[i : i + SCREENED] for i in range(0, len(children), SCREENED)]
            children = [max(g, key=lambda c: c.score) for g in groups]
            self.dropped |= keys - set(self.seen) - {c.graph.key for c in children}
        for candidate in self.measured(children):
            self.seen[candidate.graph.key] = candidate
        return bool(made)

    def child(self, network: Network, keys: set[str]) -> Network | None:
        """A random edit of a network that can be built and is new, if one of `TRIES` is."""
        options = edits(network)
        kinds = sorted({e.kind for e in options})
        for _ in range(TRIES):
            if not kinds:
                return None
            kind = self.draw.choice(kinds)  # kinds alike, however many edits each has
            edit = self.draw.choice([e for e in options if e.kind == kind])
            try:
                made = edit(network)
                if made.graph.key not in keys:
                    return made
            except NasplatError:
                self.unbuildable += 1
        return None

    def share(self, candidate: Candidate) -> float:
        """How far the cuts that are wanted are reached; 1 is all."""
        return min(candidate.saved[k] / v for k, v in self.cut.items())

    def parents(self) -> list[Candidate]:
        """Half spread along the Pareto set, half its members nearest to what is wanted; then the best of the rest."""
        near = [c for c in self.seen.values() if self.share(c) <= 2.0]
        front = _front(near, self.share, self.standing)
        n = self.settings.parents
        spread = [front[i] for i in np.unique(np.linspace(0, len(front) - 1, n // 2).round().astype(int))]
        nearest = sorted(front, key=lambda c: abs(self.share(c) - 1))
        best = sorted(near, key=lambda c: -self.standing(c))
        return list({c.graph.key: c for c in (*spread, *nearest[: n - len(spread)], *best)}.values())[:n]

    def chosen(self, keep: float) -> list[Candidate]:
        """Networks that save enough: the Pareto set of those predicted to keep enough; with a task, the best."""
        enough = [c for c in self.seen.values() if self.share(c) >= 1]
        if self.task is None:
            enough = _front([c for c in enough if c.gain >= -keep], self.share, self.standing)
        return sorted(enough, key=lambda c: (-self.standing(c), c.graph.key))[: self.settings.finalists]

    def told(self) -> str:
        """How the search stands, in words."""
        enough = [c for c in self.seen.values() if self.share(c) >= 1]
        best = max(enough, key=self.standing, default=None)
        if best is None:
            words = (
                f"none saves enough yet, at most {max(self.share(c) for c in self.seen.values()):.0%} of what is wanted"
            )
        elif self.task is None:
            words = f"best gain of those that save enough {best.gain:+.3g}"
        else:
            words = (
                f"untrained, {self.task.metric_name} {self.original.inherited:.4g}, "
                f"best of those that save enough {best.inherited:.4g}"
            )
        return f"{self.judged_ever} networks, {words}"


def _inherited(candidate: Candidate, task: Task) -> float:
    """Metric on part of the decide split with the weights it has, batch statistics calibrated."""
    module = candidate.network.calibrated(task.train.x[: EXAMPLES // 2].cpu()).module()
    return task.evaluate(module.to(task.train.x.device), "decide", limit=EXAMPLES)


def _front(
    candidates: Sequence[Candidate], share: Callable[[Candidate], float], standing: Callable[[Candidate], float]
) -> list[Candidate]:
    """Networks that no other beats in both standing and share, by share."""
    found: list[Candidate] = []
    for c in sorted(candidates, key=lambda c: (-share(c), -standing(c), c.graph.key)):
        if not found or standing(c) > standing(found[-1]):
            found.append(c)
    return found[::-1]


def _trained(candidates: Sequence[Candidate], task: Task, settings: ImproveSettings) -> list[Candidate]:
    """The same networks after a training each, or as an earlier training left them."""
    found = []
    for i, candidate in enumerate(candidates):
        key = candidate.graph.key
        row = settings.known(key) if settings.known is not None else None
        if row is None:
            module = candidate.module().to(task.train.x.device)
            reached = train(module, task, settings.budget or Budget(), settings.seed)
            candidate = replace(candidate, decide=reached.decide, test=reached.test, weights=module.cpu().state_dict())
            if settings.learnt is not None:
                settings.learnt(key, candidate)
        else:
            candidate = replace(candidate, **row)
        found.append(candidate)
        if settings.report is not None:
            words = f"{task.metric_name} {candidate.decide:.4g}: {candidate.words}"
            settings.report(i + 1, len(candidates), words)
    return found


def _kept(original: Candidate, others: Sequence[Candidate], task: Task, keep: float) -> list[Candidate]:
    """Trained networks that keep the metric, best first.

    Raises:
        EditError: no network keeps it.
    """

    def standing(candidate: Candidate) -> float:
        assert candidate.decide is not None
        return task.sign * candidate.decide

    kept = [c for c in others if standing(c) >= standing(original) - keep]
    if not kept:
        best = max(others, key=standing)
        raise EditError(
            f"none of the networks trained keeps {task.metric_name} within {keep:g} of {original.decide:.4g}; "
            f"the best reached {best.decide:.4g} ({best.words}).\n  Allow more loss, cut less, or train longer."
        )
    return sorted(kept, key=lambda c: -standing(c))
