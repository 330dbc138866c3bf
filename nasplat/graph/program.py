"""`Program`: the calls behind a captured torch network, as data, so that it can be rebuilt without its Python.

A value in a call is a plain number, string, None or list of values, or a tagged tuple: ("reg", n) an earlier result,
("weight", name) a parameter or buffer, ("const", n) a stored array, ("batch", c, k) the number c + k · batch, ("dtype",
name), ("device",) the inputs' device, ("format", name) a memory format, ("complex", re, im).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Call:
    """One call of a torch operator."""

    op: str
    """Qualified overload, such as `aten.add.Tensor`."""
    args: tuple[Any, ...]
    """Positional arguments as values (see the head of this file)."""
    kwargs: tuple[tuple[str, Any], ...]
    """Keyword arguments as (name, value) pairs."""
    results: tuple[int, ...]
    """Registers of the tensors returned, in order."""


@dataclass(frozen=True)
class Constant:
    """A tensor the network computed from nothing but itself (masks, position indices)."""

    value: NDArray[Any]
    """The stored numbers."""
    dtype: str
    """Torch's name of the type; bfloat16 values are stored as float32."""
    tiled: tuple[int, ...] = ()
    """Axes along which the value is repeated once per sample of a batch; one copy is stored."""


@dataclass(frozen=True)
class Program:
    """Everything `rebuild` needs, weights aside."""

    inputs: tuple[int, ...]
    """Registers of the input tensors, in the order of the flattened example input."""
    calls: tuple[Call, ...]
    """Operator calls in the order they ran."""
    outputs: Any
    """Nested lists and dicts of values that the network returns."""
    constants: tuple[Constant, ...]
    """Stored arrays; ("const", n) names one by its place."""
    batch: int
    """Batch size of the example input that was captured."""
    fixed: str = ""
    """Why the batch cannot change; empty when it can."""


def to_plain(program: Program) -> dict[str, Any]:
    """Turn a program into lists, dicts, strings and numbers that JSON can hold.

    Args:
        program: Calls that a capture recorded.

    Returns:
        One entry per field; constants as base64 of their bytes with type and shape.
    """
    return {
        "inputs": program.inputs,
        "calls": [[c.op, c.args, c.kwargs, c.results] for c in program.calls],
        "outputs": program.outputs,
        "constants": [
            [
                base64.b64encode(np.ascontiguousarray(c.value).tobytes()).decode(),
                str(c.value.dtype),
                c.value.shape,
                c.dtype,
                c.tiled,
            ]
            for c in program.constants
        ],
        "batch": program.batch,
        "fixed": program.fixed,
    }


def from_plain(data: dict[str, Any]) -> Program:
    """Read what `to_plain` wrote, after a round through JSON.

    Args:
        data: One entry per field of `Program`.

    Returns:
        The program, equal to the one written.
    """
    calls = tuple(Call(op, _value(a), tuple((k, _value(v)) for k, v in kw), tuple(r)) for op, a, kw, r in data["calls"])
    constants = tuple(
        Constant(np.frombuffer(base64.b64decode(raw), np.dtype(kind)).reshape(shape).copy(), dtype, tuple(tiled))
        for raw, kind, shape, dtype, tiled in data["constants"]
    )
    return Program(
        tuple(data["inputs"]), calls, _value(data["outputs"]), constants, int(data["batch"]), str(data["fixed"])
    )


def _value(value: Any) -> Any:
    """Turn the lists that JSON makes of tuples back into tuples, and keep dicts."""
    if isinstance(value, list):
        return tuple(_value(v) for v in value)
    if isinstance(value, dict):
        return {k: _value(v) for k, v in value.items()}
    return value
