"""Devices of this machine: their names, the conditions of a latency, and calibrations in the user's cache."""

from __future__ import annotations

import os
import platform
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from nasplat.errors import PredictorError
from nasplat.predict.latency import LatencyPredictor
from nasplat.predict.registry import load


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


@dataclass(frozen=True)
class Conditions:
    """Under which latencies hold."""

    device: str = "cpu"
    batch: int = 1
    runtime: str = "eager"
    precision: str = "float32"
    threads: int | None = None

    @property
    def folder(self) -> Path:
        """Of the calibration, in the user's cache."""
        threads = self.threads or torch.get_num_threads()
        words = (
            device_name(torch.device(self.device)),
            self.runtime,
            self.precision,
            f"{threads}-threads",
            f"batch-{self.batch}",
        )
        return cache() / "latency" / "_".join(re.sub(r"[^a-z0-9]+", "-", w.lower()).strip("-") for w in words)


def cache() -> Path:
    """The user's cache folder: $NASPLAT_CACHE, else nasplat in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("NASPLAT_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nasplat"


def calibrated(conditions: Conditions | None = None) -> LatencyPredictor | None:
    """The latency predictor of this device, if it was calibrated."""
    folder = (conditions or Conditions()).folder
    if not (folder / "recipe.toml").exists():
        return None
    try:
        found = load(folder)
    except PredictorError as err:  # a broken cache is no reason not to score
        warnings.warn(f"the latency calibration of this device is left out: {err}", stacklevel=2)
        return None
    return found if isinstance(found, LatencyPredictor) else None
