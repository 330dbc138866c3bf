"""Top-1 on small pictures: learnt from few networks, and refused for networks that are none of their kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nasplat
from nasplat.errors import PredictorError
from nasplat.features.view import View, view
from nasplat.predict import SmallImages, load, small_images
from nasplat.tables.metrics import kendall_tau

GROUPS = ("basic", "bottleneck", "preactivation")


@pytest.fixture(scope="module")
def networks() -> list[View]:
    space = nasplat.load_space("resnet")
    return [view(space.sample(seed=i).graph()) for i in range(24)]


@pytest.fixture(scope="module")
def labels(networks: list[View]) -> list[float]:
    """Errors that fall as a power of MACs and of parameters."""
    return [100 - 6.0 * (v.macs / 1e7) ** -0.2 * (v.params / 1e5) ** -0.1 for v in networks]


@pytest.fixture(scope="module")
def fitted(networks: list[View], labels: list[float]) -> SmallImages:
    with pytest.MonkeyPatch.context() as fewer:
        fewer.setattr(small_images, "TREES", 40)
        return SmallImages(metric="CIFAR-10 top-1, percent").fit(networks, labels, [GROUPS[i % 3] for i in range(24)])


def test_a_power_law_is_learnt_and_answered_for_families_left_out(
    fitted: SmallImages, networks: list[View], labels: list[float], tmp_path: Path
) -> None:
    known = fitted.lessons_
    assert np.abs(fitted.left_out_ - known.labels).mean() < 0.4 * np.abs(known.labels - known.labels.mean()).mean()
    assert kendall_tau(fitted.left_out_, known.labels) > 0.7
    answers = fitted.predict(networks)
    assert sum(a.in_support for a in answers) == len(networks)
    assert all(a.low < a.mean < a.high < 100 for a in answers if a.mean is not None and a.low and a.high)
    # an interval is as wide as errors are large, whatever the top-1
    widths = [(100 - a.low) / (100 - a.high) for a in answers if a.low and a.high]
    assert max(widths) == pytest.approx(min(widths))
    fitted.save(tmp_path)
    assert load(tmp_path).predict(networks) == answers


def test_networks_of_other_sizes_or_kinds_are_refused_with_a_reason(fitted: SmallImages, networks: list[View]) -> None:
    wide, large = replace(networks[0], outputs=100), replace(networks[0], inputs=3 * 224**2)
    reasons = [a.reason for a in fitted.predict([wide, large])]
    assert reasons[0] == "it has 3,072 inputs and 100 outputs, classifiers of CIFAR-10 3,072 and 10"
    assert reasons[1].startswith("it has 150,528 inputs and 10 outputs")
    odd = replace(networks[0], unknown_ops=("other:fft",))
    assert fitted.predict([odd])[0].reason == "it uses operations no predictor knows: other:fft"
    gated = replace(networks[0], statistics=networks[0].statistics | {"count.attention": 1.0})
    (answer,) = fitted.predict([gated])
    assert answer.mean is None
    assert answer.reason == "log(1 + count.attention) is 0.6931, the training networks all have 0"


def test_labels_and_families_that_teach_nothing_are_refused(networks: list[View], labels: list[float]) -> None:
    with pytest.raises(PredictorError, match=r"labels in percent, got -?\d.* to 101"):
        SmallImages().fit(networks, [*labels[:-1], 101.0])
    with pytest.raises(PredictorError, match="networks of several families, got one"):
        SmallImages().fit(networks, labels, ["one"] * len(networks))
    with pytest.raises(PredictorError, match="one label per network, at least 20"):
        SmallImages().fit(networks[:10], labels[:10])


def test_the_shipped_ones_answer_for_their_kind_and_not_for_cells_of_skips_and_pools() -> None:
    space = nasplat.load_space("resnet")
    for name in ("cifar10", "svhn"):
        answers = nasplat.load_predictor(name).predict([space.sample(seed=i) for i in range(8)])
        means = [a.mean for a in answers if a.mean is not None]
        assert len(means) >= 3
        assert all(80 < mean < 99 for mean in means)
    # a cell that reaches 73 % on CIFAR-10: in the range of every count, and like none of the networks
    cells = nasplat.load_space("nasbench201")
    poor = cells.parse("|none~0|+|skip_connect~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_3x3~1|avg_pool_3x3~2|")
    assert nasplat.load_predictor("cifar10").predict([poor])[0].mean is None
