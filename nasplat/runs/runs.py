"""Run folders: what was asked, with what versions and hardware; and the joins that verbs and demo share.

The file is long because it is the one place where words of a command become spaces, predictors, objectives and samplers; what they do lies in rooms below.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

from nasplat import __version__, content
from nasplat.errors import SearchError
from nasplat.inputs import capture, load_predictor, resolve
from nasplat.predict.abilities import ComparesWithin
from nasplat.predict.folder import trained_on
from nasplat.predict.latency import LatencyPredictor
from nasplat.predict.registry import load
from nasplat.probes.conditions import Conditions, cache, device_name
from nasplat.runs import forecast
from nasplat.searchspace import Architecture, Space, list_spaces, load_space
from nasplat.study import (
    AbstractObjective,
    Counted,
    FrontPruner,
    Inherited,
    Measured,
    Predicted,
    PredictedLatency,
    PredictorSampler,
    Trained,
)
from nasplat.study.ledger import Ledger
from nasplat.study.search import CONTENTS, Progress, architectures, search
from nasplat.study.stages import PILOTS, Staged, search_in_stages
from nasplat.study.storage import open_storage
from nasplat.supernet import Supernet, TrainConfig
from nasplat.supernet.checkpoint import read_checkpoint
from nasplat.supernet.processes import current
from nasplat.task import Task
from nasplat.task.training import Budget
from nasplat.workflows.calibrate import calibrate, time_architecture
from nasplat.workflows.deliver import Member, agreement, hand_over, show
from nasplat.workflows.export import export
from nasplat.workflows.quality import Quality, learn_quality
from nasplat.workflows.score import compared

GROWING = ("trials", "budget", "exports")
"""Settings that a resumed run may have more of."""
LATENCY = "latency_ms"
"""Name of the predicted latency among limits and costs."""
FITTED = "fitted"
"""Name of the guide that is fitted on pilots."""
TIMED, PILOTED = 40, 40
"""Networks that are timed for a latency predictor, and evaluated for a quality predictor, unless the caller wants another number."""


def versions() -> dict[str, str]:
    """Versions of what decides results."""
    found = {"nasplat": __version__, "python": platform.python_version()}
    for name in ("torch", "optuna", "numpy", "scikit-learn", "onnx", "onnxruntime"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware() -> dict[str, Any]:
    """Processor, threads, accelerator."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {"cpu": device_name(torch.device("cpu")), "threads": torch.get_num_threads(), "gpu": gpu}


def describe(folder: Path, verb: str, settings: Mapping[str, Any], command: list[str] | None = None) -> None:
    """Write run.json: settings, versions, hardware and the command that repeats the run.

    Args:
        folder: Of the run.
        verb: search, train or demo.
        settings: Everything resolved that decides the result.
        command: Words after `nasplat`; default what was typed.

    Raises:
        SearchError: the folder holds a run with other settings.
    """
    file = folder / "run.json"
    plain = json.loads(json.dumps(settings, default=str))
    if file.exists():
        there = json.loads(file.read_text(encoding="utf-8"))
        if there.get("verb") == verb and there.get("settings") != plain:
            # an option that the folder is older than counts as not given
            changed = [
                k for k in plain if (there["settings"].get(k) or None) != (plain[k] or None) and k not in GROWING
            ]
            if changed:
                raise SearchError(
                    f"run folder {str(folder)!r} holds a {verb} with {changed[0]} {there['settings'].get(changed[0])!r}, got "
                    f"{plain[changed[0]]!r}.\n  Choose another --out, or repeat its command: {there['command']}"
                )
    folder.mkdir(parents=True, exist_ok=True)
    words = command if command is not None else sys.argv[1:]
    row = {"verb": verb, "settings": plain, "versions": versions(), "hardware": hardware()}
    row |= {"command": shlex.join(["nasplat", *words]), "words": words}
    file.write_text(
        json.dumps(row | {"started": time.strftime("%Y-%m-%d %H:%M:%S")}, indent=1) + "\n", encoding="utf-8"
    )


