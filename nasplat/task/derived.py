"""Other questions about the images of a task, which need no label of anybody: `rotation:TASK`, `jigsaw:TASK`, `autoencoder:TASK`, `edges:TASK`, `foreground:TASK`.

Sources: Gidaris et al., ICLR 2018, arXiv:1803.07728 (rotation); Noroozi & Favaro, ECCV 2016, arXiv:1603.09246 (jigsaw; here of four pieces, all 24 orders); Otsu, IEEE Trans. SMC 1979
(foreground).
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
from nasplat.task.task import Split, Task, accuracy

ORDERS = tuple(permutations(range(4)))
"""Of the four quarters of an image."""


def rotated(split: Split, seed: int) -> Split:
    """Each image turned by a random multiple of 90°, which is the class."""
    _square(split)
    turns = torch.randint(4, (len(split),), generator=torch.Generator().manual_seed(seed)).to(split.x.device)
    x = torch.stack([split.x, split.x.rot90(1, (2, 3)), split.x.rot90(2, (2, 3)), split.x.rot90(3, (2, 3))], 1)
    return Split(x[torch.arange(len(split), device=split.x.device), turns], turns)


def shuffled(split: Split, seed: int) -> Split:
    """The quarters of each image in one of their 24 orders, which is the class."""
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
    """The image is its own target."""
    return Split(split.x, split.x)


def edged(split: Split, seed: int) -> Split:
    """The strength of edges (Sobel 1968) of the mean over channels, at most 1, shape (n, 1, H, W)."""
    gray = F.pad(split.x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=gray.device)[None, None] / 8
    strength = (F.conv2d(gray, across).square() + F.conv2d(gray, across.transpose(2, 3)).square()).sqrt()
    return Split(split.x, strength.clamp(max=1.0))


def masked(split: Split, seed: int) -> Split:
    """Foreground, shape (n, 1, H, W), 0 or 1: the rarer of the two sides of each image's threshold after Otsu, of the mean over channels."""
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
    """Intersection over union of logits above 0 and a mask, of each example, percent."""
    mine, wanted = output.flatten(1) > 0, target.flatten(1) > 0.5
    return 100 * (mine & wanted).sum(1) / (mine | wanted).sum(1).clamp_min(1)


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each example, dB; the peak is the range of the target, at least 1."""
    error = (output - target).square().flatten(1).mean(1)
    flat = target.flatten(1)
    peak = (flat.amax(1) - flat.amin(1)).clamp_min(1.0)
    return 10 * (peak.square() / error.clamp_min(1e-10)).log10()


DENSE: dict[str, Any] = {"loss": F.mse_loss, "metric": psnr, "metric_name": "psnr_db", "larger_is_better": True}
MASKS: dict[str, Any] = {
    "loss": F.binary_cross_entropy_with_logits,
    "metric": overlap,
    "metric_name": "iou_percent",
    "larger_is_better": True,
}
CLASSES: dict[str, Any] = {
    "loss": F.cross_entropy,
    "metric": accuracy,
    "metric_name": "accuracy_percent",
    "larger_is_better": True,
}
QUESTIONS: dict[str, tuple[Callable[[Split, int], Split], dict[str, Any]]] = {
    "rotation": (rotated, CLASSES),
    "jigsaw": (shuffled, CLASSES),
    "autoencoder": (itself, DENSE),
    "edges": (edged, DENSE),
    "foreground": (masked, MASKS),
}


def derived(question: str, task: Task, seed: int = 0) -> Task:
    """Another question about a task's images; splits stay as they are.

    Args:
        question: rotation (4 classes), jigsaw (24 classes), autoencoder (output as the input), edges or foreground (output (n, 1, H, W)).
        task: Of images (C, H, W).
        seed: Decides the turns and orders of decide and test; those of training follow the epoch.

    Raises:
        TaskError: no such question, or the task has no square images.
    """
    if question not in QUESTIONS:
        raise TaskError(f"expected a question among {', '.join(QUESTIONS)}, got {question!r}.\n  Use one of these.")
    if len(task.input_shape) != 3:
        raise TaskError(
            f"{question} expected images (C, H, W), got inputs {task.input_shape} of {task.name!r}.\n  Choose another task."
        )
    ask, measures = QUESTIONS[question]
    before, augment = task.renew, task.augment

    def renew(epoch: int) -> Split:
        source = before(epoch) if before is not None else task.train
        if augment is not None:  # before the target is made: it is about what the network sees
            source = Split(augment(source.x, torch.Generator(source.x.device).manual_seed(epoch)), source.y)
        return ask(source, epoch)

    parts = {name: ask(task.split(name), seed + i) for i, name in enumerate(("train", "decide", "test"))}
    return replace(task, name=f"{question}:{task.name}", renew=renew, augment=None, show=None, **parts, **measures)


def _square(split: Split) -> None:
    if split.x.dim() != 4 or split.x.shape[2] != split.x.shape[3]:
        raise TaskError(
            f"expected square images, got inputs {tuple(split.x.shape[1:])}.\n  Resize them, as with ?side=32."
        )
