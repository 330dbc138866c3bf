"""Conformance checks for outsiders: does a space keep the rules, does a predictor keep the contract?"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import torch

from nasplat.errors import PredictorError, SpaceError
from nasplat.graph import Graph
from nasplat.predict import load
from nasplat.predict.contract import AbstractPredictor
from nasplat.searchspace import Architecture, Space


def check_space(space: Space, samples: int = 20, seed: int = 0) -> None:
    """Check a search space by using it.

    Samples, rebuilds from JSON, runs forward, captures, mutates and crosses over; checks that names come from positions:
    changing an earlier depth must not move or reshape what stays.

    Args:
        space: Any space.
        samples: Random members to try.
        seed: Of the draws.

    Raises:
        SpaceError: a rule is broken; the message names the members and the parameter.
    """
    members = [space.sample(seed=seed + i) for i in range(samples)]
    for number, member in enumerate(members):
        if space.architecture(member.choices) != member or Architecture.from_json(member.to_json(), space) != member:
            raise SpaceError(
                f"{member}: its JSON gives another architecture.\n  Let the choices alone decide the network."
            )
        if space.parse(space.format(member)) != member:
            raise SpaceError(f"{member}: parse(format(a)) is not a.\n  Mend the formatter or the parser.")
        child = space.mutate(member, seed=number)
        space.architecture(child.choices)
        space.architecture(space.crossover(member, members[0], seed=number).choices)
        _check_names(space, member, child)
    for member in members[:5]:
        module, shape = space.construct(member)
        graph = member.graph()
        counted = sum(p.numel() for p in module.parameters())
        if graph.params > counted:
            raise SpaceError(
                f"{member}: {graph.params} parameters captured, {counted} in the module.\n  Register every parameter."
            )
        with torch.inference_mode():
            module.eval()(torch.zeros(2, *shape[1:]))
        if member.graph().key != graph.key:
            raise SpaceError(f"{member}: two captures differ.\n  Remove randomness from the build function.")


def _check_names(space: Space, member: Architecture, child: Architecture) -> None:
    """A neighbour's parameters under equal names belong to the same class of module, unless a string choice changed."""
    changed = [k for k in {*member.choices, *child.choices} if member.choices.get(k) != child.choices.get(k)]
    if any(isinstance(v, str) for k in changed for v in space.known[k]):
        return
    owners = []
    for a in (member, child):
        modules = dict(space.construct(a, initialised=False)[0].named_modules())
        owners.append({n: type(m).__name__ for n, m in modules.items() if m._parameters})
    for name in owners[0].keys() & owners[1].keys():
        if owners[0][name] != owners[1][name]:
            raise SpaceError(
                f"changing {changed[0]!r} moves {name!r}: it is a {owners[0][name]}, then a {owners[1][name]}.\n"
                "  Name parts by position (stage2.block1), never by a running counter."
            )


def check_predictor(predictor: AbstractPredictor, graphs: Sequence[Graph], labels: Sequence[float]) -> None:
    """Check a predictor by fitting it.

    Args:
        predictor: Unfitted; it is fitted here.
        graphs: At least 30 graphs of one family.
        labels: One each.

    Raises:
        PredictorError: the contract is broken.
    """
    fitted: Any = predictor.fit(graphs, labels)
    if fitted is not predictor:
        raise PredictorError(f"{type(predictor).__name__}.fit expected to return self.\n  End it with `return self`.")
    first, second = predictor.predict(graphs), predictor.predict(graphs)
    if first != second:
        raise PredictorError(
            f"{type(predictor).__name__}.predict gives two answers for one graph.\n  Fix its randomness by a seed."
        )
    for p in first:
        inside = p.mean is not None and p.low is not None and p.high is not None and p.low <= p.mean <= p.high
        if p.in_support != inside or (not p.in_support and not p.reason):
            raise PredictorError(
                f"{type(predictor).__name__} expected mean inside its interval, or neither and a reason; got {p}.\n  See Prediction."
            )
    with tempfile.TemporaryDirectory() as folder:
        predictor.save(folder)
        if load(folder).predict(graphs) != first:
            raise PredictorError(
                f"{type(predictor).__name__} answers differently after save and load.\n  Store all it learnt."
            )
