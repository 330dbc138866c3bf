"""Edits that leave something out: one operand of an addition, or a layer that keeps the shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nasplat.editing.edit import Edit, place_of
from nasplat.editing.network import Network, mapped, read_by, renamed
from nasplat.graph.program import Call


@dataclass(frozen=True)
class Branch(Edit):
    """Leaves out one operand of an addition with all that only it needs, such as a residual block."""

    call: int
    """Number of the addition among the network's calls."""
    side: int
    """Operand that stays, 0 or 1."""
    kind = "branch"

    def __call__(self, network: Network) -> Network:
        """Build the edited network, see `Edit`."""
        call = network.program.calls[self.call]
        return _replaced(
            network,
            call.results[0],
            call.args[self.side][1],
            f"add {self.call} without {_gone(network, call, 1 - self.side)}",
        )


def _gone(network: Network, call: Call, side: int) -> str:
    """Name the branch that an operand comes from by its last weight."""
    register = call.args[side][1]
    maker = next((i for i, c in reversed(list(enumerate(network.program.calls))) if register in c.results), None)
    while maker is not None and not read_by(network.program.calls[maker].args, "weight"):
        before = read_by(network.program.calls[maker].args, "reg")[:1]
        maker = next(
            (i for i, c in reversed(list(enumerate(network.program.calls))) if before and before[0] in c.results), None
        )
    return f"the branch of {place_of(network, maker)}" if maker is not None else "its other operand"


@dataclass(frozen=True)
class Skip(Edit):
    """Leaves out a convolution or linear map with its norm and activation."""

    first: int
    """Number of the convolution or linear map among the network's calls."""
    last: int
    """Number of the last call that is left out."""
    kind = "stretch"

    def __call__(self, network: Network) -> Network:
        """Build the edited network, see `Edit`."""
        calls = network.program.calls
        return _replaced(
            network,
            calls[self.last].results[0],
            calls[self.first].args[0][1],
            f"{place_of(network, self.first)} left out",
        )


def _replaced(network: Network, old: int, new: int, words: str) -> Network:
    """Let all calls that read one register read another."""
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
