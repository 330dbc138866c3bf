"""The checkpoint of a supernet: one file with weights, moments and history, written whole after every epoch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
HASH = "sha256"
"""Name of the hash of everything else in a checkpoint's metadata; those of an older nasplat have none."""
FILE = "supernet.safetensors"
"""Name of the checkpoint in its folder."""


def write_checkpoint(folder: Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> None:
    """Write a checkpoint atomically: whoever reads it sees the old one or the new one.

    Args:
        folder: Folder that gets the file; made where it is missing.
        metadata: Texts by name: what the tensors belong to, and the history. A hash of everything is added.
        tensors: Tensors by name, from any device.

    Raises:
        StorageError: the disk is full or the folder cannot be written; the checkpoint before is untouched.
    """
    plain = {k: t.detach().cpu().contiguous() for k, t in tensors.items()}
    write_atomically(folder / FILE, save(plain, metadata | {HASH: _digest(metadata, plain)}))


def read_checkpoint(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read a whole checkpoint.

    Args:
        file: Path of the checkpoint itself, not of its folder.

    Returns:
        Metadata, and tensors on the CPU, by name.

    Raises:
        SupernetError: the file is missing, broken, or was changed after it was written.
    """
    with _opened(file) as data:
        metadata, tensors = _metadata(data), {k: data.get_tensor(k) for k in data.keys()}
    wanted = metadata.get(HASH)
    if wanted is not None and _digest(metadata, tensors) != wanted:
        raise SupernetError(
            f"checkpoint {str(file)!r} is not as it was written: its tensors or their description were changed.\n"
            "  Restore the file, or train again in another folder."
        )
    return metadata, tensors


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
    done, planned = progress_of(metadata, file)
    history = history_of(metadata)
    if len(history) != done:
        raise SupernetError(f"checkpoint {str(file)!r} tells of {len(history)} epochs, got {done} done.\n  Restore it.")
    return history, planned, metadata.get("metric", "metric")


def progress_of(metadata: dict[str, str], file: Path) -> tuple[int, int]:
    """Read how far the training of a checkpoint is.

    Args:
        metadata: First part of what `read_checkpoint` returned.
        file: Path of the checkpoint, for the message.

    Returns:
        Epochs done, and number of epochs planned.

    Raises:
        SupernetError: it does not say so, or says what cannot be.
    """
    try:
        done, planned = int(metadata["epochs_done"]), json.loads(metadata["config"])["epochs"]
    except (KeyError, TypeError, ValueError, RecursionError) as err:
        raise SupernetError(
            f"expected a checkpoint of a supernet that says its epochs, got {str(file)!r}.\n  Restore the file."
        ) from err
    if isinstance(planned, bool) or not isinstance(planned, int) or not 0 <= done <= planned:
        raise SupernetError(
            f"expected a checkpoint with at most its planned epochs, got {done} of {planned!r} in {str(file)!r}.\n"
            "  Restore the file."
        )
    return done, planned


def history_of(metadata: dict[str, str]) -> list[Epoch]:
    """Read the epochs from a checkpoint's metadata.

    Args:
        metadata: First part of what `read_checkpoint` returned.

    Returns:
        Epochs done, in order.

    Raises:
        SupernetError: the history is not as a training writes it.
    """
    try:
        return [Epoch.of(row) for row in json.loads(metadata.get("history", "[]"))]
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as err:
        raise SupernetError(
            f"expected a checkpoint with the history of its training, got one that cannot be read ({err}).\n"
            "  Restore the file."
        ) from err


def load_weights(store: Store, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Copy a checkpoint's weights into a store in place, so that bound subnets follow.

    Args:
        store: Store that gets the values; it grows where the checkpoint's did.
        tensors: Second part of what `read_checkpoint` returned; what is no weight is passed by.
        metadata: First part of that, which names the weights that the walk at construction had not met.

    Raises:
        SupernetError: a weight is missing, unknown, of another shape or type, or not finite; nothing was copied.
    """
    grown = _grown(metadata)
    _check_weights(store, tensors, grown)
    store.grown |= grown
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


def _grown(metadata: dict[str, str]) -> set[str]:
    """Names of the weights by which the store of a checkpoint had grown; those of older checkpoints are not told."""
    try:
        found = json.loads(metadata.get("grown", "[]"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(key, str) for key in found):
        raise SupernetError("expected a checkpoint with a list of grown weights, got another.\n  Restore the file.")
    return set(found)


def _check_weights(store: Store, tensors: dict[str, Tensor], grown: set[str]) -> None:
    """Refuse weights that are not those of the store, which grows while members are met that its walk did not meet."""
    found = {k.removeprefix("weight/"): t for k, t in tensors.items() if k.startswith("weight/")}
    advice = "Load it with the space and the nasplat that it was trained with, or train again."
    missing = sorted(store.weights.keys() - found.keys() - store.grown)
    if missing:
        raise SupernetError(
            f"checkpoint lacks {len(missing)} weights of {store.space!r}, such as {missing[0]!r}.\n  {advice}"
        )
    names = {_parameter(key) for key in store.weights}
    for key, value in found.items():
        weight = store.weights.get(key)
        if weight is None and key not in grown and _parameter(key) not in names:
            raise SupernetError(f"checkpoint has weight {key!r}, which {store.space!r} has not.\n  {advice}")
        if weight is not None and not _grows_to(weight, value, key in store.grown):
            raise SupernetError(
                f"checkpoint expected weight {key!r} as {tuple(weight.shape)} {weight.dtype}, got {tuple(value.shape)} "
                f"{value.dtype}.\n  {advice}"
            )
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise SupernetError(
                f"checkpoint has values in weight {key!r} that are not finite.\n"
                "  Restore the file, or train again with a lower learning rate."
            )


def _parameter(key: str) -> str:
    """Name of the parameter in an address, without choices and sides of kernels."""
    return key.partition("@")[0].partition("#")[0]


def _grows_to(weight: Tensor, value: Tensor, is_grown: bool) -> bool:
    """Whether a stored weight may stand for one of the store: as large on every axis, or larger."""
    if weight.dim() != value.dim() or weight.dtype != value.dtype:
        return False
    return is_grown or all(have <= got for have, got in zip(weight.shape, value.shape, strict=True))


def fingerprint(store: Store) -> str:
    """Hash all weights with their names and shapes.

    Args:
        store: Store whose weights are hashed.

    Returns:
        SHA-256 as 64 hexadecimal digits; stores with equal ones evaluate equally.
    """
    digest = sha256()
    _add(digest, store.weights)
    return digest.hexdigest()


def _digest(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """Hash a checkpoint: what it says but for the hash itself, and what it holds."""
    digest = sha256(json.dumps({k: v for k, v in metadata.items() if k != HASH}, sort_keys=True).encode())
    _add(digest, tensors)
    return digest.hexdigest()


def _add(digest: Any, tensors: Mapping[str, Tensor]) -> None:
    """Hash tensors with their names, types and shapes."""
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, "pt") as data:
            yield data
    except (OSError, ValueError, SafetensorError) as err:
        raise SupernetError(f"expected a supernet checkpoint, got {str(file)!r} ({err}).\n  Check the path.") from err


def _metadata(data: Any) -> dict[str, str]:
    return dict(data.metadata() or {})
