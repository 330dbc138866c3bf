"""Image classification from IDX files (MNIST's format), npz files and folders of pictures."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from nasplat.errors import TaskError
from nasplat.task.arrays import COLOURS, array_of
from nasplat.task.pictures import read_pictures
from nasplat.task.targets import class_numbers
from nasplat.task.task import Split, Task

LEAST_LIMIT, RATIO = 2**30, 200
"""Bytes that a compressed file may always unpack to, and how many times its own size it may beyond that."""


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
        packed = path.stat().st_size
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            if head[:2] != b"\0\0" or len(head) < 4:
                raise ValueError(f"it begins with {head!r}")
            if head[2] != 8:
                raise ValueError(f"element type {head[2]}, not 8 (unsigned bytes)")
            shape = struct.unpack(f">{head[3]}I", file.read(4 * head[3]))
            size = prod(shape)
            if size > max(LEAST_LIMIT, RATIO * packed):
                raise ValueError(f"{packed:,} bytes cannot hold {shape}")
            raw = file.read(size + 1)
        if len(raw) != size:
            raise ValueError(f"shape {shape} needs {size:,} bytes, there are {'more' if len(raw) > size else len(raw)}")
        return np.frombuffer(raw, np.uint8).reshape(shape)
    except (OSError, EOFError, struct.error, ValueError, zlib.error) as err:
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


def read_npz(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read images and their labels from an npz file.

    Args:
        path: File with an array `x`, `images`, `image` or `residual` (see `unpredict`), and one of `y`, `label` or
            `labels`.

    Returns:
        Images and labels as the file holds them.

    Raises:
        TaskError: the file is missing, broken, pickled, unpacks beyond all measure, or lacks these arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size, packed = sum(i.file_size for i in archive.infolist()), path.stat().st_size
            if size > max(LEAST_LIMIT, RATIO * packed):
                raise ValueError(f"{packed:,} bytes unpack to {size:,}")
        with np.load(path, allow_pickle=False) as data:
            images = next((data[k] for k in ("x", "images", "image") if k in data), None)
            if images is None and "residual" in data:
                images = unpredict(data["residual"])
            labels = next((data[k] for k in ("y", "label", "labels") if k in data), None)
            names = list(data)
    except Exception as err:  # whatever zipfile and numpy raise about broken files
        raise TaskError(f"expected an npz file of images, got {str(path)!r} ({err}).\n  Check the file.") from err
    if images is None or labels is None:
        raise TaskError(f"expected arrays x and y in {str(path)!r}, got {', '.join(names)}.\n  Rename the arrays.")
    return images, labels


@dataclass
class _Found:
    """Training and test set of a folder, and what was noticed."""

    train: tuple[Any, Any]
    test: tuple[Any, Any]
    names: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def _both(folder: Path, side: int | None, seed: int) -> _Found | None:
    """Training and test set of a folder, in whichever form it holds them; None where it holds neither."""
    idx, npz = sorted(folder.glob("*ubyte*")), sorted(folder.glob("*.npz"))

    def find(files: list[Path], *parts: str) -> Path | None:
        return next((f for f in files if all(p in f.name for p in parts)), None)

    parts = [find(idx, p, k) for p in ("train", "t10k") for k in ("images", "labels")]
    pair = (find(npz, "train"), find(npz, "test") or find(npz, "val"))
    if all(parts):
        train, test = [(read_idx(parts[i]), read_idx(parts[i + 1])) for i in (0, 2)]  # type: ignore[arg-type]
        return _Found(train, test)
    if all(pair):
        unread = [f.name for f in npz if f not in pair]
        notes = [f"not read: {', '.join(unread[:4])}; decisions rest on a part of {pair[0].name}"] if unread else []  # type: ignore[union-attr]
        return _Found(read_npz(pair[0]), read_npz(pair[1]), (), notes)  # type: ignore[arg-type]
    folders = {p.name: p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))}
    if "train" in folders and ("test" in folders or "val" in folders):
        first, last = read_pictures(folders["train"], side), read_pictures(folders.get("test") or folders["val"], side)
        if first.names != last.names:
            raise TaskError(
                f"expected the same classes for training and test, got {', '.join(first.names[:6])} and "
                f"{', '.join(last.names[:6])}.\n  Check the folders."
            )
        unread = sorted(set(folders) - {"train", "test" if "test" in folders else "val"})
        notes = [*dict.fromkeys((*first.notes, *last.notes))]
        notes += [f"not read: folders {', '.join(unread[:4])}; decisions rest on a part of train"] if unread else []
        x, tx = _alike(first.images, last.images)
        return _Found((x, first.labels), (tx, last.labels), first.names, notes)
    if folders:
        made = read_pictures(folder, side)
        order = np.random.default_rng([seed, 1]).permutation(len(made.images))
        held = order[: max(1, len(order) // 6)]
        kept = order[len(held) :]
        x, y = made.images, made.labels
        return _Found((x[kept], y[kept]), (x[held], y[held]), made.names, list(made.notes))
    return None


def _alike(x: NDArray[Any], tx: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both sets of pictures in colours where one is, and in fractions where one has 16 bits."""
    if x.ndim != tx.ndim:
        x, tx = (i if i.ndim == 4 else np.repeat(i[..., None], 3, 3) for i in (x, tx))
    return (_scaled(x), _scaled(tx)) if x.dtype != tx.dtype else (x, tx)


