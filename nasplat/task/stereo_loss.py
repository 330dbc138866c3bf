"""Losses and errors of stereo matching: what a network of disparities is trained with, and what it is judged by.

Sources: Wang et al., ECCV 2022, arXiv:2207.09796 (losses and weights, as its code has them); Tulyakov et al., NeurIPS
2018, arXiv:1806.01677 (cross-entropy of a matching volume); KITTI (D1). Only pixels whose disparity is known and
below the largest count; `stereo_errors` averages over the pixels of a whole split, a task's own metric over pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.errors import TaskError
from nasplat.task.task import Split

# B pairs, H x W pixels, D candidates for a disparity, h x w places of a coarser volume

WEIGHTS = {6: (1 / 3, 2 / 3, 1.0, 1.0, 1.0, 1.0), 5: (1 / 3, 2 / 3, 1.0, 1.0, 1.0), 4: (1 / 3, 2 / 3, 1.0, 1.0)}
"""Weights of a network's maps from coarse to fine, by the number of maps; see `map_weights` for other numbers."""
THRESHOLDS = (1.0, 2.0, 3.0)
"""Errors in pixels above which a pixel counts as bad."""
SHARP = 0.4
"""Scale of the Laplace distribution that a volume should have, in candidates."""
LIKELIHOOD = 2.0
"""Weight of the volumes' cross-entropy beside the published loss."""


class DisparityMaps(list[Tensor]):
    """A network's maps of disparities in training, coarse to fine, with the matching volumes that they come from."""

    def __init__(self, maps: Sequence[Tensor], volumes: Sequence[tuple[Tensor, int, int]]) -> None:
        """Keep maps and volumes.

        Args:
            maps: Disparities in pixels, each of shape (B, H, W).
            volumes: For each volume its similarities before the softmax, shape (B, D, h, w), the pixels between its
                places, and the pixels between its candidates.
        """
        super().__init__(maps)
        self.volumes = tuple(volumes)


def map_weights(maps: int) -> tuple[float, ...]:
    """Weights of a network's maps in the loss.

    Args:
        maps: Number of maps.

    Returns:
        One weight for each map, coarse to fine: as published for 4, 5 and 6 maps; else 2/3 for the coarsest and 1 for
        the others.
    """
    return WEIGHTS.get(maps, (2 / 3, *([1.0] * (maps - 1))) if maps > 1 else (1.0,))


