"""Shapes of the outputs of ONNX operators for which onnx itself infers none.

These are functions without an inference of their own, operators that ONNX Runtime writes into ONNX's own domain, and
optional outputs. Every rule holds for whole operators: nothing here depends on values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nasplat.graph.columns import Shape

_SAME = frozenset(
    "GroupNormalization MeanVarianceNormalization InstanceNormalization LayerNormalization RMSNormalization "
    "SimplifiedLayerNormalization BatchNormalization LpNormalization LRN Dropout Identity Cast CastLike Relu Gelu Mish "
    "Swish Sigmoid HardSigmoid HardSwish Softmax LogSoftmax Tanh Erf Exp Sqrt Clip QuantizeLinear DequantizeLinear "
    "RotaryEmbedding LeakyRelu PRelu Elu Selu Celu Softplus Neg Abs Normalizer Scaler Imputer".split()
)
"""Operators whose first output has the shape of the first input."""
_BROADCAST = frozenset("Add Sub Mul Div Pow Min Max Mean Sum Where Equal Less Greater And Or Xor Mod".split())
"""Operators whose output has the shape to which all inputs broadcast."""

Found = dict[str, tuple[Shape, int]]
"""Shape and ONNX's number of the element type, by name of the output."""


def own_shapes(node: Any, shape: Mapping[str, Shape], kind: Mapping[str, int], a: Mapping[str, Any]) -> Found:
    """Tell what follows for a node's outputs from the shapes of its inputs.

    Args:
        node: An ONNX node.
        shape: Shapes of tensors, by name.
        kind: ONNX's numbers of their element types, by name.
        a: Attributes of the node.

    Returns:
        What is known about outputs; empty where there is no rule or an input's shape is unknown.
    """
    if node.domain not in {"", "ai.onnx", "ai.onnx.ml"} or not node.input or not node.output:
        return {}
    first = node.input[0]
    own = kind.get(first, 1)
    if node.op_type in _SAME and first in shape:
        found: Found = {node.output[0]: (shape[first], a.get("to", own))}
        if node.op_type == "Dropout" and len(node.output) > 1:
            found[node.output[1]] = (shape[first], 9)
        return found
    if node.op_type in _BROADCAST and all(n in shape for n in node.input):
        common = _broadcast([shape[n] for n in node.input])
        return {} if common is None else {node.output[0]: (common, kind.get(node.input[-1], 1))}
    rule = _RULES.get(node.op_type)
    return rule(node, shape, a, own) if rule is not None else {}


def _broadcast(shapes: list[Shape]) -> Shape | None:
    """The common shape, or None where there is none."""
    rank = max(map(len, shapes))
    sizes = []
    for column in zip(*((1,) * (rank - len(s)) + s for s in shapes), strict=True):
        wide = {s for s in column if s != 1}
        if len(wide) > 1:
            return None
        sizes.append(wide.pop() if wide else 1)
    return tuple(sizes)


def _attention(node: Any, shape: Mapping[str, Shape], a: Mapping[str, Any], own: int) -> Found:
    """Keys and values are handed on with those of the past before them."""
    if len(node.input) < 3 or any(n not in shape for n in node.input[:3]):
        return {}
    query, key, value = (shape[n] for n in node.input[:3])
    heads, groups = int(a.get("q_num_heads", 0)), int(a.get("kv_num_heads", 0))
    if len(query) == 3 and heads > 0 and groups > 0:
        query, key, value = ((s[0], n, s[1], s[2] // n) for s, n in ((query, heads), (key, groups), (value, groups)))
    if not len(query) == len(key) == len(value) == 4:
        return {}
    past = shape.get(node.input[4], ()) if len(node.input) > 4 else ()
    total = key[2] + (past[2] if len(past) == 4 else 0)
    folded = len(shape[node.input[0]]) == 3
    made = [
        (query[0], query[2], query[1] * value[3]) if folded else (*query[:3], value[3]),
        (*key[:2], total, key[3]),
        (*value[:2], total, value[3]),
        (*query[:3], total),
    ]
    return {name: (s, own) for name, s in zip(node.output, made, strict=False) if name}


def _recurrent(node: Any, shape: Mapping[str, Shape], a: Mapping[str, Any], own: int) -> Found:
    """Outputs of every step and the last states, their width taken from the recurrence where no attribute says it."""
    if len(node.input) < 3 or any(n not in shape or len(shape[n]) != 3 for n in node.input[:3]):
        return {}
    data, states = shape[node.input[0]], shape[node.input[2]]
    width, turned = states[2], bool(a.get("layout", 0))
    steps, batch = (data[1], data[0]) if turned else data[:2]
    last = (batch, states[0], width) if turned else (states[0], batch, width)
    every = (batch, steps, states[0], width) if turned else (steps, states[0], batch, width)
    return {name: (s, own) for name, s in zip(node.output, (every, last, last), strict=False) if name}


_RULES: dict[str, Callable[[Any, Mapping[str, Shape], Mapping[str, Any], int], Found]] = {
    "Attention": _attention,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
}
