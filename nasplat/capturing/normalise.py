"""ATen calls become names and attributes of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

from nasplat.graph.graph import Attributes

TRANSPARENT = frozenset({"dropout", "feature_dropout", "alpha_dropout", "alias", "detach", "lift_fresh", "to", "_to_copy"})
"""Leave the values as they are (at inference): no node."""

_SAME = (
    "relu relu6 elu silu gelu sigmoid tanh softplus softmax add sub mul div pow neg exp log sqrt abs clamp where pad mean sum "
    "max argmax cumsum gather"
).split()

_NAMES: dict[str, str] = {name: name for name in _SAME} | {
    "leaky_relu": "leakyrelu",
    "prelu": "leakyrelu",
    "_prelu_kernel": "leakyrelu",
    "hardswish": "hardswish",
    "hardsigmoid": "hardsigmoid",
    "hardtanh": "clamp",
    "_softmax": "softmax",
    "log_softmax": "softmax",
    "log_sigmoid": "softplus",
    "rsub": "sub",
    "rsqrt": "sqrt",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "floor_divide": "div",
    "square": "pow",
    "clamp_min": "clamp",
    "clamp_max": "clamp",
    "maximum": "max",
    "minimum": "max",
    "amax": "max",
    "amin": "max",
    "masked_fill": "where",
    "constant_pad_nd": "pad",
    "reflection_pad2d": "pad",
    "replication_pad2d": "pad",
    "batch_norm": "batchnorm",
    "native_batch_norm": "batchnorm",
    "_native_batch_norm_legit_no_training": "batchnorm",
    "layer_norm": "layernorm",
    "native_layer_norm": "layernorm",
    "group_norm": "groupnorm",
    "instance_norm": "instancenorm",
    "rms_norm": "rmsnorm",
    "max_pool1d": "maxpool",
    "max_pool2d": "maxpool",
    "max_pool3d": "maxpool",
    "max_pool2d_with_indices": "maxpool",
    "avg_pool1d": "avgpool",
    "avg_pool2d": "avgpool",
    "avg_pool3d": "avgpool",
    "adaptive_avg_pool1d": "adaptivepool",
    "adaptive_avg_pool2d": "adaptivepool",
    "_adaptive_avg_pool2d": "adaptivepool",
    "adaptive_max_pool2d": "adaptivepool",
    "matmul": "matmul",
    "mm": "matmul",
    "bmm": "matmul",
    "addmm": "matmul",
    "baddbmm": "matmul",
    "scaled_dot_product_attention": "attention",
    "embedding": "embedding",
    "cat": "concat",
    "concat": "concat",
    "stack": "concat",
    "upsample_nearest1d": "resize",
    "upsample_nearest2d": "resize",
    "upsample_bilinear2d": "resize",
    "upsample_bicubic2d": "resize",
    "_upsample_nearest_exact2d": "resize",
    "upsample_trilinear3d": "resize",
    "grid_sampler": "gridsample",
    "grid_sampler_2d": "gridsample",
    "pixel_shuffle": "pixelshuffle",
    "pixel_unshuffle": "pixelshuffle",
    "channel_shuffle": "pixelshuffle",
    "roll": "shift",
    "flip": "shift",
    "index": "gather",
    "index_select": "gather",
    "take_along_dim": "gather",
    "clone": "copy",
    "contiguous": "copy",
    "copy": "copy",
    "zeros_like": "zeros",
    "new_zeros": "zeros",
    "zero": "zeros",
    "view": "view",
    "reshape": "view",
    "_unsafe_view": "view",
    "flatten": "view",
    "unflatten": "view",
    "squeeze": "view",
    "unsqueeze": "view",
    "view_as": "view",
    "permute": "permute",
    "transpose": "permute",
    "movedim": "permute",
    "t": "permute",
    "numpy_T": "permute",
    "slice": "slice",
    "select": "slice",
    "narrow": "slice",
    "split": "slice",
    "split_with_sizes": "slice",
    "tensor_split": "slice",
    "chunk": "slice",
    "unbind": "slice",
    "unfold": "slice",
    "expand": "expand",
    "expand_as": "expand",
    "repeat": "expand",
    "lstm": "recurrent",
    "gru": "recurrent",
    "rnn_tanh": "recurrent",
    "rnn_relu": "recurrent",
}
_COMPARE = frozenset("eq ne lt le gt ge logical_and logical_or logical_not bitwise_and bitwise_or bitwise_not".split())


def normalise(name: str, args: Sequence[Any], kwargs: dict[str, Any], outputs: Sequence[torch.Tensor]) -> tuple[str, Attributes]:
    """Vocabulary name and attributes of one ATen call.

    Args:
        name: ATen name without overload and without the in-place underscore, such as `conv2d`.
        args: Positional arguments; tensors among them may be meta.
        kwargs: Keyword arguments.
        outputs: Output tensors.

    Returns:
        (op, attributes); ops we do not know are `other:<name>`.
    """
    if name.startswith("conv"):
        return _convolution(name, args, kwargs)
    if name == "linear":
        return "linear", _pack(in_features=args[1].shape[-1], bias=int(_argument(args, kwargs, 2, "bias") is not None))
    op = _NAMES.get(name) or ("compare" if name in _COMPARE else f"other:{name}")
    special = _SPECIAL.get(op)
    if special is not None:
        return op, special(args, kwargs)
    scalars = [_plain(a) for a in args]
    named = {k: _plain(v) for k, v in kwargs.items()}
    values = tuple(v for v in scalars if v is not None)
    found: dict[str, object] = {"args": values} if values else {}
    found |= {k: v for k, v in named.items() if v is not None and k not in {"dtype", "device", "layout", "memory_format"}}
    if name in {"rsub", "rsqrt", "log_softmax", "minimum", "amin", "_prelu_kernel"} or op.startswith("compare"):
        found["variant"] = name
    return op, _pack(**found)


def _argument(args: Sequence[Any], kwargs: dict[str, Any], position: int, name: str, default: Any = None) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _pack(**values: object) -> Attributes:
    return tuple(sorted(values.items()))


def _plain(value: Any) -> object | None:
    """A JSON-able stand-in for a non-tensor argument; None for tensors and what cannot be kept."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(v, bool | int | float) for v in value):
        return tuple(value)
    return None


