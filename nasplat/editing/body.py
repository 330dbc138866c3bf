"""A network up to its last feature map of each size, without the head that its first task had."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt
from typing import Any

from torch import Tensor, nn

from nasplat.editing.network import Network, alive, names_of, read_by
from nasplat.errors import EditError
from nasplat.graph.columns import Shape
from nasplat.graph.program import Call

SMALLEST = 2
"""Fewest rows and columns of a feature map."""


class Body(nn.Module):
    """A network up to its last feature maps; trainable as the network is."""

    def __init__(self, network: Network) -> None:
        """Cut a network behind its last feature map of each size.

        Args:
            network: Captured network that reads images of shape (n, C, H, W).

        Raises:
            EditError: the network has no feature maps.
        """
        super().__init__()
        taps = _taps(network)
        outputs = ("list", *(("reg", register) for register, _ in taps))
        program = replace(network.program, calls=alive(network.program.calls, outputs), outputs=outputs)
        weights = {n: network.weights[n] for n in names_of(program)}
        self.core = replace(
            network, program=program, weights=weights, trained=network.trained & frozenset(weights)
        ).module()
        self.shapes = [shape for _, shape in taps]
        """Shape (C, H, W) of each feature map, largest first."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the feature maps of a batch.

        Args:
            x: Images of shape (n, C, H, W).

        Returns:
            One map of shape (n, C', H', W') per size, largest first; tokens are laid out as maps.
        """
        maps = []
        for found, (c, h, w) in zip(self.core(x), self.shapes, strict=True):
            if found.dim() == 3:  # tokens, those of the class first
                found = found[:, found.shape[1] - h * w :].transpose(1, 2).reshape(len(found), c, h, w)
            maps.append(found)
        return maps


def _taps(network: Network) -> list[tuple[int, Shape]]:
    """Find the last register of each map size that the output depends on, with the shape of the map."""
    calls, makers = network.program.calls, {r: i for i, c in enumerate(network.program.calls) for r in c.results}
    needed: set[int] = set(read_by(network.program.outputs, "reg"))
    for call in reversed(calls):
        if needed & set(call.results):
            needed.update(read_by((call.args, call.kwargs), "reg"))
    found: dict[tuple[int, int], tuple[int, int, Shape]] = {}
    tokens: tuple[int, int, Shape] | None = None
    maps = set(network.program.inputs)
    for register, number in sorted(makers.items(), key=lambda item: item[1]):
        shape = network.shapes.get(register, ())
        if _is_map(calls[number], maps):
            maps.add(register)
        if register not in needed:
            continue
        if len(shape) == 4 and register in maps and min(shape[2:]) >= SMALLEST and shape[2] <= network.example_input[2]:
            found[shape[2], shape[3]] = (number, register, shape[1:])
        elif len(shape) == 3 and (side := isqrt(shape[1])) >= SMALLEST and shape[1] - side * side in {0, 1}:
            tokens = (number, register, (shape[2], side, side))
    if tokens is not None and (not found or tokens[0] > max(n for n, _, _ in found.values())):
        found[tokens[2][1], tokens[2][2]] = tokens
    if not found:
        raise EditError(
            f"expected a network with maps of {SMALLEST} × {SMALLEST} or more, got none.\n  Give it larger images."
        )
    return [(register, shape) for _, register, shape in sorted(found.values(), key=lambda tap: -tap[2][1])]


def _is_map(call: Call, maps: set[int]) -> bool:
    """Tell results that are feature maps: of convolutions, poolings, and what works place by place on maps."""
    name = call.op.split(".")[1]
    if name.startswith(("conv", "upsample")) or "pool" in name:
        return True
    read = read_by((call.args, call.kwargs), "reg")
    moves = (
        "transpose",
        "permute",
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "matmul",
        "bmm",
        "softmax",
        "split",
        "chunk",
        "slice",
        "select",
    )
    return bool(read) and set(read) <= maps and not name.removesuffix("_").startswith(moves)


def common_sizes(bodies: list[Any]) -> list[tuple[int, int]]:
    """Find the sizes of feature maps that all bodies have.

    Args:
        bodies: Modules with `shapes`, such as `Body`; at least one.

    Returns:
        (height, width) of each common size, largest first.

    Raises:
        EditError: the bodies have no size in common.
    """
    shared = set.intersection(*({(h, w) for _, h, w in b.shapes} for b in bodies))
    if not shared:
        raise EditError(
            "expected networks with maps of a common size, got none.\n  Choose a space whose networks halve alike."
        )
    return sorted(shared, reverse=True)
