"""Folders of stereo pairs become views and disparities.

Known layouts are Scene Flow, KITTI 2012 and 2015, Sintel, Middlebury, and plain folders of scenes.
A disparity is in pixels of the stored image, 0 or not finite where unknown: (x, y) of the left image is seen at (x −
d, y) in the right one. Sources: Mayer et al., CVPR 2016 (Scene Flow, PFM); Menze & Geiger, CVPR 2015 (KITTI, 16-bit
PNG / 256); Butler et al., ECCV 2012 (Sintel, three bytes); Scharstein et al., GCPR 2014 (Middlebury).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import TaskError
from nasplat.task.pictures import colours, opened

Pixels = NDArray[np.float32]
"""Values of an image's pixels."""


@dataclass(frozen=True)
class Pair:
    """Files of one stereo pair."""

    left: Path
    """Picture that the left camera took."""
    right: Path
    """Picture that the right camera took."""
    disparity: Path
    """True disparities of the left picture, as PFM or PNG."""
    scene: str
    """Name of the scene; pairs of one scene never straddle splits."""


def find_pairs(folder: Path) -> list[Pair]:
    """Find the stereo pairs below a folder, by the layout that it has.

    Args:
        folder: Root of Scene Flow (`frames_cleanpass` or `frames_finalpass`, with `disparity`), KITTI (`image_2` or
            `colored_0`), Sintel (`final_left` or `clean_left`), Middlebury (scene folders with `im0.png`), or folders
            with left.png, right.png and disp.png.

    Returns:
        The pairs of the first of these layouts that is there, in the order of their left files.

    Raises:
        TaskError: the folder has none of these layouts.
    """
    for layout in (_kitti, _sceneflow, _sintel, _middlebury, _plain):
        found = sorted(layout(folder), key=lambda p: str(p.left))
        if found:
            return found
    raise TaskError(
        f"expected a folder of stereo pairs, got {str(folder)!r} with none.\n"
        "  Known are Scene Flow, KITTI 2012 and 2015, Sintel, Middlebury, and folders with left.png, right.png and "
        "disp.png."
    )


def listed_pairs(file: Path, root: Path) -> list[Pair]:
    """Read a list of pairs as Scene Flow's are: each line names left image, right image and disparity.

    Args:
        file: List to read; empty lines are skipped.
        root: Folder that the names are relative to.

    Returns:
        The pairs in the order of the list; the left image's folder is the scene.

    Raises:
        TaskError: a line does not name three files.
    """
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        names = line.split()
        if names and len(names) != 3:
            raise TaskError(
                f"expected left, right and disparity in line {number} of {str(file)!r}, got {line!r}.\n  Mend the line."
            )
        if names:
            found.append(Pair(*(root / n for n in names), scene=str(Path(names[0]).parent)))
    return found


def _kitti(folder: Path) -> Iterator[Pair]:
    names = (("image_2", "image_3", ("disp_occ_0", "disp_noc_0")), ("colored_0", "colored_1", ("disp_occ", "disp_noc")))
    for root in (folder, folder / "training"):
        for left, right, truths in names:
            truth = next((root / t for t in truths if (root / t).is_dir()), None)
            if truth is None:
                continue
            for file in sorted((root / left).glob("*_10.png")):
                yield Pair(file, root / right / file.name, truth / file.name, file.stem)


def _sceneflow(folder: Path) -> Iterator[Pair]:
    for rendered in ("frames_cleanpass", "frames_finalpass"):
        found = sorted((folder / rendered).rglob("left/*.png"))
        for file in found:
            place = file.relative_to(folder / rendered)
            truth = (folder / "disparity" / place).with_suffix(".pfm")
            yield Pair(file, file.parent.parent / "right" / file.name, truth, str(place.parent.parent))
        if found:
            return


def _sintel(folder: Path) -> Iterator[Pair]:
    for root in (folder, folder / "training"):
        for rendered in ("final", "clean"):
            found = sorted((root / f"{rendered}_left").rglob("*.png"))
            for file in found:
                place = file.relative_to(root / f"{rendered}_left")
                yield Pair(file, root / f"{rendered}_right" / place, root / "disparities" / place, place.parts[0])
            if found:
                return


def _middlebury(folder: Path) -> Iterator[Pair]:
    for file in sorted(folder.rglob("im0.png")):
        truths = [file.parent / n for n in ("disp0GT.pfm", "disp0.pfm", "disp0.png")]
        yield Pair(
            file, file.with_name("im1.png"), next((t for t in truths if t.exists()), truths[0]), file.parent.name
        )


