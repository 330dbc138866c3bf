"""AIO-P: adapters of several tasks answer for another one after some twenty labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import nasplat
from nasplat.cli import cli
from nasplat.errors import InputError, PredictorError
from nasplat.features.twins import structure_key
from nasplat.features.view import View, view
from nasplat.learners.adapters import Adapter
from nasplat.learners.encoder import collate
from nasplat.learners.process import Process
from nasplat.predict import aiop
from nasplat.predict.aiop import MODES, Aiop
from nasplat.predict.gennape import divisor
from nasplat.predict.registry import load
from nasplat.tables.metrics import kendall_tau

SMALL = {"hidden": 16, "layers": 2, "embedding": 16, "width": 8, "epochs": 120, "batch_size": 16}


@pytest.fixture(scope="module")
def views() -> list[View]:
    space = nasplat.load_space("nasbench201", width=8, cells=1, image=16, channels=1)
    return [view(a.graph()) for a in dict.fromkeys(space.sample(seed=i).canonical() for i in range(130))]


def labels_of(views: list[View], task: str) -> np.ndarray:
    """Tasks that share what makes a network good, in units of their own."""
    size = np.log10([1 + v.macs for v in views])
    depth = np.array([float(len(v)) for v in views])
    depth = (depth - depth.mean()) / depth.std()
    return {"a": 10 * size + depth, "b": 0.1 * size + 0.02 * depth, "c": 300 * size + 40 * depth}[task]


@pytest.fixture(scope="module")
def fitted(views: list[View]) -> Aiop:
    shown = views[:60]
    labels = np.concatenate([labels_of(shown, t) for t in ("a", "b")])
    return Aiop(**SMALL).fit([*shown, *shown], labels, ["a"] * 60 + ["b"] * 60)


def test_an_adapter_reads_every_layer_and_its_own_states(views: list[View]) -> None:
    torch.manual_seed(0)
    adapter, batch = Adapter(4, 2, 3), collate(views[:2])
    n = len(batch.op)
    states = [torch.randn(n, 4) for _ in range(3)]
    x = states[0].clone()
    source, target = batch.edges.tolist()
    for own, messages, state in zip(adapter.own, adapter.messages, states[1:], strict=True):
        both = torch.cat([state, x], 1)
        total, sent = own(both), messages(both)
        for a, b in zip(source, target, strict=True):
            total[b] = total[b] + sent[a, :3]
            total[a] = total[a] + sent[b, 3:]
        x = torch.tanh(total)
    first = len(views[0])
    wanted = torch.stack([x[:first].mean(0), x[first:].mean(0)])
    assert torch.allclose(adapter(states, batch), wanted, atol=1e-5)


def test_a_new_task_is_answered_in_its_unit_after_twenty_labels(views: list[View], fitted: Aiop) -> None:
    rest = views[80:]
    truth = labels_of(rest, "c")
    assert fitted.predict(rest[:1])[0].mean is None
    assert "not calibrated" in fitted.predict(rest[:1])[0].reason
    assert kendall_tau(fitted.rank_scores(rest), truth) > 0.6  # no label of the task was seen
    known = fitted.calibrate(views[60:80], labels_of(views[60:80], "c").tolist())
    answers = known.predict(rest)
    inside = [i for i, p in enumerate(answers) if p.mean is not None]
    assert len(inside) > 0.8 * len(rest)
    error = np.mean([abs((answers[i].mean or 0.0) - truth[i]) for i in inside])
    assert error < 0.6 * np.abs(truth - truth.mean()).mean()
    covered = np.mean([(answers[i].low or 0.0) <= truth[i] <= (answers[i].high or 0.0) for i in inside])
    assert covered > 0.7
    assert np.allclose(fitted.moments_, fitted.scales_.mean(0))  # it stays as it was


@pytest.mark.parametrize("mode", MODES)
def test_modes_tune_what_they_say(mode: str, views: list[View], fitted: Aiop) -> None:
    found = fitted.calibrate(views[60:72], labels_of(views[60:72], "c").tolist(), mode, epochs=2, lr=1e-3)

    def moved(part: str) -> bool:
        pairs = zip(fitted.paths_.named_parameters(), found.paths_.parameters(), strict=True)
        return any(not torch.equal(a, b) for (name, a), b in pairs if f".{part}." in name)

    encoder = any(
        not torch.equal(a, b) for a, b in zip(fitted.encoder_.parameters(), found.encoder_.parameters(), strict=True)
    )
    assert (moved("head"), moved("adapter"), encoder) == {
        "none": (False, False, False),
        "gaussian process": (False, False, False),
        "heads": (True, False, False),
        "heads and encoder": (True, False, True),
        "all": (True, True, True),
        "heads and adapters": (True, True, False),
        "adaproxy": (True, False, False),
    }[mode]
    assert found.width_ > 0
    assert (found.process_ is not None) == (mode == "gaussian process")


def test_a_process_learns_what_the_mean_of_the_paths_leaves() -> None:
    rng = np.random.default_rng(0)
    like, against, noise = rng.normal(size=(3, 200))
    target = like - 0.5 * against + 0.5 * like**2
    target = (target - target.mean()) / target.std()
    outputs = np.stack([3 * like + 1, against, noise])
    process = Process.learn(outputs[:, :30], target[:30])
    mean = ((outputs - outputs.mean(1)[:, None]) / outputs.std(1)[:, None]).mean(0)
    answer = process(outputs)
    assert np.corrcoef(answer[30:], target[30:])[0, 1] > 0.9 > 0.6 > np.corrcoef(mean[30:], target[30:])[0, 1]
    far = 1e6 * np.ones((3, 1))
    assert process(far) == pytest.approx(((far[:, 0] - process.mean) / process.spread).mean(), rel=1e-9)
    constant = Process.learn(np.ones((2, 5)), np.zeros(5))  # nothing to learn from
    assert constant(np.ones((2, 3))) == pytest.approx(np.zeros(3), abs=1e-6)


def test_a_process_learns_from_so_many_labels(views: list[View], fitted: Aiop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiop, "MOST", 15)
    found = fitted.calibrate(views[60:90], labels_of(views[60:90], "c").tolist())
    assert found.process_ is not None
    assert found.process_.known.shape == (15, 2)
    assert np.allclose(found.moments_, [labels_of(views[60:90], "c").mean(), labels_of(views[60:90], "c").std()])


def test_labels_are_scaled_by_flops(views: list[View]) -> None:
    shown = list({structure_key(v): v for v in views[:40]}.values())
    made = Aiop(**(SMALL | {"epochs": 1}), scaling="flops").fit(shown, labels_of(shown, "a"))
    scaled = labels_of(shown, "a") / np.array([divisor(v.gigaflops) for v in shown])
    assert made.scales_[0] == pytest.approx([scaled.mean(), scaled.std()], rel=1e-6)
    plain = Aiop(**(SMALL | {"epochs": 1}), scaling="none").fit(shown, labels_of(shown, "a"))
    assert plain.scales_[0].tolist() == [0.0, 1.0]


def test_it_is_kept_and_wrong_input_is_refused(views: list[View], fitted: Aiop, tmp_path: Path) -> None:
    known = fitted.calibrate(views[60:80], labels_of(views[60:80], "c").tolist())
    known.save(tmp_path)
    again = load(tmp_path)
    assert again.rank_scores(views[80:90]) == pytest.approx(known.rank_scores(views[80:90]))
    assert [p.to_dict() for p in again.predict(views[80:83])] == [p.to_dict() for p in known.predict(views[80:83])]
    y = labels_of(views[:30], "a").tolist()
    for options, tasks, match in (
        ({}, ["a"] * 29, "a label and a task per network"),
        ({}, ["a"] * 25 + ["b"] * 5, "20 labels of task 'b', got 5"),
        ({"scaling": "log"}, ["a"] * 30, "a scaling among"),
    ):
        with pytest.raises(PredictorError, match=match):
            Aiop(**SMALL, **options).fit(views[:30], y, tasks)
    with pytest.raises(PredictorError, match="other settings"):
        Aiop(**(SMALL | {"hidden": 8})).fit(views[:30], y, encoder=fitted.encoder_)
    with pytest.raises(PredictorError, match="a mode among"):
        fitted.calibrate(views[:5], y[:5], "everything")
    with pytest.raises(PredictorError, match="at least 3, got 2 and 2"):
        fitted.calibrate(views[:2], y[:2])


def test_the_command_line_trains_adapters_and_answers_for_a_new_task(tmp_path: Path) -> None:
    space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
    members = list(dict.fromkeys(space.sample(seed=i).canonical() for i in range(110)))
    lines = ["architecture,a,b,c"]
    for m in members:
        size = np.log10(1 + m.graph().macs)
        lines.append(f"{space.format(m)},{size:.5f},{10 * size + 1:.5f},{-3 * size + 40:.5f}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "few.csv").write_text("\n".join(lines[:1] + lines[-20:]) + "\n", encoding="utf-8")
    presets = [f"--preset={p}" for p in ("width=4", "cells=1", "image=16", "channels=1")]
    words = ["fit", "--family", "aiop", "--table", str(tmp_path / "t.csv"), "--space", "nasbench201", *presets]
    out = str(tmp_path / "aiop")
    said = CliRunner().invoke(
        cli, [*words, "--tasks", f"a,{tmp_path}/t.csv:b", "--workers", "1", "--out", out, "--json"]
    )
    assert said.exception is None, said.output
    rows = json.loads(said.stdout)
    assert [r["task"] for r in rows] == ["a", "b"]
    assert all(r["train"] + r["n"] < len(members) for r in rows)
    names = [m.to_json() for m in members[:6]]
    answered = ["score", *names, "--predictor", out, "--json"]
    assert all(r["mean"] is None for r in json.loads(CliRunner().invoke(cli, answered).stdout))
    known = ["--calibrate", str(tmp_path / "few.csv"), "--task", "c"]
    refused = CliRunner().invoke(cli, [*answered, *known])
    assert isinstance(refused.exception, InputError)
    found = json.loads(CliRunner().invoke(cli, [*answered, *known, "--space", "nasbench201"]).stdout)
    assert {r["metric"] for r in found} == {"c"}
    assert isinstance(CliRunner().invoke(cli, [*words, "--metric", "a", "--out", out]).exception, InputError)
    wrong = CliRunner().invoke(cli, ["score", *names, "--predictor", "trees-nb201", *known, "--space", "nasbench201"])
    assert "expected a predictor with adapters" in str(wrong.exception)
