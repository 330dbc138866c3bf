"""The store: for every parameter the largest shape any architecture asks for, and its initial values.

A parameter is addressed by its name, qualified by every string-valued choice that changes the module's type or the shape
there: a 1x1 convolution never trains as the centre of the 3x3 that another choice puts in its place.

With `kernel_transforms`, a smaller depthwise kernel is the centre of the next larger one times a learnt square matrix, which starts as the
identity and is shared by the channels (Cai et al. 2020, Once-for-All, arXiv:1908.09791, section 3.3); without, it is the centre itself.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from nasplat.errors import SpaceError, SupernetError
from nasplat.searchspace import Architecture, Space
from nasplat.searchspace import pick as picks
from nasplat.supernet.slicing import CENTRED, TOKENS, Rule, rule_for, take

RANDOM_ARCHITECTURES = 200
CONTEXTS = 64
"""Largest networks that are looked at, at most, where choices among strings make many."""
KERNEL, DEPTH, WIDTH, SCALE, OTHER = "kernel", "depth", "width", "scale", "other"


@dataclass(frozen=True)
class Slot:
    """What one architecture asks for at one parameter name."""

    shape: tuple[int, ...]
    owner: type
    rule: Rule | None


@dataclass
class Store:
    """The largest weights."""

    space: Space
    weights: dict[str, Tensor]
    rules: dict[str, Rule | None]
    qualifiers: dict[str, tuple[str, ...]]
    """For each parameter name, the string-valued choices that are part of its address."""
    kernels: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Of each depthwise weight with kernel transforms, its sides from the largest."""
    seed: int = 0
    """Of initial values."""

    def address(self, name: str, choices: dict[str, Any]) -> str:
        """Key of a parameter in an architecture with these choices."""
        return _address(name, self.qualifiers.get(name, ()), choices)

    def with_weights(self, weights: dict[str, Tensor]) -> Store:
        """The same store with other values."""
        return replace(self, weights=weights)

    def is_view(self, key: str, shape: tuple[int, ...]) -> bool:
        """True when a subnet's parameter shares memory with the weight; otherwise it is computed from it."""
        rule, stored = self.rules[key], tuple(self.weights[key].shape)
        if key in self.kernels and shape[-1] != stored[-1]:
            return False
        return rule is None or rule.is_view(stored, shape)

    def take(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """The part of a weight that a subnet uses; differentiable.

        Raises:
            SupernetError: the shape is not inside the stored one.
        """
        stored, rule = self.weights[key], self.rules[key]
        if tuple(stored.shape) == shape:
            return stored
        if rule is None:
            raise SupernetError(
                f"parameter {key!r} is stored with shape {tuple(stored.shape)}, got a request for {shape}, and its module "
                "declares no slicing rule.\n"
                f"  Declare slicing = {{…}} on its class, one of leading, centred, fixed, tokens per axis."
            )
        if self.is_view(key, shape) or key not in self.kernels:
            return take(stored, shape, rule, key)
        first, matrices = self._transforms(key, shape)
        return _transformed(take(stored, first, rule, key), [self.weights[m] for m in matrices], shape[-1])

    def lacks(self, key: str, shape: tuple[int, ...], rule: Rule | None) -> bool:
        """True when a parameter is not inside what is stored, so that the store would have to grow.

        The walk at construction meets what is common; large spaces have more than it can meet.
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

    def grow(self, key: str, value: Tensor, rule: Rule | None) -> None:
        """Hold a parameter that is new, or larger than before: what was there keeps its place.

        Args:
            key: Of the weight.
            value: Initial values in the shape that is asked for.
            rule: How slices are taken.
        """
        self.rules.setdefault(key, rule)
        before = self.weights.get(key)
        if before is not None:
            shape = tuple(map(max, before.shape, value.shape))
            value = _filled(value, shape, rule, f"{self.seed} {key} {shape}")
            if rule is not None and rule.is_view(shape, tuple(before.shape)):
                take(value, tuple(before.shape), rule, key).copy_(before)
        self.weights[key] = value

    def initial(self, architecture: Architecture) -> dict[str, Tensor]:
        """The modules' own initial values of a member's parameters, by name; a function of the seed and the architecture."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed(self.seed, architecture.to_json()))
            return {name: p.detach() for name, p in architecture.build().named_parameters()}

    def spread(self, key: str, gradient: Tensor) -> Iterator[tuple[str, Tensor, tuple[int, ...]]]:
        """Where the gradient of a computed parameter belongs: (key, gradient of the weight or of a slice of it, shape of that slice)."""
        shape, rule = tuple(gradient.shape), self.rules[key]
        assert rule is not None
        with torch.enable_grad():
            if key not in self.kernels:  # the transpose of a linear map is its backward pass
                leaf = self.weights[key].detach().requires_grad_()
                (back,) = torch.autograd.grad(take(leaf, shape, rule, key), leaf, gradient)
                yield key, back, shape
                return
            first, matrices = self._transforms(key, shape)
            leaves = [take(self.weights[key], first, rule, key).detach().requires_grad_()]
            leaves += [self.weights[m].detach().requires_grad_() for m in matrices]
            found = torch.autograd.grad(_transformed(leaves[0], leaves[1:], shape[-1]), leaves, gradient)
        for name, part in zip([key, *matrices], found, strict=True):
            yield name, part, tuple(part.shape)

    def _transforms(self, key: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], list[str]]:
        """Shape of the slice that a smaller kernel starts from, and the keys of the matrices on its way."""
        sides = self.kernels[key]
        if shape[-1] not in sides:
            raise SupernetError(
                f"parameter {key!r} has kernels of {', '.join(map(str, sides))}, got a request for {shape[-1]}.\n"
                "  No architecture met at construction has it; build the supernet without kernel_transforms."
            )
        way = sides[1 : sides.index(shape[-1]) + 1]
        return (*shape[:-2], way[0], way[0]), [f"{key}#{side}" for side in way]


