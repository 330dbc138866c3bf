"""What is printed as JSON can be read by everyone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nasplat.cli.show import print_data

pytestmark = pytest.mark.fast


def test_numbers_that_are_not_finite_are_null_and_numbers_of_arrays_are_numbers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_data(
        {
            "nan": float("nan"),
            "deep": [{"low": -np.inf, "high": (1.5, np.float64("nan"))}],
            "small": np.float32("inf"),
            "counted": np.int64(7),
            "half": torch.tensor(0.5),
            "path": Path("net.onnx"),
            "array": np.zeros(2),
        }
    )

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found["nan"] is None
    assert found["deep"] == [{"low": None, "high": [1.5, None]}]
    assert (found["small"], found["counted"], found["half"]) == (None, 7, 0.5)
    assert (found["path"], found["array"]) == ("net.onnx", "[0. 0.]")
