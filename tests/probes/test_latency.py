"""Latencies say under which conditions they hold, and when not to trust them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import nasplat
from nasplat.errors import InputError
from nasplat.probes import Conditions, measure_together, time_passes


class Clock:
    """A machine whose passes and references take the seconds that a function of the time gone by says."""

    def __init__(
        self, seconds: Callable[[float], float], reference: Callable[[float], float] = lambda now: 1e-3
    ) -> None:
        self.pass_seconds, self.reference_seconds, self.now = seconds, reference, 0.0

    def seconds(self, one: Callable[[], Any]) -> float:
        one()
        spent = self.pass_seconds(self.now)
        self.now += spent
        return spent

    def reference(self) -> float:
        return self.reference_seconds(self.now)


def cycle(*values: float) -> Callable[[float], float]:
    def forever() -> Iterator[float]:
        while True:
            yield from values

    numbers = forever()
    return lambda now: next(numbers)


def test_latency_has_conditions_an_interval_and_leaves_the_module() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Dropout()).train()
    found = nasplat.measure(module, (1, 8), batch=4, repeats=20, warmup=2, threads=1)
    assert 0 < found.low_ms <= found.median_ms <= found.high_ms
    assert (found.batch, found.repeats, found.dtype, found.threads, found.warmup) == (4, 20, "float32", 1, 2)
    assert "eager" in found.runtime
    assert module.training
    assert module[1].training


@pytest.mark.parametrize(("settings", "message"), [
    ({"repeats": 2}, "at least 5 repeats, got 2"),
    ({"runtime": "tpu"}, "a runtime among eager"),
    ({"precision": "int3"}, "got 'eager' and 'int3'"),
    ({"runtime": "cuda-graph"}, "expected device='cuda'"),
    ({"runtime": "onnxruntime", "precision": "bfloat16"}, "expected precision float32"),
    ({"threads": 0}, "at least one thread"),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        nasplat.measure(nn.Linear(2, 2), (1, 2), **settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_devices_are_refused() -> None:
    with pytest.raises(InputError, match="torch sees none"):
        nasplat.measure(nn.Linear(2, 2), (1, 2), device="cuda")


class Kinds(nn.Module):
    """Takes tokens and numbers, answers two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.layer = nn.Embedding(9, 4), nn.Linear(3, 4)
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, ids: torch.Tensor, x: torch.Tensor, table: torch.Tensor | None = None) -> Any:
        self.sizes.append(tuple(ids.shape))
        return self.rows(ids).sum(1) + self.layer(x), ids


@pytest.mark.parametrize(("precision", "runtime"), [
    ("float32", "eager"), ("float16", "eager"), ("float64", "eager"), ("float32", "onnxruntime")
])  # fmt: skip
@pytest.mark.parametrize("named", [True, False])
def test_networks_of_several_inputs_and_outputs_are_timed(precision: str, runtime: str, named: bool) -> None:
    if runtime == "onnxruntime" and named:
        pytest.skip("one file is enough")
    module, ids = Kinds(), torch.tensor([[1, 8]])
    example: Any = {"x": (1, 3), "ids": ids, "table": None} if named else (ids, (1, 3))
    found = nasplat.measure(module, example, batch=5, repeats=5, warmup=0, precision=precision, runtime=runtime)
    assert (found.batch, found.dtype) == (5, precision)
    if precision == "float32" and runtime == "eager":
        assert set(module.sizes) == {(5, 2)}


