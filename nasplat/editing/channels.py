"""Which channels of which weights stand for each other, so that a channel that goes, goes everywhere.

Each register carries at most one axis of channels, each position of which has a label; operations pass labels on, make
new ones or unite them (both operands of an addition have the same channels). Weights' axes carry them too. What an
operation does with channels that is not known here freezes them. The groups are those of structured pruning; source of
the idea: Fang et al., CVPR 2023, arXiv:2301.12900 (dependency graphs). Written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, cast

from nasplat.graph.columns import Shape
from nasplat.graph.program import Call, Program

Labels = list[int]
"""One label for each position of an axis; equal labels stand for one channel."""

_UNARY = frozenset(
    "relu relu_ relu6 relu6_ gelu gelu_ silu silu_ mish mish_ sigmoid sigmoid_ tanh tanh_ hardswish hardswish_ "
    "hardsigmoid hardsigmoid_ hardtanh hardtanh_ leaky_relu leaky_relu_ elu elu_ celu selu selu_ softplus "
    "softsign abs neg exp sqrt rsqrt square clamp clamp_ clamp_min clamp_max dropout dropout_ feature_dropout "
    "feature_dropout_ alpha_dropout alpha_dropout_ clone contiguous detach to _to_copy alias max_pool1d "
    "max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d lift_fresh zero_ pow".split()
)
"""Operations that pass the channels of their operand on; each position of the channels' axis stays what it is."""
_BINARY = frozenset("add add_ sub sub_ mul mul_ div div_ maximum minimum".split())
"""Operations whose operands have the same channels."""
_REDUCE = frozenset(("mean", "sum", "amax", "amin"))
"""Operations that reduce whole axes."""


@dataclass(frozen=True)
class Literal:
    """A number among a call's arguments that counts channels."""

    call: int
    """Number of the call in the program."""
    where: tuple[int, ...]
    """Position of the number in the call's nested arguments."""
    labels: tuple[int, ...]
    """Labels of the channels that it counts."""


@dataclass(frozen=True)
class Channels:
    """Labels of all axes of channels in a network; equal labels stand for one channel."""

    axes: Mapping[tuple[str, int], tuple[int, ...]]
    """Labels of each axis of a weight, by the weight's name and the axis."""
    makers: frozenset[tuple[str, int]]
    """Axes whose positions make channels; the other axes read them, or go with them."""
    literals: tuple[Literal, ...]
    """Numbers in the program that change with the channels they count."""
    groups: Mapping[str, tuple[int, ...]]
    """Labels of channels that must be as many, such as those of a stage with additions, by the weight that first makes
    them; frozen ones left out."""


def find_channels(program: Program, weights: Mapping[str, Shape], shapes: Mapping[int, Shape]) -> Channels:
    """Follow the channels through a program.

    Args:
        program: Calls of a network, each result in a register of its own.
        weights: Shape of each weight by its name.
        shapes: Shape of each register at the captured batch.

    Returns:
        Labels of the weights' axes, and the groups of channels that can change; what an operation not known here reads
        or writes belongs to no group.
    """
    return _Tracer(weights, shapes).trace(program)


