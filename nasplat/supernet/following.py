"""Which positions of the largest weights a member's weights take, by what their axes are in both networks.

A few members that between them have every option, and every axis that is cut at its largest and its smallest, are run
without values, and the axes of their weights followed (see flow.py). Most axes prove plain: their slice is the
beginning. Those that hold several segments or factors get slices of their own, worked out from the shapes of each
member's parameters, or from a run of that member where shapes alone do not tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from nasplat.errors import CaptureError, SupernetError
from nasplat.searchspace import Architecture
from nasplat.searchspace import pick as picks
from nasplat.supernet.axes import PRODUCT, ROW
from nasplat.supernet.flow import follow
from nasplat.supernet.layouts import Index, Layout, Unsure, merge, place, resized
from nasplat.supernet.slicing import LEADING, Rule, Runs, Slot, slots

Shape = tuple[int, ...]
Groups = tuple[int, int]
"""Groups of a convolution, and input channels of each."""
FOLLOWED = 24
"""Members that are chosen to be run at most; what they do not show is looked up when a member that has it is met."""
REMEMBERED = 256
"""Members that were run because their shapes alone did not tell, kept at most."""


class UnsureSlice(SupernetError):
    """Raised where no rule says which positions of a weight a member takes."""


@dataclass(frozen=True)
class Seen:
    """One parameter in a network that was followed."""

    architecture: Architecture
    """Member that the network is."""
    shape: Shape
    """Shape of the parameter there."""
    layouts: tuple[Layout, ...]
    """What its axes consist of there."""
    groups: Groups | None
    """Groups of the convolution that reads it; None where none does."""


@dataclass
class Slices:
    """What is known of the axes of a store's weights."""

    layouts: dict[str, dict[int, Layout]] = field(default_factory=dict)
    """By address, the axes of weights whose slices are not simply their beginning."""
    known: set[str] = field(default_factory=set)
    """Addresses of weights that were followed: their axes that are not among `layouts` give their beginning."""
    networks: dict[Architecture, dict[str, tuple[Layout, ...]]] = field(default_factory=dict)
    """Layouts by parameter name of members that had to be run."""
    rules: dict[tuple[str, tuple[Runs | None, ...]], Rule] = field(default_factory=dict)
    """Rules made so far."""

    is_needed: bool = False
    """Some weight comes in several widths."""
    sources: dict[str, tuple[Architecture, str]] = field(default_factory=dict)
    """Member with the largest such parameter, and the parameter's name there, by address."""

    def of(self, architecture: Architecture, key: str, name: str, shapes: Mapping[str, Shape], rule: Rule) -> Rule:
        """Find the rule by which a member's parameter is cut.

        Args:
            architecture: Member of the space.
            key: Address of the weight.
            name: Name of the parameter in the member.
            shapes: Shapes of all of its parameters by name.
            rule: How such a parameter is cut where nothing else is known.

        Returns:
            The rule, with the positions of those axes that do not give their beginning.

        Raises:
            SupernetError: no rule says which positions they are.
        """
        if key not in self.known and not rule.is_declared:
            self._learn(architecture, key, name, shapes[name], rule)
        found = self.layouts.get(key)
        if found is None:
            return rule
        axes: list[Runs | None] = [None] * len(rule.axes)
        for axis, whole in found.items():
            size = shapes[name][axis]
            part = resized(whole, shapes, size)
            try:
                index = None if part is None else place(part, whole)
            except Unsure:
                index = None
            if index is None:
                index = self._looked_up(architecture, key, name, axis, size)
            axes[axis] = runs_of(index)
        if not any(axes):
            return rule
        made = self.rules.get((key, tuple(axes)))
        if made is None:
            own = tuple(how if runs is None else runs for how, runs in zip(rule.axes, axes, strict=True))
            made = self.rules[key, tuple(axes)] = replace(rule, axes=own)
        return made

    def _learn(self, architecture: Architecture, key: str, name: str, shape: Shape, rule: Rule) -> None:
        """Follow a weight that no member which was followed before takes a part of."""
        largest, there = self.sources.get(key, (architecture, name))
        met = [(a, self._network(a).get(n)) for a, n in ((largest, there), (architecture, name))]
        seen = [Seen(a, tuple(x.size for x in found), found, None) for a, found in met if found is not None]
        if len(seen) == 2:
            held = self.learn(key, seen, {i for i, how in enumerate(rule.axes) if _is_of_features(how)})
            for axis, size in enumerate(held):
                if size > max(s.shape[axis] for s in seen):  # it was not met when the store was made
                    why = "they are segments of which the store holds too few"
                    raise refusal(key, axis, seen[1], (shape[axis], size), why)
        self.known.add(key)

    def learn(self, key: str, seen: Sequence[Seen], axes: Iterable[int]) -> tuple[int, ...]:
        """Take up what several members show of a weight.

        Args:
            key: Address of the weight.
            seen: Its parameter in these members.
            axes: Numbers of the axes of features that are cut.

        Returns:
            Shape that holds all of theirs.

        Raises:
            SupernetError: no rule says which positions one of them takes.
        """
        shape = [max(s.shape[i] for s in seen) for i in range(len(seen[0].shape))]
        for axis in axes:
            layout = _merged(key, axis, seen, shape[axis])
            shape[axis] = layout.size
            indices = [_placed(key, axis, s, layout) for s in seen]
            if not _is_plain(layout) or any(runs_of(index) is not None for index in indices):
                self.layouts.setdefault(key, {})[axis] = layout
        self.known.add(key)
        return tuple(shape)

    def _network(self, architecture: Architecture) -> dict[str, tuple[Layout, ...]]:
        """Layouts of a member, which is run without values where it was not yet."""
        if architecture not in self.networks:
            if len(self.networks) >= REMEMBERED:
                self.networks.clear()
            self.networks[architecture] = followed(architecture)[0]
        return self.networks[architecture]

    def _looked_up(self, architecture: Architecture, key: str, name: str, axis: int, size: int) -> Index:
        """Run the member without values where the shapes of its parameters do not tell."""
        whole = self.layouts[key][axis]
        try:
            return place(self._network(architecture)[name][axis], whole)
        except (Unsure, KeyError) as err:
            if size == whole.size:
                return np.arange(size)
            raise refusal(key, axis, Seen(architecture, (), (), None), (size, whole.size), str(err)) from err


