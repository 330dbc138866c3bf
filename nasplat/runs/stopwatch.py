"""Seconds of work that was not done, from a little of it that was timed.

A piece of work is described by a few numbers, such as (1, examples, examples · MACs), and its seconds are a sum of
these with factors that are not negative. Leaving out one piece after another tells how far the answer can be trusted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

SECONDS = 0.8
"""Seconds of this process that are spent on a kind of work, about; at least `LEAST` pieces are timed."""
LEAST, MOST = 6, 24
"""Numbers of pieces that are timed, at least and at most."""
ROUNDS = 8
"""Number of times that a piece is timed, at most."""
DRIFT = 0.15
"""Standard error of all work, as a share: a machine is not equally fast, nor equally busy, all the time."""
BEYOND = 0.1
"""Standard error, as a share, of work on larger batches than were timed: caches and memory answer differently there.
Chosen, not fitted; `DRIFT` and `PICKED` were widened on the commands of `benchmarks/bench_forecast.py`."""
REACH = 1.0
"""Seconds of this process that one large batch of the smallest network may take, see `Stopwatch.reach`."""
PICKED = 0.5
"""Standard error of the networks that a search prefers, in standard deviations among random ones: they may be
smaller, or larger."""
REWEIGHED = 3
"""Fits of the factors; each weighs a piece by the seconds that the last one expects of it."""


wall = time.perf_counter
"""What the seconds of work are read from."""
clock = time.thread_time
"""What `SECONDS` are read from: time in which this process computes, so that a busy machine gets as many pieces."""


@dataclass(frozen=True)
class Guess:
    """Seconds of one piece of work, as far as they are known."""

    each: float = 0.0
    """Mean seconds of one piece."""
    error: float = 0.0
    """Standard error of that mean, in seconds."""
    measured: int = 0
    """Number of pieces that were timed."""

    def __add__(self, other: Guess) -> Guess:
        """Add the seconds of work that is done one after the other; errors are independent."""
        return Guess(
            self.each + other.each, float(np.hypot(self.error, other.error)), max(self.measured, other.measured)
        )

    def __mul__(self, times: float) -> Guess:
        """Multiply the seconds by the number of pieces, which share their error."""
        return Guess(self.each * times, self.error * times, self.measured)


@dataclass
class Stopwatch:
    """Pieces of one kind of work that were timed, and what others like them would take."""

    rows: list[tuple[float, ...]] = field(default_factory=list)
    """Numbers that describe each piece."""
    seconds: list[float] = field(default_factory=list)
    """Seconds of each piece."""
    own: list[float] = field(default_factory=list)
    """Seconds of this process in each piece, see `clock`."""
    reached: int = 0
    """Examples of the largest batch that was timed."""
    stretch: float = 1.0
    """Seconds of that batch as a multiple of what smaller ones let expect."""

    def time(self, row: tuple[float, ...], work: Callable[[], Any]) -> float:
        """Time a piece of work and remember it.

        Args:
            row: Numbers that describe the piece.
            work: Function that does it.

        Returns:
            Seconds that it took.
        """
        started = clock()
        spent = seconds_of(work)
        self.own.append(clock() - started)
        self.rows.append(row)
        self.seconds.append(spent)
        return spent

    def reach(
        self, batch: int, row: Callable[[int], tuple[float, ...]], work: Callable[[int], Callable[[], Any]]
    ) -> None:
        """Time one batch that is as large as in the run, or nearly, after many small ones.

        Large tensors come from fresh pages of the system each time, which can take as long as the work itself.

        Args:
            batch: Examples of the run's batches.
            row: Numbers that describe the work on so many examples, of the smallest network.
            work: Makes that work.
        """
        factors = _factors(np.array(self.rows), np.array(self.own))
        while batch > self.reached and float(np.array(row(batch)) @ factors) > REACH:
            batch //= 2
        if batch <= self.reached:
            return
        expected = float(np.array(row(batch)) @ factors)
        piece, started = work(batch), clock()  # one piece alone could meet a busy moment of the machine
        seconds_of(piece)
        self.reached, self.stretch = batch, (clock() - started) / max(1e-9, expected)

    def guess(self, asked: Sequence[tuple[float, ...]], batch: int = 0, is_picked: bool = False) -> Guess:
        """Say what other pieces of the same kind take.

        Args:
            asked: Numbers that describe pieces such as a run meets; their mean is what counts.
            batch: Examples of their batches.
            is_picked: Whether the run prefers some of them, as a search does; else it meets them at random.

        Returns:
            Mean seconds of such a piece; its error holds what every timed piece changes, how different the pieces that
            are asked about are, `DRIFT`, and `BEYOND` and `PICKED` where they apply.
        """
        if not self.rows:
            return Guess()
        x, y, wanted = np.array(self.rows), np.array(self.seconds), np.array(asked)
        answers = wanted @ _factors(x, y) * self.stretch
        each, k = float(answers.mean()), len(y)
        left_out = [float(np.mean(wanted @ _factors(np.delete(x, i, 0), np.delete(y, i)))) for i in range(k)]
        fitted = (
            self.stretch**2 * (k - 1) / k * float(np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
            if k > 1
            else each**2
        )
        variance = float(answers.var(ddof=1)) if len(answers) > 1 else 0.0
        drawn = variance * (PICKED**2 if is_picked else 1 / len(answers))
        share = float(np.hypot(DRIFT, BEYOND if batch > self.reached else 0.0))
        return Guess(each, float(np.sqrt(fitted + drawn + (share * each) ** 2)), k)


def _factors(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors that are not negative and explain the seconds, errors taken as shares of what is expected."""
    if not len(y):
        return np.zeros(x.shape[1])
    scale = np.maximum(np.abs(x).max(0), 1e-30)
    expected, found = np.full(len(y), max(float(y.mean()), 1e-9)), np.zeros(x.shape[1])
    for _ in range(REWEIGHED):
        found = nnls(x / scale / expected[:, None], y / expected)[0]
        expected = np.maximum(x / scale @ found, 0.1 * float(y.mean()) + 1e-9)
    return found / scale


