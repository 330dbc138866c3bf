"""Draws within limits: exact where costs add up over the choices, guided rejection elsewhere.

Costs. Take the choices of a member one after another and complete each beginning with the smallest options: the differences of the
completed members' costs sum up to the member's cost, whatever the space. Each difference is a rule with a scope, learned as what
follows a choice is (see structure.py). Where the rules are small enough to be tabulated, dynamic programming over the states counts
the members within a budget, and draws follow those counts: uniform, and no draw is wasted but for rounding.

Elsewhere a sum of one number a choice, fitted to members near the limit, guides the draws, and every draw is captured and checked.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import gcd, inf
from typing import TYPE_CHECKING, Any

import numpy as np

from nasplat.errors import SpaceError
from nasplat.searchspace.architecture import Architecture
from nasplat.searchspace.pick import Rejected
from nasplat.searchspace.structure import END, ROUNDS, Intractable, Prefix, Rules, State, Structure

if TYPE_CHECKING:
    from nasplat.searchspace.space import Space

ADDED = ("macs", "params")
"""Quantities that can add up over choices."""
QUANTITIES = (*ADDED, "activation_bytes")
"""What a captured graph counts and a limit can bound; the last, a largest value, does not add up and is checked by capture."""
WIDEST = 8
"""Choices that a difference of costs may depend on."""
MOST_PARTS = 16
"""Parts into which a space is split by choices that decide about all others."""
MOST_ENTRIES = 20_000
"""Differences of costs, each one or two captures, before tabulating them is given up."""
MOST_NODES = 1_000_000
"""Nodes of captured graphs before it is given up (some two minutes)."""
TESTS = 200
"""Members whose tabulated costs must equal the captured ones."""
CELLS = 16_000_000
"""Numbers that the budgets of all states may take."""
FITTED = 300
"""Members a round of fitting a guide captures."""
LEVELS = 12
"""Rounds of fitting at most."""
REFUSALS = 1000
"""Draws that the space refuses before one counts as in vain."""
KEPT = 0.9
"""Share of a guide's proposals that should be within the limits: a capture costs far more than a draw."""
TRUSTED = 0.8
"""Below that share, draws are mutations of members found within the limits while preparing."""
MUTATIONS = 3
PROPOSALS, NEIGHBOURS = 4, 12
"""Captures of a guided draw at most, before a member found earlier is given again."""
DRAWS = 100_000
"""Draws in vain before a limit counts as unreachable."""

Cost = tuple[int, int]


class Costs:
    """Costs of a space's members as differences that its choices make."""

    def __init__(self, structure: Structure) -> None:
        """Learn and tabulate.

        Args:
            structure: Of the space.

        Raises:
            Intractable: the differences depend on too much.
        """
        self.plain, self.space = structure, structure.space
        self.structure = copy(structure)
        """Its states are told apart by what they cost, too."""
        self.captured: dict[tuple[tuple[str, int], ...], Cost] = {}
        self.nodes = 0
        self.rules = Rules(structure.walker, self._difference, WIDEST)
        self.base = self.of(self.plain.complete({}) or {})
        rng = random.Random("costs")
        for _ in range(6):
            self._observe(structure.draw(rng))
        for _ in range(ROUNDS):
            self._fill()
            if all([self._agrees(made) for made in self._tests(rng)]):
                return
        raise Intractable(f"{ROUNDS} refinements did not settle the costs")

    def of(self, made: Prefix) -> Cost:
        """Captured MACs and parameters of a member."""
        key = tuple(made.items())
        if key not in self.captured:
            try:
                graph = Architecture(self.space, self.structure.choices(made)).graph()
            except Rejected as err:
                raise Intractable("the space refuses combinations of small options") from err
            self.captured[key] = graph.macs, graph.params
            self.nodes += len(graph.nodes)
            if self.nodes > MOST_NODES:
                raise Intractable(f"costs were not settled by {len(self.captured):,} captured networks")
        return self.captured[key]

    def tabulated(self, made: Prefix) -> Cost:
        """The same by the rules."""
        prefix: Prefix = {}
        macs, params = self.base
        for name, number in made.items():
            prefix = prefix | {name: number}
            more = self.rules.at(name, prefix)
            macs, params = macs + more[0], params + more[1]
        return macs, params

    def more(self, state: State, number: int) -> Cost:
        """What an option adds in a state."""
        return (
            (0, 0) if state.following[number] == -2 else self.rules.at(state.name, state.prefix | {state.name: number})
        )

    def _difference(self, prefix: Prefix) -> Cost:
        shorter = dict(list(prefix.items())[:-1])
        made, before = self.plain.complete(prefix), self.plain.complete(shorter)
        if made is None or before is None:
            return 0, 0  # all that begins so is refused
        (a, b), (c, d) = self.of(made), self.of(before)
        return a - c, b - d

    def _observe(self, made: Prefix) -> None:
        prefix: Prefix = {}
        for name, number in made.items():
            prefix = prefix | {name: number}
            self.rules.observe(name, prefix, self._difference(prefix))

    def _fill(self) -> None:
        widest = max(self.rules.scopes, key=lambda n: len(self.rules.scopes[n]), default="")
        try:
            missing = self.structure.unfold((self.rules,), evaluate=False)
        except Intractable as err:
            raise Intractable(str(err), widest) from err
        if missing > MOST_ENTRIES:
            raise Intractable(f"costs have more than {missing:,} parts", widest)
        self.structure.unfold((self.rules,))

    def _tests(self, rng: random.Random) -> Iterator[Prefix]:
        for i in range(TESTS):
            made, ended = self.structure.walker.run(self.structure.draw(rng) if i % 2 else {}, rng=rng)
            if ended == END:
                yield made

    def _agrees(self, made: Prefix) -> bool:
        if self.tabulated(made) == self.of(made):
            return True
        self._observe(made)
        return False


