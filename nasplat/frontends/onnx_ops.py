"""ONNX operators become names and attributes of the vocabulary, the same that a captured torch module has."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from nasplat.frontends.onnx_names import NAMES
from nasplat.frontends.onnx_tensors import DTYPE, Tensors, attributes_of
from nasplat.graph.bounds import LARGEST
from nasplat.graph.columns import Attributes

HIDING = -1e4
"""Value that is added to a score, and below, which hides its place."""


def translate_node(
    node: Any, tensors: Tensors, weights: list[str], bias: tuple[str, str] | None
) -> tuple[str, Attributes]:
    """Translate one ONNX node into the vocabulary of graphs.

    Args:
        node: The ONNX node.
        tensors: Shapes, types and constant values in the file.
        weights: Names of its inputs that are trained.
        bias: (sum, vector) where the addition of a vector that follows belongs to it, else None.

    Returns:
        (op, attributes); the op of an operator that the vocabulary lacks is `other:<name>`, with the domain before the
        name where it is not ONNX's own.
    """
    if node.domain not in {"", "ai.onnx"}:
        return f"other:{node.domain}::{node.op_type}", ()
    special = _SPECIAL.get(node.op_type)
    a = attributes_of(node)
    if special is not None:
        return special(node, a, tensors, weights, bias)
    op = NAMES.get(node.op_type)
    if op is None:
        return f"other:{node.op_type}", ()
    kept: dict[str, object] = {}
    rank = len(tensors.shape.get(node.input[0], ())) if node.input else 0
    for theirs, ours in (("axis", "dim"), ("axes", "dim")):
        if theirs in a:
            value = a[theirs]
            kept[ours] = tuple(_front(v, rank) for v in value) if isinstance(value, tuple) else _front(value, rank)
    kept |= _scalars(node, op, tensors) | _mask(node, op, tensors)
    if op == "scatter" and a.get("reduction", "none") != "none":
        kept["reduce"] = a["reduction"]
    if op == "mul" and kept.get("other") == 0.0:
        return "zeros", ()
    kind = node.op_type
    if op in {"unary", "binary", "reduce", "compare"} or kind in {
        "Min",
        "ReduceMin",
        "ArgMin",
        "LogSoftmax",
        "Selu",
        "Celu",
        "GlobalMaxPool",
    }:
        kept["function"] = kind.lower()
    return op, _pack(**kept)


def _front(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    return axis + rank if axis < 0 else axis


def _pack(**values: object) -> Attributes:
    """Attributes in the order of their names, without those that are None."""
    return tuple(sorted((k, v) for k, v in values.items() if v is not None))


def _scalar(name: str, tensors: Tensors, uniform: bool = False) -> float | None:
    """The value of a constant of one element, or of equal elements."""
    value = tensors.value.get(name)
    if value is None or name in tensors.weight or not np.size(value):
        return None
    flat = np.asarray(value).reshape(-1)
    if flat.size > 1 and not (uniform and (flat == flat[0]).all()):
        return None
    return float(flat[0])


def _scalars(node: Any, op: str, tensors: Tensors) -> dict[str, object]:
    """A constant operand of arithmetic is an attribute, as in torch."""
    if op not in {"add", "sub", "mul", "div", "pow"} or len(node.input) != 2:
        return {}
    shape = tensors.shape.get(node.output[0])
    left, right = (
        _scalar(n, tensors, uniform=tensors.shape.get(other) == shape)
        for n, other in (node.input, tuple(node.input)[::-1])
    )
    name = "exponent" if op == "pow" else "other"
    if right is not None:
        return {name: right}
    found: dict[str, object] = {} if left is None else {name: left}
    if left is not None and op not in {"add", "mul"}:
        found["first"] = "constant"
    return found


def _mask(node: Any, op: str, tensors: Tensors) -> dict[str, object]:
    """A stored mask that hides exactly the later of two places is an attribute, for it is no node of the graph."""
    if op not in {"add", "where"}:
        return {}
    for at, name in enumerate(node.input):
        value = tensors.value.get(name)
        if value is None or value.ndim < 2 or not 1 < value.shape[-1] == value.shape[-2]:
            continue
        if op == "where" and at:
            continue
        later = np.triu(np.ones(value.shape[-2:], bool), 1)
        hidden = value <= HIDING if op == "add" else value.astype(bool)
        if op == "where" and node.input[1] not in tensors.value:  # scores stand first: what is true is seen
            hidden = ~hidden
        if bool((hidden == later).all()):
            return {"causal": 1}
    return {}


def _convolution(
    node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any
) -> tuple[str, Attributes]:
    at = 3 if node.op_type == "QLinearConv" else 1
    weight = tensors.shape.get(node.input[at], ()) if len(node.input) > at else ()
    n = max(0, len(weight) - 2)
    groups, pads = int(a.get("group", 1)), tuple(a.get("pads", (0,) * 2 * n))
    channels = (*tensors.shape.get(node.input[0], ()), groups, groups)[1]
    padding: object = pads[:n] if pads[:n] == pads[n:] else pads
    if a.get("auto_pad", "NOTSET") not in {"NOTSET", "", "VALID"}:
        padding = (-1,) * n
    has_bias = len(node.input) > {"DeformConv": 3, "QLinearConv": 8}.get(node.op_type, 2)
    has_bias = (
        has_bias
        and bool(node.input[{"DeformConv": 3, "QLinearConv": 8}.get(node.op_type, 2)])
        and node.op_type != "ConvInteger"
    )
    values: dict[str, object] = {
        "kernel": tuple(weight[2:]),
        "stride": tuple(a.get("strides", (1,) * n)),
        "padding": padding,
        "dilation": tuple(a.get("dilations", (1,) * n)),
        "groups": groups,
        "channels_per_group": weight[1] if len(weight) > 1 else 1,
        "bias": int(has_bias),
    }
    if node.op_type == "ConvTranspose":
        values["transposed"] = 1
    if node.op_type == "DeformConv":
        values["modulated"] = int(len(node.input) > 4 and bool(node.input[4]))
    op = "deform" if node.op_type == "DeformConv" else "depthwise" if groups == channels and groups > 1 else "conv"
    return op, _pack(**values)


def _causal_convolution(
    node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any
) -> tuple[str, Attributes]:
    """Every channel alone, over its own past."""
    weight, channels = tensors.shape.get(node.input[1], ()), tensors.shape.get(node.input[0], (1, 1))[1]
    has_bias = int(len(node.input) > 2 and bool(node.input[2]))
    return "depthwise", _pack(kernel=tuple(weight[2:]), groups=channels, channels_per_group=1, bias=has_bias)


def _product(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    right = node.input[{"QLinearMatMul": 3}.get(node.op_type, 1)] if len(node.input) > 1 else ""
    shape = tensors.shape.get(right, ())
    if node.op_type == "Gemm":
        inner = shape[-1] if a.get("transB") and shape else shape[0] if shape else 1
        if right in tensors.weight:
            return "linear", _pack(in_features=inner, bias=int(len(node.input) > 2 and bool(node.input[2])))
        return "matmul", _pack(inner=inner)
    if right in tensors.weight and len(shape) == 2:
        return "linear", _pack(in_features=shape[0], bias=int(bias is not None))
    left = tensors.shape.get(node.input[0], (1,))
    return "matmul", _pack(inner=left[-1] if left else 1)


def _einsum(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    """Every label once: the sizes of those that the output lacks multiply to what one of its elements sums over."""
    sizes: dict[str, int] = {}
    left, arrow, right = a.get("equation", "").replace(" ", "").partition("->")
    for labels, name in zip(left.split(","), node.input, strict=False):
        shape = tensors.shape.get(name, ())
        before, dots, after = labels.partition("...")
        sizes |= dict(zip(before, shape, strict=False))
        if dots and after:
            sizes |= dict(zip(after, shape[-len(after) :], strict=False))
    if not arrow:  # labels that stand once are those of the output
        right = "".join(label for label in sizes if left.count(label) == 1)
    summed = [label for label in sizes if label not in right]
    if len(node.input) == 1:
        return "sum", ()
    if len(node.input) == 2:  # what one operand alone sums over is summed before the product
        summed = [label for label in summed if all(label in term for term in left.split(","))]
        inner = prod(sizes[label] for label in summed)
        return (
            ("linear", _pack(in_features=inner, bias=0))
            if node.input[1] in tensors.weight
            else (
                "matmul",
                _pack(inner=inner),
            )
        )
    tensors.causes.add(LARGEST)
    tensors.notes.setdefault(f"{node.name or 'Einsum'}: the order of the products is open; counted as all at once")
    return "matmul", _pack(inner=prod(sizes[label] for label in summed))


def _clip(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    low, high = (_scalar(n, tensors) if n else None for n in [*node.input[1:3], "", ""][:2])
    low, high = a.get("min", low), a.get("max", high)
    return ("relu6", ()) if (low, high) == (0.0, 6.0) else ("clamp", _pack(min=low, max=high))


def _pool(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    kernel = tuple(a.get("kernel_shape", ()))
    n = len(kernel)
    strides, pads = tuple(a.get("strides", (1,) * n)), tuple(a.get("pads", (0,) * 2 * n))
    values: dict[str, object] = {
        "kernel": kernel,
        "stride": strides,
        "padding": pads[:n] if pads[:n] == pads[n:] else pads,
    }
    if a.get("ceil_mode"):
        values["ceil_mode"] = 1
    if node.op_type == "AveragePool" and any(pads) and not a.get("count_include_pad"):
        values["count_include_pad"] = 0
    if any(d != 1 for d in a.get("dilations", ())):
        values["dilation"] = tuple(a["dilations"])
    if node.op_type == "LpPool":
        values["function"] = "lppool"
    return ("maxpool" if node.op_type == "MaxPool" else "avgpool"), _pack(**values)


def _recurrent(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    steps = prod(tensors.shape.get(node.input[0], (1, 1, 1))[:-1])
    macs = steps * sum(prod(tensors.shape.get(n, ())) for n in node.input[1:3])
    return "recurrent", _pack(function=node.op_type.lower(), macs=macs)


def _gather(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    if node.input[0] in tensors.weight:
        return "embedding", ()
    index = tensors.value.get(node.input[1])
    if index is not None and np.size(index) == 1:
        return "slice", _pack(dim=a.get("axis", 0), index=int(np.asarray(index).reshape(-1)[0]))
    return "gather", _pack(dim=a.get("axis", 0))


def _attention(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    """Queries of three axes hold their heads side by side, and so does the output: the products are the same."""
    query, key = (tensors.shape.get(n, (1, 1, 1)) for n in node.input[:2])
    past = tensors.shape.get(node.input[4], ()) if len(node.input) > 4 else ()
    keys = key[-2] + (past[-2] if len(past) > 1 else 0)
    return "attention", _pack(causal=a.get("is_causal", 0), keys=keys, width=query[-1])


def _softmax(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    rank = len(tensors.shape.get(node.input[0], ()))
    axis = a.get("axis", -1 if tensors.version.get("", 13) >= 13 else 1)
    kept: dict[str, object] = {"dim": _front(axis, rank)}
    if node.op_type == "LogSoftmax":
        kept["function"] = "log_softmax"
    return "softmax", _pack(**kept)


def _norm(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    op = NAMES[node.op_type]
    if op in {"layernorm", "rmsnorm"}:
        rank = len(tensors.shape.get(node.input[0], ()))
        return op, _pack(axes=rank - _front(a.get("axis", -1), rank))
    return op, _pack(groups=a.get("num_groups")) if op == "groupnorm" else ()


def _mean(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    rank = len(tensors.shape.get(node.input[0], ()))
    axes = a.get("axes")
    if axes is None and len(node.input) > 1:
        value = tensors.value.get(node.input[1])
        axes = tuple(int(v) for v in np.asarray(value).reshape(-1)) if value is not None else None
    kept: dict[str, object] = {}
    if axes:
        kept["dim"] = tuple(sorted(_front(x, rank) for x in axes))
    if a.get("keepdims", 1) and axes:
        kept["keepdim"] = True
    op = NAMES[node.op_type]
    if node.op_type in {"ReduceMin"}:
        kept["function"] = "amin"
    if op == "reduce":
        kept["function"] = node.op_type.lower()
    return op, _pack(**kept)


def _resize(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    rank = len(tensors.shape.get(node.input[0], ()))
    linear = {3: "linear", 4: "bilinear", 5: "trilinear"}.get(rank, "bilinear")
    mode = {"nearest": "nearest", "linear": linear, "cubic": "bicubic"}.get(a.get("mode", "nearest"), "nearest")
    transform = a.get("coordinate_transformation_mode", "half_pixel")
    exact = int(mode == "nearest" and transform == "half_pixel")
    return "resize", _pack(mode=mode, align_corners=int(transform == "align_corners"), exact=exact)


def _pad(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    """Torch's order: the last axis first, (before, after) each."""
    pads: Any = a.get("pads")
    if pads is None and len(node.input) > 1 and tensors.value.get(node.input[1]) is not None:
        pads = tuple(int(v) for v in np.asarray(tensors.value[node.input[1]]).reshape(-1))
    if pads is None:
        return "pad", ()
    half = len(pads) // 2
    pairs = [v for i in reversed(range(half)) for v in (pads[i], pads[i + half])]
    while len(pairs) > 2 and pairs[-2:] == [0, 0]:
        pairs = pairs[:-2]
    mode = a.get("mode", "constant")
    return "pad", _pack(pad=tuple(pairs), mode=None if mode == "constant" else mode)


