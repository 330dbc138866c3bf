"""The op vocabulary: one name per kind of computation, whichever framework it came from.

Anything else is `other:<framework name>`: the graph stays whole and costs become lower bounds.
"""

from __future__ import annotations

OPS_VERSION = 1
"""Part of every graph key; raised when a name is added, split or merged."""

WEIGHTED = ("conv", "depthwise", "linear", "embedding", "recurrent")
"""Ops that multiply an input by weights."""

MATMUL = ("matmul", "attention")
"""Ops that multiply two inputs."""

NORMALISATION = ("batchnorm", "layernorm", "groupnorm", "instancenorm", "rmsnorm")

ACTIVATION = (
    "relu",
    "relu6",
    "leakyrelu",
    "elu",
    "silu",
    "gelu",
    "sigmoid",
    "tanh",
    "hardswish",
    "hardsigmoid",
    "softplus",
    "softmax",
)

POINTWISE = ("add", "sub", "mul", "div", "pow", "neg", "exp", "log", "sqrt", "abs", "clamp", "compare", "where")

POOLING = ("maxpool", "avgpool", "adaptivepool", "mean", "sum", "max", "argmax")

MOVEMENT = ("concat", "pad", "resize", "gather", "copy", "shift", "pixelshuffle", "deform", "gridsample", "cumsum")

VIEW = ("view", "permute", "slice", "expand")
"""Carry data flow, cost nothing, and are hidden in the predictor's view."""

TERMINAL = ("input", "output", "constant", "zeros")

OPS = (*TERMINAL, *WEIGHTED, *MATMUL, *NORMALISATION, *ACTIVATION, *POINTWISE, *POOLING, *MOVEMENT, *VIEW)

COMMUTATIVE = frozenset({"add", "mul"})
FREE = frozenset({*TERMINAL, *VIEW, "concat", "pad", "copy", "gather", "shift", "pixelshuffle"})
"""No multiply-accumulates: they only move data."""


def is_known(op: str) -> bool:
    """True for names of the vocabulary, False for `other:…`."""
    return op in _KNOWN


_KNOWN = frozenset(OPS)
