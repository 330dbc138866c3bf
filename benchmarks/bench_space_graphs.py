"""Whole search spaces to graphs: all 15,625 cells of NAS-Bench-201, random Once-for-All networks, and a user's own space.

Three ways, architecture by architecture: `architecture.graph()` with everything that recurs reused; the same with `@block` reuse
off but the table of known calls kept; each network alone (built with its initialisers, captured with empty tables, as a tool
without reuse does). The last two run on a random sample. Reuse must not change a graph: keys are compared on the sample. Memory
is the resident set of a worker halfway and at the end.

    python benchmarks/bench_space_graphs.py --workers 2
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import nasplat
from nasplat.frontends import collect_rarely, outcomes
from nasplat.frontends.block import _TEMPLATES, SIGNATURE
from nasplat.frontends.pasting import SEGMENTS
from nasplat.frontends.torch_capture import capture_module
from nasplat.runs.folder import hardware, versions

SAMPLE = 60
_SPACE: Any = None


def _space(name: str) -> Any:
    global _SPACE
    if _SPACE is None or _SPACE.name != Path(name).stem:
        _SPACE = nasplat.load_space(name)
    return _SPACE


def _start(name: str) -> None:
    torch.set_num_threads(1)
    collect_rarely()
    _space(name)


def resident() -> float:
    """MiB this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 2**20


def _work(job: tuple[str, list[str]]) -> tuple[int, int, float, int]:
    """(networks, nodes, resident MiB, process) of one portion."""
    name, lines = job
    space = _space(name)
    nodes = 0
    for line in lines:
        nodes += nasplat.Architecture.from_json(line, space).graph().num_nodes
    return len(lines), nodes, resident(), multiprocessing.current_process().pid or 0


def whole(name: str, lines: list[str], workers: int) -> dict[str, Any]:
    """All of them, with reuse, on so many processes."""
    portions = [(name, lines[i : i + 250]) for i in range(0, len(lines), 250)]
    start = time.perf_counter()
    memory: dict[int, list[float]] = {}
    nodes = done = 0
    with multiprocessing.get_context("spawn").Pool(workers, _start, (name,)) as pool:
        for count, n, held, process in pool.imap_unordered(_work, portions):
            done, nodes = done + count, nodes + n
            memory.setdefault(process, []).append(held)
    half = mean(m[len(m) // 2] for m in memory.values())
    end = mean(m[-1] for m in memory.values())
    return {"seconds": time.perf_counter() - start, "nodes": nodes / done, "half": half, "end": end}


def alone(space: Any, sample: list[Any]) -> tuple[float, list[str]]:
    """Seconds a network where nothing is reused, and the keys."""
    keys = []
    start = time.perf_counter()
    for architecture in sample:
        outcomes.NODES.clear()
        SEGMENTS.clear()
        module, shape = space.construct(architecture)
        for part in module.modules():
            part.__dict__.pop(SIGNATURE, None)
        keys.append(capture_module(module, shape, program=False))
    seconds = (time.perf_counter() - start) / len(sample)
    return seconds, [g.key for g in keys]


def without_blocks(space: Any, sample: list[Any]) -> float:
    """Seconds a network where known calls are reused, known blocks are not."""
    start = time.perf_counter()
    for architecture in sample:
        module, shape = space.construct(architecture, initialised=False)
        for part in module.modules():
            part.__dict__.pop(SIGNATURE, None)
        capture_module(module, shape, program=False)
    return (time.perf_counter() - start) / len(sample)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="Processes of one thread each.")
    parser.add_argument("--ofa", type=int, default=5000)
    parser.add_argument("--mine", type=int, default=5000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    collect_rarely()
    mine = str(Path(__file__).parent / "ten_lines.py")
    jobs = {
        "nasbench201": lambda s: list(s.enumerate()),
        "ofa_mobilenetv3": lambda s: [s.sample(seed=i) for i in range(arguments.ofa)],
        mine: lambda s: [s.sample(seed=i) for i in range(arguments.mine)],
    }
    print(f"{hardware()}, {versions()}\n")
    print(
        "| space | networks | nodes each | all, with reuse | a network, one process | without blocks | alone | ratio to alone | MiB halfway, at the end |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, list_all in jobs.items():
        space = nasplat.load_space(name)
        members = list_all(space)
        found = whole(name, [a.to_json() for a in members], arguments.workers)
        sample = random.Random(0).sample(members, SAMPLE)
        single = one_by_one(members)
        slow = without_blocks(space, sample)
        slowest, keys = alone(space, sample)
        _TEMPLATES.clear()
        assert keys == [a.graph().key for a in sample], "reuse changed a graph"
        print(
            f"| {Path(name).stem} | {len(members):,} | {found['nodes']:.0f} | {found['seconds']:.1f} s on {arguments.workers} cores | "
            f"{single * 1000:.1f} ms | {slow * 1000:.1f} ms | {slowest * 1000:.1f} ms | {slowest / single:.1f}× | "
            f"{found['half']:.0f}, {found['end']:.0f} |",
            flush=True,
        )


def one_by_one(members: list[Any]) -> float:
    """Seconds a network on this one process, with reuse, of networks not seen before (after as many to warm up)."""
    order = random.Random(1).sample(members, 1000)
    for architecture in order[:500]:
        architecture.graph()
    start = time.perf_counter()
    for architecture in order[500:]:
        architecture.graph()
    return (time.perf_counter() - start) / 500


if __name__ == "__main__":
    main()
