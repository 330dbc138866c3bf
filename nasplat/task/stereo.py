"""Tasks of stereo matching: pairs of views with the disparity of the left one, rendered or read from a folder.

Inputs hold both views, left first, (n, 6, H, W), 0 to 1; targets are disparities in pixels, (n, H, W), 0 where unknown.
Losses and errors stand in stereo_loss, the rendered scenes in stereo_scenes, the folders' layouts in stereo_pairs, the
pictures of a report in stereo_pictures. Source of the random changes of training pairs: Wang et al., ECCV 2022,
arXiv:2207.09796.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasplat.errors import TaskError
from nasplat.task.settings import overridden
from nasplat.task.stereo_loss import LIKELIHOOD, epe, with_likelihood
from nasplat.task.stereo_pairs import Pair, find_pairs, listed_pairs, read_pair
from nasplat.task.stereo_pictures import stereo_pictures
from nasplat.task.stereo_scenes import scenes
from nasplat.task.task import Split, Task

CHUNK = 32
"""Pairs whose colours change at once; more of them would need much memory beside the split."""
MEASURES: dict[str, Any] = {
    "metric": epe,
    "metric_name": "epe_px",
    "larger_is_better": False,
    "show": stereo_pictures,
}
"""Fields that every stereo task has."""


@dataclass(frozen=True)
class SyntheticStereo:
    """Settings of `stereo-synthetic`, the stereo task whose scenes are rendered on the spot."""

    height: int = 128
    """Height of a view, in pixels."""
    width: int = 256
    """Width of a view, in pixels; at least twice the largest disparity."""
    largest: float = 48
    """Largest disparity that occurs, in pixels."""
    train: int = 256
    """Pairs of one epoch of training."""
    decide: int = 64
    """Pairs that decisions rest on."""
    test: int = 128
    """Pairs that are reported on."""
    fresh: bool = True
    """Whether each epoch renders new training pairs; otherwise the same ones appear in other colours, which is
    faster."""
    likelihood: float = LIKELIHOOD
    """Weight of the volumes' cross-entropy in the loss; 0 leaves the published loss."""
    seed: int = 0
    """Seed of all scenes."""


@dataclass(frozen=True)
class StereoFolder:
    """Settings of `stereo:FOLDER`, the task of a folder of stereo pairs."""

    crop: tuple[int, int] = (128, 256)
    """Height and width, in pixels, of the random training crops and of the centre parts that are decided and tested
    on."""
    largest: float = 192
    """Disparity in pixels from which on a pixel counts as unknown."""
    shares: tuple[float, float] = (0.6, 0.2)
    """Share of the scenes for training and for decisions, each between 0 and 1; the rest tests."""
    crops: int = 4
    """Random crops of each training pair in an epoch."""
    mirror: bool = False
    """Whether each training pair is also shown mirrored with its views swapped; needs `disp_right.png` beside the
    disparity."""
    files: str | None = None
    """Path of a list of pairs as Scene Flow's, one pair a line; by default the folder is searched for a known
    layout."""
    likelihood: float = LIKELIHOOD
    """Weight of the volumes' cross-entropy in the loss; 0 leaves the published loss."""
    contiguous: bool = False
    """Whether each folder of scenes is split into blocks in the order of their names, for frames of one drive;
    otherwise
    all scenes are split at random."""
    seed: int = 0
    """Seed of the split and of the crops."""


def synthetic_stereo(settings: SyntheticStereo | None = None, **overrides: Any) -> Task:
    """Make the embedded stereo task, whose decide and test splits show textures that training never shows.

    Args:
        settings: Sizes and seed of the task; None for the defaults.
        overrides: Fields of `SyntheticStereo` that replace those of the settings, such as height=48.

    Returns:
        The task; see `nasplat.task.stereo_scenes` for what its scenes hold.

    Raises:
        TaskError: an override is no field of the settings, or the views are too narrow for the largest disparity.
        MissingExtraError: Pillow is not installed.
    """
    made = overridden(settings or SyntheticStereo(), overrides, TaskError)

    def render(n: int, split: str, seed: int) -> Split:
        views, disparity, _ = scenes(n, made.height, made.width, made.largest, seed, split)
        return Split(views, disparity)

    first = render(made.train, "train", made.seed)

    def renew(epoch: int) -> Split:
        source = render(made.train, "train", (made.seed * 7_919 + epoch) % 2**31) if made.fresh else first
        return varied(source, epoch)

    splits = (first, render(made.decide, "decide", made.seed), render(made.test, "test", made.seed))
    return Task("stereo-synthetic", *splits, loss=with_likelihood(made.likelihood), renew=renew, **MEASURES)


