from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import nasplat
from nasplat.errors import InputError, PredictorError, TableError
from nasplat.features.statistics import features
from nasplat.features.view import view
from nasplat.learners.conformal import half_width
from nasplat.learners.normal_scores import NormalScores
from nasplat.predict import Trees, load
from nasplat.predict.count import CountBaseline
from nasplat.tables.metrics import interval_coverage, kendall_tau
from nasplat.tables.table import Table
from nasplat.workflows.evaluate import evaluate
from nasplat.workflows.fit import fit_and_save
from nasplat.workflows.labelled import Labelled, distinct, split

Data = tuple[list[nasplat.Graph], list[float]]


def small_trees() -> Trees:
    return Trees(members=2, trees=30, depth=3)


@pytest.mark.parametrize(
    "predictor", [small_trees(), CountBaseline("macs"), CountBaseline("params")], ids=lambda p: p.family
)
def test_families_keep_the_contract(predictor: nasplat.predict.AbstractPredictor, labelled: Data) -> None:
    nasplat.check_predictor(predictor, *labelled)


def test_trees_rank_better_than_chance(labelled: Data) -> None:
    graphs, labels = labelled
    predictor = small_trees().fit(graphs[:45], labels[:45])
    answers = predictor.predict(graphs[45:])
    inside = [(a.mean, y) for a, y in zip(answers, labels[45:], strict=True) if a.in_support]
    assert kendall_tau(*zip(*inside, strict=True)) > 0.4


def test_conformal_intervals_keep_their_level() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        width = half_width(rng.normal(size=60), 0.9)
        fresh = rng.normal(size=100)
        covered.append(interval_coverage(-width * np.ones(100), width * np.ones(100), fresh))
    assert 0.88 < np.mean(covered) < 0.93


def test_too_few_residuals_are_refused() -> None:
    with pytest.raises(PredictorError, match="at least 9 calibration labels for a 90% interval, got 5"):
        half_width(np.ones(5), 0.9)


def test_features_have_the_same_names_for_every_graph(small_space: nasplat.Space) -> None:
    reference = features(nasplat.capture(torch.nn.Linear(4, 2), (1, 4)))
    found = features(small_space.sample(seed=0).graph())
    assert list(found) == list(reference)
    assert all(np.isfinite(v) for v in found.values())


def test_outside_the_support_it_abstains_and_says_why(labelled: Data, vit: nasplat.Space) -> None:
    predictor = small_trees().fit(*labelled)
    (answer,) = predictor.predict([vit.sample(seed=0)])
    assert (answer.mean, answer.low, answer.high, answer.percentile) == (None, None, None, None)
    assert not answer.in_support
    assert "training networks" in answer.reason
    assert answer.macs > 0


def test_finetuned_learns_the_target_and_leaves_the_base(labelled: Data, tmp_path: Path) -> None:
    graphs, labels = labelled
    base = CountBaseline("macs").fit(graphs, labels)
    before = base.predict(graphs)
    target = [g.params**0.5 for g in graphs]
    tuned = base.finetune(graphs[:40], target[:40], seed=0)
    assert base.predict(graphs) == before
    answers = tuned.predict(graphs[40:])
    inside = [(a.mean, y) for a, y in zip(answers, target[40:], strict=True) if a.in_support]
    assert len(inside) > 10
    assert kendall_tau(*zip(*inside, strict=True)) > 0.6
    tuned.save(tmp_path)
    assert load(tmp_path).predict(graphs) == tuned.predict(graphs)


