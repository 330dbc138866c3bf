"""What a search remembers of every architecture it meets; graphs themselves are captured, read and let go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasplat.features.statistics import features
from nasplat.graph import bounds
from nasplat.graph.quantities import PLAIN, Quantity, Sizes
from nasplat.searchspace import Architecture

KEPT = 200_000
"""Architectures remembered, some kilobyte each; the oldest go."""


@dataclass(frozen=True)
class Facts:
    """What a search needs to know of one architecture, without its graph."""

    key: str
    """Key of the canonical architecture's graph: equal for equal computations."""
    macs: int
    """Multiply-accumulate operations of one input."""
    params: int
    """Number of parameters."""
    statistics: NDArray[np.float32]
    """Features of the canonical graph, shape (f,), in the order of `nasplat.features.statistics`."""
    bounds: tuple[str, str, str] = ("", "", "")
    """Signs of macs, params and activation_bytes, as of `nasplat.graph.bounds`; '' for exact counts."""
    because: str = ""
    """Why they are not exact; empty where they are."""


_FACTS: dict[Architecture, Facts] = {}
_SIZES: dict[Architecture, Sizes] = {}


def facts_of(architecture: Architecture) -> Facts:
    """Capture a network once per process and remember its facts: graphs are pure.

    Args:
        architecture: Member of any space.

    Returns:
        Key, counts and features. Architectures that compute the same have equal keys and features; their counts are
        their own.

    Raises:
        CaptureError: the network cannot be run on meta tensors.
    """
    found = _FACTS.get(architecture)
    if found is None:
        graph, canonical = architecture.graph(), architecture.canonical()
        known = _FACTS.get(canonical)
        if known is None:
            same = graph if canonical == architecture else canonical.graph()
            known = Facts(same.key, same.macs, same.params, np.array(list(features(same).values()), np.float32))
            _keep(canonical, known)
        causes, names = graph.causes, graph.unknown_ops
        signs = (bounds.bound(causes, bool(names)), bounds.params_bound(causes), bounds.bytes_bound(causes))
        counts = (graph.macs, graph.params)
        found = Facts(known.key, *counts, known.statistics, signs, bounds.reasons(causes, names))
        _keep(architecture, found)
    return found


def key_of(architecture: Architecture) -> str | None:
    """Give the key of a network, for those who pass by what cannot be built.

    Args:
        architecture: Member of any space.

    Returns:
        Key as in `facts_of`; None where the network cannot be built, or run on meta tensors.
    """
    try:
        return facts_of(architecture).key
    except Exception:  # a user's code: whatever it raises
        return None


def name_of(architecture: Architecture) -> str:
    """Name a network among others: by its key, or by its own text where it has none.

    Args:
        architecture: Member of any space.

    Returns:
        Text that is equal for equal computations, as far as they can be captured.
    """
    return key_of(architecture) or str(architecture)


def _keep(architecture: Architecture, facts: Facts) -> None:
    """Remember the facts of an architecture, and forget the oldest ones of too many."""
    if len(_FACTS) >= KEPT:
        del _FACTS[next(iter(_FACTS))]
    _FACTS[architecture] = facts


def quantity_of(architecture: Architecture, quantity: str) -> int:
    """Count a quantity of a network, remembering what was counted before.

    Args:
        architecture: Member of any space.
        quantity: Name with its conditions, such as 'macs', 'params', 'activation_bytes' or 'decode_macs@4096'.

    Returns:
        Multiply-accumulate operations of one input, number of parameters, the peak of the activations in bytes, or what
        else `nasplat.graph.quantities` counts by this name.

    Raises:
        GraphError: there is no such quantity, or it is one of decoders, and the network is none.
    """
    if quantity in {"macs", "params"}:
        return int(getattr(facts_of(architecture), quantity))
    asked = Quantity.of(quantity)
    if architecture not in _SIZES:
        if len(_SIZES) >= KEPT:
            del _SIZES[next(iter(_SIZES))]
        _SIZES[architecture] = Sizes.of(architecture.graph())
    return asked.count(_SIZES[architecture])


def bound_of(architecture: Architecture, quantity: str) -> str:
    """Find what the count of a quantity is.

    Args:
        architecture: Member of any space.
        quantity: Name with its conditions, as for `quantity_of`.

    Returns:
        '' for exact, '≥' for a lower bound, '≤' for an upper bound, '≈' for neither.
    """
    return facts_of(architecture).bounds[PLAIN.index(Quantity.of(quantity).alike)]
