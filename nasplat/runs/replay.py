"""Repeat a run as it was described, and count what came out the same."""

from __future__ import annotations

from dataclasses import replace

import torch
from optuna.trial import TrialState

from nasplat.runs.folder import RunFolder
from nasplat.runs.kinds import SearchRun
from nasplat.runs.run import AbstractRun
from nasplat.supernet.checkpoint import read_checkpoint


def repeating(folder: RunFolder) -> AbstractRun:
    """Return the run that repeats a run: with the guide that it found by itself, and no storage, which would resume.

    Args:
        folder: Folder of the run.

    Returns:
        Run for another folder.

    Raises:
        SearchError: the folder holds no run, or run.json does not say which.
    """
    run = folder.run
    if not isinstance(run, SearchRun):
        return run
    return replace(run, guide=folder.found_guide or run.guide, storage=None)


def count_equal(run: RunFolder, other: RunFolder) -> dict[str, int]:
    """Count what a repetition has in common with a run.

    Args:
        run: Folder of the run.
        other: Folder of the repetition.

    Returns:
        Of a training, the number of 'weights' and how many are 'equal', bit for bit; of a search, the number of
        finished 'trials' and how many are 'equal', values included.

    Raises:
        SearchError: a folder holds no run, or no study.
    """
    if run.about["verb"] == "train":
        first, second = (read_checkpoint(f.checkpoint)[1] for f in (run, other))
        names = [k for k in first if k.startswith("weight/")]
        return {"weights": len(names), "equal": sum(k in second and torch.equal(first[k], second[k]) for k in names)}
    before, after = _trials(run), _trials(other)
    return {"trials": len(before), "equal": sum(a == b for a, b in zip(before, after, strict=False))}


def _trials(folder: RunFolder) -> list[tuple[str, list[float]]]:
    """Architecture and values of every finished trial, in their order."""
    study = folder.study()
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [(t.user_attrs["architecture"], list(t.values)) for t in done]
