"""The folder of a run: names of its files, and run.json with what was asked, by which versions, on what hardware.

A labelling has no folder but a table; its run.json and journal lie beside it, as `table.run.json` and `table.journal`.
"""

from __future__ import annotations

import json
import platform
import shlex
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import optuna
import torch

from nasplat import __version__
from nasplat.errors import InputError, NasplatError, SearchError, SpaceWarning
from nasplat.probes.conditions import device_name
from nasplat.runs.kinds import AUTO, KINDS, AbstractSpaceRun
from nasplat.runs.reading import as_told, read_json
from nasplat.runs.run import AbstractRun
from nasplat.searchspace import Architecture, Space
from nasplat.searchspace.registry import is_shipped, is_trusting, told_space, trusting
from nasplat.study.storage import open_storage
from nasplat.supernet.checkpoint import FILE as CHECKPOINT_FILE
from nasplat.tables.rows import write_atomically

TABLES = (".csv", ".csv.gz")
"""Endings of a table: the run that wrote it has its files beside it."""
OUTSIDE = ("--out", "--json", "--dry-run", "--trust")
"""Words of a command that say where a run goes and how its answer is printed, and nothing about the run."""


def versions() -> dict[str, str]:
    """Return the versions of everything that decides results, by name; 'not installed' where a library is missing.

    Returns:
        Version as text, by name of the library.
    """
    found = {"nasplat": __version__, "python": platform.python_version()}
    for name in ("torch", "optuna", "numpy", "scikit-learn", "onnx", "onnxruntime"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware() -> dict[str, Any]:
    """Return the processor's name, the number of threads that torch uses, and the accelerator's name or None.

    Returns:
        'cpu' and 'gpu' are names, 'threads' is a number.
    """
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {"cpu": device_name(torch.device("cpu")), "threads": torch.get_num_threads(), "gpu": gpu}


class RunFolder:
    """A folder in which one run keeps what it was asked, what it has done, and what it found.

    Example:
        >>> RunFolder("run").report.name
        'report.html'
    """

    def __init__(self, path: str | Path, trust: bool = False) -> None:
        """Name the folder; nothing is read or written yet.

        Args:
            path: Folder, which need not exist.
            trust: Whether Python files that the folder names, such as that of its space, may be run. A folder may come
                from somebody else: without it they are found only where this process loaded them.
        """
        self.path, self.trust = Path(path), trust

    def __str__(self) -> str:
        """Return the path as text."""
        return str(self.path)

    def __repr__(self) -> str:
        """Name class and path."""
        return f"RunFolder({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        """Return whether both name the same path."""
        return isinstance(other, RunFolder) and self.path == other.path

    def __hash__(self) -> int:
        """Return a hash of the path."""
        return hash(self.path)

    # -- names of files ------------------------------------------------------------------------------------------------

    @property
    def is_table(self) -> bool:
        """Whether the path is a table of labels, which has its files beside it."""
        return self.path.name.endswith(TABLES)

    def _beside(self, ending: str) -> Path:
        name = self.path.name.removesuffix(".gz").removesuffix(".csv")
        return self.path.with_name(f"{name}{ending}")

    @property
    def description(self) -> Path:
        """Path of run.json: the run, versions, hardware, hashes and the command that repeats it."""
        return self._beside(".run.json") if self.is_table else self.path / "run.json"

    @property
    def journal(self) -> Path:
        """Path of the Optuna journal that holds the study, unless another storage was named."""
        return self._beside(".journal") if self.is_table else self.path / "study.journal"

    @property
    def members(self) -> Path:
        """Folder of the exported members of the Pareto set, each an ONNX file with its certificate."""
        return self.path / "front"

    @property
    def judged(self) -> Path:
        """Path of judged.json: the rows that a training ends with."""
        return self.path / "judged.json"

    @property
    def improved(self) -> Path:
        """Path of improved.json: the networks that an improvement found, with everything measured."""
        return self.path / "improved.json"

    @property
    def supernet(self) -> Path:
        """Folder of the supernet that this run trained."""
        return self.path / "supernet"

    @property
    def checkpoint(self) -> Path:
        """Path of the supernet's weights and training state."""
        return self.supernet / CHECKPOINT_FILE

    @property
    def latency(self) -> Path:
        """Folder of the latency predictor that was fitted on networks of the searched space."""
        return self.path / "latency"

    @property
    def quality(self) -> Path:
        """Folder of the pilots on which a quality predictor was fitted."""
        return self.path / "quality"

    @property
    def choice(self) -> Path:
        """Path of chosen.json: which network the run hands over, and why."""
        return self.path / "chosen.json"

    @property
    def network(self) -> Path:
        """Path of the exported ONNX file of the chosen network."""
        return self.path / "best.onnx"

    @property
    def certificate(self) -> Path:
        """Path of the certificate that says how closely the ONNX file agrees with torch."""
        return self.path / "best.certificate.json"

    @property
    def latency_error(self) -> Path:
        """Path of the JSON file that says how well the latency predictor does on networks that it did not see."""
        return self.latency / "metrics.json"

    @property
    def quality_error(self) -> Path:
        """Path of the JSON file that says how well the quality predictor does on pilots that it did not see."""
        return self.quality / "quality.json"

    @property
    def front(self) -> Path:
        """Path of front.csv: one row for every exported member of the Pareto set."""
        return self.path / "front.csv"

    @property
    def front_summary(self) -> Path:
        """Path of front.json: how well predicted and measured latencies of the exported members agree."""
        return self.path / "front.json"

    @property
    def pictures(self) -> Path:
        """Folder of pictures of what the exported network answers on test examples."""
        return self.path / "pictures"

    @property
    def captions(self) -> Path:
        """Path of pictures.json: names and captions of the pictures."""
        return self.pictures / "pictures.json"

    @property
    def report(self) -> Path:
        """Path of report.html, the page that tells the whole run."""
        return self.path / "report.html"

    @property
    def replay(self) -> Path:
        """Folder of the run's repetition, unless another one was named."""
        return self.path / "replay"

    @property
    def results(self) -> Path:
        """Path of results.json, everything that a demo measured."""
        return self.path / "results.json"

    @property
    def results_page(self) -> Path:
        """Path of results.md, the demo's results as one Markdown page."""
        return self.path / "results.md"

    # -- what was asked ------------------------------------------------------------------------------------------------

    def check_same(self, run: AbstractRun, resolved: Mapping[str, Any] | None = None) -> None:
        """Check that the folder is free, or holds the same run, which then goes on; nothing is written.

        Args:
            run: Run that is about to begin.
            resolved: What names of the run stand for, see `describe`.

        Raises:
            SearchError: the folder holds another run, or one with other settings, or it is no folder.
        """
        above = next(p for p in (self.description.parent, *self.description.parent.parents) if p.exists())
        if not above.is_dir():
            raise SearchError(
                f"expected a folder that can be made for --out, got {str(self)!r} ({above} is a file).\n"
                "  Choose another --out."
            )
        if not self.description.exists():
            return
        there = self.about
        if there["verb"] != run.verb:
            raise SearchError(
                f"run folder {str(self)!r} holds a {there['verb']}, got a {run.verb}.\n"
                f"  Choose another --out, or repeat its command: {there['command']}"
            )
        shared = there["resolved"].keys() & (resolved or {}).keys()
        before = self._told(self.run, {k: there["resolved"][k] for k in shared})
        now = self._told(run, {k: (resolved or {})[k] for k in shared})
        if resolved is None:  # what names stand for is compared later
            before = {k: v for k, v in before.items() if k not in {*there["resolved"], "presets"}}
        code = there["resolved"].get("fingerprint")
        is_same_code = code is not None and code == (resolved or {}).get("fingerprint")
        # the study and the supernet compare the code itself; the same code may lie elsewhere, or be called otherwise
        passed = {*run.growing, "fingerprint", *(["space"] if is_same_code else [])}
        for name in (n for n in now if n in before and n not in passed):
            # what the folder is older than counts as not given
            if (before[name] or None) != (now[name] or None):
                raise SearchError(
                    f"run folder {str(self)!r} holds a {run.verb} with {name} {before[name]!r}, got {now[name]!r}.\n"
                    f"  Choose another --out, or repeat its command: {there['command']}"
                )

    @staticmethod
    def _told(run: AbstractRun, resolved: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of a run as JSON keeps them; what names stand for takes the place of names."""
        found = run.to_dict() | dict(resolved)
        if "space" in resolved:
            found.pop("presets", None)  # they are told with the space
        return json.loads(json.dumps(found, default=str))

    def describe(self, run: AbstractRun, resolved: Mapping[str, Any] | None = None) -> None:
        """Write run.json, or check that the folder holds the same run, which then goes on.

        Args:
            run: Run that is about to begin; all of its fields are written.
            resolved: What names of the run stand for, by name: the 'space' with its presets, the 'task', the 'guide'
                that was found. Values that JSON does not know become text.

        Raises:
            SearchError: the folder holds another run, or one with other settings, or it cannot be made.
        """
        self.check_same(run, resolved)
        before = self.about if self.description.exists() else {}
        try:
            self.description.parent.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise SearchError(
                f"expected a folder that can be made for --out, got {str(self)!r} ({err}).\n  Choose another --out."
            ) from err
        try:
            words = [*run.to_words(), "--out", str(self)]
            command = shlex.join(["nasplat", *words])
        except InputError:  # made in Python, of objects that no word stands for
            words, command = [], "made in Python"
        told, earlier = dict(resolved or {}), before.get("resolved", {})
        if "fingerprint" in earlier:  # the study and the supernet say whether other code may go on
            told["fingerprint"] = earlier["fingerprint"]
        row = {"verb": run.verb, "run": run.to_dict(), "resolved": told}
        row |= {"versions": versions(), "hardware": hardware(), "hashes": before.get("hashes", {})}
        row |= {"command": command, "words": words, "started": time.strftime("%Y-%m-%d %H:%M:%S")}
        self._write(row)

    @contextmanager
    def described(self, run: AbstractRun, resolved: Mapping[str, Any] | None = None) -> Iterator[None]:
        """Describe a run that begins; one that is refused before it has kept anything leaves the folder as it was.

        Args:
            run: Run that is about to begin.
            resolved: What names of the run stand for, see `describe`.

        Yields:
            Nothing; the run goes on inside the block.

        Raises:
            SearchError: see `describe`.
        """
        parent = self.description.parent
        made = [p for p in (parent, *parent.parents) if not p.exists()]
        there = self.description.read_bytes() if self.description.exists() else None
        before = self._files()
        self.describe(run, resolved)
        try:
            yield
        except NasplatError:
            if self._files() == before | {self.description: self.description.stat().st_size}:
                if there is not None:
                    write_atomically(self.description, there)
                else:
                    self.description.unlink()
                for folder in made:
                    if folder.is_dir() and not any(folder.iterdir()):
                        folder.rmdir()
            raise
        row, now = read_json(self.description), (resolved or {}).get("fingerprint")
        if row is not None and now is not None and row["resolved"].get("fingerprint") != now:
            self._write(row | {"resolved": row["resolved"] | {"fingerprint": now}})

    def _files(self) -> dict[Path, int]:
        """Files that the run has, with their sizes in bytes."""
        if self.is_table:
            found = [p for p in self.path.parent.glob(f"{self._beside('').name}*") if p.is_file()]
        else:
            found = [p for p in self.path.rglob("*") if p.is_file()]
        return {p: p.stat().st_size for p in [*found, self.description] if p.exists()}

    def record(self, **hashes: Any) -> None:
        """Add hashes of what the run made to run.json.

        Args:
            hashes: SHA-256 by name, such as supernet='…' or files={'best.onnx': '…'}.
        """
        row = read_json(self.description)
        if row is not None:
            self._write(row | {"hashes": row.get("hashes", {}) | hashes})

    def _write(self, row: Mapping[str, Any]) -> None:
        write_atomically(self.description, json.dumps(row, indent=1, default=str) + "\n")

    @property
    def about(self) -> dict[str, Any]:
        """Content of run.json: verb, settings, versions, hardware, command, words and the time of the last start.

        'settings' are the fields of the run and what their names stand for, or what an older nasplat wrote there.

        Raises:
            SearchError: the folder holds no run, or its run.json was altered or cut short.
        """
        found = read_json(self.description)
        if found is None:
            raise SearchError(
                f"expected a run folder with run.json, got {str(self)!r}.\n  Give the --out of an earlier command."
            )
        run, resolved = found.get("run"), found.get("resolved", {})
        if isinstance(run, dict) and isinstance(resolved, dict):
            found["settings"] = run | resolved
        if not isinstance(found.get("settings"), dict) or not isinstance(found.get("verb", ""), str):
            raise SearchError(
                f"expected the description of a run in {str(self.description)!r}, got something else.\n"
                "  Restore the file, or choose another --out."
            )
        return {"verb": "run", "command": "unknown", "words": [], **found, "resolved": _resolved(found)}

    @property
    def run(self) -> AbstractRun:
        """What the run was asked for, as one value; names of Python files in it are loaded only as `trust` allows.

        Raises:
            SearchError: the folder holds no run, or its run.json does not say which.
        """
        about = self.about
        kind = KINDS.get(about["verb"])
        if kind is None:
            raise SearchError(
                f"expected a run of {', '.join(KINDS)} in {str(self.description)!r}, got {about['verb']!r}.\n"
                "  Restore the file."
            )
        try:
            found = kind.from_dict(about["run"]) if "run" in about else kind.from_words(asking(self.words[1:]))
            return found if self.trust else as_told(found)
        except SearchError:
            raise
        except NasplatError as err:
            raise SearchError(
                f"expected the settings of a {about['verb']} in {str(self.description)!r}: {err}\n  Restore the file."
            ) from err

    def is_of(self, space: Space) -> bool:
        """Whether the folder holds a run of this very space.

        Args:
            space: Space with its presets.

        Returns:
            True where run.json names the space and its presets; False where it names others, or there is none.

        Raises:
            SearchError: run.json was altered or cut short.
        """
        if not self.description.exists():
            return False
        about = self.about
        is_named = about["settings"].get("space") == space.reference
        return is_named or about["resolved"].get("fingerprint") == space.fingerprint

    @property
    def space(self) -> Space:
        """Space of the run with all of its presets, whether they were given or the task decided them.

        Raises:
            SearchError: the folder holds no run in a space, or run.json does not say in which.
            ContentError: there is no such space any more.
            TrustError: the space is a Python file that was not loaded here, and `trust` is False.
            SpaceError: the code of the space has changed since.
        """
        run, resolved = self.run, self.about["resolved"]
        reference, fingerprint = str(resolved.get("space", "")), resolved.get("fingerprint")
        try:
            presets = json.loads(reference[reference.index("{") :])
        except ValueError as err:
            raise SearchError(
                f"expected the space of a run in {str(self.description)!r}, got {reference!r}.\n  Restore the file."
            ) from err
        named = run.space if isinstance(run, AbstractSpaceRun) else reference[: reference.index("{")]
        with trusting(self.trust or is_trusting()):
            found = told_space(str(named), presets, None if is_shipped(str(named)) else fingerprint)
        if fingerprint not in (None, found.fingerprint):
            warnings.warn(
                f"the code of space {found!r} has changed since the run in {str(self)!r}.", SpaceWarning, stacklevel=2
            )
        return found

    @property
    def words(self) -> list[str]:
        """Words after `nasplat` of the command that made the folder.

        Raises:
            SearchError: the folder holds no run, or its run.json has no such words.
        """
        about = self.about
        words: Any = about["words"]
        if isinstance(words, list) and all(isinstance(w, str) for w in words):
            if next((w for w in words if not w.startswith("-")), "") == about["verb"]:
                return words
        raise SearchError(
            f"expected the words of a {about['verb']} in {str(self.description)!r}, got {words!r}.\n  Restore the file."
        )

    @property
    def found_guide(self) -> str | None:
        """Guide that a search in this folder found by itself; None where there is none, or it was named.

        Raises:
            SearchError: run.json was altered or cut short.
        """
        if not self.description.exists():
            return None
        about = self.about
        if about["verb"] != "search":
            return None
        if "run" in about:
            is_named = about["run"].get("guide") != AUTO
        else:
            words = about["words"] if isinstance(about["words"], list) else []
            is_named = any(str(w).partition("=")[0] == "--guide" for w in words)
        return None if is_named else about["settings"].get("guide")

    # -- the study -----------------------------------------------------------------------------------------------------

    @property
    def storage(self) -> str:
        """Optuna storage of the run's study: the one that was named, or the folder's own journal.

        Raises:
            SearchError: the folder holds no run.
        """
        return str(self.about["settings"].get("storage") or self.journal)

    def study(self, name: str = "nasplat") -> optuna.Study:
        """Load the study of the run.

        Args:
            name: Name of the study in its storage.

        Returns:
            The study, with its trials.

        Raises:
            SearchError: the folder holds no run or no study, or its journal was altered or cut short.
        """
        storage = self.storage
        file = storage if storage.endswith(".journal") else storage.partition("sqlite:///")[2]
        if file and not Path(file).exists():  # reading makes no database, whatever run.json names
            raise SearchError(
                f"run folder {str(self)!r} holds no study yet ({storage} is missing).\n  Run its command first."
            )
        try:
            return optuna.load_study(study_name=name, storage=open_storage(storage))
        except KeyError as err:
            raise SearchError(
                f"expected a study in {storage!r}, got none.\n  Give the --out of a search or a demo."
            ) from err

    # -- what was chosen -----------------------------------------------------------------------------------------------

    def choose(self, architecture: Architecture, why: str) -> None:
        """Write chosen.json.

        Args:
            architecture: Network that the run hands over.
            why: Reason in words, such as 'best first objective'.
        """
        row = {"architecture": architecture.to_json(), "why": why}
        write_atomically(self.choice, json.dumps(row, indent=1) + "\n")

    @property
    def chosen_line(self) -> str | None:
        """JSON line of the network that the run chose; None where it chose none.

        Raises:
            SearchError: chosen.json was altered or cut short.
        """
        row = read_json(self.choice)
        if row is not None and not isinstance(row.get("architecture"), str):
            raise SearchError(f"expected the chosen network in {str(self.choice)!r}, got {row}.\n  Restore the file.")
        return None if row is None else row["architecture"]

    def chosen(self, space: Space) -> Architecture:
        """Return the network that the run chose.

        Args:
            space: Search space of the run.

        Returns:
            Architecture of the space.

        Raises:
            SearchError: the run chose none, or chosen.json was altered or cut short.
        """
        line = self.chosen_line
        if line is None:
            raise SearchError(
                f"expected a run with a chosen network, got {str(self)!r}.\n  Give --subnet, or the --out of a search."
            )
        return Architecture.from_json(line, space)


def _resolved(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the names of a run stand for; of a run.json by an older nasplat, what it says of that."""
    if "run" in found:
        return found.get("resolved", {})
    return {k: v for k, v in found["settings"].items() if k in {"space", "guide", "scale"}}


def asking(words: Sequence[str]) -> list[str]:
    """Leave out of a command the words that say nothing about the run.

    Args:
        words: Words behind the verb.

    Returns:
        Words without those of `OUTSIDE`, their values and --debug.
    """
    kept: list[str] = []
    skip = False
    for word in words:
        name, equals, _ = word.partition("=")
        if skip:
            skip = False
        elif name in OUTSIDE:
            skip = name == "--out" and not equals
        elif word != "--debug":
            kept.append(word)
    return kept
