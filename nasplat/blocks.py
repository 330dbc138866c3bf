"""Parts that several search spaces share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.frontends import block
from nasplat.task.stereo_loss import DisparityMaps as DisparityMaps


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
        bias: bool = False,
    ) -> None:
        """Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Odd side of the window; padding keeps the size.
        stride: Down-sampling factor.
        groups: Channel groups.
        activation: Module class, or None.
        bias: Of the convolution, beside the normalisation's.
        """
        super().__init__()
        self.add_module("conv", nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias))
        self.add_module("norm", nn.BatchNorm2d(outputs))
        if activation is not None:
            self.add_module("act", activation())


@block
class ReLUConvNorm(nn.Module):
    """ReLU, convolution, batch normalisation: the order of cell spaces."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        """Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Odd side of the window; padding keeps the size.
        stride: Down-sampling factor.
        """
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return self.norm(self.conv(F.relu(x)))


@block
class FactorisedReduction(nn.Module):
    """Two 1x1 convolutions with stride 2, the second shifted by one pixel; half of the channels each.

    Source: DARTS, Liu et al. 2019, arXiv:1806.09055.
    """

    def __init__(self, inputs: int, outputs: int, affine: bool = True) -> None:
        """Args:
        inputs: Channels in.
        outputs: Channels out.
        affine: Of the normalisation.
        """
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, inputs, H, W) to (B, outputs, H / 2, W / 2)."""
        x = F.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:])], 1))


@block
class DepthwisePointwise(nn.Module):
    """ReLU, depthwise and pointwise convolution, batch normalisation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, affine: bool = True
    ) -> None:
        """Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Odd side of the window; padding keeps the size.
        stride: Down-sampling factor.
        dilation: Distance of the window's taps.
        affine: Of the normalisation.
        """
        super().__init__()
        padding = dilation * (kernel // 2)
        self.depthwise = nn.Conv2d(inputs, inputs, kernel, stride, padding, dilation, inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return self.norm(self.pointwise(self.depthwise(F.relu(x))))


@block
class Separable(nn.Sequential):
    """1 x k, then k x 1 convolution, each with batch normalisation and activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        activation: Callable[[], nn.Module] = nn.ReLU6,
        bias: bool = False,
        split: bool = False,
    ) -> None:
        """Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Odd length of the window; padding keeps the size.
        stride: Down-sampling factor of both axes.
        activation: Module class.
        bias: Of the convolutions, beside the normalisation's.
        split: Each convolution down-samples along its own axis, instead of the first along both.
        """
        super().__init__()
        strides = ((1, stride), (stride, 1)) if split else ((stride, stride), (1, 1))
        half = kernel // 2
        self.add_module("across", nn.Conv2d(inputs, outputs, (1, kernel), strides[0], (0, half), bias=bias))
        self.add_module("across_norm", nn.BatchNorm2d(outputs))
        self.add_module("across_act", activation())
        self.add_module("down", nn.Conv2d(outputs, outputs, (kernel, 1), strides[1], (half, 0), bias=bias))
        self.add_module("down_norm", nn.BatchNorm2d(outputs))
        self.add_module("down_act", activation())


@block
class SqueezeExcite(nn.Module):
    """Channels weighted by a two-layer network of their means. Source: Hu et al. 2018, arXiv:1709.01507."""

    def __init__(self, channels: int, ratio: float = 0.25, width: int | None = None) -> None:
        """Args:
        channels: Channels in and out.
        ratio: Hidden width over channels, rounded to a multiple of 8.
        width: The hidden width itself, instead of a ratio.
        """
        super().__init__()
        hidden = divisible(channels * ratio) if width is None else width
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


@block
class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, optional squeeze-excite, 1x1 projection, shortcut where shapes agree.

    Source: MobileNetV2, Sandler et al. 2018, arXiv:1801.04381.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: int,
        kernel: int,
        stride: int,
        squeeze: bool | int = False,
        act: Callable[[], nn.Module] = nn.ReLU6,
        always_expand: bool = False,
    ) -> None:
        """Args:
        inputs: Channels in.
        outputs: Channels out.
        hidden: Channels of the depthwise convolution.
        kernel: Its side.
        stride: Its stride.
        squeeze: Squeeze-excite after it; a number is its hidden width.
        act: After the expansion and after the depthwise convolution.
        always_expand: Expand even where hidden equals inputs.
        """
        super().__init__()
        expands = hidden != inputs or always_expand
        self.expand = ConvNormAct(inputs, hidden, 1, activation=act) if expands else nn.Identity()
        self.depthwise = ConvNormAct(hidden, hidden, kernel, stride, hidden, act)
        width = None if squeeze is True else squeeze
        self.squeeze = SqueezeExcite(hidden, width=width) if squeeze else nn.Identity()
        self.project = ConvNormAct(hidden, outputs, 1, activation=None)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + y if self.has_shortcut else y


