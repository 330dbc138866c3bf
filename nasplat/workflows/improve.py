"""Keep the performance, cut the cost: edits of an existing network, judged by a predictor, the best of them trained beside it.

A round takes networks of the Pareto set of performance and cost, spread along it, makes one edit of each at random, and drops what
cannot be built or was seen. Performance is what the predictor says; with a task, the predictor drops the worse of two that save alike, and the rest is judged by
the task's metric with the weights it has. Source of the loop: GENNAPE's and AIO-P's searches by one-edit mutations of computation graphs (Mills et al., AAAI 2023),
thresholds our own.
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
from nasplat.task.training import Budget, train

COSTS = ("macs", "params", "latency_ms")
"""What can be cut."""
TRIES = 12
"""Random edits tried until one of a parent can be built and is new."""
SCREENED = 2
"""Of so many networks of a round, the predictor lets one be judged by a task."""
EXAMPLES = 1024
"""Behind the metric of a network that was not trained yet, and half as many behind its batch statistics."""
Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Settings:
    """How widely edits are searched."""

    rounds: int = 12
    """Edits from the original at most."""
    parents: int = 8
    """Networks edited in a round."""
    children: int = 64
    """Made in a round."""
    finalists: int = 8
    """Networks returned at most."""


@dataclass(frozen=True)
class Candidate:
    """A network beside the original."""

    network: Network
    prediction: Prediction
    """The predictor's answer; none outside its support."""
    score: float
    """The predictor's number that orders networks; larger is better."""
    gain: float
    """Score less the original's."""
    costs: Mapping[str, float]
    """MACs and parameters, and predicted milliseconds where this device was calibrated."""
    saved: Mapping[str, float]
    """Share of each of the original's costs."""
    inherited: float | None = None
    """Metric on part of the decide split with the weights as the edits left them, batch statistics calibrated."""
    decide: float | None = None
    """Metric on the decide split after the training that the original had too."""
    test: float | None = None
    """Likewise on the test split."""
    weights: Mapping[str, torch.Tensor] | None = field(default=None, repr=False)
    """After that training."""

    def module(self) -> nn.Module:
        """A plain module with its weights, in eval mode."""
        found = self.network.module()
        if self.weights is not None:
            found.load_state_dict(dict(self.weights))
        return found

    @property
    def graph(self) -> Graph:
        """What it computes."""
        return self.network.graph

    @property
    def words(self) -> str:
        """The edits."""
        return self.network.words


@dataclass(frozen=True)
class Improvement:
    """What a search found."""

    original: Candidate
    found: list[Candidate]
    """Pareto set of those that save enough and keep enough, best first: measured ones by the decide split, else by predicted gain."""
    seen: int
    """Networks that were built and judged."""
    unbuildable: int
    """Edits that were tried and could not be built."""


def improve(
    module: nn.Module,
    example_input: Sequence[int],
    predictor: AbstractPredictor,
    cut: Mapping[str, float] | None = None,
    keep: float = 0.0,
    task: Task | None = None,
    budget: Budget | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    report: Report | None = None,
    known: Callable[[str], dict[str, Any] | None] | None = None,
    learnt: Callable[[str, Candidate], None] | None = None,
) -> Improvement:
    """Networks that cost less than a given one and are predicted to be as good.

    Args:
        module: With the weights that edits start from; it stays as it is.
        example_input: Shape of a batch.
        predictor: Fitted; `nasplat.load_predictor` gives one.
        cut: Share of a cost that must go, such as {"macs": 0.15}; costs: macs, params, latency_ms (needs `nasplat measure --calibrate`).
        keep: Loss that is allowed: of the task's metric on its decide split, or, without task, of the predictor's score.
        task: If given, the original and the networks found are trained on it, from the weights they have, and judged; where its data lie (`Task.to`).
        budget: Of these trainings.
        settings: Of the search.
        seed: Decides the edits and the order of the data.
        report: Called with (done, all, words).
        known: Told a network's key, gives the candidate's fields after an earlier training, if any; nothing is trained then.
        learnt: Told a key and the candidate after each training.

    Raises:
        EditError: the network cannot be edited; an unknown cost; nothing found saves and keeps enough.
    """
    settings, cut = settings or Settings(), dict(cut or {"macs": 0.15})
    for name, share in cut.items():
        if name not in COSTS or not 0 < share < 1:
            raise EditError(
                f"expected costs among {', '.join(COSTS)} and shares between 0 and 1, got {name}={share}.\n  Such as macs=0.15."
            )
    search = _Search(Network.of(module, example_input), predictor, cut, settings, seed, task)
    rounds = settings.rounds
    for done in range(rounds):
        if not search.round():
            break
        if report is not None:
            report(done + 1, rounds, search.told())
    chosen = search.chosen(keep)
    if not chosen:
        wanted = ", ".join(f"{v:.0%} of {k}" for k, v in cut.items()) + (
            f" at a predicted loss of at most {keep:g}" if task is None else ""
        )
        raise EditError(
            f"expected a network that saves {wanted}, got none: {search.told()}.\n  Allow more loss, cut less, or search longer."
        )
    original = search.original
    if task is not None:
        original, chosen, best = _trained(original, chosen, task, budget or Budget(), keep, seed, report, known, learnt)
        if not chosen:
            raise EditError(
                f"none of the networks trained keeps {task.metric_name} within {keep:g} of {original.decide:.4g}; the best reached {best.decide:.4g} ({best.words}).\n  Allow more loss, cut less, or train longer."
            )
    return Improvement(original, chosen, search.judged_ever, search.unbuildable)


