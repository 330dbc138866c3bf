"""Content folders: search spaces, predictors and tables, addressed by name or by path.

In a checkout they lie beside `nasplat/`; in a wheel under `nasplat/_content/`. A user's own file works the same way.
A space file is Python and runs when loaded; nothing else that is loaded here runs code.
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

from nasplat.errors import ContentError, NasplatError

KINDS = ("search_spaces", "predictors", "predictors/devices", "benchmarks/tables")
"""Content folders, as paths from the root of a checkout."""

MODULE = "nasplat_content_"
"""Beginning of the names of modules that were loaded by a path."""


def folder(kind: str) -> Path:
    """Find the folder that holds content of a kind.

    Args:
        kind: Kind of content, one of `KINDS`.

    Returns:
        The folder inside the installed package, or beside it in a checkout; it need not exist.

    Example:
        >>> folder("search_spaces").name
        'search_spaces'
    """
    package = Path(__file__).resolve().parent
    inside = package / "_content" / kind
    return inside if inside.parent.exists() else package.parent / kind


def names(kind: str) -> list[str]:
    """List what a content folder holds.

    Args:
        kind: Kind of content, one of `KINDS`.

    Returns:
        Sorted names: stems of space files, names of predictors' folders, file names of tables.

    Example:
        >>> "vit" in names("search_spaces")
        True
    """
    root = folder(kind)
    if not root.exists():
        return []
    if kind == "search_spaces":
        return sorted(p.stem for p in root.glob("*.py") if not p.stem.startswith("_"))
    if kind.startswith("predictors"):
        return sorted(p.parent.name for p in root.glob("*/recipe.toml"))
    return sorted(p.name for p in root.glob("*.csv.gz"))


def locate(kind: str, reference: str) -> Path:
    """Find a content item given by name or by path.

    Args:
        kind: Kind of content, one of `KINDS`.
        reference: Name from `names(kind)` or a path to a file (spaces, tables) or folder (predictors).

    Returns:
        An existing path; that of a user's own file or folder is absolute.

    Raises:
        ContentError: nothing has that name and no such path exists; the message lists what there is.
    """
    known = names(kind)
    if reference in known:
        return folder(kind) / (f"{reference}.py" if kind == "search_spaces" else reference)
    path = Path(reference)
    looks_like_path = path.suffix in {".py", ".gz", ".csv"} or len(path.parts) > 1
    if looks_like_path or (kind.startswith("predictors") and path.is_dir()):
        if path.exists():
            return path.resolve()
        raise ContentError(f"expected an existing path, got {reference!r}, which does not exist.\n  Check the path.")
    close = difflib.get_close_matches(reference, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ContentError(
        f"no {kind.split('/')[-1].replace('_', ' ').rstrip('s')} is named {reference!r}; known: {', '.join(known)}."
        f"{hint}\n  Use one of these, or a path to your own."
    )


def load_module(path: Path) -> ModuleType:
    """Import a Python file by path; loading one file twice gives one module, a changed file a new one.

    Args:
        path: Python file, such as that of a search space; it is executed.

    Returns:
        The imported module.

    Raises:
        ContentError: the file is missing, has a syntax error, or raises while it is imported.
    """
    if not path.is_file():
        raise ContentError(f"expected a Python file, got {str(path)!r}, which does not exist.\n  Check the path.")
    return _load_module(path, path.stat().st_mtime_ns)


@contextmanager
def staying(what: str, error: type[NasplatError]) -> Iterator[None]:
    """Turn an end of the whole program, which a user's file must not decide, into an error.

    Args:
        what: What runs inside the block, for the message, such as 'mine.py:factory'.
        error: Kind of error to raise.

    Yields:
        Nothing.

    Raises:
        NasplatError: `sys.exit` was called inside the block.

    Example:
        >>> with staying("my code", ContentError):
        ...     raise SystemExit(0)
        Traceback (most recent call last):
        ...
        nasplat.errors.ContentError: my code ended the program by SystemExit(0).
          Raise an error there, or return.
    """
    try:
        yield
    except SystemExit as err:
        raise error(f"{what} ended the program by {err!r}.\n  Raise an error there, or return.") from err


def is_loaded(path: Path) -> bool:
    """Tell whether a Python file was imported by `load_module`, so that importing it again runs nothing new.

    Args:
        path: Python file, such as that of a search space.

    Returns:
        True while the file is what was imported.
    """
    return path.is_file() and (path, path.stat().st_mtime_ns) in _LOADED


_LOADED: set[tuple[Path, int]] = set()
"""Files that were imported, with the time of their last change."""


@cache
def _load_module(path: Path, modified_ns: int) -> ModuleType:
    """Import a file once per time of its last change."""
    name = f"{MODULE}{path.stem}_{abs(hash((str(path), modified_ns))):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ContentError(f"expected a Python file ending in .py, got {str(path)!r}.\n  Rename the file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with staying(f"importing {path}", ContentError):
            spec.loader.exec_module(module)
    except SyntaxError as err:
        del sys.modules[name]
        raise ContentError(f"{path}:{err.lineno}: syntax error: {err.msg}.\n  Mend that line.") from err
    except ContentError:
        del sys.modules[name]
        raise
    except Exception as err:
        del sys.modules[name]
        line = next((f.lineno for f in reversed(traceback.extract_tb(err.__traceback__)) if f.filename == str(path)), 0)
        message = f"{path}:{line}: importing this file raised {type(err).__name__}: {err}.\n  Mend the file."
        raise ContentError(message) from err
    _LOADED.add((path, modified_ns))
    return module
