"""Stereo matching: losses, metrics, and tasks of synthetic scenes or of folders.

Sources: Wang et al., ECCV 2022, arXiv:2207.09796 (losses and weights, as its code has them); Tulyakov et al., NeurIPS 2018, arXiv:1806.01677
(cross-entropy of a volume); KITTI (D1). Errors are counted over pixels whose
disparity is known and below the largest, per pixel of a whole split in `judge`; a task's own metric is the mean over pairs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.errors import TaskError
from nasplat.task.pairs import Pair, find_pairs, listed_pairs, read_pair
from nasplat.task.pictures import stereo_pictures
from nasplat.task.scenes import scenes
from nasplat.task.task import Split, Task

WEIGHTS = {6: (1 / 3, 2 / 3, 1.0, 1.0, 1.0, 1.0), 5: (1 / 3, 2 / 3, 1.0, 1.0, 1.0), 4: (1 / 3, 2 / 3, 1.0, 1.0)}
"""Of the maps from coarse to fine, by their number; others count 1 but for the two coarsest of more than two."""
THRESHOLDS = (1.0, 2.0, 3.0)


SHARP = 0.4
"""Scale of the Laplace distribution that a volume should have, in candidates."""
LIKELIHOOD = 2.0
"""Weight of the volumes' cross-entropy beside the published loss."""


CHUNK = 32
"""Pairs whose colours change at once."""


class Levels(list[Tensor]):
    """Maps of a network in training, coarse to fine, with the volumes that they come from."""

    def __init__(self, maps: Sequence[Tensor], volumes: Sequence[tuple[Tensor, int, int]]) -> None:
        """Args:
        maps: Shape (B, H, W) each, pixels.
        volumes: (similarities before the softmax, shape (B, D, h, w); pixels between its places; pixels between its candidates).
        """
        super().__init__(maps)
        self.volumes = tuple(volumes)


def weights(maps: int) -> tuple[float, ...]:
    """Weight of each map, coarse to fine."""
    return WEIGHTS.get(maps, (2 / 3, *([1.0] * (maps - 1))) if maps > 1 else (1.0,))


