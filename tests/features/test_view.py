"""Views of many graphs at once: equal to those of each alone, counted by hand, and cheap in calls of Python."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

import nasplat
from nasplat.errors import GraphError
from nasplat.features.paths import Paths
from nasplat.features.view import View, view, views
from nasplat.graph import Graph, Node, Weight

pytestmark = pytest.mark.fast

IMAGE = (1, 4, 8, 8)


def drawn(seed: int) -> Graph:
    """A random graph with what networks rarely hold: dead code, zeros, products with zeros, several outputs or none."""
    rng = np.random.default_rng(seed)
    names = "conv depthwise batchnorm relu layernorm add add sub mul concat zeros copy view maxpool other:odd".split()
    nodes, edges, weights = [Node("input", shapes=(IMAGE,))], [], []
    for i in range(1, int(rng.integers(3, 40))):
        op = str(rng.choice(names))
        many = 0 if op == "zeros" else int(rng.integers(1, 4)) if op in {"add", "concat", "mul"} else 1 + (op == "sub")
        edges += [(int(rng.integers(max(0, i - 5), i)), 0, i, k) for k in range(many)]
        own = ()
        if op in {"conv", "depthwise", "batchnorm"}:
            weights.append(Weight(f"w{i}", (4, int(rng.integers(1, 5)), 3, 3)))
            own = (int(rng.integers(len(weights))),)
        attributes = (("channels_per_group", 4), ("groups", int(rng.choice([1, 4]))), ("kernel", (3, 3)))
        kept = attributes if op in {"conv", "depthwise"} else (("kernel", (3, 3)),) if op == "maxpool" else ()
        shape = IMAGE if rng.random() < 0.9 else (1, 8, 4, 4)
        nodes.append(Node(op, kept, (shape,), weights=own))
    for _ in range(int(rng.integers(0, 3))):
        edges.append((int(rng.integers(len(nodes))), 0, len(nodes), 0))
        nodes.append(Node("output", shapes=(IMAGE,)))
    return Graph(tuple(nodes), tuple(edges), tuple(weights))


def assert_equal(one: View, other: View) -> None:
    for name in ("op", "features", "work", "edges", "executed"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.statistics == pytest.approx(other.statistics, rel=1e-12)
    rest = ("macs", "params", "unknown_ops", "inputs", "outputs", "bound", "params_bound")
    assert [getattr(one, n) for n in rest] == [getattr(other, n) for n in rest]


def test_views_of_many_graphs_equal_those_of_each_alone() -> None:
    graphs = [drawn(seed) for seed in range(60)]
    graphs += [nasplat.load_space(name).sample(seed=1).graph() for name in ("nasbench201", "vit", "densenet")]
    for many, graph in zip(views(graphs), graphs, strict=True):
        assert_equal(many, view(graph))
        assert (many.macs, many.params, many.unknown_ops) == (graph.macs, graph.params, graph.unknown_ops)
        assert many.statistics["nodes"] == len(graph.bare.nodes)


def test_sums_that_floats_round_stay_whole() -> None:
    huge = Node("conv", (("macs", 2**60 + 1),), (IMAGE,), weights=(0,))
    graph = Graph(
        (Node("input", shapes=(IMAGE,)), huge, huge), ((0, 0, 1, 0), (1, 0, 2, 0)), (Weight("w", (2**55 + 1,)),)
    )
    seen = views([graph, drawn(0)])[0]
    assert (seen.macs, seen.params) == (2**61 + 2, 2**55 + 1)


def test_a_graph_without_nodes_is_refused() -> None:
    with pytest.raises(GraphError, match="expected graphs with at least one node"):
        views([drawn(0), Graph((), ())])
    assert views([]) == []


@pytest.mark.parametrize("seed", range(6))
def test_totals_along_ways_equal_those_of_every_way(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 14
    pairs = [(int(rng.integers(max(0, t - 3), t)), t) for t in range(1, n) for _ in range(int(rng.integers(1, 3)))]
    most, even = rng.integers(0, 5, (n, 1)) * 1.0, np.zeros((n, 1))
    even[[i for i in range(n) if all(t != i for _, t in pairs)]] = 1.0  # one way begins at every source

    def ways(node: int) -> list[list[int]]:
        before = [s for s, t in pairs if t == node]
        return [[*w, node] for s in before for w in ways(s)] or [[node]]

    high, count = Paths.of(n, *np.array(pairs).T).totals(most, even)
    for node in range(n):
        found = ways(node)
        assert all((s, t) in pairs for w in found for s, t in pairwise(w))
        assert high[node, 0] == max(sum(most[i, 0] for i in w) for w in found)
        assert count[node, 0] == len(found)


def calls_of(action: Callable[[], object]) -> int:
    """Number of calls of functions, of Python and of C, that an action makes; it does not depend on the machine."""
    profile = cProfile.Profile()
    profile.enable()
    action()
    profile.disable()
    return pstats.Stats(profile).total_calls  # type: ignore[attr-defined]


def test_what_is_called_for_a_view_hardly_grows_with_the_graphs() -> None:
    space = nasplat.load_space("nasbench201")
    graphs = [space.sample(seed=i).graph() for i in range(64)]
    nodes = sum(g.num_nodes for g in graphs)
    views(graphs)  # operations are described when they are first met
    one, many = calls_of(lambda: views(graphs[:1])), calls_of(lambda: views(graphs))
    assert one < 5_000
    assert many < 5_000 + 3 * nodes  # it was 50 a node: identities, sizes of tensors, and levels of the longest network


def test_answers_of_base_are_one_batch() -> None:
    space, base = nasplat.load_space("nasbench201"), nasplat.load_predictor("base")
    seen = views([space.sample(seed=i).graph() for i in range(64)])
    base.rank_scores(seen[:2]), base.predict(seen[:2])
    few, many = (calls_of(lambda n=n: base.rank_scores(seen[:n])) for n in (32, 64))
    assert many - few < 32 * 60  # it was 450 a network, 20 supports looked up one by one
    few, many = (calls_of(lambda n=n: base.predict(seen[:n])) for n in (32, 64))
    assert many - few < 32 * 900  # it was 1,400; most are fields of predictions
