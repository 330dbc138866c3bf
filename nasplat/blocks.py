"""Parts of networks that search spaces are built from: convolutions, attention, mobile blocks and classifiers.

Every part is an ordinary module whose parameters have names that do not depend on what was chosen before it, so that a
supernet can share them. Shapes are (B, C, H, W) for pictures and (B, N, D) for sequences: B examples in a batch, C
channels, H rows, W columns, N tokens, D numbers in a token. Parts marked `@block` are captured once and reused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.errors import InputError
from nasplat.frontends import block

__all__ = [
    "Attention",
    "Classifier",
    "ConvNormAct",
    "DepthwisePointwise",
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
from nasplat.task.stereo_loss import DisparityMaps as DisparityMaps


def divisible(value: float, by: int = 8) -> int:
    """Round a number of channels to a multiple that hardware likes.

    Args:
        value: Number of channels wanted, such as a width times a ratio.
        by: Number that the result is a multiple of.

    Returns:
        The nearest multiple of `by`, at least `by` itself and never more than 10 % below the value.

    Example:
        >>> divisible(30), divisible(3), divisible(11)
        (32, 8, 16)

    Source: the rounding of MobileNet's reference code, as stated in Sandler et al. 2018, arXiv:1801.04381.
    """
    rounded = max(by, int(value + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * value else rounded


@block
class ConvNormAct(nn.Sequential):
    """Convolution, batch normalisation and activation, one after another.

    Input (B, inputs, H, W); output (B, outputs, H / stride, W / stride), rounded up.

    Example:
        >>> tuple(ConvNormAct(3, 8, kernel=5, stride=2)(torch.zeros(1, 3, 16, 16)).shape)
        (1, 8, 8, 8)
    """

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
        """Construct the three parts.

        Args:
            inputs: Channels of the input.
            outputs: Channels of the output.
            kernel: Odd side of the convolution's window; padding keeps the size.
            stride: Factor by which height and width shrink.
            groups: Groups of channels that do not see each other; `inputs` of them make the convolution depthwise.
            activation: Class of the activation, or None to end with the normalisation.
            bias: Whether the convolution has a bias of its own, beside that of the normalisation.
        """
        super().__init__()
        self.add_module("conv", nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias))
        self.add_module("norm", nn.BatchNorm2d(outputs))
        if activation is not None:
            self.add_module("act", activation())


@block
class ReLUConvNorm(nn.Module):
    """ReLU, convolution and batch normalisation, in the order of cell spaces.

    Input (B, inputs, H, W); output (B, outputs, H / stride, W / stride), rounded up.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        """Construct the convolution and the normalisation.

        Args:
            inputs: Channels of the input.
            outputs: Channels of the output.
            kernel: Odd side of the convolution's window; padding keeps the size.
            stride: Factor by which height and width shrink.
        """
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch.

        Args:
            x: Batch of shape (B, inputs, H, W).

        Returns:
            Batch of shape (B, outputs, H / stride, W / stride), rounded up.
        """
        return self.norm(self.conv(F.relu(x)))


@block
class FactorisedReduction(nn.Module):
    """ReLU, then two 1x1 convolutions with stride 2, the second shifted by one pixel, that give half the channels each.

    Input (B, inputs, H, W) with even H and W; output (B, outputs, H / 2, W / 2).

    Source: DARTS, Liu et al. 2019, arXiv:1806.09055.
    """

    def __init__(self, inputs: int, outputs: int, affine: bool = True) -> None:
        """Construct the two convolutions and the normalisation.

        Args:
            inputs: Channels of the input.
            outputs: Channels of the output, both convolutions together.
            affine: Whether the normalisation scales and shifts its channels by learned numbers.
        """
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch.

        Args:
            x: Batch of shape (B, inputs, H, W).

        Returns:
            Batch of shape (B, outputs, H / 2, W / 2), rounded up.
        """
        x = F.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:])], 1))


