"""Fused operators of ONNX Runtime have the shapes that it gives them, and the costs of what they stand for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from nasplat.frontends import capture_onnx

pytestmark = pytest.mark.fast

B, S, D, H = 2, 5, 16, 4
"""Batch, steps, width, heads."""
MICROSOFT = "com.microsoft"


@dataclass
class Fused:
    """One fused node, and what it costs."""

    op: str
    inputs: tuple[tuple[int, ...] | np.ndarray | None, ...]
    """A shape for an input of the network, values for a weight, None for what is left out."""
    macs: int
    params: int
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    kinds: dict[int, Any] = field(default_factory=dict)
    """Element types of inputs of the network, float32 else."""
    domain: str = MICROSOFT
    output: tuple[int, ...] | None = None
    """Shape of the output as it is documented, where the runtime has no kernel for CPUs."""


def f(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32) + 0.1


def q(*shape: int, kind: Any = np.uint8) -> np.ndarray:
    return np.ones(shape, kind)


def one(kind: Any = np.float32) -> np.ndarray:
    return np.array(1, kind)


ATTENDED = 2 * B * S * S * D
"""Products of queries with keys and of their weights with values."""
GRID = (1, 8, 6, 6)
BATCH = {"num_heads": H}
FUSED = [
    Fused("Attention", ((B, S, D), f(D, 3 * D), f(3 * D)), B * S * D * 3 * D + ATTENDED, 3 * D * (D + 1), BATCH),
    Fused(
        "Attention",
        ((B, S, D), f(D, 2 * D + 8), f(2 * D + 8)),
        B * S * D * (2 * D + 8) + B * S * S * (D + 8),
        (D + 1) * (2 * D + 8),
        BATCH | {"qkv_hidden_sizes": [D, D, 8]},
    ),
    Fused(
        "Attention",
        ((B, S, D), f(D, 3 * D), f(3 * D), None, (2, B, H, 3, D // H)),
        B * S * D * 3 * D + 2 * B * S * (S + 3) * D,
        3 * D * (D + 1),
        BATCH | {"unidirectional": 1},
        outputs=2,
    ),
    Fused(
        "QAttention",
        (
            *((B, S, D), q(D, 3 * D), f(3 * D), one(), one(), None, one(np.uint8), one(np.uint8)),
            *((2, B, H, 3, D // H),),
        ),
        B * S * D * 3 * D + 2 * B * S * (S + 3) * D,
        3 * D * (D + 1),
        BATCH | {"unidirectional": 1},
        outputs=2,
        kinds={0: np.uint8},
    ),
    Fused("MultiHeadAttention", ((B, S, D), (B, 7, D), (B, 7, 8)), B * S * 7 * (D + 8), 0, BATCH),
    Fused("MultiHeadAttention", ((B, S, D), (B, S, D), (B, S, D), f(3 * D)), ATTENDED, 3 * D, BATCH),
    Fused("MultiHeadAttention", ((B, S, H, 3, D // H),), ATTENDED, 0, BATCH, output=(B, S, D)),
    Fused("MultiHeadAttention", ((B, S, D), (B, 7, H, 2, D // H)), 2 * B * S * 7 * D, 0, BATCH, output=(B, S, D)),
    Fused("MultiHeadAttention", ((B, S, D), (B, H, 7, D // H), (B, H, 7, D // H)), 2 * B * S * 7 * D, 0, BATCH),
    Fused(
        "MultiHeadAttention",
        (*((B, S, D),) * 3, None, None, None, (B, H, 3, D // H), (B, H, 3, D // H)),
        2 * B * S * (S + 3) * D,
        0,
        BATCH,
        outputs=3,
    ),
    Fused(
        "GroupQueryAttention",
        (*((B, S, 64), (B, S, 32), (B, S, 32)), None, None, np.full(B, S - 1, np.int32), one(np.int32) * S),
        2 * B * S * S * 64,
        0,
        {"num_heads": 4, "kv_num_heads": 2},
        outputs=3,
    ),
    Fused(
        "GroupQueryAttention",
        (
            *((B, 1, 128), None, None, (B, 2, 6, 16), (B, 2, 6, 16)),
            *(np.full(B, 6, np.int32), one(np.int32) * 7, f(9, 8), f(9, 8)),
        ),
        2 * B * 1 * 7 * 64,
        0,
        {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1},
        outputs=3,
    ),
    Fused("RotaryEmbedding", ((B, S, 64), q(B, S, kind=np.int64), f(9, 8), f(9, 8)), 0, 0, {"num_heads": 4}),
    Fused("RotaryEmbedding", ((B, 4, S, 16), q(B, S, kind=np.int64), f(9, 8), f(9, 8)), 0, 0),
    Fused("SkipLayerNormalization", ((B, S, D), (B, S, D), f(D), f(D), f(D)), 0, 3 * D, outputs=4),
    Fused("SkipLayerNormalization", ((B, S, D), (B, S, D), f(D)), 0, D),
    Fused("SkipSimplifiedLayerNormalization", ((B, S, D), (B, S, D), f(D)), 0, D, outputs=4),
    Fused("SimplifiedLayerNormalization", ((B, S, D), f(D)), 0, D, {"axis": -1}, domain=""),
    Fused("LayerNormalization", ((B, S, D), f(D), f(D)), 0, 2 * D, {"axis": -1}, domain=""),
    Fused(
        "EmbedLayerNormalization",
        ((B, S), (B, S), f(30, D), f(9, D), f(2, D), f(D), f(D), (B, S)),
        0,
        30 * D + 9 * D + 2 * D + 2 * D,
        outputs=3,
        kinds={0: np.int32, 1: np.int32, 7: np.int32},
    ),
    Fused(
        "EmbedLayerNormalization",
        ((B, S), None, f(30, D), f(9, D), None, f(D), f(D)),
        0,
        41 * D,
        outputs=2,
        kinds={0: np.int32},
    ),
    Fused("Gelu", ((B, D),), 0, 0),
    Fused("FastGelu", ((B, D), f(D)), 0, D),
    Fused("FastGelu", ((B, D),), 0, 0),
    Fused("BiasGelu", ((B, D), f(D)), 0, D),
    Fused("QuickGelu", ((B, D),), 0, 0, {"alpha": 1.702}),
    Fused("BiasSoftmax", ((B, S, D), (B, S, D)), 0, 0, {"axis": 2, "is_inner_broadcast": 0}, output=(B, S, D)),
    Fused("FusedMatMul", ((B, D, S), f(8, D)), B * S * D * 8, 8 * D, {"transA": 1, "transB": 1, "alpha": 0.5}),
    Fused("FusedMatMul", ((S, B, D), (B, D, 8)), B * S * D * 8, 0, {"transBatchA": 1}),
    Fused("FusedGemm", ((S, D), f(8, D), f(8)), S * D * 8, 8 * D + 8, {"transB": 1, "activation": "Relu"}),
    Fused(
        "QGemm", ((S, D), one(), one(np.uint8), q(D, 8), one(), one(np.uint8)), S * D * 8, D * 8, kinds={0: np.uint8}
    ),
    Fused("DynamicQuantizeMatMul", ((B, S, D), q(D, 8), f(8), q(8), f(8)), B * S * D * 8, D * 8 + 8),
    Fused(
        "MatMulIntegerToFloat",
        ((B, S, D), q(D, 8), one(), f(8), one(np.uint8), q(8), f(8)),
        B * S * D * 8,
        D * 8 + 8,
        kinds={0: np.uint8},
    ),
    Fused(
        "MatMulNBits",
        ((B, S, 32), q(8, 2, 8), f(8 * 2), q(8), None, f(8)),
        B * S * 32 * 8,
        32 * 8 + 8,
        {"K": 32, "N": 8, "bits": 4, "block_size": 16},
    ),
    Fused(
        "GatherBlockQuantized",
        (q(30, 16), (B, S), f(30, 2)),
        0,
        30 * 32,
        {"bits": 4, "block_size": 16, "quantize_axis": 1},
        kinds={1: np.int64},
    ),
    Fused("FusedConv", (GRID, f(4, 8, 3, 3), f(4)), 16 * 4 * 72, 292, {"activation": "Relu"}),
    Fused("FusedConv", (GRID, f(4, 8, 3, 3), f(4), (1, 4, 4, 4)), 16 * 4 * 72, 292),
    Fused(
        "FusedConv",
        (GRID, f(8, 1, 3, 3), f(8)),
        16 * 8 * 9,
        80,
        {"activation": "LeakyRelu", "activation_params": [0.1], "group": 8},
    ),
    Fused(
        "QLinearConv",
        ((1, 6, 6, 8), one(), one(np.uint8), q(4, 8, 3, 3), one(), one(np.uint8), one(), one(np.uint8)),
        16 * 4 * 72,
        288,
        {"channels_last": 1},
        kinds={0: np.uint8},
    ),
    Fused(
        "QLinearAdd",
        (GRID, one(), one(np.uint8), GRID, one(), one(np.uint8), one()),
        0,
        0,
        kinds={0: np.uint8, 3: np.uint8},
    ),
    Fused("QLinearSigmoid", (GRID, one(), one(np.uint8), one(), one(np.uint8)), 0, 0, kinds={0: np.uint8}),
    Fused(
        "QLinearLeakyRelu",
        (GRID, one(), one(np.uint8), one(), one(np.uint8)),
        0,
        0,
        {"alpha": 0.1},
        kinds={0: np.uint8},
    ),
    Fused(
        "QLinearConcat",
        (one(), one(np.uint8), GRID, one(), one(np.uint8), GRID, one(), one(np.uint8)),
        0,
        0,
        {"axis": 1},
        kinds={2: np.uint8, 5: np.uint8},
    ),
    Fused(
        "QLinearAveragePool",
        ((1, 6, 6, 8), one(), one(np.uint8), one(), one(np.uint8)),
        0,
        0,
        {"channels_last": 1, "kernel_shape": [2, 2], "strides": [2, 2]},
        kinds={0: np.uint8},
    ),
    Fused(
        "QLinearGlobalAveragePool",
        ((1, 6, 6, 8), one(), one(np.uint8), one(), one(np.uint8)),
        0,
        0,
        {"channels_last": 1},
        kinds={0: np.uint8},
    ),
    Fused(
        "QLinearSoftmax",
        ((B, D), one(), one(np.uint8), one(), one(np.uint8)),
        0,
        0,
        {"opset": 13},
        kinds={0: np.uint8},
    ),
    Fused(
        "DynamicQuantizeLSTM",
        (
            *((S, B, D), q(1, D, 24), q(1, 6, 24), f(1, 48), None, None, None, None),
            *(f(1), q(1), f(1), q(1)),
        ),
        S * B * 24 * (D + 6),
        24 * (D + 6) + 48,
        {"hidden_size": 6},
        outputs=3,
    ),
    Fused("NhwcConv", ((1, 6, 6, 8), f(4, 8, 3, 3)), 16 * 4 * 72, 288, output=(1, 4, 4, 4)),
    Fused("NhwcConv", ((1, 6, 6, 8), f(4, 3, 3, 8)), 16 * 4 * 72, 288, output=(1, 4, 4, 4)),
    Fused("NhwcConv", ((1, 6, 6, 8), f(4, 3, 5, 8)), 8 * 4 * 120, 480, {"kernel_shape": [3, 5]}, output=(1, 4, 2, 4)),
    Fused(
        "Conv",
        (GRID, f(4, 8, 3, 3), f(4)),
        576 * 8,
        292,
        {"activation": "Relu"},
        domain="com.microsoft.nchwc",
        output=(1, 4, 4, 4),
    ),
]


def write(fused: Fused, path: Path) -> dict[str, np.ndarray]:
    """Write a file of one fused node.

    Returns:
        Values for its inputs.
    """
    names, inputs, weights, feed = [], [], [], {}
    for i, given in enumerate(fused.inputs):
        name = "" if given is None else f"i{i}"
        names.append(name)
        if isinstance(given, tuple):
            kind = np.dtype(fused.kinds.get(i, np.float32))
            inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(kind), given))
            feed[name] = np.ones(given, kind)
        elif given is not None:
            weights.append(numpy_helper.from_array(given, name))
    outputs = [f"o{i}" for i in range(fused.outputs)]
    node = helper.make_node(fused.op, names, outputs, domain=fused.domain, **fused.attributes)
    made = [helper.make_empty_tensor_value_info(o) for o in outputs]
    graph = helper.make_graph([node], "net", inputs, made, weights)
    sets = [helper.make_opsetid("", 16), helper.make_opsetid(MICROSOFT, 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8), path)
    return feed


@pytest.mark.parametrize("fused", FUSED, ids=lambda fused: fused.op)
def test_a_fused_operator_has_the_shapes_that_its_runtime_gives_and_the_costs_of_its_parts(
    fused: Fused, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    feed = write(fused, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    if fused.output is None:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        really = [np.asarray(o).shape for o in session.run(None, feed)]
    else:
        really = [fused.output]
    graph = capture_onnx(path)
    assert not graph.unknown_ops
    assert [n.shape for n in graph.nodes if n.op == "output"] == really
    assert (graph.macs, graph.params) == (fused.macs, fused.params)
