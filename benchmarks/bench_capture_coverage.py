"""How much of the world's networks capture can read, and whether what it counts is right.

Every network of `zoo.py`: timm's whole registry, torchvision, transformers, torch-geometric, hand-written ones. Beside our counts
stand two independent ones: MACs by `torch.utils.flop_counter` (half its FLOPs) over a run on meta tensors, and the parameters
that autograd finds behind the outputs of such a run. A network counts as captured when no operation outside the vocabulary holds a
weight. One row per network is appended; those present are skipped.

    python benchmarks/bench_capture_coverage.py --families timm transformers pyg torchvision hand stereo --workers 2
    python benchmarks/bench_capture_coverage.py --summary
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import torch
import zoo
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

import nasplat
from nasplat.frontends.calls import unpack
from nasplat.frontends.examples import as_example
from nasplat.graph import Graph
from nasplat.graph.cost import node_macs
from nasplat.runs.folder import hardware, versions

COLUMNS = (
    *(
        "family",
        "network",
        "rung",
        "nodes",
        "edges",
        "macs",
        "params",
        "unknown_ops",
        "unknown_weights",
        "guesses",
        "batch_free",
    ),
    *("seconds", "counter_macs", "comparable_macs", "module_params", "reached_params", "error"),
)
OUT = Path(__file__).parent / "results" / "capture_coverage.csv"
UNCOUNTED = frozenset({"deform", "distance", "bilinear", "scatter"})
"""Operations whose products torch's counter leaves out, messages of graph networks among them; grouped products of experts
are another."""
REAL = 60_000_000
"""Networks of up to this many parameters are really run where the run on meta tensors fails."""


def rows() -> list[dict[str, str]]:
    if not OUT.exists():
        return []
    with OUT.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def judge(family: str, name: str) -> dict[str, Any]:
    """One row."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {"family": family, "network": name}
    try:
        module, example = zoo.make(family, name)
    except Exception as err:  # other houses' constructors raise what they like
        return row | {"error": f"not made: {_first(err)}"}
    module.eval()
    row["module_params"] = sum(p.numel() for p in module.parameters())
    start = time.perf_counter()
    try:
        graph = nasplat.capture(module, example, program=True)
    except Exception as err:  # what is not ours to raise is a finding
        return row | {"error": _first(err), "seconds": round(time.perf_counter() - start, 4)}
    row["seconds"] = round(time.perf_counter() - start, 4)
    row |= {
        "rung": graph.rung,
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "macs": graph.macs,
        "params": graph.params,
    }
    row["unknown_ops"] = " ".join(graph.unknown_ops)
    row["unknown_weights"] = sum(1 for n in graph.nodes if n.op.startswith("other:") and n.weights)
    row["guesses"] = sum("guess" in n or "the data decides" in n for n in graph.notes)
    row["batch_free"] = int(graph.program is not None and not graph.program.fixed)
    row["comparable_macs"] = _comparable(graph)
    row["reached_params"] = _reached(module, example)
    row["counter_macs"] = _counted(module, example)
    if not str(row["counter_macs"]).isdigit() and int(row["module_params"]) <= REAL:
        row |= _really(family, name)
    return row


def _comparable(graph: Graph) -> int:
    return sum(
        node_macs(n, graph.input_shapes(i))
        for i, n in enumerate(graph.nodes)
        if n.op not in UNCOUNTED and n.get("function") != "grouped"
    )


def _call(module: Any, example: Any) -> Any:
    given = tree_map_only(Tensor, lambda t: t.to("meta") if t.is_floating_point() else t, as_example(example))
    return module(**given) if isinstance(given, dict) else module(*given)