def from_folder(
    folder: Path,
    limit: int | None = None,
    decide: int = 2000,
    seed: int = 0,
    side: int | None = None,
    classes: int | None = None,
) -> Task:
    """Make a classification task from a folder of IDX files, npz files or pictures.

    IDX files are called train-… and t10k-…, npz files train… and test… or val….
    Pictures lie in one folder per class, inside train and test (or val) folders, or without these: then a sixth is
    the test set. Labels are read as `Task.from_arrays` reads them.

    Args:
        folder: Folder that holds a training and a test set.
        limit: Largest number of training images, taken after a seeded shuffle; None for all.
        decide: Number of training images that are set aside for decisions, at most a fifth.
        seed: Seed of the shuffle.
        side: Height and width that images are resized to, in pixels; None leaves them as they are.
        classes: Number of classes, where labels do not show all: class numbers are kept then. None reads it off.

    Returns:
        The task; its images are floats of shape (n, c, h, w), standardised per channel.

    Raises:
        TaskError: the folder holds none of these forms, or images and labels that do not fit together.
        MissingExtraError: it holds pictures, and Pillow is not installed.
    """
    for name, value in {"limit": limit, "decide": decide, "side": side, "classes": classes}.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise TaskError(f"expected {name} as a whole number from 1, got {value!r}.\n  Write {name}=32 or so.")
    found = _both(folder, side, seed)
    if found is None:
        raise TaskError(
            "expected IDX files (train-images…, train-labels…, t10k-…), train*.npz and test*.npz, or folders of "
            f"pictures in {str(folder)!r}, got {', '.join(sorted(p.name for p in folder.glob('*'))) or 'nothing'}.\n"
            "  Check the folder."
        )
    (x, y), (tx, ty) = _labelled(found, folder.name, classes)
    order = np.random.default_rng(seed).permutation(len(x))
    decide = min(decide, max(1, len(x) // 5))
    train = order[decide:][:limit]
    held = order[:decide]
    if not len(train):
        raise TaskError(f"expected two training images or more in {str(folder)!r}, got {len(x)}.\n  Add some.")
    mean, std = _mean_and_spread(_scaled(x[train]))
    if side is not None and y.ndim > 1 and x.shape[1:3] != (side, side):
        raise TaskError(
            f"expected side with classes, got maps of shape {y.shape[1:]} in {str(folder)!r}: they would have to be "
            "resized too.\n  Leave side out."
        )

    def split(images: NDArray[Any], labels: NDArray[Any]) -> Split:
        n, height, width, *colours = images.shape
        whole = side is None or (height, width) == (side, side)
        height, width = (height, width) if side is None else (side, side)
        made = np.empty((n, *(colours or [1]), height, width), np.float32)
        for start in range(0, n, AT_ONCE):
            values = _scaled(images[start : start + AT_ONCE])
            values -= mean
            values /= std
            values = values[:, None] if values.ndim == 3 else values.transpose(0, 3, 1, 2)
            made[start : start + AT_ONCE] = values if whole else _resized(values, height)
        return Split(torch.from_numpy(made), torch.from_numpy(labels))

    augment = flip_and_shift if y.ndim == 1 else None  # maps would have to move along
    return Task(
        folder.name,
        split(x[train], y[train]),
        split(x[held], y[held]),
        split(tx, ty),
        augment=augment,
        notes=tuple(found.notes),
        class_names=found.names,
    )


def _resized(images: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Images of shape (n, c, h, w) as squares, each pixel a weighted mean of those it covers, as Pillow does it."""
    x = torch.from_numpy(np.ascontiguousarray(images))
    return F.interpolate(x, (side, side), mode="bilinear", antialias=True).numpy()


def _labelled(found: _Found, task: str, classes: int | None) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Images and class numbers of both sets, those without a class left out; notes and names are put into `found`.

    Raises:
        TaskError: images or labels are none, or do not fit together.
    """
    parts, images = {"train": found.train, "test": found.test}, dict[str, NDArray[Any]]()
    if found.names and classes not in (None, len(found.names)):
        raise TaskError(f"expected {classes} classes in {task!r}, got {len(found.names)} folders.\n  Use one number.")
    for name, (x, y) in parts.items():
        images[name] = _images(x, f"images of {name!r} of task {task!r}", found.notes)
        if len(images[name]) != len(y) or not len(y):
            raise TaskError(
                f"expected as many labels as images in {name!r} of task {task!r}, at least one; got "
                f"{len(images[name])} images and {len(y)} labels.\n  Check the files."
            )
    bytes_, others = ([n for n, x in images.items() if (x.dtype == np.uint8) == b] for b in (True, False))
    if bytes_ and others:
        raise TaskError(
            f"images of task {task!r} expected one kind of numbers, got bytes in {bytes_[0]!r} and "
            f"{images[others[0]].dtype} in {others[0]!r}.\n  Convert them alike: bytes are divided by 255."
        )
    shapes = {name: (x.shape[3] if x.ndim == 4 else 1, *x.shape[1:3]) for name, x in images.items()}
    given = {name: pair[1] for name, pair in parts.items()}
    labels = class_numbers(given, shapes, task, classes or len(found.names) or None)
    found.names = found.names or labels.names
    for name, empty in labels.unlabelled().items():
        images[name], labels.values[name] = images[name][~empty], labels.values[name][~empty]
    found.notes += labels.notes
    return [(images[name], labels.values[name]) for name in parts]


def _images(x: Any, where: str, notes: list[str]) -> NDArray[Any]:
    """Images of shape (n, h, w) or (n, h, w, c), all finite.

    Raises:
        TaskError: the array holds no images.
    """
    x = np.asarray(array_of(x, where))
    if x.ndim == 4 and x.shape[1] in COLOURS and x.shape[3] not in COLOURS:
        notes.append(f"{where} of shape {x.shape[1:]} have their channels first, and were turned round")
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    if x.ndim not in (3, 4) or x.dtype.kind == "U" or not x.size:
        raise TaskError(
            f"{where} expected an array (n, h, w) or (n, h, w, c), got {x.dtype} of shape {x.shape}.\n"
            "  Reshape it; for other data use Task.from_arrays."
        )
    if x.dtype.kind == "f":
        wrong = ~np.isfinite(x).reshape(len(x), -1).all(1)
        if wrong.any():
            raise TaskError(
                f"{where} expected finite numbers, got NaN or infinity in {int(wrong.sum())} images, first in number "
                f"{int(np.argmax(wrong))}.\n  Leave these out, or fill in the missing values."
            )
    return x


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
