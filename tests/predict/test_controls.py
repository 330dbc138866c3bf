"""Negative controls: where there is nothing to learn nothing is found, and what must lower a score lowers it."""

from __future__ import annotations

from statistics import mean

import numpy as np
import pytest

import nasplat
from nasplat.features.view import View, view
from nasplat.graph import Graph
from nasplat.predict import Trees
from nasplat.predict.count import CountBaseline
from nasplat.predict.gennape import Gennape
from nasplat.tables.metrics import kendall_tau, mean_rank, ndcg_at, spearman_rho
from nasplat.workflows.labelled import Labelled, few


@pytest.fixture(scope="module")
def drawn() -> tuple[list[Graph], list[View]]:
    space = nasplat.load_space("nasbench201", width=4, cells=1, image=16)
    graphs = list({g.key: g for g in (space.sample(seed=i).graph() for i in range(500))}.values())
    return graphs, [view(g) for g in graphs]


def learnt(data: Labelled, seed: int) -> list[float]:
    """τ-b of several learners on networks that they were not shown."""
    shown, rest = few(data, 40, seed)
    base = CountBaseline().fit(shown.views, shown.labels)
    trees = Trees(members=1, trees=30).fit(shown.views, [v.statistics["log_macs"] for v in shown.views])
    learners = [
        Trees(members=1, trees=40, seed=seed).fit(shown.views, shown.labels),
        base.finetune(shown.views, shown.labels, seed, loss="both"),
        trees.finetune(shown.views, shown.labels),
    ]
    return [kendall_tau(p.rank_scores(rest.views), rest.labels) for p in learners]


def test_shuffled_labels_teach_nothing(drawn: tuple[list[Graph], list[View]]) -> None:
    graphs, views = drawn
    keys = [g.key for g in graphs]
    honest = [v.statistics["most.spatial"] + v.statistics["log_macs"] for v in views]
    found = []
    for seed in range(10):
        labels = np.random.default_rng(seed).permutation(honest).tolist()
        found.append(learnt(Labelled(views, labels, keys, keys), seed))
    assert all(abs(mean(one)) < 0.03 for one in zip(*found, strict=True)), found
    assert min(learnt(Labelled(views, honest, keys, keys), 0)) > 0.6  # the same learners, the same networks


def test_twins_on_both_sides_would_be_noticed(drawn: tuple[list[Graph], list[View]]) -> None:
    """The control can fail: with every network listed twice, noise is 'predicted'."""
    views = drawn[1] * 2
    noise = np.random.default_rng(0).normal(size=len(drawn[1])).tolist() * 2
    keys = [str(i) for i in range(len(views))]
    shown, rest = few(Labelled(views, noise, keys, keys), 200, 0)
    tuned = CountBaseline().fit(shown.views, shown.labels).finetune(shown.views, shown.labels)
    assert kendall_tau(tuned.rank_scores(rest.views), rest.labels) > 0.1


def test_a_member_that_answers_for_other_networks_lowers_the_score(drawn: tuple[list[Graph], list[View]]) -> None:
    views = drawn[1]
    labels = [v.statistics["most.spatial"] + v.statistics["log_macs"] for v in views]
    fast = Gennape(hidden=16, layers=2, embedding=16, pretrain_epochs=1, tune_epochs=40, clusters=3)
    answers = fast.fit(views[:150], labels[:150]).answers(views[150:])
    members = {k: answers[k] for k in ("label", "forest", "flops")}
    rng = np.random.default_rng(0)
    whole = kendall_tau(mean_rank(*members.values()), labels[150:])
    for name in members:
        mixed = {k: rng.permutation(v) if k == name else v for k, v in members.items()}
        assert kendall_tau(mean_rank(*mixed.values()), labels[150:]) < whole, name


def test_labels_that_change_places_inside_ties_change_nothing() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 6, 60).astype(float), rng.normal(size=60)
    order = np.arange(60)
    for value in np.unique(labels):  # places with equal labels are permuted
        same = np.flatnonzero(labels == value)
        order[same] = rng.permutation(same)
    for judge in (kendall_tau, spearman_rho, lambda a, b: ndcg_at(10, a, b)):
        assert judge(scores, labels[order]) == judge(scores, labels)


def test_random_scores_agree_with_nothing() -> None:
    rng = np.random.default_rng(0)
    assert abs(kendall_tau(rng.normal(size=3000), rng.normal(size=3000))) < 0.03
    assert abs(spearman_rho(rng.normal(size=3000), rng.normal(size=3000))) < 0.04
