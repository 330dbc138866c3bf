"""Networks of graphs, whose inputs are node features and edges, through tasks, supernets and files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import nasplat
from nasplat.errors import SpaceError, SupernetError, TaskError

NODES, EDGES, FEATURES, CLASSES = 24, 96, 6, 3


def drawn(n: int, seed: int) -> tuple[nasplat.Bundle, torch.Tensor]:
    """Graphs whose edges mostly join nodes of one class; features alone tell little; a third of the nodes count."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (n, NODES), generator=g)
    x = torch.randn(n, NODES, FEATURES, generator=g) + 0.7 * torch.nn.functional.one_hot(y, FEATURES)
    edges = torch.empty(n, 2, EDGES, dtype=torch.int64)
    for i in range(n):
        pairs = torch.randint(NODES, (2, 40 * EDGES), generator=g)
        alike = y[i][pairs[0]] == y[i][pairs[1]]
        kept = (pairs[0] != pairs[1]) & (alike | (torch.rand(40 * EDGES, generator=g) < 0.1))
        edges[i] = pairs[:, kept][:, :EDGES]
    hidden = torch.rand(n, NODES, generator=g) < 0.5
    return nasplat.Bundle(x, edges), y.masked_fill(hidden, -100)


@pytest.fixture(scope="module")
def task() -> nasplat.Task:
    return nasplat.Task.from_arrays(drawn(64, 0), drawn(32, 1), drawn(32, 2), name="blocks")


@pytest.fixture(scope="module")
def supernet(task: nasplat.Task) -> nasplat.Supernet:
    space = nasplat.load_space("nasbench_graph", width=8).for_task(task)
    made = nasplat.Supernet(space, task, seed=0)
    made.train(epochs=2, strategy="sandwich", batch_size=16, lr=1e-2, watch=False)
    return made


def test_graphs_shape_their_space(task: nasplat.Task) -> None:
    assert task.shapes == {"nodes": NODES, "features": FEATURES, "edges": EDGES, "classes": CLASSES}
    space = nasplat.load_space("nasbench_graph", width=8).for_task(task)
    assert space.from_task == "features=6, nodes=24, edges=96, classes=3 from the task"
    assert repr(task) == "Task(blocks: 64 train, 32 decide, 32 test of shape ((24, 6), (2, 96)), accuracy_percent)"
    with pytest.raises(SpaceError, match=r"takes no inputs \(\(24, 6\), \(2, 96\)\) of task 'blocks'.*"):
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
    further = supernet.finetune(members[0], epochs=4, batch_size=8, lr=2e-2, watch=False)
    assert task.evaluate(further) > 60  # a third by chance


def test_extracted_graph_network_is_exported_and_answers_the_same(supernet: nasplat.Supernet, tmp_path: Path) -> None:
    member = supernet.space.parse("0011:gcn,cheb,skip,fc")
    certificate = nasplat.export(
        supernet.subnet(member), tmp_path / "net.onnx", member.example_input, task=supernet.task
    )
    assert certificate.max_relative_error < 1e-5
    assert certificate.task_metric is not None
    assert nasplat.capture(tmp_path / "net.onnx").macs == member.graph().macs


def test_other_graphs_than_the_space_states_are_refused(task: nasplat.Task) -> None:
    space = nasplat.load_space("nasbench_graph", width=8, features=FEATURES, classes=CLASSES)
    with pytest.raises(SupernetError, match=r"expected inputs of shape \(\(64, 6\), \(2, 256\)\), task 'blocks' has"):
        nasplat.Supernet(space, task)
    fractions = [nasplat.Bundle(s.x.parts[0], s.x.parts[1].float()) for s in (task.train, task.decide)]
    floats = nasplat.Task.from_arrays((fractions[0], task.train.y), (fractions[1], task.decide.y), name="floats")
    space = space.with_presets(nodes=NODES, edges=EDGES)
    with pytest.raises(SupernetError, match="expected inputs of fractions, whole numbers, task 'floats' has"):
        nasplat.Supernet(space, floats)
    beyond = nasplat.Bundle(task.train.x.parts[0], task.train.x.parts[1] + 5)
    with pytest.raises(
        TaskError, match="split 'train' of task 'wild' expected edges between nodes 0 to 23, got node 28"
    ):
        nasplat.Task.from_arrays((beyond, task.train.y), (task.decide.x, task.decide.y), name="wild")


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
    shorter = nasplat.Bundle(x, edges[:, :, 1:])
    with pytest.raises(TaskError, match=r"shape \(\(24, 6\), \(2, 96\)\), got \(\(24, 6\), \(2, 95\)\)"):
        nasplat.Task.from_arrays((task.train.x, task.train.y), (shorter, task.train.y))
