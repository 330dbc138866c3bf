"""Parts that several search spaces share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.capturing import block


def divisible(value: float, by: int = 8) -> int:
    """Nearest multiple of `by`, at least `by`, never more than 10 % below the value.

    Source: the rounding of MobileNet's reference code, as stated in Sandler et al. 2018, arXiv:1801.04381.
    """
    rounded = max(by, int(value + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * value else rounded


@block
class ConvNormAct(nn.Sequential):
    """Convolution, batch normalisation, activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        activation: Callable[[], nn.Module] | None = nn.ReLU,
    ) -> None:
        """Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Odd side of the window; padding keeps the size.
        stride: Down-sampling factor.
        groups: Channel groups.
        activation: Module class, or None.
        """
        super().__init__()
        self.add_module("conv", nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False))
        self.add_module("norm", nn.BatchNorm2d(outputs))
        if activation is not None:
            self.add_module("act", activation())


@block
class SqueezeExcite(nn.Module):
    """Channels weighted by a two-layer network of their means. Source: Hu et al. 2018, arXiv:1709.01507."""

    def __init__(self, channels: int, ratio: float = 0.25) -> None:
        """Args:
        channels: Channels in and out.
        ratio: Hidden width over channels, rounded to a multiple of 8.
        """
        super().__init__()
        hidden = divisible(channels * ratio)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W) in and out."""
        scale = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(scale))))


class PositionTable(nn.Module):
    """Learned vectors added to a sequence of tokens."""

    slicing: ClassVar[dict[str, tuple[str, ...]]] = {"table": ("fixed", "tokens", "leading")}

    def __init__(self, tokens: int, dim: int) -> None:
        """Args:
        tokens: Length of the sequence.
        dim: Width of a token.
        """
        super().__init__()
        self.table = nn.Parameter(torch.empty(1, tokens, dim))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, tokens, dim) in and out."""
        return x + self.table


@block
class Attention(nn.Module):
    """Multi-head self-attention with separate projections and a constant head width.

    Separate q, k, v let a leading slice keep whole heads. Source: Vaswani et al. 2017, arXiv:1706.03762.
    """

    def __init__(self, dim: int, heads: int, head_dim: int = 64) -> None:
        """Args:
        dim: Width of a token.
        heads: Number of heads.
        head_dim: Width of a head.
        """
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, heads * head_dim)
        self.k = nn.Linear(dim, heads * head_dim)
        self.v = nn.Linear(dim, heads * head_dim)
        self.proj = nn.Linear(heads * head_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, tokens, dim) in and out."""
        q, k, v = (p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q, self.k, self.v))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


@block
class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP with residuals."""

    def __init__(self, dim: int, heads: int, hidden: int, head_dim: int = 64) -> None:
        """Args:
        dim: Width of a token.
        heads: Attention heads.
        hidden: Width of the MLP.
        head_dim: Width of a head.
        """
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, head_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, tokens, dim) in and out."""
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Classifier(nn.Module):
    """Global mean, then a linear layer."""

    def __init__(self, channels: int, classes: int) -> None:
        """Args:
        channels: Channels of the feature map.
        classes: Number of classes.
        """
        super().__init__()
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W) to (B, classes)."""
        return self.fc(x.mean((2, 3)))


def chain(parts: Iterable[tuple[str, nn.Module]]) -> nn.Sequential:
    """A sequence whose parts have names (positions, never counters), so that parameters keep their names."""
    sequence = nn.Sequential()
    for name, part in parts:
        sequence.add_module(name, part)
    return sequence
