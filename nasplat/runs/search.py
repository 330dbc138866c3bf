"""A search by names: what was asked becomes objectives, guide and storage, is searched, and ends as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna

from nasplat.errors import InputError, SearchError
from nasplat.inputs import load_predictor
from nasplat.predict.latency import LatencyPredictor
from nasplat.runs.folder import RunFolder
from nasplat.runs.guide import AUTO, FITTED, Guide, fitted_guide, guide_of, timed
from nasplat.runs.messages import Messages
from nasplat.runs.training import (
    TrainRun,
    finished_supernet,
    loaded,
    share_supernet,
    shared_supernet,
    supernet_of,
    train_supernet,
)
from nasplat.searchspace import Space
from nasplat.study import (
    AbstractObjective,
    Counted,
    FrontPruner,
    Inherited,
    Measured,
    PredictedLatency,
    PredictorSampler,
    Trained,
)
from nasplat.study.ledger import Ledger
from nasplat.study.loop import Progress
from nasplat.study.search import open_study, search
from nasplat.study.stages import Staged, search_in_stages
from nasplat.study.storage import open_storage
from nasplat.supernet import Supernet, TrainConfig
from nasplat.task import Task
from nasplat.task.training import Budget
from nasplat.workflows.quality import Quality, learn_quality

LATENCY = "latency_ms"
"""Name of the predicted latency among limits and costs."""
PREDICTED, INHERITED, TRAINED = "predicted", "inherited", "trained"
"""Words for what quality of a network is searched for."""


@dataclass(frozen=True)
class SearchRun:
    """A search of one space for the Pareto set of quality and cost."""

    space: Space | str
    """Search space by name or path, such as 'vit' or './mine.py', or the space itself."""
    task: Task | str = "digits-clutter"
    """Task by name, a folder of pictures, IDX or npz files, or the task itself."""
    presets: Mapping[str, Any] = field(default_factory=dict)
    """Presets of a space that is given by name, such as {'width': 8}."""
    maximize: str = INHERITED
    """Quality that is searched for: 'inherited' from a supernet, 'trained' from scratch ('trained:12' for twelve
    epochs), or 'predicted'."""
    minimize: str = "macs"
    """Cost: 'macs', 'params', 'activation_bytes', 'latency' (each network timed), 'latency_ms' (predicted), or
    'none'."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Largest allowed cost by name, in the unit of the name: {'macs': 2e6, 'latency_ms': 20}."""
    trials: int = 40
    """Number of networks to evaluate, all workers together; a resumed run may ask for more."""
    guide: str = AUTO
    """Predictor that ranks proposals by name or folder; 'auto' finds one, 'none' leaves it out, 'fitted' fits one on
    `pilots`."""
    guide_at: Mapping[str, Any] | None = None
    """Presets at which the guide scores the choices, where it learnt from another size of the space; None for those
    of the search."""
    pilots: int = 40
    """Number of random networks that are evaluated first, on which guide 'fitted' is fitted."""
    latency: Path | None = None
    """Folder of a latency calibration of this device; None times networks of the space first, where latency_ms is
    asked for."""
    timed: int = 40
    """Number of networks that are timed to predict the latency of the others."""
    runtime: str = "onnxruntime"
    """Runtime of latency_ms: 'onnxruntime', 'eager' or 'compiled'."""
    exports: int | None = None
    """Number of members of the Pareto set that are exported, judged and timed as files; None exports the chosen one
    alone."""
    prune: bool = False
    """Whether trainings that cannot reach the Pareto front are stopped; for trained quality only."""
    stages: tuple[str, ...] = ()
    """Qualities from the cheapest to the truth, such as ('predicted', 'inherited', 'trained:12'); empty searches for
    `maximize` alone."""
    budget: float | None = None
    """Seconds of evaluation for all stages and workers together; None without stages."""
    storage: str | None = None
    """Optuna storage by URL or .journal file; None for a journal in the run folder."""
    supernet: Path | None = None
    """Run folder of `nasplat train` whose supernet is used; None trains one in the run folder."""
    workers: int = 1
    """Number of processes of one thread each that share the evaluations on this machine."""
    seed: int = 0
    """Number that decides sampler, trainings and every random draw."""
    device: str = "cpu"
    """Torch device of trainings and evaluations, such as 'cuda:0'."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How the supernet is trained; on a command line `--train.epochs=10`."""

    def __post_init__(self) -> None:
        """Check settings that depend on each other.

        Raises:
            InputError: stages without a budget, exports without a supernet, or a fitted guide that nothing asks.
        """
        if bool(self.stages) != (self.budget is not None):
            raise InputError("expected --stages and --budget together, got one of them.\n  Give both, or neither.")
        if self.exports is not None and INHERITED not in self.qualities:
            raise InputError(
                "--exports expected inherited quality: only subnets of a supernet have weights.\n  Leave it out."
            )
        if self.guide == FITTED and self.stages and PREDICTED not in self.stages:
            raise InputError(
                "--guide fitted expected a predicted stage, which it would answer, got none.\n"
                "  Add predicted to --stages, or leave --guide out."
            )

    @property
    def qualities(self) -> tuple[str, ...]:
        """Qualities that are evaluated: the stages, or the one that is maximised."""
        return self.stages or (self.maximize,)

    @property
    def is_guided(self) -> bool:
        """Whether a guide is asked: always but in stages none of which is predicted."""
        return not self.stages or PREDICTED in self.stages

    @property
    def is_timed(self) -> bool:
        """Whether a latency predictor is needed."""
        return LATENCY in self.limits or self.minimize == LATENCY

    def loaded(self) -> tuple[Space, Task]:
        """Return the space with its presets, and the task."""
        return loaded(self.space, self.presets, self.task)


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
            found[_predicted_latency(self.latency)] = value
        return found

    @property
    def costs(self) -> list[AbstractObjective]:
        """Objectives that are minimised."""
        return costs_named(self.run.minimize, self.latency)

    def objective(self, word: str) -> AbstractObjective:
        """Return the quality that a word names.

        Args:
            word: 'predicted', 'inherited', 'trained', or 'trained:12' for twelve epochs.

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


def quality_named(
    word: str, task: Task, supernet: Supernet | None, predicted: AbstractObjective | None, seed: int
) -> AbstractObjective:
    """Return the objective that a word names.

    Args:
        word: 'predicted', 'inherited', 'trained', or 'trained:12' for twelve epochs.
        task: Task of trained and inherited quality.
        supernet: Supernet of inherited quality; None where there is none.
        predicted: Objective that answers 'predicted'; None without a guide.
        seed: Number that decides initial values and order of the data in a training.

    Raises:
        SearchError: another word, or no predictor for 'predicted', or no supernet for 'inherited'.
    """
    kind, colon, epochs = word.partition(":")
    if kind == TRAINED and (not colon or epochs.isdigit()):
        return Trained(task, Budget(epochs=int(epochs)) if colon else None, seed)
    if word == INHERITED:
        if supernet is None:
            raise SearchError("inherited quality expected a supernet, got none.\n  Pass one, or use trained quality.")
        return Inherited(supernet)
    if word != PREDICTED:
        raise SearchError(
            f"expected predicted, inherited, trained or trained:EPOCHS, got {word!r}.\n  Use one of these."
        )
    if predicted is None:
        raise SearchError("predicted quality expected a --guide, got none.\n  Name a predictor.")
    return predicted


def costs_named(word: str, latency: LatencyPredictor | None = None) -> list[AbstractObjective]:
    """Return the objectives that are minimised.

    Args:
        word: 'macs', 'params', 'activation_bytes', 'latency' (each network timed), 'latency_ms' (predicted), or 'none'.
        latency: Predictor of this device for 'latency_ms'.

    Raises:
        SearchError: another word, or no predictor for 'latency_ms'.
    """
    if word == LATENCY:
        return [_predicted_latency(latency)]
    return [] if word == "none" else [Measured() if word == "latency" else Counted(word)]


def _predicted_latency(predictor: LatencyPredictor | None) -> PredictedLatency:
    if predictor is None:
        raise SearchError(
            "latency_ms expected a latency predictor of this device, got none.\n  Pass latency=nasplat.calibrate(…)."
        )
    return PredictedLatency(predictor)


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

    Raises:
        SearchError: a setting needs something that is not there, such as an unfinished supernet.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    messages = messages or Messages()
    space, task = run.loaded()
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


def choose_guide(run: SearchRun, space: Space, folder: RunFolder) -> Guide:
    """Choose the guide of a search, see `guide_of`; none where no stage is predicted.

    Args:
        run: Settings of the search.
        space: Space that is searched.
        folder: Folder of the run, which keeps its guide when it is resumed.
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
        training = TrainRun(space, task, config=run.train, seed=run.seed, device=run.device)
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


def run_search(prepared: Prepared, report: Callable[[Progress], None] | None = None) -> optuna.Study:
    """Search for the quality that a run maximises.

    Args:
        prepared: Search with everything that it needs.
        report: Called after each trial.

    Raises:
        SearchError: see `nasplat.search`.
    """
    return search(prepared.space, report=report, **_settings(prepared))


def open_run(prepared: Prepared) -> optuna.Study:
    """Create or load the study that the workers of a run share; of a run in stages, that of its last stage.

    Args:
        prepared: Search with everything that it needs.

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
