"""Processes of one thread each."""

from __future__ import annotations

import os

import pytest

from nasplat.study.pool import ONE_THREAD, cores, one_thread, pool


def test_processes_of_a_pool_have_one_thread_and_the_parent_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    with pool(1) as processes:
        assert processes.map(os.getenv, list(ONE_THREAD)) == list(ONE_THREAD.values())
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "OMP_WAIT_POLICY" not in os.environ


def test_the_environment_comes_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with pytest.raises(ZeroDivisionError), one_thread():
        _ = 1 / (int(os.environ["OMP_NUM_THREADS"]) - 1)
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert cores() >= 1