def _tuple(value: Any, n: int) -> tuple[int, ...]:
    if isinstance(value, str):
        return (-1,) * n  # "same"
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values


def _convolution(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[str, Attributes]:
    data, weight = args[0], args[1]
    n = weight.dim() - 2
    transposed = "transpose" in name
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    order = ["stride", "padding", "dilation", "groups"]
    if name == "convolution":
        transposed = bool(args[6])
        order = ["stride", "padding", "dilation", "transposed", "output_padding", "groups"]
    elif transposed:
        order = ["stride", "padding", "output_padding", "groups", "dilation"]
    given = defaults | {key: args[i + 3] for i, key in enumerate(order) if len(args) > i + 3} | kwargs
    channels, groups = data.shape[-n - 1], int(given["groups"])
    values: dict[str, object] = {
        "kernel": tuple(weight.shape[2:]),
        "stride": _tuple(given["stride"], n),
        "padding": _tuple(given["padding"], n),
        "dilation": _tuple(given["dilation"], n),
        "groups": groups,
        "channels_per_group": weight.shape[1],
        "bias": int(_argument(args, kwargs, 2, "bias") is not None),
    }
    if transposed:
        values["transposed"] = 1
    return ("depthwise" if groups == channels and groups > 1 else "conv"), _pack(**values)


def _pool(args: Sequence[Any], kwargs: dict[str, Any]) -> Attributes:
    n = args[0].dim() - 2
    kernel = _tuple(_argument(args, kwargs, 1, "kernel_size"), n)
    stride = _argument(args, kwargs, 2, "stride") or kernel
    return _pack(kernel=kernel, stride=_tuple(stride, n), padding=_tuple(_argument(args, kwargs, 3, "padding", 0), n))


def _recurrent(args: Sequence[Any], kwargs: dict[str, Any]) -> Attributes:
    data, weights = args[0], args[2]
    steps = prod(data.shape[:-1])
    return _pack(macs=steps * sum(w.numel() for w in weights if w.dim() == 2))


def _nothing(args: Sequence[Any], kwargs: dict[str, Any]) -> Attributes:
    return ()


_SPECIAL: dict[str, Callable[[Sequence[Any], dict[str, Any]], Attributes]] = {
    "maxpool": _pool,
    "avgpool": _pool,
    "adaptivepool": _nothing,  # the output shape says it
    "batchnorm": _nothing,
    "layernorm": _nothing,
    "groupnorm": lambda args, kwargs: _pack(groups=int(args[1])),
    "instancenorm": _nothing,
    "rmsnorm": _nothing,
    "attention": lambda args, kwargs: _pack(causal=int(bool(_argument(args, kwargs, 5, "is_causal", False)))),
    "embedding": _nothing,
    "zeros": _nothing,
    "view": _nothing,
    "matmul": _nothing,
    "copy": _nothing,
    "recurrent": _recurrent,
}
