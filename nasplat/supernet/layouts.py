"""What an axis of a weight consists of, as a value; and where a smaller axis lies in a larger one.

A plain axis lies at the beginning of the larger one. A product lies factor by factor, so that each of three stacked
matrices, each head or each group gives the beginning of its own part. A row of segments lies segment by segment; a
segment is recognised by the parameters that make it, otherwise by its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import prod

import numpy as np
from numpy.typing import NDArray

from nasplat.supernet.axes import PRODUCT, ROW, Axis, Place, root

Index = NDArray[np.int64]
"""For each position of a smaller axis its position in the larger one."""
OF = "#"
"""Between the name of a parameter and the factors of its axis, in the names of factors that no parameter has alone."""
MANY = 12
"""Factors or segments up to which other orders than the given one are tried."""


class Unsure(Exception):
    """It is not known where the smaller axis lies; the text says why."""


@dataclass(frozen=True)
class Layout:
    """An axis and its parts."""

    size: int
    """Number of positions."""
    kind: str = ""
    """PRODUCT or ROW; '' for a plain axis."""
    parts: tuple[Layout, ...] = ()
    """Factors, or segments, in their order."""
    names: frozenset[Place] = frozenset()
    """Axes of parameters that are this very axis."""
    is_position: bool = False
    """The positions lie in space or time."""
    doubt: str = ""
    """Why it is not known what becomes of the positions; '' where it is."""
    is_outer: bool = False
    """It is the outer factor of two, of which the inner one has one position."""
    is_constant: bool = True
    """No network that was looked at has another size here."""

    @property
    def all_names(self) -> frozenset[Place]:
        """Axes of parameters that are this axis or parts of it."""
        return self.names.union(*(p.all_names for p in self.parts))

    @property
    def is_single(self) -> bool:
        """Whether it is one position that nothing names, such as one that a network picks out by its number."""
        return self.size == 1 and not self.names


def name_factors(name: str, axis: Axis) -> None:
    """Give the factors of a parameter's axis names, so that they are found again in other networks.

    Args:
        name: Parameter's name, and the number of the axis.
        axis: Axis of the parameter.
    """
    found = root(axis)
    if found.shape_of == PRODUCT:
        for i, part in enumerate(found.parts):
            inner = root(part)
            inner.names |= {(f"{name}{OF}{i}", -1)}
            name_factors(f"{name}{OF}{i}", inner)


def layout_of(axis: Axis, known: dict[Axis, Layout]) -> Layout:
    """Write down what is known of an axis.

    Args:
        axis: Axis of a network that was followed to its end.
        known: Layouts that were written down before, which grows.

    Returns:
        Its layout; products of products and rows of rows are one.
    """
    found = root(axis)
    if found in known:
        return known[found]
    parts: list[Layout] = []
    for part in found.parts:
        inner = layout_of(part, known)
        if inner.kind == found.shape_of and inner.kind:
            parts += inner.parts
        else:
            parts.append(inner)
    if found.shape_of == ROW and all(p.is_single for p in parts):
        parts = []
    kind = found.shape_of if parts else ""
    made = Layout(found.size, kind, tuple(parts), found.names, found.is_position, found.doubt, found.is_outer)
    known[found] = made
    return made


def place(part: Layout, whole: Layout) -> Index:
    """Find where a smaller axis lies in a larger one.

    Args:
        part: Layout of the smaller axis.
        whole: Layout of the larger one.

    Returns:
        Shape (size of the smaller axis,): increasing positions in the larger one.

    Raises:
        Unsure: no rule says where.
    """
    if part.kind == whole.kind == PRODUCT and len(part.parts) == len(whole.parts):
        return _in_product([place(p, w) for p, w in zip(part.parts, whole.parts, strict=True)], whole)
    if part.size == 0:
        return np.zeros(0, np.int64)
    if _is_one_of_several(part, whole):
        return _among_factors(part, whole)[0]
    if ROW in (part.kind, whole.kind):
        rows = [_segments(part, whole), _segments(whole, part)]
        if rows[0] and rows[1]:
            return _in_row(rows[0], rows[1])
    elif PRODUCT in (part.kind, whole.kind) and part.size != whole.size:
        if not part.kind and part.size < whole.size and not (part.doubt or whole.doubt):
            if part.is_outer and whole.kind == PRODUCT and part.size <= whole.parts[0].size:
                return place(part, whole.parts[0]) * (whole.size // whole.parts[0].size)
            return np.arange(part.size)  # nothing splits the smaller axis: where it lies makes no difference there
        return _among_factors(part, whole)[0]
    if part.size == whole.size:
        return np.arange(part.size)
    why = part.doubt or whole.doubt
    if why:
        raise Unsure(why)
    if part.kind or whole.kind:
        raise Unsure(f"it is {_told(whole)} in the larger network and {_told(part)} in the smaller one")
    if part.is_position or whole.is_position:
        raise Unsure(f"its {whole.size} positions in space or time are {part.size} in the smaller network")
    if part.size > whole.size:
        raise Unsure(f"{part.size} positions do not fit into {whole.size}")
    return np.arange(part.size)


def _told(layout: Layout) -> str:
    """Say in words what an axis consists of."""
    sizes = [str(p.size) for p in layout.parts]
    if layout.kind == PRODUCT:
        return f"{' x '.join(sizes)} positions"
    return f"a row of {' + '.join(sizes)} positions" if layout.kind == ROW else f"{layout.size} positions"


def _in_product(places: Sequence[Index], whole: Layout) -> Index:
    found = np.zeros(1, np.int64)
    for index, factor in zip(places, whole.parts, strict=True):
        found = (found[:, None] * factor.size + index).flatten()
    return found


def _among_factors(part: Layout, whole: Layout) -> tuple[Index, tuple[int, ...]]:
    """Factors of size 1 are left out of layouts: find which of the larger network's the smaller one has."""
    if whole.kind != PRODUCT or len(whole.parts) > MANY:
        raise Unsure(f"it is {_told(whole)} in the larger network and {_told(part)} in the smaller one")
    own = part.parts if part.kind == PRODUCT else (part,)
    found: dict[int, dict[bytes, tuple[Index, tuple[int, ...]]]] = {}
    zero = np.zeros(1, np.int64)
    for chosen in combinations(range(len(whole.parts)), len(own)):
        pairs = list(zip(own, (whole.parts[c] for c in chosen), strict=True))
        try:
            inner = {c: place(*pair) for c, pair in zip(chosen, pairs, strict=True)}
        except Unsure:
            continue
        index = _in_product([inner.get(i, zero) for i in range(len(whole.parts))], whole)
        # factors that have a name in common, or never vary, are the same ones
        likeness = sum(2 * bool(p.names & w.names) + (w.is_constant and p.size == w.size) for p, w in pairs)
        found.setdefault(likeness, {}).setdefault(index.tobytes(), (index, chosen))
    if found and len(found[max(found)]) == 1:
        return next(iter(found[max(found)].values()))
    raise Unsure(f"it is {_told(whole)} in the larger network and {_told(part)} in the smaller one")


