"""The edits of a network: fewer or more channels, other kernels, operations and stretches of operations, branches left out.

Each gives a network whose shapes fit again and whose output has the shape it had; weights that it does not touch stay, those that shrink keep
their largest channels or their centre, those that are factored keep the closest product. Source of the kinds: Mills et al., AAAI 2023, 3.8 of GENNAPE and
AIO-P (one-edit mutations; swapped subgraphs; pruned channels). Written anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from nasplat.editing.network import Network, is_in_place, mapped, read_by, renamed
from nasplat.errors import EditError
from nasplat.graph.program import Call

SHARES = (0.5, 0.75, 0.875, 1.25)
"""Of a group's channels that an edit leaves."""
RANKS = (0.25, 0.5)
"""Of the smaller side of a factored weight."""
ACTIVATIONS = ("relu", "gelu", "silu", "hardswish")
_CONVS = ("aten.conv2d.default", "aten.conv2d.padding")
_FOLLOWS = frozenset(
    (
        "batch_norm",
        "layer_norm",
        "dropout",
        "dropout_",
        *ACTIVATIONS,
        *(f"{a}_" for a in ACTIVATIONS),
        "hardtanh",
        "hardtanh_",
    )
)
"""What belongs to the convolution or linear map before it."""


class Edit(ABC):
    """One change of a network; see `edits`."""

    @abstractmethod
    def __call__(self, network: Network) -> Network:
        """The edited network.

        Raises:
            EditError: it cannot be built.
        """

    kind: str
    """channels, kernel, operation, factors, branch or stretch."""


def edits(network: Network) -> list[Edit]:
    """All single edits of a network that may be buildable, in a fixed order."""
    found: list[Edit] = [Width(name, share) for name, share in _widths(network)]
    for number, call in enumerate(network.program.calls):
        found += _of_call(network, number, call)
    found += [Skip(a, b) for a, b in _stretches(network)]
    return found


def _widths(network: Network) -> Iterator[tuple[str, float]]:
    for name, labels in network.channels.groups.items():
        for share in SHARES:
            if _count(len(labels), share) != len(labels):
                yield name, share


def _of_call(network: Network, number: int, call: Call) -> Iterator[Edit]:
    name = call.op.split(".")[1]
    bare = name.removesuffix("_")
    if bare in ACTIVATIONS:
        yield from (Activate(number, other) for other in ACTIVATIONS if other != bare)
    if name in {"max_pool2d", "avg_pool2d"}:
        yield Pool(number)
    if name in {"add", "add_"} and _adds_branches(network, call):
        yield from (Branch(number, side) for side in (0, 1))
    if call.op in _CONVS or name == "linear":
        weight = network.weights[call.args[1][1]]
        if call.args[1][1] not in network.trained:
            return
        if name == "conv2d":
            groups = (*call.args, *([None] * 7))[6] or 1
            kernel = tuple(weight.shape[2:])
            for step in (-2, 2):
                sizes = tuple(k + step if k > 1 else k for k in kernel)
                if sizes != kernel and min(sizes) >= 1 and max(sizes) <= 7:
                    yield Kernel(number, step)
            if groups == 1 and prod(kernel) > 1 and min(weight.shape[:2]) >= 4 and not isinstance(call.args[4:5], str):
                yield Separate(number)
            if groups != 1:
                return
        out, into = weight.shape[0], prod(weight.shape[1:])
        for share in RANKS:
            rank = int(share * min(out, weight.shape[1]))
            if rank >= 4 and rank * (out + into) < 0.9 * out * into:
                yield Factor(number, rank)


def _adds_branches(network: Network, call: Call) -> bool:
    sides = read_by(call.args[:2], "reg")
    return len(sides) == 2 and sides[0] != sides[1] and len({network.shapes[r] for r in (*sides, call.results[0])}) == 1


def _stretches(network: Network) -> Iterator[tuple[int, int]]:
    """Calls from a convolution or linear map to the last norm, activation or dropout that it alone feeds, whose shape is that of the input."""
    calls, readers = network.program.calls, _readers(network)
    for first, call in enumerate(calls):
        if (call.op not in _CONVS and call.op != "aten.linear.default") or call.args[0][0] != "reg":
            continue
        last, shape = first, network.shapes[call.args[0][1]]
        while True:
            next_ = readers.get(calls[last].results[0], [])
            if (
                len(next_) != 1
                or next_[0] == len(calls)
                or calls[next_[0]].op.split(".")[1] not in _FOLLOWS
                or calls[next_[0]].args[0] != ("reg", calls[last].results[0])
            ):
                break
            last = next_[0]
        if network.shapes[calls[last].results[0]] == shape:
            yield first, last


