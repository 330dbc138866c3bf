"""`Supernet`: train once, evaluate and extract thousands of subnets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasplat.errors import SupernetError
from nasplat.searchspace import Architecture, Space
from nasplat.searchspace.shaping import advice, are_several, sample_shape_of
from nasplat.supernet.adoption import adopt_weights
from nasplat.supernet.appointment import Guest, appointed_teacher
from nasplat.supernet.belonging import check_belongs
from nasplat.supernet.checkpoint import FILE, fingerprint, history_of, load_weights, read_checkpoint
from nasplat.supernet.config import OWN, TrainConfig
from nasplat.supernet.extremes import outermost
from nasplat.supernet.health import Checkup
from nasplat.supernet.history import Epoch, Report
from nasplat.supernet.recalibrate import check_buffers, recalibrate
from nasplat.supernet.sorting import sort_channels
from nasplat.supernet.strategy import Strategy, strategy_named
from nasplat.supernet.subnet import Subnets
from nasplat.supernet.survey import build_store
from nasplat.supernet.training import Trainer
from nasplat.tables.listing import Listing
from nasplat.task import Task
from nasplat.task.settings import overridden

CALIBRATION_IMAGES, FEWEST_IMAGES = 1024, 128
"""Training images behind a subnet's running statistics: of one that is handed over, and of one that is judged, at
least."""


def images_for(judged: int) -> int:
    """Say how many training images a subnet's running statistics need for an evaluation.

    The noise that they leave in a metric falls with their number as that of the judged examples does. With half as many
    of them as are judged it is about a quarter of the latter (`benchmarks/bench_recalibration.py`).

    Args:
        judged: Examples on which the subnet is judged.

    Returns:
        Number of images.

    Example:
        >>> images_for(100), images_for(416), images_for(10_000)
        (128, 208, 1024)
    """
    return min(CALIBRATION_IMAGES, max(FEWEST_IMAGES, judged // 2))


class Supernet:
    """One store of the largest weights of a space, trained on a task, from which every subnet takes slices.

    Example:
        >>> import nasplat
        >>> @nasplat.space(example_input=(1, 1, 16, 16))
        ... def tiny(pick):
        ...     width = pick("width", (8, 16, 32))
        ...     return nn.Sequential(nn.Flatten(), nn.Linear(256, width), nn.ReLU(), nn.Linear(width, 10))
        >>> task = nasplat.load_task("digits-clutter", train=64, decide=32, test=32)
        >>> supernet = nasplat.Supernet(tiny, task, seed=0)
        >>> history = supernet.train(epochs=2)
        >>> supernet
        Supernet(Space(tiny), digits-clutter, 0.009 M parameters, 2 epochs trained)
        >>> 0 <= supernet.evaluate(tiny.architecture({"width": 16})) <= 100
        True
        >>> sum(p.numel() for p in supernet.subnet(tiny.architecture({"width": 8})).parameters())
        2146
    """

    def __init__(
        self,
        space: Space,
        task: Task,
        seed: int = 0,
        device: str | torch.device = "cpu",
        kernel_transforms: bool = False,
    ) -> None:
        """Walk the space for the largest shapes, and fill them with initial values.

        Args:
            space: Search space whose members share weights; its input must fit the task, see `Space.for_task`.
            task: Data, loss and metric.
            seed: Seed of initial values, data order and sampling.
            device: Torch device to train on, such as 'cpu' or 'cuda:0'.
            kernel_transforms: True computes smaller depthwise kernels from larger ones by learnt matrices, as in
                Once-for-All; by default they are the centres of the larger ones.

        Raises:
            SupernetError: the space cannot share weights as it is written, or has buffers that only its training knows;
                or its input does not fit the task.
        """
        self.space, self.seed, self.device = space, seed, torch.device(device)
        self.task = task.to(self.device)
        check_input(space, task)
        self.store = build_store(space, seed, self.device, kernel_transforms)
        self.subnets = Subnets(self.store, self.device)
        check_buffers(self.subnets.build(outermost(space, True)).module, self.task.train.x[:CALIBRATION_IMAGES])
        self.history: list[Epoch] = []

    def __repr__(self) -> str:
        """Say the space, the task, the parameters and the epochs done."""
        return (
            f"Supernet({self.space!r}, {self.task.name}, {self._parameters / 1e6:.3f} M parameters, "
            f"{len(self.history)} epochs trained)"
        )

    def _repr_html_(self) -> str:
        """Show the same as a table in a notebook, with the loss of the last epoch."""
        rows = [
            ["space", repr(self.space)],
            ["task", f"{self.task.name} ({self.task.metric_name})"],
            ["parameters", f"{self._parameters / 1e6:.3f} M"],
            ["epochs trained", str(len(self.history))],
        ]
        if self.history:
            rows.append(["loss of the last epoch", f"{self.history[-1].loss:.4g}"])
        return Listing(["supernet", ""], rows).html()

    @property
    def _parameters(self) -> int:
        return sum(w.numel() for w in self.store.weights.values())

    def train(
        self,
        epochs: int | None = None,
        strategy: str | Strategy | None = None,
        checkpoint: str | Path | None = None,
        config: TrainConfig | None = None,
        report: Report | None = None,
        teacher: nn.Module | Supernet | str | None = None,
        **settings: Any,
    ) -> list[Epoch]:
        """Train the store; every subnet improves with it.

        Args:
            epochs: Passes over the training split; None for the configuration's.
            strategy: Which subnets a step trains: single-path, sandwich, warm-sandwich, progressive, shrinking or ovo,
                or a `Strategy` of your own; None for the configuration's.
            checkpoint: Folder written after each epoch; a training continues from it where it left off. None keeps
                nothing on disk.
            config: All settings at once; other arguments override it. None for the defaults of `TrainConfig`.
            report: Called after each epoch with (what it did, number of epochs planned).
            teacher: Who teaches in strategy ovo: a plain module; another supernet, whose subnets are sampled; or
                'sampled', 'largest' or 'none' among the networks of this one. None for the configuration's.
            settings: Further fields of `TrainConfig`, such as lr or batch_size.

        Returns:
            What every epoch did, in order.

        Raises:
            SupernetError: a setting is unknown or has no fitting value, the checkpoint belongs to another training, or
                a loss is not finite.

        Example:
            >>> import nasplat
            >>> @nasplat.space(example_input=(1, 1, 16, 16))
            ... def tiny(pick):
            ...     width = pick("width", (8, 16, 32))
            ...     return nn.Sequential(nn.Flatten(), nn.Linear(256, width), nn.ReLU(), nn.Linear(width, 10))
            >>> task = nasplat.load_task("digits-clutter", train=64, decide=32, test=32)
            >>> history = nasplat.Supernet(tiny, task).train(2, "sandwich", lr=1e-2)
            >>> history[-1].epoch, history[-1].phase, len(history[-1].health.random)
            (2, 'all', 8)
        """
        own = strategy if isinstance(strategy, Strategy) else None
        name = strategy if own is None else OWN + own.name
        given = {k: v for k, v in {"epochs": epochs, "strategy": name}.items() if v is not None}
        config = overridden(config or TrainConfig(), settings | given, SupernetError)
        if own is None:
            own = strategy_named(config.strategy)
        if teacher is not None:
            config = overridden(config, {"teacher": teacher if isinstance(teacher, str) else "given"}, SupernetError)
        guest = Guest(teacher.subnets, teacher.task) if isinstance(teacher, Supernet) else teacher
        guest = None if isinstance(guest, str) else guest
        checkup = Checkup(self.space, self.task, self._look) if config.watch else None
        appointed = appointed_teacher(config, own, self.subnets, self.task, guest)
        trainer = Trainer(self.subnets, self.task, self.seed, config, appointed, checkup, own)
        self.history = trainer.run(Path(checkpoint) if checkpoint else None, report)
        return self.history

    def load(self, checkpoint: str | Path) -> None:
        """Take over the weights of a checkpoint for evaluation.

        Args:
            checkpoint: Folder that `train` wrote.

        Raises:
            SupernetError: the checkpoint is missing, broken, or of another space.

        Example:
            >>> import nasplat
            >>> @nasplat.space(example_input=(1, 1, 16, 16))
            ... def tiny(pick):
            ...     return nn.Sequential(nn.Conv2d(1, 10, pick("side", (3, 5))), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            >>> supernet = nasplat.Supernet(tiny, nasplat.load_task("digits-clutter", train=64, decide=32, test=32))
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     history = supernet.train(epochs=1, checkpoint=folder)
            ...     again = nasplat.Supernet(tiny, supernet.task)
            ...     again.load(folder)
            >>> again.fingerprint == supernet.fingerprint
            True
        """
        file = Path(checkpoint) / FILE
        metadata, tensors = read_checkpoint(file)
        check_belongs(metadata, self.space, file)
        if any("#" in key for key in tensors) != bool(self.store.kernels):
            raise SupernetError(
                f"checkpoint {'with' if not self.store.kernels else 'without'} kernel transforms expected a supernet "
                f"of the same kind.\n  Build it with kernel_transforms={not self.store.kernels}."
            )
        self.history = history_of(metadata)
        load_weights(self.store, tensors, metadata)
        self.subnets.forget()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all weights with their names and shapes; supernets with equal ones evaluate equally."""
        return fingerprint(self.store)

    def subnet(self, architecture: Architecture) -> nn.Module:
        """Extract a plain module, independent of the store.

        Args:
            architecture: Member of the space.

        Returns:
            The module in eval mode, with the subnet's weights and BatchNorm statistics of its own.

        Raises:
            SupernetError: the architecture is of another space.

        Example:
            >>> import nasplat
            >>> @nasplat.space(example_input=(1, 1, 16, 16))
            ... def tiny(pick):
            ...     return nn.Sequential(nn.Conv2d(1, 10, pick("side", (3, 5))), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            >>> supernet = nasplat.Supernet(tiny, nasplat.load_task("digits-clutter", train=64, decide=32, test=32))
            >>> supernet.subnet(tiny.architecture({"side": 3}))[0].weight.shape
            torch.Size([10, 1, 3, 3])
        """
        self._check(architecture)
        module = self.subnets.extract(architecture)
        recalibrate(module, self.task.train.x[:CALIBRATION_IMAGES])
        return module.eval()

    def shared(self, architecture: Architecture) -> nn.Module:
        """Build the subnet as it lives inside the store; its parameters share the store's memory.

        Args:
            architecture: Member of the space.

        Returns:
            The module in eval mode, with BatchNorm statistics of its own.

        Raises:
            SupernetError: the architecture is of another space.
        """
        return self._calibrated(architecture, CALIBRATION_IMAGES).eval()

    def evaluate(self, architecture: Architecture, split: str = "decide", calibration: int | None = None) -> float:
        """Measure a subnet with inherited weights; BatchNorm statistics come from fixed training images.

        A pure function of store and architecture: nothing is written into the store.

        Args:
            architecture: Member of the space.
            split: Split to evaluate on: decide (for searches) or test (for the report).
            calibration: Training images behind the statistics; None takes as many as an evaluation on that split
                needs, see `images_for`.

        Returns:
            The task's metric, in its unit.

        Raises:
            SupernetError: the architecture is of another space.

        Example:
            >>> import nasplat
            >>> @nasplat.space(example_input=(1, 1, 16, 16))
            ... def tiny(pick):
            ...     return nn.Sequential(nn.Conv2d(1, 10, pick("side", (3, 5))), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            >>> supernet = nasplat.Supernet(tiny, nasplat.load_task("digits-clutter", train=64, decide=32, test=32))
            >>> 0 <= supernet.evaluate(tiny.architecture({"side": 3}), "test") <= 100
            True
        """
        images = images_for(len(self.task.split(split))) if calibration is None else calibration
        return self.task.evaluate(self._calibrated(architecture, images), split)

    def _look(self, architecture: Architecture, examples: int) -> float:
        return self.task.evaluate(self._calibrated(architecture, examples), "decide", limit=examples)

    def _calibrated(self, architecture: Architecture, images: int) -> nn.Module:
        self._check(architecture)
        bound = self.subnets.build(architecture)
        recalibrate(bound.module, self.task.train.x[:images])
        return bound.module

    def specialise(self, architecture: Architecture) -> Supernet:
        """Make a supernet of one subnet, which begins with its inherited weights: to train it further on its own.

        Args:
            architecture: Member of the space.

        Returns:
            A supernet with the same task and seed, whose space has one member; this one's store stays as it is.

        Raises:
            SupernetError: the architecture is of another space.

        Example:
            >>> import nasplat
            >>> @nasplat.space(example_input=(1, 1, 16, 16))
            ... def tiny(pick):
            ...     return nn.Sequential(nn.Conv2d(1, 10, pick("side", (3, 5))), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            >>> supernet = nasplat.Supernet(tiny, nasplat.load_task("digits-clutter", train=64, decide=32, test=32))
            >>> alone = supernet.specialise(tiny.architecture({"side": 3}))
            >>> alone.space.count().value
            1
        """
        self._check(architecture)
        alone = Supernet(self.space.only(architecture), self.task, self.seed, self.device)
        inherited = dict(self.subnets.extract(architecture).named_parameters())
        for name, weight in alone.store.weights.items():
            weight.copy_(inherited[name].detach())
        return alone

    def finetune(self, architecture: Architecture, **settings: Any) -> nn.Module:
        """Extract a subnet and train it further on its own; the store stays as it is.

        Args:
            architecture: Member of the space.
            settings: Arguments of `train`, such as epochs, lr, checkpoint or report.

        Returns:
            The trained module in eval mode.

        Example:
            >>> import nasplat
            >>> @nasplat.space(example_input=(1, 1, 16, 16))
            ... def tiny(pick):
            ...     return nn.Sequential(nn.Conv2d(1, 10, pick("side", (3, 5))), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            >>> supernet = nasplat.Supernet(tiny, nasplat.load_task("digits-clutter", train=64, decide=32, test=32))
            >>> module = supernet.finetune(tiny.architecture({"side": 3}), epochs=1, lr=1e-2)
            >>> module(supernet.task.test.x).shape
            torch.Size([32, 10])
        """
        alone = self.specialise(architecture)
        alone.train(**settings)
        return alone.subnet(alone.space.extreme())

    def adopt(self, network: nn.Module | Mapping[str, Tensor], architecture: Architecture | None = None) -> list[str]:
        """Take over the weights of a network that is a member of the space, such as a pretrained one.

        Args:
            network: Module, or state dict with the names that the member's parameters have.
            architecture: Architecture that the network is; None for the largest.

        Returns:
            Keys of the store that the network does not fill: they keep their values.

        Raises:
            SupernetError: names are missing or unknown, or shapes differ; nothing was changed then.

        Example:
            >>> import nasplat
            >>> @nasplat.space(example_input=(1, 1, 16, 16))
            ... def tiny(pick):
            ...     return nn.Sequential(nn.Conv2d(1, 10, pick("side", (3, 5))), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            >>> supernet = nasplat.Supernet(tiny, nasplat.load_task("digits-clutter", train=64, decide=32, test=32))
            >>> pretrained = nn.Sequential(nn.Conv2d(1, 10, 5))  # the largest member has the same names
            >>> supernet.adopt(pretrained)
            []
        """
        member = architecture or outermost(self.space, True)
        self._check(member)
        return adopt_weights(self.subnets, network, member)

    def sort_channels(self) -> dict[str, int]:
        """Put channels in the order of their importance, so that narrower subnets keep those that matter.

        The largest networks compute what they did; narrower ones change.

        Returns:
            For each choice whose channels were sorted, the number of weights that follow it.

        Example:
            >>> import nasplat
            >>> @nasplat.space(example_input=(1, 1, 16, 16))
            ... def tiny(pick):
            ...     width = pick("width", (8, 16))
            ...     return nn.Sequential(nn.Flatten(), nn.Linear(256, width), nn.Linear(width, 10))
            >>> task = nasplat.load_task("digits-clutter", train=64, decide=32, test=32)
            >>> nasplat.Supernet(tiny, task).sort_channels()
            {'width': 3}
        """
        found: dict[str, int] = {}
        for group in sort_channels(self.store):
            found[group.choice] = found.get(group.choice, 0) + len(group.axes)
        return found

    def _check(self, architecture: Architecture) -> None:
        if architecture.space != self.space:
            raise SupernetError(
                f"expected an architecture of {self.space!r}, got one of {architecture.space!r}.\n"
                "  Parse it in this space."
            )


def check_input(space: Space, task: Task) -> None:
    """Refuse a task whose examples have another shape or kind than the inputs of a space.

    Args:
        space: Space whose members read the examples.
        task: Task that has them.

    Raises:
        SupernetError: the shapes differ, where the message names presets that fit; or one of the two has tokens.
    """
    example: Any = space.sample(seed=0).example_input
    shape = sample_shape_of(example)
    if shape != task.input_shape:
        raise SupernetError(
            f"space {space!r} expected inputs of shape {shape}, task {task.name!r} has {task.input_shape}."
            f"\n  {advice(space, task)}"
        )
    x = task.train.x
    if are_several(example):
        _check_kinds(space, example, task)
        return
    if isinstance(example, torch.Tensor) and example.is_floating_point() != x.is_floating_point():
        raise SupernetError(
            f"space {space!r} expected inputs of {example.dtype}, task {task.name!r} has {x.dtype}.\n"
            "  Give tokens as int64 arrays of shape (n, length), and quantities as floats; or mend example_input."
        )
    if not x.is_floating_point():  # the largest token, before the whole supernet is made
        parts = [split.x for split in (task.train, task.decide, task.test)]
        rows = [part[part.flatten(1).amax(1).argmax()] if part.dim() > 1 else part.max() for part in parts]
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            task.answer(space.extreme(False).build().eval(), torch.stack(rows).cpu())


def _check_kinds(space: Space, example: Any, task: Task) -> None:
    """Refuse whole numbers where a network takes others, or the reverse, and numbers of nodes that there are not."""
    kinds = [isinstance(part, Tensor) and not part.is_floating_point() for part in example]
    given = [not part.is_floating_point() for part in task.train.x.parts]
    if kinds != given:
        words = [["whole numbers" if whole else "fractions" for whole in row] for row in (kinds, given)]
        raise SupernetError(
            f"space {space!r} expected inputs of {', '.join(words[0])}, task {task.name!r} has {', '.join(words[1])}.\n"
            "  Give numbers of nodes or tokens as int64, and quantities as floats."
        )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for split in (task.train, task.decide, task.test):
            task.answer(space.extreme(False).build().eval(), split.x[:CALIBRATION_IMAGES].cpu())
