"""The structure of a space: the states of its walks, by which encodings are counted and drawn uniformly.

Rules, learned from walks, say which choice follows a choice (see rules.py). Walks that agree on all that the rest of
the walk looks at are in one state; states form a directed acyclic graph, and counting and uniform drawing are dynamic
programming on it. Draws from the graph are walked for real; a contradiction refines the rules until none is found.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from nasplat.searchspace.architecture import AbstractSpace
from nasplat.searchspace.pick import Option
from nasplat.searchspace.rules import END, REFUSED, Diverged, Intractable, Prefix, Rules, Walker

WALKS = 512
"""Walks without a contradiction before the rules are believed."""
WAYS = 3
"""Random ways to every state by which it is tested as well."""
MOST_STATES = 50_000
"""States beyond which a space counts as intractable."""
ROUNDS = 60
"""Refinements of the rules after which a space counts as intractable."""


@dataclass
class State:
    """Where a walk can be: about to make one choice."""

    name: str
    """Name of the choice."""
    prefix: Prefix
    """Choices of one walk that leads here."""
    following: list[int] = field(default_factory=list)
    """Number of the state after each option; -1 stands for the end, -2 for a refusal."""
    count: int = 0
    """Number of ways to go on to the end."""


class Structure:
    """The states of a space's walks, the one that begins a walk last.

    Example:
        >>> import nasplat
        >>> structure = nasplat.load_space("nasbench201").structure()
        >>> structure.count, len(structure.states)
        (15625, 6)
    """

    def __init__(self, space: AbstractSpace) -> None:
        """Learn the structure.

        Args:
            space: Space whose build function is run some thousand times up to its first module.

        Raises:
            Intractable: what follows depends on too many choices, or there are too many states.
        """
        self.walker = Walker(space)
        self.space = space
        self.refuses_late = False
        """True where refusals depend on too many choices to be tabulated; states then count refused encodings too."""
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
        """Return the structure of a part of the space.

        Args:
            choices: Numbers of the options that all members of the part have, by the name of the choice.

        Returns:
            A structure that shares the rules, with states of its own.
        """
        part = copy(self)
        part.walker = Walker(self.space, {**self.walker.given, **choices})
        part.unfold()
        return part

    def _after(self, prefix: Prefix) -> str:
        """Walk a prefix for real and return what follows it."""
        return self._outcome(self.walker.after(prefix))

    def _outcome(self, after: str) -> str:
        """Note that a refusal was met, and call it an end where refusals are not tabulated."""
        self._met_refusal |= after == REFUSED
        return END if after == REFUSED and self.refuses_late else after

    def _learn(self, rng: random.Random) -> None:
        """Observe random walks, then refine the rules until walks for real no longer contradict them."""
        for _ in range(2 * WALKS):
            self._observe(self.walker.run({}, rng=rng))
        for _ in range(ROUNDS):
            self.unfold()
            if not any([self._observe(self.walker.run(wanted, rng=rng)) for wanted in self._tests(rng)]):
                return
        raise Intractable(f"{ROUNDS} refinements did not settle what follows what")

    def _tests(self, rng: random.Random) -> Iterator[Prefix]:
        """Yield what to walk for real: free draws, draws from the states, and random ways to every state."""
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
        """Take note of what followed each choice of a walk; True where that contradicted a rule."""
        made, ended = walk
        names, prefix, changed = list(made), {}, False
        for i, name in enumerate(names):
            prefix = prefix | {name: made[name]}
            after = names[i + 1] if i + 1 < len(names) else self._outcome(ended)
            changed |= self.next.observe(name, prefix, after)
        return changed

    def unfold(self, others: tuple[Rules, ...] = (), evaluate: bool = True) -> int:
        """Tabulate the states, merging walks that agree on all that the rest of the walk looks at.

        Args:
            others: Further rules, such as those of costs; states that they tell apart are not merged.
            evaluate: Whether entries that the further rules miss are evaluated.

        Returns:
            Number of entries that the further rules miss; with `evaluate` there are none left.

        Raises:
            Intractable: there are more than `MOST_STATES` states.
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
        """Return, for every name, the names that any rule looks at from there to the end of the walk."""
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
        """Number of encodings; with `refuses_late` it includes those that the space refuses."""
        return self.states[-1].count if self.states else 1

    def draw(self, rng: random.Random) -> Prefix:
        """Draw an encoding, each equally likely.

        Args:
            rng: Generator of random numbers.

        Returns:
            Numbers of the options by name; with `refuses_late` the space may refuse them.
        """
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
        """Complete a beginning with the smallest options that are not refused.

        Args:
            prefix: Choices to keep where the walk reaches them.

        Returns:
            Numbers of the options of a whole walk; None where the space refuses the beginning itself.
        """
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
        """Return the number of encodings that go on from a state, the end and a refusal included."""
        return 1 if following == -1 else 0 if following == -2 else self.states[following].count

    def choices(self, made: Prefix) -> dict[str, Option]:
        """Replace numbers of options by the options.

        Args:
            made: Numbers of the options by the name of the choice.

        Returns:
            The options by the name of the choice.
        """
        return {name: self.space.known[name][number] for name, number in made.items()}


def structure_of(space: AbstractSpace) -> Structure | Intractable:
    """Return the structure of a space, learned once.

    Args:
        space: Space that may have any presets.

    Returns:
        The structure, or the reason why it cannot be tabulated.
    """

    def learn() -> Structure | Intractable:
        try:
            return Structure(space)
        except Intractable as err:
            return err

    return space.remembered("structure", learn)
