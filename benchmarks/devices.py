"""Published timings of networks on devices that are not at hand, as predictors see them: captured once and cached.

A device is one column, or the columns of several tables in which the same device ran the same runtime. Tables stay where they are (`--data`);
the cache holds views and is not committed. Only tables whose licence is stated: YOLOBench and clsbench (Apache-2.0), HELP, HW-NAS-Bench, EAGLE and
nn-Meter (MIT), Accel-NASBench and HW-GPT-Bench (Apache-2.0); of the last one A40 is left out, which is its A6000 at another clock. Batch 1, of
HW-GPT-Bench 8, 4 or 1 by scale. clsbench needs `pip install timm`.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import model_zoo

import nasplat
from nasplat.errors import NasplatError
from nasplat.features.view import View, view
from nasplat.features.views_on_disk import load_views, save_views

SIDES = tuple(range(160, 481, 32))
"""Image sides of YOLOBench."""
OFA_SIDES = tuple(range(128, 257, 4))
MOST = 500
"""Networks of one table, drawn at random, that are captured where there are thousands."""
RECIPES = r"^((tf|legacy|test|gluon|tv|ssl|swsl|ig|ens|adv|gc|eca|lambda|jx|dm|bat|ese)_)+"
"""Beginnings of timm's names that tell a recipe or a part, not an architecture."""
Row = dict[str, str]


@dataclass(frozen=True)
class Table:
    """A file of timings, and how its rows become networks."""

    file: str
    space: Callable[[], nasplat.Space] | None
    """Makes the space that reads a row; None for timm's zoo."""
    encoding: Callable[[Row], str]
    """Text of a row's network."""
    family: Callable[[Row], str]
    """Family of a row's network; whole families are left out."""
    network: Callable[[Row], str] | None = None
    """Name of a row's network where several rows are one, which no fold parts; None asks the space."""
    keeps: Callable[[Row], bool] = lambda row: True
    """Whether a row is of this table, where a file holds several."""
    batch: int = 1
    """Examples of the pass that was timed."""


def is_of(column: str, value: str, row: Row) -> bool:
    return row[column] == value


def hwgpt_line(row: Row) -> str:
    """HW-GPT-Bench's columns as the line that the space reads."""
    heads = [int(h) for h in row["heads"].split("-")]
    ratios = [int(r) for r in row["mlp_ratio"]]
    return json.dumps({"embed": int(row["embed"]), "heads": heads, "mlp_ratio": ratios, "bias": int(row["bias"])})


def plain(name: str) -> Callable[[Row], str]:
    return lambda row: name


