"""What a run is asked for, as one value: made from Python, a TOML file, words of a command line, or plain data.

`AbstractRun` reads the fields of its subclasses and their types, so that a new setting is one field with its sentence.
"""

from __future__ import annotations

import functools
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from nasplat.errors import InputError
from nasplat.runs.fields import POSITIONAL, option
from nasplat.searchspace import Space
from nasplat.task import Task
from nasplat.task.settings import FALSE, TRUE, Check, overridden, read, unknown

Kind = TypeVar("Kind", bound=type[Any])
_BETWEEN = re.compile(r",(?![^\[\]]*\](?:[^\[\]]*\])*)")
"""Commas between values; those inside brackets, such as of a preset, are part of one."""


def refusing_unknown_names(kind: Kind) -> Kind:
    """Let a dataclass name the nearest field where a keyword of its constructor is none.

    Args:
        kind: Dataclass of settings.

    Returns:
        The same class.

    Raises:
        InputError: the constructor is called with a keyword that is no field.
    """
    make = kind.__init__
    known = [f.name for f in fields(kind)]

    @functools.wraps(make)
    def checked(self: Any, *args: Any, **settings: Any) -> None:
        for name in settings:
            if name not in known:
                raise InputError(unknown(name, known, "", repr(name)))
        make(self, *args, **settings)

    kind.__init__ = checked
    return kind


@dataclass(frozen=True)
class AbstractRun:
    """Settings of one run, which have checked themselves; subclasses add fields, and `check` for what ties them."""

    verb: ClassVar[str] = ""
    """Command that makes such a run, such as 'search'."""
    growing: ClassVar[tuple[str, ...]] = ()
    """Fields of which a later run in the same folder may have another value."""

    def __post_init__(self) -> None:
        """Check every field's type, and what `check` of the subclass asks for.

        Raises:
            InputError: a value is of another type or outside its range; the message names the field.
        """
        for name, hint in _hints(type(self)).items():
            object.__setattr__(self, name, _settled(name, getattr(self, name), hint))
        self.check(Check(self, InputError).types())

    def check(self, check: Check) -> None:
        """Check ranges, and settings that depend on each other; types have been checked before.

        Args:
            check: Checker of this run's fields.

        Raises:
            InputError: a value is outside its range, or settings contradict each other.
        """

    # -- plain data ----------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain data, as run.json and TOML files hold them.

        Returns:
            Texts, numbers, truth values, lists and mappings by name of the field; None where nothing was given.
            Infinity is the text 'inf', which JSON can hold.
        """
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Make a run of plain data; what is left out stands at its default.

        Args:
            plain: Values by name of the field, as `to_dict` gives them.

        Returns:
            Run that equals the one that the data came from.

        Raises:
            InputError: a name is no field, a value does not fit, or one that has no default is missing.
            NasplatError: settings inside the run refuse a value.
        """
        known = [f.name for f in fields(cls)]
        for name in plain:
            if name not in known:
                raise InputError(unknown(name, known, "", repr(name)))
        for field in fields(cls):
            if field.name not in plain and _is_needed(field):
                raise InputError(f"a {cls.verb} expected a {field.name}, got none.\n  Give its name or path.")
        return cls(**plain)

    @classmethod
    def from_toml(cls, path: str | Path, words: Iterable[str] = ()) -> Self:
        """Make a run of a TOML file; words of a command line win over the file.

        Args:
            path: File whose keys are the fields; settings inside the run are tables, such as [train].
            words: Words of a command line, see `from_words`.

        Returns:
            Run with the settings of both.

        Raises:
            InputError: the file cannot be read, or a key or a word does not fit.
            NasplatError: settings inside the run refuse a value.
        """
        try:
            plain = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as err:
            raise InputError(f"expected a TOML file of a {cls.verb}, got {str(path)!r} ({err}).\n  Check it.") from err
        return cls.from_words(words, plain)

    # -- words ---------------------------------------------------------------------------------------------------------

    @classmethod
    def from_words(cls, words: Iterable[str], plain: Mapping[str, Any] | None = None) -> Self:
        """Make a run of the words of a command line.

        Args:
            words: Words behind the verb, such as ['vit', '--trials', '60', '--train.epochs=3'].
            plain: Values that words win over, by name of the field; None for the defaults. Names inside mappings win
                one by one.

        Returns:
            Run that the words ask for.

        Raises:
            InputError: a word names no setting, or its value does not fit.
            NasplatError: settings inside the run refuse a value.
        """
        return cls.from_dict(_merged(plain or {}, _read_words(_hints(cls), words)))

    def to_words(self) -> list[str]:
        """Return the words of a command line that ask for this run; settings at their defaults are left out.

        Returns:
            Words behind `nasplat`, the verb first.

        Raises:
            InputError: the run holds an object, such as a space, that no name stands for.
        """
        self.refuse_objects()
        placed: list[str] = []
        found: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in POSITIONAL:
                placed += [str(value)] if value != "" else []
            elif value != _default(field):
                found += _written(option(field.name), value, field)
        return [self.verb, *placed, *found]

    def refuse_objects(self) -> None:
        """Refuse settings that only this process can read; names, numbers and paths pass.

        Raises:
            InputError: a setting is an object that another process cannot find by a name.
        """