def _readers(network: Network) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for number, call in enumerate(network.program.calls):
        for register in dict.fromkeys(read_by((call.args, call.kwargs), "reg")):
            found.setdefault(register, []).append(number)
    for register in read_by(network.program.outputs, "reg"):
        found.setdefault(register, []).append(len(network.program.calls))
    return found


def _count(size: int, share: float) -> int:
    step = 4 if size >= 16 else 1
    return max(1, round(size * share / step) * step)


def _where(network: Network, number: int) -> str:
    names = read_by(network.program.calls[number].args, "weight")
    return (
        names[0].rpartition(".")[0] or names[0]
        if names
        else f"{network.program.calls[number].op.split('.')[1]} {number}"
    )


@dataclass(frozen=True)
class Width(Edit):
    """Fewer or more channels in a group; those of the smallest weights go, or those of the largest weights are doubled."""

    group: str
    share: float
    kind = "channels"

    def __call__(self, network: Network) -> Network:
        """See `Edit`."""
        channels = network.channels
        if self.group not in channels.groups:
            raise EditError(
                f"expected a group of channels, got {self.group!r}.\n  Groups: {', '.join(channels.groups)}."
            )
        labels = channels.groups[self.group]
        wanted = _count(len(labels), self.share)
        order = _importance(network, labels)
        times = dict.fromkeys(labels, 1)
        if wanted < len(labels):
            times |= dict.fromkeys(order[wanted:], 0)
        else:
            times |= dict.fromkeys(order[: wanted - len(labels)], 2)
        changed: dict[str, Tensor] = {}
        for (name, axis), own in channels.axes.items():
            if all(times.get(i, 1) == 1 for i in own):
                continue
            if wanted > len(labels) and len(set(own)) < len(own):
                raise EditError(
                    f"{self.group}: channels that stand several times on an axis cannot be doubled.\n  Narrow it."
                )
            weight = changed.get(name, network.weights[name])
            index = [p for p, i in enumerate(own) for _ in range(times.get(i, 1))]
            weight = weight.index_select(axis, torch.tensor(index))
            if axis == 1 and wanted > len(labels):  # a doubled channel is read once: the network computes what it did
                again = [p for p in range(1, len(index)) if index[p] == index[p - 1]]
                weight = weight.index_fill(1, torch.tensor(again), 0.0) if again else weight
            changed[name] = weight
        calls = list(network.program.calls)
        for literal in channels.literals:
            count = sum(times.get(i, 1) for i in literal.labels)
            if count != len(literal.labels):
                call = calls[literal.call]
                calls[literal.call] = replace(call, args=_put(call.args, literal.where, count))
        where = self.group.removesuffix(".weight")
        return network.edited(
            calls, network.program.outputs, changed, (), f"channels of {where} {len(labels)} → {wanted}"
        )


def _put(args: Any, where: Sequence[int], value: int) -> Any:
    place, *rest = where
    return tuple(
        _put(a, rest, value) if rest and i == place else value if i == place else a for i, a in enumerate(args)
    )


def _importance(network: Network, labels: Sequence[int]) -> list[int]:
    """Labels by the squared norm of the weights that make and read them, each weight's mean being 1; largest first."""
    sums = dict.fromkeys(labels, 0.0)
    for (name, axis), own in network.channels.axes.items():
        weight = network.weights[name]
        if weight.dim() < 2 or not sums.keys() & set(own):
            continue
        size = weight.float().square().sum([d for d in range(weight.dim()) if d != axis])
        size = size / size.mean().clamp_min(1e-12)
        for i, s in zip(own, size.tolist(), strict=True):
            if i in sums:
                sums[i] += s
    return sorted(labels, key=lambda i: (-sums[i], i))


