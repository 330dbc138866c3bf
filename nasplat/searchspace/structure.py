"""The structure of a space, learned from walks: what follows a choice, and on which earlier choices that depends.

A build function can be run, not read. Every name gets a rule: what follows it, as a function of a few choices made so far, its
scope. A scope starts with the name itself and grows when two walks agree on it and yet go on differently; hybrids of the two find
the choice that makes the difference. Walks that agree on all that the rest of the walk looks at are in one state, states form a
directed acyclic graph, and counting and uniform drawing are dynamic programming on it. Draws from the graph are walked for real;
a contradiction refines the rules until none is found.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from itertools import accumulate
from math import exp, inf, log
from typing import TYPE_CHECKING, Any

from nasplat.searchspace import pick as picks
from nasplat.searchspace.pick import Option, Rejected

if TYPE_CHECKING:
    from nasplat.searchspace.space import Space

Prefix = dict[str, int]
"""The first choices of a walk in their order: name -> number of the option."""
START, END, REFUSED = "<start>", "<end>", "<refused>"
WALKS = 512
"""Walks without a contradiction before the rules are believed."""
WAYS = 3
"""Random ways by which every state is tested as well."""
WIDEST = 40
"""Names the scope of what follows may have."""
MOST_STATES = 50_000
WORK = 1_500_000
"""Look-ups of rules before a space counts as intractable (some ten seconds)."""
ROUNDS = 60
"""Refinements before a space counts as intractable."""


class Intractable(Exception):
    """What follows, or what it costs, depends on too many choices to be tabulated."""

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__(reason)
        self.name = name
        """The choice with the widest scope, where one is known."""


class Diverged(Exception):
    """A walk was asked for a name that its rules did not foresee."""

    def __init__(self, prefix: Prefix) -> None:
        super().__init__(f"{list(prefix)[-1:]}")
        self.prefix = prefix


class _Stop(BaseException):
    """Enough of the walk was seen. Not an Exception, so that a build cannot swallow it."""


class Walker:
    """Runs the picks of a space; where nothing is wanted, the smallest option is taken."""

    def __init__(self, space: Space, given: Mapping[str, int] | None = None) -> None:
        """Args:
        space: Whose picks are answered.
        given: Answers that never change.
        """
        self.space, self.given = space, dict(given or {})
        self._smallest = picks.extreme(largest=False)
        self._default: dict[str, int] = {}

    def run(self, wanted: Mapping[str, int], until: str = "", rng: random.Random | None = None) -> tuple[Prefix, str]:
        """Walk to the end, or until a name is answered.

        Args:
            wanted: Answers where they are legal.
            until: The name to stop after.
            rng: Answers the rest at random instead.

        Returns:
            The choices, and END, REFUSED, or the name stopped after.
        """
        made: Prefix = {}

        def decide(name: str, options: tuple[Option, ...]) -> Option:
            number = self.given.get(name, wanted.get(name, -1))
            if not 0 <= number < len(options):
                number = self.smallest(name) if rng is None else int(rng.random() * len(options))
            made[name] = number
            if name == until:
                raise _Stop
            return options[number]

        try:
            self.space._choices(decide)
        except Rejected:
            return made, REFUSED
        except _Stop:
            return made, until
        return made, END

    def after(self, prefix: Prefix) -> str:
        """The name picked after these choices, or END, or REFUSED.

        Raises:
            Diverged: other names are picked.
        """
        left, asked = len(prefix), ""

        def decide(name: str, options: tuple[Option, ...]) -> Option:
            nonlocal left, asked
            if left == 0 or name not in prefix:
                asked = name
                raise _Stop
            left -= 1
            return options[prefix[name]]

        try:
            self.space._choices(decide)
        except Rejected:
            asked = REFUSED
        except _Stop:
            pass
        else:
            asked = END
        if left > 0 or asked in prefix:
            raise Diverged(prefix)
        return asked

    def smallest(self, name: str) -> int:
        """Number of the smallest option of a name (of strings, the first)."""
        if name in self.given:
            return self.given[name]
        if name not in self._default:
            options = self.space.known[name]
            chosen = self._smallest(name, options)
            self._default[name] = next(i for i, o in enumerate(options) if o is chosen)
        return self._default[name]


class Rules:
    """An outcome for each name as a function of its scope; missing entries are evaluated on a walk that has them."""

    def __init__(self, walker: Walker, evaluate: Callable[[Prefix], Any], widest: int = WIDEST) -> None:
        """Args:
        walker: Runs hybrids.
        evaluate: Outcome at the last name of a prefix.
        widest: Names a scope may have.
        """
        self.walker, self.evaluate, self.widest = walker, evaluate, widest
        self.scopes: dict[str, list[str]] = {}
        self.entries: dict[str, dict[tuple[int, ...], tuple[Any, Prefix]]] = {}
        self.looked_up = 0

    def key(self, name: str, prefix: Mapping[str, int]) -> tuple[int, ...]:
        """What the rule of a name looks at.

        Raises:
            Intractable: it was asked too often.
        """
        self.looked_up += 1
        if self.looked_up > WORK:
            raise Intractable(f"more than {WORK:,} look-ups of what follows what")
        if name not in self.scopes:
            self.scopes[name], self.entries[name] = [name], {}
        return tuple([prefix.get(n, -1) for n in self.scopes[name]])

    def at(self, name: str, prefix: Prefix) -> Any:
        """Outcome at the last name of a prefix."""
        key = self.key(name, prefix)
        held = self.entries[name].get(key)
        if held is None:
            held = self.entries[name][key] = (self.evaluate(prefix), prefix)
        return held[0]

    def observe(self, name: str, prefix: Prefix, outcome: Any) -> bool:
        """Take note of an outcome; True when it contradicted the rule, which is then refined.

        Raises:
            Intractable: the scope gets too wide.
        """
        changed = False
        while True:
            key = self.key(name, prefix)
            held = self.entries[name].setdefault(key, (outcome, prefix))
            if held[0] == outcome:
                return changed
            self._widen(name, self._difference(name, held, (outcome, prefix)))
            changed = True

    def _widen(self, name: str, more: str) -> None:
        scope = self.scopes[name]
        if len(scope) >= self.widest:
            raise Intractable(f"{name!r} depends on {', '.join(scope[1:])}, {more} and more", name)
        scope.append(more)
        held = self.entries[name].values()
        self.entries[name] = {}
        self.entries[name] = {self.key(name, prefix): (outcome, prefix) for outcome, prefix in held}

    def _difference(self, name: str, first: tuple[Any, Prefix], second: tuple[Any, Prefix]) -> str:
        """A choice outside the scope in which two prefixes differ and that changes the outcome at their last name."""
        a, b = first[1], second[1]
        differing = [n for n in dict.fromkeys((*a, *b)) if a.get(n, -1) != b.get(n, -1)]
        last = {n: v for n, v in b.items() if n in self.scopes[name]}
        seen: dict[int, Any] = {0: first[0], len(differing): second[0]}

        def outcome(taken: int) -> Any:
            if taken not in seen:
                mixed = a | {n: b.get(n, -1) for n in differing[:taken]} | last
                prefix, ended = self.walker.run(mixed, until=name)
                seen[taken] = self.evaluate(prefix) if ended == name else None
            return seen[taken]

        def boundary(low: int, high: int, is_low: Callable[[Any], bool]) -> int:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if is_low(outcome(middle)) else (low, middle)
            return high

        taken = boundary(0, len(differing), lambda o: o == first[0])
        if outcome(taken) is None:  # that hybrid never comes to the name: look from the other side
            taken = boundary(taken, len(differing), lambda o: o != second[0])
        return differing[taken - 1]


@dataclass
class State:
    """Where a walk can be: about to answer a name."""

    name: str
    prefix: Prefix
    """One way to get here."""
    following: list[int] = field(default_factory=list)
    """State after each option; -1: the end, -2: refused."""
    count: int = 0
    """Ways to go on to the end."""


class Structure:
    """The states of a space's walks."""

    def __init__(self, space: Space) -> None:
        """Learn the structure.

        Args:
            space: Any space.

        Raises:
            Intractable: it cannot be tabulated.
        """
        self.walker = Walker(space)
        self.space = space
        self.refuses_late = False
        """Refusals depend on too much to be tabulated; the states count refused encodings too."""
        self._met_refusal = False
        self.next = Rules(self.walker, self._after)
        self.states: list[State] = []
        rng = random.Random("structure")
        try:
            self._learn(rng)
        except Intractable:
            if self.refuses_late or not self._met_refusal:
                raise
            self.refuses_late = True
            self.next = Rules(self.walker, self._after)
            self._learn(rng)

    def given(self, choices: Mapping[str, int]) -> Structure:
        """The part of the space with these numbers of options."""
        part = copy(self)
        part.walker = Walker(self.space, {**self.walker.given, **choices})
        part.unfold()
        return part

    def _after(self, prefix: Prefix) -> str:
        return self._outcome(self.walker.after(prefix))

    def _outcome(self, after: str) -> str:
        self._met_refusal |= after == REFUSED
        return END if after == REFUSED and self.refuses_late else after

    def _learn(self, rng: random.Random) -> None:
        for _ in range(2 * WALKS):
            self._observe(self.walker.run({}, rng=rng))
        for _ in range(ROUNDS):
            self.unfold()
            if not any([self._observe(self.walker.run(wanted, rng=rng)) for wanted in self._tests(rng)]):
                return
        raise Intractable(f"{ROUNDS} refinements did not settle what follows what")

    def _tests(self, rng: random.Random) -> Iterator[Prefix]:
        """Walks for real: as sampling makes them, as the states make them, and by random ways to every state."""
        for i in range(WALKS):
            yield self.draw(rng) if i % 2 else {}
        reached_from: list[list[tuple[int, int]]] = [[] for _ in self.states]
        for at, state in enumerate(self.states):
            for number, following in enumerate(state.following):
                if following >= 0:
                    reached_from[following].append((at, number))
        for start in range(len(self.states)):
            for _ in range(WAYS):
                at, wanted = start, {}
                while reached_from[at]:
                    at, number = rng.choice(reached_from[at])
                    wanted[self.states[at].name] = number
                yield wanted

    def _observe(self, walk: tuple[Prefix, str]) -> bool:
        made, ended = walk
        names, prefix, changed = list(made), {}, False
        for i, name in enumerate(names):
            prefix = prefix | {name: made[name]}
            after = names[i + 1] if i + 1 < len(names) else self._outcome(ended)
            changed |= self.next.observe(name, prefix, after)
        return changed

    def unfold(self, others: tuple[Rules, ...] = (), evaluate: bool = True) -> int:
        """Tabulate the states, merging walks that agree on all that the rest looks at.

        Args:
            others: More rules whose scopes keep states apart.
            evaluate: Fill what the other rules miss.

        Returns:
            How many entries the other rules miss (with `evaluate` none).

        Raises:
            Intractable: there are too many states.
        """
        while True:
            known, missing = sum(map(len, self.next.entries.values())), [set() for _ in others]
            live = self._live(others)
            index: dict[tuple[Any, ...], int] = {}
            self.states = []

            def visit(
                name: str,
                prefix: Prefix,
                index: dict[tuple[Any, ...], int] = index,
                live: dict[str, list[str]] = live,
                missing: list[set[tuple[str, tuple[int, ...]]]] = missing,
            ) -> int:
                key = (name, *[(n, prefix[n]) for n in live.get(name, ()) if n in prefix])
                if key in index:
                    return index[key]
                if len(index) >= MOST_STATES:
                    raise Intractable(f"more than {MOST_STATES:,} states")
                state = State(name, prefix)
                for number in range(len(self.space.known[name])):
                    if self.walker.given.get(name, number) != number:
                        state.following.append(-2)
                        continue
                    longer = prefix | {name: number}
                    for rules, lacking in zip(others, missing, strict=True):
                        if evaluate:
                            rules.at(name, longer)
                        elif (looked_at := rules.key(name, longer)) not in rules.entries[name]:
                            lacking.add((name, looked_at))
                    after = self.next.at(name, longer)
                    state.following.append(-1 if after == END else -2 if after == REFUSED else visit(after, longer))
                state.count = sum(map(self._ways, state.following))
                self.states.append(state)
                index[key] = len(self.states) - 1
                return index[key]

            first = self.walker.after({})
            self.walker.run({})  # so that the first name's options are known
            try:
                if first not in {END, REFUSED}:
                    visit(first, {})
            except Diverged as err:
                if not self._observe(self.walker.run(err.prefix)):
                    raise Intractable(f"walks go on unforeseen after {list(err.prefix)[-1]!r}") from err
                continue
            except RecursionError as err:
                raise Intractable("walks are too long") from err
            if known == sum(map(len, self.next.entries.values())):  # else scopes seen late keep more states apart
                return sum(map(len, missing))

    def _live(self, others: tuple[Rules, ...]) -> dict[str, list[str]]:
        """Names that what follows a name looks at."""
        names = {n: i for i, n in enumerate(self.next.scopes)}
        follow = {n: {names[o] for o, _ in e.values() if o in names} for n, e in self.next.entries.items()}
        masks = [0] * len(names)
        for rules in (self.next, *others):
            for name, scope in rules.scopes.items():
                for looked_at in scope:
                    if name in names and looked_at in names:
                        masks[names[name]] |= 1 << names[looked_at]
        changed = True
        while changed:
            changed = False
            for name in reversed(names):
                mask = masks[names[name]]
                for other in follow[name]:
                    mask |= masks[other]
                changed |= mask != masks[names[name]]
                masks[names[name]] = mask
        return {n: [m for m, i in names.items() if masks[names[n]] >> i & 1] for n in names}

    @property
    def count(self) -> int:
        """Encodings; with `refuses_late` those that the space refuses too."""
        return self.states[-1].count if self.states else 1

    def draw(self, rng: random.Random) -> Prefix:
        """Every encoding equally likely."""
        made: Prefix = {}
        at = len(self.states) - 1
        while at >= 0:
            state = self.states[at]
            ticket = rng.randrange(state.count)
            ways = map(self._ways, state.following)
            number = next(i for i, upto in enumerate(accumulate(ways)) if ticket < upto)
            made[state.name], at = number, state.following[number]
        return made

    def complete(self, prefix: Prefix) -> Prefix | None:
        """Go on with the smallest options that are not refused; None where all are."""
        made: Prefix = {}
        at = len(self.states) - 1
        while at >= 0:
            state = self.states[at]
            number = prefix.get(state.name)
            if number is None:
                number = self.walker.smallest(state.name)
                if state.count and not self._ways(state.following[number]):
                    number = next(i for i, f in enumerate(state.following) if self._ways(f))
            made[state.name], at = number, state.following[number]
        return made if at == -1 else None

    def _ways(self, following: int) -> int:
        return 1 if following == -1 else 0 if following == -2 else self.states[following].count

    def choices(self, made: Prefix) -> dict[str, Option]:
        """Options in place of their numbers."""
        return {name: self.space.known[name][number] for name, number in made.items()}


