"""A predictor whose class stands outside the package keeps the contract, is saved and is loaded."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import nasplat
from nasplat import content
from nasplat.errors import PredictorError
from nasplat.predict import AbstractPredictor, CountBaseline
from nasplat.predict.abilities import (
    AssumesRecipe,
    Calibratable,
    ChoosesLabels,
    ComparesWithin,
    Finetunable,
    HasEncoder,
)

THEIRS = '''
import numpy as np
from nasplat.predict.finetuned import AbstractTunable

class Median(AbstractTunable):
    """Always answers with the median."""

    family = "median"

    def __init__(self, level=0.9, metric="value"):
        self.level, self.metric = level, metric

    def fit(self, items, labels):
        self.reference_ = np.quantile(np.asarray(labels, float), np.linspace(0, 1, 101))
        self.fitted_ = True
        return self

    def _reason(self, seen):
        return ""

    def _estimates(self, seen):
        return [(float(self.reference_[50]), float(self.reference_[5]), float(self.reference_[95])) for _ in seen]

    def _scores(self, seen):
        return [float(v.macs) for v in seen]

    def _arrays(self):
        return {"reference": self.reference_}

    def _restore(self, arrays, recipe):
        self.reference_, self.fitted_ = arrays["reference"], True

class Forgetful(Median):
    """Leaves out what fit must set."""

    def fit(self, items, labels):
        return self
'''
Data = tuple[list[nasplat.Graph], list[float]]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    file = tmp_path_factory.mktemp("outside") / "theirs.py"
    file.write_text(THEIRS, encoding="utf-8")
    return content.load_module(file)


def test_a_class_of_ones_own_keeps_the_contract(theirs: ModuleType, labelled: Data) -> None:
    nasplat.check_predictor(theirs.Median(level=0.8), *labelled)
    tuned = theirs.Median().fit(*labelled).finetune(labelled[0][:20], labelled[1][:20])
    nasplat.check_predictor(tuned, *labelled)
    with pytest.raises(PredictorError, match="expected to set reference_"):
        nasplat.check_predictor(theirs.Forgetful(), *labelled)


def test_a_class_of_ones_own_is_loaded_by_its_class(theirs: ModuleType, labelled: Data, tmp_path: Path) -> None:
    graphs, labels = labelled
    median = theirs.Median(level=0.8).fit(graphs, labels)
    median.save(tmp_path / "median", {"space": "mine"})
    again = nasplat.load_predictor(str(tmp_path / "median"), family=theirs.Median)
    assert type(again) is theirs.Median
    assert again.predict(graphs) == median.predict(graphs)
    cell = "nasbench201:|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|"
    assert again.predict([cell])[0].macs > 0  # it reads all that nasplat.capture reads
    tuned = median.finetune(graphs[:20], labels[:20])
    tuned.save(tmp_path / "tuned")
    assert nasplat.load_predictor(str(tmp_path / "tuned"), family=theirs.Median).predict(graphs) == tuned.predict(
        graphs
    )


def test_a_class_of_another_family_is_refused(theirs: ModuleType, labelled: Data, tmp_path: Path) -> None:
    theirs.Median().fit(*labelled).save(tmp_path)
    with pytest.raises(
        PredictorError, match=r"got 'median'.\n  Use one of these; a class of your own is passed as family"
    ):
        nasplat.load_predictor(str(tmp_path))
    with pytest.raises(PredictorError, match="a class of family 'median', got CountBaseline of family 'count'"):
        nasplat.load_predictor(str(tmp_path), family=CountBaseline)


def test_abilities_are_found_by_what_a_class_has() -> None:
    def abilities(predictor: AbstractPredictor) -> list[str]:
        known = (Finetunable, ChoosesLabels, ComparesWithin, Calibratable, AssumesRecipe, HasEncoder)
        return [p.__name__ for p in known if isinstance(predictor, p)]

    shared = ["Finetunable", "ChoosesLabels"]
    assert abilities(nasplat.load_predictor("base")) == [*shared, "ComparesWithin", "HasEncoder"]
    assert abilities(nasplat.load_predictor("gennape-nb101")) == [*shared, "HasEncoder"]
    assert abilities(nasplat.load_predictor("trees-nb201")) == shared
    assert abilities(nasplat.load_predictor("imagenet")) == [*shared, "AssumesRecipe"]
    assert abilities(nasplat.load_predictor("aiop-transnas")) == [*shared, "Calibratable", "HasEncoder"]
