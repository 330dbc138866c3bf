"""Trees as flat arrays answer as scikit-learn does, whatever grew them and whichever layout they were written in."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor

from nasplat.learners.boosted import Boosted
from nasplat.learners.flat_trees import ROWS, FlatTrees
from nasplat.learners.forest import grow_forest

pytestmark = pytest.mark.fast


def boosted_models(x: np.ndarray, trees: int = 50) -> list[GradientBoostingRegressor]:
    y = x[:, 0] ** 2 + x[:, 1]
    settings = {"n_estimators": trees, "max_depth": 4, "subsample": 0.6}
    return [GradientBoostingRegressor(**settings, random_state=seed).fit(x, y) for seed in range(3)]


def test_boosted_arrays_answer_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(0)
    x, fresh = rng.normal(size=(200, 6)), rng.normal(size=(100, 6))
    models = boosted_models(x)
    wanted = np.stack([m.predict(fresh) for m in models])
    assert np.abs(Boosted.from_sklearn(models, 0.1).answers(fresh) - wanted).max() < 1e-5


def test_forest_answers_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 6)).astype(np.float32).astype(np.float64), rng.normal(size=80)
    grown, unseen = grow_forest(x, y, 20, leaf=2, seed=3)
    model = ExtraTreesRegressor(
        20, min_samples_leaf=2, max_features=0.4, bootstrap=True, oob_score=True, random_state=3
    ).fit(x, y)
    new = rng.normal(size=(ROWS + 50, 6))
    assert np.allclose(grown.answers(new).mean(1), model.predict(new), atol=1e-5)
    assert np.allclose(unseen, model.oob_prediction_, atol=1e-5, equal_nan=True)


def test_the_padded_layout_of_older_weights_gives_the_same_trees() -> None:
    rng = np.random.default_rng(0)
    boosted = Boosted.from_sklearn(boosted_models(rng.normal(size=(60, 6)), 20), 0.1)
    trees, most = boosted.trees, 40
    padded = {name: np.zeros((3, 20, most), getattr(trees, name).dtype) for name in ("feature", "threshold", "value")}
    padded |= {side: np.full((3, 20, most), -1, np.int16) for side in ("left", "right")}
    ends = [*trees.starts[1:], len(trees.left)]
    for number, (start, end) in enumerate(zip(trees.starts, ends, strict=True)):
        at = divmod(number, 20)
        for name, array in padded.items():
            rows = getattr(trees, name)[start:end]
            array[*at, : end - start] = np.where(rows < 0, -1, rows - start) if name in {"left", "right"} else rows
    again = Boosted.from_arrays(padded | {"start": boosted.start})
    for name, array in boosted.arrays().items():
        assert np.array_equal(again.arrays()[name], array), name
        assert again.arrays()[name].dtype == array.dtype, name


def test_trees_survive_a_weights_file() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    grown, _ = grow_forest(x, x[:, 0], 5)
    again = FlatTrees.from_arrays(grown.arrays("near_") | {"else": x}, "near_")
    assert np.array_equal(again.answers(x), grown.answers(x))
