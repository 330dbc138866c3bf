"""Two processes train one supernet: same weights bit for bit, the gradient of the whole batch, and no loss by kill -9."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ranks
import torch

from nasplat.errors import SupernetError
from nasplat.supernet.processes import Processes, current

SCRIPT = Path(ranks.__file__)


def started(folder: Path, epochs: int, *words: str) -> list[subprocess.Popen[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(SCRIPT.parents[2])}
    return [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), str(epochs), *words],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def finished(processes: list[subprocess.Popen[str]], folder: Path) -> list[dict[str, Any]]:
    said = [p.communicate(timeout=240)[1] for p in processes]
    assert all(p.returncode == 0 for p in processes), said
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(len(processes))]


def killed(folder: Path, state: str, epoch: int, which: int) -> bool:
    """Start two processes, kill one with SIGKILL as soon as it is said that an epoch is in a state, end the other.

    True when it was still running then.
    """
    file = folder / state
    file.unlink(missing_ok=True)
    processes, said = started(folder, 12), ""
    while said != str(epoch) and all(p.poll() is None for p in processes):
        time.sleep(0.001)
        said = file.read_text(encoding="utf-8") if file.exists() else ""
    was_running = said == str(epoch) and processes[which].poll() is None
    processes[which].send_signal(signal.SIGKILL)
    for process in processes:
        process.terminate()
        process.communicate(timeout=60)
    return was_running


@pytest.mark.faults
def test_two_processes_hold_equal_weights_after_fifty_steps(tmp_path: Path) -> None:
    first, second = finished(started(tmp_path / "two", 10), tmp_path / "two")
    assert (first["size"], first["rank"], second["rank"]) == (2, 0, 1)
    assert first["fingerprint"] == second["fingerprint"]
    assert first["losses"] == second["losses"]
    alone = ranks.trained(None, 10)
    assert not torch.distributed.is_initialized()  # one process needs no group
    losses = [e.loss for e in alone.history]
    assert losses == pytest.approx(first["losses"], abs=2e-3)  # halves of a batch average to the whole


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("words", [("sandwich",), ("progressive",), ("ovo",), ("ovo", "supernet")], ids=" ".join)
def test_every_strategy_and_teacher_stays_equal(words: tuple[str, ...], tmp_path: Path) -> None:
    first, second = finished(started(tmp_path, 4, *words), tmp_path)
    assert first["fingerprint"] == second["fingerprint"]


@pytest.mark.faults
@pytest.mark.slow
def test_ten_kills_lose_nothing(tmp_path: Path) -> None:
    whole = finished(started(tmp_path / "whole", 12), tmp_path / "whole")[0]
    for i in range(10):  # while a checkpoint is written and afterwards, the process that writes it and the other
        assert killed(tmp_path / "broken", "saved" if i % 4 < 2 else "saving", i + 2, i % 2)
    last = finished(started(tmp_path / "broken", 12), tmp_path / "broken")
    assert [r["fingerprint"] for r in last] == [whole["fingerprint"]] * 2
    assert last[0]["losses"] == whole["losses"]


def test_one_process_is_alone() -> None:
    assert current() == Processes(0, 1)
    batch = torch.arange(7)
    assert torch.equal(Processes().share(batch), batch)
    assert [Processes(r, 2).share(batch).tolist() for r in range(2)] == [[0, 1, 2, 3], [4, 5, 6]]
    with pytest.raises(SupernetError, match="at least 2 examples for 2 processes, got 1"):
        Processes(0, 2).share(batch[:1])


def test_processes_that_disagree_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(found: list[str], mine: str) -> None:
        found[:] = [mine, "another"]

    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    Processes().check_equal("mine")
    with pytest.raises(SupernetError, match="the same weights in all 2 processes, got mine, another"):
        Processes(0, 2).check_equal("mine")
