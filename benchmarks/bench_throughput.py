"""Networks scored in a second, stage by stage: architecture → graph → view → answer, one process of one thread, and the encoder on a device.

Seconds are those of the processor, so that others on the machine count less.

Graphs are random architectures of NAS-Bench-201 at published size, all different. "score" is what `rank_scores` does from graphs with identical
graphs scored once. The baseline is trees on the same graphs.

    python benchmarks/bench_throughput.py --predictors trees-nb201 gennape-nb101 -n 1024 --device cuda
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

import nasplat
from nasplat.features.view import views as views_of
from nasplat.predict.contract import TOGETHER
from nasplat.predict.gennape import Gennape
from nasplat.runs.folder import hardware, versions

REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictors", nargs="*", default=["base", "trees-nb201", "gennape-nb101"])
    parser.add_argument("-n", type=int, default=1024)
    parser.add_argument("--device", default="cpu", help="Where gennape's encoder answers too.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = nasplat.load_space("nasbench201")
    drawn = list(dict.fromkeys(space.sample(seed=i) for i in range(arguments.n * 2)))[: arguments.n]
    started = time.process_time()
    graphs = [a.graph() for a in drawn]
    n = len(graphs)
    print(f"{hardware()}, {versions()}\n{n} networks, {sum(g.num_nodes for g in graphs) / n:.0f} nodes each\n")
    say("architecture → graph", n, time.process_time() - started)
    say("graph → view, together", n, best(lambda: in_batches(graphs)))
    say("graph → view, one by one", 100, best(lambda: [views_of([fresh(g)]) for g in graphs[:100]]))
    views = in_batches(graphs)
    for name in arguments.predictors:
        predictor = nasplat.load_predictor(name)
        say(f"{name}: view → rank score", n, best(lambda p=predictor: p.rank_scores(views)))
        say(f"{name}: graph → prediction", n, best(lambda p=predictor: p.predict([fresh(g) for g in graphs])))
        say(f"{name}: graph → rank score", n, best(lambda p=predictor: p.rank_scores([fresh(g) for g in graphs])))
        say(f"{name}: one graph → prediction", 1, best(lambda p=predictor: p.predict([fresh(graphs[0])])))
        if isinstance(predictor, Gennape):
            say(f"{name}: view → label member", n, best(lambda p=predictor: p._ensemble(p.embed(views), "label")))
    if arguments.device != "cpu":
        labels = [float(v.macs) for v in views[:64]]
        quick = Gennape(pretrain_epochs=0, tune_epochs=1, head_epochs=1, clusters=2, device=arguments.device).fit(
            views[:64], labels
        )
        quick.embed(views)
        say(f"fresh gennape on {arguments.device}: view → embedding", n, best(lambda: quick.embed(views)))
        batch = quick.encoder_.collate(views)
        with torch.no_grad():
            say(
                f"fresh gennape on {arguments.device}: collated → embedding",
                n,
                best(lambda: quick.encoder_(batch).cpu()),
            )


def in_batches(graphs: list[nasplat.Graph]) -> list[Any]:
    """Views of graphs as predictors make them."""
    return [v for i in range(0, len(graphs), TOGETHER) for v in views_of([fresh(g) for g in graphs[i : i + TOGETHER]])]


def fresh(graph: nasplat.Graph) -> nasplat.Graph:
    """The same graph with nothing remembered."""
    return nasplat.Graph(graph.nodes, graph.edges, graph.weights, graph.notes, graph.rung)


def best(action: Callable[[], Any]) -> float:
    """Least seconds of a few runs."""
    found = []
    for _ in range(REPEATS):
        started = time.process_time()
        action()
        found.append(time.process_time() - started)
    return min(found)


def say(what: str, n: int, seconds: float) -> None:
    print(f"{what:55} {n / seconds:10,.0f} networks/s {1e3 * seconds / n:9.3f} ms each", flush=True)


if __name__ == "__main__":
    main()