TABLES = {
    "yolobench": Table(
        "yolobench.csv.gz",
        lambda: nasplat.load_space("yolo", resolutions=SIDES),
        lambda r: f"{r['model']}@{r['img_size']}",
        lambda r: r["base"],
        lambda r: r["model"],
    ),
    "clsbench": Table(
        "clsbench_latency.csv.gz",
        None,
        lambda r: f"{r['arch']} {r['img_size']}",
        lambda r: model_zoo.family(re.sub(RECIPES, "", r["arch"])),
        lambda r: r["arch"],
    ),
    "fbnet": Table(
        "fbnet_latency.csv.gz", lambda: nasplat.load_space("fbnet"), lambda r: r["arch"], plain("fbnet"), None
    ),
    "ofa": Table(
        "ofa_mbv3_latency.csv.gz",
        lambda: nasplat.load_space("ofa_mobilenetv3", resolutions=OFA_SIDES),
        lambda r: r["config"],
        plain("ofa_mobilenetv3"),
    ),
    "nb201": Table(
        "nb201_hw.csv.gz", lambda: nasplat.load_space("nasbench201"), lambda r: r["arch_str"], plain("nasbench201")
    ),
    "accel": Table(
        "accel_nasbench.csv.gz", lambda: nasplat.load_space("mnasnet"), lambda r: r["arch"], plain("mnasnet")
    ),
}
HWGPT = {"S": 8, "M": 4, "L": 1}
"""Sequences of 1,024 tokens in a timed pass of each of HW-GPT-Bench's scales."""
TABLES |= {
    f"hwgpt-{scale.lower()}": Table(
        "hwgpt.csv.gz",
        partial(nasplat.load_space, "gpt", size=f"hwgpt-{scale.lower()}"),
        hwgpt_line,
        plain(f"gpt-{scale.lower()}"),
        keeps=partial(is_of, "scale", scale),
        batch=batch,
    )
    for scale, batch in HWGPT.items()
}
HELP = {
    name: {"fbnet": f"lat_ms_{column}", "nb201": f"help_{column}"}
    for name, column in {
        **{n: n.replace("-", "_") for n in ("pixel2", "samsung-a50", "samsung-s7", "essential-ph-1")},
        **{n: n.replace("-", "_") for n in ("gold-6226", "gold-6240", "silver-4114", "silver-4210r")},
        **{n: f"{n.replace('-', '_')}_1" for n in ("1080ti", "2080ti", "titanx", "titanxp", "titan-rtx")},
    }.items()
}
DEVICES: dict[str, dict[str, str]] = {
    "jetson-nano-gpu": {"yolobench": "lat_ms_jetson_nano_gpu", "clsbench": "lat_ms_jetson_nano_gpu_ort"},
    "jetson-nano-cpu": {"clsbench": "lat_ms_jetson_nano_cpu_ort"},
    "vim3-npu": {"yolobench": "lat_ms_vim3_npu", "clsbench": "lat_ms_vim3_npu"},
    **{
        name: {"yolobench": f"lat_ms_{name.replace('-', '_')}"}
        for name in ("intel-cpu-openvino", "pi4-tflite-fp32", "pi4-tflite-int8", "pi4-ort", "pi5-ort", "orange-pi")
    },
    "a40-tensorrt": {"yolobench": "lat_ms_a40_trt"},
    **HELP,
    "2080ti": HELP["2080ti"] | {"ofa": "lat_ms_2080ti_1"},
    "titan-rtx": HELP["titan-rtx"] | {"ofa": "lat_ms_titan_rtx_1"},
    "titanxp": HELP["titanxp"] | {"ofa": "lat_ms_titan_xp_1"},
    "v100": {"ofa": "lat_ms_v100_1"},
    **{n: {"fbnet": f"lat_ms_{n}", "nb201": f"hwnb_c10_{n}_latency"} for n in ("pixel3", "raspi4", "eyeriss", "fpga")},
    "edge-gpu": {"nb201": "hwnb_c10_edgegpu_latency"},
    "edge-tpu": {"nb201": "hwnb_c10_edgetpu_latency"},
    **{
        f"eagle-{n}": {"nb201": f"oneproxy_eagle_{n.replace('-', '_')}"}
        for n in ("cpu-855", "gpu-855", "dsp-855", "gtx", "jetson", "jetson-16", "tpu")
    },
    **{
        n: {"nb201": f"nnmeter_{n.replace('-', '_')}_ms"}
        for n in ("cortexa76-cpu", "adreno640-gpu", "adreno630-gpu", "myriad-vpu")
    },
    **{n: {"accel": f"lat_ms_{n}"} for n in ("zcu102", "vck190")},
    **{
        f"hwgpt-{n}": {f"hwgpt-{scale.lower()}": f"lat_ms_{n.replace('-', '_')}" for scale in HWGPT}
        for n in (
            *("a100", "a6000", "h100", "p100", "rtx2080", "rtx3080", "v100"),
            *("cpu-a6000", "cpu-alldlc", "cpu-meta", "cpu-mlgpu", "cpu-p100", "cpu-helix"),
        )
    },
}
"""Columns of the tables by the name of the device; names with a runtime are of that runtime alone."""


@dataclass(frozen=True)
class Timed:
    """Networks that were timed on one device."""

    views: list[View]
    labels: list[float]
    """Milliseconds."""
    families: list[str]
    networks: list[str]
    """Rows with equal names are one network, at several image sides perhaps."""
    tables: list[str]
    """Name of each row's table."""
    rows: list[Row]


@dataclass(frozen=True)
class Captured:
    """Rows of a table whose networks were captured."""

    rows: list[Row]
    views: list[View]
    networks: list[str]


_SEEN: dict[tuple[str, Path], Captured] = {}


