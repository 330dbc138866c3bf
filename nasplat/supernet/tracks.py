"""Which axes every tensor of one forward pass has, and what a view does with them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from nasplat.frontends import Recording
from nasplat.supernet.axes import Axis, doubt, factors, product, root, unite

Axes = list[Axis]


class Tracks:
    """Axes of the tensors that were met so far, and of the parameters among them."""

    def __init__(self, recording: Recording) -> None:
        """Begin with the inputs of a recorded forward pass.

        Args:
            recording: Calls, and the names of the parameters among their operands.
        """
        self.recording = recording
        self.axes: dict[int, Axes] = {}
        """Axes of every tensor that was met, by identity."""
        self.parameters: dict[str, Axes] = {}
        """Axes of every parameter that was met, by name."""
        self.written: set[int] = set()
        """Memory of constants that operations wrote into."""
        self.groups: dict[str, tuple[int, int]] = {}
        """Groups of convolutions and input channels of each, by the name of the weight."""
        self.name = ""
        """Name of the operation that is looked at."""
        self.why = ""
        """What a doubt says that it gives rise to."""
        for tensor in recording.inputs:
            self.axes[id(tensor)] = [Axis(n, True) for n in tensor.shape]

    def of(self, tensor: Tensor) -> Axes:
        """Look up the axes of an operand.

        Args:
            tensor: Tensor that was met before, a weight, or a constant.

        Returns:
            Its axes; a weight's are named, those of a constant belong to it alone.
        """
        tensor = self.recording.original(tensor)
        found = self.axes.get(id(tensor))
        if found is None:
            name = self.recording.names.get(id(tensor))
            places = [] if name is None else [[(name, i)] for i in range(tensor.dim())]
            found = [Axis(n, False, places[i] if places else ()) for i, n in enumerate(tensor.shape)]
            self.axes[id(tensor)] = found
            if name is not None:
                self.parameters[name] = found
            elif tensor.untyped_storage()._cdata in self.written:
                for axis in found:
                    doubt(axis, f"a tensor that is written part by part is read by {self.why.split(' is not')[0]}")
        return [root(a) for a in found]

    def give(self, tensor: Tensor, axes: Sequence[Axis]) -> None:
        """Give axes to a result.

        Args:
            tensor: Result of a call.
            axes: Its axes; one of another size than the result has is replaced by one of which nothing is known.
        """
        made = [a if root(a).size == n else Axis(n) for a, n in zip(axes, tensor.shape, strict=False)]
        made += [Axis(n) for n in tensor.shape[len(made) :]]
        self.axes[id(tensor)] = made

    def same(self, a: Axis, b: Axis) -> None:
        """Make two axes one.

        Args:
            a: One of both axes.
            b: The other of both axes.
        """
        unite(a, b, self.why)

    def reshaped(self, axes: Axes, shape: Sequence[int]) -> Axes:
        """Follow axes through a view of another shape, in which the order of the elements stays.

        Args:
            axes: Axes before the view.
            shape: Shape after, of as many elements.

        Returns:
            One axis for each size of the shape.
        """
        made: Axes = []
        left, i, j, ones = [a for a in axes if a.size != 1 or a.is_factor], 0, 0, 0
        if any(a.size == 0 for a in left):
            return [Axis(n) for n in shape]
        while j < len(shape):
            if shape[j] == 1:
                j, ones = j + 1, ones + 1
                continue
            inner, outer = [], [shape[j]]
            while not inner or inner[-1].size == 1:
                if left[i].size == 1 and ones:  # a factor of one position stays an axis of its own
                    made.append(left[i])
                    ones -= 1
                else:
                    inner.append(left[i])
                i += 1
            j += 1
            while (have := prod(a.size for a in inner)) != (want := prod(outer)):
                if have < want:
                    inner.append(left[i])
                    i += 1
                else:
                    outer.append(shape[j])
                    j += 1
            if all(a.size == 1 for a in left[i:]):
                inner, i = [*inner, *left[i:]], len(left)
            is_split = sum(n != 1 for n in outer) > 1
            if is_split and all(n == 1 for n in shape[j:]):
                outer, j = [*outer, *shape[j:]], len(shape)
            if is_split:  # a factor of one position before others is one, too
                made += factors(product(inner), [1] * ones + outer, self.why)
            else:
                made += [Axis(1)] * ones + [product(inner)]
            ones = 0
        return made + [Axis(1)] * ones

    def space(self, x: Tensor, r: Tensor, first: int) -> Axes:
        """Find the axes in space of a result: those of before where the size stays.

        Args:
            x: Operand of the call.
            r: Result, with as many axes.
            first: Number of the first axis in space.

        Returns:
            Axes from that one on.
        """
        own = self.of(x)
        return [
            own[i] if i < x.dim() and own[i].size == r.shape[i] else Axis(r.shape[i], True)
            for i in range(first, r.dim())
        ]

    def doubtful(self, size: int) -> Axis:
        """Make an axis of which nothing is known but that this operation made it.

        Args:
            size: Number of positions.

        Returns:
            The axis, doubted.
        """
        made = Axis(size)
        doubt(made, self.why)
        return made
