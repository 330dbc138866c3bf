"""ImageNet top-1 of model zoos with the graphs of their networks, captured once and cached; needs `pip install timm pytorchcv`.

A row is one checkpoint: architecture, resolution, recipe (the tag after the dot of its name) and top-1 in percent (timm_imagenet.csv.gz, Apache-2.0). Those that pytorchcv's author
trained are rows of one recipe more (pytorchcv_models.csv.gz, MIT).

    python benchmarks/model_zoo.py --data nas --cache cache
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import re
from dataclasses import dataclass, fields
from pathlib import Path

import pytorchcv_zoo
import torch
import zoo

import nasplat
from nasplat.errors import NasplatError
from nasplat.features.view import View, view
from nasplat.features.views_on_disk import load_views, save_views
from nasplat.predict.zoo import source

TABLE = "timm_imagenet.csv.gz"
PYTORCHCV = "pytorchcv_in1k"
"""Recipe of pytorchcv's networks."""


@dataclass(frozen=True)
class Checkpoints:
    """Columns of the zoo, one row per checkpoint."""

    views: list[View]
    top1: list[float]
    architectures: list[str]
    recipes: list[str]
    keys: list[str]
    """Of the graphs."""

    def joined(self, other: Checkpoints) -> Checkpoints:
        """These and other checkpoints."""
        return Checkpoints(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def family(architecture: str) -> str:
    """The letters that an architecture's name begins with, such as resnet or vit; the same in both zoos."""
    return pytorchcv_zoo.imagenet_family(re.sub(r"^(tf|legacy|test)_", "", architecture))


def load_pytorchcv(data: Path, cache: Path) -> Checkpoints:
    """The networks that pytorchcv's author trained, from the cache where it is there."""
    rows = pytorchcv_zoo.load(data, cache, (pytorchcv_zoo.IMAGENET,))[pytorchcv_zoo.IMAGENET]
    return Checkpoints(rows.views, rows.top1, rows.names, [PYTORCHCV] * len(rows.names), rows.keys)


def load(data: Path, cache: Path) -> Checkpoints:
    """The zoo, from the cache where it is there."""
    with gzip.open(data / TABLE, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wanted = sorted({(r["arch"], int(r["img_size"])) for r in rows})
    views_file, names_file = cache / "timm.npz", cache / "timm.json"
    if not (views_file.exists() and names_file.exists()):
        found = {}
        for number, (name, size) in enumerate(wanted, 1):
            try:
                found[name, size] = _seen(name, size)
            except (NasplatError, RuntimeError, ValueError) as err:
                print(f"{name} {size}: {type(err).__name__}: {str(err)[:120]}", flush=True)
            if number % 50 == 0:
                print(f"{number} of {len(wanted)}", flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        save_views(views_file, [v for v, _ in found.values()])
        names_file.write_text(json.dumps([[*k, key] for k, (_, key) in found.items()]), encoding="utf-8")
    names = json.loads(names_file.read_text(encoding="utf-8"))
    seen = {(name, size): (v, key) for (name, size, key), v in zip(names, load_views(views_file), strict=True)}
    rows = [r for r in rows if (r["arch"], int(r["img_size"])) in seen]
    places = [seen[r["arch"], int(r["img_size"])] for r in rows]
    return Checkpoints(
        [v for v, _ in places],
        [float(r["in1k_top1"]) for r in rows],
        [r["arch"] for r in rows],
        [r["model"].partition(".")[2] for r in rows],
        [key for _, key in places],
    )


def _seen(name: str, size: int) -> tuple[View, str]:
    zoo.declare_torchvision()
    import timm

    with torch.device("meta"):
        try:
            module = timm.create_model(name, img_size=size)
        except TypeError:
            module = timm.create_model(name)
    graph = nasplat.capture(module.eval(), (1, 3, size, size))
    return view(graph), graph.key


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    arguments = parser.parse_args()
    found = load(arguments.data, arguments.cache)
    counts = {name: sum(source(r) == name for r in found.recipes) for name in ("in1k", "in22k", "web")}
    print(f"{len(found.top1)} checkpoints of {len(set(found.architectures))} architectures: {counts}")


if __name__ == "__main__":
    main()