def seconds_of(work: Callable[[], Any]) -> float:
    """Time a piece of work.

    Args:
        work: Function that does it; what it started on a GPU counts as well.

    Returns:
        Wall time in seconds.
    """
    started = wall()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return wall() - started


def spread(items: Sequence[Any]) -> Iterator[Any]:
    """Go through sorted items so that any few at the beginning cover the range: ends, middle, quarters.

    Args:
        items: Items in order of their size, smallest first.

    Yields:
        The largest item, then the smallest, then halves of what lies between, each item once.
    """
    given = set[int]()
    parts = 1
    while len(given) < len(items):
        for i in range(parts, -1, -1):
            at = round(i * (len(items) - 1) / parts)
            if at not in given:
                given.add(at)
                yield items[at]
        parts *= 2


def rounds(items: Sequence[Any], seconds: float) -> Iterator[tuple[int, Any]]:
    """Go through items again and again until they have taken their time.

    Args:
        items: Items to time; of several, any few at the beginning should cover the range.
        seconds: Seconds of this process that they may take, see `clock`; at least `LEAST` items are given.

    Yields:
        Number from 0, and item; at most `ROUNDS` times each.
    """
    until = clock() + seconds
    for i in range(ROUNDS * len(items)):
        if i >= LEAST and clock() > until:
            return
        yield i, items[i % len(items)]


def batch_sizes(asked: int, work: Callable[[int], Callable[[], Any]]) -> tuple[int, int]:
    """Choose the batches that are timed, small ones where a network is slow.

    Args:
        asked: Examples in a batch of the run.
        work: Makes the work of the largest network on so many examples; it is done on two and on eight of
            them, or on four where that takes long.

    Returns:
        A smaller and a larger number of examples, at most what is asked; `LEAST` pieces of the larger one take about
        `SECONDS`, where four examples or more are possible in that time.
    """
    few = min(2, asked)
    seconds_of(work(few))  # what it needs is loaded
    started = clock()
    seconds_of(work(few))
    first = clock() - started
    more = min(8 if first * LEAST < SECONDS else 4, asked)
    started = clock()
    seconds_of(work(more))
    slope, large = max(1e-9, (clock() - started - first) / max(1, more - few)), 4
    while large < asked and first + slope * 2 * large <= 1.5 * SECONDS / LEAST:
        large *= 2
    large = min(asked, large)
    return max(few, large // 4), large
