"""Labelled rows become distinct networks with finite labels, and nothing held out has a twin among what is learnt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import nasplat
from nasplat.errors import LabelWarning, PredictorError
from nasplat.features.twins import structure_key
from nasplat.features.view import View, view
from nasplat.learners.forest import grow_forest
from nasplat.learners.lessons import left_out, lessons
from nasplat.learners.support import Support
from nasplat.predict import CountBaseline, Trees

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def networks() -> list[View]:
    """Fifty networks that compute different things."""
    space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
    found = {a.network_key: a for a in (space.sample(seed=i) for i in range(80))}
    views = {structure_key(v): v for v in (view(a.graph()) for a in found.values())}
    return list(views.values())[:50]


def test_rows_of_one_network_become_one_with_their_mean(networks: list[View]) -> None:
    found = lessons([*networks[:20], *networks[:20]], [*range(20), *range(10, 30)], 20)
    assert len(found.views) == len(set(found.groups)) == 20
    assert found.labels.tolist() == [i + 5.0 for i in range(20)]
    assert found.rows[3] == [3, 23]


def test_the_order_of_operations_is_no_other_network_and_another_cost_is() -> None:
    space = nasplat.load_space("nasbench201", width=4, cells=1, image=16)
    texts = [
        "|nor_conv_1x1~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|skip_connect~2|",
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|none~0|skip_connect~1|skip_connect~2|",
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|skip_connect~2|",
    ]
    one, twin, other = (structure_key(view(space.parse(t).graph())) for t in texts)
    assert one == twin != other


def test_structures_are_told_apart_as_graph_keys_do() -> None:
    space = nasplat.load_space("nasbench101", width=8, cells=1)
    graphs = [space.sample(seed=i).graph() for i in range(60)]
    pairs = {(g.key, structure_key(view(g))) for g in graphs}
    assert len(pairs) == len({k for k, _ in pairs}) == len({s for _, s in pairs})


def test_labels_that_are_not_finite_are_left_out_and_counted(networks: list[View]) -> None:
    labels: list[Any] = [float(i) for i in range(24)]
    labels[3], labels[7], labels[11], labels[12] = None, float("nan"), float("inf"), -float("inf")
    with pytest.warns(LabelWarning, match="4 of 24 labels are not finite"):
        found = lessons(networks[:24], labels, 20)
    assert len(found.views) == 20
    assert np.isfinite(found.labels).all()
    with pytest.raises(PredictorError, match=r"at least 21, got 24 and 24 \(20 networks with a finite label\)"):
        lessons(networks[:24], labels, 21)
    with pytest.raises(PredictorError, match=r"got 24 and 24 \(0 networks with a finite label\)"):
        lessons(networks[:24], [float("nan")] * 24, 20)
    with pytest.raises(PredictorError, match="got 'failed' at 23"):
        lessons(networks[:24], [*labels[:23], "failed"], 20)


def test_equal_labels_and_too_many_networks_are_refused(networks: list[View]) -> None:
    with pytest.raises(PredictorError, match=r"labels that differ, got 2\.5 for all 20 networks"):
        lessons(networks[:20], [2.5] * 20, 20)
    with pytest.raises(PredictorError, match=r"at most 15, got 20 and 20.\n  Fit a new"):
        lessons(networks[:20], list(range(20)), 10, 15)
    with pytest.raises(PredictorError, match="at least 20, got 20 and 19"):
        lessons(networks[:20], list(range(19)), 20)
    with pytest.raises(PredictorError, match=r"got 40 and 40 \(1 networks with a finite label\)"):
        Trees().fit([networks[0]] * 40, list(range(40)))


def test_networks_of_one_function_are_held_out_together(networks: list[View]) -> None:
    groups = [f"function {i // 2}" for i in range(40)]
    found = lessons(networks[:40], list(range(40)), 20, groups=groups)
    held, learnt = found.hold_out(9, np.random.default_rng(0))
    assert len(held) == 10
    assert not {groups[i] for i in held} & {groups[i] for i in learnt}
    with pytest.raises(PredictorError, match="networks of more functions, got 1 in 40 networks"):
        lessons(networks[:40], list(range(40)), 20, groups=["one"] * 40).hold_out(9, np.random.default_rng(0))


def test_left_out_residuals_equal_those_of_fits_without_the_group() -> None:
    rng = np.random.default_rng(0)
    x, y, groups = rng.normal(size=(9, 3)), rng.normal(size=9), list("aabcdddef")
    kernel = x @ x.T + 0.3 * np.eye(9)
    inverse = np.linalg.inv(kernel)
    found = left_out(lambda rows: inverse[np.ix_(rows, rows)], inverse @ y, groups)
    for name in set(groups):
        held = np.array([g == name for g in groups])
        answers = (x @ x.T)[np.ix_(held, ~held)] @ np.linalg.solve(kernel[np.ix_(~held, ~held)], y[~held])
        assert found[held] == pytest.approx(y[held] - answers)


def test_a_tree_that_has_seen_one_of_a_group_has_seen_them_all() -> None:
    x, y = np.repeat(np.arange(30.0), 2)[:, None], np.repeat(np.random.default_rng(0).normal(size=30), 2)
    groups = [str(i // 2) for i in range(60)]
    alone, together = (grow_forest(x, y, 60, seed=0, groups=g)[1] for g in (None, groups))
    assert np.mean((alone - y) ** 2) < 0.8 * np.nanmean((together - y) ** 2)


def test_a_support_learnt_from_repeated_networks_holds_them() -> None:
    features = np.random.default_rng(0).normal(size=(40, 6))
    once = Support.learn(features, 0)
    for repeated in (np.vstack([features] * 3), once.joined(features, 0).raw()):
        again = Support.learn(repeated, 0)
        assert all(not again.reason(row, list("abcdef")) for row in features)
        assert again.radius == pytest.approx(once.radius, rel=1e-4)
    assert not Support.learn(features[[0] * 5], 0).reason(features[0], list("abcdef"))


def test_a_network_measured_twice_keeps_both_rows_on_one_side(networks: list[View]) -> None:
    again = [replace(v, statistics=v.statistics | {"proxy.nwot": 1.0}) for v in networks]
    first = [replace(v, statistics=v.statistics | {"proxy.nwot": 0.0}) for v in networks]
    found = lessons([*first, *again], range(100), 20)
    assert (len(found.views), len(set(found.groups))) == (100, 50)


@pytest.mark.parametrize("family", [Trees(members=1, trees=10), CountBaseline()])
def test_repeats_do_not_narrow_an_interval(networks: list[View], family: Any) -> None:
    labels = np.random.default_rng(0).normal(size=50)  # nothing to learn: a held-out twin would be known by heart
    once = family.fit(networks, labels).predict(networks)
    thrice = type(family)(**family.get_params()).fit([*networks] * 3, np.tile(labels, 3)).predict(networks)
    assert once == thrice
