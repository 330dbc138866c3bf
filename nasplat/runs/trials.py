"""The trials of a search: of one process or several, for one quality or in stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna

from nasplat.errors import SearchError
from nasplat.runs.folder import RunFolder
from nasplat.runs.guide import fitted_guide
from nasplat.runs.messages import Messages
from nasplat.runs.preparation import Prepared
from nasplat.study import FrontPruner, PredictorSampler
from nasplat.study.allocation import Plan
from nasplat.study.ledger import Ledger
from nasplat.study.loop import Progress
from nasplat.study.search import open_study, search
from nasplat.study.stages import Staged, search_in_stages
from nasplat.study.storage import open_storage
from nasplat.study.workers import end_with_parent, share_out


def carry_out(
    prepared: Prepared, worker: Sequence[str] = (), messages: Messages | None = None
) -> tuple[optuna.Study, Plan | None]:
    """Run the trials of a search, in stages or not, by one process or several.

    Args:
        prepared: Search with everything that it needs.
        worker: Words of a command that makes one worker of this search; needed where the run asks for several.
        messages: Where progress goes; None for silence.

    Returns:
        The study, of the last stage where there are several; and the plan of the stages, None without stages.

    Raises:
        SearchError: see `nasplat.search` and `nasplat.search_in_stages`; or workers kept failing.
        KeyboardInterrupt: this process is a worker, and the one that started it is gone.
    """
    run, messages = prepared.run, messages or Messages()
    if run.workers > 1:
        total = None if run.stages else run.trials
        with messages.progress("search") as update:
            share_out(worker, run.workers, open_shared(prepared), total, update)
        messages = Messages()  # what follows is only what workers that died left
    with messages.progress("search") as update:

        def report(progress: Progress, stage: str = "") -> None:
            end_with_parent()
            update(progress.done, progress.total, f"{progress.refused} refused {stage}")

        if run.stages:
            staged = run_stages(prepared, lambda stage, progress: report(progress, stage))
            return staged.study, staged.plan
        return run_search(prepared, report=report), None


def run_search(prepared: Prepared, report: Callable[[Progress], None] | None = None) -> optuna.Study:
    """Search for the quality that a run maximises.

    Args:
        prepared: Search with everything that it needs.
        report: Called after each trial.

    Returns:
        Study with the objectives of the run.

    Raises:
        SearchError: see `nasplat.search`.
    """
    return search(prepared.space, report=report, **_settings(prepared))


def open_shared(prepared: Prepared) -> optuna.Study:
    """Create or load the study that the workers of a run share; of a run in stages, that of its last stage.

    Args:
        prepared: Search with everything that it needs.

    Returns:
        Study with the trials that others told.

    Raises:
        SearchError: see `nasplat.search`.
    """
    return open_study(prepared.space, **_settings(prepared))


def _settings(prepared: Prepared) -> dict[str, Any]:
    """Keywords of `nasplat.search` for a run."""
    run = prepared.run
    asked = prepared.objective(run.qualities[-1])
    is_error = asked.larger_is_better is False
    quality = None if run.stages else prepared.quality
    guess = prepared.guide.objective if quality is None else fitted_guide(quality, not is_error)
    return {
        "maximize": [] if is_error else [asked],
        "minimize": [asked, *prepared.costs] if is_error else prepared.costs,
        "limits": prepared.limits,
        "n_trials": run.trials,
        "sampler": PredictorSampler(guess, seed=run.seed),
        "known": None if quality is None else quality.table,
        "pruner": FrontPruner() if run.prune else None,
        "storage": prepared.storage,
        "seed": run.seed,
    }


def run_stages(prepared: Prepared, report: Callable[[str, Progress], None] | None = None) -> Staged:
    """Search in the stages of a run.

    Args:
        prepared: Search with everything that it needs.
        report: Called with the stage's name after each trial.

    Returns:
        Studies of all stages, and the plan that divided the budget.

    Raises:
        SearchError: see `nasplat.search_in_stages`.
    """
    run = prepared.run
    if run.budget is None:
        raise SearchError("expected a run with stages and a budget, got none.\n  Give stages=(…), budget=….")
    return search_in_stages(
        prepared.space,
        [prepared.objective(word) for word in run.stages],
        run.budget,
        minimize=prepared.costs,
        limits=prepared.limits,
        pruner=FrontPruner() if run.prune else None,
        storage=prepared.storage,
        seed=run.seed,
        report=report,
    )


def finished(folder: RunFolder, storage: str | None) -> int:
    """Count the trials that a run folder or storage already has; nothing is written.

    Args:
        folder: Folder of the run.
        storage: Optuna storage; None for the journal of the folder.

    Returns:
        Number of trials that count; 0 where there is no study.
    """
    if storage is None or storage.endswith(".journal"):
        file = Path(storage or folder.journal)
        if not file.exists():
            return 0
        storage = str(file)
    try:
        study = optuna.load_study(study_name="nasplat", storage=open_storage(storage))
    except KeyError:
        return 0
    ledger = Ledger()
    ledger.update(study)
    return ledger.done
