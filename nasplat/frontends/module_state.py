"""A module is put into eval mode for a while, and is afterwards what it was before."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer
from torch.nn.parameter import is_lazy as waits
from torch.utils._pytree import tree_map_only

from nasplat.errors import CaptureError
from nasplat.frontends.block import SHELL, walk


@contextmanager
def evaluating(module: nn.Module) -> Iterator[Callable[[], None]]:
    """Put a module into eval mode and switch torch's fused fast paths off, while the context lasts.

    Args:
        module: The network; what its forward pass caches is forgotten afterwards.

    Yields:
        A function that undoes at once what a forward pass cached.

    Raises:
        CaptureError: a module contains itself.
    """
    parts = [m for _, m in walk(module)]
    modes = [(m, m.training) for m in parts if hasattr(m, "training")]  # a frozen script has none
    before = [
        (m, _state(m)) for m in parts if SHELL not in m.__dict__ and not type(m).__module__.startswith("torch.nn.")
    ]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    if any(SHELL in m.__dict__ for m in parts):
        for m in parts:
            m.training = False
    else:
        try:
            module.eval()
        except NotImplementedError:  # exported programs are in the mode in which they were exported
            pass
        except RecursionError as err:
            raise CaptureError(
                f"expected a tree of modules, got {type(module).__name__} with a module that contains itself.\n"
                "  Keep the reference out of the tree: in a list or tuple, or by object.__setattr__."
            ) from err
    torch.backends.mha.set_fastpath_enabled(False)

    def undo() -> None:
        for m, state in before:
            _restore(m, state)

    try:
        yield undo
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        undo()
        for m, training in modes:
            m.training = training


def with_values(module: nn.Module) -> nn.Module:
    """Give a module values, where it lies on the meta device.

    Args:
        module: The network, on any device.

    Returns:
        The module itself, or a copy with small random weights, the same in every call.
    """
    if not any(t.device.type == "meta" for t in [*module.parameters(), *module.buffers()]):
        return module
    made = copy.deepcopy(module).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for t in [*made.parameters(), *made.buffers()]:
            if t.is_floating_point():
                t.copy_(torch.rand(t.shape, generator=generator) * 0.02)
            else:
                t.zero_()
    return made


def is_lazy(module: nn.Module) -> bool:
    """Tell whether layers of a network still wait for a first batch, which gives them their sizes.

    Args:
        module: The network, as its author built it.

    Returns:
        True where a parameter or buffer has no shape yet.
    """
    return any(waits(t) for t in [*module.parameters(), *module.buffers()])


def sized(module: nn.Module, example: Any) -> nn.Module:
    """Run a copy of a network once, so that its lazy layers get their sizes.

    Args:
        module: Network with lazy layers; it is left as it is.
        example: Arguments of the network, as `as_example` gives them.

    Returns:
        The copy.

    Raises:
        CaptureError: the copy cannot be run on the example.
    """
    reason: Exception | None = None

    def waiting() -> dict[int, Any]:  # torch copies parameters without a shape, and no such buffers
        return {
            id(t): UninitializedBuffer(device=t.device, dtype=t.dtype)  # type: ignore[call-arg]
            for t in module.buffers()
            if isinstance(t, UninitializedBuffer)
        }

    for device in ("meta", "cpu"):  # without values first: nothing is computed
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            try:
                made = copy.deepcopy(module, waiting()).to(device).eval()
                given = tree_map_only(torch.Tensor, lambda t, d=device: torch.zeros_like(t, device=d), example)
                made(**given) if isinstance(given, dict) else made(*given)
            except Exception as err:  # whatever the network raises
                reason = reason or err
                continue
        if not is_lazy(made):
            return made
    told = f" ({type(reason).__name__}: {str(reason).partition(chr(10))[0]})" if reason is not None else ""
    raise CaptureError(
        f"the network has Lazy layers that get their sizes from a first batch, and a copy could not be run{told}.\n"
        "  Run it once on a batch, or check example_input."
    ) from reason


def _state(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """(Attributes of a module, copies of the containers among them)."""
    attributes = dict(module.__dict__)
    held = {k: copy.copy(v) for k, v in attributes.items() if type(v) in {dict, list, set}}
    return attributes, held


def _restore(module: nn.Module, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Give a module the attributes it had, containers with the same identity and contents."""
    attributes, held = state
    for name in module.__dict__.keys() - attributes.keys():
        del module.__dict__[name]
    module.__dict__.update(attributes)
    for name, value in held.items():
        own = module.__dict__[name]
        if (
            own == value
            if type(own) is not dict
            else own.keys() == value.keys() and all(own[k] is value[k] for k in value)
        ):
            continue
        own.clear()
        own.extend(value) if isinstance(own, list) else own.update(value)
