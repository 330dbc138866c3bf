"""Latency of networks on devices that are not at hand: error on networks and on families left out, beside MACs and parameters.

Every device's predictor answers a fifth of its networks (all image sides of one together) that it did not learn from, and where four families or more were
timed also whole families, in eight parts. One row per (device, seed); rows present are skipped. With `--save` the predictor of all rows, seed 0, is written.

    python benchmarks/bench_devices.py --data nas --cache cache --seeds 0 --save predictors/devices
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path
from typing import Any

import devices
import numpy as np

from nasplat.predict.contract import counted
from nasplat.predict.device import DevicePredictor
from nasplat.runs.folder import hardware, versions
from nasplat.tables.listing import Listing
from nasplat.tables.metrics import kendall_tau
from nasplat.tables.splits import into_folds

COLUMNS = ("device", "seed", "tables", "networks", "families", "median_percent", "q90_percent", "coverage")
COLUMNS += ("refused", "tau", "tau_macs", "tau_params", "macs_percent", "families_median_percent", "families_tau")
COLUMNS += ("width_factor", "seconds", "hardware", "versions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "devices.csv")
    parser.add_argument("--save", type=Path)
    parser.add_argument("devices", nargs="*", default=list(devices.DEVICES))
    arguments = parser.parse_args()
    present = {(r["device"], int(r["seed"])) for r in rows(arguments.out)}
    for seed in arguments.seeds:
        for name in arguments.devices:
            folder = None if arguments.save is None or seed else arguments.save / name
            if (name, seed) in present and (folder is None or (folder / "recipe.toml").exists()):
                continue
            started = time.perf_counter()
            known = devices.timed(name, arguments.data, arguments.cache)
            whole = DevicePredictor(device=name, seed=seed).fit(
                known.views, known.labels, known.families, known.networks
            )
            if (name, seed) not in present:
                row = judged(name, seed, known, whole) | {"seconds": round(time.perf_counter() - started)}
                append(arguments.out, COLUMNS, [row])
                print(row, flush=True)
            if folder is not None:
                save(folder, known, whole)
    if arguments.save is not None:
        text = page(rows(arguments.out), arguments.save)
        (arguments.save / "README.md").write_text(text, encoding="utf-8")
    print(f"\n{hardware()}, {versions()}\n\n{summary(rows(arguments.out)).markdown()}")


def judged(name: str, seed: int, known: devices.Timed, whole: DevicePredictor) -> dict[str, Any]:
    """What a predictor that learnt from four fifths of the networks says of the last fifth."""
    learn, held = into_folds(len(known.labels), 5, seed, known.networks)[0]
    y = np.array(known.labels)
    part = DevicePredictor(device=name, seed=seed).fit(
        [known.views[i] for i in learn],
        y[learn].tolist(),
        [known.families[i] for i in learn] if "families" in whole.validation_ else None,
        [known.networks[i] for i in learn],
    )
    seen = [known.views[i] for i in held]
    answers, told = -np.array(part.rank_scores(seen)), part.predict(seen)
    inside = [(p, ms) for p, ms in zip(told, y[held], strict=True) if p.in_support]
    error = np.abs(answers / y[held] - 1) * 100
    work = np.log(counted(known.views)[:, :2] + 1)
    line = np.polyfit(work[learn, 0], np.log(y[learn]), 1)  # what MACs alone say: a power of them
    by_macs = np.abs(np.exp(np.polyval(line, work[held, 0])) / y[held] - 1) * 100
    found = whole.validation_ | ({} if "families" in whole.validation_ else few_families(known, seed))
    return {
        "device": name,
        "seed": seed,
        "tables": " ".join(devices.DEVICES[name]),
        "networks": len(set(known.networks)),
        "families": len(set(known.families)),
        "median_percent": f"{np.median(error):.2f}",
        "q90_percent": f"{np.quantile(error, 0.9):.2f}",
        "coverage": f"{np.mean([p.low <= ms <= p.high for p, ms in inside]):.3f}",
        "refused": f"{1 - len(inside) / len(held):.3f}",
        "tau": f"{kendall_tau(answers, y[held]):.3f}",
        "tau_macs": f"{kendall_tau([v.macs for v in seen], y[held]):.3f}",
        "tau_params": f"{kendall_tau([v.params for v in seen], y[held]):.3f}",
        "macs_percent": f"{np.median(by_macs):.2f}",
        "families_median_percent": f"{found.get('families_median_percent', float('nan')):.2f}",
        "families_tau": f"{found.get('families_tau', float('nan')):.3f}",
        "width_factor": f"{np.exp(whole.width_):.3f}",
        "hardware": f"{os.cpu_count()} x {hardware()['cpu']}",
        "versions": " ".join(f"{k} {v}" for k, v in versions().items() if k in {"nasplat", "scikit-learn", "numpy"}),
    }


def few_families(known: devices.Timed, seed: int) -> dict[str, float]:
    """Error on each of two or three families by what was learnt from the others; no interval is made of it."""
    names, y = np.array(known.families), np.array(known.labels)
    if len(set(known.families)) < 2:
        return {}
    answers = np.empty(len(y))
    for name in sorted(set(known.families)):
        rest, held = np.flatnonzero(names != name).tolist(), np.flatnonzero(names == name).tolist()
        groups = [known.networks[i] for i in rest]
        learnt = DevicePredictor(seed=seed).fit([known.views[i] for i in rest], y[rest].tolist(), None, groups)
        answers[held] = -np.array(learnt.rank_scores([known.views[i] for i in held]))
    error = float(np.median(np.abs(answers / y - 1)) * 100)
    return {"families_median_percent": error, "families_tau": kendall_tau(answers, y)}


def save(folder: Path, known: devices.Timed, whole: DevicePredictor) -> None:
    """Write a device's predictor."""
    command = "python benchmarks/bench_devices.py --data nas --cache cache --seeds 0 --save predictors/devices"
    about = {
        "tables": [devices.TABLES[t].file for t in devices.DEVICES[folder.name]],
        "columns": list(devices.DEVICES[folder.name].values()),
        "networks": len(set(known.networks)),
        "families": sorted(set(known.families)),
        "command": command,
    }
    whole.save(folder, about, whole.validation_, f"# {folder.name}\n\nSee the card of all devices, one folder up.\n")


