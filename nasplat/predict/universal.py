"""One predictor for many families: where a network stands within its family, in percent, or no answer.

Labels of different families cannot be compared, ranks inside a family can: every family's labels become normal scores.
Two answers:

near    the network lies in the support of a family that was learnt: the mean of a forest on graph statistics and of the
        fuzzy ensemble of heads on a pretrained encoder's embedding; the interval is calibrated on that family's own
        networks left out.
against the family is new, but some of its networks are at hand, without labels: statistics and embeddings relative to
these
        enter a second forest, which is averaged with MACs; scale and interval come from families left out, group by
        group.

Otherwise it abstains. Groups are families of one search space, which share graphs; they are left out together.
Sources: GENNAPE, Mills et al., AAAI 2023, arXiv:2211.17226 (encoder, clusters, heads); Barber et al. 2021,
arXiv:1905.02928 (intervals from what was left out).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from nasplat.errors import PredictorError
from nasplat.features.twins import structure_key
from nasplat.features.view import View
from nasplat.learners.conformal import fewest, half_width
from nasplat.learners.contrastive import Pretraining, pretrain
from nasplat.learners.encoder import Encoder, encode
from nasplat.learners.flat_trees import FlatTrees
from nasplat.learners.forest import grow_forest
from nasplat.learners.fuzzy import fuzzy_centroids, memberships
from nasplat.learners.heads import Heads, train_heads, weighted_loss
from nasplat.learners.normal_scores import NormalScores
from nasplat.learners.packing import pack_lines, pack_modules, unpack_lines, unpack_modules
from nasplat.learners.support import Support, apart, table, unknown
from nasplat.predict.contract import counted
from nasplat.predict.finetuned import AbstractTunable
from nasplat.predict.prediction import Prediction
from nasplat.tables.splits import fold_numbers

Matrix = NDArray[np.float64]
Progress = Callable[[int, int, str], None]
TREES, LEAF = 60, 10
"""Trees of each forest, and fewest networks of a leaf."""
REFERENCES = 128
"""Networks that describe a family's support."""
FOLDS = 5
"""Parts into which the learnt networks fall; each part is answered by a fit on the others, for the intervals."""
FEWEST = 20
"""Fewest networks that make a reference family."""
LABELLED = 40
"""Fewest labelled networks of a family that is learnt."""
CUT = 4.0
"""Standard deviations beyond which a relative feature says no more."""


@dataclass(frozen=True)
class FamilyData:
    """What is learnt beside items and labels: whose families the networks are, and graphs without labels."""

    families: Sequence[str] | None = None
    """Name of each network's family; by default all are one."""
    groups: Sequence[str] | None = None
    """Group of each network: families of one group are left out together. By default every family is a group."""
    unlabelled: Sequence[Any] = ()
    """Networks of any space, for pretraining; by default the labelled ones."""
    known: Matrix | None = None
    """What is known of the unlabelled networks without training them: shape (len(unlabelled), k), normal scores, nan
    where unknown."""
    validate: bool = True
    """Whether groups are left out, which costs a forest each; without it nothing is answered on new families."""
    wide: Sequence[str] = ()
    """Families that are learnt and never answered for, such as a zoo, near which almost everything lies."""
    networks: Sequence[str] | None = None
    """Name of each network's function, such as its `network_key`; networks of one function are left out together. By
    default what the items themselves say."""


@dataclass(frozen=True)
class _Learnt:
    """The n networks that are learnt, one row each."""

    views: list[View]
    names: NDArray[Any]
    """Family of each."""
    belongs: NDArray[Any]
    """Group of each."""
    target: Matrix
    """Label as a normal score within its family."""
    shares: Matrix
    """Weight, so that families count equally."""
    functions: list[list[str]]
    """For each family the function of each of its networks."""


