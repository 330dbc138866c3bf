"""Limits on countable quantities, checked before a trial exists, and draws that respect them."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from nasplat.errors import BuildError, GraphError, SearchError, SpaceError
from nasplat.graph.bounds import ABOUT, AT_LEAST, in_words
from nasplat.graph.quantities import refusal
from nasplat.searchspace import QUANTITIES, Architecture, Space
from nasplat.study.captured import bound_of, facts_of, name_of, quantity_of
from nasplat.study.objectives import OutsideSupport

ATTEMPTS = 40
"""Random draws, and steps of a walk, before the next way of finding a feasible network is tried."""
MISSES = 1000
"""Draws in a row that give nothing new before a space counts as exhausted."""


@dataclass(frozen=True)
class Limits:
    """Largest values that a network may have; it is feasible where it keeps all of them.

    Example:
        >>> import random
        >>> import nasplat
        >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
        >>> limits = Limits.of({"params": 6_000})
        >>> limits.broken(limits.draw(space, random.Random(0)))
        ''
    """

    counted: Mapping[str, float]
    """Largest values of quantities of the graph by their names, such as macs or kv_bytes@4096."""
    others: tuple[tuple[str, Callable[[Architecture], float], float], ...] = ()
    """Name, objective and largest value of measured or predicted quantities."""

    @staticmethod
    def of(limits: Mapping[str | Callable[[Architecture], float], float] | None) -> Limits:
        """Make limits of a mapping.

        Args:
            limits: Largest value by the name of a counted quantity, or by an objective; None limits nothing.

        Returns:
            The limits, counted ones apart from others.

        Raises:
            SearchError: an unknown quantity or a value that is no positive number.
        """
        counted: dict[str, float] = {}
        others = []
        for what, value in (limits or {}).items():
            if not isinstance(value, int | float) or not value > 0:
                raise SearchError(
                    f"limit {what!r} expected a positive number, got {value!r}.\n  State the largest allowed value."
                )
            if isinstance(what, str):
                if refusal(what):
                    raise SearchError(
                        f"expected limits on {', '.join(QUANTITIES)} or on an objective, got {what!r}: {refusal(what)}"
                    )
                counted[what] = float(value)
            else:
                others.append((getattr(what, "name", "objective"), what, float(value)))
        return Limits(counted, tuple(others))

    def broken(self, architecture: Architecture) -> str:
        """Say why an architecture is not allowed; countable limits are asked first.

        A count that may be too small (see `nasplat.graph.bounds`) is warned of where it keeps the limit. One that is
        at most so much has to keep the limit as it is counted.

        Args:
            architecture: Network that may be evaluated.

        Returns:
            The first broken limit with the value that breaks it, such as 'macs 5,000 > 4,000'; empty when none is.

        Raises:
            SearchError: a limit is one of decoders, and the network is none.
        """
        for name, largest in self.counted.items():
            try:
                value, sign = quantity_of(architecture, name), bound_of(architecture, name)
            except GraphError as err:
                raise SearchError(f"the limit on {name} cannot be kept: {err}") from err
            if value > largest:
                return f"{name} {in_words(f'{value:,}', sign)} > {largest:,.0f}"
            if sign in {AT_LEAST, ABOUT}:
                warnings.warn(
                    f"networks may exceed the limit on {name} unseen, for their counts are not exact "
                    f"({facts_of(architecture).because}).",
                    stacklevel=2,
                )
        for name, objective, largest in self.others:
            try:
                value = objective(architecture)
            except OutsideSupport as err:
                return f"{name}: {err}"
            if value > largest:
                return f"{name} {value:.4g} > {largest:.4g}"
        return ""

    def draw(self, space: Space, rng: random.Random) -> Architecture:
        """Draw a random architecture inside the limits: freely where such are frequent, else as `Space.feasible` does.

        Args:
            space: Space to draw from.
            rng: Generator that decides the draw.

        Returns:
            A feasible architecture; where limits cannot be counted it is found by a random walk among feasible ones.

        Raises:
            SearchError: none was found; the message states the smallest cost that was reached.
        """
        for _ in range(ATTEMPTS):
            architecture = self._kept(lambda: space.sample(seed=rng.getrandbits(48)))
            if architecture is not None:
                return architecture
        try:
            for _ in range(ATTEMPTS if self.counted else 0):
                architecture = self._kept(lambda: space.sample(seed=rng.getrandbits(48), limits=self.counted))
                if architecture is not None:
                    return architecture
        except SpaceError as err:
            raise SearchError(str(err)) from err
        walk = self._smallest(space, rng)
        for _ in range(ATTEMPTS):
            try:
                walk = self._kept(partial(space.mutate, walk, seed=rng.getrandbits(48))) or walk
            except SpaceError:
                break
        return walk

    def _kept(self, make: Callable[[], Architecture]) -> Architecture | None:
        """Make an architecture; None where it is beyond a limit, or no network: one member is not the whole space.

        Raises:
            SpaceError: none can be made.
        """
        try:
            found = make()
            return None if self.broken(found) else found
        except BuildError:
            return None
        except (SpaceError, SearchError, Warning):
            raise
        except Exception:  # a user's code: whatever it raises
            return None

    def _smallest(self, space: Space, rng: random.Random) -> Architecture:
        """Descend from the smallest extreme to the first architecture that is allowed.

        Raises:
            SearchError: none was found; the message states the smallest cost that was reached.
        """
        try:
            best = space.extreme(largest=False)
            reason = self.broken(best)
        except SearchError:
            raise
        except Exception as err:
            raise SearchError(
                f"expected a network of {space!r} that can be built, got none in {ATTEMPTS} draws, and of the smallest "
                f"one {type(err).__name__}: {err}\n  Check the space with nasplat.check_space."
            ) from err
        for _ in range(8 * ATTEMPTS):
            if not reason:
                return best
            try:
                step = space.mutate(best, seed=rng.getrandbits(48))
            except SpaceError:
                break
            if self._excess(step) < self._excess(best):
                best, reason = step, self.broken(step)
        if reason:
            reached = ", ".join(f"{n} {quantity_of(best, n):,}" for n in self.counted) or reason
            raise SearchError(
                f"no architecture of {space!r} was found within the limits ({reason}); the smallest reached has "
                f"{reached}.\n  Raise the limit."
            )
        return best

    def _excess(self, architecture: Architecture) -> float:
        """Add up by how much each limit is exceeded, as a share of the limit; 0.0 where none is."""
        excess = sum(max(0.0, quantity_of(architecture, n) / largest - 1.0) for n, largest in self.counted.items())
        for _, objective, largest in self.others:
            try:
                excess += max(0.0, objective(architecture) / largest - 1.0)
            except OutsideSupport:
                excess += 1.0
        return excess


def draw_distinct(
    space: Space,
    n: int,
    rng: random.Random,
    limits: Mapping[Any, float] | Limits | None = None,
    accept: Callable[[Architecture], bool] | None = None,
    key: Callable[[Architecture], str] | None = None,
    draws: int | None = None,
) -> dict[str, Architecture]:
    """Draw random networks of a space that compute different things, each inside the limits.

    A longer draw of the same generator begins with a shorter one.

    Args:
        space: Space to draw from.
        n: Number of networks wanted.
        rng: Generator that decides the draws.
        limits: Largest allowed cost by name or objective, as for `search`; None for none.
        accept: Tells whether a network inside the limits is wanted; None accepts all.
        key: Tells what a network computes; of networks with equal keys only the first is kept. By default the key of
            the canonical architecture's graph.
        draws: Largest number of draws altogether; by default only `MISSES` draws in a row end a draw that finds too
            few.

    Returns:
        Architectures by their keys, in the order drawn. Fewer than n where `MISSES` draws in a row gave nothing new, or
        where the draws are used up. An architecture that cannot be captured stands under its own text, so that whoever
        evaluates it records why.

    Raises:
        SearchError: no network inside the limits was found.

    Example:
        >>> import nasplat
        >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
        >>> few, more = (draw_distinct(space, n, random.Random(0)) for n in (2, 4))
        >>> list(few) == list(more)[:2]
        True
    """
    bounds = limits if isinstance(limits, Limits) else Limits.of(limits)
    found: dict[str, Architecture] = {}
    drawn = missed = 0
    while len(found) < n and missed < MISSES and (draws is None or drawn < draws):
        member = bounds.draw(space, rng)
        drawn += 1
        try:
            name = name_of(member) if key is None else key(member)
        except Exception:
            name = str(member)
        is_new = name not in found and (accept is None or accept(member))
        missed = 0 if is_new else missed + 1
        if is_new:
            found[name] = member
    return found
