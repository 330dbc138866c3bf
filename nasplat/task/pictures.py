"""Folders of pictures, one a class, become arrays; what is odd about a file is mended, told, or refused by name.

Pictures stand upright as their camera says (EXIF), 16 bits keep their depth, palettes and CMYK become RGB, of several
frames the first counts. Hidden files are passed by. Nothing larger than `PIXELS` is unpacked.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nasplat.errors import MissingExtraError, TaskError

T = TypeVar("T")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
"""Endings of files that count as pictures."""
PIXELS = 2**26
"""Pixels of a picture that are unpacked at most: small files can hold billions."""
DEEP = 65535.0
"""Largest value of a pixel of 16 bits."""


@dataclass(frozen=True)
class Pictures:
    """Pictures of one size, with their classes."""

    images: NDArray[Any]
    """Images of shape (n, h, w) where all are grey, else (n, h, w, 3): bytes, or fractions of one where some have 16
    bits."""
    labels: NDArray[np.int64]
    """Class numbers of shape (n,), in the order of the sorted names."""
    names: tuple[str, ...]
    """Names of the classes, which are those of the folders."""
    notes: tuple[str, ...]
    """What was left out, a sentence each."""


def read_pictures(folder: Path, side: int | None = None) -> Pictures:
    """Read pictures that lie in one folder per class.

    Args:
        folder: Folder that holds one folder for each class, named as the class is.
        side: Height and width that pictures are resized to, in pixels; None leaves them, and they must be of one size.

    Returns:
        The pictures, in the order of the sorted names of classes and of files.

    Raises:
        TaskError: no pictures, one that cannot be read or is too large, or different sizes without `side`.
        MissingExtraError: Pillow is not installed.
    """
    _pillow()
    notes = list[str]()
    files = _files(folder, notes)
    if not any(files.values()):
        raise TaskError(
            f"expected a folder of {', '.join(PICTURES)} files per class in {str(folder)!r}, got none.\n"
            "  Check the folder."
        )
    empty = [name for name, found in files.items() if not found]
    if empty:
        notes.append(f"folders without a picture are no classes: {', '.join(empty[:6])}")
    names = tuple(name for name, found in files.items() if found)
    images, moving = list[NDArray[Any]](), 0
    for file in [f for name in names for f in files[name]]:
        pixels, frames = opened(file, partial(_pixels, side=side), "Take it out of the folder.")
        moving += frames > 1
        images.append(pixels)
        if pixels.shape[:2] != images[0].shape[:2]:
            raise TaskError(
                f"expected pictures of one size, got {images[0].shape[1]}×{images[0].shape[0]} and "
                f"{pixels.shape[1]}×{pixels.shape[0]} ({str(file)!r}).\n  Give a side: {folder.name}?side=32."
            )
    if moving:
        notes.append(f"{moving} pictures have several frames, of which the first was taken")
    if any(i.ndim == 3 for i in images):
        images = [i if i.ndim == 3 else np.repeat(i[..., None], 3, 2) for i in images]
    if any(i.dtype != np.uint8 for i in images):
        images = [i if i.dtype != np.uint8 else i / np.float32(255.0) for i in images]
    labels = [label for label, name in enumerate(names) for _ in files[name]]
    return Pictures(np.stack(images), np.array(labels, np.int64), names, tuple(notes))


def _files(folder: Path, notes: list[str]) -> dict[str, list[Path]]:
    """Pictures of every class, sorted; hidden files and folders are passed by, other files are told."""
    others, found = Counter[str](), dict[str, list[Path]]()
    for place in sorted(p for p in folder.iterdir() if not p.name.startswith((".", "__"))):
        if not place.is_dir():
            if place.suffix.lower() in PICTURES:
                others["pictures in no folder of a class"] += 1
            continue
        found[place.name] = []
        for file in sorted(place.rglob("*")):
            if file.is_dir() or any(part.startswith(".") for part in file.relative_to(folder).parts):
                continue
            if file.suffix.lower() in PICTURES:
                found[place.name].append(file)
            elif file.name not in {"Thumbs.db", "desktop.ini"}:
                others[f"files {file.suffix.lower() or 'without an ending'}"] += 1
    if others:
        notes.append(f"left out: {', '.join(f'{n} {what}' for what, n in others.most_common(4))}")
    return found


def opened(file: Path, use: Callable[[Any], T], advice: str = "Check the file.") -> T:
    """Open a picture and read something of it.

    Args:
        file: Picture in any format that Pillow reads.
        use: Function of Pillow's picture.
        advice: What to do about a picture that cannot be read.

    Returns:
        What the function returns.

    Raises:
        TaskError: the file is missing or broken, or has more than `PIXELS` pixels.
        MissingExtraError: Pillow is not installed.
    """
    image = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about broken metadata; sizes are looked at here
            with image.open(file) as picture:
                width, height = picture.size
                if width * height > PIXELS:
                    raise ValueError(f"{width}×{height} pixels are more than {PIXELS:,}")
                picture.load()
                return use(picture)
    except Exception as err:  # whatever Pillow's decoders raise about broken files
        reason = " ".join(str(err).split()) or type(err).__name__
        raise TaskError(f"expected a picture, got {str(file)!r} ({reason}).\n  {advice}") from err


def _pillow() -> Any:
    """Pillow's module of pictures.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as err:
        raise MissingExtraError(
            'pictures need Pillow, which is not installed.\n  pip install "nasplat[images]"'
        ) from err
    return Image


def _pixels(picture: Any, side: int | None) -> tuple[NDArray[Any], int]:
    """Pixels of a picture, grey (h, w) or (h, w, 3), bytes or fractions of one; and the number of its frames."""
    from PIL import Image, ImageOps

    frames = int(getattr(picture, "n_frames", 1))
    made, largest = _plain(ImageOps.exif_transpose(picture))
    if side is not None:
        made = made.resize((side, side), Image.Resampling.BILINEAR)
    pixels = np.asarray(made)
    return (pixels if largest == 255 else pixels / np.float32(largest)), frames


def colours(picture: Any) -> NDArray[np.float32]:
    """Read the colours of a picture.

    Args:
        picture: Pillow's picture, of 8 or of 16 bits.

    Returns:
        Colours of shape (3, h, w), 0 to 1.

    Raises:
        ValueError: the range of its pixels is unknown.
    """
    made, largest = _plain(picture)
    pixels = np.asarray(made if largest != 255 else made.convert("RGB"), np.float32) / np.float32(largest)
    return np.repeat(pixels[None], 3, 0) if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _plain(picture: Any) -> tuple[Any, float]:
    """A picture in grey, in colours or, where it is deeper than 8 bits, in grey fractions; and its largest value."""
    from PIL import Image

    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > DEEP:
            raise ValueError(f"pixels from {values.min()} to {values.max()}: save them with 8 or 16 bits")
        return Image.fromarray(values.astype(np.float32)), DEEP
    if picture.mode == "F":
        raise ValueError("pixels are fractions: save them with 8 or 16 bits, or as an npz file")
    return picture.convert("L" if picture.mode in {"1", "L", "LA", "La"} else "RGB"), 255.0
