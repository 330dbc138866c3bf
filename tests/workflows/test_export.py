from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import nasplat
from nasplat.errors import ExportError
from nasplat.workflows import export as exporting


def test_exported_file_agrees_and_has_a_certificate(
    small_space: nasplat.Space, task: nasplat.Task, tmp_path: Path
) -> None:
    architecture = small_space.sample(seed=0)
    module = architecture.build()
    path = tmp_path / "net.onnx"
    certificate = nasplat.export(module, path, architecture.example_input, task=task)
    assert certificate.max_relative_error <= certificate.tolerance == 1e-4
    assert {row["batch"] for row in certificate.checks} == {1, 2, 7}
    assert certificate.task_metric is not None
    assert certificate.graph_key == architecture.graph().key
    written = json.loads(path.with_suffix(".certificate.json").read_text(encoding="utf-8"))
    assert written["sha256"] == certificate.sha256
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = torch.randn(5, 1, 16, 16)
    with torch.no_grad():
        wanted = module.eval()(x).numpy()
    assert np.abs(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0] - wanted).max() < 1e-4
    assert nasplat.check_export(module, path, (1, 1, 16, 16)) <= 1e-4


def test_windowed_attention_is_exported(tmp_path: Path) -> None:
    space = nasplat.load_space(
        "hybrid", widths=[[8, 16], [16, 32]], depths=[[1], [1]], window=4, head_dim=8, image=16, channels=1
    )
    found = next(a for i in range(20) if "attention" in str((a := space.sample(seed=i)).choices))
    module, shape = space.construct(found)
    assert nasplat.export(module, tmp_path / "net.onnx", shape).max_relative_error < 1e-4


def test_corrupted_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module, other = nn.Linear(4, 3), nn.Linear(4, 3)
    convert = exporting.to_onnx
    monkeypatch.setattr(exporting, "to_onnx", lambda m, *a: convert(other, *a))
    with pytest.raises(ExportError, match=r"expected max \|difference\| <= 0.0001"):
        nasplat.export(module, tmp_path / "net.onnx", (1, 4))
    assert not list(tmp_path.iterdir())


def test_other_modules_and_broken_files_do_not_pass_the_check(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "net.onnx"
    nasplat.export(nn.Linear(4, 3), path, (1, 4))
    with pytest.raises(ExportError, match="Nothing was written"):
        nasplat.check_export(nn.Linear(4, 3), path, (1, 4))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ExportError, match="ONNX Runtime refused the file"):
        nasplat.check_export(nn.Linear(4, 3), path, (1, 4))
    with pytest.raises(ExportError, match="expected an ONNX file"):
        nasplat.check_export(nn.Linear(4, 3), tmp_path / "none.onnx", (1, 4))


def test_what_cannot_be_exported_says_so(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    with pytest.raises(ExportError, match="ONNX exporter failed"):
        nasplat.export(Odd(), tmp_path / "net.onnx", (1, 4))
    with pytest.raises(ExportError, match=r"ending in .onnx"):
        nasplat.export(nn.Linear(4, 2), tmp_path / "net.bin", (1, 4))
    assert not list(tmp_path.iterdir())
