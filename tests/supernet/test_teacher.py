"""Online distillation: who teaches, how, and that resuming changes nothing."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nasplat
from nasplat.errors import SupernetError
from nasplat.supernet.distillation import Imitation, distillation_loss
from nasplat.supernet.ranks import Ranks
from nasplat.supernet.subnet_teachers import OtherSupernet, OwnTeacher
from nasplat.supernet.teacher import Lecture


@pytest.fixture(scope="module")
def vit() -> nasplat.Space:
    return nasplat.load_space("vit", size="mini", image=16, patch=4, channels=1, classes=10, head_dim=8)


@pytest.fixture(scope="module")
def cnn_space() -> nasplat.Space:
    return nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)


@pytest.fixture(scope="module")
def task() -> nasplat.Task:
    return nasplat.load_task("digits-clutter", train=128, decide=64, test=64)


def network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 10)
    )


def teacher_of(kind: str, cnn_space: nasplat.Space, task: nasplat.Task) -> Any:
    made = {"network": network, "supernet": lambda: nasplat.Supernet(cnn_space, task, seed=3)}
    return made[kind]() if kind in made else None


ARMS = [
    ("none", {}),
    ("largest", {}),
    ("largest", {"joint": False}),
    ("sampled", {}),
    ("sampled", {"pick": "matched", "distill": "hard"}),
    ("sampled", {"pick": "best", "distill": "features"}),
    ("network", {"joint": False}),
    ("network", {"distill": "features"}),
    ("supernet", {"joint": False, "pick": "best", "draws": 2}),
    ("supernet", {"pick": "matched"}),
]


@pytest.mark.parametrize(("kind", "options"), ARMS, ids=[f"{k} {' '.join(map(str, o.values()))}" for k, o in ARMS])
def test_every_teacher_trains_and_resumes_bit_equal(
    kind: str, options: dict[str, Any], vit: nasplat.Space, cnn_space: nasplat.Space, task: nasplat.Task, tmp_path: Path
) -> None:
    own = {"teacher": kind} if kind in {"none", "largest", "sampled"} else {}
    options = {"strategy": "ovo", "batch_size": 32, "epochs": 2, "watch": False} | own | options

    def run(folder: Path | None, stop_after: int | None = None) -> tuple[nasplat.Supernet, Any]:
        supernet, teacher = nasplat.Supernet(vit, task, seed=1), teacher_of(kind, cnn_space, task)

        def report(epoch: Any, _: int) -> None:
            if epoch.epoch == stop_after:
                raise KeyboardInterrupt

        given = options if own else options | {"teacher": teacher}
        if stop_after is not None:
            with pytest.raises(KeyboardInterrupt):
                supernet.train(checkpoint=folder, report=report, **given)
        else:
            supernet.train(checkpoint=folder, **given)
        return supernet, teacher

    whole, teacher = run(None)
    run(tmp_path, stop_after=1)
    resumed, teacher_again = run(tmp_path)
    for key, weight in whole.store.weights.items():
        assert torch.equal(weight, resumed.store.weights[key]), key
    if kind == "network":
        before, after, again = network().state_dict(), teacher.state_dict(), teacher_again.state_dict()
        assert all(torch.equal(after[k], again[k]) for k in after)
        assert torch.equal(before["0.weight"], after["0.weight"]) == (not options.get("joint", True))
    if kind == "supernet":
        fresh = nasplat.Supernet(cnn_space, task, seed=3)
        assert teacher.fingerprint == teacher_again.fingerprint
        assert (teacher.fingerprint == fresh.fingerprint) == (not options.get("joint", True))


def test_a_word_for_no_teacher_is_refused(vit: nasplat.Space, task: nasplat.Task) -> None:
    with pytest.raises(SupernetError, match=r"train\.teacher among none, largest, sampled, given, got 'biggest'"):
        nasplat.Supernet(vit, task).train(1, "ovo", teacher="biggest")


def test_a_teacher_that_knows_makes_better_students(vit: nasplat.Space, task: nasplat.Task) -> None:
    """A teacher that always says class 3: with the whole weight on it, so does the student."""

    class Three(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 8.0 * F.one_hot(torch.full((len(x),), 3), 10).float() + 0.0 * x.mean()

    for distill in ("soft", "hard"):
        supernet = nasplat.Supernet(vit, task, seed=0)
        options = {"distill": distill, "distill_weight": 1.0, "joint": False, "batch_size": 32}
        supernet.train(epochs=4, strategy="ovo", teacher=Three(), **options)
        said = supernet.subnet(vit.sample(seed=9))(task.decide.x).argmax(1)
        assert (said == 3).float().mean() > 0.95


def test_matched_teachers_are_near_in_rank_and_best_ones_have_least_loss(
    vit: nasplat.Space, cnn_space: nasplat.Space, task: nasplat.Task
) -> None:
    ranks, rng = Ranks(cnn_space), random.Random(0)
    for wanted in (0.1, 0.5, 0.9):
        assert abs(ranks.of(ranks.near(wanted, rng)) - wanted) < 0.2
    assert ranks.of(ranks.pool[0][1]) == 0.0
    supernet = nasplat.Supernet(vit, task, seed=0)
    own = OwnTeacher(supernet.subnets, task.loss, "sampled", Lecture(joint=False, pick="best", draws=4))
    x, y = task.train.x[:32], task.train.y[:32]
    chosen = own._choose(x, y, vit.sample(seed=0), own.ranks, seed=7)
    rng = random.Random("teacher 7")
    drawn = [vit.sample(seed=rng.getrandbits(48)) for _ in range(4)]
    losses = [task.loss(supernet.subnets.bind(a).module.eval()(x), y).item() for a in drawn]
    assert chosen == drawn[losses.index(min(losses))]
    guest = nasplat.Supernet(cnn_space, task).subnets
    other = OtherSupernet(guest, task.loss, vit, 0.0, Lecture(joint=False, pick="matched"))
    student = max((vit.sample(seed=i) for i in range(40)), key=lambda a: a.graph().macs)
    assert other.ranks.of(other._choose(x, y, student, other.student_ranks, seed=1)) > 0.7


def test_the_loss_of_distillation_is_zero_where_both_say_the_same() -> None:
    output = torch.randn(6, 10)
    assert distillation_loss(output, output, "soft", 4.0) == pytest.approx(0.0, abs=1e-6)
    assert distillation_loss(output, output.flip(0), "soft", 1.0) > 0.1
    values = torch.randn(6, 1)
    assert distillation_loss(values, values + 2, "soft", 1.0) == pytest.approx(
        4.0
    )  # regression: the mean squared difference


def test_the_map_of_features_learns_and_grows() -> None:
    imitation = Imitation(torch.device("cpu"), 0.0, seed=0)
    generator = torch.Generator().manual_seed(0)
    student, mixed = torch.randn(64, 5, generator=generator), torch.randn(5, 7, generator=generator)
    first = float(imitation.loss(student, student @ mixed).detach())
    for _ in range(300):
        imitation.loss(student, student @ mixed).backward()
        imitation.collect()
        imitation.optimiser.step(0.02, 1e9)
    assert float(imitation.loss(student, student @ mixed).detach()) < 0.1 * first
    kept = imitation.map.detach().clone() if imitation.map is not None else None
    imitation.loss(torch.randn(4, 9), torch.randn(4, 7))
    assert kept is not None
    assert imitation.map is not None
    assert torch.equal(imitation.map[:7, :5], kept)


def test_what_does_not_fit_is_refused(vit: nasplat.Space, task: nasplat.Task) -> None:
    supernet = nasplat.Supernet(vit, task)
    with pytest.raises(SupernetError, match="teacher among none, largest"):
        supernet.train(epochs=1, strategy="ovo", config=nasplat.TrainConfig(teacher="wise"))
    with pytest.raises(SupernetError, match="expected strategy 'ovo'"):
        supernet.train(epochs=1, teacher=network())
    with pytest.raises(SupernetError, match="expected a module or a supernet"):
        supernet.train(config=nasplat.TrainConfig(epochs=1, strategy="ovo", teacher="given"))
    plain = nn.Sequential(nn.Conv2d(1, 10, 16), nn.Flatten())
    with pytest.raises(SupernetError, match="expected a network with a linear layer"):
        supernet.train(epochs=1, strategy="ovo", teacher=plain, distill="features")
    with pytest.raises(SupernetError, match="distill_weight from 0 to 1"):
        nasplat.TrainConfig(distill_weight=2.0)
