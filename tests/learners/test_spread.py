"""Which networks are labelled first, and what a few labels teach under each loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nasplat
from nasplat.errors import PredictorError
from nasplat.features.view import View, view
from nasplat.learners.spread import spread
from nasplat.predict import load
from nasplat.predict.count import CountBaseline
from nasplat.predict.finetuned import LOSSES
from nasplat.tables.metrics import kendall_tau
from nasplat.workflows.labelled import Labelled, few

Data = tuple[list[View], list[float]]


@pytest.fixture(scope="module")
def labelled() -> Data:
    space = nasplat.load_space("nasbench201", width=4, cells=1, image=16)
    views = [view(space.sample(seed=i).graph()) for i in range(90)]
    return views, [v.statistics["most.spatial"] + 0.3 * v.statistics["log_macs"] for v in views]


def test_one_network_of_each_region_is_chosen() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, 3)) * 10
    x = np.repeat(centres, 20, 0) + rng.normal(size=(160, 3)) * 0.1
    for seed in range(3):
        chosen = spread(x, 8, seed)
        assert chosen == sorted(set(chosen))
        assert len({i // 20 for i in chosen}) >= 7  # k-means may join two of eight clusters, random draws meet five
    assert len(spread(np.zeros((6, 2)), 4)) == 4
    assert spread(x, 160) == list(range(160))
    assert spread(x, 8, 1) == spread(x, 8, 1)


def test_a_predictor_chooses_and_few_labels_follow(labelled: Data) -> None:
    views, labels = labelled
    base = CountBaseline().fit(views, labels)
    data = Labelled(views, labels, [str(i) for i in range(90)], [str(i) for i in range(90)])
    shown, rest = few(data, 12, 0, base)
    assert {int(k) for k in shown.keys} == set(base.choose(views, 12, 0))
    assert sorted([*shown.keys, *rest.keys]) == sorted(data.keys)
    with pytest.raises(PredictorError, match="between 1 and 90 networks, got 91"):
        base.choose(views, 91)


def test_every_loss_learns_and_survives_the_disk(labelled: Data, tmp_path: Path) -> None:
    views, labels = labelled
    base = CountBaseline().fit(views, labels)
    for loss in LOSSES:
        tuned = base.finetune(views[:40], labels[:40], loss=loss)
        assert kendall_tau(tuned.rank_scores(views[40:]), labels[40:]) > 0.7
        tuned.save(tmp_path / loss)
        assert load(tmp_path / loss).rank_scores(views) == tuned.rank_scores(views)
    with pytest.raises(PredictorError, match="a loss among regression, ranking, both, got 'hinge'"):
        base.finetune(views[:40], labels[:40], loss="hinge")


def test_ranking_asks_for_the_order_alone(labelled: Data) -> None:
    """A label that is stretched at one end is learnt as well as the label itself."""
    views, labels = labelled
    stretched = list(np.exp(3 * np.asarray(labels)))
    base = CountBaseline().fit(views, labels)
    plain, other = (
        base.finetune(views[:40], y[:40], loss="ranking").rank_scores(views[40:]) for y in (labels, stretched)
    )
    assert kendall_tau(plain, other) > 0.95
