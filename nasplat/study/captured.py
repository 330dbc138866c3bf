"""What a search remembers of every architecture it meets; graphs themselves are captured, read and let go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasplat.features.statistics import features
from nasplat.searchspace import Architecture

KEPT = 200_000
"""Architectures remembered, some kilobyte each; the oldest go."""


@dataclass(frozen=True)
class Facts:
    """Of one architecture."""

    key: str
    """Of the canonical architecture's graph: equal for equal computations."""
    macs: int
    params: int
    statistics: NDArray[np.float32]
    """Shape (f,): `nasplat.features.statistics` of the canonical graph, in their order."""


_FACTS: dict[Architecture, Facts] = {}
_ACTIVATIONS: dict[Architecture, int] = {}


def facts_of(architecture: Architecture) -> Facts:
    """Captured once per process: graphs are pure."""
    found = _FACTS.get(architecture)
    if found is None:
        graph, canonical = architecture.graph(), architecture.canonical()
        known = _FACTS.get(canonical)
        if known is None:
            same = graph if canonical == architecture else canonical.graph()
            known = Facts(same.key, same.macs, same.params, np.array(list(features(same).values()), np.float32))
            _keep(canonical, known)
        found = Facts(known.key, graph.macs, graph.params, known.statistics)
        _keep(architecture, found)
    return found


def _keep(architecture: Architecture, facts: Facts) -> None:
    if len(_FACTS) >= KEPT:
        del _FACTS[next(iter(_FACTS))]
    _FACTS[architecture] = facts


def count(architecture: Architecture, quantity: str) -> int:
    """MACs, parameters or bytes of activations."""
    if quantity != "activation_bytes":
        return int(getattr(facts_of(architecture), quantity))
    if architecture not in _ACTIVATIONS:
        if len(_ACTIVATIONS) >= KEPT:
            del _ACTIVATIONS[next(iter(_ACTIVATIONS))]
        _ACTIVATIONS[architecture] = architecture.graph().activation_bytes
    return _ACTIVATIONS[architecture]
