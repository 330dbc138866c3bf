"""The checkpoint of a supernet: one file with weights, moments and history, written whole after every epoch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nasplat.errors import SupernetError
from nasplat.supernet.history import Epoch
from nasplat.supernet.store import Store
from nasplat.tables.rows import write_atomically

FORMAT = "1"
FILE = "supernet.safetensors"
"""Name of the checkpoint in its folder."""


def write_checkpoint(folder: Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> None:
    """Write a checkpoint atomically: whoever reads it sees the old one or the new one.

    Args:
        folder: Folder that gets the file; made where it is missing.
        metadata: Texts by name: what the tensors belong to, and the history.
        tensors: Tensors by name, from any device.
    """
    write_atomically(folder / FILE, save({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, metadata))


def read_checkpoint(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read a whole checkpoint.

    Args:
        file: Path of the checkpoint itself, not of its folder.

    Returns:
        Metadata, and tensors on the CPU, by name.

    Raises:
        SupernetError: the file is missing or broken.
    """
    with _opened(file) as data:
        return _metadata(data), {k: data.get_tensor(k) for k in data.keys()}


def read_history(file: Path) -> tuple[list[Epoch], int, str]:
    """Read what a checkpoint tells of its training, without its tensors.

    Args:
        file: Path of the checkpoint itself, not of its folder.

    Returns:
        Epochs done, number of epochs planned, and the name of the task's metric.

    Raises:
        SupernetError: the file is missing or broken.
    """
    with _opened(file) as data:
        metadata = _metadata(data)
    return history_of(metadata), json.loads(metadata["config"])["epochs"], metadata.get("metric", "metric")


def history_of(metadata: dict[str, str]) -> list[Epoch]:
    """Read the epochs from a checkpoint's metadata.

    Args:
        metadata: First part of what `read_checkpoint` returned.

    Returns:
        Epochs done, in order.
    """
    return [Epoch.of(row) for row in json.loads(metadata.get("history", "[]"))]


def load_weights(store: Store, tensors: dict[str, Tensor]) -> None:
    """Copy a checkpoint's weights into a store in place, so that bound subnets follow.

    Args:
        store: Store that gets the values; it grows where the checkpoint's did.
        tensors: Second part of what `read_checkpoint` returned; what is no weight is passed by.
    """
    device = next(iter(store.weights.values())).device
    for name, value in tensors.items():
        section, _, key = name.partition("/")
        if section != "weight":
            continue
        weight = store.weights.get(key)
        if weight is not None and weight.shape == value.shape:
            weight.copy_(value)
        else:
            store.weights[key] = value.to(device)


def fingerprint(store: Store) -> str:
    """Hash all weights with their names and shapes.

    Args:
        store: Store whose weights are hashed.

    Returns:
        SHA-256 as 64 hexadecimal digits; stores with equal ones evaluate equally.
    """
    digest = sha256()
    for name, weight in sorted(store.weights.items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, "pt") as data:
            yield data
    except (OSError, SafetensorError) as err:
        raise SupernetError(f"expected a supernet checkpoint, got {str(file)!r} ({err}).\n  Check the path.") from err


def _metadata(data: Any) -> dict[str, str]:
    return dict(data.metadata() or {})
