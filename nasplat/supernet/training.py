"""The training loop of a supernet: seeded steps, a checkpoint after every epoch, resume that changes nothing.

All randomness of a step derives from (seed, epoch, step); so a resumed run is, on CPU, the run that was never interrupted.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nasplat.errors import SupernetError
from nasplat.measuring.training import learning_rate
from nasplat.supernet.optimiser import MaskedAdamW
from nasplat.supernet.store import Store
from nasplat.supernet.strategy import Strategy, strategy_named
from nasplat.supernet.subnet import Bound, Subnets
from nasplat.supernet.teacher import LOSSES, PICKS, TEACHERS, Answer, Imitation, Teacher, agreement, collect, run
from nasplat.task import Task

FORMAT = "1"


@dataclass(frozen=True)
class TrainConfig:
    """How a supernet is trained."""

    epochs: int = 10
    """Passes over the training split (or as many fresh examples)."""
    strategy: str = "single-path"
    """single-path, sandwich or ovo."""
    batch_size: int = 64
    """Examples per step; every subnet of the step sees the same ones."""
    lr: float = 3e-3
    """Peak learning rate of AdamW; linear warm-up over the first tenth, then cosine to zero."""
    weight_decay: float = 0.01
    """Decoupled weight decay on matrices and kernels."""
    clip: float = 1.0
    """Largest global norm of the gradient of a step."""
    temperature: float = 1.0
    """Softens the teacher's outputs in in-place distillation."""
    teacher: str = "sampled"
    """Of strategy ovo: none, largest or sampled (subnets of the same supernet), or given (see `Supernet.train`)."""
    joint: bool = True
    """The teacher is trained along on the targets; False: its weights are left as they are."""
    pick: str = "uniform"
    """Which sampled subnet teaches: uniform; matched, whose rank of MACs is near the student's; best, of `draws` by batch loss."""
    draws: int = 3
    """Subnets that pick=best compares."""
    distill: str = "soft"
    """What is learnt from the teacher: soft or hard outputs, or features (what its last linear layer reads)."""
    distill_weight: float = 0.5
    """Its share of the student's loss; features are added to the loss of the targets with this weight."""
    dense: bool = False
    """True: decay and momentum move all of a touched weight, not only the sampled slice."""
    bf16: bool = False
    """Forward passes under bfloat16 autocast; losses stay in float32."""

    def __post_init__(self) -> None:
        """Check ranges."""
        strategy_named(self.strategy)
        if self.epochs < 1 or self.batch_size < 1:
            raise SupernetError(f"expected epochs and batch_size >= 1, got {self.epochs} and {self.batch_size}.")
        for name, known in (("teacher", TEACHERS), ("pick", PICKS), ("distill", LOSSES)):
            if getattr(self, name) not in known:
                raise SupernetError(
                    f"expected {name} among {', '.join(known)}, got {getattr(self, name)!r}.\n  Use one of these."
                )
        if not 0 <= self.distill_weight <= 1 or self.draws < 1:
            raise SupernetError(
                f"expected distill_weight from 0 to 1 and draws >= 1, got {self.distill_weight} and {self.draws}.\n  Use 0.5 and 3."
            )
        if self.lr <= 0:
            raise SupernetError(f"expected --train.lr > 0, got {self.lr}: nothing would move.\n  Use for instance 3e-3.")


@dataclass(frozen=True)
class Epoch:
    """What one epoch did."""

    epoch: int
    loss: float
    """Mean training loss of its subnets."""
    lr: float
    images_per_second: float
    """Training images times subnets per second."""
    seconds: float


Report = Callable[[Epoch, int], None]
"""Called after every epoch with (what it did, total epochs)."""


