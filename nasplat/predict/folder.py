"""A predictor's folder: recipe.toml, weights.safetensors, metrics.json and README.md, its card.

The recipe holds the family, its settings, what it learnt from, and the hash of the weights. Reading a folder runs no
code.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from nasplat.errors import PredictorError
from nasplat.tables.rows import write_together

RECIPE, WEIGHTS, METRICS, CARD = "recipe.toml", "weights.safetensors", "metrics.json", "README.md"
"""Names of the four files."""


def write_folder(
    folder: str | Path,
    recipe: Mapping[str, Any],
    sections: Mapping[str, Mapping[str, Any]],
    arrays: Mapping[str, NDArray[Any]],
    metrics: Any = None,
    card: str = "",
) -> None:
    """Write the four files of a predictor.

    Args:
        folder: Folder to write; it is created if it is missing.
        recipe: Strings that stand at the top of the recipe, such as family and metric; the hash of the weights is
            added.
        sections: Tables of the recipe by title: strings, numbers, booleans and flat lists; None is left out.
        arrays: Everything that was learnt.
        metrics: Measured quality, anything that JSON can hold.
        card: Markdown of README.md; by default only the folder's name.
    """
    path = Path(folder)
    data = save_arrays({k: np.ascontiguousarray(v) for k, v in arrays.items()})
    # JSON's strings, numbers, booleans and flat lists are TOML's
    top = {**recipe, "weights_sha256": hashlib.sha256(data).hexdigest()}
    lines = [f"{k} = {json.dumps(v)}" for k, v in top.items()]
    for name, values in sections.items():
        lines += ["", f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items() if v is not None)]
    about = {METRICS: json.dumps(metrics or {}, indent=1) + "\n", CARD: card or f"# {path.name}\n"}
    files = {WEIGHTS: data, RECIPE: "\n".join(lines) + "\n", **about}
    write_together({path / name: content for name, content in files.items()})


def trained_on(folder: Path) -> dict[str, Any]:
    """Read what a predictor's recipe says of the data it learnt from.

    Args:
        folder: Folder of a saved predictor.

    Returns:
        Strings and numbers by name, such as 'space' and 'command'; empty where the recipe tells nothing.
    """
    recipe = tomllib.loads((folder / RECIPE).read_text(encoding="utf-8"))
    return dict(recipe.get("trained_on", {}))


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read recipe and arrays of a predictor.

    Args:
        folder: Folder of a saved predictor.

    Returns:
        The recipe as TOML has it, and the arrays of the weights file by name.

    Raises:
        PredictorError: a file is missing, broken, or not the one the recipe was written with.
    """
    recipe_file, weights_file = folder / RECIPE, folder / WEIGHTS
    for file in (recipe_file, weights_file):
        if not file.is_file():
            raise PredictorError(
                f"predictor folder {str(folder)!r} expected {file.name}, which is missing.\n  Fetch it whole."
            )
    try:
        recipe = tomllib.loads(recipe_file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as err:
        raise PredictorError(f"{recipe_file} expected TOML: {err}.\n  Restore the file.") from err
    data = weights_file.read_bytes()
    found, wanted = hashlib.sha256(data).hexdigest(), recipe.get("weights_sha256")
    if found != wanted:
        raise PredictorError(
            f"{weights_file} expected sha256 {str(wanted)[:16]}…, got {found[:16]}…: it was altered or cut short.\n"
            "  Restore the file."
        )
    try:
        return recipe, load_arrays(data)
    except SafetensorError as err:
        raise PredictorError(f"{weights_file} expected safetensors: {err}.\n  Restore the file.") from err
