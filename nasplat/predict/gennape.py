"""GENNAPE: a contrastively pretrained graph encoder, fuzzy clusters of its embeddings, and heads by cluster.

Stages: contrastive pretraining on unlabelled graphs; tuning of the encoder on the labels (none of it with
`tune_epochs=0`, as in the paper, where the encoder stays frozen); fuzzy C-means on the embeddings; three ensembles of
heads, whose answers are averaged by membership; a forest on graph statistics. One ensemble learns the label itself and
answers inside the support. Outside it networks are ranked by the equal-weight mean of `members`: label, scaled (the
label divided by log10(GFLOPs + 1) + 1, the paper's transform) and pairwise (which of two networks is better) are the
ensembles, forest and flops the rest. The paper's zero-shot estimator is the ensembles and flops; on our data forest and
flops rank most other families better, so they are the default.
Source: Mills et al., AAAI 2023, arXiv:2211.17226 (eq. 5 is the transform). Written from the paper; nothing is public.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log10
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from nasplat.errors import PredictorError
from nasplat.features.view import View
from nasplat.learners.conformal import fewest, half_width
from nasplat.learners.contrastive import Pretraining, pretrain
from nasplat.learners.encoder import Encoder, encode
from nasplat.learners.flat_trees import FlatTrees
from nasplat.learners.forest import grow_forest
from nasplat.learners.fuzzy import fuzzy_centroids, memberships
from nasplat.learners.heads import HEAD, Heads, pairwise_loss, regression_loss, train_heads
from nasplat.learners.normal_scores import NormalScores
from nasplat.learners.packing import pack_lines, pack_modules, unpack_lines, unpack_modules
from nasplat.learners.schedule import one_cycle
from nasplat.learners.support import Support
from nasplat.predict.contract import counted
from nasplat.predict.finetuned import AbstractTunable

Matrix = NDArray[np.float64]
Progress = Callable[[int, int, str], None]
MEMBERS = ("label", "scaled", "pairwise", "forest", "flops")
"""Names of those who may rank networks outside the support."""
ENSEMBLES = MEMBERS[:3]
"""The members that are heads on the embedding."""
TREES, LEAF = 100, 20
"""Trees of the forest, and fewest networks of a leaf."""
LOWEST = -4.0
"""Standardised targets are cut off here: networks that failed to train would otherwise own the loss."""
FEWEST = 40
"""Fewest labels that are learnt from."""


def divisor(gigaflops: float) -> float:
    """Compute what a label is divided by before it is learnt, log10(F + 1) + 1. Source: eq. 5.

    Args:
        gigaflops: F, in 1e9 FLOPs of the whole network; 2 per MAC.

    Returns:
        A number of at least 1.

    Example:
        >>> divisor(9.0)
        2.0
    """
    return log10(gigaflops + 1.0) + 1.0


@dataclass(eq=False, repr=False)
class Gennape(AbstractTunable):
    """A graph encoder pretrained by contrast, with an ensemble of heads over fuzzy clusters of its embeddings.

    Example:
        >>> import nasplat
        >>> nasplat.load_predictor("gennape-nb101").get_params()["clusters"]
        10
    """

    family: ClassVar[str] = "gennape"

    hidden: int = 64
    """Width of a node's state in the encoder."""
    layers: int = 5
    """Rounds of messages of the encoder."""
    embedding: int = 64
    """Width of a graph's vector."""
    dropout: float = 0.1
    """Share of the encoder's updates that is dropped in training."""
    pretrain_epochs: int = 5
    """Contrastive passes over all graphs, in which no label is seen."""
    tune_epochs: int = 20
    """Passes that tune the encoder on labels; 0 keeps it as pretrained, as the paper does."""
    head_epochs: int = 60
    """Passes over the embeddings that train the heads."""
    clusters: int = 10
    """Number C of fuzzy clusters, and of heads."""
    fuzziness: float = 2.0
    """The paper's m of fuzzy C-means, above 1."""
    temperature: float = 0.05
    """T of the contrastive targets, see `nasplat.learners.contrastive`."""
    sign: float = -1.0
    """Sign of the spectral distance in the targets: -1 favours graphs of similar spectra, 1 is the paper's wording."""
    views_by: str = "dropout"
    """What makes two encodings of a graph differ: 'dropout' or 'augment', which hides parts of the graph."""
    trunk: str = "flow"
    """Kind of messages of the encoder: 'flow', 'kgnn', 'gin', 'gatv2' or 'transformer'."""
    members: Sequence[str] = ("forest", "flops")
    """Names among `MEMBERS` whose mean ranks networks outside the support."""
    contrast: float = 1.0
    """Weight of the contrastive loss in pretraining; 0 leaves it out."""
    batch_size: int = 64
    """Labelled graphs of a step that tunes the encoder."""
    lr: float = 2e-3
    """Peak learning rate of tuning."""
    level: float = 0.9
    """Share of labels that the interval is to hold, between 0 and 1."""
    metric: str = "value"
    """Name and unit of the label."""
    seed: int = 0
    """Number that decides everything random."""
    device: str = "cpu"
    """Torch device on which the encoder learns and answers, such as 'cuda'."""

    # -- learning ------------------------------------------------------------------------------------------------------

    def fit(
        self,
        items: Sequence[Any],
        labels: Sequence[float],
        progress: Progress | None = None,
        unlabelled: Sequence[Any] = (),
        known: Matrix | None = None,
        groups: Sequence[str] | None = None,
    ) -> Self:
        """Learn from labelled networks; a tenth of them calibrates the interval.

        Args:
            items: Graphs, or what has a `graph()` method; rows of one network are one network with the mean of their
                labels.
            labels: One value per item; larger means better. Those that are not finite are left out.
            progress: Called after each step of each stage with (steps done, steps in all, note).
            unlabelled: More networks, of any space, that pretraining sees.
            known: What is known of the unlabelled networks without training, such as zero-cost proxies: shape
                (len(unlabelled), k), standardised, nan where unknown. Pretraining learns it beside the contrastive
                loss.
            groups: Name of each item's function, such as its `network_key`: what interval and weights are measured on
                holds no function that was learnt. By default what the items themselves say.

        Returns:
            The predictor itself.

        Raises:
            PredictorError: fewer than 40 distinct networks with a finite label, labels not one per item or all equal,
                an unknown member, or `known` of another length than `unlabelled`.
        """
        if not self.members or set(self.members) - set(MEMBERS):
            raise PredictorError(
                f"expected members among {', '.join(MEMBERS)}, got {list(self.members)}.\n  Use some of these."
            )
        if known is not None and len(known) != len(unlabelled):
            raise PredictorError(
                f"expected one row of known per unlabelled network, got {len(known)} and {len(unlabelled)}.\n"
                "  Align them."
            )
        distinct = self._lessons(items, labels, FEWEST, groups=groups)
        views, y = distinct.views, distinct.labels
        rng = np.random.default_rng(self.seed)
        held, grown = distinct.hold_out(max(len(y) // 10, fewest(self.level)), rng)
        learnt = [views[i] for i in grown]
        target, scaled = self._targets(learnt, y[grown])
        place = torch.device(self.device)
        with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
            torch.manual_seed(self.seed)
            self.encoder_ = self._encoder().to(place)
            if self.pretrain_epochs:
                self._pretrain([*learnt, *self.views(unlabelled)], known, rng, progress)
            self._tune(learnt, target, rng, progress)
            x = self._learn_ensembles(learnt, target, scaled, rng, progress)
        self.encoder_.eval()
        order_only = self._ensemble(x, "pairwise")[0]
        self.scales_[3] = order_only.mean(), order_only.std() + 1e-9
        self.names_ = list(views[0].statistics)
        scores = NormalScores.learn(y[grown]).forward(y[grown])
        self.forest_ = grow_forest(self._described(learnt), scores, TREES, LEAF, seed=self.seed)[0]
        self.fitted_ = True
        self._calibrate_interval([views[i] for i in held], y[held])
        self.support_ = Support.learn(np.array([list(v.statistics.values()) for v in views]), self.seed)
        self.reference_ = np.quantile(y, np.linspace(0, 1, 101))
        return self

    def _targets(self, learnt: list[View], y: Matrix) -> tuple[Matrix, Matrix]:
        """The label and the label scaled by FLOPs, both standardised and cut off at `LOWEST`; sets `scales_`."""
        sizes = np.log10([max(1, v.macs) for v in learnt])
        scaled = y / np.array([divisor(v.gigaflops) for v in learnt])
        # mean and spread of the label, of the scaled label, of log10 MACs and (later) of what the pairwise heads answer
        self.scales_ = np.array([*((c.mean(), c.std() + 1e-9) for c in (y, scaled, sizes)), (0.0, 1.0)])
        target, second = (
            np.maximum((c - mean) / spread, LOWEST)
            for c, (mean, spread) in zip((y, scaled), self.scales_, strict=False)
        )
        return target, second

    def _learn_ensembles(
        self,
        learnt: list[View],
        target: Matrix,
        scaled: Matrix,
        rng: np.random.Generator,
        progress: Progress | None,
    ) -> Matrix:
        """Cluster the embeddings and train the three ensembles on them; returns the standardised embeddings."""
        embedded = encode(self.encoder_, learnt).double().numpy()
        self.shift_ = np.stack([embedded.mean(0), embedded.std(0) + 1e-6])
        x = (embedded - self.shift_[0]) / self.shift_[1]
        self.centroids_ = fuzzy_centroids(x, min(self.clusters, len(x)), self.fuzziness, self.seed)
        inputs = x, memberships(x, self.centroids_, self.fuzziness)
        kinds = {
            "label": (target, regression_loss),
            "scaled": (scaled, regression_loss),
            "pairwise": (target, pairwise_loss),
        }
        self.heads_: dict[str, Heads] = {}
        for name, (wanted, loss) in kinds.items():
            heads = Heads(len(self.centroids_), self.embedding)
            self.heads_[name] = train_heads(heads, inputs, wanted, self.head_epochs, rng, loss, progress=progress)
        return x

    def _calibrate_interval(self, held: list[View], y: Matrix) -> None:
        """Set the interval's factor from networks that nothing was learnt from."""
        mean, spread = self._ensemble(self.embed(held), "label")
        self.floor_ = float(np.median(spread)) + 1e-6
        residuals = np.maximum((y - self.scales_[0, 0]) / self.scales_[0, 1], LOWEST) - mean
        self.factor_ = half_width(residuals / (spread + self.floor_), self.level)

    def _encoder(self) -> Encoder:
        """An encoder with random weights."""
        return Encoder(self.hidden, self.layers, self.embedding, self.dropout, self.trunk)

    def _pretrain(
        self, views: list[View], known: Matrix | None, rng: np.random.Generator, progress: Progress | None
    ) -> None:
        """Pretrain the encoder on all graphs; nothing is told of the labelled ones, which stand first."""
        if known is not None:
            known = np.vstack([np.full((len(views) - len(known), known.shape[1]), np.nan), known])
        settings = Pretraining(
            self.pretrain_epochs,
            temperature=self.temperature,
            sign=self.sign,
            views_by=self.views_by,
            contrast=self.contrast,
        )
        pretrain(self.encoder_, views, np.array([v.spectrum() for v in views]), settings, known, rng, progress)

    def _described(self, seen: Sequence[View]) -> Matrix:
        """What the forest sees, shape (n, f)."""
        return counted(seen, self.names_)

    def _tune(self, views: list[View], target: Matrix, rng: np.random.Generator, progress: Progress | None) -> None:
        """Encoder and one plain head learn the labels together; the head is thrown away."""
        if not self.tune_epochs:
            return
        device = self.encoder_.readout.weight.device
        head = nn.Sequential(nn.ReLU(), nn.Linear(self.embedding, HEAD), nn.ReLU(), nn.Linear(HEAD, 1)).to(device)
        parameters = [*self.encoder_.parameters(), *head.parameters()]
        y = torch.from_numpy(target).float().to(device)
        per_epoch = max(1, len(views) // self.batch_size)
        optimiser = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=1e-4)
        schedule = one_cycle(optimiser, self.lr, self.tune_epochs * per_epoch)
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
                    done = epoch * per_epoch + step + 1
                    progress(done, self.tune_epochs * per_epoch, f"label loss {loss.item():.3f}")

    # -- answering -----------------------------------------------------------------------------------------------------

    def embed(self, views: Sequence[View]) -> Matrix:
        """Encode networks.

        Args:
            views: Views of n networks.

        Returns:
            Embeddings of shape (n, E), standardised over the training networks.
        """
        return (encode(self.encoder_, views).double().numpy() - self.shift_[0]) / self.shift_[1]

    def _ensemble(self, embedded: Matrix, name: str) -> tuple[Matrix, Matrix]:
        """Mean and spread of the heads' answers, each of shape (n,), in standard deviations of their target."""
        return self.heads_[name].answers(embedded, self.centroids_, self.fuzziness)

    def _reason(self, seen: View) -> str:
        return self._reasons([seen])[0]

    def _reasons(self, seen: Sequence[View]) -> list[str]:
        return self.support_.reasons_of(seen, self.names_)

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        mean, spread = self._ensemble(self.embed(seen), "label")
        half = self.factor_ * (spread + self.floor_)
        values = self.scales_[0, 0] + self.scales_[0, 1] * np.stack([mean, mean - half, mean + half], 1)
        return [tuple(row) for row in values.tolist()]

    def answers(self, items: Sequence[Any]) -> dict[str, Matrix]:
        """Ask every member, whether it is among `members` or not.

        Args:
            items: Networks, as for `predict`.

        Returns:
            For each name in `MEMBERS` an array of shape (len(items),), in standard deviations of the training labels;
            what 'scaled' answers is transformed back.
        """
        seen = self.views(items)
        return self._parts(seen, self.embed(seen))

    def _parts(self, seen: Sequence[View], embedded: Matrix) -> dict[str, Matrix]:
        """What `answers` returns, from embeddings that are known."""
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
        inside = np.array([not reason for reason in self._reasons(seen)])
        folded = np.where(inside, parts["label"], np.mean([parts[m] for m in self.members], 0))
        return (self.scales_[0, 0] + folded * self.scales_[0, 1]).tolist()

    def describe(self, seen: Sequence[View]) -> list[Matrix]:
        """Describe networks as the contract does, with the members' answers and the embedding beside.

        Args:
            seen: Views of n networks.

        Returns:
            Feature sets of shape (n, f); the first knows nothing of what was learnt.
        """
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
        own = {
            "centroids": self.centroids_,
            "shift": self.shift_,
            "scales": self.scales_,
            "interval": np.array([self.floor_, self.factor_]),
            "reference": self.reference_,
            "names": pack_lines(self.names_),
        }
        learnt = pack_modules({"encoder": self.encoder_, **self.heads_})
        return learnt | own | self.forest_.arrays("forest_") | self.support_.arrays()

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.encoder_ = self._encoder()
        self.heads_ = {name: Heads(len(arrays["centroids"]), self.embedding) for name in ENSEMBLES}
        unpack_modules(arrays, {"encoder": self.encoder_, **self.heads_})
        self.encoder_.eval()
        self.forest_ = FlatTrees.from_arrays(arrays, "forest_")
        self.centroids_, self.shift_, self.scales_ = arrays["centroids"], arrays["shift"], arrays["scales"]
        self.floor_, self.factor_ = (float(v) for v in arrays["interval"])
        self.reference_, self.support_ = arrays["reference"], Support.of(arrays)
        self.names_ = unpack_lines(arrays["names"])
        self.fitted_ = True