def _plain(folder: Path) -> Iterator[Pair]:
    for file in sorted(folder.rglob("left.png")):
        truths = [file.parent / n for n in ("disp.png", "disp.pfm")]
        yield Pair(
            file, file.with_name("right.png"), next((t for t in truths if t.exists()), truths[0]), file.parent.name
        )


def read_pair(pair: Pair) -> tuple[Pixels, Pixels]:
    """Read the pictures and the disparities of a pair.

    Args:
        pair: Files to read.

    Returns:
        Both views, left first, of shape (6, H, W), 0 to 1; disparities in pixels of shape (H, W), 0 where unknown.

    Raises:
        TaskError: a file is missing or broken, sizes differ, or no pixel has a disparity.
        MissingExtraError: Pillow is not installed.
    """
    left, right = (read_picture(f) for f in (pair.left, pair.right))
    disparity = read_disparity(pair.disparity)
    for file, got in ((pair.right, right.shape[1:]), (pair.disparity, disparity.shape)):
        if got != left.shape[1:]:
            raise TaskError(
                f"expected {str(file)!r} to have the left image's size {left.shape[1:]}, got {got}.\n"
                "  Is it of another scene?"
            )
    if not (disparity > 0).any():
        raise TaskError(f"expected some known disparity in {str(pair.disparity)!r}, got none.\n  Leave the pair out.")
    return np.concatenate([left, right]), disparity


def read_picture(file: Path) -> Pixels:
    """Read a picture as RGB.

    Args:
        file: Picture in any format that Pillow reads.

    Returns:
        Colours of shape (3, H, W), 0 to 1.

    Raises:
        TaskError: the file is missing or broken.
        MissingExtraError: Pillow is not installed.
    """
    return opened(file, colours)


def read_disparity(file: Path) -> Pixels:
    """Read disparities from PFM, 16-bit PNG (value / 256) or Sintel's three bytes.

    Args:
        file: File to read; its ending tells PFM from pictures.

    Returns:
        Disparities in pixels of shape (H, W); 0 where unknown.

    Raises:
        TaskError: the file is missing, broken or of another kind.
        MissingExtraError: the file is a picture, and Pillow is not installed.
    """
    if file.suffix.lower() == ".pfm":
        found = read_pfm(file)
    else:
        raw = opened(file, np.asarray)
        if raw.ndim == 3 and raw.dtype == np.uint8:  # Sintel: 4 × the first byte, and fractions in the next two
            found = raw[..., 0] * 4.0 + raw[..., 1] / 64.0 + raw[..., 2] / 16384.0
        elif raw.ndim == 2 and raw.dtype != np.uint8:
            found = raw / 256.0
        else:
            raise TaskError(
                f"expected disparities as PFM, 16-bit PNG or Sintel's RGB in {str(file)!r}, got {raw.dtype} of shape "
                f"{raw.shape}.\n"
                "  Eight-bit maps have lost their scale: convert them."
            )
    return np.where(np.isfinite(found) & (found > 0), found, 0).astype(np.float32)


def read_pfm(file: Path) -> Pixels:
    """Read a portable float map, of either byte order, with or without blanks after the size.

    Args:
        file: File to read; of a map in colours only the first channel is kept.

    Returns:
        Values of shape (H, W), rows from the top.

    Raises:
        TaskError: the file is missing, truncated, or no PFM.
    """
    try:
        raw = file.read_bytes()
        head = re.match(rb"(P[Ff])\s+(\d+)\s+(\d+)\s+([-+.\deE]+)[ \t\r]*\n", raw)
        if head is None:
            raise ValueError(f"its header is {raw[:24]!r}")
        width, height, scale = int(head[2]), int(head[3]), float(head[4])
        colours = 3 if head[1] == b"PF" else 1
        count = width * height * colours
        if scale == 0 or len(raw) - head.end() != 4 * count:
            raise ValueError(
                f"{width} x {height} x {colours} floats of scale {scale} and {len(raw) - head.end()} bytes"
            )
    except (OSError, ValueError) as err:
        raise TaskError(f"expected a PFM file, got {str(file)!r} ({err}).\n  Check the file.") from err
    values = np.frombuffer(raw, "<f4" if scale < 0 else ">f4", count, head.end())
    return values.reshape(height, width, colours)[::-1, :, 0].astype(np.float32)


def write_pfm(file: Path, values: Pixels) -> None:
    """Write a portable float map of one channel, little-endian, rows from the bottom as the format asks.

    Args:
        file: File to write; what it held before is replaced.
        values: Values of shape (H, W), rows from the top.
    """
    height, width = values.shape
    file.write_bytes(f"Pf\n{width} {height}\n-1.0\n".encode() + np.ascontiguousarray(values[::-1], "<f4").tobytes())
