"""Repeat a run with the command that it recorded, and count what came out the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import optuna
import torch
from optuna.trial import TrialState

from nasplat.errors import SearchError
from nasplat.runs.folder import RunFolder
from nasplat.runs.guide import recorded_guide
from nasplat.study.storage import open_storage
from nasplat.supernet.checkpoint import read_checkpoint


def repeating(folder: RunFolder, out: Path) -> list[str]:
    """Return the words of the command that repeats a run elsewhere, with the guide that it found by itself.

    Args:
        folder: Folder of the run.
        out: Folder of the repetition.

    Returns:
        Words after `nasplat`.

    Raises:
        SearchError: the folder holds no run, or not the words of its command.
    """
    words, guide = folder.words, recorded_guide(folder)
    return with_out([*words, *([] if guide is None else ["--guide", guide])], out)


def with_out(words: Sequence[str], out: Path) -> list[str]:
    """Give a command another --out, and take away a storage of its own, which would be resumed.

    Args:
        words: Words of the command after `nasplat`.
        out: Folder of the repetition.

    Returns:
        Words after `nasplat`, --out last.

    Example:
        >>> with_out(["search", "vit", "--out=run", "--trials", "9"], Path("again"))
        ['search', 'vit', '--trials', '9', '--out', 'again']
    """
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in {"--out", "--storage"}:
            skip = True
        elif not word.startswith(("--out=", "--storage=")):
            kept.append(word)
    return [*kept, "--out", str(out)]


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
    try:
        study = optuna.load_study(study_name="nasplat", storage=open_storage(folder.storage))
    except KeyError as err:
        raise SearchError(
            f"expected a study in {folder.storage!r}, got none.\n  Give the --out of a search or a demo."
        ) from err
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [(t.user_attrs["architecture"], list(t.values)) for t in done]
