"""What functions and classes compute, as a hash: their source, and everything of the user's own that they refer to.

The hash stands for behaviour, not for place: comments, docstrings, annotations, line numbers, paths and the process do
not enter it. Defaults, closures, the globals that are read, helper functions, classes and their attributes do. What is
installed (Python itself, torch, nasplat, everything in site-packages) enters by its name alone, so that an update of a
library changes no hash. Source is taken where it compiles to the very code that runs; else the byte code stands in.
"""

from __future__ import annotations

import argparse
import enum
import functools
import hashlib
import importlib.util
import types
from collections.abc import Mapping, Set
from contextlib import suppress
from dataclasses import is_dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import nn

from nasplat.content import MODULE
from nasplat.frontends.source import (
    is_installed,
    is_installed_file,
    names_of,
    source_of,
    text_of,
    text_of_file,
    written_in,
)

DIGITS = 16
"""Hexadecimal digits of a hash."""
_MISSING = object()
_WRAPPERS = (
    *(classmethod, staticmethod, property, functools.cached_property, functools.partialmethod),
    type(functools.lru_cache(abs)),
)
_WRAPPED = ("__func__", "__wrapped__", "fget", "fset", "fdel", "func", "args", "keywords")
"""Attributes by which these hold what they wrap."""
_OPERATORS = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)
_NAMESPACES = (types.SimpleNamespace, argparse.Namespace)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), types.EllipsisType, range, slice)
_CODE_LIKE = (*_PLAIN, Mapping, list, tuple, types.FunctionType, types.MethodType, type, functools.partial, *_WRAPPERS)
"""What is followed out of the closures of installed functions, such as decorators."""
_PRINTED = (torch.dtype, torch.device, torch.memory_format, torch.layout, np.dtype, np.generic)
_PLACES = {"__file__", "__name__", "__doc__", "__package__", "__spec__", "__loader__", "__builtins__", "__path__"}
"""Globals that say where a module lies."""
_LOOKS_AROUND = {"globals", "eval", "exec", "vars", "locals", "__import__", "import_module"}
"""Names whose use may read any global of a file."""
_TELLING = frozenset(
    "torch nasplat math functools itertools typing collections dataclasses enum abc builtins operator types "
    "__future__ typing_extensions contextlib".split()
)
"""Libraries whose functions give the same for the same arguments; a version is told beside."""
_ELSEWHERE = frozenset(
    "open input getattr id hash load load_url load_state_dict_from_url from_file fromfile environ getenv "
    "initial_seed rand randn randint randperm".split()
)
"""Names whose use may bring in what no source tells: files, the environment, addresses, chance."""
_BOOKKEEPING = {
    *("__module__", "__doc__", "__dict__", "__weakref__", "__qualname__", "__annotations__", "__firstlineno__"),
    *("__static_attributes__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__parameters__"),
    *("__orig_bases__", "__abstractmethods__", "_abc_impl", "__dataclass_params__", "__classcell__"),
}
"""Attributes of a class that say nothing of what it computes."""
_KEPT = "_nasplat_definition"
"""Attribute of a function or class that keeps its definition, so that both go together."""


class Definition:
    """What some functions, classes or values are, followed as far as the user's own code goes.

    Example:
        >>> def scaled(kernel):
        ...     return lambda x: x * kernel
        >>> Definition(scaled(3)).digest == Definition(scaled(3)).digest, Definition(scaled(3)) == Definition(scaled(7))
        (True, False)
    """

    def __init__(self, *roots: Any) -> None:
        """Note what is to be described; nothing is read yet.

        Args:
            roots: Functions, classes and plain values.
        """
        self.roots = roots
        self._digest = ""
        self._reads: list[tuple[Mapping[str, Any], str, Any]] = []
        """Variables that were followed: where they stand, name, and value."""
        self._lists: list[tuple[Any, Any]] = []
        """Lists and dicts that were followed, with a copy of what they held."""
        self.doubts: frozenset[str] = frozenset()
        """What the digest cannot tell of: values that cannot be looked at, state, files, other libraries."""

    def __eq__(self, other: object) -> bool:
        """Two definitions are equal when their digests are."""
        return isinstance(other, Definition) and self.digest == other.digest

    def __hash__(self) -> int:
        """Equal definitions have equal hashes."""
        return hash(self.digest)

    @property
    def digest(self) -> str:
        """Hash of `DIGITS` hexadecimal digits, equal in every process and on every machine where the code is equal.

        It is found anew where a variable that was followed has another value, as after a notebook's cell ran again.
        """
        if not self._digest or not self._holds():
            walk = _Walk()
            for root in self.roots:
                walk.value(root)
            self._digest, self._reads, self._lists = walk.hash.hexdigest()[:DIGITS], walk.reads, walk.lists
            changed = {name for scope, name, _ in walk.reads if (id(scope), name) in walk.written}
            self.doubts = frozenset(walk.doubts | changed)
        return self._digest

    def _holds(self) -> bool:
        """Whether every variable still has the value that was followed."""
        for scope, name, value in self._reads:
            if scope.get(name, _MISSING) is not value:
                return False
        return all(now == before for now, before in self._lists)