# -- types -------------------------------------------------------------------------------------------------------------


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    """Type of every field, by name."""
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


def _is_needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _options(hint: Any) -> tuple[Any, ...]:
    """Types of which a value may be one."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _settled(name: str, value: Any, hint: Any) -> Any:
    """A value as its field keeps it: paths of texts, tuples of lists, mappings copied, settings of plain data."""
    some = [o for o in _options(hint) if o is not types.NoneType]
    if value is None and len(some) < len(_options(hint)):
        return None
    kind, origin = some[0], typing.get_origin(some[0])
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if is_dataclass(kind) and len(some) == 1:
        return _settings(name, value, typing.cast(Any, kind))
    if origin is tuple:
        return _listed(name, value, typing.get_args(kind)[0])
    if issubclass(origin or object, Mapping):
        return _mapped(name, {} if value is None else value, typing.get_args(kind)[1] is float)
    if kind is Path or (len(some) > 1 and not isinstance(value, tuple(some))):
        raise InputError(f"expected {name} to be a name or path, got {value!r}.\n  Write it as text.")
    return value


def _settings(name: str, value: Any, kind: type[Any]) -> Any:
    """Settings inside a run, as an object or as plain data."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"expected {name} to be {kind.__name__}, got {value!r}.\n  Write {name}={kind.__name__}(…).")
    hints = _hints(kind)
    given = {k: float(v) if v in ("inf", "-inf") and hints.get(k) is float else v for k, v in value.items()}
    return overridden(kind(), given, InputError)


def _listed(name: str, value: Any, kind: type) -> tuple[Any, ...]:
    """A tuple of texts or whole numbers."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(f"expected {name} to be a list, got {value!r}.\n  Write several values, or one in a list.")
    for one in value:
        if not isinstance(one, kind) or isinstance(one, bool) or one == "":
            raise InputError(f"expected {name} to hold {kind.__name__} values, got {one!r}.\n  Leave it out.")
    return tuple(value)


def _mapped(name: str, value: Any, is_number: bool) -> dict[str, Any]:
    """A copy of a mapping by text, whose values are positive numbers where numbers are asked for."""
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise InputError(f"expected {name} as values by name, got {value!r}.\n  Write for instance {{'width': 8}}.")
    for key, number in value.items() if is_number else ():
        is_wrong = isinstance(number, bool) or not isinstance(number, int | float)
        if is_wrong or not 0 < number < math.inf:
            raise InputError(
                f"{name} expected a positive number as {key}, got {number!r}.\n  Write for instance {key}=2e6."
            )
    return dict(value)


def _plain(value: Any) -> Any:
    """A value as JSON knows it; of a space and of a task, which are no settings, the line that tells them."""
    if isinstance(value, Space | Task):
        return repr(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {k: _plain(v) for k, v in asdict(value).items()}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _merged(plain: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data with what was given over it; mappings are joined."""
    found = dict(plain)
    for name, value in given.items():
        before = found.get(name)
        is_joined = isinstance(before, Mapping) and isinstance(value, Mapping)
        found[name] = {**before, **value} if is_joined else value  # type: ignore[dict-item]
    return found


# -- words -------------------------------------------------------------------------------------------------------------


