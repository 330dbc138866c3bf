"""The training loop of a supernet: seeded steps, a checkpoint after every epoch, resume that changes nothing.

All randomness of a step derives from (seed, step); so a resumed run is, on CPU, the run that was never interrupted, and several processes
sample the same subnets. A step whose gradient is not finite leaves all weights as they were.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from warnings import warn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nasplat.errors import SupernetError, SupernetWarning
from nasplat.supernet.compiling import compile_blocks
from nasplat.supernet.health import Health, Watch
from nasplat.supernet.optimiser import MaskedAdamW
from nasplat.supernet.processes import current
from nasplat.supernet.sorting import sort_channels
from nasplat.supernet.store import Store
from nasplat.supernet.strategy import Lesson, Strategy, strategy_named
from nasplat.supernet.subnet import Subnets
from nasplat.supernet.teacher import (
    LOSSES,
    PICKS,
    TEACHERS,
    Answer,
    FormerSelf,
    Imitation,
    Teacher,
    agreement,
    final,
    run,
)
from nasplat.task import Task

FORMAT = "1"
OWN = "own:"
"""Before the name of a strategy that is passed as an object."""


@dataclass(frozen=True)
class TrainConfig:
    """How a supernet is trained."""

    epochs: int = 10
    """Passes over the training split (or as many fresh examples)."""
    strategy: str = "single-path"
    """single-path, sandwich, warm-sandwich, progressive, shrinking or ovo; `Supernet.train` also takes an object."""
    batch_size: int = 64
    """Examples per step; every subnet of the step sees the same ones."""
    lr: float = 3e-3
    """Peak learning rate of AdamW; linear warm-up over the first tenth, then cosine to zero, unless the strategy has a schedule of its own."""
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
    """Its share of the student's loss; features are added to the loss of the targets with this weight. Strategy progressive, and sandwiches of
    networks that answer maps: 0 leaves out the teacher."""
    dense: bool = False
    """True: decay and momentum move all of a touched weight, not only the sampled slice."""
    bf16: bool = False
    """Forward passes under bfloat16 autocast; losses stay in float32."""
    channels_last: bool = False
    """Images and convolution weights with channels innermost in memory; meant for GPUs with bf16."""
    compile: bool = False
    """Repeated blocks through torch.compile, with widths as symbols; meant for GPUs."""
    watch: bool = True
    """Every epoch, evaluate the smallest, the largest and eight random subnets on a part of the decide split."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not self.strategy.startswith(OWN):
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
            raise SupernetError(
                f"expected --train.lr > 0, got {self.lr}: nothing would move.\n  Use for instance 3e-3."
            )


@dataclass(frozen=True)
class Epoch:
    """What one epoch did."""

    epoch: int
    loss: float
    """Mean training loss of its subnets."""
    lr: float
    """Learning rate of its last step."""
    images_per_second: float
    """Training images times subnets per second, of all processes, without the look at some subnets."""
    seconds: float
    """Of training."""
    phase: str = "all"
    """Of the strategy, at its last step."""
    left_out: int = 0
    """Steps that changed nothing because a loss or gradient was not finite."""
    health: Health | None = None
    """Of some subnets, where `TrainConfig.watch` asks for it."""
    warnings: tuple[str, ...] = ()
    """What looked wrong."""

    @staticmethod
    def of(row: dict[str, Any]) -> Epoch:
        """From a row of a checkpoint's history."""
        health = row.get("health")
        made = None if health is None else Health(**(health | {"random": tuple(health["random"])}))
        return Epoch(**(row | {"health": made, "warnings": tuple(row.get("warnings", ()))}))


Report = Callable[[Epoch, int], None]
"""Called after every epoch with (what it did, total epochs)."""


