"""Labels as people keep them become class numbers from 0, or are refused by split, row and value.

Columns (n, 1), rows with a one for the class, names, 1 … K, -1 and 1, and 255 for "ignore" each have one meaning;
where numbers can mean two things, nothing is guessed: the error names both, and `classes` decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasplat.errors import TaskError
from nasplat.task.arrays import array_of

IGNORED = -100
"""Class number of places that neither the loss nor the accuracy counts; it is torch's own."""
VOID = 255
"""Byte by which segmentation maps and lists mark what has no class."""
NO_NAMES = ("", "nan", "<na>")
"""Text, in small letters, that missing values become on their way."""
LISTED = 10
"""Names or numbers that a sentence lists at most."""
MANY = 100
"""Classes from which on one for every second example looks like a quantity."""


@dataclass
class Labels:
    """Class numbers of every split, on their way from what was given to numbers from 0."""

    task: str
    """Name of the task, for messages."""
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Class numbers of shape (n, …) by split, int64; or probabilities of shape (n, classes)."""
    classes: int | None = None
    """Number of classes where it is known otherwise than by the largest number."""
    names: tuple[str, ...] = ()
    """Names of the classes, or the numbers that they had; empty where the numbers were kept."""
    notes: list[str] = field(default_factory=list)
    """What was decided, a sentence each."""

    def place(self, split: str) -> str:
        """Say which targets are meant.

        Args:
            split: Name of a split.

        Returns:
            The beginning of a message.
        """
        return f"targets of split {split!r} of task {self.task!r}"

    def first(self, wrong: Mapping[str, NDArray[np.bool_]]) -> str:
        """Say where the first of some values is.

        Args:
            wrong: Whether a value is meant, for the values of each split.

        Returns:
            Words with split, value and row.
        """
        split = next(name for name, found in wrong.items() if found.any())
        where = np.unravel_index(int(np.argmax(wrong[split])), wrong[split].shape)
        return f"{self.values[split][where].item()!r} in row {where[0]} of split {split!r}"

    def whole(self) -> dict[str, NDArray[np.int64]]:
        """Find the splits whose targets are class numbers.

        Returns:
            Class numbers by split; probabilities are left out.
        """
        return {name: y for name, y in self.values.items() if y.dtype.kind != "f"}

    def unlabelled(self) -> dict[str, NDArray[np.bool_]]:
        """Find examples that have no class anywhere, and note how many are left out for it.

        Returns:
            Whether an example is to be left out, shape (n,), for splits in which there are such.
        """
        found = {}
        for name, y in self.whole().items():
            empty = (y == IGNORED).reshape(len(y), -1).all(1) if y.size else np.zeros(len(y), bool)
            if empty.any():
                found[name] = empty
                self.notes.append(f"{int(empty.sum())} examples of {name!r} have no class, and were left out")
        return found


def class_numbers(
    given: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], task: str, classes: int | None = None
) -> Labels:
    """Read targets as classes.

    Args:
        given: Targets of each split, by its name.
        shapes: Shape of one input of each split, which tells maps from rows.
        task: Name of the task, for messages.
        classes: Number of classes; numbers are kept then, and must lie below it. None reads it off the targets.

    Returns:
        Class numbers from 0, int64, with `IGNORED` where nothing counts; or probabilities of classes, of shape
        (n, classes), as numpy arrays; with what was decided.

    Raises:
        TaskError: a value is missing or no class, or the numbers can mean two things.

    Example:
        >>> found = class_numbers({"train": ["cat", "dog", "cat"]}, {"train": (3, 8, 8)}, "pets")
        >>> found.values["train"].tolist(), found.names
        ([0, 1, 0], ('cat', 'dog'))
    """
    if classes is not None and (not isinstance(classes, Integral) or isinstance(classes, bool) or classes < 1):
        raise TaskError(
            f"task {task!r} expected classes as a whole number from 1, got {classes!r}.\n  Write classes=10."
        )
    labels = Labels(task, classes=None if classes is None else int(classes))
    raw = {name: _on_host(array_of(y, labels.place(name))) for name, y in given.items()}
    texts = {name: y.dtype.kind == "U" for name, y in raw.items()}
    if any(texts.values()):
        raw = _named(raw, labels)
    elif all(y.dtype.kind == "b" for y in raw.values()):
        labels.notes.append("truth values became classes: False 0, True 1")
    for name, y in raw.items():
        y = _without_single_axes(y.astype(np.int64) if y.dtype.kind == "b" else y, tuple(shapes[name]))
        labels.values[name] = _numbers_of(y, tuple(shapes[name]), labels, name)
    for name, y in labels.values.items():
        if y.dtype.kind == "f" and y.ndim != 2:
            labels.values[name] = _whole(y, labels, name)
    _number(labels)
    return labels


def _on_host(y: Tensor | NDArray[Any]) -> NDArray[Any]:
    if isinstance(y, Tensor):
        return (y.float() if y.dtype in {torch.bfloat16, torch.float16} else y).cpu().numpy()
    return y


def _named(raw: dict[str, NDArray[Any]], labels: Labels) -> dict[str, NDArray[Any]]:
    """Numbers of named classes, in the order of the sorted names; text that holds whole numbers counts as these."""
    for name, y in raw.items():
        if y.dtype.kind != "U":
            kind = "text" if name != "train" else "numbers"
            raise TaskError(
                f"{labels.place(name)} expected {kind} as in the other splits, got {y.dtype}.\n  Use one kind."
            )
        blank = np.isin(np.char.lower(np.char.strip(y)), NO_NAMES)
        if blank.any():
            row = int(np.argwhere(blank)[0][0])
            raise TaskError(
                f"{labels.place(name)} expected names of classes, got {y[blank][0].item()!r} in row {row}.\n"
                "  Leave out the rows without a label."
            )
    known = np.unique(np.concatenate([np.unique(np.char.strip(y)) for y in raw.values()]))
    try:
        if not all(k.lstrip("+-").isascii() and k.lstrip("+-").isdigit() for k in known.tolist()):
            raise ValueError("names")
        return {name: np.char.strip(y).astype(np.int64) for name, y in raw.items()}
    except (ValueError, OverflowError):
        pass
    labels.names = tuple(known.tolist())
    if labels.classes is not None and labels.classes != len(known):
        raise TaskError(
            f"targets of task {labels.task!r} expected {labels.classes} classes, got {len(known)} names: "
            f"{_few(known.tolist())}.\n  Leave classes out: names number themselves."
        )
    labels.notes.append(f"classes are numbered in the order of their names: {_few(labels.names)}")
    return {name: np.searchsorted(known, np.char.strip(y)) for name, y in raw.items()}


def _without_single_axes(y: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Targets (n, 1) as (n,), and maps (n, 1, H, W) or (n, H, W, 1) of images (C, H, W) as (n, H, W)."""
    if y.ndim > 1 and y.size == len(y):
        return y.reshape(len(y))
    if y.ndim == 4 and len(shape) == 3 and y.shape[1:] in {(1, *shape[1:]), (*shape[1:], 1)}:
        return y.reshape(len(y), *shape[1:])
    return y


