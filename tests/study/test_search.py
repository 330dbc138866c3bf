"""Searches: also run on the oldest supported Optuna."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from torch import nn

import nasplat
from nasplat.errors import SearchError
from nasplat.study import OutsideSupport
from nasplat.study.ledger import Ledger
from nasplat.study.search import architectures, table_of
from nasplat.tables.table import Table

State = optuna.trial.TrialState


def width(architecture: nasplat.Architecture) -> float:
    return float(architecture.choices["embed"]) - len(architecture.choices)


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [t for t in study.trials if t.state == State.COMPLETE]


SAMPLERS = {
    "default": lambda: None,
    "random": lambda: optuna.samplers.RandomSampler(seed=0),
    "tpe": lambda: optuna.samplers.TPESampler(seed=0, multivariate=False),
    "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=0),
    "predictor": lambda: nasplat.PredictorSampler(width, pool=24, startup=6),
    "predictor from nothing": lambda: nasplat.PredictorSampler(pool=24, startup=6),
    "unique random": lambda: nasplat.UniqueRandomSampler(),
    "evolution": lambda: nasplat.EvolutionSampler(population=6, tournament=3),
    "local search": lambda: nasplat.LocalSearchSampler(patience=4),
}
OURS = ("predictor", "predictor from nothing", "unique random", "evolution", "local search")


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_any_sampler_finds_no_duplicate_and_nothing_beyond_a_limit(vit: nasplat.Space, sampler: str) -> None:
    study = nasplat.search(
        vit,
        maximize=[width],
        minimize=["macs"],
        limits={"macs": 3e5, "params": 3e4},
        n_trials=25,
        sampler=SAMPLERS[sampler](),
    )
    assert isinstance(study, optuna.Study)
    done = finished(study)
    assert len(done) == 25
    assert len({t.user_attrs["key"] for t in done}) == 25
    assert all(t.values[1] == t.user_attrs["macs"] <= 3e5 and t.user_attrs["params"] <= 3e4 for t in done)
    refused = [t for t in study.trials if t.state == State.PRUNED]
    assert all(t.user_attrs["reason"] for t in refused)
    if sampler in OURS:
        assert not refused
    if sampler.startswith("predictor"):
        late = done[-1].user_attrs
        assert late["predicted_low"] < late["predicted"] < late["predicted_high"]


def test_predictor_sampler_beats_random_with_a_good_guide(vit: nasplat.Space) -> None:
    def quality(a: nasplat.Architecture) -> float:
        return a.graph().macs ** 0.5 * (2 if a.choices["depth"] == 2 else 1)

    best = {}
    for name, sampler in (
        ("guided", nasplat.PredictorSampler(quality)),
        ("random", optuna.samplers.RandomSampler(seed=0)),
    ):
        study = nasplat.search(vit, maximize=[quality], n_trials=12, sampler=sampler, seed=0)
        best[name] = study.best_value
    assert best["guided"] > best["random"]


def test_sampler_learns_against_a_wrong_guide(vit: nasplat.Space) -> None:
    def quality(a: nasplat.Architecture) -> float:
        return -float(a.choices["embed"])

    study = nasplat.search(
        vit, maximize=[quality], n_trials=30, sampler=nasplat.PredictorSampler(lambda a: -quality(a))
    )
    late = [t.values[0] for t in finished(study)[-8:]]
    early = [t.values[0] for t in finished(study)[:8]]
    assert sum(late) > sum(early)


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_search_resumes_where_it_stopped(vit: nasplat.Space, kind: str, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/s.db" if kind == "sqlite" else str(tmp_path / "s.journal")

    def run(n: int, where: str | None) -> optuna.Study:
        sampler = nasplat.PredictorSampler(pool=16, startup=5)
        return nasplat.search(vit, maximize=[width], minimize=["macs"], n_trials=n, storage=where, sampler=sampler)

    run(3, storage)
    run(8, storage)
    resumed = run(12, storage)
    whole = run(12, None)
    assert [t.user_attrs["architecture"] for t in finished(resumed)] == [
        t.user_attrs["architecture"] for t in finished(whole)
    ]
    assert len(run(12, storage).trials) == len(resumed.trials)


def test_storage_of_another_search_is_refused(vit: nasplat.Space, tmp_path: Path) -> None:
    storage = str(tmp_path / "s.journal")
    nasplat.search(vit, maximize=[width], n_trials=1, storage=storage)
    with pytest.raises(SearchError, match="in this storage has limits"):
        nasplat.search(vit, maximize=[width], limits={"macs": 1e9}, n_trials=1, storage=storage)


def test_failed_candidates_are_recorded_with_traceback(vit: nasplat.Space) -> None:
    def fragile(a: nasplat.Architecture) -> float:
        if a.choices["depth"] == 1:
            raise ValueError("out of luck")
        return float("nan") if a.choices["depth"] == 2 else width(a)

    study = nasplat.search(vit, maximize=[fragile], n_trials=20, sampler=optuna.samplers.RandomSampler(seed=1))
    failed = [t for t in study.trials if t.state == State.FAIL]
    assert any("ValueError: out of luck" in t.user_attrs.get("traceback", "") for t in failed)
    assert any(t.user_attrs.get("reason") == "fragile is not finite" for t in failed)
    assert len(failed) + len(finished(study)) == 20


def test_unreachable_limit_states_the_smallest_cost(vit: nasplat.Space) -> None:
    with pytest.raises(SearchError, match=r"has macs <= 100; the smallest has 20,640"):
        nasplat.search(vit, maximize=[width], limits={"macs": 100}, n_trials=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "at least one objective"),
        ({"maximize": [width], "limits": {"speed": 3}}, "limits on macs, params"),
        ({"maximize": [width], "limits": {"macs": -1}}, "expected a positive number"),
        ({"minimize": ["speed"]}, "a quantity among macs"),
    ],
)
def test_contradictions_are_refused(vit: nasplat.Space, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SearchError, match=message):
        nasplat.search(vit, n_trials=1, **arguments)  # type: ignore[arg-type]


def test_an_unknown_setting_names_the_nearest(vit: nasplat.Space) -> None:
    with pytest.raises(SearchError, match=r"options among maximize, .*, got 'n_trails'(?s:.*)nearest is n_trials"):
        nasplat.search(vit, maximize=[width], n_trails=3)
    with pytest.raises(SearchError, match=r"got 'candidate'(?s:.*)nearest is candidates"):
        nasplat.search_in_stages(vit, ["params", width], budget=3, candidate=9)


def test_a_search_without_a_trial_is_refused(vit: nasplat.Space) -> None:
    with pytest.raises(SearchError, match="expected n_trials >= 1, got 0"):
        nasplat.search(vit, maximize=[width], n_trials=0)


class Silent:
    """A predictor that abstains from every network."""

    metric = "accuracy"

    def __init__(self) -> None:
        self.asked = 0

    def predict(self, items: list[nasplat.Graph]) -> list[SimpleNamespace]:
        self.asked += 1
        return [SimpleNamespace(mean=None, reason="unlike all that was learnt")]

    def rank_scores(self, items: list[nasplat.Graph]) -> list[float]:
        return [0.0]


def test_a_predictor_that_abstains_from_every_network_ends_the_search_at_once(vit: nasplat.Space) -> None:
    silent = Silent()
    quality = nasplat.Predicted(silent)
    with pytest.raises(SearchError, match=r"'predicted accuracy'.*none for 64 .*: unlike all(?s:.*)--guide"):
        nasplat.search(vit, maximize=[quality], sampler=nasplat.PredictorSampler(quality), n_trials=5)
    assert 0 < silent.asked <= 64
    assert len(finished(nasplat.search(vit, maximize=[nasplat.Predicted(silent, beyond=True)], n_trials=2))) == 2


def test_a_search_in_which_every_proposal_is_refused_says_why(vit: nasplat.Space) -> None:
    def silent(_: nasplat.Architecture) -> float:
        raise OutsideSupport("nothing is known of it")

    with pytest.raises(
        SearchError, match=r"got 400 refused proposals in a row; the last one: (nothing is known|the same)"
    ):
        nasplat.search(vit, maximize=[silent], n_trials=5, sampler=optuna.samplers.RandomSampler(seed=0))


def test_a_predicted_error_guides_by_its_negative(vit: nasplat.Space) -> None:
    clock, network = Clock(), next(a for a in map(lambda i: vit.sample(seed=i), range(99)) if a.graph().params % 5)
    assert nasplat.Predicted(clock, sign=-1.0)(network) == -nasplat.Predicted(clock)(network)


def test_small_spaces_end_when_nothing_new_is_left(vit: nasplat.Space) -> None:
    few = nasplat.load_space("vit", size="mini", image=16, patch=4, channels=1, classes=10, head_dim=8)
    limits = {"macs": 45_000}
    study = nasplat.search(
        few, maximize=[width], limits=limits, n_trials=10_000, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    keys = {a.graph().key for a in few.enumerate() if len(a.choices) <= 6 and a.graph().macs <= 45_000}
    assert {t.user_attrs["key"] for t in finished(study)} <= keys | {t.user_attrs["key"] for t in finished(study)}
    assert 5 < len(finished(study)) < 200


def test_known_rows_count_as_finished_trials_and_are_not_proposed_again(vit: nasplat.Space) -> None:
    known = [vit.sample(seed=i) for i in range(10)]
    rows = tuple({"architecture": a.to_json(), "acc": str(width(a))} for a in known)
    table = Table(rows, "acc", "architecture", "earlier", lambda s: nasplat.Architecture.from_json(s, vit))
    sampler = nasplat.PredictorSampler(width, pool=8)
    study = nasplat.search(vit, maximize=[width], minimize=["macs"], n_trials=5, known=table, sampler=sampler)
    assert len(finished(study)) == 15
    assert len({t.user_attrs["key"] for t in finished(study)}) == 15


def test_tabulated_answers_and_prunes_what_it_lacks(vit: nasplat.Space) -> None:
    members = [vit.sample(seed=i) for i in range(40)]
    rows = tuple({"architecture": a.to_json(), "acc": str(i)} for i, a in enumerate(members))
    table = Table(rows, "acc", "architecture", "t", lambda s: nasplat.Architecture.from_json(s, vit))
    objective = nasplat.Tabulated(table)
    assert objective(members[7]) == 7.0
    with pytest.raises(OutsideSupport, match="no row"):
        objective(vit.sample(seed=999))


def test_rows_of_one_network_count_once_with_their_mean_and_failed_ones_not_at_all(vit: nasplat.Space) -> None:
    members = list({a.graph().key: a for a in (vit.sample(seed=i) for i in range(4))}.values())
    labels = ["1", "nan", "3", *(["5", ""] * len(members))[: len(members) - 1]]
    texts = [members[0].to_json()] * 3 + [a.to_json() for a in members[1:]]
    rows = tuple({"architecture": t, "acc": v} for t, v in zip(texts, labels, strict=True))
    table = Table(rows, "acc", "architecture", "earlier", lambda s: nasplat.Architecture.from_json(s, vit))
    assert nasplat.Tabulated(table)(members[0]) == 2.0
    with pytest.raises(OutsideSupport, match="no row"):
        nasplat.Tabulated(table)(members[2])
    with pytest.raises(nasplat.TableError, match="finite values in 'acc' of Table"):
        nasplat.Tabulated(table.take([1]))
    study = nasplat.search(vit, maximize=[width], n_trials=1, known=table)
    known = [t.values[0] for t in finished(study) if "known" in t.user_attrs]
    assert known == [2.0, *[5.0] * len([v for v in labels[3:] if v])]


def test_predicted_objective_prunes_outside_the_support(vit: nasplat.Space) -> None:
    predicted = nasplat.Predicted(nasplat.load_predictor("trees-nb201"))
    with pytest.raises(OutsideSupport, match="outside the predictor's support"):
        predicted(vit.sample(seed=0))


class Clock:
    """A latency predictor that abstains from some networks."""

    metric = "latency_ms"

    def predict(self, items: list[nasplat.Graph]) -> list[SimpleNamespace]:
        (graph,) = items
        abstains = graph.params % 5 == 0
        return [SimpleNamespace(mean=None if abstains else graph.macs / 1e5, reason="never timed")]

    def rank_scores(self, items: list[nasplat.Graph]) -> list[float]:
        return [-graph.macs / 1e5 for graph in items]


def test_predicted_latency_limits_and_is_minimised_without_an_evaluation(vit: nasplat.Space) -> None:
    latency = nasplat.PredictedLatency(Clock())
    asked: list[int] = []

    def accuracy(architecture: nasplat.Architecture) -> float:
        asked.append(architecture.graph().params)
        return width(architecture)

    study = nasplat.search(vit, [accuracy], [latency], {latency: 3.0}, n_trials=20)
    done = finished(study)
    assert study.metric_names == ["accuracy", "predicted latency_ms"]
    assert len(done) == len(asked) == 20
    assert all(t.values[1] == t.user_attrs["macs"] / 1e5 <= 3.0 for t in done)
    assert all(p % 5 for p in asked)  # what the predictor abstains from is never evaluated
    with pytest.raises(OutsideSupport, match="never timed"):
        latency(next(a for a in map(lambda i: vit.sample(seed=i), range(500)) if a.graph().params % 5 == 0))
    with pytest.raises(SearchError, match="expected minimize"):
        nasplat.search(vit, [latency], n_trials=1)
    with pytest.raises(SearchError, match="no architecture of"):
        nasplat.search(vit, [width], limits={latency: 1e-6}, n_trials=1)


def test_predicted_scores_at_other_presets() -> None:
    small = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
    guide = nasplat.Predicted(
        nasplat.load_predictor("trees-nb201"), at={"width": 16, "cells": 5, "image": 32, "channels": 3}
    )
    architecture = small.sample(seed=1)
    full = nasplat.load_space("nasbench201").parse(small.format(architecture))
    assert guide(architecture) == nasplat.load_predictor("trees-nb201").predict([full.canonical()])[0].mean


def test_pareto_set_comes_as_architectures(vit: nasplat.Space) -> None:
    study = nasplat.search(
        vit, maximize=[width], minimize=["macs"], n_trials=8, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    front = architectures(study, vit)
    assert len(front) == len(study.best_trials)
    assert all(width(a) == values[0] for a, values in front)
    assert len(table_of(study, vit)) == 8


def test_inherited_measured_and_trained_objectives(vit: nasplat.Space, task: nasplat.Task) -> None:
    from nasplat.task.training import Budget

    supernet = nasplat.Supernet(vit, task, seed=0)
    architecture = vit.sample(seed=0)
    assert nasplat.Inherited(supernet)(architecture) == supernet.evaluate(architecture)
    assert nasplat.Measured(repeats=5)(architecture) > 0
    assert 0 <= nasplat.Trained(task, Budget(epochs=1))(architecture) <= 100
    with pytest.raises(SearchError, match="expected the supernet's task"):
        nasplat.Inherited(supernet, nasplat.Task.from_arrays(([[0.0]], [0]), ([[0.0]], [0])))


def layers(trial: Any) -> nn.Module:
    """An ordinary Optuna objective's network: questions between modules."""
    found: list[nn.Module] = []
    wide = 8
    for i in range(trial.suggest_int("layers", 1, 3)):
        out = trial.suggest_int(f"width{i}", 8, 256, log=True)
        found += [nn.Linear(wide, out), getattr(nn, trial.suggest_categorical(f"act{i}", ["ReLU", "GELU"]))()]
        wide = out
    return nn.Sequential(*found, nn.Linear(wide, 2))


