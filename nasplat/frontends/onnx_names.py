"""Operators of ONNX's own domain and the names of the vocabulary they stand for: tables, nothing that is computed."""

from __future__ import annotations

_TABLE = """
leakyrelu     LeakyRelu PRelu
elu           Elu Selu Celu
silu          Swish
softmax       Softmax LogSoftmax Hardmax
max           Max Min ReduceMax ReduceMin
argmax        ArgMax ArgMin
mean          ReduceMean Mean
sum           ReduceSum
add           Add Sum
reduce        NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss
reduce        ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare
compare       Equal Less Greater LessOrEqual GreaterOrEqual And Or Not Xor IsNaN IsInf BitwiseAnd BitwiseOr BitwiseNot
unary         Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Erf Floor Ceil Round Sign Reciprocal Trilu Shrink
unary         ThresholdedRelu
unary         QuantizeLinear DequantizeLinear DynamicQuantizeLinear Softsign LpNormalization LRN
unary         MeanVarianceNormalization CumProd RotaryEmbedding
binary        Mod BitShift BitwiseXor
adaptivepool  GlobalAveragePool GlobalMaxPool GlobalLpPool
batchnorm     BatchNormalization
layernorm     LayerNormalization
groupnorm     GroupNormalization
instancenorm  InstanceNormalization
rmsnorm       RMSNormalization
view          Reshape Flatten Squeeze Unsqueeze
permute       Transpose
slice         Slice Split
expand        Expand Tile
gather        GatherElements GatherND ReverseSequence
pixelshuffle  DepthToSpace SpaceToDepth
scatter       Scatter ScatterND ScatterElements TensorScatter
sort          TopK
select        NonZero Compress Unique NonMaxSuppression
patches       Col2Im
pad           CenterCropPad
unpool        MaxUnpool
roi           RoiAlign MaxRoiPool
gridsample    GridSample AffineGrid
fft           DFT STFT
algebra       Det
random        RandomNormal RandomUniform RandomNormalLike RandomUniformLike Bernoulli Multinomial
constant      Constant ConstantOfShape EyeLike OneHot Range HannWindow HammingWindow BlackmanWindow
identity      Dropout Identity
cast          BitCast
glu           SwiGLU
= relu        Relu
= gelu        Gelu
= sigmoid     Sigmoid
= tanh        Tanh
= softplus    Softplus
= mish        Mish
= hardswish   HardSwish
= hardsigmoid HardSigmoid
= sub         Sub
= mul         Mul
= div         Div
= pow         Pow
= neg         Neg
= exp         Exp
= log         Log
= sqrt        Sqrt
= abs         Abs
= where       Where
= cumsum      CumSum
= concat      Concat
"""
"""Vocabulary name, then the ONNX operators it stands for."""
NAMES = {
    kind: op
    for op, *kinds in (line.replace("= ", "").split() for line in _TABLE.strip().splitlines())
    for kind in kinds
}
"""Vocabulary name of every ONNX operator that has one."""
TRAINED_SLOTS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),
    **dict.fromkeys(("Resize", "Upsample", "Clip", "Pad", "QuantizeLinear", "TopK", "Tile", "Expand"), ()),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (3,),
    "DequantizeLinear": (0,),
    "RotaryEmbedding": (0,),
    **dict.fromkeys(("MatMulInteger", "ConvInteger"), (0, 1)),
}
"""Input slots of trained weights, where others may hold floats that are none (running statistics, scales)."""
WEIGHT_SLOTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "LayerNormalization", "InstanceNormalization"), (1, 2)),
    **dict.fromkeys(("GroupNormalization", "BatchNormalization"), (1, 2)),
    **dict.fromkeys(("PRelu", "RMSNormalization"), (1,)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2, 3, 7)),
    "DeformConv": (1, 3),
    "CausalConvWithState": (1, 2),
    "MatMul": (0, 1),
    "Einsum": (0, 1),
    "Gather": (0,),
}
"""Input slots in which constants are weights, even single numbers and those that the file fills in by an operator."""
CARRIERS = frozenset(
    "Transpose Reshape Identity Cast CastLike Squeeze Unsqueeze Flatten QuantizeLinear DequantizeLinear Mul Add Sub "
    "Div Neg Concat Slice Split Pad Where".split()
)
"""What these operators compute from constants alone is computed once: weights that pass through are still weights."""
FILLERS = frozenset("ConstantOfShape RandomNormal RandomUniform RandomNormalLike RandomUniformLike EyeLike".split())
"""Operators that fill in weights which a file leaves out."""
COMPUTED = frozenset(
    "Constant ConstantOfShape EyeLike OneHot Range Identity Cast CastLike Reshape Flatten Squeeze Unsqueeze Transpose "
    "Expand Tile Concat Split Slice Gather GatherND ScatterND ScatterElements Pad Trilu Compress NonZero Unique TopK "
    "Add Sub Mul Div Mod Pow Neg Abs Sign Min Max Sum Mean Clip Floor Ceil Round Sqrt Reciprocal Exp Log Sin Cos Erf "
    "Tanh Sigmoid Relu Softmax CumSum ReduceSum ReduceProd ReduceMax ReduceMin ReduceMean ArgMax ArgMin Equal Less "
    "Greater LessOrEqual GreaterOrEqual And Or Xor Not Where IsNaN IsInf BitShift BitwiseAnd BitwiseOr MatMul Gemm "
    "QuantizeLinear DequantizeLinear".split()
)
"""Operators that are computed on small constants: those whose work is bounded by the sizes of what they read and make.

Others take time that depends on values (indices out of range, patterns of text) or run in Python's loops.
"""
