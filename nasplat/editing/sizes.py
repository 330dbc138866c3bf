"""Edits of sizes: fewer or more channels, smaller or larger kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nasplat.editing.edit import Edit, conv_args, place_of
from nasplat.editing.network import Network, read_by
from nasplat.errors import EditError


@dataclass(frozen=True)
class Width(Edit):
    """Gives a group of channels fewer or more of them.

    The channels with the smallest weights go, or those with the largest weights are doubled; a doubled channel is read
    once, so that the network computes what it did.
    """

    group: str
    """Group by the weight that first makes its channels, one of `network.channels.groups`."""
    share: float
    """Share of the channels that is left, above 1 for more; the count is rounded, to multiples of 4 from 16 on."""
    kind = "channels"

    def __call__(self, network: Network) -> Network:
        """Build the edited network, see `Edit`."""
        channels = network.channels
        if self.group not in channels.groups:
            raise EditError(
                f"expected a group of channels, got {self.group!r}.\n  Groups: {', '.join(channels.groups)}."
            )
        labels = channels.groups[self.group]
        wanted = scaled_count(len(labels), self.share)
        order = _importance(network, labels)
        times = dict.fromkeys(labels, 1)
        if wanted < len(labels):
            times |= dict.fromkeys(order[wanted:], 0)
        else:
            times |= dict.fromkeys(order[: wanted - len(labels)], 2)
        changed: dict[str, Tensor] = {}
        for (name, axis), own in channels.axes.items():
            if all(times.get(i, 1) == 1 for i in own):
                continue
            if wanted > len(labels) and len(set(own)) < len(own):
                raise EditError(
                    f"{self.group}: channels that stand several times on an axis cannot be doubled.\n  Narrow it."
                )
            weight = changed.get(name, network.weights[name])
            index = [p for p, i in enumerate(own) for _ in range(times.get(i, 1))]
            weight = weight.index_select(axis, torch.tensor(index))
            if axis == 1 and wanted > len(labels):  # a doubled channel is read once: the network computes what it did
                again = [p for p in range(1, len(index)) if index[p] == index[p - 1]]
                weight = weight.index_fill(1, torch.tensor(again), 0.0) if again else weight
            changed[name] = weight
        calls = list(network.program.calls)
        for literal in channels.literals:
            count = sum(times.get(i, 1) for i in literal.labels)
            if count != len(literal.labels):
                call = calls[literal.call]
                calls[literal.call] = replace(call, args=_put(call.args, literal.where, count))
        place = self.group.removesuffix(".weight")
        return network.edited(
            calls, network.program.outputs, changed, (), f"channels of {place} {len(labels)} → {wanted}"
        )


def _put(args: Any, where: Sequence[int], value: int) -> Any:
    """Replace a number in nested arguments, found by a path of positions."""
    place, *rest = where
    return tuple(
        _put(a, rest, value) if rest and i == place else value if i == place else a for i, a in enumerate(args)
    )


def _importance(network: Network, labels: Sequence[int]) -> list[int]:
    """Sort channels by the squared norm of the weights that make and read them, each weight's mean being 1."""
    sums = dict.fromkeys(labels, 0.0)
    for (name, axis), own in network.channels.axes.items():
        weight = network.weights[name]
        if weight.dim() < 2 or not sums.keys() & set(own):
            continue
        size = weight.float().square().sum([d for d in range(weight.dim()) if d != axis])
        size = size / size.mean().clamp_min(1e-12)
        for i, s in zip(own, size.tolist(), strict=True):
            if i in sums:
                sums[i] += s
    return sorted(labels, key=lambda i: (-sums[i], i))


def scaled_count(size: int, share: float) -> int:
    """Compute how many channels are a share of a group.

    Args:
        size: Channels in the group.
        share: Wanted share, above 1 for more channels.

    Returns:
        At least 1; a multiple of 4 where the group has 16 channels or more.

    Example:
        >>> scaled_count(64, 0.7), scaled_count(6, 0.5)
        (44, 3)
    """
    step = 4 if size >= 16 else 1
    return max(1, round(size * share / step) * step)


@dataclass(frozen=True)
class Kernel(Edit):
    """Gives a convolution a smaller kernel, its centre kept, or a larger one, with zeros around."""

    call: int
    """Number of the convolution among the network's calls."""
    step: int
    """Difference of the kernel's sides, -2 or 2; sides of 1 stay."""
    kind = "kernel"

    def __call__(self, network: Network) -> Network:
        """Build the edited network, see `Edit`."""
        call = network.program.calls[self.call]
        args = conv_args(call)
        name, weight = call.args[1][1], network.weights[call.args[1][1]]
        sizes = [k + self.step if k > 1 else k for k in weight.shape[2:]]
        if isinstance(args[4], tuple):
            dilation = args[5][1:]
            shift = [d * (n - k) // 2 for k, n, d in zip(weight.shape[2:], sizes, dilation, strict=True)]
            padding = [p + s for p, s in zip(args[4][1:], shift, strict=True)]
            if min(padding) < 0:
                raise EditError(f"{place_of(network, self.call)}: a smaller kernel needs padding to lose.\n  Leave it.")
            args[4] = ("list", *padding)
        if self.step < 0:
            cut = [(k - n) // 2 for k, n in zip(weight.shape[2:], sizes, strict=True)]
            weight = weight[:, :, cut[0] : cut[0] + sizes[0], cut[1] : cut[1] + sizes[1]].contiguous()
        else:
            grow = [(n - k) // 2 for k, n in zip(weight.shape[2:], sizes, strict=True)]
            weight = torch.nn.functional.pad(weight, (grow[1], grow[1], grow[0], grow[0]))
        if len(_sharers(network, name)) > 1:
            raise EditError(f"{name} is used more than once.\n  Leave it.")
        calls = list(network.program.calls)
        calls[self.call] = replace(call, args=tuple(args))
        before = "×".join(map(str, network.weights[name].shape[2:]))
        words = f"kernel of {place_of(network, self.call)} {before} → {'×'.join(map(str, sizes))}"
        return network.edited(calls, network.program.outputs, {name: weight}, (), words)


def _sharers(network: Network, name: str) -> list[int]:
    """Find the calls that read a weight."""
    return [i for i, c in enumerate(network.program.calls) if name in read_by((c.args, c.kwargs), "weight")]
