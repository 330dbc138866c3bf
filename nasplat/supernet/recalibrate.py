"""Running statistics of one subnet, from a fixed set of training images; never written into the store.

Those of BatchNorm are exact: means of x and of x² are accumulated over all images at once (not averages of batch
variances, which lose the part between batches), in one pass in which every layer normalises with its batch's
statistics. Buffers that other modules change in training follow those modules' rules, see running.py.
"""

from __future__ import annotations

from typing import Any
from warnings import warn

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasplat.errors import SupernetError, SupernetWarning
from nasplat.supernet.running import ROUNDS, begins_matter, changing_buffers, settle
from nasplat.task.bundle import Bundle, feed

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""Layers that compute mean and unbiased variance of each batch anyway."""
BATCH, ELEMENTS = 256, 2**22
"""Images at once, and numbers in them at most: activations of more no longer fit the caches."""


@torch.no_grad()
def recalibrate(module: nn.Module, images: Tensor | Bundle) -> None:
    """Set the running statistics of every layer that keeps some, in place; the subnet is in eval mode then.

    Args:
        module: Subnet whose statistics are set.
        images: Training inputs of shape (n, …), as evaluation will see them; a few hundred suffice.
    """
    own = changing_buffers(module, images)
    moving = settle(module, images, own) if own else []
    if moving:
        warn(
            f"buffers {listed(moving)} still move after {ROUNDS} rounds of training images: a subnet's may differ from "
            "those of its own training. Let them follow the data faster, such as by a larger momentum.",
            SupernetWarning,
            stacklevel=2,
        )
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not layers:
        return
    pooled = {layer: _Pooled(layer) for layer in layers}

    def collect(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        pooled[layer].add(layer, inputs[0])  # type: ignore[index, arg-type]

    module.eval()
    hooks = [layer.register_forward_pre_hook(collect) for layer in layers]
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.train()
            layer.reset_running_stats()
            layer.momentum = 1.0  # statistics are those of the last batch
        size = max(1, min(BATCH, ELEMENTS // images[0].numel()))
        for start in range(0, len(images), size):
            feed(module, images[start : start + size])
    finally:
        for hook in hooks:
            hook.remove()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
    for layer, found in pooled.items():
        found.write(layer)


class _Pooled:
    """Statistics of a layer's inputs over several batches, from those that the layer computes of each."""

    def __init__(self, layer: _BatchNorm) -> None:
        self.before = [t.clone() for t in (layer.running_mean, layer.running_var) if t is not None]
        self.last = 0  # values of a channel in the batch whose statistics the layer holds
        self.n = 0
        self.first: Any = 0.0  # sum of x
        self.second: Any = 0.0  # sum of x²

    def add(self, layer: _BatchNorm, x: Tensor) -> None:
        """Take a batch that the layer is about to normalise."""
        if type(layer) in PLAIN:
            self._take_last(layer)
            self.last = x.numel() // x.shape[1]
            return
        values = x.transpose(0, 1).flatten(1).double()  # a layer of another class may keep statistics in its own way
        self.n += values.shape[1]
        self.first = self.first + values.sum(1)
        self.second = self.second + values.square().sum(1)

    def _take_last(self, layer: _BatchNorm) -> None:
        """Add the batch whose statistics the layer holds, before another one takes their place."""
        if self.last and layer.running_mean is not None and layer.running_var is not None:
            mean, variance, n = layer.running_mean.double(), layer.running_var.double(), self.last
            self.n += n
            self.first = self.first + n * mean
            self.second = self.second + (n - 1) * variance + n * mean.square()

    def write(self, layer: _BatchNorm) -> None:
        """Set the running statistics of the layer; one that was not reached keeps them as they were."""
        if layer.running_mean is None or layer.running_var is None:
            return
        if not self.n and not self.last:
            layer.running_mean.copy_(self.before[0])
            layer.running_var.copy_(self.before[1])
            return
        if self.n:  # else the layer holds the statistics of the only batch
            self._take_last(layer)
            mean = self.first / self.n
            variance = (self.second / self.n - mean.square()).clamp_min(0.0) * (self.n / max(1, self.n - 1))
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(variance)
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.fill_(1)


def check_buffers(module: nn.Module, images: Tensor | Bundle) -> None:
    """Refuse a network with buffers that only its training knows, and say which ones follow rules of their own.

    Args:
        module: Largest network of a space, with initial weights.
        images: Training inputs of shape (n, …); a few hundred suffice.

    Raises:
        SupernetError: values of a buffer depend on where it began, as those of a codebook do that moving averages
            learn: no subnet could be given them after the training.
    """
    own = changing_buffers(module, images)
    if not own:
        return
    lost = begins_matter(module, images, own)
    if lost:
        raise SupernetError(
            f"buffers {listed(lost)} are learnt by training itself: what they come to depends on where they begin, so "
            "that no subnet can be given them afterwards.\n"
            "  Make them parameters, which are shared and trained, or keep them constant in training."
        )
    unknown = [n for n in own if not type(module.get_submodule(n.rpartition(".")[0])).__module__.startswith("torch.")]
    if unknown:
        warn(
            f"buffers {listed(unknown)} change in training by a rule that is not torch's: every subnet gets them from "
            "passes over training images in training mode, and not from the supernet's training.",
            SupernetWarning,
            stacklevel=3,
        )


def listed(names: list[str]) -> str:
    """Join names, the first few of many.

    Args:
        names: Names of buffers, at least one.

    Returns:
        The first four in quotes.
    """
    return ", ".join(repr(n) for n in names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
