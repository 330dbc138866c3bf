"""What an operator call returns on tensors without values, and which node it becomes.

Both depend on the operator, the layouts of its operands and its other arguments alone. So every call is run once per
process; after that a table answers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nasplat.frontends.bounded import NAMES as BOUNDED
from nasplat.frontends.bounded import RULED, UNBOUNDED, bounded, depends_on_data, ruled
from nasplat.frontends.calls import (
    META,
    Operator,
    arguments_by_name,
    dtype_name,
    frozen,
    gather,
    is_fake,
    map_tensors,
    tensors_of,
)
from nasplat.frontends.origins import Origins
from nasplat.frontends.places import running_line
from nasplat.frontends.sparse import FROM_DATA, is_sparse, refused, shape_of
from nasplat.frontends.torch_names import CASTS
from nasplat.frontends.torch_ops import translate_call
from nasplat.graph.bounds import GUESSED, LARGEST
from nasplat.graph.columns import Attributes, Shape
from nasplat.graph.cost import MULTIPLIES


class Outcome:
    """Node and outputs of a call."""

    __slots__ = ("attributes", "is_alias", "itemsize", "layouts", "op", "shapes", "single")

    def __init__(
        self, op: str, attributes: Attributes, outputs: list[Tensor], is_alias: bool, layouts: Any, single: bool
    ) -> None:
        """Hold what a call did.

        Args:
            op: Name in the vocabulary; '' in a run that makes no nodes.
            attributes: Attributes of the node.
            outputs: Tensors that the call returned.
            is_alias: The outputs share their storage with an operand.
            layouts: (shape, stride, dtype) of every output where they can be made anew, else None.
            single: The call returns one tensor, no tuple.
        """
        self.op, self.attributes, self.is_alias, self.layouts, self.single = op, attributes, is_alias, layouts, single
        self.shapes: tuple[Shape, ...] = tuple(map(shape_of, outputs))
        self.itemsize = outputs[0].element_size() if outputs else 4


NODES: dict[Any, Outcome] = {}
"""Outcomes by operator, layouts and arguments: a pure function of these, so one table serves the process."""
LAYOUTS: dict[Any, Outcome] = {}
"""Outcomes of runs that make no nodes: without op and attributes."""
_LIMIT = 200_000
"""Entries up to which the tables grow."""

_NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "softmax", "log_softmax"})
_ELEMENTWISE = frozenset(
    "relu gelu silu sigmoid tanh hardswish hardsigmoid hardtanh relu6 elu leaky_relu mish "
    "add sub mul div neg exp sqrt rsqrt softplus erf abs".split()
)


class Outcomes:
    """Runs the calls of one forward pass, or answers from the tables."""

    def __init__(self, origins: Origins, only_calls: bool) -> None:
        """Begin a forward pass.

        Args:
            origins: Twins of the tensors, and the weights among them.
            only_calls: The run makes no nodes, so that outcomes need neither op nor attributes.
        """
        self.origins, self.parts, self.tape = origins, origins.parts, origins.tape
        self.only_calls = only_calls
        self.is_meta = origins.make_twin is None
        self.of_data_size: set[int] = set()
        """Tensors whose length the data decides, and which have the most there can be."""

    def of(
        self, func: Any, operator: Operator, args: Any, kwargs: Any, flat: list[Tensor], shadow: Any
    ) -> tuple[Outcome, Any, list[Tensor]]:
        """Tell what a call does.

        Args:
            func: The overload that is called.
            operator: What its schema says.
            args: Positional arguments, every tensor replaced by its twin.
            kwargs: Keyword arguments, every tensor replaced by its twin.
            flat: Tensors among the arguments, as the network sees them.
            shadow: Result on real values where they are known, else None.

        Returns:
            (outcome, what the call returns, the tensors in that).
        """
        key = known = None
        if shadow is None:
            names, views = self.parts.names, self.parts.views
            try:
                key = (func, frozen(args), frozen(kwargs), tuple([id(t) in names or id(t) in views for t in flat]))
                known = NODES.get(key) or (LAYOUTS.get(key) if self.only_calls else None)
            except TypeError:
                key = known = None
            if known is not None and self.is_meta and known.layouts is not None:
                tensors = [
                    torch.empty_strided(shape, stride, dtype=dtype, device=META)
                    for shape, stride, dtype in known.layouts
                ]
                return known, tensors[0] if known.single else tuple(tensors), tensors
            if known is not None and operator.in_place and self.is_meta and not operator.reshapes:
                return known, flat[0], flat[:1]
        if self._is_loop_over_data(operator, args, kwargs, flat):
            self.tape.doubt(
                f"{running_line()}: a loop over as many items as the data decides; its body counts once", GUESSED
            )
            key = known = None
            result, is_guess = [args[0].select(0, 0)], False
        else:
            result, is_guess = self._run(func, operator, args, kwargs, flat, shadow)
        outputs: list[Tensor] = []
        gather(result if isinstance(result, list | tuple) else (result,), outputs)
        if is_guess:
            self.of_data_size.update(map(id, outputs))
            self.origins.alive.append(outputs)
            is_most = operator.name not in UNBOUNDED
            told = "counted with the most" if is_most else "counted with one for each"
            self.tape.doubt(
                f"{running_line()}: {operator.name!r} has as many elements as the data decides; {told}",
                LARGEST if is_most else GUESSED,
            )
        if known is None:
            known = self._learn(key, operator, args, kwargs, flat, result, outputs, is_guess)
        return known, result, outputs

    def _is_loop_over_data(self, operator: Operator, args: Any, kwargs: Any, flat: list[Tensor]) -> bool:
        """Whether a call takes apart a tensor along the axis whose length the data decides."""
        return (
            operator.name == "unbind"
            and id(flat[0]) in self.of_data_size
            and flat[0].shape[0] > 1
            and not kwargs
            and args[1:] in {(), (0,)}
        )

    def _run(
        self, func: Any, operator: Operator, args: Any, kwargs: Any, flat: list[Tensor], shadow: Any
    ) -> tuple[Any, bool]:
        """(What the call returns, whether its size is a guess)."""
        name = operator.name
        if not self.is_meta:
            if name in FROM_DATA and is_fake(flat[0]):
                raise refused(name)  # fake tensors answer that nothing is stored
            result = func(*args, **kwargs)
            if shadow is None and depends_on_data(name, args, kwargs) and not is_fake(flat[0]):
                self.tape.doubt(
                    f"{running_line()}: {name!r} has as many elements as the data decides; those of one run count",
                    GUESSED,
                )
            return flat[0] if operator.in_place and flat else result, False
        if operator.in_place:
            if operator.reshapes:
                func(*args, **kwargs)
            return flat[0], False
        if name in BOUNDED:
            if shadow is None:
                return bounded(name, func, args, kwargs)
            return map_tensors(
                shadow, lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=META)
            ), False
        if is_like_first(name, flat, args, kwargs):
            first = flat[0]
            return torch.empty_strided(first.shape, first.stride(), dtype=first.dtype, device=META), False
        if name in RULED:
            return ruled(name, func, args, kwargs), False
        return func(*args, **kwargs), False

    def _learn(
        self,
        key: Any,
        operator: Operator,
        args: Any,
        kwargs: Any,
        flat: list[Tensor],
        result: Any,
        outputs: list[Tensor],
        is_guess: bool,
    ) -> Outcome:
        """The outcome of a call that was run; it enters a table where it has a key and depends on that alone."""
        single = isinstance(result, Tensor)
        is_alias = operator.in_place or self._shares(outputs, flat)
        is_new = self.is_meta and not is_alias and not is_guess and not operator.writes and bool(outputs)
        if self.only_calls:
            is_new = is_new and single and key is not None
        is_new = is_new and not any(map(is_sparse, outputs))
        is_new = is_new and (single or (type(result) is tuple and all(isinstance(t, Tensor) for t in result)))
        layouts = [(tuple(t.shape), t.stride(), t.dtype) for t in outputs] if is_new else None
        if self.only_calls:
            made = Outcome("", (), outputs, is_alias, layouts, single)
            if is_new and len(LAYOUTS) < _LIMIT:
                LAYOUTS[key] = made
            return made
        op, attributes = self._translated(operator, args, kwargs, flat, outputs, is_alias)
        made = Outcome(op, attributes, outputs, is_alias, layouts, single)
        if key is not None and not is_guess and self.is_meta and len(NODES) < _LIMIT:
            NODES[key] = made
        return made

    def _translated(
        self, operator: Operator, args: Any, kwargs: Any, flat: list[Tensor], outputs: list[Tensor], is_alias: bool
    ) -> tuple[str, Attributes]:
        """Name and attributes of a call in the vocabulary."""
        arguments = arguments_by_name(operator, args, kwargs)
        weights = {id(a) for a, t in zip(tensors_of(args, kwargs), flat, strict=False) if self.parts.is_weight(t)}
        kind = "nonzero_numpy" if operator.name == "where" and len(arguments) == 1 else operator.name
        op, attributes = translate_call(kind, arguments, outputs, lambda t: id(t) in weights)
        if operator.name in CASTS:
            before, after = flat[0].dtype, outputs[0].dtype
            if before != after:
                return "cast", (("dtype", dtype_name(after)),)
            return ("cast", ()) if is_alias else ("copy", ())
        if outputs and outputs[0].is_complex() and op in MULTIPLIES:
            # four real products make a complex one; torch convolves with three real convolutions
            attributes = tuple(sorted((*attributes, ("complex", 3 if "channels_per_group" in dict(attributes) else 4))))
        if op == "mul" and dict(attributes).get("other") == 0:
            return "zeros", ()
        return op, attributes

    def _shares(self, outputs: list[Tensor], inputs: list[Tensor]) -> bool:
        """Whether an output lies in the storage of an operand."""
        if not outputs or not inputs:
            return False
        try:
            storages = {self.origins.twin(t).untyped_storage()._cdata for t in inputs}
            return any(t.untyped_storage()._cdata in storages for t in outputs)
        except NotImplementedError:  # sparse and nested tensors have no storage
            return False


def is_like_first(name: str, flat: list[Tensor], args: Any, kwargs: Any) -> bool:
    """Tell whether a call returns what its first operand looks like: dense floats, operands of one layout or smaller.

    Torch's own shape rules for these operators are Python, and would take most of the time of a capture.

    Args:
        name: ATen name of the operator, without the in-place underscore.
        flat: Tensors among the arguments.
        args: Positional arguments, tensors on meta.
        kwargs: Keyword arguments, tensors on meta.

    Returns:
        True only where shape, strides and type of the result are certain.
    """
    first = flat[0] if flat else None
    if first is None or args[0] is not first or not first.is_floating_point() or kwargs.get("dtype") is not None:
        return False
    contiguous = first.is_contiguous()
    if name in _NORMS:
        return contiguous and not any(isinstance(a, torch.dtype) for a in args)
    if name not in _ELEMENTWISE or not (
        contiguous or (first.dim() == 4 and first.is_contiguous(memory_format=torch.channels_last))
    ):
        return False
    for t in flat[1:]:
        if t.dtype != first.dtype:
            return False
        if t.shape == first.shape and t.stride() == first.stride():
            continue
        if not contiguous or t.dim() > first.dim():
            return False
        if any(mine not in (1, theirs) for mine, theirs in zip(reversed(t.shape), reversed(first.shape), strict=False)):
            return False
    others = [*args, *kwargs.values()]
    return all(isinstance(a, Tensor | bool | int | float | str) or a is None for a in others)
