"""A graph's view becomes one vector: message passing along and against the edges, then a readout over the nodes.

The default trunk, flow, sums over neighbours in both directions, with a word from the whole graph at every layer and
residual updates; others are in `nasplat.learners.trunks`.
Batches and messages are our own lines and not torch-geometric's, which give other last bits (2e-6 of an embedding) and
thus would change what shipped predictors answer. Paired on one thread of 2 cores, torch 2.13.0 and torch-geometric
2.8.1 with Data, Batch, SimpleConv and global pooling: encoding 500 views of nasbench201 takes 376 ms, theirs 500 ms;
100 views each of nasbench201, nasbench101, ofa_mobilenetv3, vit and darts 1,257 and 1,109 ms; an epoch in batches of 64
takes 1,183 and 1,252 ms, of the mixed views 2,345 and 2,570 ms. `import torch_geometric` would add a second to every
command.
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
from nasplat.learners.trunks import TRUNKS, Directed, randomly_flipped

POSITIONS = 8
"""Laplacian eigenvectors that tell the transformer's nodes apart."""

# B graphs, N nodes of all of them, M edges, H hidden, E embedding


@dataclass(frozen=True)
class Batch:
    """Views of B graphs side by side, with N nodes and M edges in all."""

    op: Tensor
    """Operation of each node, an id of `VOCABULARY`; shape (N,)."""
    features: Tensor
    """Features of each node, shape (N, F)."""
    work: Tensor
    """Share of its graph's MACs that each node has, shape (N, 1)."""
    edges: Tensor
    """Source and target of each edge among all N nodes, shape (2, M)."""
    graph: Tensor
    """Number of the graph that each node belongs to, shape (N,)."""
    size: int
    """Number B of graphs."""
    positions: Tensor | None = None
    """Laplacian eigenvectors at each node, shape (N, POSITIONS), for trunks that ask for them."""

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to a device.

        Args:
            device: Torch device, such as `torch.device("cuda")`.

        Returns:
            The same batch there; itself where it is there already.
        """
        if device == self.op.device:
            return self
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {
            k: v.to(device, non_blocking=True) for k, v in columns.items() if isinstance(v, Tensor)
        }
        return replace(self, **moved)


def collate(views: Sequence[View], with_positions: bool = False) -> Batch:
    """Join views into one batch on the CPU.

    Args:
        views: Views of the graphs, in the order of their numbers in the batch.
        with_positions: Whether to compute Laplacian eigenvectors, which takes time.

    Returns:
        The batch.
    """
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


def add_messages(total: Tensor, along: Tensor, against: Tensor, edges: Tensor) -> Tensor:
    """Add to every node what its neighbours send it, in both directions of the edges.

    Args:
        total: Sums so far, shape (N, H); they are changed in place, which saves two copies of them.
        along: What each node sends to the targets of its edges, shape (N, H).
        against: What each node sends to the sources of its edges, shape (N, H).
        edges: Source and target of each edge, shape (2, M).

    Returns:
        The sums, shape (N, H).
    """
    source, target = edges
    total.index_add_(0, target, along.index_select(0, source))
    return total.index_add_(0, source, against.index_select(0, target))


class Layer(nn.Module):
    """One round of messages of the flow trunk."""

    def __init__(self, hidden: int, dropout: float) -> None:
        """Make the layer.

        Args:
            hidden: Width H of a node's state.
            dropout: Share of the update that is dropped in training.
        """
        super().__init__()
        self.own = nn.Linear(hidden, hidden)
        self.messages = nn.Linear(hidden, 2 * hidden, bias=False)
        self.whole = nn.Linear(hidden, hidden, bias=False)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, batch: Batch, inverse_sizes: Tensor) -> Tensor:
        """Send one round of messages.

        Args:
            x: States of the nodes, shape (N, H).
            batch: Graphs that the states belong to.
            inverse_sizes: One over the number of nodes of each graph, shape (B, 1).

        Returns:
            New states of shape (N, H).
        """
        along, against = self.messages(x).chunk(2, 1)
        total = add_messages(self.own(x), along, against, batch.edges)
        mean = x.new_zeros(batch.size, x.shape[1]).index_add_(0, batch.graph, x) * inverse_sizes
        total += self.whole(mean).index_select(0, batch.graph)
        return x + self.dropout(torch.relu(self.norm(total)))


class Encoder(nn.Module):
    """A graph neural network from views to one vector per graph."""

    def __init__(
        self, hidden: int = 64, layers: int = 5, embedding: int = 64, dropout: float = 0.1, trunk: str = "flow"
    ) -> None:
        """Make an encoder with random weights.

        Args:
            hidden: Width H of a node's state.
            layers: Rounds of messages; a node then knows what lies so many edges away.
            embedding: Width E of a graph's vector.
            dropout: Share of updates that is dropped in training; it also makes two encodings of one graph differ.
            trunk: Kind of messages, a name among `nasplat.learners.trunks.TRUNKS`.

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
        """Join views into one batch on the encoder's device, with what its trunk asks for.

        Args:
            views: Views of B graphs.

        Returns:
            The batch.
        """
        return collate(views, self.positions is not None).to(self.readout.weight.device)

    def forward(self, batch: Batch) -> Tensor:
        """Encode graphs.

        Args:
            batch: B graphs on the encoder's device.

        Returns:
            Vectors of shape (B, E).
        """
        return self.read(self.states(batch)[-1], batch)

    def states(self, batch: Batch) -> list[Tensor]:
        """Compute the states of the nodes.

        Args:
            batch: Graphs on the encoder's device.

        Returns:
            States before the first layer and after each, every one of shape (N, H).
        """
        inverse = self._inverse(batch)
        x = self.kind(self.kinds[batch.op]) + self.op(batch.op) + self.features(batch.features)
        if self.positions is not None and batch.positions is not None:
            x = x + self.positions(randomly_flipped(batch.positions) if self.training else batch.positions)
        found = [self.dropout(torch.relu(x))]
        for layer in self.layers:
            x = found[-1]
            found.append(
                layer(x, batch, inverse) if self.trunk == "flow" else layer(x, batch.edges, batch.graph, batch.size)
            )
        return found

    def read(self, x: Tensor, batch: Batch) -> Tensor:
        """Read graph vectors off the nodes: from the mean, the sum weighted by work, and the maximum.

        Args:
            x: States of the last layer, shape (N, H).
            batch: Graphs that the states belong to.

        Returns:
            Vectors of shape (B, E).
        """
        inverse = self._inverse(batch)
        zeros = x.new_zeros(batch.size, x.shape[1])
        mean = zeros.index_add(0, batch.graph, x) * inverse
        work = zeros.index_add(0, batch.graph, x * batch.work)
        rows = batch.graph[:, None].expand_as(x)
        largest = zeros.scatter_reduce(0, rows, x, "amax", include_self=False)
        return self.readout(torch.cat([mean, work, largest], 1))

    def _inverse(self, batch: Batch) -> Tensor:
        """One over the number of nodes of each graph, shape (B, 1)."""
        return (1.0 / torch.bincount(batch.graph, minlength=batch.size).clamp_min(1))[:, None]


@torch.no_grad()
def encode(encoder: Encoder, views: Sequence[View], batch_size: int = 64) -> Tensor:
    """Encode any number of graphs without dropout.

    Args:
        encoder: Encoder, on any device.
        views: Views of the graphs.
        batch_size: Graphs that are encoded at once; more no longer fit into a processor's cache.

    Returns:
        Vectors of shape (len(views), E) on the CPU.
    """
    encoder.eval()
    parts = [encoder(encoder.collate(views[i : i + batch_size])) for i in range(0, len(views), batch_size)]
    return torch.cat(parts).cpu()
