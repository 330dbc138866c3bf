"""Commands as the tests type them: small spaces, tiny tasks, and one way to run them."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout

import pytest
from click.testing import CliRunner

from nasplat.cli import cli, main

TINY = "digits-clutter?train=64&decide=32&test=32"
"""Task of runs whose accuracy nobody looks at."""
VIT = {"size": "mini", "image": 16, "patch": 4, "channels": 1, "classes": 10, "head_dim": 8}
"""Presets of a small transformer."""
CELLS = {"width": 4, "cells": 1, "image": 16, "channels": 1}
"""Presets of small cells."""


def presets(chosen: Mapping[str, object]) -> list[str]:
    """Write presets as options of a command."""
    return [f"--preset={name}={value}" for name, value in chosen.items()]


def run(*words: str) -> str:
    """Run a command as a shell would; returns what it prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["nasplat", *words])
        result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*words: str, code: int = 2) -> str:
    """Run a command that ends with one paragraph on standard error; returns the paragraph."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(said), redirect_stdout(io.StringIO()):
        patch.setattr(sys, "argv", ["nasplat", *words])
        with pytest.raises(SystemExit) as stop:
            main()
    text = said.getvalue()
    assert stop.value.code == code, text
    assert "Traceback" not in text
    assert "\n\n" not in text
    return text
