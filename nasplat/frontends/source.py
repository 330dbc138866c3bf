"""The source of functions: found where it compiles to the very code that runs, and written without what says nothing.

What is installed (Python itself, torch, nasplat, everything in site-packages) is told from the user's own code here.
"""

from __future__ import annotations

import ast
import dis
import functools
import linecache
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_CHANGING = {
    "append",
    "extend",
    "insert",
    "setdefault",
    "update",
    "add",
    "pop",
    "popitem",
    "clear",
    "remove",
    "discard",
}
"""Methods that change a list, a dict or a set."""
_UNREAD = {"annotation", "returns", "type_comment", "type_params", "kind", "ctx"}
"""Fields of syntax trees that say nothing of what is computed."""
_HEAP = 1 << 9
"""Bit of the flags of classes that a program made."""
_FUTURE = 0x1FF0000
"""Bits of a code object's flags that `from __future__ import …` sets."""


def source_of(function: types.FunctionType) -> ast.AST | None:
    """Find the syntax tree of a function where its file, or cell, still holds the code that runs.

    Args:
        function: Function or lambda.

    Returns:
        Its node; None where there is no source, or the source compiles to other code, as after an edit.
    """
    code = function.__code__
    parsed = _parsed(_source(code.co_filename, function.__globals__), code.co_flags & _FUTURE)
    if parsed is None or not any(code == other for other in parsed[1].get((code.co_name, code.co_firstlineno), ())):
        return None
    found = [n for n in parsed[0].get(code.co_firstlineno, ()) if getattr(n, "name", "<lambda>") == code.co_name]
    if len(found) > 1:  # several lambdas in one line: the smallest one that holds all places of the code
        places = [(r, c) for r, _, c, d in code.co_positions() if r is not None and c is not None and (c, d) != (0, 0)]
        found = [n for n in found if all(_start(n) <= p <= (n.end_lineno, n.end_col_offset) for p in places)]
        found.sort(key=lambda n: (n.end_lineno - n.lineno, n.end_col_offset - n.col_offset))
        if len(found) > 1 and [_start(n) for n in found[1:]].count(_start(found[0])):
            return None
    return found[0] if found else None


def _start(node: Any) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _source(file: str, scope: Mapping[str, Any]) -> str:
    linecache.checkcache(file)
    return "".join(linecache.getlines(file, dict(scope)))