def rows(out: Path) -> list[dict[str, str]]:
    if not out.exists():
        return []
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append(out: Path, columns: tuple[str, ...], found: list[dict[str, Any]]) -> None:
    is_new = not out.exists()
    with out.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(found)


def summary(found: list[dict[str, str]]) -> Listing:
    """One row per device, the mean of its seeds."""
    numbers = ("median_percent", "q90_percent", "macs_percent", "coverage", "refused", "tau", "tau_macs", "tau_params")
    numbers += ("families_median_percent",)
    cells = []
    for name in dict.fromkeys(r["device"] for r in found):
        mine = [r for r in found if r["device"] == name]
        means = {c: float(np.mean([float(r[c]) for r in mine])) for c in numbers}
        digits = {c: 1 if c.endswith("percent") else 2 for c in numbers}
        text = ["" if np.isnan(v) else f"{v:.{digits[c]}f}" for c, v in means.items()]
        cells.append([name, mine[0]["tables"], mine[0]["networks"], mine[0]["families"], *text])
    columns = ["device", "tables", "networks", "families", "median error %", "90 % below %", "MACs alone, median %"]
    columns += ["coverage", "refused", "τ-b", "τ-b MACs", "τ-b parameters", "families left out, median %"]
    return Listing(columns, cells)


def page(found: list[dict[str, str]], folder: Path) -> str:
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    return f"""# Devices that are not at hand

Family `device`: milliseconds of a forward pass, batch 1 unless the graph says otherwise, with a 90 % interval, on the device and in the runtime that the table
was measured with. `nasplat score NET --device pixel2`, `nasplat.load_device("pixel2").predict([NET])`. Numbers only: a sum over operations with coefficients
that are never negative, small boosted trees, and {size / 1e6:.1f} MB together.

Where four families or more were timed, the interval is that of families left out, else that of networks left out. A network unlike all timed ones is refused
with the reason; so is one with operations or MACs that were never timed. Boards of YOLOBench and clsbench know many families; phones,
servers and graphics cards of HELP know two or three (FBNet at 224 pixels, NAS-Bench-201 at 32, some Once-for-All), EAGLE's and nn-Meter's one.
Eyeriss and FPGA are simulated or estimated by their source. Names beginning with eagle- and hwgpt- are the columns of those collections; the latter are of
decoders at 1,024 tokens and 8 (scale S), 4 (M) or 1 sequences (L), of which the noise on hwgpt-cpu-meta is large and hwgpt-cpu-a6000 follows work poorly.

Sources: YOLOBench and clsbench (Deeplite, Apache-2.0); HELP (MIT); HW-NAS-Bench (MIT); EAGLE through OneProxy (MIT); nn-Meter's logs (MIT);
Accel-NASBench and HW-GPT-Bench (Apache-2.0).

A fifth of the networks left out, all image sides of one together; beside them what a power of MACs says. Mean over seeds {", ".join(sorted({r["seed"] for r in found}))}.

{summary(found).markdown()}

Made on {found[0]["hardware"]} with {found[0]["versions"]} by

```
python benchmarks/bench_devices.py --data nas --cache cache --seeds 0 --save predictors/devices
```
"""


if __name__ == "__main__":
    main()