class Trainer:
    """Trains one store."""

    def __init__(
        self, store: Store, subnets: Subnets, task: Task, seed: int, config: TrainConfig, teacher: Teacher | None = None
    ) -> None:
        """Args:
        store: What is trained.
        subnets: Binds architectures to it.
        task: Data and loss.
        seed: Decides data order and sampling.
        config: How.
        teacher: Of lessons that are taught.
        """
        self.store, self.subnets, self.task, self.seed, self.config = store, subnets, task, seed, config
        self.teacher = teacher
        self.imitation = Imitation(subnets.device, config.weight_decay, seed) if config.distill == "features" else None
        self.optimiser = MaskedAdamW(store, config.weight_decay, config.dense)
        self.done = 0
        self.history: list[Epoch] = []

    def run(self, checkpoint: Path | None = None, report: Report | None = None) -> list[Epoch]:
        """Train what is left of the configured epochs.

        Args:
            checkpoint: Folder written after every epoch; training continues from it where it holds one.
            report: Called after every epoch.

        Raises:
            SupernetError: the checkpoint belongs to another space, task, seed or configuration; or the loss is not finite.
        """
        if checkpoint is not None and (checkpoint / "supernet.safetensors").exists():
            self.resume(checkpoint / "supernet.safetensors")
        while self.done < self.config.epochs:
            self.history.append(self._epoch(self.done))
            self.done += 1
            if checkpoint is not None:
                self.save(checkpoint)
            if report is not None:
                report(self.history[-1], self.config.epochs)
        return self.history

    def _epoch(self, epoch: int) -> Epoch:
        config, started = self.config, time.perf_counter()
        strategy = strategy_named(config.strategy)
        per_epoch = self.task.batches_per_epoch(config.batch_size)
        losses: list[Tensor] = []
        images, lr = 0, 0.0
        for i, (x, y) in enumerate(self.task.epoch(self.seed * 100_003 + epoch + 1, config.batch_size)):
            step = epoch * per_epoch + i
            lr = learning_rate(step, config.epochs * per_epoch, config.lr)
            step_losses = self._step(strategy, x, y, self.seed * 1_000_003 + step, lr)
            losses += step_losses
            images += len(x) * len(step_losses)
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise SupernetError(
                f"the loss became {mean} in epoch {epoch + 1}; the last checkpoint is intact.\n  Lower --train.lr ({config.lr})."
            )
        seconds = time.perf_counter() - started
        return Epoch(epoch + 1, mean, lr, images / seconds, seconds)

    def _step(self, strategy: Strategy, x: Tensor, y: Tensor, seed: int, lr: float) -> list[Tensor]:
        gradients: dict[str, Tensor] = {}
        touched: dict[str, set[tuple[int, ...]]] = {}
        losses: list[Tensor] = []
        teacher: Tensor | None = None
        for lesson in strategy.lessons(self.store.space, seed):
            answer = None
            if lesson.is_taught and self.teacher is not None:

                def learn(bound: Bound, loss: Tensor) -> None:
                    loss.backward()
                    collect(bound, self.store, gradients, touched)

                with torch.autocast(x.device.type, torch.bfloat16, enabled=self.config.bf16):
                    answer = self.teacher.answer(x, y, lesson.architecture, seed, learn)
            bound = self.subnets.bind(lesson.architecture)
            bound.module.train()
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.config.bf16):
                output, features = run(bound.module, x, answer is not None and answer.features is not None)
            output = output.float() if isinstance(output, Tensor) else output
            if lesson.from_teacher and teacher is not None:
                loss = agreement(output, teacher, "soft", self.config.temperature)
            else:
                loss = self.task.loss(output, y)
            if answer is not None:
                loss = self._taught(loss, output, features, answer)
            loss.backward()
            collect(bound, self.store, gradients, touched)
            if teacher is None and isinstance(output, Tensor):
                teacher = output.detach()
            losses.append(loss.detach())
        with torch.no_grad():
            self.optimiser.step(gradients, touched, lr, self.config.clip)
        if self.teacher is not None:
            self.teacher.step(lr, self.config.clip)
        if self.imitation is not None:
            self.imitation.step(lr)
        return losses

    def _taught(self, loss: Tensor, output: Tensor, features: Tensor | None, answer: Answer) -> Tensor:
        """The loss of the targets, and of not being like the teacher. Source: Hinton et al. 2015."""
        share = self.config.distill_weight
        if self.imitation is not None and features is not None and answer.features is not None:
            return loss + share * self.imitation.loss(features, answer.features)
        return (1 - share) * loss + share * agreement(output, answer.output, self.config.distill, self.config.temperature)

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, str]:
        return {
            "format": FORMAT,
            "space": self.store.space.reference,
            "task": repr(self.task),
            "seed": str(self.seed),
            "config": json.dumps(asdict(self.config), sort_keys=True),
        }

    def save(self, folder: Path) -> None:
        """Write one file atomically: weights, moments, history, and what they belong to."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"weight/{k}": w for k, w in self.store.weights.items()} | self.optimiser.state()
        if self.teacher is not None:
            tensors |= {f"teacher/{k}": t for k, t in self.teacher.state().items()}
        if self.imitation is not None:
            tensors |= {f"imitation/{k}": t for k, t in self.imitation.state().items()}
        history = json.dumps([asdict(e) for e in self.history])
        metadata = self._identity() | {"epochs_done": str(self.done), "history": history}
        partial = folder / "supernet.safetensors.partial"
        save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, partial, metadata)
        os.replace(partial, folder / "supernet.safetensors")

    def resume(self, file: Path) -> None:
        """Take over a checkpoint.

        Raises:
            SupernetError: it is broken, or belongs to another run.
        """
        metadata, tensors = read_checkpoint(file)
        if "config" in metadata:  # settings that are younger than the checkpoint stood at their defaults
            metadata["config"] = json.dumps(asdict(TrainConfig(**json.loads(metadata["config"]))), sort_keys=True)
        for name, value in self._identity().items():
            if metadata.get(name) != value:
                raise SupernetError(
                    f"checkpoint {str(file)!r} expected {name} {value!r}, got {metadata.get(name)!r}.\n"
                    "  Resume with the same space, task, seed and configuration, or choose another folder."
                )
        load_weights(self.store, tensors)
        self.optimiser.load(tensors)
        for name, part in (("teacher", self.teacher), ("imitation", self.imitation)):
            if part is not None:
                part.load({k.removeprefix(f"{name}/"): t for k, t in tensors.items() if k.startswith(f"{name}/")})
        self.done = int(metadata["epochs_done"])
        self.history = [Epoch(**row) for row in json.loads(metadata["history"])]


def load_weights(store: Store, tensors: dict[str, Tensor]) -> None:
    """Copy a checkpoint's weights into a store in place, so that bound subnets follow."""
    for key, weight in store.weights.items():
        weight.copy_(tensors[f"weight/{key}"])


def read_checkpoint(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a checkpoint.

    Raises:
        SupernetError: the file is missing or broken.
    """
    try:
        with safe_open(file, "pt") as data:
            return dict(data.metadata() or {}), {k: data.get_tensor(k) for k in data.keys()}
    except (OSError, SafetensorError) as err:
        raise SupernetError(f"expected a supernet checkpoint, got {str(file)!r} ({err}).\n  Check the path.") from err


def summary(history: list[Epoch]) -> list[dict[str, Any]]:
    """History as plain rows."""
    return [asdict(e) for e in history]
