"""Channels in the order of their importance, so that a narrower subnet keeps those that matter.

Which axes of which weights carry the same channels follows from what a width choice changes. Whether they may be
permuted together is not assumed: the permuted network must compute what it computed before, in float64 with random
weights; what does not stays as it is. Importance is the L1 norm of the weights that read a channel. Source: Cai et al.
2020 (Once-for-All), arXiv:1908.09791, section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor

from nasplat.searchspace import Architecture
from nasplat.searchspace.shaping import example_batch
from nasplat.supernet.extremes import contexts, with_option
from nasplat.supernet.optimiser import MaskedAdamW
from nasplat.supernet.slicing import LEADING, slots
from nasplat.supernet.store import Store
from nasplat.supernet.subnet import Subnets
from nasplat.task.bundle import feed

Axis = tuple[str, int]
"""Address of a weight, and the number of one of its axes."""
TOLERANCE = 1e-9
"""Relative difference of outputs in float64 that still counts as the same function."""


@dataclass(frozen=True)
class Group:
    """Axes that carry the same channels."""

    choice: str
    """Name of the choice whose options cut these axes."""
    size: int
    """Number of channels in the largest network."""
    block: int
    """Number of channels that move together, such as those of an attention head."""
    axes: tuple[Axis, ...]
    """Axes of the weights, by address and number."""


def sort_channels(store: Store, optimiser: MaskedAdamW | None = None) -> list[Group]:
    """Permute the weights of a store in place, the most important channels first.

    The largest networks compute what they did; narrower ones change.

    Args:
        store: Store whose narrower subnets have not been trained yet, since they change.
        optimiser: Optimiser whose moments follow the weights; None where there is none.

    Returns:
        Groups that were sorted. Other channels cannot be permuted alone, or no weight that is read along them tells
        their importance.
    """
    done = []
    for group in groups(store):
        order = _order(store, group)
        if order is None:
            continue
        for part in [store.weights] + ([optimiser.mean, optimiser.square] if optimiser is not None else []):
            _permute(part, group, order)
        done.append(group)
    return done


def groups(store: Store) -> list[Group]:
    """Find axes that may be permuted together: by what choices cut, kept if a permutation changes no function.

    Args:
        store: Store whose weights are looked at.

    Returns:
        Groups of axes; none where the largest networks that are looked at leave weights out.
    """

    def find() -> list[Group]:
        members = _covering(store)
        found = [_proven(store, ways, members) for ways in _candidates(store, members)] if members else []
        return [g for g in found if g is not None]

    shapes = tuple(sorted((k, tuple(w.shape)) for k, w in store.weights.items()))  # a store may have grown
    return store.space.remembered(("channel groups", shapes), find, everywhere=True)


def _covering(store: Store) -> list[Architecture]:
    """Find largest networks that between them have every weight; none if those looked at leave some out."""
    left, found = {k for k in store.weights if "#" not in k}, list[Architecture]()
    for context in contexts(store.space):
        module, _ = store.space.construct(context, initialised=False)
        met = {store.address(name, context.choices) for name, _ in module.named_parameters()}
        if left & met:
            left -= met
            found.append(context)
        if not left:
            return found
    return []


def _candidates(store: Store, members: list[Architecture]) -> list[list[Group]]:
    """For every set of axes the ways to permute it: each channel alone, then in blocks.

    Fewer axes come first, and are taken from larger sets.
    """
    found = dict[tuple[str, int], dict[Axis, set[int]]]()
    for choice, (key, axis), have, want in _cuts(store, members):
        found.setdefault((choice, have), {}).setdefault((key, axis), {have}).add(want)
    taken, candidates = set[Axis](), list[list[Group]]()
    for (choice, size), axes in sorted(found.items(), key=lambda row: len(row[1])):
        left = {a: sizes for a, sizes in axes.items() if a not in taken}
        if left:
            taken |= left.keys()
            block = gcd(*(s for sizes in left.values() for s in sizes))
            candidates.append([Group(choice, size, b, tuple(sorted(left))) for b in sorted({1, block}) if b < size])
    return candidates


def _cuts(store: Store, members: list[Architecture]) -> Iterator[tuple[str, Axis, int, int]]:
    """Choice, axis, channels before and after, for every whole axis of a weight that an option of a choice cuts."""
    space = store.space
    for context in members:
        whole = slots(space.construct(context, initialised=False)[0])
        for choice in context.choices:
            options = space.known[choice]
            if len(options) < 2 or any(isinstance(o, str) for o in options):
                continue
            for option in options:
                smaller = with_option(space, context, choice, option)
                if smaller is None:
                    continue
                part = slots(space.construct(smaller, initialised=False)[0])
                for name in (n for n in whole if n in part):
                    key, rule = store.address(name, context.choices), whole[name].rule
                    if rule is None or key != store.address(name, smaller.choices):
                        continue
                    for axis, (have, want) in enumerate(zip(whole[name].shape, part[name].shape, strict=True)):
                        is_whole = store.weights[key].shape[axis] == have
                        if have != want and is_whole and rule.axes[axis] == LEADING:
                            yield choice, (key, axis), have, want


def _proven(store: Store, ways: list[Group], members: list[Architecture]) -> Group | None:
    """The first way to permute that changes no function of random float64 weights; None where every way does."""
    generator = torch.Generator().manual_seed(0)
    probe = store.with_weights(
        {
            k: torch.randn(w.shape, generator=generator, dtype=torch.float64) / max(1.0, w.numel() / w.shape[0]) ** 0.5
            for k, w in store.weights.items()
            if w.dim()
        }
        | {k: w.detach().double().cpu() for k, w in store.weights.items() if not w.dim()}
    )
    before = _outputs(probe, members)
    for group in ways:
        n = group.size // group.block
        if all(
            _is_same(probe, members, group, order, before)
            for order in (torch.arange(n).roll(1), torch.randperm(n, generator=generator))
        ):
            return group
    return None


def _is_same(probe: Store, members: list[Architecture], group: Group, order: Tensor, before: list[Tensor]) -> bool:
    weights = {k: w.clone() for k, w in probe.weights.items()}
    _permute(weights, group, order)
    after = _outputs(probe.with_weights(weights), members)
    return all((a - b).abs().max() <= TOLERANCE * (1 + b.abs().max()) for a, b in zip(after, before, strict=True))


@torch.no_grad()
def _outputs(store: Store, members: list[Architecture]) -> list[Tensor]:
    found, subnets = list[Tensor](), Subnets(store, torch.device("cpu"))
    for context in members:
        _, shape = store.space.construct(context, initialised=False)
        x = example_batch(shape, 2, torch.Generator().manual_seed(1), torch.float64)
        module = subnets.extract(context).double()
        output = feed(module.eval(), x)
        found += [output] if isinstance(output, Tensor) else [o for o in output if isinstance(o, Tensor)]
    return found


def _order(store: Store, group: Group) -> Tensor | None:
    """Order of the blocks, the most important first; None where nothing reads along these axes."""
    importance: Tensor | None = None
    for key, axis in group.axes:
        weight = store.weights[key]
        if axis == 1 and weight.dim() > 1:
            read = weight.detach().abs().transpose(0, 1).flatten(1).sum(1)
            importance = read if importance is None else importance + read
    if importance is None:
        return None
    return importance.unflatten(0, (-1, group.block)).sum(1).argsort(descending=True, stable=True)


def _permute(tensors: dict[str, Tensor], group: Group, order: Tensor) -> None:
    channels = (order[:, None] * group.block + torch.arange(group.block, device=order.device)).flatten()
    for key, axis in group.axes:
        tensors[key].copy_(tensors[key].index_select(axis, channels.to(tensors[key].device)))
