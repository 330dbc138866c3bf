"""Everything the content folders list works."""

from __future__ import annotations

from pathlib import Path

import pytest

import nasplat
from nasplat import content
from nasplat.errors import ContentError, PredictorError
from nasplat.predict.abilities import Calibratable
from nasplat.predict.folder import trained_on

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("name", content.names("predictors"))
def test_shipped_predictor_answers_with_interval(name: str) -> None:
    predictor = nasplat.load_predictor(name)
    # those that learnt several spaces are asked about one of them
    about = trained_on(content.folder("predictors") / name)
    presets = {"classes": about["classes"]} if "classes" in about else {}
    space = nasplat.load_space(about.get("space", "ofa_mobilenetv3"), **presets)
    members = [space.sample(seed=i) for i in range(30)]
    if isinstance(predictor, Calibratable):  # it knows no unit before some labels of a task are given
        assert not any(a.in_support for a in predictor.predict(members[:3]))
        predictor = predictor.calibrate(members[:20], [float(m.graph().macs) for m in members[:20]])
    answers = predictor.predict(members)
    inside = [a for a in answers if a.in_support]
    assert len(inside) >= 3
    assert all(a.low < a.mean < a.high and a.macs > 0 for a in inside)
    card = (content.folder("predictors") / name / "README.md").read_text(encoding="utf-8")
    assert "MACs" in card
    assert about["command"] in card


def test_shipped_predictor_abstains_on_a_transformer() -> None:
    (answer,) = nasplat.load_predictor("trees-nb201").predict([nasplat.load_space("vit").sample(seed=0)])
    assert answer.mean is None
    assert answer.low is None
    assert not answer.in_support
    assert answer.reason


def test_unknown_space_names_the_alternatives() -> None:
    with pytest.raises(ContentError, match=r"known: .*nasbench101, nasbench201.*Did you mean 'nasbench201'"):
        nasplat.load_space("nasbench210")


def test_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="does not exist"):
        nasplat.load_space(str(tmp_path / "mine.py"))


def test_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("x = 1\ndef broken(:\n", encoding="utf-8")
    with pytest.raises(ContentError, match=r"mine\.py:2: syntax error"):
        nasplat.load_space(str(file))


def test_file_that_raises_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("x = 1\n1 / 0\n", encoding="utf-8")
    with pytest.raises(ContentError, match=r"mine\.py:2: importing this file raised ZeroDivisionError"):
        nasplat.load_space(str(file))


def test_file_without_a_space_says_so(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(ContentError, match="decorated with @space"):
        nasplat.load_space(str(file))


@pytest.mark.parametrize(("change", "message"), [("missing", "which is missing"), ("altered", "altered or cut short")])
def test_broken_predictor_folder_is_refused(tmp_path: Path, change: str, message: str) -> None:
    source = content.folder("predictors") / "trees-nb201"
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "weights.safetensors"
    if change == "missing":
        weights.unlink()
    else:
        data = bytearray(weights.read_bytes())
        data[-5] ^= 1
        weights.write_bytes(bytes(data))
    with pytest.raises(PredictorError, match=message):
        nasplat.load_predictor(str(tmp_path))
