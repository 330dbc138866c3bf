"""One operator call, apart from any network: what its schema says, what it does with given layouts, and walks over its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nasplat.graph.columns import Attributes, Shape

META = torch.device("meta")
CPU = torch.device("cpu")


class Operator:
    """What the schema of an overload says."""

    __slots__ = ("arguments", "composite", "creates", "device_at", "in_place", "name", "packet", "scalar", "writes")

    def __init__(self, func: Any) -> None:
        schema = func._schema
        self.packet = func._overloadpacket.__name__
        self.writes = bool(schema.is_mutable)
        self.in_place = self.writes and self.packet.endswith("_") and not self.packet.endswith("__")
        self.name = self.packet.rstrip("_") if self.in_place else self.packet
        self.arguments = [
            (
                a.name,
                a.default_value if a.has_default_value() else _MISSING,
                a.alias_info is not None and a.alias_info.is_write,
            )
            for a in schema.arguments
        ]
        self.scalar = self.packet in {"_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "is_same_size"}
        self.composite = bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"))
        self.creates = self.name.startswith(("empty", "new_empty"))
        names = [name for name, _, _ in self.arguments]
        self.device_at = names.index("device") if "device" in names else None

    def on(self, device: torch.device, args: Any, kwargs: Any, force: bool = False) -> tuple[Any, Any]:
        """The call with its device argument, where it has one, replaced."""
        if self.device_at is None:
            return args, kwargs
        if self.device_at < len(args):
            if args[self.device_at] is not None:
                args = (*args[: self.device_at], device, *args[self.device_at + 1 :])
        elif force or kwargs.get("device") is not None:
            kwargs = kwargs | {"device": device}
        return args, kwargs


_MISSING = object()


class Known:
    """Op, attributes and outputs of a call seen before."""

    __slots__ = ("attributes", "is_alias", "itemsize", "layouts", "op", "shapes", "single")

    def __init__(
        self, op: str, attributes: Attributes, outputs: list[Tensor], is_alias: bool, layouts: Any, single: bool
    ) -> None:
        self.op, self.attributes, self.is_alias, self.layouts, self.single = op, attributes, is_alias, layouts, single
        self.shapes: tuple[Shape, ...] = tuple(tuple(t.shape) for t in outputs)
        self.itemsize = outputs[0].element_size() if outputs else 4


def empty(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, is_result: bool = False) -> Tensor:
    """A meta tensor, unseen by the recorder.

    Args:
        shape: Of the tensor.
        stride: Of the tensor.
        dtype: Of the tensor.
        is_result: Made like an operator's result; else no inference tensor, so that views of it may be views of a parameter.
    """
    with torch._C._DisableTorchDispatch():
        if is_result:
            return torch.empty_strided(shape, stride, dtype=dtype, device=META)
        with torch.inference_mode(False):
            return torch.empty_strided(shape, stride, dtype=dtype, device=META)


ELEMENTWISE = frozenset(
    "relu gelu silu sigmoid tanh hardswish hardsigmoid relu6 elu leaky_relu add sub mul div neg exp sqrt rsqrt softplus erf abs".split()
)


NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "softmax", "log_softmax"})


def is_like_first(name: str, flat: list[Tensor], args: Any, kwargs: Any) -> bool:
    """True where a call returns what its first operand looks like: floats, dense, operands of one layout or smaller.

    Torch's own rules for these are Python, and would be most of the time of a capture.
    """
    first = flat[0] if flat else None
    if first is None or args[0] is not first or not first.is_floating_point() or kwargs.get("dtype") is not None:
        return False
    contiguous = first.is_contiguous()
    if name in NORMS:
        return contiguous and not any(isinstance(a, torch.dtype) for a in args)
    if name not in ELEMENTWISE or not (
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


def gather(values: Any, into: list[Tensor]) -> None:
    """Tensors of nested arguments, in order."""
    for value in values:
        if isinstance(value, Tensor):
            into.append(value)
        elif isinstance(value, list | tuple):
            gather(value, into)


def tensors_of(args: Any, kwargs: Any) -> list[Tensor]:
    found: list[Tensor] = []
    gather(args, found)
    gather(kwargs.values(), found)
    return found


def map_tensors(value: Any, f: Callable[[Tensor], Any]) -> Any:
    if isinstance(value, Tensor):
        return f(value)
    if isinstance(value, list):
        return [map_tensors(v, f) for v in value]
    if isinstance(value, tuple):
        return tuple(map_tensors(v, f) for v in value)
    return value


def swap(value: Any, f: Callable[[Tensor], Tensor]) -> Any:
    """Arguments with every tensor replaced."""
    if isinstance(value, dict):
        return {k: map_tensors(v, f) for k, v in value.items()}
    return map_tensors(value, f)


def frozen(value: Any) -> Any:
    """Hashable form of arguments: layouts for tensors; True, 1 and 1.0 told apart."""
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype)
    if isinstance(value, list | tuple):
        return tuple([frozen(v) for v in value])
    if isinstance(value, dict):
        return tuple([(k, frozen(v)) for k, v in value.items()]) if value else ()
    return (type(value), value) if isinstance(value, bool | float) else value


def named(operator: Operator, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by their names in the schema; those equal to their default left out."""
    found: dict[str, Any] = {}
    for position, (name, default, _) in enumerate(operator.arguments):
        value = args[position] if position < len(args) else kwargs.get(name, default)
        if value is _MISSING or value is None:
            continue
        if default is not _MISSING and not isinstance(value, Tensor) and _is_equal(value, default):
            continue
        found[name] = value
    return found


def _is_equal(value: Any, default: Any) -> bool:
    """True also for 1 and 1.0."""
    numbers = isinstance(value, int | float) and isinstance(default, int | float)
    return (
        (numbers or type(value) is type(default))
        and isinstance(value, bool) == isinstance(default, bool)
        and value == default
    )


def shares(outputs: list[Tensor], inputs: list[Tensor], twin: Callable[[Tensor], Tensor]) -> bool:
    if not outputs or not inputs:
        return False
    try:
        storages = {twin(t).untyped_storage()._cdata for t in inputs}
        return any(t.untyped_storage()._cdata in storages for t in outputs)
    except NotImplementedError:  # sparse and nested tensors have no storage
        return False


def is_fake(tensor: Tensor) -> bool:
    return type(tensor).__name__ == "FakeTensor"
