"""`Space`: a build function with everything that can be done to it: sample, mutate, cross over, enumerate, count."""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import sqrt
from typing import Any

from torch import nn

from nasplat.errors import SpaceError
from nasplat.searchspace import construction
from nasplat.searchspace import pick as picks
from nasplat.searchspace.architecture import Architecture
from nasplat.searchspace.feasible import Costs, Feasible, tabulate
from nasplat.searchspace.pick import Decide, Option, Pick, Rejected
from nasplat.searchspace.structure import END, Intractable, Structure, estimate

ATTEMPTS = 1000
"""Draws before a space that refuses combinations, or a mutation that finds nothing new, gives up."""


@dataclass(frozen=True)
class Count:
    """How many encodings a space has."""

    value: int | float
    """Number of encodings; exact, an int, when `error` is 0."""
    error: float
    """Standard error of the estimate."""
    networks: int | None = None
    """Number of distinct networks, where the space knows it."""


@dataclass(frozen=True)
class Space:
    """A search space with its presets bound; `space.with_presets(…)` gives another."""

    function: Callable[..., Any]
    name: str
    """Name in the content folder, or the path of the user's file."""
    default_input: Any
    """Shape of one input batch, unless `build` returns it."""
    presets: dict[str, Any] = field(default_factory=dict)
    hooks: dict[str, Callable[..., Any]] = field(default_factory=dict)
    known: dict[str, tuple[Option, ...]] = field(default_factory=dict, repr=False)
    """Options of every name met so far."""
    checked: list[bool] = field(default_factory=list, repr=False)
    """Holds one entry once a member was built to see that no pick comes after its first module."""
    row_readers: dict[tuple[str, ...], Callable[[Mapping[str, str]], str]] = field(default_factory=dict, repr=False)
    """By the columns of a table that together hold an architecture."""
    learned: dict[Any, Any] = field(default_factory=dict, repr=False)
    """Structure, costs and feasible parts, once they were asked for."""

    def __repr__(self) -> str:
        presets = ", ".join(f"{k}={v!r}" for k, v in self.presets.items())
        return f"Space({self.name}{', ' if presets else ''}{presets})"

    def __hash__(self) -> int:
        return hash(self.reference)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.reference == other.reference and self.function is other.function

    @cached_property
    def reference(self) -> str:
        """Name and presets in one string."""
        return f"{self.name}{json.dumps(self.presets, sort_keys=True, default=str)}"

    @property
    def doc(self) -> str:
        """The build function's docstring, or its module's."""
        module = inspect.getmodule(self.function)
        return inspect.getdoc(self.function) or (inspect.getdoc(module) if module else "") or ""

    # -- what a space's file may add -----------------------------------------------------------------------------------

    def parser(self, function: Callable[..., Mapping[str, Option]]) -> Callable[..., Any]:
        """Decorator: (text of the space's literature, presets that it names) -> choices."""
        self.hooks["parse"] = function
        return function

    def json_parser(self, function: Callable[..., Mapping[str, Option] | None]) -> Callable[..., Any]:
        """Decorator: (JSON of the space's literature, **presets) -> choices; None when it is JSON of something else."""
        self.hooks["parse_json"] = function
        return function

    def formatter(self, function: Callable[[Mapping[str, Option]], str]) -> Callable[..., Any]:
        """Decorator: choices -> text of the space's literature."""
        self.hooks["format"] = function
        return function

    def row_reader(self, *columns: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator: a table's row with these columns -> text of the space's literature. A space may have several."""

        def add(function: Callable[[Mapping[str, str]], str]) -> Callable[..., Any]:
            self.row_readers[columns] = function
            return function

        return add

    def canonicaliser(self, function: Callable[[Mapping[str, Option]], Mapping[str, Option]]) -> Callable[..., Any]:
        """Decorator: choices -> the representative choices of the same network."""
        self.hooks["canonical"] = function
        return function

    def network_key(self, function: Callable[[Mapping[str, Option]], str]) -> Callable[..., Any]:
        """Decorator: choices -> a text that is equal for encodings of the same network; by default their representative's."""
        self.hooks["key"] = function
        return function

    def network_count(self, function: Callable[[], int]) -> Callable[..., Any]:
        """Decorator: number of distinct networks, where it is known."""
        self.hooks["networks"] = function
        return function

    def encoding_count(self, function: Callable[..., int]) -> Callable[..., int]:
        """Decorator: number of encodings, a function of presets, where a formula is known."""
        self.hooks["encodings"] = function
        return function

    # -- presets -------------------------------------------------------------------------------------------------------

    def with_presets(self, **presets: Any) -> Space:
        """The same space at another size.

        Raises:
            SpaceError: a preset the build function does not take; the message lists those it takes.
        """
        allowed = list(inspect.signature(self.function).parameters)[1:]
        for key in presets:
            if key not in allowed:
                raise SpaceError(
                    f"space {self.name!r} has presets {', '.join(allowed)}, got {key!r}.\n  Use one of these."
                )
        return replace(self, presets=self.presets | presets, known={}, checked=[], learned={})

    # -- running the build function ------------------------------------------------------------------------------------

    def _choices(self, decide: Decide) -> dict[str, Option]:
        """Run `build` up to its first module and return the choices made.

        Raises:
            Rejected: the space refused the combination.
        """
        pick = Pick(decide, self.known, self.name)

        def stop() -> None:
            raise construction.Constructed

        try:
            with construction.watching(stop):
                self.function(pick, **self.presets)
        except construction.Constructed:
            if not self.checked:  # stopping at the first module would hide a pick that comes later
                self.checked.append(True)
                self._check_late_picks(pick.choices)
            return pick.choices
        raise SpaceError(
            f"space {self.name!r} constructed no module.\n  Return an nn.Module built inside the function."
        )

    def _check_late_picks(self, choices: dict[str, Option]) -> None:
        try:
            self.construct(Architecture(self, choices), initialised=False)
        except SpaceError:
            self.checked.clear()
            raise
        except Exception:
            # one member that does not build is a failed candidate, not the end of a search; the next one is tried instead
            self.checked.clear()

    def construct(self, architecture: Architecture, initialised: bool = True) -> tuple[nn.Module, Any]:
        """Build a member.

        Args:
            architecture: A member of this space.
            initialised: False leaves parameters unwritten (their memory is reserved); buffers are real.

        Returns:
            The module and the shape of one input batch.

        Raises:
            SpaceError: the build picked after its first module, or returned no module.
        """
        pick = Pick(picks.recorded(architecture.choices, self.name), self.known, self.name)

        def close() -> None:
            pick.is_closed = True

        with construction.watching(close):
            if initialised:
                made = self.function(pick, **self.presets)
            else:
                with construction.uninitialised():
                    made = self.function(pick, **self.presets)
        module, example_input = made if isinstance(made, tuple) else (made, self.default_input)
        if not isinstance(module, nn.Module):
            raise SpaceError(
                f"space {self.name!r} expected to return an nn.Module, got {type(module).__name__}.\n  Return one."
            )
        if callable(example_input):
            example_input = example_input(**self.presets)
        if example_input is None:
            raise SpaceError(f"space {self.name!r} states no input.\n  Write @space(example_input=(1, 3, 32, 32)).")
        return module, example_input

    def architecture(self, choices: Mapping[str, Option]) -> Architecture:
        """The member with these choices.

        Raises:
            SpaceError: a choice is missing, outside its options, or never reached; or the space refuses the combination.
        """
        try:
            made = self._choices(picks.recorded(choices, self.name))
        except Rejected as err:
            raise SpaceError(f"space {self.name!r} refuses these choices: {err}.\n  Change one of them.") from err
        unused = [k for k in choices if k not in made]
        if unused:
            raise SpaceError(
                f"expected only choices that are reached, got {unused[0]!r} (architecture of {self.name}), "
                f"which these choices do not reach.\n  Leave it out; reached are: {', '.join(made)}."
            )
        return Architecture(self, made)

    def only(self, architecture: Architecture) -> Space:
        """The space whose one member this is; it has no choices."""

        def build(pick: Pick) -> Any:
            return self.function(
                Pick(picks.recorded(architecture.choices, self.name), self.known, self.name), **self.presets
            )

        example = self.default_input
        if callable(example):
            example = example(**self.presets)
        return Space(build, f"{self.reference}:{architecture.to_json()}", example)

    def project(self, choices: Mapping[str, Option], seed: int = 0) -> Architecture:
        """The member nearest to the choices: legal ones are kept, unreached ones dropped, missing ones drawn."""
        return self._first(lambda rng: picks.preferring(choices, picks.at_random(rng)), seed)

    # -- drawing -------------------------------------------------------------------------------------------------------

    def sample(
        self, seed: int = 0, uniform: str = "choices", limits: Mapping[str, float] | None = None
    ) -> Architecture:
        """Draw a member.

        Args:
            seed: Same seed, same member.
            uniform: `choices`: each choice uniformly. `architectures`: every encoding equally likely (in a space whose structure
                is too large to be tabulated by importance resampling of 64 walks, which is approximate).
            limits: Largest allowed `macs`, `params`, `activation_bytes`; then see `feasible`, and `uniform` does not matter.

        Raises:
            SpaceError: the space refused every combination tried, or no member is within the limits.
        """
        if limits:
            return self.feasible(limits).draw(random.Random(f"feasible {seed}"))
        if uniform == "choices":
            return self._first(lambda rng: picks.at_random(rng), seed)
        if uniform != "architectures":
            raise SpaceError(f"uniform is 'choices' or 'architectures', got {uniform!r}.\n  Use one of these.")
        rng = random.Random(f"uniform {seed}")
        structure = self.structure()
        if isinstance(structure, Structure):
            for _ in range(ATTEMPTS):
                made, ended = structure.walker.run(structure.draw(rng))
                if ended == END:
                    return Architecture(self, structure.choices(made))
        walks = [self._walk(rng) for _ in range(64)]
        found = [(choices, weight) for choices, weight in walks if choices is not None]
        if not found:
            return self._first(lambda r: picks.at_random(r), seed)
        (choices,) = rng.choices([c for c, _ in found], [w for _, w in found])
        return Architecture(self, choices)

    def draw(self, make: Callable[[], Decide]) -> Architecture:
        """The first member that functions of names and options decide on; `make` gives another one after each refusal.

        Raises:
            SpaceError: the space refused all of them.
        """
        return self._first(lambda _: make(), 0)

    def walk(self, decide: Decide) -> Architecture | None:
        """The member that a function of names and options decides on; None where the space refuses it."""
        try:
            return Architecture(self, self._choices(decide))
        except Rejected:
            return None

    def feasible(self, limits: Mapping[str, float]) -> Feasible:
        """The part of the space within limits; the first call prepares it (seconds to minutes), later ones are free.

        Args:
            limits: Largest allowed `macs`, `params`, `activation_bytes`.

        Returns:
            Its `draw(rng)` gives members; `method`, `is_uniform`, `acceptance` and `setup_seconds` tell how.

        Raises:
            SpaceError: no member is within the limits, or they name something else.
        """
        key = ("feasible", *sorted(limits.items()))
        if key not in self.learned:
            self.learned[key] = Feasible(self, limits)
        return self.learned[key]

    def structure(self) -> Structure | Intractable:
        """What follows which choices, tabulated; or why it cannot be."""
        return self._learn("structure", lambda: Structure(self))

    def costs(self) -> list[Costs] | Intractable:
        """What the choices cost, tabulated for each part of the space; or why it cannot be."""

        def make() -> list[Costs]:
            structure = self.structure()
            if isinstance(structure, Intractable):
                raise structure
            return tabulate(structure)

        return self._learn("costs", make)

    def _learn(self, what: str, make: Callable[[], Any]) -> Any:
        if what not in self.learned:
            try:
                self.learned[what] = make()
            except Intractable as err:
                self.learned[what] = err
        return self.learned[what]

    def _first(self, make: Callable[[random.Random], Decide], seed: int) -> Architecture:
        rng, reason = random.Random(f"{seed}"), ""
        for _ in range(ATTEMPTS):
            try:
                return Architecture(self, self._choices(make(rng)))
            except Rejected as err:
                reason = str(err)
        raise SpaceError(
            f"space {self.name!r} refused {ATTEMPTS} combinations, the last: {reason}.\n  Loosen pick.reject."
        )

    def extreme(self, largest: bool = True) -> Architecture:
        """The supernet's end: every number at its largest (smallest), every string at its first option."""
        return self._first(lambda rng: picks.extreme(largest), 0)

    def suggest(self, trial: Any) -> Architecture:
        """Let an Optuna trial (running, frozen or fixed) choose.

        Raises:
            Rejected: the space refuses what the trial chose.
        """
        return Architecture(self, self._choices(picks.suggested(trial)))

    def from_trial(self, trial: Any) -> Architecture:
        """The member a finished Optuna trial stands for."""
        return self.architecture(trial.params)

    def mutate(self, architecture: Architecture, seed: int = 0, changes: int = 1) -> Architecture:
        """A neighbour: some choices take another option; what they newly reach is drawn, the rest stays.

        Args:
            architecture: A member.
            seed: Same seed, same neighbour.
            changes: How many choices to change at least.

        Raises:
            SpaceError: the space has no other member.
        """
        rng = random.Random(f"{seed} mutate")
        names = [n for n in architecture.choices if len(self._options(n, architecture)) > 1]
        for _ in range(ATTEMPTS if names else 0):
            changed = dict(architecture.choices)
            for name in rng.sample(names, min(changes, len(names))):
                changed[name] = rng.choice([o for o in self.known[name] if o != architecture.choices[name]])
            try:
                child = Architecture(self, self._choices(picks.preferring(changed, picks.at_random(rng))))
            except Rejected:
                continue
            if child != architecture:
                return child
        raise SpaceError(
            f"space {self.name!r} has no other member near {architecture}.\n  Give a choice a second option."
        )

    def _options(self, name: str, architecture: Architecture) -> tuple[Option, ...]:
        if name not in self.known:
            self._choices(picks.recorded(architecture.choices, self.name))
        return self.known[name]

    def crossover(self, first: Architecture, second: Architecture, seed: int = 0) -> Architecture:
        """A child that takes each choice from one of two parents; what neither reached is drawn."""
        rng = random.Random(f"{seed} crossover")
        reason = ""
        for _ in range(ATTEMPTS):
            mixed = {
                name: (first if rng.random() < 0.5 else second).choices.get(name, default)
                for name, default in (second.choices | first.choices).items()
            }
            try:
                return Architecture(self, self._choices(picks.preferring(mixed, picks.at_random(rng))))
            except Rejected as err:
                reason = str(err)
        raise SpaceError(
            f"space {self.name!r} refused {ATTEMPTS} crossovers, the last: {reason}.\n  Loosen pick.reject."
        )

    # -- walking -------------------------------------------------------------------------------------------------------

    def enumerate(self) -> Iterator[Architecture]:
        """Every encoding once, in lexicographic order of the options; refused combinations are left out."""
        path: list[int] = []  # option number at each depth
        sizes: list[int] = []
        while True:
            depth = 0

            def decide(name: str, options: tuple[Option, ...]) -> Option:
                nonlocal depth
                if depth == len(path):
                    path.append(0)
                    sizes.append(len(options))
                depth += 1
                return options[path[depth - 1]]

            try:
                yield Architecture(self, self._choices(decide))
            except Rejected:
                pass
            del path[depth:], sizes[depth:]
            while path and path[-1] + 1 == sizes[-1]:
                path.pop()
                sizes.pop()
            if not path:
                return
            path[-1] += 1

    def _walk(self, rng: random.Random) -> tuple[dict[str, Option] | None, float]:
        weight = 1.0

        def decide(name: str, options: tuple[Option, ...]) -> Option:
            nonlocal weight
            weight *= len(options)
            return options[int(rng.random() * len(options))]

        try:
            return self._choices(decide), weight
        except Rejected:
            return None, 0.0

    def count(self, exact_below: int = 20_000, walks: int = 4096) -> Count:
        """How many encodings there are.

        Exact where the space's file states it, where its structure can be tabulated, or where it is small.

        Args:
            exact_below: Other spaces estimated smaller than this are enumerated.
            walks: Random walks of an estimate.

        Returns:
            The count; else an unbiased estimate with its standard error.
        """
        networks = self.hooks["networks"]() if "networks" in self.hooks else None
        if "encodings" in self.hooks:
            return Count(self._presented("encodings"), 0.0, networks)
        structure = self.structure()
        if isinstance(structure, Intractable):
            value, error = estimate(self, walks, random.Random(0))
        elif not structure.refuses_late:
            return Count(structure.count, 0.0, networks)
        else:
            rng = random.Random(0)
            share = sum(structure.walker.run(structure.draw(rng))[1] == END for _ in range(walks)) / walks
            value, error = structure.count * share, structure.count * sqrt(share * (1 - share) / walks)
        if value < exact_below:
            return Count(sum(1 for _ in self.enumerate()), 0.0, networks)
        return Count(value, error, networks)

    def _presented(self, hook: str, *arguments: Any) -> Any:
        """Call a hook with those presets that it names."""
        function = self.hooks[hook]
        return function(
            *arguments, **{k: v for k, v in self.presets.items() if k in inspect.signature(function).parameters}
        )

    # -- literature ----------------------------------------------------------------------------------------------------

    def parse(self, text: str) -> Architecture:
        """Read an architecture from its literature encoding, or from the JSON of its choices.

        Raises:
            SpaceError: the text is neither.
        """
        is_json = text.lstrip().startswith("{")
        if "parse" in self.hooks and not is_json:
            return self.architecture(self._presented("parse", text))
        if "parse_json" in self.hooks and is_json:
            found = self.hooks["parse_json"](text, **self.presets)
            if found is not None:
                return self.architecture(found)
        try:
            choices = json.loads(text)
        except json.JSONDecodeError as err:
            raise SpaceError(
                f"expected an architecture of {self.name!r} as JSON choices, got {text[:60]!r}.\n  See `nasplat sample {self.name}`."
            ) from err
        return self.architecture(choices.get("choices", choices))

    def format(self, architecture: Architecture) -> str:
        """The literature encoding where the space has one, else the JSON of the choices."""
        if "format" in self.hooks:
            return self.hooks["format"](architecture.choices)
        return json.dumps(architecture.choices, separators=(",", ":"))

    def canonical(self, architecture: Architecture) -> Architecture:
        """The representative of all encodings of the same network, where the space knows it."""
        if "canonical" not in self.hooks:
            return architecture
        return self.architecture(self.hooks["canonical"](architecture.choices))


def space(example_input: Any = None) -> Callable[[Callable[..., Any]], Space]:
    """Decorator that makes a search space of a function `build(pick, **presets) -> nn.Module`.

    Args:
        example_input: Shape of one input batch, or a function of the presets that returns it; `build` may instead
            return `(module, shape)` where the input is itself a choice.

    Returns:
        A decorator; the decorated name is a `Space`.

    Example:
        >>> import torch
        >>> @space(example_input=(1, 4))
        ... def tiny(pick, depth=2):
        ...     widths = [pick(f"layer{i}.width", (4, 8)) for i in range(depth)]
        ...     return torch.nn.Sequential(*[torch.nn.LazyLinear(w) for w in widths])
        >>> tiny.count().value
        4
    """

    def decorate(function: Callable[..., Any]) -> Space:
        return Space(function, function.__name__, example_input)

    return decorate
