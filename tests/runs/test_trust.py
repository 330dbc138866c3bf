"""A run folder may come from somebody else: what it names is data, and data run no code unless somebody says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import nasplat
from nasplat.cli.group import cli
from nasplat.errors import InputError, NasplatError, SearchError, SpaceError, TrustError
from nasplat.inputs import resolve
from nasplat.runs.folder import RunFolder
from nasplat.runs.kinds import SearchRun
from nasplat.runs.page import write_report
from nasplat.runs.replay import check_description, python_files
from nasplat.searchspace.registry import Told, trusting

pytestmark = pytest.mark.fast


def width(architecture: nasplat.Architecture) -> float:
    return float(architecture.choices["w"])


@pytest.fixture
def received(tmp_path: Path) -> Path:
    """Folder of a finished search whose space is a file in it, which tells when it runs, and did not run here."""
    made = tmp_path / "made" / "mine.py"
    made.parent.mkdir()
    text = (
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nimport nasplat\nfrom torch import nn\n"
        "@nasplat.space(example_input=(1, 4))\ndef mine(pick):\n    return nn.Linear(4, pick('w', (4, 8, 16)))\n"
        "def factory():\n    return nn.Linear(4, 4)\n"
    )
    made.write_text(text)
    space = nasplat.load_space(str(made))
    folder = RunFolder(tmp_path / "run")
    run = SearchRun(str(made), trials=3)
    told = {"space": space.reference, "fingerprint": space.fingerprint, "task": "none", "guide": "none"}
    folder.describe(run, told)
    nasplat.search(space, maximize=[width], minimize=["params"], n_trials=3, storage=str(folder.journal))
    folder.choose(space.architecture({"w": 8}), "it is the best")
    payload = folder.path / "mine.py"
    payload.write_text(text.replace("Linear(4", "Linear(2 + 2"))  # other code, which this process did not load
    for file in (folder.description, folder.choice, folder.journal):
        lines = file.read_text().replace(str(made), str(payload))
        file.write_text(lines.replace(space.fingerprint, f"{'0' * 16}.{space.fingerprint[-8:]}"))
    (tmp_path / "ran").unlink()
    return folder.path


def test_a_report_of_a_received_folder_runs_nothing_and_says_what_it_left_out(received: Path) -> None:
    page = write_report(received).read_text()
    assert not (received.parent / "ran").exists()
    assert "Drawings of networks are left out" in page
    assert "--trust" in page
    assert "3 networks evaluated" in page


def test_a_report_that_is_trusted_shows_all(received: Path) -> None:
    for file in (received / "study.journal", received / "chosen.json"):  # as before there were fingerprints
        file.write_text(file.read_text().replace(f"{'0' * 16}.14b485ed", "").replace(r",\"fingerprint\":\"\"", ""))
        file.write_text(file.read_text().replace(r",\\\"fingerprint\\\":\\\"\\\"", ""))
    found = CliRunner().invoke(cli, ["report", str(received), "--trust"])
    assert found.exit_code == 0, found.exception
    assert (received.parent / "ran").exists()
    assert "Drawings of networks are left out" not in (received / "report.html").read_text()


def test_a_folder_is_opened_and_its_networks_are_asked_of_a_trusted_file_alone(received: Path) -> None:
    found = nasplat.open_run(received)
    assert len(found.study.trials) == 3
    with pytest.raises(TrustError, match="trust=True"):
        _ = found.front
    with pytest.raises(TrustError):
        found.run.loaded_space()
    with pytest.raises(TrustError):  # as Python repeats a run that it read
        nasplat.execute(found.run, received / "again")
    assert not (received.parent / "ran").exists()
    assert not (received / "again").exists()
    with pytest.raises(SpaceError, match="with other code"):  # it may run, and is not what was searched
        _ = nasplat.open_run(received, trust=True).front
    assert (received.parent / "ran").exists()


def test_a_folder_of_a_space_that_was_loaded_needs_no_trust(received: Path) -> None:
    mine = nasplat.load_space(str(received / "mine.py"))
    description = json.loads((received / "run.json").read_text())
    description["resolved"]["fingerprint"] = mine.fingerprint
    (received / "run.json").write_text(json.dumps(description))
    assert nasplat.open_run(received).folder.space == mine


def replay(folder: Path, *words: str) -> NasplatError:
    """What a replay is refused with, where nobody can answer a question."""
    refused = CliRunner().invoke(cli, ["replay", str(folder), *words])
    assert not (folder.parent / "ran").exists()
    assert isinstance(refused.exception, NasplatError), refused.output
    return refused.exception


def test_a_replay_shows_what_it_runs_and_asks(received: Path) -> None:
    assert python_files(RunFolder(received).run) == [str(received / "mine.py")]
    assert "add --trust" in str(replay(received))
    assert "add --trust" in str(replay(received, "--yes"))
    shown = CliRunner().invoke(cli, ["replay", str(received)]).stderr
    assert f"nasplat search {received / 'mine.py'} --trials=3" in shown
    assert f"This runs the code of {received / 'mine.py'}" in shown
    harmless = received.parent / "harmless"
    RunFolder(harmless).describe(SearchRun("nasbench201", trials=1), {"space": "nasbench201{}"})
    assert "add --yes" in str(replay(harmless))


def test_the_files_of_folders_that_a_run_names_are_shown_too(received: Path) -> None:
    run = SearchRun("nasbench201", supernet=received)
    assert python_files(run) == [str(received / "mine.py")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": ["search", "payload.py", "--trials=3"]}, "settings .* and words 'search payload.py"),
        ({"command": "nasplat search nasbench201"}, "command 'nasplat search nasbench201' and words"),
        ({"resolved": {"space": "nasbench201{}"}}, "space 'nasbench201{}' and a run in"),
        ({"run": {"space": "nasbench201", "trials": 3}}, "settings 'search nasbench201 --trials=3' and words"),
    ],
)
def test_a_description_that_says_two_things_is_not_repeated(
    received: Path, change: dict[str, object], message: str
) -> None:
    file = received / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(SearchError, match=message):
        check_description(RunFolder(received))
    assert "nothing was run" in str(replay(received, "--trust"))


def test_words_of_data_name_no_factory(received: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (f"{received / 'mine.py'}:factory", f'{received / "mine.py"}:{{"w": 4}}'):
        with pytest.raises(TrustError):
            resolve(Told(text))
    assert not (received.parent / "ran").exists()
    with trusting():
        assert resolve(Told(f"{received / 'mine.py'}:factory")) is not None


def test_a_line_on_the_command_line_is_data(received: Path) -> None:
    line = json.dumps({"space": str(received / "mine.py"), "presets": {}, "choices": {"w": 4}})
    refused = CliRunner().invoke(cli, ["inspect", line])
    assert isinstance(refused.exception, TrustError)
    assert not (received.parent / "ran").exists()
    assert CliRunner().invoke(cli, ["inspect", line, "--trust", "--json"]).exit_code == 0


def test_the_code_of_a_run_changes_in_its_folder_when_the_run_has_accepted_it(tmp_path: Path) -> None:
    folder, run = RunFolder(tmp_path / "run"), SearchRun("mine.py")
    folder.describe(run, {"space": "mine.py{}", "fingerprint": "first"})
    edited = {"space": "mine.py{}", "fingerprint": "second"}

    def refused() -> None:
        with folder.described(run, edited):
            folder.journal.write_text("opened")
            raise SearchError("the study is of other code")

    with pytest.raises(SearchError, match="of other code"):
        refused()
    assert folder.about["resolved"]["fingerprint"] == "first"
    with folder.described(run, edited):
        pass
    assert folder.about["resolved"]["fingerprint"] == "second"


def test_the_same_space_under_another_path_goes_on_in_its_folder(tmp_path: Path) -> None:
    cells = nasplat.load_space("nasbench201")
    folder, run = RunFolder(tmp_path / "run"), SearchRun("here/mine.py")
    told = {"space": "here/mine.py{}", "fingerprint": cells.fingerprint}
    folder.describe(run, told)
    moved = SearchRun("there/mine.py")
    folder.check_same(moved, told | {"space": "there/mine.py{}"})
    with pytest.raises(SearchError, match=r"with space 'here/mine.py\{\}'"):
        folder.check_same(moved, {"space": "there/mine.py{}", "fingerprint": "other"})
    assert folder.is_of(cells)
    shutil.rmtree(folder.path)
    with pytest.raises(InputError):
        resolve("mine.py")


def test_reading_a_received_folder_makes_no_database(received: Path) -> None:
    about = json.loads((received / "run.json").read_text())
    place = received.parent / "elsewhere.db"
    about["run"]["storage"] = f"sqlite:///{place}"
    (received / "run.json").write_text(json.dumps(about))
    with pytest.raises(SearchError, match=r"holds no study yet \(sqlite:///.*elsewhere.db is missing\)"):
        RunFolder(received).study()
    assert not place.exists()