def _transformed(kernel: Tensor, matrices: list[Tensor], side: int) -> Tensor:
    """From the centre of the largest kernel to a smaller one, a matrix for each size on the way; (C, 1, k, k) to (C, 1, side, side)."""
    for matrix in matrices:
        here = round(matrix.shape[0] ** 0.5)
        crop = (kernel.shape[-1] - here) // 2
        kernel = kernel[..., crop : crop + here, crop : crop + here]
        kernel = (kernel.flatten(-2) @ matrix).unflatten(-1, (here, here))
    assert kernel.shape[-1] == side
    return kernel


def slots(module: nn.Module) -> dict[str, Slot]:
    """What a module asks for, by parameter name; a shared parameter appears once."""
    owners = dict(module.named_modules())
    found = {}
    for name, parameter in module.named_parameters():
        path, _, leaf = name.rpartition(".")
        owner = owners[path]
        found[name] = Slot(tuple(parameter.shape), type(owner), rule_for(owner, leaf, parameter))
    return found


def build_store(space: Space, seed: int, device: torch.device, kernel_transforms: bool = False) -> Store:
    """Walk the space, take the largest shapes, and fill them with the modules' own initial values.

    Args:
        space: Any search space.
        seed: Decides the values, together with the parameters' names.
        device: Where the weights live.
        kernel_transforms: Smaller depthwise kernels are computed from larger ones by learnt matrices.

    Raises:
        SupernetError: a parameter changes shape and has no rule, or one name holds different modules.
    """
    asked: list[tuple[Architecture, dict[str, Slot]]] = []
    seen: set[Architecture] = set()

    def look(architecture: Architecture) -> dict[str, Slot]:
        module, _ = space.construct(architecture, initialised=False)
        found = slots(module)
        if architecture not in seen:
            seen.add(architecture)
            asked.append((architecture, found))
        return found

    qualifiers = _qualifiers(space, look)
    for i in range(RANDOM_ARCHITECTURES):
        architecture = space.sample(seed=i)
        if architecture not in seen:
            look(architecture)
    shapes: dict[str, tuple[int, ...]] = {}
    rules: dict[str, Rule | None] = {}
    owners: dict[str, type] = {}
    largest: dict[str, tuple[int, Architecture, str]] = {}
    for architecture, found in asked:
        for name, slot in found.items():
            key = _address(name, qualifiers.get(name, ()), architecture.choices)
            if owners.setdefault(key, slot.owner) is not slot.owner:
                raise SupernetError(
                    f"parameter {key!r} belongs to {owners[key].__name__} in one architecture and to {slot.owner.__name__} in "
                    f"another ({architecture}).\n  Give different operations different names."
                )
            before = shapes.get(key)
            if before is not None and len(before) != len(slot.shape):
                raise SupernetError(
                    f"parameter {key!r} changes its number of axes.\n  Give different operations different names."
                )
            shapes[key] = slot.shape if before is None else tuple(map(max, before, slot.shape))
            rules[key] = slot.rule
            size = torch.Size(slot.shape).numel()
            if key not in largest or size > largest[key][0]:
                largest[key] = (size, architecture, name)
    _check(shapes, rules, asked, qualifiers)
    weights = dict(_initial(space, shapes, rules, largest, seed, device))
    kernels = _kernels(asked, qualifiers, rules, shapes) if kernel_transforms else {}
    for key, sides in kernels.items():
        for side in sides[1:]:
            weights[f"{key}#{side}"] = torch.eye(side * side, device=device)
            rules[f"{key}#{side}"] = None
    return Store(space, weights, rules, qualifiers, kernels, seed)


