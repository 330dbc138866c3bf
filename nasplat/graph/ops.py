"""The op vocabulary: one name per kind of computation, whichever framework it came from.

Kinds that many operators share carry the operator as attribute `function` (`unary` sin, `reduce` var, `scatter` index_add …).
Anything else is `other:<framework name>`: the graph stays whole and costs become lower bounds.
"""

from __future__ import annotations

OPS_VERSION = 2
"""Part of every graph key; raised when a name is added, split or merged."""

WEIGHTED = ("conv", "depthwise", "linear", "embedding", "recurrent", "bilinear")
"""Ops that multiply an input by weights."""

MATMUL = ("matmul", "attention", "distance")
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
    "mish",
    "glu",
)

POINTWISE = (
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "neg",
    "exp",
    "log",
    "sqrt",
    "abs",
    "clamp",
    "compare",
    "where",
    "unary",
    "binary",
)

POOLING = ("maxpool", "avgpool", "adaptivepool", "mean", "sum", "max", "argmax", "reduce")

MOVEMENT = (
    "concat",
    "pad",
    "resize",
    "gather",
    "copy",
    "shift",
    "pixelshuffle",
    "deform",
    "gridsample",
    "cumsum",
    "scatter",
    "sort",
    "select",
    "patches",
    "unpool",
    "roi",
)
"""`select` has outputs whose size depends on data (nonzero, boolean indexing, unique, nms); `patches` is im2col and back."""

TRANSFORM = ("fft", "algebra")
"""Fourier transforms; decompositions and solvers of linear algebra."""

VIEW = ("view", "permute", "slice", "expand")
"""Carry data flow, cost nothing, and are hidden in the predictor's view."""

SILENT = ("identity", "cast")
"""Leave the values as they are: modules without an operation (identity, dropout at inference), changes of precision."""

TERMINAL = ("input", "output", "constant", "zeros", "random")

OPS = (
    *TERMINAL,
    *WEIGHTED,
    *MATMUL,
    *NORMALISATION,
    *ACTIVATION,
    *POINTWISE,
    *POOLING,
    *MOVEMENT,
    *TRANSFORM,
    *VIEW,
    *SILENT,
)

HIDDEN = (*VIEW, *SILENT, "copy")
"""What drawings and predictors leave out."""

COMMUTATIVE = frozenset({"add", "mul"})


def is_known(op: str) -> bool:
    """True for names of the vocabulary, False for `other:…`."""
    return op in _KNOWN


_KNOWN = frozenset(OPS)