def _numbers_of(y: NDArray[Any], shape: tuple[int, ...], labels: Labels, name: str) -> NDArray[Any]:
    """Class numbers of rows or maps that hold a one for the class; other targets as they are."""
    if y.ndim < 2 or not y.size:
        return y
    axis, is_place = _class_axis(y, shape)
    if axis is None:
        return y
    count, total = y.shape[axis], y.sum(axis, dtype=np.float64)
    is_binary = bool(((y == 0) | (y == 1)).all())
    if is_binary and bool((total == 1).all()):
        if is_place:
            raise TaskError(
                f"{labels.place(name)} expected class numbers, got rows of {count} with a single 1 each, which can be "
                f"one class an example or one of two classes at each of {count} places.\n"
                "  Give y.argmax(1) for the first; for the second make Split objects, and a Task of these."
            )
        _fix_classes(count, labels, name, "rows with a one for the class")
        labels.notes.append(f"targets of {name!r} that hold a one for the class, of {count}, became class numbers")
        return y.argmax(axis)
    if y.ndim == 2 and y.dtype.kind == "f" and bool((y >= 0).all()) and bool((abs(total - 1) < 1e-3).all()):
        _fix_classes(count, labels, name, "probabilities of classes")
        labels.notes.append(f"targets of {name!r} are probabilities of {count} classes; accuracy counts the likeliest")
        return y
    if y.ndim == 2 and is_binary and not is_place:
        row = int(np.argmax(total != 1))
        raise TaskError(
            f"{labels.place(name)} expected one class an example, got {int(total[row])} ones in row {row}.\n"
            "  For several labels of an example pass floats, loss=F.binary_cross_entropy_with_logits and a metric."
        )
    if y.ndim == 2 and y.dtype.kind == "f":
        raise TaskError(
            f"{labels.place(name)} expected one class an example, got {count} numbers, {y[0, 0].item():g} the first.\n"
            "  For numbers to be predicted pass a loss and a metric, such as loss=F.mse_loss and "
            "metric=nasplat.task.judging.distance."
        )
    return y