def _segments(layout: Layout, other: Layout) -> tuple[Layout, ...]:
    """Segments of an axis; one where it is none beside a row; none where it cannot be seen as a row."""
    if layout.kind == ROW:
        return layout.parts
    return (layout,) if layout.names or other.kind == ROW else ()


def _is_one_of_several(part: Layout, whole: Layout) -> bool:
    """Whether the smaller axis is a row of segments, and the larger one several such: of one head, and of many."""
    return part.kind == ROW and whole.kind == PRODUCT and part.size < whole.size


def _in_row(own: Sequence[Layout], whole: Sequence[Layout]) -> Index:
    starts = np.concatenate([[0], np.cumsum([w.size for w in whole])])
    chosen = matching(own, whole)
    if chosen is None:
        raise Unsure(
            f"a row of {len(whole)} segments has {len(own)} in the smaller network, and which of them is not known"
        )
    return np.concatenate([place(p, whole[c]) + starts[c] for p, c in zip(own, chosen, strict=True)])


def matching(own: Sequence[Layout], whole: Sequence[Layout]) -> list[int] | None:
    """Find for each segment of one row its counterpart in another.

    Args:
        own: Segments of the one row.
        whole: Segments of the other, as many or more.

    Returns:
        Numbers of the counterparts; None where they are not known.
    """
    pairs = [(p.all_names, w.all_names) for p, w in zip(own, whole, strict=False)]
    is_alike = [bool(p & w) or not p or not w for p, w in pairs]
    if len(own) == len(whole) and all(is_alike):
        return list(range(len(own)))
    found: list[int] | None = []
    for segment in own:
        fits = [i for i, w in enumerate(whole) if segment.all_names & w.all_names and i not in found]
        if not fits:
            found = None
            break
        found.append(fits[0])
    if found is not None:
        return found
    known = frozenset[Place]().union(*(w.all_names for w in whole))
    # other operations may stand in the same places: their names are new
    is_new = all(p & w or not p & known for p, w in pairs)
    return list(range(len(own))) if len(own) == len(whole) and is_new else None