def test_unfitted_few_and_unequal_labels_are_refused(labelled: Data) -> None:
    graphs, labels = labelled
    with pytest.raises(PredictorError, match="Trees expected to be fitted"):
        Trees().predict(graphs)
    with pytest.raises(PredictorError, match="at least 20, got 5 and 5"):
        Trees().fit(graphs[:5], labels[:5])
    with pytest.raises(PredictorError, match="at least 10 and at most 3000, got 3 and 3"):
        CountBaseline().fit(graphs, labels).finetune(graphs[:3], labels[:3])
    with pytest.raises(PredictorError, match="macs, params or a statistic, got 'size'"):
        CountBaseline("size").fit(graphs, labels)
    with pytest.raises(PredictorError, match="Graph or an Architecture, got str"):
        CountBaseline().fit(graphs, labels).predict(["nasbench201"])


def test_unknown_family_and_settings_are_refused() -> None:
    from nasplat.predict.registry import make

    with pytest.raises(
        PredictorError, match=r"among trees, gennape, universal, aiop, zoo, .*count, latency, device, got 'forest'"
    ):
        make("forest")
    with pytest.raises(PredictorError, match="does not take these settings"):
        make("trees", leaves=3)


def test_fitting_a_table_writes_a_card_and_splits_by_graph(cells: nasplat.Space, tmp_path: Path) -> None:
    rows = []
    for i in range(120):
        architecture = cells.sample(seed=i)
        rows.append({"architecture": architecture.to_json(), "acc": str(architecture.graph().macs ** 0.5)})
    table = Table(tuple(rows), "acc", "architecture", "made up", lambda s: nasplat.Architecture.from_json(s, cells))
    data = distinct(table)
    train, decide, test = split(data, seed=0)
    assert not set(train.keys) & set(test.keys)
    assert len(train.keys) + len(decide.keys) + len(test.keys) == len(data.keys) == len(set(data.keys))
    predictor, figures = fit_and_save(table, "count", tmp_path / "p", seeds=(0, 1), command="made in a test")
    assert [f["seed"] for f in figures] == [0, 1]
    assert (
        min(f["kendall_tau"] for f in figures) > 0.7
    )  # dead code counts in MACs, but not in keys: equal keys average unequal labels
    card = (tmp_path / "p" / "README.md").read_text(encoding="utf-8")
    assert "made in a test" in card
    assert f"{figures[0]['kendall_tau']:.3f}" in card
    again = evaluate(nasplat.load_predictor(str(tmp_path / "p")), test)
    assert again == evaluate(predictor, test)
    with pytest.raises(TableError, match="at least 50 distinct"):
        fit_and_save(table.take(range(10)), "count", tmp_path / "q")


def test_evaluation_without_support_says_so(labelled: Data, vit: nasplat.Space) -> None:
    predictor = small_trees().fit(*labelled)
    seen = [view(vit.sample(seed=i).graph()) for i in range(3)]
    strangers = Labelled(seen, [1.0, 2.0, 3.0], ["a", "b", "c"], ["a", "b", "c"])
    with pytest.raises(TableError, match="inside the predictor's support, got 0 of 3"):
        evaluate(predictor, strangers)
    ranked = evaluate(predictor, strangers, beyond=True)
    assert ranked.in_support == 0.0
    assert ranked.mean_absolute_error is None
    assert -1.0 <= ranked.kendall_tau <= 1.0


def test_score_ranks_strings_modules_and_architectures_together() -> None:
    cell = "nasbench201:|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    poor = nasplat.load_space("nasbench201").parse("|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|")
    rows = nasplat.score([poor, torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)), cell], example_input=(1, 3, 32, 32))
    assert rows[0].name == cell
    assert rows[0].prediction.low < rows[0].prediction.mean < rows[0].prediction.high
    assert rows[-1].prediction.mean is None
    assert all(r.prediction.macs >= 0 and r.prediction.params >= 0 for r in rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [("what", "expected space:encoding"), ("mine.py", "expected file.py:factory"), ("{}", "expected one line")],
)
def test_strings_outside_the_grammar_are_refused(text: str, message: str) -> None:
    with pytest.raises((InputError, nasplat.NasplatError), match=message):
        nasplat.capture(text)


