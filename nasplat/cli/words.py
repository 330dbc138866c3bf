"""Words of a command that is no run become values: presets, limits, shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nasplat.errors import InputError

MOST = 10**15
"""Elements of an input, at most; counts of larger ones would overflow."""


def pairs(texts: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE words; a later one with the same name wins.

    Args:
        texts: Words such as 'width=8'.

    Returns:
        Values by name.

    Raises:
        InputError: a word has no '='.

    Example:
        >>> pairs(["width=8", "size=mini"])
        {'width': 8, 'size': 'mini'}
    """
    from nasplat.runs.run import pair_of

    return dict(pair_of(text) for text in texts)


def numbers(texts: Sequence[str]) -> dict[str, float]:
    """Read NAME=NUMBER words, such as limits.

    Args:
        texts: Words such as 'macs=2e6'.

    Returns:
        Numbers by name.

    Raises:
        InputError: a word has no '=', or no number behind it.
    """
    found = pairs(texts)
    for name, number in found.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise InputError(f"{name} expected a number, got {number!r}.\n  Write for instance {name}=2e6.")
    return found


def shape(text: str | None) -> tuple[int, ...] | None:
    """Read the shape of an input batch.

    Args:
        text: Numbers with commas, such as '1,3,224,224'; None where no shape was given.

    Returns:
        Sizes, the batch first; or None.

    Raises:
        InputError: something else is written.
    """
    if text is None:
        return None
    try:
        sizes = tuple(int(v) for v in text.split(","))
    except ValueError as err:
        raise InputError(
            f"expected --input as numbers with commas, got {text!r}.\n  Write for instance 1,3,224,224."
        ) from err
    if min(sizes) < 1 or math.prod(sizes) > MOST:
        raise InputError(
            f"expected --input of sizes from 1 on with at most {MOST:.0e} elements, got {text!r}.\n"
            "  Write for instance 1,3,224,224."
        )
    return sizes
