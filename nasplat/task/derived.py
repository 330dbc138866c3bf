"""Questions about the images of a task that nobody has to label: rotation, jigsaw, autoencoder, edges, foreground.

On a command line the question stands before the task, as in `rotation:digits-clutter`. Sources: Gidaris et al., ICLR
2018, arXiv:1803.07728 (rotation); Noroozi & Favaro, ECCV 2016, arXiv:1603.09246 (jigsaw; here of four pieces, all 24
orders); Otsu, IEEE Trans. SMC 1979 (foreground).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplat.errors import TaskError
from nasplat.task.judging import accuracy
from nasplat.task.task import Split, Task

ORDERS = tuple(permutations(range(4)))
"""All orders of the four quarters of an image; the number of an order is its class."""


def rotated(split: Split, seed: int) -> Split:
    """Turn each image by a random multiple of 90°, and ask by how much.

    Args:
        split: Square images of shape (n, C, H, H).
        seed: Seed of the turns.

    Returns:
        The turned images, and the number of quarter turns, 0 to 3, shape (n,).

    Raises:
        TaskError: the images are not square.
    """
    _square(split)
    turns = torch.randint(4, (len(split),), generator=torch.Generator().manual_seed(seed)).to(split.x.device)
    x = torch.stack([split.x, split.x.rot90(1, (2, 3)), split.x.rot90(2, (2, 3)), split.x.rot90(3, (2, 3))], 1)
    return Split(x[torch.arange(len(split), device=split.x.device), turns], turns)


def shuffled(split: Split, seed: int) -> Split:
    """Put the quarters of each image into one of their 24 orders, and ask which.

    Args:
        split: Square images of shape (n, C, H, H); an odd last row and column are left out.
        seed: Seed of the orders.

    Returns:
        The shuffled images, and the number of the order in `ORDERS`, shape (n,).

    Raises:
        TaskError: the images are not square.
    """
    _square(split)
    orders = torch.randint(len(ORDERS), (len(split),), generator=torch.Generator().manual_seed(seed)).to(split.x.device)
    half = split.x.shape[2] // 2
    x = split.x[:, :, : 2 * half, : 2 * half]
    quarters = (
        x.unflatten(2, (2, half)).unflatten(4, (2, half)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    )  # (n, 4, C, half, half)
    wanted = torch.tensor(ORDERS, device=x.device)[orders]
    quarters = quarters[torch.arange(len(x), device=x.device)[:, None], wanted]
    x = quarters.unflatten(1, (2, 2)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
    return Split(x.contiguous(), orders)


def itself(split: Split, seed: int) -> Split:
    """Make each image its own target.

    Args:
        split: Images of shape (n, C, H, W).
        seed: Not used; every question has the same form.

    Returns:
        The images twice.
    """
    return Split(split.x, split.x)


def edged(split: Split, seed: int) -> Split:
    """Ask how strong the edge is at each pixel, by Sobel's filters (1968) on the mean over channels.

    Args:
        split: Images of shape (n, C, H, W).
        seed: Not used; every question has the same form.

    Returns:
        The images, and the strength of edges from 0 to 1, shape (n, 1, H, W).
    """
    gray = F.pad(split.x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=gray.device)[None, None] / 8
    strength = (F.conv2d(gray, across).square() + F.conv2d(gray, across.transpose(2, 3)).square()).sqrt()
    return Split(split.x, strength.clamp(max=1.0))


def masked(split: Split, seed: int) -> Split:
    """Ask which pixels are foreground: the rarer side of each image's threshold by Otsu, on the mean over channels.

    Args:
        split: Images of shape (n, C, H, W).
        seed: Not used; every question has the same form.

    Returns:
        The images, and 1 for foreground and 0 for background, shape (n, 1, H, W).
    """
    gray = split.x.mean(1)
    flat = gray.flatten(1).sort(1).values
    n = flat.shape[1]
    below = flat.cumsum(1)
    count = torch.arange(1, n + 1, device=flat.device)
    left, right = below / count, (below[:, -1:] - below) / (n - count).clamp_min(1)
    between = count * (n - count) * (left - right).square()
    threshold = flat.gather(1, between[:, : n - 1].argmax(1, keepdim=True))[:, :, None]
    bright = gray > threshold
    rare = bright.flatten(1).float().mean(1) <= 0.5
    return Split(split.x, (bright == rare[:, None, None]).float()[:, None])


def overlap(output: Tensor, target: Tensor) -> Tensor:
    """Measure the intersection over union of a predicted mask and the true one.

    Args:
        output: Logits of shape (n, 1, H, W); those above 0 are foreground.
        target: True mask of the same shape, 0 or 1.

    Returns:
        Intersection over union of each example in percent, shape (n,).
    """
    mine, wanted = output.flatten(1) > 0, target.flatten(1) > 0.5
    return 100 * (mine & wanted).sum(1) / (mine | wanted).sum(1).clamp_min(1)


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Measure the peak signal-to-noise ratio of each example.

    Args:
        output: Predicted images of shape (n, …).
        target: True images of the same shape; their range, at least 1, is the peak.

    Returns:
        Ratio in decibels, shape (n,); larger is better.
    """
    error = (output - target).square().flatten(1).mean(1)
    flat = target.flatten(1)
    peak = (flat.amax(1) - flat.amin(1)).clamp_min(1.0)
    return 10 * (peak.square() / error.clamp_min(1e-10)).log10()


