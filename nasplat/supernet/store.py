"""The store: for every parameter the largest weight, from which subnets take slices and to which gradients return.

A parameter is addressed by its name, qualified by every string-valued choice that changes the module's type or the
shape there: a 1x1 convolution never trains as the centre of the 3x3 that another choice puts in its place.

With kernel transforms, a smaller depthwise kernel is the centre of the next larger one times a learnt square matrix,
which starts as the identity and is shared by the channels (Cai et al. 2020, Once-for-All, arXiv:1908.09791, section
3.3); without, it is the centre itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from nasplat.errors import SupernetError
from nasplat.searchspace import Architecture, Space
from nasplat.supernet.following import Slices
from nasplat.supernet.slicing import TOKENS, Rule, give, take


@dataclass
class Store:
    """The largest weights of a space, and how subnets find and cut them."""

    space: Space
    """Space whose architectures share the weights."""
    weights: dict[str, Tensor]
    """Largest weight by address, on the training device."""
    rules: dict[str, Rule | None]
    """How slices of each weight are taken, by address; None where only the whole is."""
    qualifiers: dict[str, tuple[str, ...]]
    """For each parameter name, the string-valued choices that are part of its address."""
    kernels: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Sides of every depthwise kernel with kernel transforms, from the largest, by address."""
    seed: int = 0
    """Seed of the initial values."""
    grown: set[str] = field(default_factory=set)
    """Addresses that the walk at construction did not meet, or met with a smaller shape."""
    slices: Slices = field(default_factory=Slices)
    """Which positions members take where it is not simply the beginning of an axis."""

    def address(self, name: str, choices: dict[str, Any]) -> str:
        """Compose the key of a parameter's weight.

        Args:
            name: Name of the parameter in the network, such as 'stem.weight'.
            choices: Choices of the architecture.

        Returns:
            The name, followed by '@' and the choices that qualify it, where there are any.
        """
        return address(name, self.qualifiers.get(name, ()), choices)

    def with_weights(self, weights: dict[str, Tensor]) -> Store:
        """Copy the store with other values.

        Args:
            weights: New weights by address, with the shapes of the present ones.

        Returns:
            A store that shares all but the weights.
        """
        return replace(self, weights=weights)

    def rules_of(self, architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Rule]:
        """Find the rules of those parameters of a member that take other positions than the weight's rule says.

        Args:
            architecture: Member of the space.
            shapes: Shapes of its parameters by name.

        Returns:
            Rules by address; none for most networks.

        Raises:
            SupernetError: no rule says which positions the member takes.
        """
        found: dict[str, Rule] = {}
        if not self.slices.is_needed:
            return found
        for name, shape in shapes.items():
            key = self.address(name, architecture.choices)
            rule, stored = self.rules.get(key), self.weights.get(key)
            if rule is None or stored is None or tuple(stored.shape) == shape or self.lacks(key, shape, rule):
                continue
            own = self.slices.of(architecture, key, name, shapes, rule)
            if own.is_own:
                found[key] = own
        return found

    def is_view(self, key: str, shape: tuple[int, ...], own: Rule | None = None) -> bool:
        """Tell whether a subnet's parameter shares memory with the weight, or is computed from it.

        Args:
            key: Address of the weight.
            shape: Shape of the subnet's parameter.
            own: Rule of the member, where it takes other positions than the weight's rule says.

        Returns:
            True where the parameter is a view.
        """
        rule, stored = own or self.rules[key], tuple(self.weights[key].shape)
        if key in self.kernels and shape[-1] != stored[-1]:
            return False
        return rule is None or rule.is_view(stored, shape)

    def take(self, key: str, shape: tuple[int, ...], own: Rule | None = None) -> Tensor:
        """Cut from a weight the part that a subnet uses; differentiable.

        Args:
            key: Address of the weight.
            shape: Shape of the subnet's parameter.
            own: Rule of the member, where it takes other positions than the weight's rule says.

        Returns:
            A view where the rule allows one, otherwise a computed tensor.

        Raises:
            SupernetError: the shape is not inside the stored one.
        """
        stored, rule = self.weights[key], own or self.rules[key]
        if tuple(stored.shape) == shape:
            return stored
        if rule is None:
            raise SupernetError(
                f"parameter {key!r} is stored with shape {tuple(stored.shape)}, got a request for {shape}, and its "
                "module declares no slicing rule.\n"
                "  Declare slicing = {…} on its class, one of leading, centred, fixed, tokens per axis."
            )
        if self.is_view(key, shape, own) or key not in self.kernels:
            return take(stored, shape, rule, key)
        first, matrices = self._transforms(key, shape)
        return _transformed(take(stored, first, rule, key), [self.weights[m] for m in matrices], shape[-1])

    def lacks(self, key: str, shape: tuple[int, ...], rule: Rule | None) -> bool:
        """Tell whether the store would have to grow for a parameter.

        The walk at construction meets what is common; large spaces have more than it can meet.

        Args:
            key: Address of the weight.
            shape: Shape that the parameter has.
            rule: How the parameter is cut; noted where the address is new.

        Returns:
            True when the parameter is not inside what is stored.
        """
        if key not in self.weights:
            return True
        self.rules.setdefault(key, rule)
        stored = tuple(self.weights[key].shape)
        if self.rules[key] is None or len(stored) != len(shape):
            return False  # `take` says what is wrong
        return any(
            want > have and how != TOKENS
            for have, want, how in zip(stored, shape, self.rules[key].axes, strict=True)  # type: ignore[union-attr]
        )

    def grow(self, key: str, value: Tensor, rule: Rule | None, source: tuple[Architecture, str] | None = None) -> None:
        """Hold a parameter that is new, or larger than before: what was there keeps its place.

        Args:
            key: Address of the weight.
            value: Initial values in the shape that is asked for.
            rule: How slices are taken.
            source: Member that asks for it, and the name of the parameter there; None where no member does.

        Raises:
            SupernetError: the weight's axes hold several segments, whose places a larger one would move.
        """
        if key in self.slices.layouts:
            raise SupernetError(
                f"parameter {key!r} is stored with shape {tuple(self.weights[key].shape)}, and "
                f"{source[0] if source else 'somebody'} asks for {tuple(value.shape)}: its axes hold several segments, "
                "which cannot grow.\n"
                "  Make the covering choices reachable, so that the walk at construction meets them."
            )
        if source is not None:
            self.slices.sources[key] = source
        self.rules.setdefault(key, rule)
        self.grown.add(key)
        before = self.weights.get(key)
        if before is not None:
            shape = tuple(map(max, before.shape, value.shape))
            value = filled(value, shape, rule, f"{self.seed} {key} {shape}")
            if rule is not None and rule.is_view(shape, tuple(before.shape)):
                take(value, tuple(before.shape), rule, key).copy_(before)
        self.weights[key] = value

    def initial(self, architecture: Architecture) -> dict[str, Tensor]:
        """Build a member for its modules' own initial values, a function of the seed and the architecture alone.

        Args:
            architecture: Member of the space.

        Returns:
            Values of its parameters by name, on the CPU.
        """
        return initial_values(architecture, self.seed)

    def spread(
        self, key: str, gradient: Tensor, own: Rule | None = None
    ) -> Iterator[tuple[str, Tensor, tuple[int, ...]]]:
        """Trace the gradient of a computed parameter back to the weights that it is computed from.

        Args:
            key: Address of the weight.
            gradient: Gradient of the subnet's parameter.
            own: Rule of the member, where it takes other positions than the weight's rule says.

        Yields:
            Address, gradient of that weight or of a slice of it, and shape of that slice. With a rule of the member's
            own, the first gradient is that of the whole weight.
        """
        shape, rule = tuple(gradient.shape), own or self.rules[key]
        assert rule is not None
        if key not in self.kernels or shape[-1] == self.weights[key].shape[-1]:
            whole = torch.zeros_like(self.weights[key])
            give(whole, gradient, rule, key)
            yield key, whole, shape
            return
        with torch.enable_grad():
            first, matrices = self._transforms(key, shape)
            leaves = [take(self.weights[key], first, rule, key).detach().requires_grad_()]
            leaves += [self.weights[m].detach().requires_grad_() for m in matrices]
            found = torch.autograd.grad(_transformed(leaves[0], leaves[1:], shape[-1]), leaves, gradient)
        for name, part in zip([key, *matrices], found, strict=True):
            if name == key and own is not None:
                whole = torch.zeros_like(self.weights[key])
                give(whole, part, rule, key)
                yield key, whole, tuple(part.shape)
            else:
                yield name, part, tuple(part.shape)

    def _transforms(self, key: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], list[str]]:
        """Shape of the slice that a smaller kernel starts from, and the addresses of the matrices on its way."""
        sides = self.kernels[key]
        if shape[-1] not in sides:
            raise SupernetError(
                f"parameter {key!r} has kernels of {', '.join(map(str, sides))}, got a request for {shape[-1]}.\n"
                "  No architecture met at construction has it; build the supernet without kernel_transforms."
            )
        way = sides[1 : sides.index(shape[-1]) + 1]
        return (*shape[:-2], way[0], way[0]), [f"{key}#{side}" for side in way]


