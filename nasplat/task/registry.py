"""Tasks by name (`digits-clutter`, `stereo-synthetic`) or by the path of a folder of image files, or of stereo pairs after `stereo:`; `rotation:`, `jigsaw:`,
`autoencoder:` or `edges:` before either asks another question about the same images; `?side=32&limit=10000` appends options.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from nasplat.errors import TaskError
from nasplat.task import stereo
from nasplat.task.derived import QUESTIONS, derived
from nasplat.task.digits import digits
from nasplat.task.files import from_folder
from nasplat.task.task import Task

NAMED: dict[str, Callable[..., Task]] = {
    "digits-clutter": partial(digits, "digit"),
    "digits-mask": partial(digits, "mask"),
    "digits-place": partial(digits, "place"),
    "stereo-synthetic": stereo.synthetic,
}
PAIRS = "stereo:"


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def load_task(reference: str, **options: Any) -> Task:
    """A task.

    Args:
        reference: A name, or a folder with IDX or npz image files or with a folder of pictures per class, or `stereo:` and a folder of stereo
            pairs; options may follow after `?`. A question of `nasplat.task.derived` and a colon may stand before it.
        options: Keyword arguments of its maker, such as train=2048 or limit=10000.

    Raises:
        TaskError: no such name or folder, or an option it does not take.
    """
    question, colon, rest = reference.partition(":")
    if colon and question in QUESTIONS:
        return derived(question, load_task(rest, **options))
    reference, asked, words = reference.partition("?")
    if asked:
        options = {k: _value(v) for k, v in parse_qsl(words, keep_blank_values=True)} | options
    made = NAMED.get(reference)
    pairs = reference.startswith(PAIRS)
    place = Path(reference.removeprefix(PAIRS))
    if made is None and not place.is_dir():
        raise TaskError(
            f"expected a task name ({', '.join(NAMED)}) or a folder of image files, got {reference!r}.\n  Check the spelling."
        )
    try:
        return made(**options) if made else (stereo.folder if pairs else from_folder)(place, **options)
    except TypeError as err:
        raise TaskError(f"task {reference!r} does not take these options: {err}.\n  Leave them out.") from err
