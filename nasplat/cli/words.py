"""Words of a command become values: numbers, presets, limits, shapes, networks and devices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nasplat.errors import InputError

if TYPE_CHECKING:
    from torch import nn


def value(text: str) -> Any:
    """Read a value as JSON where it is JSON, and as text otherwise.

    Args:
        text: Word such as '3', 'true', '[1, 2]' or 'mini'.

    Returns:
        Number, text, truth value, list or mapping.

    Example:
        >>> value("3"), value("mini")
        (3, 'mini')
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def pairs(texts: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE words; a later one with the same name wins.

    Args:
        texts: Words such as 'width=8'.

    Returns:
        Values by name.

    Raises:
        InputError: a word has no '='.

    Example:
        >>> pairs(["width=8", "size=mini"])
        {'width': 8, 'size': 'mini'}
    """
    found = {}
    for text in texts:
        name, equals, word = text.partition("=")
        if not equals:
            raise InputError(f"expected NAME=VALUE, got {text!r}.\n  Write for instance width=8.")
        found[name] = value(word)
    return found


def numbers(texts: Sequence[str]) -> dict[str, float]:
    """Read NAME=NUMBER words, such as limits.

    Args:
        texts: Words such as 'macs=2e6'.

    Returns:
        Numbers by name.

    Raises:
        InputError: a word has no '=', or no number behind it.
    """
    found = pairs(texts)
    for name, number in found.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise InputError(f"{name} expected a number, got {number!r}.\n  Write for instance {name}=2e6.")
    return found


def shape(text: str | None) -> tuple[int, ...] | None:
    """Read the shape of an input batch.

    Args:
        text: Numbers with commas, such as '1,3,224,224'; None where no shape was given.

    Returns:
        Sizes, the batch first; or None.

    Raises:
        InputError: something else is written.
    """
    if text is None:
        return None
    try:
        return tuple(int(v) for v in text.split(","))
    except ValueError as err:
        raise InputError(
            f"expected --input as numbers with commas, got {text!r}.\n  Write for instance 1,3,224,224."
        ) from err


def module_of(found: Any, batch: tuple[int, ...] | None) -> tuple[nn.Module, Any]:
    """Build a resolved network.

    Args:
        found: Answer of `nasplat.inputs.resolve`.
        batch: Shape of one input batch; None for the one that the network states.

    Returns:
        The module, and the shape of its input batch.

    Raises:
        InputError: torch cannot run the network.
    """
    from torch import nn

    from nasplat.inputs import DEFAULT_INPUT
    from nasplat.searchspace import Architecture

    if isinstance(found, Architecture):
        return found.space.construct(found)
    if not isinstance(found, nn.Module):
        raise InputError(
            f"expected a network torch can run, got {str(found)!r}.\n  Give the module the file was exported from."
        )
    return found, batch or getattr(found, "example_input", DEFAULT_INPUT)


def torch_device(text: str) -> str:
    """Check that a torch device can be used on this machine.

    Args:
        text: Device such as 'cpu' or 'cuda:0'.

    Returns:
        The same text.

    Raises:
        InputError: there is no such device.
    """
    import torch

    try:
        device = torch.device(text)
        if device.type == "cuda":  # asked without touching it: the processes of torchrun each take their own
            if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
                raise RuntimeError(f"there are {torch.cuda.device_count()} CUDA devices")
        elif device.type != "cpu":
            torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as err:
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise InputError(f"--device expected a device of this machine, got {text!r} ({reason}).\n  Use cpu.") from err
    return text
