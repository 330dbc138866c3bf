from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import pytest

from nasplat.errors import InputError, TaskError
from nasplat.task.settings import Check, from_words, overridden
from nasplat.task.training import Budget

pytestmark = pytest.mark.fast


@dataclass(frozen=True)
class Journey:
    days: int = 3
    speed: float = 1.5
    is_guided: bool = False
    place: str = "Bern"
    guests: int | None = None
    stops: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check = (
            Check(self, TaskError, "trip").types().within("days", "guests", least=1).within("speed", above=0, most=5)
        )
        check.among("place", ("Bern", "Basel"))


def test_words_become_values_of_the_fields_types() -> None:
    words = ("--trip.days=7", "trip.speed=2", "--trip.is_guided=yes", "--trip.place=Basel", "--trip.guests=2")
    assert from_words(Journey, words, "trip") == Journey(7, 2.0, True, "Basel", 2)
    assert from_words(Journey, ["days=7", "--days=8", "guests=none", "is_guided=False"]) == Journey(8)
    assert isinstance(from_words(Journey, ["speed=2"]).speed, float)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--trip.days=2.5", "--trip.days expected a whole number, got '2.5'"),
        ("--trip.days=", "--trip.days expected a whole number, got ''"),
        ("--trip.speed=fast", "--trip.speed expected a number, got 'fast'"),
        ("--trip.speed=nan", "--trip.speed expected a number, got 'nan'"),
        ("--trip.is_guided=maybe", "--trip.is_guided expected true or false, got 'maybe'"),
        ("--trip.guests=many", "--trip.guests expected a whole number or none, got 'many'"),
        ("--trip.days", "Write for instance --trip.days=3"),
        ("--trip.stops=Thun", "--trip.stops cannot be set in words"),
        ("--trip.place_=Basel", r"among --trip.days, --trip.speed.*got '--trip.place_=Basel'.*nearest is --trip.place"),
        ("--train.days=3", "got '--train.days=3'"),
        ("--days=3", "got '--days=3'"),
    ],
)
def test_words_that_fit_no_field_are_refused_by_name(word: str, message: str) -> None:
    with pytest.raises(InputError, match=f"(?s){message}"):
        from_words(Journey, [word], "trip")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"days": True}, "--trip.days to be a whole number, got True"),
        ({"days": 2.0}, "--trip.days to be a whole number, got 2.0"),
        ({"days": None}, "--trip.days to be a whole number, got None"),
        ({"days": 0}, "--trip.days >= 1, got 0"),
        ({"guests": -1}, "--trip.guests >= 1, got -1"),
        ({"speed": False}, "--trip.speed to be a number, got False"),
        ({"speed": float("nan")}, "--trip.speed to be a number, got nan"),
        ({"speed": float("inf")}, "--trip.speed > 0 and <= 5, got inf"),
        ({"speed": 0}, "--trip.speed > 0 and <= 5, got 0.0"),
        ({"is_guided": 1}, "--trip.is_guided to be true or false, got 1"),
        ({"place": 3}, "--trip.place to be text, got 3"),
        ({"place": "Basle"}, "--trip.place among Bern, Basel, got 'Basle'.*nearest is Basel"),
    ],
)
def test_a_dataclass_refuses_wrong_types_and_ranges_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=f"(?s)expected {message}"):
        replace(Journey(), **change)


def test_overrides_that_name_no_field_list_the_known_ones() -> None:
    assert overridden(Journey(), {"days": 9}) == Journey(9)
    with pytest.raises(TaskError, match=r"(?s)among days, speed, .*, got 'dayz'.*nearest is days"):
        overridden(Journey(), {"dayz": 9}, TaskError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 2.5}, "--budget.epochs to be a whole number, got 2.5"),
        ({"epochs": True}, "--budget.epochs to be a whole number, got True"),
        ({"batch_size": 0}, "--budget.batch_size >= 1, got 0"),
        ({"lr": True}, "--budget.lr to be a number, got True"),
        ({"lr": float("nan")}, "--budget.lr to be a number, got nan"),
        ({"lr": -1e-3}, "--budget.lr > 0, got -0.001"),
        ({"lr": float("inf")}, "--budget.lr > 0, got inf"),
        ({"weight_decay": -0.1}, "--budget.weight_decay >= 0, got -0.1"),
    ],
)
def test_a_budget_refuses_what_trains_nothing(change: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=f"expected {message}"):
        Budget(**change)  # type: ignore[arg-type]
    assert from_words(Budget, [f"budget.{k}={v}" for k, v in asdict(Budget()).items()], "budget") == Budget()
