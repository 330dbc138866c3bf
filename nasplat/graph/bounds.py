"""Which totals of a graph are exact, and the sign that stands before every other one wherever it is shown.

A total can be too small (an operation is unknown, or has no shape), too large (a size that the data decides was taken
at its most), or either (a branch was guessed). Captures state the causes; whatever shows totals asks here for the sign.
"""

from __future__ import annotations

from collections.abc import Iterable

EXACT, AT_LEAST, AT_MOST, ABOUT = "", "≥", "≤", "≈"
"""Signs of totals: exact, a lower bound, an upper bound, and neither of the two."""

UNSIZED, UNSEEN, LARGEST, GUESSED, HIDDEN_WEIGHTS = "unsized", "unseen", "largest", "guessed", "hidden weights"
ASSUMED = "assumed"
"""Causes, each explained in `CAUSES`."""

CAUSES = {
    UNSIZED: "operations whose sizes are unknown are not counted",
    UNSEEN: "a part that runs more often, or out of sight, is not counted whole",
    LARGEST: "sizes, branches or turns that the data decides are counted at their most",
    GUESSED: "a branch, or how often a loop runs, was guessed",
    ASSUMED: "sizes that a file leaves open and nobody gave are taken as 1",
    HIDDEN_WEIGHTS: "some weights could not be seen",
}
"""Why totals are not exact, in words."""

_WORDS = {EXACT: "", AT_LEAST: "at least ", AT_MOST: "at most ", ABOUT: "about "}


def bound(causes: Iterable[str], unknown: bool = False) -> str:
    """Find the sign of MACs and of other arithmetic.

    Args:
        causes: Causes that a graph states.
        unknown: Whether the graph holds an operation outside the vocabulary, which counts 0.

    Returns:
        '' for exact, '≥' for a lower bound, '≤' for an upper bound, '≈' where the truth may lie on either side.

    Example:
        >>> bound([]), bound([], unknown=True), bound(["largest"]), bound(["largest"], unknown=True)
        ('', '≥', '≤', '≈')
    """
    found = set(causes)
    more = unknown or bool(found & {UNSIZED, UNSEEN, GUESSED, ASSUMED})
    less = bool(found & {LARGEST, GUESSED})
    return ABOUT if more and less else AT_LEAST if more else AT_MOST if less else EXACT


def part_bound(macs: int, causes: Iterable[str], unknown: bool) -> str:
    """Find the sign of the MACs of a part of a graph, such as a module or one kind of operation.

    Args:
        macs: Multiply-accumulates of the part.
        causes: Causes that the graph states.
        unknown: Whether the part holds an operation outside the vocabulary.

    Returns:
        A sign, as of `bound`; '' for a part without multiply-accumulates, which has none at any size.
    """
    return bound(causes, unknown) if macs or unknown or UNSIZED in set(causes) else EXACT


def bytes_bound(causes: Iterable[str]) -> str:
    """Find the sign of activation bytes; the outputs of an unknown operation have sizes, and count.

    Args:
        causes: Causes that a graph states.

    Returns:
        A sign, as of `bound`.
    """
    return bound([cause for cause in causes if cause != HIDDEN_WEIGHTS])


def params_bound(causes: Iterable[str]) -> str:
    """Find the sign of parameters, which a capture sees whatever the sizes, but for hidden ones.

    Args:
        causes: Causes that a graph states.

    Returns:
        '≥' where weights are hidden, else ''.
    """
    return AT_LEAST if HIDDEN_WEIGHTS in set(causes) else EXACT


def signed(text: str, sign: str) -> str:
    """Put a sign before a total.

    Args:
        text: The total as it is to be shown, such as '1.25 M'.
        sign: Answer of `bound`, `bytes_bound` or `params_bound`.

    Returns:
        The total alone where it is exact, else with the sign.

    Example:
        >>> signed("1.25 M", "≥"), signed("1.25 M", "")
        ('≥ 1.25 M', '1.25 M')
    """
    return f"{sign} {text}" if sign else text


def in_words(text: str, sign: str) -> str:
    """Put a sign before a total as words, for sentences that compare it with something.

    Args:
        text: The total as it is to be shown.
        sign: Answer of `bound`, `bytes_bound` or `params_bound`.

    Returns:
        The total alone where it is exact, else such as 'at least 1.25 M'.
    """
    return _WORDS[sign] + text


def reasons(causes: Iterable[str], unknown_ops: Iterable[str]) -> str:
    """Say why totals are not exact.

    Args:
        causes: Causes that a graph states.
        unknown_ops: Names of the operations outside the vocabulary.

    Returns:
        Clauses joined by '; ', empty where everything is exact.

    Example:
        >>> reasons([], ["fold_fft"])
        'unknown operations are not counted: fold_fft'
    """
    names = ", ".join(unknown_ops)
    first = [f"unknown operations are not counted: {names}"] if names else []
    return "; ".join([*first, *(CAUSES[cause] for cause in sorted(causes))])
