"""Walks of a build function's picks, and rules, learned from walks, that say what follows a choice or what it costs.

A build function can be run, not read. A rule gives an outcome for every name of a choice as a function of a few of the
choices made so far, the name's scope. A scope begins with the name itself and grows when two walks agree on it and yet
have different outcomes; hybrids of the two walks find the choice that makes the difference.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from nasplat.searchspace.architecture import AbstractSpace
from nasplat.searchspace.pick import Option, Rejected, extreme

Prefix = dict[str, int]
"""The first choices of a walk in their order: number of the option by name."""
START, END, REFUSED = "<start>", "<end>", "<refused>"
"""Names for the beginning of a walk, for its end, and for its end because the space refused the choices."""
WIDEST = 40
"""Largest number of choices on which what follows a choice may depend."""
WORK = 1_500_000
"""Look-ups of rules, some ten seconds of them, after which a space counts as intractable."""


class Intractable(Exception):
    """What follows a choice, or what it costs, depends on too many other choices to be tabulated."""

    def __init__(self, reason: str, name: str = "") -> None:
        """Say why.

        Args:
            reason: Clause that says what grew too large.
            name: Name of the choice that depends on most others, where one is known.
        """
        super().__init__(reason)
        self.name = name
        """Name of the choice that depends on most others; empty where none is known."""


class Diverged(Exception):
    """A walk was asked for a choice that its rules did not foresee."""

    def __init__(self, prefix: Prefix) -> None:
        """Keep the walk.

        Args:
            prefix: Choices after which the build asked for something else than expected.
        """
        super().__init__(f"{list(prefix)[-1:]}")
        self.prefix = prefix
        """Choices after which the build asked for something else than expected."""


class _Stop(BaseException):
    """Enough of the walk was seen; no `Exception`, so that a build cannot swallow it."""


class Walker:
    """Runs the picks of a space; a choice for which nothing is wanted takes its smallest option."""

    def __init__(self, space: AbstractSpace, given: Mapping[str, int] | None = None) -> None:
        """Begin without having walked.

        Args:
            space: Space whose picks are answered.
            given: Numbers of the options that are always taken, by the name of the choice.
        """
        self.space, self.given = space, dict(given or {})
        self._smallest = extreme(largest=False)
        self._default: dict[str, int] = {}

    def run(self, wanted: Mapping[str, int], until: str = "", rng: random.Random | None = None) -> tuple[Prefix, str]:
        """Walk to the end, or until one choice was made.

        Args:
            wanted: Numbers of the options to take, by name, where such an option exists.
            until: Name of the choice to stop after; empty to walk to the end.
            rng: Generator that answers the rest at random; without one the rest takes the smallest options.

        Returns:
            The choices made, and END, REFUSED, or the name of the choice that the walk stopped after.

        Raises:
            SpaceError: the build function picks wrongly, or constructs no module.
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
            self.space.choices(decide)
        except Rejected:
            return made, REFUSED
        except _Stop:
            return made, until
        return made, END

    def after(self, prefix: Prefix) -> str:
        """Find which choice is asked for after these.

        Args:
            prefix: First choices of a walk.

        Returns:
            Name of the next choice, or END, or REFUSED.

        Raises:
            Diverged: the build asks for other choices than the prefix holds.
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
            self.space.choices(decide)
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
        """Find the option that is taken where nothing is wanted.

        Args:
            name: Name of a choice that was met before.

        Returns:
            Number of the given or of the smallest option; strings count as larger the later they stand.
        """
        if name in self.given:
            return self.given[name]
        if name not in self._default:
            options = self.space.known[name]
            chosen = self._smallest(name, options)
            self._default[name] = next(i for i, o in enumerate(options) if o is chosen)
        return self._default[name]


class Rules:
    """An outcome for every name as a function of its scope; missing entries are evaluated on a walk that has them."""

    def __init__(self, walker: Walker, evaluate: Callable[[Prefix], Any], widest: int = WIDEST) -> None:
        """Begin without any rule.

        Args:
            walker: Walker that runs hybrids of two walks.
            evaluate: Function that gives the true outcome at the last name of a prefix.
            widest: Largest number of choices that a rule may look at.
        """
        self.walker, self.evaluate, self.widest = walker, evaluate, widest
        self.scopes: dict[str, list[str]] = {}
        """Names that the rule of a name looks at, itself first."""
        self.entries: dict[str, dict[tuple[int, ...], tuple[Any, Prefix]]] = {}
        """For every name: outcome, and a prefix that led to it, by the numbers of the options in the scope."""
        self.looked_up = 0
        """Number of look-ups so far."""

    def key(self, name: str, prefix: Mapping[str, int]) -> tuple[int, ...]:
        """Return the part of a prefix that the rule of a name looks at.

        Args:
            name: Name of a choice.
            prefix: Choices made so far, that one included.

        Returns:
            Numbers of the options in the name's scope; -1 for a choice that was not made.

        Raises:
            Intractable: rules were looked up more than `WORK` times.
        """
        self.looked_up += 1
        if self.looked_up > WORK:
            raise Intractable(f"more than {WORK:,} look-ups of what follows what")
        if name not in self.scopes:
            self.scopes[name], self.entries[name] = [name], {}
        return tuple([prefix.get(n, -1) for n in self.scopes[name]])

    def at(self, name: str, prefix: Prefix) -> Any:
        """Return the outcome that the rule of a name gives, evaluating it where the rule has no entry yet.

        Args:
            name: Last name of the prefix.
            prefix: Choices made so far.

        Returns:
            The outcome.
        """
        key = self.key(name, prefix)
        held = self.entries[name].get(key)
        if held is None:
            held = self.entries[name][key] = (self.evaluate(prefix), prefix)
        return held[0]

    def observe(self, name: str, prefix: Prefix, outcome: Any) -> bool:
        """Take note of a true outcome, and refine the rule where the two disagree.

        Args:
            name: Last name of the prefix.
            prefix: Choices made so far.
            outcome: What was seen at the name.

        Returns:
            Whether the outcome contradicted the rule.

        Raises:
            Intractable: the rule would have to look at too many choices.
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
        """Add a choice to the scope of a name, and sort the entries anew."""
        scope = self.scopes[name]
        if len(scope) >= self.widest:
            raise Intractable(f"{name!r} depends on {', '.join(scope[1:])}, {more} and more", name)
        scope.append(more)
        held = self.entries[name].values()
        self.entries[name] = {}
        self.entries[name] = {self.key(name, prefix): (outcome, prefix) for outcome, prefix in held}

    def _difference(self, name: str, first: tuple[Any, Prefix], second: tuple[Any, Prefix]) -> str:
        """Find a choice outside the scope in which two prefixes differ and which changes the outcome at their end."""
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