class Trainer:
    """Trains one store."""

    def __init__(
        self,
        store: Store,
        subnets: Subnets,
        task: Task,
        seed: int,
        config: TrainConfig,
        teacher: Teacher | None = None,
        watch: Watch | None = None,
        strategy: Strategy | None = None,
    ) -> None:
        """Args:
        store: What is trained.
        subnets: Binds architectures to it.
        task: Data and loss.
        seed: Decides data order and sampling.
        config: How.
        teacher: Of lessons that are taught.
        watch: Looks at some subnets after every epoch.
        strategy: Default: the one the configuration names.
        """
        self.store, self.subnets, self.task, self.seed, self.config = store, subnets, task, seed, config
        self.teacher, self.watch, self.strategy = teacher, watch, strategy or strategy_named(config.strategy)
        self.processes = current()
        if config.channels_last:
            for key, weight in store.weights.items():
                if weight.dim() == 4:
                    store.weights[key] = weight.contiguous(memory_format=torch.channels_last)
            subnets.forget()
        subnets.finish = compile_blocks if config.compile else None
        self.imitation = Imitation(subnets.device, config.weight_decay, seed) if config.distill == "features" else None
        self.optimiser = MaskedAdamW(store.weights, store.rules, config.weight_decay, config.dense)
        self.steps = config.epochs * task.batches_per_epoch(config.batch_size)
        self.done = 0
        self.history: list[Epoch] = []
        self._notes: list[str] = []

    def run(self, checkpoint: Path | None = None, report: Report | None = None) -> list[Epoch]:
        """Train what is left of the configured epochs.

        Args:
            checkpoint: Folder written after every epoch; training continues from it where it holds one.
            report: Called after every epoch, in the first of several processes.

        Raises:
            SupernetError: the checkpoint belongs to another space, task, seed or configuration; no loss is finite; or processes disagree.
        """
        self.processes.wait()  # the first one may still be writing what the others would read
        if checkpoint is not None and (checkpoint / "supernet.safetensors").exists():
            self.resume(checkpoint / "supernet.safetensors")
        with torch.random.fork_rng([self.subnets.device] if self.subnets.device.type == "cuda" else []):
            while self.done < self.config.epochs:
                self.history.append(self._epoch(self.done))
                self.done += 1
                self.processes.check_equal(fingerprint(self.store) if self.processes.size > 1 else "")
                if self.processes.is_first:
                    if checkpoint is not None:
                        self.save(checkpoint)
                    if report is not None:
                        report(self.history[-1], self.config.epochs)
        self.processes.wait()
        return self.history

    def _epoch(self, epoch: int) -> Epoch:
        config, started = self.config, time.perf_counter()
        per_epoch = self.task.batches_per_epoch(config.batch_size)
        before = {k: w.clone() for k, w in self.store.weights.items()}
        losses, norms = list[Tensor](), list[Tensor]()
        images, lr, share = 0, 0.0, self.processes.share
        for i, (x, y) in enumerate(self.task.epoch(self.seed * 100_003 + epoch + 1, config.batch_size)):
            step = epoch * per_epoch + i
            lr = self.strategy.rate(self.store.space, step, self.steps, config.lr)
            self._enter(step)
            step_losses, norm = self.step(share(x), share(y), step, lr)
            losses += step_losses
            norms += [] if norm is None else [norm]
            images += len(x) * len(step_losses)
        found = torch.stack(losses)  # nothing before this line waits for the device
        mean = float(found[found.isfinite()].mean())
        left_out = int((~torch.stack(norms).isfinite()).sum()) if norms else 0
        if left_out > len(norms) // 2 or not math.isfinite(mean):
            raise SupernetError(
                f"the loss became {float(found[-1])} in epoch {epoch + 1}: {left_out} of {len(norms)} steps were left out; the last checkpoint "
                f"is intact.\n  Lower --train.lr ({config.lr})."
            )
        seconds = time.perf_counter() - started
        warnings = self._complaints(before, left_out, len(norms))
        health = None
        if self.watch is not None and self.processes.is_first:
            health = self.watch.look()
            warnings += self.watch.complaints(health, (epoch + 1) / config.epochs, (epoch + 1) * per_epoch)
        known = {w for e in self.history for w in e.warnings}
        for text in warnings:
            if self.processes.is_first and text not in known:
                warn(f"epoch {epoch + 1}: {text}", SupernetWarning, stacklevel=2)
        phase = self.strategy.phase(self.store.space, (epoch * per_epoch + len(norms) - 1) / self.steps).name
        return Epoch(epoch + 1, mean, lr, images / seconds, seconds, phase, left_out, health, tuple(warnings))

    def _complaints(self, before: dict[str, Tensor], left_out: int, steps: int) -> list[str]:
        found, self._notes = self._notes, []
        if left_out:
            found.append(
                f"{left_out} of {steps} steps had a loss or gradient that is not finite and were left out. Lower --train.lr."
            )
        if all(k in before and torch.equal(w, before[k]) for k, w in self.store.weights.items()):
            found.append(
                "no weight moved. Are all parameters frozen (requires_grad=False), or is lr too small for float32?"
            )
        return found

    def _enter(self, step: int) -> None:
        """What a phase of the strategy asks for before its first step."""
        phase = self.strategy.phase(self.store.space, step / self.steps)
        if step and phase == self.strategy.phase(self.store.space, (step - 1) / self.steps):
            return
        if phase.keeps_weights and isinstance(self.teacher, FormerSelf):
            self.teacher.keep(self.store)
        if phase.sorts_channels and not sort_channels(self.store, self.optimiser):
            self._notes.append(
                f"no channels could be sorted before phase {phase.name!r}: none may be permuted alone. Widths open unsorted."
            )

    def step(self, x: Tensor, y: Tensor, step: int, lr: float) -> tuple[list[Tensor], Tensor | None]:
        """One update.

        Args:
            x: Inputs, shape (B, …): this process's part of the batch.
            y: Targets.
            step: Its number, from 0; with the seed it decides all that is random.
            lr: Learning rate.

        Returns:
            Losses of the step's subnets, and the norm of the gradient of the store's weights, both on the device.
        """
        seed = self.seed * 1_000_003 + step
        self._reseed((seed * 1_024 + self.processes.rank) % 2**63)
        if self.config.channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        losses, first = list[Tensor](), None
        lessons = list(self.strategy.lessons(self.store.space, seed, step / self.steps))
        for i, lesson in enumerate(lessons):
            answer = self._answer(lesson, x, y, seed)
            bound = self.subnets.bind(lesson.architecture)
            bound.module.train()
            with self._precision(x):
                output, features = run(bound.module, x, answer is not None and answer.features is not None)
            output = output.float() if isinstance(output, Tensor) else output
            if lesson.from_teacher and first is not None and isinstance(output, Tensor):
                loss = agreement(output, first, "soft", self.config.temperature)
            else:
                loss = self.task.loss(output, y)
                if lesson.from_teacher and first is not None and self.config.distill_weight:
                    loss = self._taught(loss, output, None, Answer(first, None))
            if answer is not None:
                loss = self._taught(loss, output, features, answer)
            loss.backward()
            bound.collect(self.store, self.optimiser)
            if first is None:
                first = final(output).detach()
            losses.append(loss.detach())
            if x.is_cuda:  # the next subnet is built while the device still computes this one's gradients
                upcoming = lessons[i + 1] if i + 1 < len(lessons) else self._upcoming(step + 1)
                if upcoming is not None:
                    self.subnets.bind(upcoming.architecture)
        return losses, self._update(losses, lr)

    def _reseed(self, seed: int) -> None:
        """Of dropout and the like; torch.manual_seed would also note a call stack for every kind of device."""
        torch.default_generator.manual_seed(seed)
        if self.subnets.device.type == "cuda":
            torch.cuda.default_generators[self.subnets.device.index or 0].manual_seed(seed)

    def _precision(self, x: Tensor) -> Any:
        return torch.autocast(x.device.type, torch.bfloat16) if self.config.bf16 else nullcontext()

    def _upcoming(self, step: int) -> Lesson | None:
        if step >= self.steps:
            return None
        return next(
            iter(self.strategy.lessons(self.store.space, self.seed * 1_000_003 + step, step / self.steps)), None
        )

    def _answer(self, lesson: Lesson, x: Tensor, y: Tensor, seed: int) -> Answer | None:
        if not lesson.is_taught or self.teacher is None:
            return None
        with self._precision(x):
            return self.teacher.answer(x, y, lesson.architecture, seed, self.optimiser)

    @torch.no_grad()
    def _update(self, losses: list[Tensor], lr: float) -> Tensor | None:
        """Average over processes, in one reduction, and update everything that learns."""
        if self.imitation is not None:
            self.imitation.collect()
        others = [o.optimiser for o in (self.teacher, self.imitation) if o is not None and o.optimiser is not None]
        learners = [self.optimiser, *others]
        parts = [(learner.gradients, key) for learner in learners for key in learner.gradients]
        averaged = self.processes.average([*(gradients[key] for gradients, key in parts), *losses])
        for (gradients, key), mean in zip(parts, averaged, strict=False):
            gradients[key] = mean
        losses[:] = averaged[len(parts) :]
        norm = self.optimiser.step(lr, self.config.clip)
        for learner in others:
            learner.step(lr, self.config.clip)
        return norm

    def _taught(self, loss: Tensor, output: Tensor | list[Tensor], features: Tensor | None, answer: Answer) -> Tensor:
        """The loss of the targets, and of not being like the teacher. Source: Hinton et al. 2015."""
        share = self.config.distill_weight
        if self.imitation is not None and features is not None and answer.features is not None:
            return loss + share * self.imitation.loss(features, answer.features)
        return (1 - share) * loss + share * agreement(
            output, answer.output, self.config.distill, self.config.temperature
        )

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, str]:
        return {
            "format": FORMAT,
            "space": self.store.space.reference,
            "task": repr(self.task),
            "seed": str(self.seed),
            "config": json.dumps(asdict(self.config), sort_keys=True),
            "kernels": json.dumps(self.store.kernels, sort_keys=True),
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
        metadata = self._identity() | {
            "epochs_done": str(self.done),
            "history": history,
            "metric": self.task.metric_name,
        }
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
        metadata.setdefault("kernels", "{}")
        for name, value in self._identity().items():
            if metadata.get(name) != value:
                raise SupernetError(
                    f"checkpoint {str(file)!r} expected {name} {value!r}, got {metadata.get(name)!r}.\n"
                    "  Resume with the same space, task, seed and configuration, or choose another folder."
                )
        load_weights(self.store, tensors)
        self.subnets.forget()
        self.optimiser.load(tensors)
        for name, part in (("teacher", self.teacher), ("imitation", self.imitation)):
            if part is not None:
                part.load({k.removeprefix(f"{name}/"): t for k, t in tensors.items() if k.startswith(f"{name}/")})
        self.done = int(metadata["epochs_done"])
        self.history = [Epoch.of(row) for row in json.loads(metadata["history"])]


def fingerprint(store: Store) -> str:
    """SHA-256 of all weights with their names and shapes, 64 hexadecimal digits."""
    digest = sha256()
    for name, weight in sorted(store.weights.items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_weights(store: Store, tensors: dict[str, Tensor]) -> None:
    """Copy a checkpoint's weights into a store in place, so that bound subnets follow; the store grows where the checkpoint's did."""
    device = next(iter(store.weights.values())).device
    for name, value in tensors.items():
        section, _, key = name.partition("/")
        if section != "weight":
            continue
        weight = store.weights.get(key)
        if weight is not None and weight.shape == value.shape:
            weight.copy_(value)
        else:
            store.weights[key] = value.to(device)


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


def read_history(file: Path) -> tuple[list[Epoch], int, str]:
    """What a checkpoint tells of its training: epochs done, epochs planned, and the task's metric.

    Raises:
        SupernetError: the file is missing or broken.
    """
    try:
        with safe_open(file, "pt") as data:
            metadata = dict(data.metadata() or {})
    except (OSError, SafetensorError) as err:
        raise SupernetError(f"expected a supernet checkpoint, got {str(file)!r} ({err}).\n  Check the path.") from err
    history = [Epoch.of(row) for row in json.loads(metadata.get("history", "[]"))]
    return history, json.loads(metadata["config"])["epochs"], metadata.get("metric", "metric")