def test_factories_in_files(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text(
        "import torch\nclass Odd:\n    pass\ndef net():\n    return torch.nn.Conv2d(3, 4, 3)\ndef wrong():\n    return 3\n"
        "def needs(x):\n    return x\n",
        encoding="utf-8",
    )
    assert nasplat.capture(f"{file}:net", (1, 3, 8, 8)).params == 4 * 27 + 4
    with pytest.raises(InputError, match=r"expected to return an nn.Module, got int"):
        nasplat.capture(f"{file}:wrong")
    with pytest.raises(InputError, match="callable without arguments"):
        nasplat.capture(f"{file}:needs")
    with pytest.raises(nasplat.NasplatError, match="defines no 'other'; it defines: Odd, net, wrong, needs"):
        nasplat.capture(f"{file}:other")


def test_timm_names_work_or_name_the_package() -> None:
    try:
        import timm  # noqa: F401
    except ImportError:
        with pytest.raises(nasplat.NasplatError, match="needs timm, which is not installed"):
            nasplat.capture("timm:resnet18")
    else:
        assert nasplat.capture("timm:resnet18").params == 11_689_512


def test_predictors_have_scikit_learns_manners(labelled: Data) -> None:
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    graphs, labels = labelled
    trees = Trees(members=1, trees=20, depth=2)
    twin = clone(trees)
    assert twin.get_params() == trees.get_params()
    assert not twin.is_fitted
    assert clone(trees).set_params(depth=4).depth == 4
    assert clone(trees.fit(graphs, labels)).get_params()["trees"] == 20
    search = GridSearchCV(trees, {"depth": [1, 4]}, cv=2).fit(graphs, labels)
    assert search.best_params_["depth"] in {1, 4}
    assert search.best_score_ == pytest.approx(max(search.cv_results_["mean_test_score"]))
    assert len(cross_val_score(CountBaseline("params"), graphs, labels, cv=3)) == 3
    views = make_pipeline(FunctionTransformer(lambda items: [view(g) for g in items]), clone(trees)).fit(graphs, labels)
    assert views.score(graphs, labels) == pytest.approx(trees.score(graphs, labels))
    tuned = trees.finetune(graphs[:20], labels[:20])
    assert clone(tuned).get_params(deep=False)["temperature"] == tuned.temperature
    assert (repr(Trees()), repr(Trees(members=1, trees=20))) == ("Trees()", "Trees(members=1, trees=20)")
    with pytest.raises(PredictorError, match=r"Trees expected a setting among depth, .*, got 'depht'"):
        trees.set_params(depht=4)


def test_normal_scores_go_back_and_keep_order() -> None:
    labels = np.array([3.0, 1.0, 1.0, 10.0, 90.0])
    normal = NormalScores.learn(labels)
    z = normal.forward(labels)
    assert z[1] == z[2] < z[0] < z[3] < z[4]
    assert np.allclose(normal.back(z), labels)
    beyond = normal.back(np.array([-9.0, z.min(), z.max(), 9.0]))
    assert (np.diff(beyond) > 0).all()
    many = NormalScores.learn(np.arange(5000.0))
    assert len(many.labels) <= 512
    assert np.abs(many.back(many.forward(np.arange(5000.0))) - np.arange(5000.0)).max() < 1.0


def test_a_useless_base_is_outvoted(labelled: Data) -> None:
    graphs, _ = labelled
    target = [v.statistics["most.spatial"] + 0.01 * v.statistics["log_macs"] for v in (view(g) for g in graphs)]
    tuned = CountBaseline().fit(graphs, np.random.default_rng(0).permutation(target)).finetune(graphs[:40], target[:40])
    assert kendall_tau(tuned.rank_scores(graphs[40:]), target[40:]) > 0.7
    shuffled = np.random.default_rng(1).permutation(target)
    wrong = CountBaseline().fit(graphs, target).finetune(graphs[:40], shuffled[:40])
    assert kendall_tau(wrong.rank_scores(graphs[40:]), target[40:]) < 0.5