def _transformed(kernel: Tensor, matrices: list[Tensor], side: int) -> Tensor:
    """Compute a smaller kernel from the centre of the largest, a matrix for each size on the way.

    The kernel has shape (C, 1, k, k); the answer has (C, 1, side, side).
    """
    for matrix in matrices:
        here = round(matrix.shape[0] ** 0.5)
        crop = (kernel.shape[-1] - here) // 2
        kernel = kernel[..., crop : crop + here, crop : crop + here]
        kernel = (kernel.flatten(-2) @ matrix).unflatten(-1, (here, here))
    assert kernel.shape[-1] == side
    return kernel


def address(name: str, qualifiers: tuple[str, ...], choices: dict[str, Any]) -> str:
    """Compose the key of a parameter's weight.

    Args:
        name: Name of the parameter in the network.
        qualifiers: Choices that are part of the address.
        choices: Choices of the architecture; qualifiers that it does not have are left out.

    Returns:
        The address, such as 'conv.weight@op=3x3'.
    """
    tail = ",".join(f"{q}={choices[q]}" for q in qualifiers if q in choices)
    return f"{name}@{tail}" if tail else name


def initial_values(architecture: Architecture, seed: int) -> dict[str, Tensor]:
    """Build an architecture for its modules' own initial values; the global random generator stays as it was.

    Args:
        architecture: Architecture to build.
        seed: Seed of the values, together with the architecture.

    Returns:
        Values of its parameters by name, on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(seed, architecture.to_json()))
        return {name: p.detach() for name, p in architecture.build().named_parameters()}


def filled(value: Tensor, shape: tuple[int, ...], rule: Rule | None, *seed: object) -> Tensor:
    """Enlarge a tensor: the values keep their place, the rest is drawn with their mean and spread.

    Args:
        value: Values that are known.
        shape: Shape of the answer, on no axis smaller.
        rule: How the values would be cut from the answer; None where they have no place in it.
        seed: Seed of the draw, as any values that have a text.

    Returns:
        The larger tensor, on the device of the values.
    """
    if tuple(value.shape) == shape:
        return value
    generator = torch.Generator().manual_seed(_seed(*seed))
    spread = float(value.std()) if value.numel() > 1 else 0.0
    full = torch.empty(shape).normal_(float(value.mean()), spread, generator=generator)
    if spread == 0.0:
        full.fill_(float(value.flatten()[0]))
    if rule is not None and rule.is_view(shape, tuple(value.shape)):
        take(full, tuple(value.shape), rule, "").copy_(value)
    elif rule is not None and rule.is_own:
        give(full, value - take(full, tuple(value.shape), rule, ""), rule, "")
    return full.to(value.device)


def _seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")
