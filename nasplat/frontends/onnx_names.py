"""ONNX operators and the names of the vocabulary they stand for: tables, and nothing that is computed."""

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
reduce        ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare
compare       Equal Less Greater LessOrEqual GreaterOrEqual And Or Not Xor IsNaN IsInf BitwiseAnd BitwiseOr BitwiseNot
unary         Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Erf Floor Ceil Round Sign Reciprocal Trilu Shrink
unary         ThresholdedRelu
unary         QuantizeLinear DequantizeLinear DynamicQuantizeLinear Softsign LpNormalization LRN
unary         MeanVarianceNormalization CumProd
binary        Mod BitShift BitwiseXor
adaptivepool  GlobalAveragePool GlobalMaxPool GlobalLpPool
batchnorm     BatchNormalization
layernorm     LayerNormalization
groupnorm     GroupNormalization
instancenorm  InstanceNormalization
rmsnorm       RMSNormalization SimplifiedLayerNormalization SkipSimplifiedLayerNormalization
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
unpool        MaxUnpool
roi           RoiAlign MaxRoiPool
gridsample    GridSample AffineGrid
fft           DFT STFT
algebra       Det
random        RandomNormal RandomUniform RandomNormalLike RandomUniformLike Bernoulli Multinomial
constant      Constant ConstantOfShape EyeLike OneHot Range HannWindow HammingWindow BlackmanWindow
identity      Dropout Identity
= relu        Relu
= gelu        Gelu FastGelu
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
TRAINED_SLOTS: dict[str, range] = {
    "BatchNormalization": range(1, 3),
    "Resize": range(0),
    "Upsample": range(0),
    "Clip": range(0),
    "Pad": range(0),
    "QLinearConv": range(3, 4),
    "QLinearMatMul": range(3, 4),
    "QuantizeLinear": range(0),
    "DequantizeLinear": range(1),
}
"""Input slots of trained weights, where others may hold floats that are none (running statistics, scales)."""
