"""Image classification from IDX files (MNIST's format) and npz files."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nasplat.errors import TaskError
from nasplat.task.task import Split, Task


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array from an IDX file of bytes, gzipped or not.

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
        raise TaskError(f"expected an IDX file of unsigned bytes, got {str(path)!r} ({err}).\n  Check the file.") from err


def unpredict(residual: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo median-edge prediction of images stored as residual planes (G, R-G, B-G).

    Args:
        residual: Shape (3, n, h, w).

    Returns:
        Shape (n, h, w, 3), RGB.
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
    """Images (n, h, w[, c]) and labels (n,) from an npz with `x`/`images`/`residual` and `y`/`label`/`labels`.

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


def from_folder(folder: Path, limit: int | None = None, decide: int = 2000, seed: int = 0) -> Task:
    """A classification task from a folder of IDX files (train-…, t10k-…) or npz files (train…, test… or val…).

    Args:
        folder: Holds one training and one test set.
        limit: At most so many training images, after a seeded shuffle.
        decide: Training images set aside for decisions.
        seed: Decides the shuffle.

    Returns:
        Images as floats standardised per channel, shape (n, c, h, w).

    Raises:
        TaskError: the folder holds no such pair of files.
    """
    idx = sorted(folder.glob("*ubyte*"))
    npz = sorted(folder.glob("*.npz"))

    def find(files: list[Path], *words: str) -> Path | None:
        return next((f for f in files if all(w in f.name for w in words)), None)

    parts = [find(idx, p, k) for p in ("train", "t10k") for k in ("images", "labels")]
    pair = (find(npz, "train"), find(npz, "test") or find(npz, "val"))
    if all(parts):
        (x, y), (tx, ty) = [(read_idx(parts[i]), read_idx(parts[i + 1]).astype(np.int64)) for i in (0, 2)]  # type: ignore[arg-type]
    elif all(pair):
        (x, y), (tx, ty) = read_npz(pair[0]), read_npz(pair[1])  # type: ignore[arg-type]
    else:
        raise TaskError(
            f"expected IDX files (train-images…, train-labels…, t10k-…) or train*.npz and test*.npz in {str(folder)!r}, got "
            f"{', '.join(sorted(p.name for p in folder.glob('*'))) or 'nothing'}.\n  Check the folder."
        )
    order = np.random.default_rng(seed).permutation(len(x))
    decide = min(decide, len(x) // 5)
    train = order[decide:][:limit]
    held = order[:decide]
    scale = x.astype(np.float32) / 255.0 if x.dtype == np.uint8 else x.astype(np.float32)
    axes = (0, 1, 2)
    mean, std = scale[train].mean(axes), scale[train].std(axes) + 1e-6

    def split(images: NDArray[Any], labels: NDArray[np.int64]) -> Split:
        values = images.astype(np.float32) / (255.0 if images.dtype == np.uint8 else 1.0)
        values = (values - mean) / std
        values = values[:, None] if values.ndim == 3 else values.transpose(0, 3, 1, 2)
        return Split(torch.from_numpy(np.ascontiguousarray(values)), torch.from_numpy(labels))

    return Task(folder.name, split(x[train], y[train]), split(x[held], y[held]), split(tx, ty), augment=flip_and_shift)


def flip_and_shift(x: torch.Tensor, generator: torch.Generator, pad: int = 2) -> torch.Tensor:
    """Mirror half of the images and shift each by up to `pad` pixels; shape (n, c, h, w) in and out."""
    n, _, h, w = x.shape
    mirrored = torch.rand(n, generator=generator, device=x.device) < 0.5
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    padded = torch.nn.functional.pad(x, (pad,) * 4)
    top, left = torch.randint(0, 2 * pad + 1, (2, n), generator=generator, device=x.device)
    rows = (top[:, None] + torch.arange(h, device=x.device))[:, None, :, None]
    columns = (left[:, None] + torch.arange(w, device=x.device))[:, None, None, :]
    channel = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return padded[torch.arange(n, device=x.device)[:, None, None, None], channel, rows, columns]
