"""ATen calls become names and attributes of the vocabulary.

Whichever rung recorded them, the same computation reads the same. Attributes keep the schema's argument names, without
tensors, without defaults, axes counted from the front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from nasplat.frontends.torch_names import DIMS, DROPPED, NAMES, PLAIN
from nasplat.graph.columns import Attributes

Arguments = Mapping[str, Any]


def translate_call(
    name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Callable[[Any], bool]
) -> tuple[str, Attributes]:
    """Translate one ATen call into the vocabulary of graphs.

    Args:
        name: ATen name without overload and without the in-place underscore, such as `conv2d`.
        arguments: Arguments by the schema's names, those equal to their default left out; tensors may be on meta.
        outputs: Tensors that the call returns.
        is_weight: Tells whether a tensor is a parameter, or a transposed view of one.

    Returns:
        (op, attributes); the op of an operator that the vocabulary lacks is `other:<name>`.
    """
    held = objects(list(arguments.values()))
    if held:
        return _quantised(name, arguments, held[0])
    if name.startswith(
        ("conv", "_convolution", "slow_conv", "thnn_conv", "mkldnn_convolution", "_slow_conv", "_conv_depthwise")
    ):
        if name in {"conv2d", "conv1d", "conv3d"} or isinstance(arguments.get("weight"), Tensor):
            return _convolution(name, arguments)
    if name == "linear":
        weight = arguments["weight"]
        if is_weight(weight) or not is_weight(arguments["input"]):
            return "linear", _pack(in_features=weight.shape[-1], bias=int(arguments.get("bias") is not None))
        return "matmul", _pack(inner=weight.shape[-1])
    op = NAMES.get(name, f"other:{name}")
    if op == "clamp" and _bounds(arguments) == (0.0, 6.0):
        return "relu6", ()
    special = _SPECIAL.get(op)
    if special is not None:
        return special(name, arguments, outputs, is_weight)
    return op, _rest(name, arguments)


def objects(values: Sequence[Any]) -> list[Any]:
    """Collect what a call takes besides tensors and plain values, such as the packed weights of quantised layers.

    Args:
        values: Positional arguments of the call.

    Returns:
        The objects, those in lists among them.
    """
    return [
        v for a in values for v in (a if isinstance(a, list | tuple) else (a,)) if isinstance(v, torch.ScriptObject)
    ]


def unpacked(held: Any) -> dict[str, Tensor]:
    """Read the weights of a quantised layer out of the object that holds them.

    Args:
        held: Object that a quantised operator takes in place of weight and bias.

    Returns:
        'weight', as integers with their scale, and 'bias' where there is one; nothing where the object does not tell.
    """
    try:
        found = held.unpack()
    except Exception:  # an object of another kind: it has no such method, or one of other arguments
        return {}
    values = found if isinstance(found, tuple | list) else ()
    return {name: t for name, t in zip(("weight", "bias"), values, strict=False) if isinstance(t, Tensor)}


def _quantised(name: str, arguments: Arguments, held: Any) -> tuple[str, Attributes]:
    """Translate an operator of quantised layers, which holds its weights packed."""
    weight = unpacked(held).get("weight")
    if weight is not None and name.startswith("linear"):
        return "linear", _pack(in_features=weight.shape[-1], bias=1)
    if weight is not None and name.startswith("conv"):
        data = next(v for v in arguments.values() if isinstance(v, Tensor))
        transposed = "transpose" in name
        n = weight.dim() - 2
        groups = data.shape[-n - 1] // weight.shape[0 if transposed else 1] or 1
        values: dict[str, object] = {"kernel": tuple(weight.shape[2:]), "channels_per_group": weight.shape[1]}
        for key in ("stride", "padding", "dilation"):
            setting = getattr(held, key, None)
            if setting is not None:
                values[key] = tuple(setting())[:n]
        values |= {"groups": groups, "bias": 1} | ({"transposed": 1} if transposed else {})
        return ("depthwise" if groups == data.shape[-n - 1] and groups > 1 else "conv"), _pack(**values)
    if name in {"quantized_lstm", "quantized_gru"} and isinstance(arguments.get("hx"), Tensor | list | tuple):
        return "recurrent", _pack(function=name, macs=_recurrent_macs(name, arguments))
    return f"other:{name}", ()


def _recurrent_macs(name: str, arguments: Arguments) -> int:
    """Multiply-accumulates of a recurrent layer by its sizes, where its weights are packed."""
    data, hidden = arguments["input"], arguments["hx"]
    state = hidden if isinstance(hidden, Tensor) else hidden[0]
    directions = 1 + int(bool(arguments.get("bidirectional", False)))
    layers, width = int(arguments.get("num_layers", state.shape[0] // directions)), state.shape[-1]
    gates = 4 if "lstm" in name else 3
    per_step = sum(
        directions * gates * width * ((data.shape[-1] if layer == 0 else directions * width) + width)
        for layer in range(layers)
    )
    return prod(data.shape[:-1]) * per_step


def _rest(name: str, arguments: Arguments, **more: object) -> Attributes:
    """Every argument that is no tensor, axes counted from the front."""
    found: dict[str, object] = dict(more)
    data = next((v for v in arguments.values() if isinstance(v, Tensor)), None)
    rank = data.dim() if data is not None else 0
    for key, value in arguments.items():
        plain = _plain(value)
        if plain is None or key in DROPPED:
            continue
        if key in DIMS and rank:
            plain = tuple(_front(v, rank) for v in plain) if isinstance(plain, tuple) else _front(plain, rank)
            if isinstance(plain, tuple) and NAMES.get(name) in {"mean", "sum", "reduce", "max"}:
                plain = tuple(sorted(plain, key=int))  # type: ignore[arg-type]
        if (
            key in {"other", "exponent", "value", "min", "max"}
            and isinstance(plain, int)
            and not isinstance(plain, bool)
        ):
            plain = float(plain)
        found[key if key not in found else f"{key}_"] = plain
    if name not in PLAIN:
        found["function"] = name
    return _pack(**found)


def _front(axis: object, rank: int) -> object:
    """An axis counted from the front."""
    return axis + rank if isinstance(axis, int) and axis < 0 else axis


def _pack(**values: object) -> Attributes:
    return tuple(sorted(values.items()))


def _plain(value: Any) -> Any:
    """A JSON-able stand-in for a non-tensor argument; None for tensors and what cannot be kept."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(v, bool | int | float) for v in value):
        return tuple(value)
    if isinstance(value, complex):
        return (value.real, value.imag)
    return None