def value_of(text: str) -> Any:
    """Read a value as JSON where it is JSON, and as text otherwise.

    Args:
        text: Word such as '3', 'true', '[1, 2]' or 'mini'.

    Returns:
        Number, text, truth value, list or mapping.

    Example:
        >>> value_of("3"), value_of("mini")
        (3, 'mini')
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def pair_of(text: str) -> tuple[str, Any]:
    """Read a NAME=VALUE word.

    Args:
        text: Word such as 'width=8'.

    Returns:
        Name and value.

    Raises:
        InputError: the word has no '='.

    Example:
        >>> pair_of("width=8")
        ('width', 8)
    """
    name, equals, word = text.partition("=")
    if not equals:
        raise InputError(f"expected NAME=VALUE, got {text!r}.\n  Write for instance width=8.")
    return name, value_of(word)


def _read_words(hints: Mapping[str, Any], words: Iterable[str]) -> dict[str, Any]:
    """Values of the fields that words name."""
    placed = [name for name in hints if name in POSITIONAL]
    options = {option(name): name for name in hints if name not in placed}
    inner = {f"{option(s)}.{k}": (s, k) for s, h in hints.items() if is_dataclass(h) for k in _hints(h)}  # type: ignore[arg-type]
    known = [name.removeprefix("--") for name in (*options, *inner)]
    found: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        name, equals, text = word.partition("=")
        if word.startswith("-n") and "n" in hints and not word.startswith("--"):
            name, equals, text = "--n", "=" if len(word) > 2 else "", word[2:].removeprefix("=")
        if not name.startswith("--"):
            if not placed or word.startswith("-"):
                raise InputError(unknown(name.lstrip("-"), known, "--", repr(word)))
            found[placed.pop(0)] = word
        elif name in inner:
            section, key = inner[name]
            hint = _hints(hints[section])[key]
            found.setdefault(section, {})[key] = read(name, text if equals else _next(rest, name), hint)
        elif name in options and hints[options[name]] is bool:
            found[options[name]] = _switched(name, text, equals)
        elif name.startswith("--no-") and hints.get(name[5:].replace("-", "_")) is bool and not equals:
            found[name[5:].replace("-", "_")] = False
        elif name in options:
            _take(found, options[name], name, text if equals else _next(rest, name), hints[options[name]])
        else:
            raise InputError(unknown(name[2:], known, "--", repr(word)))
    return found


def _next(rest: Iterator[str], name: str) -> str:
    text = next(rest, None)
    if text is None:
        raise InputError(f"expected {name} with a value, got none.\n  Write for instance {name}=3.")
    return text


def _switched(name: str, text: str, equals: str) -> bool:
    if not equals or text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise InputError(f"{name} expected true or false, got {text!r}.\n  Write {name}, or leave it out.")


def _take(found: dict[str, Any], field: str, name: str, text: str, hint: Any) -> None:
    """Keep the value of one option; mappings and repeated lists add up."""
    some = [o for o in _options(hint) if o is not types.NoneType]
    origin = typing.get_origin(some[0])
    if origin is not None and issubclass(origin, Mapping):
        key, value = pair_of(text)
        found.setdefault(field, {})[key] = value
    elif origin is tuple and option(field) != f"--{field}":
        kind = typing.get_args(some[0])[0]
        found[field] = [*found.get(field, []), text] if kind is str else _numbers(name, text)
    elif origin is tuple:
        found[field] = _BETWEEN.split(text) if text else []
    elif some[0] in (str, Path) or len(some) > 1:
        found[field] = text
    else:
        found[field] = read(name, text, hint)


def _numbers(name: str, text: str) -> list[int]:
    try:
        return [int(v) for v in text.split(",")]
    except ValueError as err:
        raise InputError(
            f"expected {name} as numbers with commas, got {text!r}.\n  Write for instance 1,3,224,224."
        ) from err


def _written(name: str, value: Any, field: Field[Any]) -> list[str]:
    """Words of one setting, which `_read_words` reads back."""
    if isinstance(value, bool):
        return [name] if value else [f"--no-{name[2:]}"]
    if is_dataclass(value):
        usual = _default(field)
        changed = {f.name: getattr(value, f.name) for f in fields(value)}
        return [f"{name}.{k}={v}" for k, v in changed.items() if v != getattr(usual, k)]
    if isinstance(value, Mapping):
        return [f"{name}={k}={_word(v)}" for k, v in value.items()]
    if isinstance(value, tuple):
        is_repeated = name != f"--{field.name}" and all(isinstance(v, str) for v in value)
        return [f"{name}={v}" for v in value] if is_repeated else [f"{name}={','.join(map(str, value))}"]
    return [f"{name}={value}"]


def _word(value: Any) -> str:
    """A value as a word that `value_of` reads back."""
    return value if isinstance(value, str) and value_of(value) is value else json.dumps(value)
