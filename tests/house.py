"""Measures of the source tree: rooms, imports, circles of files, sizes, and what the docstrings of public names say.

`python tests/house.py` prints them for `nasplat/`, `python tests/house.py FOLDER` for another copy of the package, and
`python tests/house.py --lacking nasplat.graph` which public names of a room lack what; `tests/test_floors.py` reads the
same functions.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "nasplat"


@dataclass(frozen=True)
class Import:
    """One import of the package in one of its files."""

    file: str
    """Importing module, such as 'nasplat.graph.cost'."""
    module: str
    """Imported module of the package."""
    line: int
    deferred: bool
    """Written inside a function, so that it runs on the first call."""
    typing: bool
    """Under `if TYPE_CHECKING:`."""


def files(package: Path = PACKAGE) -> dict[str, Path]:
    """Modules of the package by dotted name; a folder stands for its `__init__.py`."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        if "_content" in path.parts:
            continue
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        found[".".join(p for p in parts if p != "__init__")] = path
    return found


def room(module: str) -> str:
    """The part of a dotted name that the floor plan lists: folder or loose file below the package."""
    return module.split(".")[1] if "." in module else "nasplat"


def imports(package: Path = PACKAGE) -> list[Import]:
    """Every import of the package by its own files, in functions and for type checkers included."""
    known = files(package)
    found = []
    for name, path in known.items():
        for node, deferred, typing in _walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                targets = [
                    f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in known else node.module for a in node.names
                ]
            elif isinstance(node, ast.ImportFrom):
                raise SyntaxError(f"{path}:{node.lineno}: relative import")
            else:
                targets = [a.name for a in node.names]
            found += [Import(name, t, node.lineno, deferred, typing) for t in dict.fromkeys(targets) if t in known]
    return found


def outside(path: Path) -> Iterator[tuple[str, bool]]:
    """Top-level packages that a file imports, each with whether the import is deferred or for type checkers."""
    for node, deferred, typing in _walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [str(node.module)] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        yield from ((n.split(".")[0], deferred or typing) for n in names)


def _walk(
    tree: ast.AST, deferred: bool = False, typing: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, deferred, typing
            continue
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        yield from _walk(node, deferred or inside, typing or checking)


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node, or of one that points to itself (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1 or node in arrows.get(node, ()):
                found.append(sorted(part))

    for node in sorted(arrows):
        if node not in order:
            visit(node)
    return found


def file_arrows(package: Path = PACKAGE) -> dict[str, set[str]]:
    """What each file imports of the package; the folders' own `__init__.py` re-export only and are left out."""
    known = files(package)
    found: dict[str, set[str]] = {n: set() for n in known}
    for i in imports(package):
        for target in _defining(i, known):
            if known[i.file].name != "__init__.py" and target != i.file:
                found[i.file].add(target)
    return found


def _defining(i: Import, known: dict[str, Path]) -> set[str]:
    """Files behind an import; one from a folder reaches those that the folder re-exports under that name."""
    path = known[i.module]
    if path.name != "__init__.py" or i.module.count(".") == 0:
        return {i.module} if i.module.count(".") else set()
    source = {
        a.asname or a.name: str(n.module)
        for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(n, ast.ImportFrom)
        for a in n.names
    }
    tree = ast.parse(known[i.file].read_text(encoding="utf-8"))
    names = {
        a.name
        for n in ast.walk(tree)
        if isinstance(n, ast.ImportFrom) and n.module == i.module and n.lineno == i.line
        for a in n.names
    }
    return {source[n] for n in names if n in source and source[n] in known}


def room_arrows(package: Path = PACKAGE) -> set[tuple[str, str]]:
    """Pairs of rooms of which the first imports the second."""
    return {(room(i.file), room(i.module)) for i in imports(package) if room(i.file) != room(i.module)} - {
        ("nasplat", "nasplat")
    }


@dataclass(frozen=True)
class Callable_:
    """A function, method or class of a file, and what its docstring holds."""

    place: str
    name: str
    lines: int
    parameters: int
    is_public: bool
    is_class: bool
    has_doc: bool
    has_args: bool
    has_returns: bool
    has_raises: bool
    has_example: bool
    needs_args: bool
    needs_returns: bool
    needs_raises: bool
    inherits: bool
    """A method whose docstring may rest on that of a base class of the package."""

    @property
    def lacks(self) -> list[str]:
        """Sections that a reader misses."""
        wanted = {
            "docstring": (True, self.has_doc),
            "Args": (self.needs_args and not self.inherits, self.has_args),
            "Returns": (self.needs_returns and not self.inherits, self.has_returns),
            "Raises": (self.needs_raises and not self.inherits, self.has_raises),
        }
        return [w for w, (needs, has) in wanted.items() if needs and not has]


def callables(package: Path = PACKAGE) -> list[Callable_]:
    """Every function, method and class of the package."""
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in files(package).items()}
    bases = {
        node.name: ({ast.unparse(b).split("[")[0].split(".")[-1] for b in node.bases}, _documented(node))
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    return [c for name, tree in trees.items() for c in _callables(tree, name, True, bases)]


Bases = dict[str, tuple[set[str], set[str]]]
"""For every class the names of the classes above it, and the methods that have a docstring."""


def _documented(node: ast.ClassDef) -> set[str]:
    return {n.name for n in node.body if isinstance(n, ast.FunctionDef) and ast.get_docstring(n)}


def _inherited(name: str, bases: Bases) -> set[str]:
    """Methods that the classes above a class document."""
    above = [b for b in bases.get(name, (set(), set()))[0] if b in bases and b != name]
    return {m for b in above for m in bases[b][1] | _inherited(b, bases)}


def _callables(
    tree: ast.AST, place: str, public: bool, bases: Bases, nested: bool = False, above: frozenset[str] = frozenset()
) -> Iterator[Callable_]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if any("overload" in ast.unparse(d) for d in node.decorator_list):
                continue
            seen = public and not nested and not node.name.startswith("_")
            is_class = isinstance(node, ast.ClassDef)
            yield _described(node, place, seen, node.name in above)
            inherited = frozenset(_inherited(node.name, bases)) if is_class else frozenset[str]()
            yield from _callables(node, f"{place}.{node.name}", seen, bases, nested or not is_class, inherited)
        else:
            yield from _callables(node, place, public, bases, nested, above)


def _described(
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, place: str, seen: bool, inherits: bool
) -> Callable_:
    text = ast.get_docstring(node) or ""
    is_command = any(
        re.search(r"\.(command|group)\b", ast.unparse(d)) for d in node.decorator_list
    )  # its docstring is --help
    has = {
        w: is_command or bool(re.search(rf"^\s*{w}s?:\s*$", text, re.M))
        for w in ("Arg", "Return", "Yield", "Raise", "Example")
    }
    is_class = isinstance(node, ast.ClassDef)
    names, returns, raises = [], False, False
    if not is_class:
        a = node.args
        names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg)))]
        names = [n for n in names if n not in {"self", "cls"}]
        is_property = any("property" in ast.unparse(d) for d in node.decorator_list)
        returns = node.returns is not None and ast.unparse(node.returns) != "None" and not is_property
        raises = any(isinstance(n, ast.Raise) and n.exc is not None for n in ast.walk(node))
    return Callable_(
        f"{place}:{node.lineno}",
        node.name,
        (node.end_lineno or 0) - node.lineno + 1,
        len(names),
        seen,
        is_class,
        bool(text),
        has["Arg"],
        has["Return"] or has["Yield"],
        has["Raise"],
        has["Example"] or ">>>" in text,
        bool(names),
        returns,
        raises,
        inherits,
    )


