"""The store: for every parameter the largest shape any architecture asks for, and its initial values.

A parameter is addressed by its name, qualified by every string-valued choice that changes the module's type or the shape
there: a 1x1 convolution never trains as the centre of the 3x3 that another choice puts in its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nasplat.errors import SupernetError
from nasplat.searchspace import Architecture, Space
from nasplat.searchspace import pick as picks
from nasplat.supernet.slicing import Rule, rule_for, take

RANDOM_ARCHITECTURES = 200


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

    def address(self, name: str, choices: dict[str, Any]) -> str:
        """Key of a parameter in an architecture with these choices."""
        return _address(name, self.qualifiers.get(name, ()), choices)

    def take(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """The part of a weight that a subnet uses.

        Raises:
            SupernetError: the key is unknown, or the shape is not inside the stored one.
        """
        if key not in self.weights:
            raise SupernetError(
                f"parameter {key!r} is not in the store of {self.space.name!r}: no architecture met at construction has it.\n"
                "  Give depth and operation choices constant names, so that the walk can reach them."
            )
        stored, rule = self.weights[key], self.rules[key]
        if tuple(stored.shape) == shape:
            return stored
        if rule is None:
            raise SupernetError(
                f"parameter {key!r} is stored with shape {tuple(stored.shape)}, got a request for {shape}, and its module "
                "declares no slicing rule.\n"
                f"  Declare slicing = {{…}} on its class, one of leading, centred, fixed, tokens per axis."
            )
        return take(stored, shape, rule, key)


def slots(module: nn.Module) -> dict[str, Slot]:
    """What a module asks for, by parameter name; a shared parameter appears once."""
    owners = dict(module.named_modules())
    found = {}
    for name, parameter in module.named_parameters():
        path, _, leaf = name.rpartition(".")
        owner = owners[path]
        found[name] = Slot(tuple(parameter.shape), type(owner), rule_for(owner, leaf, parameter))
    return found


def build_store(space: Space, seed: int, device: torch.device) -> Store:
    """Walk the space, take the largest shapes, and fill them with the modules' own initial values.

    Args:
        space: Any search space.
        seed: Decides the values, together with the parameters' names.
        device: Where the weights live.

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
    return Store(space, weights, rules, qualifiers)


def _address(name: str, qualifiers: tuple[str, ...], choices: dict[str, Any]) -> str:
    tail = ",".join(f"{q}={choices[q]}" for q in qualifiers if q in choices)
    return f"{name}@{tail}" if tail else name


def _qualifiers(space: Space, look: Any) -> dict[str, tuple[str, ...]]:
    """For each parameter the string-valued choices under which its owner or shape changes, numbers at their largest."""
    base = space.extreme(largest=True)
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
                architecture = _with(space, context, choice, option)
                if architecture is None:
                    continue
                for name, slot in look(architecture).items():
                    met.setdefault(name, set()).add((slot.owner, slot.shape))
                queue.append(architecture)
            for name, kinds in met.items():
                if len(kinds) > 1:
                    found.setdefault(name, []).append(choice)
    return {name: tuple(sorted(choices)) for name, choices in found.items()}


def _with(space: Space, context: Architecture, choice: str, option: Any) -> Architecture | None:
    wanted = context.choices | {choice: option}
    try:
        return Architecture(space, space._choices(picks.preferring(wanted, picks.extreme(True))))
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
    space: Space, shapes: dict[str, Any], rules: dict[str, Any], largest: dict[str, Any], seed: int, device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    """Values of the covering architecture with the largest such parameter; missing axes from the same distribution."""
    groups: dict[Architecture, list[tuple[str, str]]] = {}
    for key, (_, architecture, name) in largest.items():
        groups.setdefault(architecture, []).append((key, name))
    made: dict[str, Tensor] = {}
    for architecture, wanted in groups.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed(seed, architecture.to_json()))
            parameters = dict(architecture.build().named_parameters())
        for key, name in wanted:
            value, shape = parameters[name].detach(), shapes[key]
            if tuple(value.shape) != shape:
                generator = torch.Generator().manual_seed(_seed(seed, key))
                spread = float(value.std()) if value.numel() > 1 else 0.0
                full = torch.empty(shape).normal_(float(value.mean()), spread, generator=generator)
                if spread == 0.0:
                    full.fill_(float(value.flatten()[0]))
                if rules[key].is_view(shape, tuple(value.shape)):
                    take(full, tuple(value.shape), rules[key], key).copy_(value)
                value = full
            made[key] = value.to(device).contiguous().clone()
    for key in shapes:
        yield key, made[key]


def _seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")