@dataclass(frozen=True)
class Kernel(Edit):
    """A kernel two smaller, its centre kept, or two larger, with zeros around."""

    call: int
    step: int
    kind = "kernel"

    def __call__(self, network: Network) -> Network:
        """See `Edit`."""
        call = network.program.calls[self.call]
        args = _conv_args(call)
        name, weight = call.args[1][1], network.weights[call.args[1][1]]
        sizes = [k + self.step if k > 1 else k for k in weight.shape[2:]]
        if isinstance(args[4], tuple):
            dilation = args[5][1:]
            shift = [d * (n - k) // 2 for k, n, d in zip(weight.shape[2:], sizes, dilation, strict=True)]
            padding = [p + s for p, s in zip(args[4][1:], shift, strict=True)]
            if min(padding) < 0:
                raise EditError(f"{_where(network, self.call)}: a smaller kernel needs padding to lose.\n  Leave it.")
            args[4] = ("list", *padding)
        if self.step < 0:
            cut = [(k - n) // 2 for k, n in zip(weight.shape[2:], sizes, strict=True)]
            weight = weight[:, :, cut[0] : cut[0] + sizes[0], cut[1] : cut[1] + sizes[1]].contiguous()
        else:
            grow = [(n - k) // 2 for k, n in zip(weight.shape[2:], sizes, strict=True)]
            weight = torch.nn.functional.pad(weight, (grow[1], grow[1], grow[0], grow[0]))
        if len(_sharers(network, name)) > 1:
            raise EditError(f"{name} is used more than once.\n  Leave it.")
        calls = list(network.program.calls)
        calls[self.call] = replace(call, args=tuple(args))
        before = "×".join(map(str, network.weights[name].shape[2:]))
        words = f"kernel of {_where(network, self.call)} {before} → {'×'.join(map(str, sizes))}"
        return network.edited(calls, network.program.outputs, {name: weight}, (), words)


def _conv_args(call: Call) -> list[Any]:
    """All seven, defaults filled in."""
    defaults = (None, None, None, ("list", 1, 1), ("list", 0, 0), ("list", 1, 1), 1)
    given = list(call.args) + list(defaults[len(call.args) :])
    pairs = [
        (v, v) if isinstance(v, int) else v[1:] * (2 if isinstance(v, tuple) and len(v) == 2 else 1)
        for v in given[3:6]
        if not isinstance(v, str)
    ]
    if not isinstance(given[4], str):
        given[3:6] = [("list", *p) for p in pairs]
    else:
        given[3], given[5] = ("list", *pairs[0]), ("list", *pairs[1])
    return given


def _sharers(network: Network, name: str) -> list[int]:
    return [i for i, c in enumerate(network.program.calls) if name in read_by((c.args, c.kwargs), "weight")]


@dataclass(frozen=True)
class Activate(Edit):
    """Another activation."""

    call: int
    op: str
    kind = "operation"

    def __call__(self, network: Network) -> Network:
        """See `Edit`."""
        calls = list(network.program.calls)
        old = calls[self.call]
        calls[self.call] = Call(f"aten.{self.op}.default", old.args[:1], (), old.results)
        words = f"{old.op.split('.')[1].removesuffix('_')} {self.call} → {self.op}"
        return network.edited(_without_writes(calls, self.call, old), network.program.outputs, {}, (), words)


def _without_writes(calls: list[Call], number: int, old: Call) -> list[Call]:
    """What read the operand after it was written to in place, reads the result."""
    if not is_in_place(old):
        return calls
    registers = {old.args[0][1]: old.results[0]}
    later = [
        replace(c, args=renamed(c.args, registers), kwargs=renamed(c.kwargs, registers)) for c in calls[number + 1 :]
    ]
    return [*calls[: number + 1], *later]


@dataclass(frozen=True)
class Pool(Edit):
    """Maximum instead of mean, or the other way."""

    call: int
    kind = "operation"

    def __call__(self, network: Network) -> Network:
        """See `Edit`."""
        calls = list(network.program.calls)
        old = calls[self.call]
        is_max = old.op.split(".")[1] == "max_pool2d"
        defaults = (
            (None, None, ("list",), ("list", 0, 0), ("list", 1, 1), False)
            if is_max
            else (None, None, ("list",), ("list", 0, 0), False, True)
        )
        args = [*old.args[:6], *defaults[len(old.args[:6]) :]]
        if is_max and any(d != 1 for d in (args[4][1:] if isinstance(args[4], tuple) else (args[4],))):
            raise EditError("a dilated maximum has no mean.\n  Leave it.")
        new = (*args[:4], args[5], False) if is_max else (*args[:4], ("list", 1, 1), args[4])
        op = "aten.avg_pool2d.default" if is_max else "aten.max_pool2d.default"
        calls[self.call] = Call(op, new, (), old.results)
        words = f"{'max' if is_max else 'avg'}pool {self.call} → {'avg' if is_max else 'max'}pool"
        return network.edited(calls, network.program.outputs, {}, (), words)


@dataclass(frozen=True)
class Separate(Edit):
    """A dense convolution becomes a depthwise one and a pointwise one, the closest product per input channel."""

    call: int
    kind = "stretch"

    def __call__(self, network: Network) -> Network:
        """See `Edit`."""
        call, args = network.program.calls[self.call], _conv_args(network.program.calls[self.call])
        weight = network.weights[call.args[1][1]]
        out, into = weight.shape[:2]
        u, s, v = torch.linalg.svd(weight.float().transpose(0, 1).reshape(into, out, -1), full_matrices=False)
        root = s[:, 0].sqrt()[:, None]
        depthwise = (root * v[:, 0]).reshape(into, 1, *weight.shape[2:]).to(weight.dtype)
        pointwise = (root * u[:, :, 0]).t().reshape(out, into, 1, 1).to(weight.dtype)
        where = _where(network, self.call)
        first = Call(
            call.op, (args[0], ("weight", f"{where}.depthwise.weight"), None, *args[3:6], into), (), (_free(network),)
        )
        second = (
            ("reg", first.results[0]),
            ("weight", f"{where}.pointwise.weight"),
            args[2],
            ("list", 1, 1),
            ("list", 0, 0),
            ("list", 1, 1),
            1,
        )
        new = {f"{where}.depthwise.weight": depthwise, f"{where}.pointwise.weight": pointwise}
        calls = [
            *network.program.calls[: self.call],
            first,
            Call("aten.conv2d.default", second, (), call.results),
            *network.program.calls[self.call + 1 :],
        ]
        return network.edited(calls, network.program.outputs, new, list(new), f"{where} depthwise and pointwise")


@dataclass(frozen=True)
class Factor(Edit):
    """A convolution or linear map becomes two of a smaller rank, the closest product."""

    call: int
    rank: int
    kind = "factors"

    def __call__(self, network: Network) -> Network:
        """See `Edit`."""
        call = network.program.calls[self.call]
        weight, where, is_conv = network.weights[call.args[1][1]], _where(network, self.call), call.op in _CONVS
        u, s, v = torch.linalg.svd(weight.float().reshape(weight.shape[0], -1), full_matrices=False)
        root = s[: self.rank].sqrt()
        into = (root[:, None] * v[: self.rank]).reshape(self.rank, *weight.shape[1:]).to(weight.dtype)
        out = (
            (u[:, : self.rank] * root)
            .reshape(weight.shape[0], self.rank, *([1, 1] if is_conv else []))
            .to(weight.dtype)
        )
        new = {f"{where}.into.weight": into.contiguous(), f"{where}.outof.weight": out.contiguous()}
        free, bias = _free(network), (*call.args, None, None)[2]
        names = [("weight", n) for n in new]
        if is_conv:
            args = _conv_args(call)
            first = Call(call.op, (args[0], names[0], None, *args[3:6], 1), (), (free,))
            rest = (("reg", free), names[1], bias, ("list", 1, 1), ("list", 0, 0), ("list", 1, 1), 1)
            second = Call("aten.conv2d.default", rest, (), call.results)
        else:
            first = Call(call.op, (call.args[0], names[0], None), (), (free,))
            second = Call(call.op, (("reg", free), names[1], bias), (), call.results)
        calls = [*network.program.calls[: self.call], first, second, *network.program.calls[self.call + 1 :]]
        words = f"{where} through {self.rank} channels"
        return network.edited(calls, network.program.outputs, new, list(new), words)


@dataclass(frozen=True)
class Branch(Edit):
    """One operand of an addition is left out with all that only it needs: a residual block, say."""

    call: int
    side: int
    """The operand that stays."""
    kind = "branch"

    def __call__(self, network: Network) -> Network:
        """See `Edit`."""
        call = network.program.calls[self.call]
        return _replaced(
            network,
            call.results[0],
            call.args[self.side][1],
            f"add {self.call} without {_gone(network, call, 1 - self.side)}",
        )


def _gone(network: Network, call: Call, side: int) -> str:
    register = call.args[side][1]
    maker = next((i for i, c in reversed(list(enumerate(network.program.calls))) if register in c.results), None)
    while maker is not None and not read_by(network.program.calls[maker].args, "weight"):
        before = read_by(network.program.calls[maker].args, "reg")[:1]
        maker = next(
            (i for i, c in reversed(list(enumerate(network.program.calls))) if before and before[0] in c.results), None
        )
    return f"the branch of {_where(network, maker)}" if maker is not None else "its other operand"


@dataclass(frozen=True)
class Skip(Edit):
    """A convolution or linear map with its norm and activation is left out."""

    first: int
    last: int
    kind = "stretch"

    def __call__(self, network: Network) -> Network:
        """See `Edit`."""
        calls = network.program.calls
        return _replaced(
            network,
            calls[self.last].results[0],
            calls[self.first].args[0][1],
            f"{_where(network, self.first)} left out",
        )


def _replaced(network: Network, old: int, new: int, words: str) -> Network:
    """Everyone who reads one register reads another."""
    registers: Mapping[int, int] = {old: new}
    calls = [
        replace(c, args=renamed(c.args, registers), kwargs=renamed(c.kwargs, registers))
        for c in network.program.calls
        if old not in c.results
    ]
    return network.edited(
        calls,
        mapped(network.program.outputs, lambda pair: ("reg", new) if pair == ("reg", old) else pair),
        {},
        (),
        words,
    )


def _free(network: Network) -> int:
    return max([*network.program.inputs, *(r for c in network.program.calls for r in c.results)]) + 1
