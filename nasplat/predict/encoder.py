"""A graph's view becomes one vector: message passing along and against the edges, then a readout over the nodes.

Sums over neighbours in both directions, a word from the whole graph at every layer, residual updates.
Sources: Morris et al. 2019, arXiv:1810.02244 (graph convolution); Gilmer et al. 2017, arXiv:1704.01212 (virtual node).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nasplat.predict.view import FEATURES, KINDS, VOCABULARY, View

# B graphs, N nodes of all of them, M edges, H hidden, E embedding


@dataclass(frozen=True)
class Batch:
    """Views side by side."""

    op: Tensor
    """Shape (N,)."""
    features: Tensor
    """Shape (N, F)."""
    work: Tensor
    """Shape (N, 1): share of the graph's MACs."""
    edges: Tensor
    """Shape (2, M)."""
    graph: Tensor
    """Shape (N,): which graph a node belongs to."""
    size: int
    """B."""


def collate(views: Sequence[View]) -> Batch:
    """Views as one batch."""
    sizes = [len(v) for v in views]
    starts = np.cumsum([0, *sizes[:-1]])
    return Batch(
        torch.from_numpy(np.concatenate([v.op for v in views])),
        torch.from_numpy(np.concatenate([v.features for v in views])),
        torch.from_numpy(np.concatenate([v.work for v in views]))[:, None],
        torch.from_numpy(np.concatenate([v.edges + start for v, start in zip(views, starts, strict=True)], 1)),
        torch.from_numpy(np.repeat(np.arange(len(views)), sizes)),
        len(views),
    )


class Layer(nn.Module):
    """One round of messages."""

    def __init__(self, hidden: int, dropout: float) -> None:
        """Args:
        hidden: H.
        dropout: Share of the update that is dropped in training.
        """
        super().__init__()
        self.own = nn.Linear(hidden, hidden)
        self.messages = nn.Linear(hidden, 2 * hidden, bias=False)
        self.whole = nn.Linear(hidden, hidden, bias=False)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, batch: Batch, inverse_sizes: Tensor) -> Tensor:
        """Shape (N, H) in and out."""
        source, target = batch.edges
        along, against = self.messages(x).chunk(2, 1)
        total = self.own(x)
        total = total.index_add(0, target, along[source]).index_add(0, source, against[target])
        mean = x.new_zeros(batch.size, x.shape[1]).index_add(0, batch.graph, x) * inverse_sizes
        total = total + self.whole(mean)[batch.graph]
        return x + self.dropout(torch.relu(self.norm(total)))


class Encoder(nn.Module):
    """Views to embeddings."""

    def __init__(self, hidden: int = 64, layers: int = 5, embedding: int = 64, dropout: float = 0.1) -> None:
        """Args:
        hidden: Width of a node's state.
        layers: Rounds of messages.
        embedding: Width of a graph's vector.
        dropout: In training, also what makes two encodings of one graph differ.
        """
        super().__init__()
        self.kind = nn.Embedding(max(KINDS) + 1, hidden)
        self.op = nn.Embedding(len(VOCABULARY), hidden)
        nn.init.zeros_(self.op.weight)  # an operation training never shows stays what its kind is
        self.kinds = torch.tensor(KINDS)
        self.features = nn.Linear(len(FEATURES), hidden)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(hidden, dropout) for _ in range(layers))
        self.readout = nn.Linear(3 * hidden, embedding)

    def forward(self, batch: Batch) -> Tensor:
        """Shape (B, E)."""
        sizes = torch.bincount(batch.graph, minlength=batch.size).clamp_min(1)
        inverse = (1.0 / sizes)[:, None]
        x = self.dropout(torch.relu(self.kind(self.kinds[batch.op]) + self.op(batch.op) + self.features(batch.features)))
        for layer in self.layers:
            x = layer(x, batch, inverse)
        zeros = x.new_zeros(batch.size, x.shape[1])
        mean = zeros.index_add(0, batch.graph, x) * inverse
        work = zeros.index_add(0, batch.graph, x * batch.work)
        rows = batch.graph[:, None].expand_as(x)
        largest = zeros.scatter_reduce(0, rows, x, "amax", include_self=False)
        return self.readout(torch.cat([mean, work, largest], 1))


@torch.no_grad()
def encode(encoder: Encoder, views: Sequence[View], batch_size: int = 256) -> Tensor:
    """Embeddings of shape (len(views), E), without dropout."""
    encoder.eval()
    parts = [encoder(collate(views[i : i + batch_size])) for i in range(0, len(views), batch_size)]
    return torch.cat(parts)
