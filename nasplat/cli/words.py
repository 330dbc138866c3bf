"""Words of a command that is no run become values: presets, limits, shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nasplat.errors import InputError

FORMATS = ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
"""Number formats that an input may be said to have."""
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


def example(text: str | None) -> Any:
    """Read what a network is called with.

    Args:
        text: Shape of one input batch, such as '1,3,224,224', perhaps with a number format, '1,128:int64'; several with
            semicolons, by position or by name, 'ids=1,128:int64;mask=1,128:bool'. None where nothing was given.

    Returns:
        A shape, a tensor without values of that format, or a tuple or dict of these; or None.

    Raises:
        InputError: something else is written.

    Example:
        >>> example("1,3,8,8"), example("1,8;1,4")
        ((1, 3, 8, 8), ((1, 8), (1, 4)))
        >>> {name: t.dtype for name, t in example("ids=1,6:int64;mask=1,6:bool").items()}
        {'ids': torch.int64, 'mask': torch.bool}
    """
    if text is None or not set(text) & set("=:;"):
        return shape(text)
    parts = [part.strip() for part in text.split(";") if part.strip()]
    named = [part.partition("=") for part in parts]
    if any(equals for _, equals, _ in named):
        if not all(name.strip() and equals for name, equals, _ in named) or len({n for n, _, _ in named}) < len(named):
            raise InputError(
                f"expected --input with a name before every '=', or none at all, got {text!r}.\n"
                "  Write for instance ids=1,128:int64;mask=1,128:bool."
            )
        return {name.strip(): _typed(value) for name, _, value in named}
    found = tuple(_typed(part) for part in parts)
    return found[0] if len(found) == 1 else found


def _typed(text: str) -> Any:
    """A shape, or with a number format behind a colon a tensor without values."""
    import torch

    sizes, colon, name = (part.strip() for part in text.partition(":"))
    if not colon:
        return shape(sizes)
    if name not in FORMATS:
        raise InputError(
            f"expected --input with a number format among {', '.join(FORMATS)}, got {name!r}.\n"
            "  Write for instance 1,128:int64."
        )
    return torch.empty(shape(sizes) or (), dtype=getattr(torch, name), device="meta")
