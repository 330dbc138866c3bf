"""Labelled networks become what can be learnt: finite labels, one row a network, and groups that no split parts.

Several rows of one network, such as those of several seeds, become one with the mean of their labels: what is learnt,
held out and promised is the mean of as many trainings as the table has of a network. Networks of one function keep
their own rows, since they are written and cost differently, but stand on one side of every split.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import LabelWarning, PredictorError
from nasplat.features.twins import structure_key
from nasplat.features.view import View
from nasplat.tables.splits import hold_out, together

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Lessons:
    """Distinct networks with their labels."""

    views: list[View]
    """View of each network."""
    labels: Matrix
    """Mean label of each, shape (n,)."""
    groups: list[str]
    """Equal for networks of one function."""
    rows: list[list[int]]
    """Numbers of the labelled rows of each network, ascending."""

    def hold_out(self, least: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Hold networks out that nothing is learnt from, all of a function together.

        Args:
            least: Smallest number of networks to hold out.
            rng: Source of their order.

        Returns:
            Numbers of the networks held out, and of those that are learnt.

        Raises:
            PredictorError: the networks compute too few different functions.
        """
        held, learnt = hold_out(self.groups, least, rng)
        if not len(learnt):
            raise PredictorError(
                f"expected networks of more functions, got {len(set(self.groups))} in {len(self.views)} networks: "
                f"{least} are held out, and none is left to learn from.\n  Label networks that differ in what they "
                "compute."
            )
        return held, learnt


def lessons(
    views: Sequence[View],
    labels: Sequence[Any],
    least: int,
    most: int | None = None,
    groups: Sequence[str | None] | None = None,
) -> Lessons:
    """Prepare labelled networks for learning.

    Args:
        views: View of the network of each row.
        labels: Label of each row; None, nan and infinity mean that there is none, and are counted in a warning.
        least: Smallest number of distinct networks that can be learnt from.
        most: Largest number of them; None for no limit.
        groups: Name of each row's function where one is known, such as `Architecture.network_key`.

    Returns:
        The distinct networks in the order of their first rows.

    Raises:
        PredictorError: not one label per row, a label that is no number, too few or too many networks with a finite
            label, or labels that are all equal.
    """
    y = numbers(labels)
    finite = np.isfinite(y) if len(y) == len(views) else np.zeros(0, bool)
    found, keys = _networks([v for v, is_known in zip(views, finite.tolist(), strict=False) if is_known])
    number = np.flatnonzero(finite)
    counted = f"{len(views)} and {len(y)}"
    if len(found) < len(y):
        counted += f" ({len(found)} networks with a finite label)"
    if len(views) != len(y) or not least <= len(found) <= (len(y) if most is None else most):
        bounds = f"at least {least}" + ("" if most is None else f" and at most {most}")
        raise PredictorError(
            f"expected one label per network, {bounds}, got {counted}.\n"
            f"  {'Fit a new predictor' if most is not None and len(found) > most else 'Label more networks'}."
        )
    if not finite.all():
        tell_left_out(int((~finite).sum()), len(y))
    rows = [[int(number[i]) for i in mine] for mine in found]
    means = np.array([y[mine[0]] + (y[mine] - y[mine[0]]).mean() for mine in rows])  # exact where all are equal
    if means.min() == means.max():
        raise PredictorError(
            f"expected labels that differ, got {means[0]:g} for all {len(rows)} networks.\n"
            "  Check the column: there is nothing to learn."
        )
    firsts = [mine[0] for mine in rows]
    functions = [(None if groups is None else groups[i]) or f"row {i}" for i in firsts]
    return Lessons([views[i] for i in firsts], means, together([str(i) for i in firsts], keys, functions), rows)


def numbers(labels: Sequence[Any]) -> Matrix:
    """Read labels as numbers.

    Args:
        labels: Numbers; None means that there is no label.

    Returns:
        Shape (n,); nan where there is none.

    Raises:
        PredictorError: a label is neither a number nor None.
    """
    try:
        return np.array([np.nan if v is None else float(v) for v in labels], np.float64)
    except (TypeError, ValueError) as err:
        bad = next(i for i, v in enumerate(labels) if not _is_number(v))
        raise PredictorError(
            f"expected a number as the label of each network, got {labels[bad]!r} at {bad}.\n"
            "  Pass None or nan where there is none."
        ) from err


def tell_left_out(n: int, of: int) -> None:
    """Warn by a `LabelWarning` that some labels are left out.

    Args:
        n: Number of labels that are not finite.
        of: Number of all labels.
    """
    warnings.warn(f"{n} of {of} labels are not finite numbers and were left out", LabelWarning, stacklevel=5)


def left_out(block: Callable[[list[int]], NDArray[Any]], residuals: Matrix, groups: Sequence[str]) -> Matrix:
    """Residuals of each group's labels by a linear fit to the other groups, without fitting again.

    Args:
        block: Function that gives those rows and columns of a matrix that it is asked for: of the inverse of a ridge
            regression's regularised kernel, or of 1 minus the hat matrix of least squares.
        residuals: The matrix times the labels, shape (n,).
        groups: Group of each label.

    Returns:
        Label minus the answer of the fit that saw no label of its group, shape (n,).

    Source: Rasmussen & Williams 2006, eq. 5.12, by blocks.
    """
    found, members = np.empty(len(residuals)), dict[str, list[int]]()
    for i, name in enumerate(groups):
        members.setdefault(name, []).append(i)
    for mine in members.values():
        part = block(mine)
        if len(mine) == 1:
            found[mine] = residuals[mine] / np.maximum(1e-9, part[0])
        else:
            found[mine] = np.linalg.lstsq(part, residuals[mine], rcond=None)[0]
    return found


def _networks(views: Sequence[View]) -> tuple[list[list[int]], list[str]]:
    """Rows of each network whose view is equal, statistics included; and the key of each network's structure."""
    known: dict[int, str] = {}
    found: dict[tuple[Any, ...], list[int]] = {}
    for i, seen in enumerate(views):
        if id(seen) not in known:
            known[id(seen)] = structure_key(seen)
        values = tuple(round(v, 6) for v in seen.statistics.values())
        found.setdefault((known[id(seen)], values), []).append(i)
    return list(found.values()), [key for key, _ in found]


def _is_number(value: Any) -> bool:
    """Whether `numbers` can read a label."""
    try:
        return value is None or isinstance(float(value), float)
    except (TypeError, ValueError):
        return False
