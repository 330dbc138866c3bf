"""Folders of arrays: what comes back is standardised by the training images alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nasplat
from nasplat.task import files

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 3)])
def test_slices_are_standardised_as_the_whole_would_be(tmp_path: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    n = 2 * files.AT_ONCE + 7
    whole = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
    for name, x in (("train", whole), ("test", whole[::-1])):
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.arange(n) % 5)
    task = nasplat.load_task(str(tmp_path))
    kept = np.random.default_rng(0).permutation(n)[n // 5 :]
    scaled = whole[kept].astype(np.float32) / 255.0
    values = (scaled - scaled.mean((0, 1, 2))) / (scaled.std((0, 1, 2)) + 1e-6)
    expected = values[:, None] if len(shape) == 2 else values.transpose(0, 3, 1, 2)
    assert np.array_equal(task.train.x.numpy(), expected)
    assert task.train.x.is_contiguous()