def test_samplers_serve_a_plain_optuna_objective() -> None:
    space = nasplat.space_of_trial(layers, (1, 8))
    sampler = nasplat.PredictorSampler(space=space, limits={"params": 40_000}, pool=24, startup=6)

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)  # no choice of the network
        params = sum(p.numel() for p in layers(trial).parameters())
        assert params <= 40_000
        return params + lr

    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.optimize(objective, n_trials=25)
    networks = [tuple(sorted((k, v) for k, v in t.params.items() if k != "lr")) for t in study.trials]
    assert len(set(networks)) == 25
    assert len({t.params["lr"] for t in study.trials}) == 25
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), direction="maximize")
    random.optimize(lambda t: min(40_000.0, sum(p.numel() for p in layers(t).parameters())), n_trials=10)
    assert study.best_value > 0.9 * 40_000


def test_enqueued_and_foreign_trials_are_learnt_from() -> None:
    space = nasplat.space_of_trial(layers, (1, 8))
    sampler = nasplat.PredictorSampler(space=space, pool=16, startup=3)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial({"layers": 1, "width0": 100, "act0": "ReLU"})  # 100 is between the options
    study.optimize(lambda t: float(sum(p.numel() for p in layers(t).parameters())), n_trials=6)
    assert study.trials[0].params["width0"] == 100
    assert sampler.member(study.trials[0]).choices["width0"] in {81, 102}