DENSE: dict[str, Any] = {"loss": F.mse_loss, "metric": psnr, "metric_name": "psnr_db", "larger_is_better": True}
"""Fields of a task whose targets are images."""
MASKS: dict[str, Any] = {
    "loss": F.binary_cross_entropy_with_logits,
    "metric": overlap,
    "metric_name": "iou_percent",
    "larger_is_better": True,
}
"""Fields of a task whose targets are masks."""
CLASSES: dict[str, Any] = {
    "loss": F.cross_entropy,
    "metric": accuracy,
    "metric_name": "accuracy_percent",
    "larger_is_better": True,
}
"""Fields of a task whose targets are classes."""
QUESTIONS: dict[str, tuple[Callable[[Split, int], Split], dict[str, Any]]] = {
    "rotation": (rotated, CLASSES),
    "jigsaw": (shuffled, CLASSES),
    "autoencoder": (itself, DENSE),
    "edges": (edged, DENSE),
    "foreground": (masked, MASKS),
}
"""What makes the targets of each question, and the fields of a task that asks it."""


def derived(question: str, task: Task, seed: int = 0) -> Task:
    """Ask another question about a task's images; which image lies in which split stays as it is.

    Args:
        question: Name of the question: rotation (4 classes), jigsaw (24 classes), autoencoder (the output is an image
            as the input is), edges or foreground (the output has shape (n, 1, H, W)).
        task: Task whose inputs are images (C, H, W).
        seed: Seed of the turns and orders of decide and test; those of training follow the epoch.

    Returns:
        A task of the same images with other targets, loss and metric, called 'question:task'.

    Raises:
        TaskError: no such question, or the task has no square images.
    """
    if question not in QUESTIONS:
        raise TaskError(f"expected a question among {', '.join(QUESTIONS)}, got {question!r}.\n  Use one of these.")
    if len(task.input_shape) != 3:
        raise TaskError(
            f"{question} expected images (C, H, W), got inputs {task.input_shape} of {task.name!r}.\n"
            "  Choose another task."
        )
    ask, measures = QUESTIONS[question]
    before, augment = task.renew, task.augment

    def renew(epoch: int) -> Split:
        source = before(epoch) if before is not None else task.train
        if augment is not None:  # before the target is made: it is about what the network sees
            source = Split(augment(source.x, torch.Generator(source.x.device).manual_seed(epoch)), source.y)
        return ask(source, epoch)

    parts = {name: ask(task.split(name), seed + i) for i, name in enumerate(("train", "decide", "test"))}
    return replace(
        task, name=f"{question}:{task.name}", renew=renew, augment=None, show=None, class_names=(), **parts, **measures
    )


def _square(split: Split) -> None:
    if split.x.dim() != 4 or split.x.shape[2] != split.x.shape[3]:
        raise TaskError(
            f"expected square images, got inputs {tuple(split.x.shape[1:])}.\n  Resize them, as with ?side=32."
        )
