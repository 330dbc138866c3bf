"""Labelled families of public benchmarks as predictors see them, captured once and cached.

A family is a search space (or a model zoo) with labels that can be compared with one another. Isomorphic and otherwise equal networks are one
row, with the mean label. Tables stay where they are (`--data`); the cache holds graphs and labels and is not committed.

    python benchmarks/families.py --data nas --cache cache
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import log
from pathlib import Path
from typing import Any

import pytorchcv_zoo

import nasplat
from nasplat.errors import NasplatError
from nasplat.features.view import View
from nasplat.features.views_on_disk import load_views, save_views
from nasplat.workflows.labelled import Labelled, distinct

PYTORCHCV = "pytorchcv"
"""In place of a space: networks of that package, which builds them; needs `pip install pytorchcv`."""


@dataclass(frozen=True)
class Family:
    """Where the labels of a family come from."""

    file: str
    space: str
    metric: str
    licence: str
    """Of the file, as its collection states it; empty: none stated, so that nothing shipped may learn from it."""
    where: dict[str, str] = field(default_factory=dict)
    presets: dict[str, Any] = field(default_factory=dict)
    is_loss: bool = False
    """Whether smaller labels are better, as of perplexity; then the negative logarithms are the labels."""
    every: int = 1
    """Of the labelled rows one in so many is taken, where the table is far larger than those of other families."""


FAMILIES = {
    "nb101": Family("nb101_20k.csv.gz", "nasbench101", "val_acc_108ep", "Apache-2.0"),
    "nb201_c10": Family("nb201.csv.gz", "nasbench201", "c10_test_200ep", "MIT"),
    "nb201_c100": Family("nb201.csv.gz", "nasbench201", "c100_test_200ep", "MIT"),
    "nb201_in16": Family("nb201.csv.gz", "nasbench201", "in16_test_200ep", "MIT"),
    "ofa_mbv3": Family("ofa_mbv3_imagenet.csv.gz", "ofa_mobilenetv3", "top1_mean", "Apache-2.0"),
    "ofa_mbv3_c10": Family(
        "ofa_mbv3_cifar10.csv.gz",
        "ofa_mobilenetv3",
        "top1",
        "Apache-2.0",
        presets={"resolutions": [*range(40, 105, 4), *range(192, 257, 4)]},
    ),
    "darts": Family("darts_oncenas_545.csv.gz", "darts", "val_acc_50ep", "", presets={"none": True}),
    "darts_surrogate": Family("darts_nb301_surrogate_725.csv.gz", "darts", "surrogate_val_acc", "Apache-2.0"),
    "darts_svhn": Family("darts_9x_199.csv.gz", "darts", "svhn_val_acc", "Apache-2.0"),
    "tnb_object": Family("tnb101_micro.csv.gz", "transnas_micro", "class_object_val_top1_final", "MIT"),
    "tnb_scene": Family("tnb101_micro.csv.gz", "transnas_micro", "class_scene_val_top1_final", "MIT"),
    "tnb_jigsaw": Family("tnb101_micro.csv.gz", "transnas_micro", "jigsaw_val_top1_final", "MIT"),
    "nb_macro": Family("nb_macro.csv.gz", "nasbench_macro", "test_acc_mean", "Apache-2.0"),
    "accel": Family("accel_nasbench.csv.gz", "mnasnet", "val_top1", "Apache-2.0"),
    "vit_autoformer": Family(
        "vit_autoprox.csv.gz", "vit", "cifar100_base_acc", "Apache-2.0", {"space": "AutoFormer-tiny"}
    ),
    "vit_pit": Family("vit_autoprox.csv.gz", "pit", "cifar100_base_acc", "Apache-2.0", {"space": "PiT"}),
    "pytorchcv_c10": Family(pytorchcv_zoo.TABLE, PYTORCHCV, "cifar10", "MIT"),
    "pytorchcv_c100": Family(pytorchcv_zoo.TABLE, PYTORCHCV, "cifar100", "MIT"),
    "pytorchcv_svhn": Family(pytorchcv_zoo.TABLE, PYTORCHCV, "svhn", "MIT"),
    **{
        f"yolo_{name}": Family(
            "yolobench.csv.gz",
            "yolo",
            metric,
            "Apache-2.0",
            {"img_size": "320"},
            {"resolutions": list(range(160, 481, 32))},
        )
        for name, metric in {
            "voc": "voc_scratch_map50_95",
            "coco": "coco640_map50_95",
            "sku": "sku_ft_map50_95",
            "wider": "wider_ft_map50_95",
        }.items()
    },
} | {
    f"{name}_digits": Family(f"{name}_digits.csv.gz", "", "accuracy_percent", "our own")
    for name in ("cell", "mobile", "transformer", "hybrid", "branch")
}
"""The digits tables are shipped; their architectures are lines of JSON that name their space."""
FAMILIES |= {
    f"nbgraph_{data}": Family(
        "nasbench_graph.csv.gz",
        "nasbench_graph",
        f"{data}_test",
        "Apache-2.0",
        where={"physics_mixed": "0"} if data == "physics" else {},  # others are means of unequal runs
        presets={"data": data},
        every=1 if data == "proteins" else 8,
    )
    for data in ("cora", "citeseer", "pubmed", "cs", "physics", "photo", "computers", "arxiv", "proteins")
}


LTS = {"GPT2": ("lts-gpt2", 50264), "TransXL": ("lts-xl", 267736)}
LANGUAGE = {
    f"hwgpt_{scale.lower()}": Family(
        "hwgpt.csv.gz",
        "gpt",
        "perplexity",
        "Apache-2.0",
        {"scale": scale},
        {"size": f"hwgpt-{scale.lower()}", "length": 128},
        is_loss=True,
        every=every,
    )
    for scale, every in (("S", 5), ("M", 5), ("L", 1))
} | {
    f"lts_{kind.lower()}_{text}{more}": Family(
        "archai_lts.csv.gz",
        "gpt",
        "valid_ppl",
        "MIT",
        {"set": f"random_{kind}_{text}{more}"},
        {
            "size": LTS[kind][0],
            "vocabulary": 793470 if (kind, text) == ("TransXL", "lm1b") else LTS[kind][1],
            "length": 32 if text == "lm1b" else 192,
            "bands": "lm1b" if text == "lm1b" else "wikitext103",
        },
        is_loss=True,
    )
    for kind, text, more in (
        ("GPT2", "lm1b", ""),
        ("GPT2", "wt103", ""),
        ("TransXL", "lm1b", ""),
        ("TransXL", "wt103", ""),
        ("TransXL", "wt103", "_homogeneous"),
    )
}
"""Decoders, at the length they were trained with, or 128 tokens of HW-GPT-Bench's. The random GPT-2 of lm1b are captured as
GPT-2; the table counts them as Transformer-XL."""
FAMILIES |= LANGUAGE
GEMSTONES = Family(
    "gemstones.csv.gz",
    "gpt",
    "loss_last",
    "MIT",
    {"lr_variant": "base"},
    {"size": "gemstones", "length": 128},
    is_loss=True,
)
"""Loss after 350 billion tokens; runs with a lower learning rate are the same networks, trained shorter. Few, and judged across widths."""
FAMILIES["gemstones"] = GEMSTONES


COLUMNS = ("labels", "keys", "architectures", "networks")
"""What a cache holds of each network beside its view."""
SEEN: dict[Path, dict[nasplat.Architecture, tuple[str, View]]] = {}
"""What was captured for other columns of the same file."""


def load(name: str, data: Path, cache: Path, workers: int = 1) -> Labelled:
    """A family's distinct networks, from the cache where it is there."""
    family = FAMILIES[name]
    if family.space == PYTORCHCV:
        rows = pytorchcv_zoo.load(data, cache, (family.metric,))[family.metric]
        return Labelled(rows.views, rows.top1, rows.keys, rows.names, rows.names)
    graphs = [family.file, family.space, family.where, family.presets, *([family.every] if family.every > 1 else [])]
    twin = cache / f"{sha256(json.dumps(graphs).encode()).hexdigest()[:12]}.npz"
    file = cache / f"{name}.json"
    if file.exists() and twin.exists():
        rest = json.loads(file.read_text(encoding="utf-8"))
        if "networks" in rest:  # a cache of earlier versions has none
            return Labelled(load_views(twin), *(rest[name] for name in COLUMNS))
    if family.space:
        space = nasplat.load_space(family.space, **family.presets)
        table = nasplat.load_table(data / family.file, space=space, metric=family.metric, where=family.where or None)
    else:
        table = replace(nasplat.load_table(family.file, metric=family.metric), parse=nasplat.Architecture.from_json)
    table = table.take([i for i, y in enumerate(table.labels) if y == y][:: family.every])
    found = distinct(table, workers=workers, seen=SEEN.setdefault(twin, {}))
    if family.is_loss:
        found = replace(found, labels=[-log(y) for y in found.labels])
    cache.mkdir(parents=True, exist_ok=True)
    save_views(twin, found.views)
    rest = {name: getattr(found, name) for name in COLUMNS}
    file.write_text(json.dumps(rest), encoding="utf-8")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    arguments = parser.parse_args()
    for name in arguments.families:
        started = time.perf_counter()
        try:
            found = load(name, arguments.data, arguments.cache, arguments.workers)
        except NasplatError as err:
            print(f"{name}: {type(err).__name__}: {err}", flush=True)
            continue
        print(f"{name}: {len(found.labels)} networks, {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
