"""Words of a command become values."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nasplat.cli.words import example
from nasplat.errors import InputError

pytestmark = pytest.mark.fast


def told(value: Any) -> Any:
    """Types and shapes of what was read."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype).removeprefix("torch."), tuple(value.shape)
    if isinstance(value, dict):
        return {k: told(v) for k, v in value.items()}
    return tuple(told(v) for v in value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(("text", "found"), [
    (None, None),
    ("1,3,8,8", (1, 3, 8, 8)),
    ("1,6:int64", ("int64", (1, 6))),
    ("1,8; 1,4:bool", ((1, 8), ("bool", (1, 4)))),
    ("ids=1,6:int64;x=1,8", {"ids": ("int64", (1, 6)), "x": (1, 8)}),
    ("x=1,8", {"x": (1, 8)}),
])  # fmt: skip
def test_inputs_are_written_by_shape_format_position_and_name(text: str | None, found: Any) -> None:
    assert told(example(text)) == found


@pytest.mark.parametrize(("text", "message"), [
    ("1,x", "expected --input as numbers with commas, got '1,x'"),
    ("1,8;1,y", "expected --input as numbers with commas, got '1,y'"),
    ("1,6:int3", "number format among float32, .*, got 'int3'"),
    ("ids=1,6;1,8", "a name before every '=', or none at all"),
    ("x=1,6;x=1,8", "a name before every '=', or none at all"),
    ("1,-6:int64", "sizes from 1 on"),
])  # fmt: skip
def test_inputs_that_say_nothing_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        example(text)
