"""Edits of operations: another activation or pool, one convolution or linear map written as a product of two."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from nasplat.editing.edit import CONVS, Edit, conv_args, free_register, place_of
from nasplat.editing.network import Network, is_in_place, renamed
from nasplat.errors import EditError
from nasplat.graph.program import Call


@dataclass(frozen=True)
class Activate(Edit):
    """Puts another activation in the place of one."""

    call: int
    """Number of the activation among the network's calls."""
    op: str
    """Torch's name of the new activation, such as 'gelu'."""
    kind = "operation"

    def __call__(self, network: Network) -> Network:
        """Build the edited network, see `Edit`."""
        calls = list(network.program.calls)
        old = calls[self.call]
        calls[self.call] = Call(f"aten.{self.op}.default", old.args[:1], (), old.results)
        words = f"{old.op.split('.')[1].removesuffix('_')} {self.call} → {self.op}"
        return network.edited(_without_writes(calls, self.call, old), network.program.outputs, {}, (), words)


def _without_writes(calls: list[Call], number: int, old: Call) -> list[Call]:
    """Let calls that read the operand after it was written to in place read the result."""
    if not is_in_place(old):
        return calls
    registers = {old.args[0][1]: old.results[0]}
    later = [
        replace(c, args=renamed(c.args, registers), kwargs=renamed(c.kwargs, registers)) for c in calls[number + 1 :]
    ]
    return [*calls[: number + 1], *later]


@dataclass(frozen=True)
class Pool(Edit):
    """Makes a maximum pool a mean pool, or the other way."""

    call: int
    """Number of the pool among the network's calls."""
    kind = "operation"

    def __call__(self, network: Network) -> Network:
        """Build the edited network, see `Edit`."""
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
    """Makes a dense convolution a depthwise and a pointwise one, the closest product per input channel."""

    call: int
    """Number of the convolution among the network's calls."""
    kind = "stretch"

    def __call__(self, network: Network) -> Network:
        """Build the edited network, see `Edit`."""
        call, args = network.program.calls[self.call], conv_args(network.program.calls[self.call])
        weight = network.weights[call.args[1][1]]
        out, into = weight.shape[:2]
        u, s, v = torch.linalg.svd(weight.float().transpose(0, 1).reshape(into, out, -1), full_matrices=False)
        root = s[:, 0].sqrt()[:, None]
        depthwise = (root * v[:, 0]).reshape(into, 1, *weight.shape[2:]).to(weight.dtype)
        pointwise = (root * u[:, :, 0]).t().reshape(out, into, 1, 1).to(weight.dtype)
        place = place_of(network, self.call)
        first = Call(
            call.op,
            (args[0], ("weight", f"{place}.depthwise.weight"), None, *args[3:6], into),
            (),
            (free_register(network),),
        )
        second = (
            ("reg", first.results[0]),
            ("weight", f"{place}.pointwise.weight"),
            args[2],
            ("list", 1, 1),
            ("list", 0, 0),
            ("list", 1, 1),
            1,
        )
        new = {f"{place}.depthwise.weight": depthwise, f"{place}.pointwise.weight": pointwise}
        calls = [
            *network.program.calls[: self.call],
            first,
            Call("aten.conv2d.default", second, (), call.results),
            *network.program.calls[self.call + 1 :],
        ]
        return network.edited(calls, network.program.outputs, new, list(new), f"{place} depthwise and pointwise")


@dataclass(frozen=True)
class Factor(Edit):
    """Makes a convolution or linear map two of a smaller rank, the closest product."""

    call: int
    """Number of the convolution or linear map among the network's calls."""
    rank: int
    """Channels between the two."""
    kind = "factors"

    def __call__(self, network: Network) -> Network:
        """Build the edited network, see `Edit`."""
        call = network.program.calls[self.call]
        weight, place, is_conv = network.weights[call.args[1][1]], place_of(network, self.call), call.op in CONVS
        u, s, v = torch.linalg.svd(weight.float().reshape(weight.shape[0], -1), full_matrices=False)
        root = s[: self.rank].sqrt()
        into = (root[:, None] * v[: self.rank]).reshape(self.rank, *weight.shape[1:]).to(weight.dtype)
        out = (
            (u[:, : self.rank] * root)
            .reshape(weight.shape[0], self.rank, *([1, 1] if is_conv else []))
            .to(weight.dtype)
        )
        new = {f"{place}.into.weight": into.contiguous(), f"{place}.outof.weight": out.contiguous()}
        free, bias = free_register(network), (*call.args, None, None)[2]
        names = [("weight", n) for n in new]
        if is_conv:
            args = conv_args(call)
            first = Call(call.op, (args[0], names[0], None, *args[3:6], 1), (), (free,))
            rest = (("reg", free), names[1], bias, ("list", 1, 1), ("list", 0, 0), ("list", 1, 1), 1)
            second = Call("aten.conv2d.default", rest, (), call.results)
        else:
            first = Call(call.op, (call.args[0], names[0], None), (), (free,))
            second = Call(call.op, (("reg", free), names[1], bias), (), call.results)
        calls = [*network.program.calls[: self.call], first, second, *network.program.calls[self.call + 1 :]]
        words = f"{place} through {self.rank} channels"
        return network.edited(calls, network.program.outputs, new, list(new), words)
