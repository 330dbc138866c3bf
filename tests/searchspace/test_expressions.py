"""Texts that say which network an encoding stands for: as many differ as published, and equal ones compute the same."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

import nasplat
from nasplat import cell_expression

EDGES = [(s, t) for t in range(1, 4) for s in range(t)]
OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SMALL = {
    "nasbench201": {"width": 4, "cells": 1, "image": 8},
    "transnas_micro": {"width": 4, "modules": (1, 4), "cells": 1, "image": 32},
}


def by_key(space: nasplat.Space, ops: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    """Every encoding of a cell of four nodes, by its network key."""
    found: dict[str, list[dict[str, Any]]] = {}
    for picked in product(ops, repeat=6):
        choices = {f"{s}->{t}": op for (s, t), op in zip(EDGES, picked, strict=True)}
        found.setdefault(space.hooks["key"](choices), []).append(choices)
    return found


def published_text(choices: Mapping[str, str]) -> str:
    """NAS-Bench-201's own text of a cell, which looks through skips and at zeros that the input alone feeds."""
    nodes = ["0"]
    for t in range(1, 4):
        parts = []
        for s in range(t):
            op = choices[f"{s}->{t}"]
            if op == "none" or nodes[s] == "#":
                parts.append("#")
            else:
                parts.append(nodes[s] if op == "skip_connect" else f"({nodes[s]})@{op}")
        nodes.append("+".join(sorted(parts)))
    return nodes[3]


@pytest.mark.fast
def test_nasbench201_has_4930_networks_and_the_benchmarks_6466_texts_lie_inside_them() -> None:
    found = by_key(nasplat.load_space("nasbench201"), OPS)
    texts: dict[str, set[str]] = {}
    for key, members in found.items():
        for choices in members:
            texts.setdefault(published_text(choices), set()).add(key)
    assert (len(found), len(texts)) == (4_930, 6_466)
    assert all(len(keys) == 1 for keys in texts.values())


@pytest.mark.fast
def test_transnas_micro_has_1229_networks() -> None:
    assert len(by_key(nasplat.load_space("transnas_micro"), OPS[:4])) == 1_229


@pytest.mark.fast
def test_cells_that_differ_behind_a_zero_edge_are_one_network() -> None:
    space = nasplat.load_space("nasbench201")
    fed = space.parse("|none~0|+|none~0|nor_conv_3x3~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_1x1~2|")
    bare = space.parse("|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|")
    unread = space.parse("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|nor_conv_1x1~0|none~1|none~2|")
    assert fed.network_key == bare.network_key == unread.network_key == "(x)nor_conv_1x1"


@pytest.mark.fast
def test_a_sum_of_sums_is_one_sum_and_an_operation_on_nothing_is_nothing() -> None:
    deep = {(0, 1): "", (0, 2): "b", (1, 2): "a", (0, 3): "c", (2, 3): ""}
    assert (
        cell_expression(deep, 4)
        == "(x)a+(x)b+(x)c"
        == cell_expression(dict.fromkeys([(0, 1)], "a") | {(1, 3): "", (0, 2): "c", (2, 3): "", (0, 3): "b"}, 4)
    )
    assert cell_expression({(0, 1): None, (1, 2): "a", (1, 3): "", (2, 3): "b"}, 4) == ""


def weighted(architecture: nasplat.Architecture, skip_is_source: bool) -> torch.Tensor:
    """Answer of a network whose operations have weights by what they are and what they read; norms shift nothing."""
    module, _ = architecture.space.construct(architecture)
    ops = {(s, t): str(architecture.choices[f"{s}->{t}"]) for s, t in EDGES}
    edges = {
        e: None if op == "none" else "" if op == "skip_connect" and (e[0] or skip_is_source) else op
        for e, op in ops.items()
    }

    def seeded(name: str) -> str:
        match = re.search(r"(\d)->(\d)", name)
        if match is None:
            return name
        source = cell_expression(edges, int(match[1]) + 1) if int(match[1]) else "x"
        return name.replace(match[0], f"({source}){ops[int(match[1]), int(match[2])]}")

    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(hash_of(seeded(name)))) / 3)
            elif name.endswith("bias"):
                p.zero_()
    x = torch.randn(2, 3, *architecture.example_input[2:], generator=torch.Generator().manual_seed(0))
    return module.double().eval()(x.double())


