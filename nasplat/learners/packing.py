"""What a weights file holds beside plain arrays: names, and the weights of torch modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Arrays = dict[str, NDArray[Any]]


def pack_lines(lines: Sequence[str]) -> NDArray[np.uint8]:
    """Turn names into an array of bytes.

    Args:
        lines: Names without line breaks.

    Returns:
        UTF-8 bytes of shape (n,).

    Example:
        >>> unpack_lines(pack_lines(["macs", "params"]))
        ['macs', 'params']
    """
    return np.frombuffer("\n".join(lines).encode(), np.uint8)


def unpack_lines(text: NDArray[Any]) -> list[str]:
    """Read names back.

    Args:
        text: What `pack_lines` returned.

    Returns:
        The names; one empty name where there were none.
    """
    return text.tobytes().decode().split("\n")


def pack_modules(modules: Mapping[str, nn.Module]) -> Arrays:
    """List the weights of modules as arrays.

    Args:
        modules: Modules by name, on any device.

    Returns:
        Arrays whose names are the module's, a dot, and the weight's.
    """
    return {
        f"{name}.{key}": tensor.detach().cpu().numpy()
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


def unpack_modules(arrays: Arrays, modules: Mapping[str, nn.Module]) -> None:
    """Read weights back into modules of the same shapes.

    Args:
        arrays: Arrays of a weights file, with what `pack_modules` returned among them.
        modules: Modules by the same names; they are changed in place.
    """
    for name, module in modules.items():
        prefix = f"{name}."
        module.load_state_dict(
            {k.removeprefix(prefix): torch.from_numpy(v.copy()) for k, v in arrays.items() if k.startswith(prefix)}
        )