@block
class DepthwisePointwise(nn.Module):
    """ReLU, depthwise convolution, 1x1 convolution and batch normalisation.

    Input (B, inputs, H, W); output (B, outputs, H / stride, W / stride), rounded up.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, affine: bool = True
    ) -> None:
        """Construct the convolutions and the normalisation.

        Args:
            inputs: Channels of the input.
            outputs: Channels of the output.
            kernel: Odd number of taps along each side of the depthwise window.
            stride: Factor by which height and width shrink.
            dilation: Distance of the window's taps, in pixels; padding keeps the size.
            affine: Whether the normalisation scales and shifts its channels by learned numbers.
        """
        super().__init__()
        padding = dilation * (kernel // 2)
        self.depthwise = nn.Conv2d(inputs, inputs, kernel, stride, padding, dilation, inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch.

        Args:
            x: Batch of shape (B, inputs, H, W).

        Returns:
            Batch of shape (B, outputs, H / stride, W / stride), rounded up.
        """
        return self.norm(self.pointwise(self.depthwise(F.relu(x))))


@block
class Separable(nn.Sequential):
    """A 1 x k and a k x 1 convolution, each followed by batch normalisation and activation.

    Input (B, inputs, H, W); output (B, outputs, H / stride, W / stride), rounded up.
    """

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
        """Construct the six parts.

        Args:
            inputs: Channels of the input.
            outputs: Channels of the output.
            kernel: Odd length of the windows; padding keeps the size.
            stride: Factor by which height and width shrink.
            activation: Class of the activations.
            bias: Whether the convolutions have biases of their own, beside those of the normalisations.
            split: Whether each convolution shrinks its own axis; otherwise the first one shrinks both.
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
    """Squeeze-and-excitation: channels are weighted by what a small network makes of their means.

    Input and output (B, C, H, W).

    Source: Hu et al. 2018, arXiv:1709.01507.
    """

    def __init__(self, channels: int, ratio: float = 0.25, width: int | None = None) -> None:
        """Construct the two layers of the small network.

        Args:
            channels: Channels of input and output.
            ratio: Hidden width over channels; the width is rounded to a multiple of 8.
            width: Hidden width itself; None to follow the ratio.
        """
        super().__init__()
        hidden = divisible(channels * ratio) if width is None else width
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch.

        Args:
            x: Batch of shape (B, C, H, W).

        Returns:
            Batch of shape (B, C, H, W).
        """
        scale = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(scale))))


class PositionTable(nn.Module):
    """Learned position vectors that are added to a sequence of tokens.

    Input and output (B, tokens, dim).
    """

    slicing: ClassVar[dict[str, tuple[str, ...]]] = {"table": ("fixed", "tokens", "leading")}
    """How a supernet cuts each axis of the table for a smaller subnet."""

    def __init__(self, tokens: int, dim: int) -> None:
        """Draw initial vectors from a truncated normal distribution.

        Args:
            tokens: Length of the sequence.
            dim: Numbers in a token.
        """
        super().__init__()
        self.table = nn.Parameter(torch.empty(1, tokens, dim))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch.

        Args:
            x: Batch of shape (B, tokens, dim).

        Returns:
            Batch of shape (B, tokens, dim).
        """
        return x + self.table


@block
class Attention(nn.Module):
    """Multi-head self-attention with a constant width of the heads.

    Input and output (B, tokens, dim). Queries, keys and values have separate projections, so that a leading slice of
    their weights keeps whole heads.

    Source: Vaswani et al. 2017, arXiv:1706.03762.
    """

    def __init__(self, dim: int, heads: int, head_dim: int = 64) -> None:
        """Construct the four projections.

        Args:
            dim: Numbers in a token.
            heads: Attention heads, at least one.
            head_dim: Numbers in a query, key or value of one head.
        """
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, heads * head_dim)
        self.k = nn.Linear(dim, heads * head_dim)
        self.v = nn.Linear(dim, heads * head_dim)
        self.proj = nn.Linear(heads * head_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch.

        Args:
            x: Batch of shape (B, tokens, dim).

        Returns:
            Batch of shape (B, tokens, dim).
        """
        q, k, v = (p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q, self.k, self.v))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