def hash_of(text: str) -> int:
    """A number that is the text's on every machine."""
    return int.from_bytes(text.encode(), "big") % (2**61 - 1)


@pytest.mark.parametrize("name", SMALL)
def test_networks_of_one_key_answer_alike_and_those_of_two_keys_do_not(name: str) -> None:
    space = nasplat.load_space(name, **SMALL[name])
    found = by_key(space, OPS if name == "nasbench201" else OPS[:4])
    rng = random.Random(0)
    several = rng.sample([members for key, members in found.items() if key and len(members) > 1], 12)
    answers = []
    for members in several:
        pair = [weighted(space.architecture(c), name == "nasbench201") for c in rng.sample(members, 2)]
        torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-9)
        answers.append(pair[0])
    assert all(not torch.allclose(a, b) for i, a in enumerate(answers) for b in answers[:i])


@pytest.mark.fast
def test_the_order_of_a_darts_cells_nodes_is_no_other_network() -> None:
    space = nasplat.load_space("darts", width=4, cells=3)
    text = "Genotype(normal=[{0}], normal_concat=range(2, 6), reduce=[{0}], reduce_concat=range(2, 6))"
    conv, skip, pool, dil = "sep_conv_3x3", "skip_connect", "max_pool_3x3", "dil_conv_3x3"
    first = [(conv, 0), (skip, 1), (pool, 0), (dil, 1), (conv, 2), (conv, 3), (dil, 0), (skip, 2)]
    # nodes 2 and 3 have changed places
    second = [(pool, 0), (dil, 1), (conv, 0), (skip, 1), (conv, 2), (conv, 3), (dil, 0), (skip, 3)]
    one, other = (space.parse(text.format(", ".join(map(repr, cell)))) for cell in (first, second))
    assert one != other
    assert one.network_key == other.network_key
    third = [*second[:-1], (skip, 2)]
    assert space.parse(text.format(", ".join(map(repr, third)))).network_key != one.network_key
    cells = [space.construct(a)[0].cells[0] for a in (one, other)]
    renamed = {"node0": "node1", "node1": "node0", "from2": "from3", "from3": "from2"}
    state = {re.sub("node[01]|from[23]", lambda m: renamed[m[0]], k): v for k, v in cells[0].state_dict().items()}
    cells[1].load_state_dict(state)
    x = torch.randn(2, 2, 12, 8, 8, generator=torch.Generator().manual_seed(0))
    parts = [nn.Module.eval(c)(x[0], x[1]).chunk(4, 1) for c in cells]
    for mine, theirs in zip(parts[0], (parts[1][i] for i in (1, 0, 2, 3)), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.fast
def test_the_sides_of_a_nasnet_block_are_no_other_network() -> None:
    space = nasplat.load_space("nasnet", width=8, cells=1, stem=0, image=16)
    one = space.sample(seed=1)
    choices = dict(one.choices)
    for part in ("value", "op"):
        left, right = f"normal.block1.left.{part}", f"normal.block1.right.{part}"
        choices[left], choices[right] = choices[right], choices[left]
    other = space.architecture(choices)
    assert one != other
    assert (one.network_key, one.graph().key) == (other.network_key, other.graph().key)


@pytest.mark.parametrize(
    ("name", "presets"),
    [
        ("nasbench201", {"width": 4, "cells": 1, "image": 8}),
        ("transnas_micro", {"width": 4, "modules": (4,), "cells": 1, "image": 16}),
        ("nasbench101", {"width": 8, "cells": 1, "image": 8, "vertices": 4}),
        ("nasbench_macro", {"base": 0.25, "layers": (1, 3, 1)}),
    ],
)
def test_what_has_one_graph_has_one_network_key(name: str, presets: dict[str, Any]) -> None:
    space = nasplat.load_space(name, **presets)
    keys: dict[str, set[str]] = {}
    members = {space.sample(seed=i) for i in range(80)}
    for architecture in members:
        keys.setdefault(architecture.graph().key, set()).add(architecture.network_key)
        assert architecture.canonical().network_key == architecture.network_key
    assert all(len(found) == 1 for found in keys.values())
    assert len(keys) < len(members)
