"""Weights of a network that was trained elsewhere, taken over into a store."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from nasplat.errors import SupernetError
from nasplat.searchspace import Architecture
from nasplat.supernet.subnet import Subnets

SHOWN = 4
"""Names that an error lists at most."""


def adopt_weights(subnets: Subnets, network: nn.Module | Mapping[str, Tensor], member: Architecture) -> list[str]:
    """Copy a network's weights to where a member of the space has its own; all or nothing.

    Args:
        subnets: Subnets of the store that gets the weights.
        network: Module, or state dict with the names that the member's parameters have.
        member: Architecture that the network is.

    Returns:
        Addresses of the store that the network does not fill: they keep their values.

    Raises:
        SupernetError: names are missing or unknown, shapes differ, or a parameter is computed from a larger one.
    """
    store = subnets.store
    module, _ = store.space.construct(member, initialised=False)
    given = dict(network.state_dict(keep_vars=True) if isinstance(network, nn.Module) else network)
    wanted = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    _check_names(given, list(wanted), set(module.state_dict()), member)
    for name, shape in wanted.items():
        if given[name].shape != shape:
            raise SupernetError(
                f"parameter {name!r} has shape {shape} in {member}, got {tuple(given[name].shape)}.\n"
                "  Say which architecture the network is."
            )
    subnets.bind(member)  # grows the store where it lacks a parameter
    places = {name: store.address(name, member.choices) for name in wanted}
    for name, shape in wanted.items():
        if not store.is_view(places[name], shape):
            raise SupernetError(
                f"parameter {name!r} of {member} is computed from a larger one, so that it cannot be set.\n"
                "  Take over the largest."
            )
    for name, shape in wanted.items():
        store.take(places[name], shape).copy_(given[name].detach())
    return [key for key in store.weights if key not in places.values()]


def _check_names(given: Mapping[str, Tensor], wanted: list[str], known: set[str], member: Architecture) -> None:
    """Refuse a network without all of the parameters, or with entries that the member's state dict lacks."""
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in known]
    if missing or unknown:
        raise SupernetError(
            f"expected the {len(wanted)} parameters of {member}, got a network without {_listed(missing)} and with "
            f"{_listed(unknown)}.\n  Rename the entries of its state dict, or say which architecture it is."
        )


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:SHOWN]) or 'none'}{' …' if len(names) > SHOWN else ''}"
