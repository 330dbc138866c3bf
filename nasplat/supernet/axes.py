"""Axes of tensors as unknowns that operations relate: equal to another axis, a product of factors, a row of segments.

An operation that adds two tensors makes their axes one; a view splits an axis into factors or joins factors to one; a
concatenation joins segments, a chunk splits an axis into them. What is learnt of an axis late (a projection that is
split into queries, keys and values behind it) holds for every tensor and weight that has the axis. This is unification,
as compilers infer types by it. Source: Robinson 1965, doi:10.1145/321250.321253.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from math import prod

PRODUCT, ROW = "product", "row"
Place = tuple[str, int]
"""Name of a parameter, and the number of one of its axes."""


class Axis:
    """One axis of one or several tensors."""

    __slots__ = ("doubt", "is_factor", "is_outer", "is_position", "names", "parent", "parts", "shape_of", "size")

    def __init__(self, size: int, is_position: bool = False, names: Iterable[Place] = ()) -> None:
        """Make an axis that nothing is known of.

        Args:
            size: Number of positions.
            is_position: The positions lie in space or time, and are no features that a weight makes.
            names: Parameters' axes that this axis is.
        """
        self.size, self.is_position = size, is_position
        self.names: frozenset[Place] = frozenset(names)
        self.parent: Axis | None = None
        self.shape_of = ""
        """PRODUCT or ROW where the axis has parts; '' for a plain one."""
        self.parts: list[Axis] = []
        self.is_factor = False
        """The axis has one position here, and is a factor of its own in wider networks."""
        self.is_outer = False
        """The axis is the outer factor of two, of which the inner one has one position."""
        self.doubt = ""
        """Why it is not known what becomes of the positions; '' where it is."""


def root(axis: Axis) -> Axis:
    """Find the axis that stands for all that were made one with this one.

    Args:
        axis: Axis of any tensor.

    Returns:
        The one that holds what is known of them.
    """
    while axis.parent is not None:
        if axis.parent.parent is not None:
            axis.parent = axis.parent.parent
        axis = axis.parent
    return axis


def doubt(axis: Axis, why: str) -> None:
    """Note that it is not known what becomes of the positions of an axis.

    Args:
        axis: Axis of which it is not known.
        why: Operation and its place, for the error that may follow.
    """
    found = root(axis)
    found.doubt = found.doubt or why
    for part in found.parts:
        doubt(part, why)


def product(axes: Sequence[Axis]) -> Axis:
    """Join axes to one whose positions count through all of them, the last one fastest.

    Args:
        axes: Factors, the slowest first; those of size 1 play no part unless they are known as factors.

    Returns:
        The joined axis; the factor itself where there is only one.
    """
    factors = [root(a) for a in axes if root(a).size != 1 or root(a).is_factor]
    if len(factors) < 2 or all(f.size == 1 for f in factors):
        return factors[0] if factors else Axis(1)
    made = Axis(prod(f.size for f in factors), all(f.is_position for f in factors))
    made.shape_of, made.parts = PRODUCT, list(factors)
    made.doubt = next((f.doubt for f in factors if f.doubt), "")
    return made


def row(axes: Sequence[Axis]) -> Axis:
    """Put axes behind one another.

    Args:
        axes: Segments in their order; empty ones play no part.

    Returns:
        The joined axis; the segment itself where there is only one.
    """
    segments = [root(a) for a in axes if root(a).size]
    if len(segments) < 2:
        return segments[0] if segments else Axis(0)
    made = Axis(sum(s.size for s in segments), all(s.is_position for s in segments))
    made.shape_of, made.parts = ROW, list(segments)
    return made


def factors(axis: Axis, sizes: Sequence[int], why: str) -> list[Axis]:
    """Split an axis into factors, as a view does.

    Args:
        axis: Axis to split.
        sizes: Sizes of the factors, the slowest first; their product is the size of the axis. A factor of 1 between
            others keeps its place, as that of a single head does.
        why: Operation and its place, noted where the axis cannot be split so.

    Returns:
        One axis for each size.
    """
    if len(sizes) == 1:
        return [root(axis)]
    found = root(axis)
    is_position = found.is_position and not found.parts  # parts that are known say so themselves
    made = Axis(found.size, is_position)
    made.shape_of, made.parts = PRODUCT, [Axis(s, is_position) for s in sizes]
    for part in made.parts:
        part.is_factor = part.size == 1
    parts = list(made.parts)
    unite(found, made, why)
    return [root(p) for p in parts]


def segments(axis: Axis, sizes: Sequence[int], why: str) -> list[Axis]:
    """Split an axis into segments, as a chunk or a slice does.

    Args:
        axis: Axis to split.
        sizes: Sizes of the segments in their order; their sum is the size of the axis.
        why: Operation and its place, noted where the axis cannot be split so.

    Returns:
        One axis for each size, those of empty segments among them.
    """
    found = root(axis)
    solid = [s for s in sizes if s]
    if len(solid) < 2:
        return [found if s else Axis(0) for s in sizes]
    is_position = found.is_position and not found.parts
    made = Axis(found.size, is_position)
    # the first segment of an axis in space is what a network chose to read of it
    made.shape_of, made.parts = ROW, [Axis(s, is_position and i > 0) for i, s in enumerate(solid)]
    parts = iter(list(made.parts))
    unite(found, made, why)
    return [root(next(parts)) if s else Axis(0) for s in sizes]


def unite(a: Axis, b: Axis, why: str) -> None:
    """Make two axes one, and with them their parts.

    Args:
        a: One of both axes.
        b: The other one, of the same size.
        why: Operation and its place, noted where what is known of both does not agree.
    """
    a, b = root(a), root(b)
    if a is b:
        return
    if a.size != b.size:
        doubt(a, why)
        doubt(b, why)
        return
    agrees = True
    if a.shape_of and b.shape_of:
        agrees = _agree(a, b, why)
        a, b = root(a), root(b)
        if a is b:
            return
    if a.shape_of and not b.shape_of:
        a, b = b, a  # b keeps its parts
    a.parent = b
    b.names |= a.names
    b.is_position = b.is_position or a.is_position
    b.is_outer = b.is_outer or a.is_outer
    b.is_factor = b.is_factor or a.is_factor
    reason = a.doubt or b.doubt or ("" if agrees else why)
    if reason:
        b.doubt = ""
        doubt(b, reason)


def _agree(a: Axis, b: Axis, why: str) -> bool:
    """Refine the parts of two axes until they are alike, and make them one; False where that is not possible."""
    if a.shape_of != b.shape_of:
        whole, segmented = (a, b) if a.shape_of == PRODUCT else (b, a)
        first, rest = whole.parts[0], whole.parts[1:]
        step = prod(root(r).size for r in rest)
        sizes = [root(s).size for s in segmented.parts]
        if any(s % step for s in sizes):
            return False
        pieces = segments(first, [s // step for s in sizes], why)
        for piece, segment in zip(pieces, list(segmented.parts), strict=True):
            unite(product([piece, *rest]), segment, why)
        return True
    is_product = a.shape_of == PRODUCT
    together = (lambda x, y: x * y) if is_product else (lambda x, y: x + y)
    solid = [[p for p in axis.parts if root(p).size != 1 or not is_product] for axis in (a, b)]
    ones = _ones(a, b) if is_product else {}
    ends = [list(accumulate((root(p).size for p in parts), together)) for parts in solid]
    marks = sorted({*ends[0], *ends[1]})
    if is_product and any(y % x for x, y in pairwise(marks)):
        return False
    sides = []
    for parts, own in zip(solid, ends, strict=True):
        refined = list(ones.get(1, []))
        start = 1 if is_product else 0
        for part, end in zip(parts, own, strict=True):
            inside = [start, *(m for m in marks if start < m <= end)]
            steps = [y // x if is_product else y - x for x, y in pairwise(inside)]
            pieces = factors(part, steps, why) if is_product else segments(part, steps, why)
            for piece, mark in zip(pieces, inside[1:], strict=True):
                refined += [piece, *ones.get(mark, [])]
            start = end
        sides.append(refined)
    root(a).parts, root(b).parts = sides[0], list(sides[1])
    for x, y in zip(*sides, strict=True):
        unite(x, y, why)
    return True


def _ones(a: Axis, b: Axis) -> dict[int, list[Axis]]:
    """Factors of one position in two products, by the product of the factors before them."""
    found: dict[int, list[Axis]] = {}
    for axis in (a, b):
        counted, own = 1, dict[int, list[Axis]]()
        for part in axis.parts:
            counted *= root(part).size
            if root(part).size == 1:
                own.setdefault(counted, []).append(part)
        for mark, parts in own.items():
            if len(parts) > len(found.get(mark, [])):
                found[mark] = parts
    return found
