"""Operators of ONNX Runtime's own domains, written out in operators of ONNX.

A fused operator becomes the nodes that it stands for: com.microsoft's `Attention` a product with a bias and ONNX's
attention, `SkipLayerNormalization` a sum and a normalisation. So it has their shapes, weights and costs. What is not
here stays unknown under its full name.

Source: the operator schemas of ONNX Runtime 1.20 to 1.32, domains `com.microsoft` and `com.microsoft.nchwc`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import numpy_helper

from nasplat.frontends.onnx_attention import attention, grouped_attention, many_headed_attention
from nasplat.frontends.onnx_tensors import Tensors
from nasplat.frontends.onnx_writer import Unclear, Writer

MICROSOFT, BLOCKED = "com.microsoft", "com.microsoft.nchwc"
"""Domains of ONNX Runtime: its fused operators, and those whose channels lie in blocks."""


def lower(node: Any, tensors: Tensors) -> list[Any] | None:
    """Write a node of a domain of ONNX Runtime out in operators of ONNX.

    Args:
        node: The ONNX node, its inputs known.
        tensors: Shapes, types and constant values in the file; packed weights are added to it.

    Returns:
        Nodes of ONNX's newest operator set that end in the node's outputs, or None for an operator that is unknown or
        whose inputs have unknown shapes.
    """
    table = {"": _UNNAMED, "ai.onnx": _UNNAMED, MICROSOFT: _MICROSOFT, BLOCKED: _BLOCKED}.get(node.domain, {})
    rule = table.get(node.op_type)
    if rule is None:
        return None
    w = Writer(node, tensors)
    try:
        rule(w)
    except (IndexError, KeyError, ZeroDivisionError, Unclear):
        return None
    return w.nodes if {n for n in node.output if n} <= {n for made in w.nodes for n in made.output} else None


def _same(kind: str, *attributes: str, inputs: int | None = None, **fixed: Any) -> Callable[[Writer], None]:
    """The operator of another name with the same inputs and outputs."""

    def rule(w: Writer) -> None:
        names = list(w.node.input)[:inputs]
        w.add(kind, names, list(w.node.output), **w.kept(*attributes), **fixed)

    return rule


def _biased(kind: str, **fixed: Any) -> Callable[[Writer], None]:
    """A sum with a second input, where there is one, then an operator."""

    def rule(w: Writer) -> None:
        x = w.input(0)
        if w.input(1):
            x = w.add("Add", [x, w.input(1)])
        w.add(kind, [x], w.output(0), **fixed)

    return rule


# -- normalisation and embedding ---------------------------------------------------------------------------------------


def _skip_norm(w: Writer) -> None:
    """(x + skip + bias), normalised; the sum is the fourth output."""
    is_rms = w.node.op_type == "SkipSimplifiedLayerNormalization"
    bias = w.input(3 if is_rms else 4)
    shape = w.shape(0)
    total = w.add("Add", [w.input(0), w.input(1)], "" if bias else w.output(3))
    if bias:
        total = w.add("Add", [total, bias], w.output(3))
    if is_rms:
        w.add("RMSNormalization", [total, w.input(2)], w.output(0), axis=-1)
        for name in (w.output(1), w.output(2)):
            if name:
                w.add("ReduceMean", [total, w.ints(len(shape) - 1)], name)
        return
    outputs = [w.output(0), w.output(1), w.output(2)]
    while not outputs[-1]:
        outputs.pop()
    w.add("LayerNormalization", [total, w.input(2), *([w.input(3)] if w.input(3) else [])], outputs, axis=-1)


def _group_norm(w: Writer) -> None:
    """Groups of channels, which may lie last; of (x + skip + bias) in the form with a skip."""
    x = w.input(0)
    if w.node.op_type == "SkipGroupNorm":
        x = w.add("Add", [x, w.input(3)], "" if w.input(4) else w.output(1))
        if w.input(4):
            x = w.add("Add", [x, w.input(4)], w.output(1))
    is_silu = bool(w.a.get("activation", 0))
    made = w.add(
        "GroupNormalization",
        [x, w.input(1), w.input(2)],
        "" if is_silu else w.output(0),
        num_groups=w.a.get("groups", 1),
    )
    if is_silu:
        w.add("Swish", [made], w.output(0))


def _embed_norm(w: Writer) -> None:
    """Rows of the tables of words, positions and segments, summed and normalised."""
    is_quantised = w.node.op_type == "QEmbedLayerNormalization"
    ids, segments = w.input(0), w.input(1)
    word, position, segment, gamma, beta = (w.floats(w.input(i)) for i in range(2, 7))
    steps = w.shape(0)[1]
    places = "" if is_quantised else w.input(8)
    total = w.add("Gather", [word, ids])
    if not places:
        places = w.add("Constant", [], value=numpy_helper.from_array(np.arange(steps, dtype=np.int64)))
        places = w.add("Add", [places, w.add("Mul", [w.add("Cast", [ids], to=7), w.ints(0)])])
    total = w.add("Add", [total, w.add("Gather", [position, places])])
    if segments and segment:
        total = w.add("Add", [total, w.add("Gather", [segment, segments])])
    if w.output(2):
        total = w.add("Identity", [total], w.output(2))
    w.add("LayerNormalization", [total, gamma, beta], w.output(0), axis=-1)
    if w.output(1):
        mask = w.input(7) or ids
        w.add("ReduceSum", [w.add("Cast", [mask], to=6), w.ints(1)], w.output(1), keepdims=0)


# -- products ----------------------------------------------------------------------------------------------------------


def _product(w: Writer) -> None:
    """A product of matrices that may be turned or stacked otherwise, with its activation."""
    sides = []
    for position, side in enumerate("AB"):
        name, rank = w.input(position), len(w.shape(position))
        order = list(range(rank))
        if w.a.get(f"transBatch{side}") and rank > 2:
            order = [*order[1:-1], order[0], order[-1]]
        if w.a.get(f"trans{side}") and rank > 1:
            order[-2:] = order[:-3:-1]
        sides.append(name if order == sorted(order) else w.moved(name, order))
    if "activation" in w.a:
        w.activated(w.add("MatMul", sides), w.output(0))
    else:
        w.add("MatMul", sides, w.output(0))


def _gemm(w: Writer) -> None:
    """ONNX's Gemm with an activation behind it."""
    inputs = [n for n in w.node.input[:3] if n]
    w.activated(w.add("Gemm", inputs, **w.kept("alpha", "beta", "transA", "transB")), w.output(0))


