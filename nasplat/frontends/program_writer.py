"""A recorder's calls become a Program: its tensors become registers, weights by name, and constants.

Numbers that follow the batch are found by comparing two runs on different batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from nasplat.frontends.calls import dtype_name, tensors_of, unpack
from nasplat.frontends.recorder import Recorder
from nasplat.graph.program import Call, Constant, Program

BAKED = 1_000_000
"""Buffers that no state dict holds are kept in the program up to this many elements."""


def depends_on_batch(recorder: Recorder) -> bool:
    """Tell whether a run's calls hold numbers or constants that could follow the batch.

    Args:
        recorder: The recorder after the run.

    Returns:
        False only where the program is certain to fit every batch.
    """
    return any(
        func._overloadpacket.__name__ in _SHAPED
        or any(isinstance(t, Tensor) and recorder.snapshots.get(id(t)) is not None for t in args)
        for func, args, _, _ in recorder.calls or ()
    )


def is_same_program(recorder: Recorder, other: Recorder) -> bool:
    """Tell whether two runs made the same calls, arguments aside.

    Args:
        recorder: The recorder of the first run.
        other: The recorder of a run on another batch.

    Returns:
        True where the operators are the same, in the same order.
    """
    return [c[0] for c in recorder.calls or ()] == [c[0] for c in other.calls or ()]


_SHAPED = frozenset(
    "view reshape _unsafe_view expand repeat unflatten as_strided new_zeros new_ones new_empty new_full zeros ones "
    "full empty arange split split_with_sizes slice narrow cat repeat_interleave index embedding tile broadcast_to "
    "new_empty_strided".split()
)
"""Operators whose arguments are sizes or positions."""


class _Writer:
    """Turns the arguments and results of calls into data."""

    other: Recorder | None = None
    """The recorder of the run on another batch."""

    def __init__(self, recorder: Recorder, batch: int) -> None:
        self.recorder = recorder
        self.batch = batch
        self.register: dict[int, int] = {}
        self.constants: list[Constant] = []
        self.constant: dict[int, int] = {}
        self.fixed = ""
        """Why the program fits no other batch; '' where it does."""

    def new(self, tensor: Tensor) -> int:
        """The register of a tensor that is met for the first time."""
        number = self.register[id(tensor)] = len(self.register)
        return number

    def value(self, a: Any, b: Any) -> Any:
        """One argument as data; `b` is its counterpart in the other run, or `a` again."""
        r = self.recorder
        if isinstance(a, Tensor):
            return self._tensor(a, b)
        if isinstance(a, list | tuple):
            others = b if isinstance(b, list | tuple) and len(b) == len(a) else a
            if others is a and b is not a:
                self.fixed = self.fixed or "a list of arguments changes its length with the batch"
            return ("list", *(self.value(x, y) for x, y in zip(a, others, strict=True)))
        if isinstance(a, bool) or a is None or isinstance(a, str):
            return a
        if isinstance(a, int):
            if isinstance(b, int) and a != b:
                return ("batch", a - (b - a) * self.batch, b - a)
            return a
        if isinstance(a, float):
            return a
        if isinstance(a, complex):
            return ("complex", a.real, a.imag)
        if isinstance(a, torch.dtype):
            return ("dtype", dtype_name(a))
        if isinstance(a, torch.device):
            return ("device",)
        if isinstance(a, torch.memory_format):
            return ("format", str(a).removeprefix("torch."))
        if isinstance(a, torch.layout):
            return None
        r.tape.notes.setdefault(f"an argument of type {type(a).__name__} cannot be kept in a program")
        raise _Unkept(type(a).__name__)

    def _tensor(self, a: Tensor, b: Any) -> Any:
        """A tensor as a register, a weight by its name, or a constant."""
        r, parts = self.recorder, self.recorder.parts
        while id(a) in r.same:
            a = r.same[id(a)]
        if id(a) in self.register:
            return ("reg", self.register[id(a)])
        if id(a) in parts.names:
            return ("weight", parts.names[id(a)])
        buffer = parts.buffers.get(id(a))
        if buffer is not None and not (buffer in parts.unsaved and a.device.type == "cpu" and a.numel() <= BAKED):
            return ("weight", buffer)
        snapshot = r.snapshots.get(id(a), a)
        if snapshot.device.type == "meta":
            if snapshot.numel():
                raise _Unkept(f"a tensor {tuple(a.shape)} of unknown origin")
            snapshot = torch.empty(tuple(a.shape), dtype=a.dtype, device="cpu")
        if id(a) not in self.constant:
            other = snapshot
            if isinstance(b, Tensor) and self.other is not None:
                other = self.other.snapshots.get(id(b), b)
            self.constant[id(a)] = len(self.constants)
            self.constants.append(self._constant(snapshot, other))
        return ("const", self.constant[id(a)])

    def _constant(self, a: Tensor, b: Tensor) -> Constant:
        """A constant's values; where it grows with the batch, those of one sample and the axes to repeat."""
        tiled: list[int] = []
        if b is not a and b.device.type != "meta":
            if a.dim() != b.dim():
                self.fixed = self.fixed or "a constant changes its number of axes with the batch"
            else:
                for axis in [i for i in range(a.dim()) if a.shape[i] != b.shape[i]]:
                    size = b.shape[axis] - a.shape[axis]
                    if size * self.batch != a.shape[axis]:
                        self.fixed = self.fixed or "a constant grows with the batch in no simple way"
                        break
                    tiled.append(axis)
                    for part, times in ((a, self.batch), (b, self.batch + 1)):
                        repeats = [times if i == axis else 1 for i in range(a.dim())]
                        if not torch.equal(part.narrow(axis, 0, size).repeat(repeats), part):
                            self.fixed = self.fixed or "a constant's values change with the batch"
                    a, b = a.narrow(axis, 0, size), b.narrow(axis, 0, size)
                if a.shape != b.shape or not torch.equal(a, b):
                    self.fixed = self.fixed or "a constant's values change with the batch"
        plain = a.detach().float() if a.dtype == torch.bfloat16 else a.detach().resolve_conj()
        return Constant(np.array(plain.numpy()), dtype_name(a.dtype), tuple(tiled))


