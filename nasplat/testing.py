"""Conformance checks for what outsiders write: does a space keep the rules, does a predictor keep the contract?"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import torch

from nasplat.errors import PredictorError, SpaceError, SupernetError
from nasplat.frontends.examples import Inputs, call
from nasplat.graph import Graph
from nasplat.predict.contract import AbstractPredictor
from nasplat.predict.finetuned import Finetuned
from nasplat.predict.prediction import Prediction
from nasplat.predict.registry import load
from nasplat.searchspace import Architecture, Space
from nasplat.searchspace.shaping import (
    AXES,
    are_several,
    fitting,
    presets_of,
    sample_shape_of,
    shape_of,
    shaped_presets,
    sizes_of,
)
from nasplat.supernet.survey import slices_refused


def check_space(space: Space, samples: int = 20, seed: int = 0) -> None:
    """Check a search space by using it.

    Members are drawn, written and read again, run forward, captured, mutated and crossed over; parameters must be named
    by position, so that changing an earlier depth neither moves nor reshapes what stays. Where numbers change widths,
    it must be known which part of each weight the narrower members take. The presets that a task decides must exist,
    and change the shape of the input or the number of outputs as the space declares.

    Args:
        space: Search space to check, such as one of `nasplat.load_space("./mine.py")`.
        samples: Number of random members to try; twenty meet most combinations of a small space.
        seed: Number that decides which members are drawn.

    Raises:
        SpaceError: a rule is broken; the message names the member, the parameter and what to do.

    Example:
        >>> import nasplat
        >>> check_space(nasplat.load_space("nasbench201", width=4, cells=1, image=8, channels=1), samples=2)
    """
    members = [space.sample(seed=seed + i) for i in range(samples)]
    for number, member in enumerate(members):
        _check_text(space, member)
        child = space.mutate(member, seed=number)
        space.architecture(child.choices)
        space.architecture(space.crossover(member, members[0], seed=number).choices)
        _check_names(space, member, child)
    for member in members[:5]:
        _check_module(space, member)
    _check_shaped(space, members[0])
    _check_slices(space)


def _check_text(space: Space, member: Architecture) -> None:
    """An architecture survives its choices, its JSON and its encoding."""
    if space.architecture(member.choices) != member or Architecture.from_json(member.to_json(), space) != member:
        raise SpaceError(f"{member}: its JSON gives another architecture.\n  Let the choices alone decide the network.")
    if space.parse(space.format(member)) != member:
        raise SpaceError(f"{member}: parse(format(a)) is not a.\n  Mend the formatter or the parser.")


def _check_module(space: Space, member: Architecture) -> None:
    """The module runs forward, and its graph counts its parameters and is the same every time."""
    module, example = space.construct(member)
    graph = member.graph()
    counted = sum(p.numel() for p in module.parameters())
    if graph.params > counted:
        raise SpaceError(
            f"{member}: {graph.params} parameters captured, {counted} in the module.\n  Register every parameter."
        )
    with torch.inference_mode():
        call(module.eval(), Inputs.of(example).repeated(2))
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


def _check_slices(space: Space) -> None:
    """It is known which part of every weight a narrower member takes, so that members can share weights."""
    try:
        refusal = slices_refused(space)
    except SupernetError:
        return  # the space has no supernet for another reason, which is no rule of spaces
    if refusal:
        raise SpaceError(refusal)


def _check_shaped(space: Space, member: Architecture) -> None:
    """Presets that a task decides change the input's shape, or what the network answers, as declared."""
    declared, values = shaped_presets(space), presets_of(space)
    if not declared:
        return
    own = {w: _own(w, member.example_input) if values[p] is None else values[p] for w, p in declared.items()}
    larger = {word: _larger(word, value) for word, value in own.items()}
    drawn = space.with_presets(**fitting(space, larger)).project(member.choices)
    stated, example = member.example_input, drawn.example_input
    for word in AXES.keys() & declared:
        sizes = sizes_of(example, word)
        follows = bool(sizes) and all(size == larger[word] for size in sizes)
        _check_follows(
            space, word, larger[word], follows, f"the input goes from {_written(stated)} to {_written(example)}"
        )
    before, after = member.graph(), drawn.graph()
    if "classes" in declared:
        outputs = before.nodes[-1].shape, after.nodes[-1].shape
        follows = any(a != b and b == larger["classes"] for a, b in zip(*outputs, strict=True))
        _check_follows(
            space, "classes", larger["classes"], follows, f"the output goes from {outputs[0]} to {outputs[1]}"
        )
    if "vocabulary" in declared:
        told = f"{before.params} parameters become {after.params}"
        _check_follows(space, "vocabulary", larger["vocabulary"], before.params != after.params, told)


