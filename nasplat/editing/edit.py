"""`Edit`: what all edits of a network are, and what several of them need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from nasplat.editing.network import Network, read_by
from nasplat.graph.program import Call

CONVS = ("aten.conv2d.default", "aten.conv2d.padding")
"""Calls that are convolutions of images."""


class Edit(ABC):
    """One change of a network; `nasplat.editing.edits` lists those that fit a network."""

    @abstractmethod
    def __call__(self, network: Network) -> Network:
        """Build the edited network; the given one stays as it is.

        Args:
            network: Network that the edit was made for.

        Returns:
            A network with an output of the same shape; weights that the edit does not touch are shared.

        Raises:
            EditError: the edited network cannot be built.
        """

    kind: str
    """Kind of the edit: channels, kernel, operation, factors, branch or stretch."""


def place_of(network: Network, number: int) -> str:
    """Name a call for people.

    Args:
        network: Network that the call belongs to.
        number: Number of the call.

    Returns:
        Module of the call's first weight; else its operation and number, such as 'relu 7'.
    """
    names = read_by(network.program.calls[number].args, "weight")
    return (
        names[0].rpartition(".")[0] or names[0]
        if names
        else f"{network.program.calls[number].op.split('.')[1]} {number}"
    )


def conv_args(call: Call) -> list[Any]:
    """Fill in the defaults of a convolution's arguments.

    Args:
        call: Call of `aten.conv2d.default` or `aten.conv2d.padding`.

    Returns:
        Input, weight, bias, stride, padding, dilation and groups; the padding may be a word.
    """
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


def free_register(network: Network) -> int:
    """Find a register that no call uses.

    Args:
        network: Network that a call is added to.

    Returns:
        One more than the largest register in use.
    """
    return max([*network.program.inputs, *(r for c in network.program.calls for r in c.results)]) + 1