@pytest.mark.parametrize(("module", "example", "settings", "message"), [
    (nn.Linear(2, 2), (1, 3), {}, r"runs on float32 \(4, 3\) in float32 on cpu, it raised RuntimeError: mat1 and mat2"),
    (nn.Embedding(9, 4), (1, 3), {}, "it raised RuntimeError: Expected tensor for argument #1 'indices'"),
    (nn.Linear(2, 2), torch.tensor(1.0), {}, "for inputs with a batch axis, got 4"),
    (nn.Linear(2, 2), (1, 2), {"batch": 0}, "expected a batch of at least 1"),
    (lambda x: x, (1, 2), {}, "expected a torch module, got function"),
    (nn.Linear(2, 2), (1, 2), {"device": "tpu"}, "expected a device of this machine, got 'tpu'"),
    (nn.Linear(2, 2), (1, 2), {"device": "meta"}, "expected a device that computes"),
])  # fmt: skip
def test_networks_that_do_not_run_say_why(module: Any, example: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        nasplat.measure(module, example, **({"batch": 4} | settings))


@pytest.mark.parametrize(("runtime", "precision"), [("eager", "bfloat16"), ("onnxruntime", "float32")])
def test_other_runtimes_and_precisions_run_a_copy(runtime: str, precision: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    before = {k: v.clone() for k, v in module.state_dict().items()}
    found = nasplat.measure(module, (1, 1, 8, 8), repeats=5, runtime=runtime, precision=precision)
    assert found.dtype == precision
    assert ("ONNX" in found.runtime) == (runtime == "onnxruntime")
    assert all(torch.equal(v, before[k]) and v.dtype == before[k].dtype for k, v in module.state_dict().items())


@pytest.mark.slow
def test_compiled_modules_are_timed() -> None:
    assert "compiled" in nasplat.measure(nn.Linear(4, 4), (1, 4), repeats=5, runtime="compiled").runtime


def test_warm_up_ends_when_passes_are_steady() -> None:
    found = time_passes(lambda: None, 30, clock=Clock(lambda now: 1e-3 + 0.02 * 0.8 ** (now / 1e-3)))
    assert found.warmup >= 15
    assert found.median_ms == pytest.approx(1.0, rel=0.05)
    assert found.is_trusted
    never = time_passes(lambda: None, 30, clock=Clock(lambda now: 1.0 / (1.0 + now)))
    assert "still getting faster" in never.flags[0]


def test_throttled_and_noisy_runs_are_flagged() -> None:
    calm = time_passes(lambda: None, 40, clock=Clock(cycle(1.00e-3, 1.01e-3, 0.99e-3)))
    assert calm.is_trusted
    slowing = time_passes(lambda: None, 40, warmup=0, clock=Clock(lambda now: 1e-3 * (1 + 20 * now)))
    assert "slowed down by" in slowing.flags[0]
    assert slowing.low_ms < slowing.median_ms * 0.9 < slowing.median_ms * 1.1 < slowing.high_ms
    hot = time_passes(lambda: None, 40, warmup=0, clock=Clock(lambda now: 1e-3, lambda now: 1e-3 * (1 + 10 * now)))
    assert hot.flags == (f"the machine slowed down by {hot.machine_drift:.0%}: throttled or disturbed",)
    noisy = time_passes(lambda: None, 40, warmup=0, clock=Clock(cycle(1e-3, 3e-3)))
    assert "noisy" in noisy.flags[-1]


def test_overlapping_intervals_are_equal() -> None:
    fast = time_passes(lambda: None, 40, warmup=0, clock=Clock(cycle(1.00e-3, 1.02e-3)))
    alike = time_passes(lambda: None, 40, warmup=0, clock=Clock(cycle(1.01e-3, 1.03e-3)))
    slow = time_passes(lambda: None, 40, warmup=0, clock=Clock(cycle(2.00e-3, 2.02e-3)))
    assert (fast.compare(alike), fast.compare(slow), slow.compare(fast)) == ("equal", "faster", "slower")
    with pytest.raises(InputError, match="of one batch"):
        fast.compare(replace(fast, batch=2))


def test_another_clock_of_the_machine_is_no_difference() -> None:
    before = time_passes(lambda: None, 40, warmup=0, clock=Clock(cycle(1.00e-3, 1.01e-3)))
    turbo = time_passes(lambda: None, 40, warmup=0, clock=Clock(cycle(0.95e-3, 0.96e-3), lambda now: 0.93e-3))
    half = time_passes(lambda: None, 40, warmup=0, clock=Clock(cycle(0.50e-3, 0.51e-3), lambda now: 0.93e-3))
    assert (before.compare(turbo), turbo.compare(before)) == ("equal", "equal")
    assert (before.compare(half), half.compare(before)) == ("slower", "faster")
    assert replace(before, reference_ms=None).compare(turbo) == "slower"


def test_networks_are_timed_in_turns() -> None:
    order: list[str] = []

    class Says(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            order.append(self.name)
            return x

    found = measure_together([(Says("a"), (1, 2)), (Says("b"), (1, 2))], repeats=5, warmup=0)
    assert len(found) == 2
    assert order == ["a", "b"] * 5


def test_slow_networks_get_fewer_passes() -> None:
    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(200):
                x = x @ x
            return x

    assert nasplat.measure(Slow(), (64, 64), batch=64, repeats=1000, warmup=0, seconds=0.02).repeats < 1000


def test_conditions_are_given_whole_or_by_name() -> None:
    whole = nasplat.measure(nn.Linear(2, 2), (1, 2), Conditions(batch=3), repeats=5, warmup=0)
    changed = nasplat.measure(nn.Linear(2, 2), (1, 2), Conditions(batch=8), repeats=5, warmup=0, batch=3)
    assert whole.conditions == changed.conditions
    with pytest.raises(InputError, match=r"among device, batch, runtime, precision, threads, got 'machine'"):
        nasplat.measure(nn.Linear(2, 2), (1, 2), machine="mine")
