"""`Space`: a build function with everything that can be done to it: sample, mutate, cross over, enumerate, count."""

from __future__ import annotations

import inspect
import json
import random
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from nasplat import content
from nasplat.errors import BuildError, NasplatError, SpaceError
from nasplat.searchspace import construction
from nasplat.searchspace import pick as picks
from nasplat.searchspace.architecture import SHOWN, Architecture
from nasplat.searchspace.costs import Costs, costs_of
from nasplat.searchspace.counting import Count, count_encodings, enumerate_members
from nasplat.searchspace.feasible import Feasible
from nasplat.searchspace.pick import Decide, Option, Pick, Rejected
from nasplat.searchspace.registry import find_space
from nasplat.searchspace.rules import Intractable
from nasplat.searchspace.shaping import AbstractShapedSpace
from nasplat.searchspace.structure import Structure, structure_of
from nasplat.searchspace.variation import child, first_accepted, mutant, outermost_member, uniform_member
from nasplat.tables.listing import Listing

MET = 16
"""Random walks by which a notebook's table of choices learns which choices there are."""
WIDEST_CELL = 80
"""Characters of a choice's options that the table shows at most."""


@dataclass(frozen=True, repr=False, eq=False)
class Space(AbstractShapedSpace):
    """A search space: a build function with its presets bound; `@nasplat.space` and `load_space` make one.

    Example:
        >>> import nasplat
        >>> cells = nasplat.load_space("nasbench201", width=8, cells=1)
        >>> cells
        Space(nasbench201, width=8, cells=1)
        >>> architecture = cells.sample(seed=0)
        >>> cells.mutate(architecture, seed=0) == architecture
        False
        >>> cells.count().value
        15625
    """

    function: Callable[..., Any]
    """The build function, `build(pick, **presets) -> nn.Module`."""
    name: str
    """Name of a shipped space, or path of the user's file."""
    default_input: Any
    """Shape of one input batch, or a function of the presets that gives it; None where `build` returns it."""
    presets: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments with which the build function is called."""
    hooks: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """What the space's file adds, such as the parser of its literature's encoding, by what it is for."""
    known: dict[str, tuple[Option, ...]] = field(default_factory=dict)
    """Options of every choice met so far, by the name of the choice."""
    checked: list[str] = field(default_factory=list)
    """The fingerprint at which a member was built to see that no pick comes after its first module; else empty."""
    row_readers: dict[tuple[str, ...], Callable[[Mapping[str, str]], str]] = field(default_factory=dict)
    """Functions from a table's row to an encoding, by the columns that together hold it."""
    shaped: Mapping[str, str] | None = None
    """Presets by the word of the task that decides them; None for those that are called as the words are."""
    from_task: str = ""
    """Sentence that says which presets a task decided; empty where none did."""
    _memory: dict[Hashable, Any] = field(default_factory=dict)
    """What `remembered` keeps, by fingerprint; spaces that differ in nothing but their name share it."""

    def __repr__(self) -> str:
        """One line with name, presets and, where it is known without counting, the number of encodings."""
        words = [self.name, *[f"{k}={v!r}" for k, v in self.presets.items()]]
        counted = self._counted()
        return f"Space({', '.join(words if counted is None else [*words, f'{_in_words(counted)} encodings'])})"

    def _repr_html_(self) -> str:
        """Table of the choices that notebooks show, the first `SHOWN` of those that some random walks meet."""
        for seed in range(MET):
            self.walk(picks.at_random(random.Random(seed)))
        rows = [
            (name, str(len(options)), text if len(text) <= WIDEST_CELL else f"{text[: WIDEST_CELL - 1]}…")
            for name, options in list(self.known.items())[:SHOWN]
            for text in [", ".join(map(str, options))]
        ]
        more = len(self.known) - len(rows)
        title = repr(self) + (f", {more:,} more choices not shown" if more else "")
        return Listing(("choice", "options", "of these"), rows, title).html()

    def _counted(self) -> int | None:
        """Return the number of encodings where a formula or the structure, already learned, gives it."""
        if "encodings" in self.hooks:
            return self._presented("encodings")
        structure = self._memory.get(self.fingerprint, {}).get("structure")
        return structure.count if isinstance(structure, Structure) and not structure.refuses_late else None

    @property
    def doc(self) -> str:
        """The build function's docstring, or that of its module."""
        module = inspect.getmodule(self.function)
        return inspect.getdoc(self.function) or (inspect.getdoc(module) if module else "") or ""

    # -- presets -------------------------------------------------------------------------------------------------------

    def with_presets(self, **presets: Any) -> Space:
        """Return the same space at another size.

        Args:
            **presets: Keyword arguments of the build function, such as `width=8`; those bound before are kept.

        Returns:
            A space of which nothing is known yet.

        Raises:
            SpaceError: the build function does not take a preset; the message lists those that it takes.

        Example:
            >>> import nasplat
            >>> nasplat.load_space("nasbench201").with_presets(width=8)
            Space(nasbench201, width=8)
        """
        allowed = list(inspect.signature(self.function).parameters)[1:]
        for key in presets:
            if key not in allowed:
                raise SpaceError(
                    f"space {self.name!r} has presets {', '.join(allowed)}, got {key!r}.\n  Use one of these."
                )
        return replace(self, presets=self.presets | presets, known={}, checked=[], from_task="", _memory={})

    def renamed(self, name: str) -> Space:
        """Return the same space under another name.

        Args:
            name: Name by which `load_space` can find it again.

        Returns:
            A space that has met no choices yet, and shares what is remembered of this one.
        """
        return replace(self, name=name, known={}, checked=[])

    # -- running the build function ------------------------------------------------------------------------------------

    def choices(self, decide: Decide) -> dict[str, Option]:
        """Run the build function up to its first module, and return the choices made.

        Args:
            decide: Function of a choice's name and options that returns one of the options.

        Returns:
            The choices, in the order in which they were asked for.

        Raises:
            Rejected: the space refuses the combination.
            BuildError: the build function raises by itself.
            SpaceError: the build function picks wrongly, or constructs no module.

        Example:
            >>> import nasplat
            >>> nasplat.load_space("nasbench201").choices(lambda name, options: options[0])["0->1"]
            'none'
        """
        pick = Pick(decide, self.known, self.name)

        def stop() -> None:
            raise construction.Constructed

        try:
            with construction.watching(stop), content.staying(f"space {self.name!r}", SpaceError):
                self.function(pick, **self.presets)
        except construction.Constructed:
            if not self.checked:  # stopping at the first module would hide a pick that comes later
                self.checked.append(self.fingerprint)
                self._check_late_picks(pick.choices)
            return pick.choices
        except SpaceError:
            if not self.forgets_edited():
                raise
            return self.choices(decide)
        except (NasplatError, MemoryError):
            raise
        except Exception as err:
            line = traceback.extract_tb(err.__traceback__)[-1]
            raise BuildError(
                f"the build function of {self!r} raised {type(err).__name__}: {err} ({line.filename}:{line.lineno}).\n"
                "  Check the values of its presets, or mend that line."
            ) from err
        raise SpaceError(
            f"space {self.name!r} constructed no module.\n  Return an nn.Module built inside the function."
        )

    def _check_late_picks(self, choices: dict[str, Option]) -> None:
        """Build a member to see that no pick comes after its first module."""
        try:
            self.construct(Architecture(self, choices), initialised=False)
        except SpaceError:
            self.checked.clear()
            raise
        except Exception:
            # one member that does not build is a failed candidate, not the end of a search; the next one is tried
            self.checked.clear()

    def construct(self, architecture: Architecture, initialised: bool = True) -> tuple[nn.Module, Any]:
        """Build a member.

        Args:
            architecture: Member of this space.
            initialised: Whether parameters get initial values; otherwise their memory is reserved and not written,
                which is faster. Buffers always hold their values.

        Returns:
            The module and the shape of one input batch, or a tuple of shapes for several inputs.

        Raises:
            SpaceError: the build function picked after its first module, returned no module, or states no input.
        """
        pick = Pick(picks.exactly(architecture.choices, self.name), self.known, self.name)

        def close() -> None:
            pick.is_closed = True

        quietly = nullcontext() if initialised else construction.uninitialised()
        try:
            with construction.watching(close), quietly, content.staying(f"space {self.name!r}", SpaceError):
                made = self.function(pick, **self.presets)
        except SpaceError:
            if not self.forgets_edited():
                raise
            return self.construct(architecture, initialised)
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
        """Return the member that has these choices.

        Args:
            choices: The option of every choice that is reached, by its name.

        Returns:
            The member.

        Raises:
            SpaceError: a choice is missing, takes none of its options or is never reached; or the space refuses the
                combination.
        """
        try:
            made = self.choices(picks.exactly(choices, self.name))
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
        """Return the space whose one member this is.

        Args:
            architecture: Member of this space.

        Returns:
            A space without choices, whose build function makes that network.
        """

        def build(pick: Pick) -> Any:
            return self.function(
                Pick(picks.exactly(architecture.choices, self.name), self.known, self.name), **self.presets
            )

        example = self.default_input
        if callable(example):
            example = example(**self.presets)
        line = {"space": self.name, "presets": self.presets, "choices": architecture.choices}
        return Space(build, f"{self.reference}:{json.dumps(line, separators=(',', ':'))}", example)

    def project(self, choices: Mapping[str, Option], seed: int = 0) -> Architecture:
        """Return the member nearest to some choices, such as those made in another size of the space.

        Args:
            choices: Options by name; those that this space has are kept, those that it does not reach are dropped.
            seed: Number that decides the choices for which no option is stated.

        Returns:
            The member.

        Raises:
            SpaceError: the space refused every combination tried.
        """
        return first_accepted(self, lambda rng: picks.preferring(choices, picks.at_random(rng)), seed)

    # -- drawing -------------------------------------------------------------------------------------------------------

    def sample(
        self, seed: int = 0, uniform: str = "choices", limits: Mapping[str, float] | None = None
    ) -> Architecture:
        """Draw a member.

        Args:
            seed: Number that decides the draw; the same seed gives the same member.
            uniform: What is equally likely: with 'choices', the options of each choice; with 'architectures', every
                encoding (approximately so where the structure of the space is too large to be tabulated).
            limits: Largest allowed `macs`, `params`, `activation_bytes` and the like (see `nasplat.graph.quantities`);
                the draw is then one of `feasible`, and `uniform` does not matter.

        Returns:
            The member.

        Raises:
            SpaceError: the space refused every combination tried, or no member is within the limits.

        Example:
            >>> import nasplat
            >>> cells = nasplat.load_space("nasbench201", width=8, cells=1, image=16)
            >>> cells.sample(seed=3) == cells.sample(seed=3)
            True
            >>> cells.sample(seed=3, limits={"params": 25_000}).graph().params <= 25_000
            True
        """
        if limits:
            return self.feasible(limits).draw(random.Random(f"feasible {seed}"))
        if uniform == "choices":
            return first_accepted(self, picks.at_random, seed)
        if uniform != "architectures":
            raise SpaceError(f"uniform is 'choices' or 'architectures', got {uniform!r}.\n  Use one of these.")
        return uniform_member(self, seed)

    def draw(self, make: Callable[[], Decide]) -> Architecture:
        """Return the first member that the space does not refuse.

        Args:
            make: Function that makes what answers the choices of one attempt, and is called again after each refusal.

        Returns:
            The member.

        Raises:
            SpaceError: the space refused all of them.
        """
        return first_accepted(self, lambda _: make(), 0)

    def walk(self, decide: Decide) -> Architecture | None:
        """Return the member that a function decides on.

        Args:
            decide: Function of a choice's name and options that returns one of the options.

        Returns:
            The member; None where the space refuses it.
        """
        try:
            return Architecture(self, self.choices(decide))
        except Rejected:
            return None

    def feasible(self, limits: Mapping[str, float]) -> Feasible:
        """Prepare draws within limits; the first call takes seconds to minutes, later ones with these limits no time.

        Args:
            limits: Largest allowed `macs`, `params`, `activation_bytes` and the like (see `nasplat.graph.quantities`).

        Returns:
            The part of the space within the limits: `draw(rng)` gives members; `method`, `is_uniform`, `acceptance`
            and `setup_seconds` say how.

        Raises:
            SpaceError: no member is within the limits, or they name another quantity.
        """
        return self.remembered(("feasible", *sorted(limits.items())), lambda: Feasible(self, limits))

    def structure(self) -> Structure | Intractable:
        """Tabulate which choice follows which; the first call takes up to some ten seconds.

        Returns:
            The structure, or the reason why it cannot be tabulated.
        """
        return structure_of(self)

    def costs(self) -> list[Costs] | Intractable:
        """Tabulate what the choices cost; the first call takes up to some minutes.

        Returns:
            Costs of each part of the space, or the reason why they cannot be tabulated.
        """
        return costs_of(self)

    def extreme(self, largest: bool = True) -> Architecture:
        """Return the largest or the smallest member, as the ends of a supernet are.

        Args:
            largest: Whether every number takes its largest option; otherwise it takes its smallest.

        Returns:
            The member; choices among strings take their first option. Where the space refuses that combination, a
            member in which no further number can be moved to its end, one after another.

        Raises:
            SpaceError: the space refused every combination that was tried.
        """
        return outermost_member(self, largest)

    def suggest(self, trial: Any) -> Architecture:
        """Let an Optuna trial choose.

        Args:
            trial: Running, frozen or fixed trial; every choice becomes a categorical parameter of it.

        Returns:
            The member.

        Raises:
            Rejected: the space refuses what the trial chose.
        """
        return Architecture(self, self.choices(picks.suggested(trial)))

    def from_trial(self, trial: Any) -> Architecture:
        """Return the member that a finished Optuna trial stands for.

        Args:
            trial: Finished trial of a study of this space.

        Returns:
            The member.

        Raises:
            SpaceError: the trial's parameters are no choices of this space.
        """
        return self.architecture(trial.params)

    def mutate(self, architecture: Architecture, seed: int = 0, changes: int = 1) -> Architecture:
        """Draw a neighbour: some choices take another option, what they newly reach is drawn, the rest stays.

        Args:
            architecture: Member of this space.
            seed: Number that decides the draw; the same seed gives the same neighbour.
            changes: Number of choices to change at least.

        Returns:
            Another member.

        Raises:
            SpaceError: no other member was found.

        Example:
            >>> import nasplat
            >>> cells = nasplat.load_space("nasbench201")
            >>> first = cells.sample(seed=0)
            >>> second = cells.mutate(first, seed=0)
            >>> sum(first.choices[name] != second.choices[name] for name in first.choices)
            1
        """
        return mutant(self, architecture, seed, changes)

    def crossover(self, first: Architecture, second: Architecture, seed: int = 0) -> Architecture:
        """Draw a child that takes each choice from one of two parents; what neither reached is drawn.

        Args:
            first: Member of this space.
            second: Another member of it.
            seed: Number that decides the draw; the same seed gives the same child.

        Returns:
            The child, which may equal a parent.

        Raises:
            SpaceError: the space refused every child tried.
        """
        return child(self, first, second, seed)

    # -- counting ------------------------------------------------------------------------------------------------------

    def enumerate(self) -> Iterator[Architecture]:
        """Visit every encoding once, in lexicographic order of the options.

        Yields:
            The members; combinations that the space refuses are left out.
        """
        return enumerate_members(self)

    def count(self, exact_below: int = 20_000, walks: int = 4096) -> Count:
        """Count the encodings of the space.

        The count is exact where the space's file states it, where its structure can be tabulated, or where the space
        is small.

        Args:
            exact_below: Estimate below which the members are enumerated instead.
            walks: Number of random walks of an estimate.

        Returns:
            The count, or an unbiased estimate with its standard error.

        Example:
            >>> import nasplat
            >>> nasplat.load_space("nasbench201").count()
            Count(value=15625, error=0.0, networks=None)
        """
        networks = self.hooks["networks"]() if "networks" in self.hooks else None
        if "encodings" in self.hooks:
            return Count(self._presented("encodings"), 0.0, networks)
        return Count(*count_encodings(self, self.structure(), exact_below, walks), networks)


def _in_words(number: int) -> str:
    """Write a number in full below a milliard, else with four digits."""
    try:
        return f"{number:,}" if number < 1_000_000_000 else f"{number:.4g}"
    except OverflowError:
        return "more than 1e+308"


def load_space(reference: str, **presets: Any) -> Space:
    """Load a search space by name, or by the path of a Python file.

    Args:
        reference: Name of a shipped space, such as 'nasbench201' or 'easnet-small' for `easnet_small` in easnet.py; or
            the path of a file, './mine.py', with the function's name behind it where it holds several: './mine.py:net'.
        **presets: Keyword arguments of the build function, such as `width=8`.

    Returns:
        The space, called by the reference, with its presets bound.

    Raises:
        ContentError: there is no such name or file, or the file is broken or holds no such space.
        SpaceError: the build function does not take a preset.

    Example:
        >>> load_space("nasbench201").count().value
        15625
    """
    return find_space(reference, **presets)