def _tuple(value: Any, n: int) -> tuple[int, ...]:
    """A setting of a window for every one of its n axes; -1 stands for the padding 'same'."""
    if isinstance(value, str):
        return (-1,) * n  # "same"
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values


def _bounds(arguments: Arguments) -> tuple[Any, Any]:
    """(Least, largest) value that a clamp leaves as it is, or (None, None) where one is missing or a tensor."""
    low, high = arguments.get("min", arguments.get("min_val")), arguments.get("max", arguments.get("max_val"))
    return (float(low), float(high)) if isinstance(low, int | float) and isinstance(high, int | float) else (None, None)


def _convolution(name: str, arguments: Arguments) -> tuple[str, Attributes]:
    data, weight = arguments["input"], arguments["weight"]
    n = weight.dim() - 2
    transposed = "transpose" in name or bool(arguments.get("transposed"))
    groups = int(arguments.get("groups", 1))
    values: dict[str, object] = {
        "kernel": tuple(weight.shape[2:]),
        "stride": _tuple(arguments.get("stride", 1), n),
        "padding": _tuple(arguments.get("padding", 0), n),
        "dilation": _tuple(arguments.get("dilation", 1), n),
        "groups": groups,
        "channels_per_group": weight.shape[1],
        "bias": int(arguments.get("bias") is not None),
    }
    if transposed:
        values["transposed"] = 1
    channels = data.shape[-n - 1]
    return ("depthwise" if groups == channels and groups > 1 else "conv"), _pack(**values)


