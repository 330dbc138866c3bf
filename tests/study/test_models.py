"""The parts of the sampler: hypervolume, the Gaussian process."""

from __future__ import annotations

import numpy as np
import pytest

from nasplat.study.hypervolume import contributions, front_of, hypervolume
from nasplat.study.surrogate import MOST, Surrogate

pytestmark = pytest.mark.fast


def monte_carlo(points: np.ndarray, reference: np.ndarray, rng: np.random.Generator) -> float:
    high = points.max(0)
    drawn = reference + rng.random((200_000, len(reference))) * (high - reference)
    return float((points[None] >= drawn[:, None]).all(2).any(1).mean() * np.prod(high - reference))


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_hypervolume_is_the_dominated_volume(m: int) -> None:
    rng = np.random.default_rng(m)
    points, reference = rng.random((12, m)), np.zeros(m)
    assert hypervolume(points, reference) == pytest.approx(monte_carlo(points, reference, rng), rel=0.02)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_contributions_are_differences_of_hypervolumes(m: int) -> None:
    rng = np.random.default_rng(7)
    front, candidates, reference = rng.random((6, m)), rng.random((40, m)) * 1.2 - 0.1, np.zeros(m)
    found = contributions(candidates, front, reference)
    wanted = [hypervolume(np.vstack([front, c]), reference) - hypervolume(front, reference) for c in candidates]
    assert found == pytest.approx(wanted, abs=1e-12)
    assert (found > 0).any()
    assert (found == 0).any()


def test_fronts_drop_what_is_dominated_and_double() -> None:
    points = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.5], [1.0, 0.0]])
    assert front_of(points).tolist() == [[0.0, 1.0], [1.0, 0.0]]


def curve(x: np.ndarray) -> np.ndarray:
    return np.sin(3 * x[:, 0]) + 0.3 * x[:, 1]


def test_surrogate_interpolates_and_is_unsure_far_away() -> None:
    rng = np.random.default_rng(0)
    x, new = rng.random((60, 3)), rng.random((200, 3))
    model = Surrogate().fit(x, curve(x))
    mean, sd = model.predict(new)
    assert np.corrcoef(mean, curve(new))[0, 1] > 0.97
    inside = np.abs(mean - curve(new)) <= 2 * sd + 1e-3
    assert inside.mean() > 0.85
    assert model.predict(new + 10)[1].mean() > 3 * sd.mean()


def test_a_good_guide_is_followed_and_a_useless_one_is_not() -> None:
    rng = np.random.default_rng(1)
    x, new = rng.random((12, 30)), rng.random((200, 30))
    y, wanted = curve(x), curve(new)
    alone = np.corrcoef(Surrogate().fit(x, y).predict(new)[0], wanted)[0, 1]
    guided = np.corrcoef(Surrogate().fit(x, y, y + 0.1).predict(new, wanted)[0], wanted)[0, 1]
    assert guided > max(0.95, alone)
    noise, new_noise = rng.random(12), rng.random(200)
    useless = np.corrcoef(Surrogate().fit(x, y, noise).predict(new, new_noise)[0], wanted)[0, 1]
    assert useless > alone - 0.3


def test_many_measurements_are_thinned_and_bad_ones_clipped() -> None:
    rng = np.random.default_rng(2)
    x = rng.random((4 * MOST, 2))
    y = curve(x)
    y[5] = -1e6  # a network that did not train
    model = Surrogate().fit(x, y)
    assert len(model.x) == MOST
    assert np.corrcoef(model.predict(x[6:])[0], y[6:])[0, 1] > 0.97