def _class_axis(y: NDArray[Any], shape: tuple[int, ...]) -> tuple[int | None, bool]:
    """Axis along which targets may hold a one for the class; and whether it may be an axis of places too."""
    if y.ndim == 2:
        return 1, shape[-1:] == y.shape[1:] and len(shape) <= 2 and y.dtype.kind != "f"
    if y.ndim == 4 and len(shape) == 3:
        return (1 if y.shape[2:] == shape[1:] else 3 if y.shape[1:3] == shape[1:] else None), False
    return None, False


def _fix_classes(count: int, labels: Labels, name: str, what: str) -> None:
    if labels.classes not in (None, count):
        raise TaskError(
            f"{labels.place(name)} expected {labels.classes} classes, got {what} of {count}.\n  Use one number."
        )
    labels.classes = count


def _whole(y: NDArray[Any], labels: Labels, name: str) -> NDArray[np.int64]:
    """Whole numbers that were stored as fractions."""
    wrong = ~(np.isfinite(y) & (y == np.floor(y)) & (abs(y) < 2**53))
    if wrong.any():
        labels.values[name] = y
        missing = not np.isfinite(y[wrong]).all()
        raise TaskError(
            f"{labels.place(name)} expected class numbers, got {labels.first({name: wrong})}, and others that are none "
            f"in {int(wrong.reshape(len(y), -1).any(1).sum())} rows.\n"
            + (
                "  Leave out the rows without a label."
                if missing
                else "  For numbers to be predicted pass a loss and a metric, such as loss=F.mse_loss and "
                "metric=nasplat.task.judging.distance."
            )
        )
    return y.astype(np.int64)


# -- numbering ---------------------------------------------------------------------------------------------------------


def _number(labels: Labels) -> None:
    """Number classes from 0, mark what is ignored, and say what is odd.

    Raises:
        TaskError: the numbers can mean two things, or nothing has a class.
    """
    for name, y in labels.whole().items():
        labels.values[name] = y.astype(np.int64)
    found = labels.whole()
    kinds = {name: _distinct(y) for name, y in found.items()}
    known = sorted(set().union(*kinds.values()) - {IGNORED})
    if found and not known:
        raise TaskError(f"targets of task {labels.task!r} expected classes, got {IGNORED} alone.\n  Check the labels.")
    if labels.classes is not None:
        _keep(labels, known)
    elif not labels.names:
        _renumber(labels, known)
    if labels.classes is not None and not labels.names:
        labels.names = tuple(map(str, range(labels.classes)))
    kinds = {name: _distinct(y) - {IGNORED} for name, y in labels.whole().items()}
    _remark(labels, kinds)


def _distinct(y: NDArray[Any]) -> set[int]:
    """Different numbers; counted where they are small, which takes one pass over large maps."""
    if y.size and y.min() >= 0 and y.max() < 2**16:
        return set(np.bincount(y.ravel()).nonzero()[0].tolist())
    return set(np.unique(y).tolist())


def _keep(labels: Labels, known: list[int]) -> None:
    """Numbers as they are, all below the number of classes; beyond it stands what is ignored alone."""
    classes = labels.classes or 0
    if VOID in known and classes <= VOID:
        _ignore(labels, VOID)
    wrong = {name: (y != IGNORED) & ((y < 0) | (y >= classes)) for name, y in labels.whole().items()}
    if any(w.any() for w in wrong.values()):
        raise TaskError(
            f"targets of task {labels.task!r} expected numbers from 0 to {classes - 1}, got {labels.first(wrong)}.\n"
            f"  Number the classes from 0; {IGNORED} marks what has none."
        )


def _renumber(labels: Labels, known: list[int]) -> None:
    """Numbers from 0, where it is clear which they are."""
    if known in ([-1, 1], [0, VOID]):
        _replace(labels, known)
        return
    if known and known[0] < 0:
        wrong = {name: (y < 0) & (y != IGNORED) for name, y in labels.whole().items()}
        raise TaskError(
            f"targets of task {labels.task!r} expected class numbers from 0, got {labels.first(wrong)}.\n  Where that "
            f"marks what has no class, leave it out or write {IGNORED}; else number classes from 0: "
            "np.unique(y, return_inverse=True)[1]."
        )
    rest = known[:-1]
    if len(rest) > 1 and known[-1] == VOID and rest[0] in (0, 1) and rest == list(range(rest[0], rest[-1] + 1)):
        if rest[-1] < VOID - 1:  # else it is the last of 256 classes
            _ignore(labels, VOID)
            known = rest
    absent = known[-1] + 1 - len(known) if known else 0
    if len(known) > 1 and known == list(range(1, len(known) + 1)):
        _replace(labels, known)
    elif known != [1] and absent and (known[0] or absent >= len(known)):
        _refuse_gaps(labels, known)


