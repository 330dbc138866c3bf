"""Subnets: plain modules whose parameters are slices of the store."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasplat.searchspace import Architecture
from nasplat.supernet.slicing import give
from nasplat.supernet.store import Store

CACHED = 64
"""Built modules kept; their parameters are views, so they follow the store without being rebuilt."""


@dataclass
class Bound:
    """A subnet bound to the store."""

    module: nn.Module
    parameters: list[tuple[str, nn.Parameter]]
    """(store key, parameter) of every distinct parameter."""

    def refresh(self, store: Store) -> None:
        """Renew what is computed from the store rather than viewed."""
        for key, parameter in self.parameters:
            rule = store.rules[key]
            if rule is not None and not rule.is_view(tuple(store.weights[key].shape), tuple(parameter.shape)):
                with torch.no_grad():
                    parameter.copy_(store.take(key, tuple(parameter.shape)))

    def give_gradients(self, store: Store, buffers: dict[str, Tensor]) -> None:
        """Add the parameters' gradients to full-sized buffers, and clear them."""
        for key, parameter in self.parameters:
            if parameter.grad is None:
                continue
            stored = store.weights[key]
            buffer = buffers.get(key)
            if buffer is None:
                buffer = buffers[key] = torch.zeros_like(stored)
            rule = store.rules[key]
            if rule is None or stored.shape == parameter.shape:
                buffer.add_(parameter.grad)
            else:
                give(buffer, parameter.grad, rule, key)
            parameter.grad = None


class Subnets:
    """Builds, caches and extracts subnets of a store."""

    def __init__(self, store: Store, device: torch.device) -> None:
        """Args:
        store: The largest weights.
        device: Where subnets run.
        """
        self.store, self.device = store, device
        self._cache: OrderedDict[Architecture, Bound] = OrderedDict()

    def bind(self, architecture: Architecture) -> Bound:
        """A module that computes with the store's memory; training it trains the store."""
        found = self._cache.get(architecture)
        if found is None:
            found = self._bind(architecture)
            self._cache[architecture] = found
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(architecture)
        found.refresh(self.store)
        return found

    def _bind(self, architecture: Architecture) -> Bound:
        module, _ = self.store.space.construct(architecture, initialised=False)
        module.to(self.device)
        bound: list[tuple[str, nn.Parameter]] = []
        shared: dict[int, nn.Parameter] = {}
        for path, part in module.named_modules():
            for name, parameter in list(part._parameters.items()):
                if parameter is None:
                    continue
                slice_ = shared.get(id(parameter))
                if slice_ is None:
                    key = self.store.address(f"{path}.{name}" if path else name, architecture.choices)
                    view = self.store.take(key, tuple(parameter.shape)).detach()
                    slice_ = nn.Parameter(view, requires_grad=parameter.requires_grad)
                    shared[id(parameter)] = slice_
                    bound.append((key, slice_))
                part._parameters[name] = slice_
        return Bound(module, bound)

    def extract(self, architecture: Architecture) -> nn.Module:
        """A plain module with copies of its slices and BatchNorm statistics at their start; independent of the store."""
        module = self._bind(architecture).module
        memo: dict[int, nn.Parameter] = {}
        for part in module.modules():
            for name, parameter in list(part._parameters.items()):
                if parameter is not None:
                    if id(parameter) not in memo:
                        memo[id(parameter)] = nn.Parameter(parameter.detach().clone(memory_format=torch.contiguous_format))
                    part._parameters[name] = memo[id(parameter)]
        return module


def independent(module: nn.Module) -> nn.Module:
    """A deep copy that shares no memory."""
    return copy.deepcopy(module)