def stereo_folder(path: Path, settings: StereoFolder | None = None, **overrides: Any) -> Task:
    """Make a task of a folder of stereo pairs, split by scene.

    Args:
        path: Folder in one of the layouts that `nasplat.task.stereo_pairs.find_pairs` knows.
        settings: How the pairs are split and cropped; None for the defaults.
        overrides: Fields of `StereoFolder` that replace those of the settings, such as crops=2.

    Returns:
        The task; its `notes` list the pairs that could not be read, which are left out.

    Raises:
        TaskError: an override is no field of the settings; or there are no pairs, fewer than three scenes that can be
            read, or pairs smaller than the crop.
        MissingExtraError: pictures without Pillow.
    """
    chosen = overridden(settings or StereoFolder(), overrides, TaskError)
    crop = chosen.crop
    pairs = listed_pairs(Path(chosen.files), path) if chosen.files else find_pairs(path)
    read, notes = _readable(pairs, crop, chosen.largest, chosen.mirror)
    names = sorted({found.scene for found in read})
    if len(names) < 3:
        raise TaskError(
            f"expected at least 3 scenes of pairs of {crop[0]} x {crop[1]} pixels or more below {str(path)!r}, "
            f"got {len(names)}"
            + "".join(f"\n  left out: {n}" for n in notes[:5])
            + "\n  Bring more scenes, or choose a smaller crop."
        )
    if chosen.contiguous:
        groups = _blocks(pairs, names, chosen.shares)
    else:
        groups = _shuffled(names, chosen.shares, chosen.seed)
    train, decide, test = (
        [r for r in read if r.scene in group and (not r.is_mirrored or group is groups[0])] for group in groups
    )

    def cropped(epoch: int) -> Split:
        chance = random.Random(f"crops {chosen.seed} {epoch}")
        return _joined([_crop(r, crop, chance) for r in train for _ in range(chosen.crops)])

    def renew(epoch: int) -> Split:
        return varied(cropped(epoch), epoch)

    decided, tested = (_joined([_crop(r, crop, None) for r in part]) for part in (decide, test))
    loss = with_likelihood(chosen.likelihood)
    return Task(
        f"stereo:{path.name}", cropped(0), decided, tested, loss=loss, renew=renew, notes=tuple(notes), **MEASURES
    )


@dataclass(frozen=True)
class _Read:
    """A pair in memory."""

    scene: str
    views: Tensor
    """Both views, left first, shape (6, H, W), 0 to 1."""
    disparity: Tensor
    """Shape (H, W), in pixels; 0 where unknown."""
    is_mirrored: bool = False


def _shuffled(names: list[str], shares: tuple[float, float], seed: int) -> tuple[list[str], list[str], list[str]]:
    """Scenes for training, decisions and the test, at random; each gets one at least."""
    random.Random(f"stereo {seed}").shuffle(names)
    cut = [max(1, round(len(names) * shares[0])), max(1, round(len(names) * shares[1]))]
    cut[0] = min(cut[0], len(names) - cut[1] - 1)
    return names[: cut[0]], names[cut[0] : sum(cut)], names[sum(cut) :]


def _blocks(
    pairs: Sequence[Pair], names: list[str], shares: tuple[float, float]
) -> tuple[list[str], list[str], list[str]]:
    """Scenes for training, decisions and the test: a block of every folder of scenes; a folder of one or two trains."""
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
            "contiguous=true expected a folder with three scenes or more, got none.\n"
            "  Leave it out, or bring more scenes."
        )
    return parts


def _readable(
    pairs: Sequence[Pair], crop: tuple[int, int], largest: float, mirror: bool
) -> tuple[list[_Read], list[str]]:
    """What can be read and is large enough for the crop, mirrored copies among it; and why the rest cannot be used."""
    read: list[_Read] = []
    notes = []
    for pair in pairs:
        try:
            views, disparity = (torch.from_numpy(a) for a in read_pair(pair))
            if disparity.shape[0] < crop[0] or disparity.shape[1] < crop[1]:
                raise TaskError(
                    f"{str(pair.left)!r} has {tuple(disparity.shape)} pixels, the crop {crop}.\n"
                    "  Choose a smaller crop."
                )
            read.append(_Read(pair.scene, views, torch.where(disparity < largest, disparity, 0)))
            other = pair.disparity.with_name("disp_right.png")
            if mirror and other.exists():
                swapped, known = read_pair(Pair(pair.right, pair.left, other, pair.scene))
                views, disparity = torch.from_numpy(swapped).flip(2), torch.from_numpy(known).flip(1)
                read.append(_Read(pair.scene, views, torch.where(disparity < largest, disparity, 0), True))
        except TaskError as err:
            notes.append(str(err).splitlines()[0])
    return read, notes


def _joined(parts: Sequence[tuple[Tensor, Tensor]]) -> Split:
    return Split(torch.stack([views for views, _ in parts]), torch.stack([disparity for _, disparity in parts]))


def _crop(pair: _Read, size: tuple[int, int], chance: random.Random | None) -> tuple[Tensor, Tensor]:
    """A part with some known pixels, at random or from the centre; the same place in both views."""
    views, disparity = pair.views, pair.disparity
    room = [have - want for have, want in zip(disparity.shape, size, strict=True)]
    for _ in range(20):
        top, left = ((chance.randint(0, r) if chance else r // 2) for r in room)
        part = disparity[top : top + size[0], left : left + size[1]]
        if chance is None or (part > 0).any():
            break
    return views[:, top : top + size[0], left : left + size[1]], part


def varied(split: Split, seed: int) -> Split:
    """Change contrast, gamma, brightness and colour balance of each pair, in both views alike; turn some upside down.

    Ranges are those of the source; hue and saturation are one balance of colours here.

    Args:
        split: Pairs of a stereo task.
        seed: Seed of the changes; equal seeds change alike.

    Returns:
        As many pairs with the same disparities, turned along with their views.
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
