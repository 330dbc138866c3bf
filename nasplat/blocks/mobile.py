"""Blocks that expand the channels, mix pixels by depthwise convolutions or attention, and project back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.blocks.attention import WindowAttention
from nasplat.blocks.convolution import ConvNormAct, PixelNorm, SqueezeExcite
from nasplat.frontends import block
from nasplat.task.settings import overridden


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
        s = overridden(MobileSettings(), settings)
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
