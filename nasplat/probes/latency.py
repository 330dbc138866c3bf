"""Latency of a forward pass on this machine: a median with an interval, under conditions that are written down.

A pass is timed once the passes before it are steady. The interval covers the binomial interval of the median (Conover
1999, section 3.2) and the medians of the three thirds of the passes, so that slow drift widens it. A fixed matrix
product, timed before and after, tells a machine that slowed down from a network that did.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from nasplat.errors import InputError
from nasplat.frontends.examples import Inputs
from nasplat.probes.conditions import Conditions, device_name
from nasplat.probes.onnx_writer import reason_of
from nasplat.probes.runtimes import runner
from nasplat.task.settings import overridden

FEWEST = 5
"""Timed passes that an interval needs at least."""
WINDOW = 5
"""Warm-up passes whose median is compared with that of as many passes before them."""
STEADY = 0.03
"""Relative difference of two windows' medians that counts as steady."""
WARMUP_PASSES, WARMUP_SECONDS = 200, 3.0
"""Passes and seconds after which a warm-up ends although the passes still get faster."""
DRIFT = 0.1
"""Relative slowing, from the first to the last third of the passes or of the reference, that is flagged."""
SPREAD = 0.2
"""Interquartile range, as a share of the median, that is flagged."""
REFERENCE = 256
"""Rows and columns of the matrices whose product is the reference."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one forward pass, with everything that decides them."""

    median_ms: float
    """Median of the timed passes, in milliseconds."""
    low_ms: float
    """Lower end of the median's interval, in milliseconds; it holds with 95 % where passes are independent."""
    high_ms: float
    """Upper end of the median's interval, in milliseconds."""
    batch: int
    """Examples in one pass."""
    threads: int
    """Threads within one operator."""
    dtype: str
    """Number format of weights and input, such as 'float32'."""
    device: str
    """Name of the processor or accelerator."""
    runtime: str
    """Program that ran the network, with its version."""
    repeats: int
    """Number of timed passes."""
    warmup: int = 0
    """Number of passes before them."""
    spread: float = 0.0
    """Interquartile range of the passes, as a share of the median."""
    drift: float = 0.0
    """Median of the last third of the passes over that of the first third, minus one."""
    machine_drift: float = 0.0
    """Time of the fixed matrix product after the passes over that before them, minus one."""
    reference_ms: float | None = None
    """Mean time of that product, in milliseconds, which says what the machine was able to do meanwhile."""
    clock_mhz: float | None = None
    """Clock of the processor after the last pass, in MHz; None where the system does not tell."""
    flags: tuple[str, ...] = ()
    """Reasons why the number should not be trusted; empty when there are none."""

    @property
    def is_trusted(self) -> bool:
        """Whether passes were steady and quiet, and the machine did not slow down."""
        return not self.flags

    @property
    def conditions(self) -> tuple[Any, ...]:
        """Batch, threads, precision, device and runtime, which two latencies must share to be compared."""
        return self.batch, self.threads, self.dtype, self.device, self.runtime

    def compare(self, other: Latency) -> str:
        """Say whether this network is faster than another one.

        Networks timed in turns met the same machine. Between separate runs its clock may have changed: intervals are
        widened by as much as the time of the matrix product has moved.

        Args:
            other: Latency of the other network, measured under the same conditions.

        Returns:
            'faster' or 'slower'; 'equal' where the intervals overlap.

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


class Clock(Protocol):
    """What times passes: a device, or a stand-in for it."""

    def seconds(self, one: Callable[[], Any]) -> float:
        """Time one pass.

        Args:
            one: Function that runs one pass.

        Returns:
            Seconds that it took.
        """
        ...

    def reference(self) -> float:
        """Time work that is always the same.

        Returns:
            Seconds that it took.
        """
        ...


def measure(
    module: nn.Module,
    example_input: Any,
    conditions: Conditions | None = None,
    repeats: int = 50,
    warmup: int | None = None,
    seed: int = 0,
    seconds: float | None = None,
    **changes: Any,
) -> Latency:
    """Time a module in eval mode on this machine.

    Args:
        module: Any module with real weights; it is left as it was.
        example_input: Shape of one input batch, a tensor, or a tuple or dict of these; the batch, which is the first
            axis of the first tensor and of those that are as long there, gets the size that the conditions say.
        conditions: Device, batch, runtime, precision and threads; by default one example on the CPU in eager torch.
        repeats: Number of timed passes; 50 give an interval of some percent on a quiet machine.
        warmup: Number of passes before them; None to go on until passes no longer get faster.
        seed: Number that decides the random input, where the example has no values.
        seconds: Time after which no further pass is timed, once there are five; None for no such limit.
        **changes: Fields of `Conditions` to change: device, batch, runtime, precision, threads.

    Returns:
        Median and interval in milliseconds, with the conditions and what is wrong with the number.

    Raises:
        InputError: there are fewer than 5 repeats, a change has another name, device, runtime or precision do not
            exist here, or the network does not run on the example input.

    Example:
        >>> import nasplat
        >>> found = nasplat.measure(torch.nn.Linear(8, 8), (1, 8), batch=4, repeats=5, warmup=0)
        >>> found.low_ms <= found.median_ms <= found.high_ms, found.batch
        (True, 4)
    """
    given = overridden(conditions or Conditions(), changes)
    return measure_together([(module, example_input)], given, repeats, warmup, seed, seconds)[0]


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
        networks: Module and example input of each network, as for `measure`; all are kept in memory.
        conditions: Device, batch, runtime, precision and threads; by default one example on the CPU in eager torch.
        repeats: Number of timed passes of each network.
        warmup: Number of passes before them; None to go on until passes no longer get faster.
        seed: Number that decides the random input, where the example has no values.
        seconds: Time for each network after which no further pass is timed, once there are five; None for no limit.

    Returns:
        One latency for each network, in order.

    Raises:
        InputError: there are fewer than 5 repeats, device, runtime or precision do not exist here, or a network does
            not run on its example input.

    Example:
        >>> small, large = torch.nn.Linear(8, 8), torch.nn.Linear(2048, 2048)
        >>> found = measure_together([(small, (1, 8)), (large, (1, 2048))], Conditions(batch=16), repeats=20)
        >>> found[0].compare(found[1])
        'faster'
    """
    if repeats < FEWEST:
        raise InputError(f"expected at least {FEWEST} repeats, got {repeats}.\n  An interval needs them.")
    c = conditions or Conditions()
    where = _device(c.device)
    for module, _ in networks:
        if not isinstance(module, nn.Module):
            raise InputError(f"expected a torch module, got {type(module).__name__}.\n  Wrap it in an nn.Module.")
    modes = [(m, m.training) for module, _ in networks for m in module.modules()]
    try:
        with _threads(c.threads), torch.inference_mode():
            threads, passes, runtime = torch.get_num_threads(), [], ""
            for module, example in networks:
                arguments = _batch(example, c.batch, seed)
                one, runtime = runner(module.eval(), arguments, c.runtime, c.precision, where, threads)
                passes.append(one)
            about = {
                "batch": c.batch,
                "threads": threads,
                "dtype": c.precision,
                "device": device_name(where),
                "runtime": runtime,
            }
            return [_summary(t, about) for t in _timed(passes, repeats, warmup, _DeviceClock(where), seconds)]
    finally:
        for m, was_training in modes:
            m.training = was_training


