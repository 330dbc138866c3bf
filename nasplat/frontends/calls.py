"""One operator call, apart from any network: what its schema says, and walks over the tensors among its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nasplat.frontends.torch_names import CASTS, NAMES, NOTHING, TRANSPARENT

META = torch.device("meta")
CPU = torch.device("cpu")

_MISSING = object()
_NAMED = frozenset({*NAMES, *CASTS, *TRANSPARENT, *NOTHING, "linear"})


class Operator:
    """What the schema of an operator's overload says, read once per process."""

    __slots__ = (
        "arguments",
        "composite",
        "creates",
        "device_at",
        "in_place",
        "is_strange",
        "name",
        "packet",
        "reshapes",
        "scalar",
        "takes_objects",
        "writes",
    )

    def __init__(self, func: Any) -> None:
        """Read the schema of an overload.

        Args:
            func: The overload that torch dispatches, such as `torch.ops.aten.relu.default`.
        """
        schema = func._schema
        self.packet = func._overloadpacket.__name__
        self.writes = bool(schema.is_mutable)
        self.in_place = self.writes and self.packet.endswith("_") and not self.packet.endswith("__")
        self.reshapes = torch.Tag.inplace_view in func.tags
        """The call gives the tensor itself another shape."""
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
        self.is_strange = (
            self.name not in _NAMED
            and not self.name.startswith(("conv", "empty", "new_empty"))
            and any("Tensor" in str(r.type) for r in schema.returns)
        )
        """The vocabulary has no name for it; it may consist of operators that have one."""
        self.creates = self.name.startswith(("empty", "new_empty"))
        self.takes_objects = any("__torch__" in str(a.type) for a in schema.arguments)
        names = [name for name, _, _ in self.arguments]
        self.device_at = names.index("device") if "device" in names else None

    def on(self, device: torch.device, args: Any, kwargs: Any, force: bool = False) -> tuple[Any, Any]:
        """Replace the call's device argument, where the operator has one.

        Args:
            device: Device to put in its place.
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.
            force: Name the device also where the call left it to torch's default.

        Returns:
            (args, kwargs) of the call on that device; the given ones where nothing changes.
        """
        if self.device_at is None:
            return args, kwargs
        if self.device_at < len(args):
            if args[self.device_at] is not None:
                args = (*args[: self.device_at], device, *args[self.device_at + 1 :])
        elif force or kwargs.get("device") is not None:
            kwargs = kwargs | {"device": device}
        return args, kwargs


def arguments_by_name(operator: Operator, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Give the arguments of a call the names that the operator's schema has for them.

    Args:
        operator: The operator that is called.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.

    Returns:
        Arguments by name; those that are None or equal to their default are left out.
    """
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
    """Whether a value equals its default; 1 and 1.0 are equal, 1 and True are not."""
    numbers = isinstance(value, int | float) and isinstance(default, int | float)
    return (
        (numbers or type(value) is type(default))
        and isinstance(value, bool) == isinstance(default, bool)
        and value == default
    )


def empty(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, is_result: bool = False) -> Tensor:
    """Make a meta tensor without the running recorder seeing it.

    Args:
        shape: Size of every axis.
        stride: Elements between neighbours along every axis.
        dtype: Type of the elements.
        is_result: Make the tensor as an operator's result is made. Otherwise it is no inference tensor, so that views
            of it may be views of a parameter.

    Returns:
        A tensor without values.
    """
    with torch._C._DisableTorchDispatch():
        if is_result:
            return torch.empty_strided(shape, stride, dtype=dtype, device=META)
        with torch.inference_mode(False):
            return torch.empty_strided(shape, stride, dtype=dtype, device=META)


# -- walks over arguments and results ----------------------------------------------------------------------------------


def gather(values: Any, into: list[Tensor]) -> None:
    """Collect the tensors of nested lists and tuples, in order.

    Args:
        values: Arguments or results of a call.
        into: List to which the tensors are appended.
    """
    for value in values:
        if isinstance(value, Tensor):
            into.append(value)
        elif isinstance(value, list | tuple):
            gather(value, into)


def tensors_of(args: Any, kwargs: Any) -> list[Tensor]:
    """Collect the tensors of a call's arguments, positional ones first.

    Args:
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.

    Returns:
        The tensors in order, a tensor that is passed twice twice.
    """
    found: list[Tensor] = []
    gather(args, found)
    gather(kwargs.values(), found)
    return found


def map_tensors(value: Any, f: Callable[[Tensor], Any]) -> Any:
    """Replace every tensor of a nested value.

    Args:
        value: A tensor, a list or tuple that holds some, or any other value.
        f: Gives the replacement of one tensor.

    Returns:
        The same structure with the replacements; other values as they are.
    """
    if isinstance(value, Tensor):
        return f(value)
    if isinstance(value, list):
        return [map_tensors(v, f) for v in value]
    if isinstance(value, tuple):
        return tuple(map_tensors(v, f) for v in value)
    return value


def swap(value: Any, f: Callable[[Tensor], Tensor]) -> Any:
    """Replace every tensor of a call's arguments.

    Args:
        value: Positional arguments, or a dict of keyword arguments.
        f: Gives the replacement of one tensor.

    Returns:
        Arguments of the same structure.
    """
    if isinstance(value, dict):
        return {k: map_tensors(v, f) for k, v in value.items()}
    return map_tensors(value, f)


def frozen(value: Any) -> Any:
    """Make a hashable key of arguments, in which a tensor counts by its layout alone.

    Args:
        value: Positional arguments, a dict of keyword arguments, or one of them.

    Returns:
        Equal for calls that do the same; True, 1 and 1.0 are told apart. It cannot be hashed where an argument cannot.
    """
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype)
    if isinstance(value, list | tuple):
        return tuple([frozen(v) for v in value])
    if isinstance(value, dict):
        return tuple([(k, frozen(v)) for k, v in value.items()]) if value else ()
    return (type(value), value) if isinstance(value, bool | float) else value


def unpack(result: Any) -> Any:
    """Turn the dataclass-like outputs of a network, such as those of transformers, into dicts.

    Args:
        result: What a forward pass returned.

    Returns:
        Nested dicts, lists and tuples; fields that are None are left out.
    """
    if isinstance(result, dict):
        return {k: unpack(v) for k, v in result.items()}
    if hasattr(result, "__dataclass_fields__") and not isinstance(result, Tensor):
        return {k: unpack(getattr(result, k)) for k in result.__dataclass_fields__ if getattr(result, k) is not None}
    if type(result) in {list, tuple}:
        return type(result)(unpack(v) for v in result)
    return result


def is_fake(tensor: Tensor) -> bool:
    """Tell whether a tensor is one of torch's fake tensors, which claim a device and hold no values.

    Args:
        tensor: Any tensor, of a subclass too.

    Returns:
        True for fake tensors.
    """
    return type(tensor).__name__ == "FakeTensor"


def dtype_name(dtype: torch.dtype) -> str:
    """Name a type as graphs and programs write it.

    Args:
        dtype: A type of torch, such as `torch.float32`.

    Returns:
        The name without 'torch.', such as 'float32'.
    """
    return str(dtype).removeprefix("torch.")
