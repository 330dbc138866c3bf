"""Repeat a run as it was described, and count what came out the same."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import torch
from optuna.trial import TrialState

from nasplat.errors import SearchError
from nasplat.runs.folder import RunFolder, asking
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


def check_description(folder: RunFolder) -> None:
    """Check that run.json says one thing: a command that a person reads there is the one that is repeated.

    Args:
        folder: Folder of the run.

    Raises:
        SearchError: settings, words, command and space of run.json contradict each other.
    """
    about, run = folder.about, folder.run
    words, command, space = about["words"], about["command"], about["resolved"].get("space")
    wrong, named = "", getattr(run, "space", None)
    if words and "run" in about and _plain(type(run).from_words(asking(folder.words[1:]))) != _plain(run):
        wrong = f"settings {shlex.join(run.to_words())!r} and words {shlex.join(folder.words)!r}"
    elif words and command not in {"unknown", shlex.join(["nasplat", *words])}:
        wrong = f"command {command!r} and words {shlex.join(folder.words)!r}"
    elif isinstance(named, str) and space is not None and not str(space).startswith(f"{named}{{"):
        wrong = f"space {space!r} and a run in {str(named)!r}"
    if wrong:
        raise SearchError(
            f"expected one run in {str(folder.description)!r}, got {wrong}.\n  Restore the file; nothing was run."
        )


def python_files(run: AbstractRun) -> list[str]:
    """List the Python files that a run names, which run when it does.

    Args:
        run: Run whose settings are looked through.

    Returns:
        Texts of the settings, such as './mine.py' or 'net.py:factory', in their order; of folders of other runs among
        the settings, such as that of a teacher, what those name.
    """
    found = []
    values = run.to_dict().values()
    texts = [t for v in values for t in (v if isinstance(v, list) else [v]) if isinstance(t, str)]
    for text in (t.partition("?")[0] for t in texts):
        if text.endswith(".py") or ".py:" in text:
            found.append(text)
        elif RunFolder(text).description.exists():
            found += python_files(RunFolder(text).run)
    return list(dict.fromkeys(found))


def _plain(run: AbstractRun) -> object:
    return json.loads(json.dumps(run.to_dict()))


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
