"""What ended a command becomes one paragraph and an exit code; a traceback is shown on request alone.

Errors of ours say what to do themselves. Of everything else the paragraph says who raised it: a file of the user's, a
library, the lack of memory; or nasplat itself, whose defect it is then.
"""

from __future__ import annotations

import os
import shlex
import sys
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType

import click

from nasplat.cli import show
from nasplat.errors import NasplatError

OURS = Path(__file__).resolve().parents[1]
"""Folder of the package."""
CONTENT = OURS / "_content"
"""Folder of the spaces that come with an installed nasplat."""
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
"""Folders of Python and of everything that is installed."""
LONGEST = 600
"""Characters that are told of what a library says; some of torch's messages fill pages."""
REFUSED = 2
"""Exit code of a command that cannot be carried out."""
STOPPED = 130
"""Exit code of a command that was interrupted, as shells have it."""


def ended(run: Callable[[], object], words: Sequence[str], debug: bool) -> int:
    """Run a command to its end, whatever that is.

    Args:
        run: Does it; what it returns is the exit code where that is a number.
        words: Words after `nasplat`, as they were typed.
        debug: Whether errors are raised on, with their tracebacks.

    Returns:
        Exit code: that of the command; 2 where it cannot be carried out, 130 where it was interrupted, 1 where nobody
        reads its output any more.
    """
    try:
        status = run()
        sys.stdout.flush()
    except click.ClickException as err:
        show.say(_with_usage(err), err=True)
        return REFUSED
    except (click.Abort, KeyboardInterrupt):
        again = shlex.join(["nasplat", *words])
        show.say(f"stopped; what was finished is kept. To go on:\n  {again}", err=True)
        return STOPPED
    except BrokenPipeError:
        # nobody reads on, such as in `nasplat spaces | head -1`; Python would complain while it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as err:
        if debug:
            raise
        place = _place(err) or "code that was loaded"
        show.say(f"SystemExit: {place} ended Python with {err.code!r}.\n  Remove that call from the file.", err=True)
        return REFUSED
    except Exception as err:
        if debug:
            raise
        show.say(paragraph(err, words), err=True)
        return REFUSED
    return status if isinstance(status, int) else 0


def paragraph(error: Exception, words: Sequence[str]) -> str:
    """Say in one paragraph what ended a command.

    Args:
        error: What was raised.
        words: Words after `nasplat`, as they were typed.

    Returns:
        Text without empty lines, which begins with the type of the error.
    """
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, NasplatError | OSError):
        return "\n".join([f"{type(error).__name__}: {lines[0] if lines else 'no reason was given'}", *lines[1:]])
    text = " ".join(line.strip() for line in lines)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    see = f"nasplat --debug {shlex.join(words)}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"{said}\n  There is not enough memory: use smaller batches or networks, or fewer processes."
    if isinstance(error, RecursionError):
        return (
            f"{said}\n  Something is nested too deeply, such as modules or JSON inside one another; to see where: {see}"
        )
    place = _place(error)
    if place is not None:
        return f"{said}\n  It was raised by {place}. To see how it came there: {see}"
    return f"{said}\n  This is a defect of nasplat: please report it with what this prints: {see}"


def _with_usage(error: click.ClickException) -> str:
    """What click says of a wrong word, with the usage of the verb."""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{error.ctx.get_usage()}\nError: {error.format_message()} (see {error.ctx.command_path} --help)"
    return f"Error: {error.format_message()}"


def _place(error: BaseException) -> str | None:
    """Who raised an error, where it was none of our files: the user's own file, else the library that was called."""
    files = [(Path(code.co_filename), code, line) for code, line in _frames(error)]
    if not files or _is_ours(files[-1][0]):
        return None
    own = next(((f, n) for f, _, n in reversed(files) if not _is_ours(f) and not _is_library(f)), None)
    if own is not None:
        return f"line {own[1]} of {str(own[0])!r}"
    caller = next((f for f, _, _ in reversed(files) if not _is_ours(f) and _name(f)), None)
    return None if caller is None else f"the library {_name(caller)}"


def _frames(error: BaseException) -> list[tuple[CodeType, int]]:
    """Code and line of every call between the command and the error."""
    return [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]


def _is_ours(file: Path) -> bool:
    return OURS in file.parents and CONTENT not in file.parents


def _is_library(file: Path) -> bool:
    return str(file).startswith(("<", *LIBRARIES))


def _name(file: Path) -> str:
    """Name of the library that a file belongs to; empty for Python's own."""
    for folder in LIBRARIES:
        if Path(folder) in file.parents and "site-packages" in folder:
            return file.relative_to(folder).parts[0]
    return ""
