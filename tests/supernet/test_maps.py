"""Supernets of networks that answer several maps in training: teachers, bfloat16, sorting, resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import nasplat
from nasplat.supernet.distillation import distillation_loss, final
from nasplat.supernet.history import Epoch
from nasplat.supernet.strategy import STRATEGIES


@pytest.fixture(scope="module")
def space() -> nasplat.Space:
    return nasplat.load_space("easnet-small", disparity=12, height=24, width=48, depths=(1, 2), fusions=(1, 2))


@pytest.fixture(scope="module")
def task() -> nasplat.Task:
    return nasplat.load_task(
        "stereo-synthetic", height=24, width=48, largest=12, train=4, decide=3, test=3, fresh=False
    )


def trained(space: nasplat.Space, task: nasplat.Task, **options: object) -> nasplat.Supernet:
    supernet = nasplat.Supernet(space, task, seed=0)
    supernet.train(batch_size=2, watch=False, **options)  # type: ignore[arg-type]
    return supernet


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_every_strategy_trains_and_resumes_bit_by_bit(
    strategy: str, space: nasplat.Space, task: nasplat.Task, tmp_path: Path
) -> None:
    whole = trained(space, task, epochs=4, strategy=strategy)  # eight steps, every phase among them
    assert all(e.loss < 1e3 and not e.left_out for e in whole.history)
    half = nasplat.Supernet(space, task, seed=0)

    def stop(epoch: Epoch, total: int) -> None:
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half.train(epochs=4, strategy=strategy, batch_size=2, watch=False, checkpoint=tmp_path, report=stop)
    again = trained(space, task, epochs=4, strategy=strategy, checkpoint=tmp_path)
    assert again.fingerprint == whole.fingerprint


def test_the_teacher_of_a_sandwich_counts_beside_the_targets(space: nasplat.Space, task: nasplat.Task) -> None:
    without, full = (trained(space, task, epochs=1, strategy="sandwich", distill_weight=w) for w in (0.0, 0.5))
    assert without.fingerprint != full.fingerprint
    answers = [torch.zeros(1, 2, 2), torch.full((1, 2, 2), 3.0)]
    assert torch.equal(final(answers), answers[1])
    assert float(distillation_loss(answers, answers[1], "soft", 1.0)) == pytest.approx(
        2.5 / 2
    )  # smooth L1 of 3 and of 0


def test_bfloat16_keeps_disparities_in_float32(space: nasplat.Space, task: nasplat.Task) -> None:
    module = space.extreme(True).build().train()
    with torch.autocast("cpu", torch.bfloat16):
        maps = module(task.train.x[:2])
    assert {m.dtype for m in maps} == {torch.float32}
    assert {v.dtype for v, _, _ in maps.volumes} == {torch.bfloat16}
    exact, rounded = (trained(space, task, epochs=3, strategy="shrinking", bf16=b) for b in (False, True))
    assert exact.fingerprint != rounded.fingerprint
    assert rounded.history[-1].loss == pytest.approx(exact.history[-1].loss, rel=0.1)


def test_expansions_are_sorted(space: nasplat.Space, task: nasplat.Task) -> None:
    supernet = nasplat.Supernet(space, task, seed=0)
    x = task.test.x
    before = supernet.subnets.extract(space.extreme(True)).eval()(x)
    assert {n for n in supernet.sort_channels() if n.endswith("expand")} == {
        n for n in space.known if n.endswith("expand")
    }
    after = supernet.subnets.extract(space.extreme(True)).eval()(x)
    assert torch.allclose(before, after, atol=1e-4)