def followed(architecture: Architecture) -> tuple[dict[str, tuple[Layout, ...]], dict[str, Groups]]:
    """Run a member without values, and follow the axes of its weights.

    Args:
        architecture: Member of a space.

    Returns:
        Layouts of the axes, and groups of convolutions, by parameter name.

    Raises:
        SupernetError: the member cannot be run so.
    """
    module, example = architecture.space.construct(architecture, initialised=False)
    if isinstance(example, tuple) and example and all(isinstance(n, int) for n in example) and example[0] == 1:
        example = (2, *example[1:])
    try:
        return follow(module, example)
    except CaptureError as err:
        raise SupernetError(
            f"{architecture} cannot be followed to find which channels its narrower weights take: {err}"
        ) from err


def runs_of(index: Index) -> Runs | None:
    """Write positions as runs of consecutive ones.

    Args:
        index: Positions of a larger axis.

    Returns:
        (first, one past the last) of each run; None where the positions are the beginning of the axis.
    """
    breaks = np.flatnonzero(np.diff(index) != 1) + 1
    edges = [0, *breaks.tolist(), len(index)]
    runs = tuple((int(index[a]), int(index[b - 1]) + 1) for a, b in pairwise(edges) if b > a)
    return None if len(runs) <= 1 and (not runs or runs[0][0] == 0) else runs


