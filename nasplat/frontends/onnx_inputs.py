"""Sizes of the inputs of an ONNX file: what the file fixes, what an example tells, and what has to be assumed.

A size that the file fixes cannot be changed by an example. Names of sizes mean equal sizes unless the example says
otherwise; placeholders of exporters ('?', 'unk', 'None') are no names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nasplat.errors import InputError
from nasplat.graph.columns import Shape

_PLACEHOLDER = re.compile(r"|\?+|\*+|-1|-|_+|unk|unknown|none|null|nan|any|dyn|dynamic|undefined", re.IGNORECASE)
"""What exporters write where a size has no name."""
_BATCH = re.compile(r"n|b|bs|bsz|batch.*|.*batch|.*batch_?size", re.IGNORECASE)
"""Names of the number of examples, which counts as one unless it is given."""


@dataclass(frozen=True)
class FileInputs:
    """The inputs of one file with the sizes to assume."""

    inputs: tuple[tuple[Any, Shape | None], ...]
    """(ONNX's description, shape) of every input; None for one that is no tensor or whose number of axes is unknown."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Values of named sizes."""
    notes: tuple[str, ...] = ()
    """What was assumed, and where the example contradicts names of sizes."""
    is_assumed: bool = False
    """Whether a size other than the number of examples was taken as 1 because nobody gave it."""


def file_inputs(model: Any, example: Any) -> FileInputs:
    """Find the sizes of the inputs of a model that are no initialisers.

    Args:
        model: ONNX's model, as it was read.
        example: A shape or tensor, or a tuple or list of them in the order of the inputs, that tells the sizes which
            the file leaves open; None, as a whole or for a size, takes 1.

    Returns:
        The inputs, and what had to be assumed about them.

    Raises:
        InputError: there is no input, or the example has other axes, other fixed sizes, or more inputs than the file.
    """
    weights = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in weights]
    if not inputs:
        raise InputError("expected an ONNX graph with an input, got none.\n  A network of constants computes nothing.")
    given = _shapes(example)
    if len(given) > len(inputs):
        names = ", ".join(repr(i.name) for i in inputs)
        raise InputError(
            f"expected an example of at most {len(inputs)} inputs ({names}), got {len(given)}.\n"
            "  Pass one shape per input, in this order."
        )
    notes: dict[str, None] = {}
    dims = [_dims(value) for value in inputs]
    wanted = [given[i] if i < len(given) else None for i in range(len(inputs))]
    sizes = _named(inputs, dims, wanted, notes)
    found: list[tuple[Any, Shape | None]] = []
    assumed = False
    for value, own, shape in zip(inputs, dims, wanted, strict=True):
        if own is None:
            if shape is None and value.type.HasField("tensor_type"):
                notes[f"input {value.name!r}: the file says nothing of its shape; pass an example input"] = None
            found.append((value, None if shape is None else tuple(s or 1 for s in shape)))
            continue
        filled, free = _filled(own, shape, sizes)
        if free:
            notes[
                f"input {value.name!r}: the free sizes {', '.join(free)} are assumed to be 1; pass an example input"
            ] = None
        assumed |= bool(free)
        found.append((value, filled))
    return FileInputs(tuple(found), sizes, tuple(notes), assumed)


def _shapes(example: Any) -> list[Sequence[int | None] | None]:
    """The shapes in an example, one per input; None for an input of which it says nothing."""
    if example is None:
        return []
    listed = [example]
    if not hasattr(example, "shape"):
        if not isinstance(example, tuple | list):
            raise InputError(
                f"expected a shape, a tensor or a tuple of them, got {type(example).__name__}.\n  Pass (1, 3, 64, 64)."
            )
        if any(not _is_size(part) for part in example):
            listed = list(example)
    found: list[Sequence[int | None] | None] = []
    for part in listed:
        shape = None if part is None else tuple(getattr(part, "shape", part))
        if shape is not None and not all(_is_size(s) and (s is None or int(s) > 0) for s in shape):
            raise InputError(f"expected sizes of at least 1, got shape {shape}.\n  Pass positive whole numbers.")
        found.append(shape if shape is None else tuple(None if s is None else int(s) for s in shape))
    return found


def _is_size(value: Any) -> bool:
    """Whether a value is one size of a shape, or leaves one open."""
    return value is None or (
        hasattr(value, "__index__") and not isinstance(value, bool) and not hasattr(value, "shape")
    )


def _dims(value: Any) -> list[int | str] | None:
    """Sizes of an input as the file has them: a number where it is fixed, a name or '' where it is free."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    found: list[int | str] = []
    for dim in value.type.tensor_type.shape.dim:
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            found.append(int(dim.dim_value))
        else:
            found.append("" if _PLACEHOLDER.fullmatch(dim.dim_param.strip()) else dim.dim_param)
    return found


def _named(
    inputs: Sequence[Any],
    dims: Sequence[list[int | str] | None],
    wanted: Sequence[Sequence[int | None] | None],
    notes: dict[str, None],
) -> dict[str, int]:
    """Values that an example gives to named sizes; what it contradicts is refused, or noted where only names do."""
    sizes: dict[str, int] = {}
    for value, own, shape in zip(inputs, dims, wanted, strict=True):
        if own is None or shape is None:
            continue
        if len(own) != len(shape):
            raise InputError(
                f"input {value.name!r} has {len(own)} axes, got shape {tuple(shape)}.\n  Pass a shape that fits."
            )
        for axis, (size, asked) in enumerate(zip(own, shape, strict=True)):
            if isinstance(size, int):
                if asked is not None and size != asked:
                    raise InputError(
                        f"input {value.name!r} has the fixed size {size} at axis {axis}, got {asked} (shape "
                        f"{tuple(shape)}).\n  Pass {size} there, or export the network with this axis dynamic."
                    )
            elif size and asked is not None and sizes.setdefault(size, asked) != asked:
                notes[
                    f"input {value.name!r}: sizes named {size!r} are {sizes[size]} and {asked} in the example; "
                    "both are taken as they were given"
                ] = None
    return sizes


def _filled(own: list[int | str], shape: Sequence[int | None] | None, sizes: dict[str, int]) -> tuple[Shape, list[str]]:
    """Every size of an input, and names of those that are assumed; a first axis that counts examples is one.

    Names that are assumed to be 1 are added to `sizes`.
    """
    filled, free = [], []
    for axis, size in enumerate(own):
        asked = shape[axis] if shape is not None else None
        if isinstance(size, int):
            filled.append(size)
        elif asked is not None:
            filled.append(asked)
        elif size in sizes:
            filled.append(sizes[size])
        else:
            filled.append(1)
            if size:
                sizes[size] = 1
            if not (axis == 0 and len(own) > 1 and (not size or _BATCH.fullmatch(size))):
                free.append(repr(size) if size else f"of axis {axis}")
    return tuple(filled), free