def _quantised_gemm(w: Writer) -> None:
    """Gemm of integers."""
    inputs = [w.floats(n) for n in (w.input(0), w.input(3), w.input(6)) if n]
    w.add("Gemm", inputs, w.output(0), **w.kept("alpha", "transA", "transB"))


def _integer_product(bias: int) -> Callable[[Writer], None]:
    """A product of quantised matrices with a bias at an input."""

    def rule(w: Writer) -> None:
        sides = [w.floats(w.input(0)), w.floats(w.input(1))]
        made = w.add("MatMul", sides, "" if w.input(bias) else w.output(0))
        if w.input(bias):
            w.add("Add", [made, w.input(bias)], w.output(0))

    return rule


def _packed_product(bias: int, default_bits: int) -> Callable[[Writer], None]:
    """A product by a weight of N outputs and K inputs that lies packed, a few bits each."""

    def rule(w: Writer) -> None:
        n, k = int(w.a["N"]), int(w.a["K"])
        bits = int(w.a.get("bits", default_bits))
        if n < 1 or k < 1 or not 1 <= bits <= 8:
            raise Unclear
        weight = f"{w.stem}/weight"
        w.tensors.add_packed(weight, w.input(1), (k, n), f"uint{bits}")
        offset = w.input(bias) if bias else ""
        made = w.add("MatMul", [w.input(0), weight], "" if offset else w.output(0))
        if offset:
            w.add("Add", [made, offset], w.output(0))

    return rule


