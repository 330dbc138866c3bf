"""Labels as people keep them: the same classes whatever their form, or an error that names split, value and remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import nasplat
from nasplat.errors import TaskError
from nasplat.task.judging import distance

pytestmark = pytest.mark.fast

PLAIN = np.array([0, 2, 1, 1, 0, 2])
X = np.arange(6.0)[:, None, None, None] * np.ones((6, 1, 5, 5))


def of(y: Any, x: Any = X, decide: Any = None, **options: Any) -> nasplat.Task:
    return nasplat.Task.from_arrays((x, y), (x, y if decide is None else decide), **options)


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (PLAIN, ()),
        (PLAIN.astype(np.uint8), ()),
        (PLAIN.astype(np.float64), ()),
        (torch.tensor(PLAIN).half(), ()),
        (PLAIN.astype(object), ()),
        (PLAIN[:, None], ()),
        (PLAIN[None].T.astype(np.float32), ()),
        (PLAIN.tolist(), ()),
        ([[v] for v in PLAIN.tolist()], ()),
        (PLAIN.astype(str), ()),
        ([f"{v} " for v in PLAIN], ()),
        (np.eye(3)[PLAIN], ("0", "1", "2")),
        (np.eye(3, dtype=int)[PLAIN], ("0", "1", "2")),
        (torch.eye(3)[PLAIN], ("0", "1", "2")),
        (np.eye(3, dtype=bool)[PLAIN], ("0", "1", "2")),
        (PLAIN + 1, ("1", "2", "3")),
        (PLAIN.astype(np.float32) + 1, ("1", "2", "3")),
        ((PLAIN + 1).astype(str)[:, None], ("1", "2", "3")),
        (np.array(["ant", "bee", "cat"])[PLAIN], ("ant", "bee", "cat")),
        (np.array(["ant", "bee", "cat"], dtype=object)[PLAIN][:, None], ("ant", "bee", "cat")),
        ([[b"ant", b"bee", b"cat"][v] for v in PLAIN], ("ant", "bee", "cat")),
    ],
)
def test_the_same_classes_in_any_form(y: Any, names: tuple[str, ...]) -> None:
    task = of(y)
    assert task.train.y.dtype == torch.int64
    assert task.train.y.tolist() == PLAIN.tolist()
    assert (task.classes, task.class_names, task.chance) == (3, names, pytest.approx(100 / 3))
    assert task.shapes["classes"] == 3


@pytest.mark.parametrize(
    ("y", "numbers", "note"),
    [
        ([-1, 1, 1, -1, 1, 1], [0, 1, 1, 0, 1, 1], "class numbers -1, 1 became 0 and 1"),
        ([0, 255, 255, 0, 0, 255], [0, 1, 1, 0, 0, 1], "class numbers 0, 255 became 0 to 1"),
        ([True, False, False, True, True, True], [1, 0, 0, 1, 1, 1], "truth values became classes: False 0, True 1"),
        ([1, 2, 3, 1, 2, 3], [0, 1, 2, 0, 1, 2], "1, 2, 3 became 0 to 2; pass classes=4 to keep them"),
        ([0, 1, 3, 0, 1, 3], [0, 1, 3, 0, 1, 3], "no example has class 2, of 4"),
        ([0] * 6, [0] * 6, "all targets are of class 0: every network that says so is right"),
        ([1] * 6, [1] * 6, "all targets are of class 1"),
        (["b", "a", "b", "a", "a", "b"], [1, 0, 1, 0, 0, 1], "numbered in the order of their names: a, b"),
    ],
)
def test_what_was_decided_is_noted(y: Any, numbers: list[int], note: str) -> None:
    task = of(y)
    assert task.train.y.tolist() == numbers
    assert any(note in n for n in task.notes)
    assert note.split(",")[0] in task._repr_html_()


@pytest.mark.parametrize(
    "y", [[0, 1, 255, 1, 0, 255], [1, 2, -100, 2, 1, -100], np.array([0, 1, 255, 1, 0, 255], np.uint8)]
)
def test_examples_without_a_class_are_left_out(y: Any) -> None:
    task = of(y)
    assert task.train.y.tolist() == [0, 1, 1, 0]
    assert task.train.x[:, 0, 0, 0].tolist() == [0, 1, 3, 4]
    assert "2 examples of 'train' have no class, and were left out" in task.notes


def test_places_without_a_class_count_neither_in_the_loss_nor_in_the_metric() -> None:
    maps = np.zeros((6, 5, 5), int)
    maps[:, 0], maps[:, 1:3], maps[1, :] = 1, 255, 255
    task = of(maps)
    assert len(task.train) == 5  # one map has no class at all
    scores = F.one_hot(torch.as_tensor(maps[[0, 2, 3, 4, 5]]).clamp(max=1), 2).permute(0, 3, 1, 2).float() * 50
    assert task.values(scores, task.train.y).tolist() == [100.0] * 5
    assert float(task.objective(scores, task.train.y)) < 1e-6
    wrong = scores.clone()
    wrong[0, :, 0] = scores[0, :, 0].flip(0)
    assert task.values(wrong, task.train.y)[0].item() == pytest.approx(100 * 10 / 15)
    assert task.chance == pytest.approx(100 * 2 / 3)
    everywhere = of(np.arange(150).reshape(6, 5, 5) % 3)
    answer = torch.randn(6, 3, 5, 5)
    expected = (answer.argmax(1) == everywhere.train.y).float().flatten(1).mean(1) * 100.0
    assert torch.equal(everywhere.values(answer, everywhere.train.y), expected)


@pytest.mark.parametrize(
    "place",
    [
        lambda m: m[:, None],
        lambda m: m[..., None],
        lambda m: np.eye(3)[m],
        lambda m: np.eye(3)[m].transpose(0, 3, 1, 2),
    ],
)
def test_maps_lose_axes_that_say_nothing(place: Any) -> None:
    maps = np.arange(150).reshape(6, 5, 5) % 3
    assert np.array_equal(of(place(maps)).train.y.numpy(), maps)


def test_probabilities_of_classes_teach_and_their_largest_is_judged() -> None:
    soft = np.eye(3)[PLAIN] * 0.8 + 0.2 / 3
    task = of(soft, decide=PLAIN)
    assert task.train.y.dtype == torch.float32
    assert (task.classes, task.outputs) == (3, 3)
    scores = torch.eye(3)[PLAIN] * 9
    assert task.values(scores, task.train.y).tolist() == task.values(scores, task.decide.y).tolist() == [100.0] * 6
    assert float(task.objective(scores, task.train.y)) == pytest.approx(float(F.cross_entropy(scores, task.train.y)))
    assert of(soft).chance == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (
            [0, 1, 0.5, 1, 0, 1],
            r"targets of split 'train' of .* got 0.5 in row 2 of split 'train', .*\n.*pass a loss and a m",
        ),
        (
            [0, 1, np.nan, 1, 0, 1],
            r"got nan in row 2 of split 'train', and others that are none in 1 rows.\n  Leave out",
        ),
        ([0, 1, np.inf, 1, 0, 1], r"got inf in row 2"),
        (
            [0, 1, 2, 1, 0, -1],
            r"got -1 in row 5 of split 'train'.\n  Where that marks what has no class, .* write -100",
        ),
        ([-2, 2, 2, -2, 2, 2], r"got -2 in row 0"),
        (
            [3, 8, 3, 8, 3, 8],
            r"2 different ones from 3 to 8: 3, 8.\n  To keep them pass classes=9 .*return_inverse=True",
        ),
        ([0, 9, 0, 9, 0, 9], r"2 different ones from 0 to 9"),
        ([10**12, 0, 1, 2, 3, 4], r"from 0 to 1000000000000"),
        ([1, 2, 4, 1, 2, 4], r"3 different ones from 1 to 4"),
        ([7] * 6, r"1 different ones from 7 to 7"),
        ([-100] * 6, r"expected classes, got -100 alone"),
        (["a", "b", None, "a", "b", "a"], r"got None in row 2 beside text"),
        (["a", "b", "", "a", "b", "a"], r"names of classes, got '' in row 2.\n  Leave out"),
        (["a", "b", "nan", "a", "b", "a"], r"names of classes, got 'nan' in row 2"),
        (np.eye(3)[PLAIN] + np.eye(3)[0], r"one class an example, got 3 numbers"),
        (
            np.minimum(np.eye(3, dtype=int)[PLAIN] + np.eye(3, dtype=int)[0], 1),
            r"got 2 ones in row 1.\n  For several labels",
        ),
        (np.random.default_rng(0).random((6, 2)), r"one class an example, got 2 numbers.*\n.*loss=F.mse_loss"),
        (np.ma.masked_equal(PLAIN, 2), r"a value everywhere, got 2 rows with masked ones, the first is row 1"),
        (np.zeros(6, complex), "got values of type complex128"),
    ],
)
def test_what_is_no_class_is_named(y: Any, says: str) -> None:
    with pytest.raises(TaskError, match=says):
        of(y, name="mine")


def test_the_number_of_classes_keeps_numbers_as_they_are() -> None:
    task = of(PLAIN + 3, classes=10)
    assert task.train.y.tolist() == (PLAIN + 3).tolist()
    assert (task.classes, len(task.class_names)) == (10, 10)
    assert any("no example has class 0, 1, 2, 6, 7, 8, 9, of 10" in n for n in task.notes)
    assert of(np.where(PLAIN == 2, 255, PLAIN), classes=21).train.y.tolist() == [0, 1, 1, 0]
    with pytest.raises(TaskError, match=r"expected numbers from 0 to 2, got 3 in row 1 of split 'train'"):
        of(PLAIN + 1, classes=3)
    with pytest.raises(TaskError, match=r"expected 4 classes, got 2 names: a, b"):
        of(["a", "b"] * 3, classes=4)
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(TaskError, match=f"expected classes as a whole number from 1, got {wrong}"):
            of(PLAIN, classes=wrong)  # type: ignore[arg-type]
    with pytest.raises(TaskError, match=r"expected 4 classes, got rows with a one for the class of 3"):
        of(np.eye(3)[PLAIN], classes=4)


def test_classes_that_training_never_shows_are_told_and_counted() -> None:
    task = of([0, 1] * 3, decide=[0, 1, 2] * 2)
    assert task.classes == 3
    assert "no training example has class 2, of which others are judged" in task.notes
    assert of(["a", "b"] * 3, decide=["a", "c"] * 3).train.y.tolist() == [0, 1] * 3
    with pytest.raises(TaskError, match="expected text as in the other splits, got int64"):
        of(["a", "b"] * 3, decide=PLAIN)


def test_rows_that_can_be_classes_or_places_are_refused() -> None:
    tokens = np.arange(18).reshape(6, 3)
    with pytest.raises(
        TaskError, match=r"one class an example or one of two classes at each of 3 places.\n  Give y.argm"
    ):
        of(np.eye(3, dtype=int)[PLAIN], x=tokens)
    assert of(tokens % 4, x=tokens).train.y.shape == (6, 3)
    assert of(tokens % 2, x=tokens).train.y.shape == (6, 3)


def test_many_classes_for_few_examples_look_like_numbers() -> None:
    x = np.zeros((150, 2))
    assert any("150 classes are many for so few examples" in n for n in of(np.arange(150), x=x).notes)
    assert of(np.arange(150) % 3, x=x).notes == ()


def test_targets_of_ones_own_loss_and_metric_stay_what_they_are() -> None:
    options: dict[str, Any] = {"loss": F.mse_loss, "metric": distance, "larger_is_better": False}
    task = of(PLAIN[:, None] + 0.5, **options)
    assert task.train.y.shape == (6, 1)
    assert (task.train.y.dtype, task.class_names, task.chance) == (torch.float32, (), None)
    assert of(PLAIN + 3, **options).train.y.tolist() == (PLAIN + 3).tolist()
    assert of(PLAIN, decide=PLAIN + 0.5, **options).train.y.dtype == torch.float32
    missing = of(np.where(PLAIN == 2, np.nan, PLAIN), **options)
    assert missing.notes[0] == "2 of 6 targets of 'train' are not finite: loss and metric must leave them out"
    with pytest.raises(TaskError, match="expected numbers, got text such as 'a'"):
        of(["a"] * 6, **options)
    half = {"loss": torch.nn.CrossEntropyLoss(label_smoothing=0.1), "metric": distance}
    assert of(PLAIN + 1, **half).train.y.tolist() == PLAIN.tolist()
    assert of(PLAIN + 1, loss=lambda o, t: F.cross_entropy(o, t)).train.y.tolist() == PLAIN.tolist()


def test_another_question_about_the_images_has_classes_of_its_own() -> None:
    task = nasplat.Task.from_arrays(*[(X, ["a", "b"] * 3)] * 2)
    from nasplat.task.derived import derived

    turned = derived("jigsaw", task)
    assert turned.class_names == ()
    assert turned.classes <= 24
