"""Where in the network's own code something happens: frames of torch and of this folder are skipped."""

from __future__ import annotations

import sys
import traceback


def running_line() -> str:
    """Find the line of the network's code that runs now.

    Returns:
        'file:line', or 'unknown line' where no frame is the network's.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if is_own(frame.f_code.co_filename) and not frame.f_code.co_filename.startswith("<"):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "unknown line"


def explain(err: BaseException, path: str, operator: str, shapes: str) -> str:
    """Say in one paragraph why a network could not be run.

    Args:
        err: What its forward pass raised.
        path: Path of the module that ran, '' for the network itself.
        operator: Name of the last operator that torch dispatched.
        shapes: Shapes of the inputs, as they are to be printed.

    Returns:
        Text of an error that names module, line and operator.
    """
    own = [f for f in traceback.extract_tb(err.__traceback__) if is_own(f.filename)]
    where = f"{own[-1].filename}:{own[-1].lineno}" if own else "unknown line"
    return (
        f"the network raised {type(err).__name__} on input {shapes}, in module {path or '(root)'!r}, {where}, after "
        f"operator {operator!r}: {str(err).splitlines()[0] if str(err) else ''}\n"
        "  Check example_input, or mend that line."
    )


def is_own(file: str) -> bool:
    """Tell code of the network from that of torch and of this folder.

    Args:
        file: Path of a Python file, as frames hold it.

    Returns:
        True for any other file.
    """
    return "/torch/" not in file and "/nasplat/frontends/" not in file
