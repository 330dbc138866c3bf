"""Learning curves against the front."""

from __future__ import annotations

import random

import optuna
import pytest

import nasplat
from nasplat.errors import SearchError
from nasplat.study.front_pruner import BELIEVED, CURVE, STOPPED, believed
from nasplat.study.search import search
from nasplat.task.training import Budget

State = optuna.trial.TrialState


class Learner(nasplat.study.AbstractObjective):
    """Six epochs; what is reached depends on the choices, and so does how fast."""

    name = "accuracy %"
    has_curve = True

    def __init__(self) -> None:
        self.epochs = 0

    def curve(self, architecture: nasplat.Architecture) -> list[float]:
        rng = random.Random(str(architecture))
        final = 50 + 30 * rng.random()
        return [final * (1 - 0.6 ** (e + 1)) / (1 - 0.6**6) for e in range(6)]

    def __call__(self, architecture: nasplat.Architecture) -> float:
        self.epochs += 6
        return self.curve(architecture)[-1]

    def follow(self, architecture: nasplat.Architecture, after: object) -> float:
        for number, value in enumerate(self.curve(architecture), start=1):
            self.epochs += 1
            after(number, value)  # type: ignore[operator]
        return value


@pytest.fixture
def space(lines: nasplat.Space) -> nasplat.Space:
    return lines


@pytest.mark.parametrize("minimize", [(), ("macs",)])
def test_hopeless_trainings_are_stopped_and_the_front_is_kept(space: nasplat.Space, minimize: tuple[str, ...]) -> None:
    common = {"minimize": minimize, "n_trials": 40, "seed": 0}
    whole, short = Learner(), Learner()
    plain = search(space, [whole], sampler=nasplat.study.UniqueRandomSampler(seed=0), **common)
    pruned = search(
        space, [short], sampler=nasplat.study.UniqueRandomSampler(seed=0), pruner=nasplat.FrontPruner(), **common
    )
    stopped = [t for t in pruned.trials if STOPPED in t.user_attrs]
    assert len(stopped) + sum(t.state == State.COMPLETE for t in pruned.trials) == 40
    assert whole.epochs == 240
    assert short.epochs < 200
    assert {tuple(t.values) for t in pruned.best_trials} == {tuple(t.values) for t in plain.best_trials}
    for trial in stopped:
        assert trial.state == State.PRUNED
        assert len(trial.user_attrs[CURVE]) == trial.user_attrs[STOPPED] < 6
        assert "is better" in trial.user_attrs["reason"]
        assert len(believed(trial)) == 1 + len(minimize)


def test_stopped_trials_count_and_are_not_repeated(space: nasplat.Space) -> None:
    storage = optuna.storages.InMemoryStorage()
    options = {"minimize": ["macs"], "storage": storage, "seed": 1, "pruner": nasplat.FrontPruner()}
    search(space, [Learner()], n_trials=20, **options)
    study = search(space, [Learner()], n_trials=30, **options)
    counted = [t for t in study.trials if t.state == State.COMPLETE or STOPPED in t.user_attrs]
    assert len(counted) == 30
    assert len({t.user_attrs["key"] for t in counted}) == 30


def test_a_plain_study_of_two_objectives_is_pruned() -> None:
    pruner = nasplat.FrontPruner(startup=4)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        loss, size = trial.suggest_float("loss", 0, 1), trial.suggest_float("size", 0, 1)
        for epoch in range(5):
            if pruner.should_prune(trial, loss + 0.5 ** (epoch + 1), {1: size}):
                raise optuna.TrialPruned
        return loss + 0.5**5, size

    study.optimize(objective, n_trials=40)
    stopped = [t for t in study.trials if t.state == State.PRUNED]
    assert len(stopped) > 15
    best = [t.values for t in study.best_trials]
    for trial in stopped:  # none of them would have been on the front
        loss, size = trial.params["loss"] + 0.5**5, trial.params["size"]
        assert any(a <= loss and b >= size for a, b in best)
        assert trial.user_attrs[BELIEVED][1] == size


def test_an_objective_whose_value_is_not_told_is_taken_for_the_best() -> None:
    pruner = nasplat.FrontPruner(startup=3)
    study = optuna.create_study(directions=["maximize", "minimize"])
    for value in (0.9, 0.8, 0.7):
        attrs = {CURVE: [value / 2, value]}
        study.add_trial(optuna.trial.create_trial(values=[value, 1.0], user_attrs=attrs))
    assert not pruner.should_prune(study.ask(), 0.01)
    assert pruner.should_prune(study.ask(), 0.01, {1: 2.0})
    assert not pruner.should_prune(study.ask(), 0.01, {1: 0.5})
    assert not pruner.should_prune(study.ask(), float("nan"), {1: 2.0})


def test_the_bound_covers_as_often_as_it_says() -> None:
    rng = random.Random(3)
    pruner, above = nasplat.FrontPruner(risk=0.2), 0
    for _ in range(300):
        trials = []
        for _ in range(25):
            start = rng.gauss(0, 1)
            trials.append(
                optuna.trial.create_trial(value=2 * start + rng.gauss(0, 1), user_attrs={CURVE: [start, 0.0]})
            )
        *finished, new = trials
        outlook = pruner.outlook(new.user_attrs[CURVE][:1], finished)
        assert outlook is not None
        above += new.value > outlook.bound
    assert 0.1 < above / 300 < 0.3


def test_an_objective_that_gives_up_by_itself_counts(space: nasplat.Space) -> None:
    def objective(architecture: nasplat.Architecture) -> float:
        raise optuna.TrialPruned("enough")

    study = search(space, [objective], n_trials=3)
    assert [t.user_attrs["reason"] for t in study.trials] == ["enough"] * 3


def test_a_pruner_needs_a_curve(space: nasplat.Space) -> None:
    with pytest.raises(SearchError, match="learning curve at number 0"):
        search(space, ["macs"], n_trials=1, pruner=nasplat.FrontPruner())
    with pytest.raises(SearchError, match="startup >= 3"):
        nasplat.FrontPruner(startup=2)


def test_trained_follows_its_curve() -> None:
    task = nasplat.load_task("digits-clutter", train=256, decide=128, test=64)
    space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
    trained = nasplat.Trained(task, Budget(epochs=2, batch_size=64))
    told: list[tuple[int, float]] = []
    value = trained.follow(space.sample(seed=0), lambda *a: told.append(a))
    assert [n for n, _ in told] == [1, 2]
    assert told[-1][1] == value == trained(space.sample(seed=0))
