"""What a search needs before its first trial: supernet, guide, predictors of latency and quality, made or found."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import optuna

from nasplat.errors import SearchError
from nasplat.inputs import load_predictor
from nasplat.predict.latency import LatencyPredictor
from nasplat.runs.folder import RunFolder
from nasplat.runs.guide import Guide, fitted_guide, guide_of, timed
from nasplat.runs.kinds import AUTO, FITTED, SearchRun, TrainRun
from nasplat.runs.messages import Messages
from nasplat.runs.objectives import INHERITED, LATENCY, PREDICTED, costs_named, predicted_latency, quality_named
from nasplat.runs.reading import check_journal
from nasplat.runs.training import (
    finished_supernet,
    loaded,
    share_supernet,
    shared_supernet,
    supernet_of,
    train_supernet,
)
from nasplat.searchspace import Space
from nasplat.study import AbstractObjective, Limits
from nasplat.supernet import Supernet
from nasplat.task import Task
from nasplat.workflows.quality import Quality, learn_quality


@dataclass(frozen=True)
class Prepared:
    """What a search needs before its first trial: the objects that the names of a `SearchRun` stand for."""

    run: SearchRun
    """Settings of the search."""
    space: Space
    """Space that is searched."""
    task: Task
    """Task that says what quality means."""
    folder: RunFolder
    """Folder of the run."""
    guide: Guide
    """Predictor that ranks proposals and answers the predicted stage."""
    supernet: Supernet | None = None
    """Supernet whose subnets are evaluated; None where no quality is inherited."""
    latency: LatencyPredictor | None = None
    """Predictor of this device's latency; None where latency_ms is not asked for."""
    quality: Quality | None = None
    """Predictor fitted on pilots, with the pilots; None for every guide but 'fitted'."""

    @property
    def storage(self) -> str:
        """Optuna storage of the study."""
        return self.run.storage or str(self.folder.journal)

    @property
    def limits(self) -> dict[Any, float]:
        """Limits as `search` takes them: that of latency_ms is one on a predictor of this device.

        Raises:
            SearchError: latency_ms is limited and there is no such predictor.
        """
        found: dict[Any, float] = dict(self.run.limits)
        if LATENCY in found:
            value = found.pop(LATENCY)
            found[predicted_latency(self.latency)] = value
        return found

    @property
    def costs(self) -> list[AbstractObjective]:
        """Objectives that are minimised."""
        return costs_named(self.run.minimize, self.latency)

    def objective(self, word: str) -> AbstractObjective:
        """Return the quality that a word names.

        Args:
            word: 'predicted', 'inherited', 'trained', or 'trained:12' for twelve epochs.

        Returns:
            Objective of the run's task and seed.

        Raises:
            SearchError: another word, or no predictor for 'predicted'.
        """
        guess = self.guide.objective if self.quality is None else fitted_guide(self.quality)
        try:
            return quality_named(word, self.task, self.supernet, guess, self.run.seed)
        except SearchError as err:
            if word == PREDICTED and self.guide.why:
                raise SearchError(f"{err}\n  None was taken: {self.guide.why}.") from err
            raise