@functools.lru_cache(maxsize=64)
def _parsed(text: str, flags: int) -> tuple[dict[int, list[Any]], dict[tuple[str, int], list[types.CodeType]]] | None:
    """Functions of a text by their first line, and the code that they compile to by name and first line."""
    try:
        tree = ast.parse(text)
        whole = compile(text, "<source>", "exec", flags=flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return None
    nodes: dict[int, list[Any]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            nodes.setdefault(first, []).append(node)
    codes: dict[tuple[str, int], list[types.CodeType]] = {}
    for code in _inside(whole):
        codes.setdefault((code.co_name, code.co_firstlineno), []).append(code)
    return nodes, codes


def _inside(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and all that it holds."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _inside(constant)


def written_in(tree: ast.AST, scope: Mapping[str, Any]) -> set[tuple[int, str]]:
    """Find the names that a function assigns to, fills or empties, such as a dict in which it remembers results.

    Args:
        tree: Syntax tree of the function.
        scope: Globals of the function, by which names are told apart.

    Returns:
        Names, each with the identity of the scope.
    """
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load) and isinstance(node.value, ast.Name):
            found.add(node.value.id)
        elif isinstance(node, ast.Attribute) and node.attr in _CHANGING and isinstance(node.value, ast.Name):
            found.add(node.value.id)
        elif isinstance(node, ast.Global):
            found.update(node.names)
    return {(id(scope), name) for name in found}


@functools.lru_cache(maxsize=4096)
def names_of(code: types.CodeType) -> tuple[list[str], list[tuple[str, int]], set[str]]:
    """Find the globals that code reads, the modules that it imports, and the attributes that it names.

    Args:
        code: Code of a function, with that of the functions inside it.

    Returns:
        Names of globals, modules with the level of their import, both in order, and names of attributes.
    """
    read, imported, named = set[str](), set[tuple[str, int]](), set[str]()
    for part in _inside(code):
        before: list[Any] = [None, None]
        for step in dis.get_instructions(part):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                read.add(step.argval)
            elif step.opname == "IMPORT_NAME":
                imported.add((step.argval, before[-2] if isinstance(before[-2], int) else 0))
            elif step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                named.add(step.argval)
            before = [before[-1], step.argval]
    return sorted(read), sorted(imported), named


def text_of(tree: ast.AST) -> str:
    """Write a function's syntax tree without its name, decorators, defaults, docstrings and annotations.

    Args:
        tree: Syntax tree of a function or of a file.

    Returns:
        Text that is equal for equal trees in every version of Python.
    """
    parts: list[str] = []
    arguments = getattr(tree, "args", None)
    hidden = {"name", "decorator_list"}

    def write(node: Any) -> None:
        if isinstance(node, ast.AST):
            parts.append(f"({type(node).__name__}")
            for name, value in ast.iter_fields(node):
                if name in _UNREAD and not (name == "annotation" and isinstance(node, ast.AnnAssign)):
                    continue
                if node is tree and name in hidden:
                    continue
                if node is arguments and name in ("defaults", "kw_defaults"):
                    continue  # they are followed as values
                if name == "body" and isinstance(value, list):
                    value = _without_docstring(node, value)
                if value is not None and value != []:
                    parts.append(f" {name}=")
                    write(value)
            parts.append(")")
        elif isinstance(node, list):
            parts.append("[")
            for one in node:
                write(one)
                parts.append(",")
            parts.append("]")
        else:
            parts.append(f"{type(node).__name__}:{node!r}")

    write(tree)
    return "".join(parts)


def _without_docstring(node: ast.AST, body: list[Any]) -> list[Any]:
    """A body without the text that documents it."""
    documented = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module)
    if documented and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return body[1:] if isinstance(body[0].value.value, str) else body
    return body


def text_of_file(file: str, scope: Mapping[str, Any]) -> str:
    """Write the syntax tree of a whole file or cell; nothing where there is none.

    Args:
        file: Name of the file or cell.
        scope: Globals of its module, whose loader may know the text.

    Returns:
        Text of the tree, without docstrings and annotations.
    """
    try:
        return text_of(ast.parse(_source(file, scope)))
    except (SyntaxError, ValueError, RecursionError):
        return ""


# -- what is installed -------------------------------------------------------------------------------------------------

_STANDARD = tuple({str(Path(sysconfig.get_path(k)).resolve()) for k in ("stdlib", "platstdlib")})
_HERE = Path(__file__).resolve().parent.parent


@functools.lru_cache(maxsize=4096)
def is_installed_file(file: str) -> bool:
    """Tell whether a file belongs to Python, to nasplat's own code or to an installed package.

    Args:
        file: Path of the file, or what stands for one, such as '<string>'.

    Returns:
        False for the user's own code, and for the spaces that come with nasplat.
    """
    if file.startswith("<"):
        return file.startswith("<frozen")
    path = Path(file).resolve() if file else Path()
    if path.is_relative_to(_HERE):
        return not path.is_relative_to(_HERE / "_content")
    return bool({"site-packages", "dist-packages"} & {*path.parts, *Path(file).parts}) or str(path).startswith(
        _STANDARD
    )


def is_installed(cls: type) -> bool:
    """Tell whether a class belongs to Python, to nasplat's own code or to an installed package.

    Args:
        cls: Class, whose module says where it comes from.

    Returns:
        False for the user's own code, and for the spaces that come with nasplat.
    """
    if cls.__module__ == "__main__":
        return False
    if cls.__module__ == "builtins":  # also the module of classes that are made in a scope without a name
        return not cls.__flags__ & _HEAP
    module = sys.modules.get(cls.__module__)
    if module is None:
        return False
    file = getattr(module, "__file__", None)
    return cls.__module__ in sys.builtin_module_names if file is None else is_installed_file(file)