def refusal(key: str, axis: int, seen: Seen, sizes: tuple[int, int], why: str) -> UnsureSlice:
    """Say that it is not known which part of a weight a member takes.

    Args:
        key: Address of the weight.
        axis: Number of its axis.
        seen: Parameter in the member that takes a part.
        sizes: Positions that the member takes, and positions that there are.
        why: What is not known.

    Returns:
        The error, to be raised.
    """
    return UnsureSlice(
        f"parameter {key!r}: which {sizes[0]} of {sizes[1]} positions along axis {axis} belong to {seen.architecture} "
        f"is not known: {why}.\n"
        "  Split it into layers of their own (one projection each, one group each), make the choice one among strings, "
        f'or declare slicing = {{"{key.partition("@")[0]}": "leading"}} on the network\'s class where the first '
        "positions are right."
    )


Asked = Mapping[Architecture, Mapping[str, Slot]]
"""What members ask for, by parameter name."""


Address = Callable[[str, Architecture], str]
"""Address of a parameter's weight, by the parameter's name and the member."""


def find_slices(
    asked: Asked,
    address: Address,
    shapes: dict[str, Shape],
    rules: Mapping[str, Rule | None],
) -> Slices:
    """Find for every weight that members cut which positions they take.

    Args:
        asked: What the members that were looked at ask for.
        address: Address of a parameter in a member.
        shapes: Largest shape by address; axes of several segments grow here until they hold all of them.
        rules: How weights are cut where nothing else is known, by address.

    Returns:
        Slices of the weights.

    Raises:
        SupernetError: no rule says which positions a member takes.
    """
    cut = _cut_axes(asked, address, rules)
    slices = Slices()
    if not cut:
        return slices
    slices.is_needed = True
    met: dict[str, list[Seen]] = {}
    chosen, looked = covering(asked, address, cut)[:FOLLOWED], set[str]()
    for architecture in dict.fromkeys([*chosen, *map(_widest_like, chosen)]):
        found = asked.get(architecture)
        if found is None:
            found = slots(architecture.space.construct(architecture, initialised=False)[0])
            if any(_is_larger(slot.shape, shapes.get(address(name, architecture))) for name, slot in found.items()):
                continue
        layouts, groups = followed(architecture)
        looked |= {address(name, architecture) for name in found}
        for name in (n for n in layouts if n in found):
            key = address(name, architecture)
            if key in cut:
                met.setdefault(key, []).append(Seen(architecture, found[name].shape, layouts[name], groups.get(name)))
    for key, axes in cut.items():
        seen = sorted(met.get(key, []), key=lambda s: -np.prod(s.shape))
        if not seen:
            slices.known |= {key} & looked  # no operation reads it
            continue
        if any(len({s.shape[axis] for s in seen}) < 2 for axis in axes):
            continue  # none of them cuts it, or none has the whole
        _check_groups(key, seen)
        held = slices.learn(key, seen, sorted(axes))
        shapes[key] = tuple(map(max, held, shapes[key]))
    return slices


def _cut_axes(asked: Asked, address: Address, rules: Mapping[str, Rule | None]) -> dict[str, set[int]]:
    """Axes of features that come in several sizes, by address; those of declared rules are left out."""
    sizes: dict[tuple[str, int], set[int]] = {}
    for architecture, found in asked.items():
        for name, slot in found.items():
            key = address(name, architecture)
            rule = rules[key]
            if rule is None or rule.is_declared:
                continue
            for axis, (how, size) in enumerate(zip(rule.axes, slot.shape, strict=True)):
                if _is_of_features(how):
                    sizes.setdefault((key, axis), set()).add(size)
    cut: dict[str, set[int]] = {}
    for (key, axis), several in sizes.items():
        if len(several) > 1:
            cut.setdefault(key, set()).add(axis)
    return cut


def _widest_like(architecture: Architecture) -> Architecture:
    """Member with the same options among strings, and every number at its largest."""
    strings = {k: v for k, v in architecture.choices.items() if isinstance(v, str)}
    found = architecture.space.walk(picks.preferring(strings, picks.extreme(True)))
    return architecture if found is None else found