TERSE = re.compile(r"^\s+\w+: (Of |\w+\.?$|\w+ \w+\.?$)", re.M)
"""An argument line that only its author understands: "Of …", or fewer than three words."""


def terse(package: Path = PACKAGE) -> list[str]:
    """Argument lines of docstrings that begin with "Of" or have fewer than three words, with their place."""
    found = []
    for name, path in files(package).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node, clean=False) or ""
                found += [f"{name}:{node.lineno} {node.name}: {m[0].strip()}" for m in TERSE.finditer(text)]
    return found


def main(package: Path) -> None:
    """Print the measures."""
    known = files(package)
    lengths = {n: len(p.read_text(encoding="utf-8").splitlines()) for n, p in known.items()}
    entries = [p for p in package.iterdir() if p.name not in {"__pycache__", "_content"}]
    found = callables(package)
    functions = [c for c in found if not c.is_class]
    print(f"entries of nasplat/: {len(entries)}")
    print(f"files: {len(known)}, lines: {sum(lengths.values())}")
    arrows = room_arrows(package)
    print(f"arrows between rooms: {len(arrows)}")
    loops = circles(file_arrows(package))
    print(f"circles of files: {len(loops)}" + "".join(f"\n  {', '.join(c)}" for c in loops))
    for limit in (300, 600):
        print(f"files over {limit} lines: {sum(n > limit for n in lengths.values())}")
    print("longest files: " + ", ".join(f"{n} {lengths[n]}" for n in sorted(lengths, key=lambda n: -lengths[n])[:5]))
    long = sorted(functions, key=lambda c: -c.lines)
    print(f"functions over 80 lines: {sum(c.lines > 80 for c in functions)}")
    print("longest functions: " + ", ".join(f"{c.place} {c.name} {c.lines}" for c in long[:5]))
    wide = sorted((c for c in functions if c.parameters > 8), key=lambda c: -c.parameters)
    print(
        f"signatures over 8 parameters: {len(wide)}" + "".join(f"\n  {c.place} {c.name} {c.parameters}" for c in wide)
    )
    print(f"deferred imports of own files: {sum(i.deferred or i.typing for i in imports(package))}")
    public = [c for c in found if c.is_public]
    methods = [c for c in public if not c.is_class]
    print(
        f"public classes: {sum(c.is_class for c in public)}, with a docstring {sum(c.is_class and c.has_doc for c in public)}"
    )
    print(f"public functions and methods: {len(methods)}, with a docstring {sum(c.has_doc for c in methods)}")
    for word, needs, has in (
        ("Args", [c for c in methods if c.needs_args], lambda c: c.has_args),
        ("Returns", [c for c in methods if c.needs_returns], lambda c: c.has_returns),
        ("Raises", [c for c in methods if c.needs_raises], lambda c: c.has_raises),
    ):
        print(f"  that need {word}: {len(needs)}, have it: {sum(map(has, needs))}")
    print(f"  public names with an Example: {sum(c.has_example for c in public)}")
    print(f"public names that lack a section: {sum(bool(c.lacks) for c in public)}")
    print(f"terse argument lines: {len(terse(package))}")


def lacking(package: Path = PACKAGE, start: str = "nasplat") -> list[str]:
    """Public names that lack a section, one line each, and terse argument lines, of modules that begin with a name."""
    found = [f"{c.place} {c.name}: {', '.join(c.lacks)}" for c in callables(package) if c.is_public and c.lacks]
    return [line for line in (*found, *terse(package)) if line.startswith(start)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--lacking"]:
        print("\n".join(lacking(start=sys.argv[2] if len(sys.argv) > 2 else "nasplat")))
    else:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