class _Unkept(Exception):
    """Something that cannot be written down as data."""


def write_program(recorder: Recorder, result: Any, other: Any, example: Any) -> Program | None:
    """Write the program of a recorded run.

    Args:
        recorder: The recorder after the run, which has kept its calls.
        result: What the module returned.
        other: (recorder, result) of a run on one more sample, the exception that run raised, or None where the batch
            plays no part.
        example: What the module was given.

    Returns:
        The program, or None where a call holds something that is no data (the recorder's notes then tell).
    """
    if recorder.unkept:
        recorder.tape.notes.setdefault(f"no program: {recorder.unkept}")
        return None
    calls = recorder.calls or []
    tensors = [t for t in tree_flatten(example)[0] if isinstance(t, Tensor)]
    writer = _Writer(recorder, tensors[0].shape[0] if tensors and tensors[0].dim() else 1)
    others: list[Any] = calls
    if isinstance(other, tuple):
        writer.other, others = other[0], other[0].calls
        if not is_same_program(recorder, other[0]):
            writer.fixed, others, writer.other = "other operations run on another batch", calls, None
    elif other is not None:
        writer.fixed = f"another batch raised: {str(other).splitlines()[0]}"
    inputs = tuple(writer.new(t) for t in recorder.inputs)
    try:
        written = tuple(_call(writer, mine, theirs) for mine, theirs in zip(calls, others, strict=True))
        outputs = _structure(unpack(result), writer)
    except _Unkept as err:
        recorder.tape.notes.setdefault(f"no program: {err}")
        return None
    return Program(inputs, written, outputs, tuple(writer.constants), writer.batch, writer.fixed)


def _call(writer: _Writer, mine: Any, theirs: Any) -> Call:
    """One call as data; `theirs` is its counterpart in the other run, or the same call again."""
    func, args, kwargs, made = mine
    _, args2, kwargs2, _ = theirs
    n = max(len(args), len(args2))  # a trailing argument that equals its default is not passed
    pairs = zip(_whole(func, args, n), _whole(func, args2, n), strict=True)
    arguments = tuple(writer.value(a, b) for a, b in pairs)
    by_name = tuple((k, writer.value(v, kwargs2.get(k, v))) for k, v in kwargs.items())
    results = tuple(
        writer.register[id(t)] if id(t) in writer.register else writer.new(t) for t in tensors_of((made,), {})
    )
    return Call(f"{func._schema.name.replace('::', '.')}.{func._overloadname}", arguments, by_name, results)


def _whole(func: Any, args: Any, n: int) -> tuple[Any, ...]:
    """Positional arguments up to the n-th, defaults filled in."""
    if len(args) == n:
        return args
    return (*args, *(a.default_value for a in func._schema.arguments[len(args) : n]))


def _structure(result: Any, writer: _Writer) -> Any:
    """What a network returned, every tensor replaced by where it is found."""
    if isinstance(result, dict):
        return {str(k): _structure(v, writer) for k, v in result.items()}
    if isinstance(result, list | tuple):
        return (
            type(result).__name__ if type(result) in {list, tuple} else "list",
            *(_structure(v, writer) for v in result),
        )
    if isinstance(result, Tensor):
        return writer.value(result, result)
    return ("plain", result) if isinstance(result, bool | int | float | str) else None