@block
class TransformerBlock(nn.Module):
    """Self-attention and a two-layer network, each after a layer normalisation and with a residual connection.

    Input and output (B, tokens, dim).

    Example:
        >>> tuple(TransformerBlock(dim=32, heads=2, hidden=64, head_dim=16)(torch.zeros(1, 5, 32)).shape)
        (1, 5, 32)
    """

    def __init__(self, dim: int, heads: int, hidden: int, head_dim: int = 64) -> None:
        """Construct normalisations, attention and the two layers.

        Args:
            dim: Numbers in a token.
            heads: Attention heads, at least one.
            hidden: Width of the two-layer network.
            head_dim: Numbers in a query, key or value of one head.
        """
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, head_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch.

        Args:
            x: Batch of shape (B, tokens, dim).

        Returns:
            Batch of shape (B, tokens, dim).
        """
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


@block
class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, optional squeeze-excite and 1x1 projection; a shortcut where shapes agree.

    Input (B, inputs, H, W); output (B, outputs, H / stride, W / stride), rounded up.

    Example:
        >>> part = InvertedResidual(16, 16, hidden=64, kernel=5, stride=1, squeeze=True)
        >>> part.has_shortcut, tuple(part(torch.zeros(2, 16, 8, 8)).shape)
        (True, (2, 16, 8, 8))

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
        """Construct the parts.

        Args:
            inputs: Channels of the input.
            outputs: Channels of the output.
            hidden: Channels of the depthwise convolution.
            kernel: Odd side of the depthwise window.
            stride: Factor by which height and width shrink.
            squeeze: Whether squeeze-excite follows the depthwise convolution; a number states its hidden width.
            act: Class of the activations after the expansion and after the depthwise convolution.
            always_expand: Whether there is an expansion even where `hidden` equals `inputs`.
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
        """Map a batch.

        Args:
            x: Batch of shape (B, inputs, H, W).

        Returns:
            Batch of shape (B, outputs, H / stride, W / stride), rounded up.
        """
        y = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + y if self.has_shortcut else y


