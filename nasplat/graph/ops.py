"""The op vocabulary: one name per kind of computation, whichever framework it came from.

Kinds that many operators share carry the operator as attribute `function` (`unary` sin, `reduce` var, `scatter`
index_add …). Anything else is `other:<framework name>`: the graph stays whole and costs become lower bounds.
"""

from __future__ import annotations

OPS_VERSION = 2
"""Part of every graph key; raised when a name is added, split or merged."""

WEIGHTED = ("conv", "depthwise", "linear", "embedding", "recurrent", "bilinear")
"""Operations that multiply an input by weights."""

MATMUL = ("matmul", "attention", "distance")
"""Operations that multiply two inputs."""

NORMALISATION = ("batchnorm", "layernorm", "groupnorm", "instancenorm", "rmsnorm")
"""Operations that shift and scale by statistics."""

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
"""Nonlinear functions, element by element or (softmax, glu) along one axis."""

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
"""Arithmetic element by element."""

POOLING = ("maxpool", "avgpool", "adaptivepool", "mean", "sum", "max", "argmax", "reduce")
"""Reductions over windows or axes."""

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
"""Operations that move values: `select` has outputs whose size depends on data (nonzero, boolean indexing, unique,
nms); `patches` is im2col and back."""

TRANSFORM = ("fft", "algebra")
"""Fourier transforms; decompositions and solvers of linear algebra."""

VIEW = ("view", "permute", "slice", "expand")
"""Operations that carry the data flow, cost nothing, and are hidden in the predictor's view."""

SILENT = ("identity", "cast")
"""Operations that leave the values as they are: modules without an operation (identity, dropout at inference), changes
of precision."""

TERMINAL = ("input", "output", "constant", "zeros", "random")
"""Sources and sinks of the graph."""

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
"""All names of the vocabulary; their order gives the ids of `nasplat.features.arrays` and of `Graph.to_pyg`."""

HIDDEN = (*VIEW, *SILENT, "copy")
"""Operations that drawings and predictors leave out."""

COMMUTATIVE = frozenset({"add", "mul"})
"""Operations whose operands the key does not order."""


def is_known(op: str) -> bool:
    """Tell names of the vocabulary from `other:…`.

    Args:
        op: Name of an operation, as in `Node.op`.

    Returns:
        True for names of the vocabulary.

    Example:
        >>> is_known("conv"), is_known("other:fold_fft")
        (True, False)
    """
    return op in _KNOWN


_KNOWN = frozenset(OPS)
