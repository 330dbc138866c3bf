"""Contrastive pretraining: graphs of similar shape get similar vectors, without any label.

Every graph is encoded twice, under dropout or with parts of it hidden; the loss pulls encodings together in proportion to α = softmax(−σ / T),
where σ is the Euclidean distance of Laplacian spectra. (The paper says "softmax of σ"; only the negative sign favours the near; both can be had.)
Beside it, a linear head may learn what is known of every graph without training it, such as zero-cost proxies.
Source: GENNAPE, Mills et al., AAAI 2023, arXiv:2211.17226, section 3; Khosla et al. 2020, arXiv:2004.11362.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.errors import PredictorError
from nasplat.features.view import View
from nasplat.learners.encoder import Batch, Encoder

VIEWS = ("dropout", "augment")
HIDDEN = 0.15
"""Share of nodes and edges that an augmentation hides."""


def augmented(batch: Batch, share: float = HIDDEN) -> Batch:
    """A batch with features of some nodes zeroed and some edges gone. Source: You et al. 2020, arXiv:2010.13902."""
    device = batch.op.device
    kept = torch.rand(len(batch.op), 1, device=device) >= share
    edges = batch.edges[:, torch.rand(batch.edges.shape[1], device=device) >= share]
    return replace(batch, features=batch.features * kept, edges=edges)


def targets(spectra: Tensor, temperature: float, sign: float = -1.0) -> Tensor:
    """α over the other encodings of a batch in which every graph stands twice.

    Args:
        spectra: Shape (B, q).
        temperature: T.
        sign: −1 favours graphs of similar spectra; 1 is the paper's wording.

    Returns:
        Shape (2B, 2B); rows sum to 1, the diagonal is 0.
    """
    twice = torch.cat([spectra, spectra])
    logits = sign * torch.cdist(twice, twice) / temperature
    return logits.fill_diagonal_(-torch.inf).softmax(1)


def loss(z: Tensor, alpha: Tensor, tau: float) -> Tensor:
    """−Σ α log softmax(z·z/τ), averaged over encodings.

    Args:
        z: Shape (2B, P), any length; normalised here.
        alpha: Shape (2B, 2B).
        tau: Temperature of the similarities.
    """
    z = F.normalize(z)
    similarity = (z @ z.T / tau).fill_diagonal_(-torch.inf)
    return -(alpha * similarity.log_softmax(1).nan_to_num(neginf=0.0)).sum(1).mean()


def pretrain(
    encoder: Encoder,
    views: Sequence[View],
    spectra: NDArray[np.float64],
    epochs: int,
    batch_size: int = 256,
    lr: float = 2e-3,
    temperature: float = 0.05,
    tau: float = 0.1,
    projection: int = 32,
    sign: float = -1.0,
    views_by: str = "dropout",
    known: NDArray[np.float64] | None = None,
    contrast: float = 1.0,
    rng: np.random.Generator | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[float]:
    """Train an encoder in place.

    Args:
        encoder: Fresh, on any device.
        views: Unlabelled graphs.
        spectra: Shape (len(views), q).
        epochs: Passes over the views.
        batch_size: Graphs per step, each encoded twice.
        lr: Peak learning rate of Adam, cosine to zero.
        temperature: T of the targets.
        tau: Temperature of the similarities.
        projection: Width of the projected vectors the loss sees.
        sign: Of the spectral distance, see `targets`.
        views_by: What makes two encodings of a graph differ: dropout, or augment (parts are hidden).
        known: Shape (len(views), k), standardised, nan where unknown: what a linear head learns beside.
        contrast: Weight of the contrastive loss; 0 leaves it out.
        rng: Order of the graphs.
        progress: Called with (steps done, steps, note).

    Returns:
        Mean loss of each epoch.

    Raises:
        PredictorError: an unknown `views_by`, or a sign that is neither −1 nor 1.
    """
    if views_by not in VIEWS or sign not in {-1.0, 1.0}:
        raise PredictorError(
            f"expected views_by among {', '.join(VIEWS)} and sign -1 or 1, got {views_by!r} and {sign}.\n  Use 'dropout' and -1."
        )
    rng = rng or np.random.default_rng(0)
    width, device = encoder.readout.out_features, encoder.readout.weight.device
    project = nn.Sequential(nn.ReLU(), nn.Linear(width, projection)).to(device)
    head = None if known is None else nn.Sequential(nn.ReLU(), nn.Linear(width, known.shape[1])).to(device)
    parameters = [*encoder.parameters(), *project.parameters(), *([] if head is None else head.parameters())]
    per_epoch = max(1, len(views) // batch_size)
    optimiser = torch.optim.Adam(parameters, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * per_epoch)
    shapes = torch.from_numpy(spectra).float().to(device)
    told = None if known is None else torch.from_numpy(known).float().to(device)
    encoder.train()
    history = []
    for epoch in range(epochs):
        order = rng.permutation(len(views))
        losses = []
        for step in range(per_epoch):
            rows = order[step * batch_size : (step + 1) * batch_size]
            batch = encoder.collate([views[i] for i in rows])
            pair = [encoder(augmented(batch) if views_by == "augment" else batch) for _ in range(2 if contrast else 1)]
            value = torch.zeros((), device=device)
            if contrast:
                value = contrast * loss(project(torch.cat(pair)), targets(shapes[rows], temperature, sign), tau)
            if head is not None and told is not None:
                wanted = told[rows]
                there = wanted.isfinite()
                for h in pair if there.any() else ():
                    value = value + F.smooth_l1_loss(head(h)[there], wanted[there]) / len(pair)
            optimiser.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(value.detach())
            if progress is not None:
                progress(epoch * per_epoch + step + 1, epochs * per_epoch, f"contrastive loss {float(losses[-1]):.3f}")
        history.append(float(torch.stack(losses).mean()))
    return history
