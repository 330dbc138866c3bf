"""The walk through a space that finds the largest shape of every parameter, and the store that it makes.

Met are the largest network with every option of every choice among strings, and 200 random members. What they do not
hold, the store grows by when it is met in training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nasplat.errors import SupernetError
from nasplat.frontends.block import templates
from nasplat.searchspace import Architecture, Space
from nasplat.supernet.extremes import RANDOM_ARCHITECTURES, WIDTH, kinds, outermost, with_option
from nasplat.supernet.following import UnsureSlice, find_slices
from nasplat.supernet.slicing import CENTRED, Rule, Slot, slots, take
from nasplat.supernet.store import Store, address, filled, initial_values
from nasplat.supernet.walks import Choices, Found, Shape, keep, kept

REMEMBERED = 1 << 24
"""Elements of initial values up to which a process remembers those of a space: 64 MiB."""


def build_store(space: Space, seed: int, device: torch.device, kernel_transforms: bool = False) -> Store:
    """Walk the space, take the largest shapes, and fill them with the modules' own initial values.

    Args:
        space: Search space whose members share the weights.
        seed: Seed of the values, together with the parameters' names.
        device: Torch device that the weights live on.
        kernel_transforms: Smaller depthwise kernels are computed from larger ones by learnt matrices.

    Returns:
        The store.

    Raises:
        SupernetError: a parameter changes shape and has no rule, or one name holds different modules.
    """
    found = _found(space)
    for name, options in found.known.items():  # an equal space has met them
        space.known.setdefault(name, options)
    weights = _values(space, found, seed, device)
    rules = dict(found.rules)
    kernels = dict(found.kernels) if kernel_transforms else {}
    for key, sides in kernels.items():
        for side in sides[1:]:
            weights[f"{key}#{side}"] = torch.eye(side * side, device=device)
            rules[f"{key}#{side}"] = None
    return Store(space, weights, rules, dict(found.qualifiers), kernels, seed, slices=found.slices)


def slices_refused(space: Space) -> str:
    """Say why it is not known which part of a weight some narrower member of a space takes.

    Args:
        space: Search space that is checked.

    Returns:
        The reason, with the parameter, the axis and what to do; '' where it is known for all, or no number among the
        choices changes a width.

    Raises:
        SupernetError: members of the space cannot share weights for another reason.
    """
    if WIDTH not in kinds(space).values():
        return ""
    try:
        _found(space)
    except UnsureSlice as err:
        return str(err)
    return ""


def _found(space: Space) -> Found:
    """What the walk finds, in this process or an earlier one."""

    def look() -> Found:
        found = kept(space)
        if found is None:
            found = _survey(space)
            keep(space, found)
        return found

    return space.remembered("survey", look, everywhere=True)


def _survey(space: Space) -> Found:
    """Walk the space, and refuse it where its members cannot share weights."""
    walk = _Walk(space)
    walk.qualifiers = _qualifiers(walk)
    for i in range(RANDOM_ARCHITECTURES):
        architecture = space.sample(seed=i)
        if architecture not in walk.asked:
            walk.look(architecture)
    largest = _Largest()
    for architecture, key, name, slot in walk.rows():
        largest.add(architecture, key, name, slot)
    _check(walk.rows(), largest)
    slices = find_slices(
        walk.asked,
        lambda name, architecture: address(name, walk.qualifiers.get(name, ()), architecture.choices),
        largest.shapes,
        largest.rules,
    )
    slices.sources = {key: (architecture, name) for key, (_, architecture, name) in largest.sources.items()}
    sources = {
        key: (tuple(architecture.choices.items()), name) for key, (_, architecture, name) in largest.sources.items()
    }
    kernels = _kernels(walk.rows(), largest)
    return Found(largest.shapes, largest.rules, sources, walk.qualifiers, kernels, dict(space.known), slices)


@dataclass
class _Walk:
    """Architectures that were looked at, with what they ask for."""

    space: Space
    asked: dict[Architecture, dict[str, Slot]] = field(default_factory=dict)
    """Slots by parameter name, of every architecture in the order it was met."""
    qualifiers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Choices that are part of a parameter's address, by its name."""

    def look(self, architecture: Architecture) -> dict[str, Slot]:
        with templates():  # parts that recur are constructed once: the walk looks at names and shapes alone
            module, _ = self.space.construct(architecture, initialised=False)
        found = slots(module)
        self.asked.setdefault(architecture, found)
        return found

    def rows(self) -> Iterator[tuple[Architecture, str, str, Slot]]:
        """Architecture, address, parameter name and slot of everything that was asked for."""
        for architecture, found in self.asked.items():
            for name, slot in found.items():
                several = self.qualifiers.get(name)
                yield architecture, address(name, several, architecture.choices) if several else name, name, slot


