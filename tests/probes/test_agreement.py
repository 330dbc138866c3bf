"""What counts as agreement of two arrays, tried on arrays made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from nasplat.errors import ExportError
from nasplat.probes.agreement import Difference, difference, ratio, scale, tolerance_of

pytestmark = pytest.mark.fast


def error_of(wanted: list[float], got: list[float], tolerance: float = 1e-4, dtype: str = "float32") -> float:
    """Relative error of one output on one batch."""
    found = difference(np.array(wanted, dtype), np.array(got, dtype), "output")
    return ratio(found, scale([found], tolerance, dtype))


def test_a_difference_is_measured_by_the_spread_and_not_by_the_offset() -> None:
    assert error_of([100.0, 101.0], [100.0, 101.5]) == pytest.approx(0.5)
    assert error_of([0.0, 1.0], [0.0, 1.5]) == pytest.approx(0.5)


def test_the_spread_is_that_of_all_batches_together() -> None:
    first, second = (difference(np.float32([v]), np.float32([v + 0.1]), "output") for v in (0.0, 4.0))
    assert ratio(first, scale([first, second], 1e-4, "float32")) == pytest.approx(0.1 / 4)


def test_outputs_that_hardly_vary_may_differ_by_rounding_alone() -> None:
    step = np.spacing(np.float32(3.0))
    assert error_of([3.0, 3.0], [3.0, 3.0 + 4 * step]) <= 1e-4
    assert error_of([3.0, 3.0], [3.0, 3.0 + 40 * step]) > 1e-4
    assert error_of([0.0, 0.0], [0.0, 0.0]) == 0.0
    assert error_of([0.0, 0.0], [0.0, 1e-30]) == np.inf


@pytest.mark.parametrize("filling", [-1e9, float(np.finfo(np.float32).min), -1e4])
def test_fillings_of_masked_places_do_not_widen_the_spread(filling: float) -> None:
    assert error_of([filling, 0.0, 1.0], [filling, 0.0, 1.5]) == pytest.approx(0.5)
    assert error_of([filling, 0.0, 1.0], [filling * 0.9, 0.0, 1.0]) == pytest.approx(0.1, rel=1e-5)


def test_large_numbers_that_are_no_fillings_count() -> None:
    assert error_of([2e4, 1e4, 900.0], [2e4, 1e4, 901.0]) == pytest.approx(1 / (2e4 - 900))


@pytest.mark.parametrize(("dtype", "wanted", "got"), [
    ("int8", [127, -128], [127, 127]),
    ("uint8", [0, 255], [255, 255]),
    ("uint64", [0, 2**64 - 1], [0, 0]),
    ("int64", [0, 2**53 + 1], [0, 2**53]),
    ("bool", [True, False], [True, True]),
])  # fmt: skip
def test_integers_and_booleans_must_be_equal(dtype: str, wanted: list[int], got: list[int]) -> None:
    difference(np.array(wanted, dtype), np.array(wanted, dtype), "output")
    with pytest.raises(ExportError, match=rf"expected equal values of type {dtype}, 1 of 2 differ"):
        difference(np.array(wanted, dtype), np.array(got, dtype), "output")


def test_wrapped_differences_are_told_in_full() -> None:
    with pytest.raises(ExportError, match=r"batch 2, y: expected equal .* 1 of 2 differ, by at most 255"):
        difference(np.array([0, 1], "uint8"), np.array([255, 1], "uint8"), "batch 2, y")


@pytest.mark.parametrize("got", [
    [np.nan, np.inf, 1.0, 0.0], [np.inf, np.nan, 0.0, 1.0], [np.nan, -np.inf, 0.0, 1.0], [np.nan, 1.0, 0.0, 1.0],
])  # fmt: skip
def test_nan_and_infinities_must_stand_in_the_same_places(got: list[float]) -> None:
    wanted = [np.nan, np.inf, 0.0, 1.0]
    assert error_of(wanted, wanted) == 0.0
    if got[2] == 1.0:
        assert error_of(wanted, got) == 1.0
        return
    with pytest.raises(ExportError, match="NaN and infinities in the same places"):
        error_of(wanted, got)


def test_a_number_where_infinity_or_nan_was_wanted_disagrees() -> None:
    with pytest.raises(ExportError, match="in the same places"):
        error_of([0.0, 1.0], [0.0, np.nan])


def test_shapes_and_types_must_be_the_same() -> None:
    with pytest.raises(ExportError, match=r"expected shape \(2,\), the file gives \(2, 1\)"):
        difference(np.zeros(2), np.zeros((2, 1)), "output")
    with pytest.raises(ExportError, match="expected numbers of type float32, the file gives float64"):
        difference(np.zeros(2, "float32"), np.zeros(2), "output")


def test_empty_outputs_agree() -> None:
    empty = difference(np.zeros((2, 0), "float32"), np.zeros((2, 0), "float32"), "output")
    assert ratio(empty, scale([empty], 1e-4, "float32")) == 0.0
    nothing = difference(np.float32([np.nan]), np.float32([np.nan]), "output")
    assert scale([nothing, Difference(0.0, 2.0, 2.0, 0.0)], 1e-4, "float32") == 2.0


def test_half_precision_has_its_own_tolerance() -> None:
    assert tolerance_of(2, "float64") == tolerance_of(2, "float32") == 1e-4
    assert tolerance_of(3, "float32") == 1e-3
    assert (tolerance_of(2, "float16"), tolerance_of(4, "bfloat16")) == (1e-2, 8e-2)
