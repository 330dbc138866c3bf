"""A graph's view becomes one vector: message passing along and against the edges, then a readout over the nodes.

The default trunk, flow, sums over neighbours in both directions, with a word from the whole graph at every layer and residual updates; others
are in `nasplat.learners.trunks`.
Sources: Morris et al. 2019, arXiv:1810.02244 (graph convolution); Gilmer et al. 2017, arXiv:1704.01212 (virtual node).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasplat.errors import PredictorError
from nasplat.features.arrays import spectrum
from nasplat.features.view import FEATURES, KIND_OF_ID, VOCABULARY, View
from nasplat.learners.trunks import TRUNKS, Directed, signs

POSITIONS = 8
"""Laplacian eigenvectors that tell the transformer's nodes apart."""

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
    positions: Tensor | None = None
    """Shape (N, POSITIONS), for trunks that ask for it."""

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        if device == self.op.device:
            return self
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {
            k: v.to(device, non_blocking=True) for k, v in columns.items() if isinstance(v, Tensor)
        }
        return replace(self, **moved)


def collate(views: Sequence[View], with_positions: bool = False) -> Batch:
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
        torch.from_numpy(np.concatenate([_positions(v) for v in views])).float() if with_positions else None,
    )


def _positions(seen: View) -> NDArray[np.float64]:
    """Eigenvectors of the smallest eigenvalues but the first, which tells nothing."""
    return spectrum(len(seen), seen.edges, POSITIONS + 1, vectors=True)[1][:, 1:]


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

    def __init__(
        self, hidden: int = 64, layers: int = 5, embedding: int = 64, dropout: float = 0.1, trunk: str = "flow"
    ) -> None:
        """Args:
        hidden: Width of a node's state.
        layers: Rounds of messages.
        embedding: Width of a graph's vector.
        dropout: In training, also what makes two encodings of one graph differ.
        trunk: A name of `nasplat.learners.trunks.TRUNKS`.

        Raises:
            PredictorError: no such trunk.
        """
        super().__init__()
        if trunk not in TRUNKS:
            raise PredictorError(f"expected trunk among {', '.join(TRUNKS)}, got {trunk!r}.\n  Use one of these.")
        self.trunk = trunk
        self.kinds: Tensor
        self.kind = nn.Embedding(max(KIND_OF_ID) + 1, hidden)
        self.op = nn.Embedding(len(VOCABULARY), hidden)
        nn.init.zeros_(self.op.weight)  # an operation training never shows stays what its kind is
        self.register_buffer("kinds", torch.tensor(KIND_OF_ID), persistent=False)
        self.features = nn.Linear(len(FEATURES), hidden)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            Layer(hidden, dropout) if trunk == "flow" else Directed(trunk, hidden, dropout) for _ in range(layers)
        )
        self.positions = nn.Linear(POSITIONS, hidden) if trunk == "transformer" else None
        self.readout = nn.Linear(3 * hidden, embedding)

    def collate(self, views: Sequence[View]) -> Batch:
        """Views as one batch on the encoder's device, with what the trunk asks for."""
        return collate(views, self.positions is not None).to(self.readout.weight.device)

    def forward(self, batch: Batch) -> Tensor:
        """Shape (B, E)."""
        return self.read(self.states(batch)[-1], batch)

    def states(self, batch: Batch) -> list[Tensor]:
        """Of the nodes, before the first layer and after each, shape (N, H)."""
        inverse = self._inverse(batch)
        x = self.kind(self.kinds[batch.op]) + self.op(batch.op) + self.features(batch.features)
        if self.positions is not None and batch.positions is not None:
            x = x + self.positions(signs(batch.positions, self.training))
        found = [self.dropout(torch.relu(x))]
        for layer in self.layers:
            x = found[-1]
            found.append(
                layer(x, batch, inverse) if self.trunk == "flow" else layer(x, batch.edges, batch.graph, batch.size)
            )
        return found

    def read(self, x: Tensor, batch: Batch) -> Tensor:
        """States (N, H) of the last layer to embeddings (B, E)."""
        inverse = self._inverse(batch)
        zeros = x.new_zeros(batch.size, x.shape[1])
        mean = zeros.index_add(0, batch.graph, x) * inverse
        work = zeros.index_add(0, batch.graph, x * batch.work)
        rows = batch.graph[:, None].expand_as(x)
        largest = zeros.scatter_reduce(0, rows, x, "amax", include_self=False)
        return self.readout(torch.cat([mean, work, largest], 1))

    def _inverse(self, batch: Batch) -> Tensor:
        return (1.0 / torch.bincount(batch.graph, minlength=batch.size).clamp_min(1))[:, None]


@torch.no_grad()
def encode(encoder: Encoder, views: Sequence[View], batch_size: int = 256) -> Tensor:
    """Embeddings of shape (len(views), E) on the CPU, without dropout."""
    encoder.eval()
    parts = [encoder(encoder.collate(views[i : i + batch_size])) for i in range(0, len(views), batch_size)]
    return torch.cat(parts).cpu()
