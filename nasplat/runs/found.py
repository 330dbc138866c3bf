"""What runs give, made after a run or read from its folder alike: networks with their values, modules and files."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import torch

from nasplat.errors import SearchError
from nasplat.runs.folder import RunFolder
from nasplat.runs.improvement import read_improved
from nasplat.runs.kinds import DemoRun, ImproveRun, LabelRun, SearchRun, TrainRun
from nasplat.runs.labelling import read_labelled
from nasplat.runs.objectives import INHERITED
from nasplat.runs.reading import certificate_in, read_json
from nasplat.runs.results import best
from nasplat.runs.training import subnet_of, supernet_of
from nasplat.searchspace import Architecture, Space
from nasplat.study.directions import signs
from nasplat.study.search import architectures
from nasplat.supernet import Supernet
from nasplat.tables.table import Table
from nasplat.workflows.export import Certificate


@dataclass(frozen=True)
class FrontMember:
    """A network of the Pareto set of a search."""

    architecture: Architecture
    """Choices that make the network."""
    values: Mapping[str, float]
    """Values of the objectives by name, in their units."""
    path: Path | None
    """ONNX file of the network; None where it was not exported."""
    certificate: Certificate | None
    """What was checked before that file was written; None where there is none."""
    found: SearchFound = field(repr=False, compare=False)
    """Search that found the network."""

    def module(self) -> torch.nn.Module:
        """Build the network.

        Returns:
            Module with the weights that it inherits from the supernet of the search; in a search without one, with
            initial values of the run's seed.
        """
        supernet = self.found.supernet
        if supernet is not None:
            return supernet.subnet(self.architecture)
        torch.manual_seed(self.found.run.seed)
        return self.architecture.build()


@dataclass(frozen=True)
class SearchFound:
    """What a search found."""

    run: SearchRun
    """What was asked for."""
    folder: RunFolder
    """Folder of the run."""
    study: optuna.Study = field(repr=False)
    """Study with every trial; of a search in stages, that of the last stage."""

    @cached_property
    def space(self) -> Space:
        """Space that was searched, with all of its presets."""
        return self.run.space if isinstance(self.run.space, Space) else self.folder.space

    @cached_property
    def front(self) -> tuple[FrontMember, ...]:
        """Pareto set, best first objective first; with one objective, the best network alone.

        Raises:
            SearchError: no trial finished, or a certificate was altered or cut short.
        """
        names, sign = self.study.metric_names or [], signs(self.study)[0]
        rows = sorted(architectures(self.study, self.space), key=lambda r: -sign * r[1][0])
        files = _files(self.folder, self.chosen)
        found = []
        for architecture, values in rows if len(self.study.directions) > 1 else rows[:1]:
            file = files.get(str(architecture))
            certificate = None if file is None else certificate_in(file.with_suffix(".certificate.json"))
            named = dict(zip(names or [f"value{i}" for i in range(len(values))], values, strict=True))
            found.append(FrontMember(architecture, named, file, certificate, self))
        return tuple(found)

    @property
    def chosen(self) -> Architecture:
        """Network that the run hands over: the one with the best first objective.

        Raises:
            SearchError: no trial finished.
        """
        return self.folder.chosen(self.space) if self.folder.choice.exists() else best(self.study, self.space)

    @property
    def report(self) -> Path:
        """Page that tells the whole run."""
        return self.folder.report

    @cached_property
    def supernet(self) -> Supernet | None:
        """Supernet of inherited quality; None in a search without one.

        Raises:
            SearchError: the supernet is missing, or its training is not finished.
        """
        if INHERITED not in self.run.qualities:
            return None
        return supernet_of(self.folder, self.space, self.run.loaded_task(), self.run.seed, self.run.device)


def _files(folder: RunFolder, chosen: Architecture) -> dict[str, Path]:
    """ONNX files by the network that they hold."""
    found: dict[str, Path] = {}
    if folder.front.exists():
        try:
            with folder.front.open(newline="", encoding="utf-8") as text:
                found = {row["architecture"]: folder.members / f"{row['name']}.onnx" for row in csv.DictReader(text)}
        except (OSError, KeyError, UnicodeDecodeError, csv.Error) as err:
            raise SearchError(
                f"expected a table of exported networks in {str(folder.front)!r} ({err!r}).\n  Restore the file."
            ) from err
    if folder.network.exists():
        found[str(chosen)] = folder.network
    return found


@dataclass(frozen=True)
class TrainFound:
    """What a training gave."""

    run: TrainRun
    """What was asked for."""
    folder: RunFolder
    """Folder of the run."""
    rows: tuple[Mapping[str, Any], ...]
    """Metric of the largest, the smallest and a random subnet; of a subnet that was trained further, its metrics before
    and after. Empty in all but the first of several processes, and in folders that an older nasplat wrote."""

    @cached_property
    def space(self) -> Space:
        """Space of the supernet, with all of its presets."""
        return self.run.space if isinstance(self.run.space, Space) else self.folder.space

    @cached_property
    def supernet(self) -> Supernet:
        """Supernet with its weights; of a subnet that was trained further, a supernet of that subnet alone.

        Raises:
            SearchError: the training is not finished.
        """
        architecture = subnet_of(self.run, self.space)
        trained = self.space if architecture is None else self.space.only(architecture)
        return supernet_of(self.folder, trained, self.run.loaded_task(), self.run.seed, self.run.device)

    @property
    def path(self) -> Path | None:
        """ONNX file of the subnet that was trained further; None for a supernet."""
        return self.folder.network if self.folder.network.exists() else None

    @property
    def certificate(self) -> Certificate | None:
        """What was checked before that file was written; None for a supernet."""
        return certificate_in(self.folder.certificate)


@dataclass(frozen=True)
class LabelFound:
    """What a labelling gave."""

    run: LabelRun
    """What was asked for."""
    folder: RunFolder
    """Path of the table, with run.json and the journal beside it."""
    table: Table
    """One row for each training, those that failed included."""

    @property
    def failed(self) -> int:
        """Number of trainings that failed."""
        return sum(bool(row.get("failure")) for row in self.table.rows)


@dataclass(frozen=True)
class ImprovedNetwork:
    """A network that an improvement found."""

    name: str
    """Name of its files, such as 'found1'."""
    values: Mapping[str, Any]
    """Everything measured, by name: edits, predicted gain, costs, shares saved, metrics."""
    folder: RunFolder
    """Folder of the run."""

    @property
    def path(self) -> Path | None:
        """ONNX file of the network; None where it could not be exported."""
        file = self.folder.path / f"{self.name}.onnx"
        return file if file.exists() else None

    @property
    def certificate(self) -> Certificate | None:
        """What was checked before that file was written; None where there is none."""
        return certificate_in(self.folder.path / f"{self.name}.certificate.json")

    def module(self) -> torch.nn.Module:
        """Build the network.

        Returns:
            Module with its weights.

        Raises:
            EditError: its files are missing.
        """
        return read_improved(self.folder.path, self.name)


@dataclass(frozen=True)
class ImproveFound:
    """What an improvement found."""

    run: ImproveRun
    """What was asked for."""
    folder: RunFolder
    """Folder of the run."""
    original: Mapping[str, Any]
    """Everything measured of the network that the edits started from, by name."""
    candidates: tuple[ImprovedNetwork, ...]
    """Networks that save enough and keep enough, best first."""
    judged: int
    """Number of networks that the predictor was asked about."""
    unbuildable: int
    """Number of edits that were tried and could not be built."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Everything measured, one row per network, the original first."""
        return [dict(self.original), *(dict(c.values) for c in self.candidates)]


