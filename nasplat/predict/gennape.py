"""GENNAPE: a contrastively pretrained graph encoder, fuzzy clusters of its embeddings, and heads by cluster.

Stages: contrastive pretraining on unlabelled graphs; tuning of the encoder on the labels (none of it with `tune_epochs=0`, as in the paper,
where the encoder stays frozen); fuzzy C-means on the embeddings; three ensembles of heads, whose answers are averaged by membership; a forest on
graph statistics. One ensemble learns the label itself and answers inside the support. Outside it networks are ranked by the equal-weight mean of
`members`: label, scaled (the label divided by log10(GFLOPs + 1) + 1, the paper's transform) and pairwise (which of two networks is better) are
the ensembles, forest and flops the rest. The paper's zero-shot estimator is the ensembles and flops; on our data forest and flops rank most
other families better, so they are the default.
Source: Mills et al., AAAI 2023, arXiv:2211.17226 (eq. 5 is the transform). Written from the paper; nothing is public.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log10
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.errors import PredictorError
from nasplat.features.view import View
from nasplat.learners import contrastive, fuzzy
from nasplat.learners.conformal import fewest, half_width
from nasplat.learners.encoder import Encoder, encode
from nasplat.learners.flat_trees import FlatTrees
from nasplat.learners.forest import grow_forest
from nasplat.learners.normal_scores import NormalScores
from nasplat.learners.support import Support
from nasplat.predict.contract import counted
from nasplat.predict.finetuned import AbstractTunable

Progress = Callable[[int, int, str], None]
HEAD = 32
"""Hidden width of a head."""
MEMBERS = ("label", "scaled", "pairwise", "forest", "flops")
ENSEMBLES = MEMBERS[:3]
TREES, LEAF = 100, 20
"""Of the forest, and fewest networks of a leaf."""
LOWEST = -4.0
"""Standardised targets are cut off here: networks that failed to train would otherwise own the loss."""


def divisor(gigaflops: float) -> float:
    """What a label is divided by: log10(F + 1) + 1, F in GFLOPs (2 per MAC). Source: eq. 5."""
    return log10(gigaflops + 1.0) + 1.0


class Heads(nn.Module):
    """C small networks, averaged by membership."""

    def __init__(self, clusters: int, embedding: int) -> None:
        """Args:
        clusters: C.
        embedding: E.
        """
        super().__init__()
        scale = embedding**-0.5
        self.first = nn.Parameter(torch.empty(clusters, embedding, HEAD).uniform_(-scale, scale))
        self.first_bias = nn.Parameter(torch.zeros(clusters, HEAD))
        self.second = nn.Parameter(torch.empty(clusters, HEAD).uniform_(-(HEAD**-0.5), HEAD**-0.5))
        self.second_bias = nn.Parameter(torch.zeros(clusters))

    def forward(self, x: Tensor, membership: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (B, E) and memberships (B, C) to the mean (B,) and the spread (B,) of the heads' answers."""
        hidden = torch.relu(torch.einsum("be,ceh->bch", x, self.first) + self.first_bias)
        answers = torch.einsum("bch,ch->bc", hidden, self.second) + self.second_bias
        mean = (membership * answers).sum(1)
        return mean, (membership * (answers - mean[:, None]).square()).sum(1).clamp_min(0).sqrt()


