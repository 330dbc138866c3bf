"""Image classification from IDX files (MNIST's format), npz files and folders of pictures."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nasplat.errors import MissingExtraError, TaskError
from nasplat.task.task import Split, Task

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
"""Endings of files that count as pictures."""


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an array from an IDX file of unsigned bytes, the format of MNIST.

    Args:
        path: File to read; one that ends in .gz is unpacked.

    Returns:
        Array of the shape that the file states.

    Raises:
        TaskError: the file is missing, truncated, or of another type.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        kind, rank = raw[2], raw[3]
        shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
        if kind != 8:
            raise ValueError(f"element type {kind}, not 8 (unsigned bytes)")
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)
    except (OSError, EOFError, IndexError, struct.error, ValueError, zlib.error) as err:
        raise TaskError(
            f"expected an IDX file of unsigned bytes, got {str(path)!r} ({err}).\n  Check the file."
        ) from err


def unpredict(residual: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo median-edge prediction of images stored as residual planes (G, R-G, B-G).

    Args:
        residual: Planes of shape (3, n, h, w), the differences from what the neighbours predict.

    Returns:
        RGB images of shape (n, h, w, 3).

    Source: the LOCO-I predictor, Weinberger et al. 2000.
    """
    _, n, h, w = residual.shape
    values = residual.transpose(0, 2, 3, 1).astype(np.int16)
    planes = np.zeros((3, h, w, n), np.int16)
    for c, plane in enumerate(planes):
        for i in range(h):
            for j in range(w):
                if i and j:
                    left, up, corner = plane[i, j - 1], plane[i - 1, j], plane[i - 1, j - 1]
                    guess = np.clip(left + up - corner, np.minimum(left, up), np.maximum(left, up))
                else:
                    guess = plane[0, j - 1] if j else plane[i - 1, 0] if i else 0
                green = planes[0, i, j] if c else 0
                plane[i, j] = ((guess + values[c, i, j] + green) & 255) - green
    rgb = np.stack([planes[1] + planes[0], planes[0], planes[2] + planes[0]], -1)
    return rgb.astype(np.uint8).transpose(2, 0, 1, 3)


def read_npz(path: Path) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Read images and class numbers from an npz file.

    Args:
        path: File with an array `x`, `images`, `image` or `residual` (see `unpredict`), and one of `y`, `label` or
            `labels`.

    Returns:
        Images of shape (n, h, w) or (n, h, w, c), and class numbers of shape (n,).

    Raises:
        TaskError: the file is missing, broken, pickled, or lacks these arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            images = next((data[k] for k in ("x", "images", "image") if k in data), None)
            if images is None and "residual" in data:
                images = unpredict(data["residual"])
            labels = next((data[k] for k in ("y", "label", "labels") if k in data), None)
            names = list(data)
    except (OSError, ValueError, EOFError) as err:
        raise TaskError(f"expected an npz file of images, got {str(path)!r} ({err}).\n  Check the file.") from err
    if images is None or labels is None:
        raise TaskError(f"expected arrays x and y in {str(path)!r}, got {', '.join(names)}.\n  Rename the arrays.")
    return images, labels.astype(np.int64)