@dataclass(frozen=True)
class DemoFound:
    """What a demo found."""

    run: DemoRun
    """What was asked for."""
    folder: RunFolder
    """Folder of the run."""
    result: Mapping[str, Any]
    """Everything measured: 'scored', 'pareto', the found network beside its rivals, 'export' and 'seconds'."""


Found = SearchFound | TrainFound | LabelFound | ImproveFound | DemoFound
"""What a run gives, by its kind."""


def found_in(folder: RunFolder) -> Found:
    """Read what a finished run gave from its folder; nothing is run or written.

    Args:
        folder: Folder of the run, or the table of a labelling.

    Returns:
        The result that the run ended with.

    Raises:
        SearchError: the folder holds no run, its results are missing, or a file was altered or cut short.
        TableError: the table of a labelling was altered or cut short.
    """
    run = folder.run
    if isinstance(run, SearchRun):
        return SearchFound(run, folder, folder.study())
    if isinstance(run, TrainRun):
        if not folder.checkpoint.exists():
            raise _unfinished(folder, folder.checkpoint)
        rows: Any = read_json(folder.judged) or {}
        return TrainFound(run, folder, tuple(rows.get("rows", ())))
    if isinstance(run, LabelRun):
        return LabelFound(run, folder, read_labelled(folder))
    if isinstance(run, ImproveRun):
        about = read_json(folder.improved)
        try:
            networks = (about or {})["networks"]
            others = tuple(ImprovedNetwork(row["name"], row, folder) for row in networks[1:])
            return ImproveFound(run, folder, networks[0], others, *_counts(about or {}))
        except (KeyError, IndexError, TypeError) as err:
            raise _unfinished(folder, folder.improved) from err
    result = read_json(folder.results)
    if result is None or not isinstance(run, DemoRun):
        raise _unfinished(folder, folder.results)
    return DemoFound(run, folder, result)


def _counts(about: Mapping[str, Any]) -> tuple[int, int]:
    return int(about["judged"]), int(about["unbuildable_edits"])


def _unfinished(folder: RunFolder, file: Path) -> SearchError:
    return SearchError(
        f"run folder {str(folder)!r} has no results yet ({file} is missing or broken).\n  Run its command first."
    )