def _written(example: Any) -> tuple[Any, ...]:
    """Shape of an example input; of several inputs, those of one example."""
    return sample_shape_of(example) if are_several(example) else shape_of(example)


def _check_follows(space: Space, word: str, value: int, follows: bool, told: str) -> None:
    """What a preset is declared to decide follows it."""
    if not follows:
        preset = shaped_presets(space)[word]
        raise SpaceError(
            f"space {space.name!r}: a task's {word} decides preset {preset!r}, but with {value} instead of "
            f"{presets_of(space)[preset]!r} {told}.\n"
            "  Mend the network, or say in @space(shaped={…}) which presets a task decides; {} for none."
        )


UNSTATED = 24
"""Size that is asked for where a preset of 0 leaves it to another preset."""


def _own(word: str, example: Any) -> int:
    """What a preset that is None means, as far as the example input of a member tells."""
    sizes = sizes_of(example, word) if word in AXES else ()
    if sizes:
        return next(iter(sizes))
    return int(example.max()) + 1 if isinstance(example, torch.Tensor) and not example.is_floating_point() else 1


def _larger(word: str, value: Any) -> int:
    """Another value of a preset: twice a size, which keeps multiples of a patch, and one more of what is counted."""
    largest = max(value) if isinstance(value, tuple | list) else value
    return largest + 1 if word in {"channels", "classes", "vocabulary"} else 2 * largest or UNSTATED


def check_predictor(predictor: AbstractPredictor, graphs: Sequence[Graph], labels: Sequence[float]) -> None:
    """Check a predictor by fitting, asking, saving and loading it; its class may be defined anywhere.

    Args:
        predictor: Unfitted predictor; it is fitted here.
        graphs: At least 30 graphs of one family.
        labels: True value of each graph; larger means better.

    Raises:
        PredictorError: the contract is broken; the message says what was expected and what to do.

    Example:
        >>> import nasplat
        >>> from nasplat.predict import CountBaseline
        >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=8, channels=1)
        >>> graphs = [space.sample(seed=i).graph() for i in range(30)]
        >>> check_predictor(CountBaseline("params"), graphs, [float(g.macs) for g in graphs])
    """
    name = type(predictor).__name__
    fitted: Any = predictor.fit(graphs, labels)
    if fitted is not predictor:
        raise PredictorError(f"{name}.fit expected to return self.\n  End it with `return self`.")
    if not predictor.is_fitted or not hasattr(predictor, "reference_"):
        raise PredictorError(
            f"{name}.fit expected to set reference_ (percentiles 0 to 100 of the labels) and fitted_ = True.\n"
            "  Set both at its end."
        )
    first, second = predictor.predict(graphs), predictor.predict(graphs)
    if first != second:
        raise PredictorError(f"{name}.predict gives two answers for one graph.\n  Fix its randomness by a seed.")
    _check_answers(name, first)
    kind = type(predictor.base if isinstance(predictor, Finetuned) else predictor)
    with tempfile.TemporaryDirectory() as folder:
        predictor.save(folder)
        if load(folder, kind).predict(graphs) != first:
            raise PredictorError(f"{name} answers differently after save and load.\n  Store all it learnt.")


def _check_answers(name: str, answers: Sequence[Prediction]) -> None:
    """Every answer holds a mean inside its interval, or neither and a reason."""
    for p in answers:
        inside = p.mean is not None and p.low is not None and p.high is not None and p.low <= p.mean <= p.high
        if p.in_support != inside or (not p.in_support and not p.reason):
            raise PredictorError(
                f"{name} expected mean inside its interval, or neither and a reason; got {p}.\n  See Prediction."
            )