@dataclass
class _Largest:
    """The largest that was asked for at every address."""

    shapes: dict[str, Shape] = field(default_factory=dict)
    rules: dict[str, Rule | None] = field(default_factory=dict)
    owners: dict[str, type] = field(default_factory=dict)
    sources: dict[str, tuple[int, Architecture, str]] = field(default_factory=dict)
    """Elements, architecture and name of the largest parameter: whose initial values are taken."""

    def add(self, architecture: Architecture, key: str, name: str, slot: Slot) -> None:
        if self.owners.setdefault(key, slot.owner) is not slot.owner:
            raise SupernetError(
                f"parameter {key!r} belongs to {self.owners[key].__name__} in one architecture and to "
                f"{slot.owner.__name__} in another ({architecture}).\n  Give different operations different names."
            )
        before = self.shapes.get(key)
        if before is not None and len(before) != len(slot.shape):
            raise SupernetError(
                f"parameter {key!r} changes its number of axes.\n  Give different operations different names."
            )
        self.shapes[key] = slot.shape if before is None else tuple(map(max, before, slot.shape))
        self.rules[key] = slot.rule
        size = torch.Size(slot.shape).numel()
        if key not in self.sources or size > self.sources[key][0]:
            self.sources[key] = (size, architecture, name)


def _qualifiers(walk: _Walk) -> dict[str, tuple[str, ...]]:
    """For each parameter the string-valued choices under which its owner or shape changes, numbers at their largest."""
    space = walk.space
    base = outermost(space, True)
    walk.look(base)
    found: dict[str, list[str]] = {}
    queue, done = [base], set[str]()
    while queue:
        context = queue.pop()
        for choice in context.choices:
            options = space.known[choice]
            if choice in done or not any(isinstance(o, str) for o in options):
                continue
            done.add(choice)
            met: dict[str, set[tuple[type, Shape]]] = {}
            for option in options:
                architecture = with_option(space, context, choice, option)
                if architecture is None:
                    continue
                for name, slot in walk.look(architecture).items():
                    met.setdefault(name, set()).add((slot.owner, slot.shape))
                queue.append(architecture)
            for name, several in met.items():
                if len(several) > 1:
                    found.setdefault(name, []).append(choice)
    return {name: tuple(sorted(choices)) for name, choices in found.items()}


def _check(rows: Iterable[tuple[Architecture, str, str, Slot]], largest: _Largest) -> None:
    """Refuse shapes that cannot be cut from the largest."""
    checked: set[tuple[str, Shape]] = set()
    for _, key, _, slot in rows:
        whole, rule = largest.shapes[key], largest.rules[key]
        if slot.shape == whole or (key, slot.shape) in checked:
            continue
        checked.add((key, slot.shape))
        if rule is None:
            raise SupernetError(
                f"parameter {key!r} has shape {slot.shape} in one architecture and needs {whole} in another, and "
                f"{slot.owner.__name__} declares no slicing rule.\n  Declare slicing = {{…}} on the class."
            )
        with torch.no_grad():
            take(torch.empty(whole, device="meta"), slot.shape, rule, key)


def _values(space: Space, found: Found, seed: int, device: torch.device) -> dict[str, Tensor]:
    """Initial values; those of the last seed are copied where they take little memory."""
    if sum(torch.Size(shape).numel() for shape in found.shapes.values()) > REMEMBERED:
        return _initial(space, found, seed, device)
    last: dict[int, dict[str, Tensor]] = space.remembered("initial values", dict, everywhere=True)
    if seed not in last:
        last.clear()
        last[seed] = _initial(space, found, seed, torch.device("cpu"))
    return {key: value.to(device, copy=True) for key, value in last[seed].items()}


def _initial(space: Space, found: Found, seed: int, device: torch.device) -> dict[str, Tensor]:
    """Values of the architecture with the largest such parameter; what it lacks is drawn from their distribution."""
    groups: dict[Choices, list[tuple[str, str]]] = {}
    for key, (choices, name) in found.sources.items():
        groups.setdefault(choices, []).append((key, name))
    made: dict[str, Tensor] = {}
    for choices, wanted in groups.items():
        architecture = Architecture(space, dict(choices))
        parameters = initial_values(architecture, seed)
        shapes = {name: tuple(p.shape) for name, p in parameters.items()}
        for key, name in wanted:
            rule = found.rules[key]
            if rule is not None and shapes[name] != found.shapes[key]:
                rule = found.slices.of(architecture, key, name, shapes, rule)
            value = filled(parameters[name], found.shapes[key], rule, seed, key)
            made[key] = value.to(device).contiguous().clone()
    return {key: made[key] for key in found.shapes}


def _kernels(rows: Iterable[tuple[Architecture, str, str, Slot]], largest: _Largest) -> dict[str, Shape]:
    """Sides of the square depthwise kernels that come in several sizes, from the largest."""
    met: dict[str, set[int]] = {}
    for _, key, _, slot in rows:
        rule, shape = largest.rules[key], slot.shape
        is_square = (
            len(shape) == 4 and rule is not None and rule.axes[2:] == (CENTRED, CENTRED) and shape[2] == shape[3]
        )
        if is_square and largest.shapes[key][1] == 1 and largest.shapes[key][0] > 1:
            met.setdefault(key, set()).add(shape[-1])
    return {key: tuple(sorted(sides, reverse=True)) for key, sides in met.items() if len(sides) > 1}