def guided(name: str, at: dict[str, Any] | None, space: Space, seed: int) -> Predicted:
    """A guide by name; a universal one compares with random architectures of the space.

    Args:
        name: Of a predictor, or its folder.
        at: Presets at which it scores the choices.
        space: To be searched.
        seed: Of the random architectures.
    """
    predictor = load_predictor(name)
    if isinstance(predictor, ComparesWithin):
        predictor = compared(predictor, space.with_presets(**at) if at else space, seed)
    return Predicted(predictor, at)


def run_search(
    space: Space,
    task: Task,
    folder: Path,
    *,
    supernet: Any = None,
    maximize: str = "inherited",
    minimize: str = "macs",
    limits: Mapping[str, float] | None = None,
    trials: int = 40,
    guide: str = "trees-nb201",
    guide_at: dict[str, Any] | None = None,
    latency: LatencyPredictor | None = None,
    fitted: Quality | None = None,
    prune: bool = False,
    storage: str | None = None,
    seed: int = 0,
    report: Callable[[Progress], None] | None = None,
) -> optuna.Study:
    """A search by names: objectives, guide and storage are put together here.

    Args:
        space: What is searched.
        task: What quality means.
        folder: Holds the journal, unless `storage` says otherwise.
        supernet: Needed for inherited quality.
        maximize: inherited, trained (trained:12 for so many epochs) or predicted.
        minimize: macs, params, activation_bytes, latency (measured), latency_ms (predicted) or none.
        limits: Largest allowed counts, and latency_ms.
        trials: Finished trials at the end.
        guide: Predictor that proposes, or none; fitted: the one of `fitted`.
        guide_at: Presets at which it scores the choices.
        latency: Predictor of this device.
        fitted: Predictor of quality, whose pilots are known to the search.
        prune: Stop trainings that cannot reach the Pareto front; with trained quality only.
        storage: Optuna storage.
        seed: Of sampler and training.
        report: Called after each trial.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    predicted = guided(guide, guide_at, space, seed) if guide not in {"none", FITTED} else None
    asked = [quality(maximize, task, supernet, predicted, seed)]
    is_error = asked[0].larger_is_better is False
    guess = predicted if fitted is None else _Guess(fitted, -1.0 if is_error else 1.0)
    return search(
        space,
        maximize=[] if is_error else asked,
        minimize=[*asked, *costs(minimize, latency)] if is_error else costs(minimize, latency),
        limits=bounds(limits, latency),
        n_trials=trials,
        sampler=PredictorSampler(guess, seed=seed),
        known=None if fitted is None else fitted.table,
        pruner=FrontPruner() if prune else None,
        storage=storage or str(folder / "study.journal"),
        seed=seed,
        report=report,
    )


class _Guess:
    """A fitted predictor as a guide: larger is better, in its support or not."""

    def __init__(self, fitted: Quality, sign: float) -> None:
        self.fitted, self.sign = fitted, sign

    def __call__(self, architecture: Architecture) -> float:
        return self.sign * self.fitted.predictor.rank_scores([architecture.canonical().graph()])[0]


def bounds(limits: Mapping[str, float] | None, latency: LatencyPredictor | None) -> dict[Any, float]:
    """Limits by name, that of latency_ms as what a predictor of this device expects.

    Raises:
        SearchError: there is none.
    """
    found: dict[Any, float] = dict(limits or {})
    if LATENCY in found:
        value = found.pop(LATENCY)
        found[_latency(latency)] = value
    return found


def _latency(predictor: LatencyPredictor | None) -> PredictedLatency:
    if predictor is None:
        raise SearchError(
            "latency_ms expected a latency predictor of this device, got none.\n  Pass latency=nasplat.calibrate(…)."
        )
    return PredictedLatency(predictor)


def timed(
    space: Space, folder: Path, runtime: str, n: int, seed: int, report: Callable[[int, int, str], None] | None = None
) -> LatencyPredictor:
    """A latency predictor of this device for a space: the one of a folder, or a new one that is kept there.

    Args:
        space: Whose networks are timed.
        folder: Of the calibration.
        runtime: eager, compiled, cuda-graph or onnxruntime.
        n: Networks.
        seed: Decides which.
        report: As for `calibrate`.
    """
    if not (folder / "recipe.toml").exists():
        calibrate([space], n, Conditions(runtime=runtime), folder, seed, report)
    found = load(folder)
    if not isinstance(found, LatencyPredictor):
        raise SearchError(
            f"expected a latency calibration, got {str(folder)!r}.\n  Give a folder of `nasplat measure --calibrate`."
        )
    found.to_graph = capture
    found.validation_ = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return found


def fit_quality(
    space: Space,
    task: Task,
    folder: Path,
    maximize: str,
    supernet: Any,
    n: int,
    limits: Mapping[str, float] | None,
    latency: LatencyPredictor | None,
    seed: int,
    report: Callable[[int, int, str], None] | None = None,
) -> Quality:
    """The universal predictor, fine-tuned on the inherited or trained quality of random networks of the space; arguments as for `run_search`.

    Raises:
        SearchError: quality is predicted already.
    """
    if maximize == "predicted":
        raise SearchError(
            "--guide fitted expected inherited or trained quality, got predicted.\n  Use --maximize inherited."
        )
    objective = quality(maximize, task, supernet, None, seed)
    return learn_quality(space, objective, load_predictor("base"), folder, n, bounds(limits, latency), seed, report)


def hand_over_front(
    study: optuna.Study,
    space: Space,
    supernet: Supernet,
    folder: Path,
    latency: LatencyPredictor | None,
    n: int,
    report: Callable[[int, int, str], None] | None = None,
) -> list[dict[str, Any]]:
    """Export up to n members of the Pareto set, spread along it, the best first objective among them; see `hand_over`.

    Args:
        study: Finished.
        space: Of the study.
        supernet: Whose weights they get.
        folder: Of the run.
        latency: Predictor of this device, if there is one.
        n: Files at most.
        report: As for `hand_over`.
    """
    sign = -1.0 if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else 1.0
    front = sorted(architectures(study, space), key=lambda r: sign * r[1][0])
    places = np.unique(np.linspace(0, len(front) - 1, min(n, len(front))).round().astype(int))
    members = [Member(f"{i:02d}", front[p][0], front[p][1][0]) for i, p in enumerate(places)]
    rows = hand_over(supernet, members, folder, latency, report)
    found = {"latency": agreement(rows), "validation": None if latency is None else latency.validation_}
    (folder / "front.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return rows


def run_stages(
    space: Space,
    task: Task,
    folder: Path,
    stages: Sequence[str],
    budget: float,
    *,
    supernet: Any = None,
    minimize: str = "macs",
    limits: Mapping[str, float] | None = None,
    guide: str = "trees-nb201",
    guide_at: dict[str, Any] | None = None,
    latency: LatencyPredictor | None = None,
    prune: bool = False,
    storage: str | None = None,
    seed: int = 0,
    report: Callable[[str, Progress], None] | None = None,
) -> Staged:
    """A search in stages by names.

    Args:
        space: What is searched.
        task: What quality means.
        folder: Holds the journal, unless `storage` says otherwise.
        stages: Such as predicted, inherited, trained:2, trained:12; the last one is the truth.
        budget: Seconds of evaluation, of all processes together.
        supernet: Needed for inherited quality.
        minimize: As for `run_search`.
        limits: As for `run_search`.
        guide: Predictor of the predicted stage.
        guide_at: Presets at which it scores the choices.
        latency: Predictor of this device.
        prune: Stop trainings of the last stage that cannot reach the Pareto front.
        storage: Optuna storage.
        seed: Of pilot, sampler and training.
        report: Called with the stage's name after each trial.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    predicted = None
    if "predicted" in stages and guide != "none":
        predicted = guided(guide, guide_at, space, seed)
    return search_in_stages(
        space,
        [quality(word, task, supernet, predicted, seed) for word in stages],
        budget,
        minimize=costs(minimize, latency),
        limits=bounds(limits, latency),
        pruner=FrontPruner() if prune else None,
        storage=storage or str(folder / "study.journal"),
        seed=seed,
        report=report,
    )