def _pool(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    n = int(name.split("pool")[1][0])
    kernel = _tuple(arguments["kernel_size"], n)
    stride = arguments.get("stride") or kernel
    values: dict[str, object] = {
        "kernel": kernel,
        "stride": _tuple(stride, n),
        "padding": _tuple(arguments.get("padding", 0), n),
    }
    values |= {k: int(arguments[k]) for k in ("ceil_mode", "count_include_pad") if k in arguments}
    if any(v != 1 for v in _tuple(arguments.get("dilation", 1), n)):
        values["dilation"] = _tuple(arguments["dilation"], n)
    return ("maxpool" if "max" in name else "avgpool"), _pack(**values)


def _adaptive(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    return "adaptivepool", (("function", "max"),) if "max" in name else ()  # the output shape says the rest


def _matmul(
    name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Callable[[Any], bool]
) -> tuple[str, Attributes]:
    tensors = [v for v in arguments.values() if isinstance(v, Tensor)]
    if name in {"linalg_multi_dot", "chain_matmul"} or len(tensors) < 2:
        return "matmul", ()
    left, right = (tensors[1], tensors[2]) if name.startswith(("add", "baddbmm")) and len(tensors) > 2 else tensors[:2]
    if is_weight(right) and right.dim() == 2 and not is_weight(left):
        bias = name == "addmm" and is_weight(tensors[0])
        return "linear", _pack(in_features=right.shape[0], bias=int(bias))
    inner = 1 if name in {"outer", "ger", "addr"} or not left.dim() else left.shape[-1]
    if name == "addbmm":  # the products of all samples are added
        inner *= left.shape[0]
    elif name == "linalg_vecdot":
        inner = left.shape[int(arguments.get("dim", -1))]
    return "matmul", _pack(inner=inner, **({"function": "grouped"} if name == "_grouped_mm" else {}))


def _attention(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    query, key = arguments["query"], arguments["key"]
    causal = int(bool(arguments.get("is_causal", False)))
    return "attention", _pack(causal=causal, keys=key.shape[-2], width=query.shape[-1])


def _recurrent(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    tensors = [v for v in arguments.values() if isinstance(v, Tensor)]
    weights = [
        w
        for v in arguments.values()
        if isinstance(v, list | tuple)
        for w in v
        if isinstance(w, Tensor) and w.dim() == 2
    ]
    if name.endswith("_cell"):
        weights = [v for k, v in arguments.items() if k.startswith("w_") and isinstance(v, Tensor)]
    weights = [w for w in weights if is_weight(w)] or weights
    return "recurrent", _pack(function=name, macs=prod(tensors[0].shape[:-1]) * sum(w.numel() for w in weights))


def _fourier(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    data = next(v for v in arguments.values() if isinstance(v, Tensor))
    whole = max((data, *outputs), key=lambda t: t.numel())
    dims = arguments.get(
        "dim", (-2, -1) if name.endswith("2") else (-1,) if name.endswith("ft") else tuple(range(whole.dim()))
    )
    dims = (dims,) if isinstance(dims, int) else dims
    points = prod(whole.shape[d] for d in dims if -whole.dim() <= d < whole.dim())
    real = not data.is_complex() or not all(o.is_complex() for o in outputs)
    return "fft", _rest(name, arguments, points=points, real=int(real))


def _algebra(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    data = next(v for v in arguments.values() if isinstance(v, Tensor))
    return "algebra", _rest(name, arguments, n=data.shape[-1] if data.dim() else 1)


def _deform(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    weight = arguments["weight"]
    a = {k: int(v) for k, v in arguments.items() if isinstance(v, bool | int)}
    return "deform", _pack(
        kernel=tuple(weight.shape[2:]),
        stride=(a.get("stride_h", 1), a.get("stride_w", 1)),
        padding=(a.get("pad_h", 0), a.get("pad_w", 0)),
        dilation=(a.get("dilation_h", 1), a.get("dilation_w", 1)),
        groups=a.get("groups", 1),
        channels_per_group=weight.shape[1],
        bias=int(arguments.get("bias") is not None),
        modulated=int(a.get("use_mask", 0)),
    )


def _resize(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    mode = name.removeprefix("_").removeprefix("upsample_").rstrip("123da_").removesuffix("_exact")
    return "resize", _pack(
        mode=mode, align_corners=int(bool(arguments.get("align_corners", False))), exact=int("exact" in name)
    )


def _grid(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    modes = ("bilinear", "nearest", "bicubic")
    values = {k: v for k, v in arguments.items() if isinstance(v, bool | int)}
    return "gridsample", _pack(
        mode=modes[int(values.get("interpolation_mode", 0))],
        padding_mode=int(values.get("padding_mode", 0)),
        align_corners=int(values.get("align_corners", 0)),
        function=name.split("_")[0],
    )


def _clamp(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    if name == "threshold":
        return "clamp", _rest(name, arguments)
    defaults = (-1.0, 1.0) if name == "hardtanh" else (None, None)
    found = {}
    for key, default in zip(("min", "max"), defaults, strict=True):
        value = arguments.get(key, arguments.get(f"{key}_val", default))
        if isinstance(value, int | float):
            found[key] = float(value)
    return "clamp", _pack(**found)


def _distance(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    data = next(v for v in arguments.values() if isinstance(v, Tensor))
    return "distance", _rest(name, arguments, inner=data.shape[-1])


def _bilinear(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    weight = next((v for v in arguments.values() if isinstance(v, Tensor) and is_weight(v)), None)
    tensors = [v for v in arguments.values() if isinstance(v, Tensor)]
    weight = weight if weight is not None else tensors[1]
    return "bilinear", _pack(inner=weight.shape[-1] * weight.shape[-2])


def _softmax(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    rank = outputs[0].dim() if outputs else 0
    kept: dict[str, object] = {"dim": _front(arguments.get("dim", -1), rank)}
    if "log" in name:
        kept["function"] = "log_softmax"
    return "softmax", _pack(**kept)


def _named(*keys: str) -> Callable[..., tuple[str, Attributes]]:
    """A translator that keeps these arguments alone."""

    def special(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
        return NAMES[name], tuple(
            sorted((k, _plain(arguments[k])) for k in keys if _plain(arguments.get(k)) is not None)
        )

    return special


def _layernorm(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    return NAMES[name], _pack(axes=len(arguments["normalized_shape"])) if "normalized_shape" in arguments else ()


def _groupnorm(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    return "groupnorm", _pack(groups=int(arguments.get("num_groups", arguments.get("group", 1))))


_SPECIAL: dict[str, Callable[..., tuple[str, Attributes]]] = {
    "maxpool": _pool,
    "avgpool": _pool,
    "adaptivepool": _adaptive,
    "batchnorm": _named(),
    "layernorm": _layernorm,
    "rmsnorm": _layernorm,
    "groupnorm": _groupnorm,
    "instancenorm": _named(),
    "matmul": _matmul,
    "attention": _attention,
    "recurrent": _recurrent,
    "softmax": _softmax,
    "fft": _fourier,
    "algebra": _algebra,
    "deform": _deform,
    "resize": _resize,
    "gridsample": _grid,
    "distance": _distance,
    "bilinear": _bilinear,
    "embedding": lambda name, arguments, outputs, is_weight: (
        "embedding",
        (("function", "bag"),) if "bag" in name else (),
    ),
    "zeros": _named(),
    "view": _named(),
    "copy": _named(),
    "identity": _named(),
    "random": _named(),
    "expand": _named(),
    "clamp": _clamp,
}
