"""One predictor for many families: where a network stands within its family, in percent, or no answer.

Labels of different families cannot be compared, ranks inside a family can: every family's labels become normal scores. Two answers:

near    the network lies in the support of a family that was learnt: the mean of a forest on graph statistics and of the fuzzy ensemble of heads
        on a pretrained encoder's embedding; the interval is calibrated on that family's own networks left out.
against the family is new, but some of its networks are at hand, without labels: statistics and embeddings relative to these enter a second
        forest, which is averaged with MACs; scale and interval come from families left out, group by group.

Otherwise it abstains. Groups are families of one search space, which share graphs; they are left out together.
Sources: GENNAPE, Mills et al., AAAI 2023, arXiv:2211.17226 (encoder, clusters, heads); Barber et al. 2021, arXiv:1905.02928 (intervals from what
was left out).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
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
from nasplat.predict.gennape import Heads
from nasplat.predict.prediction import Prediction

Matrix = NDArray[np.float64]
Progress = Callable[[int, int, str], None]
TREES, LEAF = 60, 10
"""Of each forest, and fewest networks of a leaf."""
REFERENCES = 128
"""Networks that describe a family's support."""
FOLDS = 5
"""Of a family's own calibration."""
FEWEST = 20
"""Networks that make a reference family."""
CUT = 4.0
"""Standard deviations beyond which a relative feature says no more."""