class Gennape(AbstractTunable):
    """Contrastive encoder, fuzzy ensemble of heads, target scaled by FLOPs."""

    family: ClassVar[str] = "gennape"

    def __init__(
        self,
        hidden: int = 64,
        layers: int = 5,
        embedding: int = 64,
        dropout: float = 0.1,
        pretrain_epochs: int = 5,
        tune_epochs: int = 20,
        head_epochs: int = 60,
        clusters: int = 10,
        fuzziness: float = 2.0,
        temperature: float = 0.05,
        sign: float = -1.0,
        views_by: str = "dropout",
        trunk: str = "flow",
        members: Sequence[str] = ("forest", "flops"),
        contrast: float = 1.0,
        batch_size: int = 64,
        lr: float = 2e-3,
        level: float = 0.9,
        metric: str = "value",
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        """Args:
        hidden: Width of a node's state.
        layers: Rounds of messages.
        embedding: Width of a graph's vector.
        dropout: In training.
        pretrain_epochs: Contrastive passes; no label is seen.
        tune_epochs: Passes that tune the encoder on labels; 0 keeps it as pretrained.
        head_epochs: Passes over the embeddings that train the heads.
        clusters: C of fuzzy C-means, and number of heads.
        fuzziness: m of fuzzy C-means.
        temperature: T of the contrastive targets.
        sign: Of the spectral distance in them, −1 or 1.
        views_by: What makes two encodings of a graph differ: dropout or augment.
        trunk: Messages of the encoder: flow, kgnn, gin, gatv2 or transformer.
        members: Of `MEMBERS`; their mean ranks networks outside the support.
        contrast: Weight of the contrastive loss in pretraining; 0 leaves it out.
        batch_size: Labelled graphs per step.
        lr: Peak learning rate.
        level: Of the interval.
        metric: Name and unit of the label.
        seed: Decides everything random.
        device: Where the encoder learns and answers, such as cuda.
        """
        self.hidden, self.layers, self.embedding, self.dropout = hidden, layers, embedding, dropout
        self.pretrain_epochs, self.tune_epochs, self.head_epochs = pretrain_epochs, tune_epochs, head_epochs
        self.clusters, self.fuzziness, self.temperature = clusters, fuzziness, temperature
        self.sign, self.views_by, self.trunk, self.members = sign, views_by, trunk, members
        self.batch_size, self.lr, self.level, self.metric, self.seed = batch_size, lr, level, metric, seed
        self.contrast, self.device = contrast, device

    # -- learning ------------------------------------------------------------------------------------------------------

    def fit(
        self,
        items: Sequence[Any],
        labels: Sequence[float],
        progress: Progress | None = None,
        unlabelled: Sequence[Any] = (),
        known: NDArray[np.float64] | None = None,
    ) -> Self:
        """Learn from labelled networks; a tenth calibrates the interval.

        Args:
            items: Graphs, or what has a `graph()` method.
            labels: One each, larger means better.
            progress: Called with (steps done, steps, note) in each stage.
            unlabelled: More networks, of any space, that pretraining sees.
            known: Shape (len(unlabelled), k), standardised, nan where unknown: what is known of them without training, such as zero-cost
                proxies; pretraining learns it beside the contrastive loss.

        Raises:
            PredictorError: fewer than 40 labels, not one per item, an unknown member, or `known` of another length than `unlabelled`.
        """
        if not self.members or set(self.members) - set(MEMBERS):
            raise PredictorError(
                f"expected members among {', '.join(MEMBERS)}, got {list(self.members)}.\n  Use some of these."
            )
        if known is not None and len(known) != len(unlabelled):
            raise PredictorError(
                f"expected one row of known per unlabelled network, got {len(known)} and {len(unlabelled)}.\n  Align them."
            )
        views = self.views(items)
        y = np.asarray(labels, np.float64)
        if len(views) != len(y) or len(y) < 40:
            raise PredictorError(
                f"expected one label per network, at least 40, got {len(views)} and {len(y)}.\n  Label more, or fit trees."
            )
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(len(y))
        held = order[: max(len(y) // 10, fewest(self.level))]
        grown = order[len(held) :]
        learnt = [views[i] for i in grown]
        sizes = np.log10([max(1, v.macs) for v in learnt])
        scaled = y[grown] / np.array([divisor(v.gigaflops) for v in learnt])
        # mean and spread of the label, of the scaled label, of log10 MACs and (below) of what the pairwise heads answer
        self.scales_ = np.array([*((c.mean(), c.std() + 1e-9) for c in (y[grown], scaled, sizes)), (0.0, 1.0)])
        target, second = (
            np.maximum((c - mean) / spread, LOWEST)
            for c, (mean, spread) in zip((y[grown], scaled), self.scales_, strict=False)
        )
        place = torch.device(self.device)
        with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
            torch.manual_seed(self.seed)
            self.encoder_ = self._encoder().to(place)
            if self.pretrain_epochs:
                self._pretrain([*learnt, *self.views(unlabelled)], known, rng, progress)
            self._tune(learnt, target, rng, progress)
            embedded = encode(self.encoder_, learnt).double().numpy()
            self.shift_ = np.stack([embedded.mean(0), embedded.std(0) + 1e-6])
            x = (embedded - self.shift_[0]) / self.shift_[1]
            self.centroids_ = fuzzy.fit(x, min(self.clusters, len(x)), self.fuzziness, self.seed)
            self.heads_ = {
                "label": self._trained_heads(x, target, rng, progress),
                "scaled": self._trained_heads(x, second, rng, progress),
                "pairwise": self._trained_heads(x, target, rng, progress, pairs=True),
            }
        self.encoder_.eval()
        order_only = self._ensemble(x, "pairwise")[0]
        self.scales_[3] = order_only.mean(), order_only.std() + 1e-9
        self.names_ = list(views[0].statistics)
        scores = NormalScores.learn(y[grown]).forward(y[grown])
        self.forest_ = grow_forest(self._described(learnt), scores, TREES, LEAF, seed=self.seed)[0]
        self.fitted_ = True
        mean, spread = self._ensemble(self.embed([views[i] for i in held]), "label")
        self.floor_ = float(np.median(spread)) + 1e-6
        residuals = np.maximum((y[held] - self.scales_[0, 0]) / self.scales_[0, 1], LOWEST) - mean
        self.factor_ = half_width(residuals / (spread + self.floor_), self.level)
        self.support_ = Support.learn(np.array([list(v.statistics.values()) for v in views]), self.seed)
        self.reference_ = np.quantile(y, np.linspace(0, 1, 101))
        return self

    def _encoder(self) -> Encoder:
        return Encoder(self.hidden, self.layers, self.embedding, self.dropout, self.trunk)

    def _pretrain(
        self, views: list[View], known: NDArray[np.float64] | None, rng: np.random.Generator, progress: Progress | None
    ) -> None:
        if known is not None:  # nothing is told of the labelled networks
            known = np.vstack([np.full((len(views) - len(known), known.shape[1]), np.nan), known])
        contrastive.pretrain(
            *(self.encoder_, views, np.array([v.spectrum() for v in views]), self.pretrain_epochs),
            temperature=self.temperature,
            sign=self.sign,
            views_by=self.views_by,
            known=known,
            contrast=self.contrast,
            rng=rng,
            progress=progress,
        )

    def _described(self, seen: Sequence[View]) -> NDArray[np.float64]:
        """What the forest sees, shape (n, f)."""
        return np.array(
            [[log10(max(1, v.macs)), log10(max(1, v.params)), *(v.statistics[n] for n in self.names_)] for v in seen]
        )

    def _tune(
        self, views: list[View], target: NDArray[np.float64], rng: np.random.Generator, progress: Progress | None
    ) -> None:
        """Encoder and one plain head learn the labels together; the head is thrown away."""
        if not self.tune_epochs:
            return
        device = self.encoder_.readout.weight.device
        head = nn.Sequential(nn.ReLU(), nn.Linear(self.embedding, HEAD), nn.ReLU(), nn.Linear(HEAD, 1)).to(device)
        parameters = [*self.encoder_.parameters(), *head.parameters()]
        y = torch.from_numpy(target).float().to(device)
        per_epoch = max(1, len(views) // self.batch_size)
        optimiser = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.lr, self.tune_epochs * per_epoch, pct_start=0.1)
        self.encoder_.train()
        for epoch in range(self.tune_epochs):
            order = rng.permutation(len(views))
            for step in range(per_epoch):
                rows = order[step * self.batch_size : (step + 1) * self.batch_size]
                answer = head(self.encoder_(self.encoder_.collate([views[i] for i in rows])))[:, 0]
                loss = F.smooth_l1_loss(answer, y[rows], beta=0.5)
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimiser.step()
                schedule.step()
                if progress is not None:
                    progress(
                        epoch * per_epoch + step + 1, self.tune_epochs * per_epoch, f"label loss {loss.item():.3f}"
                    )

    def _trained_heads(
        self,
        x: NDArray[np.float64],
        target: NDArray[np.float64],
        rng: np.random.Generator,
        progress: Progress | None,
        pairs: bool = False,
    ) -> Heads:
        """Heads by regression, or by the logistic loss on every pair of a batch (Burges et al. 2005, RankNet)."""
        heads = Heads(len(self.centroids_), self.embedding)
        membership = torch.from_numpy(fuzzy.memberships(x, self.centroids_, self.fuzziness)).float()
        inputs, y = torch.from_numpy(x).float(), torch.from_numpy(target).float()
        size = min(256, len(y))
        per_epoch = len(y) // size
        optimiser = torch.optim.AdamW(heads.parameters(), lr=3e-3, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.head_epochs * per_epoch)
        for epoch in range(self.head_epochs):
            order = torch.from_numpy(rng.permutation(len(y)))
            for step in range(per_epoch):
                rows = order[step * size : (step + 1) * size]
                answers, wanted = heads(inputs[rows], membership[rows])[0], y[rows]
                if pairs:
                    apart = wanted[:, None] - wanted
                    better = apart > 0
                    loss = F.softplus(answers - answers[:, None])[better].mean() if better.any() else answers.sum() * 0
                else:
                    loss = F.smooth_l1_loss(answers, wanted, beta=0.5)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                if progress is not None:
                    progress(
                        epoch * per_epoch + step + 1, self.head_epochs * per_epoch, f"heads' loss {loss.item():.3f}"
                    )
        return heads

    # -- answering -----------------------------------------------------------------------------------------------------

    def embed(self, views: Sequence[View]) -> NDArray[np.float64]:
        """Standardised embeddings, shape (len(views), E)."""
        return (encode(self.encoder_, views).double().numpy() - self.shift_[0]) / self.shift_[1]

    def _ensemble(self, embedded: NDArray[np.float64], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and spread of the heads' answers, each of shape (n,), in standard deviations of their target."""
        membership = torch.from_numpy(fuzzy.memberships(embedded, self.centroids_, self.fuzziness)).float()
        with torch.no_grad():
            mean, spread = self.heads_[name](torch.from_numpy(embedded).float(), membership)
        return mean.double().numpy(), spread.double().numpy()

    def _reason(self, seen: View) -> str:
        return self.support_.reason_of(seen, self.names_)

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        mean, spread = self._ensemble(self.embed(seen), "label")
        half = self.factor_ * (spread + self.floor_)
        values = self.scales_[0, 0] + self.scales_[0, 1] * np.stack([mean, mean - half, mean + half], 1)
        return [tuple(row) for row in values.tolist()]

    def answers(self, items: Sequence[Any]) -> dict[str, NDArray[np.float64]]:
        """Answers of every member, whether it is among `members` or not, in standard deviations of the training labels.

        Args:
            items: As for `predict`.

        Returns:
            One array of shape (len(items),) per name in `MEMBERS`; scaled is transformed back.
        """
        seen = self.views(items)
        return self._parts(seen, self.embed(seen))

    def _parts(self, seen: Sequence[View], embedded: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        (mean, spread), (low, width), (size, decade), (middle, apart) = self.scales_
        scaled = (self._ensemble(embedded, "scaled")[0] * width + low) * np.array([divisor(v.gigaflops) for v in seen])
        return {
            "label": self._ensemble(embedded, "label")[0],
            "scaled": (scaled - mean) / spread,
            "pairwise": (self._ensemble(embedded, "pairwise")[0] - middle) / apart,
            "forest": self.forest_.answers(self._described(seen)).mean(1),
            "flops": (np.log10([max(1, v.macs) for v in seen]) - size) / decade,
        }

    def _scores(self, seen: Sequence[View]) -> list[float]:
        parts = self.answers(seen)
        inside = np.array([not self._reason(v) for v in seen])
        folded = np.where(inside, parts["label"], np.mean([parts[m] for m in self.members], 0))
        return (self.scales_[0, 0] + folded * self.scales_[0, 1]).tolist()

    def describe(self, seen: Sequence[View]) -> list[NDArray[np.float64]]:
        """See `AbstractPredictor.describe`; members of the estimator and the embedding are added."""
        counts, embedded = counted(seen), self.embed(seen)
        parts = np.stack(list(self._parts(seen, embedded).values()), 1)
        return [
            counts,
            np.hstack([parts, counts]),
            np.hstack([parts, counts, embedded]),
            np.hstack([parts, counts[:, :2], embedded]),
        ]

    # -- disk ----------------------------------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, NDArray[Any]]:
        modules = {"encoder": self.encoder_, **self.heads_}
        learnt: dict[str, NDArray[Any]] = {
            f"{m}.{k}": t.detach().cpu().numpy()
            for m, module in modules.items()
            for k, t in module.state_dict().items()
        }
        own = {
            "centroids": self.centroids_,
            "shift": self.shift_,
            "scales": self.scales_,
            "interval": np.array([self.floor_, self.factor_]),
            "reference": self.reference_,
            "names": np.frombuffer("\n".join(self.names_).encode(), np.uint8),
        }
        return learnt | own | self.forest_.arrays("forest_") | self.support_.arrays()

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.encoder_ = self._encoder()
        self.heads_ = {name: Heads(len(arrays["centroids"]), self.embedding) for name in ENSEMBLES}
        for name, module in {"encoder": self.encoder_, **self.heads_}.items():
            prefix = f"{name}."
            state = {
                k.removeprefix(prefix): torch.from_numpy(v.copy()) for k, v in arrays.items() if k.startswith(prefix)
            }
            module.load_state_dict(state)
        self.encoder_.eval()
        self.forest_ = FlatTrees.from_arrays(arrays, "forest_")
        self.centroids_, self.shift_, self.scales_ = arrays["centroids"], arrays["shift"], arrays["scales"]
        self.floor_, self.factor_ = (float(v) for v in arrays["interval"])
        self.reference_, self.support_ = arrays["reference"], Support.of(arrays)
        self.names_ = arrays["names"].tobytes().decode().split("\n")
        self.fitted_ = True