def tabulate(structure: Structure) -> list[Costs]:
    """Costs of a space, in parts where one choice decides about all others (a width that is picked last, say).

    Raises:
        Intractable: that does not help.
    """
    split: list[str] = []
    while True:
        options = [range(len(structure.space.known[name])) for name in split]
        parts = [dict(zip(split, numbers, strict=True)) for numbers in product(*options)]
        try:
            return [Costs(structure.given(part) if part else structure) for part in parts]
        except Intractable as err:
            always = all(err.name in structure.walker.run({}, rng=random.Random(i))[0] for i in range(64))
            if not always or err.name in split or len(parts) * len(structure.space.known[err.name]) > MOST_PARTS:
                raise
            split.append(err.name)


@dataclass
class _Step:
    name: str
    shares: list[float]
    """Of the completions, by option."""
    bins: list[int]
    """What an option takes of the budget."""
    more: list[Cost]
    following: list[int]


class Budget:
    """Members whose cost stays below a limit, counted by dynamic programming over the states."""

    def __init__(self, structure: Structure, more: list[list[Cost]], base: Cost, quantity: str, limit: float) -> None:
        """Args:
        structure: Its states, ordered so that what follows comes first.
        more: Difference each option of each state makes.
        base: Cost where all differences are zero.
        quantity: One of `ADDED`.
        limit: Largest allowed cost.
        """
        self.quantity = quantity
        which, states = ADDED.index(quantity), structure.states
        least: list[int] = []  # that must still be added from a state on
        for state, costs in zip(states, more, strict=True):
            ends = [
                c[which] + (least[f] if f >= 0 else 0) for f, c in zip(state.following, costs, strict=True) if f != -2
            ]
            least.append(min(ends, default=0))
        self.smallest = base[which] + (least[-1] if states else 0)
        self.steps: list[_Step] = []
        self.within: list[np.ndarray] = []
        """By state: share of its completions within each budget, in bins."""
        self.room, self.share = 0, 0.0
        left = int(min(limit, 2**62)) - self.smallest
        if left < 0:
            return
        excess = [
            [c[which] + (least[f] if f >= 0 else 0) - least[at] for f, c in zip(state.following, costs, strict=True)]
            for at, (state, costs) in enumerate(zip(states, more, strict=True))
        ]
        unit = reduce(gcd, (e for row in excess for e in row), 0) or 1
        most = max(200, min(4000, CELLS // max(1, len(states))))
        if left // unit > most:
            unit = -(
                -left // most
            )  # rounded down: a draw may exceed the limit by less than one bin a choice, and is drawn again
        self.room = left // unit
        for state, costs, row in zip(states, more, excess, strict=True):
            ways = [1 if f == -1 else 0 if f == -2 else states[f].count for f in state.following]
            step = _Step(
                state.name,
                [w / state.count if w else 0.0 for w in ways],
                [e // unit for e in row],
                costs,
                state.following,
            )
            total = np.zeros(self.room + 1)
            for share, taken, following in zip(step.shares, step.bins, step.following, strict=True):
                if share and taken <= self.room:
                    total[taken:] += share * (1.0 if following < 0 else self.within[following][: self.room + 1 - taken])
            self.steps.append(step)
            self.within.append(total)

        self.share = float(self.within[-1][self.room]) if states else 1.0
        """Share of the space that draws come from."""

    def draw(self, rng: random.Random) -> tuple[Prefix, Cost]:
        """One of them, each equally likely, and what its choices add to the base."""
        made: Prefix = {}
        at, left, macs, params = len(self.steps) - 1, self.room, 0, 0
        while at >= 0:
            step, weights, total = self.steps[at], [], 0.0
            for share, taken, following in zip(step.shares, step.bins, step.following, strict=True):
                if share and taken <= left:
                    total += share if following < 0 else share * self.within[following][left - taken]
                weights.append(total)
            ticket = rng.random() * total
            number = next((i for i, w in enumerate(weights) if ticket < w), len(weights) - 1)
            made[step.name] = number
            left -= step.bins[number]
            macs, params = macs + step.more[number][0], params + step.more[number][1]
            at = step.following[number]
        return made, (macs, params)


class Feasible:
    """The part of a space within limits."""

    def __init__(self, space: Space, limits: Mapping[str, float]) -> None:
        """Prepare draws.

        Args:
            space: Any space.
            limits: Largest allowed `macs`, `params`, `activation_bytes`.

        Raises:
            SpaceError: an unknown quantity, a limit that is no positive number, or one that no member meets.
        """
        for name, value in limits.items():
            if name not in QUANTITIES or not isinstance(value, int | float) or not value > 0:
                raise SpaceError(
                    f"expected positive limits on {', '.join(QUANTITIES)}, got {name!r}: {value!r}.\n  State the largest allowed value."
                )
        started = time.perf_counter()
        self.space, self.limits = space, dict(limits)
        self.drawn = self.kept = 0
        self.method = "exact"
        """exact: by tabulated costs, each member equally likely; guided: by a fitted sum, each draw captured and checked."""
        self.reason = ""
        """Why the method is not exact."""
        structure, costs = space.structure(), space.costs()
        self.guide: Any
        if isinstance(costs, Intractable):
            self.method, self.reason = "guided", str(costs)
            self.guide = _Guide(space, None if isinstance(structure, Intractable) else structure, self.limits)
        else:
            self.guide = _Tables(costs, self.limits)
        self.setup_seconds = time.perf_counter() - started

    def __repr__(self) -> str:
        return f"Feasible({self.space!r}, {self.limits}, {self.method})"

    @property
    def is_uniform(self) -> bool:
        """Every member within the limits is equally likely."""
        return self.method == "exact"

    @property
    def acceptance(self) -> float:
        """Share of the members drawn so far that were within the limits."""
        drawn = self.drawn if self.method == "exact" else self.guide.captured
        return self.kept / drawn if drawn else float("nan")

    def draw(self, rng: random.Random) -> Architecture:
        """A member within the limits.

        Raises:
            SpaceError: none was found.
        """
        for _ in range(DRAWS):
            self.drawn += 1
            found = self.guide.draw(rng)
            if found is not None:
                self.kept += 1
                return found
        raise SpaceError(
            f"{self.drawn:,} draws from {self.space!r} gave no member within {_words(self.limits)}.\n  Raise a limit."
        )


class _Tables:
    """Uniform draws where costs are tabulated."""

    def __init__(self, parts: list[Costs], limits: Mapping[str, float]) -> None:
        self.parts, self.limits = parts, limits
        self.budgets = [self._budget(costs) for costs in parts]
        for quantity, limit in limits.items():
            smallest = [b.smallest for b in self.budgets if b.quantity == quantity]
            if len(smallest) == len(parts) and min(smallest) > limit:
                raise SpaceError(
                    f"no architecture of {parts[0].space!r} has {quantity} <= {limit:,.0f}; the smallest has {min(smallest):,}.\n"
                    "  Raise the limit."
                )
        if not any(b.share for b in self.budgets):
            raise SpaceError(
                f"no architecture of {parts[0].space!r} is within {_words(limits)} at once.\n  Raise one of the limits."
            )
        self.weights = [b.share * c.structure.count for b, c in zip(self.budgets, parts, strict=True)]
        self.share = sum(self.weights) / sum(c.structure.count for c in parts)
        """Of the space that draws come from."""

    def _budget(self, costs: Costs) -> Budget:
        """That of the limit which leaves least."""
        structure = costs.structure
        more = [[costs.more(s, i) for i in range(len(s.following))] for s in structure.states]
        budgets = [Budget(structure, more, costs.base, q, limit) for q, limit in self.limits.items() if q in ADDED]
        return min(budgets or [Budget(structure, more, costs.base, "macs", inf)], key=lambda b: b.share)

    def draw(self, rng: random.Random) -> Architecture | None:
        (at,) = rng.choices(range(len(self.parts)), self.weights)
        costs, (made, more) = self.parts[at], self.budgets[at].draw(rng)
        structure = costs.structure
        for base, added, quantity in zip(costs.base, more, ADDED, strict=True):
            if quantity in self.limits and base + added > self.limits[quantity]:
                return None
        if structure.refuses_late and structure.walker.run(made)[1] != END:
            return None
        found = Architecture(costs.space, structure.choices(made))
        return None if "activation_bytes" in self.limits and _broken(found, self.limits) else found


class _Guide:
    """Draws by a sum of one number a choice, fitted to captured members near the limits; each is captured and checked."""

    def __init__(self, space: Space, structure: Structure | None, limits: Mapping[str, float]) -> None:
        self.space, self.structure, self.limits = space, structure, limits
        self.captured = 0
        rng = random.Random("guide")
        members = [space.sample(seed=rng.getrandbits(48)) for _ in range(FITTED)]
        ratios = [self._ratio(m) for m in members]
        for _ in range(LEVELS):
            self._fit(members, ratios)
            best = [members[i] for i in np.argsort(ratios, kind="stable")[: FITTED // 10]]
            fresh = [
                m
                for m in (
                    self._neighbour(rng.choice(best), rng) if i % 3 == 0 else self._propose(rng) for i in range(FITTED)
                )
                if m
            ]
            members += fresh
            found = [self._ratio(m) for m in fresh]
            ratios += found
            if self.level == 1.0 and sum(r <= 1 for r in found) > FITTED / 4:
                break
        self._fit(members, ratios)
        self.is_trusted = True
        """Whether the fitted sum tells which proposals are within the limits."""
        self._tighten(rng)
        self.captured = 0
        self.within = [
            m for m, ratio in zip(members, ratios, strict=True) if ratio <= 1
        ]  # fixed, so that a seed fixes its draw
        if min(ratios) > 1:
            raise SpaceError(
                f"no architecture of {space!r} was found within {_words(limits)} among {len(members):,}; "
                f"the best exceeds a limit by {min(ratios) - 1:.1%}.\n  Raise the limit."
            )

    def _tighten(self, rng: random.Random) -> None:
        """Propose a little below the limit, so that most proposals are within it."""
        step = max(self.margin, 1e-3)
        for _ in range(LEVELS):
            tried = [m for m in (self._propose(rng) for _ in range(FITTED // 8)) if m is not None]
            kept = sum(self._ratio(m) <= 1 for m in tried) / max(1, len(tried))
            self.is_trusted = kept >= TRUSTED
            if kept >= KEPT:
                return
            self.margin -= step
            self.budget = None if self.structure is None else self._budget(self.structure)

    def draw(self, rng: random.Random) -> Architecture | None:
        """A proposal within the limits; after some in vain, or where the fit tells too little, a neighbour of a member that is."""
        for attempt in range(PROPOSALS + NEIGHBOURS):
            if attempt < PROPOSALS and self.is_trusted:
                found = self._propose(rng)
            else:
                found = rng.choice(self.within)
                for _ in range(rng.randint(1, MUTATIONS)):
                    found = self._neighbour(found, rng) or found
            if found is not None and self._ratio(found) <= 1:
                return found
        return rng.choice(self.within)

    @staticmethod
    def _neighbour(member: Architecture, rng: random.Random) -> Architecture | None:
        try:
            return member.space.mutate(member, seed=rng.getrandbits(48))
        except SpaceError:
            return None

    def _ratio(self, member: Architecture) -> float:
        """Largest cost over its limit."""
        self.captured += 1
        graph = member.graph()
        return max(getattr(graph, q) / limit for q, limit in self.limits.items())

    def _fit(self, members: list[Architecture], ratios: list[float]) -> None:
        """Least squares of the ratio or of its logarithm, weighted towards the level aimed at: the limit, or what the best members so far come near to."""
        columns: dict[tuple[str, Any], int] = {}
        rows = [[columns.setdefault((n, repr(v)), len(columns)) for n, v in m.choices.items()] for m in members]
        matrix = np.zeros((len(rows), len(columns) + 1))
        for at, row in enumerate(rows):
            matrix[at, row] = 1.0
        matrix[:, -1] = 1.0
        self.level = max(1.0, float(np.quantile(ratios[-FITTED:], 0.1)))
        over = np.array(ratios) / self.level
        fits = [self._solve(matrix, over - 1), self._solve(matrix, np.log(over))]
        solution, self.margin = min(fits, key=lambda fit: fit[1])
        self.parts = {key: float(solution[i]) for key, i in columns.items()}
        self.constant = float(solution[-1])
        self.budget = None if self.structure is None else self._budget(self.structure)

    @staticmethod
    def _solve(matrix: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
        """Coefficients, and half of the typical error near zero."""
        weight = 1.0 / (0.1 + np.abs(target))  # what is far from the level need not be told exactly
        penalty = np.sqrt(1e-3) * np.eye(matrix.shape[1])
        solution = np.linalg.lstsq(
            np.vstack([matrix * weight[:, None], penalty]),
            np.concatenate([target * weight, np.zeros(matrix.shape[1])]),
            rcond=None,
        )[0]
        near = np.abs(target) < 0.5
        errors = (matrix @ solution - target)[near if near.sum() > 20 else slice(None)]
        return solution, float(np.sqrt(np.mean(errors**2))) / 2

    def _budget(self, structure: Structure) -> Budget:
        scale = 1e6
        more = [[(round(scale * self._part(s.name, i)), 0) for i in range(len(s.following))] for s in structure.states]
        base = (round(scale * self.constant), 0)
        budget = Budget(structure, more, base, "macs", scale * self.margin)
        return budget if budget.share else Budget(structure, more, base, "macs", budget.smallest + scale * 0.02)

    def _part(self, name: str, number: int) -> float:
        return self.parts.get((name, repr(self.space.known[name][number])), 0.0)

    def _propose(self, rng: random.Random) -> Architecture | None:
        if self.budget is None or self.structure is None:
            return self._tilted(rng)
        for _ in range(REFUSALS):
            made = self.budget.draw(rng)[0]
            if not self.structure.refuses_late or self.structure.walker.run(made)[1] == END:
                return Architecture(self.space, self.structure.choices(made))
        return None

    def _tilted(self, rng: random.Random) -> Architecture | None:
        """A walk that prefers cheap options, the more the dearer its last attempt was."""
        found = None
        for tilt in (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0):

            def decide(name: str, options: tuple[Any, ...], tilt: float = tilt) -> Any:
                weights = [np.exp(-tilt * self.parts.get((name, repr(o)), 0.0)) for o in options]
                return rng.choices(options, weights)[0]

            found = self.space.walk(decide)
            if found is not None:
                total = self.constant + sum(self.parts.get((n, repr(v)), 0.0) for n, v in found.choices.items())
                if total <= self.margin:
                    return found
        return found


def _broken(member: Architecture, limits: Mapping[str, float]) -> bool:
    graph = member.graph()
    return any(getattr(graph, q) > limit for q, limit in limits.items())


def _words(limits: Mapping[str, float]) -> str:
    return ", ".join(f"{q} <= {v:,.0f}" for q, v in limits.items())