def _really(family: str, name: str) -> dict[str, Any]:
    """Both references by a run on values."""
    try:
        module, example = zoo.make(family, name)
        module = module.eval().to_empty(device="cpu")
        generator = torch.Generator().manual_seed(0)
        for t in [*module.parameters(), *module.buffers()]:
            t.data = (
                torch.rand(t.shape, generator=generator).mul_(0.02).to(t.dtype)
                if t.is_floating_point()
                else torch.zeros_like(t)
            )
        given = tree_map_only(Tensor, _valued, as_example(example))
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:  # the fused kernel is not counted on CPUs
            module(**given) if isinstance(given, dict) else module(*given)
    except Exception as err:
        return {"counter_macs": f"failed: {_first(err)}"}
    return {"counter_macs": counter.get_total_flops() // 2}


def _valued(t: Tensor) -> Tensor:
    if t.device.type != "meta":
        return t
    if t.is_floating_point():
        return torch.rand(t.shape, generator=torch.Generator().manual_seed(1)).to(t.dtype)
    return torch.arange(3, 3 + t.numel()).reshape(t.shape).remainder(20).to(t.dtype)


def _counted(module: Any, example: Any) -> int | str:
    counter = FlopCounterMode(display=False)
    module.requires_grad_(False)  # the counter's hooks stumble over some modules that have gradients
    try:
        with torch.no_grad(), counter:
            _call(module, example)
    except Exception as err:
        return f"failed: {_first(err)}"
    return counter.get_total_flops() // 2


def _reached(module: Any, example: Any) -> int | str:
    """Elements of the parameters that autograd reaches from the outputs."""
    try:
        result = _call(module.requires_grad_(True), example)
    except Exception as err:
        return f"failed: {_first(err)}"
    seen: set[Any] = set()
    found: dict[int, int] = {}
    stack = [t.grad_fn for t in tree_flatten(unpack(result))[0] if isinstance(t, Tensor) and t.grad_fn is not None]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable.numel()
        stack += [f for f, _ in node.next_functions]
    return sum(found.values())


def _first(err: BaseException) -> str:
    text = str(err).splitlines()[0] if str(err) else ""
    return f"{type(err).__name__}: {text}"[:300]


def work(families: list[str], part: int, parts: int) -> None:
    done = {(r["family"], r["network"]) for r in rows()}
    for family in families:
        names = zoo.families()[family]
        for number, name in enumerate(names):
            if number % parts != part or (family, name) in done:
                continue
            row = judge(family, name)
            with OUT.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
            print(f"{family} {number + 1}/{len(names)} {name}: {row['error'] or row['macs']}", flush=True)


def summary() -> str:
    """Markdown: coverage and agreement by family, and everything that was not captured or does not agree."""
    found = rows()
    lines = [
        "| family | networks | captured | rungs | MACs within 0.5 % | guesses noted | parameters equal | median s | 95 % s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    misses: list[str] = []
    for family in dict.fromkeys(r["family"] for r in found):
        mine = [r for r in found if r["family"] == family and not r["error"].startswith("not made")]
        good = [r for r in mine if not r["error"] and r["unknown_weights"] == "0"]
        said = [r for r in good if r["counter_macs"].isdigit() and int(r["guesses"])]
        counted = [r for r in good if r["counter_macs"].isdigit() and not int(r["guesses"])]
        close = [
            r
            for r in counted
            if abs(int(r["comparable_macs"]) - int(r["counter_macs"])) <= 0.005 * int(r["counter_macs"])
        ]
        reached = [r for r in good if r["reached_params"].isdigit()]
        equal = [r for r in reached if r["reached_params"] == r["params"]]
        rungs = ", ".join(f"{k} {v}" for k, v in Counter(r["rung"] for r in good).most_common())
        times = sorted(float(r["seconds"]) for r in good)
        lines.append(
            f"| {family} | {len(mine)} | {len(good)} | {rungs} | {len(close)} of {len(counted)} | {len(said)} | {len(equal)} of {len(reached)} | "
            f"{median(times):.3f} | {times[int(0.95 * (len(times) - 1))]:.3f} |"
        )
        misses += [
            f"- {family} {r['network']}: not captured: {r['error'] or 'unknown ' + r['unknown_ops']}"
            for r in mine
            if r not in good
        ]
        misses += [
            f"- {family} {r['network']}: {r['comparable_macs']} MACs, counter {r['counter_macs']}"
            for r in counted
            if r not in close
        ]
        misses += [
            f"- {family} {r['network']}: guesses noted, {r['comparable_macs']} MACs, counter {r['counter_macs']}"
            for r in said
            if abs(int(r["comparable_macs"]) - int(r["counter_macs"])) > 0.005 * int(r["counter_macs"])
        ]
        misses += [
            f"- {family} {r['network']}: {r['params']} parameters, autograd reaches {r['reached_params']}"
            for r in reached
            if r not in equal
        ]
        unknown = Counter(o for r in good for o in r["unknown_ops"].split())
        misses += (
            [f"- {family}: operations outside the vocabulary, without weights: {dict(unknown)}"] if unknown else []
        )
    made = [r for r in found if r["error"].startswith("not made")]
    misses += [f"- {r['family']} {r['network']}: {r['error']} (its own constructor)" for r in made]
    return "\n".join([*lines, "", *misses])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--families", nargs="+", default=["hand", "stereo", "pyg", "transformers", "torchvision", "timm"]
    )
    parser.add_argument("--workers", type=int, default=2, help="Processes of one thread each.")
    parser.add_argument("--part", type=int, help="Used by the workers.")
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    OUT.parent.mkdir(exist_ok=True)
    if not OUT.exists():
        OUT.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    if arguments.part is not None:
        torch.set_num_threads(1)
        work(arguments.families, arguments.part, arguments.workers)
    elif not arguments.summary:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        command = [sys.executable, __file__, "--workers", str(arguments.workers), "--families", *arguments.families]
        started = [subprocess.Popen([*command, "--part", str(i)], env=environment) for i in range(arguments.workers)]
        if any([p.wait() for p in started]):
            sys.exit("a worker died; the same command goes on")
    if arguments.part is None:
        print(f"\n{hardware()}, {versions()}\n\n{summary()}")


if __name__ == "__main__":
    main()
