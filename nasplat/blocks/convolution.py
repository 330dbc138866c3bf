"""Convolutions with their normalisation and activation, channel weights, a classifier, and chains of named parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.frontends import block


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
