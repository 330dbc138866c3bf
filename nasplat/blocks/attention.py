"""Attention over sequences of tokens, and within windows of a picture."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.frontends import block


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
