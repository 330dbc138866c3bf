"""Adapters beside a frozen encoder, one per task, each with its own head.

An adapter's layer i reads the encoder's states after layer i and its own states before; a head reads both graph
vectors.
Source: AIO-P, Mills et al., AAAI 2023, arXiv:2211.17228.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasplat.learners.encoder import Batch, add_messages

# B graphs, N nodes of all of them, H hidden, W width of an adapter


class Adapter(nn.Module):
    """A path beside the encoder: states of the encoder's layers to one vector per graph."""

    def __init__(self, hidden: int, layers: int, width: int) -> None:
        """Make an adapter with random weights.

        Args:
            hidden: Width H of the encoder's states.
            layers: Number of the encoder's layers.
            width: Width W of the adapter's states.
        """
        super().__init__()
        inputs = [2 * hidden, *([hidden + width] * (layers - 1))]
        self.own = nn.ModuleList(nn.Linear(n, width) for n in inputs)
        self.messages = nn.ModuleList(nn.Linear(n, 2 * width, bias=False) for n in inputs)

    def forward(self, states: Sequence[Tensor], batch: Batch) -> Tensor:
        """Run graph convolutions along and against the edges, each followed by tanh, and average over nodes.

        Args:
            states: The encoder's states before its first layer and after each, every one of shape (N, H).
            batch: Graphs that the states belong to.

        Returns:
            Vectors of shape (B, W).
        """
        x = states[0]
        for own, messages, state in zip(self.own, self.messages, states[1:], strict=True):
            both = torch.cat([state, x], 1)
            along, against = messages(both).chunk(2, 1)
            x = torch.tanh(add_messages(own(both), along, against, batch.edges))
        sums = x.new_zeros(batch.size, x.shape[1]).index_add(0, batch.graph, x)
        return sums / torch.bincount(batch.graph, minlength=batch.size).clamp_min(1)[:, None]


class Path(nn.Module):
    """Adapter and head of one task; without adapter, the head reads the encoder's vector alone."""

    def __init__(self, hidden: int, layers: int, embedding: int, width: int) -> None:
        """Make adapter and head with random weights.

        Args:
            hidden: Width H of the encoder's states.
            layers: Number of the encoder's layers.
            embedding: Width of the encoder's graph vector.
            width: Width W of the adapter's states; 0 for no adapter.
        """
        super().__init__()
        self.adapter = Adapter(hidden, layers, width) if width else None
        self.head = nn.Sequential(
            nn.Linear(embedding + width, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)
        )

    def forward(self, states: Sequence[Tensor], vector: Tensor, batch: Batch) -> Tensor:
        """Answer for graphs.

        Args:
            states: The encoder's states, see `Adapter.forward`.
            vector: The encoder's standardised graph vectors, shape (B, embedding).
            batch: Graphs that the states belong to.

        Returns:
            Standardised labels of shape (B,).
        """
        return self.head(self.features(states, vector, batch))[:, 0]

    def features(self, states: Sequence[Tensor], vector: Tensor, batch: Batch) -> Tensor:
        """Compute what the head reads.

        Args:
            states: The encoder's states, see `Adapter.forward`.
            vector: The encoder's standardised graph vectors, shape (B, embedding).
            batch: Graphs that the states belong to.

        Returns:
            Features of shape (B, embedding + W).
        """
        return vector if self.adapter is None else torch.cat([vector, self.adapter(states, batch)], 1)
