"""Whatever holds numbers becomes an array, and the inputs of a task become tensors that networks take.

Arrays of numpy, tensors, lists, masked and mapped arrays, and objects that have `to_numpy`, as those of pandas, are
taken; what holds no number, no text or no one shape is refused by split. What was decided is said in notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasplat.errors import TaskError
from nasplat.task.bundle import Bundle

COLOURS = (1, 3, 4)
"""Numbers of channels that tell images (n, H, W, C) from (n, C, H, W)."""
SMALLEST_SIDE = 5
"""Sides, in pixels, from which on an array's last axis can be told to be its colours."""
FAINT = 64
"""Largest byte below which dividing by 255 leaves little; a note says so."""


def array_of(value: Any, where: str) -> Tensor | np.ndarray[Any, Any]:
    """Take what a caller gave as an array of numbers, truth values or text.

    Args:
        value: Array, tensor, list of numbers, of text or of arrays of one shape, or an object with `to_numpy`.
        where: What it is, for messages, such as "inputs of split 'train' of task 'mine'".

    Returns:
        The tensor itself, without its history; else a numpy array of a kind that torch knows, or of text.

    Raises:
        TaskError: values are missing, masked, of mixed kinds, or of different shapes.

    Example:
        >>> array_of([[1, 2], [3, 4]], "inputs").shape
        (2, 2)
    """
    if isinstance(value, Tensor):
        value = value.detach()
        if value.is_complex() or not value.dim():
            raise TaskError(
                f"{where} expected an array of real numbers, got {value.dtype} of shape {tuple(value.shape)}.\n"
                "  Convert it, a row an example."
            )
        value = value.dequantize() if value.is_quantized else value
        return value if value.layout == torch.strided else value.to_dense()
    if isinstance(value, np.ma.MaskedArray):
        masked = np.flatnonzero(np.ma.getmaskarray(value).any(tuple(range(1, value.ndim)))) if value.ndim else [0]
        if len(masked):
            raise TaskError(
                f"{where} expected a value everywhere, got {len(masked)} rows with masked ones, the first is row "
                f"{masked[0]}.\n  Leave these rows out, or fill them: array.filled(…)."
            )
        value = value.data
    if isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
        value = [v.detach().cpu().numpy() if isinstance(v, Tensor) else v for v in value]
    convert: Any = getattr(value, "to_numpy", None)
    value = value if convert is None else convert()
    try:
        found = np.asarray(value)
    except Exception as err:  # whatever an object's own conversion raises
        raise TaskError(
            f"{where} expected an array, got {type(value).__name__} of parts that differ in shape or are none "
            f"({' '.join(str(err).split())[:120]}).\n  Resize or pad the examples to one shape."
        ) from err
    if found.ndim and (found.dtype.kind == "O" or (found.dtype.kind == "U" and isinstance(value, list | tuple))):
        found = _of_one_kind(found if isinstance(value, np.ndarray) else value, where)
    if found.dtype.kind == "S":
        found = np.char.decode(found, "utf-8", "backslashreplace")
    if found.dtype.kind not in "biufU" or not found.ndim:
        kind = f"{value!r:.40}" if not found.ndim else f"values of type {found.dtype}"
        raise TaskError(
            f"{where} expected an array of numbers, got {kind}.\n  Convert it to numbers, a row an example."
        )
    return found if found.dtype.kind == "U" else _known_to_torch(found, where)


def _of_one_kind(values: Any, where: str) -> np.ndarray[Any, Any]:
    """An array of objects, or a list with text in it, whose elements all are numbers, all text, or all arrays.

    numpy by itself makes text of whatever stands beside text: a missing value would become the class 'nan'.
    """
    flat = list(values.ravel()) if isinstance(values, np.ndarray) else list(values)
    shape = values.shape if isinstance(values, np.ndarray) else (len(flat),)
    if flat and all(isinstance(v, str | bytes) for v in flat):
        return np.array(
            [v.decode("utf-8", "backslashreplace") if isinstance(v, bytes) else str(v) for v in flat]
        ).reshape(shape)
    kinds = {bool if isinstance(v, bool | np.bool_) else type(v) for v in flat}
    if flat and all(issubclass(k, Real | Decimal) for k in kinds) and (bool not in kinds or len(kinds) == 1):
        is_whole = all(issubclass(k, Integral) for k in kinds)
        return np.array([v if is_whole else float(v) for v in flat]).reshape(shape)
    if flat and all(hasattr(v, "__len__") and not isinstance(v, str | bytes) for v in flat):
        whole = [array_of(v, where) for v in flat]
        shapes = sorted({tuple(v.shape) for v in whole})
        if len(shapes) > 1:
            raise TaskError(
                f"{where} expected examples of one shape, got {shapes[0]} and {shapes[-1]}.\n  Resize or pad them."
            )
        return np.stack([np.asarray(v) for v in whole]).reshape(*shape, *shapes[0])
    usual = str if any(isinstance(v, str) for v in flat) else Real
    place = next((i for i, v in enumerate(flat) if not isinstance(v, usual)), 0)
    row = place // max(1, len(flat) // max(1, shape[0]))
    raise TaskError(
        f"{where} expected values of one kind, got {flat[place] if flat else None!r} in row {row}"
        f"{' beside text' if usual is str else ''}.\n  Leave out rows whose value is missing, and convert the others."
    )