def merge(a: Layout, b: Layout) -> Layout:
    """Make the layout that holds both.

    Args:
        a: Layout of an axis in one network, the larger one.
        b: Layout of the same weight's axis in another.

    Returns:
        The largest factors and all segments of both.

    Raises:
        Unsure: no rule says how both lie in one.
    """
    names, why = a.names | b.names, a.doubt or b.doubt
    base = replace(a, names=names, doubt=why, is_position=a.is_position or b.is_position)
    constant = a.is_constant and b.is_constant and a.size == b.size
    if a.kind == b.kind == PRODUCT and len(a.parts) == len(b.parts):
        parts = tuple(merge(x, y) for x, y in zip(a.parts, b.parts, strict=True))
        return replace(base, parts=parts, size=prod(p.size for p in parts), is_constant=constant)
    if _is_one_of_several(a, b):
        a, b = b, a
    if _is_one_of_several(b, a):
        same = _among_factors(b, a)[1][0]
        inside = replace(b, names=frozenset())  # it is named as the whole axis is
        parts = tuple(merge(p, inside) if i == same else replace(p, is_constant=False) for i, p in enumerate(a.parts))
        return replace(base, kind=PRODUCT, parts=parts, size=prod(p.size for p in parts), is_constant=False)
    if ROW in (a.kind, b.kind):
        rows = _segments(a, b), _segments(b, a)
        if rows[0] and rows[1]:
            parts = _merged_rows(*rows)
            return replace(base, kind=ROW, parts=parts, size=sum(p.size for p in parts), is_constant=constant)
    if a.kind or b.kind:
        if a.size < b.size or (a.size == b.size and not a.kind):
            a, b = b, a
            base = replace(a, names=names, doubt=why)
        place(b, a)
        if a.kind == b.kind == PRODUCT and len(a.parts) > len(b.parts) and a.size != b.size:
            chosen = _among_factors(b, a)[1]
            inner = dict(zip(chosen, b.parts, strict=True))
            parts = [merge(x, inner[i]) if i in inner else replace(x, is_constant=False) for i, x in enumerate(a.parts)]
            return replace(base, parts=tuple(parts), size=prod(p.size for p in parts), is_constant=False)
        if a.kind == PRODUCT and a.size != b.size:
            rest = prod(p.size for p in a.parts[1:])
            # a factor of one position is left out of the smaller one: any of them, unless the others fit as they are
            varies = [i == 0 or b.size % rest != 0 for i in range(len(a.parts))]
            parts = [replace(p, is_constant=p.is_constant and not v) for p, v in zip(a.parts, varies, strict=True)]
            return replace(base, parts=tuple(parts), is_constant=False)
        return replace(base, is_constant=constant)
    return replace(base, size=max(a.size, b.size), is_constant=constant)


def _merged_rows(a: tuple[Layout, ...], b: tuple[Layout, ...]) -> tuple[Layout, ...]:
    chosen = matching(b, a)
    if chosen is not None:
        inner = dict(zip(chosen, b, strict=True))
        return tuple(merge(x, inner[i]) if i in inner else replace(x, is_constant=False) for i, x in enumerate(a))
    chosen = matching(a, b)
    if chosen is not None:
        return _merged_rows(b, a)
    made, last = list(a), -1
    for segment in b:
        fits = [i for i, x in enumerate(made) if segment.all_names & x.all_names]
        if fits:
            last = fits[0]
            made[last] = merge(made[last], segment)
        elif segment.all_names:
            last += 1
            made.insert(last, replace(segment, is_constant=False))
        else:
            raise Unsure(f"rows of {len(a)} and of {len(b)} segments, and which are which is not known")
    return tuple(made)


def resized(layout: Layout, shapes: Mapping[str, tuple[int, ...]], size: int | None) -> Layout | None:
    """Work out the layout of an axis in a network from the shapes of its parameters, without running it.

    Args:
        layout: Layout that holds all networks' that were looked at.
        shapes: Shapes of the network's parameters by name.
        size: Size of the axis in the network; None where it is not known.

    Returns:
        The layout there; None where the shapes do not tell, or contradict each other.
    """
    told = {shapes[name][axis] for name, axis in layout.names if name in shapes and 0 <= axis < len(shapes[name])}
    told |= set() if size is None else {size}
    if len(told) > 1:
        return None
    known = next(iter(told), layout.size if layout.is_constant and all(axis < 0 for _, axis in layout.names) else None)
    if not layout.kind:
        return None if known is None else replace(layout, size=known)
    if layout.kind == ROW:
        return _resized_row(layout, shapes, known)
    parts = [resized(p, shapes, None) for p in layout.parts]
    missing = [i for i, p in enumerate(parts) if p is None]
    if len(missing) > 1 or (missing and known is None):
        return None
    if missing:
        rest = prod(p.size for p in parts if p is not None)
        parts[missing[0]] = (
            None if known is None or known % rest else resized(layout.parts[missing[0]], shapes, known // rest)
        )
    solid = [p for p in parts if p is not None]
    if len(solid) < len(parts) or (known is not None and prod(p.size for p in solid) != known):
        return None
    return replace(layout, parts=tuple(solid), size=prod(p.size for p in solid))


def _resized_row(layout: Layout, shapes: Mapping[str, tuple[int, ...]], known: int | None) -> Layout | None:
    there = [p for p in layout.parts if _is_there(p, shapes)]
    parts = [resized(p, shapes, None) for p in there]
    missing = [i for i, p in enumerate(parts) if p is None]
    if missing:
        rest = sum(p.size for p in parts if p is not None)
        if len(missing) > 1 or known is None or known <= rest:
            return None
        parts[missing[0]] = resized(there[missing[0]], shapes, known - rest)
    solid = tuple(p for p in parts if p is not None)
    total = sum(p.size for p in solid)
    if len(solid) < len(parts) or (known is not None and total != known):
        return None
    return replace(layout, parts=solid, size=total)


def _is_there(part: Layout, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a network has a segment, by the parameters that make it."""
    names = part.all_names
    return not names or any(name.partition(OF)[0] in shapes for name, _ in names)
