"""`Pick`, which a build function asks for every choice, and the functions that answer it.

Answers come from random numbers, from a dict of choices, from an Optuna trial, or from the ends of the options.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nasplat.errors import SpaceError

Option = str | int | float | bool
"""What may be chosen; objects are looked up by a name that is chosen."""
Decide = Callable[[str, tuple[Option, ...]], Option]
"""A function that is given a choice's name and options, and returns one of the options."""


class Rejected(BaseException):
    """The space refuses the combination of choices made so far; no `Exception`, so that a build cannot swallow it."""


class Pick:
    """What a build function asks for its choices: `pick(name, options)` returns one of the options and records it.

    Example:
        >>> pick = Pick(extreme(largest=True), {}, "a test")
        >>> pick("kernel", (3, 5, 7)), pick("operation", ("conv", "pool"))
        (7, 'conv')
        >>> pick.choices
        {'kernel': 7, 'operation': 'conv'}
    """

    def __init__(self, decide: Decide, known: dict[str, tuple[Option, ...]], where: str) -> None:
        """Begin without any choice made.

        Args:
            decide: Function that chooses one of the options of a name.
            known: Options of every name that this space has asked for so far; names are added as they are met.
            where: Name of the space that errors mention.
        """
        self._decide, self._known, self._where = decide, known, where
        self.choices: dict[str, Option] = {}
        """Choices made so far, in the order in which they were asked for."""
        self.is_closed = False
        """True once the first module was constructed; from then on a pick is an error."""

    def __call__(self, name: str, options: Sequence[Any]) -> Any:
        """Choose one option.

        Args:
            name: Name of the choice, unique within one build, that says what is chosen and where: `stage2.kernel`.
            options: Strings, numbers or booleans to choose from; they must be the same whenever the name is met.

        Returns:
            One of the options.

        Raises:
            SpaceError: the name is picked after the first module was constructed, twice, from no options, or from
                other options than before.
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
        """Refuse the combination of choices made so far; whoever samples tries another one.

        Args:
            reason: Sentence that is shown when every attempt was refused.

        Raises:
            Rejected: always; the space that runs the build catches it.
        """
        raise Rejected(reason)

    def _check(self, name: str, options: Sequence[Any]) -> tuple[Option, ...]:
        """Return the options as a tuple if they are strings, numbers or booleans, all different and at least one."""
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
    """Answer every choice with one of its options, each equally likely.

    Args:
        rng: Generator of random numbers; one number is drawn for each choice.

    Returns:
        The function that answers.
    """
    return lambda name, options: options[int(rng.random() * len(options))]


def exactly(choices: Mapping[str, Option], where: str) -> Decide:
    """Answer every choice with what a dict states for it, and refuse to answer otherwise.

    Args:
        choices: The option to take, by the name of the choice.
        where: Name of the space that errors mention.

    Returns:
        The function that answers.

    Raises:
        SpaceError: the function that answers finds no option, or none of the allowed ones, stated for a choice; the
            message names the choice and its options.
    """

    def decide(name: str, options: tuple[Option, ...]) -> Option:
        if name not in choices:
            raise SpaceError(
                f"choice {name!r} allows {options}, got nothing (architecture of {where}).\n"
                f"  Add {name!r} to the choices."
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
    """Answer with what a dict states where that is one of the options, and ask another function elsewhere.

    Args:
        choices: The option to prefer, by the name of the choice.
        otherwise: Function that answers the choices for which the dict states none of the options.

    Returns:
        The function that answers.
    """

    def decide(name: str, options: tuple[Option, ...]) -> Option:
        value = choices.get(name)
        return value if value in options else otherwise(name, options)  # type: ignore[return-value]

    return decide


def extreme(largest: bool) -> Decide:
    """Answer as the largest (or smallest) network of a space does.

    Args:
        largest: Whether numbers and booleans take their largest value; otherwise they take their smallest.

    Returns:
        The function that answers; a choice among strings always takes its first option.
    """

    def decide(name: str, options: tuple[Option, ...]) -> Option:
        if any(isinstance(v, str) for v in options):
            return options[0]
        return max(options) if largest else min(options)  # type: ignore[type-var]

    return decide


def suggested(trial: Any) -> Decide:
    """Answer with what an Optuna trial suggests; every choice is a categorical distribution of constant options.

    Args:
        trial: Running, frozen or fixed trial of Optuna.

    Returns:
        The function that answers.
    """
    return lambda name, options: trial.suggest_categorical(name, options)