def _device(name: str) -> torch.device:
    """The torch device of a name, which must exist here."""
    try:
        device = torch.device(name)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise InputError("expected a CUDA device, torch sees none.\n  Use device='cpu'.")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as err:
        raise InputError(
            f"expected a device of this machine, got {name!r} ({reason_of(err)}).\n  Use device='cpu'."
        ) from err
    if device.type == "meta":
        raise InputError("expected a device that computes, got 'meta'.\n  Use device='cpu'.")
    return device


def _batch(example: Any, size: int, seed: int) -> Any:
    """Arguments of one forward pass: a batch of so many examples."""
    inputs = Inputs.of(example)
    if size < 1 or (inputs.batch is None and size != 1):
        raise InputError(
            f"expected a batch of at least 1, for inputs with a batch axis, got {size}.\n"
            "  A tensor without axes is one example."
        )
    return inputs.repeated(size, seed)


def time_passes(
    one: Callable[[], Any], repeats: int = 50, warmup: int | None = None, clock: Clock | None = None
) -> Latency:
    """Time any function that runs on the CPU.

    Args:
        one: Function that runs one pass.
        repeats: Number of timed passes.
        warmup: Number of passes before them; None to go on until passes no longer get faster.
        clock: What times a pass; None for this machine.

    Returns:
        Median and interval in milliseconds, with what is wrong with the number.
    """
    return time_together([one], repeats, warmup, clock)[0]


