"""Any run as one call: `execute` does it, `forecast` says what it takes, `words` ask for it, `open_run` reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import overload

from nasplat.errors import InputError
from nasplat.inputs import usable_device
from nasplat.runs import demo
from nasplat.runs.folder import RunFolder
from nasplat.runs.forecast import Forecast, forecast_labelling, forecast_search, forecast_training
from nasplat.runs.found import (
    DemoFound,
    Found,
    ImproveFound,
    LabelFound,
    SearchFound,
    TrainFound,
    found_in,
)
from nasplat.runs.improvement import run_improvement
from nasplat.runs.kinds import DemoRun, ImproveRun, LabelRun, SearchRun, TrainRun
from nasplat.runs.labelling import run_labelling
from nasplat.runs.messages import Messages
from nasplat.runs.run import AbstractRun
from nasplat.runs.searching import run_whole_search
from nasplat.runs.training import run_training

NOWHERE = Path(os.devnull) / "no folder"
"""Path below a file, where nothing can be."""
Progress = Messages | Callable[[str], object] | None
"""Where a run tells what it is doing: a function of a line of text, such as print, or None for silence."""


@overload
def execute(run: SearchRun, folder: str | Path | RunFolder, progress: Progress = None) -> SearchFound: ...
@overload
def execute(run: TrainRun, folder: str | Path | RunFolder, progress: Progress = None) -> TrainFound: ...
@overload
def execute(run: LabelRun, folder: str | Path | RunFolder, progress: Progress = None) -> LabelFound: ...
@overload
def execute(run: ImproveRun, folder: str | Path | RunFolder, progress: Progress = None) -> ImproveFound: ...
@overload
def execute(run: DemoRun, folder: str | Path | RunFolder, progress: Progress = None) -> DemoFound: ...
@overload
def execute(run: AbstractRun, folder: str | Path | RunFolder, progress: Progress = None) -> Found: ...
def execute(run: AbstractRun, folder: str | Path | RunFolder, progress: Progress = None) -> Found:
    """Do what a run asks for, as the command of its verb does; the same call goes on where an interrupted one stopped.

    Args:
        run: A `SearchRun`, `TrainRun`, `LabelRun`, `ImproveRun` or `DemoRun`.
        folder: Folder of the run, made where there is none; of a labelling, the table, ending in .csv or .csv.gz.
        progress: Called with a line of text whenever something was done, such as print; None for silence.

    Returns:
        What the run gave, as `open_run` reads it again: a search's study, front and chosen network; a training's
        supernet and rows; a labelling's table; an improvement's candidates; a demo's result.

    Raises:
        InputError: the device is not of this machine, or a setting cannot be used.
        SearchError: the folder holds another run, or a setting needs something that is not there.
        NasplatError: what the run calls refuses something; a run refused before it kept anything leaves the folder as
            it was.

    Example:
        >>> import tempfile
        >>> small = {"width": 4, "cells": 1, "image": 16, "channels": 1}
        >>> run = TrainRun("nasbench201", "digits-clutter?train=64&decide=32&test=32", small, {"epochs": 1})
        >>> found = execute(run, tempfile.mkdtemp())
        >>> [row["subnet"] for row in found.rows]
        ['largest', 'smallest', 'random']
    """
    place, messages = _folder(folder), Messages.of(progress)
    device = getattr(run, "device", None)
    if device is not None:
        usable_device(device)
    if isinstance(run, SearchRun):
        return SearchFound(run, place, run_whole_search(run, place, messages))
    if isinstance(run, TrainRun):
        return TrainFound(run, place, tuple(run_training(run, place, messages)))
    if isinstance(run, LabelRun):
        return LabelFound(run, place, run_labelling(run, place, messages))
    if isinstance(run, ImproveRun):
        run_improvement(run, place, messages)
        return found_in(place)
    if isinstance(run, DemoRun):
        return DemoFound(
            run, place, demo.run_demo(place.path, run.seed, demo.FAST if run.fast else demo.FULL, messages)
        )
    raise InputError(f"expected a run, got {type(run).__name__}.\n  Make one, such as nasplat.SearchRun('vit').")


def forecast(run: AbstractRun, folder: str | Path | RunFolder | None = None) -> Forecast:
    """Say what a run will take in time and memory: a few real steps are timed; nothing is written.

    Args:
        run: A `SearchRun`, `TrainRun` or `LabelRun`.
        folder: Folder of the run, whose finished work is not counted; None for a run that has not begun.

    Returns:
        Seconds with their interval, and bytes of memory, by part of the work.

    Raises:
        InputError: the run is of another kind, or its device is not of this machine.

    Example:
        >>> forecast(DemoRun())
        Traceback (most recent call last):
        ...
        nasplat.errors.InputError: expected a search, a training or a labelling to forecast, got a demo.
          Run it in a folder; it can be stopped, and goes on.
    """
    place = RunFolder(NOWHERE) if folder is None else _folder(folder)
    if isinstance(run, SearchRun | TrainRun):
        usable_device(run.device)
        return forecast_search(run, place) if isinstance(run, SearchRun) else forecast_training(run, place)
    if isinstance(run, LabelRun):
        usable_device(run.device)
        return forecast_labelling(run, place)
    raise InputError(
        f"expected a search, a training or a labelling to forecast, got a {run.verb}.\n"
        "  Run it in a folder; it can be stopped, and goes on."
    )


def words(run: AbstractRun) -> list[str]:
    """Return the words of a command line that ask for a run.

    Args:
        run: Run whose settings are written; those at their defaults are left out.

    Returns:
        Words after `nasplat`, the verb first; `--out FOLDER` is not among them.

    Raises:
        InputError: the run holds an object, such as a task of your own data, that no word stands for.

    Example:
        >>> words(SearchRun("vit", limits={"macs": 2e6}, train={"epochs": 3}))
        ['search', 'vit', '--limit=macs=2000000.0', '--train.epochs=3']
    """
    return run.to_words()


def open_run(folder: str | Path | RunFolder, trust: bool = False) -> Found:
    """Read what a run gave from its folder; nothing is run or written.

    Args:
        folder: Folder of the run; of a labelling, the table.
        trust: Whether Python files that the folder names, such as that of its space, may be run. A folder may come from
            somebody else: without it they are found only where this process loaded them, as by `load_space`.

    Returns:
        What `execute` returned: study, front and chosen network, rows and supernet, table, candidates, or result.

    Raises:
        SearchError: the folder holds no run, its results are missing, or a file was altered or cut short.
        TableError: the table of a labelling was altered or cut short.
        TrustError: the space is a Python file that was not loaded here, and `trust` is False; of a search or a
            training this is raised when its networks are asked for.

    Example:
        >>> open_run("nowhere")
        Traceback (most recent call last):
        ...
        nasplat.errors.SearchError: expected a run folder with run.json, got 'nowhere'.
          Give the --out of an earlier command.
    """
    place = _folder(folder)
    return found_in(RunFolder(place.path, trust) if trust else place)


def _folder(folder: str | Path | RunFolder) -> RunFolder:
    return folder if isinstance(folder, RunFolder) else RunFolder(folder)