def stereo_loss(output: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
    """Sum the smooth L1 error of all maps of a stereo network, weighted from coarse to fine.

    Args:
        output: One map of disparities of shape (B, H, W), or several from coarse to fine, in pixels.
        target: True disparities of shape (B, H, W), in pixels; 0 where unknown.

    Returns:
        A scalar, the mean over known pixels; 0 where nothing is known.

    Example:
        >>> import torch
        >>> float(stereo_loss(torch.full((1, 2, 2), 4.5), torch.full((1, 2, 2), 4.0)))
        0.125
    """
    maps = [output] if isinstance(output, Tensor) else list(output)
    known = target > 0
    count = known.sum().clamp_min(1)
    errors = [(F.smooth_l1_loss(m.float(), target, reduction="none") * known).sum() / count for m in maps]
    return torch.stack([e * w for e, w in zip(errors, map_weights(len(maps)), strict=True)]).sum()


def likelihood(output: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
    """Sum the cross-entropy of matching volumes against a narrow peak at the true disparity.

    The true disparity of a place is that of its middle pixel.     A mean disparity can be right while the volume has
    two peaks; this asks for one, and teaches matching several times sooner.

    Args:
        output: What the network answers in training, as `DisparityMaps`; anything else has no volumes and costs 0.
        target: True disparities of shape (B, H, W), in pixels; 0 where unknown.

    Returns:
        A scalar, the mean over known places of each volume, summed over the volumes.
    """
    found = target.new_zeros(())
    for similarities, stride, spacing in getattr(output, "volumes", ()):
        height, width = similarities.shape[2:]
        padded = F.pad(target, (0, width * stride - target.shape[2], 0, height * stride - target.shape[1]))
        middle = padded[:, stride // 2 :: stride, stride // 2 :: stride]
        candidates = torch.arange(similarities.shape[1], device=target.device)[:, None, None]
        wanted = F.softmax(-(candidates - middle[:, None] / spacing).abs() / SHARP, 1)
        entropy = -(wanted * F.log_softmax(similarities.float(), 1)).sum(1)
        known = middle > 0
        found = found + (entropy * known).sum() / known.sum().clamp_min(1)
    return found


def with_likelihood(weight: float) -> Callable[[Any, Tensor], Tensor]:
    """Make the loss of a stereo task: the published one plus the volumes' cross-entropy.

    Args:
        weight: Factor of the cross-entropy; 0 leaves it out.

    Returns:
        A loss of a network's output and the true disparities, as `Task.loss` is.
    """
    if not weight:
        return stereo_loss
    return lambda output, target: stereo_loss(output, target) + weight * likelihood(output, target)


def epe(output: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
    """Measure the end-point error of each pair: the mean difference of predicted and true disparity.

    Args:
        output: One map of disparities of shape (B, H, W), or several, of which the last counts, in pixels.
        target: True disparities of shape (B, H, W), in pixels; 0 where unknown.

    Returns:
        Mean absolute error over the known pixels of each pair, in pixels, shape (B,).
    """
    final = output if isinstance(output, Tensor) else output[-1]
    known = target > 0
    return ((final.float() - target).abs() * known).flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)


def disparity_errors(predicted: Tensor, target: Tensor) -> dict[str, float]:
    """Count the errors of predicted disparities over all known pixels.

    Args:
        predicted: Predicted disparities of any shape, in pixels.
        target: True disparities of the same shape, in pixels; 0 where unknown.

    Returns:
        epe_px, the mean absolute error in pixels; bad1_percent, bad2_percent and bad3_percent, the share of pixels
        that are off by more than 1, 2 and 3 pixels; d1_percent, the share that is off by more than 3 pixels and by
        more than 5 %; pixels, the number of known pixels.

    Raises:
        TaskError: the shapes differ, or no pixel is known.
    """
    if predicted.shape != target.shape or not (target > 0).any():
        raise TaskError(
            f"expected disparities of the target's shape {tuple(target.shape)} with some known pixels, got "
            f"{tuple(predicted.shape)} and {int((target > 0).sum())} known.\n  Check the pair."
        )
    known = target > 0
    error, truth = (predicted.double()[known] - target[known]).abs(), target[known]
    found = {"epe_px": float(error.mean())}
    found |= {f"bad{t:.0f}_percent": float((error > t).double().mean()) * 100 for t in THRESHOLDS}
    found["d1_percent"] = float(((error > 3) & (error > 0.05 * truth)).double().mean()) * 100
    return found | {"pixels": float(known.sum())}


@torch.inference_mode()
def stereo_errors(answer: Callable[[Tensor], Tensor], split: Split, batch_size: int = 8) -> dict[str, float]:
    """Count the errors of a stereo network over all known pixels of a split.

    Args:
        answer: Network or function from views of shape (B, 6, H, W), left first, to disparities of shape (B, H, W) in
            pixels. A module is asked in eval mode and put back afterwards.
        split: Split of a stereo task, such as `task.test`.
        batch_size: Pairs that are asked about at once; fewer take less memory.

    Returns:
        The figures of `disparity_errors`, such as epe_px and d1_percent.

    Raises:
        TaskError: the answers have another shape than the split's disparities.

    Example:
        >>> import torch
        >>> split = Split(torch.rand(2, 6, 4, 8), torch.full((2, 4, 8), 3.0))
        >>> stereo_errors(lambda views: torch.full_like(views[:, 0], 5.0), split)["epe_px"]
        2.0
    """
    training = isinstance(answer, nn.Module) and answer.training
    if isinstance(answer, nn.Module):
        answer.eval()
    starts = range(0, len(split), batch_size)
    predicted = torch.cat([answer(split.x[i : i + batch_size]) for i in starts])
    if isinstance(answer, nn.Module):
        answer.train(training)
    return disparity_errors(predicted, split.y)