def time_together(
    ones: Sequence[Callable[[], Any]],
    repeats: int = 50,
    warmup: int | None = None,
    clock: Clock | None = None,
    seconds: float | None = None,
) -> list[Latency]:
    """Time functions that run on the CPU, in turns.

    Args:
        ones: Functions, each of which runs one pass.
        repeats: Number of timed passes of each function.
        warmup: Number of passes before them; None to go on until passes no longer get faster.
        clock: What times a pass; None for this machine.
        seconds: Time for each function after which no further pass is timed, once there are five; None for no limit.

    Returns:
        One latency for each function, in order.
    """
    cpu = torch.device("cpu")
    conditions = {
        "batch": 1,
        "threads": torch.get_num_threads(),
        "dtype": "",
        "device": device_name(cpu),
        "runtime": "a function",
    }
    return [_summary(t, conditions) for t in _timed(ones, repeats, warmup, clock or _DeviceClock(cpu), seconds)]


class _DeviceClock:
    """The clock of a torch device."""

    def __init__(self, device: torch.device) -> None:
        """Put the reference's matrix on the device."""
        self.device = device
        self.matrix = torch.ones(REFERENCE, REFERENCE, device=device)

    def seconds(self, one: Callable[[], Any]) -> float:
        """Time one pass, by the device's own events where it has them."""
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
        """Time ten products of two matrices and return the median."""
        return float(np.median([self.seconds(lambda: self.matrix @ self.matrix) for _ in range(15)][5:]))


@dataclass
class _Times:
    """Times of one network's passes, in seconds."""

    seconds: list[float] = field(default_factory=list)
    """Time of every timed pass."""
    warmup: int = 0
    """Number of passes before them."""
    is_steady: bool = True
    """Whether these no longer got faster."""
    before: float = 0.0
    """Time of the reference before the passes."""
    after: float = 0.0
    """Time of the reference after them."""


def _timed(
    passes: Sequence[Callable[[], Any]], repeats: int, warmup: int | None, clock: Clock, seconds: float | None = None
) -> list[_Times]:
    """Warm each network up, then time one pass of each in turns."""
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


def _warm(one: Callable[[], Any], warmup: int | None, clock: Clock) -> tuple[int, bool]:
    """Run passes until they no longer get faster; return how many ran, and whether the last ones were steady."""
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
    """Turn times into a median with an interval, and into flags."""
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
    """Read the clock of the first processor, in MHz; None where the system does not tell."""
    try:
        with open("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", encoding="utf-8") as file:
            return int(file.read()) / 1e3
    except (OSError, ValueError):
        return None


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Let torch's operators use so many threads inside the block; None changes nothing."""
    before = torch.get_num_threads()
    if number is not None:
        if number < 1:
            raise InputError(f"expected at least one thread, got {number}.\n  This machine has {os.cpu_count()} cores.")
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