@dataclass(eq=False, repr=False)
class Universal(AbstractTunable):
    """A predictor of the percentile at which a network stands within its family, for many families.

    Example:
        >>> import nasplat
        >>> len(nasplat.load_predictor("base").families_)
        21
    """

    family: ClassVar[str] = "universal"

    most: int = 800
    """Largest number of networks that are learnt of each family; they are chosen at random."""
    structure: float = 0.15
    """Share of the relative forest in answers on new families; MACs have the rest."""
    hidden: int = 64
    """Width of a node's state in the encoder."""
    layers: int = 5
    """Rounds of messages of the encoder."""
    embedding: int = 64
    """Width of a graph's vector."""
    pretrain_epochs: int = 10
    """Passes over the unlabelled graphs."""
    contrast: float = 0.0
    """Weight of the contrastive loss in these passes, beside what is known of the graphs."""
    clusters: int = 10
    """Number C of fuzzy clusters, and of heads."""
    fuzziness: float = 2.0
    """The paper's m of fuzzy C-means, above 1."""
    head_epochs: int = 60
    """Passes over the embeddings that train the heads."""
    level: float = 0.9
    """Share of networks that the intervals are to hold, between 0 and 1."""
    metric: str = "percentile in its family"
    """Name and unit of the answer."""
    seed: int = 0
    """Number that decides everything random."""
    device: str = "cpu"
    """Torch device on which the encoder learns and answers, such as 'cuda'."""

    # -- learning ------------------------------------------------------------------------------------------------------

    def fit(
        self,
        items: Sequence[Any],
        labels: Sequence[float],
        families: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        progress: Progress | None = None,
        **data: Any,
    ) -> Self:
        """Learn from families of labelled networks.

        Args:
            items: Graphs, or what has a `graph()` method; rows of one network and family are one with the mean of their
                labels.
            labels: One value per item, compared inside a family only; larger means better. Those that are not finite
                are left out.
            families: Name of each network's family; by default all are one.
            groups: Group of each network: families of one group are left out together. By default every family is one.
            progress: Called after each step of each stage with (steps done, steps in all, note).
            data: Further fields of `FamilyData`: unlabelled, known, validate, wide, networks.

        Returns:
            The predictor itself.

        Raises:
            PredictorError: a family of fewer than 40 distinct networks with a finite label, or with equal labels,
                columns of unequal length, or an unknown field.
        """
        asked = _family_data(families, groups, data)
        rng = np.random.default_rng(self.seed)
        learnt = self._chosen(items, labels, asked, rng)
        target, shares, names = learnt.target, learnt.shares, learnt.names
        self.names_ = list(learnt.views[0].statistics)
        x = self._counted(learnt.views)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._learn_embedding(learnt.views, asked, rng, progress)
            embedded = self.embed(learnt.views)
            both = np.hstack([x, embedded])
            self.centroids_ = fuzzy_centroids(embedded, min(self.clusters, len(embedded)), self.fuzziness, self.seed)
            left_out = self._left_out(x, embedded, learnt, rng, progress)
            self.near_forest_, self.heads_ = self._near_models(x, embedded, target, shares, rng)
        self.widths_ = np.array([_width((target - left_out)[names == f], self.level) for f in self.families_])
        self.agreement_ = {f: _correlation(left_out[names == f], target[names == f]) for f in self.families_}
        """Correlation of each family's labels with the answers to networks that were left out."""
        self._learn_supports(x, both, learnt, asked.wide)
        relative = np.concatenate([_relative(both[names == f], *_moments(both[names == f])) for f in self.families_])
        self.far_forest_ = grow_forest(relative, target, TREES, LEAF, seed=self.seed, weights=shares)[0]
        self._validate(relative, learnt, asked.validate, progress)
        self.reference_ = np.linspace(0, 100, 101)
        self.against_: tuple[Matrix, Support, Matrix] | None = None
        self.fitted_ = True
        return self

    def _chosen(
        self, items: Sequence[Any], labels: Sequence[float], asked: FamilyData, rng: np.random.Generator
    ) -> _Learnt:
        """At most `most` networks of each family, family by family; sets `families_` and `rows_`."""
        views = self.views(items)
        names = np.asarray(asked.families if asked.families is not None else ["family"] * len(views))
        belongs = np.asarray(asked.groups if asked.groups is not None else names)
        if not len(views) == len(labels) == len(names) == len(belongs) or (
            asked.known is not None and len(asked.known) != len(asked.unlabelled)
        ):
            raise PredictorError(
                "expected one label, family and group per network, and one row of known per unlabelled one.\n  Align."
            )
        self.families_ = list(dict.fromkeys(names.tolist()))
        self.rows_: dict[str, NDArray[np.int64]] = {}
        """Numbers of the items that were learnt, by family; of several rows of a network the first."""
        targets, functions = list[Matrix](), list[list[str]]()
        for family in self.families_:
            mine = np.flatnonzero(names == family).tolist()
            named = None if asked.networks is None else [asked.networks[i] for i in mine]
            try:
                known = self._lessons([items[i] for i in mine], [labels[i] for i in mine], 1, groups=named)
            except PredictorError as err:
                raise PredictorError(f"family {family!r}: {err}") from err
            order = rng.permutation(len(known.labels))[: self.most]
            if len(order) < LABELLED:
                raise PredictorError(
                    f"expected at least {LABELLED} networks of each family, got {len(order)} of {family!r}.\n"
                    "  Leave it out."
                )
            self.rows_[family] = np.array([mine[known.rows[i][0]] for i in order])
            targets.append(NormalScores.learn(known.labels[order]).forward(known.labels[order]))
            functions.append([known.groups[i] for i in order])
        rows = np.concatenate(list(self.rows_.values()))
        sizes = [len(t) for t in targets]
        shares = np.concatenate([np.full(n, len(rows) / n / len(sizes)) for n in sizes])
        return _Learnt([views[i] for i in rows], names[rows], belongs[rows], np.concatenate(targets), shares, functions)

    def _left_out(
        self, x: Matrix, embedded: Matrix, learnt: _Learnt, rng: np.random.Generator, progress: Progress | None
    ) -> Matrix:
        """Answers to each network by a fit without its fold, shape (n,)."""
        folds = np.concatenate([fold_numbers(len(of), FOLDS, rng, of) for of in learnt.functions])
        answers = np.empty(len(folds))
        for fold in range(FOLDS):
            held = folds == fold
            near = self._near_models(x[~held], embedded[~held], learnt.target[~held], learnt.shares[~held], rng)
            answers[held] = self._near(x[held], embedded[held], *near)
            if progress is not None:
                progress(fold + 1, FOLDS, "networks left out")
        return answers

    def _learn_supports(self, x: Matrix, both: Matrix, learnt: _Learnt, wide: Sequence[str]) -> None:
        """Describe the support of every group but the wide ones."""
        names, belongs = learnt.names, learnt.belongs
        everyone = list(dict.fromkeys(belongs.tolist()))
        kinds = [g for g in everyone if not set(names[belongs == g]) & set(wide)]
        self.supports_ = [Support.learn(x[belongs == g][:, 2:], self.seed, REFERENCES) for g in kinds]
        self.primary_ = np.array([self.families_.index(names[belongs == g][0]) for g in kinds])
        """For each group the number of the family that stands for it: its first."""
        self.moments_ = np.array([_moments(both[belongs == g]) for g in kinds])

    def _validate(self, relative: Matrix, learnt: _Learnt, asked: bool, progress: Progress | None) -> None:
        """Leave each group out to learn how far to trust answers on new families; sets `scale_` and `doubt_`."""
        self.scale_, self.doubt_ = 0.0, np.inf
        self.left_out_: dict[str, tuple[Matrix, Matrix]] = {}
        """Targets (n,) and parts (n, 2) of each family by a fit without its group; empty unless validated, and after
        loading."""
        everyone = list(dict.fromkeys(learnt.belongs.tolist()))
        if not asked or len(everyone) <= 2:
            return
        target, shares, names = learnt.target, learnt.shares, learnt.names
        for number, g in enumerate(everyone):
            held = learnt.belongs == g
            other = grow_forest(relative[~held], target[~held], TREES, LEAF, seed=self.seed, weights=shares[~held])[0]
            for f in dict.fromkeys(names[held].tolist()):
                mine = names == f
                self.left_out_[f] = target[mine], parts(relative[mine], other)
            if progress is not None:
                progress(number + 1, len(everyone), "families left out")
        self.scale_, self.doubt_ = doubt([(t, self._blend(p)) for t, p in self.left_out_.values()], self.level)

    def _counted(self, seen: Sequence[View]) -> Matrix:
        """Log counts and the statistics that were learnt, shape (n, f)."""
        return counted(seen, self.names_)

    def _learn_embedding(
        self, seen: list[View], asked: FamilyData, rng: np.random.Generator, progress: Progress | None
    ) -> None:
        """Pretrain the encoder, and learn how its embeddings are standardised."""
        corpus = self.views(asked.unlabelled) or seen
        self.encoder_ = Encoder(self.hidden, self.layers, self.embedding).to(self.device)
        if self.pretrain_epochs:
            contrast = self.contrast if asked.known is not None else 1.0
            spectra = np.array([v.spectrum() for v in corpus]) if contrast else np.zeros((len(corpus), 1))
            settings = Pretraining(self.pretrain_epochs, batch_size=64, contrast=contrast)
            pretrain(self.encoder_, corpus, spectra, settings, asked.known, rng, progress)
        self.encoder_.eval()
        raw = encode(self.encoder_, seen).double().numpy()
        self.shift_ = np.stack([raw.mean(0), raw.std(0) + 1e-6])

    def _near_models(
        self, x: Matrix, embedded: Matrix, target: Matrix, shares: Matrix, rng: np.random.Generator
    ) -> tuple[FlatTrees, Heads]:
        """Forest and heads that answer inside families that are learnt."""
        grown = grow_forest(x, target, TREES, LEAF, seed=self.seed, weights=shares)[0]
        heads = Heads(len(self.centroids_), self.embedding)
        inputs = embedded, memberships(embedded, self.centroids_, self.fuzziness)
        return grown, train_heads(heads, inputs, target, self.head_epochs, rng, weighted_loss, shares)

    # -- answering -----------------------------------------------------------------------------------------------------

    def embed(self, views: Sequence[View]) -> Matrix:
        """Encode networks.

        Args:
            views: Views of n networks.

        Returns:
            Embeddings of shape (n, E), standardised over the training networks.
        """
        return (encode(self.encoder_, views).double().numpy() - self.shift_[0]) / self.shift_[1]

    def _near(self, x: Matrix, embedded: Matrix, grown: FlatTrees, heads: Heads) -> Matrix:
        """Normal scores inside families that were learnt."""
        answers = heads.answers(embedded, self.centroids_, self.fuzziness)[0]
        return (answers + grown.answers(x).mean(1)) / 2

    def _blend(self, found: Matrix) -> Matrix:
        """Answers inside a new family, before they are scaled, from `parts`."""
        return self.structure * found[:, 0] + (1 - self.structure) * found[:, 1]

    def against(self, items: Sequence[Any]) -> Universal:
        """Copy the predictor so that it tells where networks stand among given ones; no label is needed.

        Args:
            items: At least 20 distinct networks of the family, such as random samples of a search space.

        Returns:
            A predictor of percentiles among these networks.

        Raises:
            PredictorError: fewer than 20, or the predictor was fitted without `validate`.
        """
        seen = self.views(items)
        different = len({structure_key(v) for v in seen})
        if different < FEWEST or not np.isfinite(self.doubt_):
            raise PredictorError(
                f"expected at least {FEWEST} networks and a predictor that has left families out, got {different}.\n"
                "  Sample more."
            )
        x = self._both(seen)
        moments = _moments(x)
        found = copy(self)
        structure = self.far_forest_.answers(_relative(x, *moments)).mean(1)
        shape = np.array([structure.mean(), max(structure.std(), 1e-9)])
        found.against_ = moments, Support.learn(self._counted(seen)[:, 2:], self.seed), shape
        return found

    def _inside(self, seen: Sequence[View]) -> list[tuple[int, str]]:
        """For each network the group whose support holds it, or −1 and why none does."""
        features = table(seen, self.names_)
        if self.against_ is not None:
            reasons = self.against_[1].reasons_of(seen, self.names_)
            found = [(-1, f"it is not of the reference family: {reason}") if reason else (0, "") for reason in reasons]
        else:
            distances = np.stack([s.distances(features) for s in self.supports_], 1)
            found = [self._held(row, d) for row, d in zip(features, distances, strict=True)]
        return [(-1, unknown(v)) if v.unknown_ops else where for v, where in zip(seen, found, strict=True)]

    def _held(self, features: Matrix, distances: Matrix) -> tuple[int, str]:
        """The same of one network, from its distances to every group."""
        inside = np.flatnonzero(distances <= 1.0)
        if len(inside) > 1:  # of several families that which is nearest by a common measure: wide ones hold much
            scale = self.moments_[:, 1, 2 : 2 + len(features)].max(0)
            scale = np.where(scale > 0, scale, 1.0)
            far = [apart(self.supports_[g].raw() / scale, features[None] / scale)[0] for g in inside]
            inside = inside[[np.argmin(far)]]
        if len(inside):
            return int(inside[0]), ""
        best = int(np.argmin(distances))
        reason = self.supports_[best].reason(features, self.names_)
        return (
            -1,
            f"it is of none of the {len(self.families_)} families learnt; nearest is {self._name(best)}: {reason}",
        )

    def _name(self, group: int) -> str:
        """Name of the family that stands for a group."""
        return self.families_[int(self.primary_[group])]

    def _reason(self, seen: View) -> str:
        return self._reasons([seen])[0]

    def _reasons(self, seen: Sequence[View]) -> list[str]:
        return [reason for _, reason in self._inside(seen)]

    def _normal(self, seen: Sequence[View]) -> Matrix:
        """Scores and half-widths, shape (2, n), of networks inside the support."""
        if self.against_ is not None:
            return np.stack([self.scale_ * self._answer(seen), np.full(len(seen), self.doubt_)])
        x = self._counted(seen)
        widths = np.array([self.widths_[self.primary_[g]] for g, _ in self._inside(seen)])
        return np.stack([self._near(x, self.embed(seen), self.near_forest_, self.heads_), widths])

    def _both(self, seen: Sequence[View]) -> Matrix:
        """Counts, statistics and embeddings side by side."""
        return np.hstack([self._counted(seen), self.embed(seen)])

    def _answer(self, seen: Sequence[View]) -> Matrix:
        """Answers among the reference networks, before they are scaled."""
        assert self.against_ is not None
        (mean, scale), _, (middle, spread) = self.against_
        relative = _relative(self._both(seen), mean, scale)
        return self._blend(
            np.stack([(self.far_forest_.answers(relative).mean(1) - middle) / spread, relative[:, 0]], 1)
        )

    def _estimates(self, seen: Sequence[View]) -> list[tuple[float, float, float]]:
        z, width = self._normal(seen)
        shares = torch.special.ndtr(torch.from_numpy(np.stack([z, z - width, z + width], 1)))
        return [tuple(row) for row in (100 * shares).tolist()]

    def predict(self, items: Sequence[Any], example_input: Any = None) -> list[Prediction]:
        """Predict percentiles, 0 to 100, within the family that `Prediction.reference` names.

        Args:
            items: As for `AbstractPredictor.predict`.
            example_input: As for `AbstractPredictor.predict`.

        Returns:
            One prediction per item, in order.
        """
        seen = self.views(items, example_input)
        found = super().predict(seen)
        inside = [i for i, p in enumerate(found) if p.in_support]
        for i, (group, _) in zip(inside, self._inside([seen[i] for i in inside]), strict=True):
            where = "the reference networks" if self.against_ is not None else self._name(group)
            found[i] = replace(found[i], reference=where, percentile=found[i].mean)
        return found

    def _scores(self, seen: Sequence[View]) -> list[float]:
        """Rank by the answer inside a family; outside, networks that are asked together are one another's reference."""
        if self.against_ is not None:
            return self._answer(seen).tolist()
        x = self._both(seen)
        if len(seen) < FEWEST:
            far = _relative(x, *self.moments_.mean(0))[:, 0]
        else:
            far = self.scale_ * self._blend(parts(_relative(x, *_moments(x)), self.far_forest_))
        inside = np.array([group >= 0 for group, _ in self._inside(seen)])
        counts, embedded = np.split(x, [2 + len(self.names_)], 1)
        return np.where(inside, self._near(counts, embedded, self.near_forest_, self.heads_), far).tolist()

    def describe(self, seen: Sequence[View]) -> list[Matrix]:
        """Describe networks as the contract does, with the embedding and the near answers beside.

        Args:
            seen: Views of n networks.

        Returns:
            Feature sets of shape (n, f); the first knows nothing of what was learnt.
        """
        counts, embedded = counted(seen), self.embed(seen)
        near = self._near(self._counted(seen), embedded, self.near_forest_, self.heads_)[:, None]
        return [counts, np.hstack([near, counts]), np.hstack([counts, embedded]), np.hstack([near, counts, embedded])]

    # -- disk ----------------------------------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, NDArray[Any]]:
        own = {
            "centroids": self.centroids_,
            "shift": self.shift_,
            "widths": self.widths_,
            "primary": self.primary_,
            "moments": self.moments_,
            "doubt": np.array([self.scale_, self.doubt_]),
            "names": pack_lines(self.names_),
            "families": pack_lines(self.families_),
        }
        own |= self.near_forest_.arrays("near_") | self.far_forest_.arrays("far_")
        for number, support in enumerate(self.supports_):
            own |= {f"group{number}_{k}": v for k, v in support.arrays().items()}
        return pack_modules({"encoder": self.encoder_, "heads": self.heads_}) | own

    def _restore(self, arrays: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> None:
        self.centroids_, self.shift_, self.widths_ = arrays["centroids"], arrays["shift"], arrays["widths"]
        self.encoder_ = Encoder(self.hidden, self.layers, self.embedding)
        self.heads_ = Heads(len(self.centroids_), self.embedding)
        unpack_modules(arrays, {"encoder": self.encoder_.eval(), "heads": self.heads_.eval()})
        self.near_forest_, self.far_forest_ = (FlatTrees.from_arrays(arrays, f"{w}_") for w in ("near", "far"))
        self.primary_, self.moments_ = arrays["primary"], arrays["moments"]
        self.scale_, self.doubt_ = (float(v) for v in arrays["doubt"])
        self.names_, self.families_ = unpack_lines(arrays["names"]), unpack_lines(arrays["families"])
        prefixes = [f"group{i}_" for i in range(len(self.primary_))]
        self.supports_ = [
            Support.of({k.removeprefix(p): v for k, v in arrays.items() if k.startswith(p)}) for p in prefixes
        ]
        self.reference_ = np.linspace(0, 100, 101)
        self.left_out_, self.against_ = {}, None
        self.fitted_ = True


def _family_data(families: Sequence[str] | None, groups: Sequence[str] | None, more: dict[str, Any]) -> FamilyData:
    """Gather what `fit` was told; an unknown name is refused with the known ones."""
    known = ("unlabelled", "known", "validate", "wide", "networks")
    unknown = [name for name in more if name not in known]
    if unknown:
        raise PredictorError(f"fit does not take {unknown[0]!r}; it takes {', '.join(known)}.\n  Use one of these.")
    return FamilyData(families, groups, **more)


def parts(relative: Matrix, grown: FlatTrees) -> Matrix:
    """Compute the two answers on a family that was not learnt: the forest's and log10 MACs, both standardised.

    Args:
        relative: Features of the family's networks relative to one another, shape (n, f), log10 MACs first.
        grown: Forest on such features.

    Returns:
        Answers of shape (n, 2).
    """
    structure = grown.answers(relative).mean(1)
    return np.stack([(structure - structure.mean()) / max(structure.std(), 1e-9), relative[:, 0]], 1)


def doubt(left_out: Sequence[tuple[Matrix, Matrix]], level: float) -> tuple[float, float]:
    """Learn from families left out how far answers on a new one are to be trusted; families count equally.

    Args:
        left_out: Targets and answers of each family, each of shape (n,), as normal scores.
        level: Share of a new family's networks, on average over families, that the interval must hold.

    Returns:
        What a new family's answers must be multiplied with, and the half-width of their interval as normal scores.
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
    """Features in standard deviations of a family, cut off at `CUT`; 0 where it never varies."""
    return np.where(spread > 0, np.clip((x - mean) / np.where(spread > 0, spread, 1.0), -CUT, CUT), 0.0)


def _width(residuals: Matrix, level: float) -> float:
    """Half-width of an interval; the largest residual where there are too few for the level."""
    return half_width(residuals, level) if len(residuals) >= fewest(level) else float(np.abs(residuals).max())


def _correlation(a: Matrix, b: Matrix) -> float:
    """Pearson's correlation; 0 where either never varies."""
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
