from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nasplat
from nasplat.errors import PredictorError
from nasplat.features.view import View, view
from nasplat.features.views_on_disk import load_views, save_views

pytestmark = pytest.mark.fast


def test_views_come_back_equal(tmp_path: Path) -> None:
    seen = [
        view(nasplat.load_space(name).sample(seed=i).graph())
        for i, name in enumerate(("nasbench201", "vit", "nasbench101"))
    ]
    seen.append(
        View(
            *(getattr(seen[0], f) for f in ("op", "features", "work", "edges", "executed")),
            seen[0].statistics,
            1,
            2,
            ("odd",),
        )
    )
    save_views(tmp_path / "v.npz", seen)
    back = load_views(tmp_path / "v.npz")
    assert len(back) == len(seen)
    for a, b in zip(seen, back, strict=True):
        assert all(
            np.array_equal(getattr(a, f), getattr(b, f)) for f in ("op", "features", "work", "edges", "executed")
        )
        assert (a.statistics, a.macs, a.params, a.unknown_ops) == (b.statistics, b.macs, b.params, b.unknown_ops)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "v.npz").write_bytes(b"no npz")
    with pytest.raises(PredictorError, match="expected views written by save_views"):
        load_views(tmp_path / "v.npz")
    with pytest.raises(PredictorError, match="expected views written by save_views"):
        load_views(tmp_path / "none.npz")
