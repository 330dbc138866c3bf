"""A task made harder, as data in use often are: `small`, `imbalanced` and `noisy` versions of its training split.

On a command line the word stands before the task, as in `noisy:digits-clutter`. What is decided and reported stays as
it is, so that a network is judged on clean and balanced data. Training data are fixed: epochs show the same examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from nasplat.errors import TaskError
from nasplat.task.task import Split, Task


def small(task: Task, examples: int = 500, seed: int = 0) -> Task:
    """Keep a few of a task's training examples.

    Args:
        task: Task with any targets.
        examples: Number of examples that are kept, at most.
        seed: Seed of the choice.

    Returns:
        The task with fewer training examples, called 'small:task'.
    """
    order = torch.randperm(len(task.train), generator=_generator(seed))[:examples].sort().values
    return _changed(task, "small", _some(task.train, order))


def imbalanced(task: Task, ratio: float = 20.0, seed: int = 0) -> Task:
    """Thin out the classes of the training split, the later ones more.

    The share of class k that is kept falls geometrically from 1 to 1/ratio.

    Args:
        task: Task of classes.
        ratio: How many times as many examples the first class keeps as the last, at least 1.
        seed: Seed of the choice.

    Returns:
        The task with fewer training examples, called 'imbalanced:task'; every class keeps one example or more.

    Raises:
        TaskError: the targets are no classes.
    """
    y = _classes(task, "imbalanced")
    order, kept = torch.randperm(len(y), generator=_generator(seed)), list[torch.Tensor]()
    for k in range(task.classes):
        mine = order[y[order] == k]
        share = ratio ** (-k / max(1, task.classes - 1))
        kept.append(mine[: max(1, round(share * len(mine)))])
    return _changed(task, "imbalanced", _some(task.train, torch.cat(kept).sort().values))


def noisy(task: Task, share: float = 0.2, seed: int = 0) -> Task:
    """Give some training examples a wrong class.

    Args:
        task: Task of at least two classes.
        share: Share of the examples that get another class than theirs, from 0 to 1.
        seed: Seed of the choice and of the wrong classes.

    Returns:
        The task with wrong labels in training, called 'noisy:task'.

    Raises:
        TaskError: the targets are no classes, or all the same.
    """
    y, generator = _classes(task, "noisy"), _generator(seed)
    if task.classes < 2:
        raise TaskError(f"noisy expected two classes or more, {task.name!r} has one.\n  Choose another task.")
    wrong = torch.randperm(len(y), generator=generator)[: round(share * len(y))]
    shifted = (y[wrong] + torch.randint(1, task.classes, (len(wrong),), generator=generator)) % task.classes
    labels = y.clone()
    labels[wrong] = shifted
    return _changed(task, "noisy", Split(task.train.x, labels.to(task.train.y.device)))


VARIANTS: dict[str, Callable[[Task], Task]] = {"small": small, "imbalanced": imbalanced, "noisy": noisy}
"""What makes the harder version of a task, by the word before its name."""


def _changed(task: Task, word: str, train: Split) -> Task:
    return replace(task, name=f"{word}:{task.name}", train=train, renew=None)


def _some(split: Split, rows: torch.Tensor) -> Split:
    return Split(split.x[rows.to(split.x.device)], split.y[rows.to(split.y.device)])


def _classes(task: Task, word: str) -> torch.Tensor:
    y = task.train.y.cpu()
    if y.dim() != 1 or y.is_floating_point():
        raise TaskError(
            f"{word} expected one class for each example, got targets of shape {tuple(y.shape[1:])} and type {y.dtype} "
            f"of {task.name!r}.\n  Choose a task of classes."
        )
    return y


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