def stereo_loss(output: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
    """Weighted sum over maps of the smooth L1 error, mean over known pixels.

    Args:
        output: One map (B, H, W), or several, coarse to fine.
        target: Shape (B, H, W), pixels; 0 where unknown.

    Returns:
        A scalar; 0 where nothing is known.
    """
    maps = [output] if isinstance(output, Tensor) else list(output)
    known = target > 0
    count = known.sum().clamp_min(1)
    errors = [(F.smooth_l1_loss(m.float(), target, reduction="none") * known).sum() / count for m in maps]
    return torch.stack([e * w for e, w in zip(errors, weights(len(maps)), strict=True)]).sum()


def likelihood(output: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
    """Cross-entropy of the volumes, summed over them, against a narrow Laplace distribution around the disparity at each place's middle pixel.

    A mean disparity can be right while the volume has two peaks; this asks for one, and teaches matching several times sooner.

    Args:
        output: `Levels`; anything else has no volumes, and costs 0.
        target: Shape (B, H, W), pixels; 0 where unknown.
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


def learnt(weight: float) -> Callable[[Any, Tensor], Tensor]:
    """The published loss, and so many times the volumes' cross-entropy."""
    if not weight:
        return stereo_loss
    return lambda output, target: stereo_loss(output, target) + weight * likelihood(output, target)


def epe(output: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
    """End-point error of each pair, pixels: mean |error| over known pixels, shape (B,)."""
    final = output if isinstance(output, Tensor) else output[-1]
    known = target > 0
    return ((final.float() - target).abs() * known).flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)


def errors(predicted: Tensor, target: Tensor) -> dict[str, float]:
    """Errors counted per pixel.

    Args:
        predicted: Any shape, pixels.
        target: The same shape; 0 where unknown.

    Returns:
        epe_px; bad1_percent, bad2_percent, bad3_percent (|error| above 1, 2, 3 px); d1_percent (above 3 px and above 5 %); pixels.

    Raises:
        TaskError: shapes differ, or nothing is known.
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
def judge(answer: Callable[[Tensor], Tensor], split: Split, batch_size: int = 8) -> dict[str, float]:
    """Errors of a network (or any function of views) over a whole split, counted per pixel; see `errors`.

    Args:
        answer: Views (B, 6, H, W) to disparities (B, H, W); a module is put into eval mode.
        split: Of a stereo task.
        batch_size: Pairs at once.
    """
    training = isinstance(answer, nn.Module) and answer.training
    if isinstance(answer, nn.Module):
        answer.eval()
    starts = range(0, len(split), batch_size)
    predicted = torch.cat([answer(split.x[i : i + batch_size]) for i in starts])
    if isinstance(answer, nn.Module):
        answer.train(training)
    return errors(predicted, split.y)


MEASURES: dict[str, Any] = {
    "metric": epe,
    "metric_name": "epe_px",
    "larger_is_better": False,
    "show": stereo_pictures,
}


def synthetic(
    height: int = 128,
    width: int = 256,
    largest: float = 48,
    train: int = 256,
    decide: int = 64,
    test: int = 128,
    fresh: bool = True,
    likelihood: float = LIKELIHOOD,
    seed: int = 0,
) -> Task:
    """The embedded stereo task, see `nasplat.task.scenes`; decided and tested on textures that training never shows.

    Args:
        height: Of a view, pixels.
        width: Likewise.
        largest: Disparity, pixels.
        train: Pairs of an epoch.
        decide: Pairs for decisions.
        test: Pairs for the report.
        fresh: Render new training pairs each epoch, instead of changing the colours of the same.
        likelihood: Weight of the volumes' cross-entropy; 0 is the published loss.
        seed: Decides all scenes.
    """

    def made(n: int, split: str, seed: int) -> Split:
        views, disparity, _ = scenes(n, height, width, largest, seed, split)
        return Split(views, disparity)

    first = made(train, "train", seed)

    def renew(epoch: int) -> Split:
        source = made(train, "train", (seed * 7_919 + epoch) % 2**31) if fresh else first
        return varied(source, epoch)

    splits = (first, made(decide, "decide", seed), made(test, "test", seed))
    return Task("stereo-synthetic", *splits, loss=learnt(likelihood), renew=renew, **MEASURES)


def folder(
    path: Path,
    crop: tuple[int, int] = (128, 256),
    largest: float = 192,
    shares: tuple[float, float] = (0.6, 0.2),
    crops: int = 4,
    mirror: bool = False,
    files: str | None = None,
    likelihood: float = LIKELIHOOD,
    contiguous: bool = False,
    seed: int = 0,
) -> Task:
    """A task of a folder of pairs, split by scene; a pair that cannot be read is left out and listed in the task's `notes`.

    Args:
        path: See `nasplat.task.pairs.find_pairs`.
        crop: Height and width of training crops and of the centre parts that are decided and tested on.
        largest: Disparities from here on count as unknown, pixels.
        shares: Of the scenes, for training and for decisions; the rest tests.
        crops: Random crops of each training pair in an epoch.
        mirror: Add each training pair mirrored with the views swapped; needs `disp_right.png` beside the disparity.
        files: List of pairs as Scene Flow's, instead of searching.
        likelihood: Weight of the volumes' cross-entropy; 0 is the published loss.
        contiguous: Split each folder of scenes into blocks in the order of their names, instead of all scenes at random: for frames of one drive.
        seed: Decides the split and the crops.

    Raises:
        TaskError: no pairs, fewer than three scenes that can be read, or pairs smaller than the crop.
    """
    pairs = listed_pairs(Path(files), path) if files else find_pairs(path)
    read, notes = _readable(pairs, crop, largest, mirror)
    names = sorted({scene for scene, _, _, _ in read})
    if len(names) < 3:
        raise TaskError(
            f"expected at least 3 scenes of pairs of {crop[0]} x {crop[1]} pixels or more below {str(path)!r}, got {len(names)}"
            + "".join(f"\n  left out: {n}" for n in notes[:5])
            + "\n  Bring more scenes, or choose a smaller crop."
        )
    if contiguous:
        groups = _blocks(pairs, names, shares)
    else:
        random.Random(f"stereo {seed}").shuffle(names)
        cut = [max(1, round(len(names) * shares[0])), max(1, round(len(names) * shares[1]))]
        cut[0] = min(cut[0], len(names) - cut[1] - 1)
        groups = (names[: cut[0]], names[cut[0] : sum(cut)], names[sum(cut) :])
    parts = [
        [(v, d) for scene, v, d, extra in read if scene in group and (not extra or group is groups[0])]
        for group in groups
    ]

    def cropped(epoch: int) -> Split:
        chance = random.Random(f"crops {seed} {epoch}")
        rows = [_crop(v, d, crop, chance) for v, d in parts[0] for _ in range(crops)]
        return Split(torch.stack([v for v, _ in rows]), torch.stack([d for _, d in rows]))

    def centre(part: list[tuple[Tensor, Tensor]]) -> Split:
        rows = [_crop(v, d, crop, None) for v, d in part]
        return Split(torch.stack([v for v, _ in rows]), torch.stack([d for _, d in rows]))

    splits = (cropped(0), centre(parts[1]), centre(parts[2]))

    def renew(epoch: int) -> Split:
        return varied(cropped(epoch), epoch)

    return Task(f"stereo:{path.name}", *splits, loss=learnt(likelihood), renew=renew, notes=tuple(notes), **MEASURES)


def _blocks(
    pairs: Sequence[Pair], names: list[str], shares: tuple[float, float]
) -> tuple[list[str], list[str], list[str]]:
    """Scenes for training, decisions and the test: blocks of each folder that holds scenes; a folder of one or two trains."""
    places: dict[Path, list[str]] = {}
    for pair in sorted(pairs, key=lambda p: str(p.left)):
        if pair.scene in names and not any(pair.scene in found for found in places.values()):
            places.setdefault(pair.left.parent.parent, []).append(pair.scene)
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    for found in places.values():
        first = len(found) if len(found) < 3 else min(max(1, round(len(found) * shares[0])), len(found) - 2)
        second = first + max(1, round(len(found) * shares[1])) if len(found) > 2 else first
        for part, some in zip(parts, (found[:first], found[first:second], found[second:]), strict=True):
            part += some
    if not all(parts):
        raise TaskError(
            "contiguous=true expected a folder with three scenes or more, got none.\n  Leave it out, or bring more scenes."
        )
    return parts


def _readable(
    pairs: Sequence[Pair], crop: tuple[int, int], largest: float, mirror: bool
) -> tuple[list[tuple[str, Tensor, Tensor, bool]], list[str]]:
    """Scene, views, disparity and whether it is a mirrored copy, of what can be read; and why the rest cannot."""
    read: list[tuple[str, Tensor, Tensor, bool]] = []
    notes = []
    for pair in pairs:
        try:
            views, disparity = (torch.from_numpy(a) for a in read_pair(pair))
            if disparity.shape[0] < crop[0] or disparity.shape[1] < crop[1]:
                raise TaskError(
                    f"{str(pair.left)!r} has {tuple(disparity.shape)} pixels, the crop {crop}.\n  Choose a smaller crop."
                )
            read.append((pair.scene, views, torch.where(disparity < largest, disparity, 0), False))
            other = pair.disparity.with_name("disp_right.png")
            if mirror and other.exists():
                swapped, known = read_pair(Pair(pair.right, pair.left, other, pair.scene))
                views, disparity = torch.from_numpy(swapped).flip(2), torch.from_numpy(known).flip(1)
                read.append((pair.scene, views, torch.where(disparity < largest, disparity, 0), True))
        except TaskError as err:
            notes.append(str(err).splitlines()[0])
    return read, notes


def _crop(
    views: Tensor, disparity: Tensor, size: tuple[int, int], chance: random.Random | None
) -> tuple[Tensor, Tensor]:
    """A part with some known pixels, at random or from the centre; the same place in both views."""
    room = [have - want for have, want in zip(disparity.shape, size, strict=True)]
    for _ in range(20):
        top, left = ((chance.randint(0, r) if chance else r // 2) for r in room)
        part = disparity[top : top + size[0], left : left + size[1]]
        if chance is None or (part > 0).any():
            break
    return views[:, top : top + size[0], left : left + size[1]], part


def varied(split: Split, seed: int) -> Split:
    """Pairs with the same change of contrast, gamma, brightness and colour balance in both views, and some turned upside down.

    Ranges are those of the source; hue and saturation are one balance of colours here.
    """
    chance = torch.Generator().manual_seed(seed % 2**63)
    n = len(split)

    def between(low: float, high: float, channels: int = 1) -> Tensor:
        drawn = low + (high - low) * torch.rand(n, channels, generator=chance)
        used = torch.rand(n, 1, generator=chance) < 0.5
        return torch.where(used, drawn, torch.ones(()))[:, :, None, None].to(split.x.device)

    balance = between(0.8, 1.2, 3).expand(n, 3, 1, 1).repeat(1, 2, 1, 1)  # left and right alike
    gamma, contrast, brightness = between(0.7, 1.5), between(0.8, 1.2), between(0.5, 2.0)
    flips = (torch.rand(n, generator=chance) < 0.5).to(split.x.device)
    views = torch.empty_like(split.x)
    for i in range(0, n, CHUNK):  # a training split and its copy fill memory enough
        part = slice(i, i + CHUNK)
        x = split.x[part].clamp(0, 1) ** gamma[part]
        middle = x.mean((1, 2, 3), keepdim=True)
        x = ((x - middle) * contrast[part] + middle) * brightness[part] * balance[part]
        views[part] = torch.where(flips[part, None, None, None], x.flip(2), x).clamp(0, 1)
    return Split(views, torch.where(flips[:, None, None], split.y.flip(1), split.y))