def _cast(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    before, after = tensors.type.get(node.input[0], 1), tensors.type.get(node.output[0], int(a.get("to", 1)))
    return ("identity", ()) if before == after else ("cast", _pack(dtype=DTYPE.get(after, "float32")))


def _leaky(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    if node.op_type == "PRelu":
        return "leakyrelu", _pack(function="prelu")
    slope = round(a.get("alpha", 0.01), 7)
    return "leakyrelu", _pack(negative_slope=None if slope == 0.01 else slope)


def _gelu(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    approximate = a.get("approximate", "none")
    return "gelu", _pack(approximate=None if approximate == "none" else approximate)


def _concat(node: Any, a: dict[str, Any], tensors: Tensors, weights: list[str], bias: Any) -> tuple[str, Attributes]:
    rank = len(tensors.shape.get(node.output[0], ()))
    dim = _front(a.get("axis", 0), rank)
    return "concat", _pack(dim=dim or None)


_Special = Callable[[Any, dict[str, Any], Tensors, list[str], Any], tuple[str, Attributes]]
_SPECIAL: dict[str, _Special] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv"), _convolution),
    **dict.fromkeys(("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"), _product),
    "CausalConvWithState": _causal_convolution,
    "Einsum": _einsum,
    "Clip": _clip,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pool),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    "Gather": _gather,
    "Attention": _attention,
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "GroupNormalization"), _norm),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), _mean),
    **dict.fromkeys((k for k, v in NAMES.items() if v == "reduce" and k.startswith("Reduce")), _mean),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "Pad": _pad,
    "Swish": lambda node, a, tensors, weights, bias: (
        "silu",
        _pack(alpha=None if a.get("alpha", 1.0) == 1.0 else round(a["alpha"], 7)),
    ),
    **dict.fromkeys(("Cast", "CastLike"), _cast),
    **dict.fromkeys(("LeakyRelu", "PRelu"), _leaky),
    "Gelu": _gelu,
    "Concat": _concat,
    "Reshape": lambda node, a, tensors, weights, bias: ("view", ()),
    "Flatten": lambda node, a, tensors, weights, bias: ("view", ()),
    "Squeeze": lambda node, a, tensors, weights, bias: ("view", ()),
    "Unsqueeze": lambda node, a, tensors, weights, bias: ("view", ()),
    "Transpose": lambda node, a, tensors, weights, bias: ("permute", _pack(dims=a.get("perm"))),
    "BatchNormalization": lambda node, a, tensors, weights, bias: ("batchnorm", ()),
    "GlobalAveragePool": lambda node, a, tensors, weights, bias: ("adaptivepool", ()),
    "HardSigmoid": lambda node, a, tensors, weights, bias: (
        "hardsigmoid",
        _pack(alpha=None if abs(a.get("alpha", 0.2) - 1 / 6) < 1e-4 else a.get("alpha", 0.2)),
    ),
}
