"""Tasks by name (`digits-clutter`) or by the path of a folder of image files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nasplat.errors import TaskError
from nasplat.task.digits import digits_clutter
from nasplat.task.files import from_folder
from nasplat.task.task import Task

NAMED: dict[str, Callable[..., Task]] = {"digits-clutter": digits_clutter}


def load_task(reference: str, **options: Any) -> Task:
    """A task.

    Args:
        reference: `digits-clutter`, or a folder with IDX or npz image files.
        options: Keyword arguments of its maker, such as train=2048 or limit=10000.

    Raises:
        TaskError: no such name or folder, or an option it does not take.
    """
    made = NAMED.get(reference)
    if made is None and not Path(reference).is_dir():
        raise TaskError(
            f"expected a task name ({', '.join(NAMED)}) or a folder of image files, got {reference!r}.\n  Check the spelling."
        )
    try:
        return made(**options) if made else from_folder(Path(reference), **options)
    except TypeError as err:
        raise TaskError(f"task {reference!r} does not take these options: {err}.\n  Leave them out.") from err
