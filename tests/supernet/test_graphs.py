"""Networks of graphs, whose inputs are node features and edges, through tasks, supernets and files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import nasplat
from nasplat.errors import SpaceError, SupernetError, TaskError

NODES, EDGES, FEATURES, CLASSES = 32, 128, 8, 4


@pytest.fixture(scope="module")
def task() -> nasplat.Task:
    return nasplat.load_task("communities", train=64, decide=32, test=32)


@pytest.fixture(scope="module")
def supernet(task: nasplat.Task) -> nasplat.Supernet:
    space = nasplat.load_space("nasbench_graph", width=8).for_task(task)
    made = nasplat.Supernet(space, task, seed=0)
    made.train(epochs=2, strategy="sandwich", batch_size=16, lr=1e-2, watch=False)
    return made


def test_graphs_shape_their_space(task: nasplat.Task) -> None:
    assert task.shapes == {"nodes": NODES, "features": FEATURES, "edges": EDGES, "classes": CLASSES}
    space = nasplat.load_space("nasbench_graph", width=8).for_task(task)
    assert space.from_task == "features=8, nodes=32, edges=128, classes=4 from the task"
    assert (
        repr(task) == "Task(communities: 64 train, 32 decide, 32 test of shape ((32, 8), (2, 128)), accuracy_percent)"
    )
    with pytest.raises(SpaceError, match=r"takes no inputs \(\(32, 8\), \(2, 128\)\) of task 'communities'.*"):
        nasplat.load_space("mlp").for_task(task)
    with pytest.raises(SpaceError, match=r"its networks take \(\(64, 16\), \(2, 256\)\)"):
        nasplat.load_space("nasbench_graph").for_task(nasplat.load_task("waves"))


def test_supernet_of_graph_networks_learns_and_extracts_what_it_evaluates(supernet: nasplat.Supernet) -> None:
    space, task = supernet.space, supernet.task
    members = [space.parse(t) for t in ("0112:gcn,sage,skip,fc", "0000:gat,cheb,arma,graph", "0123:skip,gin,fc,gcn")]
    for member in members:
        module = supernet.subnet(member)
        assert task.evaluate(module) == supernet.evaluate(member)
        x, edges = task.decide.x.parts
        together = module(x[:4], edges[:4])
        alone = torch.cat([module(x[i : i + 1], edges[i : i + 1]) for i in range(4)])
        assert torch.allclose(together, alone, atol=1e-5)  # no message leaves its graph
    further = supernet.finetune(members[0], epochs=6, batch_size=8, lr=2e-2, watch=False)
    assert task.evaluate(further) > 50  # a quarter by chance


def test_extracted_graph_network_is_exported_and_answers_the_same(supernet: nasplat.Supernet, tmp_path: Path) -> None:
    member = supernet.space.parse("0123:gcn,skip,fc,skip")
    certificate = nasplat.export(
        supernet.subnet(member), tmp_path / "net.onnx", member.example_input, task=supernet.task
    )
    assert certificate.max_relative_error < 1e-5
    assert certificate.task_metric is not None
    assert nasplat.capture(tmp_path / "net.onnx").macs == member.graph().macs


def test_other_graphs_than_the_space_states_are_refused(task: nasplat.Task) -> None:
    space = nasplat.load_space("nasbench_graph", width=8, features=FEATURES, classes=CLASSES)
    with pytest.raises(
        SupernetError, match=r"expected inputs of shape \(\(64, 8\), \(2, 256\)\), task 'communities' has"
    ):
        nasplat.Supernet(space, task)

    @nasplat.space(example_input=((1, 32, 8), None))
    def masked(pick: nasplat.Pick) -> torch.nn.Module:
        return torch.nn.Linear(8, pick("width", (4, 8)))

    with pytest.raises(SupernetError, match=r"expected inputs of shape \(\(32, 8\), \(\)\), task 'communities' has"):
        nasplat.Supernet(masked, task)
    fractions = [nasplat.Bundle(s.x.parts[0], s.x.parts[1].float()) for s in (task.train, task.decide)]
    floats = nasplat.Task.from_arrays((fractions[0], task.train.y), (fractions[1], task.decide.y), name="floats")
    space = space.with_presets(nodes=NODES, edges=EDGES)
    with pytest.raises(SupernetError, match="expected inputs of fractions, whole numbers, task 'floats' has"):
        nasplat.Supernet(space, floats)
    beyond = nasplat.Bundle(task.train.x.parts[0], task.train.x.parts[1] + 5)
    with pytest.raises(
        TaskError, match="split 'train' of task 'wild' expected edges between nodes 0 to 31, got node 36"
    ):
        nasplat.Task.from_arrays((beyond, task.train.y), (task.decide.x, task.decide.y), name="wild")


def test_one_graph_with_some_nodes_of_each_split_is_a_task(task: nasplat.Task) -> None:
    graph, y = task.train.x[:1], task.train.y[:1]
    split = torch.arange(NODES) % 3
    seen = [(graph, y.masked_fill(split != part, -100)) for part in range(3)]
    whole = nasplat.Task.from_arrays(*seen, name="one graph")
    supernet = nasplat.Supernet(nasplat.load_space("nasbench_graph", width=8).for_task(whole), whole)
    member = supernet.space.parse("0111:sage,fc,gcn,skip")
    module = supernet.finetune(member, epochs=30, batch_size=1, lr=2e-2, watch=False)
    assert whole.evaluate(module, "train") > 85
    assert (len(whole.train), whole.classes) == (1, CLASSES)
    loader = nasplat.Task.from_loader([(graph, y), (task.train.x[1:3], task.train.y[1:3])], [(graph, y)])
    assert loader.train.x.parts[1].equal(task.train.x.parts[1][:3])


@pytest.mark.fast
def test_bundles_refuse_what_does_not_belong_together(task: nasplat.Task) -> None:
    x, edges = task.train.x.parts
    with pytest.raises(TaskError, match="as many examples each, got 64, 63"):
        nasplat.Bundle(x, edges[1:])
    with pytest.raises(TaskError, match="at least one, got list"):
        nasplat.Bundle([1, 2])  # type: ignore[arg-type]
    with pytest.raises(TaskError, match="expected a Bundle as in other splits, got Tensor"):
        nasplat.Task.from_arrays((task.train.x, task.train.y), (x, task.train.y))
    bad = nasplat.Bundle(x * float("nan"), edges)
    with pytest.raises(TaskError, match="expected finite numbers, got nan in row 0"):
        nasplat.Task.from_arrays((bad, task.train.y), (task.train.x, task.train.y))
    with pytest.raises(TaskError, match=r"has several inputs, Bundle.*which no simple method reads"):
        nasplat.describe(task)
    shorter = nasplat.Bundle(x, edges[:, :, 1:])
    with pytest.raises(TaskError, match=r"shape \(\(32, 8\), \(2, 128\)\), got \(\(32, 8\), \(2, 127\)\)"):
        nasplat.Task.from_arrays((task.train.x, task.train.y), (shorter, task.train.y))
