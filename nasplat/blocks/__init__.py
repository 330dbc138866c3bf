"""Parts of networks that search spaces are built from: convolutions, attention, mobile blocks and classifiers.

Every part is an ordinary module whose parameters have names that do not depend on what was chosen before it, so that a
supernet can share them. Shapes are (B, C, H, W) for pictures and (B, N, D) for sequences: B examples in a batch, C
channels, H rows, W columns, N tokens, D numbers in a token. Parts marked `@block` are captured once and reused.

convolution.py  convolutions, channel weights, classifier, chains of named parts
attention.py    attention over tokens and within windows
mobile.py       expand, mix, project: MobileNet's, EMO's and a multi-kernel block
"""

from nasplat.blocks.attention import Attention, PositionTable, TransformerBlock, WindowAttention
from nasplat.blocks.convolution import (
    Classifier,
    ConvNormAct,
    DepthwisePointwise,
    FactorisedReduction,
    PixelNorm,
    ReLUConvNorm,
    Separable,
    SqueezeExcite,
    chain,
    divisible,
)
from nasplat.blocks.mobile import InvertedResidual, MetaMobile, MobileSettings, MultiKernel
from nasplat.task.stereo_loss import DisparityMaps

__all__ = [
    "Attention",
    "Classifier",
    "ConvNormAct",
    "DepthwisePointwise",
    "DisparityMaps",
    "FactorisedReduction",
    "InvertedResidual",
    "MetaMobile",
    "MobileSettings",
    "MultiKernel",
    "PixelNorm",
    "PositionTable",
    "ReLUConvNorm",
    "Separable",
    "SqueezeExcite",
    "TransformerBlock",
    "WindowAttention",
    "chain",
    "divisible",
]
