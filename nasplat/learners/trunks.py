"""Rounds of messages to choose from, each along and against the edges; layers are torch-geometric's.

kgnn is the trunk of GENNAPE's paper. Sources: Morris et al. 2019, arXiv:1810.02244 (kgnn); Xu et al. 2019, arXiv:1810.00826 (gin); Brody et
al. 2022, arXiv:2105.14491 (gatv2); Rampášek et al. 2022, arXiv:2205.12454 (transformer: local messages and attention over the graph, Laplacian
eigenvectors as positions).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

TRUNKS = ("flow", "kgnn", "gin", "gatv2", "transformer")
"""flow is ours, see `nasplat.learners.encoder`."""
HEADS = 4


def _conv(trunk: str, hidden: int) -> Any:
    from torch_geometric.nn import GATv2Conv, GINConv, GraphConv

    if trunk == "kgnn":
        return GraphConv(hidden, hidden)
    if trunk == "gatv2":
        return GATv2Conv(hidden, hidden // HEADS, heads=HEADS, add_self_loops=False)
    return GINConv(nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden)), train_eps=True)


class Directed(nn.Module):
    """One round: a layer along the edges, another against them, summed."""

    def __init__(self, trunk: str, hidden: int, dropout: float) -> None:
        """Args:
        trunk: A name of `TRUNKS` but flow.
        hidden: H.
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
        """States (N, H), edges (2, M) and the graph (N,) of each node to new states."""
        total = self.along(x, edges) + self.against(x, edges.flip(0))
        if self.attention is not None:
            from torch_geometric.utils import to_dense_batch

            dense, mask = to_dense_batch(x, graph, batch_size=size)
            total = total + self.attention(dense, dense, dense, key_padding_mask=~mask, need_weights=False)[0][mask]
        return x + self.dropout(self.act(self.norm(total)))


def signs(positions: Tensor, training: bool) -> Tensor:
    """Eigenvectors have no sign of their own: in training each axis of a batch is flipped at random."""
    if not training:
        return positions
    return positions * (torch.randint(0, 2, (1, positions.shape[1]), device=positions.device) * 2 - 1)
