"""Top-1 of pytorchcv's model zoo with the graphs of its networks, captured once and cached; needs `pip install pytorchcv`.

A row is one checkpoint: network, data set and top-1 in percent (pytorchcv_models.csv.gz, MIT). One author trained them, on each data set by mostly
one recipe; checkpoints that he converted from other repositories are left out.

    python benchmarks/pytorchcv_zoo.py --data nas --cache cache
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import zoo

import nasplat
from nasplat.errors import NasplatError
from nasplat.features.view import View, view
from nasplat.features.views_on_disk import load_views, save_views

TABLE = "pytorchcv_models.csv.gz"
SMALL = ("cifar10", "cifar100", "svhn")
"""Data sets of pictures of 32 × 32."""
IMAGENET = "imagenet1k"


@dataclass(frozen=True)
class Rows:
    """Columns of the zoo, one row per checkpoint of a data set."""

    views: list[View]
    top1: list[float]
    names: list[str]
    """Of the networks, without the data set."""
    keys: list[str]
    """Of the graphs."""


KNOWN_AS = {
    "mobilenetb": "mobilenet",
    "preresnetbc": "preresnet",
    "resnesta": "resnest",
    "resnestabc": "resnest",
    "resnetabc": "resneta",
    "resnetbc": "resnet",
    "sepreresnetbc": "sepreresnet",
    "seresnetbc": "seresnet",
    "wrn": "resnet",
    "wide": "resnet",
}
"""Families of ImageNet classifiers that are named otherwise in another zoo, or written otherwise here."""


def family(name: str) -> str:
    """The letters that a network's name begins with, such as preresnet or wrn."""
    found = re.match(r"[a-z]+", name)
    return found.group(0) if found else name


def imagenet_family(name: str) -> str:
    """The family of an ImageNet classifier, so that it is one in all zoos; normalisation and attention make no other."""
    letters = family(re.sub(r"^(bn|ibn|ibnb|bam|cbam)_", "", name))
    return KNOWN_AS.get(letters, letters)


def load(data: Path, cache: Path, datasets: Sequence[str] = SMALL) -> dict[str, Rows]:
    """The zoo by data set, from the cache where it is there."""
    with gzip.open(data / TABLE, "rt", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["dataset"] in (*SMALL, IMAGENET) and r["trained_by"] == "author"]
    found = {}
    for dataset in datasets:
        mine = [r for r in rows if r["dataset"] == dataset]
        views_file, names_file = cache / f"pytorchcv_{dataset}.npz", cache / f"pytorchcv_{dataset}.json"
        if not (views_file.exists() and names_file.exists()):
            seen = {}
            for row in mine:
                try:
                    seen[row["model"]] = _seen(row)
                except (NasplatError, RuntimeError, ValueError) as err:
                    print(f"{row['model']}: {type(err).__name__}: {str(err)[:120]}", flush=True)
            cache.mkdir(parents=True, exist_ok=True)
            save_views(views_file, [v for v, _ in seen.values()])
            names_file.write_text(json.dumps([[name, key] for name, (_, key) in seen.items()]), encoding="utf-8")
        names = json.loads(names_file.read_text(encoding="utf-8"))
        places = {name: (v, key) for (name, key), v in zip(names, load_views(views_file), strict=True)}
        mine = [r for r in mine if r["model"] in places]
        found[dataset] = Rows(
            [places[r["model"]][0] for r in mine],
            [100 - float(r["top1_err"]) for r in mine],
            [r["base"] for r in mine],
            [places[r["model"]][1] for r in mine],
        )
    return found


def _seen(row: dict[str, str]) -> tuple[View, str]:
    zoo.declare_torchvision()
    from pytorchcv.model_provider import get_model  # type: ignore[import-not-found]

    with torch.device("meta"):
        module = get_model(row["model"]).eval()
    size = int(row["img_size"] or module.in_size[0])
    graph = nasplat.capture(module, (1, 3, size, size))
    if abs(graph.params / int(row["params"]) - 1) > 0.01:
        print(f"{row['model']}: {graph.params} parameters, the table has {row['params']}", flush=True)
    return view(graph), graph.key


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    arguments = parser.parse_args()
    for dataset, found in load(arguments.data, arguments.cache, (*SMALL, IMAGENET)).items():
        print(f"{dataset}: {len(found.top1)} checkpoints, {len(set(found.keys))} graphs", flush=True)


if __name__ == "__main__":
    main()
