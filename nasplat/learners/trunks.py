"""Rounds of messages to choose from, each along and against the edges; layers are torch-geometric's.

kgnn is the trunk of GENNAPE's paper. Sources: Morris et al. 2019, arXiv:1810.02244 (kgnn); Xu et al. 2019,
arXiv:1810.00826 (gin); Brody et al. 2022, arXiv:2105.14491 (gatv2); Rampášek et al. 2022, arXiv:2205.12454
(transformer: local messages and attention over the graph, Laplacian eigenvectors as positions).

torch-geometric is imported when one of these trunks is made: it takes a second, which no other predictor needs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

TRUNKS = ("flow", "kgnn", "gin", "gatv2", "transformer")
"""Names of the trunks; flow is ours, see `nasplat.learners.encoder`."""
HEADS = 4
"""Attention heads of gatv2 and transformer."""


def _conv(trunk: str, hidden: int) -> Any:
    """Make the layer that sends messages in one direction; transformer sends those of gin."""
    from torch_geometric.nn import GATv2Conv, GINConv, GraphConv

    if trunk == "kgnn":
        return GraphConv(hidden, hidden)
    if trunk == "gatv2":
        return GATv2Conv(hidden, hidden // HEADS, heads=HEADS, add_self_loops=False)
    return GINConv(nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden)), train_eps=True)


class Directed(nn.Module):
    """One round of messages: a layer along the edges, another against them, summed, with a residual update."""

    def __init__(self, trunk: str, hidden: int, dropout: float) -> None:
        """Make the layers.

        Args:
            trunk: Name among `TRUNKS`, but not flow.
            hidden: Width H of a node's state.
            dropout: Share of the update that is dropped in training.
        """
        super().__init__()
        self.along, self.against = _conv(trunk, hidden), _conv(trunk, hidden)
        self.attention = (
            nn.MultiheadAttention(hidden, HEADS, dropout, batch_first=True) if trunk == "transformer" else None
        )
        self.norm = nn.LayerNorm(hidden)
        self.act = nn.Tanh() if trunk == "kgnn" else nn.ReLU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, edges: Tensor, graph: Tensor, size: int) -> Tensor:
        """Send one round of messages.

        Args:
            x: States of N nodes, shape (N, H).
            edges: Source and target of each edge, shape (2, M).
            graph: Number of the graph that each node belongs to, shape (N,).
            size: Number of graphs.

        Returns:
            New states of shape (N, H).
        """
        total = self.along(x, edges) + self.against(x, edges.flip(0))
        if self.attention is not None:
            from torch_geometric.utils import to_dense_batch

            dense, mask = to_dense_batch(x, graph, batch_size=size)
            total = total + self.attention(dense, dense, dense, key_padding_mask=~mask, need_weights=False)[0][mask]
        return x + self.dropout(self.act(self.norm(total)))


def randomly_flipped(positions: Tensor) -> Tensor:
    """Flip each axis of a batch's Laplacian eigenvectors at random: eigenvectors have no sign of their own.

    Args:
        positions: Eigenvectors of shape (N, k).

    Returns:
        The same, each column times 1 or -1.
    """
    return positions * (torch.randint(0, 2, (1, positions.shape[1]), device=positions.device) * 2 - 1)