def _kernels(
    asked: list[tuple[Architecture, dict[str, Slot]]],
    qualifiers: Mapping[str, tuple[str, ...]],
    rules: Mapping[str, Rule | None],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, tuple[int, ...]]:
    """Sides of the square depthwise kernels that come in several sizes, from the largest."""
    met: dict[str, set[int]] = {}
    for architecture, found in asked:
        for name, slot in found.items():
            key = _address(name, qualifiers.get(name, ()), architecture.choices)
            rule, shape = rules[key], slot.shape
            is_square = (
                len(shape) == 4 and rule is not None and rule.axes[2:] == (CENTRED, CENTRED) and shape[2] == shape[3]
            )
            if is_square and shapes[key][1] == 1 and shapes[key][0] > 1:
                met.setdefault(key, set()).add(shape[-1])
    return {key: tuple(sorted(sides, reverse=True)) for key, sides in met.items() if len(sides) > 1}


def _address(name: str, qualifiers: tuple[str, ...], choices: dict[str, Any]) -> str:
    tail = ",".join(f"{q}={choices[q]}" for q in qualifiers if q in choices)
    return f"{name}@{tail}" if tail else name


def _qualifiers(space: Space, look: Any) -> dict[str, tuple[str, ...]]:
    """For each parameter the string-valued choices under which its owner or shape changes, numbers at their largest."""
    base = outermost(space, True)
    look(base)
    found: dict[str, list[str]] = {}
    queue, done = [base], set()
    while queue:
        context = queue.pop()
        for choice in context.choices:
            options = space.known[choice]
            if choice in done or not any(isinstance(o, str) for o in options):
                continue
            done.add(choice)
            met: dict[str, set[tuple[type, tuple[int, ...]]]] = {}
            for option in options:
                architecture = with_option(space, context, choice, option)
                if architecture is None:
                    continue
                for name, slot in look(architecture).items():
                    met.setdefault(name, set()).add((slot.owner, slot.shape))
                queue.append(architecture)
            for name, kinds in met.items():
                if len(kinds) > 1:
                    found.setdefault(name, []).append(choice)
    return {name: tuple(sorted(choices)) for name, choices in found.items()}


def with_option(space: Space, context: Architecture, choice: str, option: Any) -> Architecture | None:
    """An architecture with one choice changed, numbers that it makes necessary at their largest; None where the space refuses it."""
    wanted = context.choices | {choice: option}
    try:
        return Architecture(space, space.choices(picks.preferring(wanted, picks.extreme(True))))
    except picks.Rejected:
        return None


def _check(shapes: dict[str, Any], rules: dict[str, Any], asked: list[Any], qualifiers: dict[str, Any]) -> None:
    for architecture, found in asked:
        for name, slot in found.items():
            key = _address(name, qualifiers.get(name, ()), architecture.choices)
            if slot.shape == shapes[key]:
                continue
            if rules[key] is None:
                raise SupernetError(
                    f"parameter {key!r} has shape {slot.shape} in one architecture and needs {shapes[key]} in another, and "
                    f"{slot.owner.__name__} declares no slicing rule.\n  Declare slicing = {{…}} on the class."
                )
            with torch.no_grad():
                take(torch.empty(shapes[key], device="meta"), slot.shape, rules[key], key)


