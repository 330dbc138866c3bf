"""Contrastive pretraining: graphs of similar shape get similar vectors, without any label.

Every graph is encoded twice, under dropout or with parts of it hidden; the loss pulls encodings together in proportion
to α = softmax(−σ / T), where σ is the Euclidean distance of Laplacian spectra. (The paper says "softmax of σ"; only the
negative sign favours the near; both can be had.) Beside it, a linear head may learn what is known of every graph
without training it, such as zero-cost proxies.
Source: GENNAPE, Mills et al., AAAI 2023, arXiv:2211.17226, section 3; Khosla et al. 2020, arXiv:2004.11362.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.errors import PredictorError
from nasplat.features.view import View
from nasplat.learners.encoder import Batch, Encoder

VIEWS = ("dropout", "augment")
"""What makes two encodings of a graph differ."""
HIDDEN = 0.15
"""Share of nodes and edges that an augmentation hides."""

# B graphs, P width of the projected vectors


@dataclass(frozen=True)
class Pretraining:
    """How an encoder is pretrained."""

    epochs: int
    """Passes over the graphs."""
    batch_size: int = 256
    """Graphs of a step, each encoded twice; in a larger batch every graph meets more others."""
    lr: float = 2e-3
    """Peak learning rate of Adam; it falls to zero along a cosine."""
    temperature: float = 0.05
    """T of the targets: a small one asks for graphs of almost equal spectra alone."""
    tau: float = 0.1
    """Temperature of the similarities between encodings."""
    projection: int = 32
    """Width P of the projected vectors that the loss sees."""
    sign: float = -1.0
    """Sign of the spectral distance in the targets: -1 favours graphs of similar spectra, 1 is the paper's wording."""
    views_by: str = "dropout"
    """What makes two encodings of a graph differ: 'dropout', or 'augment', which hides parts of the graph."""
    contrast: float = 1.0
    """Weight of the contrastive loss beside what is known of the graphs; 0 leaves it out."""

    def __post_init__(self) -> None:
        """Check the names and signs.

        Raises:
            PredictorError: an unknown `views_by`, or a sign that is neither -1 nor 1.
        """
        if self.views_by not in VIEWS or self.sign not in {-1.0, 1.0}:
            raise PredictorError(
                f"expected views_by among {', '.join(VIEWS)} and sign -1 or 1, got {self.views_by!r} and {self.sign}.\n"
                "  Use 'dropout' and -1."
            )


def augmented(batch: Batch, share: float = HIDDEN) -> Batch:
    """Hide parts of graphs at random. Source: You et al. 2020, arXiv:2010.13902.

    Args:
        batch: Graphs, on any device.
        share: Share of nodes whose features become zero, and of edges that are removed.

    Returns:
        A new batch of the same graphs.
    """
    device = batch.op.device
    kept = torch.rand(len(batch.op), 1, device=device) >= share
    edges = batch.edges[:, torch.rand(batch.edges.shape[1], device=device) >= share]
    return replace(batch, features=batch.features * kept, edges=edges)


def targets(spectra: Tensor, temperature: float, sign: float = -1.0) -> Tensor:
    """Compute α over the other encodings of a batch in which every graph stands twice.

    Args:
        spectra: Laplacian spectra of B graphs, shape (B, q).
        temperature: The paper's T, see `Pretraining`.
        sign: −1 favours graphs of similar spectra; 1 is the paper's wording.

    Returns:
        Weights of shape (2B, 2B); rows sum to 1, the diagonal is 0.
    """
    twice = torch.cat([spectra, spectra])
    logits = sign * torch.cdist(twice, twice) / temperature
    return logits.fill_diagonal_(-torch.inf).softmax(1)


def loss(z: Tensor, alpha: Tensor, tau: float) -> Tensor:
    """Compute −Σ α log softmax(z·z/τ), averaged over encodings.

    Args:
        z: Projected encodings of shape (2B, P), of any length; they are normalised here.
        alpha: What `targets` returned, shape (2B, 2B).
        tau: Temperature of the similarities.

    Returns:
        One number with a gradient.
    """
    z = F.normalize(z)
    similarity = (z @ z.T / tau).fill_diagonal_(-torch.inf)
    return -(alpha * similarity.log_softmax(1).nan_to_num(neginf=0.0)).sum(1).mean()


def pretrain(
    encoder: Encoder,
    views: Sequence[View],
    spectra: NDArray[np.float64],
    settings: Pretraining,
    known: NDArray[np.float64] | None = None,
    rng: np.random.Generator | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[float]:
    """Train an encoder in place, without labels.

    Args:
        encoder: Encoder with random weights, on any device.
        views: Views of n unlabelled graphs.
        spectra: Laplacian spectrum of each graph, shape (n, q), see `View.spectrum`.
        settings: Length of the training and its loss.
        known: What is known of each graph without training it, standardised, shape (n, k), nan where unknown; a linear
            head learns it beside the contrastive loss.
        rng: Generator that decides the order of the graphs; by default one of seed 0.
        progress: Called after each step with (steps done, steps in all, note).

    Returns:
        Mean loss of each epoch.
    """
    rng = rng or np.random.default_rng(0)
    width, device = encoder.readout.out_features, encoder.readout.weight.device
    project = nn.Sequential(nn.ReLU(), nn.Linear(width, settings.projection)).to(device)
    head = None if known is None else nn.Sequential(nn.ReLU(), nn.Linear(width, known.shape[1])).to(device)
    parameters = [*encoder.parameters(), *project.parameters(), *([] if head is None else head.parameters())]
    per_epoch = max(1, len(views) // settings.batch_size)
    optimiser = torch.optim.Adam(parameters, lr=settings.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs * per_epoch)
    shapes = torch.from_numpy(spectra).float().to(device)
    told = None if known is None else torch.from_numpy(known).float().to(device)
    encoder.train()
    history = []
    for epoch in range(settings.epochs):
        order = rng.permutation(len(views))
        losses = []
        for step in range(per_epoch):
            rows = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            pair = _encoded(encoder, encoder.collate([views[i] for i in rows]), settings)
            value = torch.zeros((), device=device)
            if settings.contrast:
                alpha = targets(shapes[rows], settings.temperature, settings.sign)
                value = settings.contrast * loss(project(torch.cat(pair)), alpha, settings.tau)
            if head is not None and told is not None:
                value = value + _error(head, pair, told[rows])
            optimiser.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(value.detach())
            if progress is not None:
                done = epoch * per_epoch + step + 1
                progress(done, settings.epochs * per_epoch, f"contrastive loss {float(losses[-1]):.3f}")
        history.append(float(torch.stack(losses).mean()))
    return history


def _encoded(encoder: Encoder, batch: Batch, settings: Pretraining) -> list[Tensor]:
    """Two encodings of every graph that differ; one where nothing is contrasted."""
    hides = settings.views_by == "augment"
    return [encoder(augmented(batch) if hides else batch) for _ in range(2 if settings.contrast else 1)]


def _error(head: nn.Module, pair: list[Tensor], wanted: Tensor) -> Tensor:
    """Mean error of a head on what is known; 0 where nothing is."""
    there = wanted.isfinite()
    value = wanted.new_zeros(())
    for h in pair if there.any() else ():
        value = value + F.smooth_l1_loss(head(h)[there], wanted[there]) / len(pair)
    return value
