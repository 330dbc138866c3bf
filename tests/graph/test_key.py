"""The canonical key on random graphs: blind to order and names, never blind to what is computed."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplat.graph import Graph, Node
from nasplat.graph.columns import Weight

pytestmark = pytest.mark.fast

UNARY = ("relu", "gelu", "softmax")
BINARY = ("add", "mul", "sub", "matmul")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Random graphs in which every node reaches the output."""
    width = draw(st.sampled_from((4, 8)))
    nodes = [Node("input", (), ((1, width),), path="x")]
    edges: list[tuple[int, int, int, int]] = []
    weights: list[Weight] = []
    for i in range(1, draw(st.integers(2, 9))):
        kind = draw(st.sampled_from(("linear", "unary", "binary")))
        sources = [draw(st.integers(0, i - 1)) for _ in range(2 if kind == "binary" else 1)]
        if kind == "linear":
            share = draw(st.booleans()) and bool(weights)
            row = draw(st.integers(0, len(weights) - 1)) if share else len(weights)
            if not share:
                weights.append(Weight(f"w{i}", (width, width)))
            nodes.append(Node("linear", (("bias", 0), ("in_features", width)), ((1, width),), 4, (row,), f"node{i}"))
        else:
            op = draw(st.sampled_from(UNARY if kind == "unary" else BINARY))
            attributes = (("dim", draw(st.integers(0, 1))),) if op == "softmax" else ()
            nodes.append(Node(op, attributes, ((1, width),), path=f"node{i}"))
        edges += [(s, 0, i, position) for position, s in enumerate(sources)]
    read = {s for s, _, _, _ in edges}
    for loose in [i for i in range(len(nodes)) if i not in read]:
        nodes.append(Node("output", (), ((1, width),)))
        edges.append((loose, 0, len(nodes) - 1, 0))
    return Graph(tuple(nodes), tuple(edges), tuple(weights))


def shuffled(graph: Graph, seed: int) -> Graph:
    """The same computation built in another order, under other names, with its weights in another order."""
    r = random.Random(seed)
    waiting = [len(o) for o in graph.operands]
    readers: list[list[int]] = [[] for _ in graph.nodes]
    for s, _, t, _ in graph.edges:
        readers[s].append(t)
    outputs = [i for i, n in enumerate(graph.nodes) if n.op == "output"]
    ready = [i for i, n in enumerate(waiting) if not n]
    order: list[int] = []
    while ready:
        free = [i for i in ready if graph.nodes[i].op != "output" or i == next(o for o in outputs if o not in order)]
        i = r.choice(free or ready)
        ready.remove(i)
        order.append(i)
        for t in readers[i]:
            waiting[t] -= 1
            if not waiting[t]:
                ready.append(t)
    number = {old: new for new, old in enumerate(order)}
    rows = list(range(len(graph.weights)))
    r.shuffle(rows)
    place = {old: new for new, old in enumerate(rows)}
    nodes = tuple(
        replace(graph.nodes[i], path=f"renamed{r.random()}", weights=tuple(place[w] for w in graph.nodes[i].weights))
        for i in order
    )
    weights = tuple(replace(graph.weights[i], name=f"other{i}") for i in rows)
    edges = []
    for old in order:
        operands = list(graph.operands[old])
        if graph.nodes[old].op in {"add", "mul"} and r.random() < 0.5:
            operands.reverse()
        edges += [(number[s], slot, number[old], position) for position, (s, slot) in enumerate(operands)]
    return Graph(nodes, tuple(edges), weights)


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(0, 10_000))
def test_order_names_and_commuted_operands_do_not_change_the_key(graph: Graph, seed: int) -> None:
    assert shuffled(graph, seed).key == graph.key


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(0, 10_000), st.sampled_from(("attribute", "shape", "op", "itemsize", "weight shape")))
def test_any_change_of_a_node_changes_the_key(graph: Graph, seed: int, what: str) -> None:
    r = random.Random(seed)
    i = r.randrange(len(graph.nodes))
    node = graph.nodes[i]
    if what == "weight shape":
        if not graph.weights:
            return
        w = r.choice([w for n in graph.nodes for w in n.weights])
        weights = tuple(replace(x, shape=(*x.shape, 1)) if j == w else x for j, x in enumerate(graph.weights))
        assert Graph(graph.nodes, graph.edges, weights).key != graph.key
        return
    changed = {
        "attribute": lambda: replace(node, attributes=(*node.attributes, ("zzz", 7))),
        "shape": lambda: replace(node, shapes=((2, *node.shape[1:]),)),
        "op": lambda: replace(node, op="tanh" if node.op != "tanh" else "relu"),
        "itemsize": lambda: replace(node, itemsize=2),
    }[what]()
    if node.op in {"input", "output"} and what == "op":
        return
    nodes = tuple(changed if j == i else n for j, n in enumerate(graph.nodes))
    assert Graph(nodes, graph.edges, graph.weights).key != graph.key


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_operand_order_of_what_does_not_commute_changes_the_key(graph: Graph) -> None:
    for i, node in enumerate(graph.nodes):
        operands = graph.operands[i]
        if node.op == "sub" and operands[0] != operands[1]:
            swapped = tuple((s, slot, t, 1 - p) if t == i else (s, slot, t, p) for s, slot, t, p in graph.edges)
            other = Graph(graph.nodes, tuple(sorted(swapped, key=lambda e: (e[2], e[3]))), graph.weights)
            kinds = {graph.nodes[s].op for s, _ in operands}
            if len(kinds) == 2 and "input" in kinds and _never_mirrored(graph, i):
                assert other.key != graph.key


def _never_mirrored(graph: Graph, i: int) -> bool:
    """Only one difference, so that no other one could take its place."""
    return sum(n.op == "sub" for n in graph.nodes) == 1


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_json_keeps_everything(graph: Graph) -> None:
    again = Graph.from_json(graph.to_json())
    assert again == graph
    assert again.key == graph.key