def definition_of(function: Any, *others: Any) -> Definition:
    """Return the definition of a function or class; it is followed once as long as nothing changes.

    Args:
        function: Function or class, which keeps its definition.
        others: Values that belong to it.

    Returns:
        Definition of all of them.
    """
    found = getattr(function, "__dict__", {}).get(_KEPT)
    if isinstance(found, Definition) and found.roots[0] is function and len(found.roots) == 1 + len(others):
        if all(a is b for a, b in zip(found.roots[1:], others, strict=True)):
            return found
    found = Definition(function, *others)
    with suppress(AttributeError, TypeError):  # what takes no attributes is followed every time
        setattr(function, _KEPT, found)
    return found


def doubts_about(function: Any, *others: Any) -> frozenset[str]:
    """Say what may decide what a function does without entering its digest.

    Args:
        function: Function or class.
        others: Values that belong to it.

    Returns:
        Names of what is not surely the same where the digest is: other libraries than torch and nasplat, files, the
        environment, chance, state that the code changes, values that cannot be looked at. Empty where nothing is.
    """
    found = definition_of(function, *others)
    return found.doubts if found.digest else frozenset()


def state_of(thing: Any) -> str:
    """Say what a function or class of the user's own is at this moment; what is installed does not change.

    Args:
        thing: Function, class or any other value.

    Returns:
        Digest of its definition; the empty text for installed code, for files that were loaded by their path, which
        get new functions and classes where they change, and for values that are no code.
    """
    if getattr(thing, "__module__", None) and thing.__module__.startswith(MODULE):
        return ""
    if isinstance(thing, types.FunctionType):
        return "" if is_installed_file(thing.__code__.co_filename) else definition_of(thing).digest
    return "" if not isinstance(thing, type) or is_installed(thing) else definition_of(thing).digest