def _refuse_gaps(labels: Labels, known: list[int]) -> None:
    raise TaskError(
        f"targets of task {labels.task!r} expected class numbers from 0 without large gaps, got {len(known)} different "
        f"ones from {known[0]} to {known[-1]}: {_few(known)}.\n  To keep them pass classes={known[-1] + 1} (to "
        "Task.from_arrays, or as ?classes=); to number them anew give np.unique(y, return_inverse=True)[1]."
    )


def _replace(labels: Labels, known: list[int]) -> None:
    """Number the known classes in their order; what is ignored stays."""
    for name, y in labels.whole().items():
        labels.values[name] = np.where(y == IGNORED, IGNORED, np.searchsorted(known, y))
    labels.names = tuple(map(str, known))
    labels.notes.append(
        f"class numbers {_few(known)} became 0 to {len(known) - 1}; pass classes={known[-1] + 1} to keep them"
        if known[0] >= 0
        else f"class numbers {_few(known)} became 0 and 1"
    )


def _ignore(labels: Labels, number: int) -> None:
    count = 0
    for name, y in labels.whole().items():
        is_void = y == number
        count += int(is_void.sum())
        labels.values[name] = np.where(is_void, IGNORED, y)
    labels.notes.append(
        f"{count} targets are {number}, which was taken as 'no class': neither loss nor accuracy counts them"
    )


def _remark(labels: Labels, kinds: Mapping[str, set[int]]) -> None:
    """Say which classes cannot be learned or judged, and what looks like no classes."""
    known = set().union(*kinds.values())
    if not known or len(kinds) < len(labels.values):
        return
    count = labels.classes or len(labels.names) or max(known) + 1

    def called(numbers: set[int]) -> str:
        return _few([labels.names[i] if labels.names else i for i in sorted(numbers)])

    if len(known) == 1:
        labels.notes.append(f"all targets are of class {called(known)}: every network that says so is right")
    unseen = known - kinds.get("train", known)
    if unseen:
        labels.notes.append(f"no training example has class {called(unseen)}, of which others are judged")
    empty = set(range(count)) - known
    if empty and count <= 2**16:
        labels.notes.append(f"no example has class {called(empty)}, of {count}")
    if len(known) >= MANY and 2 * len(known) > len(next(iter(labels.whole().values()))):
        labels.notes.append(
            f"{len(known)} classes are many for so few examples; for numbers to be predicted pass a loss and a metric"
        )


def _few(values: Sequence[Any]) -> str:
    words = ", ".join(map(str, values[:LISTED]))
    return f"{words}, … ({len(values)} in all)" if len(values) > LISTED else words


def free_numbers(given: Mapping[str, Any], task: str) -> tuple[dict[str, Tensor], list[str]]:
    """Take targets whose meaning a loss and a metric of the caller's own know.

    Args:
        given: Targets of each split, by its name.
        task: Name of the task, for messages.

    Returns:
        Tensors by split: whole numbers as int64, others of torch's default type; and what was noticed.

    Raises:
        TaskError: targets are no numbers.

    Example:
        >>> free_numbers({"train": [0.5, 1.5]}, "mine")[0]["train"].dtype
        torch.float32
    """
    found, notes = dict[str, Tensor](), list[str]()
    for name, y in given.items():
        array = array_of(y, f"targets of split {name!r} of task {task!r}")
        if isinstance(array, np.ndarray):
            if array.dtype.kind == "U":
                raise TaskError(
                    f"targets of split {name!r} of task {task!r} expected numbers, got text such as "
                    f"{str(array.flat[0])!r}.\n  Number the classes from 0."
                )
            array = torch.from_numpy(array)
        found[name] = array
    kind = torch.get_default_dtype() if any(y.is_floating_point() for y in found.values()) else torch.int64
    for name, y in found.items():
        found[name] = y.to(kind)
        odd = int((~torch.isfinite(found[name])).sum())
        if odd:
            notes.append(
                f"{odd} of {y.numel()} targets of {name!r} are not finite: loss and metric must leave them out"
            )
    return found, notes