def _initial(
    space: Space,
    shapes: dict[str, Any],
    rules: dict[str, Any],
    largest: dict[str, Any],
    seed: int,
    device: torch.device,
) -> Iterator[tuple[str, Tensor]]:
    """Values of the covering architecture with the largest such parameter; missing axes from the same distribution."""
    groups: dict[Architecture, list[tuple[str, str]]] = {}
    for key, (_, architecture, name) in largest.items():
        groups.setdefault(architecture, []).append((key, name))
    made: dict[str, Tensor] = {}
    for architecture, wanted in groups.items():
        parameters = Store(space, {}, {}, {}, seed=seed).initial(architecture)
        for key, name in wanted:
            value = _filled(parameters[name].detach(), shapes[key], rules[key], (seed, key))
            made[key] = value.to(device).contiguous().clone()
    for key in shapes:
        yield key, made[key]


def _filled(value: Tensor, shape: tuple[int, ...], rule: Rule | None, seed: object) -> Tensor:
    """A tensor of a larger shape that holds the values at their place; the rest has their mean and spread."""
    if tuple(value.shape) == shape:
        return value
    generator = torch.Generator().manual_seed(_seed(*seed) if isinstance(seed, tuple) else _seed(seed))
    spread = float(value.std()) if value.numel() > 1 else 0.0
    full = torch.empty(shape).normal_(float(value.mean()), spread, generator=generator)
    if spread == 0.0:
        full.fill_(float(value.flatten()[0]))
    if rule is not None and rule.is_view(shape, tuple(value.shape)):
        take(full, tuple(value.shape), rule, "").copy_(value)
    return full.to(value.device)


def outermost(space: Space, largest: bool) -> Architecture:
    """The end of a space: every number at its largest (smallest); where the space refuses that, of 200 random members the one with the
    most (fewest) parameters.
    """

    def find() -> Architecture:
        try:
            return space.extreme(largest)
        except SpaceError:
            members = [space.sample(seed=i) for i in range(RANDOM_ARCHITECTURES)]
            sizes = [sum(p.numel() for p in space.construct(a, initialised=False)[0].parameters()) for a in members]
            return members[sizes.index(max(sizes) if largest else min(sizes))]

    return space.remembered(f"outermost {largest}", find)


def kinds(space: Space) -> dict[str, str]:
    """What each numeric choice changes in the largest network: kernel, width, depth (which parameters there are), scale or other.

    A scale is a depth on which other depths hang: less of it takes their choices away, as fewer stages do.

    Choices that the largest networks do not have are left out.
    """
    return space.remembered("kinds", lambda: _kinds(space))


def _kinds(space: Space) -> dict[str, str]:
    found: dict[str, str] = {}
    taken: dict[str, set[str]] = {}
    for context in islice(contexts(space), 12):
        whole = slots(space.construct(context, initialised=False)[0])
        for choice in context.choices:
            options = space.known[choice]
            if choice in found or len(options) < 2 or any(isinstance(o, str) for o in options):
                continue
            smaller = with_option(space, context, choice, min(options))  # type: ignore[type-var]
            if smaller is None:
                continue
            part = slots(space.construct(smaller, initialised=False)[0])
            axes = {
                rule.axes[axis]
                for name in whole.keys() & part.keys()
                if (rule := whole[name].rule) is not None
                for axis, (a, b) in enumerate(zip(whole[name].shape, part[name].shape, strict=False))
                if a != b
            }
            if whole.keys() != part.keys():
                found[choice] = DEPTH
                taken[choice] = context.choices.keys() - smaller.choices.keys()
            else:
                found[choice] = KERNEL if CENTRED in axes else WIDTH if axes else OTHER
    deep = {c for c, kind in found.items() if kind == DEPTH}
    return {c: SCALE if taken.get(c, set()) & deep else kind for c, kind in found.items()}


def contexts(space: Space) -> Iterator[Architecture]:
    """Largest networks with ever other options of the choices among strings; the first few hold each option of those on top once.

    A space without such choices has one.
    """
    base = outermost(space, True)
    yield base
    if not any(isinstance(o, str) for options in space.known.values() for o in options):
        return
    for i in range(CONTEXTS):

        def decide(name: str, options: tuple[Any, ...], i: int = i) -> Any:
            if not any(isinstance(o, str) for o in options):
                return base.choices.get(name, max(options))
            return options[(i + (zlib.crc32(name.encode()) >> i // len(options))) % len(options)]

        found = space.walk(decide)
        if found is not None:
            yield found


def _seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")