def _known_to_torch(found: np.ndarray[Any, Any], where: str) -> np.ndarray[Any, Any]:
    """The same numbers in a type, an order of bytes and a layout that torch takes."""
    if found.dtype.kind == "u" and found.dtype != np.uint8:
        if found.size and int(found.max()) > np.iinfo(np.int64).max:
            raise TaskError(f"{where} expected numbers below 2⁶³, got {int(found.max())}.\n  Number them anew.")
        found = found.astype(np.int64)
    if found.dtype.kind == "f" and found.dtype.itemsize > 8:
        found = found.astype(np.float64)
    found = np.ascontiguousarray(found, found.dtype.newbyteorder("="))
    return found if found.flags.writeable else found.copy()


def inputs_of(values: Mapping[str, Any], task: str) -> tuple[dict[str, Any], list[str]]:
    """Make the inputs of every split tensors of one kind.

    Bytes are divided by 255. Whole numbers of shape (n,) or (n, length), none below 0, are tokens and stay whole;
    others become numbers with fractions, as do truth values. Images whose colours come last are turned round.

    Args:
        values: What was given for each split, by its name; a `Bundle` is not turned round or divided.
        task: Name of the task, for messages.

    Returns:
        Tensors of shape (n, …) by split, int64 or of torch's default type, or bundles of them; and what was decided, a
        sentence each.

    Raises:
        TaskError: values are missing or infinite, no numbers, or of different kinds in different splits.

    Example:
        >>> found, notes = inputs_of({"train": [[3, 1], [0, 2]]}, "mine")
        >>> found["train"].dtype, notes
        (torch.int64, ['inputs are whole numbers from 0 to 3 and stay so, as tokens; give floats for quantities'])
    """
    places = {name: f"inputs of split {name!r} of task {task!r}" for name in values}
    if any(isinstance(value, Bundle) for value in values.values()):
        return {name: _bundle_of(value, places[name]) for name, value in values.items()}, []
    found = dict[str, Tensor]()
    for name, value in values.items():
        array = array_of(value, places[name])
        if not len(array):
            raise TaskError(
                f"split {name!r} of task {task!r} expected as many targets as inputs, at least one; got 0 inputs.\n"
                "  Check the arrays."
            )
        if 0 in array.shape:
            raise TaskError(
                f"{places[name]} expected numbers in every example, got {tuple(array.shape)}.\n  Check the arrays."
            )
        if isinstance(array, np.ndarray):
            if array.dtype.kind == "U":
                raise TaskError(
                    f"{places[name]} expected numbers, got text such as {str(array.flat[0])!r}.\n"
                    "  Turn text into token numbers, and pictures into arrays, first."
                )
            array = torch.from_numpy(array)
        found[name] = array
    kinds = {name: _kind(x) for name, x in found.items()}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{kind} in {name!r}" for name, kind in kinds.items())
        raise TaskError(
            f"inputs of task {task!r} expected one kind of numbers in all splits, got {listed}.\n"
            "  Convert them alike: bytes are divided by 255, others are not."
        )
    notes = list[str]()
    _colours_first(found, notes)
    return _converted(found, next(iter(kinds.values())), places, notes), notes


def _bundle_of(value: Any, where: str) -> Bundle:
    """A bundle of numbers with fractions of torch's default type, int64 and truth values, whose numbers are finite."""
    if not isinstance(value, Bundle):
        raise TaskError(f"{where} expected a Bundle as in other splits, got {type(value).__name__}.\n  Pass one.")
    if not value.numel():
        raise TaskError(f"{where} expected numbers in every example, got {value}.\n  Check the arrays.")
    parts = [array_of(part, where) for part in value.parts]
    made = list[Tensor]()
    for part in parts:
        x = part if isinstance(part, Tensor) else torch.from_numpy(part)
        if x.is_floating_point():
            x = x.to(torch.get_default_dtype())
            _refuse_missing(x, where)
        made.append(x if x.dtype == torch.bool or x.is_floating_point() else x.long())
    return Bundle(*made)


