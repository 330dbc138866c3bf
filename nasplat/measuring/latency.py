"""Latency of a forward pass on this machine: the plain median with an interval."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from nasplat.errors import InputError


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one forward pass, with everything that decides them."""

    median_ms: float
    low_ms: float
    """Lower end of the 95 % interval of the median."""
    high_ms: float
    """Upper end of the 95 % interval of the median."""
    batch: int
    threads: int
    dtype: str
    device: str
    runtime: str
    """eager torch, with its version."""
    repeats: int


def device_name(device: torch.device) -> str:
    """Name of the processor or accelerator."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            names = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def measure(
    module: nn.Module,
    example_input: Any,
    batch: int = 1,
    repeats: int = 50,
    warmup: int = 10,
    device: str = "cpu",
    seed: int = 0,
) -> Latency:
    """Time a module in eval mode.

    Args:
        module: Any module with real weights.
        example_input: Shape tuple of one batch, or a tensor; the first axis is replaced by `batch`.
        batch: Examples per pass.
        repeats: Timed passes.
        warmup: Passes before.
        device: "cpu" or "cuda".
        seed: Decides the random input.

    Returns:
        Median and its 95 % interval, from order statistics.

    Raises:
        InputError: fewer than 5 repeats, or the device is not there.
    """
    if repeats < 5:
        raise InputError(f"expected at least 5 repeats, got {repeats}.\n  An interval needs them.")
    where = torch.device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise InputError("expected a CUDA device, torch sees none.\n  Use device='cpu'.")
    generator = torch.Generator().manual_seed(seed)
    shape = tuple(example_input.shape) if isinstance(example_input, torch.Tensor) else tuple(example_input)
    x = torch.randn(batch, *shape[1:], generator=generator).to(where)
    was_training = module.training
    module = module.to(where).eval()
    times = []
    with torch.inference_mode():
        for i in range(warmup + repeats):
            _wait(where)
            started = time.perf_counter()
            module(x)
            _wait(where)
            if i >= warmup:
                times.append((time.perf_counter() - started) * 1e3)
    module.train(was_training)
    ordered = np.sort(times)
    half = 0.98 * np.sqrt(repeats)  # 1.96 / 2 · sqrt(n): binomial order statistics of the median
    low, high = int(max(0, np.floor(repeats / 2 - half))), int(min(repeats - 1, np.ceil(repeats / 2 + half)))
    return Latency(
        float(np.median(ordered)),
        float(ordered[low]),
        float(ordered[high]),
        batch,
        torch.get_num_threads(),
        "float32",
        device_name(where),
        f"torch {torch.__version__} eager",
        repeats,
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
