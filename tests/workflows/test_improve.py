"""`improve` returns networks that save what was asked and keep what was allowed, as modules and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import nasplat
from nasplat.cli import cli
from nasplat.errors import EditError
from nasplat.predict.count import CountBaseline
from nasplat.runs.improvement import Trainings, read_improved, write_improvement
from nasplat.task.training import Budget
from nasplat.workflows.improve import ImproveSettings, improve

SHAPE = (1, 1, 16, 16)
SMALL = ImproveSettings(rounds=3, parents=4, children=10, finalists=3)


def network() -> nn.Module:
    torch.manual_seed(0)
    parts = (
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(4),
    )
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(16 * 16, 10))


@pytest.fixture(scope="module")
def predictor() -> CountBaseline:
    """Says that more parameters are better: what saves MACs and keeps parameters is found."""
    space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
    cells = list(dict.fromkeys(space.sample(seed=i).canonical() for i in range(40)))
    return CountBaseline("params").fit(cells, [float(c.graph().params) for c in cells])


def test_networks_save_and_keep_by_prediction(predictor: CountBaseline) -> None:
    told: list[str] = []
    found = improve(
        network(), SHAPE, predictor, {"macs": 0.2}, 1e9, settings=SMALL, report=lambda *words: told.append(words[2])
    )
    assert len(told) == 3
    assert found.original.gain == 0
    assert found.original.saved["macs"] == 0
    assert len(found.found) > 1
    for c in found.found:
        assert c.saved["macs"] >= 0.2
        assert nasplat.capture(c.module(), SHAPE).macs == c.costs["macs"] == c.graph.macs
    again = improve(network(), SHAPE, predictor, {"macs": 0.2}, 1e9, settings=SMALL)
    assert [c.graph.key for c in again.found] == [c.graph.key for c in found.found]
    saved = [c.saved["macs"] for c in found.found]  # a Pareto set, best gain first
    assert saved == sorted(saved)
    fewer = improve(network(), SHAPE, predictor, {"macs": 0.2}, -found.found[0].gain, settings=SMALL)
    assert [c.graph.key for c in fewer.found] == [found.found[0].graph.key]


def test_a_task_decides_and_an_interrupted_run_goes_on(predictor: CountBaseline, tmp_path: Path) -> None:
    task, module = nasplat.load_task("digits-clutter?train=256&decide=128&test=128"), network()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    about, budget = {"task": "digits", "seed": 0}, Budget(epochs=1)
    kept = Trainings(tmp_path, about)
    calls: list[str] = []

    def learnt(key: str, candidate: object) -> None:
        kept.learnt(key, candidate)  # type: ignore[arg-type]
        calls.append(key)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        improve(
            module, SHAPE, predictor, {"macs": 0.2}, 100.0, task, SMALL, budget=budget, known=kept.known, learnt=learnt
        )
    rest = Trainings(tmp_path, about)
    found = improve(
        *(module, SHAPE, predictor, {"macs": 0.2}, 100.0, task, SMALL),
        budget=budget,
        known=rest.known,
        learnt=rest.learnt,
    )
    assert set(calls) < set(rest.rows)
    assert len(rest.rows) == 4
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())  # it stays as it was
    decided = [c.decide or 0.0 for c in found.found]
    assert decided == sorted(decided, reverse=True)
    calibrated = network()
    calibrated[1].momentum = 1.0  # type: ignore[index]
    calibrated.train()(task.train.x)
    assert found.original.inherited == pytest.approx(task.evaluate(calibrated.eval(), "decide"))
    assert all(c.inherited is not None and c.saved["macs"] >= 0.2 for c in found.found)
    best = found.found[0]
    assert task.evaluate(best.module(), "decide") == pytest.approx(best.decide)
    with pytest.raises(EditError, match="holds trainings of"):
        Trainings(tmp_path, about | {"seed": 1})
    rows = write_improvement(found, tmp_path, task)
    assert [r["name"] for r in rows] == ["original", *(f"found{i}" for i in range(1, len(rows)))]
    x = torch.randn(3, *SHAPE[1:])
    assert torch.equal(read_improved(tmp_path, "found1")(x), best.module()(x))
    assert (tmp_path / "found1.svg").read_text().startswith("<svg")
    assert rows[1]["onnx"] == "found1.onnx"
    assert nasplat.check_export(best.module(), tmp_path / "found1.onnx", SHAPE) < 1e-4


@pytest.mark.parametrize(
    ("cut", "keep", "words"),
    [
        ({"seconds": 0.1}, 0.0, "expected costs"),
        ({"macs": 1.5}, 0.0, "between 0 and 1"),
        ({"latency_ms": 0.1}, 0.0, "--calibrate"),
        ({"macs": 0.2}, -1e9, "expected a network that saves 20% of macs"),
    ],
)
def test_what_cannot_be_is_refused(cut: dict[str, float], keep: float, words: str, predictor: CountBaseline) -> None:
    with pytest.raises(EditError, match=words):
        improve(network(), SHAPE, predictor, cut, keep, settings=SMALL)
    with pytest.raises(EditError, match="Run nasplat improve first"):
        read_improved("nowhere", "found1")
    with pytest.raises(EditError, match=r"among rounds, parents, children, finalists, .*got 'round'"):
        improve(network(), SHAPE, predictor, round=3)


def test_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text(
        "from torch import nn\n\ndef factory():\n    return nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(2304, 10))\n"
    )
    words = [
        "improve",
        f"{file}:factory",
        "--input",
        "1,1,16,16",
        "--cut",
        "macs=0.15",
        "--keep",
        "10",
        "--rounds",
        "2",
        "--finalists",
        "2",
    ]
    made = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "out"), "--json"])
    assert made.exit_code == 0, made.output
    data = json.loads(made.stdout)
    assert data["networks"][1]["macs_saved"] >= 0.15
    assert (tmp_path / "out" / "improved.csv").exists()
    wrong = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "out"), "--budget.lr=x"])
    assert wrong.exit_code != 0