def quality(word: str, task: Task, supernet: Any, predicted: Predicted | None, seed: int) -> AbstractObjective:
    """The objective of a word: predicted, inherited, trained or trained:12.

    Raises:
        SearchError: another word, or no predictor for predicted.
    """
    kind, colon, epochs = word.partition(":")
    if kind == "trained" and (not colon or epochs.isdigit()):
        return Trained(task, Budget(epochs=int(epochs)) if colon else None, seed)
    if word == "inherited":
        return Inherited(supernet)
    if word != "predicted":
        raise SearchError(
            f"expected predicted, inherited, trained or trained:EPOCHS, got {word!r}.\n  Use one of these."
        )
    if predicted is None:
        raise SearchError("predicted quality expected a --guide, got none.\n  Name a predictor.")
    return predicted


def costs(word: str, latency: LatencyPredictor | None = None) -> list[AbstractObjective]:
    """What is minimised: macs, params, activation_bytes, latency, latency_ms as a predictor expects it; nothing for none."""
    if word == LATENCY:
        return [_latency(latency)]
    return [] if word == "none" else [Measured() if word == "latency" else Counted(word)]


def forecast_training(
    space: Space, task: Task, folder: Path, config: TrainConfig, seed: int, device: str
) -> forecast.Forecast:
    """What the training of a supernet will take.

    Args:
        space: Of the supernet.
        task: Of the supernet.
        folder: Of its checkpoint, whose epochs are done.
        config: How it will be trained.
        seed: Of the supernet.
        device: Where.
    """
    supernet = Supernet(space, task, seed, device)
    return forecast.forecast([forecast.supernet_epochs(supernet, config, _epochs_left(folder, config))], device=device)