def _kind(x: Tensor) -> str:
    if x.is_floating_point():
        return "fractions"
    return {torch.uint8: "bytes", torch.bool: "truth values"}.get(x.dtype, "whole numbers")


def _colours_first(found: dict[str, Tensor], notes: list[str]) -> None:
    """Move the colours of images (n, H, W, C) to the front, where the shape leaves no doubt."""
    shapes = [tuple(x.shape) for x in found.values()]
    if all(
        len(s) == 4
        and s[3] in COLOURS
        and s[1] not in COLOURS
        and min(s[1:3]) >= SMALLEST_SIDE
        and (s[3] > 1 or s[1] == s[2])
        for s in shapes
    ):
        notes.append(f"inputs of shape {shapes[0][1:]} were taken as images with their channels last, and turned round")
        for name, x in found.items():
            found[name] = x.permute(0, 3, 1, 2).contiguous()


def _converted(found: dict[str, Tensor], kind: str, places: Mapping[str, str], notes: list[str]) -> dict[str, Tensor]:
    """Numbers of one type: int64 for tokens, else torch's default."""
    filled = [x for x in found.values() if x.numel()]
    least, largest = (int(min(x.min() for x in filled)), int(max(x.max() for x in filled))) if filled and kind in {
        "bytes", "whole numbers"} else (0, 0)  # fmt: skip
    axes = max(x.dim() for x in found.values())
    if kind == "whole numbers" and axes <= 2 and least >= 0:
        notes.append(
            f"inputs are whole numbers from {least} to {largest} and stay so, as tokens; give floats for quantities"
        )
        return {name: x.long() for name, x in found.items()}
    if kind == "whole numbers":
        why = "of which some are below 0" if axes <= 2 else f"of shape {tuple(next(iter(found.values())).shape[1:])}"
        notes.append(f"inputs are whole numbers {why}: taken as quantities from {least} to {largest}, not scaled")
    if kind == "bytes" and (largest < FAINT or axes <= 2):
        notes.append(f"inputs are bytes up to {largest}, and were divided by 255; give int64 for tokens, or floats")
    made = dict[str, Tensor]()
    for name, x in found.items():
        made[name] = x.to(torch.get_default_dtype())
        if kind == "bytes":
            made[name] = made[name] / 255.0
        if kind == "fractions":
            _refuse_missing(made[name], places[name])
    return made


def _refuse_missing(x: Tensor, where: str) -> None:
    """Refuse values that are not finite: one of them makes every weight NaN.

    Raises:
        TaskError: there are some.
    """
    if torch.isfinite(x.sum()):  # one pass without a copy; a sum that overflows is looked at
        return
    rows = (~torch.isfinite(x)).flatten(1).any(1).nonzero().flatten() if x.dim() > 1 else (~torch.isfinite(x)).nonzero()
    if len(rows):
        row = int(rows.flatten()[0])
        bad = x[row].flatten()[~torch.isfinite(x[row].flatten())][0].item()
        raise TaskError(
            f"{where} expected finite numbers, got {bad} in row {row}, and not finite ones in {len(rows)} of "
            f"{len(x)} rows.\n  Leave these rows out, or fill in the missing values."
        )


def joined(batches: Sequence[Any], where: str) -> Any:
    """Put the batches of a loader behind each other.

    Args:
        batches: Arrays of shape (n, …), lists, or bundles, one a batch.
        where: What they are, for messages.

    Returns:
        One array of shape (all n, …), or one bundle.

    Raises:
        TaskError: the batches differ in their shapes.
    """
    if batches and all(isinstance(b, Bundle) and len(b.parts) == len(batches[0].parts) for b in batches):
        return Bundle(*(joined(parts, where) for parts in zip(*(b.parts for b in batches), strict=True)))
    found = [array_of(b, where) for b in batches]
    shapes = {tuple(b.shape[1:]) for b in found}
    if len(shapes) > 1:
        raise TaskError(
            f"{where} expected batches of examples of one shape, got {sorted(shapes)[0]} and {sorted(shapes)[-1]}.\n"
            "  Resize or pad the examples."
        )
    if all(isinstance(b, Tensor) for b in found):
        return torch.cat(found)  # type: ignore[arg-type]
    return np.concatenate([b.cpu().numpy() if isinstance(b, Tensor) else b for b in found])
