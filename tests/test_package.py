"""The package's face: lazy, fast to import, complete."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nasplat


def test_import_loads_no_torch() -> None:
    code = "import sys, nasplat; print('torch' in sys.modules, 'optuna' in sys.modules, 'numpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False", "False"]


def test_help_loads_no_torch() -> None:
    code = "import sys; from nasplat.cli import cli; cli.main(['--help'], standalone_mode=False); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split()[-1] == "False"
    assert "nasplat demo" in out.stdout


@pytest.mark.parametrize("name", [n for n in nasplat.__all__ if n != "__version__"])
def test_every_public_name_loads(name: str) -> None:
    assert getattr(nasplat, name) is not None


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(AttributeError, match="load_space"):
        nasplat.nonsense  # noqa: B018


def test_stub_lists_the_same_names() -> None:
    from pathlib import Path

    stub = (Path(nasplat.__file__).parent / "__init__.pyi").read_text(encoding="utf-8")
    for name in nasplat.__all__:
        assert name in stub, name