class _Walk:
    """Feeds a hash with what is reachable from some values, each definition once."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.reads: list[tuple[Mapping[str, Any], str, Any]] = []
        self.lists: list[tuple[Any, Any]] = []
        self.met: dict[int, int] = {}
        """Numbers of the definitions met so far, by identity."""
        self.held: list[Any] = []
        """Keeps alive what `met` knows by its identity."""
        self.inside: set[int] = set()
        """Containers that are being followed."""
        self.written: set[tuple[int, str]] = set()
        """Globals that the code itself changes, by the identity of their scope: they are state, and no definition."""
        self.doubts: set[str] = set()
        """What is not surely the same where the hash is."""

    def feed(self, kind: str, text: str = "") -> None:
        """Add one fact, so that no two sequences of facts are one text."""
        self.hash.update(f"{kind} {len(text)} {text};".encode("utf-8", "surrogatepass"))

    def is_known(self, value: Any) -> bool:
        """Number a definition that is met for the first time; of one met before, its number stands for it."""
        if id(value) in self.met:
            self.feed("again", str(self.met[id(value)]))
            return True
        self.met[id(value)] = len(self.met)
        self.held.append(value)
        return False

    def _installed(self, module: str) -> None:
        """Doubt a library whose version nobody tells."""
        if module.partition(".")[0] not in _TELLING:
            self.doubts.add(module)

    def _read(self, scope: Mapping[str, Any], name: str, value: Any) -> None:
        """Note a variable that may get another value; a file that was loaded by its path gets a new module instead."""
        if not str(scope.get("__name__", scope.get("__module__", ""))).startswith(MODULE):
            self.reads.append((scope, name, value))

    # -- values --------------------------------------------------------------------------------------------------------

    def value(self, value: Any) -> None:
        """Follow any value; of one that cannot be looked at, its type stands for it."""
        try:
            self._follow(value)
        except RecursionError:
            raise
        except Exception:  # whatever an object of the user's raises when it is asked for its attributes
            self.feed("opaque", type(value).__name__)
            self.doubts.add(type(value).__name__)

    def _follow(self, value: Any) -> None:
        if isinstance(value, enum.Enum):
            self.value(type(value))
            self.feed("member", value.name)
        elif type(value) in _PLAIN:
            self.feed(type(value).__name__, repr(value))
        elif isinstance(value, _PRINTED):
            self.feed(type(value).__name__, str(value))
        elif isinstance(value, list | tuple | Mapping | Set):
            self._container(value)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, types.ModuleType):
            self._module(value)
        elif isinstance(value, torch.Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray):
            self.feed("array", f"{value.dtype} {value.shape}")
            self.hash.update(repr(value.tolist()).encode() if value.dtype.hasobject else value.tobytes())
        else:
            self._instance(value)

    def _container(self, value: Any) -> None:
        if id(value) in self.inside:
            self.feed("inside")
            return
        self.inside.add(id(value))
        if isinstance(value, list | dict | set):
            self.lists.append((value, value.copy()))
        if isinstance(value, Set):  # without an order
            self.feed("set", str(len(value)))
            inside = [Definition(v) for v in value]
            for digest in sorted(v.digest for v in inside):
                self.feed("one", digest)
            self.doubts.update(*(v.doubts for v in inside))
        elif isinstance(value, Mapping):
            self.feed("mapping", str(len(value)))
            for k, v in list(value.items()):
                self.value(k)
                self.value(v)
        else:  # JSON makes lists of tuples
            self.feed("sequence", str(len(value)))
            for v in value:
                self.value(v)
        self.inside.discard(id(value))

    def _tensor(self, tensor: torch.Tensor) -> None:
        self.feed("tensor", f"{tensor.dtype} {tuple(tensor.shape)}")
        if not tensor.requires_grad and tensor.device.type == "cpu" and tensor.layout == torch.strided:
            with torch.no_grad():  # what is trained has other values every time
                self.hash.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())

    def _instance(self, value: Any) -> None:
        """Follow an object: its class, and of the user's own classes all that it holds."""
        if isinstance(value, functools.partial):
            self.feed("partial")
            self.value((value.func, value.args, value.keywords))
        elif isinstance(value, types.MethodType):
            self.feed("method")
            self.value((value.__func__, value.__self__))
        elif isinstance(value, nn.Module) and is_installed(type(value)):
            self.feed("module", repr(value))
            self.doubts.add(type(value).__name__)
        elif isinstance(value, PurePath):
            self.feed("path")
        elif not self.is_known(value):
            self.value(type(value))
            if isinstance(getattr(type(value), "defining", None), property):
                self.value(value.defining)
            elif isinstance(value, _WRAPPERS):
                self.value([getattr(value, name, None) for name in _WRAPPED])
            elif not is_installed(type(value)) or is_dataclass(value) or isinstance(value, _NAMESPACES):
                self._held(value)
            elif isinstance(value, _OPERATORS):
                self.feed("operator", str(value))
            else:
                self.feed("named", str(getattr(value, "__name__", "")))
                self._installed(str(getattr(value, "__module__", None)))

    def _held(self, value: Any) -> None:
        """Follow the attributes of an object."""
        held = getattr(value, "__dict__", {})
        slots = [s for c in type(value).__mro__ for s in _listed(vars(c).get("__slots__", ()))]
        for name in sorted(held):
            self.feed("attribute", name)
            if isinstance(name, str) and name != _KEPT:
                self.reads.append((held, name, held[name]))
                self.value(held[name])
        for name in sorted(set(slots) - {"__dict__", "__weakref__"}):
            self.feed("slot", name)
            self.value(getattr(value, name, None))

    # -- definitions ---------------------------------------------------------------------------------------------------

    def _function(self, function: types.FunctionType) -> None:
        if self.is_known(function):
            return
        code = function.__code__
        cells = sorted(zip(code.co_freevars, function.__closure__ or (), strict=False))
        if is_installed_file(code.co_filename):
            self.feed("installed", f"{function.__globals__.get('__name__')}.{code.co_qualname}")
            self._installed(str(function.__globals__.get("__name__")))
            for name, cell in cells:
                self._cell(name, cell, is_own=False)
            return
        tree = source_of(function)
        if tree is None:
            self._code(code)
        else:
            self.feed("source", text_of(tree))
            self.written |= written_in(tree, function.__globals__)
        self.value((function.__defaults__, function.__kwdefaults__))
        for name, cell in cells:
            self._cell(name, cell, is_own=True)
        self._globals(function)

    def _cell(self, name: str, cell: types.CellType, is_own: bool) -> None:
        """Follow a variable of a closure; of an installed function only what may be code of the user's."""
        self.feed("cell", name)
        try:
            value = cell.cell_contents
        except ValueError:  # not bound yet
            self.feed("empty")
            return
        if name == "__class__":
            return
        if is_own or isinstance(value, _CODE_LIKE) or hasattr(type(value), "defining"):
            self.value(value)
        else:
            self.feed("held", type(value).__name__)
            self.doubts.add(type(value).__name__)

    def _globals(self, function: types.FunctionType) -> None:
        """Follow the globals that a function reads, and the modules that it imports when it runs."""
        scope = function.__globals__
        read, imported, named = names_of(function.__code__)
        self.doubts |= (_ELSEWHERE | _LOOKS_AROUND) & {*read, *named}
        for name in read:
            value = scope.get(name, _MISSING)
            self.feed("global", name)
            if name in _PLACES:
                continue
            if (id(scope), name) in self.written:
                self.doubts |= {name} & scope.keys()
                continue
            if value is _MISSING:
                self._read(scope, name, value)  # a builtin, or not defined yet
                continue
            self._read(scope, name, value)
            if isinstance(value, types.ModuleType):
                self._module(value, is_read=True)
            else:
                self.value(value)
            if isinstance(value, types.ModuleType) and not is_installed_file(getattr(value, "__file__", None) or ""):
                for attribute in sorted(n for n in named if n in vars(value)):
                    self.feed("of", attribute)
                    self.reads.append((vars(value), attribute, vars(value)[attribute]))
                    self.value(vars(value)[attribute])
        for name, level in imported:
            self._import("." * level + name, scope.get("__package__") or None)
        if _LOOKS_AROUND & {*read, *named}:
            self.feed("file", text_of_file(function.__code__.co_filename, scope))

    def _import(self, name: str, package: str | None) -> None:
        """Follow an import inside a function: the whole file where it is the user's own."""
        self.feed("import", name)
        self._installed(name)
        with suppress(ImportError, AttributeError, ValueError):
            spec = importlib.util.find_spec(name, package)
            if spec is not None and spec.origin and not is_installed_file(spec.origin):
                self.feed("file", text_of_file(spec.origin, {}))
                self.doubts.add(name)  # what that file imports is not followed

    def _class(self, cls: type) -> None:
        if self.is_known(cls):
            return
        if is_installed(cls):
            self.feed("installed", f"{cls.__module__}.{cls.__qualname__}")
            self._installed(cls.__module__)
            return
        self.feed("class", str(len(cls.__bases__)))
        for base in cls.__bases__:
            self.value(base)
        held: Mapping[str, Any] = vars(cls)
        if issubclass(cls, enum.Enum):
            self.value([(m.name, m.value) for m in cls])
            held = {k: v for k, v in held.items() if isinstance(v, types.FunctionType) and not k.startswith("_")}
        elif issubclass(cls, tuple) and "_fields" in held:
            self.value((held["_fields"], held.get("_field_defaults")))
            held = {k: v for k, v in held.items() if isinstance(v, (types.FunctionType, *_WRAPPERS)) and k[0] != "_"}
        is_generated = "__dataclass_fields__" in held
        for name in sorted(held):
            value = held[name]
            if name in _BOOKKEEPING or name == _KEPT:
                continue
            if is_generated and name.startswith("__") and isinstance(value, types.FunctionType):
                file = value.__code__.co_filename
                if is_installed_file(file) or (file.startswith("<") and source_of(value) is None):
                    continue  # made of the fields, which are followed
            self.feed("attribute", name)
            if name == "__dataclass_fields__":
                for field in value.values():
                    self.value((field.name, field.init, _default(field.default), _default(field.default_factory)))
                continue
            self._read(held, name, value)
            self.value(value)

    def _module(self, module: types.ModuleType, is_read: bool = False) -> None:
        """Take a module's name; what is read of one of the user's own is followed where it is a global alone."""
        if not is_read:
            self.doubts.add(module.__name__)
        if self.is_known(module):
            return
        file = getattr(module, "__file__", None)
        if file is None or is_installed_file(file):
            self.feed("module", module.__name__)
            self._installed(module.__name__)
        else:
            self.feed("own module")

    def _code(self, code: types.CodeType) -> None:
        """Take byte code where there is no source; it differs between versions of Python."""
        self.feed("code", code.co_code.hex())
        self.feed("arguments", f"{code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount}")
        self.value((code.co_names, code.co_varnames, code.co_freevars))
        for constant in code.co_consts:
            self._code(constant) if isinstance(constant, types.CodeType) else self.value(constant)


def _default(value: Any) -> Any:
    """A default of a dataclass's field, or a word where there is none."""
    return "no default" if type(value).__name__ == "_MISSING_TYPE" else value


def _listed(slots: Any) -> list[str]:
    return [slots] if isinstance(slots, str) else list(slots)