def forecast_search(
    space: Space,
    task: Task,
    folder: Path,
    *,
    config: TrainConfig,
    maximize: str,
    minimize: str,
    limits: Mapping[str, float],
    trials: int,
    guide: str,
    guide_at: dict[str, Any] | None,
    prune: bool,
    storage: str | None,
    stages: Sequence[str],
    budget: float | None,
    workers: int,
    supernet_run: Path | None,
    seed: int,
    device: str,
    pilots: int | None = None,
    timed_networks: int | None = None,
    latency: Path | None = None,
    runtime: str | None = None,
) -> forecast.Forecast:
    """What a search by names will take; arguments as for `run_search` and `run_stages`.

    Args:
        space: What is searched.
        task: What quality means.
        folder: Of the run, whose trials are done.
        config: Of the supernet's training.
        maximize: As for `run_search`.
        minimize: As for `run_search`.
        limits: As for `run_search`.
        trials: As for `run_search`.
        guide: As for `run_search`.
        guide_at: As for `run_search`.
        prune: As for `run_search`.
        storage: As for `run_search`.
        stages: As for `run_stages`; empty for a plain search.
        budget: As for `run_stages`.
        workers: Processes that share the evaluations, one thread each.
        supernet_run: Run folder of a supernet that was trained before.
        seed: As for `run_search`.
        device: Where.
        pilots: Networks of a fitted guide.
        timed_networks: Networks that are timed for latency_ms.
        latency: Folder of a calibration, where there is one.
        runtime: In which they are timed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if workers > 1:
        torch.set_num_threads(1)
    words, parts, supernet = list(stages) or [maximize], list[forecast.Part](), None
    is_timed = LATENCY in limits or minimize == LATENCY
    if "inherited" in words:
        supernet = Supernet(space, task, seed, device)
        left = 0 if supernet_run else _epochs_left(folder / "supernet", config)
        parts.append(forecast.supernet_epochs(supernet, config, left))
    needed = guide not in {"none", FITTED} and (not stages or "predicted" in stages)
    predicted = guided(guide, guide_at, space, seed) if needed else None
    limits = {
        k: v for k, v in limits.items() if k != LATENCY
    }  # what a predictor would say of it is not known before networks were timed
    members, cost = forecast.draws(space, limits, seed), [] if minimize == LATENCY else costs(minimize)
    left = PILOTS if stages else max(0, trials - finished(folder, storage))
    if is_timed and not ((latency or folder / "latency") / "recipe.toml").exists():
        there = Conditions(runtime=runtime or "onnxruntime")
        parts.append(forecast.evaluations(_Timing(there, seed), members, timed_networks or TIMED))
    asked = [forecast.evaluations(quality(w, task, supernet, predicted, seed), members, left, prune) for w in words]
    asked += [forecast.evaluations(c, members, left) for c in cost if not c.is_cheap]
    parts += asked
    if guide == FITTED and not stages and not finished(folder, storage):
        parts[-len(asked)] = replace(parts[-len(asked)], count=left + (pilots or PILOTED))
    if budget is not None:
        parts.append(forecast.Part("the rest of --budget", 1, max(0.0, budget - sum(p.seconds for p in asked)), 0.0, 0))
    else:
        counted, sampler = [c for c in cost if c.is_cheap], PredictorSampler(predicted, seed=seed)
        parts.append(forecast.proposals(space, 1 + len(cost) - len(counted), counted, limits, sampler, left, seed))
    return forecast.forecast(parts, workers, device)


class _Timing(AbstractObjective):
    """A network timed as for a calibration; answers nothing of interest."""

    name = "networks timed"

    def __init__(self, conditions: Conditions, seed: int) -> None:
        self.conditions, self.seed = conditions, seed

    def __call__(self, architecture: Architecture) -> float:
        return time_architecture(architecture, self.conditions, self.seed).median_ms


def _epochs_left(folder: Path, config: TrainConfig) -> int:
    file = folder / "supernet.safetensors"
    done = int(read_checkpoint(file)[0]["epochs_done"]) if file.exists() else 0
    return max(0, config.epochs - done)


def teacher_of(reference: str, task: Task, device: str) -> Any:
    """Who teaches a supernet: the supernet of an earlier run folder, or a network.

    Args:
        reference: Folder of `nasplat train`, or a network as everywhere (file.py:factory, timm:name, space:encoding).
        task: Of the student.
        device: Where it runs.

    Raises:
        SearchError: the network cannot be run.
    """
    folder = Path(reference)
    if (folder / "supernet" / "supernet.safetensors").exists():
        about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        space = about["settings"]["space"]
        loaded = load_space(about["settings"]["argument"], **json.loads(space[space.index("{") :]))
        return trained(folder, loaded, task, device=device)
    found = resolve(reference)
    if isinstance(found, Architecture):
        return found.build()
    if not isinstance(found, torch.nn.Module):
        raise SearchError(
            f"--teacher expected a run folder or a network torch can run, got {reference!r}.\n  Give a module."
        )
    return found


def trained(folder: Path, space: Space, task: Task, seed: int = 0, device: str = "cpu") -> Supernet:
    """The supernet of a run folder; of a search that used another run's, that one.

    Args:
        folder: Of `nasplat train` or `nasplat search`.
        space: Of the supernet.
        task: Of the supernet.
        seed: For what follows.
        device: Where it runs.

    Raises:
        SearchError: there is none, or its training is not finished.
        SupernetError: it is of another space.
    """
    file = folder / "supernet" / "supernet.safetensors"
    if not file.exists() and (folder / "run.json").exists():
        used = json.loads((folder / "run.json").read_text(encoding="utf-8"))["settings"].get("supernet_run")
        file = file if used is None else Path(used) / "supernet" / "supernet.safetensors"
    if not file.exists():
        raise SearchError(
            f"expected a run folder with a supernet, got {str(folder)!r}.\n  Give the --out of `nasplat train`."
        )
    return finished_supernet(file, space, task, seed, device)


def finished_supernet(file: Path, space: Space, task: Task, seed: int = 0, device: str = "cpu") -> Supernet:
    """The supernet of a checkpoint whose training is finished; arguments and errors as for `trained`."""
    metadata, _ = read_checkpoint(file)
    done, planned = int(metadata["epochs_done"]), json.loads(metadata["config"])["epochs"]
    if done < planned:
        raise SearchError(
            f"the supernet {str(file)!r} has {done} of {planned} epochs.\n  Finish it: repeat the command that is in run.json beside it."
        )
    supernet = Supernet(space, task, seed, device, kernel_transforms=metadata.get("kernels", "{}") != "{}")
    supernet.load(file.parent)
    return supernet


def finetune(
    supernet: Supernet,
    architecture: Architecture,
    folder: Path,
    config: TrainConfig,
    report: Callable[[Any, int], None] | None,
) -> dict[str, Any]:
    """Train one subnet further with the recipe of supernets, and hand it over: best.onnx with its certificate, and chosen.json.

    Args:
        supernet: Whose weights it inherits.
        architecture: The subnet.
        folder: Of the run.
        config: How it is trained.
        report: Called after each epoch.

    Returns:
        The metric before and after on the decide split, and after on the test split; nothing in all but the first of several processes.
    """
    alone = supernet.specialise(architecture)
    alone.train(config=config, checkpoint=folder / "supernet", report=report)
    if not current().is_first:
        return {}
    member = alone.space.extreme()
    choose(folder, architecture, "fine-tuned")
    example: Any = architecture.example_input
    certificate = export(alone.subnet(member), folder / "best.onnx", example, task=supernet.task)
    show(folder / "best.onnx", supernet.task, folder / "pictures")
    return {
        "architecture": supernet.space.format(architecture),
        "inherited, decide": supernet.evaluate(architecture),
        "fine-tuned, decide": alone.evaluate(member),
        "fine-tuned, test": alone.evaluate(member, "test"),
        "max_relative_error": certificate.max_relative_error,
    }


def chosen(folder: Path, space: Space) -> Architecture:
    """The network that a run chose.

    Raises:
        SearchError: it chose none.
    """
    file = folder / "chosen.json"
    if not file.exists():
        raise SearchError(
            f"expected a run with a chosen network, got {str(folder)!r}.\n  Give --subnet, or the --out of a search."
        )
    return Architecture.from_json(json.loads(file.read_text(encoding="utf-8"))["architecture"], space)


def finished(folder: Path, storage: str | None) -> int:
    """Counted trials that a run folder or storage already has; nothing is written."""
    if storage is None or storage.endswith(".journal"):
        file = Path(storage or folder / "study.journal")
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


def share_supernet(folder: Path, fingerprint: str) -> Path:
    """Put a trained supernet into the user's cache folder under its hash, where other hosts that share the folder find it.

    Args:
        folder: That holds supernet.safetensors.
        fingerprint: Of its weights.
    """
    shared = cache() / "supernets" / fingerprint
    file = shared / "supernet.safetensors"
    if not file.exists():
        shared.mkdir(parents=True, exist_ok=True)
        partial = shared / f"supernet.safetensors.{os.getpid()}.partial"
        shutil.copyfile(folder / "supernet.safetensors", partial)
        os.replace(partial, file)
    return shared


def shared_supernet(storage: str | None) -> Path | None:
    """The supernet that the storage's study was started with, if this host's cache folder has it."""
    if storage is None:
        return None
    try:
        study = optuna.load_study(study_name="nasplat", storage=open_storage(storage))
    except KeyError:
        return None
    for fingerprint in json.loads(study.user_attrs.get(CONTENTS, "[]")):
        shared = cache() / "supernets" / str(fingerprint)
        if (shared / "supernet.safetensors").exists():
            return shared
    return None


def pareto_rows(study: optuna.Study, space: Space) -> list[dict[str, Any]]:
    """The Pareto set as rows, best quality first."""
    names = study.metric_names or []
    rows = []
    sign = -1.0 if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else 1.0
    for architecture, values in sorted(architectures(study, space), key=lambda r: sign * r[1][0]):
        graph = architecture.graph()
        row = {"architecture": space.format(architecture), "params": graph.params, "macs": graph.macs}
        rows.append(row | {n: v for n, v in zip(names, values, strict=True) if n not in row})
    return rows


def best(study: optuna.Study, space: Space) -> Architecture:
    """The finished trial with the best first objective.

    Raises:
        SearchError: no trial finished.
    """
    ranked = top(study, space, 1)
    if not ranked:
        raise SearchError("expected a finished trial, got none.\n  Look at the failed trials' tracebacks in the study.")
    return ranked[0]


def top(study: optuna.Study, space: Space, n: int) -> list[Architecture]:
    """The n finished trials with the best first objective."""
    sign = -1.0 if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else 1.0
    finished = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    ranked = sorted(finished, key=lambda t: sign * t.values[0])
    return [Architecture.from_json(t.user_attrs["architecture"], space) for t in ranked[:n]]


def choose(folder: Path, architecture: Architecture, why: str) -> None:
    """Write chosen.json: which network a run hands over, and why."""
    row = {"architecture": architecture.to_json(), "why": why}
    (folder / "chosen.json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def recorded(folder: Path) -> list[str]:
    """Words of the command that made a run folder.

    Raises:
        SearchError: the folder holds no run.
    """
    file = folder / "run.json"
    if not file.exists():
        raise SearchError(
            f"expected a run folder with run.json, got {str(folder)!r}.\n  Give the --out of an earlier command."
        )
    return list(json.loads(file.read_text(encoding="utf-8"))["words"])


def with_out(words: list[str], out: Path) -> list[str]:
    """The words of a command with another --out, and without a storage of its own that would be resumed."""
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


def compare(run: Path, other: Path) -> dict[str, int]:
    """How many finished trials of a run another run repeated, values included; of the training of a supernet, how many weights."""
    if json.loads((run / "run.json").read_text(encoding="utf-8"))["verb"] == "train":
        first, second = (
            {k: t for k, t in read_checkpoint(f / "supernet" / "supernet.safetensors")[1].items()} for f in (run, other)
        )
        names = [k for k in first if k.startswith("weight/")]
        return {"weights": len(names), "equal": sum(k in second and torch.equal(first[k], second[k]) for k in names)}

    def trials(folder: Path) -> list[tuple[str, list[float]]]:
        settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))["settings"]
        storage = open_storage(settings.get("storage") or str(folder / "study.journal"))
        study = optuna.load_study(study_name="nasplat", storage=storage)
        done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        return [(t.user_attrs["architecture"], list(t.values)) for t in done]

    first, second = trials(run), trials(other)
    return {"trials": len(first), "equal": sum(a == b for a, b in zip(first, second, strict=False))}


def diagnose() -> list[dict[str, Any]]:
    """What `doctor` checks: each row has check, ok, result."""
    rows: list[dict[str, Any]] = [{"check": k, "ok": v != "not installed", "result": v} for k, v in versions().items()]
    rows += [{"check": k, "ok": True, "result": str(v)} for k, v in hardware().items()]

    def attempt(check: str, action: Callable[[], str]) -> None:
        try:
            rows.append({"check": check, "ok": True, "result": action()})
        except Exception as err:
            rows.append({"check": check, "ok": False, "result": f"{type(err).__name__}: {err}"})

    rows.append({"check": "content", "ok": bool(list_spaces()), "result": str(content.folder("search_spaces"))})
    for name in list_spaces():
        attempt(f"space {name}", lambda name=name: str(load_space(name).sample(seed=0).graph()))
    for name in content.names("predictors"):

        def predict(name: str = name) -> str:
            space = trained_on(content.folder("predictors") / name).get("space", "nasbench201")
            answer = load_predictor(name).predict([load_space(space).sample(seed=1)])[0]
            return (
                f"{answer.mean:.2f} [{answer.low:.2f}, {answer.high:.2f}] {answer.metric}"
                if answer.mean
                else answer.reason
            )

        attempt(f"predictor {name}", predict)
    attempt("capture", lambda: str(capture(torch.nn.Linear(4, 2), (1, 4))))
    attempt("numpy", lambda: str(np.ones(2).sum()))
    return rows
