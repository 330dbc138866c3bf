"""Settings of a training: what is refused, by which name, from Python and in words."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import pytest

import nasplat
from nasplat.errors import InputError, SupernetError
from nasplat.supernet.config import OWN, TrainConfig
from nasplat.supernet.strategy import SinglePath
from nasplat.task.settings import from_words

REFUSED: list[tuple[str, Any, str]] = [
    ("bf16", "maybe", "to be true or false"),
    ("watch", 1, "to be true or false"),
    ("epochs", 2.5, "to be a whole number"),
    ("epochs", True, "to be a whole number"),
    ("epochs", 0, ">= 1"),
    ("batch_size", -64, ">= 1"),
    ("draws", 0, ">= 1"),
    ("lr", True, "to be a number"),
    ("lr", float("nan"), "to be a number"),
    ("lr", float("inf"), "> 0"),
    ("lr", "fast", "to be a number"),
    ("lr", 0.0, "> 0"),
    ("weight_decay", -0.1, ">= 0"),
    ("clip", -1.0, "> 0"),
    ("temperature", 0.0, "> 0"),
    ("distill_weight", 1.5, "from 0 to 1"),
    ("strategy", 3, "to be text"),
    ("strategy", "singlepath", "among single-path"),
    ("teacher", "wise", "among none, largest, sampled, given"),
    ("pick", "worst", "among uniform, matched, best"),
    ("distill", "warm", "among soft, hard, features"),
]


@pytest.mark.parametrize(("name", "value", "wanted"), REFUSED, ids=[f"{n} {v}" for n, v, _ in REFUSED])
def test_a_setting_that_cannot_be_is_refused_by_name(name: str, value: Any, wanted: str) -> None:
    with pytest.raises(SupernetError, match=rf"expected --train\.{name} {wanted}") as caught:
        TrainConfig(**{name: value})
    said, advice = str(caught.value).split("\n")
    assert said.endswith(f"got {value!r}.") or f"got {value}" in said
    assert advice.startswith(("  Use ", "  Choose "))


def test_every_setting_has_a_kind_that_is_refused() -> None:
    for field in fields(TrainConfig):
        wrong: Any = object()
        with pytest.raises(SupernetError, match=rf"--train\.{field.name} to be"):
            TrainConfig(**{field.name: wrong})


def test_words_make_the_settings_that_python_makes() -> None:
    words = [f"--train.{k}={v}" for k, v in asdict(TrainConfig(epochs=3, bf16=True, clip=float("inf"))).items()]
    assert from_words(TrainConfig, words, "train") == TrainConfig(epochs=3, bf16=True, clip=float("inf"))
    for word, told in (("--train.bf16=maybe", "true or false"), ("--train.epochs=2.5", "a whole number")):
        with pytest.raises(InputError, match=f"expected {told}, got"):
            from_words(TrainConfig, [word], "train")
    with pytest.raises(SupernetError, match=r"--train.strategy among .*got '3'"):
        from_words(TrainConfig, ["--train.strategy=3"], "train")
    with pytest.raises(InputError, match=r"(?s)got '--train.epoch=3'.*nearest is --train.epochs"):
        from_words(TrainConfig, ["--train.epoch=3"], "train")


def test_a_strategy_that_is_no_strategy_is_refused_by_train(vit: nasplat.Space, task: nasplat.Task) -> None:
    supernet = nasplat.Supernet(vit, task)
    with pytest.raises(SupernetError, match=r"--train.strategy to be text, got 3"):
        supernet.train(1, strategy=3)  # type: ignore[arg-type]
    with pytest.raises(SupernetError, match=r"(?s)got 'batchsize'.*nearest is batch_size"):
        supernet.train(1, batchsize=3)
    assert TrainConfig(strategy=OWN + SinglePath().name).strategy == "own:single-path"


def test_a_supernet_tells_its_space_task_size_and_epochs(vit: nasplat.Space, task: nasplat.Task) -> None:
    supernet = nasplat.Supernet(vit, task)
    size = sum(w.numel() for w in supernet.store.weights.values()) / 1e6
    assert repr(supernet) == f"Supernet({vit!r}, digits-clutter, {size:.3f} M parameters, 0 epochs trained)"
    assert "loss of the last epoch" not in supernet._repr_html_()
    supernet.train(epochs=1, batch_size=256, watch=False)
    shown = supernet._repr_html_()
    assert "<td>1</td>" in shown.replace(' class="number"', "")
    assert "digits-clutter (accuracy_percent)" in shown
    assert f"{supernet.history[-1].loss:.4g}" in shown
    assert repr(supernet).endswith("1 epochs trained)")