def read_pictures(folder: Path, side: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Read pictures that lie in one folder per class.

    Args:
        folder: Folder that holds one folder for each class, named as the class is.
        side: Height and width that pictures are resized to, in pixels; None leaves them, and they must be of one size.

    Returns:
        Images of shape (n, h, w) where all are grey, else (n, h, w, 3); class numbers of shape (n,), in the order of
        the sorted names; the names.

    Raises:
        TaskError: no pictures, one that cannot be read, or different sizes without `side`.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError  # type: ignore[import-not-found]
    except ImportError as err:
        raise MissingExtraError(
            'folders of pictures need Pillow, which is not installed.\n  pip install "nasplat[images]"'
        ) from err
    names = sorted(p.name for p in folder.iterdir() if p.is_dir())
    files = [
        (f, i)
        for i, name in enumerate(names)
        for f in sorted((folder / name).rglob("*"))
        if f.suffix.lower() in PICTURES
    ]
    if not files:
        raise TaskError(
            f"expected a folder of {', '.join(PICTURES)} files per class in {str(folder)!r}, got none.\n"
            "  Check the folder."
        )
    images = []
    for file, _ in files:
        try:
            with Image.open(file) as picture:
                picture = picture.convert("L" if picture.mode in {"1", "L"} else "RGB")
                images.append(
                    np.asarray(picture if side is None else picture.resize((side, side), Image.Resampling.BILINEAR))
                )
        except (OSError, UnidentifiedImageError) as err:
            raise TaskError(f"expected a picture, got {str(file)!r} ({err}).\n  Take it out of the folder.") from err
        if images[-1].shape[:2] != images[0].shape[:2]:
            raise TaskError(
                f"expected pictures of one size, got {images[0].shape[1]}×{images[0].shape[0]} and "
                f"{images[-1].shape[1]}×{images[-1].shape[0]} ({str(file)!r}).\n  Give a side: {folder.name}?side=32."
            )
    if any(i.ndim == 3 for i in images):
        images = [i if i.ndim == 3 else np.repeat(i[..., None], 3, 2) for i in images]
    return np.stack(images), np.array([label for _, label in files], np.int64), names


def _both(folder: Path, side: int | None, seed: int) -> tuple[tuple[Any, Any], tuple[Any, Any]] | None:
    """Training and test set of a folder, in whichever form it holds them; None where it holds neither."""
    idx, npz = sorted(folder.glob("*ubyte*")), sorted(folder.glob("*.npz"))

    def find(files: list[Path], *parts: str) -> Path | None:
        return next((f for f in files if all(p in f.name for p in parts)), None)

    parts = [find(idx, p, k) for p in ("train", "t10k") for k in ("images", "labels")]
    pair = (find(npz, "train"), find(npz, "test") or find(npz, "val"))
    if all(parts):
        train, test = [(read_idx(parts[i]), read_idx(parts[i + 1]).astype(np.int64)) for i in (0, 2)]  # type: ignore[arg-type]
        return train, test
    if all(pair):
        return read_npz(pair[0]), read_npz(pair[1])  # type: ignore[arg-type]
    folders = {p.name: p for p in folder.iterdir() if p.is_dir()}
    if "train" in folders and ("test" in folders or "val" in folders):
        x, y, names = read_pictures(folders["train"], side)
        tx, ty, others = read_pictures(folders.get("test", folders.get("val", folder)), side)
        if names != others:
            raise TaskError(
                f"expected the same classes for training and test, got {', '.join(names[:6])} and "
                f"{', '.join(others[:6])}.\n  Check the folders."
            )
        if x.ndim != tx.ndim:  # one of them has colours
            x, tx = (i if i.ndim == 4 else np.repeat(i[..., None], 3, 3) for i in (x, tx))
        return (x, y), (tx, ty)
    if folders:
        x, y, _ = read_pictures(folder, side)
        order = np.random.default_rng([seed, 1]).permutation(len(x))
        held = order[: max(1, len(x) // 6)]
        kept = order[len(held) :]
        return (x[kept], y[kept]), (x[held], y[held])
    return None


def from_folder(
    folder: Path, limit: int | None = None, decide: int = 2000, seed: int = 0, side: int | None = None
) -> Task:
    """Make a classification task from a folder of IDX files, npz files or pictures.

    IDX files are called train-… and t10k-…, npz files train… and test… or val….
    Pictures lie in one folder per class, inside train and test (or val) folders, or without these: then a sixth is
    the test set.

    Args:
        folder: Folder that holds a training and a test set.
        limit: Largest number of training images, taken after a seeded shuffle; None for all.
        decide: Number of training images that are set aside for decisions, at most a fifth.
        seed: Seed of the shuffle.
        side: Height and width that pictures are resized to, in pixels; None leaves them as they are.

    Returns:
        The task; its images are floats of shape (n, c, h, w), standardised per channel.

    Raises:
        TaskError: the folder holds none of these forms.
        MissingExtraError: it holds pictures, and Pillow is not installed.
    """
    found = _both(folder, side, seed)
    if found is None:
        raise TaskError(
            "expected IDX files (train-images…, train-labels…, t10k-…), train*.npz and test*.npz, or folders of "
            f"pictures in {str(folder)!r}, got {', '.join(sorted(p.name for p in folder.glob('*'))) or 'nothing'}.\n"
            "  Check the folder."
        )
    (x, y), (tx, ty) = found
    order = np.random.default_rng(seed).permutation(len(x))
    decide = min(decide, len(x) // 5)
    train = order[decide:][:limit]
    held = order[:decide]
    mean, std = _mean_and_spread(_scaled(x[train]))

    def split(images: NDArray[Any], labels: NDArray[np.int64]) -> Split:
        n, height, width, *colours = images.shape
        made = np.empty((n, *(colours or [1]), height, width), np.float32)
        for start in range(0, n, AT_ONCE):
            values = _scaled(images[start : start + AT_ONCE])
            values -= mean
            values /= std
            made[start : start + AT_ONCE] = values[:, None] if values.ndim == 3 else values.transpose(0, 3, 1, 2)
        return Split(torch.from_numpy(made), torch.from_numpy(labels))

    return Task(folder.name, split(x[train], y[train]), split(x[held], y[held]), split(tx, ty), augment=flip_and_shift)


def _scaled(images: NDArray[Any]) -> NDArray[np.float32]:
    """Images as new floats, bytes divided by 255."""
    if images.dtype == np.uint8:
        return np.divide(images, np.float32(255.0), dtype=np.float32)
    return images.astype(np.float32)


def _mean_and_spread(values: NDArray[np.float32]) -> tuple[Any, Any]:
    """Mean and standard deviation of every channel; the values themselves are used up."""
    axes = (0, 1, 2)
    mean = values.mean(axes)
    values -= mean
    values *= values  # as numpy's std, which would copy
    return mean, np.sqrt(values.mean(axes)) + 1e-6


def flip_and_shift(x: torch.Tensor, generator: torch.Generator, pad: int = 2) -> torch.Tensor:
    """Mirror half of the images and shift each at random.

    Args:
        x: Images of shape (n, c, h, w).
        generator: Random generator on the device of the images.
        pad: Largest shift in either direction, in pixels; what comes in at the border is 0.

    Returns:
        Changed images of the same shape.
    """
    n, _, h, w = x.shape
    mirrored = torch.rand(n, generator=generator, device=x.device) < 0.5
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    padded = torch.nn.functional.pad(x, (pad,) * 4)
    top, left = torch.randint(0, 2 * pad + 1, (2, n), generator=generator, device=x.device)
    rows = (top[:, None] + torch.arange(h, device=x.device))[:, None, :, None]
    columns = (left[:, None] + torch.arange(w, device=x.device))[:, None, None, :]
    channel = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return padded[torch.arange(n, device=x.device)[:, None, None, None], channel, rows, columns]


AT_ONCE = 64
"""Images that are standardised at once: a copy of all would fill the memory."""
