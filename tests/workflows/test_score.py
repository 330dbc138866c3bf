"""`score` asks once for all networks, and its rows can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

import nasplat
from nasplat.predict import Prediction
from nasplat.predict.count import CountBaseline
from nasplat.workflows.score import compared


class Counting(CountBaseline):
    """Remembers how many networks each call asked about."""

    def __init__(self) -> None:
        super().__init__("params")
        self.calls: list[int] = []

    def predict(self, items: Sequence[Any], example_input: Any = None) -> list[Prediction]:
        self.calls.append(len(items))
        return super().predict(items, example_input)


def test_all_networks_are_asked_about_in_one_call_with_the_same_answers(cells: nasplat.Space) -> None:
    members = list(dict.fromkeys(cells.sample(seed=i).canonical() for i in range(40)))
    predictor = Counting()
    predictor.fit(members, [float(m.graph().params) for m in members])
    rows = nasplat.score(members[:8], predictor)
    assert predictor.calls == [8]
    assert {r.name: r.prediction for r in rows} == {str(m): predictor.predict([m.graph()])[0] for m in members[:8]}
    assert nasplat.score([], predictor) == []


def test_a_universal_predictor_answers_in_a_batch_as_it_does_for_each(cells: nasplat.Space) -> None:
    predictor = compared(nasplat.load_predictor("base"), cells)
    members = [cells.sample(seed=i) for i in range(4)]
    rows = {r.name: r.prediction for r in nasplat.score(members, predictor)}
    assert [rows[str(m)] for m in members] == [predictor.predict([m.graph()])[0] for m in members]


def test_modules_of_one_class_are_numbered_and_others_keep_their_names(tmp_path: Path) -> None:
    small, large = nn.Sequential(nn.Linear(4, 2)), nn.Sequential(nn.Linear(4, 8))
    nasplat.export(small, tmp_path / "net.onnx", (1, 4))
    file = tmp_path / "net.onnx"
    rows = nasplat.score([small, nn.Linear(4, 4), large, file, str(file)], "trees-nb201", example_input=(1, 4))
    assert [r.name for r in rows] == ["Sequential 2", "Linear", "Sequential 1", str(file), str(file)]
    assert [r.prediction.macs for r in rows] == [32, 16, 8, 8, 8]
