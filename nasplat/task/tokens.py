"""Tasks of predicting the next token: `sentences`, drawn on the spot, and any text file, read byte by byte.

A sentence mixes three things that language models must learn: which word follows which two tokens, what stood behind a
name when it was first used (Olsson et al. 2022, arXiv:2209.11895, call it induction), and which bracket is still open.
The first needs a wide network, the second attention over two layers, the third places. Targets are the inputs, one
token further; networks answer scores of shape (n, T, vocabulary), and are judged by the mean cross-entropy.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nasplat.errors import TaskError
from nasplat.task.judging import token_loss, token_nats
from nasplat.task.task import Split, Task

LENGTH, VOCABULARY = 64, 32
"""Tokens of a sentence, and kinds of tokens: words, names, and opening and closing brackets."""
WORDS, NAMES, BRACKETS = 24, 4, 2
"""Numbers of words, of names and of kinds of brackets."""
CLASSES = 3
"""Classes of tokens; that of the last but one decides which words may follow the last."""
FOLLOWERS = (0.7, 0.2, 0.1)
"""How likely these words are."""
DEEPEST = 4
"""Brackets that are open at once, at most."""
ABOUT: dict[str, Any] = {
    "loss": token_loss,
    "metric": token_nats,
    "metric_name": "nats_per_token",
    "larger_is_better": False,
}
"""Fields of a task whose targets are the next tokens."""


@cache
def _grammar() -> NDArray[np.int64]:
    """Words that may follow a token, shape (classes, vocabulary, followers): fixed, and the same for all seeds."""
    rng = np.random.default_rng(13)
    followers = rng.permuted(np.tile(np.arange(WORDS), (CLASSES, VOCABULARY, 1)), axis=2)
    return followers[..., : len(FOLLOWERS)]


def compose(n: int, seed: int, length: int = LENGTH) -> Split:
    """Draw sentences.

    Args:
        n: Number of sentences.
        seed: Seed of the sentences; equal seeds give equal ones.
        length: Tokens of a sentence.

    Returns:
        Tokens of shape (n, length), int64, and the tokens one place further, of the same shape.
    """
    rng = np.random.default_rng([seed, 5])
    grammar, rows = _grammar(), np.arange(n)
    meanings = rng.integers(WORDS, size=(n, NAMES))  # what each name stands for, in this sentence alone
    chance = np.cumsum(FOLLOWERS)
    opened, depth = np.zeros((n, DEEPEST), np.int64), np.zeros(n, np.int64)
    found = np.empty((n, length + 1), np.int64)
    found[:, :2] = rng.integers(WORDS, size=(n, 2))
    for t in range(2, length + 1):
        before, last = found[:, t - 2], found[:, t - 1]
        what, kind = rng.random(n), rng.integers(BRACKETS, size=n)
        token = grammar[before % CLASSES, last, np.searchsorted(chance, rng.random(n)).clip(max=len(FOLLOWERS) - 1)]
        is_named = (last >= WORDS) & (last < WORDS + NAMES)
        names = ~is_named & (what < 0.2)
        opens = ~is_named & (what >= 0.2) & (what < 0.3) & (depth < DEEPEST)
        closes = ~is_named & (what >= 0.3) & (what < 0.4) & (depth > 0)
        token = np.where(is_named, meanings[rows, (last - WORDS).clip(0, NAMES - 1)], token)
        token = np.where(names, WORDS + rng.integers(NAMES, size=n), token)
        token = np.where(opens, WORDS + NAMES + kind, token)
        token = np.where(closes, WORDS + NAMES + BRACKETS + opened[rows, (depth - 1).clip(0)], token)
        opened[rows[opens], depth[opens]] = kind[opens]
        depth += opens.astype(np.int64) - closes
        found[:, t] = token
    tokens = torch.from_numpy(found)
    return Split(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


def sentences(train: int = 4096, decide: int = 1024, test: int = 2048, seed: int = 0, length: int = LENGTH) -> Task:
    """Make a task of predicting the next token of sentences that are drawn on the spot.

    Args:
        train: Sentences of one epoch of training; each epoch has fresh ones.
        decide: Sentences that decisions rest on.
        test: Sentences that are reported on.
        seed: Seed of all sentences.
        length: Tokens of a sentence.

    Returns:
        The task, called sentences.

    Raises:
        TaskError: a number is no whole one, or too small.

    Example:
        >>> sentences(train=64, decide=32, test=32)
        Task(sentences: 64 train, 32 decide, 32 test of shape (64,), nats_per_token)
    """
    _check_whole("sentences", {"train": (train, 1), "decide": (decide, 1), "test": (test, 1), "seed": (seed, 0)})
    _check_whole("sentences", {"length": (length, 2)})
    start = 3_000_000_000 + 3 * seed  # far from the numbers of epochs
    first, second, third = (compose(n, start + i, length) for i, n in enumerate((train, decide, test)))
    return Task("sentences", first, second, third, renew=lambda epoch: compose(train, epoch, length), **ABOUT)


def text_file(file: str | Path, length: int = LENGTH, limit: int | None = None) -> Task:
    """Make a task of predicting the next byte of a text; its last tenths decide and are reported on.

    Args:
        file: File of any kind; every byte is a token.
        length: Bytes of an example.
        limit: Bytes that are read; None for all.

    Returns:
        The task, called after the file. Bytes that the text lacks have no number: tokens are numbered in the order of
        the bytes that occur, and `class_names` says which byte each is.

    Raises:
        TaskError: there is no such file, or it is too short for one example of each split.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "words.txt"
        >>> _ = file.write_text("to be, or not to be: " * 40)
        >>> text_file(file, length=16).shapes
        {'length': 16, 'vocabulary': 9, 'classes': 9}
    """
    _check_whole("a text", {"length": (length, 2), **({} if limit is None else {"limit": (limit, 1)})})
    try:
        with open(file, "rb") as opened:
            data = np.frombuffer(opened.read(-1 if limit is None else limit), np.uint8)
    except OSError as err:
        raise TaskError(f"expected a file of text, got {str(file)!r} ({err}).\n  Check the path.") from err
    known, numbers = np.unique(data, return_inverse=True)
    ends = [0, len(data) * 8 // 10, len(data) * 9 // 10, len(data)]
    parts = list[Split]()
    for start, end in pairwise(ends):
        rows = (end - start - 1) // length
        if rows < 1:
            raise TaskError(
                f"expected a text of at least {10 * (length + 1)} bytes, so that each tenth holds an example of "
                f"{length}, got {len(data)} in {str(file)!r}.\n  Give a longer text, or a smaller length."
            )
        tokens = torch.from_numpy(numbers[start : start + rows * length + 1].astype(np.int64))
        parts.append(Split(tokens[:-1].view(rows, length), tokens[1:].view(rows, length).contiguous()))
    names = tuple(repr(chr(b))[1:-1] for b in known.tolist())
    return Task(Path(file).name, parts[0], parts[1], parts[2], class_names=names, **ABOUT)


def _check_whole(what: str, values: dict[str, tuple[Any, int]]) -> None:
    """Refuse numbers that are no whole ones, or too small."""
    for name, (value, least) in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise TaskError(
                f"{what} expected {name} as a whole number from {least}, got {value!r}.\n"
                f"  Write for instance ?{name}={max(64, least)}."
            )
