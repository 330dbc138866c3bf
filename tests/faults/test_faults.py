"""Whatever fails, trials are neither lost nor counted twice: four workers on a PostgreSQL server that the test starts."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
import pytest
from clean import FRESH
from commands import TINY, VIT, presets
from disk import largest_file
from failing_worker import FAULTS, work
from optuna.trial import TrialState

import nasplat
from nasplat.errors import SearchError
from nasplat.study import liveness
from nasplat.study.ledger import Ledger, is_counted
from nasplat.study.liveness import Watch
from nasplat.study.storage import open_storage

TRIALS = int(os.environ.get("NASPLAT_FAULT_TRIALS", "32"))
"""Length of the run with failing candidates; `-s` shows how often each fault was met."""


def tools() -> Path | None:
    """Folder of the server's programs."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return folders[0] if folders and (folders[0] / "initdb").exists() else None


class Server:
    """PostgreSQL on loopback, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.folder = tools(), folder
        # the server refuses to run as root
        self.user = "postgres" if getpass.getuser() == "root" else None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql://tester@127.0.0.1:{self.port}/postgres"
        folder.mkdir(parents=True)
        if self.user:
            shutil.chown(folder, self.user)
        self.run("initdb", "-D", str(folder / "data"), "-U", "tester", "-A", "trust")

    def run(self, program: str, *arguments: str) -> None:
        assert self.bin is not None
        subprocess.run([self.bin / program, *arguments], check=True, capture_output=True, user=self.user, cwd="/")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self.run(
            "pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self, mode: str = "immediate") -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", mode, "-w", "stop")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if tools() is None:
        pytest.skip("PostgreSQL's initdb is not installed")
    pytest.importorskip("psycopg", reason="install nasplat[postgres]")
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        found = Server(Path(made) / "server")
        found.start()
        try:
            yield found
        finally:
            found.stop()


def start(url: str, trials: int, log: Path, *faults: str) -> BaseProcess:
    process = FRESH.Process(target=work, args=(url, trials, log, faults), daemon=True)
    process.start()
    return process


def finish(workers: list[BaseProcess], again: Callable[[], BaseProcess]) -> int:
    """Wait for all; those that were killed are started again. Returns how many were."""
    restarted = 0
    while workers:
        wait([w.sentinel for w in workers])
        for worker in [w for w in workers if w.exitcode is not None]:
            workers.remove(worker)
            if worker.exitcode == -signal.SIGKILL:
                restarted += 1
                workers.append(again())
            else:
                assert worker.exitcode == 0  # what it raised is on stderr
    return restarted


def verdict(url: str, wanted: int) -> list[optuna.trial.FrozenTrial]:
    """All trials; exactly the wanted number count, each another network, and none is left running."""
    study = optuna.load_study(study_name="nasplat", storage=open_storage(url))
    trials = study.get_trials(deepcopy=False)
    counted = [t for t in trials if is_counted(t)]
    assert len(counted) == wanted
    keys = Counter(t.user_attrs["key"] for t in counted)
    assert max(keys.values()) == 1
    assert not [t.number for t in trials if not t.state.is_finished()]
    return trials


def test_candidates_that_fail_and_workers_that_are_killed(server: Server, tmp_path: Path) -> None:
    log = tmp_path / "log"
    new = partial(start, server.url, TRIALS, log, *FAULTS)
    restarted = finish([new() for _ in range(4)], new)
    trials = verdict(server.url, TRIALS)
    assert restarted >= 1
    reasons = Counter(
        "traceback" if "traceback" in t.user_attrs else "reason"
        for t in trials
        if t.state == TrialState.FAIL and is_counted(t)
    )
    assert reasons["traceback"] >= 2
    assert reasons["reason"] >= 1
    text = [str(t.user_attrs.get("traceback")) for t in trials]
    raised = {
        name: sum(name in t for t in text) for name in ("RuntimeError: a candidate that does not train", "MemoryError")
    }
    assert min(raised.values()) >= 1
    print(f"{TRIALS} trials, 4 workers: {raised}, NaN {reasons['reason']}, {restarted} workers killed, 0 lost, 0 twice")
    died = [t for t in trials if "died" in t.user_attrs]
    retried = {t.user_attrs["retry_of"]: t for t in trials if "retry_of" in t.user_attrs}
    assert len(died) == restarted
    assert all(retried[t.number].state == TrialState.COMPLETE for t in died if "key" in t.user_attrs)
    begun = Counter(line.split()[0] for line in log.read_text(encoding="utf-8").splitlines())
    killed = {t.user_attrs["key"] for t in died}
    assert all(n == (2 if key in killed else 1) for key, n in begun.items())
    optuna.delete_study(study_name="nasplat", storage=open_storage(server.url))


def test_the_database_restarts_under_four_workers(server: Server, tmp_path: Path) -> None:
    new = partial(start, server.url, 24, tmp_path / "log")
    workers = [new() for _ in range(4)]
    study = None
    for done in (5, 14):
        while study is None or len(study.get_trials(deepcopy=False)) < done:
            time.sleep(0.1)
            try:
                study = optuna.load_study(study_name="nasplat", storage=open_storage(server.url))
            except KeyError:
                continue
        server.stop("immediate")
        time.sleep(0.5)  # every worker meets the gap
        server.start()
    assert finish(workers, new) == 0
    trials = verdict(server.url, 24)
    assert all(t.state in {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL} for t in trials)
    optuna.delete_study(study_name="nasplat", storage=open_storage(server.url))


def test_a_search_with_workers_ends_when_its_coordinator_is_killed_and_resumes(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "nasplat", "search", "vit", "--maximize", "trained", "--guide", "none"]
    words += ["--trials", "8", "--workers", "2", "--out", str(tmp_path / "run"), *presets(VIT), f"--task={TINY}"]
    words += ["--storage", str(tmp_path / "s.journal")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}

    def done() -> int:
        try:
            study = optuna.load_study(study_name="nasplat", storage=open_storage(str(tmp_path / "s.journal")))
        except KeyError:
            return 0
        ledger = Ledger()
        ledger.update(study)
        return ledger.done

    coordinator = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while done() < 2:
        time.sleep(0.05)
        assert coordinator.poll() is None
    coordinator.kill()
    coordinator.wait()
    before = done()
    subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert done() == 8 >= before
    study = optuna.load_study(study_name="nasplat", storage=open_storage(str(tmp_path / "s.journal")))
    keys = [t.user_attrs["key"] for t in study.trials if is_counted(t)]
    assert len(set(keys)) == 8
    assert (tmp_path / "run" / "report.html").exists()


@pytest.fixture
def journal(vit: nasplat.Space, tmp_path: Path) -> Path:
    """Journal of a search with four finished trials."""
    found = tmp_path / "s.journal"
    assert grown(vit, found, 4) == 4
    return found


def grown(space: nasplat.Space, journal: Path, trials: int) -> int:
    """The same search, gone on with: number of its finished trials."""
    study = nasplat.search(space, maximize=["macs"], n_trials=trials, storage=str(journal))
    return len(study.get_trials(states=(TrialState.COMPLETE,)))


def test_a_full_disk_stops_cleanly(vit: nasplat.Space, journal: Path) -> None:
    size = journal.stat().st_size
    with largest_file(size + 900), pytest.raises(SearchError, match=r"storage is full.*s\.journal"):
        grown(vit, journal, 50)
    assert journal.read_bytes().endswith(b"\n")  # the record for which there was no room is gone as a whole
    assert grown(vit, journal, 8) == 8


@pytest.mark.parametrize("torn", [b'{"op_code":8,"worker_id":"x","trial', b"\0" * 50, b"}", b'{"op_code":8}'])
def test_a_torn_last_line_is_read_without_and_cut_by_the_next_writer(
    vit: nasplat.Space, journal: Path, caplog: pytest.LogCaptureFixture, torn: bytes
) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    study = optuna.load_study(study_name="nasplat", storage=open_storage(str(journal)))
    assert len(study.trials) == 4
    assert journal.read_bytes() == whole + torn  # a reader changes nothing: it may not be allowed to
    assert grown(vit, journal, 6) == 6
    assert f"its {len(torn)} bytes are removed" in caplog.text
    assert grown(vit, journal, 7) == 7


@pytest.mark.parametrize(
    "line",
    [b"5", b"[]", b"{}", b'{"op_code":99,"worker_id":"x"}', b'{"op_code":0,"worker_id":"x"}', b"{" * 40, b"\xff"],
)
def test_a_broken_line_of_a_journal_is_named_and_stays(vit: nasplat.Space, journal: Path, line: bytes) -> None:
    first, *rest = journal.read_bytes().splitlines(keepends=True)
    content = first + line + b"\n" + b"".join(rest)
    journal.write_bytes(content)
    with pytest.raises(SearchError, match=r"line 2 of the journal .*s\.journal"):
        grown(vit, journal, 6)
    assert journal.read_bytes() == content


def test_a_journal_that_another_process_breaks_under_a_search_is_named(vit: nasplat.Space, journal: Path) -> None:
    def breaking(architecture: nasplat.Architecture) -> float:
        with journal.open("ab") as file:
            file.write(b"not a record\n")
        return 1.0

    with pytest.raises(SearchError, match=r"line \d+ of the journal .* was altered or cut short: b'not a record"):
        nasplat.search(vit, maximize=[breaking], n_trials=6, storage=str(journal), name="other")


def test_a_journal_in_no_folder_or_in_the_place_of_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.journal").mkdir()
    for path in (tmp_path / "nowhere" / "s.journal", tmp_path / "folder.journal"):
        with pytest.raises(SearchError, match=r"journal' cannot be opened: .*\n  Check the path"):
            open_storage(str(path))


def test_a_worker_whose_beat_stands_still_is_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study()
    now = 0.0
    monkeypatch.setattr(liveness.time, "monotonic", lambda: now)
    trial = study.ask({"x": optuna.distributions.CategoricalDistribution((1, 2))})
    trial.set_user_attr("worker", "elsewhere:7")
    trial.set_user_attr("architecture", "{}")
    watch, ledger = Watch(stalled=30), Ledger()

    def look() -> list[int]:
        ledger.update(study)
        return [t.number for t in watch.dead(study, ledger.running)]

    study.set_user_attr("beat elsewhere:7", 1)
    assert look() == []
    now = 25.0
    study.set_user_attr("beat elsewhere:7", 2)
    assert look() == []
    now = 50.0
    assert look() == []
    now = 60.0
    assert look() == [0]
    ledger.update(study)
    watch.bury(study, ledger.running)
    (first, second) = study.get_trials()
    assert (first.state, first.user_attrs["died"]) == (TrialState.FAIL, "elsewhere:7")
    assert second.user_attrs["retry_of"] == 0
    again = study.ask({"x": optuna.distributions.CategoricalDistribution((1, 2))})
    assert again.params == first.params
    again.set_user_attr("worker", "elsewhere:7")
    again.set_user_attr("architecture", "{}")
    ledger.update(study)
    watch.bury(study, ledger.running)
    assert len(study.trials) == 2  # once is enough
    assert "its worker died" in study.trials[1].user_attrs["reason"]


def test_a_worker_killed_before_it_wrote_its_name_is_dead(vit: nasplat.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "NAMELESS", 0.5)
    storage = optuna.storages.InMemoryStorage()
    macs = nasplat.Counted("macs")
    nasplat.search(vit, maximize=[macs], n_trials=2, storage=storage)
    optuna.load_study(study_name="nasplat", storage=storage).ask()  # and no more
    study = nasplat.search(vit, maximize=[macs], n_trials=5, storage=storage)
    assert len([t for t in study.trials if is_counted(t)]) == 5
    assert study.trials[2].state == TrialState.FAIL
    assert study.trials[2].user_attrs["died"] == "unnamed"


def test_wrong_urls_are_told_without_the_password() -> None:
    with pytest.raises(SearchError, match="cannot be opened") as caught:
        open_storage("nosuch://me:secret@host/db")
    assert "secret" not in str(caught.value)
