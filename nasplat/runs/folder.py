"""The folder of a run: names of its files, and run.json with what was asked, by which versions, on what hardware."""

from __future__ import annotations

import json
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from nasplat import __version__
from nasplat.errors import SearchError
from nasplat.probes.conditions import device_name
from nasplat.searchspace import Architecture, Space
from nasplat.supernet.checkpoint import FILE as CHECKPOINT_FILE
from nasplat.tables.rows import write_atomically

GROWING = ("trials", "budget", "exports")
"""Settings that a resumed run may have more of."""


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

    def __init__(self, path: str | Path) -> None:
        """Name the folder; nothing is read or written yet.

        Args:
            path: Folder, which need not exist.
        """
        self.path = Path(path)

    def __str__(self) -> str:
        """Return the path as text."""
        return str(self.path)

    # -- names of files ------------------------------------------------------------------------------------------------

    @property
    def description(self) -> Path:
        """Path of run.json: verb, settings, versions, hardware and the command that repeats the run."""
        return self.path / "run.json"

    @property
    def journal(self) -> Path:
        """Path of the Optuna journal that holds the study, unless another storage was named."""
        return self.path / "study.journal"

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

    def describe(self, verb: str, settings: Mapping[str, Any], words: Sequence[str] | None = None) -> None:
        """Write run.json, or check that the folder holds the same run, which then goes on.

        Args:
            verb: Command that makes the run: 'search', 'train' or 'demo'.
            settings: Everything resolved that decides the result, by name; values that JSON does not know become text.
            words: Words of the command after `nasplat`; None takes what was typed.

        Raises:
            SearchError: the folder holds another run, or one with other settings, or it cannot be made.
        """
        plain = json.loads(json.dumps(settings, default=str))
        if self.description.exists():
            self._check_same(verb, plain)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise SearchError(
                f"expected a folder that can be made for --out, got {str(self)!r} ({err}).\n  Choose another --out."
            ) from err
        words = list(words) if words is not None else sys.argv[1:]
        row = {"verb": verb, "settings": plain, "versions": versions(), "hardware": hardware()}
        row |= {"command": shlex.join(["nasplat", *words]), "words": words}
        row |= {"started": time.strftime("%Y-%m-%d %H:%M:%S")}
        write_atomically(self.description, json.dumps(row, indent=1) + "\n")

    def _check_same(self, verb: str, settings: Mapping[str, Any]) -> None:
        there = self.about
        if there["verb"] != verb:
            raise SearchError(
                f"run folder {str(self)!r} holds a {there['verb']}, got a {verb}.\n"
                f"  Choose another --out, or repeat its command: {there['command']}"
            )
        before = there["settings"]
        # a setting that the folder is older than counts as not given
        changed = [k for k in settings if (before.get(k) or None) != (settings[k] or None) and k not in GROWING]
        if changed:
            name = changed[0]
            raise SearchError(
                f"run folder {str(self)!r} holds a {verb} with {name} {before.get(name)!r}, got {settings[name]!r}.\n"
                f"  Choose another --out, or repeat its command: {there['command']}"
            )

    @property
    def about(self) -> dict[str, Any]:
        """Content of run.json: verb, settings, versions, hardware, command, words and the time of the last start.

        Raises:
            SearchError: the folder holds no run, or its run.json was altered or cut short.
        """
        found = read_json(self.description)
        if found is None:
            raise SearchError(
                f"expected a run folder with run.json, got {str(self)!r}.\n  Give the --out of an earlier command."
            )
        if not isinstance(found.get("settings"), dict):
            raise SearchError(
                f"expected the description of a run in {str(self.description)!r}, got something else.\n"
                "  Restore the file, or choose another --out."
            )
        return {"verb": "run", "command": "unknown", "words": [], **found}

    def is_of(self, space: Space) -> bool:
        """Whether the folder holds a run of this very space.

        Args:
            space: Space with its presets.

        Returns:
            True where run.json names the space and its presets; False where it names others, or there is none.

        Raises:
            SearchError: run.json was altered or cut short.
        """
        return self.description.exists() and self.about["settings"].get("space") == space.reference

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
    def storage(self) -> str:
        """Optuna storage of the run's study: the one that was named, or the folder's own journal.

        Raises:
            SearchError: the folder holds no run.
        """
        return str(self.about["settings"].get("storage") or self.journal)

    # -- what was chosen -----------------------------------------------------------------------------------------------

    def choose(self, architecture: Architecture, why: str) -> None:
        """Write chosen.json.

        Args:
            architecture: Network that the run hands over.
            why: Reason in words, such as 'best first objective'.
        """
        row = {"architecture": architecture.to_json(), "why": why}
        write_atomically(self.choice, json.dumps(row, indent=1) + "\n")

    def chosen(self, space: Space) -> Architecture:
        """Return the network that the run chose.

        Args:
            space: Search space of the run.

        Returns:
            Architecture of the space.

        Raises:
            SearchError: the run chose none, or chosen.json was altered or cut short.
        """
        row = read_json(self.choice)
        if row is None:
            raise SearchError(
                f"expected a run with a chosen network, got {str(self)!r}.\n  Give --subnet, or the --out of a search."
            )
        if not isinstance(row.get("architecture"), str):
            raise SearchError(f"expected the chosen network in {str(self.choice)!r}, got {row}.\n  Restore the file.")
        return Architecture.from_json(row["architecture"], space)


def read_json(file: Path) -> dict[str, Any] | None:
    """Read a JSON file of a run folder.

    Args:
        file: Path of the file, which holds an object.

    Returns:
        Its values by name; None where there is no file.

    Raises:
        SearchError: the file was altered or cut short.
    """
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise SearchError(f"expected JSON in {str(file)!r}: {err}.\n  Restore the file, or remove it.") from err
    if not isinstance(found, dict):
        raise SearchError(
            f"expected an object in {str(file)!r}, got {type(found).__name__}.\n  Restore the file, or remove it."
        )
    return found
