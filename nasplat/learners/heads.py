"""Heads on a graph's embedding: one small network per fuzzy cluster, their answers averaged by membership.

Sources: GENNAPE, Mills et al., AAAI 2023, arXiv:2211.17226; Burges et al. 2005, RankNet (the pairwise loss).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.learners.fuzzy import memberships

Matrix = NDArray[np.float64]
Progress = Callable[[int, int, str], None]
HEAD = 32
"""Hidden width of a head."""
BATCH = 256
"""Networks of a training step."""

# B networks, C clusters, E width of an embedding


class Heads(nn.Module):
    """C small networks side by side."""

    def __init__(self, clusters: int, embedding: int) -> None:
        """Make heads with random weights.

        Args:
            clusters: Number C of clusters, and of heads.
            embedding: Width E of a graph's vector.
        """
        super().__init__()
        scale = embedding**-0.5
        self.first = nn.Parameter(torch.empty(clusters, embedding, HEAD).uniform_(-scale, scale))
        self.first_bias = nn.Parameter(torch.zeros(clusters, HEAD))
        self.second = nn.Parameter(torch.empty(clusters, HEAD).uniform_(-(HEAD**-0.5), HEAD**-0.5))
        self.second_bias = nn.Parameter(torch.zeros(clusters))

    def forward(self, x: Tensor, membership: Tensor) -> tuple[Tensor, Tensor]:
        """Answer for graphs.

        Args:
            x: Standardised embeddings of shape (B, E).
            membership: Degree to which each belongs to each cluster, shape (B, C).

        Returns:
            Mean and spread of the heads' answers, each of shape (B,), weighted by membership.
        """
        hidden = torch.relu(torch.einsum("be,ceh->bch", x, self.first) + self.first_bias)
        answers = torch.einsum("bch,ch->bc", hidden, self.second) + self.second_bias
        mean = (membership * answers).sum(1)
        return mean, (membership * (answers - mean[:, None]).square()).sum(1).clamp_min(0).sqrt()

    @torch.no_grad()
    def answers(self, embedded: Matrix, centroids: Matrix, fuzziness: float) -> tuple[Matrix, Matrix]:
        """Answer for embeddings as numpy holds them.

        Args:
            embedded: Standardised embeddings of n networks, shape (n, E).
            centroids: Centres of the clusters, shape (C, E).
            fuzziness: The paper's m, see `memberships`.

        Returns:
            Mean and spread of the heads' answers, each of shape (n,).
        """
        membership = torch.from_numpy(memberships(embedded, centroids, fuzziness)).float()
        mean, spread = self(torch.from_numpy(embedded).float(), membership)
        return mean.double().numpy(), spread.double().numpy()


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Turns answers (B,), targets (B,) and weights (B,) of a batch into one number."""


def regression_loss(answers: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Compute how far answers are from their targets (smooth L1); all count equally.

    Args:
        answers: Answers of shape (B,).
        wanted: Targets of shape (B,).
        weights: Not used here; all networks count equally.

    Returns:
        One number with a gradient.
    """
    return F.smooth_l1_loss(answers, wanted, beta=0.5)


def weighted_loss(answers: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Compute how far answers are from their targets (smooth L1), each with its weight.

    Args:
        answers: Answers of shape (B,).
        wanted: Targets of shape (B,).
        weights: Weights of shape (B,).

    Returns:
        One number with a gradient.
    """
    return (weights * F.smooth_l1_loss(answers, wanted, beta=0.5, reduction="none")).mean()


def pairwise_loss(answers: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Compute the logistic loss over all pairs of a batch of which the targets differ: which of two is better?

    Args:
        answers: Answers of shape (B,).
        wanted: Targets of shape (B,).
        weights: Not used here; all networks count equally.

    Returns:
        One number with a gradient; 0 where no targets differ.
    """
    better = wanted[:, None] - wanted > 0
    return F.softplus(answers - answers[:, None])[better].mean() if better.any() else answers.sum() * 0


def train_heads(
    heads: Heads,
    inputs: tuple[Matrix, Matrix],
    target: Matrix,
    epochs: int,
    rng: np.random.Generator,
    loss: Loss = regression_loss,
    weights: Matrix | None = None,
    progress: Progress | None = None,
) -> Heads:
    """Train heads in place, with AdamW and a learning rate that falls along a cosine.

    Args:
        heads: Heads with random weights.
        inputs: Standardised embeddings of n networks, shape (n, E), and their memberships, shape (n, C).
        target: What the heads shall answer, shape (n,).
        epochs: Passes over the networks.
        rng: Generator that decides their order.
        loss: What is minimised.
        weights: Weights of the networks, shape (n,), for losses that use them; by default all are 1.
        progress: Called after each step with (steps done, steps in all, note).

    Returns:
        The same heads, ready to answer.
    """
    x, membership, y, shares = (
        torch.from_numpy(a).float() for a in (*inputs, target, np.ones(len(target)) if weights is None else weights)
    )
    size = min(BATCH, len(y))
    per_epoch = len(y) // size
    optimiser = torch.optim.AdamW(heads.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * per_epoch)
    for epoch in range(epochs):
        order = torch.from_numpy(rng.permutation(len(y)))
        for step in range(per_epoch):
            rows = order[step * size : (step + 1) * size]
            value = loss(heads(x[rows], membership[rows])[0], y[rows], shares[rows])
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
            if progress is not None:
                done = epoch * per_epoch + step + 1
                progress(done, epochs * per_epoch, f"heads' loss {value.item():.3f}")
    return heads.eval()
