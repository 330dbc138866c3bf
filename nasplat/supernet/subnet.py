"""Subnets: plain modules whose parameters are slices of the store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nasplat.searchspace import Architecture
from nasplat.supernet.optimiser import MaskedAdamW
from nasplat.supernet.slicing import Rule, declarations, rule_for
from nasplat.supernet.store import Store

CACHED = 64
"""Built modules kept; their parameters are views, so they follow the store without being rebuilt."""


@dataclass
class Bound:
    """A subnet bound to the store."""

    module: nn.Module
    """Network whose parameters are slices of the store."""
    parameters: list[tuple[str, nn.Parameter]]
    """Address and parameter, of every distinct parameter."""
    rules: dict[str, Rule] = field(default_factory=dict)
    """Rules of those that take other positions than the weight's rule says, by address."""

    def refresh(self, store: Store) -> None:
        """Renew the parameters that are computed from the store rather than viewed.

        Args:
            store: Store that the subnet is bound to.
        """
        for key, parameter in self.parameters:
            own = self.rules.get(key)
            if not store.is_view(key, tuple(parameter.shape), own):
                with torch.no_grad():
                    parameter.copy_(store.take(key, tuple(parameter.shape), own))

    def collect(self, store: Store, optimiser: MaskedAdamW) -> None:
        """Move the parameters' gradients to the optimiser of the store; those of views without a copy.

        Args:
            store: Store that the subnet is bound to.
            optimiser: Optimiser of the store's weights.
        """
        for key, parameter in self.parameters:
            gradient, parameter.grad = parameter.grad, None
            if gradient is None:
                continue
            own = self.rules.get(key)
            if own is None and store.is_view(key, tuple(parameter.shape)):
                optimiser.add(key, gradient)
            else:
                for name, part, shape in store.spread(key, gradient, own):
                    optimiser.add(name, part, shape, own if name == key else None)


class Subnets:
    """Builds, caches and extracts subnets of a store."""

    def __init__(self, store: Store, device: torch.device) -> None:
        """Begin with an empty cache.

        Args:
            store: Store that subnets are cut from.
            device: Torch device that subnets run on; the store's weights are on it.
        """
        self.store, self.device = store, device
        self._cache: OrderedDict[Architecture, Bound] = OrderedDict()
        self.finish: Callable[[nn.Module], None] | None = None
        """Called with every module that is built for training, such as to compile its blocks."""

    def bind(self, architecture: Architecture) -> Bound:
        """Build or recall a module that computes with the store's memory; training it trains the store.

        Args:
            architecture: Member of the space; the store grows where it lacks a parameter of it.

        Returns:
            The module with the addresses of its parameters.
        """
        found = self._cache.get(architecture)
        if found is None:
            found = self.build(architecture, grows=True)
            if self.finish is not None:
                self.finish(found.module)
            self._cache[architecture] = found
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(architecture)
        found.refresh(self.store)
        return found

    def forget(self) -> None:
        """Build all subnets anew from now on: the store's tensors were replaced."""
        self._cache.clear()

    def build(self, architecture: Architecture, grows: bool = False) -> Bound:
        """Build a new module of slices.

        Args:
            architecture: Member of the space.
            grows: True adds parameters that the store lacks to it; otherwise they have initial values of their own.

        Returns:
            The module with the addresses of its parameters.
        """
        module, _ = self.store.space.construct(architecture, initialised=False)
        module.to(self.device)
        bound: list[tuple[str, nn.Parameter]] = []
        shared: dict[int, nn.Parameter] = {}
        rules, stated = self._rules(architecture, module), declarations(module)
        for path, part in module.named_modules():
            for name, parameter in list(part._parameters.items()):
                if parameter is None:
                    continue
                slice_ = shared.get(id(parameter))
                if slice_ is None:
                    full = f"{path}.{name}" if path else name
                    key, shape = self.store.address(full, architecture.choices), tuple(parameter.shape)
                    own = rules.get(key)
                    if own is None:
                        rule = rule_for(part, name, parameter, stated.get(full))
                        view = self._part(architecture, full, key, shape, rule, grows)
                    else:
                        view = self.store.take(key, shape, own).detach()
                    slice_ = nn.Parameter(view, requires_grad=parameter.requires_grad)
                    shared[id(parameter)] = slice_
                    bound.append((key, slice_))
                part._parameters[name] = slice_
        return Bound(module, bound, rules)

    def _rules(self, architecture: Architecture, module: nn.Module) -> dict[str, Rule]:
        """Rules of those parameters that take other positions than the weight's rule says, by address."""
        if not self.store.slices.is_needed:
            return {}
        return self.store.rules_of(architecture, {n: tuple(p.shape) for n, p in module.named_parameters()})

    def _part(
        self, architecture: Architecture, name: str, key: str, shape: tuple[int, ...], rule: Rule | None, grows: bool
    ) -> Tensor:
        if not self.store.lacks(key, shape, rule):
            return self.store.take(key, shape).detach()
        value = self.store.initial(architecture)[name].to(self.device)
        if not grows:
            return value
        if key in self.store.weights:
            self.forget()  # the tensor that others view is replaced
        self.store.grow(key, value.clone(), rule, (architecture, name))
        return self.store.take(key, shape).detach()

    def extract(self, architecture: Architecture) -> nn.Module:
        """Build a plain module that is independent of the store.

        Args:
            architecture: Member of the space.

        Returns:
            A module with copies of its slices, and BatchNorm statistics at their start.
        """
        module = self.build(architecture).module
        memo: dict[int, nn.Parameter] = {}
        for part in module.modules():
            for name, parameter in list(part._parameters.items()):
                if parameter is not None:
                    if id(parameter) not in memo:
                        memo[id(parameter)] = nn.Parameter(
                            parameter.detach().clone(memory_format=torch.contiguous_format)
                        )
                    part._parameters[name] = memo[id(parameter)]
        return module