def prepare(
    run: SearchRun, folder: RunFolder, guide: Guide | None = None, messages: Messages | None = None
) -> Prepared:
    """Make everything that a search needs before its first trial, or find it in the run folder.

    A supernet is trained or loaded, networks are timed for latency_ms, and the pilots of a fitted guide are evaluated;
    each goes on where an interrupted run left it.

    Args:
        run: Settings of the search.
        folder: Folder of the run.
        guide: Guide that was chosen before; None chooses it.
        messages: Where progress and warnings go; None for silence.

    Returns:
        The run with everything that it names.

    Raises:
        SearchError: a setting needs something that is not there, such as an unfinished supernet.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    messages = messages or Messages()
    space, task = loaded(run, folder)
    found = Prepared(run, space, task, folder, guide or choose_guide(run, space, folder))
    if INHERITED in run.qualities:
        found = replace(found, supernet=_supernet(run, space, task, folder, messages))
    if run.is_timed:
        with messages.progress("timed") as update:
            place = run.latency or folder.latency
            found = replace(found, latency=timed(space, place, run.runtime, run.timed, run.seed, update))
        messages.say(_told_latency(found.latency))
    if run.guide == FITTED:
        with messages.progress("pilots") as update:
            found = replace(found, quality=fit_quality(found, update))
        messages.say(_told_quality(found.quality))
    return found


def look(run: SearchRun, space: Space, folder: RunFolder) -> None:
    """Look at everything that a search names, before anything is written.

    Args:
        run: Settings of the search.
        space: Space that is searched.
        folder: Folder of the run.

    Raises:
        SearchError: no network is within the limits, the supernet is missing or unfinished, the journal is broken, or
            several workers cannot be given the run.
        InputError: the run holds an object, and several workers would need its name.
    """
    folder.check_same(run)
    check_journal(run.storage or str(folder.journal))
    counted: dict[Any, float] = {k: v for k, v in run.limits.items() if k != LATENCY}
    Limits.of(counted).draw(space, random.Random(f"{run.seed} feasible"))
    if run.workers > 1:
        run.refuse_objects()
    if run.supernet is not None and not RunFolder(run.supernet).checkpoint.exists() and run.storage is None:
        raise SearchError(
            f"expected a run folder with a supernet, got {str(run.supernet)!r}.\n  Give the --out of `nasplat train`."
        )


def choose_guide(run: SearchRun, space: Space, folder: RunFolder) -> Guide:
    """Choose the guide of a search, see `guide_of`; none where no stage is predicted.

    Args:
        run: Settings of the search.
        space: Space that is searched.
        folder: Folder of the run, which keeps its guide when it is resumed.

    Returns:
        The guide with its objective, and why it was chosen.
    """
    if not run.is_guided and run.guide == AUTO:
        return Guide("none")
    if not run.is_guided:
        return Guide(run.guide)
    return guide_of(run.guide, run.guide_at, space, run.seed, folder)


def _supernet(run: SearchRun, space: Space, task: Task, folder: RunFolder, messages: Messages) -> Supernet:
    """Find the supernet where the search or another host left it, or train it."""
    source = folder if run.supernet is None else RunFolder(run.supernet)
    shared = None if source.checkpoint.exists() else shared_supernet(run.storage)
    if shared is not None:
        return finished_supernet(shared, space, task, run.seed, run.device)
    if run.supernet is not None:
        found = supernet_of(source, space, task, run.seed, run.device)
    else:
        training = TrainRun(space, task, train=run.train, seed=run.seed, device=run.device)
        found = train_supernet(training, space, task, folder, messages)
    if run.storage and source.checkpoint.exists():
        share_supernet(source.supernet, found.fingerprint)
    return found


def fit_quality(prepared: Prepared, report: Callable[[int, int, str], None] | None = None) -> Quality:
    """Fine-tune the universal predictor on the quality of random networks of the space.

    In stages the pilots get the cheapest quality that is not predicted itself.

    Args:
        prepared: Search whose quality is learnt.
        report: Called with (done, all, words about the last network).

    Returns:
        Predictor with its pilots, and its error on those left out.

    Raises:
        SearchError: there is no quality but the predicted one, or too few pilots finish.
    """
    run = prepared.run
    measured = [q for q in run.qualities if q != PREDICTED]
    if not measured:
        raise SearchError(
            "--guide fitted expected inherited or trained quality, got predicted.\n  Use --maximize inherited."
        )
    objective, base = prepared.objective(measured[0]), load_predictor("base")
    found = learn_quality(
        prepared.space, objective, base, prepared.folder.quality, run.pilots, prepared.limits, run.seed, report
    )
    found.predictor.metric = objective.name
    return found


def _told_latency(predictor: LatencyPredictor | None) -> str:
    assert predictor is not None
    about = predictor.validation_
    return (
        f"latency predictor, {about['networks']} networks timed, left out in turn: τ-b {about['tau']:.3f}, "
        f"mean error {about['mape_percent']:.1f} %"
    )


def _told_quality(quality: Quality | None) -> str:
    assert quality is not None
    about = quality.about
    return (
        f"quality predictor, {about['networks']} pilots, each left out once: τ-b {about['kendall_tau']:.2f} "
        f"(MACs alone {about['macs_tau']:.2f}), mean absolute error {about['mean_absolute_error']:.3g} "
        f"of {about['metric']}"
    )