@block
class PixelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel.

    Input and output (B, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        """Construct the normalisation.

        Args:
            channels: Channels of input and output.
        """
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch.

        Args:
            x: Batch of shape (B, C, H, W).

        Returns:
            Batch of shape (B, C, H, W).
        """
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@block
class WindowAttention(nn.Module):
    """Self-attention within windows that collect every n-th row and column; the values are the input itself.

    Input and output (B, C, H, W).

    Source: EMO, Zhang et al. 2023, arXiv:2301.01146.
    """

    def __init__(self, channels: int, heads: int, window: int) -> None:
        """Construct the projections of queries and keys.

        Args:
            channels: Channels of input and output.
            heads: Attention heads; they must divide the channels.
            window: Largest side of a window, in pixels; heights and widths that it does not divide are padded.
        """
        super().__init__()
        self.heads, self.window = heads, window
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch.

        Args:
            x: Batch of shape (B, C, H, W).

        Returns:
            Batch of shape (B, C, H, W).
        """
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
        """Sort pixels into windows: shape (B, rows of windows, columns of windows, heads, pixels, channels)."""
        x = x.unflatten(3, (sides[1], counts[1])).unflatten(2, (sides[0], counts[0])).unflatten(1, (self.heads, -1))
        return x.permute(0, 4, 6, 1, 3, 5, 2).flatten(4, 5)


@dataclass(frozen=True)
class MobileSettings:
    """What a `MetaMobile` block has besides its convolutions."""

    heads: int = 0
    """Attention heads; 0 leaves the attention out."""
    window: int = 7
    """Largest side of the attention's windows, in pixels."""
    squeeze: float = 0.0
    """Hidden width of squeeze-excite over channels; 0 leaves it out."""
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d
    """Class of the input's normalisation, called with the number of channels; `nn.Identity` leaves it out."""
    act: Callable[[], nn.Module] = nn.SiLU
    """Class of the activation after the expansion."""
    shortcut: bool = True
    """Whether input is added to output where both have the same shape."""

    @classmethod
    def of(cls, settings: dict[str, Any]) -> MobileSettings:
        """Check the names of settings.

        Args:
            settings: Values by field name.

        Returns:
            The settings, with defaults for those that are not stated.

        Raises:
            InputError: a name is not that of a field; the message lists those that are.
        """
        known = [f.name for f in fields(cls)]
        for name in settings:
            if name not in known:
                raise InputError(f"MetaMobile has settings {', '.join(known)}, got {name!r}.\n  Use one of these.")
        return cls(**settings)


@block
class MetaMobile(nn.Module):
    """EMO's block: normalisation, optional attention, expansion, depthwise convolution, projection and shortcut.

    Input (B, inputs, H, W); output (B, outputs, H / stride, W / stride), rounded up.

    Example:
        >>> tuple(MetaMobile(16, 16, 32, kernel=3, stride=1, heads=2, window=4)(torch.zeros(1, 16, 8, 8)).shape)
        (1, 16, 8, 8)

    Source: EMO, Zhang et al. 2023, arXiv:2301.01146.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int, kernel: int, stride: int, **settings: Any) -> None:
        """Construct the parts.

        Args:
            inputs: Channels of the input.
            outputs: Channels of the output.
            hidden: Channels of the depthwise convolution.
            kernel: Odd side of the depthwise window.
            stride: Factor by which height and width shrink.
            **settings: Fields of `MobileSettings`: heads, window, squeeze, norm, act and shortcut.

        Raises:
            InputError: a setting has another name.
        """
        super().__init__()
        s = MobileSettings.of(settings)
        self.norm = s.norm(inputs) if s.norm is not nn.Identity else nn.Identity()
        if s.heads:
            self.attention = WindowAttention(inputs, s.heads, s.window)
        self.attends = s.heads > 0
        self.expand = nn.Conv2d(inputs, hidden, 1)
        self.act = s.act()
        self.local = ConvNormAct(hidden, hidden, kernel, stride, hidden, nn.SiLU)
        self.squeeze = SqueezeExcite(hidden, s.squeeze) if s.squeeze else nn.Identity()
        self.project = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.has_shortcut = s.shortcut and stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch.

        Args:
            x: Batch of shape (B, inputs, H, W).

        Returns:
            Batch of shape (B, outputs, H / stride, W / stride), rounded up.
        """
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
    """Normalisation, expansion, a sum of depthwise convolutions of several sizes, a gate, projection and shortcut.

    Input and output (B, C, H, W).

    Source: after the idea of ConvFormer's MCA, Wei et al. 2022, arXiv:2209.07738; its details are unpublished.
    """

    def __init__(self, channels: int, hidden: int, kernels: tuple[int, ...], gate: str) -> None:
        """Construct the parts.

        Args:
            channels: Channels of input and output.
            hidden: Channels of the depthwise convolutions.
            kernels: Odd sides of the depthwise windows, one convolution each.
            gate: What multiplies the sum: 'none' for nothing, 'channel' for one weight a channel, computed from means
                over pixels, or 'spatial' for one weight a pixel.
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
        """Map a batch.

        Args:
            x: Batch of shape (B, C, H, W).

        Returns:
            Batch of shape (B, C, H, W).
        """
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
    """Mean over all pixels, optional dropout, then a linear layer that gives the logits of classes.

    Input (B, C, H, W); output (B, classes).

    Example:
        >>> tuple(Classifier(channels=8, classes=10)(torch.zeros(2, 8, 4, 4)).shape)
        (2, 10)
    """

    def __init__(self, channels: int, classes: int, dropout: float | None = None) -> None:
        """Construct dropout and layer.

        Args:
            channels: Channels of the feature map.
            classes: Number of classes.
            dropout: Share of the means that training sets to zero; None leaves the dropout layer out.
        """
        super().__init__()
        self.dropout = nn.Sequential() if dropout is None else nn.Dropout(dropout)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch.

        Args:
            x: Batch of shape (B, C, H, W).

        Returns:
            Batch of shape (B, classes).
        """
        return self.fc(self.dropout(x.mean((2, 3))))


def chain(parts: Iterable[tuple[str, nn.Module]]) -> nn.Sequential:
    """Make a sequence of modules whose parts have names.

    Names should say where a part stands and not count what was chosen before it, so that parameters keep their names
    in networks of other depths, as sharing them in a supernet requires.

    Args:
        parts: Name and module of each part, in order.

    Returns:
        The sequence.

    Example:
        >>> list(dict(chain([("stem", ConvNormAct(3, 8)), ("head", Classifier(8, 2))]).named_children()))
        ['stem', 'head']
    """
    sequence = nn.Sequential()
    for name, part in parts:
        sequence.add_module(name, part)
    return sequence
