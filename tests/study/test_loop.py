"""A worker goes on, whatever other workers say of its trials and whatever networks do that cannot be built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from commands import CELLS
from optuna.trial import TrialState
from torch import nn

import nasplat
from nasplat.errors import SearchError, StorageError
from nasplat.study.objectives import OutsideSupport

pytestmark = pytest.mark.fast


def last_told(storage: Any, state: TrialState = TrialState.FAIL, values: list[float] | None = None) -> None:
    """What another worker does that takes the owner of the youngest trial for dead."""
    study = optuna.load_study(study_name="nasplat", storage=storage)
    study.tell(study.get_trials(deepcopy=False)[-1].number, values, state=state)


@pytest.fixture(scope="module")
def cells() -> nasplat.Space:
    return nasplat.load_space("nasbench201", **CELLS)


def values(what: Callable[[], float]) -> Callable[[nasplat.Architecture], float]:
    """An objective that does something in its second trial."""
    calls: list[int] = []

    def objective(_: nasplat.Architecture) -> float:
        calls.append(1)
        return what() if len(calls) == 2 else float(len(calls))

    return objective


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.PRUNED])
@pytest.mark.parametrize("ending", ["value", "nan", "exception", "pruned", "outside"])
def test_a_trial_that_another_worker_told_is_dropped_and_the_search_goes_on(
    cells: nasplat.Space, ending: str, state: TrialState
) -> None:
    storage = optuna.storages.InMemoryStorage()

    def buried() -> float:
        last_told(storage, state)
        if ending == "exception":
            raise RuntimeError("a candidate that does not train")
        if ending == "pruned":
            raise optuna.TrialPruned("not good enough")
        if ending == "outside":
            raise OutsideSupport("nothing like it was learnt")
        return float("nan") if ending == "nan" else 2.0

    study = nasplat.search(cells, maximize=[values(buried)], n_trials=4, storage=storage, seed=0)
    assert study.trials[1].state == state  # the other one's word stands
    assert sum(t.state == TrialState.COMPLETE for t in study.trials) == 4


def test_a_trial_told_while_it_is_still_proposed_is_dropped_and_its_owner_is_named_before(
    cells: nasplat.Space,
) -> None:
    storage, owners = optuna.storages.InMemoryStorage(), list[Any]()

    class Slow(nasplat.UniqueRandomSampler):
        def propose(self, study: optuna.Study, number: int, contested: Any = frozenset()) -> Any:
            owners.append(study.get_trials(deepcopy=False)[-1].user_attrs.get("worker"))
            if number == 1:
                last_told(storage)
            return super().propose(study, number, contested)

    sampler = Slow(seed=0)
    study = nasplat.search(cells, minimize=["macs"], n_trials=3, sampler=sampler, storage=storage)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE, TrialState.FAIL, *[TrialState.COMPLETE] * 2]
    assert None not in owners


def test_a_storage_that_cannot_be_written_is_no_fault_of_the_candidate(cells: nasplat.Space) -> None:
    def full() -> float:
        raise StorageError("expected to write the table, got: No space left on device.")

    with pytest.raises(SearchError, match=r"storage is full.*the table"):
        nasplat.search(cells, maximize=[values(full)], n_trials=4)


def partly_broken(pick: nasplat.Pick) -> nn.Module:
    width, how = pick("width", (4, 8, 12, 16, 20)), pick("how", ("well", "before", "while", "after"))
    if how == "before":
        raise ZeroDivisionError("no such width")
    layers = [nn.Conv2d(1, width, 3)]
    if how == "while":
        raise MemoryError("no room for this module")
    return nn.Sequential(*layers, nn.Conv2d(width + 1, 1, 1)) if how == "after" else nn.Sequential(*layers)


BROKEN = nasplat.space(example_input=(1, 1, 8, 8))(partly_broken)


@pytest.mark.parametrize(
    "sampler",
    [
        lambda: nasplat.PredictorSampler(seed=0, pool=8, startup=2),
        lambda: nasplat.UniqueRandomSampler(seed=0),
        lambda: nasplat.EvolutionSampler(population=2, tournament=2, seed=0),
        lambda: nasplat.LocalSearchSampler(patience=3, seed=0),
    ],
)
@pytest.mark.parametrize("limits", [None, {"params": 190}])
def test_networks_that_cannot_be_built_are_not_proposed(sampler: Any, limits: dict[str, float] | None) -> None:
    study = nasplat.search(BROKEN, minimize=["params"], n_trials=4, sampler=sampler(), limits=limits)
    done = [t for t in study.trials if t.state == TrialState.COMPLETE]
    assert len(done) == 4
    assert {t.params["how"] for t in done} == {"well"}


def test_networks_that_cannot_be_built_fail_where_a_foreign_sampler_proposes_them() -> None:
    ways = [{"width": 4, "how": how} for how in ("before", "while", "after", "well")]

    class Listed(optuna.samplers.RandomSampler):
        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return ways[trial.number][param_name]

    study = nasplat.search(BROKEN, minimize=["params"], n_trials=4, sampler=Listed())
    told = [str(t.user_attrs.get("traceback")) for t in study.trials]
    assert "no such width" in told[0]
    assert "no room for this module" in told[1]
    assert "Check example_input" in told[2]
    assert [t.state for t in study.trials] == [*[TrialState.FAIL] * 3, TrialState.COMPLETE]


def test_of_a_space_where_nothing_can_be_built_the_reason_is_told() -> None:
    @nasplat.space(example_input=(1, 1, 8, 8))
    def nothing(pick: nasplat.Pick) -> nn.Module:
        return nn.Conv2d(1, pick("width", (1, 2)), {}["side"])

    with pytest.raises(SearchError, match=r"(?s)none in \d+ draws.*KeyError: 'side'.*check_space"):
        nasplat.search(nothing, minimize=["params"], n_trials=2)