class _Search:
    def __init__(
        self,
        network: Network,
        predictor: AbstractPredictor,
        cut: Mapping[str, float],
        settings: Settings,
        seed: int,
        task: Task | None,
    ) -> None:
        self.predictor, self.cut, self.settings, self.task = predictor, cut, settings, task
        self.draw = random.Random(seed)
        self.unbuildable = 0
        self.dropped: set[str] = set()
        self.original = self.measured(self.judged([network], None))[0]
        if missing := [n for n in cut if n not in self.original.costs]:
            raise EditError(
                f"expected a predicted {missing[0]}, got none on this device.\n  Run nasplat measure SPACE --calibrate first."
            )
        self.seen = {network.graph.key: self.original}

    def judged(self, networks: Sequence[Network], original: Candidate | None) -> list[Candidate]:
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
        """Networks that the predictor was asked about."""
        return len(self.seen) + len(self.dropped)

    def measured(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Of a task, the metric with the weights they have."""
        if self.task is None:
            return list(candidates)
        return [replace(c, inherited=_inherited(c, self.task)) for c in candidates]

    def standing(self, candidate: Candidate) -> float:
        """What orders networks; larger is better."""
        if self.task is None or candidate.inherited is None:
            return candidate.score
        return candidate.inherited if self.task.larger_is_better else -candidate.inherited

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
        """Of the Pareto set: half of them spread along the share, half those nearest to what is wanted; filled up with the best of the rest."""
        near = [c for c in self.seen.values() if self.share(c) <= 2.0]
        front = _front(near, self.share, self.standing)
        n = self.settings.parents
        spread = [front[i] for i in np.unique(np.linspace(0, len(front) - 1, n // 2).round().astype(int))]
        nearest = sorted(front, key=lambda c: abs(self.share(c) - 1))
        best = sorted(near, key=lambda c: -self.standing(c))
        return list({c.graph.key: c for c in (*spread, *nearest[: n - len(spread)], *best)}.values())[:n]

    def chosen(self, keep: float) -> list[Candidate]:
        """Of those that save enough: the Pareto set of those predicted to keep enough; or, of a task, the best with the weights they have."""
        enough = [c for c in self.seen.values() if self.share(c) >= 1]
        if self.task is None:
            enough = _front([c for c in enough if c.gain >= -keep], self.share, self.standing)
        return sorted(enough, key=lambda c: (-self.standing(c), c.graph.key))[: self.settings.finalists]

    def told(self) -> str:
        enough = [c for c in self.seen.values() if self.share(c) >= 1]
        best = max(enough, key=self.standing, default=None)
        if best is None:
            words = (
                f"none saves enough yet, at most {max(self.share(c) for c in self.seen.values()):.0%} of what is wanted"
            )
        elif self.task is None:
            words = f"best gain of those that save enough {best.gain:+.3g}"
        else:
            words = f"untrained, {self.task.metric_name} {self.original.inherited:.4g}, best of those that save enough {best.inherited:.4g}"
        return f"{self.judged_ever} networks, {words}"


def _inherited(candidate: Candidate, task: Task) -> float:
    """Metric on part of the decide split, batch statistics calibrated."""
    module = candidate.network.calibrated(task.train.x[: EXAMPLES // 2].cpu()).module()
    return task.evaluate(module.to(task.train.x.device), "decide", limit=EXAMPLES)


def _front(
    candidates: Sequence[Candidate], share: Callable[[Candidate], float], standing: Callable[[Candidate], float]
) -> list[Candidate]:
    """Those that no other beats in standing and share, by share."""
    found: list[Candidate] = []
    for c in sorted(candidates, key=lambda c: (-share(c), -standing(c), c.graph.key)):
        if not found or standing(c) > standing(found[-1]):
            found.append(c)
    return found[::-1]


def _trained(
    original: Candidate,
    chosen: Sequence[Candidate],
    task: Task,
    budget: Budget,
    keep: float,
    seed: int,
    report: Report | None,
    known: Callable[[str], dict[str, Any] | None] | None,
    learnt: Callable[[str, Candidate], None] | None,
) -> tuple[Candidate, list[Candidate], Candidate]:
    """The original, those that keep enough, and the best, kept or not."""
    found = []
    sign = 1 if task.larger_is_better else -1
    for i, candidate in enumerate((original, *chosen)):
        key = candidate.graph.key
        row = known(key) if known is not None else None
        if row is None:
            module = candidate.module().to(task.train.x.device)
            reached = train(module, task, budget, seed)
            candidate = replace(candidate, decide=reached.decide, test=reached.test, weights=module.cpu().state_dict())
            if learnt is not None:
                learnt(key, candidate)
        else:
            candidate = replace(candidate, **row)
        found.append(candidate)
        if report is not None:
            report(i + 1, len(chosen) + 1, f"{task.metric_name} {candidate.decide:.4g}: {candidate.words}")
    original, *others = found
    floor = sign * original.decide - keep  # type: ignore[operator]
    kept = [c for c in others if sign * c.decide >= floor]  # type: ignore[operator]
    best = max(others, key=lambda c: sign * c.decide)  # type: ignore[operator]
    return original, sorted(kept, key=lambda c: -sign * c.decide), best  # type: ignore[operator]
