"""The package's face: lazy, fast to import, complete."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from house import files, outside

import nasplat

pytestmark = pytest.mark.fast


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


NAMED = {"sklearn": "scikit-learn", "torch_geometric": "torch-geometric", "google": "protobuf", "PIL": "pillow"}
"""Distributions whose name differs from what is imported."""


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [d for group in project["optional-dependencies"].values() for d in group]
    needed, optional = ({re.split(r"[>=<\[]", d)[0] for d in ds} for ds in (project["dependencies"], extras))
    for module, path in files().items():
        for name, late in outside(path):
            if name == "nasplat" or name in sys.stdlib_module_names:
                continue
            assert NAMED.get(name, name) in (needed | optional if late else needed), f"{module} imports {name}"