def captured(name: str, data: Path, cache: Path) -> Captured:
    """Rows of a table with their views, from the cache where they are there."""
    if (name, cache) in _SEEN:
        return _SEEN[name, cache]
    table = TABLES[name]
    with gzip.open(data / table.file, "rt", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if table.keeps(r)]
    file, rest = cache / f"device_{name}.npz", cache / f"device_{name}.json"
    if not (file.exists() and rest.exists()):
        numbers, views, networks = [], [], []
        space = None if table.space is None else table.space()
        known: dict[str, Any] = {}
        for i in drawn(name, rows):
            text = table.encoding(rows[i])
            try:
                if text not in known:
                    known[text] = _look(space, text, table.batch)
            except (NasplatError, RuntimeError, ValueError) as err:
                print(f"{name} {text}: {type(err).__name__}: {str(err)[:120]}", flush=True)
                continue
            seen, network = known[text]
            numbers.append(i)
            views.append(seen)
            networks.append(f"{name} {table.network(rows[i]) if table.network else network}")
        cache.mkdir(parents=True, exist_ok=True)
        save_views(file, views)
        rest.write_text(json.dumps([numbers, networks]), encoding="utf-8")
    numbers, networks = json.loads(rest.read_text(encoding="utf-8"))
    _SEEN[name, cache] = Captured([rows[i] for i in numbers], load_views(file), networks)
    return _SEEN[name, cache]


def drawn(name: str, rows: list[Row]) -> list[int]:
    """Numbers of the rows that are captured: all of small tables; of large ones some, of every column's rows."""
    most = MOST // 2 if name.startswith("hwgpt") else MOST
    if len(rows) <= 2 * most:
        return list(range(len(rows)))
    wanted = [columns[name] for columns in DEVICES.values() if name in columns]
    found: set[int] = set()
    for column in wanted:
        full = [i for i, r in enumerate(rows) if r[column]]
        short = most - len(found.intersection(full))
        if short > 0:
            new = [i for i in full if i not in found]
            found.update(random.Random(f"{name} {column}").sample(new, min(short, len(new))))
    return sorted(found)


def _look(space: nasplat.Space | None, text: str, batch: int) -> tuple[View, str]:
    if space is None:
        name, size = text.split()
        return model_zoo._seen(name, int(size))
    architecture = space.parse(text)
    if batch == 1:
        return view(architecture.graph()), architecture.network_key
    module, example = space.construct(architecture, initialised=False)
    graph = nasplat.capture(module, example.expand(batch, *example.shape[1:]), program=False)
    return view(graph), architecture.network_key


def timed(device: str, data: Path, cache: Path) -> Timed:
    """All networks that were timed on a device and captured, without rows of the zoo that contradict their equals."""
    found = Timed([], [], [], [], [], [])
    for name, column in DEVICES[device].items():
        seen = captured(name, data, cache)
        latencies = [float(r[column] or 0) for r in seen.rows]
        # isomorphic cells differ by noise, which belongs to the error; equal networks of the zoo do not differ
        kept = consistent(seen.views, latencies) if name == "clsbench" else [ms > 0 for ms in latencies]
        for row, sight, network, is_kept in zip(seen.rows, seen.views, seen.networks, kept, strict=True):
            if is_kept:
                found.views.append(sight)
                found.labels.append(float(row[column]))
                found.families.append(TABLES[name].family(row))
                found.networks.append(network)
                found.tables.append(name)
                found.rows.append(row)
    return found


def consistent(views: list[View], latencies: list[float]) -> list[bool]:
    """Whether each row has a latency, and one within a factor of two of the median of equal networks (with other weights).

    On VIM3, resnet50 stands once with 2,706 ms, and twice with 46: the first did not run on the accelerator.
    """
    equals: dict[tuple[float, ...], list[float]] = {}
    keys = [tuple(round(v, 6) for v in seen.statistics.values()) for seen in views]
    for key, ms in zip(keys, latencies, strict=True):
        if ms > 0:
            equals.setdefault(key, []).append(ms)
    medians = {key: median(found) for key, found in equals.items()}
    return [ms > 0 and 0.5 <= ms / medians[key] <= 2 for key, ms in zip(keys, latencies, strict=True)]
