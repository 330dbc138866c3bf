"""Supernets of run folders: trained, found again, shared between hosts, and single subnets of them trained further."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import torch

from nasplat.errors import InputError, SearchError, SupernetError
from nasplat.inputs import load_task, resolve
from nasplat.probes.conditions import cache
from nasplat.runs.folder import RunFolder
from nasplat.runs.messages import Messages
from nasplat.searchspace import Architecture, Space, load_space
from nasplat.study.search import CONTENTS
from nasplat.study.storage import open_storage
from nasplat.supernet import Supernet, TrainConfig
from nasplat.supernet.checkpoint import FILE as CHECKPOINT_FILE
from nasplat.supernet.checkpoint import read_checkpoint
from nasplat.supernet.extremes import end
from nasplat.supernet.processes import current, join, leave
from nasplat.task import Task
from nasplat.workflows.deliver import show
from nasplat.workflows.export import export


@dataclass(frozen=True)
class TrainRun:
    """A training of a supernet, or of one subnet of an earlier run."""

    space: Space | str
    """Search space by name or path, such as 'vit' or './mine.py', or the space itself."""
    task: Task | str = "digits-clutter"
    """Task by name, a folder of pictures, IDX or npz files, or the task itself."""
    presets: Mapping[str, Any] = field(default_factory=dict)
    """Presets of a space that is given by name, such as {'width': 8}."""
    config: TrainConfig = field(default_factory=TrainConfig)
    """How long and by which strategy it is trained; on a command line `--train.epochs=10`."""
    teacher: str | None = None
    """Network, or run folder of an earlier training, that teaches in strategy ovo; None for subnets of the supernet
    itself."""
    kernel_transforms: bool = False
    """Whether smaller depthwise kernels come from larger ones by learnt matrices, as in Once-for-All, instead of
    their centre."""
    source: Path | None = None
    """Run folder of an earlier search or training, one subnet of which is trained further; None trains a supernet."""
    subnet: str | None = None
    """Encoding of the subnet that is trained further; None takes the one that the search chose."""
    seed: int = 0
    """Number that decides initial values, the subnets sampled and the order of the data."""
    device: str = "cpu"
    """Torch device to train on, such as 'cuda:0'."""

    def __post_init__(self) -> None:
        """Check that options of one subnet and those of a supernet are not mixed.

        Raises:
            InputError: options of both kinds were given.
        """
        if self.subnet is not None and self.source is None:
            raise InputError(
                "expected --from beside --subnet, got none.\n  Give the run whose supernet has the subnet."
            )
        if self.source is not None and (self.teacher is not None or self.kernel_transforms):
            raise InputError(
                "expected --from without --teacher and --kernel-transforms.\n"
                "  They belong to the training of a supernet."
            )

    def loaded(self, folder: RunFolder | None = None) -> tuple[Space, Task]:
        """Return the space with its presets, and the task.

        Args:
            folder: Folder of the run, which keeps the space that it was started with; None for a new run.

        Returns:
            Space and task.
        """
        return loaded(self.space, self.presets, self.task, folder, self.source and RunFolder(self.source))

    def architecture(self, space: Space) -> Architecture | None:
        """Return the subnet that is trained further, or None where a supernet is trained.

        Args:
            space: Space of the run.

        Returns:
            Architecture of the space, or None.

        Raises:
            SearchError: the earlier run chose no network and none was named.
        """
        if self.source is None:
            return None
        return space.parse(self.subnet) if self.subnet else RunFolder(self.source).chosen(space)


def loaded(
    space: Space | str, presets: Mapping[str, Any], task: Task | str, *earlier: RunFolder | None
) -> tuple[Space, Task]:
    """Turn names into a space and a task; objects stay as they are.

    Args:
        space: Space, or its name or path; what the presets leave open of such a one, the task decides.
        presets: Presets of a space that is given by name or path.
        task: Task, or its name or folder.
        earlier: Folders of runs that this one goes on with. Where one was made with the presets alone, the task decides
            nothing.

    Returns:
        Space and task.

    Raises:
        SpaceError: no network of the space runs on the task's inputs.
    """
    data = load_task(task) if isinstance(task, str) else task
    if not isinstance(space, str):
        return space, data
    named = load_space(space, **presets)
    if any(f is not None and f.is_of(named) for f in earlier):
        return named, data
    return named.for_task(data), data


def run_training(
    run: TrainRun, folder: RunFolder, options: Sequence[str] = (), messages: Messages | None = None
) -> list[dict[str, Any]]:
    """Train what a run asks for; started by torchrun, all its processes train together.

    Args:
        run: Settings of the training.
        folder: Folder of the run; the same call goes on where an interrupted one stopped.
        options: Words that the training settings came from, such as '--train.epochs=3'; run.json holds them.
        messages: Where progress and warnings go; None for silence.

    Returns:
        Of a supernet, the metric of its largest, its smallest and a random subnet; of a subnet, one row, see
        `train_further`. Nothing in all but the first of several processes.

    Raises:
        SearchError: the folder holds another run, or an earlier run lacks what is asked of it.
        SupernetError: see `train_supernet`.
    """
    space, task = run.loaded(folder)
    architecture = run.architecture(space)
    settings = {"argument": space.name if isinstance(run.space, Space) else run.space, "space": space.reference}
    settings |= {"task": repr(task), "seed": run.seed, "options": list(options), "teacher": run.teacher}
    settings |= {"kernel_transforms": run.kernel_transforms, "from": run.source, "subnet": run.subnet}
    processes, device = join(run.device)
    run, messages = replace(run, device=device), (messages or Messages()) if processes.is_first else Messages()
    try:
        if processes.is_first:
            folder.describe("train", settings)
            if space.from_task:
                messages.say(f"space {space.name}: {space.from_task}")
        if run.source is not None and architecture is not None:
            inherited = supernet_of(RunFolder(run.source), space, task, run.seed, device)
            with messages.epochs("subnet") as report:
                row = train_further(inherited, architecture, folder, run.config, report)
            return [row] if row else []
        supernet = train_supernet(run, space, task, folder, messages)
    finally:
        leave()
    if not processes.is_first:
        return []
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
        supernet.train(config=run.config, checkpoint=folder.supernet, teacher=teacher, report=report)
    return supernet


def epochs_left(checkpoint: Path, config: TrainConfig) -> int:
    """Count the epochs that a training has still to do.

    Args:
        checkpoint: File of the supernet, which need not exist.
        config: Settings of the training.

    Returns:
        Number of epochs, at least 0.
    """
    done = int(read_checkpoint(checkpoint)[0]["epochs_done"]) if checkpoint.exists() else 0
    return max(0, config.epochs - done)


def teacher_of(reference: str, task: Task, device: str) -> torch.nn.Module | Supernet:
    """Load who teaches a supernet: the supernet of an earlier run folder, or a network.

    Args:
        reference: Folder of `nasplat train`, or a network as everywhere: file.py:factory, timm:name, space:encoding.
        task: Task of the student.
        device: Torch device on which the teacher runs, such as 'cuda:0'.

    Returns:
        Module, or supernet whose subnets teach.

    Raises:
        SearchError: the network cannot be run, or the run folder does not say what its supernet is of.
    """
    folder = RunFolder(reference)
    if folder.checkpoint.exists():
        settings = folder.about["settings"]
        try:
            space = settings["space"]
            student = load_space(settings["argument"], **json.loads(space[space.index("{") :]))
        except (KeyError, TypeError, ValueError) as err:
            raise SearchError(
                f"expected the run of a training in {str(folder.description)!r}, got {settings}.\n"
                "  Give the --out of `nasplat train`."
            ) from err
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
        used = folder.about["settings"].get("supernet_run")
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
    try:
        done, planned = int(metadata["epochs_done"]), int(json.loads(metadata["config"])["epochs"])
    except (KeyError, TypeError, ValueError) as err:
        raise SupernetError(f"expected a checkpoint of a supernet, got {str(file)!r}.\n  Restore the file.") from err
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
        shared.mkdir(parents=True, exist_ok=True)
        partial = shared / f"{CHECKPOINT_FILE}.{os.getpid()}.partial"
        shutil.copyfile(folder / CHECKPOINT_FILE, partial)
        os.replace(partial, file)
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
