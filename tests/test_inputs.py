"""What a string or an object names: its own example input, and the reasons for which timm or pytorchcv cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
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


def named(package: str) -> list[str]:
    return [n for n in sys.modules if n.partition(".")[0] == package]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No package of networks is imported, before and after."""
    for name in named("timm") + named("pytorchcv"):
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in named("timm") + named("pytorchcv"):
        del sys.modules[name]


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize(("package", "module"), [("timm", "__init__"), ("pytorchcv", "model_provider")])
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ImportError('libcudart.so.11.0: cannot open shared object file')", "ImportError: libcudart"),
        ("import a_module_that_is_missing", "ModuleNotFoundError: No module named 'a_module_that_is_missing'"),
        ("raise RuntimeError('operator torchvision::nms does not exist')", "RuntimeError: operator torchvision::nms"),
    ],
)
def test_a_broken_package_is_not_called_missing(
    package: str, module: str, source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / f"{module}.py").write_text(source + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=f"needs {package}, which is installed but cannot be imported .{reason}"):
        resolve(f"{package}:resnet20_cifar10")


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize("package", ["timm", "pytorchcv"])
def test_a_missing_package_is_called_missing(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not (Path(p) / package).exists()])
    with pytest.raises(MissingExtraError, match=f"needs {package}, which is not installed.\n.*pip install {package}$"):
        resolve(f"{package}:resnet18")


PROVIDER = """
from torch import nn

class Small(nn.Sequential):
    def __init__(self, in_size=(32, 24), in_channels=1):
        super().__init__(nn.Conv2d(in_channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
        self.in_size, self.in_channels = in_size, in_channels

def speech():
    import a_module_that_is_missing

_models = {"small_cifar10": Small, "speech_en": speech}

def get_model(name):
    if name.lower() not in _models:
        raise ValueError(f"Unsupported model: {name}")
    return _models[name.lower()]()
"""
"""What pytorchcv's `model_provider` looks like from outside."""


@pytest.mark.usefixtures("without")
def test_networks_of_pytorchcv_are_captured_at_their_own_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pytorchcv").mkdir()
    (tmp_path / "pytorchcv" / "__init__.py").touch()
    (tmp_path / "pytorchcv" / "model_provider.py").write_text(PROVIDER)
    monkeypatch.syspath_prepend(tmp_path)
    assert nasplat.capture("pytorchcv:small_cifar10").macs == 30 * 22 * 4 * 9 + 40
    with pytest.raises(InputError, match=r"pytorchcv has no model 'small_cifar'.\n  Did you mean small_cifar10?"):
        resolve("pytorchcv:small_cifar")
    with pytest.raises(InputError, match=r"pytorchcv has no model ''.\n  Its README lists them"):
        resolve("pytorchcv:")
    with pytest.raises(InputError, match=r"speech_en cannot be built by its package .ModuleNotFoundError: No module"):
        resolve("pytorchcv:speech_en")
