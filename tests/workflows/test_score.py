"""`score` asks once for all networks, and its rows can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import nasplat
from nasplat.errors import CaptureError, InputError, PredictorError
from nasplat.predict import Prediction
from nasplat.predict.count import CountBaseline
from nasplat.runs.listings import scored_listing
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


def test_classifiers_get_the_top_1_of_the_data_set_that_has_their_sizes() -> None:
    small, hundred = nasplat.load_space("resnet"), nasplat.load_space("resnet", classes=100)
    mobile = nasplat.load_space("ofa_mobilenetv3").sample(seed=1)
    digits = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    digits.example_input = (1, 1, 28, 28)  # type: ignore[assignment]
    rows = nasplat.score([digits, small.sample(seed=3), hundred.sample(seed=3), mobile])
    found = {r.prediction.top1_data: r.prediction for r in rows}
    assert set(found) == {"", "CIFAR-10", "CIFAR-100", "ImageNet-1k"}
    assert found["CIFAR-10"].top1 > found["CIFAR-100"].top1 > 50  # type: ignore[operator]
    assert found[""].top1 is None
    assert found[""].top1_reason == (
        "it has 784 inputs and 10 outputs, which is no classifier of ImageNet-1k, CIFAR-10, CIFAR-100"
    )
    assert all(p.top1_reason == "" for data, p in found.items() if data)
    shown = scored_listing(rows, "base")
    for data in ("CIFAR-10", "CIFAR-100", "ImageNet-1k"):
        column = shown.columns.index(f"{data} top-1 %")
        assert [bool(cells[column]) for cells in shown.rows] == [r.prediction.top1_data == data for r in rows]
    # what has no percentile is ordered by top-1, data set by data set
    ranks = [r.prediction.top1_data for r in rows if r.prediction.mean is None]
    assert ranks == [n for n in ("CIFAR-10", "CIFAR-100", "ImageNet-1k", "") if n in ranks]


def test_a_recipe_that_changes_nothing_is_refused() -> None:
    small = nasplat.load_space("resnet").sample(seed=3)
    mobile = nasplat.load_space("ofa_mobilenetv3").sample(seed=1)
    with pytest.raises(PredictorError, match=r"got 'nosuch'.\n  Such as .*in1k"):
        nasplat.score([mobile], recipe="nosuch")
    with pytest.raises(PredictorError, match=r"got 'A1'.\n  Such as .*a1_in1k"):
        nasplat.score([mobile], recipe="A1")
    with pytest.raises(
        InputError, match=r"expected an ImageNet classifier beside recipe 'a1_in1k', .* here: no network"
    ):
        nasplat.score([small], recipe="a1_in1k")
    with pytest.raises(
        InputError, match=r"a predictor of ImageNet top-1 beside recipe, got family 'trees'.\n  Use 'base'"
    ):
        nasplat.score([mobile], "trees-nb201", recipe="a1_in1k")
    (long,), (short,) = (nasplat.score([mobile], "imagenet", recipe=r) for r in ("a1_in1k", "a3_in1k"))
    assert long.prediction.mean > short.prediction.mean  # type: ignore[operator]


class Small(nn.Sequential):
    """A residual-like body for pictures of 32 × 32; it does not state its input."""

    def __init__(self, width: int, layers: int) -> None:
        body: list[nn.Module] = []
        for i, stride in enumerate((1,) * layers + (2,) * 2):
            body += [nn.Conv2d(width if i else 3, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU()]
        super().__init__(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def test_a_batch_of_pictures_is_refused_and_a_guessed_input_is_told() -> None:
    network = Small(8, 1)
    with pytest.raises(
        InputError, match=r"Small expected an input of one picture, got \(8, 3, 32, 32\).*\n.*\(1, 3, 32, 32\)"
    ):
        nasplat.score([network], "trees-nb201", example_input=(8, 3, 32, 32))
    with pytest.raises(InputError, match=r"the network expected an input of one picture, got \(8, 3"):
        nasplat.load_predictor("trees-nb201").predict([network], (8, 3, 32, 32))
    stated, guessed = (nasplat.score([network], "trees-nb201", example_input=e)[0] for e in ((1, 3, 32, 32), None))
    assert (stated.is_input_guessed, guessed.is_input_guessed) == (False, True)
    assert guessed.prediction.macs > 40 * stated.prediction.macs
    network.example_input = (1, 3, 32, 32)  # type: ignore[assignment]
    assert nasplat.score([network], "trees-nb201")[0] == stated
    with pytest.raises(CaptureError, match=r"^Linear: the network raised RuntimeError on input \(1, 3, 32, 32\)"):
        nasplat.score([network, nn.Linear(4, 2)], "trees-nb201", example_input=(1, 3, 32, 32))
    # rows of a table are no pictures: any number of them is one graph
    assert nasplat.score([nn.Linear(4, 2)], "trees-nb201", example_input=(8, 4))[0].prediction.macs == 64


def test_networks_of_different_families_are_ordered_by_the_top_1_that_they_share() -> None:
    def answer(mean: float | None, reference: str, top1: float | None, data: str = "CIFAR-10") -> Prediction:
        known = {"top1": top1, "top1_data": data}
        return Prediction(mean, mean, mean, 0.9, mean is not None, "", mean, 1, 1, "m", reference, **known)  # type: ignore[arg-type]

    class Told(Counting):
        """Answers what it was told."""

        def __init__(self, answers: list[Prediction]) -> None:
            super().__init__()
            self.answers = answers

        def predict(self, items: Sequence[Any], example_input: Any = None) -> list[Prediction]:
            return self.answers

    def order(*answers: Prediction) -> list[float | None]:
        items = [nn.Linear(2, i + 1) for i in range(len(answers))]
        return [r.prediction.top1 for r in nasplat.score(items, Told(list(answers)), (1, 2))]

    assert order(answer(39.0, "a", 94.6), answer(None, "", 96.0)) == [96.0, 94.6]
    assert order(answer(39.0, "a", 94.6), answer(12.0, "b", 96.0)) == [96.0, 94.6]
    # percentiles of one family decide; and a network without a top-1, or of other data, is compared with none
    assert order(answer(39.0, "a", 94.6), answer(12.0, "a", 96.0)) == [94.6, 96.0]
    assert order(answer(39.0, "a", 94.6), answer(None, "", None)) == [94.6, None]
    assert order(answer(39.0, "a", 76.0, "ImageNet-1k"), answer(None, "", 96.0)) == [76.0, 96.0]