def estimate(space: Space, walks: int, rng: random.Random, rounds: int = 4) -> tuple[float, float]:
    """Unbiased estimate of the number of encodings, and its standard error.

    Walks are weighted by the inverse of their probability (Knuth 1975). Options are drawn in proportion to the geometric mean of the
    weights that followed them in earlier rounds, which makes weights nearly equal; the last round alone, whose proportions are fixed
    before it, is the estimate.
    """
    shares: dict[str, list[float]] = {}
    weights: list[float] = []
    for _ in range(rounds):
        weights, followed = [], {}
        for _ in range(walks):
            path, is_refused = _weighted(space, shares, rng)
            rest = 0.0
            for name, number, factor in reversed(path):
                found = followed.setdefault(name, [[] for _ in space.known[name]])
                found[number].append(-inf if is_refused else rest)
                rest += log(factor)
            weights.append(0.0 if is_refused else exp(rest))
        shares = {name: _shares(found) for name, found in followed.items()}
    mean = sum(weights) / walks
    return mean, (sum((w - mean) ** 2 for w in weights) / (walks - 1) / walks) ** 0.5


def _weighted(
    space: Space, shares: Mapping[str, list[float]], rng: random.Random
) -> tuple[list[tuple[str, int, float]], bool]:
    """One walk: names, numbers of options and inverse probabilities; whether it was refused."""
    path: list[tuple[str, int, float]] = []

    def decide(name: str, options: tuple[Option, ...]) -> Option:
        share = shares.get(name) or [1.0] * len(options)
        (number,) = rng.choices(range(len(options)), share)
        path.append((name, number, sum(share) / share[number]))
        return options[number]

    try:
        space._choices(decide)
    except Rejected:
        return path, True
    return path, False


def _shares(followed: list[list[float]]) -> list[float]:
    """Shares of the options by the logarithms of the weights behind them; those seen rarely count like the mean of the others."""
    means = []
    for logs in followed:
        accepted = [w for w in logs if w > -inf]
        means.append(sum(accepted) / len(accepted) + log(len(accepted) / len(logs)) if accepted else -inf)
    known = [m for m in means if m > -inf]
    if not known:
        return [1.0] * len(means)
    largest = max(known)
    return [max(exp((m if m > -inf else sum(known) / len(known)) - largest), 1e-4) for m in means]
