"""What a string or an object names: its own example input, and the reasons for which timm cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import nasplat
from nasplat.errors import InputError, MissingExtraError
from nasplat.inputs import resolve


@pytest.mark.parametrize("own", [torch.zeros(1, 4), (1, 4), (torch.zeros(1, 4),)])
def test_a_module_tells_its_input_by_an_attribute_that_may_be_a_tensor(own: object) -> None:
    module = nn.Linear(4, 2)
    module.example_input = own  # type: ignore[assignment]
    assert nasplat.capture(module).macs == 8
    assert nasplat.score([module], "trees-nb201")[0].prediction.macs == 8


def without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ImportError('libcudart.so.11.0: cannot open shared object file')", "ImportError: libcudart"),
        ("import a_module_that_is_missing", "ModuleNotFoundError: No module named 'a_module_that_is_missing'"),
        ("raise RuntimeError('operator torchvision::nms does not exist')", "RuntimeError: operator torchvision::nms"),
    ],
)
def test_a_broken_timm_is_not_called_missing(
    source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "__init__.py").write_text(source + "\n")
    without_timm(monkeypatch)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=f"is installed but cannot be imported .{reason}"):
        resolve("timm:resnet18")


def test_a_missing_timm_is_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    without_timm(monkeypatch)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not (Path(p) / "timm").exists()])
    with pytest.raises(MissingExtraError, match="needs timm, which is not installed"):
        resolve("timm:resnet18")
