"""All edits of a network: other widths, kernels and operations, factored weights, branches and layers left out.

Each gives a network whose shapes fit again and whose output has the shape it had; weights that it does not touch stay,
those that shrink keep their largest channels or their centre, those that are factored keep the closest product. Source
of the kinds: Mills et al., AAAI 2023, 3.8 of GENNAPE and AIO-P (one-edit mutations; swapped subgraphs; pruned
channels). Written anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from math import prod
from typing import Any

from nasplat.editing.edit import CONVS, Edit
from nasplat.editing.network import Network, read_by
from nasplat.editing.operations import Activate, Factor, Pool, Separate
from nasplat.editing.shortcuts import Branch, Skip
from nasplat.editing.sizes import Kernel, Width, scaled_count
from nasplat.errors import EditError
from nasplat.graph.program import Call

SHARES = (0.5, 0.75, 0.875, 1.25)
"""Shares of a group's channels that an edit leaves."""
RANKS = (0.25, 0.5)
"""Ranks of the two factors, as shares of the smaller side of the weight."""
ACTIVATIONS = ("relu", "gelu", "silu", "hardswish")
"""Activations that stand for one another, by torch's names."""
KINDS: dict[str, type[Edit]] = {
    kind.__name__: kind for kind in (Activate, Branch, Factor, Kernel, Pool, Separate, Skip, Width)
}
"""Every kind of edit by its name."""
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
"""Operations that belong to the convolution or linear map before them."""


def edits(network: Network) -> list[Edit]:
    """List all single edits of a network that may be buildable.

    Args:
        network: Captured network, see `Network.of`.

    Returns:
        Edits in a fixed order; calling one builds the edited network, or raises an EditError where it cannot be built.

    Example:
        >>> import torch
        >>> network = Network.of(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU()), (1, 8))
        >>> found = edits(network)
        >>> found[-1](network).words
        '0 left out'
    """
    found: list[Edit] = [Width(name, share) for name, share in _widths(network)]
    for number, call in enumerate(network.program.calls):
        found += _of_call(network, number, call)
    found += [Skip(a, b) for a, b in _stretches(network)]
    return found


def edit_to_dict(edit: Edit) -> dict[str, Any]:
    """Write an edit as plain data.

    Args:
        edit: Edit of one of the `KINDS`.

    Returns:
        Name of its kind under 'edit', and its fields.

    Example:
        >>> edit_to_dict(Kernel(3, -2))
        {'edit': 'Kernel', 'call': 3, 'step': -2}
    """
    assert is_dataclass(edit)
    return {"edit": type(edit).__name__, **asdict(edit)}


def edit_from_dict(plain: Mapping[str, Any]) -> Edit:
    """Read an edit that `edit_to_dict` wrote.

    Args:
        plain: Name of the kind under 'edit', and its fields.

    Returns:
        The edit.

    Raises:
        EditError: the kind is unknown, or a field is missing, unknown or of another type.

    Example:
        >>> edit_from_dict({"edit": "Kernel", "call": 3, "step": -2})
        Kernel(call=3, step=-2)
    """
    given = dict(plain) if isinstance(plain, Mapping) else {}
    kind = KINDS.get(str(given.pop("edit", "")))
    known = {} if kind is None else {f.name: f.type for f in fields(kind)}  # type: ignore[arg-type]
    types = {"str": str, "int": int, "float": (int, float)}
    fits = given.keys() == known.keys() and all(
        isinstance(v, types[str(known[k])]) and not isinstance(v, bool) for k, v in given.items()
    )
    if kind is None or not fits:
        raise EditError(
            f"expected an edit as its kind ({', '.join(KINDS)}) and the fields of that, got {plain!r:.120}.\n"
            "  Write it with edit_to_dict."
        )
    return kind(**given)


def _widths(network: Network) -> Iterator[tuple[str, float]]:
    """Pair each group of channels with the shares that change it."""
    for name, labels in network.channels.groups.items():
        for share in SHARES:
            if scaled_count(len(labels), share) != len(labels):
                yield name, share


def _of_call(network: Network, number: int, call: Call) -> Iterator[Edit]:
    """List the edits that replace or drop what one call does."""
    name = call.op.split(".")[1]
    bare = name.removesuffix("_")
    if bare in ACTIVATIONS:
        yield from (Activate(number, other) for other in ACTIVATIONS if other != bare)
    if name in {"max_pool2d", "avg_pool2d"}:
        yield Pool(number)
    if name in {"add", "add_"} and _adds_branches(network, call):
        yield from (Branch(number, side) for side in (0, 1))
    if call.op in CONVS or name == "linear":
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
    """Tell additions of two results of the output's shape from other additions."""
    sides = read_by(call.args[:2], "reg")
    return len(sides) == 2 and sides[0] != sides[1] and len({network.shapes[r] for r in (*sides, call.results[0])}) == 1


def _stretches(network: Network) -> Iterator[tuple[int, int]]:
    """Find layers that keep the shape: from a convolution or linear map to the last norm or activation it feeds."""
    calls, readers = network.program.calls, _readers(network)
    for first, call in enumerate(calls):
        if (call.op not in CONVS and call.op != "aten.linear.default") or call.args[0][0] != "reg":
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
    """Find for each register the calls that read it; the output counts as one more call."""
    found: dict[int, list[int]] = {}
    for number, call in enumerate(network.program.calls):
        for register in dict.fromkeys(read_by((call.args, call.kwargs), "reg")):
            found.setdefault(register, []).append(number)
    for register in read_by(network.program.outputs, "reg"):
        found.setdefault(register, []).append(len(network.program.calls))
    return found