def _is_larger(shape: Shape, held: Shape | None) -> bool:
    return held is None or len(held) != len(shape) or any(a > b for a, b in zip(shape, held, strict=True))


def _is_of_features(how: str | Runs) -> bool:
    return isinstance(how, str) and (how == LEADING or how.startswith("stacked"))


def covering(asked: Asked, address: Address, cut: Mapping[str, Iterable[int]]) -> list[Architecture]:
    """Choose members that between them have every option, and every axis that is cut, whole and cut.

    Args:
        asked: What the members that were looked at ask for.
        address: Address of a parameter in a member.
        cut: Axes that come in several sizes, by address.

    Returns:
        Some of the members, those first that show the most.
    """
    largest: dict[tuple[str, int], int] = {}
    rows: dict[Architecture, set[Any]] = {}
    for architecture, found in asked.items():
        row = rows[architecture] = set(architecture.choices.items())
        for name, slot in found.items():
            key = address(name, architecture)
            for axis in cut.get(key, ()):
                largest[key, axis] = max(slot.shape[axis], largest.get((key, axis), 0))
                row.add((key, axis, slot.shape[axis]))
    for architecture, row in rows.items():
        rows[architecture] = {r if len(r) == 2 else (*r[:2], r[2] == largest[r[:2]]) for r in row}
    left = set[Any]().union(*rows.values())
    chosen: list[Architecture] = []
    while left:
        best = max(rows, key=lambda a: len(rows[a] & left))
        left -= rows.pop(best)
        chosen.append(best)
    return chosen


def _check_groups(key: str, seen: Sequence[Seen]) -> None:
    """Refuse convolutions of which a narrower one has more groups, or wider ones, than the widest."""
    most = seen[0].groups
    for other in seen[1:]:
        if most is None or other.groups is None:
            continue
        if other.groups[0] > most[0] or (other.groups[1] > most[1] and other.groups[0] != most[0]):
            why = (
                f"the convolution has {most[0]} groups of {most[1]} input channels in {seen[0].architecture} and "
                f"{other.groups[0]} of {other.groups[1]} here"
            )
            raise refusal(key, 1, other, (other.shape[1], seen[0].shape[1]), why)


def _merged(key: str, axis: int, seen: Sequence[Seen], largest: int) -> Layout:
    """Layout that holds those of all members; that of the largest where all of them together are no network."""
    ordered = sorted(seen, key=lambda s: -s.shape[axis])
    layout, first = ordered[0].layouts[axis], ordered[0].layouts[axis]
    for other in ordered[1:]:
        try:
            layout = merge(layout, other.layouts[axis])
        except Unsure as err:
            if other.shape[axis] == largest == layout.size:
                continue  # nothing is cut there
            raise refusal(key, axis, other, (other.shape[axis], layout.size), str(err)) from err
    if layout.size > largest and layout.kind == PRODUCT and not _has_rows(layout):
        return replace(first, is_constant=False)
    return layout


def _has_rows(layout: Layout) -> bool:
    return layout.kind == ROW or any(_has_rows(p) for p in layout.parts)


def _placed(key: str, axis: int, seen: Seen, whole: Layout) -> Index:
    try:
        return place(seen.layouts[axis], whole)
    except Unsure as err:
        size = seen.shape[axis]
        if size == whole.size:
            return np.arange(size)
        raise refusal(key, axis, seen, (size, whole.size), str(err)) from err


def _is_plain(layout: Layout) -> bool:
    """Whether every smaller such axis is the beginning of this one, whatever its size."""
    if layout.is_constant or not layout.kind:
        return True
    first, last = layout.parts[0], layout.parts[-1]
    if layout.kind == PRODUCT:
        return _is_plain(first) and all(p.is_constant for p in layout.parts[1:])
    return _is_plain(last) and all(p.is_constant for p in layout.parts[:-1])