class Universal(AbstractTunable):
    """Percentile within a family; see the module."""

    family: ClassVar[str] = "universal"

    def __init__(
        self,
        most: int = 800,
        structure: float = 0.15,
        hidden: int = 64,
        layers: int = 5,
        embedding: int = 64,
        pretrain_epochs: int = 10,
        contrast: float = 0.0,
        clusters: int = 10,
        fuzziness: float = 2.0,
        head_epochs: int = 60,
        level: float = 0.9,
        metric: str = "percentile in its family",
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        """Args:
        most: Networks learnt of each family, at random.
        structure: Share of the relative forest in answers on new families; MACs have the rest.
        hidden: Width of the encoder's states.
        layers: Rounds of messages.
        embedding: Width of a graph's vector.
        pretrain_epochs: Passes over the unlabelled graphs.
        contrast: Weight of the contrastive loss there, beside what is known.
        clusters: C of fuzzy C-means.
        fuzziness: m of fuzzy C-means.
        head_epochs: Passes that train the heads.
        level: Of the intervals.
        metric: Name and unit of the answer.
        seed: Decides everything random.
        device: Where the encoder learns and answers.
        """
        self.most, self.structure, self.hidden, self.layers, self.embedding = most, structure, hidden, layers, embedding
        self.pretrain_epochs, self.contrast, self.clusters, self.fuzziness = (
            pretrain_epochs,
            contrast,
            clusters,
            fuzziness,
        )
        self.head_epochs, self.level, self.metric, self.seed, self.device = head_epochs, level, metric, seed, device

    # -- learning ------------------------------------------------------------------------------------------------------

    def fit(
        self,
        items: Sequence[Any],
        labels: Sequence[float],
        families: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        progress: Progress | None = None,
        unlabelled: Sequence[Any] = (),
        known: Matrix | None = None,
        validate: bool = True,
        wide: Sequence[str] = (),
    ) -> Self:
        """Learn from families of labelled networks.

        Args:
            items: Graphs, or what has a `graph()` method.
            labels: One each; compared inside a family only, larger means better.
            families: Name of each network's family; default: all are one.
            groups: Of each network; families of one group are left out together. Default: every family is one.
            progress: Called with (steps done, steps, note) in each stage.
            unlabelled: Networks of any space, for pretraining; default the labelled ones.
            known: Shape (len(unlabelled), k), normal scores, nan where unknown: what is known of them without training.
            validate: Leave groups out, which costs a forest each; without it nothing is answered on new families.
            wide: Families that are learnt and never answered for, such as a zoo, near which almost everything lies.

        Raises:
            PredictorError: a family of fewer than 40 networks, or columns of unequal length.
        """
        views = self.views(items)
        y = np.asarray(labels, np.float64)
        names = np.asarray(families if families is not None else ["family"] * len(views))
        belongs = np.asarray(groups if groups is not None else names)
        if not len(views) == len(y) == len(names) == len(belongs) or (
            known is not None and len(known) != len(unlabelled)
        ):
            raise PredictorError(
                "expected one label, family and group per network, and one row of known per unlabelled one.\n  Align."
            )
        rng = np.random.default_rng(self.seed)
        self.families_ = list(dict.fromkeys(names.tolist()))
        chosen = {f: rng.permutation(np.flatnonzero(names == f))[: self.most] for f in self.families_}
        small = [f for f in self.families_ if len(chosen[f]) < 40]
        if small:
            raise PredictorError(
                f"expected at least 40 networks of each family, got {len(chosen[small[0]])} of {small[0]!r}.\n  Leave it out."
            )
        self.rows_ = chosen
        """Of each family the numbers of the items that were learnt."""
        rows = np.concatenate(list(chosen.values()))
        seen, names, belongs = [views[i] for i in rows], names[rows], belongs[rows]
        maps = {f: NormalScores.learn(y[chosen[f]]) for f in self.families_}
        target = np.concatenate([maps[f].forward(y[chosen[f]]) for f in self.families_])
        self.names_ = list(seen[0].statistics)
        x = self._counted(seen)
        shares = np.concatenate(
            [np.full(len(chosen[f]), len(rows) / len(chosen[f]) / len(chosen)) for f in self.families_]
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._learn_embedding(seen, unlabelled, known, rng, progress)
            embedded = self.embed(seen)
            both = np.hstack([x, embedded])
            relative = np.concatenate(
                [_relative(both[names == f], *_moments(both[names == f])) for f in self.families_]
            )
            self.centroids_ = fuzzy.fit(embedded, min(self.clusters, len(embedded)), self.fuzziness, self.seed)
            folds = np.concatenate([rng.permutation(len(chosen[f])) % FOLDS for f in self.families_])
            left_out = np.empty(len(rows))
            for fold in range(FOLDS):
                held = folds == fold
                near = self._near_models(x[~held], embedded[~held], target[~held], shares[~held], rng)
                left_out[held] = self._near(x[held], embedded[held], *near)
                if progress is not None:
                    progress(fold + 1, FOLDS, "networks left out")
            self.near_forest_, self.heads_ = self._near_models(x, embedded, target, shares, rng)
        self.widths_ = np.array([_width((target - left_out)[names == f], self.level) for f in self.families_])
        self.agreement_ = {f: _correlation(left_out[names == f], target[names == f]) for f in self.families_}
        """Of each family, how its networks left out correlate with their labels."""
        everyone = list(dict.fromkeys(belongs.tolist()))
        kinds = [g for g in everyone if not set(names[belongs == g]) & set(wide)]
        self.supports_ = [Support.learn(x[belongs == g][:, 2:], self.seed, REFERENCES) for g in kinds]
        self.primary_ = np.array([self.families_.index(names[belongs == g][0]) for g in kinds])
        """Of each group, the family that stands for it: its first."""
        self.moments_ = np.array([_moments(both[belongs == g]) for g in kinds])
        self.far_forest_ = grow_forest(relative, target, TREES, LEAF, seed=self.seed, weights=shares)[0]
        self.scale_, self.doubt_ = 0.0, np.inf
        self.left_out_: dict[str, tuple[Matrix, Matrix]] = {}
        """Of each family targets (n,) and parts (n, 2) by a fit without its group; empty unless validated, and after loading."""
        if validate and len(everyone) > 2:
            for number, g in enumerate(everyone):
                held = belongs == g
                other = grow_forest(relative[~held], target[~held], TREES, LEAF, seed=self.seed, weights=shares[~held])[
                    0
                ]
                for f in dict.fromkeys(names[held].tolist()):
                    mine = names == f
                    self.left_out_[f] = target[mine], parts(relative[mine], other)
                if progress is not None:
                    progress(number + 1, len(everyone), "families left out")
            self.scale_, self.doubt_ = doubt([(t, self._blend(p)) for t, p in self.left_out_.values()], self.level)
        self.reference_ = np.linspace(0, 100, 101)
        self.against_: tuple[Matrix, Support, Matrix] | None = None
        self.fitted_ = True
        return self

    def _counted(self, seen: Sequence[View]) -> Matrix:
        return counted([replace(v, statistics={n: v.statistics[n] for n in self.names_}) for v in seen])

    def _learn_embedding(
        self,
        seen: list[View],
        unlabelled: Sequence[Any],
        known: Matrix | None,
        rng: np.random.Generator,
        progress: Progress | None,
    ) -> None:
        corpus = self.views(unlabelled) or seen
        self.encoder_ = Encoder(self.hidden, self.layers, self.embedding).to(self.device)
        if self.pretrain_epochs:
            contrast = self.contrast if known is not None else 1.0
            spectra = np.array([v.spectrum() for v in corpus]) if contrast else np.zeros((len(corpus), 1))
            contrastive.pretrain(
                *(self.encoder_, corpus, spectra, self.pretrain_epochs),
                batch_size=64,
                known=known,
                contrast=contrast,
                rng=rng,
                progress=progress,
            )
        self.encoder_.eval()
        raw = encode(self.encoder_, seen).double().numpy()
        self.shift_ = np.stack([raw.mean(0), raw.std(0) + 1e-6])

    def _near_models(
        self, x: Matrix, embedded: Matrix, target: Matrix, shares: Matrix, rng: np.random.Generator
    ) -> tuple[FlatTrees, Heads]:
        grown = grow_forest(x, target, TREES, LEAF, seed=self.seed, weights=shares)[0]
        heads = Heads(len(self.centroids_), self.embedding)
        membership = torch.from_numpy(fuzzy.memberships(embedded, self.centroids_, self.fuzziness)).float()
        inputs, y, weights = (torch.from_numpy(a).float() for a in (embedded, target, shares))
        size = min(256, len(y))
        per_epoch = len(y) // size
        optimiser = torch.optim.AdamW(heads.parameters(), lr=3e-3, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.head_epochs * per_epoch)
        for _ in range(self.head_epochs):
            order = torch.from_numpy(rng.permutation(len(y)))
            for step in range(per_epoch):
                rows = order[step * size : (step + 1) * size]
                answers = heads(inputs[rows], membership[rows])[0]
                loss = (weights[rows] * F.smooth_l1_loss(answers, y[rows], beta=0.5, reduction="none")).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
        return grown, heads.eval()

    # -- answering -----------------------------------------------------------------------------------------------------

    def embed(self, views: Sequence[View]) -> Matrix:
        """Standardised embeddings, shape (len(views), E)."""
        return (encode(self.encoder_, views).double().numpy() - self.shift_[0]) / self.shift_[1]

    def _near(self, x: Matrix, embedded: Matrix, grown: FlatTrees, heads: Heads) -> Matrix:
        """Normal scores inside families that were learnt."""
        membership = torch.from_numpy(fuzzy.memberships(embedded, self.centroids_, self.fuzziness)).float()
        with torch.no_grad():
            answers = heads(torch.from_numpy(embedded).float(), membership)[0].double().numpy()
        return (answers + grown.answers(x).mean(1)) / 2

    def _blend(self, found: Matrix) -> Matrix:
        """Answers inside a new family, before they are scaled, from `parts`."""
        return self.structure * found[:, 0] + (1 - self.structure) * found[:, 1]

    def against(self, items: Sequence[Any]) -> Universal:
        """A copy that tells where networks stand among these, whatever family they are of; no label is needed.

        Args:
            items: At least 20 networks of the family, such as random samples of a search space.

        Raises:
            PredictorError: fewer than 20, or the predictor was fitted without `validate`.
        """
        seen = self.views(items)
        if len(seen) < FEWEST or not np.isfinite(self.doubt_):
            raise PredictorError(
                f"expected at least {FEWEST} networks and a predictor that has left families out, got {len(seen)}.\n  Sample more."
            )
        x = self._both(seen)
        moments = _moments(x)
        found = copy(self)
        structure = self.far_forest_.answers(_relative(x, *moments)).mean(1)
        shape = np.array([structure.mean(), max(structure.std(), 1e-9)])
        found.against_ = moments, Support.learn(self._counted(seen)[:, 2:], self.seed), shape
        return found

    def _inside(self, seen: View) -> tuple[int, str]:
        """The group whose support holds a network, or −1 and why none does."""
        if seen.unknown_ops:
            return -1, f"it uses operations no predictor knows: {', '.join(seen.unknown_ops)}"
        features = np.array([seen.statistics[n] for n in self.names_])
        if self.against_ is not None:
            reason = self.against_[1].reason(features, self.names_)
            return (-1, f"it is not of the reference family: {reason}") if reason else (0, "")
        distances = np.array([s.distance(features) for s in self.supports_])
        inside = np.flatnonzero(distances <= 1.0)
        if len(inside):  # of several families that which is nearest by a common measure: wide ones hold much
            scale = self.moments_[:, 1, 2 : 2 + len(features)].max(0)
            scale = np.where(scale > 0, scale, 1.0)
            apart = [np.sqrt((((self.supports_[g].raw() - features) / scale) ** 2).sum(1)).min() for g in inside]
            return int(inside[np.argmin(apart)]), ""
        best = int(np.argmin(distances))
        reason = self.supports_[best].reason(features, self.names_)
        return (
            -1,
            f"it is of none of the {len(self.families_)} families learnt; nearest is {self._name(best)}: {reason}",
        )

    def _name(self, group: int) -> str:
        return self.families_[int(self.primary_[group])]

    def _reason(self, seen: View) -> str:
        return self._inside(seen)[1]

    def _normal(self, seen: Sequence[View]) -> Matrix:
        """Scores and half-widths, shape (2, n), of networks inside the support."""
        if self.against_ is not None:
            return np.stack([self.scale_ * self._answer(seen), np.full(len(seen), self.doubt_)])
        x = self._counted(seen)
        groups = [self._inside(v)[0] for v in seen]
        widths = np.array([self.widths_[self.primary_[g]] for g in groups])
        return np.stack([self._near(x, self.embed(seen), self.near_forest_, self.heads_), widths])

    def _both(self, seen: Sequence[View]) -> Matrix:
        """Counts, statistics and embeddings side by side."""
        return np.hstack([self._counted(seen), self.embed(seen)])

    def _answer(self, seen: Sequence[View]) -> Matrix:
        assert self.against_ is not None
        (mean, scale), _, (middle, spread) = self.against_
        relative = _relative(self._both(seen), mean, scale)
        return self._blend(
            np.stack([(self.far_forest_.answers(relative).mean(1) - middle) / spread, relative[:, 0]], 1)
        )

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        from scipy.special import ndtr

        z, width = self._normal(seen)
        return [tuple(row) for row in (100 * ndtr(np.stack([z, z - width, z + width], 1))).tolist()]

    def predict(self, items: Sequence[Any], example_input: Any = None) -> list[Prediction]:
        """See `AbstractPredictor.predict`; mean, low and high are percentiles (0 to 100) within `Prediction.reference`."""
        seen = self.views(items, example_input)
        found = []
        for v, p in zip(seen, super().predict(seen), strict=True):
            if p.in_support:
                where = "the reference networks" if self.against_ is not None else self._name(self._inside(v)[0])
                p = replace(p, reference=where, percentile=p.mean)
            found.append(p)
        return found

    def _scores(self, seen: Sequence[View]) -> list[float]:
        """Inside a family learnt its answer; otherwise networks that are asked together are one another's reference."""
        if self.against_ is not None:
            return self._answer(seen).tolist()
        x = self._both(seen)
        if len(seen) < FEWEST:
            far = _relative(x, *self.moments_.mean(0))[:, 0]
        else:
            far = self.scale_ * self._blend(parts(_relative(x, *_moments(x)), self.far_forest_))
        inside = np.array([self._inside(v)[0] >= 0 for v in seen])
        counts, embedded = np.split(x, [2 + len(self.names_)], 1)
        return np.where(inside, self._near(counts, embedded, self.near_forest_, self.heads_), far).tolist()

    def describe(self, seen: Sequence[View]) -> list[Matrix]:
        """See `AbstractPredictor.describe`; the embedding and the answers are added."""
        counts, embedded = counted(seen), self.embed(seen)
        near = self._near(self._counted(seen), embedded, self.near_forest_, self.heads_)[:, None]
        return [counts, np.hstack([near, counts]), np.hstack([counts, embedded]), np.hstack([near, counts, embedded])]

    # -- disk ----------------------------------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, NDArray[Any]]:
        learnt: dict[str, NDArray[Any]] = {
            f"{m}.{k}": t.detach().cpu().numpy()
            for m, module in {"encoder": self.encoder_, "heads": self.heads_}.items()
            for k, t in module.state_dict().items()
        }
        own = {
            "centroids": self.centroids_,
            "shift": self.shift_,
            "widths": self.widths_,
            "primary": self.primary_,
            "moments": self.moments_,
            "doubt": np.array([self.scale_, self.doubt_]),
            "names": _text(self.names_),
            "families": _text(self.families_),
        }
        for where, grown in (("near", self.near_forest_), ("far", self.far_forest_)):
            own |= grown.arrays(f"{where}_")
        for number, support in enumerate(self.supports_):
            own |= {f"group{number}_{k}": v for k, v in support.arrays().items()}
        return learnt | own

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.encoder_ = Encoder(self.hidden, self.layers, self.embedding)
        self.centroids_, self.shift_, self.widths_ = arrays["centroids"], arrays["shift"], arrays["widths"]
        self.heads_ = Heads(len(self.centroids_), self.embedding)
        for name, module in (("encoder.", self.encoder_), ("heads.", self.heads_)):
            module.load_state_dict(
                {k.removeprefix(name): torch.from_numpy(v.copy()) for k, v in arrays.items() if k.startswith(name)}
            )
            module.eval()
        self.near_forest_, self.far_forest_ = (FlatTrees.from_arrays(arrays, f"{w}_") for w in ("near", "far"))
        self.primary_, self.moments_ = arrays["primary"], arrays["moments"]
        self.scale_, self.doubt_ = (float(v) for v in arrays["doubt"])
        self.names_, self.families_ = _lines(arrays["names"]), _lines(arrays["families"])
        prefixes = [f"group{i}_" for i in range(len(self.primary_))]
        self.supports_ = [
            Support.of({k.removeprefix(p): v for k, v in arrays.items() if k.startswith(p)}) for p in prefixes
        ]
        self.reference_ = np.linspace(0, 100, 101)
        self.left_out_, self.against_ = {}, None
        self.fitted_ = True


def parts(relative: Matrix, grown: FlatTrees) -> Matrix:
    """Of a family's networks, shape (n, f), the forest's answers and log10 MACs, both standardised: shape (n, 2)."""
    structure = grown.answers(relative).mean(1)
    return np.stack([(structure - structure.mean()) / max(structure.std(), 1e-9), relative[:, 0]], 1)


def doubt(left_out: Sequence[tuple[Matrix, Matrix]], level: float) -> tuple[float, float]:
    """What a new family's answers must be multiplied with, and the half-width of their interval; families count equally.

    Args:
        left_out: Of each family targets and answers, as normal scores.
        level: Share of a new family's networks, on average over families, that the interval must hold.
    """
    scale = max(
        0.0, float(np.mean([(t * a).mean() for t, a in left_out]) / np.mean([(a * a).mean() for _, a in left_out]))
    )
    residuals = [np.abs(t - scale * a) for t, a in left_out]
    values = np.concatenate(residuals)
    weights = np.concatenate([np.full(len(r), 1 / len(r)) for r in residuals])
    order = np.argsort(values)
    reached = np.searchsorted(np.cumsum(weights[order]), level * weights.sum() * (1 - 1e-12))
    return scale, float(values[order[min(reached, len(values) - 1)]])


def _moments(x: Matrix) -> Matrix:
    """Mean and standard deviation of each feature, shape (2, f); 0 where it never varies."""
    spread = x.std(0)
    return np.stack([x.mean(0), np.where(spread < 1e-9, 0.0, spread)])


def _relative(x: Matrix, mean: Matrix, spread: Matrix) -> Matrix:
    return np.where(spread > 0, np.clip((x - mean) / np.where(spread > 0, spread, 1.0), -CUT, CUT), 0.0)


def _width(residuals: Matrix, level: float) -> float:
    return half_width(residuals, level) if len(residuals) >= fewest(level) else float(np.abs(residuals).max())


def _correlation(a: Matrix, b: Matrix) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def _text(lines: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(lines).encode(), np.uint8)


def _lines(text: NDArray[Any]) -> list[str]:
    return text.tobytes().decode().split("\n")
