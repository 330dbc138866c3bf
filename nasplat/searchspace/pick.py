"""Who answers a choice: random numbers, a recorded dict, an Optuna trial, the ends, or a backtracking walker."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nasplat.errors import SpaceError

Option = str | int | float | bool
Decide = Callable[[str, tuple[Option, ...]], Option]


class Rejected(BaseException):
    """The space refuses the combination chosen so far. Not an Exception, so that a build cannot swallow it."""


class Pick:
    """Passed to `build`; `pick(name, options)` returns one of the options and records it."""

    def __init__(self, decide: Decide, known: dict[str, tuple[Option, ...]], where: str) -> None:
        """Args:
        decide: Chooses among the options of a name.
        known: Options seen so far of every name of this space; filled as names are met.
        where: What to call the space in errors.
        """
        self._decide, self._known, self._where = decide, known, where
        self.choices: dict[str, Option] = {}
        self.is_closed = False
        """True once the first module was constructed."""

    def __call__(self, name: str, options: Sequence[Any]) -> Any:
        """Choose one option.

        Args:
            name: Unique within one build; says what is chosen and where, such as `stage2.kernel`.
            options: Strings, numbers or booleans; always the same for one name.

        Returns:
            One of the options.

        Raises:
            SpaceError: picked after the first module, twice, from nothing, or from changing options.
        """
        if self.is_closed:
            raise SpaceError(
                f"choice {name!r} is picked after the first module was constructed ({self._where}).\n"
                "  Make all picks first, then construct."
            )
        allowed = self._known.get(name)
        if allowed is None:
            allowed = self._known[name] = self._check(name, options)
        elif allowed != (options if type(options) is tuple else tuple(options)):
            raise SpaceError(
                f"choice {name!r} had options {allowed}, now {tuple(options)} ({self._where}).\n"
                "  Options of one name are constant: put what they depend on into the name."
            )
        if name in self.choices:
            raise SpaceError(
                f"choice {name!r} is picked twice ({self._where}).\n  Keep the first answer, or rename one."
            )
        value = self._decide(name, allowed)
        self.choices[name] = value
        return value

    def reject(self, reason: str) -> None:
        """Refuse the combination chosen so far; sampling tries again.

        Args:
            reason: Shown when nothing else is left.
        """
        raise Rejected(reason)

    def _check(self, name: str, options: Sequence[Any]) -> tuple[Option, ...]:
        values = tuple(options)
        if not values:
            raise SpaceError(f"choice {name!r} has no options ({self._where}).\n  Give at least one.")
        wrong = [v for v in values if not isinstance(v, str | int | float | bool)]
        if wrong:
            raise SpaceError(
                f"choice {name!r} expects strings, numbers or booleans, got {wrong[0]!r} ({self._where}).\n"
                "  Pick a name, and look the object up by it."
            )
        if len({(type(v), v) for v in values}) != len(values):
            raise SpaceError(f"choice {name!r} lists an option twice: {values} ({self._where}).\n  Remove it.")
        return values


def at_random(rng: random.Random) -> Decide:
    """Uniform over the options of each choice."""
    return lambda name, options: options[int(rng.random() * len(options))]


def recorded(choices: Mapping[str, Option], where: str) -> Decide:
    """Answers from a dict; errors name the choice, the options and what came."""

    def decide(name: str, options: tuple[Option, ...]) -> Option:
        if name not in choices:
            raise SpaceError(
                f"choice {name!r} allows {options}, got nothing (architecture of {where}).\n  Add {name!r} to the choices."
            )
        value = choices[name]
        for option in options:
            if option == value and isinstance(option, bool) == isinstance(value, bool):
                return option
        raise SpaceError(
            f"choice {name!r} allows {options}, got {value!r} (architecture of {where}).\n"
            "  Use one of these, or add it to the choice."
        )

    return decide


def preferring(choices: Mapping[str, Option], otherwise: Decide) -> Decide:
    """Answers from a dict where it has a legal answer, else from another."""

    def decide(name: str, options: tuple[Option, ...]) -> Option:
        value = choices.get(name)
        return value if value in options else otherwise(name, options)  # type: ignore[return-value]

    return decide


def extreme(largest: bool) -> Decide:
    """The supernet's ends: numbers at their largest (smallest), strings at their first option."""

    def decide(name: str, options: tuple[Option, ...]) -> Option:
        if any(isinstance(v, str) for v in options):
            return options[0]
        return max(options) if largest else min(options)  # type: ignore[type-var]

    return decide


def suggested(trial: Any) -> Decide:
    """An Optuna trial answers; every choice is a categorical of constant options."""
    return lambda name, options: trial.suggest_categorical(name, options)
