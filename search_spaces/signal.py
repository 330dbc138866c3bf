"""One-dimensional signals: convolutions, a recurrent layer or attention over a sequence, then a linear head.

Sources: Wang et al., IJCNN 2017, arXiv:1611.06455 (convolutions for time series); Cho et al. 2014, arXiv:1406.1078
(GRU); Vaswani et al. 2017, arXiv:1706.03762. All kinds begin with one strided convolution that cuts the sequence into
pieces; width, depth and its kernel and stride are choices, as are the kind and how the sequence is summed up: 1,152
encodings.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasplat import Pick, block, space
from nasplat.blocks import PositionTable, TransformerBlock, chain

KINDS = ("plain", "residual", "gru", "attention")


@block
class Layer(nn.Module):
    """Convolution, normalisation and activation along the sequence, beside a shortcut where one is wanted."""

    def __init__(self, width: int, kernel: int, shortcut: bool) -> None:
        """Build a layer that keeps width and length."""
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, bias=False)
        self.norm, self.act, self.shortcut = nn.BatchNorm1d(width), nn.ReLU(), shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, width, length)."""
        y = self.act(self.norm(self.conv(x)))
        return x + y if self.shortcut else y


class Recurrent(nn.Module):
    """A GRU over the sequence."""

    def __init__(self, width: int, depth: int) -> None:
        """Build `depth` layers."""
        super().__init__()
        self.gru = nn.GRU(width, width, depth, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, width, length)."""
        return self.gru(x.transpose(1, 2))[0].transpose(1, 2)


class Attending(nn.Module):
    """Transformer blocks over the sequence."""

    def __init__(self, width: int, depth: int, length: int) -> None:
        """Build `depth` blocks of heads of eight numbers, behind a table of positions."""
        super().__init__()
        self.positions = PositionTable(length, width)
        self.blocks = chain([(f"block{i}", TransformerBlock(width, width // 8, 2 * width, 8)) for i in range(depth)])
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, width, length)."""
        return self.norm(self.blocks(self.positions(x.transpose(1, 2)))).transpose(1, 2)


class Signal(nn.Module):
    """Strided convolution, body, summary over the sequence, linear head."""

    def __init__(self, stem: nn.Module, body: nn.Module, summary: str, width: int, classes: int) -> None:
        """Put the parts together; summary is 'mean', 'max' or 'last'."""
        super().__init__()
        self.stem, self.body, self.summary, self.head = stem, body, summary, nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map sequences (B, channels, length) to class scores (B, classes)."""
        x = self.body(torch.relu(self.stem(x)))
        return self.head(x.mean(2) if self.summary == "mean" else x.amax(2) if self.summary == "max" else x[:, :, -1])


@space(example_input=lambda length=128, channels=1, **presets: (1, channels, length))
def signal(
    pick: Pick,
    widths: Sequence[int] = (8, 16, 32, 48),
    depths: Sequence[int] = (1, 2, 3, 4),
    kernels: Sequence[int] = (3, 5, 9),
    strides: Sequence[int] = (2, 4),
    length: int = 128,
    channels: int = 1,
    classes: int = 4,
) -> nn.Module:
    """Build a network over sequences with picked kind, width, depth, kernel, stride and summary.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        widths: Options for the channels of the body; multiples of 8, the width of an attention head.
        depths: Options for the number of layers of the body.
        kernels: Options for the odd number of taps of convolutions.
        strides: Options for the stride of the first convolution.
        length: Number of steps of an input sequence.
        channels: Channels of the input.
        classes: Number of classes that the head tells apart.

    Returns:
        A network from sequences (B, channels, length) to class scores (B, classes).
    """
    kind, summary = pick("kind", KINDS), pick("summary", ("mean", "max", "last"))
    width, depth = pick("width", tuple(widths)), pick("depth", tuple(depths))
    kernel, stride = pick("kernel", tuple(kernels)), pick("stride", tuple(strides))
    stem = nn.Conv1d(channels, width, kernel, stride, kernel // 2)
    pieces = (length + 2 * (kernel // 2) - kernel) // stride + 1
    if kind == "gru":
        body: nn.Module = Recurrent(width, depth)
    elif kind == "attention":
        body = Attending(width, depth, pieces)
    else:
        body = chain([(f"layer{i}", Layer(width, kernel, kind == "residual")) for i in range(depth)])
    return Signal(stem, body, summary, width, classes)
