"""A worker of a search whose candidates and surroundings fail on purpose; `test_faults.py` starts it as a process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import optuna
import torch
from commands import CELLS

import nasplat
from nasplat.study.captured import facts_of

FAULTS = ("exception", "memory", "nan", "kill")


def work(storage: str, trials: int, log: Path, faults: tuple[str, ...]) -> None:
    """Take part in a search.

    Args:
        storage: URL of the study.
        trials: Networks that all workers evaluate together.
        log: File that gets one line per evaluation begun: key and process.
        faults: What some of the candidates do, from `FAULTS`.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    space = nasplat.load_space("nasbench201", **CELLS)
    once = Path(f"{log}.killed")

    def quality(architecture: nasplat.Architecture) -> float:
        key = facts_of(architecture).key
        with open(log, "a", encoding="utf-8") as out:
            out.write(f"{key} {os.getpid()}\n")
        time.sleep(0.05)
        number = int(key[:6], 16) % 8
        if number < len(faults):
            fault = faults[number]
            if fault == "exception":
                raise RuntimeError("a candidate that does not train")
            if fault == "memory":
                raise MemoryError("no room for this candidate")
            if fault == "nan":
                return float("nan")
            if fault == "kill" and not (once / key).exists():  # the second attempt lives
                once.mkdir(exist_ok=True)
                (once / key).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return float(architecture.graph().macs)

    sampler = nasplat.UniqueRandomSampler(seed=0)
    nasplat.search(space, maximize=[quality], n_trials=trials, storage=storage, sampler=sampler)
