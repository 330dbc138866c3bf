"""The name of a network in a package that is installed beside nasplat becomes the module, without trained weights."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from torch import nn

from nasplat.errors import InputError, MissingExtraError


def _of_timm(name: str) -> nn.Module:
    """A model of timm without trained weights; it tells the shape of its input."""
    timm = _imported("timm", f"timm:{name}")
    try:
        model = timm.create_model(name)
    except RuntimeError as err:
        raise InputError(f"timm has no model {name!r} ({err}).\n  See timm.list_models().") from err
    except Exception as err:
        raise _unbuilt(f"timm:{name}", err) from err
    size = getattr(model, "default_cfg", {}).get("input_size")
    if size is not None:
        model.example_input = (1, *size)
    return model


def _of_pytorchcv(name: str) -> nn.Module:
    """A model of pytorchcv without trained weights; it tells the shape of its input where the package does."""
    provider = _imported("pytorchcv.model_provider", f"pytorchcv:{name}")
    try:
        model = provider.get_model(name)
    except ValueError as err:
        close = get_close_matches(name.lower(), getattr(provider, "_models", ()), 3)
        hint = f"Did you mean {', '.join(close)}?" if close else "Its README lists them."
        raise InputError(f"pytorchcv has no model {name!r}.\n  {hint}") from err
    except Exception as err:  # its networks for speech want librosa, for instance
        raise _unbuilt(f"pytorchcv:{name}", err) from err
    size = getattr(model, "in_size", None)
    if size is not None:
        model.example_input = (1, getattr(model, "in_channels", 3), *((size, size) if isinstance(size, int) else size))
    return model


def _imported(module: str, text: str) -> Any:
    """A module of an optional package that a string names networks of."""
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except Exception as err:  # whatever a broken installation raises
        if isinstance(err, ModuleNotFoundError) and err.name == package:
            raise MissingExtraError(
                f"{text} needs {package}, which is not installed.\n  Install it: pip install {package}"
            ) from err
        raise InputError(
            f"{text} needs {package}, which is installed but cannot be imported ({_cause(err)}).\n"
            f"  Mend the installation: python -c 'import {module}' shows the whole error."
        ) from err


def _unbuilt(text: str, err: Exception) -> InputError:
    """The error for a network that its package lists and cannot build."""
    return InputError(f"{text} cannot be built by its package ({_cause(err)}).\n  Install or mend what it asks for.")


def _cause(err: Exception) -> str:
    """Class and first line of an error."""
    return f"{type(err).__name__}: {err}".partition("\n")[0]


PACKAGES: dict[str, Callable[[str], nn.Module]] = {"timm": _of_timm, "pytorchcv": _of_pytorchcv}
"""What makes the networks of packages, by the prefix of their names."""
