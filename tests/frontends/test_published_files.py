"""Published computation graphs: their numbers from networks we build, their files, and pickles that must not run."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nasplat
from nasplat.errors import GraphError, InputError
from nasplat.graph.published import PublishedGraph, from_fields, graph_from_published, published

sys.path.insert(0, str(Path(__file__).parents[1] / "graph"))
from golden_networks import NETWORKS

pytestmark = pytest.mark.fast

# nodes, weighted nodes, edges, published FLOPs, parameters; the FLOPs of the first five are those of AutoGO's table 2
GOLDEN = {
    "hiaml_best": (107, 32, 118, 246_314_516, 2_220_746),
    "two_path_best": (56, 21, 58, 116_200_468, 1_780_362),
    "nb201_best": (306, 83, 352, 312_767_892, 1_038_394),
    "nb101_best": (225, 65, 251, 11_722_075_156, 39_810_442),
    "inception_best": (403, 139, 445, 493_881_364, 3_537_898),
    "vgg__vgg16_bn": (48, 14, 47, 30_805_729_232, 15_236_136),
    "resnet50__resnet50": (152, 45, 164, 6_306_482_512, 24_113_256),
}
HISTOGRAMS = {
    "hiaml_best": {"conv": 31, "batchnorm": 31, "relu": 21, "relu6": 8, "matmul": 1, "add": 12, "mean": 1},
    "two_path_best": {
        "conv": 20,
        "batchnorm": 20,
        "relu6": 8,
        "matmul": 1,
        "add": 2,
        "concat": 1,
        "mean": 1,
        "identity": 1,
    },
    "nb201_best": {
        "conv": 82,
        "batchnorm": 76,
        "relu": 79,
        "matmul": 1,
        "add": 47,
        "avgpool": 2,
        "mean": 1,
        "identity": 16,
    },
    "nb101_best": {"conv": 64, "batchnorm": 64, "relu": 64, "matmul": 1, "add": 18, "maxpool": 11, "mean": 1},
    "inception_best": {
        **{"conv": 120, "depthwise": 18, "batchnorm": 123, "relu6": 106, "matmul": 1, "add": 13, "concat": 18},
        **{"mean": 1, "identity": 1},
    },
    "vgg__vgg16_bn": {"conv": 13, "batchnorm": 13, "relu": 13, "matmul": 1, "maxpool": 5, "mean": 1},
    "resnet50__resnet50": {"conv": 45, "batchnorm": 44, "relu": 43, "add": 13, "maxpool": 4, "avgpool": 1},
}


def seen(name: str) -> PublishedGraph:
    make, shape = NETWORKS[name]
    with torch.device("meta"):
        module = make()
    return published(nasplat.capture(module, shape, program=False), name)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_captured_networks_equal_the_published_graphs(name: str) -> None:
    found = seen(name)
    weighted = sum(n.op in {"conv", "depthwise", "matmul"} for n in found.nodes)
    assert (len(found.nodes), weighted, len(found.edges), found.flops, found.params) == GOLDEN[name]
    assert {k: v for k, v in found.histogram.items() if k not in {"input", "output"}} == HISTOGRAMS[name]


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_stored_files_agree_node_by_node(name: str) -> None:
    folder = os.environ.get("NASPLAT_GRAPHS")
    if not folder:
        pytest.skip("NASPLAT_GRAPHS names no folder with the published files")
    stored = nasplat.read_published(Path(folder) / f"{name}.json.gz")[0].graph
    mine = seen(name)
    assert stored.flops == mine.flops
    assert sorted((n.op, n.resolution) for n in stored.nodes) == sorted((n.op, n.resolution) for n in mine.nodes)
    assert sorted(_edges(stored)) == sorted(_edges(mine))


def _edges(graph: PublishedGraph) -> list[Any]:
    return [
        ((graph.nodes[s].op, graph.nodes[s].resolution), (graph.nodes[t].op, graph.nodes[t].resolution))
        for s, t in graph.edges
    ]


def fields(graph: PublishedGraph) -> dict[str, Any]:
    """As the publications store a graph."""
    from nasplat.graph.published import OPERATIONS

    nodes = []
    for n in graph.nodes:
        metadata = {"use_bias": True} if n.bias else None
        node = {"op_type_idx": OPERATIONS.index(n.op), "resolution": list(n.resolution), "strides": [1, *n.strides, 1]}
        node |= {"metadata": metadata, "str_id": f"1|{n.path}"}
        if n.op in {"conv", "depthwise", "matmul"}:
            node["shape"] = [n.resolution[4], n.resolution[5], *n.kernel]
        nodes.append(node)
    first = sum(n.op in {"conv", "depthwise", "matmul"} for n in graph.nodes)
    return {
        "name": graph.name,
        "edge_pairs": [list(e) for e in graph.edges],
        "weighted_nodes": nodes[:first],
        "regular_nodes": nodes[first:],
        "n_weighted_nodes": 0,  # stale in the published files
    }


def test_files_of_both_forms_come_back_and_become_our_graph(tmp_path: Path) -> None:
    graph = seen("hiaml_best")
    (tmp_path / "one.json.gz").write_bytes(gzip.compress(json.dumps(fields(graph)).encode()))
    labelled = {"17": {"cg": fields(graph), "max_perf": 92.5, "perfs": [90.0, 92.5], "net_config": [["a"], ["b"]]}}
    (tmp_path / "many.json").write_text(json.dumps(labelled))
    one, many = nasplat.read_published(tmp_path / "one.json.gz"), nasplat.read_published(tmp_path / "many.json")
    assert one[0].graph.flops == many[0].graph.flops == graph.flops
    assert many[0].label == pytest.approx(0.925)
    ours = nasplat.capture(str(tmp_path / "one.json.gz"))
    make, shape = NETWORKS["hiaml_best"]
    direct = nasplat.capture(make(), shape, program=False)
    assert (ours.macs, ours.params, ours.rung) == (direct.macs, direct.params, "published")
    assert not ours.unknown_ops
    again = published(ours, graph.name)
    assert (again.flops, again.params, again.histogram) == (graph.flops, graph.params, graph.histogram)


def test_pickled_caches_are_read_without_their_classes(tmp_path: Path) -> None:
    package = types.ModuleType("model_src.comp_graph.tf_comp_graph")
    for name in ("ComputeGraph", "RegularNode", "WeightedNode"):
        setattr(package, name, type(name, (), {"__module__": package.__name__}))
    sys.modules |= {
        "model_src": types.ModuleType("model_src"),
        "model_src.comp_graph": types.ModuleType("c"),
        package.__name__: package,
    }
    try:
        plain = fields(seen("two_path_best"))

        def made(kind: str, state: dict[str, Any]) -> Any:
            value = getattr(package, kind)()
            value.__dict__.update(state)
            return value

        graph = made("ComputeGraph", plain)
        graph.weighted_nodes = [made("WeightedNode", n) for n in plain["weighted_nodes"]]
        graph.regular_nodes = [
            made("RegularNode", n | {"resolution": tuple(n["resolution"])}) for n in plain["regular_nodes"]
        ]
        entry = {
            "compute graph": graph,
            "acc": 0.93,
            "flops": 1.0e8,
            "original config": (["conv"], np.eye(3, dtype=np.int64)),
        }
        (tmp_path / "gpi_x_comp_graph_cache.pkl").write_bytes(pickle.dumps([entry, entry], protocol=4))
    finally:
        for name in ("model_src", "model_src.comp_graph", package.__name__):
            sys.modules.pop(name)
    found = nasplat.read_published(tmp_path / "gpi_x_comp_graph_cache.pkl")
    assert len(found) == 2
    assert (found[0].label, found[0].flops) == (0.93, 1.0e8)
    assert found[0].graph.flops == GOLDEN["two_path_best"][3]
    assert found[0].config == [["conv"], np.eye(3, dtype=int).tolist()]
    assert nasplat.capture(f"{tmp_path}/gpi_x_comp_graph_cache.pkl#1").macs == graph_from_published(found[1].graph).macs


class _Runs:
    def __reduce__(self) -> Any:
        return (os.system, ("touch /tmp/nasplat_was_here",))


@pytest.mark.parametrize("value", [_Runs(), [np.array([_Runs()], dtype=object)], {"a": print}, Path("x")])
def test_pickles_that_name_anything_else_are_refused_and_never_run(value: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(InputError, match="expected a pickle of published graphs, got one that names"):
        nasplat.read_published(tmp_path / "bad.pkl")
    assert not Path("/tmp/nasplat_was_here").exists()


def test_broken_files_are_typed_errors(tmp_path: Path) -> None:
    (tmp_path / "cut.pkl").write_bytes(pickle.dumps([1, 2, 3])[:-4])
    with pytest.raises(InputError, match="It is broken"):
        nasplat.read_published(tmp_path / "cut.pkl")
    (tmp_path / "no.json").write_text("{")
    with pytest.raises(InputError, match="expected JSON of published graphs"):
        nasplat.read_published(tmp_path / "no.json")
    with pytest.raises(InputError, match="Check the path"):
        nasplat.read_published(tmp_path / "nowhere.json.gz")
    (tmp_path / "other.json").write_text('{"a": {"b": 1}}')
    with pytest.raises(GraphError, match="It needs edge_pairs"):
        nasplat.read_published(tmp_path / "other.json")
    circle = {
        "edge_pairs": [[0, 1], [1, 0]],
        "weighted_nodes": [],
        "regular_nodes": [{"op_type_idx": 6, "resolution": [1] * 6}] * 2,
    }
    with pytest.raises(GraphError, match="runs in a circle"):
        graph_from_published(from_fields(circle, "c"))
    with pytest.raises(GraphError, match="beyond its 2 nodes"):
        from_fields(circle | {"edge_pairs": [[0, 5]]}, "c")
