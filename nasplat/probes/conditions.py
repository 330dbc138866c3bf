"""Conditions under which a latency holds, such as device, batch and threads, and their folder in the user's cache."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import torch

LATENCY_MS = "latency_ms"
"""Name of the latency of one forward pass, in milliseconds, wherever a cost, a limit or a label is named."""


def device_name(device: torch.device) -> str:
    """Say what a device is called by its maker.

    Args:
        device: Torch device, such as `torch.device("cpu")` or `torch.device("cuda:0")`.

    Returns:
        Name of the processor or accelerator; the architecture of the machine where the system tells no name.

    Example:
        >>> device_name(torch.device("cpu")) != ""
        True
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            names = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


@dataclass(frozen=True)
class Conditions:
    """Conditions under which latencies hold; two latencies can be compared when all of them agree.

    Example:
        >>> Conditions(batch=8, threads=2).folder.name.endswith("_eager_float32_2-threads_batch-8")
        True
    """

    device: str = "cpu"
    """Torch device that runs the network: 'cpu', 'cuda' or 'cuda:1'."""
    batch: int = 1
    """Examples in one forward pass."""
    runtime: str = "eager"
    """Program that runs the network: 'eager', 'compiled', 'cuda-graph' or 'onnxruntime'."""
    precision: str = "float32"
    """Number format of weights and input: 'float32', 'bfloat16' or 'float16'."""
    threads: int | None = None
    """Threads within one operator; None stands for torch's current number."""

    @property
    def folder(self) -> Path:
        """Folder in the user's cache that holds the latency predictor calibrated under these conditions."""
        words = (
            device_name(torch.device(self.device)),
            self.runtime,
            self.precision,
            f"{self.threads or torch.get_num_threads()}-threads",
            f"batch-{self.batch}",
        )
        return cache() / "latency" / "_".join(re.sub(r"[^a-z0-9]+", "-", w.lower()).strip("-") for w in words)


def cache() -> Path:
    """Find the folder in which this user's calibrations and shared supernets are kept.

    Returns:
        The folder named by $NASPLAT_CACHE; else `nasplat` in $XDG_CACHE_HOME or in ~/.cache. It need not exist yet.
    """
    own = os.environ.get("NASPLAT_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nasplat"
