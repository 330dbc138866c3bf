"""Inputs as people hold them: every array becomes what a network takes, or is refused by split, value and row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn
from torch.nn import functional as F

import nasplat
from nasplat.errors import TaskError
from nasplat.task.arrays import array_of, inputs_of
from nasplat.task.judging import distance

pytestmark = pytest.mark.fast

RNG = np.random.default_rng(0)
PIXELS = RNG.random((6, 3, 8, 8))
CLASSES = np.arange(6) % 2


class Frame:
    """What pandas and polars give: an object that knows its array."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def to_numpy(self) -> Any:
        return np.asarray(self.values)


def of(x: Any, y: Any = CLASSES, **options: Any) -> nasplat.Task:
    return nasplat.Task.from_arrays((x, y), (x, y), **options)


@pytest.mark.parametrize(
    "x",
    [
        PIXELS,
        PIXELS.astype(">f8"),
        np.longdouble(PIXELS),
        PIXELS[::-1][::-1],
        np.asfortranarray(PIXELS),
        np.ma.masked_array(PIXELS, False),
        PIXELS.tolist(),
        list(PIXELS),
        [torch.tensor(p) for p in PIXELS],
        np.array([None] * 6 + [0], dtype=object)[:6],
        torch.tensor(PIXELS, requires_grad=True),
        torch.tensor(PIXELS).to_sparse(),
        Frame(PIXELS),
    ],
)
def test_equal_numbers_give_equal_inputs_whatever_holds_them(x: Any) -> None:
    if isinstance(x, np.ndarray) and x.dtype == object:
        x[:] = list(PIXELS)
    task = of(x)
    assert task.train.x.dtype == torch.float32
    assert torch.equal(task.train.x, torch.tensor(PIXELS).float())
    assert task.notes == ()


def test_a_mapped_file_is_read_and_left_alone(tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", PIXELS.astype(np.float32))
    task = of(np.load(tmp_path / "x.npy", mmap_mode="r"))
    task.train.x.zero_()
    assert np.array_equal(np.load(tmp_path / "x.npy"), PIXELS.astype(np.float32))


def test_bytes_are_divided_and_faint_ones_are_told() -> None:
    bright = np.full((6, 1, 4, 4), 255, np.uint8)
    assert float(of(bright).train.x.max()) == 1.0
    assert of(bright).notes == ()
    assert "bytes up to 15, and were divided by 255" in of(bright // 16).notes[0]
    assert "give int64 for tokens" in of(np.full((6, 5), 200, np.uint8)).notes[0]


def test_whole_numbers_are_tokens_where_they_can_be() -> None:
    tokens = of(np.arange(30).reshape(6, 5).astype(np.int32))
    assert tokens.train.x.dtype == torch.int64
    assert tokens.shapes == {"length": 5, "vocabulary": 30, "classes": 2}
    assert "from 0 to 29 and stay so, as tokens" in tokens.notes[0]
    below = of(np.arange(30).reshape(6, 5) - 3)
    assert below.train.x.dtype == torch.float32
    assert "of which some are below 0: taken as quantities from -3 to 26" in below.notes[0]
    images = of(np.arange(6 * 48).reshape(6, 3, 4, 4))
    assert images.train.x.dtype == torch.float32
    assert "of shape (3, 4, 4): taken as quantities" in images.notes[0]
    assert of(np.ones((6, 5), bool)).train.x.dtype == torch.float32


def test_colours_behind_are_turned_round_and_told() -> None:
    behind = PIXELS.transpose(0, 2, 3, 1)
    task = of(behind)
    assert torch.equal(task.train.x, torch.tensor(PIXELS).float())
    assert task.notes == ("inputs of shape (8, 8, 3) were taken as images with their channels last, and turned round",)
    for shape in ((6, 22, 100, 1), (6, 3, 8, 3), (6, 64, 4, 4), (6, 8, 8, 7)):
        assert of(np.zeros(shape)).input_shape == shape[1:]


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (
            np.where(np.arange(6)[:, None] == 4, np.nan, np.ones((6, 3))),
            "finite numbers, got nan in row 4, .* 1 of 6 rows",
        ),
        (np.where(np.arange(6)[:, None] > 3, -np.inf, np.ones((6, 3))), "finite numbers, got -inf in row 4, .* 2 of 6"),
        (np.full((6, 3), 1e300), "finite numbers, got inf in row 0"),
        (np.ma.masked_greater(PIXELS, 0.999), r"a value everywhere, got \d+ rows with masked ones"),
        ([[1.0, 2.0]] * 5 + [[1.0]], "differ in shape"),
        ([np.zeros((3, 8, 8))] * 5 + [np.zeros((3, 9, 8))], r"differ in shape"),
        ([[1.0, None]] * 6, "expected values of one kind|an array of numbers"),
        (["a picture"] * 6, "expected numbers, got text such as 'a picture'"),
        (np.zeros(6, complex), "got values of type complex128"),
        (torch.zeros(6, dtype=torch.complex64), "got torch.complex64"),
        (np.zeros(6, "datetime64[s]"), r"got values of type datetime64\[s\]"),
        (np.zeros(6, [("a", int)]), "got values of type"),
        (np.zeros((6, 0)), r"numbers in every example, got \(6, 0\)"),
        (3.0, r"got 3\.0"),
        (None, "got None"),
        ("pixels", "got 'pixels'"),
        (np.full((6, 2), 2**64 - 1, np.uint64), "below 2⁶³, got 18446744073709551615"),
    ],
)
def test_what_is_no_input_is_named(x: Any, says: str) -> None:
    with pytest.raises(TaskError, match=rf"inputs of split 'train' of task 'mine' .*{says}.*\n  "):
        of(x, name="mine")


