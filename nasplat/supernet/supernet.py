"""`Supernet`: train once, evaluate and extract thousands of subnets."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasplat.errors import SupernetError
from nasplat.searchspace import Architecture, Space
from nasplat.supernet.health import Watch
from nasplat.supernet.recalibrate import needs_recalibration, recalibrate
from nasplat.supernet.sorting import sort_channels
from nasplat.supernet.store import build_store, outermost
from nasplat.supernet.strategy import STRATEGIES, Strategy, strategy_named
from nasplat.supernet.subnet import Subnets
from nasplat.supernet.teacher import FormerSelf, Network, OtherSupernet, OwnTeacher, Teacher
from nasplat.supernet.training import (
    OWN,
    Epoch,
    Report,
    TrainConfig,
    Trainer,
    fingerprint,
    load_weights,
    read_checkpoint,
)
from nasplat.task import Task

CALIBRATION_IMAGES = 1024
"""Training images behind a subnet's BatchNorm statistics."""


class Supernet:
    """One store of the largest weights of a space, trained on a task."""

    def __init__(
        self,
        space: Space,
        task: Task,
        seed: int = 0,
        device: str | torch.device = "cpu",
        kernel_transforms: bool = False,
    ) -> None:
        """Args:
            space: Any search space.
            task: Data, loss and metric.
            seed: Decides initial values, data order and sampling.
            device: Where to train, such as "cpu" or "cuda".
            kernel_transforms: Smaller depthwise kernels are computed from larger ones by learnt matrices, as in Once-for-All.

        Raises:
            SupernetError: the space cannot share weights as it is written; or its input does not fit the task.
        """
        self.space, self.seed, self.device = space, seed, torch.device(device)
        self.task = task.to(self.device)
        shape = space.sample(seed=0).example_input
        if tuple(shape)[1:] != task.input_shape:  # type: ignore[arg-type]
            raise SupernetError(
                f"space {space!r} expected inputs of shape {tuple(shape)[1:]}, task {task.name!r} has {task.input_shape}.\n"  # type: ignore[arg-type]
                f"  {_advice(space, task.input_shape)}"
            )
        self.store = build_store(space, seed, self.device, kernel_transforms)
        self.subnets = Subnets(self.store, self.device)
        self.history: list[Epoch] = []

    def __repr__(self) -> str:
        size = sum(w.numel() for w in self.store.weights.values())
        return f"Supernet({self.space!r}, {self.task.name}, {size / 1e6:.3f} M parameters, {len(self.history)} epochs trained)"

    def train(
        self,
        epochs: int | None = None,
        strategy: str | Strategy | None = None,
        checkpoint: str | Path | None = None,
        config: TrainConfig | None = None,
        report: Report | None = None,
        teacher: nn.Module | Supernet | None = None,
        **options: Any,
    ) -> list[Epoch]:
        """Train the store.

        Args:
            epochs: Passes over the training split; default of `TrainConfig`.
            strategy: single-path, sandwich, warm-sandwich, progressive, shrinking, ovo, or a `Strategy` of your own.
            checkpoint: Folder written after each epoch; a run continues from it where it left off.
            config: All settings at once; other arguments override it.
            report: Called after each epoch with (Epoch, total epochs).
            teacher: Of strategy ovo: a plain module, or another supernet, whose subnets are sampled; by default subnets of this one.
            options: Further fields of `TrainConfig`, such as lr or batch_size.

        Returns:
            One row per epoch.

        Raises:
            SupernetError: unknown options, a foreign checkpoint, or a loss that is not finite.
        """
        own = strategy if isinstance(strategy, Strategy) else None
        name = strategy if isinstance(strategy, str) else None if own is None else OWN + own.name
        given = options | {k: v for k, v in {"epochs": epochs, "strategy": name}.items() if v is not None}
        known = [f.name for f in fields(TrainConfig)]
        for option in given:
            if option not in known:
                raise SupernetError(f"expected options among {', '.join(known)}, got {option!r}.\n  Use one of these.")
        config = replace(config or TrainConfig(), **given)
        if own is None:
            own = strategy_named(config.strategy)
        if teacher is not None:
            config = replace(config, teacher="given")
        watch = Watch(self.space, self.task, self._look) if config.watch else None
        trainer = Trainer(
            self.store, self.subnets, self.task, self.seed, config, self._teacher(config, own, teacher), watch, own
        )
        self.history = trainer.run(Path(checkpoint) if checkpoint else None, report)
        return self.history

    def _teacher(self, config: TrainConfig, strategy: Strategy, given: nn.Module | Supernet | None) -> Teacher | None:
        if strategy.remembers and config.distill_weight > 0 and given is None:
            return FormerSelf(self, with_features=config.distill == "features")
        if config.strategy in STRATEGIES and not strategy.distils:
            if given is not None:
                raise SupernetError(
                    f"expected strategy 'ovo' beside a teacher, got {config.strategy!r}.\n  Pass strategy=\"ovo\"."
                )
            return None
        features = config.distill == "features"
        options: dict[str, Any] = {
            "joint": config.joint,
            "pick": config.pick,
            "draws": config.draws,
            "with_features": features,
        }
        if config.teacher == "given":
            if given is None:
                raise SupernetError(
                    "teacher 'given' expected a module or a supernet, got none.\n  Pass teacher=, or use largest or sampled."
                )
            if isinstance(given, Supernet):
                if given.task.input_shape != self.task.input_shape:
                    raise SupernetError(
                        f"expected a teacher of inputs {self.task.input_shape}, got {given.task.input_shape}.\n  Train it on this task."
                    )
                return OtherSupernet(given, self.space, config.weight_decay, **options)
            return Network(given.to(self.device), config.weight_decay, loss=self.task.loss, **options)
        return None if config.teacher == "none" else OwnTeacher(self, config.teacher, **options)

    def load(self, checkpoint: str | Path) -> None:
        """Take over the weights of a checkpoint folder for evaluation.

        Raises:
            SupernetError: it is missing, broken, or of another space.
        """
        metadata, tensors = read_checkpoint(Path(checkpoint) / "supernet.safetensors")
        if metadata.get("space") != self.space.reference:
            raise SupernetError(
                f"checkpoint expected space {self.space.reference!r}, got {metadata.get('space')!r}.\n  Load that space."
            )
        if any("#" in key for key in tensors) != bool(self.store.kernels):
            raise SupernetError(
                f"checkpoint {'with' if not self.store.kernels else 'without'} kernel transforms expected a supernet of the same kind.\n"
                f"  Build it with kernel_transforms={not self.store.kernels}."
            )
        self.history = [Epoch.of(row) for row in json.loads(metadata.get("history", "[]"))]
        load_weights(self.store, tensors)
        self.subnets.forget()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all weights with their names and shapes, 64 hexadecimal digits: who has the same, evaluates the same."""
        return fingerprint(self.store)

    def subnet(self, architecture: Architecture) -> nn.Module:
        """A plain module with the subnet's weights and its own BatchNorm statistics, independent of the store.

        Raises:
            SupernetError: the architecture is of another space.
        """
        self._check(architecture)
        module = self.subnets.extract(architecture)
        if needs_recalibration(module):
            recalibrate(module, self.task.train.x[:CALIBRATION_IMAGES])
        return module.eval()

    def shared(self, architecture: Architecture) -> nn.Module:
        """The subnet as it lives inside the store, calibrated; its parameters share the store's memory."""
        self._check(architecture)
        bound = self.subnets.build(architecture)
        recalibrate(bound.module, self.task.train.x[:CALIBRATION_IMAGES])
        return bound.module.eval()

    def evaluate(self, architecture: Architecture, split: str = "decide") -> float:
        """Metric of a subnet with inherited weights, BatchNorm statistics calibrated on fixed training images.

        A pure function of store and architecture: nothing is written into the store.

        Args:
            architecture: A member of the space.
            split: decide (for searches) or test (for the report).

        Returns:
            The task's metric, in its unit.
        """
        return self.task.evaluate(self.shared(architecture), split)

    def _look(self, architecture: Architecture, examples: int) -> float:
        self._check(architecture)
        bound = self.subnets.build(architecture)
        recalibrate(bound.module, self.task.train.x[:examples])
        return self.task.evaluate(bound.module, "decide", limit=examples)

    def specialise(self, architecture: Architecture) -> Supernet:
        """A supernet of one subnet, which begins with its inherited weights: trained further with the same recipe, on its own.

        Args:
            architecture: A member of the space.

        Returns:
            With the same task and seed; this one's store stays as it is.
        """
        self._check(architecture)
        alone = Supernet(self.space.only(architecture), self.task, self.seed, self.device)
        inherited = dict(self.subnets.extract(architecture).named_parameters())
        for name, weight in alone.store.weights.items():
            weight.copy_(inherited[name].detach())
        return alone

    def finetune(self, architecture: Architecture, **options: Any) -> nn.Module:
        """An extracted subnet trained further on its own; the store stays as it is.

        Args:
            architecture: A member of the space.
            options: Of `train`, such as epochs, lr, checkpoint or report.
        """
        alone = self.specialise(architecture)
        alone.train(**options)
        return alone.subnet(alone.space.extreme())

    def adopt(self, network: nn.Module | Mapping[str, Tensor], architecture: Architecture | None = None) -> list[str]:
        """Take over the weights of a network that is a member of the space, such as a pretrained one that is its largest.

        Args:
            network: A module, or a state dict with the names that the member's parameters have.
            architecture: Which member it is; default: the largest.

        Returns:
            Keys of the store that the network does not fill: they keep their values.

        Raises:
            SupernetError: names are missing or unknown, or shapes differ; nothing was changed then.
        """
        member = architecture or outermost(self.space, True)
        self._check(member)
        module, _ = self.space.construct(member, initialised=False)
        given = dict(network.state_dict(keep_vars=True) if isinstance(network, nn.Module) else network)
        wanted = dict(module.named_parameters())
        known = set(module.state_dict())
        missing = [name for name in wanted if name not in given]
        unknown = [name for name in given if name not in known]
        if missing or unknown:
            raise SupernetError(
                f"expected the {len(wanted)} parameters of {member}, got a network without {', '.join(missing[:4]) or 'none'}"
                f"{' …' if len(missing) > 4 else ''} and with {', '.join(unknown[:4]) or 'none'}{' …' if len(unknown) > 4 else ''}.\n"
                "  Rename the entries of its state dict, or say which architecture it is."
            )
        for name, parameter in wanted.items():
            if given[name].shape != parameter.shape:
                raise SupernetError(
                    f"parameter {name!r} has shape {tuple(parameter.shape)} in {member}, got {tuple(given[name].shape)}.\n"
                    "  Say which architecture the network is."
                )
        self.subnets.bind(member)  # grows the store where it lacks a parameter
        places = {name: self.store.address(name, member.choices) for name in wanted}
        for name, parameter in wanted.items():
            if not self.store.is_view(places[name], tuple(parameter.shape)):
                raise SupernetError(
                    f"parameter {name!r} of {member} is computed from a larger one, so that it cannot be set.\n  Take over the largest."
                )
        for name, parameter in wanted.items():
            self.store.take(places[name], tuple(parameter.shape)).copy_(given[name].detach())
        return [key for key in self.store.weights if key not in places.values()]

    def sort_channels(self) -> dict[str, int]:
        """Put channels in the order of their importance, so that narrower subnets keep those that matter; see `nasplat.supernet.sorting`.

        The largest networks compute what they did; narrower ones change.

        Returns:
            For each choice whose channels were sorted, the number of weights that follow it.
        """
        found: dict[str, int] = {}
        for group in sort_channels(self.store):
            found[group.choice] = found.get(group.choice, 0) + len(group.axes)
        return found

    def _check(self, architecture: Architecture) -> None:
        if architecture.space != self.space:
            raise SupernetError(
                f"expected an architecture of {self.space!r}, got one of {architecture.space!r}.\n  Parse it in this space."
            )


def _advice(space: Space, shape: tuple[int, ...]) -> str:
    """How to load a space for inputs of a shape, naming presets that it has and values that fit."""
    known = list(inspect.signature(space.function).parameters)[1:]
    sizes: dict[str, object] = {}
    if len(shape) == 3 and "height" in known:  # elsewhere `width` is a number of channels
        sizes = {"height": shape[1], "width": shape[2]}
    elif len(shape) == 3 and shape[1] == shape[2]:
        sizes = {"image": shape[1], "resolutions": (shape[1],)}
    fitting = [f"{k}={v}" for k, v in (sizes | {"channels": shape[0]}).items() if k in known]
    if not fitting:
        return "The space has no preset for the shape of its inputs: choose a task that has this shape."
    return f"Load the space with presets that fit, such as {', '.join(fitting)}."
