"""Latency of a forward pass on this machine: a median with an interval, under conditions that are written down.

A pass is timed once the passes before it are steady. The interval covers the binomial interval of the median (Conover 1999, section
3.2) and the medians of the three thirds of the passes, so that slow drift widens it. A fixed matrix product, timed before and
after, tells a machine that slowed down from a network that did.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from nasplat.errors import InputError
from nasplat.probes.conditions import Conditions, device_name
from nasplat.probes.runtimes import runner

FEWEST = 5
"""Timed passes: an interval needs them."""
WINDOW = 5
"""Passes whose median is compared with that of the passes before them."""
STEADY = 0.03
"""Relative difference of two windows' medians that counts as steady."""
WARMUP_PASSES, WARMUP_SECONDS = 200, 3.0
"""Warm-up at most."""
DRIFT = 0.1
"""Relative slowing, between the first and the last third of passes or of the reference, that is flagged."""
SPREAD = 0.2
"""Interquartile range over the median that is flagged."""
REFERENCE = 256
"""Side of the reference's square matrices."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one forward pass, with everything that decides them."""

    median_ms: float
    low_ms: float
    """Lower end of the interval of the median, 95 % where passes are independent."""
    high_ms: float
    """Upper end of it."""
    batch: int
    threads: int
    dtype: str
    """Precision of weights and input."""
    device: str
    runtime: str
    """eager torch, compiled, CUDA graph or ONNX Runtime, with its version."""
    repeats: int
    """Timed passes."""
    warmup: int = 0
    """Passes before."""
    spread: float = 0.0
    """Interquartile range over the median."""
    drift: float = 0.0
    """Last third of the passes over the first third, minus one."""
    machine_drift: float = 0.0
    """The same of a fixed matrix product, after over before."""
    reference_ms: float | None = None
    """Of that product: what the machine was able to do meanwhile."""
    clock_mhz: float | None = None
    """Of the processor at the end, where the system tells."""
    flags: tuple[str, ...] = ()
    """Why the number should not be trusted; empty when nothing was seen."""

    @property
    def is_trusted(self) -> bool:
        """Steady, quiet, and the machine did not slow down."""
        return not self.flags

    @property
    def conditions(self) -> tuple[Any, ...]:
        """What two latencies must share to be compared."""
        return self.batch, self.threads, self.dtype, self.device, self.runtime

    def compare(self, other: Latency) -> str:
        """faster, slower, or equal where the intervals overlap.

        Networks timed in turns met the same machine. Between separate runs its clock may have changed: intervals are widened by as much
        as the reference has moved.

        Raises:
            InputError: the two were measured under different conditions.
        """
        if self.conditions != other.conditions:
            raise InputError(
                f"expected latencies of one batch, threads, precision, device and runtime, got {self.conditions} and "
                f"{other.conditions}.\n  Measure both alike."
            )
        moved = self.reference_ms / other.reference_ms if self.reference_ms and other.reference_ms else 1.0
        margin = max(moved, 1 / moved)
        if self.high_ms * margin < other.low_ms:
            return "faster"
        return "slower" if self.low_ms > other.high_ms * margin else "equal"


def measure(
    module: nn.Module,
    example_input: Any,
    batch: int = 1,
    repeats: int = 50,
    warmup: int | None = None,
    device: str = "cpu",
    seed: int = 0,
    runtime: str = "eager",
    precision: str = "float32",
    threads: int | None = None,
    seconds: float | None = None,
) -> Latency:
    """Time a module in eval mode.

    Args:
        module: Any module with real weights; it is left as it was.
        example_input: Shape tuple of one batch, or a tensor; the first axis is replaced by `batch`.
        batch: Examples per pass.
        repeats: Timed passes.
        warmup: Passes before; by default until they are steady.
        device: "cpu", "cuda" or "cuda:1".
        seed: Decides the random input.
        runtime: eager, compiled, cuda-graph or onnxruntime.
        precision: float32, bfloat16 or float16.
        threads: Within an operator; torch's own number by default.
        seconds: Timed passes take about that long at most, but there are at least five.

    Returns:
        Median, interval, conditions and flags.

    Raises:
        InputError: fewer than 5 repeats, or device, runtime or precision are not there.
    """
    conditions = Conditions(device, batch, runtime, precision, threads)
    return measure_together([(module, example_input)], conditions, repeats, warmup, seed, seconds)[0]