class _Tracer:
    """Follows labels through the calls of one program and unites those that stand for one channel."""

    def __init__(self, weights: Mapping[str, Shape], shapes: Mapping[int, Shape]) -> None:
        self.weights, self.shapes = weights, shapes
        self.parent: Labels = []
        self.frozen: set[int] = set()
        self.known: dict[int, tuple[int, Labels]] = {}
        self.axes: dict[tuple[str, int], Labels] = {}
        self.made: list[tuple[str, Labels]] = []
        self.pinned: set[str] = set()
        self.literals: list[Literal] = []
        self.number = 0

    def trace(self, program: Program) -> Channels:
        """Apply the rule of every call in order; inputs and outputs keep their channels."""
        for register in program.inputs:
            if len(self.shapes[register]) >= 2:
                self.known[register] = (1, self.new(self.shapes[register][1]))
                self.freeze(register)
        for self.number, call in enumerate(program.calls):
            if not self.rule(call):
                self.unknown(call)
        for register in _pairs(program.outputs, "reg"):
            self.freeze(register)
        for (name, _), labels in self.axes.items():
            if name in self.pinned:
                self.frozen.update(labels)
        return self.result()

    def result(self) -> Channels:
        """Gather the labels by their roots, and the groups in which nothing is frozen."""
        root = self.root
        frozen = {root(i) for i in self.frozen}
        axes = {place: tuple(root(i) for i in labels) for place, labels in self.axes.items()}
        literals = tuple(Literal(x.call, x.where, tuple(root(i) for i in x.labels)) for x in self.literals)
        belongs: dict[int, int] = {}  # a label's group, by the place of the weight that first made one of its labels
        order: list[set[int]] = []
        for _, labels in self.made:
            mine = {root(i) for i in labels}
            met = sorted({belongs[i] for i in mine if i in belongs})
            home = met[0] if met else len(order)
            if not met:
                order.append(set())
            for other in met[1:]:
                mine |= order[other]
                order[other] = set()
            order[home] |= mine
            belongs |= dict.fromkeys(mine, home)
        groups: dict[str, tuple[int, ...]] = {}
        for name, labels in self.made:
            home = belongs[root(labels[0])]
            members = order[home]
            if members and not members & frozen:
                groups[name] = tuple(sorted(members))
                order[home] = set()
        return Channels(axes, frozenset((n, 0) for n, _ in self.made), literals, groups)

    # -- labels
    # ----------------------------------------------------------------------------------------------------------

    def new(self, n: int) -> Labels:
        """Make labels of n new channels."""
        start = len(self.parent)
        self.parent.extend(range(start, start + n))
        return list(range(start, start + n))

    def root(self, i: int) -> int:
        """Find the label that stands for all that were united with one."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def unite(self, a: Labels, b: Labels) -> None:
        """Make channels one, position by position."""
        for i, j in zip(a, b, strict=True):
            i, j = self.root(i), self.root(j)
            self.parent[max(i, j)] = min(i, j)

    def freeze(self, register: int) -> None:
        """Keep the channels of a register as many as they are."""
        if register in self.known:
            self.frozen.update(self.known[register][1])

    def tie(self, weight: Any, axis: int, labels: Labels) -> bool:
        """Give these channels to a weight's axis; False where the sizes differ."""
        if weight is None:
            return True
        if (
            weight[0] != "weight"
            or axis >= len(self.weights[weight[1]])
            or self.weights[weight[1]][axis] != len(labels)
        ):
            return False
        place = (weight[1], axis)
        if place in self.axes:
            self.unite(self.axes[place], labels)
        else:
            self.axes[place] = labels
        return True

    # -- rules
    # -----------------------------------------------------------------------------------------------------------

    def rule(self, call: Call) -> bool:
        """Pass labels on; False where it is not known how."""
        name = call.op.split(".")[1]
        if not call.results or call.results[0] not in self.shapes:
            return False
        if name in _UNARY:
            return self.same(call)
        if name in _BINARY:
            return self.binary(call)
        if name in _REDUCE:
            return self.reduce(call)
        method: Callable[[Call], bool] | None = {
            **dict.fromkeys(("conv1d", "conv2d", "conv3d"), self.conv),
            "linear": self.linear,
            "batch_norm": self.batch_norm,
            "layer_norm": self.layer_norm,
            "flatten": self.flatten,
            **dict.fromkeys(("view", "reshape", "_unsafe_view"), self.view),
            "transpose": self.transpose,
            "permute": self.permute,
            **dict.fromkeys(("cat", "concat"), self.cat),
            **dict.fromkeys(("pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"), self.pad),
            **dict.fromkeys(("squeeze", "unsqueeze"), self.squeeze),
        }.get(name)
        return method is not None and method(call)

    def unknown(self, call: Call) -> None:
        """Freeze what a call reads of which no rule knows what it does with channels."""
        for register in _pairs((call.args, call.kwargs), "reg"):
            self.freeze(register)
        self.pinned.update(_pairs((call.args, call.kwargs), "weight"))

    def of(self, value: Any) -> tuple[int, Labels] | None:
        """Look up the axis of channels of an argument; None where it is no register or has none."""
        return self.known.get(value[1]) if isinstance(value, tuple) and len(value) == 2 and value[0] == "reg" else None

    def set(self, call: Call, axis: int, labels: Labels) -> bool:
        """Give these channels to the result of a call; False where they do not fit."""
        shape = self.shapes[call.results[0]]
        if not 0 <= axis < len(shape) or shape[axis] != len(labels):
            return False
        self.known[call.results[0]] = (axis, labels)
        return True

    def same(self, call: Call) -> bool:
        """Pass on the channels of the only operand."""
        found = self.of(call.args[0])
        if len(_pairs((call.args[1:], call.kwargs), "reg")):
            return False
        return found is None or self.set(call, *found)

    def binary(self, call: Call) -> bool:
        """Unite the channels of both operands, which broadcasting aligns from the last axis."""
        sides, shape = call.args[:2], self.shapes[call.results[0]]
        labelled = [
            (len(self.shapes[s[1]]) - found[0], found[1], s) for s in sides if (found := self.of(s)) is not None
        ]
        if not labelled:
            return not _pairs(sides, "weight")
        back = labelled[0][0]  # counted from the end, as broadcasting does
        size = shape[len(shape) - back]
        wide = [labels for from_end, labels, _ in labelled if from_end == back and len(labels) == size]
        if not wide or any(from_end != back for from_end, _, _ in labelled):
            return False
        for side in sides:
            if self.of(side) is not None:
                if len(self.of(side)[1]) not in {1, size}:  # type: ignore[index]
                    return False
            elif isinstance(side, tuple) and side[0] == "weight":
                own = self.weights[side[1]]
                if (
                    len(own) >= back
                    and own[len(own) - back] == size > 1
                    and not self.tie(side, len(own) - back, wide[0])
                ):
                    return False
            elif isinstance(side, tuple) and side[0] == "reg":
                own = self.shapes[side[1]]
                if len(own) >= back and own[len(own) - back] != 1:
                    return False
            elif isinstance(side, tuple):
                return False  # a stored array of its own channels
        for labels in wide[1:]:
            self.unite(wide[0], labels)
        return self.set(call, len(shape) - back, wide[0])

    def reduce(self, call: Call) -> bool:
        """Pass channels on past the axes that go; False where the channels themselves are reduced."""
        found = self.of(call.args[0])
        if found is None:
            return True
        axis, labels = found
        rank = len(self.shapes[call.args[0][1]])
        dims = call.args[1] if len(call.args) > 1 else None
        if not isinstance(dims, tuple | int):
            return False
        gone = sorted({int(d) % rank for d in (dims[1:] if isinstance(dims, tuple) else (dims,))})
        if axis in gone:
            return False
        keeps = len(self.shapes[call.results[0]]) == rank
        return self.set(call, axis if keeps else axis - sum(d < axis for d in gone), labels)

    def conv(self, call: Call) -> bool:
        """Make new channels, keep those of a depthwise convolution, freeze those of groups."""
        args = (*call.args, *([None] * (7 - len(call.args))))
        x, weight, bias, groups = *cast("tuple[Any, Any, Any]", args[:3]), args[6] or 1
        found = self.of(x)
        if weight[0] != "weight" or (found is not None and found[0] != 1):
            return False
        labels = found[1] if found is not None else self._frozen(self.shapes[x[1]][1])
        made, name = self.weights[weight[1]][0], weight[1]
        if groups == 1:
            return self.tie(weight, 1, labels) and self.make(call, weight, bias, 1, made)
        if groups == len(labels) == made:  # depthwise: a channel is its own group
            if not (self.tie(weight, 0, labels) and self.tie(bias, 0, labels)):
                return False
            self.literals.append(Literal(self.number, (6,), tuple(labels)))
            return self.set(call, 1, labels)
        self.pinned.add(name)  # channels of groups have fixed places
        self.frozen.update(labels)
        return self.set(call, 1, self._frozen(made))

    def linear(self, call: Call) -> bool:
        """Make new channels on the last axis."""
        x, weight, bias = cast("tuple[Any, Any, Any]", (*call.args, None)[:3])
        found, shape = self.of(x), self.shapes[x[1]]
        if weight[0] != "weight":
            return False
        last = len(shape) - 1
        if found is not None and found[0] != last:
            self.frozen.update(found[1])
            found = None
        labels = found[1] if found is not None else self._frozen(shape[-1])
        return self.tie(weight, 1, labels) and self.make(call, weight, bias, last, self.weights[weight[1]][0])

    def make(self, call: Call, weight: Any, bias: Any, axis: int, size: int) -> bool:
        """Make new channels of a weight's first axis."""
        made = self.new(size)
        if not (self.tie(weight, 0, made) and self.tie(bias, 0, made)):
            return False
        self.made.append((weight[1], made))
        return self.set(call, axis, made)

    def _frozen(self, n: int) -> Labels:
        """Make labels of n channels that stay as many as they are."""
        made = self.new(n)
        self.frozen.update(made)
        return made

    def batch_norm(self, call: Call) -> bool:
        """Tie statistics, scale and shift to the channels."""
        found = self.of(call.args[0])
        if found is None or found[0] != 1:
            return False
        return all(self.tie(w, 0, found[1]) for w in call.args[1:5]) and self.set(call, *found)

    def layer_norm(self, call: Call) -> bool:
        """Tie scale and shift to the channels on the last axis, whose number is among the arguments."""
        found, over = self.of(call.args[0]), call.args[1]
        if found is None or len(over) != 2 or found[0] != len(self.shapes[call.args[0][1]]) - 1:
            return False
        if not all(self.tie(w, 0, found[1]) for w in call.args[2:4]):
            return False
        self.literals.append(Literal(self.number, (1, 1), tuple(found[1])))
        return self.set(call, *found)

    def flatten(self, call: Call) -> bool:
        """Repeat each label for the places that are flattened into its channel."""
        found = self.of(call.args[0])
        if found is None:
            return True
        axis, labels = found
        shape = self.shapes[call.args[0][1]]
        first, last = (int(v) % len(shape) for v in (*call.args[1:], *(0, -1)[len(call.args) - 1 :]))
        if axis < first:
            return self.set(call, axis, labels)
        if axis > last:
            return self.set(call, axis - (last - first), labels)
        return axis == first and self.set(call, axis, _each(labels, prod(shape[axis + 1 : last + 1])))

    def view(self, call: Call) -> bool:
        """Pass channels on where the axes before them stay; on the last axis they take in what follows."""
        found = self.of(call.args[0])
        if found is None:
            return True
        axis, labels = found
        before, after = self.shapes[call.args[0][1]], self.shapes[call.results[0]]
        if after[:axis] != before[:axis] or axis >= len(after):
            return False
        if after[axis] == before[axis]:
            passed = labels
        elif axis == len(after) - 1:
            passed = _each(labels, prod(before[axis + 1 :]))
        else:
            return False
        size = call.args[1][1 + axis]
        if isinstance(size, int) and size >= 0:
            self.literals.append(Literal(self.number, (1, 1 + axis), tuple(passed)))
        elif size != -1:
            return False
        return self.set(call, axis, passed)

    def transpose(self, call: Call) -> bool:
        """Follow the channels' axis to its new place."""
        found = self.of(call.args[0])
        if found is None:
            return True
        rank = len(self.shapes[call.args[0][1]])
        a, b = (int(v) % rank for v in call.args[1:3])
        return self.set(call, {a: b, b: a}.get(found[0], found[0]), found[1])

    def permute(self, call: Call) -> bool:
        """Follow the channels' axis to its new place."""
        found = self.of(call.args[0])
        if found is None:
            return True
        order = [int(v) % len(self.shapes[call.args[0][1]]) for v in call.args[1][1:]]
        return self.set(call, order.index(found[0]), found[1])

    def squeeze(self, call: Call) -> bool:
        """Follow the channels' axis past one axis of size 1 that comes or goes."""
        found = self.of(call.args[0])
        if found is None:
            return True
        if len(call.args) != 2 or not isinstance(call.args[1], int):
            return False
        axis, (before, after) = found[0], (len(self.shapes[r]) for r in (call.args[0][1], call.results[0]))
        place = call.args[1] % max(before, after)
        return self.set(call, axis + (after - before) * (place <= axis if after > before else place < axis), found[1])

    def cat(self, call: Call) -> bool:
        """Join the channels of all parts, or unite them where another axis is joined."""
        parts = call.args[0][1:]
        found = [self.of(p) for p in parts]
        if all(f is None for f in found):
            return True
        rank = len(self.shapes[call.results[0]])
        along = int(call.args[1] if len(call.args) > 1 else dict(call.kwargs).get("dim", 0)) % rank
        if any(f is None or f[0] != found[0][0] for f in found):  # type: ignore[index]
            return False
        axis, every = found[0][0], [f[1] for f in found]  # type: ignore[index]
        if axis == along:
            return self.set(call, axis, [i for labels in every for i in labels])
        for labels in every[1:]:
            self.unite(every[0], labels)
        return self.set(call, axis, every[0])

    def pad(self, call: Call) -> bool:
        """Pass channels on; False where their own axis is padded."""
        found = self.of(call.args[0])
        if found is None:
            return True
        touched = (len(call.args[1]) - 1) // 2
        return found[0] < len(self.shapes[call.args[0][1]]) - touched and self.set(call, *found)


def _each(labels: Sequence[int], times: int) -> Labels:
    """Repeat each label a number of times in a row."""
    return [i for i in labels for _ in range(times)]


def _pairs(value: Any, kind: str) -> list[Any]:
    """List registers or names of weights in a value, in order."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple) and len(value) == 2 and value[0] == kind:
        return [value[1]]
    return [n for v in value for n in _pairs(v, kind)] if isinstance(value, tuple | list) else []
