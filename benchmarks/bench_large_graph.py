"""A graph of ten thousand operations: capture, key, costs, features, spectrum, JSON, drawing, comparison.

Seconds and peak memory of each step at 2,500, 5,000, 10,000 and 20,000 nodes; a step of linear cost doubles from line to line.

    python benchmarks/bench_large_graph.py
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import nasplat
from nasplat.features.arrays import arrays, spectrum
from nasplat.features.statistics import features
from nasplat.features.view import view
from nasplat.frontends.torch_capture import capture_module
from nasplat.graph import Graph
from nasplat.graph.compare import changes
from nasplat.runs.folder import hardware, versions


class Residual(nn.Module):
    """Convolution, normalisation, activation, and the way around them: four operations."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.norm(self.conv(x)))


def long_network(nodes: int) -> nn.Module:
    """About so many operations in stages of a hundred blocks; blocks differ in nothing, so that no step is helped by variety."""
    blocks = [Residual(16) for _ in range(nodes // 4)]
    return nn.Sequential(*(nn.Sequential(*blocks[i : i + 100]) for i in range(0, len(blocks), 100)))


def timed(step: Callable[[], Any]) -> tuple[Any, float, float]:
    """(result, seconds, peak MiB): once for the time, once more under the memory tracer."""
    start = time.perf_counter()
    result = step()
    seconds = time.perf_counter() - start
    tracemalloc.start()
    step()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return result, seconds, peak


def fresh(graph: Graph) -> Graph:
    """The same graph without anything computed before."""
    return Graph(graph.nodes, graph.edges, graph.weights)


def altered(graph: Graph) -> Graph:
    """The same graph with two convolutions, one early and one late, of another kernel."""
    nodes = list(graph.nodes)
    convolutions = [i for i, n in enumerate(nodes) if n.op == "conv"]
    for i in (convolutions[len(convolutions) // 4], convolutions[3 * len(convolutions) // 4]):
        nodes[i] = replace(
            nodes[i], attributes=tuple((k, (1, 1) if k == "kernel" else v) for k, v in nodes[i].attributes)
        )
    return Graph(tuple(nodes), graph.edges, graph.weights)


def main() -> None:
    sizes = (2_500, 5_000, 10_000, 20_000)
    rows: dict[str, list[str]] = {}
    for size in sizes:
        with torch.device("meta"):
            module = long_network(size)
        graph, seconds, peak = timed(lambda module=module: capture_module(module, (1, 16, 8, 8), program=False))
        found = {"capture": (seconds, peak)}
        _, *found["capture with program"] = timed(
            lambda module=module: capture_module(module, (1, 16, 8, 8), program=True)
        )
        text = graph.to_json()
        seen = arrays(graph)
        changed = altered(graph)
        steps: dict[str, Callable[[], Any]] = {
            "key": lambda graph=graph: fresh(graph).key,
            "costs": lambda graph=graph: fresh(graph).cost,
            "arrays": lambda graph=graph: arrays(fresh(graph)),
            "statistics": lambda graph=graph: features(fresh(graph)),
            "predictor's view": lambda graph=graph: view(fresh(graph)),
            "spectrum": lambda seen=seen: spectrum(len(seen), seen.edges),
            "to and from JSON": lambda text=text: Graph.from_json(text).to_json(),
            "drawing": lambda graph=graph: nasplat.draw(fresh(graph)),
            "changes, two blocks apart": lambda graph=graph, changed=changed: changes(graph, changed),
        }
        for name, step in steps.items():
            _, *found[name] = timed(step)
        for name, (s, p) in found.items():
            rows.setdefault(name, []).append(f"{s:.2f} s, {p:.0f} MiB")
        print(f"{size}: {graph}", flush=True)
    print(f"\n{hardware()}, {versions()}\n")
    print("| step | " + " | ".join(f"{s:,} nodes" for s in sizes) + " |\n|---|" + "---|" * len(sizes))
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