def measure_together(
    networks: Sequence[tuple[nn.Module, Any]],
    conditions: Conditions | None = None,
    repeats: int = 50,
    warmup: int | None = None,
    seed: int = 0,
    seconds: float | None = None,
) -> list[Latency]:
    """Time modules in turns, so that what the machine does meanwhile meets all of them alike.

    Args:
        networks: (module, example input) each; all are kept in memory.
        conditions: Device, batch, runtime, precision and threads; the CPU, one example, eager torch by default.
        repeats: As for `measure`, of each.
        warmup: As for `measure`.
        seed: As for `measure`.
        seconds: As for `measure`, of each.

    Returns:
        One latency each, in order.

    Raises:
        InputError: as for `measure`.
    """
    if repeats < FEWEST:
        raise InputError(f"expected at least {FEWEST} repeats, got {repeats}.\n  An interval needs them.")
    c = conditions or Conditions()
    where = torch.device(c.device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise InputError("expected a CUDA device, torch sees none.\n  Use device='cpu'.")
    modes = [(m, m.training) for module, _ in networks for m in module.modules()]
    try:
        with _threads(c.threads), torch.inference_mode():
            threads, passes, runtime = torch.get_num_threads(), [], ""
            for module, example in networks:
                shape = tuple(example.shape) if isinstance(example, torch.Tensor) else tuple(example)
                x = torch.randn(c.batch, *shape[1:], generator=torch.Generator().manual_seed(seed))
                one, runtime = runner(module.eval(), x, c.runtime, c.precision, where, threads)
                passes.append(one)
            about = {
                "batch": c.batch,
                "threads": threads,
                "dtype": c.precision,
                "device": device_name(where),
                "runtime": runtime,
            }
            return [_summary(t, about) for t in _timed(passes, repeats, warmup, _Clock(where), seconds)]
    finally:
        for m, was_training in modes:
            m.training = was_training


def time_passes(one: Callable[[], Any], repeats: int = 50, warmup: int | None = None, clock: Any = None) -> Latency:
    """Time anything that runs on the CPU; see `time_together`."""
    return time_together([one], repeats, warmup, clock)[0]


def time_together(
    ones: Sequence[Callable[[], Any]],
    repeats: int = 50,
    warmup: int | None = None,
    clock: Any = None,
    seconds: float | None = None,
) -> list[Latency]:
    """Time functions that run on the CPU, in turns.

    Args:
        ones: Each runs one pass.
        repeats: Timed passes of each.
        warmup: Passes before; by default until they are steady.
        clock: Has `seconds(function)` and `reference()`; this machine's by default.
        seconds: Timed passes of each take about that long at most, but there are at least five.
    """
    cpu = torch.device("cpu")
    conditions = {
        "batch": 1,
        "threads": torch.get_num_threads(),
        "dtype": "",
        "device": device_name(cpu),
        "runtime": "a function",
    }
    return [_summary(t, conditions) for t in _timed(ones, repeats, warmup, clock or _Clock(cpu), seconds)]


class _Clock:
    """Seconds of a pass on a device, and of the reference."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.matrix = torch.ones(REFERENCE, REFERENCE, device=device)

    def seconds(self, one: Callable[[], Any]) -> float:
        if self.device.type == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize(self.device)
            start.record()
            one()
            end.record()
            torch.cuda.synchronize(self.device)
            return start.elapsed_time(end) / 1e3
        started = time.perf_counter()
        one()
        return time.perf_counter() - started

    def reference(self) -> float:
        return float(np.median([self.seconds(lambda: self.matrix @ self.matrix) for _ in range(15)][5:]))


@dataclass
class _Times:
    seconds: list[float] = field(default_factory=list)
    warmup: int = 0
    is_steady: bool = True
    before: float = 0.0
    after: float = 0.0


def _timed(
    passes: Sequence[Callable[[], Any]], repeats: int, warmup: int | None, clock: Any, seconds: float | None = None
) -> list[_Times]:
    found = [_Times() for _ in passes]
    for one, times in zip(passes, found, strict=True):
        times.warmup, times.is_steady = _warm(one, warmup, clock)
    before = clock.reference()
    for done in range(repeats):
        if seconds is not None and done >= FEWEST and sum(sum(t.seconds) for t in found) > seconds * len(found):
            break
        for one, times in zip(passes, found, strict=True):
            times.seconds.append(clock.seconds(one))
    after = clock.reference()
    for times in found:
        times.before, times.after = before, after
    return found


def _warm(one: Callable[[], Any], warmup: int | None, clock: Any) -> tuple[int, bool]:
    """How many passes ran, and whether the last ones were steady."""
    if warmup is not None:
        for _ in range(warmup):
            clock.seconds(one)
        return warmup, True
    last, passes, spent = float("inf"), 0, 0.0
    while passes < WARMUP_PASSES and (spent < WARMUP_SECONDS or passes < 2 * WINDOW):
        window = [clock.seconds(one) for _ in range(WINDOW)]
        passes, spent, now = passes + WINDOW, spent + sum(window), float(np.median(window))
        if now > (1 - STEADY) * last:  # no longer getting faster
            return passes, True
        last = now
    return passes, False


def _summary(times: _Times, conditions: dict[str, Any]) -> Latency:
    ms = np.array(times.seconds) * 1e3
    n, ordered = len(ms), np.sort(ms)
    half = 0.98 * np.sqrt(n)  # 1.96 / 2 · sqrt(n): binomial order statistics of the median
    low, high = int(max(0, np.floor(n / 2 - half))), int(min(n - 1, np.ceil(n / 2 + half)))
    thirds = [float(np.median(part)) for part in np.array_split(ms, 3)]
    median = float(np.median(ordered))
    quarter = np.quantile(ordered, [0.25, 0.75])
    spread = float(quarter[1] - quarter[0]) / median
    drift, machine = thirds[2] / thirds[0] - 1, times.after / times.before - 1
    flags = []
    if not times.is_steady:
        flags.append(f"still getting faster after {times.warmup} warm-up passes")
    if drift > DRIFT:
        flags.append(f"slowed down by {drift:.0%} over the passes: throttled or disturbed")
    if machine > DRIFT:
        flags.append(f"the machine slowed down by {machine:.0%}: throttled or disturbed")
    if spread > SPREAD:
        flags.append(f"noisy: the middle half of the passes spans {spread:.0%} of the median")
    return Latency(
        median,
        min(float(ordered[low]), *thirds),
        max(float(ordered[high]), *thirds),
        **conditions,
        repeats=n,
        warmup=times.warmup,
        spread=spread,
        drift=drift,
        machine_drift=machine,
        reference_ms=(times.before + times.after) / 2 * 1e3,
        clock_mhz=_clock_mhz(),
        flags=tuple(flags),
    )


def _clock_mhz() -> float | None:
    try:
        with open("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", encoding="utf-8") as file:
            return int(file.read()) / 1e3
    except (OSError, ValueError):
        return None


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if number is not None:
        if number < 1:
            raise InputError(f"expected at least one thread, got {number}.\n  This machine has {os.cpu_count()} cores.")
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
