"""Buffers that training changes by a rule of their module's own: running averages of any norm, power iterations.

Which they are is seen, not guessed: those that a forward pass in training mode changes. Each subnet gets them from
training-mode passes of the modules that hold them over fixed training images, until they no longer move. A buffer whose
values depend on where it began, such as a codebook that is learnt by moving averages, belongs to a training and not to
the data: no subnet can be given it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasplat.task.bundle import Bundle, feed

FEW, BATCH = 8, 32
"""Images of the pass that shows which buffers change; images of each pass that moves them."""
ROUNDS = 24
"""Times that all images are gone through at most."""
SETTLED = 1e-2
"""Distance that is left to go, relative to the values, below which buffers count as settled."""
APART = 5e-2
"""Distance of settled values from two starts, relative to the values, from which on the start matters."""
START = 0.25
"""Distance of other values to begin with, relative to the settled ones, to see whether they matter in the end."""


def changing_buffers(module: nn.Module, images: Tensor | Bundle) -> list[str]:
    """Find the buffers that a forward pass in training mode changes; those of BatchNorm layers are left out.

    Args:
        module: Network to look at, which is left as it was, in eval mode.
        images: Training inputs of shape (n, …), of which a few are used.

    Returns:
        Names of the buffers, in the network's order.
    """
    if not _candidates(module):
        return []
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with _at_random(images), torch.no_grad():
        module.train()
        feed(module, images[:FEW])
        module.eval()
    after = dict(module.named_buffers())
    found = [n for n in _candidates(module) if n in after and not _equal(before[n], after[n])]
    for name, value in before.items():
        after[name].copy_(value)
    return found


def settle(module: nn.Module, images: Tensor | Bundle, names: list[str]) -> list[str]:
    """Let the modules that hold these buffers see training images until the buffers no longer move, in place.

    Args:
        module: Network whose buffers are set; it is in eval mode then.
        images: Training inputs of shape (n, …).
        names: Names of the buffers, as `changing_buffers` found them.

    Returns:
        Names of the buffers that still move.
    """
    owners = [module.get_submodule(name.rpartition(".")[0]) for name in names]
    batchwise = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [m.momentum for m in batchwise]
    left = [n for n in names if module.get_buffer(n).is_floating_point()]
    module.eval()
    try:
        for part in (*owners, *batchwise):
            part.training = True  # this module alone, and not those inside it
        for part in batchwise:
            part.momentum = 0.0
        last = dict.fromkeys(left, 1.0)
        for _ in range(ROUNDS):
            before = {n: module.get_buffer(n).clone() for n in left}
            with _at_random(images), torch.no_grad():
                for start in range(0, len(images), BATCH):
                    feed(module, images[start : start + BATCH])
            moved = {n: _moved(before[n], module.get_buffer(n)) for n in left}
            # every round goes the same share of the way that is left
            left = [n for n in left if moved[n] and moved[n] > SETTLED * (1 - min(moved[n] / last[n], 0.999))]
            last = moved
            if not left:
                break
    finally:
        for part, momentum in zip(batchwise, momenta, strict=True):
            part.momentum = momentum
        module.eval()
    return left


def begins_matter(module: nn.Module, images: Tensor | Bundle, names: list[str]) -> list[str]:
    """Find the buffers whose settled values depend on where they began; the module's buffers are left settled.

    Args:
        module: Network to look at.
        images: Training inputs of shape (n, …).
        names: Names of buffers that training changes.

    Returns:
        Names of those that belong to a training, and cannot be found again from data.
    """
    begun = {n: module.get_buffer(n).clone() for n in names}
    moving = {*settle(module, images, names)}
    first = {n: module.get_buffer(n).clone() for n in names}
    generator = torch.Generator().manual_seed(0)
    for name, value in begun.items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator).to(value)
            module.get_buffer(name).copy_(value + START * first[name].abs().max() * noise)
        else:
            module.get_buffer(name).copy_(value)
    moving |= {*settle(module, images, names)}
    other = {n: module.get_buffer(n).clone() for n in names}
    for name, value in first.items():
        module.get_buffer(name).copy_(value)
    spectral = torch.nn.utils.parametrizations._SpectralNorm
    return [
        n
        for n in names
        if first[n].is_floating_point()
        and n not in moving
        and _moved(first[n], other[n]) > APART
        # the two vectors of a power iteration may both turn round, which changes nothing
        and not isinstance(module.get_submodule(n.rpartition(".")[0]), spectral)
    ]


def _candidates(module: nn.Module) -> list[str]:
    """Names of buffers that belong to no BatchNorm layer."""
    return [
        f"{path}.{name}" if path else name
        for path, part in module.named_modules()
        if not isinstance(part, _BatchNorm)
        for name, buffer in part._buffers.items()
        if buffer is not None
    ]


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def _moved(a: Tensor, b: Tensor) -> float:
    """Largest change over the largest value."""
    scale = max(float(a.abs().max()), float(b.abs().max()), 1e-12) if a.numel() else 1.0
    return float((a - b).abs().max()) / scale if a.numel() else 0.0


@contextmanager
def _at_random(images: Tensor | Bundle) -> Iterator[Any]:
    """Draw dropout and the like from one seed, and leave torch's generators as they were."""
    with torch.random.fork_rng([images.device] if images.is_cuda else []):
        torch.manual_seed(0)
        yield
