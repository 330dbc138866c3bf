"""Captured timm networks are rebuilt from graph and weights, and compared with the originals at two batch sizes.

Every so-manieth network of timm's registry of up to 30 million parameters, with values; every third graph goes through JSON first.
Differences are relative to the largest output. One row per network is appended; those present are skipped.

    python benchmarks/bench_rebuild.py --every 12
"""

from __future__ import annotations

import argparse
import csv
import warnings
from pathlib import Path
from typing import Any

import torch
import zoo
from torch import Tensor
from torch.utils._pytree import tree_flatten

import nasplat
from nasplat.graph import Graph
from nasplat.runs.folder import hardware, versions

OUT = Path(__file__).parent / "results" / "rebuild.csv"
COLUMNS = ("network", "params", "difference_1", "difference_3", "fixed", "error")
LARGEST = 30_000_000


def rows() -> list[dict[str, str]]:
    if not OUT.exists():
        return []
    with OUT.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def judge(name: str, through_json: bool) -> dict[str, Any]:
    """One row."""
    torch.manual_seed(0)
    module, shape = zoo._timm(name, "cpu")
    row: dict[str, Any] = {"network": name, "params": sum(p.numel() for p in module.parameters())}
    try:
        graph = nasplat.capture(module, shape, program=True)
        if through_json:
            graph = Graph.from_json(graph.to_json())
        again = nasplat.rebuild(graph, module.state_dict()).eval()
        row["fixed"] = graph.program.fixed if graph.program else "no program"
        for batch in (1, 3):
            x = torch.rand(batch, *shape[1:], generator=torch.Generator().manual_seed(batch))
            with torch.no_grad():
                pairs = list(zip(_tensors(again(x)), _tensors(module(x)), strict=True))
            scale = max(float(b.abs().max()) for _, b in pairs) or 1.0
            row[f"difference_{batch}"] = max(float((a - b).abs().max()) for a, b in pairs) / scale
    except Exception as err:  # a finding, whatever it is
        row["error"] = f"{type(err).__name__}: {str(err).splitlines()[0]}"[:200]
    return row


def _tensors(result: Any) -> list[Tensor]:
    return [t for t in tree_flatten(result)[0] if isinstance(t, Tensor)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=12)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    OUT.parent.mkdir(exist_ok=True)
    if not OUT.exists():
        OUT.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    done = {r["network"] for r in rows()}
    for number, name in enumerate(zoo.families()["timm"][:: arguments.every]):
        if name in done or sum(p.numel() for p in zoo.make("timm", name)[0].parameters()) > LARGEST:
            continue
        row = judge(name, number % 3 == 0)
        with OUT.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
        print(row, flush=True)
    found = rows()
    exact = [r for r in found if not r["error"] and max(float(r["difference_1"]), float(r["difference_3"])) == 0]
    close = [r for r in found if not r["error"] and max(float(r["difference_1"]), float(r["difference_3"])) < 1e-5]
    print(
        f"\n{hardware()}, {versions()}\n\n{len(found)} networks: {len(close)} agree within 1e-5, {len(exact)} of them to the last bit"
    )
    for r in found:
        if r not in close:
            print(f"- {r['network']}: {r['error'] or (r['difference_1'], r['difference_3'])} {r['fixed']}")


if __name__ == "__main__":
    main()
