"""Percentiles within families, and ImageNet top-1 from a zoo, on a small scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nasplat
from nasplat.errors import PredictorError
from nasplat.features.view import View, view, with_proxies
from nasplat.learners.support import Support
from nasplat.predict import Trees, load
from nasplat.predict.count import CountBaseline
from nasplat.predict.universal import Universal, doubt
from nasplat.predict.zoo import ModelZoo, distilled, source
from nasplat.tables.metrics import kendall_tau

TINY: dict[str, Any] = {
    "hidden": 16,
    "layers": 2,
    "embedding": 16,
    "pretrain_epochs": 1,
    "head_epochs": 10,
    "clusters": 3,
}
WIDTHS = {"narrow": 4, "middle": 8, "wide": 16}


@pytest.fixture(scope="module")
def families() -> dict[str, list[View]]:
    spaces = {name: nasplat.load_space("nasbench201", width=w, cells=1, image=16) for name, w in WIDTHS.items()}
    found = {}
    for name, space in spaces.items():
        distinct = dict.fromkeys(space.sample(seed=i).canonical() for i in range(120))
        found[name] = [view(a.graph()) for a in list(distinct)[:50]]
    return found


@pytest.fixture(scope="module")
def fitted(families: dict[str, list[View]]) -> Universal:
    views = [v for f in families.values() for v in f]
    # of every family another unit, so that only ranks can carry over
    labels = [v.statistics["log_activations"] * 10 ** list(families).index(f) for f in families for v in families[f]]
    return Universal(**TINY).fit(views, labels, [f for f in families for _ in families[f]])


def test_a_network_is_placed_in_its_own_family(fitted: Universal, families: dict[str, list[View]]) -> None:
    for name, views in families.items():
        answers = fitted.predict(views)
        inside = [a for a in answers if a.in_support]
        assert len(inside) > 0.8 * len(views)
        assert {a.reference for a in inside} == {name}
        assert all(0 <= a.low <= a.mean <= a.high <= 100 for a in inside if a.mean is not None and a.low is not None)
        wanted = [v.statistics["log_activations"] for v, a in zip(views, answers, strict=True) if a.in_support]
        assert kendall_tau([a.mean for a in inside], wanted) > 0.5


def test_a_new_family_is_answered_against_its_own_networks(fitted: Universal) -> None:
    space = nasplat.load_space("hiaml", width=8)
    members = [view(space.sample(seed=i).graph()) for i in range(40)]
    assert not any(p.in_support for p in fitted.predict(members[:3]))
    assert "none of the 3 families learnt" in fitted.predict(members[:1])[0].reason
    compared = fitted.against(members)
    answers = compared.predict(members)
    assert all(a.in_support for a in answers)
    assert answers[0].reference == "the reference networks"
    assert kendall_tau([a.mean for a in answers], [v.macs for v in members]) > 0.5  # MACs are the prior
    assert compared.predict(members[:1]) == answers[:1]  # what else is asked does not matter
    assert np.isfinite(fitted.rank_scores(members)).all()
    assert np.isfinite(fitted.rank_scores(members[:2])).all()
    with pytest.raises(PredictorError, match="at least 20 networks"):
        fitted.against(members[:5])


def test_it_survives_the_disk_and_repeats_itself(
    fitted: Universal, families: dict[str, list[View]], tmp_path: Path
) -> None:
    fitted.save(tmp_path)
    again: Any = load(tmp_path)
    views = [v for f in families.values() for v in f[:5]]
    assert again.predict(views) == fitted.predict(views)
    sample = families["wide"][:30]
    assert again.against(sample).predict(views) == fitted.against(sample).predict(views)
    tuned = again.finetune(families["wide"][:20], [float(v.params) for v in families["wide"][:20]])
    assert np.isfinite(tuned.rank_scores(views)).all()


def test_universal_keeps_the_contract(families: dict[str, list[View]]) -> None:
    space = nasplat.load_space("nasbench201", width=4, cells=1, image=16)
    graphs = [space.sample(seed=i).graph() for i in range(50)]
    nasplat.check_predictor(Universal(**TINY), graphs, [float(g.macs) for g in graphs])
    with pytest.raises(PredictorError, match="at least 40 networks of each family, got 10 of 'few'"):
        Universal(**TINY).fit(families["wide"][:10], list(range(10)), ["few"] * 10)
    with pytest.raises(PredictorError, match="fit does not take 'validat'; it takes unlabelled, known, validate, wide"):
        Universal(**TINY).fit(families["wide"], [0.0], validat=False)
    with pytest.raises(PredictorError, match="one label, family and group"):
        Universal(**TINY).fit(families["wide"], [0.0])


def test_doubt_holds_its_level_and_shrinks_what_is_wrong() -> None:
    rng = np.random.default_rng(0)
    targets = [rng.normal(size=200) for _ in range(4)]
    good = [(t, 0.8 * t + 0.6 * rng.normal(size=200)) for t in targets]
    scale, width = doubt(good, 0.9)
    assert 0.7 < scale < 0.9
    assert np.mean([np.mean(np.abs(t - scale * a) <= width) for t, a in good]) == pytest.approx(0.9, abs=0.01)
    assert doubt([(t, -t) for t in targets], 0.9)[0] == 0.0


def test_support_ends_where_the_range_of_a_feature_ends() -> None:
    features = np.random.default_rng(0).uniform(size=(600, 5))
    support = Support.learn(features, 0)
    centre = np.full(5, 0.5)
    assert support.reason(centre, list("abcde")) == ""
    assert support.distance(centre) < 1
    beyond = centre.copy()
    beyond[2] = 1.2
    assert support.reason(beyond, list("abcde")).startswith("c is 1.2, the training networks have -0.06")
    assert support.distance(beyond) > 1
    arrays = support.arrays()
    assert Support.of(arrays).reason(beyond, list("abcde")) == support.reason(beyond, list("abcde"))
    arrays.pop("support_range")  # weights of before
    assert "training networks have" not in Support.of(arrays).reason(centre, list("abcde"))


def zoo_views(families: dict[str, list[View]]) -> list[View]:
    return [replace(v, inputs=3 * 224**2, outputs=1000) for f in families.values() for v in f]


def test_zoo_learns_what_a_recipe_is_worth(families: dict[str, list[View]], tmp_path: Path) -> None:
    views = zoo_views(families)
    recipes = [("a1_in1k", "a3_in1k", "augreg_in21k_ft_in1k")[i % 3] for i in range(len(views))]
    worth = {"a1_in1k": 3.0, "a3_in1k": -3.0, "augreg_in21k_ft_in1k": 5.0}
    labels = [60 + 5 * v.statistics["log_macs"] / 3 + worth[r] for v, r in zip(views, recipes, strict=True)]
    zoo = ModelZoo().fit(views, labels, recipes)
    assert zoo.recipes["a1_in1k"] > 1 > -1 > zoo.recipes["a3_in1k"]
    answers = {r: zoo.under(r).predict(views[:1])[0] for r in worth}
    assert answers["augreg_in21k_ft_in1k"].mean > answers["a1_in1k"].mean > answers["a3_in1k"].mean  # type: ignore[operator]
    small = replace(views[0], outputs=10)
    assert "it has 10 outputs" in zoo.predict([small])[0].reason
    assert "its input has 3,072 values" in zoo.predict([replace(views[0], inputs=3072)])[0].reason
    zoo.save(tmp_path)
    assert load(tmp_path).predict(views) == zoo.predict(views)
    with pytest.raises(PredictorError, match="at least 40 checkpoints"):
        ModelZoo().fit(views[:10], labels[:10])


def test_recipes_are_read_by_their_words() -> None:
    assert [source(r) for r in ("ra2_in1k", "augreg_in21k_ft_in1k", "laion2b_ft_in12k_in1k")] == [
        "in1k",
        "in22k",
        "web",
    ]
    assert distilled("fb_dist_in1k")
    assert not distilled("tv_in1k")


def test_shipped_predictors_answer() -> None:
    space = nasplat.load_space("ofa_mobilenetv3")
    (row,) = nasplat.score([space.sample(seed=1)])
    assert row.prediction.reference == "Once-for-All MobileNetV3, ImageNet"
    assert row.prediction.top1 is not None
    assert 60 < row.prediction.top1 < 85
    (other,) = nasplat.score([space.sample(seed=1)], recipe="augreg_in21k_ft_in1k")
    assert other.prediction.top1 != row.prediction.top1
    stranger = nasplat.load_space("emo").sample(seed=0)
    assert nasplat.score([stranger])[0].prediction.mean is None
    (placed,) = nasplat.score([stranger], against="emo")
    assert placed.prediction.reference == "the reference networks"
    with pytest.raises(nasplat.errors.InputError, match="universal predictor beside against"):
        nasplat.score([stranger], "trees-nb201", against="emo")


def test_proxies_are_statistics_and_the_same_network_is_seen_once(families: dict[str, list[View]]) -> None:
    views = families["wide"]
    hidden = np.random.default_rng(0).normal(size=len(views))
    told = with_proxies(views, [{"nwot": v} for v in hidden])
    assert kendall_tau(CountBaseline("proxy.nwot").fit(told, hidden).rank_scores(told), hidden) == 1.0
    blind = Trees(members=1, trees=60).fit(views, hidden).rank_scores(views)
    seeing = Trees(members=1, trees=60).fit(told, hidden).rank_scores(told)
    assert kendall_tau(seeing, hidden) > kendall_tau(blind, hidden)
    assert with_proxies(views[:1], [{"zen": float("nan")}])[0].statistics["proxy.zen"] == 0.0
    a = nasplat.load_space("nasbench201", width=4, cells=1).sample(seed=0)
    first, second = CountBaseline().views([a, a])
    assert first is second