def test_of_two_workers_with_one_network_none_overlooks_the_other() -> None:
    study = optuna.create_study()
    first, second = study.ask(), study.ask()
    ledger = Ledger()
    for trial in (first, second):
        trial.set_user_attr("key", "k")
    ledger.update(study)
    assert (ledger.rival("k", first.number), ledger.rival("k", second.number)) == (second.number, first.number)
    study.tell(first, state=State.FAIL)  # its worker died: nothing was learnt
    ledger.update(study)
    assert ledger.rival("k", second.number) is None
    study.tell(second, 1.0)
    ledger.update(study)
    assert ledger.rival("k", 7) == second.number
    assert ledger.keys() == {"k"}
    assert ledger.done == 1


def test_threads_never_propose_the_same_network(vit: nasplat.Space) -> None:
    sampler = nasplat.PredictorSampler(pool=24, startup=6, space=vit)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: float(vit.suggest(t).graph().macs), n_trials=24, n_jobs=4)
    keys = [vit.from_trial(t).graph().key for t in study.trials]
    assert len(set(keys)) == 24


def test_sampler_outside_a_search_asks_for_a_space() -> None:
    study = optuna.create_study(sampler=nasplat.PredictorSampler(width))
    with pytest.raises(SearchError, match="expected a space"):
        study.ask()


def test_a_study_refuses_other_weights_and_other_labels(tmp_path: Path) -> None:
    space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
    task = nasplat.load_task("digits-clutter", train=64, decide=32, test=32)
    first, second = (nasplat.Supernet(space, task, seed=seed) for seed in (0, 1))
    assert first.fingerprint == nasplat.Supernet(space, task, seed=0).fingerprint != second.fingerprint
    storage = optuna.storages.InMemoryStorage()
    nasplat.search(space, [nasplat.Inherited(first)], ["macs"], n_trials=1, storage=storage)
    nasplat.search(space, [nasplat.Inherited(first)], ["macs"], n_trials=2, storage=storage)
    with pytest.raises(SearchError, match="would not compare"):
        nasplat.search(space, [nasplat.Inherited(second)], ["macs"], n_trials=3, storage=storage)
