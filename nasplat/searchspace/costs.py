"""What the choices of a space cost: multiply-accumulates and parameters as sums over the choices.

Take the choices of a member one after another and complete each beginning with the smallest options: the differences of
the completed members' costs sum up to the member's cost, whatever the space. Each difference is a rule with a scope,
learned as what follows a choice is (see rules.py). Rules that look at few choices can be tabulated.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import copy
from itertools import product

from nasplat.graph import Graph, bounds
from nasplat.graph.quantities import COUNTED
from nasplat.searchspace.architecture import AbstractSpace, Architecture
from nasplat.searchspace.pick import Rejected
from nasplat.searchspace.rules import END, Intractable, Prefix, Rules
from nasplat.searchspace.structure import ROUNDS, State, Structure, structure_of

ADDED = ("macs", "params")
"""Quantities that can add up over choices."""
QUANTITIES = COUNTED
"""Quantities of a captured graph that a limit can bound; only the first two are known to add up over choices."""
WIDEST = 8
"""Largest number of choices on which what a choice adds may depend."""
MOST_PARTS = 16
"""Parts into which a space is split by choices that decide about all others."""
MOST_ENTRIES = 20_000
"""Differences of costs, each of which takes one or two captures, beyond which tabulating them is given up."""
MOST_NODES = 1_000_000
"""Nodes of captured graphs, some two minutes' worth, beyond which tabulating is given up."""
TESTS = 200
"""Members whose tabulated costs must equal the captured ones."""

Cost = tuple[int, int]
"""Multiply-accumulates and parameters."""


def doubt_of(graph: Graph) -> str:
    """Say why a graph's counts may be too small to compare with a limit.

    Args:
        graph: Graph of a member.

    Returns:
        The reason in words; empty where a member that keeps a limit as counted surely keeps it.
    """
    signs = {bounds.bound(graph.causes, bool(graph.unknown_ops)), bounds.params_bound(graph.causes)}
    return bounds.reasons(graph.causes, graph.unknown_ops) if signs & {bounds.AT_LEAST, bounds.ABOUT} else ""


class Costs:
    """Costs of a space's members, as the sum of what each of their choices adds."""

    def __init__(self, structure: Structure) -> None:
        """Capture members until rules tell what every choice adds.

        Args:
            structure: Structure of the space.

        Raises:
            Intractable: what a choice adds depends on too many other choices, or too many captures are needed.
        """
        self.plain, self.space = structure, structure.space
        self.structure = copy(structure)
        """The structure with states that are also told apart by what their choices cost."""
        self.captured: dict[tuple[tuple[str, int], ...], Cost] = {}
        """Costs of the members captured so far."""
        self.doubt = ""
        """Why some of these counts may be too small; empty where none is."""
        self.nodes = 0
        """Nodes of their graphs, all together."""
        self.rules = Rules(structure.walker, self._difference, WIDEST)
        self.base = self.of(self.plain.complete({}) or {})
        """Cost of the member of smallest options, to which the others' choices add."""
        rng = random.Random("costs")
        for _ in range(6):
            self._observe(structure.draw(rng))
        for _ in range(ROUNDS):
            self._fill()
            if all([self._agrees(made) for made in self._tests(rng)]):
                return
        raise Intractable(f"{ROUNDS} refinements did not settle the costs")

    def of(self, made: Prefix) -> Cost:
        """Capture a member, unless it was captured before.

        Args:
            made: Numbers of the options of all its choices.

        Returns:
            Its multiply-accumulates and parameters.

        Raises:
            Intractable: the space refuses the member, or more than `MOST_NODES` nodes were captured.
        """
        key = tuple(made.items())
        if key not in self.captured:
            try:
                graph = Architecture(self.space, self.structure.choices(made)).graph()
            except Rejected as err:
                raise Intractable("the space refuses combinations of small options") from err
            self.captured[key] = graph.macs, graph.params
            self.doubt = self.doubt or doubt_of(graph)
            self.nodes += len(graph.nodes)
            if self.nodes > MOST_NODES:
                raise Intractable(f"costs were not settled by {len(self.captured):,} captured networks")
        return self.captured[key]

    def tabulated(self, made: Prefix) -> Cost:
        """Add up what a member's choices add by the rules.

        Args:
            made: Numbers of the options of all its choices.

        Returns:
            Its multiply-accumulates and parameters.
        """
        prefix: Prefix = {}
        macs, params = self.base
        for name, number in made.items():
            prefix = prefix | {name: number}
            more = self.rules.at(name, prefix)
            macs, params = macs + more[0], params + more[1]
        return macs, params

    def more(self, state: State, number: int) -> Cost:
        """Return what an option adds in a state.

        Args:
            state: State of `structure`.
            number: Number of the option.

        Returns:
            Added multiply-accumulates and parameters; zeros for an option that the space refuses.
        """
        return (
            (0, 0) if state.following[number] == -2 else self.rules.at(state.name, state.prefix | {state.name: number})
        )

    def _difference(self, prefix: Prefix) -> Cost:
        """Capture what the last choice of a prefix adds where the smallest options follow."""
        shorter = dict(list(prefix.items())[:-1])
        made, before = self.plain.complete(prefix), self.plain.complete(shorter)
        if made is None or before is None:
            return 0, 0  # all that begins so is refused
        (a, b), (c, d) = self.of(made), self.of(before)
        return a - c, b - d

    def _observe(self, made: Prefix) -> None:
        """Take note of what each choice of a member truly adds."""
        prefix: Prefix = {}
        for name, number in made.items():
            prefix = prefix | {name: number}
            self.rules.observe(name, prefix, self._difference(prefix))

    def _fill(self) -> None:
        """Tabulate the states by the rules, evaluating what they miss if that is not too much."""
        widest = max(self.rules.scopes, key=lambda n: len(self.rules.scopes[n]), default="")
        try:
            missing = self.structure.unfold((self.rules,), evaluate=False)
        except Intractable as err:
            raise Intractable(str(err), widest) from err
        if missing > MOST_ENTRIES:
            raise Intractable(f"costs have more than {missing:,} parts", widest)
        self.structure.unfold((self.rules,))

    def _tests(self, rng: random.Random) -> Iterator[Prefix]:
        """Yield members to capture as a test: by turns random ones and ones drawn from the states."""
        for i in range(TESTS):
            made, ended = self.structure.walker.run(self.structure.draw(rng) if i % 2 else {}, rng=rng)
            if ended == END:
                yield made

    def _agrees(self, made: Prefix) -> bool:
        """Return whether a member's tabulated costs are the captured ones; refine the rules where they are not."""
        if self.tabulated(made) == self.of(made):
            return True
        self._observe(made)
        return False


def tabulate(structure: Structure) -> list[Costs]:
    """Tabulate the costs of a space, in parts where one choice, such as a width picked last, decides about all others.

    Args:
        structure: Structure of the space.

    Returns:
        Costs of each part; of the whole space where it need not be split.

    Raises:
        Intractable: the costs cannot be tabulated, not even in `MOST_PARTS` parts.
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


def costs_of(space: AbstractSpace) -> list[Costs] | Intractable:
    """Return what the choices of a space cost, learned once.

    Args:
        space: Space that may have any presets.

    Returns:
        Tabulated costs of each part of the space, or the reason why they cannot be tabulated.
    """

    def learn() -> list[Costs] | Intractable:
        structure = structure_of(space)
        if isinstance(structure, Intractable):
            return structure
        try:
            return tabulate(structure)
        except Intractable as err:
            return err

    return space.remembered("costs", learn)