@block
class PixelNorm(nn.Module):
    """Layer normalisation over the channels of each place."""

    def __init__(self, channels: int) -> None:
        """Args:
        channels: Channels in and out.
        """
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W) in and out."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@block
class WindowAttention(nn.Module):
    """Attention inside windows that collect every n-th row and column; the values are the input itself.

    Source: EMO, Zhang et al. 2023, arXiv:2301.01146.
    """

    def __init__(self, channels: int, heads: int, window: int) -> None:
        """Args:
        channels: Channels in and out.
        heads: Attention heads.
        window: Largest side of a window; sizes that it does not divide are padded.
        """
        super().__init__()
        self.heads, self.window = heads, window
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W) in and out."""
        height, width = x.shape[2:]
        sides = (min(self.window, height), min(self.window, width))
        counts = (-(-height // sides[0]), -(-width // sides[1]))
        padding = (0, counts[1] * sides[1] - width, 0, counts[0] * sides[0] - height)
        if any(padding):
            x = F.pad(x, padding)
        q, k, v = (self._windows(t, sides, counts) for t in (self.q(x), self.k(x), x))
        # windows join the batch: exporters know attention of four axes only
        y = F.scaled_dot_product_attention(q.flatten(0, 2), k.flatten(0, 2), v.flatten(0, 2)).unflatten(
            0, (-1, *counts)
        )
        # B, rows of windows, columns of windows, heads, places of a window, channels of a head
        y = y.unflatten(4, sides).permute(0, 3, 6, 4, 1, 5, 2).flatten(1, 2).flatten(4, 5).flatten(2, 3)
        return y[:, :, :height, :width] if any(padding) else y

    def _windows(self, x: Tensor, sides: tuple[int, int], counts: tuple[int, int]) -> Tensor:
        x = x.unflatten(3, (sides[1], counts[1])).unflatten(2, (sides[0], counts[0])).unflatten(1, (self.heads, -1))
        return x.permute(0, 4, 6, 1, 3, 5, 2).flatten(4, 5)


@block
class MetaMobile(nn.Module):
    """Inverted residual mobile block: norm, optional attention, expansion, depthwise convolution, projection, shortcut.

    Source: EMO, Zhang et al. 2023, arXiv:2301.01146.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: int,
        kernel: int,
        stride: int,
        heads: int = 0,
        window: int = 7,
        squeeze: float = 0.0,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        act: Callable[[], nn.Module] = nn.SiLU,
        shortcut: bool = True,
    ) -> None:
        """Args:
        inputs: Channels in.
        outputs: Channels out.
        hidden: Channels of the depthwise convolution.
        kernel: Side of the depthwise convolution.
        stride: Its stride.
        heads: Attention heads; 0: no attention.
        window: Side of the attention's windows.
        squeeze: Ratio of squeeze-excite; 0: none.
        norm: Of the input, by number of channels.
        act: After the expansion.
        shortcut: Use it where size and width stay.
        """
        super().__init__()
        self.norm = norm(inputs) if norm is not nn.Identity else nn.Identity()
        if heads:
            self.attention = WindowAttention(inputs, heads, window)
        self.attends = heads > 0
        self.expand = nn.Conv2d(inputs, hidden, 1)
        self.act = act()
        self.local = ConvNormAct(hidden, hidden, kernel, stride, hidden, nn.SiLU)
        self.squeeze = SqueezeExcite(hidden, squeeze) if squeeze else nn.Identity()
        self.project = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.has_shortcut = shortcut and stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y = self.norm(x)
        if self.attends:
            y = self.attention(y)
        y = self.act(self.expand(y))
        local = self.squeeze(self.local(y))
        if not self.has_shortcut:
            return self.project(local)
        return x + self.project(y + local)


@block
class MultiKernel(nn.Module):
    """Norm, expansion, depthwise convolutions of several sizes summed, a gate, projection, shortcut.

    Source: after the idea of ConvFormer's MCA, Wei et al. 2022, arXiv:2209.07738; its details are unpublished.
    """

    def __init__(self, channels: int, hidden: int, kernels: tuple[int, ...], gate: str) -> None:
        """Args:
        channels: Channels in and out.
        hidden: Channels of the depthwise convolutions.
        kernels: Their sides.
        gate: none, channel (from means over places) or spatial (one weight a place).
        """
        super().__init__()
        self.norm = PixelNorm(channels)
        self.expand = nn.Conv2d(channels, hidden, 1)
        for kernel in kernels:
            self.add_module(f"mix{kernel}", nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden))
        self.kernels, self.kind = kernels, gate
        if gate != "none":
            self.gate = nn.Conv2d(channels, hidden if gate == "channel" else 1, 1)
        self.project = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W) in and out."""
        y = self.norm(x)
        z = F.gelu(self.expand(y))
        total = getattr(self, f"mix{self.kernels[0]}")(z)
        for kernel in self.kernels[1:]:
            total = total + getattr(self, f"mix{kernel}")(z)
        if self.kind == "channel":
            total = total * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        elif self.kind == "spatial":
            total = total * torch.sigmoid(self.gate(y))
        return x + self.project(total)


class Classifier(nn.Module):
    """Global mean, then a linear layer."""

    def __init__(self, channels: int, classes: int, dropout: float | None = None) -> None:
        """Args:
        channels: Channels of the feature map.
        classes: Number of classes.
        dropout: Share of the means that training drops; None: there is no such layer.
        """
        super().__init__()
        self.dropout = nn.Sequential() if dropout is None else nn.Dropout(dropout)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W) to (B, classes)."""
        return self.fc(self.dropout(x.mean((2, 3))))


def chain(parts: Iterable[tuple[str, nn.Module]]) -> nn.Sequential:
    """A sequence whose parts have names (positions, never counters), so that parameters keep their names."""
    sequence = nn.Sequential()
    for name, part in parts:
        sequence.add_module(name, part)
    return sequence
