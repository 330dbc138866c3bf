"""BatchNorm statistics of one subnet, from a fixed set of training images; never written into the store.

Means of x and of x² are accumulated over all images at once (not averages of batch variances, which lose the part
between batches), in one pass in which every layer normalises with its batch's statistics.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BATCH, ELEMENTS = 256, 2**22
"""Images at once, and numbers in them at most: activations of more no longer fit the caches."""


def needs_recalibration(module: nn.Module) -> bool:
    """Tell whether a network has statistics to set.

    Args:
        module: Network to look in.

    Returns:
        True when a BatchNorm layer keeps running statistics.
    """
    return any(isinstance(m, _BatchNorm) and m.track_running_stats for m in module.modules())


@torch.no_grad()
def recalibrate(module: nn.Module, images: Tensor) -> None:
    """Set the running statistics of every BatchNorm layer, in place; other layers run in eval mode.

    Args:
        module: Subnet whose statistics are set.
        images: Training inputs of shape (n, …), as evaluation will see them; a few hundred suffice.
    """
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not layers:
        return
    totals: dict[_BatchNorm, list[Any]] = {m: [0, 0.0, 0.0] for m in layers}

    def collect(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].transpose(0, 1).flatten(1).double()
        total = totals[layer]  # type: ignore[index]
        total[0] += x.shape[1]
        total[1] = total[1] + x.sum(1)
        total[2] = total[2] + x.square().sum(1)

    module.eval()
    hooks = [layer.register_forward_pre_hook(collect) for layer in layers]
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.train()
            layer.momentum = 0.0
        size = max(1, min(BATCH, ELEMENTS // images[0].numel()))
        for start in range(0, len(images), size):
            module(images[start : start + size])
    finally:
        for hook in hooks:
            hook.remove()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
    for layer, (n, first, second) in totals.items():
        if not n or layer.running_mean is None or layer.running_var is None:
            continue
        mean = first / n
        variance = (second / n - mean.square()).clamp_min(0.0) * (n / max(1, n - 1))
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.fill_(1)
