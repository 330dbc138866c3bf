"""Checked settings: frozen dataclasses made from words of a command line, overridden by name, and refused by name.

Every function reads the fields of a dataclass and their types: int, float, bool, str, or one of these or None. Fields
of other types are passed by unchecked, and cannot be set in words.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, TypeVar

from nasplat.errors import InputError, NasplatError

Settings = TypeVar("Settings")
TRUE, FALSE, NONE = ("true", "yes", "on", "1"), ("false", "no", "off", "0"), ("none", "null")
EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
EXAMPLES = {int: "3", float: "0.003", bool: "true", str: "name"}


def from_words(kind: type[Settings], words: Iterable[str], prefix: str = "") -> Settings:
    """Make settings from the words of a command line; what the words leave out stands at its default.

    Args:
        kind: Frozen dataclass to make, such as `TrainConfig`.
        words: Words such as '--train.lr=0.01', with or without the dashes; a later word about the same setting wins.
        prefix: Section that every word names before the dot, such as 'train'; empty where names stand alone.

    Returns:
        The settings, which have checked their own ranges.

    Raises:
        InputError: a word names no setting, or its value is not of the setting's type.
        NasplatError: the dataclass refuses a value; the type of the error is the dataclass's own.

    Example:
        >>> from nasplat.task.training import Budget
        >>> from_words(Budget, ["--budget.epochs=3", "--budget.lr=0.01"], prefix="budget")
        Budget(epochs=3, batch_size=64, lr=0.01, weight_decay=0.01, steps=0)
    """
    hints = _hints(kind)
    start = f"{prefix}." if prefix else ""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.removeprefix("--").partition("=")
        key = name.removeprefix(start)
        if not name.startswith(start) or key not in hints:
            raise InputError(unknown(name, [start + known for known in hints], "--", repr(word)))
        if not equals:
            example = EXAMPLES.get(_plain(hints[key])[0], "value")
            raise InputError(f"expected --{name} with a value, got {word!r}.\n  Write for instance --{name}={example}.")
        found[key] = read(f"--{name}", text, hints[key])
    return kind(**found)


def overridden(settings: Settings, changes: Mapping[str, Any], error: type[NasplatError] = InputError) -> Settings:
    """Settings with some of them changed.

    Args:
        settings: Frozen dataclass to begin with.
        changes: New values by name of the field; empty to change nothing.
        error: Type of the error that is raised for an unknown name.

    Returns:
        A new dataclass of the same type, which has checked its ranges again.

    Raises:
        NasplatError: a name is no field; the message names the nearest one and lists all.
    """
    known = [f.name for f in fields(typing.cast(Any, settings))]
    for name in changes:
        if name not in known:
            raise error(unknown(name, known, "", repr(name)))
    return replace(typing.cast(Any, settings), **changes)


@dataclass(frozen=True)
class Check:
    """Refuses values of a dataclass in its `__post_init__`; a message names the field, what came and what to do."""

    settings: Any
    """Dataclass under construction."""
    error: type[NasplatError]
    """Type of the errors raised, such as `TaskError`."""
    prefix: str = ""
    """Section of the settings on a command line, such as 'train': messages name '--train.lr' then, 'lr' otherwise."""

    def types(self) -> Check:
        """Check that every field has a value of its type; whole numbers given for a float become floats.

        Returns:
            This object, for further checks.

        Raises:
            NasplatError: a value is of another type, or NaN. True and False do not pass for numbers.
        """
        for name, hint in _hints(type(self.settings)).items():
            plain, is_optional = _plain(hint)
            value = getattr(self.settings, name)
            if plain not in EXPECTED or (is_optional and value is None):
                continue
            if not _is_of(value, plain):
                self._refuse(name, f"to be {EXPECTED[plain]}", f"Use a value such as {EXAMPLES[plain]}.")
            if plain in (int, float):  # numpy's numbers become Python's, so that any settings can be written as JSON
                object.__setattr__(self.settings, name, plain(getattr(self.settings, name)))
        return self

    def within(
        self,
        *names: str,
        least: float = -math.inf,
        above: float = -math.inf,
        most: float | None = None,
        advice: str = "",
    ) -> Check:
        """Check that numbers lie in a range; infinity lies in it only where `most` is infinite.

        Args:
            names: Fields to check; those that hold None pass.
            least: Smallest allowed value.
            above: Bound that the value must exceed.
            most: Largest allowed value; None for any finite one.
            advice: What to do about a refusal; by default it says which values are allowed.

        Returns:
            This object, for further checks.

        Raises:
            NasplatError: a number is outside.
        """
        is_closed = least > -math.inf and most is not None and most < math.inf
        bounds = [f">= {least:g}"] if least > -math.inf else [f"> {above:g}"] if above > -math.inf else []
        bounds += [f"<= {most:g}"] if most is not None and most < math.inf else []
        wanted = f"from {least:g} to {most:g}" if is_closed else " and ".join(bounds) or "to be finite"
        for name in names:
            value = getattr(self.settings, name)
            if value is None:
                continue
            is_small_enough = value < math.inf if most is None else value <= most
            if not (value >= least and value > above and is_small_enough):
                self._refuse(name, wanted, advice or "Choose a finite number in this range.")
        return self

    def among(self, name: str, known: Iterable[str]) -> Check:
        """Check that a field holds one of a few words.

        Args:
            name: Field to check.
            known: Words that are allowed.

        Returns:
            This object, for further checks.

        Raises:
            NasplatError: the word is none of these; the message lists them.
        """
        known = list(known)
        value = getattr(self.settings, name)
        if value not in known:
            self._refuse(name, f"among {', '.join(known)}", f"Use one of these{_nearest(value, known)}.")
        return self

    def _refuse(self, name: str, expected: str, advice: str) -> typing.NoReturn:
        label = f"--{self.prefix}.{name}" if self.prefix else name
        raise self.error(f"expected {label} {expected}, got {getattr(self.settings, name)!r}.\n  {advice}")


def _hints(kind: type) -> dict[str, Any]:
    """Type of every field that the constructor takes, by name."""
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind) if f.init}


def _plain(hint: Any) -> tuple[Any, bool]:
    """The one type of a hint apart from None, and whether None is allowed."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        some = [a for a in typing.get_args(hint) if a is not types.NoneType]
        return (some[0] if len(some) == 1 else hint), len(some) < len(typing.get_args(hint))
    return hint, False


