"""A search from its beginning to its report: prepared, carried out, handed over."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import optuna

from nasplat.errors import InputError
from nasplat.runs import listings
from nasplat.runs.folder import RunFolder
from nasplat.runs.kinds import SearchRun
from nasplat.runs.messages import Messages
from nasplat.runs.preparation import choose_guide, look, prepare
from nasplat.runs.results import best, deliver, pareto_rows, plan_of, unanswered
from nasplat.runs.training import loaded
from nasplat.runs.trials import carry_out
from nasplat.study.workers import PARENT


def is_worker() -> bool:
    """Tell whether this process was started by another one, to evaluate networks of its search.

    Returns:
        True in a worker of several.
    """
    return PARENT in os.environ


def run_whole_search(run: SearchRun, folder: RunFolder, messages: Messages | None = None) -> optuna.Study:
    """Search, and hand over what was found; the same call goes on where an interrupted one stopped.

    Args:
        run: Settings of the search.
        folder: Folder of the run.
        messages: Where lines, tables, warnings and progress go; None for silence.

    Returns:
        Study of the search; of one in stages, that of the last stage.

    Raises:
        SearchError: the folder holds another run, a setting needs something that is not there, or no trial finished.
        ExportError: a file does not compute what its network computes.
    """
    messages = messages or Messages()
    space, task = loaded(run, folder)
    look(run, space, folder)
    guide = choose_guide(run, space, folder)
    resolved = {"space": space.reference, "fingerprint": space.fingerprint, "task": repr(task), "guide": guide.name}
    with folder.described(run, resolved):
        for note in task.notes:
            messages.say(f"task {task.name}: {note}")
        if space.from_task:
            messages.say(f"space {space.name}: {space.from_task}")
        if guide.why:
            messages.say(f"guide {guide.name}: {guide.why}")
        prepared = prepare(replace(run, space=space, task=task, presets={}), folder, guide, messages)
        if prepared.supernet is not None:
            folder.record(supernet=prepared.supernet.fingerprint)
        study, plan = carry_out(prepared, worker_words(run, guide.name, folder), messages)
    best(study, prepared.space)  # where no trial finished, this says why
    if plan is not None:
        messages.show(plan_of(run.stages, plan))
    messages.show(listings.pareto_listing(pareto_rows(study, prepared.space), len(study.trials)))
    if text := unanswered(prepared, study):
        messages.warn(text)
    deliver(prepared, study, messages)
    return study


def work(run: SearchRun, folder: RunFolder) -> None:
    """Evaluate networks of a search that another process has described, until there are enough.

    Args:
        run: Settings of the search, with one worker and its guide by name.
        folder: Folder of the run.
    """
    space, task = loaded(run, folder)
    run = replace(run, space=space, task=task, presets={})
    carry_out(prepare(run, folder, choose_guide(run, space, folder)))


def worker_words(run: SearchRun, guide: str, folder: RunFolder) -> Sequence[str]:
    """Write the command of one worker of a search.

    Args:
        run: Settings of the search.
        guide: Name of the guide that was taken.
        folder: Folder of the run.

    Returns:
        Words after `nasplat`; nothing where the run holds objects that no words stand for.
    """
    try:
        return [*replace(run, guide=guide, workers=1).to_words(), "--out", str(folder), "--json"]
    except InputError:
        return []
