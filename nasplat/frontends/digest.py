"""A tensor's values as twelve hex digits."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes


def digest(tensor: Tensor) -> str:
    """Hash the values of a tensor.

    Args:
        tensor: Any dense tensor with values.

    Returns:
        Twelve hex digits, equal for equal values of equal type; the shape does not enter.
    """
    with _disable_current_modes():
        plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        data = plain.view(torch.uint8) if plain.numel() else plain.to(torch.uint8)
        return hashlib.blake2b(data.numpy().tobytes(), digest_size=6).hexdigest()