def _is_of(value: Any, plain: type) -> bool:
    if plain in (bool, str):
        return isinstance(value, plain)
    if isinstance(value, bool) or not isinstance(value, Integral if plain is int else Real):
        return False
    return plain is int or not math.isnan(value)


def read(label: str, text: str, hint: Any) -> Any:
    """Read a word as a value of a field's type.

    Args:
        label: Name of the setting, for messages, such as '--train.lr'.
        text: Word to read, such as '0.01'.
        hint: Type of the field: int, float, bool or str, or one of these or None.

    Returns:
        Value of that type.

    Raises:
        InputError: the word is no such value, or the type has no words.

    Example:
        >>> read("--train.lr", "0.01", float)
        0.01
    """
    plain, is_optional = _plain(hint)
    word = text.strip().lower()
    if is_optional and word in NONE:
        return None
    try:
        if plain is bool and word in (*TRUE, *FALSE):
            return word in TRUE
        if plain is int:
            return int(text)
        if plain is float and not math.isnan(float(text)):
            return float(text)
        if plain is str:
            return text
    except ValueError:
        pass
    if plain not in EXPECTED:
        raise InputError(f"{label} cannot be set in words, got {text!r}.\n  Pass it from Python.")
    also = " or none" if is_optional else ""
    raise InputError(
        f"{label} expected {EXPECTED[plain]}{also}, got {text!r}.\n  Write for instance {label}={EXAMPLES[plain]}."
    )


def unknown(name: str, known: list[str], dashes: str, got: str) -> str:
    """Say that a name is none of the known ones, and which of them is nearest.

    Args:
        name: Name that was given.
        known: Names that there are.
        dashes: Text before every name, '--' on a command line.
        got: What was given, as it is quoted.

    Returns:
        Sentence for an error, and on its next line what to do.

    Example:
        >>> unknown("trails", ["task", "trials"], "--", "'--trails=2'").splitlines()[1]
        '  Use one of these; the nearest is --trials.'
    """
    nearest = _nearest(name, known, dashes) or f", such as {dashes}{known[0]}"
    return f"expected options among {', '.join(dashes + k for k in known)}, got {got}.\n  Use one of these{nearest}."


def _nearest(name: object, known: list[str], dashes: str = "") -> str:
    found = get_close_matches(str(name), known, 1)
    return f"; the nearest is {dashes}{found[0]}" if found else ""
