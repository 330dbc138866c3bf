"""Supernets of run folders: trained, found again, shared between hosts, and single subnets of them trained further."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import torch

from nasplat.errors import SearchError
from nasplat.inputs import resolve
from nasplat.probes.conditions import cache
from nasplat.runs.folder import RunFolder
from nasplat.runs.kinds import AbstractSpaceRun, SearchRun, TrainRun
from nasplat.runs.messages import Messages
from nasplat.runs.objectives import PREDICTED
from nasplat.searchspace import Architecture, Space
from nasplat.study.search import CONTENTS
from nasplat.study.storage import open_storage
from nasplat.supernet import Supernet, TrainConfig
from nasplat.supernet.checkpoint import FILE as CHECKPOINT_FILE
from nasplat.supernet.checkpoint import progress_of, read_checkpoint
from nasplat.supernet.extremes import end
from nasplat.supernet.processes import current, join, leave
from nasplat.tables.rows import write_atomically
from nasplat.task import Task
from nasplat.workflows.deliver import show
from nasplat.workflows.export import export


def loaded(run: AbstractSpaceRun, folder: RunFolder | None = None) -> tuple[Space, Task]:
    """Load the space and the task of a run; what the presets of a named space leave open, the task decides.

    Args:
        run: Settings of the run.
        folder: Folder of the run, which keeps the space that it was started with; None for a new run.

    Returns:
        Space and task.

    Raises:
        SpaceError: no network of the space runs on the task's inputs.
    """
    space, task = run.loaded_space(), run.loaded_task()
    if isinstance(run.space, Space):
        return space, task
    if isinstance(run, SearchRun) and set(run.qualities) == {PREDICTED}:
        return space, task  # no network meets the task: the predictor knows the space as it was labelled
    source = run.supernet if isinstance(run, SearchRun) else run.source if isinstance(run, TrainRun) else None
    earlier = [folder, None if source is None else RunFolder(source)]
    if any(f is not None and f.is_of(space) for f in earlier):
        return space, task  # made with the presets alone, as by an older nasplat
    return space.for_task(task), task


def subnet_of(run: TrainRun, space: Space) -> Architecture | None:
    """Return the subnet that is trained further, or None where a supernet is trained.

    Args:
        run: Settings of the training.
        space: Space of the run.

    Returns:
        Architecture of the space, or None.

    Raises:
        SearchError: the earlier run chose no network and none was named.
    """
    if run.source is None:
        return None
    return space.parse(run.subnet) if run.subnet else RunFolder(run.source).chosen(space)


def run_training(run: TrainRun, folder: RunFolder, messages: Messages | None = None) -> list[dict[str, Any]]:
    """Train what a run asks for; started by torchrun, all its processes train together.

    Args:
        run: Settings of the training.
        folder: Folder of the run; the same call goes on where an interrupted one stopped.
        messages: Where progress and warnings go; None for silence.

    Returns:
        Of a supernet, the metric of its largest, its smallest and a random subnet; of a subnet, one row, see
        `train_further`. Nothing in all but the first of several processes.

    Raises:
        SearchError: the folder holds another run, or an earlier run lacks what is asked of it.
        SupernetError: see `train_supernet`.
    """
    space, task = loaded(run, folder)
    architecture = subnet_of(run, space)
    processes, device = join(run.device)
    messages = (messages or Messages()) if processes.is_first else Messages()
    resolved = {"space": space.reference, "fingerprint": space.fingerprint, "task": repr(task)}
    try:
        with folder.described(run, resolved) if processes.is_first else nullcontext():
            for note in task.notes:
                messages.say(f"task {task.name}: {note}")
            if space.from_task:
                messages.say(f"space {space.name}: {space.from_task}")
            run = replace(run, device=device)
            rows = _trained(run, space, task, architecture, folder, messages)
    finally:
        leave()
    if not processes.is_first:
        return []
    write_atomically(folder.judged, json.dumps({"rows": rows}, indent=1) + "\n")
    return rows


def _trained(
    run: TrainRun, space: Space, task: Task, architecture: Architecture | None, folder: RunFolder, messages: Messages
) -> list[dict[str, Any]]:
    """Train the supernet, or the subnet where there is one, and judge what came out."""
    if run.source is not None and architecture is not None:
        inherited = supernet_of(RunFolder(run.source), space, task, run.seed, run.device)
        with messages.epochs("subnet") as report:
            row = train_further(inherited, architecture, folder, run.train, report)
        return [row] if row else []
    supernet = train_supernet(run, space, task, folder, messages)
    if not current().is_first:
        return []
    folder.record(supernet=supernet.fingerprint)
    members = {"largest": end(space, True, 0), "smallest": end(space, False, 0), "random": space.sample(seed=1)}
    return [{"subnet": k, "architecture": str(a), task.metric_name: supernet.evaluate(a)} for k, a in members.items()]


def train_supernet(
    run: TrainRun, space: Space, task: Task, folder: RunFolder, messages: Messages | None = None
) -> Supernet:
    """Train the supernet of a run, or go on with it where it was interrupted.

    Args:
        run: Settings of the training.
        space: Space of the run.
        task: Task of the run.
        folder: Folder that holds the checkpoint, written after every epoch.
        messages: Where progress and warnings go; None for silence.

    Returns:
        Supernet after its last epoch.

    Raises:
        SearchError: the teacher cannot be run.
        SupernetError: the checkpoint is of another supernet, or the loss is not finite.
    """
    teacher = None if run.teacher is None else teacher_of(run.teacher, task, run.device)
    supernet = Supernet(space, task, run.seed, run.device, kernel_transforms=run.kernel_transforms)
    with (messages or Messages()).epochs("supernet") as report:
        supernet.train(config=run.train, checkpoint=folder.supernet, teacher=teacher, report=report)
    return supernet


def epochs_left(checkpoint: Path, config: TrainConfig) -> int:
    """Count the epochs that a training has still to do.

    Args:
        checkpoint: File of the supernet, which need not exist.
        config: Settings of the training.

    Returns:
        Number of epochs, at least 0.
    """
    done = progress_of(read_checkpoint(checkpoint)[0], checkpoint)[0] if checkpoint.exists() else 0
    return max(0, config.epochs - done)


def teacher_of(reference: str, task: Task, device: str) -> torch.nn.Module | Supernet:
    """Load who teaches a supernet: the supernet of an earlier run folder, or a network.

    Args:
        reference: Folder of `nasplat train`, or a network as everywhere: file.py:factory, timm:name,
            pytorchcv:name, space:encoding.
        task: Task of the student.
        device: Torch device on which the teacher runs, such as 'cuda:0'.

    Returns:
        Module, or supernet whose subnets teach.

    Raises:
        SearchError: the network cannot be run, or the run folder does not say what its supernet is of.
    """
    folder = RunFolder(reference)
    if folder.checkpoint.exists():
        taught = folder.run
        if not isinstance(taught, AbstractSpaceRun):
            raise SearchError(
                f"expected the run of a training in {str(folder.description)!r}, got a {taught.verb}.\n"
                "  Give the --out of `nasplat train`."
            )
        student = folder.space
        return supernet_of(folder, student, task, device=device)
    found = resolve(reference)
    if isinstance(found, Architecture):
        return found.build()
    if not isinstance(found, torch.nn.Module):
        raise SearchError(
            f"--teacher expected a run folder or a network torch can run, got {reference!r}.\n  Give a module."
        )
    return found


def supernet_of(folder: RunFolder, space: Space, task: Task, seed: int = 0, device: str = "cpu") -> Supernet:
    """Load the supernet of a run folder; of a search that used another run's supernet, that one.

    Args:
        folder: Folder of `nasplat train` or `nasplat search`.
        space: Space of the supernet.
        task: Task of the supernet.
        seed: Number that decides what is random in later work.
        device: Torch device on which it runs, such as 'cuda:0'.

    Returns:
        Supernet with its weights.

    Raises:
        SearchError: there is none, or its training is not finished.
        SupernetError: it is of another space.
    """
    file = folder.checkpoint
    if not file.exists() and folder.description.exists():
        run = folder.run
        used = run.supernet if isinstance(run, SearchRun) else None
        file = file if used is None else RunFolder(used).checkpoint
    if not file.exists():
        raise SearchError(
            f"expected a run folder with a supernet, got {str(folder)!r}.\n  Give the --out of `nasplat train`."
        )
    return finished_supernet(file, space, task, seed, device)


def finished_supernet(file: Path, space: Space, task: Task, seed: int = 0, device: str = "cpu") -> Supernet:
    """Load the supernet of a checkpoint whose training is finished.

    Args:
        file: Checkpoint of the supernet.
        space: Space of the supernet.
        task: Task of the supernet.
        seed: Number that decides what is random in later work.
        device: Torch device on which it runs, such as 'cuda:0'.

    Returns:
        Supernet with its weights.

    Raises:
        SearchError: the training is not finished.
        SupernetError: the checkpoint is broken, or of another space.
    """
    metadata, _ = read_checkpoint(file)
    done, planned = progress_of(metadata, file)
    if done < planned:
        raise SearchError(
            f"the supernet {str(file)!r} has {done} of {planned} epochs.\n"
            "  Finish it: repeat the command that is in run.json beside it."
        )
    supernet = Supernet(space, task, seed, device, kernel_transforms=metadata.get("kernels", "{}") != "{}")
    supernet.load(file.parent)
    return supernet


def train_further(
    supernet: Supernet,
    architecture: Architecture,
    folder: RunFolder,
    config: TrainConfig,
    report: Callable[[Any, int], None] | None = None,
) -> dict[str, Any]:
    """Train one subnet further with the recipe of supernets, and export it with its certificate.

    Args:
        supernet: Supernet whose weights the subnet inherits.
        architecture: Subnet that is trained further.
        folder: Folder of the run, which gets the checkpoint, the ONNX file and the choice.
        config: How long and how the subnet is trained.
        report: Called with (Epoch, all epochs) after each epoch.

    Returns:
        The metric before and after on the decide split, and after on the test split; nothing in all but the first of
        several processes.
    """
    alone = supernet.specialise(architecture)
    alone.train(config=config, checkpoint=folder.supernet, report=report)
    if not current().is_first:
        return {}
    member = alone.space.extreme()
    folder.choose(architecture, "fine-tuned")
    example: Any = architecture.example_input
    certificate = export(alone.subnet(member), folder.network, example, task=supernet.task)
    folder.record(files={folder.network.name: certificate.sha256}, supernet=alone.fingerprint)
    show(folder.network, supernet.task, folder.pictures)
    return {
        "architecture": supernet.space.format(architecture),
        "inherited, decide": supernet.evaluate(architecture),
        "fine-tuned, decide": alone.evaluate(member),
        "fine-tuned, test": alone.evaluate(member, "test"),
        "max_relative_error": certificate.max_relative_error,
    }


def share_supernet(folder: Path, fingerprint: str) -> Path:
    """Put a trained supernet into the user's cache folder under its hash, where hosts that share the folder find it.

    Args:
        folder: Folder that holds the checkpoint.
        fingerprint: Hash of the weights.

    Returns:
        Folder in the cache.
    """
    shared = cache() / "supernets" / fingerprint
    file = shared / CHECKPOINT_FILE
    if not file.exists():
        write_atomically(file, (folder / CHECKPOINT_FILE).read_bytes())
    return shared


def shared_supernet(storage: str | None) -> Path | None:
    """Find the checkpoint of the supernet that a storage's study was started with.

    Args:
        storage: Optuna storage; None for a run that shares nothing.

    Returns:
        Checkpoint in this host's cache folder; None where it has none.
    """
    if storage is None:
        return None
    try:
        study = optuna.load_study(study_name="nasplat", storage=open_storage(storage))
    except KeyError:
        return None
    for fingerprint in json.loads(study.user_attrs.get(CONTENTS, "[]")):
        file = cache() / "supernets" / str(fingerprint) / CHECKPOINT_FILE
        if file.exists():
            return file
    return None
