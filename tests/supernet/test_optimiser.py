"""The optimiser against torch's own on the sampled slices; steps that are not finite; slices that grow within a step."""

from __future__ import annotations

import pytest
import torch

from nasplat.supernet.optimiser import BETAS, EPSILON, MaskedAdamW
from nasplat.supernet.slicing import Rule, take

pytestmark = pytest.mark.fast

RULE = Rule(("leading", "leading", "centred", "centred"))
SHAPES = [(8, 6, 5, 5), (4, 6, 3, 3), (8, 3, 5, 5), (2, 2, 1, 1)]


def made(gathers: bool = False) -> MaskedAdamW:
    torch.manual_seed(0)
    return MaskedAdamW(
        {"w": torch.randn(8, 6, 5, 5), "b": torch.randn(8)}, {"w": RULE, "b": Rule(("leading",))}, 0.1, gathers=gathers
    )


@pytest.mark.parametrize("gathers", [False, True])
def test_updates_of_slices_equal_those_of_torch(gathers: bool) -> None:
    optimiser = made(gathers)
    generator = torch.Generator().manual_seed(1)
    for shape in SHAPES:
        # torch's optimiser on copies of the slice, with the moments and the step count the slice has by now
        weight = take(optimiser.weights["w"], shape, RULE, "w").clone().requires_grad_()
        theirs = torch.optim.AdamW([weight], lr=0.01, betas=BETAS, eps=EPSILON, weight_decay=0.1)
        moments = [take(m["w"], shape, RULE, "w").clone() for m in (optimiser.mean, optimiser.square)]
        theirs.state[weight] = {"step": optimiser.steps["w"].clone(), "exp_avg": moments[0], "exp_avg_sq": moments[1]}
        gradient = torch.randn(shape, generator=generator)
        outside = optimiser.weights["w"].clone()
        take(outside, shape, RULE, "w").fill_(0)
        weight.grad = gradient.clone()
        theirs.step()
        optimiser.add("w", gradient)
        optimiser.step(0.01, clip=1e9)
        assert torch.allclose(take(optimiser.weights["w"], shape, RULE, "w"), weight, atol=1e-6)
        left = optimiser.weights["w"].clone()
        take(left, shape, RULE, "w").fill_(0)
        assert torch.equal(left, outside)


def test_gradients_of_different_slices_add_up_and_are_clipped_together() -> None:
    optimiser = made()
    parts = [torch.ones(4, 6, 3, 3), 2 * torch.ones(8, 3, 5, 5), torch.ones(4, 6, 3, 3)]
    whole = torch.zeros(8, 6, 5, 5)
    for part in parts:
        take(whole, tuple(part.shape), RULE, "w").add_(part)
        optimiser.add("w", part.clone())
    optimiser.add("b", torch.full((3,), 5.0))
    assert torch.equal(optimiser.gradients["w"], whole)
    norm = optimiser.step(0.01, clip=1.0)
    assert norm is not None
    assert torch.allclose(norm, (whole.square().sum() + 75).sqrt())
    assert optimiser.gradients == {}
    assert optimiser.step(0.01, clip=1.0) is None
    assert torch.allclose(optimiser.mean["b"][:3], (1 - BETAS[0]) * 5.0 / norm.expand(3))
    assert torch.equal(optimiser.mean["b"][3:], torch.zeros(5))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_change_nothing(value: float) -> None:
    optimiser = made()
    optimiser.add("w", torch.randn(4, 6, 3, 3))
    optimiser.step(0.01, 1.0)
    before = {k: t.clone() for k, t in (optimiser.weights | optimiser.state()).items()}
    optimiser.add("w", torch.randn(4, 6, 3, 3))
    optimiser.add("b", torch.full((8,), value))
    norm = optimiser.step(0.01, 1.0)
    assert norm is not None
    assert not torch.isfinite(norm)
    assert all(torch.equal(before[k], t) for k, t in (optimiser.weights | optimiser.state()).items())


def test_dense_updates_move_all_of_a_touched_weight() -> None:
    optimiser = made()
    optimiser.dense = True
    before = optimiser.weights["w"].clone()
    optimiser.add("w", torch.randn(4, 6, 3, 3))
    optimiser.step(0.01, 1.0)
    assert (optimiser.weights["w"] != before).all()  # decay reaches what was not sampled


def test_one_step_without_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device reading a value is an error, as waiting for a GPU would be a cost."""
    with torch.device("meta"):
        weights = {"w": torch.empty(8, 6), "b": torch.empty(8)}
    optimiser = MaskedAdamW(weights, {"w": Rule(("leading", "leading")), "b": Rule(("leading",))}, 0.1, gathers=False)
    optimiser.steps = {k: torch.zeros(()) for k in weights}
    monkeypatch.setattr(optimiser, "_update", lambda *a: None)  # torch's own kernels do not exist there
    for shape in ((4, 6), (8, 2)):
        optimiser.add("w", torch.empty(shape, device="meta"))
    optimiser.add("b", torch.empty(8, device="meta"))
    norm = optimiser.step(0.01, 1.0)
    assert norm is not None
    assert norm.device.type == "meta"


def test_the_fused_update_leaves_out_a_step_without_the_host_knowing() -> None:
    """What a GPU does: the update itself is told that the gradient is not finite."""
    optimiser = made(gathers=True)
    optimiser.add("w", torch.randn(8, 6, 5, 5))
    optimiser.step(0.01, 1.0)
    before = {k: t.clone() for k, t in (optimiser.weights | optimiser.state()).items()}
    row = (
        optimiser.weights["w"],
        torch.full((8, 6, 5, 5), float("nan")),
        optimiser.mean["w"],
        optimiser.square["w"],
        optimiser.steps["w"],
    )
    optimiser._update([row], True, 0.1, 0.01, torch.ones(()))
    assert all(torch.equal(before[k], t) for k, t in (optimiser.weights | optimiser.state()).items())
    row = (*row[:1], torch.ones(8, 6, 5, 5), *row[2:])
    optimiser._update([row], True, 0.1, 0.01, torch.zeros(()))
    assert not torch.equal(before["w"], optimiser.weights["w"])


def test_moments_follow_a_weight_that_grows() -> None:
    optimiser = made()
    optimiser.add("w", torch.ones(8, 6, 5, 5))
    optimiser.step(0.01, 1e9)
    before = optimiser.mean["w"].clone()
    grown = torch.zeros(10, 6, 5, 5)
    grown[:8] = optimiser.weights["w"]
    optimiser.weights["w"], optimiser.weights["new"] = grown, torch.zeros(3)
    optimiser.add("w", torch.zeros(10, 6, 5, 5))
    optimiser.add("new", torch.ones(3))
    assert torch.equal(optimiser.mean["w"][:8], before)
    assert not optimiser.mean["w"][8:].any()
    optimiser.step(0.01, 1e9)
    assert optimiser.weights["new"].all()