def _packed_table(w: Writer) -> None:
    """Rows of a table that lies packed, a few bits each."""
    shape, bits = w.shape(0), int(w.a.get("bits", 4))
    if w.tensors.type.get(w.input(0)) == 2:  # bytes
        shape = (*shape[:-1], shape[-1] * 8 // bits)
    table = f"{w.stem}/table"
    w.tensors.add_packed(table, w.input(0), shape, f"uint{bits}")
    w.add("Gather", [table, w.input(1)], w.output(0), axis=w.a.get("gather_axis", 0))


# -- convolution and pooling -------------------------------------------------------------------------------------------

_WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides", "ceil_mode", "count_include_pad")


def _last_to_second(rank: int) -> list[int]:
    """Order of axes that brings the last one behind the batch."""
    return [0, rank - 1, *range(1, rank - 1)]


def _windowed(kind: str, is_last: bool | None, fused: bool = False) -> Callable[[Writer], None]:
    """A convolution or pooling whose channels may lie last, with a sum and an activation where they are fused to it."""

    def rule(w: Writer) -> None:
        rank = len(w.shape(0))
        last = bool(w.a.get("channels_last", 0)) if is_last is None else is_last
        x = w.moved(w.input(0), _last_to_second(rank)) if last else w.input(0)
        weights = [n for n in w.node.input[1:3] if n] if kind == "Conv" else []
        if weights and last and _is_turned(w):
            weights[0] = w.moved(weights[0], _last_to_second(rank))
        rest = fused and bool(w.input(3) or w.a.get("activation"))
        made = w.add(kind, [x, *weights], "" if last or rest else w.output(0), **w.kept(*_WINDOW))
        if last:
            made = w.moved(made, [0, *range(2, rank), 1], "" if rest else w.output(0))
        if fused and w.input(3):
            made = w.add("Add", [made, w.input(3)], "" if w.a.get("activation") else w.output(0))
        if fused and w.a.get("activation"):
            w.activated(made, w.output(0))

    return rule


def _is_turned(w: Writer) -> bool:
    """Whether the weight of a convolution has its channels last too, which runtimes do without saying so."""
    shape, kernel = w.shape(1), tuple(w.a.get("kernel_shape", ()))
    if kernel and shape[1:-1] != shape[2:]:
        return shape[1:-1] == kernel
    channels = w.shape(0)[-1] // int(w.a.get("group", 1))
    return shape[1] != channels and shape[-1] == channels


def _quantised_convolution(w: Writer) -> None:
    """ONNX's QLinearConv, whose channels may lie last."""
    if not w.a.get("channels_last"):
        w.add("QLinearConv", list(w.node.input), w.output(0), **w.kept(*_WINDOW))
        return
    rank = len(w.shape(0))
    x = w.moved(w.input(0), _last_to_second(rank))
    made = w.add("QLinearConv", [x, *w.node.input[1:]], **w.kept(*_WINDOW))
    w.moved(made, [0, *range(2, rank), 1], w.output(0))


def _dynamic_pads(w: Writer) -> None:
    """A transposed convolution whose padding is an input."""
    pads = w.tensors.value.get(w.input(2)) if w.input(2) else np.zeros(0)
    if pads is None:
        raise Unclear
    given = [int(v) for v in np.asarray(pads).reshape(-1)] or None
    names = ("auto_pad", "dilations", "group", "kernel_shape", "output_padding", "strides")
    inputs = [w.input(0), w.input(1), *([w.input(3)] if w.input(3) else [])]
    w.add("ConvTranspose", inputs, w.output(0), pads=given, **w.kept(*names))


def _reorder_output(w: Writer) -> None:
    """Blocks of channels back to channels, without those that filled the last block."""
    channels = int(w.a.get("channels", 0))
    rank = len(w.shape(0))
    x = w.add(
        "Slice", [w.input(0), w.ints(0), w.ints(channels), w.ints(1)], "" if w.a.get("channels_last") else w.output(0)
    )
    if w.a.get("channels_last"):
        w.moved(x, [0, *range(2, rank), 1], w.output(0))


def _reorder_input(w: Writer) -> None:
    """Channels into blocks; those that fill the last block are not counted."""
    if w.a.get("channels_last"):
        w.moved(w.input(0), _last_to_second(len(w.shape(0))), w.output(0))
    else:
        w.add("Identity", [w.input(0)], w.output(0))


def _blocked_upsample(w: Writer) -> None:
    """A resize by whole factors, which are an attribute."""
    scales = w.add("Constant", [], value=numpy_helper.from_array(np.array(w.a["scales"], np.float32)))
    mode = w.kept("mode", "coordinate_transformation_mode")
    w.add("Resize", [w.input(0), "", scales], w.output(0), **mode)


# -- pointwise ---------------------------------------------------------------------------------------------------------


def _binary(kind: str) -> Callable[[Writer], None]:
    """Quantised arithmetic of two tensors."""

    def rule(w: Writer) -> None:
        w.add(kind, [w.weight(w.input(0)), w.weight(w.input(3))], w.output(0))

    return rule


def _bias_add(w: Writer) -> None:
    """The sum x + bias + skip."""
    w.add("Add", [w.add("Add", [w.input(0), w.input(1)]), w.input(2)], w.output(0))


def _bias_softmax(w: Writer) -> None:
    """The softmax of a sum."""
    w.add("Softmax", [w.add("Add", [w.input(0), w.input(1)])], w.output(0), axis=w.a.get("axis", 1))


def _bias_dropout(w: Writer) -> None:
    """The sum x + bias, kept as it is at inference, and + residual."""
    made = w.add("Add", [w.input(0), w.input(1)])
    if w.input(2):
        made = w.add("Add", [made, w.input(2)])
    w.add("Identity", [made], w.output(0))


def _bias_split_gelu(w: Writer) -> None:
    """One half of x + bias times the gelu of the other."""
    made = w.add("Add", [w.input(0), w.input(1)])
    left, right = f"{w.stem}/left", f"{w.stem}/right"
    w.add("Split", [made], [left, right], axis=-1, num_outputs=2)
    w.add("Mul", [left, w.add("Gelu", [right])], w.output(0))


def _quantised_where(w: Writer) -> None:
    """A choice between two quantised tensors."""
    w.add("Where", [w.input(0), w.weight(w.input(1)), w.weight(w.input(4))], w.output(0))


def _quantised_concat(w: Writer) -> None:
    """Tensors with a scale and a zero point each, behind those of the result."""
    w.add("Concat", [w.weight(n) for n in w.node.input[2::3]], w.output(0), axis=w.a["axis"])


def _quantised_mean(w: Writer) -> None:
    """The mean of quantised values over some axes."""
    axes = [w.ints(*w.a["axes"])] if w.a.get("axes") else []
    w.add("ReduceMean", [w.input(0), *axes], w.output(0), keepdims=w.a.get("keepdims", 1))


def _integer_sum(w: Writer) -> None:
    """The sum of integers over some axes."""
    w.add("ReduceSum", [w.input(0), w.ints(*w.a["axes"])], w.output(0), keepdims=w.a.get("keepdims", 1))


def _rotary(w: Writer) -> None:
    """Rotary positions; their tables come behind the positions."""
    inputs = [w.input(0), w.input(2), w.input(3), w.input(1)]
    w.add("RotaryEmbedding", inputs, w.output(0), **w.kept("num_heads", "interleaved", "rotary_embedding_dim"))


def _unique(w: Writer) -> None:
    """ONNX's Unique without its second output."""
    found = [w.output(0), f"{w.stem}/first", w.output(1), w.output(2)]
    w.add("Unique", [w.input(0)], found)


def _lstm(w: Writer) -> None:
    """An LSTM whose weights are quantised, and turned: (directions, inputs, 4 hidden)."""
    kept = w.kept("activations", "clip", "direction", "hidden_size", "input_forget")
    weights = [w.add("Transpose", [w.floats(w.input(i))], perm=[0, 2, 1]) for i in (1, 2)]
    inputs = [w.input(0), *weights, *(w.input(i) for i in range(3, 8))]
    while not inputs[-1]:
        inputs.pop()
    w.add("LSTM", inputs, list(w.node.output), **kept)


_Rule = Callable[[Writer], None]
_UNNAMED: dict[str, _Rule] = {"SimplifiedLayerNormalization": _same("RMSNormalization", "axis", inputs=2)}
"""What ONNX Runtime writes into ONNX's own domain."""
_MICROSOFT: dict[str, _Rule] = {
    **dict.fromkeys(("Attention", "QAttention"), attention),
    **dict.fromkeys(("MultiHeadAttention", "DecoderMaskedMultiHeadAttention"), many_headed_attention),
    "GroupQueryAttention": grouped_attention,
    **dict.fromkeys(("RotaryEmbedding", "MRotaryEmbedding"), _rotary),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip_norm),
    **dict.fromkeys(("EmbedLayerNormalization", "QEmbedLayerNormalization"), _embed_norm),
    **dict.fromkeys(("GroupNorm", "SkipGroupNorm"), _group_norm),
    "LayerNormalization": _same("LayerNormalization", "axis"),
    **dict.fromkeys(("SimplifiedLayerNormalization", "RMSNormalization"), _same("RMSNormalization", "axis", inputs=2)),
    **dict.fromkeys(("Gelu", "BiasGelu"), _biased("Gelu")),
    "FastGelu": _biased("Gelu", approximate="tanh"),
    "QuickGelu": _same("Swish", "alpha"),
    "BiasAdd": _bias_add,
    "BiasSoftmax": _bias_softmax,
    "BiasDropout": _bias_dropout,
    "BitmaskBiasDropout": _bias_dropout,
    "BiasSplitGelu": _bias_split_gelu,
    **dict.fromkeys(("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation"), _product),
    "FusedGemm": _gemm,
    "QGemm": _quantised_gemm,
    "DynamicQuantizeMatMul": _integer_product(4),
    "MatMulIntegerToFloat": _integer_product(6),
    "MatMulInteger16": _integer_product(99),
    "MatMulNBits": _packed_product(5, 4),
    "MatMulBnb4": _packed_product(0, 4),
    "GatherBlockQuantized": _packed_table,
    "FusedConv": _windowed("Conv", False, fused=True),
    "NhwcConv": _windowed("Conv", True),
    "NhwcFusedConv": _windowed("Conv", True, fused=True),
    "NhwcMaxPool": _windowed("MaxPool", True),
    "QLinearConv": _quantised_convolution,
    "ConvTransposeWithDynamicPads": _dynamic_pads,
    "QLinearAveragePool": _windowed("AveragePool", None),
    "QLinearGlobalAveragePool": _windowed("GlobalAveragePool", None),
    "QLinearAdd": _binary("Add"),
    "QLinearMul": _binary("Mul"),
    "QLinearSigmoid": _same("Sigmoid", inputs=1),
    "QLinearLeakyRelu": _same("LeakyRelu", "alpha", inputs=1),
    "QLinearSoftmax": _same("Softmax", "axis", inputs=1),
    "QLinearConcat": _quantised_concat,
    "QLinearReduceMean": _quantised_mean,
    "QLinearWhere": _quantised_where,
    "ReduceSumInteger": _integer_sum,
    "DynamicQuantizeLSTM": _lstm,
    "Unique": _unique,
    "ExpandDims": _same("Unsqueeze"),
    "TorchEmbedding": _same("Gather", inputs=2),
    **{kind: _same(kind, "axis") for kind in ("QuantizeLinear", "DequantizeLinear")},
    **{kind: _same(kind, "align_corners", "mode", "padding_mode", "upper") for kind in ("GridSample", "Trilu", "Pad")},
    **{kind: _same(kind) for kind in ("GatherND", "Range")},
}
"""Operators of com.microsoft."""
_BLOCKED: dict[str, _Rule] = {
    "Conv": _windowed("Conv", False, fused=True),
    **{kind: _windowed(kind, False) for kind in ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")},
    "ReorderInput": _reorder_input,
    "ReorderOutput": _reorder_output,
    "Upsample": _blocked_upsample,
}
"""Operators on channels in blocks."""