def test_splits_hold_one_kind_of_numbers() -> None:
    x = np.zeros((6, 1, 4, 4))
    with pytest.raises(
        TaskError, match="one kind of numbers in all splits, got bytes in 'train', fractions in 'decide'"
    ):
        nasplat.Task.from_arrays((x.astype(np.uint8), CLASSES), (x, CLASSES))
    assert len(nasplat.Task.from_arrays((x.astype(np.float32), CLASSES), (x, CLASSES)).test) == 6


def test_torchs_default_type_decides_that_of_inputs() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert inputs_of({"train": PIXELS.astype(np.float32)}, "mine")[0]["train"].dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_pairs_lengths_and_options_are_named() -> None:
    split = of(PIXELS).train
    assert len(nasplat.Task.from_arrays(split, split).train) == 6  # type: ignore[arg-type]
    with pytest.raises(TaskError, match="a pair of inputs and targets, got ndarray"):
        nasplat.Task.from_arrays(PIXELS, (PIXELS, CLASSES))  # type: ignore[arg-type]
    with pytest.raises(
        TaskError, match=r"split 'test' of task 'arrays' expected as many targets as inputs.* got 0 inputs"
    ):
        nasplat.Task.from_arrays((PIXELS, CLASSES), (PIXELS, CLASSES), (PIXELS[:0], CLASSES[:0]))
    with pytest.raises(TaskError, match="got 6 inputs and 4 targets"):
        of(PIXELS, CLASSES[:4])
    with pytest.raises(TaskError, match=r"got 'metrics'\.\n  Use one of these; the nearest is metric"):
        of(PIXELS, metrics=None)
    one = nasplat.Task.from_arrays((PIXELS[:1], [1]), (PIXELS[:1], [0]))
    assert (len(one.train), one.classes) == (1, 2)


def test_loaders_of_names_and_of_odd_batches() -> None:
    batches = [(torch.zeros(2, 3), ("cat", "dog")), (torch.zeros(1, 3), ["cat"])]
    task = nasplat.Task.from_loader(batches, batches)
    assert (task.train.y.tolist(), task.class_names) == ([0, 1, 0], ("cat", "dog"))
    odd = [*batches, (torch.zeros(1, 4), ["cat"])]
    with pytest.raises(TaskError, match=r"inputs of loader 'decide' expected batches .* got \(3,\) and \(4,\)"):
        nasplat.Task.from_loader(batches, odd)


def test_text_beside_missing_values_is_no_class() -> None:
    with pytest.raises(TaskError, match=r"got None in row 1 beside text"):
        array_of(["a", None], "targets")
    with pytest.raises(TaskError, match=r"got nan in row 1 beside text"):
        array_of(["a", float("nan")], "targets")
    with pytest.raises(TaskError, match=r"got 3 in row 0 beside text"):
        array_of(np.array([3, "a"], dtype=object), "targets")
    assert array_of([b"a", b"b"], "targets").tolist() == ["a", "b"]
    assert array_of([b"\x80", b"\x81"], "targets").tolist() == ["\\x80", "\\x81"]
    assert array_of(np.array([b"\x80"]), "targets").tolist() == ["\\x80"]


ANY = st.one_of(
    hn.arrays(
        st.sampled_from(["f4", "f8", ">f2", "i8", "u1", "?", "U2", "S1", "O", "c8", "M8[s]", "u8"]),
        hn.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
    ),
    st.lists(st.one_of(st.none(), st.booleans(), st.integers(-3, 300), st.floats(), st.text(max_size=2)), max_size=6),
    st.none() | st.text(max_size=3),
)


@given(ANY, ANY, ANY, st.sampled_from([{}, {"classes": 3}, {"loss": F.mse_loss, "metric": distance}]))
@settings(max_examples=150)
def test_anything_is_a_task_or_one_typed_error(x: Any, y: Any, other: Any, options: dict[str, Any]) -> None:
    try:
        task = nasplat.Task.from_arrays((x, y), (x, other), **options)
    except TaskError:
        return
    assert torch.isfinite(task.train.x.double()).all()
    assert task.shapes
    assert task._repr_html_()
    if not options:
        assert 0 <= task.chance <= 100  # type: ignore[operator]
        assert task.classes > int(max(task.train.y.max(), task.decide.y.max()))
